"""Small types that every layer speaks of.  Layer: base.

Source: the specification's ``ClientID``, ``HotlineID``, ``ConnectionType``,
``ConnectionProtocols``, ``DataSize``.
"""

from __future__ import annotations

from enum import Enum
from typing import ClassVar, NewType, TypeAlias

from hubthread.errors import UsageError

__all__ = [
    "ClientID",
    "ConnectionProtocols",
    "ConnectionType",
    "DataSize",
    "Framing",
    "HotlineID",
    "Key",
    "Overflow",
    "check_key",
]

ClientID = NewType("ClientID", int)
"""A client's number in its hub, from 1; never given out twice."""

HotlineID = NewType("HotlineID", int)
"""A hotline's number in its hub, from 1; never given out twice."""


Key: TypeAlias = str | int | bytes
"""What a message is the latest of: see ``Overflow.LATEST``."""


_PLAIN = [(kind.__hash__, kind.__eq__) for kind in (str, int, bytes)]


def check_key(key: object) -> None:
    """Refuse a key whose hash or comparison would be the user's code, under our lock.

    :raises UsageError: for anything but ``Key`` or ``None``, and for a subclass that hashes
        or compares in its own way (enums do not).
    """
    kind = type(key)
    if key is not None and (kind.__hash__, kind.__eq__) not in _PLAIN:
        raise UsageError(f"key: str, int or bytes, not {key!r}")


class ConnectionType(str, Enum):
    """How a client is connected."""

    WEBSOCKET = "Websocket"
    SOCKET = "Socket"


class ConnectionProtocols(str, Enum):
    """What ``hub.socket_handles`` listens for."""

    TCP = "tcp"
    UDP = "udp"


class Framing(Enum):
    """Where a message of a raw peer ends.

    On UDP a datagram is a message, whatever the framing; ``LINES`` takes the line end off one
    that comes with it.
    """

    LINES = "lines"
    """At the end of a line, ``\\n`` or ``\\r\\n``; what is sent ends with ``\\n``."""
    LENGTH_1 = 1
    """After as many bytes as the byte before it says; likewise the next three.  The number is
    unsigned, in network byte order, and does not count itself."""
    LENGTH_2 = 2
    LENGTH_4 = 4
    LENGTH_8 = 8
    CHUNKS = "as read"
    """Nowhere: what one read gives is a message, whatever the peer's writes were."""


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


class DataSize(int):
    """A number of bytes; wherever one is asked for, a plain ``int`` does as well.

    The constants count in 1024s: ``WebsocketPeriod(message_buffer_size=4 * DataSize.MB)``.
    """

    B: ClassVar[DataSize]
    KB: ClassVar[DataSize]
    MB: ClassVar[DataSize]
    GB: ClassVar[DataSize]
    TB: ClassVar[DataSize]


for _power, _name in enumerate(("B", "KB", "MB", "GB", "TB")):
    setattr(DataSize, _name, DataSize(1024**_power))
