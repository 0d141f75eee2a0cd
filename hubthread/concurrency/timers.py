"""Things to be done at a time: one thread for all of a hub's deadlines.

Layer: concurrency.  Threads: any sets and cancels; the alarm thread runs what is due.

Only closing needs it (a peer that does not answer our Close), and ``Limits.idle_time``
where it is set, so an idle hub has no alarm and no thread for them: the thread starts with the
first and ends after the last.
"""

from __future__ import annotations

import heapq
import logging
import threading
from collections.abc import Callable
from itertools import count
from time import monotonic

from hubthread.concurrency.incidents import Incidents
from hubthread.concurrency.threads import Threads

__all__ = ["Alarm", "Timers"]


class Alarm:
    """A thing to be done at a time; ``cancel`` it from any thread."""

    __slots__ = ("_action",)

    def __init__(self, action: Callable[[], None]) -> None:
        self._action: Callable[[], None] | None = action

    def cancel(self) -> None:
        """Forget it, if it has not begun.  What it would have called is let go at once."""
        self._action = None

    def _ring(self) -> None:
        action = self._action
        if action is not None:
            action()


class Timers:
    """Calls short, non-blocking functions of the library at their time.

    Threads: ``set`` and ``close`` from any.
    """

    def __init__(self, threads: Threads, incidents: Incidents) -> None:
        self._threads = threads
        self._incidents = incidents
        self._condition = threading.Condition()  # guards what follows; not held for actions
        self._heap: list[tuple[float, int, Alarm]] = []
        self._tie = count()
        self._awake = False  # whether there is a thread
        self._closed = False

    def set(self, delay: float, action: Callable[[], None]) -> Alarm:
        """Call ``action`` in ``delay`` seconds, on the alarm thread.

        Where no thread can be started it waits for the next ``set``, which tries again.
        """
        alarm = Alarm(action)
        with self._condition:
            if self._closed:
                return alarm
            heapq.heappush(self._heap, (monotonic() + delay, next(self._tie), alarm))
            start = not self._awake
            self._awake = True
            if self._heap[0][2] is alarm:
                self._condition.notify()
        if start:
            try:
                self._threads.start(self._run, "timers")
            except RuntimeError:
                with self._condition:
                    self._awake = False
                text = "no thread for deadlines: closing may take longer"
                self._incidents.log_limited("no thread for deadlines", logging.ERROR, text)
        return alarm

    def close(self) -> None:
        """Drop all timers; the thread ends."""
        with self._condition:
            self._closed = True
            self._heap.clear()
            self._condition.notify()

    def _run(self) -> None:
        while True:
            with self._condition:
                while self._heap and self._heap[0][2]._action is None:
                    heapq.heappop(self._heap)
                if not self._heap:
                    self._awake = False
                    return
                due = self._heap[0][0]
                delay = due - monotonic()
                if delay > 0:
                    self._condition.wait(delay)
                    continue
                alarm = heapq.heappop(self._heap)[2]
            try:
                alarm._ring()
            except BaseException as error:  # noqa: BLE001 - told to the log
                text = "a bug in hubthread: an alarm raised"
                self._incidents.log_exception(error, text, level=logging.CRITICAL)
            del alarm
