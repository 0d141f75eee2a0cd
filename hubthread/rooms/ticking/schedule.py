"""When a room with a clock ticks, and what becomes of ticks that it could not keep.

Layer: protocol: no threads and no clock, times are handed in.  Threads: a room's own.

Ticks stand on a grid: number *k* is due at ``start + k * dt``, however late the ones before
it were (G6: no drift).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

__all__ = ["OVERRUN_POLICIES", "Overrun", "OverrunPolicy", "Schedule", "Tick"]

OverrunPolicy: TypeAlias = Literal["skip", "burst", "delay"]
"""What happens when ticks come due faster than they are run: see ``Schedule``."""

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
    """How many ticks up to this one have overrun without one between that did not."""


ROUNDING = 1e-5
"""Of a period: a whole multiple of it must not be one less for the last bits of a clock."""


class Schedule:
    """The grid of one room.

    When several ticks are due at once, because the room or the system was busy:

    * ``"skip"`` runs the last of them, late, and leaves the others out;
    * ``"burst"`` runs the last ``catch_up`` of them, one after another;
    * ``"delay"`` runs one, and the grid moves: the next one is due ``dt`` after it began.

    :param dt: seconds between ticks.
    :param start: the first tick is due ``dt`` after it.
    """

    __slots__ = ("_catch_up", "_delays", "_start", "deadline", "dt", "index")

    def __init__(self, dt: float, start: float, policy: OverrunPolicy, catch_up: int) -> None:
        self.dt = dt
        self.index = 0
        self._start = start
        self._delays = policy == "delay"
        self._catch_up = catch_up if policy == "burst" else 1
        self.deadline = start + dt
        """When the next tick is due."""

    def begin(self, now: float, *, busy: bool) -> Tick:
        """The tick that begins ``now``, at the deadline or later.

        :param busy: whether the room was at work at the deadline; else it was woken late.
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
