"""The raw server: from a TCP connection, or a datagram from a new address, to a client.

Layer: serving.  Threads: each TCP connection has a thread, which becomes its client's reader.
Each UDP socket has one thread.  A ``SocketServer`` may be used on any thread.
"""

from __future__ import annotations

import contextvars
from functools import partial
from typing import Any

from hubthread.checks import check_number
from hubthread.clients.raw import DatagramClient, SocketClient, request_of
from hubthread.concurrency.workers import BoundedPool
from hubthread.core.core import Core
from hubthread.core.options import raw_format, raw_options
from hubthread.errors import SettingError, SettingTypeError
from hubthread.limits import HANDSHAKE
from hubthread.net.bind import Bound, open_udp, peer_of
from hubthread.net.listener import Incoming, Listener
from hubthread.net.steps import Steps
from hubthread.net.tcp import TcpConnection
from hubthread.net.tls import certificate_of, open_transport
from hubthread.net.udp.peer import UdpPeer
from hubthread.net.udp.socket import UdpSocket
from hubthread.protocol.request import Request
from hubthread.serving.accept import Arrival
from hubthread.serving.listening import Endpoint, Listening
from hubthread.types import ConnectionProtocols

__all__ = ["SocketServer", "open_socket_server"]

MOST_WORKERS = 64
"""The most callbacks of one socket's UDP peers at the same time; further callbacks wait."""


class SocketServer(Listening):
    """A socket of a hub for raw TCP or UDP peers.  Made by ``hub.socket_handles``.

    ``close`` stops accepting.  The clients that came through the server stay until they, or
    the hub, close.  A UDP socket stays as long as it has clients.  A server is a context
    manager, which closes it.

    Threads: every method may be called on any thread.
    """

    def __init__(
        self, core: Core[Any, Any], endpoint: Endpoint, protocol: ConnectionProtocols
    ) -> None:
        super().__init__(core, endpoint)
        self.protocol = protocol
        """The protocol of the peers: TCP or UDP."""
        self._format = raw_format(core.setting.socket_period)
        self._options = raw_options(core.setting, core.options.bounds)
        self._pool = BoundedPool(core.workers, MOST_WORKERS)

    @property
    def address(self) -> tuple[str, int]:
        """The bound ``(host, port)``; the first, of a name with several addresses."""
        address = self._listener.addresses[0]
        assert isinstance(address, tuple)
        return address

    @property
    def url(self) -> str:
        """The URL that peers connect to: ``tcp://host:port``, ``tls://…`` or ``udp://…``."""
        scheme = self.protocol.value if self._context is None else "tls"
        return f"{scheme}://{self._place()}"

    def _bind(self, endpoint: Endpoint) -> Bound:
        if self.protocol is ConnectionProtocols.UDP:
            return open_udp(endpoint.host, endpoint.port, reuse_port=endpoint.reuse_port)
        return super()._bind(endpoint)

    def _listen(self, bound: Bound, most: int) -> Listener | UdpSocket:
        core = self._core
        if self.protocol is ConnectionProtocols.UDP:
            return UdpSocket(bound, self._welcome, self._format, self._options, core, most)
        limit, proxies = core.address_limit, self._proxies
        return Listener(bound, self._serve, core, most, limit, proxies, http=False)

    def _close(self, timeout: float | None) -> None:
        super()._close(timeout)
        self._pool.close()

    def __repr__(self) -> str:
        return f"<SocketServer {self.url} {self._listener.connections} peers>"

    # On a TCP connection's reader.

    def _serve(self, incoming: Incoming) -> Steps[None]:
        transport = open_transport(incoming.sock, self._context, incoming.watch)
        with Arrival(self._core, transport, incoming.peer) as arrival:
            # A raw peer gets no answer.
            connect = partial(self._connect, incoming=incoming)
            connection = yield from arrival.accept(connect)
            if connection is not None:
                yield from arrival.read(connection)

    def _connect(self, arrival: Arrival, incoming: Incoming) -> Steps[TcpConnection | None]:
        """Make the client; its start callback has run when this returns."""
        core, transport = self._core, arrival.transport
        yield from arrival.resume(0.0)
        arrival.request = self._request(arrival)
        timeout = core.setting.websocket_period.upgrader.handshake_timeout
        try:
            yield from self._introduce(arrival, incoming)
        except TimeoutError:
            what = "PROXY header or TLS" if incoming.proxied else "TLS"
            reason = f"no {what} within {timeout:g} s"
            core.refusals.add(arrival.request, 408, reason, HANDSHAKE, arrival.peer)
            return None
        arrival.ahead()
        request = arrival.request = self._request(arrival)
        if incoming.refuse is not None:
            raise incoming.refuse()
        core.refuse_draining()
        variables = contextvars.Context()
        meta = variables.run(core.make_meta, request)
        client = SocketClient(
            core, core.registry.next_client_id(), meta, request, variables=variables
        )
        arrival.share(client)
        connection = client.ws_conn = TcpConnection(
            transport, self._format, client, self._options, core
        )
        if not core.connections.open(transport):
            return None
        client.begin()
        return connection

    def _request(self, arrival: Arrival) -> Request:
        certificate = certificate_of(arrival.transport)
        secure = self._context is not None
        return request_of(self.protocol, arrival.peer, secure=secure, certificate=certificate)

    # On the UDP socket's thread.

    def _welcome(self, peer: UdpPeer) -> bool:
        """Make a client for the peer; return False when the hub is closing or drained."""
        assert isinstance(self._listener, UdpSocket)
        if self._core.state.draining:
            return False
        request = request_of(self.protocol, peer_of(peer.address, self.address))
        client = DatagramClient(self._core, request, peer, self._listener, self._pool)
        peer.sink = client
        if not self._core.connections.open(peer):
            return False
        client.come()
        return True


def open_socket_server(
    core: Core[Any, Any], endpoint: Endpoint, protocol: ConnectionProtocols, max_peers: int
) -> SocketServer:
    """Check the arguments of ``hub.socket_handles``, bind, and begin to accept.

    :raises SettingError, OSError, HubClosed: as ``hub.socket_handles``.
    """
    core.state.refuse_closing("opens no server")
    endpoint.check("addr")
    wanted = f"expected ConnectionProtocols.TCP or ConnectionProtocols.UDP, got {protocol!r}"
    given: object = protocol
    if not isinstance(given, str):
        raise SettingTypeError("protocol", wanted)
    try:
        protocol = ConnectionProtocols(protocol)
    except ValueError:
        raise SettingError("protocol", wanted) from None
    if protocol is ConnectionProtocols.UDP and endpoint.ssl is not None:
        raise SettingError("ssl", "for TCP only: the standard library has no DTLS")
    if protocol is ConnectionProtocols.UDP and endpoint.proxy_protocol:
        raise SettingError("proxy_protocol", "for TCP only")
    check_number("max_peers", max_peers, 1, whole=True)
    if core.setting.check_token is not None:
        raise SettingError("check_token", "expected None: a raw peer shows no token")
    server = SocketServer(core, endpoint, protocol)
    server._open(endpoint, max_peers)
    return server
