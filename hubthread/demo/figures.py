"""The statistics of all connections, for the panel beside the chat.

Layer: top.  Threads: the hub thread, which owns the users and their rooms.
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
"""Connections in one reply, oldest first."""
FRESH = 1.0
"""Seconds for which the statistics are reused, however many pages ask."""


@dataclass(frozen=True)
class Connection:
    """The figures of one connection.  It has no address, because all users see it."""

    id: int
    nick: str
    room: str
    received: int
    written: int
    waiting: int
    rooms: int
    seconds: int
    """Seconds since it connected."""


@dataclass(frozen=True)
class Statistics:
    """The figures of the hub and of its connections."""

    clients: int
    clients_total: int
    rooms: int
    threads: int
    uptime: int
    """Seconds."""
    connections: list[Connection]


class Figures:
    """The maker of the statistics, which makes them at most once per ``FRESH`` seconds.

    Threads: the hub thread.
    """

    def __init__(self) -> None:
        self._began = monotonic()
        self._made = -FRESH
        self._last: Statistics | None = None

    def of(self, dhub: DHub[User, str]) -> Statistics:
        """Return the statistics of the hub, at most ``FRESH`` seconds old."""
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
