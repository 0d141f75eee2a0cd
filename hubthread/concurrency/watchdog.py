"""Who is in one callback for too long: said once, with its stack, and once more at its end.

Layer: concurrency.  Threads: ``start``, ``close`` and ``stuck`` from any; one thread of its
own looks around.

Callbacks tell nobody that they begin: with thousands of messages a second, a clock that is
read or an object that is shared would cost each of them more than the watching is worth.
Clients and rooms count their turns, which nobody shares.  (A look at 10,000 idle clients:
1.1 ms of CPU, CPython 3.11.)
The watchdog looks twice within the limit at what everybody does, and what was the same for
as long as the limit is stuck.  So it is told of after one limit at the earliest, and after
one and a half at the latest.
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
"""Callbacks that are told of, each with its stack, after one look; more are only counted: a
database that hangs must not fill the log with the stacks of all who wait for it."""


class Watched(Protocol):
    """Something that runs callbacks one at a time."""

    @property
    def name(self) -> str:
        """For the log."""

    @property
    def runner(self) -> int | None:
        """The thread that it runs one on now (see ``waits.me``)."""

    def turn(self) -> object:
        """What it does now: equal as long as it is in one callback, ``None`` while idle."""


class _Seen:
    """A callback, from when it was first seen."""

    __slots__ = ("began", "stuck", "told", "turn")

    def __init__(self, turn: object, began: float) -> None:
        self.turn = turn
        self.began = began
        self.stuck = False
        self.told = False


class Watchdog:
    """Logs callbacks that take longer than ``limit`` seconds; ``None``: it does nothing.

    :param watched: everybody that may be busy now.
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
        self._lock = threading.Lock()  # guards the two that follow
        self._closed = False
        self._drive: Drive | None = None
        self._seen: dict[Watched, _Seen] = {}  # its own thread's
        self.stuck = 0
        """How many callbacks have run for longer than the limit, and still do."""

    def start(self) -> None:
        """Begin to look around; where there is no thread for it, the log is told."""
        try:
            with self._lock:
                if self._limit is not None and not self._closed:
                    self._drive = self._clock.drive(self._step, "watchdog")
        except RuntimeError as error:
            text = "no thread for the watchdog: nobody will be watched (%s)"
            self._say(logging.WARNING, text, error)

    def close(self) -> None:
        """Look no more; the thread ends."""
        with self._lock:
            self._closed = True
            drive = self._drive
        if drive is not None:
            drive.wake()

    def _step(self) -> float | None:
        if self._closed:
            return None
        assert self._limit is not None
        self._look(self._clock.now(), self._limit)
        return self._clock.now() + self._limit / 2

    def _look(self, now: float, limit: float) -> None:
        last = self._seen
        # A client that has left is none of the hub's any more, but may still be stuck.
        left = [each for each, seen in last.items() if seen.stuck]
        self._seen = {}
        stuck: list[tuple[Watched, _Seen]] = []
        for each in {**dict.fromkeys(self._busy()), **dict.fromkeys(left)}:
            turn = each.turn()
            if turn is None:
                continue
            seen = last.get(each)
            if seen is None or seen.turn != turn:
                seen = _Seen(turn, now)
            elif not seen.stuck and now - seen.began >= limit:
                seen.stuck = True
                stuck.append((each, seen))
            self._seen[each] = seen
        self.stuck = sum(seen.stuck for seen in self._seen.values())
        for each, seen in last.items():
            if seen.told and self._seen.get(each) is not seen:
                text = "%s: the callback that was stuck has ended, after about %.3g s"
                self._say(logging.INFO, text, each.name, now - seen.began)
        for each, seen in stuck[:MOST_STACKS]:
            seen.told = True
            stack = stack_of(each.runner) or "(its thread is not to be seen)"
            text = "%s: a callback has been running for more than %.3g s; it is doing:\n%s"
            self._say(logging.WARNING, text, each.name, now - seen.began, stack)
        if len(stuck) > MOST_STACKS:
            text = "%d more callbacks have been running for more than %.3g s"
            self._say(logging.WARNING, text, len(stuck) - MOST_STACKS, limit)

    def _busy(self) -> list[Watched]:
        return [each for each in self._watched() if each.turn() is not None]

    def _say(self, level: int, text: str, *args: object) -> None:
        log_safely(self._logger, level, text, *args)
