"""Timers: one thread for all deadlines of a hub.

Deadlines are rare: a peer that does not answer a Close, a datagram peer that does not read,
and ``Limits.idle_time`` if it is set.  So the thread starts with the first timer, and ends
after the last.

Layer: concurrency.  Threads: any thread sets and cancels; the timer thread fires.
"""

from __future__ import annotations

import heapq
import logging
import threading
from collections.abc import Callable
from itertools import count
from time import monotonic

from hubthread.concurrency.bell import Bell
from hubthread.concurrency.incidents import Incidents
from hubthread.concurrency.threads import Threads

__all__ = ["Timer", "Timers"]


class Timer:
    """A function that is to be called at a time; ``cancel`` may be called on any thread."""

    __slots__ = ("_action",)

    def __init__(self, action: Callable[[], None]) -> None:
        self._action: Callable[[], None] | None = action

    def cancel(self) -> None:
        """Do not call the function, if it has not begun, and release it at once."""
        self._action = None

    def fire(self) -> None:
        """Call the function, unless the timer is cancelled."""
        action = self._action
        if action is not None:
            action()


class Timers:
    """The timers of one hub, and the thread that fires them.

    Threads: ``set`` and ``close`` may be called on any thread.
    """

    def __init__(self, threads: Threads, incidents: Incidents) -> None:
        self._threads = threads
        self._incidents = incidents
        self._bell = Bell()  # wakes the timer thread
        self._lock = threading.RLock()  # guards what follows; not held to fire
        self._heap: list[tuple[float, int, Timer]] = []
        self._tie = count()
        self._awake = False  # True if there is a thread
        self._closed = False

    def set(self, delay: float, action: Callable[[], None]) -> Timer:
        """Call ``action`` in ``delay`` seconds, on the timer thread.

        If the system cannot start a thread, the timer stays queued and the next ``set`` tries
        again.

        :param action: short, and must not block.
        """
        timer = Timer(action)
        due = monotonic() + delay
        with self._lock:
            if self._closed:
                return timer
            heapq.heappush(self._heap, (due, next(self._tie), timer))
            start = not self._awake
            self._awake = True
            if self._heap[0][2] is timer:
                self._bell.ring()
        if start:
            try:
                self._threads.start(self._run, "timers")
            except RuntimeError as error:
                self._awake = False
                # As the interpreter ends it starts no threads, and nothing is left to wait for.
                level = logging.DEBUG if "shutdown" in str(error) else logging.ERROR
                text = (
                    "no thread for deadlines (%s): handshakes, pings and closing may take longer "
                    "until the system can start one"
                )
                self._incidents.log_limited("no thread for deadlines", level, text, error)
            except BaseException:  # an interrupt: a second thread does no harm
                self._awake = False
                raise
        return timer

    def close(self) -> None:
        """Drop all timers and end the thread."""
        with self._lock:
            self._closed = True
            self._heap.clear()
        self._bell.ring()

    def _run(self) -> None:
        while True:
            with self._lock:
                while self._heap and self._heap[0][2]._action is None:
                    heapq.heappop(self._heap)
                if not self._heap:
                    self._awake = False
                    return
                due = self._heap[0][0]
                delay = due - monotonic()
                timer = heapq.heappop(self._heap)[2] if delay <= 0 else None
            if timer is None:
                self._bell.wait(delay)
                continue
            try:
                timer.fire()
            except BaseException as error:  # noqa: BLE001 - logged
                text = "a bug in hubthread: a timer raised"
                self._incidents.log_exception(error, text, level=logging.CRITICAL)
            del timer  # its function is not kept alive during the next wait
