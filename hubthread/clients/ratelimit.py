"""How often a client may speak: a token bucket for each, ready for ``on_receive_message``.

Layer: hub.  Threads: each client's own, many at once; one lock, held for a look at a time.
Source: the specification's ``OnReceiveMessage``, "to prevent continuous command attacks".
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeAlias

from hubthread.checks import check_number
from hubthread.errors import SettingError

if TYPE_CHECKING:
    from hubthread.hub.hub import Hub
    from hubthread.interfaces import IOContext
    from hubthread.limits import Limits
    from hubthread.types import ClientID

__all__ = ["Intercept", "RateLimiter", "behind_limit", "limiter_of"]

Intercept: TypeAlias = "Callable[[Any, Any], bool] | None"
"""``HubSetting.on_receive_message``."""

_Key: TypeAlias = "tuple[Hub[Any, Any], ClientID]"

ROUNDING = 1e-3
"""What a token may lack: a client that speaks exactly at its rate is not to be refused for
the last bits of the clock."""

SMALLEST_SWEEP = 64
"""Buckets that are kept without a look at which of them have filled up again."""


class RateLimiter:
    """``HubSetting(on_receive_message=RateLimiter(rate=10, burst=20))``.

    Each client has a bucket of ``burst`` tokens, full at first, into which ``rate`` tokens
    a second fall.  A message takes one; where there is none it is refused: the limiter
    returns ``False``, and the message reaches no handler.  To do more than that, call it in
    a function of your own::

        def on_receive(ctx, meta):
            if limiter(ctx, meta):
                return True
            ctx.close(1008, "too many messages")
            return False

    A bucket that has filled up again is forgotten, since a new one is like it: what is
    kept is bounded by twice the clients that spoke within ``burst / rate`` seconds (and
    64), whatever came and went before.

    Threads: any client's own callbacks; one limiter may serve several hubs.

    :param rate: tokens a second, above 0.
    :param burst: messages that may come at once, at least 1.
    :param clock: seconds that never go back; called on the client's thread, under no lock.
    :raises SettingError: for a value out of range.
    """

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = monotonic) -> None:
        check_number("rate", rate, 0)
        check_number("burst", burst, 1, whole=True)
        if not callable(clock):
            raise SettingError("clock", f"a function that returns seconds, not {clock!r}")
        self.rate = rate
        self.burst = burst
        self._clock = clock
        self._lock = threading.Lock()  # guards what follows
        self._buckets: dict[_Key, tuple[float, float]] = {}  # tokens, and when there were as many
        self._sweep_at = SMALLEST_SWEEP
        self._refused = 0

    def __call__(self, ctx: IOContext, meta: object) -> bool:
        """Whether this client may be heard once more, now."""
        key = (ctx.hub, ctx.connection_id)
        now = self._clock()
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
        """Messages refused so far, of all clients."""
        with self._lock:
            return self._refused

    @property
    def buckets(self) -> int:
        """How many buckets are kept now."""
        with self._lock:
            return len(self._buckets)

    def _tokens(self, bucket: tuple[float, float], now: float) -> float:
        tokens, then = bucket
        # Another client's sweep may have looked at the clock a little later than this one.
        return min(self.burst, tokens + max(0.0, now - then) * self.rate)

    def _sweep(self, now: float) -> None:
        """Forget what is full.  Its cost is spread over as many new buckets as it looks at."""
        self._buckets = {
            key: bucket
            for key, bucket in self._buckets.items()
            if self._tokens(bucket, now) < self.burst
        }
        self._sweep_at = max(SMALLEST_SWEEP, 2 * len(self._buckets))

    def __repr__(self) -> str:
        return f"RateLimiter(rate={self.rate:g}, burst={self.burst})"


def limiter_of(limits: Limits, clock: Callable[[], float]) -> RateLimiter | None:
    """Of ``Limits.messages_per_second``, where it is set."""
    rate = limits.messages_per_second
    if rate is None:
        return None
    return RateLimiter(rate, limits.message_burst or math.ceil(2 * rate), clock)


def behind_limit(limiter: RateLimiter | None, intercept: Intercept) -> Intercept:
    """``intercept`` behind the limit: itself, where there is none.

    So a hub without one looks at nothing more for each message.
    """
    if limiter is None:
        return intercept

    def look(client: Any, meta: Any) -> bool:
        if not limiter(client, meta):
            client.talks_too_much()
            return False
        return intercept is None or intercept(client, meta)

    return look
