"""Log callbacks that take too long: once with the stack, and once more when they end.

The watchdog samples twice per limit.  A callback that has not changed for one limit counts as
stuck, and is reported 1 to 1.5 limits after it began.

It samples, because callbacks do not announce their beginning: with thousands of messages a
second, one clock reading or one shared object for each would cost more than the watchdog is
worth.  Each client and each room only counts its callbacks, in a number of its own.

Layer: concurrency.  Threads: ``start``, ``close`` and ``stuck`` may be used on any thread; the
watchdog's own thread samples.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from typing import Protocol

from hubthread.concurrency.calls import stack_of
from hubthread.concurrency.clock import Clock, Drive
from hubthread.concurrency.logs import log_safely

__all__ = ["Watchdog", "Watched"]

MOST_STACKS = 5
"""The number of callbacks that are logged with their stacks after one sample; more are only
counted.  A database that hangs must not fill the log with one stack for each client."""


class Watched(Protocol):
    """A part that runs callbacks one at a time."""

    @property
    def name(self) -> str:
        """Its name in the log."""

    @property
    def runner(self) -> int | None:
        """The thread that runs its callback now (see ``calls.thread_id``)."""

    def current_callback(self) -> object:
        """Return a value that stays equal during one callback; ``None`` while idle."""


class _Seen:
    """A callback, since the first sample that saw it."""

    __slots__ = ("began", "callback", "logged", "stuck")

    def __init__(self, callback: object, began: float) -> None:
        self.callback = callback
        self.began = began
        self.stuck = False
        self.logged = False


class Watchdog:
    """The thread that logs callbacks which take too long.

    :param limit: seconds; ``None`` turns the watchdog off.
    :param watched: returns the parts that may run a callback now.
    """

    def __init__(
        self,
        limit: float | None,
        clock: Clock,
        watched: Callable[[], Iterable[Watched]],
        logger: logging.Logger,
    ) -> None:
        self._limit = limit
        self._clock = clock
        self._watched = watched
        self._logger = logger
        self._lock = threading.RLock()  # guards _closed and _drive
        self._closed = False
        self._drive: Drive | None = None
        self._seen: dict[Watched, _Seen] = {}  # only for the watchdog's thread
        self.stuck = 0
        """The number of callbacks that run now, and have run for longer than the limit."""

    def start(self) -> None:
        """Start to sample.  If no thread can be started, log a warning and watch nothing."""
        try:
            with self._lock:
                if self._limit is not None and not self._closed:
                    self._drive = self._clock.drive(self._step, "watchdog")
        except RuntimeError as error:
            text = "no thread for the watchdog: callbacks that take too long are not logged (%s)"
            self._say(logging.WARNING, text, error)

    def close(self) -> None:
        """Stop to sample and end the thread."""
        with self._lock:
            self._closed = True
            drive = self._drive
        if drive is not None:
            drive.wake()

    def _step(self) -> float | None:
        if self._closed:
            return None
        assert self._limit is not None
        self._sample(self._clock.now(), self._limit)
        return self._clock.now() + self._limit / 2

    def _sample(self, now: float, limit: float) -> None:
        last = self._seen
        # A client that has left the hub may still be stuck in a callback.
        left = [each for each, seen in last.items() if seen.stuck]
        self._seen = {}
        stuck: list[tuple[Watched, _Seen]] = []
        for each in {**dict.fromkeys(self._busy()), **dict.fromkeys(left)}:
            callback = each.current_callback()
            if callback is None:
                continue
            seen = last.get(each)
            if seen is None or seen.callback != callback:
                seen = _Seen(callback, now)
            elif not seen.stuck and now - seen.began >= limit:
                seen.stuck = True
                stuck.append((each, seen))
            self._seen[each] = seen
        self.stuck = sum(seen.stuck for seen in self._seen.values())
        for each, seen in last.items():
            if seen.logged and self._seen.get(each) is not seen:
                text = "%s: the callback that was stuck has ended, after about %.3g s"
                self._say(logging.INFO, text, each.name, now - seen.began)
        for each, seen in stuck[:MOST_STACKS]:
            seen.logged = True
            stack = stack_of(each.runner) or "(its thread has no stack)"
            text = "%s: a callback has been running for more than %.3g s; it is doing:\n%s"
            self._say(logging.WARNING, text, each.name, now - seen.began, stack)
        if len(stuck) > MOST_STACKS:
            text = "%d more callbacks have been running for more than %.3g s"
            self._say(logging.WARNING, text, len(stuck) - MOST_STACKS, limit)

    def _busy(self) -> list[Watched]:
        return [each for each in self._watched() if each.current_callback() is not None]

    def _say(self, level: int, text: str, *args: object) -> None:
        log_safely(self._logger, level, text, *args)
