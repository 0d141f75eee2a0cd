"""The hub thread: closures of everybody, run by one thread, in the order of acceptance.

Layer: concurrency.  Threads: ``run`` is the loop's thread; everything else is for any.
"""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from collections.abc import Callable
from time import monotonic
from types import CodeType
from typing import Any, Generic, TypeVar

from hubthread.concurrency.calls import Call, thread_id
from hubthread.concurrency.incidents import Incidents
from hubthread.concurrency.mailbox import Mailbox
from hubthread.errors import HubClosed, WrongThread

__all__ = ["Loop"]

View = TypeVar("View")
T = TypeVar("T")


class Loop(Generic[View]):
    """Runs closures one at a time.

    **Guarantee (G1).**  ``exec_async``, ``exec_sync`` and ``schedule`` either raise, and
    have done nothing, or the closure runs exactly once, on the thread of ``run``, in the
    order of acceptance.  After ``close`` they raise ``HubClosed``; what was accepted
    before still runs.  A closure that raises is logged and counted, and the next one
    runs.  Only a bug of the library's own stops the loop: loudly, with every waiting
    ``exec_sync`` told.

    :param view: what each closure is given.
    :param on_failure: called with the error, on the loop's thread, when it stops by a bug.
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
        # The loop's thread; the others only look.
        self.runner: int | None = None
        self.since: float | None = None  # when the present job began; None: it waits for one
        self.longest = 0.0  # of all jobs so far, in seconds
        self._batch: deque[Callable[[], object]] = deque()
        self.closures_run = 0
        self.closures_failed = 0

    # Any thread.

    def exec_async(self, work: Callable[[View], object]) -> None:
        """Run ``work(view)``; returns at once.

        :raises HubClosed: after ``close``.
        :raises QueueFull: when the bound is reached.
        """
        self._mailbox.post(_Closure(self, work))

    def exec_sync(self, work: Callable[[View], T], timeout: float | None = None) -> T:
        """Run ``work(view)``, wait, and return its result or raise its exception.

        On the loop's own thread it runs at once.

        :param timeout: seconds.
        :raises HubClosed, QueueFull: as ``exec_async``.
        :raises DeadlockError, ExecTimeout: see ``Call.result``.
        """
        if self.is_here():
            return work(self._view)
        return self.submit(work).result(self, self.name, timeout)

    def submit(self, work: Callable[[View], T]) -> Call[T]:
        """Run ``work(view)``; returns at once with what one thread can wait for.

        :raises HubClosed, QueueFull: as ``exec_async``.
        """
        waited = _Waited(self, work)
        self._mailbox.post(waited)
        return waited.call

    def schedule(self, job: Callable[[], object]) -> None:
        """Run a job of the library's own, bound or no bound; it must not raise.

        :raises HubClosed: after ``close``.
        """
        self._mailbox.post(job, essential=True)

    def interrupt(self, error: KeyboardInterrupt) -> None:
        """Raise ``error`` on the loop's thread soon, for a job that may not do so itself."""

        def strike() -> None:
            raise error

        self.wake(strike)

    def interrupt_next(self, strike: Callable[[], object]) -> None:
        """Let ``strike`` be the next job, for a signal handler: on the loop's thread, no lock.

        The thread may be on its way to wait for jobs: ``wake`` is for that.
        """
        self._batch.appendleft(strike)

    def wake(self, strike: Callable[[], object]) -> None:
        """Let ``strike`` be a job, if it is not too late."""
        with contextlib.suppress(HubClosed):
            self.schedule(strike)

    @staticmethod
    def callers() -> frozenset[CodeType]:
        """The functions that call closures of the user's on the loop's thread."""
        functions = (_Closure.__call__, _Waited._run, Loop.exec_sync)
        return frozenset(function.__code__ for function in functions)

    def close(self) -> None:
        """Accept nothing more; ``run`` returns when what was accepted has run."""
        self._mailbox.close()

    def is_here(self) -> bool:
        """Whether the caller is the loop's thread."""
        return self.runner == thread_id()

    def refuse_here(self, what: str) -> None:
        """:raises WrongThread: on the loop's thread."""
        if self.is_here():
            raise WrongThread(
                f"{what} waits for clients or for the hub itself, so it is not for the hub "
                f"thread: call it from a handler, from client.exec_async, or from your own thread"
            )

    def turn(self) -> float | None:
        """When what it does now began, or ``None`` (see ``watchdog.Watched``)."""
        return None if self.runner is None else self.since

    def running(self) -> float:
        """For how many seconds the present job has been running; 0 while there is none."""
        since = self.turn()
        return 0.0 if since is None else max(0.0, self._now() - since)

    def depth(self) -> int:
        """How many closures and jobs wait."""
        return self._mailbox.depth() + len(self._batch)

    def oldest(self) -> float:
        """How many seconds the oldest of those has waited, at the most; 0 if none waits."""
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

        :param on_interrupt: called when ``KeyboardInterrupt`` incidents here (the main
            thread); it is to see that the loop is closed, and the rest runs until then.
        :raises KeyboardInterrupt: at the end, when it struck.
        """
        self.runner = thread_id()
        interrupt: KeyboardInterrupt | None = None
        told = True
        try:
            while True:
                try:
                    if not told:  # in here, since a second one may strike in it
                        on_interrupt()
                        told = True
                    while self._work_some():
                        pass
                    break
                except KeyboardInterrupt as error:
                    interrupt = error
                    told = False
        except BaseException as error:  # noqa: BLE001 - our own bug: stop, and say so
            self._fail(error)
        finally:
            self.runner = None
        if interrupt is not None:
            raise interrupt

    def has_to_play(self) -> bool:
        """Whether ``play`` has something to do: work, or to end."""
        mailbox = self._mailbox  # just looked at: who posts plays, or is seen the next time
        return self.runner is None and bool(mailbox.queue or self._batch or mailbox.closed)

    def play(self) -> bool:
        """Run what waits, and return: for a thread that plays others, in virtual time.

        :returns: whether it has ended, where ``run`` would return.
        :raises KeyboardInterrupt: at once; the rest still waits.
        """
        self.runner = thread_id()
        try:
            if self.depth():
                self._work_some()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - our own bug, as in run
            self._fail(error)
        finally:
            self.runner = None
        return self._mailbox.closed and not self.depth()

    def _work_some(self) -> bool:
        """Wait for work and do it; false: closed, and nothing left."""
        # All that has piled up is taken under one lock instead of one lock for each.
        self.since = None
        batch = self._batch = self._batch or self._mailbox.take()
        if not batch:
            return False
        now = self._now
        began = self.since = now()
        longest = self.longest
        while batch:
            batch.popleft()()
            ended = now()
            if ended - began > longest:
                longest = self.longest = ended - began
            began = self.since = ended
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
    """A closure that nobody waits for."""

    __slots__ = ("_loop", "_work")

    def __init__(self, loop: Loop[Any], work: Callable[[Any], object]) -> None:
        self._loop = loop
        self._work = work

    def __call__(self) -> None:
        loop = self._loop
        loop.closures_run += 1
        try:
            self._work(loop._view)
        except KeyboardInterrupt:
            raise  # meant for the program, not for the closure that it struck
        except BaseException as error:  # noqa: BLE001 - told to the log
            loop.closures_failed += 1
            loop._incidents.log_exception(error, "%s: a closure raised", loop.name)


class _Waited:
    """A closure whose caller waits for its result."""

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
            return self._work(self._loop._view)
        except KeyboardInterrupt as error:
            # As above: meant for the program, not for the thread that waits for this.
            self._interrupt = error
            raise HubClosed(f"{self._loop.name} was interrupted") from error
