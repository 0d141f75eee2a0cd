"""Silence: what a peer is asked, and when it counts as gone."""

from __future__ import annotations

import pytest

from hubthread.net.keepalive import JITTER, Keepalive
from hubthread.net.options import ConnectionOptions
from tests.support import limits

PLAN = ConnectionOptions(limits(), ping_period=16.0, ping_timeout=60.0)


def test_it_is_over_after_the_time_out() -> None:
    """Whenever the peer was pinged meanwhile."""
    for early in (0.0, 0.3, 1.0):
        keepalive = Keepalive(PLAN, early)
        passed, over = 0.0, False
        while not over:
            assert keepalive.next_timeout is not None
            passed += keepalive.next_timeout
            over = keepalive.timed_out()
        assert passed == pytest.approx(60.0)


def test_those_who_came_together_are_pinged_apart() -> None:
    """Over a quarter of the period, at most; and each keeps its time."""
    periods = set()
    for _ in range(1000):
        keepalive = Keepalive(PLAN)
        first = keepalive.next_timeout
        assert first is not None
        keepalive.timed_out()
        keepalive.reset()
        assert keepalive.next_timeout == first
        periods.add(first)
    assert len(periods) > 900
    assert min(periods) >= 16.0 * (1 - JITTER)
    assert max(periods) <= 16.0


def test_without_pings_the_time_out_is_all() -> None:
    keepalive = Keepalive(ConnectionOptions(limits(), ping_period=None, ping_timeout=5.0))
    assert keepalive.next_timeout == 5.0
    assert keepalive.timed_out()


def test_without_both_there_is_no_end() -> None:
    assert Keepalive(ConnectionOptions(limits())).next_timeout is None
