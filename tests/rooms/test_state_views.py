"""The state of a room whose members see parts of it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubthread import (
    FrameControl,
    Grid,
    HotlineFrameOption,
    HotlineOption,
    HubSetting,
    Private,
    SettingError,
    StateSync,
    Unsynced,
)
from hubthread.testing import VirtualHub
from tests.rooms.pages import Page, Step, change_soon, steps, walk
from tests.rooms.ticking.rooms import AnyVirtualHub


@dataclass
class Ship:
    x: int = 0
    log: list[int] = field(default_factory=list)
    parts: dict[str, int] = field(default_factory=dict)
    cargo: Annotated[list[int], Private] = field(default_factory=list)


@dataclass
class Crew:
    gold: Annotated[int, Private] = 0
    size: int = 1


@dataclass
class Sea:
    wind: int = 0
    ships: dict[int, Ship] = field(default_factory=dict)
    crews: dict[int, Crew] = field(default_factory=dict)
    seen: Annotated[dict[int, set[int]], Unsynced] = field(default_factory=dict)


def near(ctx: Any, sea: Sea) -> Any:
    return sea.seen.get(ctx.connection_id, ())


def open_sea(hub: AnyVirtualHub, view: Callable[..., Any] = near) -> FrameControl[Sea]:
    sync = StateSync(views={"ships": view})
    option = HotlineFrameOption(Sea, lambda frame, sea: None, hz=10, sync=sync)
    return option.run(hub.hotline(HotlineOption("table")))


def change(hub: AnyVirtualHub, frame: FrameControl[Sea], work: Callable[[Sea], object]) -> None:
    change_soon(frame, work)
    hub.tick(frame)


def as_seen(sea: Sea, who: int) -> Any:
    """Return the state as a member sees it."""
    ships: dict[str, Any] = {}
    for key, ship in sea.ships.items():
        if key in sea.seen.get(who, ()):
            ships[str(key)] = {"x": ship.x, "log": ship.log, "parts": ship.parts}
            if key == who:
                ships[str(key)]["cargo"] = ship.cargo
    crews: dict[str, Any] = {str(key): {"size": each.size} for key, each in sea.crews.items()}
    if who in sea.crews:
        crews[str(who)]["gold"] = sea.crews[who].gold
    return {"wind": sea.wind, "ships": ships, "crews": crews}


def copy_of(frame: FrameControl[Sea], who: int) -> Any:
    return frame.exec_sync(lambda _, sea: json.loads(json.dumps(as_seen(sea, who))))


@pytest.fixture
def hub() -> Iterator[AnyVirtualHub]:
    with VirtualHub(HubSetting[Any, Any](dict)) as hub:
        yield hub


def test_records_come_into_view_and_go(hub: AnyVirtualHub) -> None:
    frame = open_sea(hub)
    page = Page(hub)
    frame.answer(page.client.ctx)
    change(hub, frame, lambda sea: sea.ships.update({8: Ship(1), 9: Ship(2)}))
    assert page.read() == {"wind": 0, "ships": {}, "crews": {}}
    change(hub, frame, lambda sea: sea.seen.update({page.id: {8}}))
    (came,) = map(json.loads, page.client.inbox)
    assert came["set"] == {"ships": {"8": {"x": 1, "log": [], "parts": {}}}}
    page.read()

    def sail(sea: Sea) -> None:
        sea.ships[8].x = sea.ships[9].x = 5
        sea.ships[8].log.append(1)

    change(hub, frame, sail)
    (moved,) = map(json.loads, page.client.inbox)
    assert moved["set"] == {"ships": {"8": {"x": 5}}}
    assert moved["add"] == [[["ships", "8", "log"], [1]]]
    page.read()
    change(hub, frame, lambda sea: sea.seen.update({page.id: {9}}))
    (gone,) = map(json.loads, page.client.inbox)
    assert gone["del"] == [["ships", "8"]]
    assert page.read() == copy_of(frame, page.id)
    change(hub, frame, lambda sea: setattr(sea.ships[8], "x", 6))
    assert page.client.inbox == []  # out of view


def test_private_fields_come_and_go_with_their_record(hub: AnyVirtualHub) -> None:
    frame = open_sea(hub)
    page, other = Page(hub), Page(hub)

    def begin(sea: Sea) -> None:
        sea.ships[page.id] = Ship(cargo=[1])
        sea.crews[page.id] = Crew(gold=3)
        sea.seen[page.id] = sea.seen[other.id] = {page.id}

    for each in (page, other):
        frame.answer(each.client.ctx)
    change(hub, frame, begin)
    assert page.read() == copy_of(frame, page.id)
    assert page.state["ships"][str(page.id)]["cargo"] == [1]
    assert "cargo" not in json.dumps(other.client.inbox)
    assert other.read() == copy_of(frame, other.id)
    change(hub, frame, lambda sea: sea.seen.clear())
    change(hub, frame, lambda sea: sea.ships[page.id].cargo.append(2))
    assert page.read() == copy_of(frame, page.id)
    change(hub, frame, lambda sea: sea.seen.update({page.id: {page.id}}))
    assert page.read() == copy_of(frame, page.id)
    assert page.state["ships"][str(page.id)]["cargo"] == [1, 2]


def test_view_that_raises_is_logged_and_the_member_sees_what_it_has_seen(
    hub: AnyVirtualHub,
) -> None:
    def view(ctx: Any, sea: Sea) -> Any:
        if sea.wind:
            raise ValueError("no view")
        return [8]

    frame = open_sea(hub, view)
    page = Page(hub)
    frame.answer(page.client.ctx)
    change(hub, frame, lambda sea: sea.ships.update({8: Ship(1), 9: Ship(2)}))
    change(hub, frame, lambda sea: setattr(sea, "wind", 3))
    change(hub, frame, lambda sea: setattr(sea.ships[8], "x", 7))
    assert page.read()["ships"] == {"8": {"x": 7, "log": [], "parts": {}}}
    assert {type(error) for error in hub.errors} == {ValueError}
    hub.errors.clear()


def test_views_are_checked() -> None:
    for views in ({"wind": near}, {"none": near}, {"ships": lambda: ()}, [near]):
        with pytest.raises(SettingError, match="views"):
            HotlineFrameOption(Sea, sync=StateSync(views=views))  # type: ignore[arg-type]


PLACES = st.tuples(*[st.integers(-50, 50)] * 2)
RADII = st.integers(0, 40) | st.sampled_from([1e9, math.inf])  # of a guest that sees everything


@given(st.lists(PLACES, max_size=30), PLACES, RADII, st.sampled_from([0.7, 8, 100]))
def test_grid_finds_what_is_near(places: list[Any], here: Any, radius: float, cell: float) -> None:
    grid: Grid[int] = Grid(cell)
    grid.fill((key, *place) for key, place in enumerate(places))
    x, y = here
    expected = [
        key
        for key, (to_x, to_y) in enumerate(places)
        if (to_x - x) ** 2 + (to_y - y) ** 2 <= radius * radius
    ]
    assert sorted(grid.near(x, y, radius)) == expected


CHANGES = ("see", "see", "come", "go", "sail", "say", "part", "load", "pay", "wind")


def mutate(sea: Sea, what: str, who: int, number: int) -> None:
    key = number + 1  # of a ship, which may be the member's
    ship = sea.ships.get(key)
    if what == "see":
        sea.seen.setdefault(who, set()).symmetric_difference_update({key})
    elif what == "come":
        sea.ships.setdefault(key, Ship())
        sea.crews.setdefault(who, Crew())
    elif what == "go":
        sea.ships.pop(key, None)
    elif what == "wind":
        sea.wind = number
    elif what == "pay" and who in sea.crews:
        sea.crews[who].gold += 1
    elif ship is None:
        return
    elif what == "sail":
        ship.x += 1
    elif what == "say":
        ship.log.append(number)
    elif what == "part":
        ship.parts.pop("a", None) or ship.parts.update(a=number)
    elif what == "load":
        ship.cargo.append(number)


@given(steps(*CHANGES))
def test_members_have_what_they_see_whatever_happens(steps: list[Step]) -> None:
    with VirtualHub(HubSetting[Any, Any](dict)) as hub:
        walk(hub, open_sea(hub), steps, mutate, copy_of)
