"""Ticking rooms in virtual time: every tick, to its number and its moment."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from hubthread import (
    FrameControl,
    HotlineClosed,
    HotlineFrameOption,
    HubSetting,
    Tick,
    UsageError,
)
from hubthread.testing import VirtualHub

AnyHub = VirtualHub[Any, Any]


@pytest.fixture
def hub() -> Iterator[AnyHub]:
    with VirtualHub(HubSetting[Any, Any](dict)) as hub:
        yield hub
    assert hub.errors == []


def room_of(hub: AnyHub, **fields: Any) -> FrameControl[Any]:
    fields.setdefault("new_obj", list)
    return HotlineFrameOption(**fields).run(hub.hotline())


def ticking(hub: AnyHub, *, spend: dict[int, float] | None = None, **fields: Any) -> Any:
    """Return a room whose state is its ticks; tick number n takes ``spend[n]`` seconds."""
    times = spend or {}

    def logic(frame: FrameControl[list[Tick]], ticks: list[Tick]) -> None:
        ticks.append(frame.tick)
        hub.clock.spend(times.get(frame.tick.index, 0))

    room = room_of(hub, logic=logic, **fields)
    ticks: list[Tick] = room.exec_sync(lambda frame, ticks: ticks)
    return room, ticks


def indices(ticks: list[Tick]) -> list[int]:
    return [tick.index for tick in ticks]


# Ticks.


def test_virtual_room_runs_by_ticks_and_by_seconds(hub: AnyHub) -> None:
    room, ticks = ticking(hub, hz=20)
    hub.tick(room, 3)
    assert indices(ticks) == [1, 2, 3]
    assert hub.clock.now() == pytest.approx(0.15)
    hub.tick(room)
    hub.advance(0.049)
    assert len(ticks) == 4
    hub.advance(0.001)
    assert len(ticks) == 5
    hub.advance(60)
    assert indices(ticks) == list(range(1, 1206))
    assert {tick.dt for tick in ticks} == {0.05}
    assert all(tick.late < 1e-9 and not tick.skipped for tick in ticks)
    assert room.statistics().ticks == 1205


@pytest.mark.parametrize("hz", [1, 3, 7, 20, 60, 144, 1000])
def test_virtual_room_no_rate_drifts(hz: int) -> None:
    seconds = 5
    with VirtualHub(HubSetting[Any, Any](dict)) as hub:
        _, ticks = ticking(hub, hz=hz)
        for _ in range(seconds):
            hub.advance(1)
        assert indices(ticks) == list(range(1, hz * seconds + 1))


def test_virtual_room_each_ticks_at_its_own_rate(hub: AnyHub) -> None:
    order: list[str] = []

    def named(name: str, hz: float) -> FrameControl[Any]:
        return room_of(hub, hz=hz, logic=lambda frame, obj: order.append(name))

    a, b = named("a", 10), named("b", 4)
    hub.tick(b, 2)
    assert order == list("aabaaba")  # at 0.5 both are due, and b has asked for it first
    hub.tick(a)
    assert hub.clock.now() == pytest.approx(0.6)
    assert (a.statistics().ticks, b.statistics().ticks) == (6, 2)


def test_virtual_hub_tick_of_a_room_that_does_not_tick_raises(hub: AnyHub) -> None:
    still, paused, closed = room_of(hub), ticking(hub, hz=10)[0], ticking(hub, hz=10)[0]
    paused.pause()
    closed.close()
    for room, why in ((still, "without a rate"), (paused, "paused"), (closed, "closed")):
        with pytest.raises(UsageError, match=f"{why}: 5 of 5"):
            hub.tick(room, 5)
    assert hub.clock.now() == 0.0
    pauses = room_of(hub, hz=10, logic=lambda frame, obj: frame.tick.index > 2 and frame.pause())
    with pytest.raises(UsageError, match="paused: 2 of 5"):
        hub.tick(pauses, 5)


def test_virtual_hub_tick_of_a_room_of_another_clock_raises(hub: AnyHub) -> None:
    """Time would pass for ever without a tick of it."""
    no_clock: Any = hub.hotline()
    with VirtualHub(HubSetting[Any, Any](dict)) as other:
        with VirtualHub(HubSetting[Any, Any](dict), hub.clock) as companion:
            hub.tick(ticking(companion, hz=10)[0], 3)
            assert hub.clock.now() == pytest.approx(0.3)
        for room in (no_clock, ticking(other, hz=10)[0]):
            with pytest.raises(UsageError, match="a ticking room on this hub's clock"):
                hub.tick(room)


# Overruns.


# Members.


def test_virtual_hub_errors_holds_exceptions_of_rooms_and_of_the_log() -> None:
    def logic(frame: Any, obj: Any) -> None:
        assert frame.tick.index < 3, "this far and no further"

    with VirtualHub(HubSetting[Any, Any](dict)) as hub:
        room = room_of(hub, hz=10, logic=logic, close_on_error=True)
        hub.advance(1)
        hub.logger.warning("no error", exc_info=ValueError("seen, and not one of ours"))
        (error,) = hub.errors
        assert "this far" in str(error)
        assert (room.is_closed, hub.clock.now()) == (True, 1.0)
        with pytest.raises(HotlineClosed):
            room.push("over")


# Long polling.


def test_virtual_room_made_before_the_hub_starts_ticks_after_it() -> None:
    """An error of ``new_obj`` is raised where the room is made."""
    hub: AnyHub = VirtualHub(HubSetting(dict))
    ticks: list[int] = []
    room = room_of(hub, hz=10, logic=lambda frame, _: ticks.append(frame.tick.index))
    with pytest.raises(ZeroDivisionError):
        room_of(hub, new_obj=lambda: 1 / 0)
    with hub:
        hub.advance(1.0)
        assert ticks == list(range(1, 11))
        assert room.exec_sync(lambda frame, obj: obj) == []
    assert hub.errors == []
