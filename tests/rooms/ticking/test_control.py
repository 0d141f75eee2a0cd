"""Ticking rooms: ``run`` on a hotline, pause, close, statistics."""

from __future__ import annotations

import gc
import threading
import weakref
from time import monotonic
from typing import Any

import pytest

from hubthread import (
    DeadlockError,
    FrameControl,
    Hotline,
    HotlineClosed,
    HotlineFrameOption,
    Hub,
    HubClosed,
    HubSetting,
    Readers,
    UsageError,
    WrongThread,
)
from hubthread.rooms.ticking.loop import TickLoop
from hubthread.statistics import Spread
from tests.rooms.ticking.hand_clock import Noted, new_hub
from tests.rooms.ticking.rooms import AnyFrame, AnyVirtualHub, nothing, noting, raised, run
from tests.support import TIMEOUT, AnyHub, Gate, in_thread, serving, together

# Run.


def test_run_continues_the_hotline_it_is_given(hub: AnyVirtualHub) -> None:
    """The hotline and the room share a push log and a context; the hub returns the room."""
    client = hub.connect()
    hotline = hub.hotline()
    hotline.answer(client.ctx)
    hotline.push("1")
    frame = HotlineFrameOption[Any](list).run(hotline)
    assert isinstance(frame, FrameControl)
    assert (frame.hotline_id, frame.hub, frame.context) == (1, hub, hotline.context)
    assert client.ctx in frame
    assert frame.push("2") == 2
    assert hotline.push("3") == 3
    hub.settle()
    assert client.messages() == ["1", "2", "3"]
    assert hub.exec_sync(lambda hub: hub.hotlines()) == [frame]
    assert hub.exec_sync(lambda hub: hub.hotline(hotline.hotline_id)) is frame
    visited = frame.each_client(lambda number, _ctx, _meta: number).results
    assert list(visited) == [client.ctx.connection_id]
    hotline.close()
    assert frame.join(0)
    assert frame.is_closed
    assert hub.exec_sync(lambda hub: hub.hotlines()) == []
    assert client.ctx.statistics().hotlines == 0


def test_run_one_option_on_many_hotlines_makes_an_object_for_each(tick_threads: str) -> None:
    """Each object is made on a tick thread: on its own, or on the one that all share."""
    with Hub(HubSetting[Any, Any](dict)) as hub:
        option = HotlineFrameOption[list[int]](lambda: [threading.get_ident()])
        frames = [option.run(hub.hotline()) for _ in range(3)]
        idents = [frame.exec_sync(lambda _, obj: obj[0]) for frame in frames]
        assert threading.get_ident() not in idents
        if tick_threads == "own":
            assert len(set(idents)) == 3
            later = [frame.exec_sync(lambda *_: threading.get_ident()) for frame in frames]
            assert later == idents


@pytest.mark.parametrize("second", ["the same option", "another", "of the frame itself"])
def test_run_twice_is_refused(hub: AnyVirtualHub, second: str) -> None:
    """The second call makes no object, and the first room goes on."""
    notes: list[Any] = []
    hotline = hub.hotline()
    option = HotlineFrameOption[Any](list)
    frame = option.run(hotline)
    another = HotlineFrameOption[Any](noting(notes, "made"))
    with pytest.raises(UsageError, match="has a clock already"):
        (option if second == "the same option" else another).run(
            frame if second == "of the frame itself" else hotline
        )
    assert notes == []
    assert frame.exec_sync(lambda _, obj: obj) == []
    assert hub.exec_sync(lambda hub: hub.hotlines()) == [frame]


@pytest.mark.parametrize("wrong", [None, "room", object(), HotlineFrameOption(list)])
def test_run_on_anything_but_a_hotline_is_refused(wrong: Any) -> None:
    with pytest.raises(UsageError, match=r"expected a hotline made by hub\.hotline\(\), got"):
        HotlineFrameOption[Any](list).run(wrong)


def test_run_on_a_silent_or_closed_hotline_is_refused(hub: AnyVirtualHub) -> None:
    """The hub may have closed the hotline."""
    option = HotlineFrameOption[Any](list)
    with pytest.raises(UsageError, match="SilentHotline"):
        option.run(hub.silent_hotline())
    hotline, left = hub.hotline(), hub.hotline()
    hotline.close()
    with pytest.raises(HotlineClosed):
        option.run(hotline)
    hub.close()
    with pytest.raises(HotlineClosed):
        option.run(left)
    assert hub.statistics().hotlines == 0


@pytest.mark.usefixtures("tick_threads")
def test_run_new_obj_raises_leaves_the_hotline_as_it_was() -> None:
    """The error comes out of ``run``; the hub still serves the room, and ``run`` may succeed."""
    with serving() as s:
        peer, client = s.pair()
        hotline = s.hub.hotline()
        hotline.answer(client)

        def fail() -> Any:
            hotline.push("from new_obj")
            raise LookupError("no such level")

        threads = s.hub.statistics().threads
        for _ in range(3):
            with pytest.raises(LookupError, match="no such level"):
                HotlineFrameOption[Any](fail).run(hotline)
        hotline.push("after")
        assert peer.messages(4) == ["from new_obj"] * 3 + ["after"]
        assert s.hub.exec_sync(lambda hub: hub.hotlines()) == [hotline]
        _join_tick_threads(s.hub)
        assert s.hub.statistics().threads == threads
        HotlineFrameOption[Any](list).run(hotline).push("with a clock")
        assert peer.message() == "with a clock"
        assert s.logs.warnings() == []


@pytest.mark.parametrize("how", ["hotline", "hub"])
def test_run_closed_while_new_obj_works_raises(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the room is left, and no callback is called."""
    hub, _, logs = new_hub()
    notes, gate, closed = Noted(), Gate(), threading.Event()
    close = Hotline.close

    def close_and_say(self: Any) -> None:
        close(self)
        closed.set()

    monkeypatch.setattr(Hotline, "close", close_and_say)
    with hub:
        hotline = hub.hotline()
        option = HotlineFrameOption[Any](
            gate, on_start=notes.noting("start"), on_close=notes.noting("close")
        )
        running = in_thread(lambda: option.run(hotline))
        gate.reached()
        closing = in_thread(hotline.close if how == "hotline" else hub.close)
        assert closed.wait(TIMEOUT)
        gate.open()
        with pytest.raises(HotlineClosed):
            running()
        closing()
        assert hub.statistics().hotlines == 0
    assert (notes.now(), logs.warnings()) == ([], [])


def test_run_new_obj_that_waits_for_the_caller_is_a_deadlock_error(hub: AnyVirtualHub) -> None:
    """The hub thread runs the option, and so waits for the object."""
    hotline = hub.hotline()
    option = HotlineFrameOption[Any](lambda: hub.exec_sync(lambda _: 1))
    with pytest.raises(DeadlockError):
        hub.exec_sync(lambda _: option.run(hotline), TIMEOUT)
    assert option.run(hotline).exec_sync(lambda _, obj: obj) == 1


def test_run_room_that_ends_before_run_returns_is_not_listed(
    hub: AnyVirtualHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end removes the room from the hub's list, and ``run`` does not add it again."""
    start = TickLoop.start

    def start_and_end(self: TickLoop[Any, Any], frame: Any) -> None:
        start(self, frame)
        hub.settle()

    monkeypatch.setattr(TickLoop, "start", start_and_end)
    assert run(hub, on_start=lambda frame, _: frame.close()).is_closed
    assert hub.exec_sync(lambda hub: hub.hotlines()) == []


def test_run_on_a_hub_that_is_not_started_ticks() -> None:
    """The hub's thread has no part in it; closing the hub ends the room."""
    hub, clock, _ = new_hub()
    notes = Noted()
    frame = run(hub, notes.ticking, hz=1)
    clock.rest()
    clock.go(1)
    frame.push("nobody is in")
    assert frame.wait_push_consumed(1, TIMEOUT)
    hub.close()
    assert frame.join(0)
    assert notes.now() == [1]
    with pytest.raises(HubClosed):
        hub.hotline()


def test_run_without_a_thread_raises_and_leaves_the_hotline_as_it_was() -> None:
    class NoThread:
        def now(self) -> float:
            return 0.0

        wall = now

        def drive(self, step: Any, what: str, *, shared: bool = False) -> Any:
            raise RuntimeError("can't start new thread")

    with Hub(HubSetting[Any, Any](dict)) as hub:
        core = hub._core
        clock, core.clock = core.clock, NoThread()
        hotline = hub.hotline()
        with pytest.raises(RuntimeError, match="can't start new thread"):
            HotlineFrameOption[Any](list).run(hotline)
        core.clock = clock
        assert HotlineFrameOption[Any](list).run(hotline).exec_sync(lambda _, obj: obj) == []


def test_run_in_a_tick_of_another_room_is_allowed(hub: AnyVirtualHub) -> None:
    """A room makes rooms, and waits for them; a circle of waits is refused."""
    lobby = run(hub)
    room = lobby.exec_sync(lambda frame, _: run(frame.hub, new_obj=lambda: "made"))
    assert room.exec_sync(lambda _, obj: obj) == "made"
    assert lobby.exec_sync(lambda *_: room.exec_sync(lambda _, obj: obj)) == "made"
    with pytest.raises(UsageError):
        room.exec_sync(lambda *_: lobby.exec_sync(lambda *_: room.exec_sync(nothing)))
    lobby.exec_sync(lambda *_: room.close())
    assert lobby.exec_sync(lambda *_: room.join())


# Pause and resume.


def test_pause_in_a_tick_ends_a_burst(hub: AnyVirtualHub) -> None:
    """The rest of the burst runs after ``resume``, which a closure may call."""
    notes: list[int] = []

    def logic(frame: AnyFrame, _: Any) -> None:
        notes.append(frame.tick.index)
        if frame.tick.index == 1:
            hub.clock.spend(4)
        if frame.tick.index == 3:
            frame.pause()

    frame = run(hub, logic, hz=1, overrun="burst", catch_up=10)
    hub.advance(5)
    assert notes == [1, 2, 3]
    hub.advance(50)
    frame.exec_async(lambda frame, _: frame.resume())
    hub.settle()
    assert notes == [1, 2, 3, 4, 5]
    assert frame.statistics().late == 4


@pytest.mark.usefixtures("hasty_threads", "tick_threads")
def test_pause_once_returned_no_tick_begins() -> None:
    """``exec_sync`` waits for a tick that has begun; no tick begins afterwards."""
    with Hub(HubSetting[Any, Any](dict)) as hub:  # in real time
        ticks = Noted()
        frame = run(hub, ticks.ticking, hz=5000, overrun="burst")
        for _ in range(100):
            frame.pause()
            seen = frame.exec_sync(lambda *_: len(ticks.now()))
            for _ in range(5):
                assert frame.exec_sync(lambda *_: len(ticks.now())) == seen
            frame.resume()
            ticks.wait(seen + 1)
        frame.pause()
        seen = frame.exec_sync(lambda *_: len(ticks.now()))
        assert frame.statistics().ticks == seen >= 100


# Steps of a paused room.


def test_step_runs_one_tick_and_the_countdowns_before_it(hub: AnyVirtualHub) -> None:
    notes: list[object] = []

    def logic(frame: AnyFrame, _: Any) -> None:
        tick = frame.tick
        notes.append((tick.index, tick.late, tick.skipped))

    frame = run(hub, logic, hz=1)
    frame.operation_timeout(2.5, lambda frame, _: notes.append("time is up"))
    hub.advance(1.5)
    frame.pause()
    hub.advance(100)
    assert notes == [(1, 0, 0)]
    frame.step()
    hub.settle()
    assert notes == [(1, 0, 0), (2, 0, 0)]
    assert frame.paused
    hub.advance(100)
    frame.step()
    frame.step()
    hub.settle()
    assert notes[2:] == ["time is up", (3, 0, 0), (4, 0, 0)]
    frame.exec_async(lambda frame, _: frame.step())
    hub.settle()
    assert notes[5:] == [(5, 0, 0)]
    frame.resume()
    hub.advance(0.9)
    assert notes[6:] == []
    hub.advance(0.1)
    assert notes[6:] == [(6, 0, 0)]
    assert frame.statistics().ticks == 6


def test_step_runs_closures_that_wait(hub: AnyVirtualHub) -> None:
    notes: list[object] = []
    frame = run(hub, lambda frame, _: notes.append(frame.tick.index), hz=1)
    frame.pause()
    frame.step()
    frame.exec_async(lambda frame, _: notes.append("closure"))
    hub.settle()
    assert sorted(notes, key=str) == [1, "closure"]


def test_step_is_refused_in_a_room_that_runs_or_has_no_ticks(hub: AnyVirtualHub) -> None:
    frame = run(hub, nothing, hz=1)
    with pytest.raises(UsageError, match="pause it"):
        frame.step()
    idle = HotlineFrameOption[Any](list).run(hub.hotline())
    idle.pause()
    with pytest.raises(UsageError, match="no ticks"):
        idle.step()
    frame.pause()
    frame.close()
    with pytest.raises(HotlineClosed):
        frame.step()


def test_step_that_closes_the_room_ends_it(hub: AnyVirtualHub) -> None:
    frame = run(hub, lambda frame, _: frame.close(), hz=1)
    frame.pause()
    frame.step()
    frame.step()
    hub.settle()
    assert frame.join(0)
    assert frame.statistics().ticks == 1


# Figures.


def test_statistics_have_the_hotlines_and_the_rooms_figures(hub: AnyVirtualHub) -> None:
    """The figures stay after the end."""

    def logic(frame: AnyFrame, _: Any) -> None:
        if frame.tick.index > 2:
            hub.clock.spend(0.25)

    frame = run(hub, logic, hz=1)
    hub.advance(4.5)
    frame.exec_async(nothing)
    statistics = frame.statistics()
    assert (statistics.ticks, statistics.skipped, statistics.late) == (4, 0, 0)
    assert (statistics.overruns, statistics.errors, statistics.paused) == (0, 0, False)
    assert (statistics.work, statistics.lateness) == (Spread(0.0, 0.25, 0.25), Spread(0, 0, 0))
    assert (statistics.hotline_id, statistics.closed, statistics.members) == (1, False, 0)
    assert statistics.closures_waiting == 1
    frame.pause()
    frame.push("x")
    frame.close()
    assert frame.join(0)
    after = frame.statistics()
    assert (after.paused, after.closed, after.pushes, after.ticks) == (True, True, 1, 4)
    assert after.closures_waiting == 0


def test_tick_outside_of_the_rooms_callbacks_is_refused(hub: AnyVirtualHub) -> None:
    frame = run(hub)
    with pytest.raises(WrongThread, match="own callbacks only; elsewhere use statistics"):
        _ = frame.tick


# The end.


def test_close_lets_members_stay_until_on_close_has_run(hub: AnyVirtualHub) -> None:
    """``close`` returns at once; closing again changes nothing, and joins are refused."""
    client, other = hub.connect(), hub.connect()
    frame = run(hub, on_close=lambda frame, _: frame.push("the end"))
    frame.answer(client.ctx)
    assert not frame.close_if_empty()
    frame.close()
    frame.close()
    assert frame.close_if_empty()
    assert frame.is_closed
    with pytest.raises(HotlineClosed):
        frame.answer(other.ctx)
    assert frame.members == [client.ctx]
    assert not frame.context.cancelled
    assert frame.join(0)
    assert client.messages() == ["the end"]
    assert frame.members == []
    assert frame.context.reason == "the hotline was closed"
    assert client.ctx.statistics().hotlines == 0


@pytest.mark.usefixtures("tick_threads")
def test_join_times_out_while_on_close_runs() -> None:
    with Hub(HubSetting[Any, Any](dict)) as hub:
        gate = Gate()
        frame = run(hub, on_close=gate)
        frame.close()
        gate.reached()
        assert not frame.join(0.001)
        gate.open()
        assert frame.join(TIMEOUT)


def test_join_on_the_hub_thread_is_refused(hub: AnyVirtualHub) -> None:
    """``on_close`` may need the hub, and then each would wait for the other."""
    notes: list[int] = []
    frame = run(
        hub, on_close=lambda *_: notes.append(hub.exec_sync(lambda view: view.clients_num()))
    )

    def end(_: Any) -> None:
        frame.close()
        with pytest.raises(WrongThread, match=r"frame\.join"):
            frame.join()

    hub.exec_sync(end)
    assert frame.join()
    assert notes == [0]


def test_close_callback_of_the_context_may_raise(hub: AnyVirtualHub) -> None:
    frame = run(hub)
    frame.context.add_callback(lambda _: 1 / 0)  # type: ignore[arg-type]
    frame.close()
    assert frame.join(0)
    assert raised(hub) == [ZeroDivisionError]


@pytest.mark.usefixtures("tick_threads")
def test_close_keeps_nothing_of_the_room() -> None:
    """Its thread, its members and its object are freed once the program drops the room."""

    class State:
        pass

    with Hub(HubSetting[Any, Any](dict)) as hub:
        threads = hub.statistics().threads

        def live() -> list[weakref.ref[Any]]:
            ticked = Gate()
            frame = run(hub, ticked, new_obj=State, hz=0.0003, on_start=ticked)
            ticked.reached()
            frame.operation_timeout(3000, nothing)
            ticked.open()
            state = frame.exec_sync(lambda _, state: weakref.ref(state))
            frame.close()
            assert frame.join(TIMEOUT)
            return [weakref.ref(frame), state]

        kept = [each for _ in range(5) for each in live()]
        _join_tick_threads(hub)
        deadline = monotonic() + TIMEOUT
        while any(each() is not None for each in kept):
            assert monotonic() < deadline, [each() for each in kept]
            hub.exec_sync(nothing)  # a thread may still be on its way out of the last callback
            gc.collect()
        assert hub.statistics().threads == threads
        assert hub.statistics().hotlines == 0


@pytest.mark.usefixtures("hasty_threads", "tick_threads")
def test_every_method_from_many_threads_at_once() -> None:
    """Pause, resume, closures, countdowns, pushes, members, statistics and close."""
    for _ in range(5):
        with serving() as s:
            _, client = s.pair()
            ended = Noted()
            frame = run(
                s.hub,
                lambda frame, _: frame.push("tick"),
                hz=1000,
                on_close=ended.noting("end"),
            )
            frame.answer(client)
            acts = [
                frame.pause,
                frame.resume,
                lambda: frame.exec_async(nothing),  # noqa: B023
                lambda: frame.exec_sync(nothing),  # noqa: B023
                lambda: frame.operation_timeout(0.001, nothing).done(),  # noqa: B023
                lambda: frame.push("x"),  # noqa: B023
                lambda: frame.answer(client),  # noqa: B023
                lambda: frame.hangup(client),  # noqa: B023
            ]

            def act(who: int, acts: Any = acts, frame: AnyFrame = frame) -> None:
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


def _join_tick_threads(hub: AnyHub) -> None:
    kinds = ["-frame-", "-ticks-"]
    if hub.setting.readers is Readers.OWN:
        kinds.append("-monitor")
    running, prefix = hub._core.threads._running, hub._core.threads.prefix

    def found() -> list[threading.Thread]:
        # Not the threads that the hub counts: a thread that ends is not counted any more.
        ours = [each for each in threading.enumerate() if each.name.startswith(prefix)]
        return [each for each in ours if any(kind in each.name for kind in kinds)]

    # Again and again: a thread may start another before it ends.
    while threads := found():
        for thread in threads:
            begun = running.get(thread)
            assert begun is None or begun.wait(TIMEOUT)
            thread.join(TIMEOUT)
            assert not thread.is_alive()
