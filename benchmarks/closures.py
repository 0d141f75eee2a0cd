"""Closures: work for one thread, which runs it in order.

It compares ``exec_async`` and ``exec_sync`` with ``bare``: a thread that takes functions from a
``queue.Queue`` and calls them.  ``bare`` reports no errors, has no bound and detects no deadlock.

Throughput: closures a second from 1 and from 4 threads.  Each thread waits after every 1,000 of
its closures, so that the bounded queue is never full.  Latency: one thread waits for the result
of each closure.  Every closure counts itself, and the counts must agree.
"""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.case import P50, P99, Case, Column, Measurement, Options
from benchmarks.peers import BARE, SUBJECT, Peer
from benchmarks.peers.contract import Job
from benchmarks.processes import Unavailable
from hubthread import Hub, HubSetting

__all__ = ["cases"]

_RATE = Column("rate", "closures/s", more_is_better=True)
_BATCH = 1000
Work = Callable[[object], object]


def cases(quick: bool) -> list[Case]:
    """Return the cases: from one thread, from four, and with a wait for each closure."""
    kinds = (
        ("exec_async, 1 thread", "Closures without waiting, from 1 thread", 1, (_RATE,)),
        ("exec_async, 4 threads", "Closures without waiting, from 4 threads", 4, (_RATE,)),
        ("exec_sync", "Closures whose result is waited for", 0, (_RATE, P50, P99)),
    )
    return [
        Case(
            "closures",
            name,
            title,
            Job(),
            "",
            threads,
            columns=columns,
            chart=columns[0],
            measure=_measure,
            only=(SUBJECT, BARE),
        )
        for name, title, threads, columns in kinds
    ]


def _measure(case: Case, peer: Peer, options: Options) -> Measurement:
    arguments = [peer.name, str(case.clients), str(options.seconds)]
    try:
        run = subprocess.run(
            [sys.executable, "-m", "benchmarks.closures", *arguments],
            cwd=Path(__file__).parent.parent,
            check=True,
            capture_output=True,
            timeout=options.seconds + 60,
        )
    except subprocess.SubprocessError as error:
        raise Unavailable(str(error)) from None
    figures: dict[str, float] = json.loads(run.stdout)
    uncounted = int(figures.pop("uncounted"))
    return Measurement(figures, {"missing": uncounted} if uncounted else {})


# In the measured process.


class _Bare:
    """A queue and a thread."""

    def __init__(self) -> None:
        self._queue: queue.Queue[Callable[[], object]] = queue.Queue()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            self._queue.get()()

    def exec_async(self, work: Work) -> None:
        """Queue ``work``."""
        self._queue.put(lambda: work(self))

    def exec_sync(self, work: Work) -> object:
        """Queue ``work`` and wait for its result."""
        answer: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._queue.put(lambda: answer.put(work(self)))
        return answer.get()


def _throughput(target: Hub[object, str] | _Bare, threads: int, seconds: float) -> None:
    counts, handed_over = [0] * threads, [0] * threads
    end = time.monotonic() + seconds

    def produce(mine: int) -> None:
        def work(_: object) -> int:
            counts[mine] += 1
            return counts[mine]

        while time.monotonic() < end:
            for _ in range(_BATCH - 1):
                target.exec_async(work)
            handed_over[mine] += _BATCH
            if target.exec_sync(work) != handed_over[mine]:
                return  # a closure was lost or out of order; the counts show it

    workers = [threading.Thread(target=produce, args=(i,)) for i in range(threads)]
    start = time.monotonic()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    took = time.monotonic() - start
    uncounted = abs(sum(handed_over) - sum(counts))
    print(json.dumps({"rate": sum(counts) / took, "uncounted": uncounted}))


def _latency(target: Hub[object, str] | _Bare, seconds: float) -> None:
    times: list[int] = []
    start = time.monotonic()
    while time.monotonic() < start + seconds:
        before = time.perf_counter_ns()
        target.exec_sync(lambda _: None)
        times.append(time.perf_counter_ns() - before)
    took = time.monotonic() - start
    times.sort()
    p50, p99 = (times[int(len(times) * share)] / 1e6 for share in (0.5, 0.99))
    print(json.dumps({"rate": len(times) / took, "p50_ms": p50, "p99_ms": p99, "uncounted": 0}))


def _main(peer: str, threads: str, seconds: str) -> None:
    target: Hub[object, str] | _Bare = (
        Hub.started(HubSetting(object)) if peer == SUBJECT else _Bare()
    )
    if int(threads):
        _throughput(target, int(threads), float(seconds))
    else:
        _latency(target, float(seconds))
    if isinstance(target, Hub):
        target.close()


if __name__ == "__main__":
    _main(*sys.argv[1:])
