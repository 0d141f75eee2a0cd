"""G3: writes of one thread arrive in order, of several each whole, and none waits for the peer."""

from __future__ import annotations

import json
import threading
from itertools import chain
from typing import Any

import pytest
from websockets.sync.client import connect as websocket

from tests.support import TIMEOUT, in_thread, serving, together


def test_write_of_one_thread_arrives_in_order() -> None:
    """Small and large messages, written faster than they are read."""
    texts = [str(number) * (100_000 if number % 2 == 0 else 1) for number in range(200)]
    with serving(outbox_bytes=64 * 2**20) as s:
        peer, client = s.pair(receive_buffer=65536)
        assert [client.write(text) for text in texts] == list(range(1, 201))
        assert not client.is_write_consumed(200)
        assert peer.messages(200) == texts
        assert client.wait_write_consumed(200, TIMEOUT)


@pytest.mark.parametrize("receive_buffer", [65536, None])
def test_write_of_several_threads_arrives_whole_and_in_order_of_each(
    receive_buffer: int | None,
) -> None:
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


def test_write_to_a_peer_that_does_not_read_returns_at_once() -> None:
    """The messages count as consumed when the peer has read them."""
    with serving(outbox_bytes=64 * 2**20) as s:
        peer, client = s.pair(receive_buffer=65536)
        numbers = [client.write(b"\0" * 2**20) for _ in range(16)]
        assert numbers == list(range(1, 17))
        assert not client.is_write_consumed(16)
        assert client.wait_write_consumed(16, 0.001) is False
        assert [len(message) for message in peer.messages(16)] == [2**20] * 16
        assert client.wait_write_consumed(16, TIMEOUT)


def test_replies_keep_the_order_of_their_messages() -> None:

    def echo(ctx: Any, meta: Any) -> bool:
        ctx.write(ctx.payload)
        return False

    with serving(on_receive_message=echo) as s, websocket(s.server.url) as peer:
        for number in range(200):
            peer.send(str(number))
        assert [peer.recv(TIMEOUT) for _ in range(200)] == [str(number) for number in range(200)]


def test_reply_does_not_wait_for_the_handler_of_a_later_message() -> None:
    """The messages come together."""
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
