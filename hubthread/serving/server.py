"""The WebSocket server: from an accepted socket over TLS and the request to a client.

Layer: serving.  Threads: each connection has a thread, which becomes its client's reader;
``Server`` may be used on any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any

from hubthread.checks import check_number
from hubthread.core.core import Core
from hubthread.errors import HandshakeRejected, SettingError
from hubthread.limits import HANDSHAKE, HEAD
from hubthread.net.bind import open_tcp, open_unix
from hubthread.net.connection import Connection
from hubthread.net.listener import Address, Listener
from hubthread.net.tls import open_transport
from hubthread.net.transport import Stream, Transport, send_all
from hubthread.protocol.http import Request, RequestParser, Response
from hubthread.serving.accept import accept, negotiate, refusal_response
from hubthread.serving.listening import Listening, check_place

if TYPE_CHECKING:
    import ssl as tls


__all__ = ["Server", "answer", "open_server"]

_LIMITS = {408: HANDSHAKE, 431: HEAD}
"""Whom the status tells of, before there is a request."""

Page = Callable[[Request], Response]


class Server(Listening):
    """A listening socket of a hub; made by ``hub.serve``.

    ``close`` stops it from accepting; the clients that came through it stay until they,
    or the hub, close.  It is a context manager.

    Threads: every method from any.
    """

    def __init__(
        self,
        core: Core[Any, Any],
        context: tls.SSLContext | None,
        path: str | None,
        pages: Mapping[str, Page],
    ) -> None:
        super().__init__(core, context)
        self._path = path
        self._pages = pages

    @property
    def url(self) -> str:
        """Where clients connect: ``ws://host:port/path``."""
        scheme = "ws" if self._context is None else "wss"
        return f"{scheme}://{self._place()}{self._path or '/'}"

    @property
    def http_url(self) -> str:
        """The same place for a browser: ``http://host:port/``."""
        return f"{'http' if self._context is None else 'https'}://{self._place()}/"

    def __repr__(self) -> str:
        return f"<Server {self.url} {self._listener.connections} connections>"

    # On the connection's own thread.

    def _serve(self, stream: Stream, peer: Address) -> None:
        transport = open_transport(stream, self._context)
        self._core.connections.begin(transport)
        try:
            self._attend(transport, peer)
        finally:
            transport.close()
            self._core.connections.end(transport)

    def _attend(self, transport: Transport, peer: Address) -> None:
        upgrader = self._core.setting.websocket_period.upgrader
        deadline = monotonic() + upgrader.handshake_timeout
        parser = RequestParser(
            peer=peer, secure=self._context is not None, max_head=upgrader.max_head
        )
        request: Request | None = None
        connection: Connection | None = None
        try:
            try:
                transport.handshake(upgrader.handshake_timeout)
                while request is None:
                    transport.set_deadline(max(0.001, deadline - monotonic()))
                    request = parser.receive(transport.recv())
            except TimeoutError:
                raise HandshakeRejected(
                    408, f"The request was not complete in {upgrader.handshake_timeout:g} s."
                ) from None
            response = self._page(request)
            if response is None:
                negotiated = negotiate(self._core, request)
                connection = accept(self._core, transport, negotiated, deadline)
                del negotiated  # as below
        except HandshakeRejected as refusal:
            limit = _LIMITS.get(refusal.status) if request is None else None
            self._core.refusals.add(request, refusal.status, refusal.reason, limit, peer)
            response = refusal_response(self._core, refusal)
        except OSError as error:  # the connection broke, or TLS did not come about
            self._core.refusals.add(request, 400, f"{type(error).__name__}: {error}")
            return
        if response is not None:
            answer(transport, response.encode(request), deadline)
        elif connection is not None:
            trailing = parser.trailing
            del parser, request  # the connection stays for long, and this frame with it
            connection.run(trailing)

    def _page(self, request: Request) -> Response | None:
        """What plain HTTP is answered with; ``None`` where the WebSocket is."""
        here = self._path is None or request.path == self._path
        if request.is_websocket and here:
            return None
        page = self._pages.get(request.path)
        if page is None:
            if here:
                return None  # the handshake knows what to say to it
            raise HandshakeRejected(404, f"There is nothing at {request.path[:100]!r}.")
        try:
            with self._core.hook_call("the page", request):
                response: object = page(request)
            if not isinstance(response, Response):
                raise TypeError(f"a page returns a Response, not {type(response).__name__}")
        except HandshakeRejected:
            raise
        except BaseException as error:  # noqa: BLE001 - told to the log
            self._core.incidents.log_exception(error, "the page %r raised", request.path)
            return Response.text(500, "The server failed to make this page.")
        return response


def answer(transport: Transport, response: bytes, deadline: float) -> None:
    """Send a whole response and let the peer read it before the socket goes."""
    patience = max(deadline, monotonic() + 1.0)
    if not send_all(transport, response, patience):
        return
    transport.finish()
    send_all(transport, b"", patience)  # the rest of a close_notify, where there is TLS
    try:
        while (left := patience - monotonic()) > 0:
            transport.set_deadline(left)
            if not transport.recv():
                return
    except OSError:  # TimeoutError included
        pass


def open_server(
    core: Core[Any, Any],
    host: str,
    port: int,
    context: tls.SSLContext | None,
    unix_path: str | None,
    path: str | None,
    pages: Mapping[str, Page],
    max_connections: int,
    backlog: int,
) -> Server:
    """Check the arguments of ``hub.serve``, listen, and begin to accept."""
    check_place("host", host, port, backlog, context)
    check_number("max_connections", max_connections, 1, whole=True)
    if not isinstance(pages, Mapping):
        raise SettingError("pages", f"a mapping from paths to functions, not {pages!r}")
    for place, page in pages.items():
        if not callable(page):
            raise SettingError("pages", f"a function for {place!r}, not {page!r}")
    places: list[object] = [*pages, *([path] if path is not None else [])]
    for each in places:
        if not isinstance(each, str) or not each.startswith("/"):
            raise SettingError("path", f"a string that begins with a slash, not {each!r}")
    server = Server(core, context, path, pages)
    sock = open_tcp(host, port, backlog) if unix_path is None else open_unix(unix_path, backlog)
    server._open(
        sock,
        lambda: Listener(
            sock,
            server._serve,
            core,
            max_connections,
            core.address_limit,
        ),
    )
    return server
