"""A call inside a call on one thread: by a finaliser, a signal handler or a log handler.

Each public call is entered again at its n-th line, for every n.
The inner calls return, and everything goes on.
"""

from __future__ import annotations

import gc
import signal
from types import FrameType

import pytest

from tests.interrupts.interrupting import (
    CALLS,
    MOST,
    at_each,
    house,
    read_until,
    signal_at,
)
from tests.support import TIMEOUT

pytestmark = pytest.mark.interrupts


@pytest.mark.parametrize("outer", CALLS)
def test_call_entered_again_on_its_own_thread_returns(outer: str) -> None:
    """As by a finaliser, a signal handler or a log handler that uses the room."""
    with house() as h:

        def enter(frame: FrameType) -> None:
            for name in REENTRANT:
                CALLS[name].call(h)

        def call() -> object:
            return CALLS[outer].call(h)

        entered = at_each(call, enter)
        for number in range(MOST):
            with h.aiming(outer):
                if not entered(number):
                    break
            for ctx in (h.client, h.other):
                h.room.answer(ctx)
            h.check()
        else:
            pytest.fail(f"{outer} has no end")


REENTRANT = [
    "room.push",
    "room.statistics",
    "game.push",
    "game.exec_async",
    "game.statistics",
    "hub.broadcast",
    "hub.exec_async",
    "hub.statistics",
    "hub.clients",
    "udp.write",
    "client.exec_async",
    "client.statistics",
]
"""The calls that are promised to return at once, from any thread."""


@pytest.mark.parametrize("place", ["_admit", "_append", "post", "_flush_soon"])
def test_signal_handler_pushes_inside_a_push_both_arrive(place: str) -> None:
    with house() as h:
        h.at_rest()
        before = signal.signal(signal.SIGINT, lambda *_: h.room.push("inner"))
        try:
            with signal_at(place):
                h.room.push("outer")
        finally:
            signal.signal(signal.SIGINT, before)
        read_until(h.peer, {"inner", "outer"})
        h.check()


def test_finaliser_that_logs_to_a_room_blocks_no_thread() -> None:
    """An unclosed file in a cycle is warned of wherever the collector finds it."""

    class Node:
        def __init__(self) -> None:
            self.cycle = self

        def __del__(self) -> None:
            h.room.push("collected")

    with house() as h:
        threshold = gc.get_threshold()
        gc.set_threshold(1)
        try:
            for _ in range(300):
                Node()
                h.room.wait_push_consumed(h.room.push("pushed"), TIMEOUT)
        finally:
            gc.set_threshold(*threshold)
        gc.collect()  # a free-threaded collector has left most of them
        h.check()
