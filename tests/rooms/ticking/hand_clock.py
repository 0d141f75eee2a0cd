"""A clock that the test sets, for rooms whose threads are the point of the test.

Each room has a real tick thread, as with the real clock.  Only time stands still until the
test lets it pass.  Tests that need no threads use the virtual hub of ``conftest.py``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from typing import Any

from hubthread import Hub, HubSetting
from hubthread.concurrency.clock import Step
from hubthread.concurrency.threads import Threads
from tests.rooms.ticking.rooms import AnyFrame
from tests.support import TIMEOUT, AnyHub, Items, Logs


class HandClock:
    """A clock that stands still, and a thread for each step."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self.changed = threading.Condition()
        # A whole number, so that the sums of tests are exact; near the system's clock, by
        # which threads are joined.
        self.start = self.time = float(int(monotonic()) + 1)
        self.drives: list[HandDrive] = []

    def now(self) -> float:
        return self.time

    def wall(self) -> float:
        return self.time

    def drive(self, step: Step, what: str, *, shared: bool = False) -> HandDrive:
        drive = HandDrive(self, step)
        with self.changed:
            self.drives.append(drive)
        self._threads.start(drive.run, what)
        return drive

    def advance(self, seconds: float) -> None:
        """Let time pass, and return at once."""
        with self.changed:
            self.time += seconds
            self.changed.notify_all()

    def rest(self) -> None:
        """Wait until no step has anything to do now."""
        with self.changed:
            assert self.changed.wait_for(
                lambda: all(drive.rests() for drive in self.drives), TIMEOUT
            ), "a step does not come to rest"

    def go(self, seconds: float) -> None:
        """Let time pass, and wait until what is due is done."""
        self.advance(seconds)
        self.rest()


class HandDrive:
    """A step and its thread."""

    phase = 0.0
    handovers = 0

    def __init__(self, clock: HandClock, step: Step) -> None:
        self._clock = clock
        self._step = step
        self._woken = False
        self._due: float | None = None  # while it waits

    def wake(self) -> None:
        with self._clock.changed:
            self._woken = True
            self._clock.changed.notify_all()

    def rests(self) -> bool:
        """Return True while the step waits.  Under the clock's lock."""
        return self._due is not None and not self._woken and self._clock.time < self._due

    def run(self) -> None:
        clock = self._clock
        while (due := self._step()) is not None:
            with clock.changed:
                self._due = due
                clock.changed.notify_all()
                clock.changed.wait_for(lambda: not self.rests())
                self._due, self._woken = None, False
        with clock.changed:
            clock.drives.remove(self)
            clock.changed.notify_all()


def by_hand(hub: AnyHub) -> HandClock:
    """Replace the hub's clock by one that the test sets."""
    clock = HandClock(hub._core.threads)
    hub._core.clock = clock
    return clock


def new_hub(**fields: Any) -> tuple[AnyHub, HandClock, Logs]:
    """Make a hub that is not started, its clock and its log."""
    logs = Logs()
    fields.setdefault("meta_gen", dict)
    hub = Hub(HubSetting[Any, Any](logger=logs, **fields))
    return hub, by_hand(hub), logs


class Noted(Items[Any]):
    """The notes of callbacks."""

    def noting(self, what: Any) -> Callable[..., None]:
        """Return a callback that notes ``what``."""
        return lambda *_: self.add(what)

    def ticking(self, frame: AnyFrame, obj: Any) -> None:
        """Note the number of a tick; a ``logic`` callback."""
        self.add(frame.tick.index)
