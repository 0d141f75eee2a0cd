"""A rate limit for messages: one token bucket for each client.

Layer: clients.  Threads: a limiter is called on many clients' threads at once; its one lock is
held for a look-up at a time.
Source: the specification's ``OnReceiveMessage``, "to prevent continuous command attacks".
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeAlias

from hubthread.checks import check_callable, check_number, refuse_unrun
from hubthread.core.core import Intercept

if TYPE_CHECKING:
    from hubthread.interfaces import IHub, IOContext
    from hubthread.limits import Limits
    from hubthread.types import ClientID

__all__ = ["RateLimiter", "behind_limit", "limiter_of"]

_Key: TypeAlias = "tuple[IHub, ClientID]"

ROUNDING = 1e-3
"""The part of a token that may be missing.

A client that sends exactly at its rate must not be refused for a rounding error of the clock.
"""

SMALLEST_SWEEP = 64
"""The number of buckets below which none are swept out."""


class RateLimiter:
    """A rate limit for the messages of each client, to be given as ``on_receive_message``.

    ::

        HubSetting(dict, on_receive_message=RateLimiter(rate=10, burst=20))

    Each client has a bucket of ``burst`` tokens.  The bucket is full at first, and ``rate``
    tokens are added each second.  A message takes one token.  If the bucket is empty, the
    limiter returns ``False`` and the message reaches no handler.  To do more, call the limiter
    in a function of your own::

        def on_receive(ctx, meta):
            if limiter(ctx, meta):
                return True
            ctx.close(1008, "too many messages")
            return False

    A bucket that is full again is forgotten.  The number of buckets is at most twice the
    number of clients that sent a message within ``burst / rate`` seconds, or 64.

    Threads: a limiter may be called on any thread, and may serve several hubs.

    :param rate: tokens a second, above 0.
    :param burst: messages that may come at once, at least 1.
    :param clock: returns monotonic seconds; called on the client's thread, under no lock.
    :raises SettingError: for a value out of range.
    """

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = monotonic) -> None:
        check_number("rate", rate, 0)
        check_number("burst", burst, 1, whole=True)
        check_callable("clock", clock)
        self.rate = rate
        self.burst = burst
        self._clock = clock
        self._lock = threading.RLock()  # guards what follows
        self._buckets: dict[_Key, tuple[float, float]] = {}  # tokens, and when they were counted
        self._sweep_at = SMALLEST_SWEEP
        self._refused = 0

    def __call__(self, ctx: IOContext, meta: object) -> bool:
        """Take a token of the client; return False if there is none."""
        key = (ctx.hub, ctx.connection_id)
        now = self._clock()
        if type(now) is not float:
            refuse_unrun(now)
        with self._lock:
            bucket = self._buckets.get(key)
            tokens = self.burst if bucket is None else self._tokens(bucket, now)
            allowed = tokens >= 1 - ROUNDING
            if allowed:
                tokens -= 1
            else:
                self._refused += 1
            self._buckets[key] = (tokens, now)
            if len(self._buckets) > self._sweep_at:
                self._sweep(now)
        return allowed

    @property
    def refused(self) -> int:
        """The number of messages refused so far, of all clients."""
        with self._lock:
            return self._refused

    @property
    def buckets(self) -> int:
        """The number of buckets kept now."""
        with self._lock:
            return len(self._buckets)

    def _tokens(self, bucket: tuple[float, float], now: float) -> float:
        tokens, then = bucket
        # Another client's sweep may have read the clock a little later than this call.
        return min(self.burst, tokens + max(0.0, now - then) * self.rate)

    def _sweep(self, now: float) -> None:
        """Forget the buckets that are full again; amortised over the new buckets."""
        self._buckets = {
            key: bucket
            for key, bucket in self._buckets.items()
            if self._tokens(bucket, now) < self.burst
        }
        self._sweep_at = max(SMALLEST_SWEEP, 2 * len(self._buckets))

    def __repr__(self) -> str:
        return f"RateLimiter(rate={self.rate:g}, burst={self.burst})"


def limiter_of(limits: Limits, clock: Callable[[], float]) -> RateLimiter | None:
    """Return the limiter for ``Limits.messages_per_second``, or None if that is not set."""
    rate = limits.messages_per_second
    if rate is None:
        return None
    return RateLimiter(rate, limits.message_burst or math.ceil(2 * rate), clock)


def behind_limit(limiter: RateLimiter | None, intercept: Intercept) -> Intercept:
    """Return a function that checks the limit and then calls ``intercept``.

    Without a limit it is ``intercept`` itself, so that a hub without a limit spends no time on
    it.
    """
    if limiter is None:
        return intercept

    def check(client: Any, meta: Any) -> bool:
        if not limiter(client, meta):
            client.on_rate_exceeded()
            return False
        return True if intercept is None else intercept(client, meta)

    return check
