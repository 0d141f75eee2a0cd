"""How often each limit has struck, and what the log is told of it: no flood of lines.

Layer: concurrency.  Threads: every method from any.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable
from typing import NoReturn

from hubthread.concurrency.threads import tell
from hubthread.limits import LIMITS

__all__ = ["Strikes"]

QUIET = 10.0
"""Seconds after a line about a limit without another of its kind: who provokes one can
provoke thousands, and the counters have them all."""


class Strikes:
    """The counters of one hub.

    :param now: a clock that never goes back, in seconds.
    """

    def __init__(self, logger: logging.Logger, now: Callable[[], float]) -> None:
        self._logger = logger
        self._now = now
        self._lock = threading.Lock()  # guards what follows
        self._counts = dict.fromkeys(LIMITS, 0)
        self._told: dict[tuple[str, int], float] = {}
        self._untold: Counter[tuple[str, int]] = Counter()

    def count(self, limit: str) -> None:
        """A limit has struck; under any lock, since nobody is told."""
        with self._lock:
            self._counts[limit] += 1

    def tell(self, limit: str, level: int, text: str, *args: object) -> None:
        """Tell the log of it, unless it was told of the like just now; under no lock.

        :param limit: or another word for what one peer can provoke as often as it likes.
        What a log handler raises is shown by ``threading.excepthook``, and goes no further.
        """
        kind = (limit, level)
        with self._lock:
            now = self._now()
            told = self._told.get(kind)
            if told is not None and now - told < QUIET:
                self._untold[kind] += 1
                return
            self._told[kind] = now
            untold = self._untold.pop(kind, 0)
        if untold:
            text += " (and %d more like this since the last such line)"
            args = (*args, untold)
        try:
            self._logger.log(level, text, *args)
        except BaseException as error:  # noqa: BLE001 - of a user's log handler
            tell(_raise, error)

    def strike(self, limit: str, level: int, text: str, *args: object) -> None:
        """Count it, and tell the log."""
        self.count(limit)
        self.tell(limit, level, text, *args)

    def counts(self) -> dict[str, int]:
        """How often each limit has struck so far."""
        with self._lock:
            return dict(self._counts)


def _raise(error: BaseException) -> NoReturn:
    raise error
