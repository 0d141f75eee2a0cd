"""The raw server: from a TCP connection, or a datagram from a new address, to a client.

Layer: serving.  Threads: each TCP connection has a thread, which becomes its client's reader;
each UDP socket has one thread; a ``SocketServer`` may be used on any thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hubthread.checks import check_number
from hubthread.clients.raw import DatagramClient, SocketClient, request_of
from hubthread.concurrency.workers import BoundedPool
from hubthread.core.core import Core
from hubthread.core.options import raw_format, raw_options
from hubthread.errors import HandshakeRejected, SettingError
from hubthread.limits import HANDSHAKE
from hubthread.net.bind import open_tcp, open_udp
from hubthread.net.listener import Address, Listener
from hubthread.net.tcp import TcpConnection
from hubthread.net.tls import open_transport
from hubthread.net.transport import Stream, Transport
from hubthread.net.udp.peer import UdpPeer
from hubthread.net.udp.socket import UdpSocket
from hubthread.serving.listening import Listening, check_place
from hubthread.types import ConnectionProtocols

if TYPE_CHECKING:
    import socket
    import ssl as tls


__all__ = ["SocketServer", "open_socket_server"]

MOST_WORKERS = 64
"""Callbacks of UDP peers that run at the same time, of one socket; further ones wait."""


class SocketServer(Listening):
    """A socket of a hub that raw peers come to; made by ``hub.socket_handles``.

    ``close`` lets nobody new in; the clients that came through it stay until they, or the
    hub, close, and so does a UDP socket with any left.  It is a context manager.

    Threads: every method from any.
    """

    def __init__(
        self,
        core: Core[Any, Any],
        protocol: ConnectionProtocols,
        context: tls.SSLContext | None,
    ) -> None:
        super().__init__(core, context)
        self.protocol = protocol
        self._format = raw_format(core.setting.socket_period)
        self._options = raw_options(core.setting, core.options.bounds)
        self._pool = BoundedPool(core.workers, MOST_WORKERS)

    @property
    def address(self) -> tuple[str, int]:
        """``(host, port)`` as bound."""
        address = self._listener.address
        assert isinstance(address, tuple)
        return address

    @property
    def url(self) -> str:
        """Where peers connect: ``tcp://host:port``, ``tls://…`` or ``udp://…``."""
        scheme = self.protocol.value if self._context is None else "tls"
        return f"{scheme}://{self._place()}"

    def _listens(self, sock: socket.socket, max_peers: int) -> Listener | UdpSocket:
        core = self._core
        if self.protocol is ConnectionProtocols.UDP:
            return UdpSocket(
                sock,
                self._welcome,
                self._format,
                self._options,
                core,
                max_peers,
            )
        return Listener(
            sock,
            self._serve,
            core,
            max_peers,
            core.address_limit,
            http=False,
        )

    def close(self) -> None:
        """Let nobody new in."""
        super().close()
        self._pool.close()

    def __repr__(self) -> str:
        return f"<SocketServer {self.url} {self._listener.connections} peers>"

    # On a TCP connection's own thread.

    def _serve(self, stream: Stream, peer: Address) -> None:
        transport = open_transport(stream, self._context)
        self._core.connections.begin(transport)
        try:
            connection = self._attend(transport, peer)
            if connection is not None:
                connection.run()
        finally:
            transport.close()
            self._core.connections.end(transport)

    def _attend(self, transport: Transport, peer: Address) -> TcpConnection | None:
        """Make the client; its start callback has run when this returns."""
        core = self._core
        request = request_of(self.protocol, peer, secure=self._context is not None)
        upgrader = core.setting.websocket_period.upgrader
        try:
            transport.handshake(upgrader.handshake_timeout)
            meta = core.make_meta(request)
        except HandshakeRejected as refusal:
            core.refusals.add(request, refusal.status, refusal.reason)
            return None
        except TimeoutError:
            reason = f"no TLS within {upgrader.handshake_timeout:g} s"
            core.refusals.add(request, 408, reason, HANDSHAKE, peer)
            return None
        except OSError as error:  # the connection broke, or TLS did not come about
            core.refusals.add(request, 400, f"{type(error).__name__}: {error}")
            return None
        client = SocketClient(core, core.registry.next_client_id(), meta, request)
        connection = client.ws_conn = TcpConnection(
            transport,
            self._format,
            client,
            self._options,
            core,
        )
        if not core.connections.open(transport):
            return None
        client.begin()
        return connection

    # On the UDP socket's thread.

    def _welcome(self, peer: UdpPeer) -> bool:
        """Make a client of the peer; false when the hub is closing."""
        assert isinstance(self._listener, UdpSocket)
        request = request_of(self.protocol, (peer.address[0], peer.address[1]))
        client = DatagramClient(self._core, request, peer, self._listener, self._pool)
        peer.sink = client
        if not self._core.connections.open(peer):
            return False
        client.come()
        return True


def open_socket_server(
    core: Core[Any, Any],
    host: str,
    port: int,
    protocol: ConnectionProtocols,
    context: tls.SSLContext | None,
    max_peers: int,
    backlog: int,
) -> SocketServer:
    """Check the arguments of ``hub.socket_handles``, bind, and begin."""
    check_place("addr", host, port, backlog, context)
    try:
        protocol = ConnectionProtocols(protocol)
    except ValueError:
        raise SettingError(
            "protocol", f"ConnectionProtocols.TCP or ConnectionProtocols.UDP, not {protocol!r}"
        ) from None
    udp = protocol is ConnectionProtocols.UDP
    if udp and context is not None:
        raise SettingError("ssl", "for TCP only: the standard library has no DTLS")
    check_number("max_peers", max_peers, 1, whole=True)
    server = SocketServer(core, protocol, context)
    sock = open_udp(host, port) if udp else open_tcp(host, port, backlog)
    server._open(sock, lambda: server._listens(sock, max_peers))
    return server
