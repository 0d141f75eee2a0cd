"""The figures of a room's ticks: counts of all of them, times of the last 512.

Layer: rooms.ticking.  Threads: the agenda calls ``add`` and ``copy`` under its lock; a copy
belongs to the thread that asked for it.
"""

from __future__ import annotations

from array import array
from copy import copy

from hubthread.concurrency.histogram import QUICK, Histogram
from hubthread.rooms.ticking.schedule import Tick
from hubthread.statistics import Spread

__all__ = ["TickWindow"]

WINDOW = 512
"""Ticks whose times are kept: 25 s at 20 Hz, and 8 KB a room."""

USUAL = 16
"""Ticks whose mean is the usual work."""


class TickWindow:
    """Work and lateness of the last ticks, and counts of all ticks."""

    def __init__(self) -> None:
        self._work = array("d", bytes(8 * WINDOW))
        self._lateness = array("d", bytes(8 * WINDOW))
        self.ticks = 0
        self.skipped = 0
        self.late = 0
        """Ticks that were due while the room was still at work."""
        self.overruns = 0
        """Ticks that took longer than a period."""
        self.errors = 0
        """Ticks whose ``logic`` raised."""
        # Of all ticks; a histogram is made when a tick takes long or comes late.
        self._work_total = self._late_total = 0.0
        self._long: tuple[Histogram, Histogram] | None = None

    def add(self, tick: Tick, work: float) -> None:
        """Record a tick that took ``work`` seconds."""
        place = self.ticks % WINDOW
        self._work[place] = work
        self._lateness[place] = tick.late
        self.ticks += 1
        late = tick.late
        self._work_total += work
        self._late_total += late
        if work > QUICK or late > QUICK:
            self._add_long(work, late)
        self.skipped += tick.skipped

    def _add_long(self, work: float, late: float) -> None:
        if self._long is None:
            self._long = Histogram(), Histogram()
        for histogram, value in zip(self._long, (work, late), strict=True):
            if value > QUICK:
                histogram.add(value)

    def add_to(self, work: Histogram, late: Histogram) -> None:
        """Add the times of all ticks.  Any thread."""
        ticks, long = self.ticks, self._long
        if long is None:
            work.add_quick(ticks, self._work_total)
            late.add_quick(ticks, self._late_total)
            return
        totals = self._work_total, self._late_total
        for into, more, total in zip((work, late), long, totals, strict=True):
            into.merge(more)
            into.add_quick(ticks - sum(more.counts), total - more.total)

    def usual_work(self) -> float:
        """Return the mean work of the last ticks, in seconds.  Any thread."""
        last = min(self.ticks, USUAL)
        return sum(self._work[(self.ticks - each) % WINDOW] for each in range(1, last + 1)) / max(
            last, 1
        )

    def copy(self) -> TickWindow:
        """Return a copy that later ticks do not change."""
        copied = copy(self)
        copied._work = self._work[:]
        copied._lateness = self._lateness[:]
        return copied

    def spreads(self) -> tuple[Spread, Spread]:
        """Return the spread of work and of lateness."""
        known = min(self.ticks, WINDOW)
        return _spread(self._work[:known]), _spread(self._lateness[:known])


def _spread(values: array[float]) -> Spread:
    if not values:
        return Spread(0.0, 0.0, 0.0)
    ordered = sorted(values)
    last = len(ordered) - 1
    return Spread(ordered[last // 2], ordered[last - last // 100], ordered[last])
