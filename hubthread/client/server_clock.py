"""The clock of the server, as a link has measured it.

Layer: client.  Threads: the caller holds the lock of the link.
"""

from __future__ import annotations

from collections import deque

__all__ = ["MOST_CLOCK", "ServerClock"]

SAMPLES = 8
"""Measurements that are kept."""

MOST_CLOCK = 2.0**53
"""The most milliseconds that an answer may tell, so that the arithmetic never fails."""


class ServerClock:
    """Measurements of the server's clock.  The one with the smallest round trip counts."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, float]] = deque(maxlen=SAMPLES)

    @property
    def best(self) -> tuple[float, float] | None:
        """The smallest round trip, and the server's time minus the driver's time, in seconds."""
        return min(self._samples, default=None)

    def take(self, told: object, asked: float, now: float) -> None:
        """Add a measurement.

        :param told: the time of the server in milliseconds, as its answer tells it.
        :param asked: the driver's time at which the link has asked.
        :param now: the driver's time at which the answer came.
        """
        if isinstance(told, (int, float)) and abs(told) < MOST_CLOCK:
            trip = now - asked
            self._samples.append((trip, told / 1000 + trip / 2 - now))

    def forget(self) -> None:
        """Forget all measurements, because the next server may be another one."""
        self._samples.clear()
