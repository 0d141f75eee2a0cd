"""A cache of threads, for work that has no thread of its own.

Layer: concurrency.  Threads: any submits; a worker runs what it is given.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

from hubthread.concurrency.threads import Threads
from hubthread.errors import HubClosed

__all__ = ["BoundedPool", "Pool", "Workers"]

LINGER = 2.0
"""Seconds that an idle worker stays: longer than a burst, shorter than anyone minds."""


class Pool(Protocol):
    """Threads that work can be given to."""

    @property
    def share(self) -> int | None:
        """How many closures of one client may run before others have their turn."""

    def submit(self, work: Callable[[], None]) -> None:
        """Run ``work``, which must not raise, on another thread.

        :raises HubClosed, RuntimeError: where it will not run.
        """


class Workers:
    """Threads for short work, started when needed, kept for ``LINGER`` seconds.

    There is no upper bound of its own: one work that blocks must not hold up another.
    What bounds it is who submits: each client has at most one work here at a time.

    While work waits, exactly one new thread is on its way, and before it begins with its
    work it sends for the next.  So what blocks holds up nobody, and what does not block is
    done by the few threads that are there: a task for each of 400 idle clients takes fewer
    than 20 threads and 10 ms, where a thread for each work took 370 and 30 ms.

    Threads: ``submit`` and ``close`` from any.
    """

    share = None

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self._lock = threading.Lock()  # guards what follows; never held while work runs
        self._idle: list[_Worker] = []
        self._waiting: deque[Callable[[], None]] = deque()
        self._coming = False  # a thread that was started and has not looked for work yet
        self._number = 0
        self._closed = False

    def submit(self, work: Callable[[], None]) -> None:
        """Run ``work``, which must not raise, on another thread, soon.

        :raises HubClosed: after ``close``.
        :raises RuntimeError: when a new thread is needed and the system gives none.
        """
        with self._lock:
            if self._closed:
                raise HubClosed(f"{self._threads.prefix} is closed and starts no more work")
            if self._idle:
                # A worker that gives up waiting takes itself off the list under this
                # lock, so no work is handed to one that is leaving.
                worker = self._idle.pop()
                worker.work = work
                worker.wake.release()
                return
            self._waiting.append(work)
            if self._coming:
                return
            self._coming = True
        try:
            self._send_for_one()
        except RuntimeError:
            if self._nobody_comes(work):
                raise

    def close(self) -> None:
        """Send the idle workers home, and the busy ones when nothing waits any more."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            for worker in idle:
                worker.wake.release()

    def _send_for_one(self) -> None:
        with self._lock:
            self._number += 1
            number = self._number
        self._threads.start(_Worker(self).run, f"worker-{number}")

    def _nobody_comes(self, work: Callable[[], None]) -> bool:
        """Give ``work`` back; false when a worker has taken it meanwhile.

        What others have submitted in the belief that somebody comes is accepted: it runs
        here, as it would have where they stood.
        """
        with self._lock:
            self._coming = False
            left, self._waiting = self._waiting, deque()
        for other in left:
            if other is not work:
                other()
        return work in left

    def _next(self, worker: _Worker, arrived: bool) -> Callable[[], None] | None:
        """What waits longest, or is handed to this worker as it rests; ``None``: go home."""
        with self._lock:
            if arrived:
                self._coming = False
            if not self._waiting:
                if self._closed:
                    return None
                self._idle.append(worker)
                work = None
            else:
                work = self._waiting.popleft()
            another = bool(self._waiting) and not self._coming
            if another:
                self._coming = True
        if another:
            try:
                self._send_for_one()
            except RuntimeError:
                with self._lock:
                    self._coming = False  # the rest waits for who is here, or the next submit
        return self._handed_over(worker) if work is None else work

    def _handed_over(self, worker: _Worker) -> Callable[[], None] | None:
        if not worker.wake.acquire(timeout=LINGER):
            with self._lock:
                if worker in self._idle:
                    self._idle.remove(worker)
                    return None
            worker.wake.acquire()  # picked at the last moment: the release has happened
        work, worker.work = worker.work, None
        return work


class BoundedPool:
    """At most so many workers at a time, for clients who have no thread of their own.

    What finds them all busy waits its turn, so a crowd costs no crowd of threads.

    Threads: ``submit`` and ``close`` from any.
    """

    share = 64

    def __init__(self, workers: Workers, most: int) -> None:
        self._workers = workers
        self._most = most
        self._condition = threading.Condition()  # guards what follows; not held to run work
        self._waiting: deque[Callable[[], None]] = deque()
        self._carriers = 0
        self._idle = 0  # of them
        self._closed = False

    def submit(self, work: Callable[[], None]) -> None:
        """Run ``work``, which must not raise, on a worker, now or in its turn.

        Where there is none to be had, the calling thread is the worker.
        """
        with self._condition:
            self._waiting.append(work)
            if len(self._waiting) <= self._idle:
                self._condition.notify()
                return
            if self._carriers >= self._most:
                return
            self._carriers += 1
        try:
            self._workers.submit(self._carry)
        except (HubClosed, RuntimeError):
            self._carry(0.0)

    def close(self) -> None:
        """Send the idle ones home, and the others when nothing waits; more may still come."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    def _carry(self, linger: float = LINGER) -> None:
        while True:
            with self._condition:
                if not self._waiting and not self._closed:
                    # It stays the same thread: one that is let go and one that is taken
                    # would be two.
                    self._idle += 1
                    self._condition.wait_for(lambda: self._waiting or self._closed, linger)
                    self._idle -= 1
                if not self._waiting:
                    self._carriers -= 1
                    return
                work = self._waiting.popleft()
            work()
            del work


class _Worker:
    """One thread of the cache; ``work`` is written by who hands it over, read by its thread."""

    __slots__ = ("_workers", "wake", "work")

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self.work: Callable[[], None] | None = None
        self.wake = threading.Lock()
        self.wake.acquire()

    def run(self) -> None:
        work = self._workers._next(self, arrived=True)
        while work is not None:
            work()
            del work  # what it refers to is not kept while this thread rests
            work = self._workers._next(self, arrived=False)
