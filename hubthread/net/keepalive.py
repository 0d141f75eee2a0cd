"""How long a peer has been silent.

Layer: net, without a socket or a thread of its own.  Threads: the reader's.
"""

from __future__ import annotations

from random import random

from hubthread.net.options import ConnectionOptions

__all__ = ["Silence"]

SPREAD = 0.25
"""By what share of the period some are pinged earlier than others: a thousand clients that came
together, and then only listen, would be pinged together, and their pongs wake a thousand readers
at once.  The fan-out that met them beside one flood took 700 ms and not 13."""


class Silence:
    """How long a peer has been silent, in receive deadlines instead of clock readings.

    The deadline of a reader's ``recv`` is the keepalive: it passes only when nothing
    came, so a peer that sends is not even looked at.

    :param early: how much earlier than others this peer is pinged, 0 to 1 of the most.
    """

    __slots__ = ("_limit", "_period", "lasted", "patience")

    def __init__(self, options: ConnectionOptions, early: float | None = None) -> None:
        share = 1.0 - SPREAD * (random() if early is None else early)
        self._period: float | None = options.ping_period and options.ping_period * share
        self._limit: float | None = options.ping_timeout
        self.end()

    def end(self) -> None:
        """The peer has spoken."""
        self.lasted = 0.0
        self.patience: float | None = self._period or self._limit

    def lasts(self) -> bool:
        """One more deadline has passed; true when the peer counts as gone."""
        assert self.patience is not None
        self.lasted += self.patience
        if self._limit is not None:
            left = self._limit - self.lasted
            if left <= 0:
                return True
            self.patience = min(self._period or left, left)
        return False
