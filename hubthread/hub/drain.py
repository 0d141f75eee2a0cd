"""Send the clients of a hub elsewhere, a few at a time, before the hub ends.

All clients of a process that ends come back at once, to the processes that are left.  A drain
spreads them: while it lasts, the hub takes no new clients and its health page answers 503, so
that a balancer sends clients elsewhere.  Clients that are not told yet are served as before.

Layer: hub.  Threads: ``drain`` runs on a thread of the program, and waits there.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

from hubthread.concurrency.logs import log_safely
from hubthread.core.core import Core
from hubthread.protocol.close_codes import AFTER_LOSS, CloseCode

__all__ = ["drain", "pace"]

REASON = "the server restarts"

INTERVAL = 0.25
"""Seconds between two batches of a drain that has a time to end."""

LEAST_BATCH = 25
"""The least clients in such a batch, so that a small hub is drained at once."""

PROGRESS = 5.0
"""Seconds between two log lines about a drain."""

Wait = Callable[[float, Callable[[], bool]], bool]
"""Waits for seconds, or until a condition of the clients holds."""


def pace(clients: int, seconds: float) -> int:
    """Return the clients of each batch for a drain that tells all of them in time."""
    return max(LEAST_BATCH, math.ceil(clients * INTERVAL / seconds))


def drain(
    core: Core[Any, Any], wait: Wait, batch: int, interval: float, timeout: float | None
) -> bool:
    """Tell the clients to come back elsewhere; see ``Hub.drain``.

    :param wait: waits in the time of the hub.
    :returns: True if no client is left.
    """
    registry, now = core.registry, core.clock.now
    end = math.inf if timeout is None else now() + timeout

    def gone() -> bool:
        return not (registry.everyone.members_num() or registry.expected())

    def log(text: str, *args: object) -> None:
        log_safely(core.logger, logging.INFO, "%r: " + text, core.hub, *args)

    core.state.draining = True
    # All rooms are given up first, so that waiting for one does not keep another from its end.
    waits = [leave() for leave in list(core.on_drain)]
    for wait_left in waits:
        wait_left()
    log(
        "draining: no new clients; %d are told to come back elsewhere",
        registry.everyone.members_num(),
    )
    told: set[int] = set()
    logged = now()
    while not gone() and core.state.value == "running" and now() < end:
        here = [
            client for client in registry.everyone.members() if client.connection_id not in told
        ]
        for client in here[:batch]:
            told.add(client.connection_id)
            client.close(CloseCode.COME_BACK, REASON, max(interval, AFTER_LOSS))
        if now() - logged >= PROGRESS:
            logged = now()
            log("draining: %d clients are told, %d are left", len(told), len(here[batch:]))
        wait(min(interval, max(0.0, end - now())), gone)
    log("drained: %d clients were told, %d are left", len(told), registry.everyone.members_num())
    return gone()
