"""JSON in and out: hostile text is refused, and our own text can be read."""

from __future__ import annotations

import json
import math
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubthread.errors import PayloadError, UsageError
from hubthread.matcher.jsontext import MAX_DEPTH, brief, load_json, marshal_json

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(value=values)
def test_json_value_round_trips(value: object) -> None:
    """Any JSON value survives the way out and in, as text and as UTF-8."""
    text = marshal_json(value)
    assert load_json(text) == value
    assert load_json(text.encode()) == value
    assert json.loads(text) == value


@given(data=st.text() | st.binary() | st.text('[]{}",:\\u0d8fe1.-tnNI'))
def test_load_json_any_text_is_read_or_raises(data: str | bytes) -> None:
    """Each text gives a value that can be written again, or a PayloadError."""
    try:
        value = load_json(data)
    except PayloadError:
        return
    assert load_json(marshal_json(value)) == value


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ("", "not JSON: Expecting value"),
        ("{", "not JSON: "),
        ('{"a": 1} x', "not JSON: Extra data"),
        ("NaN", "not JSON: NaN"),
        ("[-Infinity]", "not JSON: -Infinity"),
        ("1e999", "too large for a float"),
        ("-1" + "0" * 400 + ".5", "too large for a float"),
        (r'"\ud83d"', "lone surrogate"),
        (r'{"\udc00": 1}', "lone surrogate"),
        (b'"\xff"', "not UTF-8: invalid start byte at byte 1"),
        ("\ufeff1", "not JSON: the text begins with a byte order mark (U+FEFF): send it without"),
        (b"\xef\xbb\xbf{}", "begins with a byte order mark"),
        ('"\n"', "not JSON: Invalid control character"),
        ("[" * (MAX_DEPTH + 1), f"nested deeper than {MAX_DEPTH} levels"),
    ],
)
def test_load_json_refused_text_says_why(data: str | bytes, told: str) -> None:
    """Each kind of malformed or dangerous JSON has its own message."""
    with pytest.raises(PayloadError) as raised:
        load_json(data)
    assert told in str(raised.value)


@pytest.mark.skipif(not hasattr(sys, "get_int_max_str_digits"), reason="Python has no limit")
def test_load_json_number_of_too_many_digits_raises() -> None:
    """The error of Python's own limit on digits becomes a PayloadError."""
    with pytest.raises(PayloadError, match="too many digits"):
        load_json("9" * 5000)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r'"\ud83d\ude00"', "\U0001f600"),
        (r'"\\ud83d"', r"\ud83d"),
        ('"[[[' + "[" * MAX_DEPTH + '"', "[[[" + "[" * MAX_DEPTH),
        ('["\\"' + "[" * MAX_DEPTH + '"]', ['"' + "[" * MAX_DEPTH]),
        ("[" + ",".join(["[]"] * 200) + "]", [[]] * 200),
    ],
)
def test_load_json_harmless_text_is_read(text: str, value: object) -> None:
    """Pairs of surrogates, brackets in text, and many brackets side by side are fine."""
    assert load_json(text) == value


@pytest.mark.parametrize(("left", "right"), [("[", "]"), ('{"a":', "}")])
def test_load_json_depth_limit_is_exact(left: str, right: str) -> None:
    """The limit itself is allowed, one level more is not."""
    load_json(left * (MAX_DEPTH - 1) + "[]" + right * (MAX_DEPTH - 1))
    with pytest.raises(PayloadError, match="nested deeper"):
        load_json(left * MAX_DEPTH + "[]" + right * MAX_DEPTH)


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_load_json_nesting_bomb_on_a_small_stack_raises(opening: str) -> None:
    """Depth that would overflow a thread's stack, and so end the process, is refused."""
    found: list[str] = []

    def read() -> None:
        try:
            load_json(opening * 200_000)
        except PayloadError as error:
            found.append(str(error))

    before = threading.stack_size(256 * 1024)
    try:
        thread = threading.Thread(target=read)
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()
    assert found == [f"nested deeper than {MAX_DEPTH} levels"]


class Colour(Enum):
    RED = "red"


class Suit(str, Enum):
    HEARTS = "hearts"


class Level(IntEnum):
    HIGH = 3


@dataclass
class Point:
    x: int
    y: float = 0.5


@dataclass
class Player:
    name: str
    at: Point
    trail: list[Point] = field(default_factory=list)


class Captain(Player):
    """A subclass without fields of its own."""


class View(Mapping[str, object]):
    """A mapping other than a dict."""

    def __getitem__(self, key: str) -> object:
        return {"at": Point(1)}[key]

    def __iter__(self) -> Iterator[str]:
        return iter(["at"])

    def __len__(self) -> int:
        return 1


@pytest.mark.parametrize(
    ("obj", "text"),
    [
        ({"a": [1, 2.5, None, True]}, '{"a":[1,2.5,null,true]}'),
        ("é\U0001f600", '"é\U0001f600"'),
        ((1, "a"), '[1,"a"]'),
        (Player("Ann", Point(1)), '{"name":"Ann","at":{"x":1,"y":0.5},"trail":[]}'),
        ([Point(2)], '[{"x":2,"y":0.5}]'),
        (Captain("Ann", Point(1)), '{"name":"Ann","at":{"x":1,"y":0.5},"trail":[]}'),
        ([Colour.RED, Suit.HEARTS, Level.HIGH], '["red","hearts",3]'),
        ({Suit.HEARTS: 1}, '{"hearts":1}'),
        ([{Colour.RED: (Point(1),)}], '[{"red":[{"x":1,"y":0.5}]}]'),
        (View(), '{"at":{"x":1,"y":0.5}}'),
    ],
)
def test_marshal_json_writes_compact_json(obj: object, text: str) -> None:
    """Plain values, dataclasses, enums and mappings are compact JSON."""
    assert marshal_json(obj) == text


def circle() -> list[object]:
    ring: list[object] = []
    ring.append(ring)
    return ring


@pytest.mark.parametrize(
    ("obj", "told"),
    [
        (b"raw", "b'raw' is a bytes"),
        (
            {"a": 1j},
            "1j is a complex; use dataclasses, mappings, lists, text or numbers, or say how",
        ),
        ({"a": {2j: 1}}, "keys must be text, numbers, dates or UUIDs; 2j is a complex"),
        ([math.nan], "not JSON compliant"),
        (math.inf, "not JSON compliant"),
        (Point, "is a type"),
        ({(1, 2): 3}, "keys must be"),
        (circle(), "Circular reference"),
        ("\ud800", "lone surrogate"),
        ({"é": "\udfff"}, "lone surrogate"),
    ],
)
def test_marshal_json_impossible_value_raises(obj: Any, told: str) -> None:
    """The error names the value that cannot be JSON."""
    with pytest.raises(UsageError, match=r"^marshal: ") as raised:
        marshal_json(obj)
    assert told in str(raised.value)


def test_brief_is_short_for_any_value() -> None:
    """A value of a peer is quoted in a few characters, however long it is."""
    assert len(brief("x" * 100_000)) < 40
    assert len(brief(10**10_000)) < 40
