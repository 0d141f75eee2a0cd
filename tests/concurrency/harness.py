"""The threads that these tests run on, and a strand with workers of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from hubthread.concurrency.clock import RealClock
from hubthread.concurrency.crew import Monitor
from hubthread.concurrency.strand import Strand
from hubthread.concurrency.threads import Threads
from hubthread.concurrency.workers import Workers
from tests.support import TIMEOUT, Logs, incidents_to

BOUND = 1000


def announced_waits(
    condition: threading.Condition, monkeypatch: pytest.MonkeyPatch
) -> threading.Semaphore:
    """Return a semaphore that each thread releases when it begins to wait for ``condition``.

    It is released under the condition's lock: a thread that gets the lock after that finds the
    other one waiting.
    """
    begun = threading.Semaphore(0)
    wait_for = condition.wait_for

    def announced(predicate: Callable[[], object], timeout: float | None = None) -> object:
        begun.release()
        return wait_for(predicate, timeout)

    monkeypatch.setattr(condition, "wait_for", announced)
    return begun


class Runtime:
    """The threads, the workers and the log of one hub."""

    def __init__(self) -> None:
        self.logs = Logs()
        self.incidents = incidents_to(self.logs)
        self.threads = Threads("test", self.incidents)
        self.workers = Workers(self.threads)
        self.monitor = Monitor(self.threads.start, self.incidents)
        self.clock = RealClock(self.threads, self.monitor, self.incidents)
        del self.clock._shared[1:]  # one crew, with or without a GIL

    def hand_nothing_over(self) -> None:
        """Let the first thread of a crew lead to its end, however long the system pauses it."""
        self.monitor._handover = 1e6

    def end(self) -> None:
        """End the workers, and wait until no thread is left."""
        self.workers.close()
        assert not self.threads.join(TIMEOUT)
        assert not self.workers._idle


class StrandOnWorkers(Runtime):
    """A strand with workers of its own, and the exceptions that it reported."""

    def __init__(self, bound: int = BOUND) -> None:
        super().__init__()
        self.reported: list[BaseException] = []
        self.strand = Strand(self.workers, bound, self.reported.append, "client 7")

    def end(self) -> None:
        super().end()
        assert self.strand.runner is None
        assert not self.strand.waiting()
