"""Read the latest messages of a room from its stream in Redis.

Layer: backplane.  Threads: the calling thread waits for the server.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hubthread.backplane.interfaces import Message
from hubthread.backplane.redis.keeper import PAGE
from hubthread.backplane.redis.room import entry_arrival
from hubthread.backplane.redis.scripts import Keys
from hubthread.backplane.redis.wire import Wire, command, unpack
from hubthread.concurrency.deadline import Deadline
from hubthread.history import Position

__all__ = ["read_latest"]


def read_latest(
    wire: Wire, keys: Keys, count: int, deadline: Deadline
) -> tuple[Position, list[Message]] | None:
    """Return the last ``count`` messages, or as many as there are, and the position before them.

    :returns: None if the server has no such room.
    :raises Lost: if the server does not answer before the deadline.
    """
    found: list[Message] = []  # the newest first
    top, epoch, before = 0, "", b"+"
    while True:
        meta, entries, epoch_after = wire.ask(
            command(b"HMGET", keys.meta, b"e", b"s"),
            command(b"XREVRANGE", keys.stream, before, b"-", b"COUNT", b"%d" % PAGE),
            command(b"HGET", keys.meta, b"e"),
            timeout=max(deadline.left() or 0, 0.01),
        )
        if not isinstance(meta, list) or not isinstance(entries, list):
            return None
        # A new epoch may have begun between two commands.
        if meta[0] is None or meta[0] != epoch_after or epoch not in ("", meta[0].decode()):
            return None
        epoch = meta[0].decode()
        if before == b"+":
            # The newest entry is newer than ``meta`` if a push came between the two commands.
            top = int(entries[0][0].partition(b"-")[0]) if entries else int(meta[1])
        for messages in _adjoining(epoch, top - len(found), entries):
            found += reversed(messages)
        last_id = entries[-1][0] if entries else b""
        if len(entries) < PAGE or len(found) >= count or _is_parted(last_id, top - len(found)):
            del found[count:]
            found.reverse()
            return Position(epoch, top - len(found)), found
        before = b"(" + last_id


def _adjoining(epoch: str, top: int, entries: list[Any]) -> Iterator[list[Message]]:
    """Yield the messages of entries, from ``top`` backwards, until one is missing."""
    for entry in entries:
        arrival = entry_arrival(epoch, entry)
        if arrival.last != top or arrival.body is None:
            return
        try:
            messages = unpack(arrival.body)
        except ValueError:
            return
        if len(messages) != arrival.size:
            return
        top -= arrival.size
        yield list(messages)


def _is_parted(last_id: bytes, top: int) -> bool:
    """Return True if some entries of a page were left out, because a message is missing."""
    last, _, count = last_id.partition(b"-")
    return int(last) - int(count) != top
