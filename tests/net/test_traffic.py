"""Counts that many connections add to at once."""

from __future__ import annotations

import sys
import threading

import pytest

from hubthread.net.traffic import Meter

THREADS, ROUNDS = 4, 20_000


@pytest.mark.parametrize("shared", [None, False])
def test_meter_counts_every_message_of_every_thread(shared: bool | None) -> None:
    """Shared objects, where there is a GIL, and objects of each connection's own."""
    meter = Meter(shared=shared)

    def count() -> None:
        traffic = meter.begin("tcp")
        for _ in range(ROUNDS):
            traffic.received += 1
            traffic.sent_bytes += 3
        meter.end(traffic)
        meter.end(traffic)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=count) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    (total,) = meter.totals().values()
    assert (total.received, total.sent_bytes) == (THREADS * ROUNDS, 3 * THREADS * ROUNDS)


def test_meter_totals_have_the_connections_that_are_still_open() -> None:
    meter = Meter(shared=False)
    gone, there, other = meter.begin("tcp"), meter.begin("tcp"), meter.begin("udp")
    gone.sent, there.sent, other.dropped = 1, 2, 5
    meter.end(gone)
    totals = meter.totals()
    assert (totals["tcp"].sent, totals["udp"].dropped) == (3, 5)
    totals["tcp"].sent = 100
    assert meter.totals()["tcp"].sent == 3
