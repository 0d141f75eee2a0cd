"""G5: a client that stops reading delays nobody, costs bounded memory, and meets a policy."""

from __future__ import annotations

import threading
import tracemalloc
from typing import Any

import pytest
from websockets.sync.client import connect as websocket

from hubthread import HotlineOption, Overflow, PingPongPlan, WebsocketPeriod
from tests.support import (
    TIMEOUT,
    AnyClient,
    RawPeer,
    Serving,
    fence,
    in_thread,
    serving,
    together,
)

PUSHES = 2_000


PADDING = "." * 16_000


OUTBOX = 2**20


# On a loaded machine no client is cut for being slow: the policy alone decides.
PATIENT = WebsocketPeriod[Any](write_wait=120.0, close_timeout=60.0)


class Room:
    """A room with one member that does not read and three readers, pushed as fast as they read."""

    def __init__(self, s: Serving) -> None:
        self.hotline = s.hub.hotline(HotlineOption(name="under fire"))
        self.stalled, self.stalled_client = s.pair(receive_buffer=65536)
        self.readers = s.pairs(3)
        for client in (self.stalled_client, *(client for _, client in self.readers)):
            self.hotline.answer(client)
        self.most_waiting = 0

    def push_all(self) -> list[list[int]]:
        """Push everything; return the messages that each of the readers has got."""
        # No reader ever has more messages waiting than its outbox holds.
        ahead = [threading.Semaphore(OUTBOX // len(PADDING) // 2) for _ in self.readers]
        found: list[list[int]] = [[] for _ in self.readers]

        def read(who: int) -> None:
            for _ in range(PUSHES):
                found[who].append(number_of(self.readers[who][0].message()))
                ahead[who].release()

        reading = in_thread(lambda: together(len(self.readers), read))
        for number in range(PUSHES):
            for semaphore in ahead:
                assert semaphore.acquire(timeout=TIMEOUT)
            self.hotline.push(f"{number} {PADDING}", key="state")
            waiting = self.stalled_client.statistics().waiting_bytes
            self.most_waiting = max(self.most_waiting, waiting)
        reading()
        return found


def number_of(message: str | bytes) -> int:
    return int(message.split()[0])


def read_what_came(peer: RawPeer, client: AnyClient, hotline: Any) -> list[int]:
    """Close the client; return the numbers of all messages that it has got, in order."""
    hotline.hangup(client)
    fence(client.hub)
    client.close()
    found, code, _ = peer.rest()
    assert code == 1000
    return [number_of(message) for message in found]


@pytest.mark.load
@pytest.mark.parametrize("policy", list(Overflow))
def test_member_that_stops_reading_delays_nobody_and_meets_the_policy(policy: Overflow) -> None:
    """The others get everything in order.  What was dropped is counted."""
    with serving(overflow=policy, outbox_bytes=OUTBOX, period=PATIENT) as s:
        room = Room(s)
        found = room.push_all()
        assert found == [list(range(PUSHES))] * 3
        # A single message may go over the bound.
        assert room.most_waiting <= OUTBOX + 2 * len(PADDING)
        if policy is Overflow.CLOSE:
            got, code, reason = room.stalled.rest()
            assert (code, reason) == (1013, "The client reads too slowly; reconnect")
            room.stalled.send_close(1013)
            room.stalled.close()
            assert room.stalled_client.context.wait(TIMEOUT)
            in_order = [number_of(message) for message in got]
            assert in_order == list(range(len(got)))
            assert 0 < len(got) < PUSHES
            assert s.hub.statistics().ended_by == {"overflow": 1}
            assert s.hub.statistics().messages_dropped > 0
            assert room.hotline.members_num == 3
            return
        dropped = room.stalled_client.statistics().dropped
        in_order = read_what_came(room.stalled, room.stalled_client, room.hotline)
        room.stalled.close()
        assert in_order == sorted(set(in_order))
        assert len(in_order) + dropped == PUSHES
        assert dropped > 0
        if policy is not Overflow.DROP_NEWEST:
            assert in_order[-1] == PUSHES - 1
        if policy is Overflow.LATEST:
            # The messages in the system's buffers, one in transit, and the latest.
            assert room.most_waiting <= 3 * len(PADDING)
        if policy is Overflow.DROP_NEWEST:
            assert in_order == list(range(len(in_order)))


@pytest.mark.load
def test_member_that_stops_reading_costs_bounded_memory() -> None:
    """Thirty times what an outbox may hold is pushed."""
    with serving(overflow=Overflow.DROP_OLDEST, outbox_bytes=OUTBOX, period=PATIENT) as s:
        room = Room(s)
        tracemalloc.start()
        try:
            room.push_all()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        # The stalled outbox, those of the three readers, and what the readers have read.
        assert peak < 6 * OUTBOX
        assert s.hub.statistics().clients == 4


def test_handler_that_blocks_delays_its_own_client_only() -> None:
    inside, release = threading.Event(), threading.Event()

    def receive(ctx: Any, meta: Any) -> bool:
        if ctx.payload == "block":
            inside.set()
            release.wait(TIMEOUT)
        ctx.write(ctx.payload)
        return False

    with serving(on_receive_message=receive) as s:
        (slow, slow_client), (quick, quick_client) = s.pairs(2)
        hotline = s.hub.hotline()
        hotline.answer(slow_client)
        hotline.answer(quick_client)
        slow.send("block")
        assert inside.wait(TIMEOUT)
        for number in range(20):
            quick.send(str(number))
            assert quick.message() == str(number)
            hotline.push("to all")
            assert quick.message() == "to all"
            assert slow.message() == "to all"
        third, _ = s.pair()
        third.send("come in")
        assert third.message() == "come in"
        release.set()
        assert slow.message() == "block"


def test_client_that_takes_no_byte_is_cut_after_write_wait() -> None:
    period = WebsocketPeriod[Any](write_wait=0.1)
    with serving(outbox_bytes=2**26, period=period) as s:
        _, client = s.pair(receive_buffer=65536)
        for _ in range(32):
            number = client.write(b"\0" * 2**20)
        assert client.wait_write_consumed(number, TIMEOUT)
        assert client.context.wait(TIMEOUT)
        assert s.hub.statistics().ended_by == {"stalled": 1}


def test_client_that_answers_no_ping_is_cut_after_ping_timeout() -> None:
    """A client that answers stays."""
    pongs: list[bytes] = []
    answered = threading.Event()

    def pong(ctx: Any, meta: Any, payload: bytes) -> None:
        pongs.append(payload)
        if len(pongs) == 10:
            answered.set()

    plan = PingPongPlan[Any](ping_period=0.1, ping_timeout=2.0, pong_handler=pong)
    period = WebsocketPeriod[Any](ping_pong_plan=plan)
    with serving(period=period) as s, websocket(s.server.url) as alive:
        alive_client = s.came()
        _, silent_client = s.pair()
        assert silent_client.context.wait(TIMEOUT)
        assert s.hub.statistics().ended_by == {"silent": 1}
        assert answered.wait(TIMEOUT)
        alive.send("hello")
        assert not alive_client.context.cancelled
