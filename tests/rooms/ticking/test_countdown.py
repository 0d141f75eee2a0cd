"""Countdowns of a room: one end each, a clock that stands while the room is paused."""

from __future__ import annotations

from typing import Any

import pytest

from hubthread import HotlineClosed, HotlineFrameOption, SettingError, UsageError
from tests.rooms.ticking.hand_clock import AnyFrame, Notes, new_hub, still
from tests.support import TIMEOUT, Gate, Items, together

HUGE = pytest.param(10**400, id="huge")
"""No float is as large."""


def _nothing(*_: object) -> None: ...


@pytest.mark.parametrize("wrong", [0, -1, float("nan"), float("inf"), HUGE, True, "1", None])
def test_a_wrong_time_is_refused_at_the_call(wrong: Any) -> None:
    """Zero, below, not finite, no number; nothing is counted down then."""
    hub, clock, _ = new_hub()
    with hub:
        frame = still(hub)
        calls: list[tuple[str, Any]] = [
            ("timeout", lambda: frame.operation_timeout(wrong, _nothing)),
            ("timeout", lambda: frame.operation_ticker(wrong, _nothing, 1, _nothing)),
            ("interval", lambda: frame.operation_ticker(1, _nothing, wrong, _nothing)),
            ("timeout", lambda: frame.await_inputs([], wrong, None)),
        ]
        for name, call in calls:
            with pytest.raises(SettingError, match=f"^{name}: a number .*, not {wrong}|'1'"):
                call()
        clock.rest()
        assert not frame._loop.agenda.countdowns()


@pytest.mark.parametrize("wrong", [None, "later", 1])
def test_what_cannot_be_called_is_refused_at_the_call(wrong: Any) -> None:
    """By the name of the parameter; so is an interval below the shortest."""
    hub, _, _ = new_hub()
    with hub:
        frame = still(hub)
        with pytest.raises(SettingError, match=r"^on_timeout: expected a function"):
            frame.operation_timeout(1, wrong)
        with pytest.raises(SettingError, match=r"^on_tick: expected a function"):
            frame.operation_ticker(1, _nothing, 1, wrong)
        with pytest.raises(SettingError, match=r"^interval: a number of at least 0\.0001"):
            frame.operation_ticker(1, _nothing, 0.00009, _nothing)
        assert not frame._loop.agenda.countdowns()
        with pytest.raises(UsageError, match="a function is wanted"):
            frame.operation_timeout(1, _nothing).operation(wrong)
        assert frame.statistics().closures_waiting == 0


def test_time_runs_out() -> None:
    """On the tick thread, once, with the frame and the object."""
    hub, clock, _ = new_hub()
    notes = Notes()
    with hub:
        frame = still(hub, new_obj=lambda: "obj")
        countdown: Any = frame.operation_timeout(
            2, lambda *given: notes.add((given, countdown.outcome, countdown.remaining))
        )
        assert (countdown.frame, countdown.outcome, countdown.remaining) == (frame, None, 2)
        clock.go(1.5)
        assert (countdown.outcome, countdown.remaining, notes.now()) == (None, 0.5, [])
        clock.go(0.5)
        assert notes.now() == [((frame, "obj"), "timeout", 0)]
        assert not countdown.done()
        assert not countdown.operation(notes.noting("late"))
        clock.go(10)
        assert len(notes.now()) == 1


def test_done_ends_it() -> None:
    """From any thread; the time-out never fires."""
    hub, clock, _ = new_hub()
    notes = Notes()
    with hub:
        frame = still(hub)
        countdown = frame.operation_timeout(2, notes.noting("timeout"))
        clock.go(1)
        assert countdown.done()
        assert (countdown.outcome, countdown.remaining) == ("done", 0)
        assert not countdown.done()
        clock.go(10)
        assert notes.now() == []


def test_the_rooms_end_ends_it() -> None:
    """No time-out, no done; none begins in a room that closes."""
    hub, clock, _ = new_hub()
    notes, gate = Notes(), Gate()
    with hub:
        frame = still(hub, on_close=lambda *_: notes.add(countdown.outcome))
        countdown: Any = frame.operation_timeout(1, notes.noting("timeout"))
        frame.exec_async(gate)
        gate.reached()
        frame.close()
        clock.advance(5)  # due, and closing: the room's end comes first
        with pytest.raises(HotlineClosed):
            frame.operation_timeout(1, _nothing)
        with pytest.raises(HotlineClosed):
            frame.operation_ticker(1, _nothing, 1, _nothing)
        assert not countdown.operation(notes.noting("refused"))
        assert countdown.outcome is None
        gate.open()
        assert frame.join(TIMEOUT)
        assert (notes.now(), countdown.done(), countdown.remaining) == (["closed"], False, 0)


def test_a_countdown_stands_still_while_the_room_is_paused() -> None:
    """And goes on with what is left; one that begins in a pause begins with it whole."""
    hub, clock, _ = new_hub()
    notes = Notes()
    with hub:
        frame = HotlineFrameOption[Any](list, _nothing, hz=1).run(hub.hotline())
        first = frame.operation_timeout(2, notes.noting("first"))
        clock.rest()
        clock.go(1.5)
        frame.pause()
        second = frame.operation_ticker(2, notes.noting("second"), 1, notes.noting("tick"))
        clock.go(100)
        assert (first.remaining, second.remaining, notes.now()) == (0.5, 2, [])
        assert frame.exec_sync(lambda *_: 1) == 1
        frame.resume()
        clock.go(0.5)
        assert notes.now() == ["first"]
        clock.go(0.5)
        assert notes.now() == ["first", "tick"]
        clock.go(1)
        assert notes.now() == ["first", "tick", "second"]


def test_a_pause_in_a_time_out_keeps_the_next_away() -> None:
    """Though it is due at the same moment."""
    hub, clock, _ = new_hub()
    notes = Notes()

    def pause(frame: AnyFrame, _: Any) -> None:
        notes.add("pause")
        frame.pause()

    with hub:
        frame = still(hub)
        frame.operation_timeout(1, pause)
        frame.operation_timeout(1, notes.noting("other"))
        clock.go(1)
        assert notes.now() == ["pause"]
        frame.resume()
        clock.rest()
        assert notes.now() == ["pause", "other"]


def test_they_ring_in_the_order_in_which_they_are_due() -> None:
    """Whoever was first added, or late."""
    hub, clock, _ = new_hub()
    notes, gate = Notes(), Gate()
    with hub:
        frame = still(hub)
        frame.exec_async(gate)
        gate.reached()
        for seconds in (3, 1, 2):
            frame.operation_timeout(seconds, notes.noting(seconds))
        clock.advance(5)
        gate.open()
        clock.rest()
        assert notes.now() == [1, 2, 3]


def test_a_time_out_that_raises_is_told_of() -> None:
    """Others ring all the same."""
    hub, clock, logs = new_hub()
    notes = Notes()
    with hub:
        frame = still(hub)
        frame.operation_timeout(1, lambda *_: 1 / 0)
        frame.operation_timeout(1, notes.noting("other"))
        clock.go(1)
        assert notes.now() == ["other"]
    assert ["on_timeout raised" in each for each in logs.warnings()] == [True]


def test_an_operation_runs_while_the_countdown_stands() -> None:
    """In order with the closures, on the tick thread; not once it has ended by then."""
    hub, clock, logs = new_hub()
    notes, gate = Notes(), Gate()
    with hub:
        frame = still(hub, new_obj=lambda: "obj")
        countdown = frame.operation_timeout(2, notes.noting("timeout"))
        assert countdown.operation(lambda *given: notes.add(given))
        frame.exec_async(notes.noting("closure"))
        assert countdown.operation(lambda *_: 1 / 0)
        clock.rest()
        assert notes.now() == [(countdown, "obj"), "closure"]
        frame.exec_async(gate)
        gate.reached()
        assert countdown.operation(lambda each, _: notes.add(each.done()))
        assert countdown.operation(notes.noting("after done"))
        gate.open()
        clock.rest()
        assert notes.now()[2:] == [True]
        assert not countdown.operation(notes.noting("after done"))
        clock.go(5)
        assert notes.now()[2:] == [True]
    assert ["an operation raised" in each for each in logs.warnings()] == [True]


def test_a_ticker_calls_on_the_way() -> None:
    """On a grid from its beginning, and not together with the time-out."""
    hub, clock, _ = new_hub()
    notes = Notes()
    with hub:
        frame = still(hub)
        countdown = frame.operation_ticker(
            3, notes.noting("end"), 1, lambda *_: notes.add(countdown.remaining)
        )
        for _ in range(8):
            clock.go(0.5)
        assert notes.now() == [2, 1, "end"]
        assert countdown.outcome == "timeout"


def test_a_ticker_leaves_out_what_it_could_not_keep() -> None:
    """It stays on its grid."""
    hub, clock, _ = new_hub()
    notes, gate = Notes(), Gate()
    with hub:
        frame = still(hub)
        countdown = frame.operation_ticker(
            10, notes.noting("end"), 1, lambda *_: notes.add(countdown.remaining)
        )
        clock.go(1)
        frame.exec_async(gate)
        gate.reached()
        clock.advance(2.5)
        gate.open()
        clock.rest()
        clock.go(0.5)
        clock.go(1)
        frame.exec_async(gate)
        gate.reached()
        clock.advance(50)
        gate.open()
        clock.rest()
        assert notes.now() == [9, 6.5, 6, 5, "end"]


@pytest.mark.parametrize(
    ("timeout", "interval", "calls"), [(0.7, 0.1, 6), (0.3, 0.1, 2), (1, 2, 0)]
)
def test_no_tick_comes_together_with_the_time_out(
    timeout: float, interval: float, calls: int
) -> None:
    """However the floats add up."""
    hub, clock, _ = new_hub()
    notes = Notes()
    with hub:
        frame = still(hub)
        frame.operation_ticker(timeout, notes.noting("end"), interval, notes.noting("tick"))
        clock.rest()
        for number in range(1, round(timeout / 0.05) + 2):
            clock.go(clock.start + number * 0.05 - clock.time)
        assert notes.now() == ["tick"] * calls + ["end"]


def test_a_ticker_ends_by_done_and_with_the_room() -> None:
    """Nothing is called after it, from inside its own call too."""
    hub, clock, _ = new_hub()
    notes = Notes()
    with hub:
        frame = still(hub)
        first = frame.operation_ticker(5, _nothing, 1, lambda *_: notes.add(first.done()))
        second = frame.operation_ticker(5, _nothing, 2, notes.noting("second"))
        assert second.operation(lambda each, _: notes.add(each is second))
        clock.rest()
        for _ in range(3):
            clock.go(1)
        assert notes.now() == [True, True, "second"]
        frame.close()
        assert frame.join(TIMEOUT)
        assert (first.outcome, second.outcome) == ("done", "closed")


def test_a_ticker_slower_than_its_interval_keeps_nothing_else_away() -> None:
    """Ticks, closures, other countdowns and the close have their turn between its calls."""
    hub, clock, _ = new_hub()
    notes = Notes()

    def slow(frame: AnyFrame, _: Any) -> None:
        notes.add("slow")
        clock.advance(0.5)
        if notes.now().count("slow") == 8:
            frame.exec_async(notes.noting("closure"))
            frame.close()

    with hub:
        frame = HotlineFrameOption[Any](list, notes.ticking, hz=1).run(hub.hotline())
        clock.rest()
        countdown = frame.operation_ticker(1000, _nothing, 0.25, slow)
        frame.operation_timeout(2, notes.noting("other"))
        clock.advance(0.25)
        assert frame.join(TIMEOUT)
    assert countdown.outcome == "closed"
    assert "".join(str(each)[0] for each in notes.now()) == "ss1ss2sos3ssc"


@pytest.mark.usefixtures("hasty_threads")
@pytest.mark.parametrize("kind", ["timeout", "ticker"])
def test_exactly_one_of_done_time_out_and_close(kind: str) -> None:
    """Called for at the same moment from many threads."""
    outcomes: set[Any] = set()
    for number in range(40):
        hub, clock, logs = new_hub()
        notes = Notes()
        with hub:
            frame = still(hub)
            done = notes.noting("done")
            countdown: Any
            if kind == "timeout":
                countdown = frame.operation_timeout(1, notes.noting("timeout"))
            else:
                countdown = frame.operation_ticker(1, notes.noting("timeout"), 1, _nothing)
            clock.rest()

            def act(
                who: int,
                number: int = number,
                clock: Any = clock,
                frame: AnyFrame = frame,
                countdown: Any = countdown,
                done: Any = done,
            ) -> None:
                if who == 0:
                    clock.advance(1)
                elif who == 1 and number % 3 != 1:
                    frame.close()
                elif number % 3 and countdown.done():
                    done()

            together(4, act)
            frame.close()
            assert frame.join(TIMEOUT)
            outcome = countdown.outcome
            if outcome == "closed":
                assert notes.now() == []
            else:
                assert notes.now() == [outcome]
            outcomes.add(outcome)
        assert logs.warnings() == []
    assert outcomes <= {"done", "timeout", "closed"}
    assert outcomes != {"done"}  # nobody calls it every third time


@pytest.mark.usefixtures("hasty_threads")
def test_who_comes_too_late_finds_what_has_ended_it() -> None:
    """Another's done, or the room's closing: a handler may tell its client which."""
    found: Items[Any] = Items()
    hub, _, _ = new_hub()
    with hub:
        for _ in range(30):
            frame = still(hub)
            countdowns = [frame.operation_timeout(60, _nothing) for _ in range(100)]

            def act(who: int, frame: AnyFrame = frame, countdowns: Any = countdowns) -> None:
                for each in countdowns if who else ():
                    if not each.done():
                        found.add(each.outcome)
                if not who:
                    frame.close()

            together(3, act)
            assert frame.join(TIMEOUT)
    assert set(found.now()) <= {"done", "closed"}
