"""Rooms with a clock, for their tests: real threads, and a time that the test sets."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from typing import Any

from hubthread import FrameControl, HotlineFrameOption, Hub, HubSetting
from hubthread.concurrency.clock import Step
from hubthread.concurrency.threads import Threads
from tests.support import TIMEOUT, AnyHub, Items, Logs

AnyFrame = FrameControl[Any]


class HandClock:
    """A clock that stands until the test sets it; each step has a thread, as in real time."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self.changed = threading.Condition()
        # A whole number, so that the sums of tests are exact; near the system's clock, by
        # which threads are joined.
        self.start = self.time = float(int(monotonic()) + 1)
        self.drives: list[HandDrive] = []

    def now(self) -> float:
        return self.time

    def drive(self, step: Step, what: str) -> HandDrive:
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
        """Wait until nobody has anything to do now."""
        with self.changed:
            assert self.changed.wait_for(
                lambda: all(drive.rests() for drive in self.drives), TIMEOUT
            ), "it has not come to rest"

    def go(self, seconds: float) -> None:
        """Let time pass, and wait until what is due is done."""
        self.advance(seconds)
        self.rest()


class HandDrive:
    """One step and its thread."""

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
        """Under the clock's lock."""
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
    """From now on the hub's rooms and polls go by the test's clock."""
    clock = HandClock(hub._core.threads)
    hub._core.clock = clock
    return clock


def new_hub(**fields: Any) -> tuple[AnyHub, HandClock, Logs]:
    """A hub that is not started, its clock and its log."""
    logs = Logs()
    fields.setdefault("meta_gen", dict)
    hub = Hub(HubSetting[Any, Any](logger=logs, **fields))
    return hub, by_hand(hub), logs


class Notes(Items[Any]):
    """What a room's callbacks have noted."""

    def noting(self, what: Any) -> Callable[..., None]:
        """A callback that notes ``what``."""
        return lambda *_: self.add(what)

    def ticking(self, frame: AnyFrame, obj: Any) -> None:
        """Logic that notes the number of each tick."""
        self.add(frame.tick.index)


def still(hub: AnyHub, **fields: Any) -> AnyFrame:
    """A room without ticks."""
    fields.setdefault("new_obj", list)
    return HotlineFrameOption[Any](**fields).run(hub.hotline())
