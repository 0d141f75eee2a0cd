"""G10, few threads: one test for each clause of its text, in the order of the text."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from hubthread import Hub, HubSetting, PingPongPlan, Readers, WebsocketPeriod
from hubthread.concurrency import crew
from tests.rooms.ticking.hand_clock import Noted
from tests.rooms.ticking.rooms import AnyFrame, nothing, run
from tests.support import AnyHub, Gate, Items, Task, serving, tries

FEW = 10

# The number of threads is bounded by the callbacks that block at the moment, and a small constant.


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that is left behind ends after its step."""
    monkeypatch.setattr(crew, "LINGER", 0.0)


def end_spares(hub: AnyHub) -> None:
    """Wait until the threads that were left behind have ended."""
    for _ in tries():
        spares = [
            thread
            for thread in hub._core.threads.join(0)
            if (hand := crew._hands.get(thread.ident or 0)) and hand.crew._leader is not hand
        ]
        if not spares:
            return
        for thread in spares:
            thread.join(1.0)  # one that was called just now may lead from now on
    raise AssertionError("the spares do not end")


@pytest.mark.usefixtures("_impatient")
def test_thousand_quiet_rooms_need_fewer_than_ten_threads() -> None:
    ticked = Items[int]()

    def logic(frame: AnyFrame, _: Any) -> None:
        if frame.tick.index == frame.tick.skipped + 1:
            ticked.add(frame.hotline_id)

    with Hub(HubSetting[Any, Any](dict)) as hub:
        for _ in range(1000):
            run(hub, logic, hz=2)
        assert len(set(ticked.wait(1000))) == 1000
        end_spares(hub)
        assert hub.statistics().threads < FEW


OPEN = """
import resource, socket, sys
from tests.support import raw_handshake, status_of

count = int(sys.argv[2])
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, count + 100), hard))
socks = []
for _ in range(count):
    sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    sock.sendall(raw_handshake())
    socks.append(sock)
    if len(socks) % 50 == 0:
        for each in socks[-50:]:
            assert status_of(each.recv(1000)) == 101
print("open", flush=True)
sys.stdin.read()
"""
"""Opens quiet connections: in a process of its own, since a process has too few descriptors for
both ends."""


@pytest.mark.load
@pytest.mark.usefixtures("_impatient", "many_descriptors")
def test_thousands_of_quiet_connections_and_rooms_need_fewer_than_ten_threads() -> None:
    connections, rooms = 10_000, 1_000
    period = WebsocketPeriod[Any](ping_pong_plan=PingPongPlan(ping_period=None))
    with serving(
        readers=Readers.SHARED, period=period, serve={"max_connections": connections}
    ) as s:
        ticked = Items[int]()

        def logic(frame: AnyFrame, _: Any) -> None:
            if frame.tick.index == frame.tick.skipped + 1:
                ticked.add(frame.hotline_id)

        for _ in range(rooms):
            run(s.hub, logic, hz=1)
        with subprocess.Popen(
            [sys.executable, "-c", OPEN, str(s.server.address[1]), str(connections)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as clients:
            try:
                assert clients.stdout is not None
                assert clients.stdout.readline() == b"open\n"
                for _ in range(connections):
                    s.came()
                assert len(set(ticked.wait(rooms))) == rooms
                end_spares(s.hub)
                found = s.hub.statistics()
                assert found.clients == connections
                assert found.threads < FEW
            finally:
                clients.kill()


@pytest.mark.usefixtures("_impatient")
def test_threads_come_back_down_after_a_burst_of_blocking_callbacks() -> None:
    blocking = 30
    with Hub(HubSetting[Any, Any](dict)) as hub:
        gate = Gate()
        rooms = [run(hub) for _ in range(blocking)]
        for room in rooms:
            room.exec_async(gate)
        for _ in rooms:
            gate.reached()
        assert blocking <= hub.statistics().threads <= blocking + FEW
        gate.open(blocking)
        for room in rooms:
            room.exec_sync(nothing)
        end_spares(hub)
        assert hub.statistics().threads < FEW


def test_rooms_that_wait_for_each_other_in_a_chain_get_their_results() -> None:
    """Each needs a thread while it waits, and no thread more."""
    with Hub(HubSetting[Any, Any](dict)) as hub:
        rooms = [run(hub) for _ in range(50)]

        def ask(left: int) -> int:
            if not left:
                assert hub.statistics().threads <= len(rooms) + FEW
                return 0
            return 1 + rooms[left - 1].exec_sync(lambda *_: ask(left - 1))

        assert ask(len(rooms)) == len(rooms)


# A callback that blocks delays others once, whatever it does: it waits for a lock or a thread of
# the program, for the hub, a client or another room, or it computes.


def _lock(frame: AnyFrame, gate: Gate) -> None:
    gate()


def _compute(frame: AnyFrame, gate: Gate) -> None:
    opened = Task(gate)
    while opened.thread.is_alive():
        sum(range(100))


def _room(frame: AnyFrame, gate: Gate) -> None:
    run(frame.hub).exec_sync(gate)


def _hub(frame: AnyFrame, gate: Gate) -> None:
    frame.hub.exec_sync(gate)


@pytest.mark.parametrize("block", [_lock, _compute, _room, _hub])
@pytest.mark.parametrize("where", ["tick", "closure", "countdown", "on_start", "on_close"])
@pytest.mark.usefixtures("tick_threads")
def test_callback_that_blocks_holds_up_no_other_room(block: Any, where: str) -> None:
    gate, notes = Gate(), Noted()

    def work(frame: AnyFrame, _: Any) -> None:
        if not notes.now():
            notes.add(where)
            block(frame, gate)

    with Hub(HubSetting[Any, Any](dict)) as hub:
        fields: dict[str, Any] = {where: work} if where.startswith("on_") else {}
        blocked = run(hub, work if where == "tick" else nothing, hz=20, **fields)
        if where == "closure":
            blocked.exec_async(work)
        elif where == "countdown":
            blocked.operation_timeout(0.01, work)
        elif where == "on_close":
            blocked.close()
        gate.reached()
        ticks = Items[int]()
        other = run(hub, lambda frame, _: ticks.add(frame.tick.index), hz=100)
        ticks.wait(5)
        assert other.exec_sync(lambda *_: "served") == "served"
        gate.open()
