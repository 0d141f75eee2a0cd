"""A room with a clock in use: its closures, its pauses, its errors, its figures."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest

from hubthread import (
    DeadlockError,
    ExecTimeout,
    HotlineClosed,
    HotlineFrameOption,
    Overrun,
    QueueFull,
    Tick,
    UsageError,
    WrongThread,
)
from hubthread.statistics import Spread
from tests.rooms.ticking.hand_clock import AnyFrame, Notes, new_hub, still
from tests.support import TIMEOUT, Gate, Items, in_thread, serving, together


def test_closures_get_the_frame_and_the_object() -> None:
    """And exec_sync has their result, or what they raised, also KeyboardInterrupt."""
    hub, _, logs = new_hub()
    with hub:
        frame = still(hub)
        assert frame.exec_sync(lambda given, _: given is frame)
        frame.exec_async(lambda _, obj: obj.append(1))
        assert frame.exec_sync(lambda _, obj: obj) == [1]
        for error in (LookupError("x"), KeyboardInterrupt()):

            def fail(_frame: Any, _obj: Any, error: BaseException = error) -> None:
                raise error

            with pytest.raises(type(error)):
                frame.exec_sync(fail)
            frame.exec_async(fail)
        assert frame.exec_sync(lambda _, obj: obj) == [1]
    told = logs.warnings()
    assert len(told) == 2
    assert "the clock of hotline 1: a closure raised" in told[0]
    assert "LookupError" in told[0]


def test_closures_run_in_order_also_while_the_room_is_paused() -> None:
    """Of each thread, and exec_sync among them."""
    hub, clock, _ = new_hub()
    notes = Notes()
    with hub:
        frame = HotlineFrameOption[Any](list, notes.noting("tick"), hz=1).run(hub.hotline())
        clock.rest()
        frame.pause()
        assert frame.statistics().paused
        for number in range(10):
            frame.exec_async(notes.noting(number))
            if number % 3 == 0:
                frame.exec_sync(notes.noting(number + 0.5))
        clock.go(5)
        expected = [n + half for n in range(10) for half in (0, 0.5) if not half or n % 3 == 0]
        assert notes.now() == expected
        frame.resume()
        assert not frame.paused
        clock.go(1)
        assert notes.now() == [*expected, "tick"]


def test_closures_run_between_ticks() -> None:
    """What comes during a tick waits for its end."""
    hub, clock, _ = new_hub()
    notes, gate = Notes(), Gate()

    def logic(frame: AnyFrame, _: Any) -> None:
        gate()
        notes.add(frame.tick.index)

    with hub:
        frame = HotlineFrameOption[Any](list, logic, hz=1).run(hub.hotline())
        clock.rest()
        clock.advance(1)
        gate.reached()
        frame.exec_async(notes.noting("closure"))
        gate.open()
        clock.rest()
        assert notes.now() == [1, "closure"]


def test_closures_that_never_end_keep_nothing_else_away() -> None:
    """Ticks on time, countdowns, pushes and the close, while each closure brings the next."""
    with serving() as s:
        peer, client = s.pair()
        ticks: Items[int] = Items()
        for hz in (0, 200):
            frame = HotlineFrameOption[Any](
                list, lambda frame, _: ticks.add(frame.tick.index), hz=hz
            ).run(s.hub.hotline())
            frame.answer(client)

            def again(frame: AnyFrame, _: Any) -> None:
                frame.exec_async(again)

            frame.exec_async(again)
            frame.exec_async(lambda frame, _: client.write("of a closure"))
            assert peer.message() == "of a closure"
            frame.push("from elsewhere")
            assert peer.message() == "from elsewhere"
            frame.operation_timeout(0.01, lambda frame, _: frame.push("time"))
            assert peer.message() == "time"
            if hz:
                ticks.wait(5)
            frame.pause()
            frame.push("paused")
            assert peer.message() == "paused"
            frame.resume()
            frame.close()
            assert frame.join(TIMEOUT)
            assert ["HotlineClosed" in each for each in s.logs.warnings()] == [True]


def test_closures_get_their_turn_where_ticks_are_due_all_the_time() -> None:
    """A period between two ticks, no more and no less."""
    hub, clock, _ = new_hub()
    notes = Notes()

    def logic(frame: AnyFrame, _: Any) -> None:
        notes.add("tick")
        clock.advance(1.5)
        if len(notes.now()) > 12:
            frame.close()

    def work(frame: AnyFrame, _: Any) -> None:
        notes.add("work")
        clock.advance(0.25)

    with hub:
        frame = HotlineFrameOption[Any](list, logic, hz=1).run(hub.hotline())
        clock.rest()
        frame.pause()
        gate = Gate()
        frame.exec_async(gate)
        gate.reached()
        for _ in range(20):
            frame.exec_async(work)
        frame.resume()
        clock.advance(1)
        gate.open()
        assert frame.join(TIMEOUT)
    kinds = notes.now()
    first = kinds.index("tick")
    between = "".join("t" if each == "tick" else "w" for each in kinds[first:])
    assert between.startswith("twwwwtwwwwt")


def test_a_paused_room_goes_on_where_it_stopped() -> None:
    """What was left of a period is waited for; a pause is not late, and skips nothing."""
    hub, clock, _ = new_hub()
    ticks: Items[Tick] = Items()
    with hub:
        frame = HotlineFrameOption[Any](list, lambda frame, _: ticks.add(frame.tick), hz=1).run(
            hub.hotline()
        )
        clock.rest()
        clock.go(1.75)
        frame.pause()
        frame.pause()
        clock.go(100)
        assert len(ticks.now()) == 1
        frame.resume()
        frame.resume()
        clock.rest()
        clock.go(0.125)
        frame.pause()
        clock.go(3)
        frame.resume()
        clock.go(0.0625)
        assert len(ticks.now()) == 1
        clock.go(0.0625)
        assert ticks.now() == [Tick(1, 1.0, 0.75, 0), Tick(2, 1.0, 0.0, 0)]
        assert frame.statistics().skipped == 0


def test_a_pause_from_inside_a_tick_ends_a_burst() -> None:
    """The rest of it comes after resume, which may be called from a closure."""
    hub, clock, _ = new_hub()
    notes, gate = Notes(), Gate()

    def logic(frame: AnyFrame, _: Any) -> None:
        notes.add(frame.tick.index)
        if frame.tick.index == 1:
            gate()
        if frame.tick.index == 3:
            frame.pause()

    with hub:
        frame = HotlineFrameOption[Any](list, logic, hz=1, overrun="burst", catch_up=10).run(
            hub.hotline()
        )
        clock.rest()
        clock.advance(1)
        gate.reached()
        clock.advance(4)
        gate.open()
        clock.rest()
        assert notes.now() == [1, 2, 3]
        clock.go(50)
        frame.exec_async(lambda frame, _: frame.resume())
        clock.rest()
        assert notes.now() == [1, 2, 3, 4, 5]


@pytest.mark.usefixtures("hasty_threads")
def test_no_tick_begins_after_pause() -> None:
    """One that has begun is waited for with exec_sync; from then on there is none."""
    with serving() as s:  # in real time
        count = 0

        def logic(frame: AnyFrame, _: Any) -> None:
            nonlocal count
            count += 1

        frame = HotlineFrameOption[Any](list, logic, hz=5000, overrun="burst").run(s.hub.hotline())
        going = threading.Event()
        for _ in range(100):
            frame.pause()
            seen = frame.exec_sync(lambda *_: count)
            for _ in range(5):
                assert frame.exec_sync(lambda *_: count) == seen
            frame.resume()
            going.wait(0.0005)
        frame.pause()
        seen = frame.exec_sync(lambda *_: count)
        assert frame.statistics().ticks == seen > 0


def test_exec_sync_from_inside_is_refused_at_once() -> None:
    """Of a tick, a closure, a countdown, on_start and on_close; so is join."""
    hub, clock, logs = new_hub()
    refused = Notes()

    def try_it(frame: AnyFrame, *_: Any) -> None:
        with pytest.raises(WrongThread, match="would wait for itself"):
            frame.exec_sync(lambda *_: None)
        with pytest.raises(WrongThread, match="would wait for itself"):
            frame.join()
        refused.add(frame.tick.index)

    with hub:
        frame = HotlineFrameOption[Any](
            list, try_it, hz=1, on_start=try_it, on_close=try_it, on_overrun=try_it
        ).run(hub.hotline())
        clock.rest()
        frame.exec_async(try_it)
        frame.exec_sync(try_it)
        frame.operation_timeout(0.5, try_it)
        frame.operation_timeout(5, try_it).operation(lambda each, obj: try_it(each.frame, obj))
        clock.rest()
        clock.go(1)
        frame.close()
        assert frame.join(TIMEOUT)
        with pytest.raises(WrongThread, match="own callbacks"):
            _ = frame.tick
    assert refused.now() == [0, 0, 0, 0, 0, 1, 1]
    assert logs.warnings() == []


def test_the_hub_thread_does_not_wait_for_a_rooms_end() -> None:
    """Its last callback may need the hub: then both would wait for ever."""
    hub, _, logs = new_hub()
    done = Notes()
    with hub:
        frame = still(
            hub, on_close=lambda *_: done.add(hub.exec_sync(lambda view: view.clients_num()))
        )

        def end(_: Any) -> None:
            frame.close()
            with pytest.raises(WrongThread, match=r"frame\.join"):
                frame.join(TIMEOUT)

        hub.exec_sync(end)
        assert frame.join(TIMEOUT)
    assert done.now() == [0]
    assert logs.warnings() == []


def test_what_waits_for_the_end_of_a_tick_is_refused_in_it() -> None:
    """It would wait for itself."""
    with serving() as s:
        peer, client = s.pair()
        frame = still(s.hub)
        frame.answer(client)

        def work(frame: AnyFrame, _: Any) -> None:
            with pytest.raises(WrongThread, match="end of this tick"):
                client.wait_write_consumed(client.write("w"))
            with pytest.raises(WrongThread, match="end of this tick"):
                frame.wait_push_consumed(frame.push("p"))

        frame.exec_sync(work)
        assert peer.messages(2) == ["w", "p"]
        assert frame.wait_push_consumed(1, TIMEOUT)


def test_cycles_of_waits_are_refused() -> None:
    """A room, the hub, a client, another room: whoever closes the circle is told."""
    with serving() as s:
        _, client = s.pair()
        one, other = still(s.hub), still(s.hub)

        def through(*steps: Any) -> Any:
            """Wait through each; the last one waits for the first again."""
            first, *rest = steps
            return first(lambda *_: through(*rest)) if rest else first(lambda *_: None)

        waits: list[Any] = [one.exec_sync, other.exec_sync, s.hub.exec_sync, client.exec_sync]
        a, b, hub, mine = waits
        # An idle client's closure runs on the thread that waits, so it is not the first.
        for around in (
            [a, b],
            [a, hub],
            [a, mine, b],
            [a, hub, mine],
            [a, b, hub, mine],
            [hub, a],
            [hub, mine, b],
            [hub, a, b, mine],
        ):
            with pytest.raises((DeadlockError, WrongThread)):
                through(*around, around[0])
        assert [each(lambda *_: 1) for each in waits] == [1] * 4


def test_an_exec_that_takes_too_long_shows_what_the_room_does() -> None:
    """The work still runs."""
    hub, _, _ = new_hub()
    notes, gate = Notes(), Gate()
    with hub:
        frame = still(hub)
        frame.exec_async(gate)
        gate.reached()
        with pytest.raises(ExecTimeout, match="the clock of hotline 1 gave no result") as raised:
            frame.exec_sync(notes.noting("late"), 0.01)
        assert "self._open.acquire" in raised.value.stack
        gate.open()
        assert frame.exec_sync(lambda *_: notes.now()) == ["late"]


@pytest.mark.parametrize("fields", [{"control_size": 3}, {}])
def test_so_many_closures_may_wait(fields: dict[str, Any]) -> None:
    """Control_size, or else chan_queue_size; what was accepted runs, in order."""
    hub, clock, _ = new_hub(chan_queue_size=3)
    notes, gate = Notes(), Gate()
    with hub:
        frame = still(hub, **fields)
        frame.exec_async(gate)
        gate.reached()
        standing = frame.operation_timeout(1, lambda *_: None)
        for number in range(3):
            frame.exec_async(notes.noting(number))
        assert frame.statistics().closures_waiting == 3
        calls: list[Any] = [frame.exec_async, frame.exec_sync, standing.operation]
        for call in calls:
            with pytest.raises(QueueFull, match="3 closures are waiting, the bound of control"):
                call(notes.noting("x"))
        gate.open()
        clock.rest()
        assert notes.now() == [0, 1, 2]
        assert frame.statistics().closures_waiting == 0


def test_logic_that_raises_is_told_of_and_the_next_tick_comes() -> None:
    """Once; another error of it is told of, too."""
    hub, clock, logs = new_hub()

    def logic(frame: AnyFrame, _: Any) -> None:
        if frame.tick.index == 9:
            raise ValueError
        if frame.tick.index not in (7, 8):
            raise LookupError(str(frame.tick.index))

    with hub:
        frame = HotlineFrameOption[Any](list, logic, hz=1).run(hub.hotline())
        clock.rest()
        for _ in range(10):
            clock.go(1)
        statistics = frame.statistics()
    assert (statistics.ticks, statistics.errors) == (10, 8)
    told = [each.splitlines() for each in logs.at_least(logging.ERROR)]
    assert [lines[0] for lines in told] == ["the clock of hotline 1: logic raised"] * 2
    assert [lines[-1] for lines in told] == ["LookupError: 1", "ValueError"]


def test_with_close_on_error_the_room_closes() -> None:
    """With the reason in its context; closures that were accepted run."""
    hub, clock, _ = new_hub()
    notes = Notes()

    def logic(frame: AnyFrame, _: Any) -> None:
        frame.exec_async(notes.noting("accepted"))
        raise LookupError

    with hub:
        frame = HotlineFrameOption[Any](list, logic, hz=1, close_on_error=True).run(hub.hotline())
        clock.rest()
        clock.advance(1)
        assert frame.join(TIMEOUT)
        assert frame.context.reason == "logic raised LookupError"
        assert notes.now() == ["accepted"]
        assert frame.statistics().errors == 1


def test_so_many_overruns_in_a_row_close_the_room() -> None:
    """One between that did not overrun begins the count anew; the hook may raise."""
    hub, clock, _ = new_hub()
    overruns: Items[Overrun] = Items()

    def logic(frame: AnyFrame, _: Any) -> None:
        clock.advance(1 if frame.tick.index == 2 else 1.25)

    def hook(_frame: Any, _obj: Any, overrun: Overrun) -> None:
        overruns.add(overrun)
        raise LookupError

    with hub:
        frame = HotlineFrameOption[Any](list, logic, hz=1, max_overruns=3, on_overrun=hook).run(
            hub.hotline()
        )
        clock.rest()
        clock.advance(1)
        assert frame.join(TIMEOUT)
        assert frame.context.reason == "3 ticks in a row took longer than 1 s"
    assert [(each.tick.index, each.work, each.in_a_row) for each in overruns.now()] == [
        (1, 1.25, 1),
        (3, 1.25, 1),
        (4, 1.25, 2),
        (5, 1.25, 3),
    ]


def test_statistics() -> None:
    """Counts of all ticks; work and lateness of the last 512."""
    hub, clock, _ = new_hub()

    def logic(frame: AnyFrame, _: Any) -> None:
        if frame.tick.index > 100:
            clock.advance(0.25 if frame.tick.index % 100 else 0.5)

    with hub:
        frame = HotlineFrameOption[Any](list, logic, hz=1).run(hub.hotline())
        clock.rest()
        empty = frame.statistics()
        assert (empty.ticks, empty.work, empty.lateness) == (0, Spread(0, 0, 0), Spread(0, 0, 0))
        for index in range(1, 701):
            late = 0.125 if index == 650 else 0.0
            clock.go(index + late - clock.time + clock.start)
        statistics = frame.statistics()
        assert (statistics.ticks, statistics.skipped, statistics.late) == (700, 0, 0)
        assert (statistics.overruns, statistics.errors, statistics.paused) == (0, 0, False)
        assert statistics.work == Spread(0.25, 0.5, 0.5)
        assert statistics.lateness == Spread(0, 0, 0.125)
        assert (statistics.hotline_id, statistics.closed, statistics.members) == (1, False, 0)
        frame.pause()
        frame.push("x")
        assert frame.wait_push_consumed(1, TIMEOUT)
        frame.close()
        assert frame.join(TIMEOUT)
        after = frame.statistics()
        assert (after.paused, after.closed, after.pushes, after.ticks) == (True, True, 1, 700)


def test_closing_twice_and_waiting_for_it() -> None:
    """Close returns at once; join waits; members stay until the end, nobody new comes in."""
    with serving() as s:
        (peer, client), (_, other) = s.pairs(2)
        gate = Gate()
        frame = still(s.hub, on_close=lambda frame, _: gate() or frame.push("the end"))
        frame.answer(client)
        assert not frame.close_if_empty()
        frame.close()
        frame.close()
        assert frame.close_if_empty()
        gate.reached()
        assert frame.is_closed
        assert not frame.join(0.001)
        with pytest.raises(HotlineClosed):
            frame.answer(other)
        assert frame.members == [client]
        assert not frame.context.cancelled
        gate.open()
        assert frame.join(TIMEOUT)
        assert peer.message() == "the end"
        assert frame.members == []
        assert frame.context.reason == "the hotline was closed"
        assert client.statistics().hotlines == 0


def test_a_callback_of_its_context_may_raise() -> None:
    """It is told of, and the room has ended."""
    hub, _, logs = new_hub()
    with hub:
        frame = still(hub)
        frame.context.add_callback(lambda _: 1 / 0)  # type: ignore[arg-type]
        frame.close()
        assert frame.join(TIMEOUT)
    assert ["a callback of its context raised" in each for each in logs.warnings()] == [True]


def test_clients_go_during_a_tick_that_writes_to_them() -> None:
    """What is kept back for them is dropped, and the others get theirs."""
    with serving() as s:
        pairs = s.pairs(3)
        gate = Gate()

        def work(frame: AnyFrame, _: Any) -> None:
            for number in range(3):
                for _, client in pairs:
                    client.write(f"w{number}")
                frame.push(f"p{number}")
                gate()

        frame = still(s.hub)
        for _, client in pairs:
            frame.answer(client)
        frame.exec_async(work)
        gate.reached()
        pairs[0][0].reset()
        assert pairs[0][1].context.wait(TIMEOUT)
        pairs[1][1].close(1000, "enough")
        assert pairs[1][0].rest() == (["w0"], 1000, "enough")
        gate.open(3)
        assert pairs[2][0].messages(6) == ["w0", "w1", "w2", "p0", "p1", "p2"]
        assert frame.exec_sync(lambda *_: 1) == 1


def test_from_everywhere_at_once() -> None:
    """Pause, resume, closures, countdowns, pushes, statistics and close, from many threads."""
    for _ in range(5):
        with serving() as s:
            _, client = s.pair()
            ended = Notes()
            frame = HotlineFrameOption[Any](
                list, lambda frame, _: frame.push("tick"), hz=1000, on_close=ended.noting("end")
            ).run(s.hub.hotline())
            frame.answer(client)
            acts = [
                frame.pause,
                frame.resume,
                lambda: frame.exec_async(lambda *_: None),  # noqa: B023
                lambda: frame.exec_sync(lambda *_: None),  # noqa: B023
                lambda: frame.operation_timeout(0.001, lambda *_: None).done(),  # noqa: B023
                lambda: frame.push("x"),  # noqa: B023
                lambda: frame.answer(client),  # noqa: B023
                lambda: frame.hangup(client),  # noqa: B023
            ]

            def act(
                who: int, acts: Any = acts, frame: AnyFrame = frame, statistics: Any = None
            ) -> None:
                for number in range(100):
                    try:
                        acts[(who + number * (who + 1)) % len(acts)]()
                        assert frame.statistics().closures_waiting >= 0
                    except HotlineClosed:
                        assert frame.is_closed
                    if who == 3 and number == 80:
                        frame.close()

            together(4, act)
            assert frame.join(TIMEOUT)
            assert ended.now() == ["end"]
            assert client.statistics().hotlines == 0
            assert s.logs.warnings() == []


def test_the_option_of_another_room_may_run_from_inside_a_tick() -> None:
    """A room makes rooms, and waits for them."""
    hub, _, _ = new_hub()
    with hub:
        lobby = still(hub)
        room = lobby.exec_sync(lambda frame, _: still(hub, new_obj=lambda: "made"))
        assert room.exec_sync(lambda _, obj: obj) == "made"
        assert lobby.exec_sync(lambda *_: room.exec_sync(lambda _, obj: obj)) == "made"
        with pytest.raises(UsageError):
            room.exec_sync(lambda *_: lobby.exec_sync(lambda *_: room.exec_sync(lambda *_: 1)))
        waiting = in_thread(lambda: room.join(TIMEOUT))
        lobby.exec_sync(lambda *_: room.close())
        assert waiting()
