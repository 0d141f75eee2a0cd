"""The bell: a ring is heard, whether it comes before the wait or during it."""

from __future__ import annotations

import pytest

from hubthread.concurrency.bell import Bell
from tests.support import TIMEOUT, in_thread, together


def test_bell_ring_before_the_wait_ends_the_wait() -> None:
    bell = Bell()
    bell.ring()
    assert bell.rung
    assert bell.wait(None)
    assert not bell.rung


def test_bell_ring_on_another_thread_ends_the_wait() -> None:
    bell = Bell()
    heard = in_thread(lambda: bell.wait(TIMEOUT))
    bell.ring()
    assert heard()


@pytest.mark.parametrize("timeout", [-1.0, 0.0, 0.001])
def test_bell_without_a_ring_times_out(timeout: float) -> None:
    assert not Bell().wait(timeout)


def test_bell_wait_takes_a_timeout_of_any_length() -> None:
    bell = Bell()
    bell.ring()
    assert bell.wait(1e300)


def test_bell_rings_of_many_threads_are_one() -> None:
    bell = Bell()
    for _ in range(200):
        together(4, lambda _: bell.ring())
        assert bell.wait(TIMEOUT)
        assert not bell.rung
