"""The queue of work: each accepted entry is taken exactly once, in order."""

from __future__ import annotations

import threading
from collections import deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from hubthread.concurrency.mailbox import Mailbox
from hubthread.errors import HubClosed, QueueFull
from tests.support import TIMEOUT, in_thread
from tests.support.examples import examples


class AnyOrder(RuleBasedStateMachine):
    """A mailbox in one thread, against a list."""

    @initialize(bound=st.integers(1, 5))
    def begin(self, bound: int) -> None:
        self.mailbox: Mailbox[int] = Mailbox(bound, "box")
        self.bound = bound
        self.waiting: list[int] = []
        self.closed = False
        self.posted = 0

    @rule(essential=st.booleans())
    def post(self, essential: bool) -> None:
        self.posted += 1
        if self.closed:
            with pytest.raises(HubClosed, match="box"):
                self.mailbox.post(self.posted, essential=essential)
        elif len(self.waiting) >= self.bound and not essential:
            with pytest.raises(QueueFull, match="chan_queue_size"):
                self.mailbox.post(self.posted)
        else:
            self.mailbox.post(self.posted, essential=essential)
            self.waiting.append(self.posted)

    @rule()
    def take(self) -> None:
        assert list(self.mailbox.take(timeout=0)) == self.waiting
        self.waiting = []

    @rule()
    def close(self) -> None:
        self.mailbox.close()
        self.closed = True

    @invariant()
    def depth(self) -> None:
        assert self.mailbox.depth() == len(self.waiting)


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=examples(30))  # of 50 steps each


def test_mailbox_take_waits_for_each_post() -> None:
    mailbox: Mailbox[int] = Mailbox(1, "box")
    seen: deque[int] = deque()
    room = threading.Semaphore(1)

    def taker() -> None:
        while taken := mailbox.take():
            seen.extend(taken)
            room.release()

    done = in_thread(taker)
    for number in range(500):
        assert room.acquire(timeout=TIMEOUT)
        mailbox.post(number)
    assert room.acquire(timeout=TIMEOUT)
    mailbox.close()
    done()
    assert list(seen) == list(range(500))


def test_mailbox_take_timeout_returns_nothing() -> None:
    """A later entry is taken."""
    mailbox: Mailbox[int] = Mailbox(1, "box")
    assert not mailbox.take(timeout=0.001)
    mailbox.post(1)
    assert list(mailbox.take()) == [1]


def test_mailbox_close_ends_a_waiting_take() -> None:
    mailbox: Mailbox[int] = Mailbox(1, "box")
    taken = in_thread(mailbox.take)
    mailbox.close()
    assert not taken()
    assert not mailbox.take()
