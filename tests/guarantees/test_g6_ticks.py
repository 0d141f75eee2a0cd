"""G6, ticks: one test for each clause of its text, in the order of the text."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import pairwise
from time import monotonic
from typing import Any

import pytest

from hubthread import (
    Context,
    HotlineClosed,
    HotlineFrameOption,
    Hub,
    HubSetting,
    Overflow,
    Overrun,
    Tick,
)
from hubthread.concurrency.calls import thread_id
from hubthread.testing import VirtualHub
from tests.rooms.ticking.hand_clock import Noted, by_hand
from tests.rooms.ticking.rooms import AnyFrame, Sends, nothing, run
from tests.support import TIMEOUT, Gate, in_thread, serving, together

# Deadlines are absolute and monotonic: there is no drift, however late a tick begins.


def test_ticks_that_begin_late_leave_the_deadlines_where_they_are() -> None:
    ticks: list[Tick] = []
    with VirtualHub(HubSetting[Any, Any](dict)) as hub:
        run(hub, lambda frame, _: ticks.append(frame.tick), hz=1)
        hub.settle()
        for seconds in (1.25, 0.75, 0.5, 0.5, 1.75, 0.25):
            hub.clock.spend(seconds)
            hub.settle()
    assert ticks == [
        Tick(1, 1.0, 0.25, 0),
        Tick(2, 1.0, 0.0, 0),
        Tick(3, 1.0, 0.0, 0),
        Tick(4, 1.0, 0.75, 0),
        Tick(5, 1.0, 0.0, 0),
    ]


@pytest.mark.usefixtures("tick_threads")
def test_ticks_in_real_time_stand_on_one_grid() -> None:
    """Late or slow single ticks do not move the grid."""
    ticks: list[tuple[float, int, float]] = []

    def logic(frame: AnyFrame, _: Any) -> None:
        began = monotonic()
        sum(range(20_000 * (len(ticks) % 5)))
        ticks.append((began, frame.tick.index, monotonic()))
        if len(ticks) == 60:
            frame.close()

    with Hub(HubSetting[Any, Any](dict)) as hub:
        frame = run(hub, logic, hz=500)
        assert frame.join(TIMEOUT)
    # Each tick began at its deadline or later, and no later tick was due when the tick
    # before ended.  So one start of the grid must fit all ticks.
    latest = min(began - index / 500 for began, index, _ in ticks)
    earliest = max(end - (index + 1) / 500 for (_, _, end), (_, index, _) in pairwise(ticks))
    assert earliest < latest + 1e-6
    assert [index for _, index, _ in ticks] == sorted({index for _, index, _ in ticks})
    statistics = frame.statistics()
    assert statistics.ticks == len(ticks) == 60
    assert statistics.skipped == ticks[-1][1] - 60


# The policy for an overrun is chosen by name: skip, burst up to a cap, delay.  An overrun is
# counted, reported to a hook, and shown in statistics.


@pytest.mark.parametrize(
    ("policy", "expected", "skipped"),
    [
        ("skip", [(5, 0.5, 3), (6, 0.0, 0), (7, 0.0, 0)], 3),
        ("burst", [(3, 2.5, 1), (4, 1.5, 0), (5, 0.5, 0), (6, 0.0, 0), (7, 0.0, 0)], 1),
        ("delay", [(2, 3.5, 0), (3, 0.0, 0), (4, 0.0, 0)], 0),
    ],
)
def test_overrun_policy_decides_which_ticks_run(
    policy: Any, expected: list[tuple[int, float, int]], skipped: int
) -> None:
    """A tick that takes four and a half periods: exact numbers, and the grid after it."""
    ticks: list[tuple[int, float, int]] = []
    overruns: list[Overrun] = []
    with VirtualHub(HubSetting[Any, Any](dict)) as hub:

        def logic(frame: AnyFrame, _: Any) -> None:
            tick = frame.tick
            ticks.append((tick.index, tick.late, tick.skipped))
            if tick.index == 1:
                hub.clock.spend(4.5)

        frame = run(
            hub,
            logic,
            hz=1,
            overrun=policy,
            catch_up=3,
            on_overrun=lambda _frame, _obj, overrun: overruns.append(overrun),
        )
        hub.advance(7.5)
        statistics = frame.statistics()
    assert ticks == [(1, 0.0, 0), *expected]
    assert overruns == [Overrun(Tick(1, 1.0, 0.0, 0), 4.5, 1)]
    assert (statistics.ticks, statistics.skipped) == (1 + len(expected), skipped)
    assert statistics.overruns == 1
    assert statistics.late == len([late for _, late, _ in expected if late])
    assert (statistics.work.max, statistics.work.p50) == (4.5, 0.0)
    assert statistics.lateness.max == max(late for _, late, _ in expected)


# The messages of a tick, a closure or a countdown leave together at its end, in one send for
# each member.  Writes of other threads to a member do not wait for the tick.  (Under
# ``Overflow.LATEST`` nothing is held back: pushes leave together, each write alone.)


@pytest.mark.parametrize("where", ["tick", "closure", "countdown", "on_start", "on_close"])
def test_sends_of_one_callback_leave_together_at_its_end(where: str) -> None:
    """In the order of the calls, pushes and writes alike."""
    with VirtualHub(HubSetting[Any, Any](dict)) as hub:
        clients = [hub.connect() for _ in range(3)]
        sends = [Sends(client.ctx) for client in clients]
        hotline = hub.hotline()
        for client in clients:
            hotline.answer(client.ctx)

        def talk(frame: AnyFrame, _: Any) -> None:
            for client in clients:
                client.ctx.write("w1")
                client.ctx.write_json([2])
            frame.push("p1")
            hub.exec_sync(nothing)  # the others run
            assert [each.sizes for each in sends] == [[], [], []]
            for client in clients:
                client.ctx.write("w3")
            frame.push("p2")

        callbacks: dict[str, Any] = {where: talk} if where.startswith("on_") else {}
        option = HotlineFrameOption[Any](
            list, talk if where == "tick" else nothing, hz=1, **callbacks
        )
        frame = option.run(hotline)
        if where == "closure":
            frame.exec_async(talk)
        elif where == "countdown":
            frame.operation_timeout(0.5, talk)
        elif where == "on_close":
            frame.close()
        hub.advance(1)
        expected = ["w1", "[2]", "p1", "w3", "p2"]
        assert [client.messages() for client in clients] == [expected] * 3
        assert [len(each.sizes) for each in sends] == [1, 1, 1]
        assert hub.errors == []


def test_writes_of_other_threads_do_not_wait_for_the_tick() -> None:
    """Writes and replies leave at once, behind the earlier messages of the tick."""
    inside = Gate()

    def logic(frame: AnyFrame, _: Any) -> None:
        client.write("of the tick")
        inside()
        client.write("of the tick too")
        inside()

    def reply(ctx: Any, meta: Any) -> bool:
        ctx.write(f"re {ctx.payload}")
        return True

    with serving(on_receive_message=reply) as s:
        clock = by_hand(s.hub)
        peer, client = s.pair()
        run(s.hub, logic, hz=1)
        clock.rest()
        clock.advance(1)
        inside.reached()
        assert client.write("from elsewhere") == 2
        assert peer.messages(2) == ["of the tick", "from elsewhere"]
        peer.send("1", "2", "3")
        assert peer.messages(3) == ["re 1", "re 2", "re 3"]
        s.hub.broadcast("to all")
        assert peer.message() == "to all"
        sends = Sends(client)
        inside.open()
        inside.reached()
        # The reader's batch has ended without ending the tick's batch.
        assert (client.write_count, sends.sizes) == (7, [])
        inside.open()
        assert peer.message() == "of the tick too"


def test_under_latest_pushes_leave_together_and_writes_by_themselves() -> None:
    with VirtualHub(HubSetting[Any, Any](dict, overflow=Overflow.LATEST)) as hub:
        client = hub.connect()
        sends = Sends(client.ctx)

        def logic(frame: AnyFrame, _: Any) -> None:
            client.ctx.write("w1", key="k")
            client.ctx.write("w2", key="k")
            frame.push("p1", key="k")
            assert len(sends.sizes) == 2
            frame.push("p2", key="k")

        run(hub, logic, hz=1).answer(client.ctx)
        hub.advance(1)
        assert hub.errors == []
        assert client.messages() == ["w1", "w2", "p1", "p2"]
        assert len(sends.sizes) == 3


# A busy hub thread delays no tick and no push of a ticking room.


def test_busy_hub_thread_delays_no_tick_and_no_push() -> None:
    """Pushes, joins and leaves of other threads are not delayed either."""
    with serving() as s:
        clock = by_hand(s.hub)
        peer, client = s.pair()
        frame = run(s.hub, lambda frame, _: frame.push(str(frame.tick.index)), hz=1)
        frame.answer(client)
        clock.rest()
        gate = Gate()
        s.hub.exec_async(gate)
        gate.reached()
        for number in range(1, 6):
            clock.go(1)
            assert peer.message() == str(number)
        assert frame.push("from elsewhere") == 6
        assert peer.message() == "from elsewhere"
        frame.hangup(client)
        frame.push("unheard")
        frame.answer(client)
        frame.push("heard")
        assert peer.message() == "heard"
        assert frame.wait_push_consumed(8, TIMEOUT)
        gate.open()


# Everything accepted before the close runs.  Then ``on_close`` runs once on the room's thread,
# whatever ended the room.  ``on_close`` may use the hub.


@pytest.mark.usefixtures("tick_threads")
def test_everything_accepted_before_the_close_runs_and_nothing_after_it() -> None:
    """Closures run in order.  A closure submitted during the close runs or is refused."""
    for _ in range(20):
        notes = Noted()
        with Hub(HubSetting[Any, Any](dict)) as hub:
            frame = run(hub, on_close=notes.noting("close"))
            accepted: list[list[int]] = [[] for _ in range(5)]

            def act(
                who: int,
                frame: AnyFrame = frame,
                accepted: list[list[int]] = accepted,
                notes: Noted = notes,
            ) -> None:
                try:
                    for number in range(50):
                        if number == 20 and who == 3:
                            frame.close()
                        if number % 2:
                            frame.exec_async(notes.noting((who, number)))
                        else:
                            frame.exec_sync(notes.noting((who, number)))
                        accepted[who].append(number)
                except HotlineClosed:
                    pass

            together(5, act)
            assert frame.join(TIMEOUT)
            ran = notes.now()
            assert ran[-1] == "close"
            assert ran.count("close") == 1
            for who in range(5):
                assert [number for other, number in ran[:-1] if other == who] == accepted[who]
            assert len(accepted[3]) <= 20


def _raise(*_: object) -> None:
    raise ZeroDivisionError


def _close(hub: Any, frame: AnyFrame) -> None:
    frame.close()


ENDS: dict[str, tuple[dict[str, Any], Callable[[Any, AnyFrame], object]]] = {
    "close": ({}, _close),
    "close_if_empty": ({}, lambda hub, frame: frame.close_if_empty()),
    "hub.close": ({}, lambda hub, frame: hub.close()),
    "the hub's context": ({}, lambda hub, frame: hub.context.cancel()),
    "a context from outside": ({}, lambda hub, frame: hub.setting.context.cancel()),
    "on_start raises": ({"on_start": _raise}, nothing),
    "logic raises": ({"logic": _raise, "close_on_error": True}, nothing),
    "max_overruns": (
        {"logic": lambda frame, _: frame.hub.clock.spend(2), "max_overruns": 3},
        nothing,
    ),
    "from inside a tick": ({"logic": lambda frame, _: frame.close()}, nothing),
    "the hub's end from inside a tick": ({"logic": lambda frame, _: frame.hub.close()}, nothing),
    "from inside a closure": (
        {},
        lambda hub, frame: frame.exec_async(lambda frame, _: frame.close()),
    ),
    "from inside a countdown": (
        {},
        lambda hub, frame: frame.operation_timeout(0.5, lambda frame, _: frame.close()),
    ),
    "while it is paused": ({"on_start": lambda frame, _: frame.pause()}, _close),
}


@pytest.mark.parametrize("end", ENDS)
def test_on_close_runs_once_on_the_rooms_thread_whatever_ended_it(end: str) -> None:
    """``on_close`` is the last callback of the room."""
    fields, act = ENDS[end]
    notes: list[str] = []
    threads: set[int] = set()

    def on_close(frame: AnyFrame, obj: Any) -> None:
        threads.add(thread_id())
        notes.append("close")
        assert frame.is_closed
        frame.push("the last word")
        with pytest.raises(HotlineClosed):
            frame.exec_async(_raise)
        with pytest.raises(HotlineClosed):
            frame.operation_timeout(1, _raise)
        frame.close()

    def new_obj() -> Any:
        threads.add(thread_id())

    with VirtualHub(HubSetting[Any, Any](dict, context=Context())) as hub:
        fields = {"logic": nothing, **fields}
        frame = run(hub, new_obj=new_obj, hz=1, on_close=on_close, **fields)
        hub.settle()
        act(hub, frame)
        hub.advance(10)
        assert frame.join(0)
        assert notes == ["close"]
        assert len(threads | {thread_id()}) == 2
        with pytest.raises(HotlineClosed):
            frame.exec_sync(_raise)
        with pytest.raises(HotlineClosed):
            frame.push("late")
        assert frame.context.cancelled
        assert hub.statistics().hotlines == 0
        frame.resume()
        hub.settle()
        assert {type(error) for error in hub.errors} <= {ZeroDivisionError}
    assert notes == ["close"]


def test_on_close_may_use_the_hub_that_closes(tick_threads: str) -> None:
    """The hub's thread runs until every room has had its last callback."""
    notes = Noted()
    idents: set[int] = set()

    def on_close(frame: AnyFrame, _: Any) -> None:
        idents.add(threading.get_ident())
        notes.add(frame.hub.exec_sync(lambda _: "done"))

    with Hub(HubSetting[Any, Any](dict)) as hub:
        gate = Gate()
        for _ in range(5):
            run(hub, on_close=on_close).exec_async(gate)
            gate.reached()
        closing = in_thread(hub.close)
        assert hub.context.wait(TIMEOUT)
        gate.open(5)
        closing()
    assert notes.now() == ["done"] * 5
    assert len(idents) == 5 or tick_threads == "shared"
