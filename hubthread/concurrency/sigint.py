"""Ctrl-C while the hub runs on the main thread: raise it where no accepted work is lost.

Layer: concurrency.  Threads: the main thread; a short-lived thread wakes the loop.

Python raises ``KeyboardInterrupt`` between any two instructions of the main thread.  In the
middle of a fan-out that would lose the pushes that the hub has just taken from its queue.
While this module's handler is installed,

- the first Ctrl-C raises at once if the main thread runs code of the user's closure, which
  may run for long; otherwise it raises between two jobs of the hub;
- the second Ctrl-C raises at once, wherever the thread is.
"""

from __future__ import annotations

import _thread
import contextlib
import signal
import threading
from collections.abc import Iterator
from types import CodeType, FrameType
from typing import Any

from hubthread.concurrency.loop import Loop
from hubthread.concurrency.threads import leave_signals_to_main_thread

__all__ = ["interrupts_between_jobs"]

_PACKAGE = "hubthread."


class _Handler:
    """The handler of SIGINT."""

    def __init__(self, loop: Loop[Any], callers: frozenset[CodeType]) -> None:
        self._loop = loop
        self._callers = callers
        self._signals = 0
        self.pending = False
        """True if the first Ctrl-C has not been raised yet."""

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self._signals += 1
        if self._signals > 1 or _is_user_code(frame, self._callers):
            raise KeyboardInterrupt
        self.pending = True
        self._loop.interrupt_next(self._raise_pending)
        # The interrupted code may hold any lock, so this handler must take none.  Waking the
        # loop takes one, and so does starting a thread by ``Threads`` or ``threading``.
        try:
            _thread.start_new_thread(self._wake, ())
        except RuntimeError:  # the system cannot start a thread
            self.pending = False
            raise KeyboardInterrupt from None

    def _wake(self) -> None:
        leave_signals_to_main_thread()
        self._loop.wake(self._raise_pending)

    def _raise_pending(self) -> None:
        """Raise the first Ctrl-C.  This job is queued twice; the first of the two raises."""
        if self.pending:
            self.pending = False
            raise KeyboardInterrupt


def _is_user_code(frame: FrameType | None, callers: frozenset[CodeType]) -> bool:
    """Return True if the innermost frame of this package in the stack is one of ``callers``.

    :param frame: the frame that the signal has interrupted.
    :param callers: the functions that call closures of the user.
    """
    inside = False  # True after a frame of another package: code that a caller has called
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith(_PACKAGE):
            return inside and frame.f_code in callers
        frame, inside = frame.f_back, True
    return False


@contextlib.contextmanager
def interrupts_between_jobs(loop: Loop[Any]) -> Iterator[None]:
    """Install the handler of this module while ``loop`` runs on the main thread.

    Do nothing on another thread, or if the program has a SIGINT handler of its own.

    :raises KeyboardInterrupt: at the end, if the loop has ended before it could raise a Ctrl-C.
    """
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        yield
        return
    handler = _Handler(loop, loop.callers())
    signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is handler:
            signal.signal(signal.SIGINT, signal.default_int_handler)
    if handler.pending:
        raise KeyboardInterrupt
