"""The clock of the server, as far as a link can tell.

Layer: client.  Threads: the caller holds the lock of the link.
"""

from __future__ import annotations

from collections import deque

__all__ = ["MOST_CLOCK", "ServerClock"]

SAMPLES = 8
"""Measurements that are kept."""

MOST_CLOCK = 2.0**53
"""Milliseconds that a clock may show, so that no answer makes the arithmetic fail."""


class ServerClock:
    """Measurements of the server's clock.  The one with the smallest round trip counts."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, float]] = deque(maxlen=SAMPLES)

    @property
    def best(self) -> tuple[float, float] | None:
        """The smallest round trip in seconds, and what the server's clock is ahead by."""
        return min(self._samples, default=None)

    def take(self, told: object, asked: float, now: float) -> None:
        """Take the time in milliseconds that the server has told, between two times here."""
        if isinstance(told, (int, float)) and abs(told) < MOST_CLOCK:
            trip = now - asked
            self._samples.append((trip, told / 1000 + trip / 2 - now))

    def forget(self) -> None:
        """Forget the clock: it may be another server."""
        self._samples.clear()
