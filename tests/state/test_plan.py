"""The types that a state may have, and those that are refused."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, NewType
from uuid import UUID

import attrs
import pytest

from hubthread import ClientID, SettingError
from hubthread.state.marks import Private, Round, Unsynced
from hubthread.state.plan import plan_of
from hubthread.state.shadow import Difference


@attrs.define
class Card:
    suit: Literal["hearts", "spades"]
    value: int


class Size(NamedTuple):
    width: int
    height: int


Key = NewType("Key", str)


@dataclass
class Many:
    kinds: ClassVar[int] = 3
    card: Card = field(default_factory=lambda: Card("hearts", 2))
    cards: list[Card] = field(default_factory=lambda: [Card("spades", 1)])
    size: Size = field(default_factory=lambda: Size(1, 2))
    pair: tuple[int, str] = (1, "a")
    born: date = date(2000, 1, 2)
    money: Annotated[Decimal, Round(1)] = Decimal("1.25")
    uid: UUID = field(default_factory=lambda: UUID(int=1))
    either: int | str | None = None
    by_client: dict[ClientID, Card] = field(default_factory=dict)
    by_key: dict[Key, dict[int, int]] = field(default_factory=lambda: {Key("a"): {1: 2}})
    lock: Annotated[Any, Unsynced] = field(default_factory=threading.Lock)


def test_plan_takes_what_json_can_say() -> None:
    shadow = plan_of(Many).make(Many(), Difference())
    assert json.loads(json.dumps(shadow.plain)) == {
        "card": {"suit": "hearts", "value": 2},
        "cards": [{"suit": "spades", "value": 1}],
        "size": {"width": 1, "height": 2},
        "pair": [1, "a"],
        "born": "2000-01-02",
        "money": "1.2",
        "uid": "00000000-0000-0000-0000-000000000001",
        "either": None,
        "by_client": {},
        "by_key": {"a": {"1": 2}},
    }


@dataclass
class Circle:
    inner: Circle | None = None


def state(hint: Any) -> type:
    """Return a state that has one field, ``it``, of the type."""
    made: type = dataclass(type("State", (), {"__annotations__": {"it": hint}}))
    made.__module__ = __name__
    return made


@pytest.mark.parametrize(
    ("hint", "place"),
    [
        (threading.Thread, "it"),
        (Callable[[], int], "it"),
        (list[threading.Thread], r"it\.\[\]"),
        (dict[str, threading.Thread], "it.…"),
        (dict[float, int], "it"),
        (Card | Size, "it"),
        (Circle, "it.inner"),
        (Annotated[list[int], Private], "it"),
        (Annotated[str, Round(1)], "it"),
        (bytes, "it"),
    ],
)
def test_plan_refuses_a_type_with_the_path_of_its_field(hint: Any, place: str) -> None:
    with pytest.raises(SettingError, match=f"^sync: {place}: "):
        plan_of(state(hint))


@pytest.mark.parametrize("digits", [-1, 1.5, 16, True])
def test_round_refuses_other_digits(digits: Any) -> None:
    with pytest.raises(SettingError, match="digits"):
        Round(digits)
