"""G6: absolute deadlines; overruns by a named policy; one send for each member at the end."""

from __future__ import annotations

import gc
import threading
import weakref
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
from tests.rooms.ticking.hand_clock import AnyFrame, Notes, by_hand, new_hub, still
from tests.support import (
    TIMEOUT,
    AnyClient,
    Gate,
    Items,
    Logs,
    fence,
    in_thread,
    serving,
    together,
)


def test_deadlines_are_absolute() -> None:
    """However late a tick begins, the next is due on the grid: no drift."""
    hub, clock, _ = new_hub()
    ticks: Items[Tick] = Items()
    with hub:
        HotlineFrameOption[Any](list, lambda frame, _: ticks.add(frame.tick), hz=1).run(
            hub.hotline()
        )
        clock.rest()
        for seconds in (1.25, 0.75, 0.5, 0.5, 1.75, 0.25):
            clock.go(seconds)
    assert ticks.now() == [
        Tick(1, 1.0, 0.25, 0),
        Tick(2, 1.0, 0.0, 0),
        Tick(3, 1.0, 0.0, 0),
        Tick(4, 1.0, 0.75, 0),
        Tick(5, 1.0, 0.0, 0),
    ]


def test_in_real_time_too_a_ticks_number_follows_from_the_time_alone() -> None:
    """Whatever the work and the system do to single ticks."""
    ticks: list[tuple[float, int, float]] = []
    enough = threading.Event()

    def logic(frame: AnyFrame, _: Any) -> None:
        began = monotonic()
        while monotonic() < began + 0.0007 * (len(ticks) % 5):
            pass
        ticks.append((began, frame.tick.index, monotonic()))
        if len(ticks) == 60:
            frame.close()
            enough.set()

    with Hub(HubSetting[Any, Any](dict)) as hub:
        frame = HotlineFrameOption[Any](list, logic, hz=500).run(hub.hotline())
        assert enough.wait(TIMEOUT)
        assert frame.join(TIMEOUT)
    # Each began at its deadline or later, and after the end of the one before it no later
    # one was due: there is one beginning of the grid that fits them all.
    latest = min(began - index / 500 for began, index, _ in ticks)
    earliest = max(end - (index + 1) / 500 for (_, _, end), (_, index, _) in pairwise(ticks))
    assert earliest < latest + 1e-6
    assert [index for _, index, _ in ticks] == sorted({index for _, index, _ in ticks})
    statistics = frame.statistics()
    assert statistics.ticks == len(ticks) == 60
    assert statistics.skipped == ticks[-1][1] - 60


@pytest.mark.parametrize(
    ("policy", "expected", "skipped"),
    [
        ("skip", [(5, 0.5, 3), (6, 0.0, 0), (7, 0.0, 0)], 3),
        ("burst", [(3, 2.5, 1), (4, 1.5, 0), (5, 0.5, 0), (6, 0.0, 0), (7, 0.0, 0)], 1),
        ("delay", [(2, 3.5, 0), (3, 0.0, 0), (4, 0.0, 0)], 0),
    ],
)
def test_what_an_overrun_costs_is_chosen_by_name(
    policy: Any, expected: list[tuple[int, float, int]], skipped: int
) -> None:
    """A tick that takes four and a half periods: exact numbers, and the grid after it."""
    hub, clock, _ = new_hub()
    ticks: Items[tuple[int, float, int]] = Items()
    overruns: Items[Overrun] = Items()
    gate = Gate()

    def logic(frame: AnyFrame, _: Any) -> None:
        tick = frame.tick
        ticks.add((tick.index, tick.late, tick.skipped))
        if tick.index == 1:
            gate()

    with hub:
        option = HotlineFrameOption[Any](
            list,
            logic,
            hz=1,
            overrun=policy,
            catch_up=3,
            on_overrun=lambda _frame, _obj, overrun: overruns.add(overrun),
        )
        frame = option.run(hub.hotline())
        clock.rest()
        clock.advance(1)
        gate.reached()
        clock.advance(4.5)
        gate.open()
        clock.rest()
        clock.go(0.5 if policy != "delay" else 1)
        clock.go(1)
        statistics = frame.statistics()
    assert ticks.now() == [(1, 0.0, 0), *expected]
    assert overruns.now() == [Overrun(Tick(1, 1.0, 0.0, 0), 4.5, 1)]
    assert (statistics.ticks, statistics.skipped) == (1 + len(expected), skipped)
    assert statistics.overruns == 1
    assert statistics.late == len([late for _, late, _ in expected if late])
    assert (statistics.work.max, statistics.work.p50) == (4.5, 0.0)
    assert statistics.lateness.max == max(late for _, late, _ in expected)


def test_a_busy_hub_thread_delays_no_tick_and_no_push() -> None:
    """Nor a push of another thread, nor who comes and goes."""
    with serving() as s:
        clock = by_hand(s.hub)
        peer, client = s.pair()
        frame = HotlineFrameOption[Any](
            list, lambda frame, _: frame.push(str(frame.tick.index)), hz=1
        ).run(s.hub.hotline())
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


class Sends:
    """Stands between an outbox and its socket, and counts."""

    def __init__(self, client: AnyClient) -> None:
        outbox: Any = client.ws_conn.outbox
        self._transport: Any = outbox._transport
        self.sizes: list[int] = []
        outbox._transport = self

    def send(self, data: bytes | memoryview) -> int:
        self.sizes.append(len(data))
        return int(self._transport.send(data))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


@pytest.mark.parametrize("where", ["tick", "closure", "countdown", "on_start", "on_close"])
def test_what_is_sent_leaves_together_at_the_end(where: str) -> None:
    """Writes and pushes of one tick, closure or countdown: one send for each member."""
    inside = Gate()

    def talk(frame: AnyFrame, _: Any) -> None:
        for client in members:
            client.write("w1")
            client.write_json([2])
        frame.push("p1")
        inside()
        for client in members:
            client.write("w3")
        frame.push("p2")

    with serving() as s:
        clock = by_hand(s.hub)
        pairs = s.pairs(3)
        members = [client for _, client in pairs]
        sends = [Sends(client) for client in members]
        hotline = s.hub.hotline()
        for client in members:
            hotline.answer(client)
        fence(s.hub)
        callbacks: dict[str, Any] = {where: talk} if where.startswith("on_") else {}
        option = HotlineFrameOption[Any](
            list, talk if where == "tick" else lambda *_: None, hz=1, **callbacks
        )
        frame = option.run(hotline)
        if where == "closure":
            frame.exec_async(talk)
        elif where == "countdown":
            frame.operation_timeout(0.5, talk)
        elif where == "on_close":
            frame.close()
        if where in ("tick", "countdown"):
            clock.rest()
            clock.advance(1)
        inside.reached()
        assert [each.sizes for each in sends] == [[], [], []]
        inside.open()
        for peer, _ in pairs:
            assert peer.messages(5) == ["w1", "[2]", "w3", "p1", "p2"]
        assert [len(each.sizes) for each in sends] == [1, 1, 1]


def test_what_others_write_to_a_member_is_not_held_up_by_a_long_tick() -> None:
    """It goes out at once, behind what the tick has written before it; so does a reply."""
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
        HotlineFrameOption[Any](list, logic, hz=1).run(s.hub.hotline())
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
        # The reader's batch has come to its end, and has not ended the tick's.
        assert (client.write_count, sends.sizes) == (7, [])
        inside.open()
        assert peer.message() == "of the tick too"


def test_a_member_of_two_rooms_gets_what_each_tick_sends_whole() -> None:
    """While one room's tick is at work, another's comes to its end."""
    with serving() as s:
        clock = by_hand(s.hub)
        peer, client = s.pair()
        gates = [Gate(), Gate()]

        def logic(frame: AnyFrame, number: int) -> None:
            for step in range(3):
                client.write(f"{number} {step}")
                frame.push(f"{number} push {step}")
            gates[number]()

        numbers = iter(range(2))
        option = HotlineFrameOption[int](lambda: next(numbers), logic, hz=1)
        for _ in range(2):
            option.run(s.hub.hotline()).answer(client)
        clock.rest()
        sends = Sends(client)
        clock.advance(1)
        for gate in gates:
            gate.reached()
        assert sends.sizes == []
        gates[1].open()
        first = [str(each) for each in peer.messages(9)]
        assert len(sends.sizes) == 1
        gates[0].open()
        second = [str(each) for each in peer.messages(3)]
        assert [each for each in first + second if each.startswith("0")] == [
            *[f"0 {step}" for step in range(3)],
            *[f"0 push {step}" for step in range(3)],
        ]
        assert [each for each in first if each.startswith("1")] == [
            *[f"1 {step}" for step in range(3)],
            *[f"1 push {step}" for step in range(3)],
        ]
        clock.rest()
        assert len(sends.sizes) == 2


def test_pushes_before_the_clock_do_not_tear_the_first_tick_apart() -> None:
    """The hub's own flush, when it comes at last, leaves the pushes of a tick to the tick."""
    with serving() as s:
        clock = by_hand(s.hub)
        peer, client = s.pair()
        hotline = s.hub.hotline()
        hotline.answer(client)
        busy, inside = Gate(), Gate()
        s.hub.exec_async(busy)
        busy.reached()
        hotline.push("before")

        def logic(frame: AnyFrame, _: Any) -> None:
            frame.push("1")
            inside()
            frame.push("2")

        HotlineFrameOption[Any](list, logic, hz=1).run(hotline)
        assert peer.message() == "before"  # nobody waits for the hub
        sends = Sends(client)
        clock.rest()
        clock.advance(1)
        inside.reached()
        busy.open()
        fence(s.hub)
        assert sends.sizes == []
        inside.open()
        assert peer.messages(2) == ["1", "2"]
        assert len(sends.sizes) == 1


def test_closures_that_wait_together_send_together_for_a_moment() -> None:
    """What they send is kept back for a millisecond, and not behind one that takes long."""
    with serving() as s:
        clock = by_hand(s.hub)
        peer, client = s.pair()
        frame = still(s.hub)
        frame.answer(client)
        sends = Sends(client)
        inside = Gate()
        frame.exec_async(inside)
        inside.reached()
        for number in range(3):
            frame.exec_async(lambda frame, _, number=number: frame.push(str(number)))  # type: ignore[misc]
            frame.exec_async(lambda *_: client.write("w"))
        frame.exec_async(lambda *_: clock.advance(0.01))
        frame.exec_async(inside)
        inside.open()
        inside.reached()
        assert peer.messages(6) == ["w", "w", "w", "0", "1", "2"]
        assert len(sends.sizes) == 1
        inside.open()


def test_where_outboxes_replace_what_waits_pushes_leave_together() -> None:
    """Nothing is kept back under that policy: each write goes out by itself."""
    inside = Gate()

    def logic(frame: AnyFrame, _: Any) -> None:
        client.write("w1", key="k")
        client.write("w2", key="k")
        frame.push("p1", key="k")
        inside()
        frame.push("p2", key="k")

    with serving(overflow=Overflow.LATEST) as s:
        clock = by_hand(s.hub)
        peer, client = s.pair()
        HotlineFrameOption[Any](list, logic, hz=1).run(s.hub.hotline()).answer(client)
        sends = Sends(client)
        clock.rest()
        clock.advance(1)
        inside.reached()
        assert peer.messages(2) == ["w1", "w2"]
        inside.open()
        assert peer.messages(2) == ["p1", "p2"]
        assert len(sends.sizes) == 3


def _raise(*_: object) -> None:
    raise ZeroDivisionError


def _wait_out(frame: AnyFrame, obj: Any) -> None:
    obj.advance(2)


def _close(hub: Any, frame: AnyFrame, clock: Any) -> None:
    frame.close()


ENDS: dict[str, tuple[dict[str, Any], Callable[[Any, AnyFrame, Any], object]]] = {
    "close": ({}, _close),
    "close_if_empty": ({}, lambda hub, frame, clock: frame.close_if_empty()),
    "hub.close": ({}, lambda hub, frame, clock: hub.close()),
    "the hub's context": ({}, lambda hub, frame, clock: hub.context.cancel()),
    "a context from outside": ({}, lambda hub, frame, clock: hub.setting.context.cancel()),
    "on_start raises": ({"on_start": _raise}, lambda hub, frame, clock: None),
    "logic raises": (
        {"logic": _raise, "close_on_error": True},
        lambda hub, frame, clock: clock.advance(1),
    ),
    "max_overruns": (
        {"logic": _wait_out, "max_overruns": 3},
        lambda hub, frame, clock: clock.advance(1),
    ),
    "from inside a tick": (
        {"logic": lambda frame, _: frame.close()},
        lambda hub, frame, clock: clock.advance(1),
    ),
    "the hub's end from inside a tick": (
        {"logic": lambda frame, _: frame.hub.close()},
        lambda hub, frame, clock: clock.advance(1),
    ),
    "from inside a closure": (
        {},
        lambda hub, frame, clock: frame.exec_async(lambda frame, _: frame.close()),
    ),
    "from inside a countdown": (
        {},
        lambda hub, frame, clock: (
            frame.operation_timeout(0.5, lambda frame, _: frame.close()),
            clock.advance(0.5),
        ),
    ),
    "while it is paused": ({"on_start": lambda frame, _: frame.pause()}, _close),
    "from everywhere": (
        {},
        lambda hub, frame, clock: together(
            4, lambda number: frame.hub.close() if number == 3 else frame.close()
        ),
    ),
}


@pytest.mark.parametrize("end", ENDS)
def test_on_close_runs_once_on_the_tick_thread_whatever_ended_it(end: str) -> None:
    """After everything else, and nothing after it."""
    fields, act = ENDS[end]
    hub, clock, _ = new_hub(context=Context())
    notes = Notes()
    threads: set[int] = set()

    def on_close(frame: AnyFrame, obj: Any) -> None:
        threads.add(threading.get_ident())
        notes.add("close")
        assert frame.is_closed
        frame.push("the last word")
        with pytest.raises(HotlineClosed):
            frame.exec_async(_raise)
        with pytest.raises(HotlineClosed):
            frame.operation_timeout(1, _raise)
        frame.close()

    def new_obj() -> Any:
        threads.add(threading.get_ident())
        return clock

    with hub:
        fields = {"logic": lambda *_: None, **fields}
        frame = HotlineFrameOption[Any](new_obj, hz=1, on_close=on_close, **fields).run(
            hub.hotline()
        )
        clock.rest()
        act(hub, frame, clock)
        assert frame.join(TIMEOUT)
        assert notes.now() == ["close"]
        assert len(threads) == 1
        assert threading.get_ident() not in threads
        with pytest.raises(HotlineClosed):
            frame.exec_sync(_raise)
        with pytest.raises(HotlineClosed):
            frame.push("late")
        assert frame.context.cancelled
        assert hub.statistics().hotlines == 0
        clock.advance(10)
        frame.resume()
    assert notes.now() == ["close"]


def test_everything_accepted_before_the_close_runs_and_nothing_after_it() -> None:
    """Closures in order, then on_close; who comes in between is refused or runs."""
    for _ in range(20):
        hub, _, _ = new_hub()
        notes = Notes()
        with hub:
            frame = still(hub, new_obj=lambda: None, on_close=notes.noting("close"))
            accepted: list[list[int]] = [[] for _ in range(4)]

            def act(
                who: int,
                frame: AnyFrame = frame,
                accepted: list[list[int]] = accepted,
                notes: Notes = notes,
            ) -> None:
                try:
                    for number in range(50):
                        if who == 3 and number == 20:
                            frame.close()
                        if number % 2:
                            frame.exec_async(notes.noting((who, number)))
                            accepted[who].append(number)
                        else:
                            frame.exec_sync(notes.noting((who, number)))
                            accepted[who].append(number)
                except HotlineClosed:
                    pass

            together(4, act)
            assert frame.join(TIMEOUT)
            ran = notes.now()
            assert ran[-1] == "close"
            assert ran.count("close") == 1
            for who in range(4):
                assert [number for other, number in ran[:-1] if other == who] == accepted[who]
            assert len(accepted[3]) == 20


@pytest.mark.usefixtures("hasty_threads")
def test_each_member_gets_its_stretch_while_the_clock_is_being_attached() -> None:
    """G4 holds for a room before, while and after it is given a clock."""
    for _ in range(15):
        with serving() as s:
            clock = by_hand(s.hub)
            pairs = s.pairs(4)
            hotline = s.hub.hotline()
            frames: list[AnyFrame] = []
            stretches: dict[int, tuple[int, int, int, int]] = {}
            pushed: dict[int, str] = {}
            lock = threading.Lock()

            def push(
                text: str,
                hotline: Any = hotline,
                pushed: dict[int, str] = pushed,
                lock: threading.Lock = lock,
            ) -> int:
                number: int = hotline.push(text)
                with lock:
                    pushed[number] = text
                return number

            def act(
                who: int,
                s: Any = s,
                hotline: Any = hotline,
                pairs: Any = pairs,
                frames: list[AnyFrame] = frames,
                stretches: dict[int, tuple[int, int, int, int]] = stretches,
                push: Callable[[str], int] = push,
            ) -> None:
                if who == 4:
                    option = HotlineFrameOption[Any](
                        list, lambda frame, _: push(f"tick {frame.tick.index}"), hz=1
                    )
                    frames.append(option.run(hotline))
                elif who == 5:
                    for number in range(60):
                        push(f"elsewhere {number}")
                        if number % 10 == 0:
                            clock.advance(1)  # noqa: B023
                else:
                    client = pairs[who][1]
                    before = hotline.push_count
                    hotline.answer(client)
                    first = push(f"{who} first")
                    for number in range(8):
                        push(f"{who} {number}")
                    last = push(f"{who} last")
                    hotline.hangup(client)
                    stretches[who] = (before, first, last, hotline.push_count)

            together(6, act)
            clock.rest()
            assert frames[0].wait_push_consumed(hotline.push_count, TIMEOUT)
            order = [pushed[number] for number in sorted(pushed)]
            for who, (peer, client) in enumerate(pairs):
                before, first, last, after = stretches[who]
                client.close()
                found, code, _ = peer.rest()
                assert code == 1000
                place = order.index(str(found[0]))
                assert found == order[place : place + len(found)]
                # The push of number n stands at place n - 1.
                assert before <= place <= first - 1
                assert last - 1 <= place + len(found) - 1 <= after - 1
            assert hotline.members == []


def test_nothing_of_a_closed_room_is_kept() -> None:
    """Its thread, its members and its object, when nobody holds the room itself."""

    class State:
        pass

    hub, clock, _ = new_hub()
    with hub:
        threads = hub.statistics().threads

        def run() -> list[weakref.ref[Any]]:
            frame = HotlineFrameOption[State](State, lambda *_: None, hz=1).run(hub.hotline())
            clock.go(1)
            frame.operation_timeout(5, lambda *_: None)
            state = frame.exec_sync(lambda _, state: weakref.ref(state))
            frame.close()
            assert frame.join(TIMEOUT)
            return [weakref.ref(frame), state]

        kept = [each for _ in range(5) for each in run()]
        clock.rest()
        with clock.changed:
            assert clock.changed.wait_for(lambda: not clock.drives, TIMEOUT)
        for thread in threading.enumerate():
            if "-frame-" in thread.name:
                thread.join(TIMEOUT)
        gc.collect()
        assert [each() for each in kept] == [None] * 10
        assert hub.statistics().threads == threads
        assert hub.statistics().hotlines == 0


def test_a_hub_closes_in_time_although_a_room_does_not_end() -> None:
    """It is told of, with its stack, and ends when it can."""
    gate = Gate()
    logs = Logs()
    hub = Hub(HubSetting[Any, Any](dict, logger=logs))
    notes = Notes()
    with hub:
        frame = still(hub, on_close=notes.noting("close"))
        frame.exec_async(gate)
        gate.reached()
        hub.close(0.5)
        over = frame.join(0)
        gate.open()
    assert not over
    (told,) = [each for each in logs.warnings() if "-frame-1 still runs" in each]
    assert "self._open.acquire" in told
    assert frame.join(TIMEOUT)
    assert notes.now() == ["close"]


def test_the_last_callback_may_use_the_hub_that_closes() -> None:
    """The hub's thread runs until every room has had it."""
    hub = Hub(HubSetting[Any, Any](dict))
    notes = Notes()
    with hub:
        gate = Gate()
        for _ in range(5):
            still(
                hub,
                on_close=lambda frame, _: notes.add(frame.hub.exec_sync(lambda _: "done")),
            ).exec_async(gate)
            gate.reached()
        closing = in_thread(hub.close)
        assert hub.context.wait(TIMEOUT)
        gate.open(5)
        closing()
    assert notes.now() == ["done"] * 5


def test_a_push_is_never_forgotten() -> None:
    """Many pushes from many threads, each waited for: none is left behind a look too early."""
    with serving() as s:
        peer, client = s.pair()
        frame = HotlineFrameOption[Any](list, lambda *_: None, hz=300).run(s.hub.hotline())
        frame.answer(client)

        def act(who: int) -> None:
            for number in range(100):
                pushed = frame.push(f"{who} {number}")
                assert frame.wait_push_consumed(pushed, TIMEOUT)

        acting = in_thread(lambda: together(3, act))
        found = [str(each) for each in peer.messages(300)]
        acting()
        for who in range(3):
            mine = [each for each in found if each.startswith(f"{who} ")]
            assert mine == [f"{who} {number}" for number in range(100)]
