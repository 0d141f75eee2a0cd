"""The seconds that are left of a time-out.

Layer: concurrency.  Threads: any; a deadline never changes.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic, time

__all__ = ["Deadline", "wall_time"]


class Deadline:
    """The end of a time-out that begins now, for an operation that waits several times.

    :param timeout: seconds; ``None`` for a deadline that never passes.
    :param now: the clock, in seconds.
    """

    __slots__ = ("_now", "at")

    def __init__(self, timeout: float | None, now: Callable[[], float] = monotonic) -> None:
        self._now = now
        self.at = None if timeout is None else now() + timeout
        """The time of the clock at which it passes; ``None`` for never."""

    @property
    def passed(self) -> bool:
        """True if no time is left."""
        return self.at is not None and self._now() >= self.at

    def left(self) -> float | None:
        """Return the seconds that are left, 0.0 at least; ``None`` for no deadline."""
        return None if self.at is None else max(0.0, self.at - self._now())


def wall_time() -> float:
    """Return the seconds since 1970, to tell a peer; nothing may decide by this clock."""
    return time()
