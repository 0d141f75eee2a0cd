"""Virtual time: a clock that the test advances, and the jobs that stand for threads.

Everything that has a thread of its own in a real hub is a *job* here: a step that is called
when it is woken, and at the time that it asked for (see ``concurrency.clock.Step``).  The jobs
run one at a time, in the order of their deadlines; jobs of the same moment run in the order in
which they became due.  So the same inputs give the same states.  A job that waits for others
(``exec_sync``) lets them run on top of it.  So each job has a thread number of its own, its
``role``.

Layer: testing.  Threads: only the thread that made the clock; ``now`` and ``wake`` may be
called on any thread.
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

EPOCH = 1.8e9
"""Seconds from 1970 to the start of each clock."""

ROUNDING = 1e-9
"""Seconds by which a sum of floats may miss a deadline: ten times 0.1 shall be one second."""

MOST_AT_ONCE = 100_000
"""The number of steps at one moment that counts as an endless loop."""

_open: dict[int, list[FakeClock]] = {}
"""The clocks with a running hub, by thread, in the order of their start."""

# Below zero, unlike any thread's ident; -1 has a meaning in strand.py.  Shared by all clocks.
_roles = count(-2, -1)


class Job:
    """A step that the clock calls (see ``Drive``).  No step goes on without another.

    :param may_run: called before each step; while it returns False, the step waits.
    """

    phase = 0.0
    handovers = 0
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
        """Let the step be called at the current time.  Any thread."""
        if not self.queued and not self.over:
            self.queued = True
            self._clock._woken.append(self)


class FakeClock:
    """A clock that starts at 0.0 seconds and moves when ``advance`` is called.

    A virtual hub makes its own clock.  Several hubs share the time if they are given the same
    clock: ``VirtualHub(setting, clock=other.clock)``.
    """

    def __init__(self) -> None:
        self._now = 0.0
        self._thread = threading.get_ident()
        self._woken: deque[Job] = deque()
        self._timers: list[tuple[float, int, Job]] = []  # a heap
        self._coming = count()
        self._loops: list[tuple[Callable[[], bool], Job]] = []
        self._running = 0  # jobs that run now, one on top of the other
        self._hubs = 0
        self._expects = False
        self._at_once = 0  # steps since the time last moved
        self.role = self._thread
        """The number of the simulated thread; see ``concurrency.calls.Simulation``."""

    def now(self) -> float:
        """Return the virtual time in seconds."""
        return self._now

    def wall(self) -> float:
        """Return the virtual time as seconds since 1970: the clock starts on some day of 2027."""
        return EPOCH + self._now

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass, and do everything that becomes due, each at its time.

        :raises UsageError: in a callback, which happens at one moment; use ``spend`` there.
        :raises WrongThread: on any other thread than the one that made the clock.
        """
        if seconds != 0:
            check_number("seconds", seconds, 0)
        if self._running:
            raise UsageError(
                "advance is for the test itself: a callback happens at one moment; "
                "clock.spend(seconds) lets it take time"
            )
        target = round(self._now + seconds, 9)
        self._run_due(target)
        self._move(target)

    def spend(self, seconds: float) -> None:
        """Let ``seconds`` pass in a callback that takes long, and do nothing that becomes due.

        What becomes due meanwhile is late, as it is when a real thread is busy.
        """
        if seconds != 0:
            check_number("seconds", seconds, 0)
        self._move(self._now + seconds)

    def settle(self) -> None:
        """Do everything that is due now; if a callback calls this, after the callback."""
        if not self._running:
            self._run_due(self._now)

    # For the hub and its parts.

    @property
    def in_callback(self) -> bool:
        """True while a job runs."""
        return self._running > 0

    def drive(self, step: Step, what: str, *, shared: bool = False) -> Job:
        """Call ``step`` now, and again at the times that it returns; see ``Clock.drive``."""
        job = self.job(step)
        if self._expects and not self._hubs:  # before the start no wait runs the jobs
            self.run(job)
        return job

    def job(self, step: Step, may_run: Callable[[], bool] | None = None) -> Job:
        """Call ``step`` as ``drive`` does, but only while ``may_run()``."""
        job = Job(self, step, may_run)
        job.wake()
        return job

    def after(self, delay: float, action: Callable[[], object]) -> None:
        """Call ``action`` once, in ``delay`` seconds."""

        def fire() -> None:
            action()

        self._set(Job(self, fire), self._now + delay)

    def add_loop(self, has_work: Callable[[], bool], step: Step) -> None:
        """Call ``step`` while ``has_work()``, before any other job, until it returns ``None``."""
        self._loops.append((has_work, Job(self, step)))

    def run(self, job: Job) -> None:
        """Call a job's step now, in a callback too."""
        with self.played():
            self._run(job)

    def run_others(self) -> None:
        """See ``concurrency.calls.Simulation``; jobs of other hubs' clocks run, too."""
        others = [clock for clock in _open.get(self._thread, ()) if clock is not self]
        for clock in [self, *others, self] if others else [self]:
            clock._run_due(clock._now)

    def run_until(self, arrived: Callable[[], bool], timeout: float | None) -> bool:
        """Let time pass until ``arrived()``; return True if it did.

        :param timeout: seconds; ``None`` until no job has a deadline any more.
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
        """Expect a hub to start: it may be given rooms before its start."""
        self._expects = True

    def open_hub(self) -> None:
        """Count a hub that starts: from now on waits of this thread run the jobs."""
        self._hubs += 1
        if self._hubs == 1:
            _open.setdefault(self._thread, []).append(self)
        set_simulation(self._thread, self)

    def close_hub(self) -> None:
        """Count a hub that has ended."""
        self._hubs -= 1
        if not self._hubs:
            _open[self._thread].remove(self)
        self._yield_to(set_simulation(self._thread, None))

    def _yield_to(self, last: Simulation | None) -> None:
        """Make ``last`` the thread's simulation again, or if it is over, another open clock."""
        if not isinstance(last, FakeClock) or not (last._hubs or last._running):
            clocks = _open.get(self._thread)
            last = clocks[-1] if clocks else None
        set_simulation(self._thread, last)

    @contextmanager
    def played(self) -> Iterator[None]:
        """Become the simulation of the calling thread.

        :raises WrongThread: on any other thread than the one that made the clock.
        """
        if threading.get_ident() != self._thread:
            raise WrongThread("use virtual time only on the thread that made the clock")
        last = set_simulation(self._thread, self)
        try:
            yield
        finally:
            self._yield_to(last)

    # Running jobs.

    def _move(self, to: float) -> None:
        if to > self._now:
            self._now = to
            self._at_once = 0

    def _run_due(self, target: float) -> None:
        """Do everything that is due until ``target``, each at its time, or late."""
        if not self._running:
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
        while timers and timers[0][2].timer is not timers[0]:  # it was woken earlier
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
                continue  # it has run since it was woken
            if not job.running and (job.may_run is None or job.may_run()):
                return job
            woken.append(job)  # it runs below this job, and waits for it
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
        self._running += 1
        try:
            due = job.step()
        finally:
            self._running -= 1
            self.role = last
            job.running = False
        if due is None:
            job.over = True
            self._loops = [each for each in self._loops if each[1] is not job]
        elif due == -math.inf:
            job.wake()
        elif due != math.inf and not job.queued:
            if due == asked and due <= self._now:
                # The step came too early, by the last bit of a sum of floats.
                self._now = math.nextafter(self._now, math.inf)
            self._set(job, due)

    def _set(self, job: Job, due: float) -> None:
        job.timer = (due, next(self._coming), job)
        heapq.heappush(self._timers, job.timer)
