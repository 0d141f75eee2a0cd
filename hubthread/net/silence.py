"""How long a peer has been silent.

Layer: net, without a socket or a thread of its own.  Threads: the reader's.
"""

from __future__ import annotations

from typing import Any

__all__ = ["Silence"]


class Silence:
    """How long a peer has been silent, in receive deadlines instead of clock readings.

    The deadline of a reader's ``recv`` is the keepalive: it passes only when nothing
    came, so a peer that sends is not even looked at.
    """

    __slots__ = ("_limit", "_period", "lasted", "patience")

    def __init__(self, plan: Any) -> None:
        self._period: float | None = plan.ping_period
        self._limit: float | None = plan.ping_timeout
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
