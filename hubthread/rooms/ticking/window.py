"""The figures of a room's ticks: counts of all of them, times of the last 512.

Layer: rooms.ticking.  Threads: the agenda calls ``add`` and ``copy`` under its lock; a copy
belongs to the thread that asked for it.
"""

from __future__ import annotations

from array import array
from copy import copy

from hubthread.rooms.ticking.schedule import Tick
from hubthread.statistics import Spread

__all__ = ["TickWindow"]

WINDOW = 512
"""Ticks whose times are kept: 25 s at 20 Hz, and 8 KB a room."""


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
        self.usual_work = 0.0
        """Seconds that a tick takes: an average in which the last sixteen count most."""

    def add(self, tick: Tick, work: float) -> None:
        """Record a tick that took ``work`` seconds."""
        place = self.ticks % WINDOW
        self._work[place] = work
        self._lateness[place] = tick.late
        self.ticks += 1
        self.usual_work += (work - self.usual_work) / min(self.ticks, 16)
        self.skipped += tick.skipped

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
