"""Handlers that ask for msgspec structs, where the user has msgspec."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import date, datetime, time
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, TypeVar
from uuid import UUID

import pytest

from hubthread import (
    HandleKindError,
    JsonHeader,
    MatcherMap,
    PayloadError,
    register_json_type,
)
from hubthread.matcher import jsontypes
from hubthread.matcher.compile import convert, marshal_json

msgspec: Any = pytest.importorskip("msgspec")
annotated_types: Any = pytest.importorskip("annotated_types")
Struct: Any = msgspec.Struct


class Point(Struct):  # type: ignore[misc]  # Any, to a checker without the library
    x: int
    y: float = 0.5


class Move(Struct, rename="camel", forbid_unknown_fields=True):  # type: ignore[misc,call-arg]
    to_point: Point
    on_day: date | None = None

    def __post_init__(self) -> None:
        if self.to_point.x == 13:
            raise ValueError("not there")


class Pair(Struct, array_like=True):  # type: ignore[misc,call-arg]
    one: int
    two: int


@dataclass
class Game:
    moves: list[Move]
    pair: Pair | Point | None = None


def test_handler_gets_the_struct_and_replies_with_one() -> None:
    """The struct's own names and conversions apply."""
    matcher = MatcherMap[Any, str](JsonHeader())

    @matcher.handle("move")
    def on_move(ctx: Any, meta: Any, move: Move) -> Move:
        assert type(move) is Move
        assert move.on_day == date(2024, 2, 29)
        return Move(Point(move.to_point.x + 1), move.on_day)

    answer = matcher.dispatch(
        None, None, '{"type": "move", "toPoint": {"x": 1}, "onDay": "2024-02-29"}'
    )
    assert json.loads(answer or "") == {
        "type": "move", "toPoint": {"x": 2, "y": 0.5}, "onDay": "2024-02-29",
    }  # fmt: skip


def test_convert_struct_inside_other_types_and_unions() -> None:
    """An array-like struct is an array there, any other an object."""
    game = convert({"moves": [{"toPoint": {"x": 1}}], "pair": [1, 2]}, Game)
    assert game == Game([Move(Point(1))], Pair(1, 2))
    assert convert({"moves": [], "pair": {"x": 3}}, Game) == Game([], Point(3))
    assert json.loads(marshal_json(game)) == {
        "moves": [{"toPoint": {"x": 1, "y": 0.5}, "onDay": None}], "pair": [1, 2],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("payload", "told"),
    [
        ({}, r"\$: not a Move: .*missing required field `toPoint`"),
        ({"toPoint": {"x": "1"}}, r"not a Move: Expected `int`, got `str` - at `\$.toPoint.x`"),
        ({"toPoint": {"x": True}}, "Expected `int`"),
        ({"toPoint": {"x": 1}, "more": 1}, "unknown field"),
        ({"toPoint": {"x": 13}}, "not a Move: not there"),
        ([], "Expected `object`"),
    ],
)
def test_convert_misfit_struct_is_a_payload_error(payload: Any, told: str) -> None:
    with pytest.raises(PayloadError, match=told):
        convert(payload, Move)


def test_convert_misfit_struct_has_its_path() -> None:
    with pytest.raises(PayloadError, match=r"\$\.moves\[1\]: not a Move: "):
        convert({"moves": [{"toPoint": {"x": 1}}, {}]}, Game)


T = TypeVar("T")
Meta: Any = msgspec.Meta


class Everything(Struct):  # type: ignore[misc]
    """The types that JSON has as text, or with keys of text."""

    seats: dict[int, str] = msgspec.field(default_factory=dict)
    days: dict[date, Decimal] = msgspec.field(default_factory=dict)
    when: datetime | None = None
    at: time | None = None
    name: UUID | None = None
    tags: frozenset[str] = frozenset()
    raw: bytes = b""
    age: Annotated[int, Meta(ge=0)] = 0


@pytest.mark.parametrize(
    "payload",
    [
        {"seats": {"1": "ada"}},
        {"seats": {"a": "ada"}},
        {"days": {"2026-01-31": "1.50"}},
        {"days": {"2026-01-31": 1.5}},
        {"when": "2026-01-01T12:00:00", "at": "12:00:00Z"},
        {"when": 3},
        {"name": "1b4e28ba-2fa1-11d2-883f-0016d3cca427", "tags": ["a", "a"]},
        {"raw": "AAE="},
        {"age": 1.0},
        {"age": -1},
    ],
)
def test_convert_struct_takes_what_msgspec_takes_from_json(payload: Any) -> None:
    """The same value, or the same refusal."""
    text = json.dumps(payload)
    try:
        expected = msgspec.json.decode(text, type=Everything)
    except msgspec.ValidationError as error:
        told = f"$: not a Everything: {error}"
    else:
        assert convert(payload, Everything) == expected
        assert json.loads(marshal_json(expected)) == json.loads(msgspec.json.encode(expected))
        return
    with pytest.raises(PayloadError) as raised:
        convert(payload, Everything)
    assert str(raised.value) == told


class Page(Struct, Generic[T]):  # type: ignore[misc]
    items: list[T]


class Add(Struct, tag=True):  # type: ignore[misc,call-arg]
    x: int


class Drop(Struct, tag="drop", tag_field="type"):  # type: ignore[misc,call-arg]
    x: int


class Cut(Struct, tag=True):  # type: ignore[misc,call-arg]
    y: int


@dataclass
class Limited:
    low: Annotated[int, Meta(ge=0)]
    names: Annotated[list[Point], Meta(min_length=1), "a note"] = field(
        default_factory=lambda: [Point(0)]
    )


def test_convert_union_of_tagged_structs() -> None:
    assert convert([{"type": "Cut", "y": 1}, {"type": "Add", "x": 1}], list[Add | Cut]) == [
        Cut(1), Add(1),
    ]  # fmt: skip
    assert convert({"type": "drop", "x": 2}, Drop | Add | None) == Drop(2)
    assert json.loads(marshal_json(Cut(1))) == {"type": "Cut", "y": 1}


def test_convert_generic_struct() -> None:
    assert convert({"items": [1]}, Page[int]) == Page([1])
    with pytest.raises(PayloadError, match=r"Expected `int`, got `str` - at `\$\.items\[0\]`"):
        convert({"items": ["1"]}, Page[int])


def test_convert_metadata_of_msgspec_is_honoured() -> None:
    """Wherever it stands."""
    assert convert({"low": 0, "names": [{"x": 1}]}, Limited) == Limited(0, [Point(1)])
    for payload, told in (
        ({"low": -1}, r"^\$\.low: not a int: Expected `int` >= 0"),
        ({"low": 0, "names": []}, r"^\$\.names: not a list: Expected `array` of length >= 1"),
        ({"low": "1"}, r"^\$\.low: not a int: Expected `int`, got `str`"),
    ):
        with pytest.raises(PayloadError, match=told):
            convert(payload, Limited)


def test_handler_of_a_tagged_struct_gets_the_header() -> None:
    """The tag of the struct is the header of the message."""
    matcher = MatcherMap[Any, str](JsonHeader())
    got: list[Any] = []

    @matcher.handle("drop")
    def on_drop(ctx: Any, meta: Any, drop: Drop) -> Drop:
        got.append(drop)
        return drop

    assert matcher.dispatch(None, None, '{"type":"drop","x":1}') == '{"type":"drop","x":1}'
    assert got == [Drop(1)]


def test_registered_type_inside_a_struct(monkeypatch: pytest.MonkeyPatch) -> None:
    """msgspec asks for what it does not know, on both ways."""
    monkeypatch.setattr(jsontypes, "_types", dict(jsontypes._types))
    register_json_type(Money, encode=lambda money: money.cents, decode=Money.of)

    class Bill(Struct):  # type: ignore[misc]
        total: Money

    assert marshal_json(convert({"total": 3}, Bill)) == '{"total":3}'
    with pytest.raises(PayloadError, match=r"not a Bill: expected Money: .* at `\$\.total`"):
        convert({"total": "x"}, Bill)


class Money:
    def __init__(self, cents: int) -> None:
        self.cents = cents

    @classmethod
    def of(cls, value: Any) -> Money:
        return cls(value + 0)


class Maybe(Struct):  # type: ignore[misc]
    """A message without the class is possible."""

    total: Money | None


def test_convert_struct_refuses_the_part_that_msgspec_cannot_make() -> None:
    assert convert({"total": None}, Maybe) == Maybe(None)
    with pytest.raises(PayloadError, match=r"nothing makes a Money of a JSON value - at `\$\.tot"):
        convert({"total": 3}, Maybe)


class Untagged(Struct):  # type: ignore[misc]
    either: Point | Move  # no tag tells them apart


class Own(Struct):  # type: ignore[misc]
    """msgspec accepts the class, and then no message that has it."""

    total: list[Money]


class Undecoded(Struct):  # type: ignore[misc]
    rest: msgspec.Raw


class Foreign(Struct):  # type: ignore[misc]
    low: list[Annotated[int, annotated_types.Ge(0)]]


@dataclass
class Wrong:
    low: int = msgspec.field(default=0)


@pytest.mark.parametrize(
    ("into", "told"),
    [
        (Untagged, r"Untagged: .*union"),
        (Own, r"Own: msgspec cannot make a Money: register_json_type\(Money, …\)"),
        (Undecoded, "Undecoded: msgspec.Raw is undecoded JSON"),
        (Foreign, r"Foreign: msgspec ignores the metadata Ge\(ge=0\) of its field 'low'"),
        (Wrong, "the default of its field 'low' is a Field of msgspec"),
        (Annotated[int, Meta(ge=0), annotated_types.Ge(0)], "use that of one"),
        (Annotated[str, Meta(ge=0)], "Can only set `ge` on a numeric type"),
        (Point | Move, "several objects in a union cannot be told apart"),
        (Drop | Add | Literal[1] | dict[str, int], "several objects"),
    ],
)
def test_handler_unsupported_struct_raises_at_registration(into: Any, told: str) -> None:
    """What no message could fit is refused before the first."""

    def handler(ctx: Any, meta: Any, req: Any) -> None:
        """Never called."""

    handler.__annotations__["req"] = into
    with pytest.raises(HandleKindError, match=told):
        MatcherMap[Any, str]().add("x", handler)
