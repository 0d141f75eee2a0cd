"""Time: the clock that rooms and polls read, and the threads that keep their deadlines.

Layer: concurrency.  Threads: ``now``, ``drive`` and ``wake`` from any; each ``Ticker`` runs
one step function.

Whoever has deadlines of its own is a *step*: a function that does what is due and says when
it wants to be called next.  Real time gives each step a thread; ``hubthread.testing`` has a
clock that calls them in the order of their deadlines, without any.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from time import monotonic
from typing import Protocol, TypeAlias

from hubthread.concurrency.threads import Threads

__all__ = ["Clock", "Drive", "RealClock", "Step", "Ticker"]

Step: TypeAlias = Callable[[], float | None]
"""Does what is due; returns the time (of the clock, in seconds) for its next call,
``math.inf`` to be called only when woken, ``None`` to be called no more."""


class Drive(Protocol):
    """A step that is being called."""

    def wake(self) -> None:
        """See that the step is called soon, whatever it asked for.  Any thread."""


class Clock(Protocol):
    """What keeps time for a hub."""

    def now(self) -> float:
        """Seconds, from some moment on; never goes back."""

    def drive(self, step: Step, what: str) -> Drive:
        """Call ``step`` now, and again and again.

        :param what: names its thread.
        :raises RuntimeError: when the system gives no thread.
        """


class RealClock:
    """The monotonic clock of the system, and a thread for each step."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads

    # Not a method that calls it: the hub thread reads it for each closure.
    now = staticmethod(monotonic)

    def drive(self, step: Step, what: str) -> Drive:
        """See ``Clock``."""
        ticker = Ticker(step, self._threads)
        self._threads.launch(ticker, what)
        return ticker


class Ticker(threading.Timer):
    """A timer that is set again and again, to absolute deadlines: no drift.

    One thread for all its ticks, where a new timer for each would start a thread each time
    and lose what the start takes.
    """

    def __init__(self, step: Step, threads: Threads) -> None:
        super().__init__(0.0, step)
        self._step = step
        self._threads = threads
        # Released once by whoever wakes it: the only wait there is, with or without a
        # deadline, is to acquire it.
        self._alarm = threading.Lock()
        self._alarm.acquire()

    def wake(self) -> None:
        """See ``Drive``."""
        if self._alarm.locked():
            with contextlib.suppress(RuntimeError):  # somebody else was quicker
                self._alarm.release()

    def run(self) -> None:
        """The thread."""
        self._threads.guard(self._keep_time)

    def _keep_time(self) -> None:
        while (due := self._step()) is not None:
            delay = due - monotonic()
            if delay > 0:
                self._alarm.acquire(timeout=min(delay, threading.TIMEOUT_MAX))
        self.finished.set()
