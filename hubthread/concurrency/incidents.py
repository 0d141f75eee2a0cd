"""How often each limit has struck, and what the log is told of incidents: no flood of lines.

Layer: concurrency.  Threads: every method from any.

Whatever a peer, or a loop, can bring about as often as it likes is told to the log here: the
first of its kind, and for ten seconds no other.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable
from typing import Final

from hubthread.concurrency.logs import log_safely
from hubthread.limits import LIMITS

__all__ = ["Incidents", "place"]

QUIET: Final = 10.0
"""Seconds after a line without another of its kind: who provokes one can provoke thousands,
and the counters have them all."""

MOST_KINDS: Final = 512
"""Kinds that are told apart; further ones are as one, until others have been quiet."""

_OTHERS: Final = "others"
_OWN: Final = __name__.partition(".")[0] + "."


class Incidents:
    """The counters of one hub, and its voice in the log.

    :param now: a clock that never goes back, in seconds.
    """

    def __init__(self, logger: logging.Logger, now: Callable[[], float]) -> None:
        self._logger = logger
        self._now = now
        self._lock = threading.Lock()  # guards what follows
        self._counts = dict.fromkeys(LIMITS, 0)
        self._kinds: dict[Hashable, _Kind] = {}

    def count_limit(self, limit: str) -> None:
        """A limit has struck; under any lock, since nobody is told."""
        with self._lock:
            self._counts[limit] += 1

    def log_limited(
        self,
        kind: Hashable,
        level: int,
        text: str,
        *args: object,
        error: BaseException | None = None,
    ) -> None:
        """Tell the log of it, unless it was told of the like just now; under no lock.

        :param kind: a limit, or what else one peer can bring about as often as it likes.  Not
            of the peer's choosing: it would choose another one each time.
        :param error: told with its traceback.
        What a log handler raises is shown by ``threading.excepthook``, and goes no further.
        """
        untold = self._untold(kind, level)
        if untold is None:
            return
        if untold:
            text += " (and %d more like this since the last such line)"
            args = (*args, untold)
        log_safely(self._logger, level, text, *args, error=error)

    def log_limit(self, limit: str, level: int, text: str, *args: object) -> None:
        """Count it, and tell the log."""
        self.count_limit(limit)
        self.log_limited(limit, level, text, *args)

    def log_exception(
        self, error: BaseException, text: str, *args: object, level: int = logging.ERROR
    ) -> None:
        """Tell the log of what has raised, with its traceback.

        Two are of one kind when they have the same ``text`` and type, and come from the same
        lines: a message that trips a handler each time hides no other bug.
        """
        kind = (text, type(error).__name__, *_lines(error))
        self.log_limited(kind, level, text, *args, error=error)

    def log_unroutable(self, error: Exception, who: object) -> None:
        """Tell the log of a message that reaches no handler, and whose it was.

        What another library, or the user's, says of it may quote all of the message, and so
        only the place is told where it said so.
        """
        told: object = error
        cause = error.__cause__
        if cause is not None:
            told = f"{type(error).__name__}: {type(cause).__name__} at {place(cause)}"
        kind = ("misfit", type(error).__name__, *_lines(cause or error))
        self.log_limited(kind, logging.WARNING, "%r: %s", who, told)

    def counts(self) -> dict[str, int]:
        """How often each limit has struck so far."""
        with self._lock:
            return dict(self._counts)

    def _untold(self, kind: Hashable, level: int) -> int | None:
        """How many the line now to be told stands for besides its own; ``None``: say nothing."""
        key: Hashable = (kind, level)
        with self._lock:
            now = self._now()
            if key not in self._kinds and len(self._kinds) >= MOST_KINDS:
                kinds = self._kinds.items()
                self._kinds = {kind: each for kind, each in kinds if now - each.told < QUIET}
                if len(self._kinds) >= MOST_KINDS:
                    key = (_OTHERS, level)
            each = self._kinds.get(key)
            if each is None:
                each = self._kinds[key] = _Kind()
            elif now - each.told < QUIET:
                each.untold += 1
                return None
            each.told = now
            untold, each.untold = each.untold, 0
            return untold


class _Kind:
    """When the log was told, and how many there were since then."""

    __slots__ = ("told", "untold")

    def __init__(self) -> None:
        self.told = 0.0
        self.untold = 0


def place(error: BaseException) -> str:
    """Where it was raised: ``file:line``, or ``?`` where it never was."""
    lines = _lines(error)
    return lines[-1] if lines else "?"


def _lines(error: BaseException) -> tuple[str, ...]:
    """The lines where it came into code that is not the library's, and where it left that.

    Not only the last, which for many bugs is one of the library's, or of the standard
    library's, and not all, since recursion would make many kinds of one bug.
    """
    lines = []
    last = None
    trace = error.__traceback__
    while trace is not None:
        last = trace
        if not trace.tb_frame.f_globals.get("__name__", "").startswith(_OWN):
            lines.append(trace)
        trace = trace.tb_next
    if not lines and last is not None:
        lines = [last]
    return tuple(
        f"{each.tb_frame.f_code.co_filename}:{each.tb_lineno}" for each in lines[:1] + lines[-1:]
    )
