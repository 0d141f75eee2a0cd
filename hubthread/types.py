"""Small types that every layer uses.

Layer: base.  Threads: values and pure functions; any thread may use them.
Source: the specification's ``ClientID``, ``HotlineID``, ``ConnectionType``,
``ConnectionProtocols``, ``DataSize``.
"""

from __future__ import annotations

from enum import Enum
from typing import ClassVar, NewType, TypeAlias

from hubthread.errors import WrongType

__all__ = [
    "ClientID",
    "ConnectionProtocols",
    "ConnectionType",
    "DataSize",
    "Framing",
    "HotlineID",
    "Key",
    "Overflow",
    "Readers",
    "check_key",
]

ClientID = NewType("ClientID", int)
"""A client's number in its hub, from 1; never given to a second client."""

HotlineID = NewType("HotlineID", int)
"""A hotline's number in its hub, from 1; never given to a second hotline."""

Key: TypeAlias = str | int | bytes
"""The subject of a message: with ``Overflow.LATEST`` a newer message replaces a waiting message
with the same key."""


_PLAIN = [(kind.__hash__, kind.__eq__) for kind in (str, int, bytes)]


def check_key(key: object) -> None:
    """Refuse a key whose hash or comparison would run the user's code under a lock of the hub.

    :raises WrongType: for anything but ``Key`` or ``None``, and for a subclass with a hash or
        a comparison of its own (enums have neither).
    """
    kind = type(key)
    if key is not None and (kind.__hash__, kind.__eq__) not in _PLAIN:
        raise WrongType(f"key: expected str, int, bytes or None, got {key!r}")


class ConnectionType(str, Enum):
    """The kind of a client's connection."""

    WEBSOCKET = "Websocket"
    SOCKET = "Socket"


class ConnectionProtocols(str, Enum):
    """The transport protocol that ``hub.socket_handles`` listens on."""

    TCP = "tcp"
    UDP = "udp"


class Framing(Enum):
    """The rule that tells where a message of a raw peer ends.

    On UDP every datagram is one message under every framing.  ``LINES`` removes the line end
    of a datagram that has one.
    """

    LINES = "lines"
    """A message ends at the end of a line, ``\\n`` or ``\\r\\n``; the hub sends ``\\n``."""
    LENGTH_1 = 1
    """The length of the message stands in the byte before it; in the 2, 4 or 8 bytes before it
    for the next three.  The length is unsigned, in network byte order, and does not count its
    own bytes."""
    LENGTH_2 = 2
    LENGTH_4 = 4
    LENGTH_8 = 8
    CHUNKS = "as read"
    """No framing: each read from the socket is one message, however the peer wrote it."""


class Overflow(Enum):
    """The policy for a client whose outbox is full because the client does not read."""

    CLOSE = "close"
    """Close the client with 1013 (try again later), so that it reconnects and starts afresh."""
    DROP_OLDEST = "drop oldest"
    """Drop the message that has waited longest.  The newest message always fits."""
    DROP_NEWEST = "drop newest"
    """Drop the message that does not fit."""
    LATEST = "latest per key"
    """As soon as anything waits, let a message replace the waiting one of the same ``key``.

    Messages without a key are kept.  When they alone fill the outbox, the client is closed.
    """


class Readers(Enum):
    """The threads that receive from clients and run their callbacks."""

    OWN = "own"
    """Each connection has a thread of its own, which blocks until something comes."""
    SHARED = "shared"
    """All connections share a few threads.

    One thread waits for all of them, and runs their callbacks.  When a callback blocks, another
    thread takes over.
    """


class DataSize(int):
    """A number of bytes.  A plain ``int`` works wherever a ``DataSize`` is expected.

    The constants are powers of 1024: ``WebsocketPeriod(message_buffer_size=4 * DataSize.MB)``.
    """

    B: ClassVar[DataSize]
    KB: ClassVar[DataSize]
    MB: ClassVar[DataSize]
    GB: ClassVar[DataSize]
    TB: ClassVar[DataSize]


for _power, _name in enumerate(("B", "KB", "MB", "GB", "TB")):
    setattr(DataSize, _name, DataSize(1024**_power))
