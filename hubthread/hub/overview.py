"""One snapshot of a hub as JSON: all that the monitor page and ``hubthread top`` show.

The cost of a snapshot grows little with the number of clients and rooms.  All of them are sorted
by a number that stands ready, and all other figures are made for one page only.

Layer: hub.  Threads: pure reads, without the hub thread; any thread may call these functions.
"""

from __future__ import annotations

import math
import os
import platform
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Final, NamedTuple, TypeVar

from hubthread.core.core import Core
from hubthread.errors import HandshakeRejected
from hubthread.hub.sampler import INTERVAL, Sample, Sampler
from hubthread.rooms.ticking.control import FrameControl
from hubthread.statistics import HubStatistics
from hubthread.version import VERSION

__all__ = ["overview"]

SIZE: Final = 25
"""Rows of a page of clients or rooms, unless the query says otherwise."""

MOST_ROWS: Final = 100

MOST_SHOWN: Final = 200
"""Characters of a name that are shown."""

T = TypeVar("T")


def overview(core: Core[Any, Any], sampler: Sampler, query: Mapping[str, str]) -> dict[str, Any]:
    """Return the snapshot.

    :param query: ``after``, the number of the first sample to return; and ``clients.sort``,
        ``clients.find``, ``clients.page`` and ``clients.size``, and the same for ``rooms``.
    :raises HandshakeRejected: with 400 for a query that is not understood.
    """
    statistics = core.hub.statistics()
    number, samples = sampler.since(_whole(query, "after", 0, sys.maxsize))
    stuck, stuck_number = sampler.stuck()
    now = core.clock.now()
    return {
        "hub": {
            "name": statistics.name,
            "state": statistics.state,
            "version": VERSION,
            "python": platform.python_version(),
            "free_threaded": not getattr(sys, "_is_gil_enabled", lambda: True)(),
            "process": os.getpid(),
            "up": 0.0 if core.started_at is None else _rounded(now - core.started_at),
            "now": _rounded(now),
            "watchdog": core.setting.watchdog,
        },
        "now": {name: _rounded(value) for name, value in asdict(statistics).items()},
        "samples": {
            "next": number,
            "interval": INTERVAL,
            "columns": {
                name: [_rounded(sample[place]) for sample in samples]
                for place, name in enumerate(Sample._fields)
            },
        },
        "stuck": {
            "number": stuck_number,
            "shown": [each._replace(seconds=_rounded(each.seconds))._asdict() for each in stuck],
        },
        "clients": _clients(core, _Wanted.of(query, "clients", CLIENT_SORTS), now),
        "rooms": _rooms(core, _Wanted.of(query, "rooms", ROOM_SORTS)),
        "nodes": _nodes(core, statistics),
        "threads": dict(core.threads.roles().most_common()),
        "refused": {str(each): number for each, number in core.refusals.by_status().items()},
    }


class _Wanted(NamedTuple):
    """The part of a list that is asked for."""

    sort: str
    find: str
    page: int
    size: int

    @classmethod
    def of(cls, query: Mapping[str, str], name: str, sorts: Mapping[str, object]) -> _Wanted:
        """Read the part of the query for ``name``.

        :param sorts: the names of the orders; the first is the default.
        """
        sort = query.get(f"{name}.sort", "") or next(iter(sorts))
        if sort not in sorts:
            allowed = ", ".join(sorts)
            raise HandshakeRejected(400, f"{name}.sort: expected one of {allowed}.")
        return cls(
            sort,
            query.get(f"{name}.find", "").strip().casefold(),
            _whole(query, f"{name}.page", 0, sys.maxsize),
            _whole(query, f"{name}.size", 1, MOST_ROWS, SIZE),
        )

    def cut(
        self,
        things: list[T],
        key: Callable[[T], Any],
        text: Callable[[T], str],
        row: Callable[[T], dict[str, Any]],
    ) -> dict[str, Any]:
        """Return the wanted part of ``things``, the largest first.  Equal things keep their order.

        :param key: returns the number to sort by.
        :param text: returns the text that ``find`` is searched in.
        :param row: returns the figures to show.
        """
        total = len(things)
        if self.find:
            things = [each for each in things if self.find in text(each).casefold()]
        things = sorted(things, key=key, reverse=True)
        last = max(0, (len(things) - 1) // self.size)
        page = min(self.page, last)
        shown = things[page * self.size : (page + 1) * self.size]
        return {
            "total": total,
            "found": len(things),
            "page": page,
            "pages": last + 1,
            "size": self.size,
            "sort": self.sort,
            "rows": [row(each) for each in shown],
        }


CLIENT_SORTS: Final[Mapping[str, Callable[[Any, tuple[int, int]], float]]] = {
    "lag": lambda client, waiting: waiting[0],
    "bytes": lambda client, waiting: waiting[1],
    "age": lambda client, waiting: -client.connection_id,
    "newest": lambda client, waiting: client.connection_id,
    "received": lambda client, waiting: client.received,
    "sent": lambda client, waiting: client.ws_conn.outbox.count,
    "dropped": lambda client, waiting: client.ws_conn.dropped,
    "rooms": lambda client, waiting: len(client._rooms),
}
"""The orders of clients.  Each returns the number to sort by, for a client and the numbers of its
waiting messages and bytes."""

ROOM_SORTS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "load": lambda room: (room._load or 0.0, room.members_num),
    "members": lambda room: room.members_num,
    "pushes": lambda room: room.push_count,
    "lagging": lambda room: room._log.counts()[2],
    "skipped": lambda room: 0 if room._ticks is None else room._ticks.skipped,
    "age": lambda room: -room.hotline_id,
    "newest": lambda room: room.hotline_id,
}
"""The orders of rooms.  Each returns the figure to sort by."""


def _clients(core: Core[Any, Any], wanted: _Wanted, now: float) -> dict[str, Any]:
    number = CLIENT_SORTS[wanted.sort]
    # Only the few clients that lag are asked.
    waiting = {outbox: outbox.waiting() for outbox in list(core.meter.lagging)}

    def key(client: Any) -> float:
        return number(client, waiting.get(client.ws_conn.outbox, (0, 0)))

    def row(client: Any) -> dict[str, Any]:
        figures = client.statistics()
        return {
            "id": figures.connection_id,
            "kind": client.kind,
            "peer": _peer(client),
            "user": None if client.user is None else client.user[:MOST_SHOWN],
            "path": client.handshake.path[:MOST_SHOWN],
            "state": figures.state,
            "age": _rounded(now - client.since),
            "received": figures.received,
            "sent": figures.written,
            "waiting": figures.waiting,
            "bytes": figures.waiting_bytes,
            "dropped": figures.dropped,
            "rooms": figures.hotlines,
            "closures": figures.closures_waiting,
        }

    def text(client: Any) -> str:
        return f"{client.connection_id} {_peer(client)} {client.user or ''} {client.kind}"

    return wanted.cut(core.registry.everyone.members(), key, text, row)


def _peer(client: Any) -> str:
    peer = client.handshake.peer
    if isinstance(peer, str):
        return peer or "a Unix socket"
    host, port = peer
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _rooms(core: Core[Any, Any], wanted: _Wanted) -> dict[str, Any]:
    def row(room: Any) -> dict[str, Any]:
        figures = room.statistics()
        found = {
            "id": figures.hotline_id,
            "name": figures.name[:MOST_SHOWN],
            "kind": room._kind[:MOST_SHOWN],
            "members": figures.members,
            "pushes": figures.pushes,
            "waiting": figures.waiting,
            "lagging": figures.lagging,
            "ticking": isinstance(room, FrameControl),
        }
        if isinstance(room, FrameControl):
            found |= {
                "hz": _rounded(room.hz),
                "load": _rounded(room._load),
                "work": _rounded(figures.work.p99),
                "late": _rounded(figures.lateness.p99),
                "ticks": figures.ticks,
                "skipped": figures.skipped,
                "overruns": figures.overruns,
                "errors": figures.errors,
                "paused": figures.paused,
            }
        return found

    def text(room: Any) -> str:
        return f"{room.hotline_id} {room.name} {room._kind}"

    return wanted.cut(core.registry.hotlines(), ROOM_SORTS[wanted.sort], text, row)


def _nodes(core: Core[Any, Any], statistics: HubStatistics) -> list[dict[str, Any]]:
    """Return the hubs of the backplane; empty without a backplane that hubs share."""
    if core.setting.backplane is None or statistics.backplane is None:
        return []
    hub: Any = core.hub
    return [
        {
            "id": node.id,
            "name": node.name[:MOST_SHOWN],
            "state": node.state,
            "clients": node.clients,
            "rooms": node.hotlines,
            "age": _rounded(node.age),
            "own": node.id == core.sharing.node,
        }
        for node in hub.cluster()[:MOST_ROWS]
    ]


def _whole(
    query: Mapping[str, str], name: str, least: int, most: int, otherwise: int | None = None
) -> int:
    text = query.get(name, "")
    if not text:
        return least if otherwise is None else otherwise
    if not (text.isascii() and text.isdecimal() and len(text) < 19) or int(text) < least:
        raise HandshakeRejected(400, f"{name}: expected an integer from {least}.")
    return min(int(text), most)


def _rounded(value: Any) -> Any:
    """Return a number with fewer digits, which JSON can express; anything else as it is."""
    if not isinstance(value, float):
        return value
    return round(value, 6) if math.isfinite(value) else 0.0
