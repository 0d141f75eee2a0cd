"""From a raw TCP connection to a client.

Layer: hub.  Threads: each TCP connection's own, which then is its client's reader; a
``SocketServer`` is for any.
"""

from __future__ import annotations

from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any

from hubthread.errors import HandshakeRejected, HubClosed, SettingError
from hubthread.hub.serving import check_place
from hubthread.hub.socket_client import SocketClient, request_of
from hubthread.hub.statistics import ServerStatistics
from hubthread.hub.upgrade import make_meta
from hubthread.net.listener import Address, Listener, open_tcp
from hubthread.net.raw import RawConnection
from hubthread.net.tls import open_transport
from hubthread.net.transport import Stream, Transport
from hubthread.settings import check_number
from hubthread.types import ConnectionProtocols

if TYPE_CHECKING:
    import ssl as tls

    from hubthread.hub.hub import Hub

__all__ = ["SocketServer", "open_socket_server"]


class SocketServer:
    """A socket of a hub that raw peers come to; made by ``hub.socket_handles``.

    ``close`` lets nobody new in; the clients that came through it stay until they, or the
    hub, close.  It is a context manager.

    Threads: every method from any.
    """

    def __init__(
        self,
        hub: Hub[Any, Any],
        protocol: ConnectionProtocols,
        context: tls.SSLContext | None,
    ) -> None:
        self._hub = hub
        self.protocol = protocol
        self._context = context
        self._period = hub.setting.socket_period
        self._limits = replace(hub.limits, write_wait=self._period.write_wait)
        self._listener: Listener

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

    def _place(self) -> str:
        host, port = self.address
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def close(self) -> None:
        """Let nobody new in."""
        self._listener.close()
        self._hub.forget_server(self)

    def statistics(self) -> ServerStatistics:
        """What is to be known of it now."""
        listener = self._listener
        return ServerStatistics(
            self._place(), listener.connections, listener.accepted, listener.refused
        )

    def __enter__(self) -> SocketServer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<SocketServer {self.url} {self._listener.connections} peers>"

    # On a TCP connection's own thread.

    def _serve(self, stream: Stream, peer: Address) -> None:
        transport = open_transport(stream, self._context)
        self._hub.tracker.begin(transport)
        try:
            connection = self._attend(transport, peer)
            if connection is not None:
                connection.run()
        finally:
            transport.close()
            self._hub.tracker.end(transport)

    def _attend(self, transport: Transport, peer: Address) -> RawConnection | None:
        """Make the client; its start callback has run when this returns."""
        hub = self._hub
        request = request_of(self.protocol, peer, secure=self._context is not None)
        try:
            transport.handshake(hub.setting.websocket_period.upgrader.handshake_timeout)
            meta = make_meta(hub, request)
        except HandshakeRejected as refusal:
            hub.refused(request, refusal.status, refusal.reason)
            return None
        except OSError as error:  # the connection broke, or TLS did not come about
            hub.refused(request, 400, f"{type(error).__name__}: {error}")
            return None
        client = SocketClient(hub, hub.registry.next_client_id(), meta, request)
        connection = client.ws_conn = RawConnection(
            transport,
            self._period,
            self._limits,
            client,
            start_thread=hub.threads.start,
            alarms=hub.alarms,
            flusher=hub.flusher,
        )
        if not hub.tracker.opened(transport):
            return None
        client.begin()
        return connection


def open_socket_server(
    hub: Hub[Any, Any],
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
    if protocol is ConnectionProtocols.UDP:
        raise SettingError("protocol", "ConnectionProtocols.TCP; UDP is to come")
    check_number("max_peers", max_peers, 1, whole=True)
    server = SocketServer(hub, protocol, context)
    sock = open_tcp(host, port, backlog)
    try:
        server._listener = Listener(
            sock, server._serve, hub.threads, hub.logger, max_peers, refusal=b""
        )
        server._listener.start()
    except BaseException:
        sock.close()
        raise
    try:
        hub.remember_server(server)
    except HubClosed:
        server.close()
        raise
    hub.logger.info("%s listens on %s", hub.name, server.url)
    return server
