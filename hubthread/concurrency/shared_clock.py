"""Shared tick threads: a few threads that call any number of recurring steps at their times.

The steps belong to a crew (``crew.py``), whose source is a heap of their deadlines.  A step that
takes long is left behind by the others.  It is remembered then: its next calls have another
thread take over at once, until several of them were quick.

Layer: concurrency.  Threads: ``SharedSteps.drive`` and ``SharedStep.wake`` may be called on any
thread; the steps run on the tick threads, each on one at a time, and not always on the same.
"""

from __future__ import annotations

import heapq
import math
import threading
from collections import deque
from collections.abc import Callable
from itertools import count
from time import monotonic

from hubthread.concurrency.bell import Bell
from hubthread.concurrency.crew import Crew, Monitor, Step, about_to_wait
from hubthread.concurrency.incidents import Incidents
from hubthread.concurrency.threads import Threads

__all__ = ["SharedStep", "SharedSteps", "TickThread", "ended"]

QUICK = 10
"""The number of quick calls in a row after which a step does not count as slow any more."""

BREATH = 0.0002
"""Seconds of the shortest wait.  Steps that become due during it run together: each wait costs
two system calls, and often a thread switch."""

GOLDEN = 0.618033988749895
"""The golden ratio: the multiples of no other number are spread as evenly, however many."""

_numbers = count()


class TickThread(threading.Timer):
    """A timer that is set again and again, for the steps of many rooms.

    :param work: the thread's part in the crew.
    """

    def __init__(self, work: Callable[[], None], threads: Threads) -> None:
        super().__init__(0.0, work)
        self._threads = threads

    def run(self) -> None:
        """Run the thread."""
        self._threads.guard(self.function)
        self.finished.set()


class SharedStep:
    """A step on a shared tick thread; see ``clock.Drive``.

    The thread that waits for the deadlines makes it busy, and no other thread does.  The thread
    that has called it makes it idle again.  ``woken`` is set and ``due`` read without a lock:
    both are followed by a look of the thread that waits.
    """

    __slots__ = (
        "_quick",
        "_steps",
        "busy",
        "call",
        "due",
        "entry",
        "handed",
        "handovers",
        "phase",
        "what",
        "woken",
    )

    def __init__(self, steps: SharedSteps, call: Callable[[], float | None], what: str) -> None:
        self._steps = steps
        self.call: Callable[[], float | None] | None = call
        self.what = what
        self.phase = next(_numbers) * GOLDEN % 1.0
        self.due: float | None = -math.inf
        """The time that it has asked for."""
        self.entry: tuple[float, int, SharedStep] | None = None
        """Its place in the heap, if it has one."""
        self.busy = False
        """True from the time that it is ready until it has run."""
        self.woken = False
        """True if it was woken since its last call began."""
        self.handed = False
        """True if another thread took the lead while it ran."""
        self.handovers = 0
        """The number of times that another thread took the lead while it ran."""
        self._quick = QUICK  # quick calls in a row

    def wake(self) -> None:
        """See ``Drive.wake``."""
        if not self.woken:
            try:
                self.woken = True
                self._steps.look_at(self)
            except BaseException:  # an interrupt: later calls rely on this one
                self._steps.look_at(self)
                raise

    def __call__(self) -> None:
        """Call the step, on a tick thread."""
        if self._quick < QUICK:
            about_to_wait()
        self.woken = False
        due: float | None = None
        try:
            assert self.call is not None
            due = self.call()
        finally:
            if self.handed:
                self.handed = False
                self._quick = 0
            elif self._quick < QUICK:
                self._quick += 1
            self.due = due
            self.busy = False
            self._steps.look_at(self)


class SharedSteps:
    """The steps of one crew, and the heap of their deadlines: a ``crew.Source``.

    The crew starts with the first step and ends with the last.

    :param name: the first part of the threads' names.
    """

    def __init__(
        self, threads: Threads, name: str, monitor: Monitor, incidents: Incidents
    ) -> None:
        def start(target: Callable[[], None], what: str) -> None:
            threads.launch(TickThread(target, threads), what)

        self._crew = Crew(self, start, name, monitor, incidents, _left_behind)
        self._bell = Bell()  # wakes the thread that waits
        self._waiting = False
        # Steps that were woken or have run.  Any thread appends, which is atomic.
        self._changed: deque[SharedStep] = deque()
        # For the thread that waits.  An exception that strikes there leaves what is ready.
        self._ready: list[SharedStep] = []
        self._heap: list[tuple[float, int, SharedStep]] = []
        self._tie = count()
        self._lock = threading.RLock()  # guards what follows
        self._led = False
        self._living: set[SharedStep] = set()

    @property
    def living(self) -> int:
        """The number of steps that have not ended."""
        return len(self._living)

    def drive(self, call: Callable[[], float | None], what: str) -> SharedStep:
        """Call ``call`` now, and again at the times that it returns.

        :param what: names it, in the name of a thread that it blocks.
        :raises RuntimeError: if the system cannot start a thread.
        """
        step, start = SharedStep(self, call, what), False
        try:
            with self._lock:
                self._living.add(step)
                start, self._led = not self._led, True
            if start:
                self._crew.start()
                start = False
            step.wake()
            return step  # in the try: an interrupt may come here, and nobody has the step
        except BaseException:
            step.call = ended
            with self._lock:
                self._living.discard(step)
                self._led = self._led and not start
            self._bell.ring()
            raise

    def look_at(self, step: SharedStep) -> None:
        """Have the thread that waits look at a step which has changed."""
        self._changed.append(step)
        if self._waiting:
            self._bell.ring()

    def wait(self) -> list[SharedStep] | None:
        """Wait for steps that are due or woken; see ``crew.Source``."""
        ready, heap = self._ready, self._heap
        while True:
            self._sort_changed(ready)
            now = monotonic()
            while heap and heap[0][0] <= now:
                entry = heapq.heappop(heap)
                step = entry[2]
                if step.entry is entry:
                    step.entry = None
                    if not step.busy:
                        step.busy = True
                        ready.append(step)
            if ready:
                self._ready = []
                return ready
            with self._lock:
                if not self._living:
                    self._led = False
                    return None
            self._waiting = True
            # A step that has changed before ``_waiting`` was set rings no bell.
            if not self._changed:
                self._bell.wait(max(BREATH, heap[0][0] - now) if heap else None)
            self._waiting = False

    def _sort_changed(self, ready: list[SharedStep]) -> None:
        """Append the changed steps that are ready, and put the others into the heap."""
        changed = self._changed
        while changed:
            step = changed.popleft()
            if step.busy:
                continue  # looked at again when it has run
            due = step.due
            if due is None:
                step.busy = True  # for ever
                step.call = None  # the heap may keep the step for long
                with self._lock:
                    self._living.discard(step)
            elif step.woken or due == -math.inf:
                step.busy = True
                ready.append(step)
            elif due == math.inf:
                step.entry = None
            elif step.entry is None or step.entry[0] != due:
                step.entry = (due, next(self._tie), step)
                heapq.heappush(self._heap, step.entry)


def ended() -> None:
    """Do nothing more: a step that is called in vain."""


def _left_behind(step: Step) -> str:
    assert isinstance(step, SharedStep)
    step.handed = True
    step.handovers += 1
    return step.what
