"""The WebSocket server: from an accepted socket over TLS and the request to a client.

Layer: serving.  Threads: each connection has a thread, which becomes its client's reader.  A
``Server`` may be used on any thread.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Mapping
from typing import Any

from hubthread.checks import check_callable, check_kind, check_number, refuse_unrun
from hubthread.core.core import Core
from hubthread.errors import HandshakeRejected, SettingError, SettingTypeError
from hubthread.net.bind import Address, Bound
from hubthread.net.connection import Connection
from hubthread.net.listener import Listener
from hubthread.net.steps import Steps, Watching
from hubthread.net.tls import open_transport
from hubthread.net.transport import Stream
from hubthread.protocol.http import Request, RequestParser, Response
from hubthread.serving.accept import Arrival, negotiate
from hubthread.serving.listening import Endpoint, Listening

__all__ = ["Server", "open_server"]

Page = Callable[[Request], Response]


class Server(Listening):
    """A listening socket of a hub for WebSocket clients.  Made by ``hub.serve``.

    ``close`` stops accepting.  The clients that came through the server stay until they, or
    the hub, close.  A server is a context manager, which closes it.

    Threads: every method may be called on any thread.
    """

    def __init__(
        self,
        core: Core[Any, Any],
        endpoint: Endpoint,
        path: str | None,
        pages: Mapping[str, Page],
    ) -> None:
        super().__init__(core, endpoint)
        self._path = path
        self._pages = pages

    @property
    def url(self) -> str:
        """The URL that clients connect to: ``ws://host:port/path``, or ``wss://…``."""
        scheme = "ws" if self._context is None else "wss"
        return f"{scheme}://{self._place()}{self._path or '/'}"

    @property
    def http_url(self) -> str:
        """The server's URL for a browser: ``http://host:port/``, or ``https://…``."""
        return f"{'http' if self._context is None else 'https'}://{self._place()}/"

    def __repr__(self) -> str:
        return f"<Server {self.url} {self._listener.connections} connections>"

    def _listen(self, bound: Bound, most: int) -> Listener:
        return Listener(bound, self._serve, self._core, most, self._core.address_limit)

    # On the connection's reader.

    def _serve(self, stream: Stream, peer: Address, watch: Watching | None) -> Steps[None]:
        with Arrival(self._core, open_transport(stream, self._context, watch), peer) as arrival:
            yield from arrival.run(self._negotiate)

    def _negotiate(self, arrival: Arrival) -> Steps[Connection | Response | None]:
        request = arrival.request = yield from self._request(arrival)
        arrival.ahead()
        page = self._page(request)
        if page is not None:
            return page
        return (yield from arrival.connect(negotiate(self._core, request)))

    def _request(self, arrival: Arrival) -> Steps[Request]:
        """Read the request; raise what the parser refuses it with, or a 408."""
        upgrader = self._core.setting.websocket_period.upgrader
        parser = RequestParser(
            peer=arrival.peer, secure=self._context is not None, max_head=upgrader.max_head
        )
        request: Request | None = None
        try:
            yield from arrival.resume(arrival.seconds_left)
            yield from arrival.handshake()
            while request is None:
                request = parser.receive((yield from arrival.receive()))
        except TimeoutError:
            reason = f"The request was not complete in {upgrader.handshake_timeout:g} s."
            raise HandshakeRejected(408, reason) from None
        arrival.trailing = parser.trailing
        return request

    def _page(self, request: Request) -> Response | None:
        """Return the response to plain HTTP; None if the request is for the WebSocket."""
        here = self._path is None or request.path == self._path
        if request.is_websocket and here:
            return None
        page = self._pages.get(request.path)
        if page is None:
            if here:
                return None  # the handshake refuses it, and says why
            raise HandshakeRejected(404, f"There is nothing at {request.path[:100]!r}.")
        try:
            with self._core.hook_call("the page", request):
                response: object = contextvars.Context().run(page, request)
                refuse_unrun(response)
            if not isinstance(response, Response):
                raise TypeError(f"expected a Response from a page, got {type(response).__name__}")
        except HandshakeRejected:
            raise
        except BaseException as error:  # noqa: BLE001 - logged
            self._core.incidents.log_exception(error, "the page %r raised", request.path)
            return Response.text(500, "The server failed to make this page.")
        return response


def open_server(
    core: Core[Any, Any],
    endpoint: Endpoint,
    path: str | None,
    pages: Mapping[str, Page] | None,
    max_connections: int,
) -> Server:
    """Check the arguments of ``hub.serve``, listen, and begin to accept.

    :raises SettingError, OSError, HubClosed: as ``hub.serve``.
    """
    endpoint.check("host")
    check_number("max_connections", max_connections, 1, whole=True)
    pages = {} if pages is None else pages
    check_kind("pages", pages, Mapping, "a mapping from paths to functions")
    for place, page in pages.items():
        try:
            check_callable(f"pages[{place!r}]", page, "request")
        except SettingTypeError as error:
            error.field = "pages"  # the parameter; the message names the page
            raise
    places: list[object] = [*pages, *([path] if path is not None else [])]
    for each in places:
        wanted = f"expected a string that begins with a slash, got {each!r}"
        if not isinstance(each, str):
            raise SettingTypeError("path", wanted)
        if not each.startswith("/"):
            raise SettingError("path", wanted)
    server = Server(core, endpoint, path, pages)
    server._open(endpoint, max_connections)
    return server
