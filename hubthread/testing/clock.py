"""Virtual time: a clock that goes on when it is told to, and the one thread that plays all.

Layer: testing.  Threads: the one that made the clock, for everything but ``now`` and ``wake``.

Everything that has a thread of its own in a real hub is a *job* here: a step that is called
when it was woken, and at the time that it asked for (see ``concurrency.clock.Step``).  Jobs
run one at a time, in the order of their deadlines, those of one moment in the order in which
they came: the same inputs give the same states.  A job that waits for others (``exec_sync``)
lets them run on top of it, so each has a name of its own, its ``role``.
"""

from __future__ import annotations

import heapq
import math
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count

from hubthread.checks import check_number
from hubthread.concurrency.calls import Simulation, set_simulation
from hubthread.concurrency.clock import Step
from hubthread.errors import UsageError, WrongThread

__all__ = ["FakeClock", "Job"]

ROUNDING = 1e-9
"""Seconds by which sums of floats may miss a deadline: ten times 0.1 are a second."""

MOST_AT_ONCE = 100_000
"""Steps at one moment, after which it seems that something wakes itself for ever."""

_open: dict[int, list[FakeClock]] = {}
"""By thread: the clocks that a hub goes by now, in the order in which they were begun."""

# Below zero, where no thread's ident is, and -1 is taken (see strand).  Of all clocks.
_roles = count(-2, -1)


class Job:
    """A step that the clock calls (see ``Drive``).

    :param may_run: asked before each call; while it says no, the step waits.
    """

    __slots__ = ("_clock", "may_run", "over", "queued", "role", "running", "step", "timer")

    def __init__(
        self, clock: FakeClock, step: Step, may_run: Callable[[], bool] | None = None
    ) -> None:
        self._clock = clock
        self.step = step
        self.may_run = may_run
        self.role = next(_roles)
        self.queued = False
        self.running = False
        self.over = False
        self.timer: tuple[float, int, Job] | None = None

    def wake(self) -> None:
        """See that the step is called at the current time.  Any thread."""
        if not self.queued and not self.over:
            self.queued = True
            self._clock._woken.append(self)


class FakeClock:
    """Seconds that pass when ``advance`` is called, from 0.0 on.

    A virtual hub makes one of its own.  Give the same one to several hubs, and they share
    the time: ``VirtualHub(setting, clock=other.clock)``.
    """

    def __init__(self) -> None:
        self._now = 0.0
        self._thread = threading.get_ident()
        self._woken: deque[Job] = deque()
        self._timers: list[tuple[float, int, Job]] = []  # a heap
        self._coming = count()
        self._loops: list[tuple[Callable[[], bool], Job]] = []
        self._playing = 0  # jobs, one on top of the other
        self._hubs = 0
        self._expects = False
        self._at_once = 0  # steps since time went on
        self.role = self._thread
        """See ``concurrency.calls.Simulation``."""

    def now(self) -> float:
        """The virtual time in seconds."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let so many seconds pass, and do all that is due until then, each at its time.

        :raises UsageError: in a callback, which happens at one moment; ``spend`` is for that.
        :raises WrongThread: on another thread than the one that made the clock.
        """
        if seconds != 0:
            check_number("seconds", seconds, 0)
        if self._playing:
            raise UsageError(
                "advance is for the test itself: a callback happens at one moment; what takes "
                "time in it says so with clock.spend(seconds)"
            )
        target = round(self._now + seconds, 9)
        self._run_due(target)
        self._move(target)

    def spend(self, seconds: float) -> None:
        """Let time pass without anything happening in it: a callback that takes long.

        What comes due meanwhile is late, as where a thread is busy.
        """
        if seconds != 0:
            check_number("seconds", seconds, 0)
        self._move(self._now + seconds)

    def settle(self) -> None:
        """Do all that is due now.  In a callback nothing: it is done after that."""
        if not self._playing:
            self._run_due(self._now)

    # For the hub and its parts.

    @property
    def in_callback(self) -> bool:
        """Whether something runs now."""
        return self._playing > 0

    def drive(self, step: Step, what: str) -> Job:
        """Call ``step`` now, and again and again (see ``Clock``)."""
        job = self.job(step)
        if self._expects and not self._hubs:  # nobody plays yet while this is waited for
            self.run(job)
        return job

    def job(self, step: Step, may_run: Callable[[], bool] | None = None) -> Job:
        """The same, for a step that cannot always run."""
        job = Job(self, step, may_run)
        job.wake()
        return job

    def after(self, delay: float, action: Callable[[], object]) -> None:
        """Call ``action`` once, in ``delay`` seconds."""

        def ring() -> None:
            action()

        self._set(Job(self, ring), self._now + delay)

    def add_loop(self, has_work: Callable[[], bool], step: Step) -> None:
        """Call ``step`` whenever ``has_work``, before all else, until it returns ``None``."""
        self._loops.append((has_work, Job(self, step)))

    def run(self, job: Job) -> None:
        """Call a job's step now, in a callback too."""
        with self.played():
            self._run(job)

    def run_others(self) -> None:
        """See ``concurrency.calls.Simulation``.  Those of other hubs' clocks, too."""
        others = [clock for clock in _open.get(self._thread, ()) if clock is not self]
        for clock in [self, *others, self] if others else [self]:
            clock._run_due(clock._now)

    def run_until(self, arrived: Callable[[], bool], timeout: float | None) -> bool:
        """Let time pass until ``arrived()``, so many seconds at most; whether it is so.

        :param timeout: ``None``: until nothing is to come any more.
        """
        last = math.inf if timeout is None else self._now + timeout
        while True:
            self._run_due(self._now)
            if arrived():
                return True
            due = self._next_due()
            if due > last + ROUNDING or due == math.inf:
                if timeout is not None:
                    self._move(last)
                return False
            self._move(due)

    def expect_hub(self) -> None:
        """A hub was made; it may be given rooms before it begins."""
        self._expects = True

    def open_hub(self) -> None:
        """A hub begins: from now on this thread's waits play the others."""
        self._hubs += 1
        if self._hubs == 1:
            _open.setdefault(self._thread, []).append(self)
        set_simulation(self._thread, self)

    def close_hub(self) -> None:
        """A hub has ended."""
        self._hubs -= 1
        if not self._hubs:
            _open[self._thread].remove(self)
        self._yield_to(set_simulation(self._thread, None))

    def _yield_to(self, last: Simulation | None) -> None:
        """Let ``last`` be the thread's world; if that is over, another that is open."""
        if not isinstance(last, FakeClock) or not (last._hubs or last._playing):
            clocks = _open.get(self._thread)
            last = clocks[-1] if clocks else None
        set_simulation(self._thread, last)

    @contextmanager
    def played(self) -> Iterator[None]:
        """Be the world of the calling thread.

        :raises WrongThread: when that is another than the clock's.
        """
        if threading.get_ident() != self._thread:
            raise WrongThread("virtual time is for the thread that made the clock, and its hub")
        last = set_simulation(self._thread, self)
        try:
            yield
        finally:
            self._yield_to(last)

    # Playing.

    def _move(self, to: float) -> None:
        if to > self._now:
            self._now = to
            self._at_once = 0

    def _run_due(self, target: float) -> None:
        """Do what is due until ``target``, each at its time, or late."""
        if not self._playing:
            self._at_once = 0
        with self.played():
            self._run_woken()
            while (due := self._next_due()) <= target + ROUNDING:
                job = heapq.heappop(self._timers)[2]
                self._move(due)
                self._run(job)
                self._run_woken()

    def _next_due(self) -> float:
        timers = self._timers
        while timers and timers[0][2].timer is not timers[0]:  # woken before it was time
            heapq.heappop(timers)
        return timers[0][0] if timers else math.inf

    def _run_woken(self) -> None:
        while (job := self._next()) is not None:
            self._run(job)

    def _next(self) -> Job | None:
        for has_work, job in self._loops:
            if has_work():
                return job
        woken = self._woken
        for _ in range(len(woken)):
            job = woken.popleft()
            if job.over or not job.queued:
                continue  # it has run since
            if not job.running and (job.may_run is None or job.may_run()):
                return job
            woken.append(job)  # below us it waits for what runs now
        return None

    def _run(self, job: Job) -> None:
        self._at_once += 1
        if self._at_once > MOST_AT_ONCE:
            raise UsageError(
                f"{MOST_AT_ONCE:,} steps at one moment of virtual time, and no end: something "
                f"wakes itself again and again, such as a closure that submits itself"
            )
        if job.may_run is not None and not job.may_run():
            job.wake()
            return
        asked = job.timer[0] if job.timer is not None else None
        job.queued = False
        job.timer = None
        job.running = True
        last, self.role = self.role, job.role
        self._playing += 1
        try:
            due = job.step()
        finally:
            self._playing -= 1
            self.role = last
            job.running = False
        if due is None:
            job.over = True
            self._loops = [each for each in self._loops if each[1] is not job]
        elif due == -math.inf:
            job.wake()
        elif due != math.inf and not job.queued:
            if due == asked and due <= self._now:
                # By the last bit of a sum of floats it was not time: one bit more.
                self._now = math.nextafter(self._now, math.inf)
            self._set(job, due)

    def _set(self, job: Job, due: float) -> None:
        job.timer = (due, next(self._coming), job)
        heapq.heappush(self._timers, job.timer)
