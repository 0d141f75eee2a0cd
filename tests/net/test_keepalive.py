"""The keepalive: when a silent peer is pinged, and when it counts as gone."""

from __future__ import annotations

import pytest

from hubthread.net.keepalive import JITTER, Keepalive
from hubthread.net.options import ConnectionOptions
from tests.support import outbox_bounds

OPTIONS = ConnectionOptions(outbox_bounds(), ping_period=16.0, ping_timeout=60.0)


@pytest.mark.parametrize("early", [0.0, 0.3, 1.0])
def test_keepalive_ends_after_the_timeout(early: float) -> None:
    """The time-out does not depend on the jitter of the pings."""
    keepalive = Keepalive(OPTIONS, early)
    passed, over = 0.0, False
    while not over:
        assert keepalive.next_timeout is not None
        passed += keepalive.next_timeout
        over = keepalive.timed_out()
    assert passed == pytest.approx(60.0)
    assert keepalive.elapsed == pytest.approx(60.0)


def test_keepalive_periods_of_many_peers_are_spread() -> None:
    """They differ by a quarter at most, and each peer keeps its period."""
    periods = set()
    for _ in range(1000):
        keepalive = Keepalive(OPTIONS)
        first = keepalive.next_timeout
        assert first is not None
        keepalive.timed_out()
        keepalive.reset()
        assert keepalive.next_timeout == first
        periods.add(first)
    assert len(periods) > 900
    assert min(periods) >= 16.0 * (1 - JITTER)
    assert max(periods) <= 16.0


def test_keepalive_without_pings_waits_for_the_timeout() -> None:
    keepalive = Keepalive(ConnectionOptions(outbox_bounds(), ping_period=None, ping_timeout=5.0))
    assert keepalive.next_timeout == 5.0
    assert keepalive.timed_out()


def test_keepalive_without_period_and_timeout_never_ends() -> None:
    assert Keepalive(ConnectionOptions(outbox_bounds())).next_timeout is None
