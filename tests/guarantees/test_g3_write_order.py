"""G3: writes of one thread arrive in order, of several each whole, and none waits for the peer."""

from __future__ import annotations

import json
import threading
from itertools import chain
from typing import Any

import pytest
from websockets.sync.client import connect as websocket

from hubthread import WebsocketPeriod
from tests.support import PING, TIMEOUT, in_thread, masked_frame, serving, together


def test_writes_of_one_thread_arrive_in_order() -> None:
    """Small and large messages, faster than they are read: each one, in the order written."""
    texts = [str(number) * (100_000 if number % 2 == 0 else 1) for number in range(200)]
    with serving(outbox_bytes=64 * 2**20) as s:
        peer, client = s.pair(receive_buffer=65536)
        assert [client.write(text) for text in texts] == list(range(1, 201))
        assert not client.is_write_consumed(200)
        assert peer.messages(200) == texts
        assert client.wait_write_consumed(200, TIMEOUT)


@pytest.mark.parametrize("receive_buffer", [65536, None])
def test_writes_of_several_threads_arrive_each_whole(receive_buffer: int | None) -> None:
    """Nothing is torn, lost or doubled, and of each thread the order is kept."""
    with serving(outbox_bytes=64 * 2**20) as s:
        peer, client = s.pair(receive_buffer=receive_buffer)
        numbers: dict[int, list[int]] = {}

        def write(who: int) -> None:
            numbers[who] = [
                client.write(json.dumps([who, step, "x" * (step * 97 % 3000)]))
                for step in range(200)
            ]

        writing = in_thread(lambda: together(5, write))
        found = [json.loads(message) for message in peer.messages(1000)]
        writing()
    for who, of_thread in numbers.items():
        assert [step for by, step, _ in found if by == who] == list(range(200))
        assert all(len(text) == step * 97 % 3000 for _, step, text in found)
        assert of_thread == sorted(of_thread)
    assert sorted(chain.from_iterable(numbers.values())) == list(range(1, 1001))


def test_a_write_never_waits_for_the_peer() -> None:
    """To one who does not read, megabytes are taken at once, and consumed when it reads."""
    with serving(outbox_bytes=64 * 2**20) as s:
        peer, client = s.pair(receive_buffer=65536)
        numbers = [client.write(b"\0" * 2**20) for _ in range(16)]
        assert numbers == list(range(1, 17))
        assert not client.is_write_consumed(16)
        assert client.wait_write_consumed(16, 0.001) is False
        assert [len(message) for message in peer.messages(16)] == [2**20] * 16
        assert client.wait_write_consumed(16, TIMEOUT)


def test_a_producer_keeps_pace_with_one_client() -> None:
    """By waiting for its writes, it sends a hundred times what the outbox may hold."""
    with serving(outbox_bytes=64 * 1024) as s:
        peer, client = s.pair()

        def produce() -> None:
            for number in range(100):
                written = client.write(b"%05d" % number * 12_000)
                assert client.wait_write_consumed(written, TIMEOUT)

        producing = in_thread(produce)
        for number in range(100):
            message = peer.message()
            assert message[:5] == b"%05d" % number
        producing()
        assert client.statistics().dropped == 0


def test_waiting_writes_are_released_when_the_client_is_gone() -> None:
    """Nothing waits for ever for a peer that has left with messages waiting for it."""
    with serving() as s:
        peer, client = s.pair(receive_buffer=65536)
        number = [client.write(b"\0" * 2**20) for _ in range(4)][-1]
        waiting = in_thread(lambda: client.wait_write_consumed(number, TIMEOUT))
        peer.reset()
        assert waiting()
        assert client.write("late") == number + 1
        assert client.is_write_consumed(number + 1)


def test_replies_keep_the_order_of_their_messages() -> None:
    """A handler's writes arrive in the order in which its messages came."""

    def echo(ctx: Any, meta: Any) -> bool:
        ctx.write(ctx.payload)
        return False

    with serving(on_receive_message=echo) as s, websocket(s.server.url) as peer:
        for number in range(200):
            peer.send(str(number))
        assert [peer.recv(TIMEOUT) for _ in range(200)] == [str(number) for number in range(200)]


def test_a_peer_that_never_reads_blocks_neither_send_nor_keepalive() -> None:
    """Where a library blocked in both: here writes return, and the peer's pings do not hang.

    The peer floods pings and reads nothing, so its pongs fill every buffer; messages are
    still handled, writes still return, and the connection can still be closed.
    """
    got = threading.Event()

    def receive(ctx: Any, meta: Any) -> bool:
        got.set()
        return False

    with serving(on_receive_message=receive, period=WebsocketPeriod(close_timeout=0.2)) as s:
        peer, client = s.pair(receive_buffer=65536)
        client.write(b"\0" * 2**20)
        peer.sock.sendall(masked_frame(b"p" * 125, PING) * 20_000 + masked_frame("still here"))
        assert got.wait(TIMEOUT)
        assert client.write("more") == 2
        # Of all those pongs only the last one waits, so memory does not grow with them.
        assert client.statistics().waiting_bytes < 2**20 + 10_000
        client.close()


def test_a_reply_does_not_wait_for_the_handler_of_a_later_message() -> None:
    """Messages that came together are answered one by one when a handler blocks."""
    blocked = threading.Event()

    def receive(ctx: Any, meta: Any) -> bool:
        if ctx.payload == "block":
            assert blocked.wait(TIMEOUT)
        ctx.write(ctx.payload)
        return False

    with serving(on_receive_message=receive) as s:
        for _ in range(20):
            peer = s.peer()
            peer.send("a", "b", "block", "c")  # in one segment
            assert peer.messages(2) == ["a", "b"]
            blocked.set()
            assert peer.messages(2) == ["block", "c"]
            blocked.clear()
