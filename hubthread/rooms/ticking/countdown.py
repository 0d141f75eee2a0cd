"""Countdowns of a ticking room: each ends once, by ``done``, its time or the room's end.

Layer: rooms.ticking.  Threads: methods from any thread; callbacks on the tick thread.
Source: the specification's ``IOperationCountdown``, ``IOperationCountdownTicker``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from hubthread.checks import check_callable, check_number, check_work
from hubthread.errors import HotlineClosed
from hubthread.rooms.ticking.loop import TickLoop

if TYPE_CHECKING:
    from hubthread.clients.client import Client

__all__ = ["BaseCountdown", "BaseCountdownTicker", "Outcome"]

Control = TypeVar("Control")
Obj = TypeVar("Obj")
Self = TypeVar("Self", bound="BaseCountdown[Any, Any]")
Outcome = Literal["done", "timeout", "closed"]

SHORTEST_INTERVAL = 0.0001
"""Seconds; as between ticks."""


class BaseCountdown(Generic[Control, Obj]):
    """The methods of ``OperationCountdown``."""

    def __init__(
        self,
        frame: Control,
        loop: TickLoop[Control, Obj],
        timeout: float,
        on_timeout: Callable[[Control, Obj], object],
    ) -> None:
        check_number("timeout", timeout, 0)
        check_callable("on_timeout", on_timeout, "frame", "obj")
        self.frame = frame
        """The room."""
        self.outcome: Outcome | None = None
        """The end of the countdown; ``None`` until then."""
        self._loop = loop
        self._timeout = timeout
        self._on_timeout = on_timeout
        self._deadline = 0.0
        # Of the end: a caller of ``done`` that is too late finds the outcome.
        self._lock = threading.RLock()
        self.due = 0.0
        loop.add(self)

    @property
    def remaining(self) -> float:
        """Seconds left, on the room's clock; 0 when it has ended."""
        return self._loop.agenda.remaining(self, self._deadline)

    def operation(self: Self, work: Callable[[Self, Any], object]) -> bool:
        """Run ``work(operation, obj)`` on the tick thread, unless it has ended by then.

        In order with the closures of ``exec_async``.  What it raises is logged.

        :returns: False when it has ended already.
        :raises QueueFull: as ``frame.exec_async``.
        """
        check_work(work, ("operation", "obj"))
        agenda = self._loop.agenda

        def run() -> None:
            if agenda.is_pending(self):
                self._loop.call("an operation", lambda _, obj: work(self, obj))

        try:
            if not agenda.is_pending(self):
                return False
            self._loop.post_work(run, work, self)
        except HotlineClosed:
            return False
        return True

    def done(self) -> bool:
        """End the countdown without its time-out.  Return False if it has ended already."""
        ended = self._end("done")
        if ended and self._loop.recorder is not None:
            self._loop.recorder.done(self)
        return ended

    def _end(self, outcome: Outcome) -> bool:
        agenda = self._loop.agenda
        try:
            with self._lock:
                if self.outcome is not None:
                    return False
                ends = agenda.is_pending(self)
                # Otherwise the tick thread is about to call closed().
                self.outcome = outcome if ends else "closed"
            agenda.cancel(self)
        except BaseException:  # an interrupt
            if self.outcome is not None:
                agenda.cancel(self)
            raise
        return ends

    # For the agenda.

    def begin(self, now: float) -> None:
        """See ``agenda.Countdown``."""
        self.due = self._deadline = now + self._timeout

    def is_over(self, now: float) -> bool:
        """See ``agenda.Countdown``."""
        return now >= self._deadline

    def fire(self, now: float) -> None:
        """See ``agenda.Countdown``."""
        if self._end("timeout"):
            self._loop.call("on_timeout", self._on_timeout)

    def closed(self) -> None:
        """See ``agenda.Countdown``."""
        with self._lock:
            self.outcome = self.outcome or "closed"

    def left(self, member: Client[Any, Any]) -> None:
        """See ``agenda.Countdown``."""


class BaseCountdownTicker(BaseCountdown[Control, Obj]):
    """The methods of ``OperationCountdownTicker``."""

    def __init__(
        self,
        frame: Control,
        loop: TickLoop[Control, Obj],
        timeout: float,
        on_timeout: Callable[[Control, Obj], object],
        interval: float,
        on_tick: Callable[[Control, Obj], object],
    ) -> None:
        check_number("interval", interval, SHORTEST_INTERVAL)
        check_callable("on_tick", on_tick, "frame", "obj")
        self._interval = interval
        self._on_tick = on_tick
        self._start = 0.0
        super().__init__(frame, loop, timeout, on_timeout)

    def begin(self, now: float) -> None:
        """See ``agenda.Countdown``."""
        super().begin(now)
        self._start = now
        self._set_due(now)

    def fire(self, now: float) -> None:
        """See ``agenda.Countdown``."""
        if now >= self._deadline:
            super().fire(now)
            return
        self._set_due(now)
        self._loop.call("on_tick", self._on_tick)

    def _set_due(self, now: float) -> None:
        # A millionth of an interval: a call that is early by the last bit of a float is due.
        passed = int((now - self._start) / self._interval + 1e-6)
        due = self._start + (passed + 1) * self._interval
        self.due = due if due < self._deadline - 1e-6 * self._interval else self._deadline
