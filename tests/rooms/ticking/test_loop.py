"""The tick loop: closures, waits from other threads, and joined sends."""

from __future__ import annotations

from typing import Any

import pytest

from hubthread import (
    DeadlockError,
    HotlineClosed,
    HotlineFrameOption,
    Hub,
    HubSetting,
    QueueFull,
    UsageError,
    WrongThread,
)
from hubthread.testing import VirtualHub
from tests.rooms.ticking.hand_clock import HandDrive, Noted, by_hand, new_hub
from tests.rooms.ticking.rooms import (
    AnyFrame,
    AnyVirtualHub,
    Sends,
    nothing,
    noting,
    raised,
    run,
)
from tests.support import TIMEOUT, Gate, Logs, fence, in_thread, serving, together

# Closures.


def test_exec_sync_returns_the_result_or_raises_the_error(hub: AnyVirtualHub) -> None:
    """The error may be a KeyboardInterrupt.  Errors of ``exec_async`` closures are logged."""
    frame = run(hub)
    assert frame.exec_sync(lambda given, _: given is frame)
    frame.exec_async(lambda _, obj: obj.append(1))
    assert frame.exec_sync(lambda _, obj: obj) == [1]
    for error in (LookupError("x"), KeyboardInterrupt()):

        def fail(_frame: Any, _obj: Any, error: BaseException = error) -> None:
            raise error

        with pytest.raises(type(error)):
            frame.exec_sync(fail)
        assert raised(hub) == []
        frame.exec_async(fail)
        hub.settle()
        assert raised(hub) == [type(error)]


@pytest.mark.parametrize("fields", [{"control_size": 3}, {}])
def test_closures_beyond_the_bound_are_refused(fields: dict[str, Any]) -> None:
    """The bound is ``control_size`` or ``chan_queue_size``.  Accepted closures run in order."""
    notes: list[Any] = []
    with VirtualHub(HubSetting[Any, Any](dict, chan_queue_size=3)) as hub:
        frame = run(hub, **fields)
        countdown = frame.operation_timeout(1, nothing)
        for number in range(3):
            frame.exec_async(noting(notes, number))
        assert frame.statistics().closures_waiting == 3
        calls: list[Any] = [frame.exec_async, frame.exec_sync, countdown.operation]
        for call in calls:
            with pytest.raises(QueueFull, match="3 closures are waiting, the bound of control"):
                call(nothing)
        hub.settle()
        assert notes == [0, 1, 2]
        assert frame.statistics().closures_waiting == 0


def test_closure_that_submits_itself_for_ever_is_reported_in_virtual_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A round takes no more closures than waited at its beginning."""
    monkeypatch.setattr("hubthread.testing.clock.MOST_AT_ONCE", 1_000)

    def again(frame: AnyFrame, _: Any) -> None:
        frame.exec_async(again)

    with VirtualHub(HubSetting[Any, Any](dict)) as hub:
        frame = run(hub)
        frame.exec_async(again)
        with pytest.raises(UsageError, match="wakes itself again and again"):
            hub.settle()
        frame.close()


class Finaliser:
    """A countdown that acts when its ``due`` is looked at, as a finaliser may at any moment."""

    def __init__(self, act: Any, times: int) -> None:
        self.act = act
        self.times = times

    @property
    def due(self) -> float:
        self.times -= 1
        if self.times >= 0:
            self.act()
        return 60.0

    def begin(self, now: float) -> None: ...

    def is_over(self, now: float) -> bool:
        return True

    def fire(self, now: float) -> None: ...

    def closed(self) -> None: ...

    def left(self, member: Any) -> None: ...


def test_calls_of_a_finaliser_while_the_agenda_answers_are_not_lost(hub: AnyVirtualHub) -> None:
    """It runs on the tick thread itself."""
    client = hub.connect()
    notes: list[Any] = []
    frame = run(hub)
    frame.answer(client.ctx)
    hub.settle()

    def act() -> None:
        frame.exec_async(noting(notes, "closure"))
        frame.operation_timeout(1, noting(notes, "time-out"))
        frame.push("push")

    finaliser: Any = Finaliser(act, 2)
    frame._loop.add(finaliser)
    hub.settle()
    assert (notes, client.messages()) == (["closure"] * 2, ["push"] * 2)
    hub.advance(1)
    assert notes == ["closure"] * 2 + ["time-out"] * 2


# Waits.


def test_waits_for_the_room_are_refused_in_its_callbacks(hub: AnyVirtualHub) -> None:
    """The callbacks are ticks, closures, countdowns, operations, ``on_start`` and ``on_close``."""
    refused: list[int] = []

    def try_it(frame: AnyFrame, *_: Any) -> None:
        with pytest.raises(WrongThread, match="would wait for itself"):
            frame.exec_sync(nothing)
        with pytest.raises(WrongThread, match="would wait for itself"):
            frame.join()
        refused.append(frame.tick.index)

    frame = run(hub, try_it, hz=1, on_start=try_it, on_close=try_it, on_overrun=try_it)
    hub.settle()
    frame.exec_async(try_it)
    frame.exec_sync(try_it)
    frame.operation_timeout(0.5, try_it)
    frame.operation_timeout(5, try_it).operation(lambda each, obj: try_it(each.frame, obj))
    hub.advance(1)
    frame.close()
    assert frame.join(0)
    assert refused == [0, 0, 0, 0, 0, 1, 1]


def test_waits_for_the_end_of_a_tick_are_refused_in_it(hub: AnyVirtualHub) -> None:
    client = hub.connect()
    frame = run(hub)
    frame.answer(client.ctx)

    def work(frame: AnyFrame, _: Any) -> None:
        with pytest.raises(WrongThread, match="end of this tick"):
            client.ctx.wait_write_consumed(client.ctx.write("w"))
        with pytest.raises(WrongThread, match="end of this tick"):
            frame.wait_push_consumed(frame.push("p"))

    frame.exec_sync(work)
    assert client.messages() == ["w", "p"]
    assert frame.wait_push_consumed(1, 0)


@pytest.mark.usefixtures("tick_threads")
def test_circles_of_waits_are_refused() -> None:
    """A room, the hub, a client, another room: the wait that closes the circle raises."""
    with serving() as s:
        _, client = s.pair()

        def through(*steps: Any) -> Any:
            """Wait for each executor in turn; the last waits for the first again."""
            first, *rest = steps
            return first(lambda *_: through(*rest)) if rest else first(lambda *_: None)

        waits: list[Any] = [
            run(s.hub).exec_sync,
            run(s.hub).exec_sync,
            s.hub.exec_sync,
            client.exec_sync,
        ]
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


@pytest.mark.usefixtures("tick_threads")
def test_hub_close_times_out_on_a_room_that_does_not_end() -> None:
    """The log has the room's stack; the room ends when it can."""
    gate, logs, notes = Gate(), Logs(), Noted()
    with Hub(HubSetting[Any, Any](dict, logger=logs)) as hub:
        frame = run(hub, on_close=notes.noting("close"))
        frame.exec_async(gate)
        gate.reached()
        hub.close(0.5)
        logs.wait("-frame-1 still runs")  # on a busy machine close returns before it is logged
        over = frame.join(0)
        gate.open()
    assert not over
    (told,) = [each for each in logs.warnings() if "-frame-1 still runs" in each]
    assert "self._open.acquire" in told
    assert frame.join(TIMEOUT)
    assert notes.now() == ["close"]


@pytest.mark.usefixtures("tick_threads")
def test_bug_in_the_loop_ends_every_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Callers, gates and countdowns are told, and the room is closed."""
    logs = Logs()
    with Hub(HubSetting[Any, Any](dict, logger=logs)) as hub:
        gate = Gate()
        frame = run(hub)
        frame.exec_async(gate)
        gate.reached()
        countdown = frame.operation_timeout(60, nothing)
        called = in_thread(lambda: frame.exec_sync(nothing))
        inputs = frame.await_inputs([], 60, None)

        def fail(*_: object) -> None:
            raise AssertionError("a bug")

        monkeypatch.setattr(frame._loop.agenda, "take", fail)
        gate.open()
        with pytest.raises(HotlineClosed, match="stopped by a bug"):
            called()
        assert frame.join(TIMEOUT)
        assert countdown.outcome == "closed"
        assert frame.context.reason == "its clock was stopped by a bug"
        assert inputs.done() is False
        monkeypatch.undo()
    assert any("a bug" in each for each in logs.warnings())


# Joined sends.


def test_sends_of_two_rooms_to_one_member_leave_whole(hub: AnyVirtualHub) -> None:
    """The closure of one room ends during the tick of the other."""
    client = hub.connect()
    sends = Sends(client.ctx)

    def talk(frame: AnyFrame, name: str) -> None:
        for step in range(3):
            client.ctx.write(f"{name} {step}")
            frame.push(f"{name} push {step}")

    def talk_around(frame: AnyFrame, name: str) -> None:
        talk(frame, name)
        inner.exec_sync(talk)
        assert len(sends.sizes) == 1

    inner = run(hub, new_obj=lambda: "inner")
    outer = run(hub, talk_around, new_obj=lambda: "outer", hz=1)
    for room in (inner, outer):
        room.answer(client.ctx)
    hub.advance(1)
    assert len(sends.sizes) == 2
    found = [str(each) for each in client.messages()]
    for name in ("inner", "outer"):
        assert [each for each in found if each.startswith(name)] == [
            f"{name} {kind}{step}" for step in range(3) for kind in ("", "push ")
        ]


def test_pushes_before_the_clock_do_not_tear_the_first_tick_apart() -> None:
    """A late flush of the hub thread leaves the pushes of a tick to the tick."""
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
        assert peer.message() == "before"  # the hub's thread is not waited for
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


def test_quick_closures_that_wait_together_send_together(hub: AnyVirtualHub) -> None:
    """They wait a millisecond at most, and not for a closure that takes long."""
    client = hub.connect()
    frame = run(hub)
    frame.answer(client.ctx)
    hub.settle()
    sends = Sends(client.ctx)
    notes: list[Any] = []
    for number in range(3):
        frame.exec_async(lambda frame, _, number=number: frame.push(str(number)))  # type: ignore[misc]
        frame.exec_async(lambda *_: client.ctx.write("w"))
    frame.exec_async(lambda *_: notes.append(len(sends.sizes)))
    frame.exec_async(lambda *_: hub.clock.spend(0.01))
    frame.exec_async(lambda *_: notes.append(len(sends.sizes)))
    hub.settle()
    assert notes == [0, 1]
    assert client.messages() == ["0", "w", "1", "w", "2", "w"]
    assert len(sends.sizes) == 1


def test_clients_that_go_during_a_closure_lose_what_is_kept_back(hub: AnyVirtualHub) -> None:
    """A client that closes gets what was sent before; the others get all."""
    clients = [hub.connect() for _ in range(3)]

    def work(frame: AnyFrame, _: Any) -> None:
        for number in range(3):
            for client in clients:
                client.ctx.write(f"w{number}")
            frame.push(f"p{number}")
            if not number:
                clients[0].drop()
                clients[1].ctx.close(1000, "enough")
                hub.exec_sync(nothing)  # the others run

    frame = run(hub)
    for client in clients:
        frame.answer(client.ctx)
    frame.exec_async(work)
    hub.settle()
    assert clients[0].messages() == []
    assert (clients[1].messages(), clients[1].close_reason) == (["w0", "p0"], "enough")
    assert clients[2].messages() == ["w0", "p0", "w1", "p1", "w2", "p2"]
    assert frame.members == [clients[2].ctx]


@pytest.mark.usefixtures("hasty_threads", "tick_threads")
def test_pushes_from_many_threads_are_all_flushed() -> None:
    """Each push is waited for, and the loop misses none."""
    with serving() as s:
        peer, client = s.pair()
        frame = run(s.hub, nothing, hz=300)
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


def test_first_tick_is_late_by_the_phase_of_a_shared_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By a share of 50 ms, and the grid stands there."""
    monkeypatch.setattr(HandDrive, "phase", 0.5)
    hub, clock, _ = new_hub()
    with hub:
        notes = Noted()
        run(hub, notes.ticking, hz=1)
        clock.rest()
        clock.go(1.0)
        assert notes.now() == []
        clock.go(0.025)
        assert notes.now() == [1]
        clock.go(0.999)
        assert notes.now() == [1]
        clock.go(0.001)
        assert notes.now() == [1, 2]
