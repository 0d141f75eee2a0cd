"""What is remembered of a room's last ticks.

Layer: hub.  Threads: the tick thread adds, under the loop's lock; a snapshot is for any
thread that holds it.
"""

from __future__ import annotations

from array import array

from hubthread.rooms.ticking.schedule import Tick
from hubthread.statistics import Spread

__all__ = ["TickWindow"]

WINDOW = 512
"""Ticks: 25 s at 20 Hz, and 8 KB a room."""


class TickWindow:
    """Work and lateness of the last ticks, and the counts of all of them."""

    def __init__(self) -> None:
        self._work = array("d", bytes(8 * WINDOW))
        self._lateness = array("d", bytes(8 * WINDOW))
        self.ticks = 0
        self.skipped = 0
        self.late = 0
        self.overruns = 0
        self.errors = 0

    def add(self, tick: Tick, work: float, *, overran: bool, raised: bool) -> None:
        """A tick was run."""
        place = self.ticks % WINDOW
        self._work[place] = work
        self._lateness[place] = tick.late
        self.ticks += 1
        self.skipped += tick.skipped
        self.overruns += overran
        self.errors += raised

    def spreads(self) -> tuple[Spread, Spread]:
        """Work and lateness."""
        known = min(self.ticks, WINDOW)
        return _spread(self._work[:known]), _spread(self._lateness[:known])


def _spread(values: array[float]) -> Spread:
    if not values:
        return Spread(0.0, 0.0, 0.0)
    ordered = sorted(values)
    last = len(ordered) - 1
    return Spread(ordered[last // 2], ordered[last - last // 100], ordered[last])
