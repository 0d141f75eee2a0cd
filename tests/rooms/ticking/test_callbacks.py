"""The callbacks of a ticking room: errors and overruns."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from hubthread import HubSetting, Overrun
from hubthread.testing import VirtualHub
from tests.rooms.ticking.rooms import AnyFrame, AnyVirtualHub, noting, raised, run
from tests.support import Logs


def test_logic_raises_is_logged_once_and_ticks_go_on() -> None:
    """Another kind of error is logged, too."""
    logs = Logs()

    def logic(frame: AnyFrame, _: Any) -> None:
        if frame.tick.index == 9:
            raise ValueError
        if frame.tick.index not in (7, 8):
            raise LookupError(str(frame.tick.index))

    with VirtualHub(HubSetting[Any, Any](dict, logger=logs)) as hub:
        frame = run(hub, logic, hz=1)
        hub.advance(10)
        statistics = frame.statistics()
    assert (statistics.ticks, statistics.errors) == (10, 8)
    told = [each.splitlines() for each in logs.at_least(logging.ERROR)]
    assert [lines[0] for lines in told] == ["the clock of hotline 1: logic raised"] * 2
    assert [lines[-1] for lines in told] == ["LookupError: 1", "ValueError"]


def test_logic_raises_with_close_on_error_closes_the_room(hub: AnyVirtualHub) -> None:
    """The context has the reason; closures that were accepted run."""
    notes: list[Any] = []

    def logic(frame: AnyFrame, _: Any) -> None:
        frame.exec_async(noting(notes, "accepted"))
        raise LookupError

    frame = run(hub, logic, hz=1, close_on_error=True)
    hub.advance(1)
    assert frame.join(0)
    assert frame.context.reason == "logic raised LookupError"
    assert (notes, frame.statistics().errors) == (["accepted"], 1)
    assert raised(hub) == [LookupError]


def test_max_overruns_in_a_row_close_the_room(hub: AnyVirtualHub) -> None:
    """A tick that does not overrun starts the count anew; ``on_overrun`` may raise."""
    overruns: list[Overrun] = []

    def logic(frame: AnyFrame, _: Any) -> None:
        hub.clock.spend(1 if frame.tick.index == 2 else 1.25)

    def on_overrun(frame: AnyFrame, _: Any, overrun: Overrun) -> None:
        overruns.append(overrun)
        assert frame.statistics().overruns == len(overruns)
        raise LookupError

    frame = run(hub, logic, hz=1, max_overruns=3, on_overrun=on_overrun)
    hub.advance(10)
    assert frame.join(0)
    assert frame.context.reason == "3 ticks in a row took longer than 1 s"
    assert [(each.tick.index, each.work, each.in_a_row) for each in overruns] == [
        (1, 1.25, 1),
        (3, 1.25, 1),
        (4, 1.25, 2),
        (5, 1.25, 3),
    ]
    assert raised(hub) == [LookupError] * 4


@pytest.mark.parametrize("name", ["on_start", "on_close", "on_timeout", "a closure"])
def test_callback_raises_is_logged_by_name(name: str) -> None:
    """``on_start`` that raises closes the room, too."""
    logs = Logs()

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    with VirtualHub(HubSetting[Any, Any](dict, logger=logs)) as hub:
        frame = run(hub, **({name: fail} if name in ("on_start", "on_close") else {}))
        if name == "on_timeout":
            frame.operation_timeout(1, fail)
        elif name == "a closure":
            frame.exec_async(fail)
        hub.advance(1)
        assert frame.is_closed == (name == "on_start")
        if name == "on_start":
            assert frame.context.reason == "on_start raised"
    (told,) = logs.warnings()
    assert told.startswith(f"the clock of hotline 1: {name} raised")
    assert told.endswith("KeyboardInterrupt")
