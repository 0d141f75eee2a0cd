"""Clients that are no WebSockets: raw TCP and UDP peers.

Layer: hub.  Threads: as in ``client``; a UDP peer has no reader, its callbacks all run on
workers.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from hubthread.clients.client import Client
from hubthread.concurrency.logs import log_safely
from hubthread.concurrency.strand import Strand
from hubthread.errors import ClientClosed, Closed, HandshakeRejected, QueueFull
from hubthread.limits import RATE
from hubthread.protocol.request import Headers, Request
from hubthread.protocol.websocket import ProtocolFailure
from hubthread.serving.accept import make_meta
from hubthread.types import ClientID, ConnectionProtocols, ConnectionType

if TYPE_CHECKING:
    from hubthread.concurrency.workers import BoundedPool
    from hubthread.hub.hub import Hub
    from hubthread.net.udp.peer import UdpPeer
    from hubthread.net.udp.socket import UdpSocket

__all__ = ["DatagramClient", "SocketClient", "request_of"]

FLUSH_TIME = 1.0
"""Seconds for a busy hub to send what was pushed to a peer that has ended its half."""

Meta = TypeVar("Meta")
Header = TypeVar("Header", bound=Hashable)


def request_of(
    protocol: ConnectionProtocols, peer: tuple[str, int] | str, *, secure: bool = False
) -> Request:
    """What stands for the request of a peer that makes none: its protocol and its address."""
    return Request(protocol.name, "", Headers(), peer, secure, http_version="")


class SocketClient(Client[Meta, Header]):
    """A raw peer.

    ``ctx.handshake`` has the method ``"TCP"`` or ``"UDP"``, the peer's address, and no headers.
    """

    __slots__ = ()

    connection_type = ConnectionType.SOCKET
    _violation = logging.WARNING
    _trouble = logging.INFO

    def __init__(
        self, hub: Hub[Meta, Header], connection_id: ClientID, meta: Meta, request: Request
    ) -> None:
        super().__init__(hub, connection_id, meta, request)
        self._preprocess = None  # the framing has taken off what does not belong to a message

    def on_leaving(self) -> None:
        """Leave every room; who has ended its half of the stream is still sent what is due.

        What was pushed while it was in may be waiting for the hub thread, and
        ``echo hello | nc -N`` waits for it too.
        """
        super().on_leaving()
        if self.ws_conn.ended_by == "peer":
            flushed = threading.Event()
            with contextlib.suppress(Closed):
                self.hub.loop.schedule(flushed.set)
                flushed.wait(FLUSH_TIME)

    def _log_end(self) -> None:
        link = self.ws_conn
        if link.ended_by in ("peer", "server"):
            level = logging.DEBUG
        elif link.ended_by == "violation":
            level = self._violation
        else:
            level = self._trouble
        text, args = "%r ended: %s", (self, link.reason or "no reason given")
        if level == logging.DEBUG:  # part of life
            log_safely(self.logger, logging.DEBUG, text, *args)
        else:
            self.hub.incidents.log_limited(link.limit or link.ended_by, level, text, *args)

    def __repr__(self) -> str:
        state = self.ws_conn.ended_by or "open"
        peer = self.handshake.peer
        place = f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else peer
        return f"<Client {self.connection_id} {state} {self.handshake.method} {place}>"


class DatagramClient(SocketClient[Meta, Header]):
    """A raw UDP peer: see ``hubthread.net.udp.peer.UdpSink`` for what calls it."""

    __slots__ = ("_admitted", "_datagrams", "_peer")

    # Whoever forges addresses must not fill the log.
    _violation = logging.INFO
    _trouble = logging.DEBUG

    def __init__(
        self,
        hub: Hub[Meta, Header],
        request: Request,
        peer: UdpPeer,
        datagrams: UdpSocket,
        carriers: BoundedPool,
    ) -> None:
        # The meta is the user's to make, and so not on the thread of everybody's socket.
        super().__init__(hub, hub.registry.next_client_id(), cast(Any, None), request)
        self.ws_conn = self._peer = peer
        self._datagrams = datagrams
        self._admitted = False
        self._strand = Strand(
            carriers, hub.setting.chan_queue_size, self._report, self._strand.name
        )

    # The socket's thread, or any.

    def come(self) -> None:
        """Join the hub, in its turn."""
        self._post(self._come)

    def arrive(self, message: str | bytes | ProtocolFailure, size: int) -> bool:
        """Handle a message, or what is none, in its turn; false if it cannot be."""
        return self._post(lambda: self._handle(message, size))

    def over(self) -> None:
        """Leave the hub, in its turn."""
        self._strand.close_soon(self._leave)

    def _post(self, work: Callable[[], object]) -> bool:
        try:
            self._strand.post(work)
        except (ClientClosed, QueueFull):
            return False
        return True

    # In its turn.

    def talks_too_much(self) -> None:
        """The message is lost, as datagrams are: a peer that was ended could come back at once."""
        text = "%r sends more than %g messages a second: losing some"
        rate = self.hub.setting.limits.messages_per_second
        self.hub.incidents.log_limit(RATE, logging.INFO, text, self, rate)

    def _come(self) -> None:
        try:
            self.meta = make_meta(self.hub, self.handshake)
        except HandshakeRejected as refusal:
            self.hub.refused(self.handshake, refusal.status, refusal.reason)
            self._peer.cut()
            return
        self._admitted = True
        self._begin()

    def _handle(self, message: str | bytes | ProtocolFailure, size: int) -> None:
        try:
            if isinstance(message, ProtocolFailure):
                self._peer.close(
                    message.code, message.reason, ended_by="violation", limit=message.limit
                )
            elif self._peer.ended_by is None:
                self.on_message(message)
        finally:
            self.payload = b""
            self._datagrams.handled(self._peer, size)

    def _leave(self) -> None:
        try:
            if self._admitted:
                self.on_leaving()
                self._log_end()
                self._tell_end()
        finally:
            self._datagrams.gone()
            self.hub.connections.end(self._peer)
