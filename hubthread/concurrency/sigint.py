"""Ctrl-C while a loop has the main thread: it incidents where nothing that was accepted is lost.

Layer: concurrency.  Threads: the main thread; a thread of a moment's life posts the strike.

Python raises ``KeyboardInterrupt`` between any two instructions of the main thread: also in
the middle of a room's fan-out, with what has just been taken from its queue in hand.  Here
the first Ctrl-C incidents at once only in code of the user's closure, and else between two
jobs; a second one incidents at once, wherever that is.
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

__all__ = ["interrupts_between_jobs"]

_OURS = "hubthread."


class _Strike:
    """What SIGINT calls."""

    def __init__(self, loop: Loop[Any], callers: frozenset[CodeType]) -> None:
        self._loop = loop
        self._callers = callers
        self._signals = 0
        self.waits = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self._signals += 1
        if self._signals > 1 or _is_user_code(frame, self._callers):
            raise KeyboardInterrupt
        self.waits = True
        self._loop.interrupt_next(self._strike)
        # The interrupted frame may hold any lock, and so this thread may wait for none; one
        # of ours, with its name and its place in a list, would.
        try:
            _thread.start_new_thread(self._wake, ())
        except RuntimeError:  # no thread to be had
            self.waits = False
            raise KeyboardInterrupt from None

    def _wake(self) -> None:
        self._loop.wake(self._strike)

    def _strike(self) -> None:
        """A job: whichever of the two comes first."""
        if self.waits:
            self.waits = False
            raise KeyboardInterrupt


def _is_user_code(frame: FrameType | None, callers: frozenset[CodeType]) -> bool:
    """Whether ``frame`` was called by one of ``callers``, with none of our frames between."""
    called = False  # whether there is a frame inside of the one that is looked at
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith(_OURS):
            return called and frame.f_code in callers
        frame, called = frame.f_back, True
    return False


@contextlib.contextmanager
def interrupts_between_jobs(loop: Loop[Any]) -> Iterator[None]:
    """While ``loop`` runs on the main thread, let Ctrl-C strike as this module says.

    Nothing on another thread, nor where the program has a handler of its own.

    :raises KeyboardInterrupt: at the end, if one has come too late for the loop.
    """
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        yield
        return
    strike = _Strike(loop, loop.callers())
    signal.signal(signal.SIGINT, strike)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is strike:
            signal.signal(signal.SIGINT, signal.default_int_handler)
    if strike.waits:
        raise KeyboardInterrupt
