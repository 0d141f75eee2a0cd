"""Countdowns of a ticking room: each ends once, and the room's clock stops in a pause."""

from __future__ import annotations

from typing import Any

import pytest

from hubthread import HotlineClosed, SettingError, UsageError
from tests.rooms.ticking.rooms import AnyFrame, AnyVirtualHub, nothing, noting, raised, run

HUGE = pytest.param(10**400, id="huge")
"""No float is as large."""


@pytest.mark.parametrize("wrong", [0, -1, float("nan"), float("inf"), HUGE, True, "1", None])
def test_countdown_wrong_time_is_refused_at_the_call(hub: AnyVirtualHub, wrong: Any) -> None:
    """Zero, negative, not finite, not a number; no countdown begins."""
    frame = run(hub)
    calls: list[tuple[str, Any]] = [
        ("timeout", lambda: frame.operation_timeout(wrong, nothing)),
        ("timeout", lambda: frame.operation_ticker(wrong, nothing, 1, nothing)),
        ("interval", lambda: frame.operation_ticker(1, nothing, wrong, nothing)),
        ("timeout", lambda: frame.await_inputs([], wrong, None)),
    ]
    for name, call in calls:
        with pytest.raises(SettingError, match=f"^{name}: .+") as error:
            call()
        assert error.value.field == name
    assert not frame._loop.agenda.countdowns()


@pytest.mark.parametrize("wrong", [None, "later", 1])
def test_countdown_wrong_callback_is_refused_at_the_call(hub: AnyVirtualHub, wrong: Any) -> None:
    """The error names the parameter; an interval below the shortest is refused, too."""
    frame = run(hub)
    with pytest.raises(SettingError, match=r"^on_timeout: expected a function"):
        frame.operation_timeout(1, wrong)
    with pytest.raises(SettingError, match=r"^on_tick: expected a function"):
        frame.operation_ticker(1, nothing, 1, wrong)
    with pytest.raises(SettingError, match=r"^interval: .*0\.0001"):
        frame.operation_ticker(1, nothing, 0.00009, nothing)
    assert not frame._loop.agenda.countdowns()
    with pytest.raises(UsageError):
        frame.operation_timeout(1, nothing).operation(wrong)
    assert frame.statistics().closures_waiting == 0


def test_countdown_fires_once_on_the_tick_thread(hub: AnyVirtualHub) -> None:
    """The callback gets the frame and the object, and the countdown has ended by then."""
    notes: list[Any] = []
    frame = run(hub, new_obj=lambda: "obj")
    countdown: Any = frame.operation_timeout(
        2, lambda *given: notes.append((given, countdown.outcome, countdown.remaining))
    )
    assert (countdown.frame, countdown.outcome, countdown.remaining) == (frame, None, 2)
    hub.advance(1.5)
    assert (countdown.outcome, countdown.remaining, notes) == (None, 0.5, [])
    hub.advance(0.5)
    assert notes == [((frame, "obj"), "timeout", 0)]
    assert not countdown.done()
    assert not countdown.operation(nothing)
    hub.advance(10)
    assert len(notes) == 1


def test_countdown_room_closes_ends_it(hub: AnyVirtualHub) -> None:
    """No time-out, no ``done``; none begins in a room that is closing."""
    notes: list[Any] = []
    frame = run(hub, on_close=lambda *_: notes.append(countdown.outcome))
    countdown: Any = frame.operation_timeout(1, noting(notes, "timeout"))
    hub.clock.spend(5)  # due, and closing: the room's end comes first
    frame.close()
    with pytest.raises(HotlineClosed):
        frame.operation_timeout(1, nothing)
    with pytest.raises(HotlineClosed):
        frame.operation_ticker(1, nothing, 1, nothing)
    assert not countdown.operation(noting(notes, "refused"))
    assert countdown.outcome is None
    assert frame.join(0)
    assert (notes, countdown.done(), countdown.remaining) == (["closed"], False, 0)


def test_countdown_due_together_with_one_that_pauses_waits(hub: AnyVirtualHub) -> None:
    notes: list[Any] = []

    def pause(frame: AnyFrame, _: Any) -> None:
        notes.append("pause")
        frame.pause()

    frame = run(hub)
    frame.operation_timeout(1, pause)
    frame.operation_timeout(1, noting(notes, "other"))
    hub.advance(1)
    assert notes == ["pause"]
    frame.resume()
    hub.settle()
    assert notes == ["pause", "other"]


def test_operation_runs_while_the_countdown_is_pending(hub: AnyVirtualHub) -> None:
    """It runs in order with the closures, unless the countdown has ended by then."""
    notes: list[Any] = []
    frame = run(hub, new_obj=lambda: "obj")
    countdown = frame.operation_timeout(2, noting(notes, "timeout"))
    assert countdown.operation(lambda *given: notes.append(given))
    frame.exec_async(noting(notes, "closure"))
    assert countdown.operation(lambda *_: 1 / 0)
    hub.settle()
    assert notes == [(countdown, "obj"), "closure"]
    assert raised(hub) == [ZeroDivisionError]
    assert countdown.operation(lambda each, _: notes.append(each.done()))
    assert countdown.operation(noting(notes, "after done"))
    hub.settle()
    assert not countdown.operation(noting(notes, "after done"))
    hub.advance(5)
    assert notes[2:] == [True]


# Tickers.


@pytest.mark.parametrize(
    ("timeout", "interval", "calls"), [(3, 1, 2), (0.7, 0.1, 6), (0.3, 0.1, 2), (1, 2, 0)]
)
def test_ticker_calls_on_a_grid_and_not_together_with_the_time_out(
    hub: AnyVirtualHub, timeout: float, interval: float, calls: int
) -> None:
    """Rounding of floats makes no extra call."""
    notes: list[Any] = []
    frame = run(hub)
    countdown = frame.operation_ticker(
        timeout, noting(notes, "end"), interval, lambda *_: notes.append(countdown.remaining)
    )
    hub.settle()
    for _ in range(round(timeout / 0.05) + 2):
        hub.advance(0.05)
    left = [timeout - number * interval for number in range(1, calls + 1)]
    assert notes == [*(pytest.approx(each) for each in left), "end"]
    assert countdown.outcome == "timeout"


@pytest.mark.parametrize("start", [0.1, 64.3, 1000.1, 123456.7])
@pytest.mark.parametrize("interval", [0.1, 0.05, 1 / 3])
def test_ticker_fired_when_due_is_due_an_interval_later(
    hub: AnyVirtualHub, start: float, interval: float
) -> None:
    """The last bit of a float does not matter."""
    notes: list[Any] = []
    ticker = run(hub).operation_ticker(100 * interval, nothing, interval, nothing)
    ticker.begin(start)
    while ticker.outcome is None:
        notes.append(ticker.due)
        ticker.fire(ticker.due)
        hub.settle()
    assert notes == pytest.approx([start + number * interval for number in range(1, 101)])


# Threads.


def test_countdown_done_while_the_room_closes_finds_the_outcome(hub: AnyVirtualHub) -> None:
    """The tick thread has taken the countdown off its agenda, and has not yet told it so."""
    frame = run(hub)
    countdown = frame.operation_timeout(60, nothing)
    frame._loop.agenda.close()
    assert not countdown.done()
    assert countdown.outcome == "closed"
