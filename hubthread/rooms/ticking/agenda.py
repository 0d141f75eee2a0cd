"""The agenda of a ticking room: its closures, countdowns and ticks, and which comes next.

The tick loop calls ``Agenda.next`` with the time, and gets one job to do.  All decisions are
here, and no callback runs here.

Times are of the room's own clock, unless their docstring says otherwise.  The room's clock
stands still while the room is paused, so neither ticks nor countdowns have to know of a pause.

Layer: rooms.ticking.  Threads: any thread adds to it; the tick thread asks and works it off.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from hubthread.concurrency.calls import Call, wait_for
from hubthread.concurrency.essential import is_essential
from hubthread.errors import HotlineClosed, QueueFull, UsageError
from hubthread.rooms.ticking.schedule import Overrun, Schedule, Tick
from hubthread.rooms.ticking.window import TickWindow

if TYPE_CHECKING:
    from hubthread.clients.client import Client

__all__ = [
    "LEASE",
    "Agenda",
    "Countdown",
    "Finish",
    "Fire",
    "Flush",
    "Job",
    "RunClosures",
    "RunTick",
    "Start",
    "TellOverrun",
    "WaitUntil",
]

LEASE = "lease"
"""The reason for which a room's clock stands still in a hub that does not own the room."""

CLOSURES_TIME = 0.001
"""Seconds for which closures that wait together run before their messages are sent."""


@dataclass(slots=True)
class Start:
    """Run ``on_start``, then call ``Agenda.begin``."""


@dataclass(slots=True)
class RunClosures:
    """Run the closures that wait: the first, and others until the time is up."""

    most: int
    """The number of closures that waited: no more of them run in this round."""
    until: float
    """The time at which the last of them may begin, on the hub's clock."""


@dataclass(slots=True)
class Fire:
    """Call ``countdown.fire(now)``."""

    countdown: Countdown
    now: float


@dataclass(slots=True)
class RunTick:
    """Run ``logic``, and ask again at its end: the time until then counts as its work."""

    tick: Tick


@dataclass(slots=True)
class TellOverrun:
    """Run ``on_overrun``."""

    overrun: Overrun


@dataclass(slots=True)
class Flush:
    """Send the pushes of other threads."""


@dataclass(slots=True)
class Finish:
    """End the room: everything that was accepted has run."""

    reason: str


@dataclass(slots=True)
class WaitUntil:
    """Return from the step, and ask again at ``time`` or when woken."""

    time: float
    """On the hub's clock.  ``-math.inf``: at once, after other rooms have had their turn."""


Job: TypeAlias = Start | RunClosures | Fire | RunTick | TellOverrun | Flush | Finish | WaitUntil

_START, _FLUSH = Start(), Flush()
_AGAIN, _WHEN_WOKEN = WaitUntil(-math.inf), WaitUntil(math.inf)

# The stages of a round.  ``next`` goes through them in this order.
_BEFORE_START, _CLOSURES, _COUNTDOWNS, _TICK, _REST = range(5)


class Countdown(Protocol):
    """Something that is due at a time."""

    due: float
    """The time at which ``fire`` is to be called.  ``begin`` and ``fire`` set it."""

    def begin(self, now: float) -> None:
        """Start to count down.  Called under the agenda's lock."""

    def is_over(self, now: float) -> bool:
        """Return True if ``fire`` would find its time over."""

    def fire(self, now: float) -> None:
        """Run the due step, and set ``due`` anew or cancel itself.  Called on the tick thread."""

    def closed(self) -> None:
        """Learn that the room has closed first.  Called on the tick thread."""

    def left(self, member: Client[Any, Any]) -> None:
        """Learn that a member has left.  Called on any thread; must return at once."""


_due = attrgetter("due")


class Agenda:
    """The open work of one ticking room, in order.

    Threads: every method from any thread, if it does not say otherwise.

    :param clock: returns the time of the hub's clock.
    :param bound: the number of closures that may wait.
    :param name: the room's name, for error messages.
    """

    def __init__(self, clock: Callable[[], float], bound: int, name: str) -> None:
        self._clock = clock
        self._bound = bound
        self._name = name
        self.flush_due = False
        """True if another thread has pushed.  Any thread sets it; the tick thread clears it."""
        self.refuses = False
        """True while ``on_close`` runs early: nothing is accepted then.  The tick thread's."""
        # Acquired itself, not through the condition that shares it: a KeyboardInterrupt
        # cannot arrive between the lock and "with".
        self._lock = threading.RLock()  # guards what follows
        self._changed = threading.Condition(self._lock)
        self._queue: deque[tuple[Callable[[], object], Call[Any] | None]] = deque()
        self._countdowns: dict[Countdown, None] = {}
        self._schedule: Schedule | None = None
        self.window = TickWindow()
        """The figures of the ticks.  Another thread may read them without the lock."""
        self._paused_at: float | None = None  # on the hub's clock
        self._pauses: set[str] = set()  # the reasons
        self._runs_until = math.inf  # on the hub's clock: the room's lease ends then
        self._lag = 0.0  # of the room's clock behind the hub's
        self._steps = 0  # ticks that a paused room has yet to run
        self._stepping = False  # True in a round with one of them
        self._ending: str | None = None
        self._over = False
        self._stage = _BEFORE_START
        self._round_at: float | None = None  # the latest due time of countdowns in this round
        self._busy_since: float | None = None  # the time since which the room has not rested
        self._tick: Tick | None = None  # the tick that runs
        self._began = 0.0  # when it began, on the hub's clock
        self._overruns = 0  # in a row
        self._ticks = False  # this round has had its tick
        self._ticked_at = -math.inf  # the end of the last round with a tick

    # Closures.

    def post(
        self,
        work: Callable[[], object],
        call: Call[Any] | None = None,
        *,
        essential: bool = False,
    ) -> None:
        """Add a closure: closures run between ticks, in the order of their acceptance.

        :param call: is abandoned if a bug stops the room before ``work`` has run.
        :param essential: accept it although ``bound`` closures wait.
        :raises HotlineClosed: when the room is closing.
        :raises QueueFull: when ``bound`` closures wait, except inside ``run_essential``.
        """
        with self._lock:
            self._refuse_closing()
            full = len(self._queue) >= self._bound
            if full and not essential and not is_essential():
                raise QueueFull(
                    f"{self._name}: {self._bound} closures are waiting, the bound of "
                    f"control_size: they come faster than the room runs them"
                )
            self._queue.append((work, call))

    def note(self, work: Callable[[], object]) -> None:
        """Add a closure of the room itself: never refused, except after the end."""
        with self._lock:
            if not self._over:
                self._queue.append((work, None))

    @property
    def waiting(self) -> bool:
        """True if a closure waits."""
        return bool(self._queue)

    def take(self) -> Callable[[], object]:
        """Remove and return the next closure, after ``RunClosures``.  On the tick thread."""
        # Without the lock: popleft is atomic, and no other thread removes closures.
        return self._queue.popleft()[0]

    # Countdowns.

    def add(self, countdown: Countdown) -> None:
        """Begin ``countdown``, and fire it when it is due.

        :raises HotlineClosed: when the room is closing.
        """
        with self._lock:
            self._refuse_closing()
            countdown.begin(self._room_time())
            self._countdowns[countdown] = None

    def cancel(self, countdown: Countdown) -> bool:
        """Forget ``countdown``; return False if it was not pending any more."""
        with self._lock:
            if countdown not in self._countdowns:
                return False
            del self._countdowns[countdown]
            return True

    def is_pending(self, countdown: Countdown) -> bool:
        """Return True if ``countdown`` will fire, unless it is cancelled."""
        with self._lock:
            return countdown in self._countdowns

    def remaining(self, countdown: Countdown, deadline: float) -> float:
        """Return the seconds until ``deadline``; 0 if ``countdown`` is not pending."""
        with self._lock:
            if countdown not in self._countdowns:
                return 0.0
            return max(0.0, deadline - self._room_time())

    def countdowns(self) -> list[Countdown]:
        """Return the countdowns that are pending, oldest first."""
        with self._lock:
            return list(self._countdowns)

    # The clock, and the end.

    def pause(self, why: str = "paused") -> None:
        """Stop the room's clock: after this returns no tick begins.

        :param why: the clock stands still until ``resume`` was called for each reason.
        """
        with self._lock:
            self._pauses.add(why)
            if self._paused_at is None:
                self._paused_at = self._clock()

    def resume(self, why: str = "paused") -> None:
        """Let the room's clock go on."""
        with self._lock:
            self._pauses.discard(why)
            if self._paused_at is not None and not self._pauses:
                self._lag += self._clock() - self._paused_at
                self._paused_at = None

    def run_until(self, time: float) -> None:
        """Let the clock go on; it stands still from a time of the hub's clock on, for ``LEASE``.

        The tick thread itself looks at the time: no tick begins after it, however late the thread
        gets to run.
        """
        with self._lock:
            self._runs_until = time
            self.resume(LEASE)

    @property
    def paused(self) -> bool:
        """True if the room's clock stands still."""
        return self._paused_at is not None

    def step(self) -> None:
        """Let the clock of a paused room go on by one tick; see ``FrameControl.step``."""
        with self._lock:
            self._refuse_closing()
            if self._paused_at is None:
                raise UsageError(f"{self._name} runs: pause it before a step")
            self._steps += 1

    def end(self, reason: str) -> None:
        """Accept nothing more; accepted work still runs."""
        with self._lock:
            if self._ending is None:
                self._ending = reason

    @property
    def ending(self) -> bool:
        """True if nothing more is accepted."""
        return self._ending is not None or self.refuses

    def wait_over(self, timeout: float | None) -> bool:
        """Wait until the last callback has run; return False if ``timeout`` seconds pass first."""
        return wait_for(self._changed, lambda: self._over, timeout)

    def ticks(self) -> int:
        """Return the number of ticks that have run."""
        with self._lock:
            return self.window.ticks

    def load(self) -> float | None:
        """Return the share of its period that a tick works; None for a room without ticks."""
        schedule = self._schedule
        return None if schedule is None else self.window.usual_work() / schedule.dt

    def snapshot(self) -> tuple[TickWindow, int]:
        """Return the figures of the ticks, and the number of closures that wait."""
        with self._lock:
            return self.window.copy(), len(self._queue)

    # The tick thread.

    def next(self, now: float) -> Job:
        """Return the next job of the room.  The job before it has been done.

        A round is: some closures, each countdown that is due, one tick, ``Flush``,
        ``WaitUntil``.  So no kind of job can starve the others.  If ticks are due all the time,
        closures get a period between two ticks.

        :param now: the time of the hub's clock.
        """
        with self._lock:
            if now >= self._runs_until:
                self._runs_until = math.inf
                self.pause(LEASE)
            paused_at = self._paused_at
            at = (now if paused_at is None else paused_at) - self._lag
            runs = (paused_at is None or self._stepping) and self._ending is None
            stage = self._stage
            if self._steps and stage == _CLOSURES and not runs:
                at, runs = self._begin_step(at)
            if stage <= _CLOSURES:
                if self._busy_since is None:
                    self._busy_since = at
                if stage == _BEFORE_START:
                    self._stage = _CLOSURES
                    return _START
                if self._queue and (not runs or at < self._slot_end()):
                    self._stage = _COUNTDOWNS
                    until = now + CLOSURES_TIME
                    if runs:
                        until = min(until, self._slot_end() + self._lag)
                    return RunClosures(len(self._queue), until)
                stage = _COUNTDOWNS
            if stage == _COUNTDOWNS:
                if self._countdowns and runs:
                    if self._round_at is None:
                        self._round_at = at
                    # A copy: a finaliser may add a countdown, on this thread, meanwhile.
                    first = min(list(self._countdowns), key=_due)
                    if first.due <= self._round_at:
                        self._stage = _COUNTDOWNS
                        return Fire(first, at)
                self._round_at = None
                stage = _TICK
            if stage == _TICK:
                self._stage = _REST
                schedule = self._schedule
                if (
                    runs
                    and schedule is not None
                    and at >= schedule.deadline
                    and (self._stepping or not (self._queue and at < self._slot_end()))
                ):
                    self._stepping = False
                    busy = self._busy_since < schedule.deadline  # type: ignore[operator]
                    self.window.late += busy
                    self._began = now
                    self._tick = tick = schedule.begin(at, busy=busy)
                    self._ticks = True
                    return RunTick(tick)
            elif self._tick is not None:
                overrun = self._record(self._tick, now - self._began)
                self._tick = None
                if overrun is not None:
                    return TellOverrun(overrun)
            if self._ending is not None and not self._queue:
                return Finish(self._ending)
            if self.flush_due:
                return _FLUSH
            return self._end_round(at)

    def begin(self, make: Callable[[float], Schedule]) -> None:
        """Let the room tick from now on.

        :param make: returns the schedule of a grid that starts at its argument.
        """
        with self._lock:
            self._schedule = make(self._room_time())

    def record_error(self) -> None:
        """Count a tick whose ``logic`` raised."""
        with self._lock:
            self.window.errors += 1

    def close(self) -> tuple[list[Countdown], list[Call[Any]]]:
        """Forget the rest, and return it: countdowns, and calls if a bug has stopped the room."""
        with self._lock:
            calls = [call for _, call in self._queue if call is not None]
            countdowns = list(self._countdowns)
            self._countdowns.clear()
            self._queue.clear()
            return countdowns, calls

    def finish(self) -> None:
        """Say that the last callback has run."""
        with self._lock:
            self._over = True
            self._changed.notify_all()

    # Under the lock.

    def _refuse_closing(self) -> None:
        if self.ending:
            reason = f": {self._ending}" if self._ending else ""
            raise HotlineClosed(f"{self._name} is closed{reason}")

    def _room_time(self) -> float:
        at = self._paused_at
        return (self._clock() if at is None else at) - self._lag

    def _begin_step(self, at: float) -> tuple[float, bool]:
        """Set the clock of a paused room to its next tick, unless the room is ending.

        :param at: the time of the room.
        :returns: the time of the room, and True if the tick may run in this round.
        """
        if self._paused_at is None or self._ending is not None or self._schedule is None:
            self._steps = 0
            return at, False
        self._steps -= 1
        self._stepping = True
        due = max(at, self._schedule.deadline)
        self._lag = self._paused_at - due
        return due, True

    def _slot_end(self) -> float:
        """Return the time until which closures come before the next tick."""
        schedule = self._schedule
        if schedule is None:
            return math.inf
        due = schedule.deadline
        return due if due > self._ticked_at else self._ticked_at + schedule.dt

    def _record(self, tick: Tick, work: float) -> Overrun | None:
        """Record a tick that took ``work`` seconds; return the overrun if that is too long."""
        self.window.add(tick, work)
        if work <= tick.dt:
            self._overruns = 0
            return None
        self._overruns += 1
        self.window.overruns += 1
        return Overrun(tick, work, self._overruns)

    def _end_round(self, at: float) -> WaitUntil:
        """Return the time of the next round."""
        self._stage = _CLOSURES
        if self._ticks:
            self._ticks, self._ticked_at = False, at
        if self._queue:
            return _AGAIN
        schedule = self._schedule
        due = math.inf if schedule is None else schedule.deadline
        # A room that was paused with a tick overdue has not been idle at its deadline.
        if at < due:
            self._busy_since = None
        if self._paused_at is not None:
            return _AGAIN if self._steps else _WHEN_WOKEN
        if self._countdowns:
            due = min(due, *map(_due, list(self._countdowns)))
        return WaitUntil(due + self._lag)
