"""Measure how long a peer has been silent.

Layer: net; it has no socket and no thread.  Threads: the reader thread only.
"""

from __future__ import annotations

from random import random

from hubthread.net.options import ConnectionOptions

__all__ = ["Keepalive"]

JITTER = 0.25
"""The largest share of the ping period by which a peer is pinged early.  Without jitter,
clients that connected together are pinged together, and their pongs wake a thousand readers at
once."""


class Keepalive:
    """The silence of one peer, counted in receive time-outs instead of clock readings.

    The reader waits ``next_timeout`` seconds for bytes.  Only when that time passes without a
    byte does the reader call ``timed_out``, so a peer that sends costs nothing here.

    :param early: the share of the jitter for this peer, 0 to 1; random by default.
    """

    __slots__ = ("_limit", "_period", "elapsed", "next_timeout")

    def __init__(self, options: ConnectionOptions, early: float | None = None) -> None:
        share = 1.0 - JITTER * (random() if early is None else early)
        self._period: float | None = options.ping_period and options.ping_period * share
        self._limit: float | None = options.ping_timeout
        self.reset()

    def reset(self) -> None:
        """Note that the peer has sent something."""
        self.elapsed = 0.0
        """Seconds of silence so far, in whole time-outs."""
        self.next_timeout: float | None = self._period or self._limit
        """Seconds that the reader waits next; ``None``: without a limit."""

    def timed_out(self) -> bool:
        """Note that ``next_timeout`` has passed without a byte.

        :returns: True if the peer counts as gone.
        """
        assert self.next_timeout is not None
        self.elapsed += self.next_timeout
        if self._limit is not None:
            left = self._limit - self.elapsed
            if left <= 0:
                return True
            self.next_timeout = min(self._period or left, left)
        return False
