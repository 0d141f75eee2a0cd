"""A room that waits for input: countdowns that end once, by ``done``, time-out or close.

Layer: hub.  Threads: methods from any; callbacks on the room's tick thread.
Source: the specification's ``IOperationCountdown``, ``IOperationCountdownTicker``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from hubthread.checks import check_number, check_work
from hubthread.errors import HotlineClosed, SettingError
from hubthread.rooms.ticking.loop import TickLoop

if TYPE_CHECKING:
    from hubthread.clients.client import Client
    from hubthread.rooms.ticking.control import FrameControl

__all__ = ["OperationCountdown", "OperationCountdownTicker", "Outcome"]

Obj = TypeVar("Obj")
Self = TypeVar("Self", bound="OperationCountdown[Any]")
Outcome = Literal["done", "timeout", "closed"]

SHORTEST_INTERVAL = 0.0001
"""Seconds, as between ticks."""


class OperationCountdown(Generic[Obj]):
    """A countdown on a room's clock.  Made by ``frame.operation_timeout``.

    Exactly one thing ends it: ``done``, its time, or the room's closing.  While the room is
    paused it stands still.
    """

    def __init__(
        self,
        frame: FrameControl[Obj],
        loop: TickLoop[Obj],
        timeout: float,
        on_timeout: Callable[[FrameControl[Obj], Obj], object],
    ) -> None:
        check_number("timeout", timeout, 0)
        if not callable(on_timeout):
            raise SettingError("on_timeout", f"a function, not {on_timeout!r}")
        self.frame = frame
        """The room."""
        self.outcome: Outcome | None = None
        """What has ended it; ``None`` while it stands."""
        self._loop = loop
        self._timeout = timeout
        self._on_timeout = on_timeout
        self._deadline = 0.0
        self._lock = threading.Lock()  # of its end: who comes too late finds the outcome
        self.due = 0.0
        loop.agenda.add(self)
        loop.wake()

    @property
    def remaining(self) -> float:
        """Seconds that are left, of the room's clock; 0 when it has ended."""
        agenda = self._loop.agenda
        return max(0.0, self._deadline - agenda.time()) if agenda.stands(self) else 0.0

    def operation(self: Self, work: Callable[[Self, Any], object]) -> bool:
        """Run ``work(operation, obj)`` on the tick thread, if it still stands by then.

        In order with the closures of ``exec_async``.  What it raises is logged.

        :returns: false when it has ended already.
        :raises QueueFull: as ``frame.exec_async``.
        """
        check_work(work)
        agenda = self._loop.agenda

        def run() -> None:
            if agenda.stands(self):
                self._loop.call("an operation", lambda _, obj: work(self, obj))

        try:
            if not agenda.stands(self):
                return False
            agenda.post(run)
        except HotlineClosed:
            return False
        self._loop.wake()
        return True

    def done(self) -> bool:
        """End it: the time-out will never fire.  False when it has ended before."""
        return self._end("done")

    def _end(self, outcome: Outcome) -> bool:
        with self._lock:
            ends = self._loop.agenda.drop(self)
            if ends:
                self.outcome = outcome
            elif self.outcome is None:
                self.outcome = "closed"  # which the tick thread is about to tell us
        return ends

    # As a countdown of the agenda.

    def begin(self, now: float) -> None:
        """See ``Countdown``."""
        self.due = self._deadline = now + self._timeout

    def ring(self, now: float) -> None:
        """See ``Countdown``."""
        if self._end("timeout"):
            self._loop.call("on_timeout", self._on_timeout)

    def closed(self) -> None:
        """See ``Countdown``."""
        self.outcome = "closed"

    def left(self, member: Client[Any, Any]) -> None:
        """See ``Countdown``."""


class OperationCountdownTicker(OperationCountdown[Obj]):
    """A countdown that calls ``on_tick`` on the way.  Made by ``frame.operation_ticker``.

    The calls stand on a grid from its beginning; one that the room could not make in time
    is left out, and none comes together with the time-out.
    """

    def __init__(
        self,
        frame: FrameControl[Obj],
        loop: TickLoop[Obj],
        timeout: float,
        on_timeout: Callable[[FrameControl[Obj], Obj], object],
        interval: float,
        on_tick: Callable[[FrameControl[Obj], Obj], object],
    ) -> None:
        check_number("interval", interval, SHORTEST_INTERVAL)
        if not callable(on_tick):
            raise SettingError("on_tick", f"a function, not {on_tick!r}")
        self._interval = interval
        self._on_tick = on_tick
        self._start = 0.0
        super().__init__(frame, loop, timeout, on_timeout)

    def begin(self, now: float) -> None:
        """See ``Countdown``."""
        super().begin(now)
        self._start = now
        self._set_due(now)

    def ring(self, now: float) -> None:
        """See ``Countdown``."""
        if now >= self._deadline:
            super().ring(now)
            return
        self._set_due(now)
        self._loop.call("on_tick", self._on_tick)

    def _set_due(self, now: float) -> None:
        # A millionth of an interval: what differs by the last bit of a float is due at once.
        passed = int((now - self._start) / self._interval + 1e-6)
        due = self._start + (passed + 1) * self._interval
        self.due = due if due < self._deadline - 1e-6 * self._interval else self._deadline
