"""Handlers that ask for msgspec structs, where the user has msgspec."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date
from typing import Any

import pytest

from hubthread import HandleKindError, JsonHeader, MatcherMap, PayloadError
from hubthread.matcher.compile import convert, marshal_json

msgspec: Any = pytest.importorskip("msgspec")
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


def test_handler_unsupported_struct_raises_at_registration() -> None:
    class Wrong(Struct):  # type: ignore[misc]
        either: Point | Move  # no tag tells them apart

    def handler(ctx: Any, meta: Any, req: Wrong) -> None:
        """Never called."""

    with pytest.raises(HandleKindError, match=r"Wrong: .*union"):
        MatcherMap[Any, str]().add("x", handler)
