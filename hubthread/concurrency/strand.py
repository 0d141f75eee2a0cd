"""The order of one client's callbacks, without a thread of its own.

Layer: concurrency.  Threads: any; whoever holds the baton runs the closures.

A strand (the word is asio's) is a queue with a baton.  Whoever finds it idle takes the
baton and runs what there is; everybody else appends and goes on.  So a client's
callbacks never overlap, although some come from its reader and some from elsewhere, and
a reader that is blocked in ``recv`` need not be woken for a closure.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from hubthread.concurrency.calls import Call, acquire, thread_id
from hubthread.concurrency.logs import report_safely
from hubthread.concurrency.workers import Pool
from hubthread.errors import ClientClosed, QueueFull

__all__ = ["Strand"]

T = TypeVar("T")

FAIR_SHARE = 64
"""Closures that the reader runs after its messages before it goes back to reading."""

_CLAIMED = -1
"""Runner of a strand whose baton is taken by a worker that is still on its way."""


class _Gate:
    """A place in the queue for a thread that wants the baton itself: the reader."""

    __slots__ = ("ident", "opened")

    def __init__(self) -> None:
        self.ident = thread_id()
        self.opened = threading.Lock()
        self.opened.acquire()


class Strand:
    """Runs closures one at a time, in the order of acceptance.

    Threads: ``post`` and ``call`` from any; ``enter``/``leave`` from the reader, around a
    run of messages, and ``close`` at the end.

    :param workers: where closures run that find the strand idle.
    :param bound: how many closures may wait.
    :param report: called, in place of a traceback, with what a posted closure raised.
    :param name: who it belongs to, for error messages.
    """

    __slots__ = (
        "_bound",
        "_closed",
        "_lock",
        "_queue",
        "_report",
        "_workers",
        "name",
        "runner",
        "turns",
    )

    def __init__(
        self, workers: Pool, bound: int, report: Callable[[BaseException], None], name: str
    ) -> None:
        self._workers = workers
        self._bound = bound
        self._report = report
        self.name = name
        self._lock = threading.Lock()  # guards what follows; never held while a closure runs
        # Made when first needed: most clients never queue anything, and an empty deque
        # costs 760 bytes.
        self._queue: deque[Callable[[], object] | _Gate] | None = None
        self._closed = False
        self.runner: int | None = None
        # Of the reader, and of closures, so far: whoever looks twice sees whether it went on.
        self.turns = 0

    def enter(self) -> None:
        """Take the baton, after everything that was accepted before.  Blocks until then."""
        with self._lock:
            if self.runner is None:
                self.runner = thread_id()
                self.turns += 1
                return
            gate = _Gate()
            self._enqueue(gate)
        acquire(gate.opened, self.name)

    def leave(self) -> None:
        """Run what has been posted meanwhile, then put the baton down."""
        with self._lock:
            if not self._queue:  # as almost always
                self.runner = None
                return
        self._run(FAIR_SHARE)

    def post(self, work: Callable[[], object]) -> None:
        """Run ``work`` in this client's order; returns at once.

        :raises ClientClosed: when the close callback is already queued.
        :raises QueueFull: when ``bound`` closures wait.
        """
        if self._append(work):
            self._start()

    def call(self, work: Callable[[], T], timeout: float | None = None) -> T:
        """Run ``work`` in this client's order and return its result.

        On a thread that holds the baton already it runs at once.  Where the strand is
        idle and there is no time-out, the caller runs it itself: it would wait anyway.

        :param timeout: seconds.
        :raises ClientClosed, QueueFull, DeadlockError, ExecTimeout: see ``Call.result``.
        """
        if self.runner == thread_id():
            return work()
        call = Call(work)
        if self._append(call.run):
            if timeout is None:
                self._run_claimed(1)
            else:
                self._start()
        return call.result(self, self.name, timeout)

    def close(self, last: Callable[[], object]) -> None:
        """Refuse everything from now on, run what was accepted, then ``last``; wait for it.

        For the reader, once, and not from inside a closure of the strand.
        """
        ran = threading.Lock()
        ran.acquire()

        def final() -> None:
            try:
                last()
            finally:
                ran.release()

        with self._lock:
            self._closed = True
            self._enqueue(final)
            claimed = self.runner is None
            if claimed:
                self.runner = _CLAIMED
        if claimed:
            self._run_claimed()
        acquire(ran, self.name)

    def close_soon(self, last: Callable[[], object]) -> None:
        """As ``close``, but from any thread, inside a closure too, and without waiting.

        ``last`` must not raise.
        """
        with self._lock:
            self._closed = True
            self._enqueue(last)
            claimed = self.runner is None
            if claimed:
                self.runner = _CLAIMED
        if claimed:
            self._start()

    def turn(self) -> int | None:
        """The number of the turn that runs now; ``None`` while none does."""
        return None if self.runner in (None, _CLAIMED) else self.turns

    def waiting(self) -> int:
        """How many closures wait."""
        with self._lock:
            return len(self._queue or ())

    def _enqueue(self, entry: Callable[[], object] | _Gate) -> None:
        if self._queue is None:
            self._queue = deque()
        self._queue.append(entry)

    def _append(self, work: Callable[[], object]) -> bool:
        """Queue ``work``; true when the caller has to see that somebody runs it."""
        with self._lock:
            if self._closed:
                raise ClientClosed(f"{self.name} is closed and runs nothing more")
            if self._queue and len(self._queue) >= self._bound:
                raise QueueFull(
                    f"{self.name}: {self._bound} closures are waiting, the bound of "
                    f"chan_queue_size; a callback of this client takes too long"
                )
            self._enqueue(work)
            if self.runner is not None:
                return False
            self.runner = _CLAIMED
            return True

    def _start(self) -> None:
        try:
            self._workers.submit(self._run_share)
        except Exception:  # noqa: BLE001 - no thread to be had, or the hub is closing
            # The closure was accepted, so it must run: here is the only thread left.
            self._run_claimed()

    def _run_share(self) -> None:
        self._run_claimed(self._workers.share)

    def _run_claimed(self, most: int | None = None) -> None:
        self.runner = thread_id()
        self._run(most)

    def _run(self, most: int | None = None) -> None:
        """Run closures until there are none, or it is a gate's turn, or ``most`` have run.

        What is left after ``most`` goes to a worker, and the thread to its own business.
        """
        while True:
            with self._lock:
                if not self._queue:
                    self.runner = None
                    return
                if most == 0:
                    self.runner = _CLAIMED
                    break
                work = self._queue.popleft()
                self.turns += 1
                if isinstance(work, _Gate):
                    self.runner = work.ident
                    work.opened.release()
                    return
            try:
                work()
            except BaseException as error:  # noqa: BLE001 - reported, and the next one runs
                report_safely(self._report, error)
            del work  # nothing of the user's is kept alive while the strand is idle
            if most is not None:
                most -= 1
        self._start()
