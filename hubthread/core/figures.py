"""Totals that outlive the clients and rooms that they come from.

A counter of a metric never goes back.  So what a client or a room has counted is added to the
totals of its kind when it ends.

Layer: core.  Threads: the registry guards the totals with its lock; a copy belongs to its reader.
"""

from __future__ import annotations

from copy import copy
from typing import Final, Protocol

from hubthread.concurrency.histogram import LONG_BOUNDS, Histogram

__all__ = ["MAX_KINDS", "OTHER", "ClientFigures", "RoomFigures", "TickFigures"]

MAX_KINDS: Final = 50
"""Kinds of rooms that metrics tell apart: each kind is a series of its own in the database."""

OTHER: Final = "other"
"""The kind of the rooms that come after ``MAX_KINDS`` kinds."""


class ClientFigures:
    """Counters of the clients of one kind."""

    def __init__(self) -> None:
        self.opened = 0
        """Clients that came, so far."""
        self.seconds = Histogram(LONG_BOUNDS)
        """The time from the begin to the end of each client that is gone."""
        self.connected = 0
        """Clients that are connected now."""

    def copy(self) -> ClientFigures:
        """Return a copy of the counters, for a reader; it shares the histogram."""
        return copy(self)


class Ticks(Protocol):
    """The figures of one room's ticks: ``rooms.ticking.window.TickWindow``."""

    ticks: int
    skipped: int
    overruns: int
    errors: int

    def add_to(self, work: Histogram, late: Histogram) -> None:
        """Add the times of all ticks."""


class TickFigures:
    """The ticks of several rooms."""

    def __init__(self) -> None:
        self.ticks = 0
        self.skipped = 0
        self.overruns = 0
        self.errors = 0
        self.work = Histogram()
        self.late = Histogram()

    def add(self, room: Ticks) -> None:
        """Add the ticks of a room."""
        self.ticks += room.ticks
        self.skipped += room.skipped
        self.overruns += room.overruns
        self.errors += room.errors
        room.add_to(self.work, self.late)

    def add_to(self, work: Histogram, late: Histogram) -> None:
        """Add the times of all ticks."""
        work.merge(self.work)
        late.merge(self.late)

    def copy(self) -> TickFigures:
        """Return a copy to which more rooms may be added."""
        copied = copy(self)
        copied.work, copied.late = Histogram(), Histogram()
        copied.work.merge(self.work)
        copied.late.merge(self.late)
        return copied


class RoomFigures:
    """Counters of the rooms of one kind."""

    def __init__(self) -> None:
        self.pushes = 0
        """Pushes of the rooms that are closed."""
        self.recovered = 0
        """Clients that came back with their position and got what they had missed."""
        self.not_recovered = 0
        """Clients that came back with a position that the history does not reach."""
        self.ticks = TickFigures()
        """The ticks of the rooms that are closed."""

    def copy(self) -> RoomFigures:
        """Return a copy of the counters, to which a reader adds the rooms that are open."""
        copied = copy(self)
        copied.ticks = self.ticks.copy()
        return copied
