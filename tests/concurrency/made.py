"""A strand as the tests use it: with workers of its own, and all that it reports."""

from __future__ import annotations

from hubthread.concurrency.strand import Strand
from hubthread.concurrency.threads import Threads
from hubthread.concurrency.workers import Workers
from tests.support import TIMEOUT, Logs, telling

BOUND = 1000


class Made:
    """A strand with workers of its own, and what was reported."""

    def __init__(self, bound: int = BOUND) -> None:
        self.threads = Threads("test", telling(Logs()))
        self.workers = Workers(self.threads)
        self.reported: list[BaseException] = []
        self.strand = Strand(self.workers, bound, self.reported.append, "client 7")

    def end(self) -> None:
        self.workers.close()
        assert not self.threads.join(TIMEOUT)
        assert self.strand.runner is None
        assert not self.strand.waiting()
