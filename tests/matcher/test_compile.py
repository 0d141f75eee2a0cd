"""Types to converters: types without a converter, the names of local types, JSON text."""

from __future__ import annotations

import json
from dataclasses import InitVar, dataclass
from enum import Enum
from typing import Any, Literal, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubthread.errors import HandleAnyNotPtr, PayloadError
from hubthread.matcher.compile import compile_converter, convert, marshal_json, unmarshal_json
from tests.matcher.test_converters import Colour, Level, Move, Point

T = TypeVar("T")


@dataclass
class Unsupported:
    tags: set[str]


@dataclass
class Outer:
    inner: list[Unsupported]


@dataclass
class Needs:
    seed: InitVar[int]
    x: int = 0


@dataclass
class Unresolved:
    x: Missing  # type: ignore[name-defined]  # noqa: F821


class Odd(Enum):
    PAIR = (1, 2)


class Plain:
    pass


UNSUPPORTED: list[tuple[Any, str]] = [
    (set, "set: no JSON value can be converted"),
    (bytes, "bytes: no JSON value"),
    (complex, "complex: no JSON value"),
    (Plain, "Plain: no JSON value"),
    (3, "3: no JSON value"),
    ({"a": int}, "{'a': <class 'int'>}: no JSON value"),
    ("Point", "'Point': no JSON value"),
    (T, "~T: no JSON value"),
    (list[set[int]], "set[int]: no JSON value"),
    (dict[int, str], "dict[int, str]: the keys of a JSON object are text"),
    (Point | Move, "several objects in a union cannot be told apart"),
    (Point | dict[str, int], "several objects"),
    (list[int] | tuple[int, int], "several arrays"),
    (Colour | Level, "several enums"),
    (Odd, "Odd: its values must be text, numbers, bool or None"),
    (Literal[b"a"], "its values must be text"),
    (Unsupported, "set[str]: no JSON value"),
    (Outer, "in field 'tags' of Unsupported, in field 'inner' of Outer"),
    (Needs, "Needs: it cannot be made of its fields alone: missing a required argument: 'seed'"),
    (Unresolved, "Unresolved: an annotation in it cannot be resolved (name 'Missing'"),
]


@pytest.mark.parametrize(("into", "told"), UNSUPPORTED)
def test_compile_converter_unsupported_type_raises(into: Any, told: str) -> None:
    """Compiling says what is wrong with the type, and how to mend it."""
    with pytest.raises(HandleAnyNotPtr, match=r"^handle any not ptr: ") as raised:
        compile_converter(into)
    assert told in str(raised.value)


def test_compile_error_has_the_type() -> None:
    """A program can tell which part of its type is at fault."""
    with pytest.raises(HandleAnyNotPtr) as raised:
        convert({}, Outer)
    assert raised.value.target == set[str]


def test_compile_converter_finds_local_types_in_the_namespace() -> None:
    """Types of an application made in a function name each other as text."""

    @dataclass
    class Inner:
        x: int

    @dataclass
    class Local:
        inner: Inner

    assert compile_converter(Local, locals())({"inner": {"x": 1}}) == Local(Inner(1))
    with pytest.raises(HandleAnyNotPtr, match="at module level"):
        compile_converter(Local)


@given(
    st.builds(
        Move,
        player=st.builds(Point, st.integers(), st.floats(allow_nan=False, allow_infinity=False)),
        path=st.lists(st.builds(Point, st.integers())),
        note=st.none() | st.text(),
    )
)
def test_marshal_json_dataclass_round_trips(move: Move) -> None:
    """Marshal and unmarshal are each other's inverse."""
    assert unmarshal_json(marshal_json(move), Move) == move
    assert unmarshal_json(marshal_json(move).encode(), Move) == move


@pytest.mark.parametrize("data", ["{not json", b"{not json"])
def test_unmarshal_json_bytes_are_undecoded(data: str | bytes) -> None:
    """The caller decodes bytes."""
    assert unmarshal_json(data, bytes) == b"{not json"


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ('{"x": 1', "not JSON"),
        ('{"x": NaN}', "not JSON: NaN"),
        ('{"x": "1"}', "$.x: expected int"),
    ],
)
def test_unmarshal_json_malformed_text_raises(data: str, told: str) -> None:
    """Malformed text and text that does not fit are both the peer's mistake."""
    with pytest.raises(PayloadError) as raised:
        unmarshal_json(data, Point)
    assert str(raised.value).startswith(told)


def test_unmarshal_json_any_keeps_json_values() -> None:
    """``Any`` gives the same values as Python's json."""
    text = '{"a": [1, 2.5, "x", null, {"b": []}]}'
    assert unmarshal_json(text, dict[str, Any]) == json.loads(text)
