"""Ask again and again until something is done, or time is up.

Layer: hub.  Threads: one for each poll that runs, which calls the user's functions; the
handle is for any.
Source: the specification's ``LongPolling``, ``LongPollingOption``, ``LongPollingResult``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from hubthread.checks import check_function, check_number
from hubthread.concurrency.calls import thread_id, wait_for
from hubthread.concurrency.clock import Drive
from hubthread.concurrency.context import Context
from hubthread.errors import LongPollingTimeoutZero, WrongThread

if TYPE_CHECKING:
    from hubthread.core.core import Core

__all__ = ["LongPollingOption", "LongPollingResult"]

PollingOutcome = Literal["done", "timeout", "cancelled"]

SHORTEST_FREQUENCY = 0.0001
"""Seconds, as between ticks."""


@dataclass(frozen=True)
class LongPollingOption:
    """What is asked, how often and for how long."""

    do: Callable[[Any, Callable[[], None]], object]
    """Called with ``(hub, done)`` at once, and then every ``frequency`` seconds; it, or
    whom it tells, calls ``done()`` to end the poll.  On a thread of the poll's own: it may
    block, and must use ``hub.exec_async`` or ``exec_sync`` for what others use too."""
    timeout: float
    """Seconds until ``timeout_callback``."""
    retry: int = 0
    """How often ``do`` is called at the most; 0: until ``timeout``.  After the last time
    ``done`` has another ``frequency`` to come."""
    frequency: float = 1.0
    """Seconds between calls, 0.0001 at the least."""
    timeout_callback: Callable[[Any], object] | None = None
    """Called with ``hub`` when nothing was done in time, on the same thread."""

    def __post_init__(self) -> None:
        if self.timeout == 0:
            raise LongPollingTimeoutZero("LongPolling option.timeout can't be zero")
        check_number("timeout", self.timeout, 0)
        check_number("frequency", self.frequency, SHORTEST_FREQUENCY)
        if self.retry != 0:
            check_number("retry", self.retry, 1, whole=True)
        check_function("do", self.do, optional=False)
        check_function("timeout_callback", self.timeout_callback)


class LongPollingResult:
    """A poll that runs, or ran.  Made by ``hub.long_polling``.

    It ends once: done, out of time, or cancelled, by ``cancel`` or by the hub's closing.
    """

    def __init__(self, core: Core[Any, Any], option: LongPollingOption) -> None:
        self._core = core
        self._option = option
        self._clock = core.clock
        self._deadline = core.clock.now() + option.timeout
        # The poll's own thread's.
        self._due = core.clock.now()
        self._asked = 0
        self._runner: int | None = None  # while a callback runs
        self._lock = threading.RLock()  # guards what follows
        self._changed = threading.Condition(self._lock)
        self._outcome: PollingOutcome | None = None
        self.context = Context(core.context)
        """Cancelled when it ends, and with the hub."""
        self._drive: Drive | None = None
        self.context.add_callback(self._cancelled)
        self._drive = core.clock.drive(self._step, "long-polling")
        if self.outcome is not None:  # before there was anybody to wake
            self._drive.wake()

    @property
    def outcome(self) -> PollingOutcome | None:
        """``"done"``, ``"timeout"`` or ``"cancelled"``; ``None`` while it runs."""
        return self._outcome

    def cancel(self) -> bool:
        """End it: nothing is asked any more.  False when it has ended before."""
        return self._end("cancelled")

    def wait(self, timeout: float | None = None) -> PollingOutcome | None:
        """Wait until it ends, ``timeout`` seconds at most; its outcome.

        :raises WrongThread: on the hub thread, and in the poll's own callbacks.
        """
        self._core.loop.refuse_here("wait")
        if self._runner == thread_id():
            raise WrongThread(
                "wait from inside the poll's own callback would wait for itself: call done(), or "
                "return and be called again"
            )
        wait_for(self._changed, lambda: self._outcome is not None, timeout)
        return self._outcome

    def __repr__(self) -> str:
        return f"<LongPollingResult {self._outcome or 'running'}>"

    def _done(self) -> None:
        self._end("done")

    def _cancelled(self, reason: str) -> None:
        self._end("cancelled")

    def _end(self, outcome: PollingOutcome) -> bool:
        with self._lock:
            if self._outcome is not None:
                return False
            self._outcome = outcome
            self._changed.notify_all()
        if self._drive is not None:
            self._drive.wake()
        self.context.cancel(outcome)
        return True

    def _step(self) -> float | None:
        """On the poll's own thread: see ``concurrency.clock.Step``."""
        option, now, deadline = self._option, self._clock.now(), self._deadline
        if self._outcome is not None:
            return None
        exhausted = option.retry and self._asked >= option.retry
        if now >= deadline or (exhausted and now >= self._due):
            self._call(lambda: self._end("timeout"))  # which calls those of its context
            callback = option.timeout_callback
            if self.outcome == "timeout" and callback is not None:
                self._call(lambda: callback(self._core.hub))
            return None
        if now < self._due:  # woken for nothing
            return min(self._due, deadline)
        self._asked += 1
        # Calls that a slow one has kept from being made in time are left out, not made up for.
        self._due += (int((now - self._due) / option.frequency) + 1) * option.frequency
        self._call(lambda: option.do(self._core.hub, self._done))
        return None if self.outcome else min(self._due, deadline)

    def _call(self, work: Callable[[], object]) -> None:
        self._runner = thread_id()
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - told to the log, and asked again
            self._core.incidents.log_exception(error, "%r: a callback raised", self)
        finally:
            self._runner = None
