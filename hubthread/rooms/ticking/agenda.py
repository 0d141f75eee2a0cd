"""What a room with a clock has to do, and when: its closures, its countdowns, its ticks.

Layer: hub.  Threads: any writes it; the room's tick thread asks what is due.

All times here are of the room's own clock, which stands still while the room is paused: so
a pause is nothing that ticks or countdowns have to know of.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from hubthread.concurrency.calls import wait_for
from hubthread.concurrency.clock import Clock
from hubthread.errors import HotlineClosed, QueueFull
from hubthread.rooms.ticking.schedule import Schedule, Tick
from hubthread.rooms.ticking.window import TickWindow

if TYPE_CHECKING:
    from hubthread.clients.client import Client

__all__ = ["Agenda", "Countdown"]

T = TypeVar("T")


class Countdown(Protocol):
    """Something that falls due at a time."""

    due: float
    """When.  Written by ``begin`` and ``ring``."""

    def begin(self, now: float) -> None:
        """It stands from now on.  Under the agenda's lock."""

    def ring(self, now: float) -> None:
        """It is due; it sets ``due`` anew, or drops itself.  On the tick thread."""

    def closed(self) -> None:
        """The room has closed before it was due, or dropped.  On the tick thread."""

    def left(self, member: Client[Any, Any]) -> None:
        """A member has left the room.  Any thread; must return at once."""


class Agenda:
    """One room's.

    Threads: any, but for what says otherwise.

    :param bound: how many closures may wait.
    :param name: the room's, for error messages.
    """

    def __init__(self, clock: Clock, bound: int, name: str) -> None:
        self._clock = clock
        self._bound = bound
        self._name = name
        # Taken itself, not through the condition that shares it: a KeyboardInterrupt cannot
        # strike between it and "with".
        self._lock = threading.Lock()  # guards what follows
        self._changed = threading.Condition(self._lock)
        self._queue: deque[Callable[[], object]] = deque()
        self._countdowns: dict[Countdown, None] = {}
        self._schedule: Schedule | None = None
        self._window = TickWindow()
        self._paused_at: float | None = None  # of the clock that drives us
        self._lag = 0.0  # of ours behind that one
        self._overdue = False  # a tick was due before the last step had come to its end
        self._ticking = False  # there was a tick in this step
        self._ticked = -math.inf  # the end of the last step with one
        self._ending: str | None = None
        self._over = False

    def post(self, work: Callable[[], object], *, essential: bool = False) -> None:
        """Have ``work`` called between ticks, in order.

        :param essential: bound or no bound.
        :raises HotlineClosed: when the room is closing.
        :raises QueueFull: when ``bound`` closures wait.
        """
        with self._lock:
            self._refuse_closing()
            if not essential and len(self._queue) >= self._bound:
                raise QueueFull(
                    f"{self._name}: {self._bound} closures are waiting, the bound of "
                    f"control_size: they come faster than the room runs them"
                )
            self._queue.append(work)

    def add(self, countdown: Countdown) -> None:
        """Have ``countdown`` ring when it is due.

        :raises HotlineClosed: when the room is closing.
        """
        with self._lock:
            self._refuse_closing()
            countdown.begin(self._now())
            self._countdowns[countdown] = None

    def drop(self, countdown: Countdown) -> bool:
        """Have it ring no more; false when it was dropped before, by whomever."""
        with self._lock:
            if countdown not in self._countdowns:
                return False
            del self._countdowns[countdown]
            return True

    def stands(self, countdown: Countdown) -> bool:
        """Whether it will ring, unless it is dropped."""
        with self._lock:
            return countdown in self._countdowns

    def countdowns(self) -> list[Countdown]:
        """Those that stand, oldest first."""
        with self._lock:
            return list(self._countdowns)

    def time(self) -> float:
        """The room's clock, in seconds."""
        with self._lock:
            return self._now()

    def pause(self) -> None:
        """Stop the room's clock: when this returns no tick begins any more."""
        with self._lock:
            if self._paused_at is None:
                self._paused_at = self._clock.now()

    def resume(self) -> None:
        """Let it go on."""
        with self._lock:
            if self._paused_at is not None:
                self._lag += self._clock.now() - self._paused_at
                self._paused_at = None

    @property
    def paused(self) -> bool:
        """Whether the room's clock stands still."""
        return self._paused_at is not None

    def end(self, reason: str) -> None:
        """Accept nothing more; what was accepted is still done."""
        with self._lock:
            if self._ending is None:
                self._ending = reason

    @property
    def ending(self) -> bool:
        """Whether it accepts nothing more."""
        return self._ending is not None

    @property
    def is_over(self) -> bool:
        """Whether all is done, the last callback too."""
        return self._over

    def wait_over(self, timeout: float | None) -> bool:
        """Wait for that, ``timeout`` seconds at most; whether it is so."""
        return wait_for(self._changed, lambda: self._over, timeout)

    def look(self, see: Callable[[TickWindow, int], T]) -> T:
        """What ``see`` makes of what is known of the ticks, and the number of closures."""
        with self._lock:
            return see(self._window, len(self._queue))

    def _refuse_closing(self) -> None:
        if self._ending is not None:
            raise HotlineClosed(f"{self._name} is closed")

    def _now(self) -> float:
        """Under the lock."""
        at = self._paused_at
        return (self._clock.now() if at is None else at) - self._lag

    # The tick thread.

    def begin(self, make: Callable[[float], Schedule] | None) -> None:
        """From now on there are ticks."""
        with self._lock:
            if make is not None:
                self._schedule = make(self._now())

    def next_work(self) -> Callable[[], object] | None:
        """The next closure, unless it is time for a tick.

        Where ticks are due all the time, closures get a period of their own between two.
        """
        # Here and below: mostly there is nothing, and who adds something wakes us after it.
        # Each look without the lock and the clock is time that 1,000 rooms do not have.
        if not self._queue:
            return None
        with self._lock:
            if not self._queue or self._now() >= self._turn():
                return None
            return self._queue.popleft()

    def waiting(self) -> int:
        """How many closures wait."""
        with self._lock:
            return len(self._queue)

    def _turn(self) -> float:
        """Until when closures come before the next tick, if there is one.  Under the lock."""
        schedule = self._schedule
        if schedule is None or self._paused_at is not None or self._ending is not None:
            return math.inf
        due = schedule.deadline
        return due if due > self._ticked else self._ticked + schedule.dt

    def counts_down(self) -> bool:
        """Whether any countdown stands."""
        return bool(self._countdowns)

    def due_countdown(self, until: float) -> tuple[Countdown, float] | None:
        """The one that has been due the longest, at ``until`` or before, and the time."""
        with self._lock:
            first = min(self._countdowns, key=lambda each: each.due, default=None)
            now = self._now()
            waits = self._paused_at is not None or self._ending is not None
            return None if first is None or waits or first.due > until else (first, now)

    def due_tick(self, woke: float) -> Tick | None:
        """The tick that is to be run now."""
        with self._lock:
            schedule = self._schedule
            if schedule is None or self._paused_at is not None or self._ending is not None:
                return None
            now = self._now()
            if now < schedule.deadline or (self._queue and now < self._turn()):
                return None
            busy = self._overdue or woke < schedule.deadline
            self._window.late += busy
            self._ticking = True
            return schedule.begin(now, busy=busy)

    def ticked(self, tick: Tick, work: float, *, overran: bool, raised: bool) -> None:
        """A tick took ``work`` seconds."""
        with self._lock:
            self._window.add(tick, work, overran=overran, raised=raised)

    def ended(self) -> str | None:
        """The reason, once everything that was accepted is done."""
        if self._ending is None:
            return None
        with self._lock:
            return None if self._queue else self._ending

    def next_time(self) -> float:
        """When there is something to do again, on the clock that drives us.

        To be asked at the end of each step.
        """
        with self._lock:
            due = math.inf
            if self._schedule is not None:
                due, now = self._schedule.deadline, self._now()
                self._overdue = now >= due
                if self._ticking:
                    self._ticking, self._ticked = False, now
            if self._queue or self._ending is not None:
                return -math.inf
            if self._paused_at is not None:
                return math.inf
            for countdown in self._countdowns:
                due = min(due, countdown.due)
            return due + self._lag

    def close(self) -> tuple[list[Countdown], list[Callable[[], object]]]:
        """Forget what is left: countdowns, and closures where there was a bug."""
        with self._lock:
            left = list(self._countdowns), list(self._queue)
            self._countdowns.clear()
            self._queue.clear()
            return left

    def finish(self) -> None:
        """All is done."""
        with self._lock:
            self._over = True
            self._changed.notify_all()
