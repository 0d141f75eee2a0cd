"""Small types that every layer speaks of.  Layer: base.

Source: the specification's ``ClientID``, ``HotlineID``, ``ConnectionType``,
``ConnectionProtocols``.
"""

from __future__ import annotations

from enum import Enum
from typing import NewType

__all__ = ["ClientID", "ConnectionType", "HotlineID"]

ClientID = NewType("ClientID", int)
"""A client's number in its hub, from 1; never given out twice."""

HotlineID = NewType("HotlineID", int)
"""A hotline's number in its hub, from 1; never given out twice."""


class ConnectionType(str, Enum):
    """How a client is connected."""

    WEBSOCKET = "Websocket"
    SOCKET = "Socket"
