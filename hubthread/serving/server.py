"""The WebSocket server: from an accepted socket over TLS and the request to a client.

Layer: serving.  Threads: each connection has a thread, which becomes its client's reader.  A
``Server`` may be used on any thread.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

from hubthread.checks import check_callable, check_kind, check_number, refuse_unrun
from hubthread.core.core import Core
from hubthread.errors import HandshakeRejected, SettingError, SettingTypeError
from hubthread.net.bind import Bound, address_of, is_loopback
from hubthread.net.connection import Connection
from hubthread.net.listener import RESERVE, Incoming, Listener
from hubthread.net.steps import Steps
from hubthread.net.tls import certificate_of, open_transport
from hubthread.net.transport import PeerLeft
from hubthread.protocol.hosts import AllowedHosts
from hubthread.protocol.http import Request, RequestParser, Response
from hubthread.protocol.request import is_check
from hubthread.serving.accept import Arrival, check_host, negotiate
from hubthread.serving.check import answer_check
from hubthread.serving.client_page import with_client
from hubthread.serving.listening import Endpoint, Listening

__all__ = ["Server", "open_server"]

Page = Callable[[Request], Response]


class Server(Listening):
    """A listening socket of a hub for WebSocket clients.  Made by ``hub.serve``.

    ``close`` stops accepting.  The clients that came through the server stay until they, or
    the hub, close.  A server is a context manager, which closes it.

    Threads: every method may be called on any thread.
    """

    _posts: Collection[str] = ()
    """The paths of pages that take ``POST``, without a body."""

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
        self._host = endpoint.host
        self._hosts = core.hosts

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
        core, plain = self._core, self._context is None
        unset = core.setting.websocket_period.upgrader.allowed_hosts is None
        if unset and not self._proxies and all(is_loopback(address_of(s)) for s in bound.socks):
            # A foreign page can reach such a server, by a name that resolves to this machine.
            self._hosts = AllowedHosts([self._host])
        limit, proxies = core.address_limit, self._proxies
        return Listener(
            bound, self._serve, core, most, limit, proxies, reserve=RESERVE, http=plain
        )

    # On the connection's reader.

    def _serve(self, incoming: Incoming) -> Steps[None]:
        transport = open_transport(incoming.sock, self._context, incoming.watch)
        with Arrival(self._core, transport, incoming.peer) as arrival:
            yield from arrival.run(lambda arrival: self._negotiate(arrival, incoming))

    def _negotiate(
        self, arrival: Arrival, incoming: Incoming
    ) -> Steps[Connection | Response | None]:
        request = arrival.request = yield from self._request(arrival, incoming)
        arrival.ahead()
        check_host(self._core, request, self._hosts)
        if is_check(request):
            if not self._is_here(request):
                raise _nothing_at(request)
            return answer_check(self._core, request, partial(self._decide, incoming))
        if incoming.refuse is not None and not self._is_page(request):
            raise incoming.refuse()
        page = self._page(request)
        if page is not None:
            return page
        return (yield from arrival.connect(negotiate(self._core, request)))

    def _decide(self, incoming: Incoming, request: Request) -> None:
        """Decide about a handshake that a page asks about; see ``check``."""
        if incoming.refuse is not None:
            raise incoming.refuse()
        negotiate(self._core, request)

    def _is_here(self, request: Request) -> bool:
        """Return True if the WebSocket is at the path of the request."""
        return self._path is None or request.path == self._path

    def _request(self, arrival: Arrival, incoming: Incoming) -> Steps[Request]:
        """Read the request; raise what the parser refuses it with, or a 408."""
        upgrader, request = self._core.setting.websocket_period.upgrader, None
        try:
            yield from arrival.resume(arrival.seconds_left)
            yield from self._introduce(arrival, incoming)
            parser = RequestParser(
                peer=arrival.peer,
                secure=self._context is not None,
                certificate=certificate_of(arrival.transport),
                max_head=upgrader.max_head,
                posts=self._posts,
            )
            data = yield from self._first_bytes(arrival)
            while request is None:
                request = parser.receive(data)
                if request is None:
                    data = yield from arrival.receive()
        except TimeoutError:
            reason = f"The request was not complete in {upgrader.handshake_timeout:g} s."
            raise HandshakeRejected(408, reason) from None
        arrival.trailing = parser.trailing
        return request

    def _first_bytes(self, arrival: Arrival) -> Steps[bytes]:
        """Receive the first bytes of the request.

        :raises PeerLeft: when the peer has gone without one.
        """
        try:
            data = yield from arrival.receive()
        except ConnectionError:
            raise PeerLeft from None
        if not data:
            raise PeerLeft
        return data

    def _is_page(self, request: Request) -> bool:
        """Return True if the request is for a page and not for the WebSocket."""
        here = request.is_websocket and self._is_here(request)
        return not here and request.path in self._pages

    def _page(self, request: Request) -> Response | None:
        """Return the response to plain HTTP; None if the request is for the WebSocket."""
        here = self._is_here(request)
        if request.is_websocket and here:
            return None
        page = self._pages.get(request.path)
        if page is None:
            if here:
                return None  # the handshake refuses it, and says why
            raise _nothing_at(request)
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


def _nothing_at(request: Request) -> HandshakeRejected:
    return HandshakeRejected(404, f"There is nothing at {request.path[:100]!r}.")


def open_server(
    core: Core[Any, Any],
    endpoint: Endpoint,
    path: str | None,
    pages: Mapping[str, Page] | None,
    client: str | None,
    max_connections: int,
) -> Server:
    """Check the arguments of ``hub.serve``, listen, and begin to accept.

    :raises SettingError, OSError, HubClosed: as ``hub.serve``.
    """
    core.state.refuse_closing("opens no server")
    pages = with_client(pages, client)
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
