"""Small types that every layer speaks of.  Layer: base.

Source: the specification's ``ClientID``, ``HotlineID``, ``ConnectionType``,
``ConnectionProtocols``.
"""

from __future__ import annotations

from enum import Enum
from typing import NewType, TypeAlias

from hubthread.errors import UsageError

__all__ = ["ClientID", "ConnectionType", "HotlineID", "Key", "check_key"]

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
