"""Raw TCP and UDP peers as clients.

Layer: clients.  Threads: as in ``client``.  A UDP peer has no reader thread; all its callbacks
run on worker threads.
Source: the specification's ``SocketHandles``.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import threading
from collections.abc import Callable, Hashable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

from hubthread.clients.client import Client
from hubthread.concurrency.logs import log_safely
from hubthread.core.core import Core
from hubthread.errors import ClientClosed, Closed, HandshakeRejected, QueueFull
from hubthread.limits import RATE
from hubthread.protocol.request import Headers, Request
from hubthread.protocol.websocket import ProtocolFailure
from hubthread.types import ClientID, ConnectionProtocols, ConnectionType

if TYPE_CHECKING:
    from hubthread.concurrency.workers import BoundedPool, Pool
    from hubthread.net.udp.peer import UdpPeer
    from hubthread.net.udp.socket import UdpSocket

__all__ = ["DatagramClient", "SocketClient", "request_of"]

FLUSH_TIME = 1.0
"""Seconds for the hub thread to send earlier pushes to a peer that has ended its half."""

Meta = TypeVar("Meta")
Header = TypeVar("Header", bound=Hashable)


def request_of(
    protocol: ConnectionProtocols,
    peer: tuple[str, int] | str,
    *,
    secure: bool = False,
    certificate: Mapping[str, Any] | None = None,
) -> Request:
    """Return a request that stands for a raw peer: its protocol and its address."""
    return Request(protocol.name, "", Headers(), peer, secure, "", certificate)


class SocketClient(Client[Meta, Header]):
    """A raw peer, as ``hub.socket_handles`` lets it in; on its own, a TCP peer.

    It is an ``IOContext`` like any client.  Its ``handshake`` has the method ``"TCP"`` or
    ``"UDP"``, the peer's address, and no headers.

    At its end, a TCP peer that has closed its half first gets the pushes accepted before: its
    reader thread waits for the hub thread, for 1 s at most.
    """

    __slots__ = ()

    connection_type = ConnectionType.SOCKET
    kind = "tcp"
    _violation = logging.WARNING
    _trouble = logging.INFO

    def __init__(
        self,
        core: Core[Meta, Header],
        connection_id: ClientID,
        meta: Meta,
        request: Request,
        pool: Pool | None = None,
        variables: contextvars.Context | None = None,
    ) -> None:
        super().__init__(core, connection_id, meta, request, pool, variables)
        self._preprocess = None  # the framing has removed the ends of lines

    def on_leaving(self) -> None:
        """Leave every room, and let the hub thread send the earlier pushes.

        A peer such as ``echo hello | nc -N`` ends its half of the stream and waits for the
        rest.  The reader thread blocks here for up to ``FLUSH_TIME`` seconds.
        """
        super().on_leaving()
        if self.ws_conn.ended_by == "peer":
            flushed = threading.Event()
            with contextlib.suppress(Closed):
                self._core.loop.schedule(flushed.set)
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
        if level == logging.DEBUG:  # the normal end
            log_safely(self.logger, logging.DEBUG, text, *args)
        else:
            self._core.incidents.log_limited(link.limit or link.ended_by, level, text, *args)

    def __repr__(self) -> str:
        state = self.ws_conn.ended_by or "open"
        peer = self.handshake.peer
        place = f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else peer
        return f"<Client {self.connection_id} {state} {self.handshake.method} {place}>"


class DatagramClient(SocketClient[Meta, Header]):
    """A raw UDP peer.

    Threads: the thread of the UDP socket calls ``come``, ``arrive`` and ``over``; each queues
    work in the client's order and returns.

    :param peer: the address that datagrams come from.
    :param datagrams: the socket, which counts the waiting datagrams.
    """

    kind = "udp"
    __slots__ = ("_admitted", "_datagrams", "_gone", "_peer")

    # A sender with forged addresses must not fill the log.
    _violation = logging.INFO
    _trouble = logging.DEBUG

    def __init__(
        self,
        core: Core[Meta, Header],
        request: Request,
        peer: UdpPeer,
        datagrams: UdpSocket,
        pool: BoundedPool,
    ) -> None:
        # A hook makes the meta later, on a worker: the socket's thread serves every peer.
        super().__init__(core, core.registry.next_client_id(), cast(Any, None), request, pool)
        self.ws_conn = self._peer = peer
        self._datagrams = datagrams
        self._admitted = False
        self._gone = False

    # For the socket's thread.

    def come(self) -> None:
        """Join the hub, in the client's order."""
        self._post(self._come)

    def arrive(self, message: str | bytes | ProtocolFailure, size: int) -> bool:
        """Queue a message or a failure; return False if the client's queue is full or closed."""
        return self._post(lambda: self._take(message, size))

    def over(self) -> None:
        """Leave the hub, in the client's order."""
        self._strand.close_soon(self._leave)

    def _post(self, work: Callable[[], object]) -> bool:
        try:
            self._strand.post(work)
        except (ClientClosed, QueueFull):
            return False
        return True

    # On a worker, in the client's order.

    def on_rate_exceeded(self) -> None:
        """Drop the message.  Closing would not help: a UDP peer comes back at once."""
        text = "%r sends more than %g messages a second: dropping some"
        rate = self._core.setting.limits.messages_per_second
        self._core.incidents.log_limit(RATE, logging.INFO, text, self, rate)

    def _come(self) -> None:
        try:
            self.meta = self._core.make_meta(self.handshake)
        except HandshakeRejected as refusal:
            self._core.refusals.add(self.handshake, refusal.status, refusal.reason)
            self._peer.cut()
            return
        self._admitted = True
        self._begin()

    def _take(self, message: str | bytes | ProtocolFailure, size: int) -> None:
        try:
            if isinstance(message, ProtocolFailure):
                self._peer.close(
                    message.code, message.reason, ended_by="violation", limit=message.limit
                )
            elif self._peer.ended_by is None:
                (self._handle if self._around is None else self._handle_inside)(message)
        finally:
            self.payload = b""
            self._datagrams.handled(self._peer, size)

    def _leave(self) -> None:
        if self._gone:
            return
        self._gone = True
        try:
            if self._admitted:
                self.on_leaving()
                self._log_end()
                self._tell_end()
        finally:
            self._datagrams.gone()
            self._core.connections.end(self._peer)
