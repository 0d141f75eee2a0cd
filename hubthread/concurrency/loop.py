"""The hub thread: one thread that runs the closures of all others, in order of acceptance.

Layer: concurrency.  Threads: ``run`` is the loop's thread; the methods above it may be called
on any thread.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
from collections import deque
from collections.abc import Callable
from time import monotonic
from types import CodeType
from typing import Any, Generic, TypeVar

from hubthread.checks import checked, refuse_unrun
from hubthread.concurrency.calls import Call, signal_check, thread_id
from hubthread.concurrency.deadline import Deadline
from hubthread.concurrency.histogram import QUICK, Histogram
from hubthread.concurrency.incidents import Incidents
from hubthread.concurrency.mailbox import Mailbox
from hubthread.errors import HubClosed, WrongThread

__all__ = ["EARLY", "Loop"]

EARLY = 10.0
"""Seconds that work may wait for a loop that does not run yet, until a warning is due."""

View = TypeVar("View")
T = TypeVar("T")


class Loop(Generic[View]):
    """A queue of closures, and the thread that runs them one at a time.

    **Guarantee (G1).**  ``exec_async``, ``exec_sync`` and ``schedule`` either raise, and
    have done nothing, or the closure runs exactly once, on the thread of ``run``, in the
    order of acceptance.  After ``close`` they raise ``HubClosed``; closures that were accepted
    before still run.  A closure that raises is logged and counted, and the next one runs.
    Each closure has context variables of its own.
    Only a bug in the library stops the loop: it is logged as critical, and every waiting
    ``exec_sync`` raises ``HubClosed``.

    :param name: the name of the loop in logs and errors.
    :param bound: the number of closures that may wait.
    :param view: the argument of each closure.
    :param on_failure: called with the error, on the loop's thread, if a bug stops the loop.
    :param now: the clock, in seconds.
    """

    def __init__(
        self,
        name: str,
        bound: int,
        view: View,
        incidents: Incidents,
        on_failure: Callable[[BaseException], None],
        now: Callable[[], float] = monotonic,
    ) -> None:
        self.name = name
        self._view = view
        self._incidents = incidents
        self._on_failure = on_failure
        self._now = now
        self._mailbox: Mailbox[Callable[[], object]] = Mailbox(bound, name, now)
        # Written by the loop's thread, read by any.
        self.runner: int | None = None
        self.since: float | None = None  # the start of the present job; None: it waits for one
        self.longest = 0.0  # seconds, of all jobs so far
        self.times = Histogram()  # of the jobs
        self.on_early: Callable[[], None] | None = None
        """Called after each post, until the loop runs."""
        self._batch: deque[Callable[[], object]] = deque()
        self._longest_wait: float | None = None
        self.closures_run = 0
        self.closures_failed = 0

    # Any thread.

    def exec_async(self, work: Callable[[View], object], *, essential: bool = False) -> None:
        """Let the loop run ``work(view)``, and return at once.

        :param essential: accept it even if the queue is full.
        :raises HubClosed: after ``close``.
        :raises QueueFull: if as many closures wait as the bound allows.
        """
        self._mailbox.post(_Closure(self, work), essential=essential)
        if self.on_early is not None and not essential:
            self.on_early()

    def exec_sync(self, work: Callable[[View], T], timeout: float | None = None) -> T:
        """Let the loop run ``work(view)``, and return its result or raise its exception.

        On the loop's own thread the closure runs at once.

        :param timeout: seconds.
        :raises HubClosed: see ``exec_async``.
        :raises QueueFull: see ``exec_async``.
        :raises DeadlockError: see ``Call.result``.
        :raises ExecTimeout: see ``Call.result``.
        """
        if self.is_here():
            return checked(work(self._view))
        call = self.submit(work)
        if self.on_early is None:
            return call.result(self, self.name, timeout)
        deadline = Deadline(timeout)
        if (timeout is None or timeout > EARLY) and not call.wait(EARLY):
            early = self.on_early
            if early is not None:
                early()
        return call.result(self, self.name, deadline.left())

    def submit(self, work: Callable[[View], T]) -> Call[T]:
        """Let the loop run ``work(view)``, and return a call that one thread may wait for.

        :raises HubClosed: see ``exec_async``.
        :raises QueueFull: see ``exec_async``.
        """
        waited = _Waited(self, work)
        self._mailbox.post(waited)
        if self.on_early is not None:
            self.on_early()
        return waited.call

    def schedule(self, job: Callable[[], object]) -> None:
        """Queue a job of the library, even if the queue is full.  The job must not raise.

        :raises HubClosed: after ``close``.
        """
        self._mailbox.post(job, essential=True)
        if self.on_early is not None:
            self.on_early()

    def interrupt(self, error: KeyboardInterrupt) -> None:
        """Raise ``error`` on the loop's thread soon; ignore a loop that is closed."""

        def raise_error() -> None:
            raise error

        self.wake(raise_error)

    def interrupt_next(self, job: Callable[[], object]) -> None:
        """Make ``job`` the next job; for a signal handler on the loop's thread.

        This method takes no lock.  If the loop's thread is about to wait for jobs, it does not
        see ``job``: call ``wake`` on another thread.
        """
        self._batch.appendleft(job)

    def wake(self, job: Callable[[], object]) -> None:
        """Schedule ``job``; ignore a loop that is closed."""
        with contextlib.suppress(HubClosed):
            self.schedule(job)

    @staticmethod
    def callers() -> frozenset[CodeType]:
        """Return the functions that call closures of the user on the loop's thread."""
        functions = (_Closure.__call__, _Waited._run, Loop.exec_sync)
        return frozenset(function.__code__ for function in functions)

    def close(self) -> None:
        """Accept nothing more; ``run`` returns after all that was accepted has run."""
        self._mailbox.close()

    def is_here(self) -> bool:
        """Return True on the loop's thread."""
        return self.runner == thread_id()

    def refuse_here(self, what: str) -> None:
        """Refuse a call on the loop's thread.

        :param what: the call, for the error message.
        :raises WrongThread: on the loop's thread.
        """
        if self.is_here():
            raise WrongThread(
                f"{what} waits for clients or for the hub itself, so it is not for the hub "
                f"thread: call it from a handler, from client.exec_async, or from your own thread"
            )

    def current_callback(self) -> float | None:
        """Return the start of the present job, ``None`` while idle; see ``watchdog.Watched``."""
        return None if self.runner is None else self.since

    def running(self) -> float:
        """Return the seconds that the present job has run so far; 0.0 while there is none."""
        since = self.current_callback()
        return 0.0 if since is None else max(0.0, self._now() - since)

    def depth(self) -> int:
        """Return the number of closures and jobs that wait."""
        return self._mailbox.depth() + len(self._batch)

    def oldest(self) -> float:
        """Return the seconds that the oldest of them has waited at most; 0.0 if none waits."""
        mailbox = self._mailbox
        if self._batch:
            since = mailbox.taken_since
        elif mailbox.depth():
            since = mailbox.filling_since
        else:
            return 0.0
        return max(0.0, self._now() - since)

    # The loop's thread.

    def run(self, on_interrupt: Callable[[], None]) -> None:
        """Run closures until the loop is closed and nothing waits.

        :param on_interrupt: called when ``KeyboardInterrupt`` is raised here, which is the main
            thread then.  It has the loop closed; closures run until then.
        :raises KeyboardInterrupt: at the end, if it was raised.
        """
        self.on_early = None
        self.runner = thread_id()
        self._longest_wait = signal_check()
        interrupt: KeyboardInterrupt | None = None
        handled = True
        try:
            while True:
                try:
                    if not handled:  # in the try: a second interrupt may be raised in it
                        on_interrupt()
                        handled = True
                    while self._work_some():
                        pass
                    break
                except KeyboardInterrupt as error:
                    interrupt = error
                    handled = False
        except BaseException as error:  # noqa: BLE001 - a bug in the library: logged
            self._fail(error)
        finally:
            self.runner = None
        if interrupt is not None:
            raise interrupt

    # In virtual time, on the thread of the simulation.

    def is_due(self) -> bool:
        """Return True if ``run_pending`` has something to do: closures to run, or to end."""
        # Without the mailbox's lock: a post of another thread is seen the next time.
        mailbox = self._mailbox
        return self.runner is None and bool(mailbox.queue or self._batch or mailbox.closed)

    def run_pending(self) -> bool:
        """Run the closures that wait, and return True if the loop has ended.

        :raises KeyboardInterrupt: at once; the remaining closures still wait.
        """
        self.on_early = None
        self.runner = thread_id()
        try:
            if self.depth():
                self._work_some()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - as in run
            self._fail(error)
        finally:
            self.runner = None
        return self._mailbox.closed and not self.depth()

    def _work_some(self) -> bool:
        """Wait for jobs and run them; return False if the loop is closed and none is left."""
        # All jobs that wait are taken under one lock, instead of one lock for each.
        self.since = None
        batch = self._batch = self._batch or self._mailbox.take(self._longest_wait)
        if not batch:
            return not self._mailbox.closed or self.depth() > 0
        now = self._now
        began = self.since = now()
        first, jobs, longest = began, len(batch), self.longest
        try:
            while batch:
                batch.popleft()()
                ended = now()
                took = ended - began
                if took > longest:
                    longest = self.longest = took
                if took > QUICK:
                    self.times.add(took)
                    first += took
                    jobs -= 1
                began = self.since = ended
        finally:
            self.times.add_quick(jobs - len(batch), began - first)
        return True

    def _fail(self, error: BaseException) -> None:
        text = "a bug in hubthread: %s stops"
        self._incidents.log_exception(error, text, self.name, level=logging.CRITICAL)
        self._mailbox.close()
        for job in [*self._batch, *self._mailbox.take()]:
            if isinstance(job, _Waited):
                job.call.abandon(HubClosed(f"{self.name} was stopped by a bug: {error!r}"))
        self._batch.clear()
        self._on_failure(error)


class _Closure:
    """A closure of ``exec_async``: its errors go to the log."""

    __slots__ = ("_loop", "_work")

    def __init__(self, loop: Loop[Any], work: Callable[[Any], object]) -> None:
        self._loop = loop
        self._work = work

    def __call__(self) -> None:
        loop = self._loop
        loop.closures_run += 1
        try:
            result = contextvars.Context().run(self._work, loop._view)
            if result is not None:
                refuse_unrun(result)
        except KeyboardInterrupt:
            raise  # meant for the program, not for this closure
        except BaseException as error:  # noqa: BLE001 - logged
            loop.closures_failed += 1
            loop._incidents.log_exception(error, "%s: a closure raised", loop.name)


class _Waited:
    """A closure of ``exec_sync``: its result and its errors go to the caller."""

    __slots__ = ("_interrupt", "_loop", "_work", "call")

    def __init__(self, loop: Loop[Any], work: Callable[[Any], Any]) -> None:
        self._loop = loop
        self._work = work
        self._interrupt: KeyboardInterrupt | None = None
        self.call: Call[Any] = Call(self._run)

    def __call__(self) -> None:
        self._loop.closures_run += 1
        self.call.run()
        if self._interrupt is not None:
            raise self._interrupt

    def _run(self) -> object:
        try:
            return contextvars.Context().run(self._work, self._loop._view)
        except KeyboardInterrupt as error:
            # Meant for the program, not for the thread that waits for this closure.
            self._interrupt = error
            raise HubClosed(f"{self._loop.name} was interrupted") from error
