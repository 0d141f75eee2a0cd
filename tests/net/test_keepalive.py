"""Silence: what a peer is asked, and when it counts as gone."""

from __future__ import annotations

import pytest

from hubthread.net.keepalive import SPREAD, Silence
from hubthread.net.options import ConnectionOptions
from tests.support import limits

PLAN = ConnectionOptions(limits(), ping_period=16.0, ping_timeout=60.0)


def test_it_is_over_after_the_time_out() -> None:
    """Whenever the peer was pinged meanwhile."""
    for early in (0.0, 0.3, 1.0):
        silence = Silence(PLAN, early)
        passed, over = 0.0, False
        while not over:
            assert silence.patience is not None
            passed += silence.patience
            over = silence.lasts()
        assert passed == pytest.approx(60.0)


def test_those_who_came_together_are_pinged_apart() -> None:
    """Over a quarter of the period, at most; and each keeps its time."""
    periods = set()
    for _ in range(1000):
        silence = Silence(PLAN)
        first = silence.patience
        assert first is not None
        silence.lasts()
        silence.end()
        assert silence.patience == first
        periods.add(first)
    assert len(periods) > 900
    assert min(periods) >= 16.0 * (1 - SPREAD)
    assert max(periods) <= 16.0


def test_without_pings_the_time_out_is_all() -> None:
    silence = Silence(ConnectionOptions(limits(), ping_period=None, ping_timeout=5.0))
    assert silence.patience == 5.0
    assert silence.lasts()


def test_without_both_there_is_no_end() -> None:
    assert (
        Silence(ConnectionOptions(limits(), ping_period=None, ping_timeout=None)).patience is None
    )
