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


def check_key(key: object) -> None:
    """Refuse a key whose hash or comparison would be the user's code, under our lock.

    :raises UsageError: for anything but ``Key`` or ``None``.
    """
    if key is not None and not isinstance(key, str | int | bytes):
        raise UsageError(f"key: str, int or bytes, not {key!r}")


class ConnectionType(str, Enum):
    """How a client is connected."""

    WEBSOCKET = "Websocket"
    SOCKET = "Socket"
