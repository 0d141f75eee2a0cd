"""The time of a hub, and the threads that call its recurring steps.

A part with deadlines of its own is a *step*: a function that does what is due, and returns the
time of its next call.  The real clock calls it on a thread of its own, or on a tick thread that
many steps share.  ``hubthread.testing`` has a clock that calls all steps on one thread, in the
order of their deadlines.

Layer: concurrency.  Threads: ``now``, ``drive`` and ``wake`` may be called on any thread; each
``Ticker`` is one thread, and calls one step.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from operator import attrgetter
from time import monotonic
from typing import Protocol, TypeAlias

from hubthread.concurrency.bell import Bell
from hubthread.concurrency.crew import Monitor
from hubthread.concurrency.deadline import wall_time
from hubthread.concurrency.fairness import HAS_GIL
from hubthread.concurrency.incidents import Incidents
from hubthread.concurrency.shared_clock import SharedSteps, ended
from hubthread.concurrency.threads import Threads

__all__ = ["Clock", "Drive", "RealClock", "Step", "Ticker"]

Step: TypeAlias = Callable[[], float | None]
"""A function that does what is due and returns the time of its next call, in seconds of the
clock.  ``math.inf``: it is called only when woken.  ``None``: it is not called again."""

_living = attrgetter("living")


class Drive(Protocol):
    """The handle of a step that a clock calls."""

    phase: float
    """A share of 1, so that steps which begin together can be due at different times."""
    handovers: int
    """The number of times that other steps went on without it, because it took long."""

    def wake(self) -> None:
        """Let the step be called soon, whatever time it asked for.  Any thread."""


class Clock(Protocol):
    """The source of time of a hub."""

    def now(self) -> float:
        """Return the time in seconds from an arbitrary moment; it never goes back."""

    def wall(self) -> float:
        """Return the time in seconds since 1970, which clients are told."""

    def drive(self, step: Step, what: str, *, shared: bool = False) -> Drive:
        """Call ``step`` now, and again at the times that it returns.

        :param what: the end of its thread's name.
        :param shared: call it on a thread that other steps use, too; ``what`` is in the
            thread's name while the step blocks it.
        :raises RuntimeError: if the system cannot start a thread.
        """


class RealClock:
    """The monotonic clock of the system, with threads for the steps.

    :param monitor: notices shared steps that take long.
    """

    def __init__(self, threads: Threads, monitor: Monitor, incidents: Incidents) -> None:
        self._threads = threads
        # Free threading: a crew for each core, because their steps run in parallel.
        crews = 1 if HAS_GIL else os.cpu_count() or 1
        self._shared = [
            SharedSteps(threads, "ticks" if crews == 1 else f"ticks-{number}", monitor, incidents)
            for number in range(1, crews + 1)
        ]

    # The function itself, because the hub thread calls it for each closure.
    now = staticmethod(monotonic)
    wall = staticmethod(wall_time)

    def drive(self, step: Step, what: str, *, shared: bool = False) -> Drive:
        """See ``Clock.drive``."""
        if shared:
            return min(self._shared, key=_living).drive(step, what)
        ticker = Ticker(step, self._threads)
        try:
            self._threads.launch(ticker, what)
            return ticker  # in the try: an interrupt may come here, and nobody has the ticker
        except BaseException:  # after an interrupt the thread may run all the same
            ticker.end()
            raise


class Ticker(threading.Timer):
    """A timer that is set again and again to absolute deadlines, so that it never drifts.

    It is the thread of one step, for all its ticks.  A new timer for each tick would start a
    thread each time, and be late by the time of that start.
    """

    def __init__(self, step: Step, threads: Threads) -> None:
        super().__init__(0.0, step)
        self.phase = 0.0
        self.handovers = 0
        self._step = step
        self._threads = threads
        self._bell = Bell()

    def wake(self) -> None:
        """See ``Drive.wake``."""
        self._bell.ring()

    def end(self) -> None:
        """Call the step no more."""
        self._step = ended
        self.wake()

    def run(self) -> None:
        """Run the thread."""
        self._threads.guard(self._keep_time)

    def _keep_time(self) -> None:
        while (due := self._step()) is not None:
            delay = due - monotonic()
            if delay > 0:
                self._bell.wait(delay)
        self.finished.set()
