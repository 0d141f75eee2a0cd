"""Who waits for whom: a result handed from one thread to another, and cycles refused.

Layer: concurrency.  Threads: any; each part says so.

A thread has a name here, ``thread_id()``: its ident.  In virtual time (``hubthread.testing``) one
thread plays all the others, and it has the name of the one that it plays.

Every ``exec_sync`` waits for an *executor*: a hub, or a client's strand.  While it
waits, its thread stands in one table.  Before it begins to wait, the chain of waits is
followed: executor, the thread that runs it now, what that thread waits for, and so on.
A chain that comes back to the caller would never end, and is refused.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from hubthread.errors import DeadlockError, ExecTimeout

__all__ = ["Call", "Executor", "World", "acquire", "play_for", "stack_of", "thread_id", "wait_for"]

T = TypeVar("T")


class Executor(Protocol):
    """Something that runs closures one at a time."""

    @property
    def runner(self) -> int | None:
        """The ``thread_id`` of the thread that runs its closures now; ``None`` when idle."""


_table_lock = threading.Lock()  # guards _waiting; held for a few dictionary look-ups
_waiting: dict[int, tuple[Executor, Call[Any]]] = {}  # by the name of who waits


class World(Protocol):
    """All the threads that one thread plays, in virtual time."""

    role: int
    """The name of the one that it plays now."""

    def run_others(self) -> None:
        """Let the others do all that they can do now, while this one waits."""


_worlds: dict[int, World] = {}  # by the ident of the thread that plays
# Whether there is any: readers look at it for each message, and unlike the dictionary it is
# nothing whose references have to be counted.
_played = False


def play_for(ident: int, world: World | None) -> World | None:
    """Let the thread ``ident`` play ``world`` from now on (``None``: none); the last one."""
    global _played  # noqa: PLW0603 - see above
    with _table_lock:
        last = _worlds.pop(ident, None)
        if world is not None:
            _worlds[ident] = world
        _played = bool(_worlds)
    return last


def thread_id() -> int:
    """Who is calling: the ident of its thread, or the name of the one that is played."""
    ident = threading.get_ident()
    return ident if not _played or (world := _worlds.get(ident)) is None else world.role


def _world() -> World | None:
    return _worlds.get(threading.get_ident()) if _played else None


def wait_for(
    condition: threading.Condition, arrived: Callable[[], bool], timeout: float | None
) -> bool:
    """Wait until ``arrived()``, ``timeout`` seconds at most; whether it is so.

    In virtual time the others run first, and then there is nothing to wait for: time goes
    on only when the waiting is over.

    :param condition: notified of changes; not held by the caller.
    :raises DeadlockError: in virtual time, for a wait without a time-out that was in vain.
    """
    world = _world()
    if world is not None:
        world.run_others()
    # Its lock itself: a KeyboardInterrupt may strike in the condition's own __enter__, and
    # then nobody would give the lock back.
    with condition._lock:  # type: ignore[attr-defined]
        if world is None:
            # Python refuses longer ones, such as an infinite one.
            most = None if timeout is None else min(timeout, threading.TIMEOUT_MAX)
            return condition.wait_for(arrived, most)
        if arrived():
            return True
    if timeout is None:
        raise _in_vain("this")
    return False


def acquire(lock: threading.Lock, name: str) -> None:
    """Wait for another thread to release ``lock``; for its ``name``, see ``wait_for``."""
    world = _world()
    if world is None:
        lock.acquire()
        return
    world.run_others()
    if not lock.acquire(blocking=False):
        raise _in_vain(name)


def _in_vain(name: str) -> DeadlockError:
    return DeadlockError(
        f"waiting for {name} would wait for ever: in virtual time nothing more happens now. "
        f"Return, and let the time go on."
    )


def stack_of(ident: int | None) -> str:
    """The stack of the thread ``ident`` as text, ``""`` when it has none."""
    frame = sys._current_frames().get(ident) if ident is not None else None
    return "".join(traceback.format_stack(frame)) if frame is not None else ""


class Call(Generic[T]):
    """One piece of work whose caller wants its result.

    Threads: whoever executes it calls ``run`` (or ``abandon``) once; the caller waits in
    ``result``.
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
        """Do the work and keep its result or its exception for the caller."""
        work = self._work
        self._work = None
        assert work is not None
        try:
            self._value = work()
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            self._error = error
        self._finished = True
        self._done.release()

    def abandon(self, error: BaseException) -> None:
        """Give the caller ``error`` instead of a result; the work will not run."""
        self._work = None
        self._error = error
        self._finished = True
        self._done.release()

    def result(self, executor: Executor, name: str, timeout: float | None = None) -> T:
        """Wait, and return the result or raise the exception of the work.

        :param timeout: seconds; ``None`` waits as long as it takes.
        :raises DeadlockError: when the executor's thread waits, over whatever chain,
            for this one.  The work stays queued and runs when the chain is resolved.
        :raises ExecTimeout: with the stack of what the executor is doing.
        """
        if not self._done.acquire(blocking=False):
            waiter = thread_id()
            # A time-out that has been used up already may come out below zero.
            patience = -1.0 if timeout is None else min(max(0.0, timeout), threading.TIMEOUT_MAX)
            world = _world()
            try:
                self._begin_wait(waiter, executor, name)
                if world is None:
                    arrived = self._done.acquire(timeout=patience)
                else:
                    world.run_others()
                    arrived = self._done.acquire(blocking=False)
            finally:
                with _table_lock:
                    _waiting.pop(waiter, None)
            if not arrived:
                if timeout is None:
                    raise _in_vain(name)
                raise ExecTimeout(
                    f"{name} gave no result within {timeout:.4g} s; it is doing:",
                    stack_of(executor.runner) or "(nothing: it has not got a thread)",
                )
        error = self._error
        if error is not None:
            try:
                raise error
            finally:
                # The traceback holds this frame, and this frame the error.
                self._error = error = None
        return self._value  # type: ignore[return-value]  # None only if the work returned it

    def _begin_wait(self, waiter: int, executor: Executor, name: str) -> None:
        """Enter the wait in the table, or raise ``DeadlockError``.

        The edge that closes a cycle is always the start of a wait, and starts are
        serialised by the lock: whoever comes last sees all the others.
        """
        with _table_lock:
            seen = executor
            while (thread := seen.runner) is not None:
                if thread == waiter:
                    raise DeadlockError(
                        f"waiting for {name} would wait for ever: it (or what it waits for) "
                        f"is waiting for this thread. Use exec_async, or do the work after "
                        f"returning."
                    )
                following = _waiting.get(thread)
                # One that has its result, and has not woken up yet, holds up nobody.
                if following is None or following[1]._finished:
                    break
                seen = following[0]
            _waiting[waiter] = (executor, self)
