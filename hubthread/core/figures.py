"""Totals that outlive the clients and rooms that they come from.

A counter of a metric never goes back.  So what a client or a room has counted is added to the
totals of its kind when it ends.

Layer: core.  Threads: ``TickFigures`` may be used on any thread; the registry guards the rest
with its lock.
"""

from __future__ import annotations

import threading
from copy import copy
from typing import Final

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


class TickFigures:
    """The ticks of all rooms of one kind.

    Threads: any thread; the tick threads of the kind's rooms share the lock.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # guards what follows
        self.ticks = 0
        self.skipped = 0
        self.overruns = 0
        self.errors = 0
        self.work = Histogram()
        self.late = Histogram()

    def add(self, work: float, late: float, skipped: int, *, overrun: bool) -> None:
        """Count a tick; the times are in seconds."""
        with self._lock:
            self.ticks += 1
            self.skipped += skipped
            self.overruns += overrun
            self.work.add(work)
            self.late.add(late)

    def add_error(self) -> None:
        """Count a tick whose ``logic`` raised."""
        with self._lock:
            self.errors += 1


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

    def copy(self) -> RoomFigures:
        """Return a copy of the counters, for a reader; it shares the figures of ticks."""
        return copy(self)
