"""Clients that are no WebSockets: raw TCP peers.

Layer: hub.  Threads: as in ``client``.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable
from typing import TYPE_CHECKING, TypeVar

from hubthread.hub.client import Client
from hubthread.protocol.request import Headers, Request
from hubthread.types import ClientID, ConnectionProtocols, ConnectionType

if TYPE_CHECKING:
    from hubthread.hub.hub import Hub

__all__ = ["SocketClient", "request_of"]

Meta = TypeVar("Meta")
Header = TypeVar("Header", bound=Hashable)


def request_of(
    protocol: ConnectionProtocols, peer: tuple[str, int] | str, *, secure: bool = False
) -> Request:
    """What stands for the request of a peer that makes none: its protocol and its address."""
    return Request(protocol.name, "", Headers(), peer, secure, http_version="")


class SocketClient(Client[Meta, Header]):
    """A raw TCP peer.

    ``ctx.handshake`` has the method ``"TCP"``, the peer's address, and no headers.
    """

    __slots__ = ()

    connection_type = ConnectionType.SOCKET

    def __init__(
        self, hub: Hub[Meta, Header], connection_id: ClientID, meta: Meta, request: Request
    ) -> None:
        super().__init__(hub, connection_id, meta, request)
        self._preprocess = None  # the framing has taken off what does not belong to a message

    def _log_end(self) -> None:
        link = self.ws_conn
        if link.ended_by == "violation":
            level = logging.WARNING
        elif link.ended_by in ("peer", "server"):
            level = logging.DEBUG
        else:
            level = logging.INFO
        self.logger.log(level, "%r ended: %s", self, link.reason or "no reason given")

    def __repr__(self) -> str:
        state = self.ws_conn.ended_by or "open"
        peer = self.handshake.peer
        place = f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else peer
        return f"<Client {self.connection_id} {state} {self.handshake.method} {place}>"
