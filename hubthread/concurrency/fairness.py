"""Keep busy readers from starving quick work: yield the GIL after a CPU budget.

Layer: concurrency.  Threads: any.

A thread that computes keeps the GIL for up to ``sys.getswitchinterval()``, 5 ms.  A fan-out
releases the GIL with each of its sends, and may wait that long to get it back each time: a
fan-out to 1,000 members then takes a second instead of milliseconds.  A reader that has spent
``SLICE`` seconds of CPU on one peer without a pause therefore yields: it releases the GIL
briefly, and waits for a fan-out that is running.  New connections wait for it, too.
"""

from __future__ import annotations

import sys
import threading
import time
from contextlib import AbstractContextManager, nullcontext
from time import monotonic, thread_time

__all__ = ["CROWD", "HAS_GIL", "SLICE", "CpuBudget", "FanOuts", "fan_outs", "pause", "yield_gil"]

SLICE = 0.0005
"""Seconds of CPU that a reader may spend on one peer before it yields."""

REST = 0.25
"""The share of idle time above which a reader does not count as busy.  A client that sends
each message after the last reply leaves its reader idle half the time."""

CROWD = 16
"""The number of sends from which a fan-out is worth waiting for."""

MOMENT = 0.00005
"""Seconds of one pause.  With 0 no other thread would run."""

PATIENCE = 0.05
"""Seconds to wait for a fan-out at most, so that a huge one does not stop all reading."""

HAS_GIL: bool = getattr(sys, "_is_gil_enabled", lambda: True)()
"""True if threads take turns.  Free threading: without a GIL no thread is in the way of another,
and nothing yields."""

_NO_FAN_OUT: AbstractContextManager[None] = nullcontext()


def pause(seconds: float) -> None:
    """Give the GIL away for about ``seconds``; the system makes 0.1 ms of a shorter pause.

    This is the only sleep in the package.  It waits for no condition: its purpose is that
    other threads run.  Call it without any lock.
    """
    time.sleep(seconds)


class FanOuts:
    """The fan-outs that run now.  One object for the process, since all hubs share the GIL.

    Threads: every method from any.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # guards what follows
        self._condition = threading.Condition(self._lock)
        self._ended = 0
        self.running = 0

    def of(self, sends: int) -> AbstractContextManager[None]:
        """Return a context manager around ``sends`` sends; a few sends are not counted."""
        return self if sends >= CROWD and HAS_GIL else _NO_FAN_OUT

    def __enter__(self) -> None:
        with self._lock:
            self.running += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self.running -= 1
            self._ended += 1
            self._condition.notify_all()

    def wait_for_one(self) -> bool:
        """Wait for one running fan-out to end; return True if none was running or one ended.

        Later fan-outs are not waited for, so a reader makes progress under constant load.
        """
        if not self.running:
            return True
        with self._lock:
            ended = self._ended
            return self._condition.wait_for(
                lambda: not self.running or self._ended != ended, PATIENCE
            )


fan_outs = FanOuts()


def yield_gil() -> None:
    """Let other threads run first.  Call it without any lock."""
    if HAS_GIL:
        pause(MOMENT)
        fan_outs.wait_for_one()


class CpuBudget:
    """The CPU time that one peer costs its reader; waiting is free.

    Threads: the reader.
    """

    __slots__ = ("_cpu", "_time", "_work")

    def __init__(self) -> None:
        self._cpu = thread_time()
        self._time = monotonic()
        self._work = 0.0  # seconds of CPU since the last pause or yield

    def charge(self, *, more: bool) -> float:
        """Charge the CPU time since the last call, and yield the GIL if the budget is spent.

        :param more: True if more input is ready, so the reader will not pause by itself.
        :returns: the seconds that were charged.
        """
        cpu, now = thread_time(), monotonic()
        spent, passed = cpu - self._cpu, now - self._time
        self._cpu, self._time = cpu, now
        self._work += spent if more else spent - (1 - REST) * passed
        if self._work >= SLICE:
            yield_gil()
            # The time of the yield does not count as idle: the peer's input may have been ready.
            self._time = monotonic()
            self._work = 0.0
        elif self._work < 0:
            self._work = 0.0
        return spent
