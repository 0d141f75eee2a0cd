"""Who has sent no message for too long: ``Limits.idle_time``.

Layer: hub.  Threads: the hub's alarm thread looks around; there is none without a limit.

Clients count their messages, and read no clock for each.  So a look, four times within the
limit, sees who has got on since the last one; a client in a callback has not been idle.
(A look at 10,000 clients: 2.6 ms of CPU, CPython 3.11.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hubthread.concurrency.timers import Timers
from hubthread.limits import IDLE

if TYPE_CHECKING:
    from hubthread.clients.client import Client

__all__ = ["Idle"]

LOOKS = 4
"""Within the limit; that and one more, at the most, pass before a client is closed."""


class Idle:
    """Closes clients that are idle for ``limit`` seconds; ``None``: nobody.

    Threads: ``start`` from any, once.

    :param clients: everybody there is.
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
        # How many messages each had sent, and for how many looks it has been so.
        self._seen: dict[Client[Any, Any], tuple[int, int]] = {}

    def start(self) -> None:
        """Begin to look around, until the timers are closed."""
        if self._limit is not None:
            self._timers.set(self._limit / LOOKS, self._look)

    def _look(self) -> None:
        last, self._seen = self._seen, {}
        for client in self._clients():
            received, looks = last.get(client, (-1, 0))
            if client.received != received or client.turn() is not None:
                self._seen[client] = client.received, 0
            elif looks + 1 < LOOKS:
                self._seen[client] = received, looks + 1
            else:
                reason = f"no message for {self._limit:g} s"
                client.ws_conn.close(1000, reason, ended_by="idle", limit=IDLE)
        self.start()
