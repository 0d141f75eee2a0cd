"""The grid on which a room ticks, and the policies for ticks that were missed.

Tick number *k* is due at ``start + k * dt``, however late the ticks before it began: ticks
do not drift (G6).

Layer: rooms.ticking.  Threads: the tick thread.  Times are passed in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

__all__ = ["OVERRUN_POLICIES", "Overrun", "OverrunPolicy", "Schedule", "Tick"]

OverrunPolicy: TypeAlias = Literal["skip", "burst", "delay"]
"""The policy for several ticks that are due at once: see ``Schedule``."""

OVERRUN_POLICIES: tuple[str, ...] = get_args(OverrunPolicy)


@dataclass(frozen=True, slots=True)
class Tick:
    """One call of a room's ``logic``."""

    index: int
    """Its number, from 1.  Skipped ticks are counted: ``index * dt`` is the room's time."""
    dt: float
    """Seconds from one tick to the next: always the same, however late a tick is."""
    late: float
    """Seconds between the moment it was due and the moment it began."""
    skipped: int
    """Ticks left out directly before it."""


@dataclass(frozen=True, slots=True)
class Overrun:
    """A tick whose work took longer than the time between two ticks."""

    tick: Tick
    work: float
    """Seconds that it took, its sends included."""
    in_a_row: int
    """Number of consecutive ticks, up to this one, that have overrun."""


ROUNDING = 1e-5
"""Share of a period by which a clock may fall short of a whole number of periods."""


class Schedule:
    """The deadlines of one room.

    When several ticks are due at once, because the room or the system was busy:

    * ``"skip"`` runs the last of them, late, and leaves the others out;
    * ``"burst"`` runs the last ``catch_up`` of them, one after another;
    * ``"delay"`` runs one, and the grid moves: the next tick is due ``dt`` after it began.

    :param dt: seconds between ticks.
    :param start: the time of the grid's origin; the first tick is due ``dt`` later.
    """

    __slots__ = ("_catch_up", "_delays", "_start", "deadline", "dt", "index")

    def __init__(self, dt: float, start: float, policy: OverrunPolicy, catch_up: int) -> None:
        self.dt = dt
        self.index = 0
        self._start = start
        self._delays = policy == "delay"
        self._catch_up = catch_up if policy == "burst" else 1
        self.deadline = start + dt
        """The time at which the next tick is due."""

    def begin(self, now: float, *, busy: bool) -> Tick:
        """Return the tick that begins ``now``, and set the next deadline.

        :param now: the deadline, or later.
        :param busy: True if the room was at work at the deadline, False if it woke up late.
        """
        dt = self.dt
        late = now - self.deadline
        skipped = 0
        if self._delays:
            if busy or late >= dt:
                self._start += late
        elif late >= dt * (1 - ROUNDING):
            due = int(late / dt + ROUNDING) + 1
            skipped = max(0, due - self._catch_up)
            late -= skipped * dt
        self.index += 1 + skipped
        self.deadline = self._start + (self.index + 1) * dt
        return Tick(self.index, dt, max(0.0, late), skipped)
