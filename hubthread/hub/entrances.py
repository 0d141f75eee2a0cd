"""What a hub knows of its listening sockets, and of who was turned away.

Layer: hub.  Threads: any.
Source: the specification's ``SocketHandles``.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from hubthread.clients.client import Client
from hubthread.concurrency.logs import log_safely
from hubthread.serving.accept import ASK
from hubthread.serving.listening import Listening
from hubthread.serving.raw_server import SocketServer, open_socket_server
from hubthread.serving.server import Connections, Server, open_server
from hubthread.serving.wsgi import WSGIAnswer, WSGIBridge
from hubthread.types import ConnectionProtocols

if TYPE_CHECKING:
    import ssl as tls
    from collections.abc import Mapping

    from hubthread.concurrency.incidents import Incidents
    from hubthread.hub.hub import Hub
    from hubthread.hub.lifecycle import Lifecycle
    from hubthread.protocol.http import Response
    from hubthread.protocol.request import Request
    from hubthread.settings import HubSetting

__all__ = ["Serves"]

Meta = TypeVar("Meta")
Header = TypeVar("Header", bound=Hashable)


"""What a hub listens with."""


class Serves(Generic[Meta, Header]):
    """The part of a hub by which clients come."""

    # The hub's.
    lifecycle: Lifecycle
    logger: logging.Logger
    incidents: Incidents
    setting: HubSetting[Meta, Header]

    client_class: Callable[..., Client[Any, Any]] = Client
    """What a WebSocket becomes; an integration may have its own."""

    def _init_serving(self) -> None:
        self.connections = Connections()
        self.entrance = WSGIBridge(cast("Hub[Meta, Header]", self))
        self._serving_lock = threading.Lock()  # guards what follows
        self._servers: list[Listening] = []
        self._refused = 0

    def serve(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        ssl: tls.SSLContext | None = None,
        unix_path: str | None = None,
        path: str | None = None,
        pages: Mapping[str, Callable[[Request], Response]] | None = None,
        max_connections: int = 10_000,
        backlog: int = 1024,
    ) -> Server:
        """Listen for WebSocket clients; returns at once.

        :param host: an address or name of this machine; ``"0.0.0.0"`` for all of IPv4,
            ``"::"`` for IPv6, by default this machine only.
        :param port: 0 takes a free one: see ``server.address``.
        :param ssl: a server's context, for ``wss``.
        :param unix_path: listen on a Unix socket there instead of ``host`` and ``port``.
        :param path: where the WebSocket is; ``None``: everywhere.
        :param pages: plain HTTP on the same port: path → ``function(request) -> Response``,
            called on a thread of that request's own.  Everything else is 404.
        :param max_connections: at the same time, plain HTTP included; more get 503.
        :param backlog: connections that the system queues before they are accepted.
        :raises OSError: when the address cannot be listened on.
        :raises SettingError: for a value out of range.
        :raises HubClosed: when the hub is closing.
        """
        self.lifecycle.refuse_closing("serves nobody")
        hub = cast("Hub[Meta, Header]", self)
        return open_server(
            hub, host, port, ssl, unix_path, path, pages or {}, max_connections, backlog
        )

    def socket_handles(
        self,
        addr: str,
        port: int,
        protocol: ConnectionProtocols,
        *,
        ssl: tls.SSLContext | None = None,
        max_peers: int = 10_000,
        backlog: int = 1024,
    ) -> SocketServer:
        """Let raw TCP or UDP peers in as clients of this hub; returns at once (``SocketHandles``).

        ``HubSetting.socket_period`` says how their messages end and how they are kept alive.
        ``on_handshake``, where there is one, is asked for them too: its request has the
        method ``"TCP"`` or ``"UDP"``, the peer's address, and no headers.

        :param addr: an address or name of this machine, as for ``serve``.
        :param port: 0 takes a free one: see ``address`` of what is returned.
        :param protocol: ``ConnectionProtocols.TCP`` or ``UDP``.
        :param ssl: a server's context, for TLS on TCP.
        :param max_peers: at the same time; more are closed at once.
        :param backlog: TCP connections that the system queues before they are accepted.
        :raises OSError: when the address cannot be listened on.
        :raises SettingError: for a value out of range.
        :raises HubClosed: when the hub is closing.
        """
        self.lifecycle.refuse_closing("serves nobody")
        hub = cast("Hub[Meta, Header]", self)
        return open_socket_server(hub, addr, port, protocol, ssl, max_peers, backlog)

    def websocket_handler(
        self,
        environ: dict[str, Any],
        start_response: Callable[[str, list[tuple[str, str]]], object] | None = None,
        meta: Meta = ASK,
        *,
        max_connections: int = 10_000,
    ) -> WSGIAnswer:
        """Make the request of a WSGI application a client (``WebSocketHandler``).

        The socket is taken from the WSGI server, one of the hub's own threads serves it, and
        this returns at once: no worker is held.  Where a connection cannot be moved (TLS
        that the WSGI server ends itself, Windows) the calling thread serves the client and
        this returns at its end: see ``statistics().wsgi_parked``.

        A hub that is new is started, on this first need, so it may be made before a server
        forks.  It is closed when the process ends: its clients are told 1001.

        :param environ: as the application was called with; once for each request.
        :param start_response: called with the answer; ``None``: call what is returned, or
            return it from a Flask view.
        :param meta: the client's (``WebSocketHandlerWithMeta``); ``on_handshake`` and
            ``meta_gen`` are not asked then: whoever calls this has decided who may come.
        :param max_connections: through this method at the same time; more get 503.
        :returns: what the application is to return: the end of the request, or its refusal
            (426 for what is no WebSocket, 403 for a foreign page, 429 for an address beyond
            ``Limits.connections_per_address``, 501 for a server whose sockets cannot be had,
            503 for a hub that is closed, full or out of threads).
        :raises UsageError: for an environ whose request is a client already, and for a hub
            that had threads in another process, before it forked.
        """
        answer = self.entrance.enter(environ, meta, max_connections)
        if start_response is not None:
            start_response(answer.status, answer.headers)
        return answer

    def start_once(self) -> None:
        """Start a new hub in this process, and close it when the process ends.

        Returns when its ``delayed_execution``, if any, has run.  For a WSGI application that
        pushes before anybody has come by ``websocket_handler``, which does the same.  A hub
        that was started here, or has ended, stays as it is.

        :raises UsageError: when it had threads in another process, before that forked.
        :raises RuntimeError: when the system gives no thread; it may be tried again.
        """
        self.entrance.start_once()

    def servers(self) -> list[Listening]:
        """Those that listen now."""
        with self._serving_lock:
            return list(self._servers)

    def remember_server(self, server: Listening) -> None:
        """From a server that has begun to listen.

        :raises HubClosed: when the hub is closing, which may have missed the server.
        """
        with self._serving_lock:
            self._servers.append(server)
        self.lifecycle.refuse_closing("serves nobody")

    def forget_server(self, server: Listening) -> None:
        """From a server that has ended."""
        with self._serving_lock:
            if server in self._servers:
                self._servers.remove(server)

    def refused(
        self,
        request: Request | None,
        status: int,
        reason: str,
        limit: str | None = None,
        peer: object = None,
    ) -> None:
        """From a server: a request was answered with an error status, by ``limit`` if named."""
        with self._serving_lock:
            self._refused += 1
        text = "request refused: %s %s (%r)"
        if limit is not None:
            self.incidents.log_limit(limit, logging.INFO, text, status, reason, peer)
        else:
            log_safely(self.logger, logging.DEBUG, text, status, reason, request)
        callback = self.setting.websocket_period.upgrader.error
        if callback is not None:
            try:
                callback(request, status, reason)
            except BaseException as error:  # noqa: BLE001 - told to the log
                self.incidents.log_exception(error, "Upgrader.error raised")
