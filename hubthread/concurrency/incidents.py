"""Count how often each limit is hit, and log incidents without a flood of lines.

Every incident that a peer, or a loop, can provoke again and again is logged here.  Of each
kind the first one is logged, and then no other for ``QUIET`` seconds.

Layer: concurrency.  Threads: every method may be called on any thread.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable
from typing import Final

from hubthread.concurrency.logs import log_safely
from hubthread.limits import LIMITS

__all__ = ["Incidents"]

QUIET: Final = 10.0
"""Seconds between two log lines of one kind: a peer that provokes one can provoke thousands.
The counters count all of them."""

MOST_KINDS: Final = 512
"""The number of kinds that are told apart.  Further kinds share one, until old kinds end."""

_OTHERS: Final = "others"
_PACKAGE: Final = __name__.partition(".")[0] + "."


class Incidents:
    """The counters of one hub, and the log of its incidents.

    :param now: the clock, in seconds; it never goes back.
    """

    def __init__(self, logger: logging.Logger, now: Callable[[], float]) -> None:
        self._logger = logger
        self._now = now
        self._lock = threading.RLock()  # guards what follows
        self._counts = dict.fromkeys(LIMITS, 0)
        self._kinds: dict[Hashable, _Kind] = {}

    def count_limit(self, limit: str) -> None:
        """Count that ``limit`` was hit.  It logs nothing, so it may be called under a lock."""
        with self._lock:
            self._counts[limit] += 1

    def log_limited(
        self,
        kind: Hashable,
        level: int,
        text: str,
        *args: object,
        error: BaseException | None = None,
        about: object = None,
    ) -> None:
        """Log an incident, unless one of its kind was logged just now.

        Call it under no lock: log handlers are code of the user.  An exception of a log
        handler goes to ``threading.excepthook``.

        :param kind: a limit, or another key that the peer cannot choose: it would choose a new
            one each time.
        :param error: logged with its traceback.
        :param about: something that the line is about and does not name.
        """
        suppressed = self._suppressed(kind, level)
        if suppressed is None:
            return
        if suppressed:
            text += " (and %d more like this since the last such line)"
            args = (*args, suppressed)
        log_safely(self._logger, level, text, *args, error=error, about=about)

    def log_limit(
        self, limit: str, level: int, text: str, *args: object, about: object = None
    ) -> None:
        """Count that ``limit`` was hit, and log it; see ``log_limited``."""
        self.count_limit(limit)
        self.log_limited(limit, level, text, *args, about=about)

    def log_exception(
        self, error: BaseException, text: str, *args: object, level: int = logging.ERROR
    ) -> None:
        """Log an exception with its traceback; see ``log_limited``.

        Two exceptions are of one kind if they have the same text, the same type and the same
        lines.  So a message that fails in a handler each time hides no other bug.
        """
        kind = (text, type(error).__name__, *_lines(error))
        self.log_limited(kind, level, text, *args, error=error)

    def log_unroutable(self, error: Exception, sender: object) -> None:
        """Log a message that reaches no handler, with its sender.

        The cause of ``error`` comes from a library or from the user, and may quote the whole
        message: so only the line that raised it is logged.
        """
        reason: object = error
        cause = error.__cause__
        if cause is not None:
            reason = f"{type(error).__name__}: {type(cause).__name__} at {_location(cause)}"
        kind = ("unroutable", type(error).__name__, *_lines(cause or error))
        self.log_limited(kind, logging.WARNING, "%r: %s", sender, reason)

    def counts(self) -> dict[str, int]:
        """Return the number of hits of each limit so far."""
        with self._lock:
            return dict(self._counts)

    def _suppressed(self, kind: Hashable, level: int) -> int | None:
        """Return the number of incidents suppressed before this one, ``None`` to suppress it."""
        key: Hashable = (kind, level)
        with self._lock:
            now = self._now()
            if key not in self._kinds and len(self._kinds) >= MOST_KINDS:
                kinds = self._kinds.items()
                self._kinds = {kind: each for kind, each in kinds if now - each.logged < QUIET}
                if len(self._kinds) >= MOST_KINDS:
                    key = (_OTHERS, level)
            each = self._kinds.get(key)
            if each is None:
                each = self._kinds[key] = _Kind()
            elif now - each.logged < QUIET:
                each.suppressed += 1
                return None
            each.logged = now
            suppressed, each.suppressed = each.suppressed, 0
            return suppressed


class _Kind:
    """The time of the last log line of one kind, and the incidents suppressed since then."""

    __slots__ = ("logged", "suppressed")

    def __init__(self) -> None:
        self.logged = 0.0
        self.suppressed = 0


def _location(error: BaseException) -> str:
    """Return the ``file:line`` that raised ``error``, or ``?`` if it was never raised."""
    lines = _lines(error)
    return lines[-1] if lines else "?"


def _lines(error: BaseException) -> tuple[str, ...]:
    """Return the first and the last traceback line outside this package.

    The last line alone is often in the standard library.  All lines would make one recursive
    bug look like many kinds.
    """
    lines = []
    last = None
    trace = error.__traceback__
    while trace is not None:
        last = trace
        if not trace.tb_frame.f_globals.get("__name__", "").startswith(_PACKAGE):
            lines.append(trace)
        trace = trace.tb_next
    if not lines and last is not None:
        lines = [last]
    return tuple(
        f"{each.tb_frame.f_code.co_filename}:{each.tb_lineno}" for each in lines[:1] + lines[-1:]
    )
