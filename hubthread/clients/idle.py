"""The end of clients that send no message for ``Limits.idle_time`` seconds.

Layer: clients.  Threads: the hub's timer thread sweeps.

A client counts its messages and reads no clock for them.  A sweep, four times within the limit,
compares each client's count with that of the last sweep.  A client inside a callback is not
idle.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hubthread.concurrency.timers import Timers
from hubthread.limits import IDLE

if TYPE_CHECKING:
    from hubthread.clients.client import Client

__all__ = ["IdleSweep"]

SWEEPS = 4
"""Sweeps within the limit.  A client is closed after at most one sweep more."""


class IdleSweep:
    """The regular search for idle clients, which closes them.

    Threads: ``start`` may be called on any thread, once; then the timer thread sweeps.

    :param limit: seconds without a message; None closes no client.
    :param clients: returns every client.
    :param timers: the hub's timers.
    """

    def __init__(
        self,
        limit: float | None,
        clients: Callable[[], list[Client[Any, Any]]],
        timers: Timers,
    ) -> None:
        self._limit = limit
        self._clients = clients
        self._timers = timers
        # The message count of each client, and the sweeps since it has changed.
        self._seen: dict[Client[Any, Any], tuple[int, int]] = {}

    def start(self) -> None:
        """Sweep until the timers are closed."""
        if self._limit is not None:
            self._timers.set(self._limit / SWEEPS, self._sweep)

    def _sweep(self) -> None:
        last, self._seen = self._seen, {}
        for client in self._clients():
            received, sweeps = last.get(client, (-1, 0))
            if client.received != received or client.current_callback() is not None:
                self._seen[client] = client.received, 0
            elif sweeps + 1 < SWEEPS:
                self._seen[client] = received, sweeps + 1
            else:
                reason = f"no message for {self._limit:g} s"
                client.ws_conn.close(1000, reason, ended_by="idle", limit=IDLE)
        self.start()
