"""Who has much to do lets those go first who have little: all share one interpreter lock.

Layer: concurrency.  Threads: any.

A thread that computes gives the interpreter lock away when it is asked to, and it is asked
after ``sys.getswitchinterval()``, 5 ms.  A fan-out gives the lock away with each of its sends,
and may get it back as late each time: one client that floods a server turned the 7 ms of a
fan-out to 1,000 members into a second.  So whoever has worked for ``SLICE`` seconds on what
one peer sends, without rest, waits for a moment, in which the lock changes hands, and lets the
fan-out through that is under way, if there is one; and so does who has just come.
"""

from __future__ import annotations

import sys
import threading
from contextlib import AbstractContextManager, nullcontext
from time import monotonic, thread_time

__all__ = ["CROWD", "SLICE", "CpuBudget", "FanOuts", "fan_outs", "yield_gil"]

SLICE = 0.0005
"""Seconds of work on one peer's input before others go first."""

REST = 0.25
"""The part of the time that a reader waits for more, if its work is no burden: one message after
the other, each after the answer to the last, leaves half."""

CROWD = 16
"""How many sends are worth waiting for."""

_MOMENT = 0.00005
"""Seconds: the system makes about 0.1 ms of it.  A wait of 0 lets nobody else run."""

_turnstile = threading.Lock()
_turnstile.acquire()  # and never released: who waits for it lets others go first

PATIENCE = 0.05
"""Seconds that a fan-out is waited for at most, lest a very large one stops all reading."""

_ONE_LOCK: bool = getattr(sys, "_is_gil_enabled", lambda: True)()
"""Without it, on free-threaded CPython, nobody is in the way."""

_SMALL: AbstractContextManager[None] = nullcontext()


class FanOuts:
    """Those that are under way: one for the process, since all hubs share the lock.

    Threads: every method from any.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition(threading.Lock())
        self._ended = 0
        self.running = 0

    def of(self, sends: int) -> AbstractContextManager[None]:
        """Around so many sends."""
        return self if sends >= CROWD and _ONE_LOCK else _SMALL

    def __enter__(self) -> None:
        with self._condition:
            self.running += 1

    def __exit__(self, *error: object) -> None:
        with self._condition:
            self.running -= 1
            self._ended += 1
            self._condition.notify_all()

    def let_through(self) -> bool:
        """Wait until one ends that is under way; whether none is, or one has.

        Not for those that follow: where they never cease, who waits has its turns, too.
        """
        if not self.running:
            return True
        with self._condition:
            ended = self._ended
            return self._condition.wait_for(
                lambda: not self.running or self._ended != ended, PATIENCE
            )


fan_outs = FanOuts()


def yield_gil() -> None:
    """Let others go first.  Without any lock."""
    if _ONE_LOCK:
        _turnstile.acquire(timeout=_MOMENT)
        fan_outs.let_through()


class CpuBudget:
    """What one peer makes its reader do; kept by CPU time, in which waiting is free.

    Threads: the reader.
    """

    __slots__ = ("_seen", "_used", "_work")

    def __init__(self) -> None:
        self._used = thread_time()
        self._seen = monotonic()
        self._work = 0.0  # without rest, since others went first

    def look(self, *, more: bool) -> float:
        """Give way where that is due; seconds of CPU since the last look.  Takes 1 µs.

        :param more: there was more to read than was read, so there will be no rest.
        """
        used, seen = thread_time(), monotonic()
        took, passed = used - self._used, seen - self._seen
        self._used, self._seen = used, seen
        self._work += took if more else took - (1 - REST) * passed
        if self._work >= SLICE:
            yield_gil()
            self._seen = monotonic()  # that was no rest: there may have been more all the time
            self._work = 0.0
        elif self._work < 0:
            self._work = 0.0
        return took
