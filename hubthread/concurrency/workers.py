"""A cache of threads for short work, and a pool that uses a bounded number of them.

Layer: concurrency.  Threads: ``submit`` and ``close`` may be called on any thread; work runs
on a worker.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Protocol

from hubthread.concurrency.bell import Bell
from hubthread.concurrency.threads import Threads
from hubthread.errors import HubClosed, HubThreadError

__all__ = ["BoundedPool", "Pool", "Workers"]

LINGER = 2.0
"""Seconds that an idle worker waits for more work, so that bursts find it there."""


class Pool(Protocol):
    """A group of threads that run work."""

    @property
    def batch(self) -> int | None:
        """The number of closures that one client may run in one piece of work.

        ``None`` is for a pool in which no other client has to wait for that.
        """

    def submit(self, work: Callable[[], None]) -> None:
        """Run ``work``, which must not raise, on another thread.

        :raises HubClosed: if the pool is closed.
        :raises RuntimeError: if the system cannot start a thread.
        """


class Workers:
    """Threads for short work: started when needed, and kept for ``LINGER`` seconds.

    Their number has no bound, because work that blocks must not hold up other work.  The
    callers bound it: each client has at most one piece of work here at a time.

    While work waits, exactly one new thread is starting.  Before that thread runs its work, it
    starts the next thread if more work waits.  So work that blocks holds up nothing, and work
    that does not block is done by a few threads.
    """

    batch = None

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self._lock = threading.RLock()  # guards what follows; never held while work runs
        self._idle: list[_Worker] = []
        self._rung: set[_Worker] = set()  # no longer idle, and on their way to the work
        self._waiting: deque[Callable[[], None]] = deque()
        self._starting = False  # True from the start of a thread until it looks for work
        self._number = 0
        self._closed = False

    def submit(self, work: Callable[[], None]) -> None:
        """Run ``work``, which must not raise, on another thread.

        :raises HubClosed: after ``close``.
        :raises RuntimeError: if a new thread is needed and cannot be started.
        """
        try:
            with self._lock:
                if self._closed:
                    raise HubClosed(f"{self._threads.prefix} is closed and starts no more work")
                self._waiting.append(work)
            self._wake_or_start()
        except HubThreadError:
            raise
        except RuntimeError:
            if self._take_back(work):
                raise
        except BaseException:  # an interrupt: the work may be queued, and no thread on its way
            with self._lock:
                self._starting = False
            self._wake_or_start()
            raise

    def close(self) -> None:
        """End the idle workers now, and the busy ones when no work waits."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            for worker in idle:
                worker.bell.ring()

    def _wake_or_start(self) -> None:
        """Wake or start a worker for the work that waits."""
        with self._lock:
            if not self._waiting:
                return
            if self._idle:
                worker = self._idle[-1]
                self._rung.add(worker)
                self._idle.pop()
                worker.bell.ring()
                return
            if self._starting:
                return
            self._starting = True
        self._start_worker()

    def _start_worker(self) -> None:
        with self._lock:
            self._number += 1
            number = self._number
        self._threads.start(_Worker(self).run, f"worker-{number}")

    def _take_back(self, work: Callable[[], None]) -> bool:
        """Take ``work`` off the queue; return False if a worker has taken it meanwhile.

        Other threads may have submitted work since, and relied on the thread that did not
        start.  Their work was accepted, so it runs here, unless a worker is on its way to it.
        """
        with self._lock:
            self._starting = False
            others = [other for other in self._waiting if other is not work]
            found = len(others) < len(self._waiting)
            self._waiting = deque(others[: len(self._rung)])
            others = others[len(self._rung) :]
        for other in others:
            other()
        return found

    def _next(self, worker: _Worker, arrived: bool) -> Callable[[], None] | None:
        """Return the oldest work, or wait for some; return None if the worker is to end.

        :param arrived: True for the first call of a new worker.
        """
        lingered = False
        while True:
            with self._lock:
                if arrived:
                    arrived = self._starting = False
                self._rung.discard(worker)
                if self._waiting:
                    work = self._waiting.popleft()
                    more = bool(self._waiting)
                    break
                if worker in self._idle:
                    self._idle.remove(worker)
                if self._closed or lingered:
                    return None
                self._idle.append(worker)
            lingered = not worker.bell.wait(LINGER)
        if more:
            try:
                self._wake_or_start()
            except RuntimeError:
                # The rest waits for the workers that run, or for the next submit.
                with self._lock:
                    self._starting = False
        return work


class BoundedPool:
    """A bounded number of workers, for clients that have no thread of their own.

    Work that finds all workers busy waits, so many clients do not need many threads.

    :param workers: the cache that the threads come from.
    :param most: the number of workers that this pool uses at a time.
    """

    batch = 64

    def __init__(self, workers: Workers, most: int) -> None:
        self._workers = workers
        self._most = most
        self._lock = threading.RLock()  # guards what follows; not held to run work
        self._condition = threading.Condition(self._lock)
        self._waiting: deque[Callable[[], None]] = deque()
        self._taken = 0  # workers of the cache that are in this pool
        # Workers that are to come.  After an interrupt a new one takes the place of a worker
        # that perhaps never comes.
        self._coming: set[object] = set()
        self._idle = 0  # workers of this pool that wait for work
        self._closed = False

    def submit(self, work: Callable[[], None]) -> None:
        """Run ``work``, which must not raise, on a worker, after the work that waits.

        If the system cannot start a thread, the calling thread runs it.
        """
        try:
            with self._lock:
                self._waiting.append(work)
            self._call_worker()
        except BaseException:  # an interrupt
            self._call_worker()
            raise

    def close(self) -> None:
        """Let idle workers go at once from now on; work may still be submitted."""
        with self._lock:
            self._closed = True
            self._condition.notify_all()

    def _call_worker(self) -> None:
        """Wake a worker for the work that waits, or take one from the cache."""
        worker = object()
        try:
            with self._lock:
                if len(self._waiting) <= self._idle:
                    self._condition.notify()
                    return
                if self._taken + len(self._coming) >= self._most:
                    return
                self._coming.add(worker)
            try:
                self._workers.submit(partial(self._run_waiting, worker))
            except (HubClosed, RuntimeError):
                self._run_waiting(worker, 0.0)
        except BaseException:
            with self._lock:
                self._coming.discard(worker)
            raise

    def _run_waiting(self, worker: object, linger: float = LINGER) -> None:
        with self._lock:
            if worker not in self._coming:
                return
            self._coming.remove(worker)
            self._taken += 1
        while True:
            with self._lock:
                if not self._waiting and not self._closed:
                    # Keep the worker while it waits: the cache keeps idle workers too, and
                    # one for each of the two would be one thread too many.
                    self._idle += 1
                    self._condition.wait_for(lambda: self._waiting or self._closed, linger)
                    self._idle -= 1
                if not self._waiting:
                    self._taken -= 1
                    return
                work = self._waiting.popleft()
            work()
            del work


class _Worker:
    """One thread of the cache; ``bell`` wakes it for the work that waits."""

    __slots__ = ("_workers", "bell")

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self.bell = Bell()

    def run(self) -> None:
        work = self._workers._next(self, arrived=True)
        while work is not None:
            work()
            del work  # its objects are not kept alive while this thread waits
            work = self._workers._next(self, arrived=False)
