"""What the server says of each connection, for the panel beside the chat.

Layer: top.  Threads: the hub's, which owns the rooms that users are in.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hubthread import Client, DHub
    from hubthread.demo.users import User

__all__ = ["Figures", "Statistics"]

MOST_SHOWN = 100
"""Connections in one answer, in the order of coming."""
FRESH = 1.0
"""Seconds for which an answer holds, however many pages ask."""


@dataclass(frozen=True)
class Connection:
    """One connection.  No address: users see each other here."""

    id: int
    nick: str
    room: str
    received: int
    written: int
    waiting: int
    rooms: int
    seconds: int
    """Since it came."""


@dataclass(frozen=True)
class Statistics:
    """The hub, and its connections."""

    clients: int
    clients_total: int
    rooms: int
    threads: int
    uptime: int
    """Seconds."""
    connections: list[Connection]


class Figures:
    """Makes the statistics, at most once in a while.  The hub thread's."""

    def __init__(self) -> None:
        self._began = monotonic()
        self._made = -FRESH
        self._last: Statistics | None = None

    def of(self, dhub: DHub[User, str]) -> Statistics:
        """How the hub is now, or was a moment ago."""
        now = monotonic()
        if self._last is None or now - self._made >= FRESH:
            hub = dhub.hub.statistics()
            self._made = now
            self._last = Statistics(
                clients=hub.clients,
                clients_total=hub.clients_total,
                rooms=hub.hotlines,
                threads=hub.threads,
                uptime=int(now - self._began),
                connections=[_connection(each, now) for each in dhub.clients()[:MOST_SHOWN]],
            )
        return self._last


def _connection(client: Client[User, str], now: float) -> Connection:
    figures, user = client.statistics(), client.meta
    return Connection(
        id=figures.connection_id,
        nick=user.nick if user.room is not None else user.player,
        room=user.room.name if user.room is not None else "arena" if user.player else "",
        received=figures.received,
        written=figures.written,
        waiting=figures.waiting,
        rooms=figures.hotlines,
        seconds=int(now - user.since),
    )
