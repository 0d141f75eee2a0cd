"""The envelope around a push of a shared room, for clients of the subprotocol ``hubthread.1``.

Layer: protocol.  Threads: pure functions; any thread may call them.

Such a client learns the room and the number of each push, so that it can tell its position later.
The envelope is put around the bytes of the push once for all members that get it::

    {"room":"table/7","n":1211,"data":{"type":"said","text":"hi"}}

``data`` holds a push that is JSON text.  The field ``text`` holds other text, as a string, and the
field ``bytes`` holds a binary push, in base64.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from hubthread.protocol.frames import Frame, MessageType

__all__ = [
    "SUBPROTOCOL",
    "Enveloped",
    "Place",
    "Placed",
    "Versioned",
    "envelop",
    "gap_message",
]

_TEXT = int(MessageType.TEXT)

SUBPROTOCOL = "hubthread.1"
"""The subprotocol of clients that know the hub's own messages."""


class Place(NamedTuple):
    """The places of pushes in the order of a shared room."""

    room: str
    offsets: Sequence[int | None]
    """None: the push is shown ahead of its place."""
    epoch: str | None = None
    """None: the room has no history, so no client has a position in it."""


class Placed(NamedTuple):
    """The place of one push in a room with a history."""

    room: str
    epoch: str
    offset: int

    def gap(self) -> bytes:
        """Return the frame that a client gets in place of this push, if the push is dropped."""
        return Frame(gap_message(self.room, self.epoch, self.offset, "dropped"), _TEXT).wire


class Versioned(NamedTuple):
    """The place of one change of the users in a room."""

    room: str
    version: int

    def gap(self) -> bytes:
        """Return the frame that a client gets in place of this change, if the change is dropped.

        The frame has no version.  So the client notices the missing version, and joins again.
        """
        gap = {"type": "hub:members", "room": self.room, "why": "dropped"}
        return Frame(json.dumps(gap, separators=(",", ":")), _TEXT).wire


def gap_message(room: str, epoch: str, offset: int, why: str) -> str:
    """Return the message for clients that may have missed pushes up to ``offset``."""
    gap = {"type": "hub:gap", "room": room, "epoch": epoch, "at": offset, "why": why}
    return json.dumps(gap, separators=(",", ":"))


@dataclass(frozen=True)
class Enveloped:
    """The encoding of a peer that gets envelopes."""

    window_bits: int | None
    """The window of permessage-deflate; None: no compression."""


def envelop(frame: Frame, room: str, number: int | None) -> Frame:
    """Return ``frame`` in an envelope.

    :param number: the number of the push in the room; None for a push without a place.
    """
    body = frame.body
    if frame.message_type == MessageType.BINARY:
        name, data = b"bytes", b'"' + b64encode(body) + b'"'
    elif _is_json(body):
        name, data = b"data", body
    else:
        name, data = b"text", json.dumps(body.decode()).encode()
    place = b"" if number is None else b'"n":%d,' % number
    head = b'{"room":%b,%b"%b":' % (json.dumps(room).encode(), place, name)
    return Frame(b"".join((head, data, b"}")), MessageType.TEXT)


def _is_json(body: bytes) -> bool:
    try:
        json.loads(body, parse_constant=_refuse)
    except ValueError:
        return False
    return True


def _refuse(constant: str) -> None:
    # NaN and Infinity are Python's JSON, not a browser's.
    raise ValueError(constant)
