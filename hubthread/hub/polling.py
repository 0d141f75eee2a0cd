"""Poll: call a function again and again until it succeeds, or time is up.

This is the specification's long polling, and has nothing to do with HTTP.

Layer: hub.  Threads: each poll has a thread, which calls the program's functions.  Any thread
may use the handle.
Source: the specification's ``LongPolling``, ``LongPollingOption``, ``LongPollingResult``.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from hubthread.checks import (
    check_callable,
    check_function,
    check_kind,
    check_number,
    check_timeout,
    refuse_unrun,
)
from hubthread.concurrency.calls import thread_id, wait_for
from hubthread.concurrency.clock import Drive
from hubthread.concurrency.context import Context
from hubthread.errors import LongPollingTimeoutZero, WrongThread

if TYPE_CHECKING:
    from hubthread.core.core import Core

__all__ = ["LongPollingOption", "LongPollingResult"]

PollingOutcome = Literal["done", "timeout", "cancelled"]

SHORTEST_FREQUENCY = 0.0001
"""The shortest time between two calls, in seconds."""


@dataclass(frozen=True)
class LongPollingOption:
    """A function to poll, how often, and for how long."""

    do: Callable[[Any, Callable[[], None]], object]
    """The function: called with ``(hub, done)`` at once, and then every ``frequency`` seconds.

    A call of ``done()``, by the function or on any other thread, ends the poll.  The function
    runs on the poll's own thread: it may block, and must use ``hub.exec_async`` or
    ``hub.exec_sync`` for anything that it shares with others."""
    timeout: float
    """The time until the poll ends without success, in seconds."""
    retry: int = 0
    """The most calls of ``do``; 0 sets no limit.

    After the last call ``done`` may be called for another ``frequency`` seconds."""
    frequency: float = 1.0
    """The time from one call to the next, in seconds: 0.0001 or more."""
    timeout_callback: Callable[[Any], object] | None = None
    """A function that is called with ``hub`` when ``done`` was not called in time.

    It runs on the poll's own thread."""

    def __post_init__(self) -> None:
        if self.timeout == 0:
            raise LongPollingTimeoutZero("LongPolling option.timeout can't be zero")
        check_number("timeout", self.timeout, 0)
        check_number("frequency", self.frequency, SHORTEST_FREQUENCY)
        if self.retry != 0:
            check_number("retry", self.retry, 1, whole=True)
        check_callable("do", self.do, "hub", "done")
        check_function("timeout_callback", self.timeout_callback, "hub")


class LongPollingResult:
    """A poll that runs, or ran.  Made by ``hub.long_polling``.

    It ends once: done, out of time, or cancelled, by ``cancel`` or by the hub's closing.

    Threads: every method may be called on any thread.
    """

    def __init__(self, core: Core[Any, Any], option: LongPollingOption) -> None:
        check_kind("option", option, LongPollingOption, "a LongPollingOption")
        core.state.refuse_closing("starts no poll")
        self._core = core
        self._option = option
        self._clock = core.clock
        self._deadline = core.clock.now() + option.timeout
        # The poll's own thread uses these three.
        self._due = core.clock.now()
        self._asked = 0
        self._runner: int | None = None  # while a callback runs
        self._lock = threading.RLock()  # guards what follows
        self._changed = threading.Condition(self._lock)
        self._outcome: PollingOutcome | None = None
        self.context = Context(core.context)
        """A context that is cancelled when the poll ends, or the hub closes."""
        self._drive: Drive | None = None
        self.context.add_callback(self._cancelled)
        step = partial(contextvars.Context().run, self._step)
        self._drive = core.clock.drive(step, "long-polling")
        if self.outcome is not None:  # ended before there was a thread to wake
            self._drive.wake()

    @property
    def outcome(self) -> PollingOutcome | None:
        """``"done"``, ``"timeout"`` or ``"cancelled"``; None while the poll runs."""
        return self._outcome

    def cancel(self) -> bool:
        """End the poll: its functions are not called again.

        :returns: False if the poll has ended before.
        """
        return self._end("cancelled")

    def wait(self, timeout: float | None = None) -> PollingOutcome | None:
        """Wait until the poll ends.

        :param timeout: seconds; None waits without limit.
        :returns: the outcome; None after ``timeout`` seconds.
        :raises WrongThread: on the hub thread, and in the poll's own callbacks.
        """
        check_timeout(timeout)
        self._core.loop.refuse_here("wait")
        if self._runner == thread_id():
            raise WrongThread(
                "wait in the poll's own callback would wait for itself; call done(), or "
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
        try:
            with self._lock:
                if self._outcome is not None:
                    return False
                self._outcome = outcome
            self._tell_end()
        except BaseException:  # an interrupt, or what a callback of the context raises
            if self._outcome is not None:
                self._tell_end()
            raise
        return True

    def _tell_end(self) -> None:
        with self._lock:
            self._changed.notify_all()
        if self._drive is not None:
            self._drive.wake()
        self.context.cancel(self._outcome or "")

    def _step(self) -> float | None:
        """Run one step on the poll's own thread: see ``concurrency.clock.Step``."""
        option, now, deadline = self._option, self._clock.now(), self._deadline
        if self._outcome is not None:
            return None
        exhausted = option.retry and self._asked >= option.retry
        if now >= deadline or (exhausted and now >= self._due):
            self._call(lambda: self._end("timeout"))  # runs callbacks of the context
            callback = option.timeout_callback
            if self.outcome == "timeout" and callback is not None:
                self._call(lambda: callback(self._core.hub))
            return None
        if now < self._due:  # woken early
            return min(self._due, deadline)
        self._asked += 1
        # Leave out the calls that a slow call has delayed past their time.
        self._due += (int((now - self._due) / option.frequency) + 1) * option.frequency
        self._call(lambda: option.do(self._core.hub, self._done))
        return None if self.outcome else min(self._due, deadline)

    def _call(self, work: Callable[[], object]) -> None:
        self._runner = thread_id()
        try:
            result = work()
            if result is not None:
                refuse_unrun(result)
        except BaseException as error:  # noqa: BLE001 - told to the log, and asked again
            self._core.incidents.log_exception(error, "%r: a callback raised", self)
        finally:
            self._runner = None
