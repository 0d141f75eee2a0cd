"""Handlers that ask for pydantic models, where the user has pydantic."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date
from typing import Any

import pytest

from hubthread import HandleKindError, JsonHeader, MatcherMap, PayloadError
from hubthread.matcher.compile import convert, marshal_json

pydantic: Any = pytest.importorskip("pydantic")
BaseModel: Any = pydantic.BaseModel
ListOfInt: Any = pydantic.RootModel[list[int]]


class Point(BaseModel):  # type: ignore[misc]  # Any, to a checker without the library
    x: int
    y: float = 0.5


class Move(BaseModel):  # type: ignore[misc]
    model_config = pydantic.ConfigDict(extra="forbid")
    to_point: Point = pydantic.Field(alias="toPoint")
    on_day: date | None = None
    name: str = pydantic.Field("", max_length=3)


class Numbers(ListOfInt):  # type: ignore[misc]
    pass


@dataclass
class Game:
    moves: list[Move]
    numbers: Numbers | None = None


def test_handler_gets_the_model_and_replies_with_one() -> None:
    """The model's own names and conversions apply."""
    matcher = MatcherMap[Any, str](JsonHeader())

    @matcher.handle("move")
    def on_move(ctx: Any, meta: Any, move: Move) -> Move:
        assert type(move) is Move
        assert move.on_day == date(2024, 2, 29)
        return move

    answer = matcher.dispatch(
        None, None, '{"type": "move", "toPoint": {"x": 1}, "on_day": "2024-02-29"}'
    )
    assert json.loads(answer or "") == {
        "type": "move", "toPoint": {"x": 1, "y": 0.5}, "on_day": "2024-02-29", "name": "",
    }  # fmt: skip


def test_convert_model_inside_other_types() -> None:
    """A root model too, which may be no object."""
    game = convert({"moves": [{"toPoint": {"x": 1}}], "numbers": [1, 2]}, Game)
    assert game == Game([Move(toPoint=Point(x=1))], Numbers([1, 2]))
    assert json.loads(marshal_json(game))["numbers"] == [1, 2]
    assert json.loads(marshal_json(game))["moves"][0]["toPoint"] == {"x": 1, "y": 0.5}


@pytest.mark.parametrize(
    ("payload", "told"),
    [
        ({}, r"\$: not a Move: toPoint: Field required$"),
        ({"toPoint": {"x": "one"}}, "not a Move: toPoint.x: Input should be a valid integer"),
        ({"toPoint": {"x": 1}, "more": 1}, "more: Extra inputs"),
        ({"toPoint": {"x": 1}, "name": "x" * 9999}, "name: String should have at most 3"),
        ([], "not a Move: Input should be a valid dictionary"),
    ],
)
def test_convert_misfit_model_is_a_payload_error(payload: Any, told: str) -> None:
    with pytest.raises(PayloadError, match=told) as caught:
        convert(payload, Move)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_convert_many_errors_are_cut() -> None:
    with pytest.raises(PayloadError, match=r"and 97 more$") as caught:
        convert(["x"] * 100, Numbers)
    assert len(str(caught.value)) < 400


def test_convert_misfit_model_has_its_path() -> None:
    with pytest.raises(PayloadError, match=r"\$\.moves\[1\]: not a Move: "):
        convert({"moves": [{"toPoint": {"x": 1}}, {}]}, Game)


def test_handler_unsupported_model_raises_at_registration() -> None:
    class Wrong(BaseModel):  # type: ignore[misc]
        unknown: NotThere  # type: ignore[name-defined]  # noqa: F821

    def handler(ctx: Any, meta: Any, req: Wrong) -> None:
        """Never called."""

    with pytest.raises(HandleKindError, match=r"Wrong: .*NotThere"):
        MatcherMap[Any, str]().add("x", handler)
