"""The order of one client's callbacks, without a thread of its own.

Layer: concurrency.  Threads: every method may be called on any thread, except where its
docstring says so; closures run on the thread that holds the baton.

A strand (a word of Boost.Asio) is a queue with a baton.  A thread that posts a closure to an
idle strand takes the baton, and runs the queue or has a worker run it.  A thread that posts to a
busy strand only appends.  So the callbacks of one client never overlap, although some come from
its reader and some from other threads.  A reader that is blocked in ``recv`` need not be woken
for a closure.

All closures of a strand run in one ``contextvars.Context``, whichever thread runs them.
"""

from __future__ import annotations

import contextvars
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from hubthread.checks import checked, refuse_unrun
from hubthread.concurrency.calls import Call, acquire, thread_id
from hubthread.concurrency.logs import report_safely
from hubthread.concurrency.workers import Pool
from hubthread.errors import ClientClosed, HubThreadError, QueueFull

__all__ = ["Strand"]

T = TypeVar("T")

FAIR_SHARE = 64
"""The number of closures that the reader runs after its messages, before it reads again."""

_CLAIMED = -1
"""The runner of a strand whose baton belongs to a worker that has not begun yet.

The worker has a claim, an object of its own.  A later claim replaces an earlier one, because
after an interrupt the worker of the earlier claim may never run."""


class _Gate:
    """A place in the queue for the reader, which waits for the baton itself."""

    __slots__ = ("ident", "opened")

    def __init__(self) -> None:
        self.ident = thread_id()
        self.opened = threading.Lock()
        self.opened.acquire()


class Strand:
    """A queue of closures that run one at a time, in the order of acceptance.

    A finaliser or a signal handler may post on a thread that is inside one of these methods.
    The lock is re-entrant, and the state is right wherever Python may run such code: at every
    call, and at no other place.

    Threads: ``post``, ``call`` and ``close_soon`` may be called on any thread.  ``enter`` and
    ``leave`` are for the reader, around the messages of one read, and ``close`` is for the
    reader at its end.

    :param workers: the threads that run closures which find the strand idle.
    :param bound: the number of closures that may wait.
    :param report: called with the exception of a posted closure, on the thread that ran it.
    :param name: the name of the client, for error messages.
    """

    __slots__ = (
        "_bound",
        "_callbacks",
        "_claim",
        "_closed",
        "_lock",
        "_queue",
        "_report",
        "_workers",
        "name",
        "runner",
        "variables",
    )

    def __init__(
        self, workers: Pool, bound: int, report: Callable[[BaseException], None], name: str
    ) -> None:
        self._workers = workers
        self._bound = bound
        self._report = report
        self.name = name
        # Entered by the thread that has the baton.
        self.variables = contextvars.Context()
        self._lock = threading.RLock()  # guards what follows; never held while a closure runs
        # Made when first needed: most clients never queue a closure, and an empty deque
        # takes 760 bytes.
        self._queue: deque[Callable[[], object] | _Gate] | None = None
        self._closed = False
        self._claim: object = None
        self.runner: int | None = None
        # Counts the closures and the reader's batches; the watchdog compares two samples.
        self._callbacks = 0

    def enter(self) -> None:
        """Wait for the closures that were accepted before, and take the baton."""
        ident = thread_id()
        with self._lock:
            if self.runner is None:  # no call between this line and the next: see the class
                self.runner = ident
                self._callbacks += 1
                return
            gate = _Gate()
            self._enqueue(gate)
        acquire(gate.opened, self.name)

    def leave(self) -> None:
        """Run the closures that were posted meanwhile, and put the baton down."""
        with self._lock:
            if not self._queue:  # almost always; ``_put_down`` in place, for each read
                ident, self.runner = self.runner, None
                if not self._queue or self.runner is not None:
                    return
                self.runner = ident
        self._run(FAIR_SHARE)

    def post(self, work: Callable[[], object], *, essential: bool = False) -> None:
        """Run ``work`` in this client's order; return at once.

        :param essential: accept it although ``bound`` closures wait.
        :raises ClientClosed: if the close callback is queued already.
        :raises QueueFull: if ``bound`` closures wait.
        """
        try:
            claim = self._append(work, essential=essential)
            if claim is not None:
                self._start(claim)
        except HubThreadError:
            raise
        except BaseException:  # an interrupt
            self._rescue()
            raise

    def call(
        self, work: Callable[[], T], timeout: float | None = None, *, borrow: bool = True
    ) -> T:
        """Run ``work`` in this client's order, and return its result.

        On the thread that holds the baton it runs at once, in the context variables of the
        closure that calls this.  If the strand is idle and there is no time-out, the calling
        thread runs it, since it would only wait.

        :param timeout: seconds.
        :param borrow: False: do not let the calling thread run it, whose own state may be in
            the way.
        :raises ClientClosed: see ``post``.
        :raises QueueFull: see ``post``.
        :raises DeadlockError: see ``Call.result``.
        :raises ExecTimeout: see ``Call.result``.
        """
        if self.runner == thread_id():
            return checked(work())
        call = Call(work)
        try:
            claim = self._append(call.run)
            if claim is not None:
                if timeout is None and borrow:
                    self._run_claimed(claim, 1)
                else:
                    self._start(claim)
        except HubThreadError:
            raise
        except BaseException:  # an interrupt
            self._rescue()
            raise
        return call.result(self, self.name, timeout)

    def close(self, last: Callable[[], object]) -> None:
        """Refuse further closures, run those that were accepted, then ``last``; wait for it.

        For the reader, once.  Not inside a closure of the strand, which would wait for itself.
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
            claim = self._claim_baton()
        if claim is not None:
            self._run_claimed(claim)
        acquire(ran, self.name)

    def close_soon(self, last: Callable[[], object]) -> None:
        """Refuse further closures and queue ``last``, without waiting; see ``close``.

        It may be called on any thread, and inside a closure.  ``last`` must not raise.
        """
        try:
            with self._lock:
                self._closed = True
                self._enqueue(last)
                claim = self._claim_baton()
            if claim is not None:
                self._start(claim)
        except BaseException:  # an interrupt
            self._rescue()
            raise

    def current_callback(self) -> int | None:
        """Return the number of the closure or batch that runs now, ``None`` while idle."""
        return None if self.runner in (None, _CLAIMED) else self._callbacks

    def waiting(self) -> int:
        """Return the number of closures that wait."""
        with self._lock:
            return len(self._queue or ())

    def _enqueue(self, entry: Callable[[], object] | _Gate) -> None:
        if self._queue is None:
            self._queue = deque()
        self._queue.append(entry)

    def _append(self, work: Callable[[], object], *, essential: bool = False) -> object:
        """Queue ``work``; return a claim if the caller got the baton, and must run the queue."""
        with self._lock:
            if self._closed:
                raise ClientClosed(f"{self.name} is closed and runs nothing more")
            if self._queue and len(self._queue) >= self._bound and not essential:
                raise QueueFull(
                    f"{self.name}: {self._bound} closures are waiting, the bound of "
                    f"chan_queue_size; a callback of this client takes too long"
                )
            self._enqueue(work)
            return self._claim_baton()

    def _claim_baton(self) -> object:
        """Take the baton of an idle strand; return the claim, or None.  Under the lock."""
        if self.runner is not None:
            return None
        claim = self._claim = object()
        self.runner = _CLAIMED
        return claim

    def _put_down(self) -> bool:
        """Put down the baton of an empty queue; return False if the caller must take it again.

        The caller holds the lock.  A finaliser on this thread may have posted just before.
        """
        ident, self.runner = self.runner, None
        if not self._queue or self.runner is not None:
            return True
        self.runner = ident
        return False

    def _rescue(self) -> None:
        """Restart the queue after an interrupt that may have lost the baton."""
        with self._lock:
            if not self._queue or self.runner not in (None, _CLAIMED):
                return
            self.runner = None
            claim = self._claim_baton()
        self._start(claim)

    def _start(self, claim: object) -> None:
        try:
            self._workers.submit(partial(self._run_batch, claim))
        except Exception:  # noqa: BLE001 - there is no thread, or the hub is closing
            # The closure was accepted, so it must run, and this is the only thread for it.
            self._run_claimed(claim)

    def _run_batch(self, claim: object) -> None:
        self._run_claimed(claim, self._workers.batch)

    def _run_claimed(self, claim: object, most: int | None = None) -> None:
        with self._lock:
            if self._claim is not claim:
                return  # a later claim has replaced this one
            self._claim = None
            self.runner = thread_id()
        try:
            self._run(most)
        except BaseException:  # an interrupt between two closures
            with self._lock:
                if self.runner == thread_id():
                    self.runner = None
            self._rescue()
            raise

    def _run(self, most: int | None = None) -> None:
        """Run closures until none is left, the reader's gate comes, or ``most`` have run.

        After ``most`` closures the baton goes to a worker, and this thread returns.
        """
        while True:
            with self._lock:
                if not self._queue and self._put_down():
                    return
                assert self._queue is not None
                if most == 0:
                    self.runner = None
                    claim = self._claim_baton()
                    break
                work = self._queue.popleft()
                self._callbacks += 1
                if isinstance(work, _Gate):
                    self.runner = work.ident
                    work.opened.release()
                    return
            try:
                result = self.variables.run(work)
                if result is not None:
                    refuse_unrun(result)
                    del result
            except BaseException as error:  # noqa: BLE001 - reported; the next closure runs
                report_safely(self._report, error)
            del work  # an idle strand keeps no object of the user alive
            if most is not None:
                most -= 1
        self._start(claim)
