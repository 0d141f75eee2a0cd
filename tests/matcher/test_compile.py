"""Types to converters: types without a converter, the names of local types, JSON text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Annotated, Any, Literal, TypeVar

import pytest

from hubthread.errors import HandleAnyNotPtr, PayloadError
from hubthread.matcher.compile import compile_converter, convert, unmarshal_json
from tests.matcher.test_converters import Colour, Level, Move, Point

T = TypeVar("T")


@dataclass
class Unsupported:
    tags: set[complex]


@dataclass
class Outer:
    inner: list[Unsupported]


class Odd(Enum):
    PAIR = (1, 2)


class Plain:
    pass


UNSUPPORTED: list[tuple[Any, str]] = [
    (bytes, "bytes: no JSON value can be converted to it; use a dataclass, an attrs class, a ms"),
    (timedelta, "timedelta: no JSON value can be converted to it; use a dataclass, an attrs"),
    (complex, "complex: no JSON value"),
    (Plain, "Plain: no JSON value"),
    (3, "3: no JSON value"),
    ({"a": int}, "{'a': <class 'int'>}: no JSON value"),
    ("Point", "'Point': no JSON value"),
    (T, "~T: say which type it stands for, such as Page[int]"),
    (list[set[complex]], "complex: no JSON value"),
    (set[list[int]], "set[list[int]]: its items cannot be in a set; use list[list[int]]"),
    (frozenset[Move], "its items cannot be in a set; use list[Move]"),
    (set[tuple[int, Sequence[int]]], "its items cannot be in a set"),
    (dict[bool, str], "dict[bool, str]: the keys of a JSON object are text: use str, int, float"),
    (dict[int | str, str], "the keys of a JSON object are text"),
    (Point | Move, "several objects in a union cannot be told apart: give each a field of one"),
    (Point | dict[str, int], "several objects"),
    (list[int] | tuple[int, int], "several arrays in a union cannot be told apart: use one"),
    (Colour | Level, "several enums"),
    (Odd, "Odd: its values must be text, numbers, bool or None"),
    (Literal[b"a"], "its values must be text"),
    (Unsupported, "complex: no JSON value"),
    (Outer, "in field 'tags' of Unsupported, in field 'inner' of Outer"),
    (Annotated[int, {"ge": 0}], "nothing checks the metadata {'ge': 0}: use that of pydantic or"),
    (dict[str, Annotated[int, Plain]], "nothing checks the metadata <class "),
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
    assert raised.value.target is complex


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
