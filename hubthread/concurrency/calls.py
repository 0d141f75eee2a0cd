"""Wait for the result of another thread, and refuse a wait that would never end.

Layer: concurrency.  Threads: every function may be called on any thread.

Every ``exec_sync`` waits for an *executor*: a hub, or a client's strand.  While it waits, one
table has an entry for its thread.  Before a wait begins, the chain of waits is followed from
the executor to the thread that runs it now, to what that thread waits for, and so on.  A chain
that leads back to the caller would never end: the wait is refused with ``DeadlockError``.

A thread is named by ``thread_id()`` here.  In virtual time (``hubthread.testing``) one thread
simulates all the others; it then has the number of the thread that it simulates.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from hubthread.checks import checked
from hubthread.concurrency.crew import about_to_wait
from hubthread.concurrency.fairness import HAS_GIL, pause
from hubthread.errors import DeadlockError, ExecTimeout

__all__ = [
    "Call",
    "Executor",
    "Simulation",
    "acquire",
    "set_simulation",
    "signal_check",
    "stack_of",
    "thread_id",
    "wait_for",
]

SIGNAL_CHECK = 1.0
"""Seconds after which the main thread waits anew, and so sees a signal that was missed."""

T = TypeVar("T")


class Executor(Protocol):
    """A part that runs closures one at a time."""

    @property
    def runner(self) -> int | None:
        """The ``thread_id`` of the thread that runs its closures now; ``None`` when idle."""


_table_lock = threading.RLock()  # guards the three that follow; held for a few look-ups
_waiting: dict[int, tuple[Executor, Call[Any]]] = {}  # by the number of the waiting thread


class Simulation(Protocol):
    """Virtual time: one real thread that simulates many."""

    role: int
    """The number of the thread that is simulated now."""

    def run_others(self) -> None:
        """Let the other simulated threads do everything that they can do now."""


_simulations: dict[int, Simulation] = {}  # by the ident of the real thread
# True if there is a simulation.  A number is cheaper to read for each message than a
# dictionary: see "Free threading" in the docstring of the package.
_simulated = False


def set_simulation(ident: int, simulation: Simulation | None) -> Simulation | None:
    """Let the thread ``ident`` run ``simulation`` from now on, and return its last one.

    :param simulation: ``None`` for real time.
    """
    global _simulated  # noqa: PLW0603 - see above
    with _table_lock:
        last = _simulations.pop(ident, None)
        if simulation is not None:
            _simulations[ident] = simulation
        _simulated = bool(_simulations)
    return last


def thread_id() -> int:
    """Return the number of the calling thread: its ident, or the role that it simulates."""
    ident = threading.get_ident()
    if not _simulated or (simulation := _simulations.get(ident)) is None:
        return ident
    return simulation.role


def _simulation() -> Simulation | None:
    return _simulations.get(threading.get_ident()) if _simulated else None


def signal_check() -> float | None:
    """Return the seconds after which a wait without a time-out begins anew; None for never.

    Python may miss a signal that comes as a wait begins, until that wait is over.  A program
    whose main thread waits for Ctrl-C would wait for ever.
    """
    is_main = threading.current_thread() is threading.main_thread()
    return SIGNAL_CHECK if is_main else None


def wait_for(
    condition: threading.Condition, arrived: Callable[[], bool], timeout: float | None
) -> bool:
    """Wait until ``arrived()``, for ``timeout`` seconds at most; return True if it did.

    In virtual time the other threads run first.  After that nothing more can happen, because
    time does not pass while a thread waits, and so the wait ends.

    :param condition: notified of changes; not held by the caller.
    :raises DeadlockError: in virtual time, if a wait without a time-out is in vain; in a
        finaliser or a signal handler that has interrupted its thread inside a change of what it
        waits for.
    """
    if condition._lock._is_owned():  # type: ignore[attr-defined]
        if arrived():
            return True
        raise DeadlockError(
            "waiting here would never end: this thread was interrupted inside the call that "
            "it would wait for. Let a finaliser or a signal handler push, write or use "
            "exec_async, which return at once"
        )
    simulation = _simulation()
    if simulation is not None:
        simulation.run_others()
    # The condition's lock itself: a KeyboardInterrupt may be raised in the ``__enter__`` of
    # the condition, which is Python code, and would leave the lock held for ever.
    with condition._lock:  # type: ignore[attr-defined]
        if arrived():
            return True
    if simulation is None and (timeout is None or timeout > 0):
        about_to_wait()
        with condition._lock:  # type: ignore[attr-defined]
            if timeout is None:
                most = signal_check()
                while not condition.wait_for(arrived, most):
                    pass
                return True
            # Python refuses a longer time-out, such as an infinite one.
            return condition.wait_for(arrived, min(timeout, threading.TIMEOUT_MAX))
    if timeout is None:
        raise _in_vain("this")
    return False


def acquire(lock: threading.Lock, name: str) -> None:
    """Wait for another thread to release ``lock``; see ``wait_for``.

    :param name: the name of the awaited object, for the error message.
    """
    if lock.acquire(blocking=False):
        return
    simulation = _simulation()
    if simulation is None:
        about_to_wait()
        lock.acquire()
        return
    simulation.run_others()
    if not lock.acquire(blocking=False):
        raise _in_vain(name)


def _in_vain(name: str) -> DeadlockError:
    return DeadlockError(
        f"waiting for {name} would never end: in virtual time nothing more happens at this "
        f"moment. Return from the callback, and let the test advance the time."
    )


LOOK = 0.002
"""Seconds between two looks at a thread, to see that it waits."""

RUNS = "(it runs: without the GIL Python can read only the stack of a thread that waits)"


def stack_of(ident: int | None) -> str:
    """Return the stack of the thread ``ident`` as text, ``""`` if there is no such thread.

    Without the GIL, frames that end while they are read crash the process.  So the stack of
    another thread is read only if the thread stands still.
    """
    frame = None if ident is None else sys._current_frames().get(ident)
    if ident is None or frame is None:
        return ""
    if not HAS_GIL and ident != threading.get_ident():
        at = frame.f_lasti
        pause(LOOK)
        if sys._current_frames().get(ident) is not frame or frame.f_lasti != at:
            return RUNS
    return "".join(traceback.format_stack(frame))


class Call(Generic[T]):
    """A closure whose caller waits for its result.

    Threads: the executor calls ``run`` or ``abandon`` once; the caller waits in ``result``.
    """

    __slots__ = ("_done", "_error", "_finished", "_value", "_work")

    def __init__(self, work: Callable[[], T]) -> None:
        self._work: Callable[[], T] | None = work
        self._value: T | None = None
        self._error: BaseException | None = None
        self._finished = False
        self._done = threading.Lock()
        self._done.acquire()

    def run(self) -> None:
        """Run the closure, and keep its result or its exception for the caller."""
        work = self._work
        self._work = None
        assert work is not None
        try:
            self._value = checked(work())
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            self._error = error
        self._finished = True
        self._done.release()

    def abandon(self, error: BaseException) -> None:
        """Give the caller ``error`` instead of a result; the closure will not run."""
        self._work = None
        self._error = error
        self._finished = True
        self._done.release()

    def wait(self, timeout: float) -> bool:
        """Wait for the end of the closure in real time; return False after ``timeout`` seconds."""
        if _simulation() is not None or not self._done.acquire(timeout=timeout):
            return False
        self._done.release()
        return True

    def result(self, executor: Executor, name: str, timeout: float | None = None) -> T:
        """Wait, and return the result of the closure or raise its exception.

        :param executor: runs the closure.
        :param name: of the executor, for error messages.
        :param timeout: seconds; ``None`` waits without a limit.
        :raises DeadlockError: if the executor's thread waits, directly or through others, for
            the calling thread.  The closure stays queued, and runs when the chain is resolved.
        :raises ExecTimeout: with the stack of the executor's thread.
        """
        # Finished and acquired: an interrupt has kept the result from its caller.
        if not self._finished and not self._done.acquire(blocking=False):
            waiter = thread_id()
            # The rest of a time-out that is used up may be below zero.
            most = -1.0 if timeout is None else min(max(0.0, timeout), threading.TIMEOUT_MAX)
            simulation = _simulation()
            interrupted = _waiting.get(waiter)  # by a signal handler that waits here
            try:
                self._begin_wait(waiter, executor, name)
                if simulation is None:
                    about_to_wait()
                    arrived = self._done.acquire(timeout=most)
                else:
                    simulation.run_others()
                    arrived = self._done.acquire(blocking=False)
            finally:
                with _table_lock:
                    if interrupted is None or interrupted[1]._finished:
                        _waiting.pop(waiter, None)
                    else:
                        _waiting[waiter] = interrupted
            if not arrived:
                if timeout is None:
                    raise _in_vain(name)
                raise ExecTimeout(
                    f"{name} gave no result within {timeout:.4g} s; it is doing:",
                    stack_of(executor.runner) or "(nothing: no thread runs its closures)",
                )
        error = self._error
        if error is not None:
            try:
                raise error
            finally:
                # Break the circle: the traceback refers to this frame, and the frame to the
                # error.
                self._error = error = None
        return self._value  # type: ignore[return-value]  # None only if the closure returned it

    def _begin_wait(self, waiter: int, executor: Executor, name: str) -> None:
        """Enter the wait in the table, or raise ``DeadlockError``.

        The last wait of a cycle closes it, and the lock serialises the starts of waits: the
        last one sees all the others.
        """
        with _table_lock:
            seen = executor
            while (thread := seen.runner) is not None:
                if thread == waiter:
                    raise DeadlockError(
                        f"waiting for {name} would never end: it waits for this thread, "
                        f"directly or through others. Use exec_async, or do the work after "
                        f"the callback has returned."
                    )
                following = _waiting.get(thread)
                # A wait that has its result holds nothing up: its thread is about to wake.
                if following is None or following[1]._finished:
                    break
                seen = following[0]
            _waiting[waiter] = (executor, self)
