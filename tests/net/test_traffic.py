"""Counts that many connections and threads add to at once."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable

import pytest

from hubthread.net.traffic import Meter, SharedTraffic

THREADS, ROUNDS = 4, 20_000


@pytest.mark.parametrize("shared", [None, False])
def test_meter_counts_every_message_of_every_thread(shared: bool | None) -> None:
    """One object for all threads, where there is a GIL, and an object for each thread."""
    meter = Meter(shared=shared)

    def count() -> None:
        traffic = meter.traffic("tcp")
        for _ in range(ROUNDS):
            traffic.counts.received += 1
            traffic.counts.sent_bytes += 3

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        in_threads(count, THREADS)
    finally:
        sys.setswitchinterval(interval)
    (total,) = meter.totals().values()
    assert (total.received, total.sent_bytes) == (THREADS * ROUNDS, 3 * THREADS * ROUNDS)


@pytest.mark.parametrize("shared", [True, False])
def test_meter_totals_have_the_threads_that_have_ended_and_those_that_run(shared: bool) -> None:
    meter = Meter(shared=shared)
    tcp = meter.traffic("tcp")

    def count() -> None:
        tcp.counts.sent += 1

    in_threads(count, 3)
    count()
    meter.traffic("udp").counts.dropped += 5
    totals = meter.totals()
    assert (totals["tcp"].sent, totals["udp"].dropped) == (4, 5)
    totals["tcp"].sent = 100
    assert meter.totals()["tcp"].sent == 4


def test_meter_keeps_nothing_for_a_thread_that_has_ended() -> None:
    meter = Meter(shared=False)
    tcp = meter.traffic("tcp")
    in_threads(lambda: setattr(tcp.counts, "sent", 1), 20)
    (total,) = [total for _, total in meter._kinds.values()]
    assert len(total.running) == 1  # that of this thread
    assert meter.totals()["tcp"].sent == 20


def test_meter_gives_all_connections_of_a_kind_the_same_place() -> None:
    meter = Meter()
    assert meter.traffic("tcp") is meter.traffic("tcp") is not meter.traffic("udp")
    assert meter.traffic("tcp").lagging is meter.traffic("udp").lagging is meter.lagging
    assert SharedTraffic().lagging is not SharedTraffic().lagging


def in_threads(target: Callable[[], object], number: int) -> None:
    threads = [threading.Thread(target=target) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
