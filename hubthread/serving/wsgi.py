"""The bridge from a WSGI server: a request becomes a client, and its worker is free again.

Layer: serving.  Threads: ``enter`` runs on the request's thread, which is the WSGI server's.  Each
client's reader is a thread of the hub.  Where a connection cannot be moved, the request's thread
is the reader, and stays until the client goes.
"""

from __future__ import annotations

import contextvars
import logging
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from http import HTTPStatus
from time import monotonic
from typing import Any

from hubthread.checks import check_kind, check_number, checked
from hubthread.concurrency.ending import at_end, forget
from hubthread.concurrency.logs import log_safely
from hubthread.core.core import Core
from hubthread.errors import HandshakeRejected, UsageError
from hubthread.limits import CONNECTIONS
from hubthread.net.bind import Address
from hubthread.net.steps import Steps, Watching, run_steps
from hubthread.net.tls import open_transport
from hubthread.net.transport import Transport
from hubthread.net.wsgi.hijack import (
    CAN_HIJACK,
    Drain,
    Located,
    decoy,
    hijack,
    is_plain,
    locate,
    refuse_server,
)
from hubthread.net.wsgi.parked import open_parked
from hubthread.protocol.http import Response, reason_phrase
from hubthread.protocol.request import Request, is_check
from hubthread.protocol.wsgi_environ import kept_environ, request_of
from hubthread.serving.accept import ASK, Arrival, Negotiated, negotiate, refusal_response
from hubthread.serving.check import answer_check

__all__ = ["WSGIAnswer", "WSGIBridge", "answer_with"]

StartResponse = Callable[[str, list[tuple[str, str]]], object]

_TAKEN = "hubthread.taken"
"""The key in the environ of a request that has become a client."""

_STARTS_NO_THREAD_AT_THE_END = (3, 12) <= sys.version_info < (3, 12, 3)
_NEVER = 1e9
"""Seconds until a timer that is there only for its thread."""

_REPLACED = (
    "a middleware has replaced wsgi.input, so frames that a client sends before it has the 101 "
    "are lost; exempt requests with 'Upgrade: websocket' from that middleware"
)
_PARKS = (
    "TLS ends in the WSGI server, or this is Windows, so each client holds a thread of the server "
    "while it is connected; give the server as many threads, or end TLS in a proxy before it"
)

_HOP_BY_HOP = ("connection", "upgrade")
"""Headers that an application must not send (PEP 3333)."""


class WSGIAnswer:
    """The response that a WSGI application returns for a request: an iterable of its body.

    It is a WSGI application, too, so a Flask view may return it.
    """

    def __init__(
        self,
        status: int,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        drain: Drain | None = None,
    ) -> None:
        self.status = f"{status} {reason_phrase(status) or 'Refused'}"
        self.headers = list(headers)
        self.body = body
        self._drain = drain

    def __iter__(self) -> Any:
        return iter([self.body] if self.body else [])

    def __call__(
        self, environ: Mapping[str, Any], start_response: StartResponse
    ) -> Iterable[bytes]:
        """Answer a request, as a WSGI application does."""
        start_response(self.status, self.headers)
        return self

    def close(self) -> None:
        """End the response; the WSGI server calls this when it has sent it."""
        if self._drain is not None:
            self._drain.close()


class WSGIBridge:
    """The requests of WSGI servers that become clients of one hub.

    Threads: every method may be called on any thread.

    :param start: starts the hub in this process if it is new.
    :param close: closes the hub, when the process ends.
    """

    def __init__(
        self, core: Core[Any, Any], start: Callable[[], None], close: Callable[[], None]
    ) -> None:
        self._core = core
        self._start = start
        self._close = close
        self.keep_environ = False
        """True if clients keep the environ of their request, without streams and sockets."""
        self._warned: set[str] = set()
        self._lock = threading.RLock()  # guards what follows
        self._watched = False
        self.moved = 0
        """The clients whose connections were moved to threads of the hub."""
        self.parked = 0
        """The clients that threads of the WSGI server serve."""

    def answer(
        self,
        environ: dict[str, Any],
        start_response: StartResponse | None,
        meta: Any,
        max_connections: int,
    ) -> WSGIAnswer:
        """Make the request a client, or refuse it, and begin the answer if the caller wants.

        See ``Hub.websocket_handler``.
        """
        answer = self._enter(environ, meta, max_connections)
        if start_response is not None:
            start_response(answer.status, answer.headers)
        return answer

    def _enter(self, environ: dict[str, Any], meta: Any, max_connections: int) -> WSGIAnswer:
        check_kind("environ", environ, dict, "the environ of a WSGI request")
        check_number("max_connections", max_connections, 1, whole=True)
        if environ.get(_TAKEN):
            raise UsageError(
                "this request is a client already; call websocket_handler once for each "
                "request, and return its result"
            )
        checked(meta)  # a view may have forgotten to await
        if meta is not ASK and self._core.setting.on_handshake is not None:
            raise UsageError(
                "this hub has on_handshake, which decides about each client and makes its meta: "
                "call websocket_handler without meta, or make the hub without on_handshake"
            )
        request: Request | None = None
        try:
            refuse_server(environ)
            self._start_for_client()
            request = request_of(environ)
            if self.keep_environ:
                request = replace(request, environ=kept_environ(environ))
            # The hooks see the request of the framework around them.  What they set ends with
            # it: the thread serves another request next.
            variables = contextvars.copy_context()
            if is_check(request):

                def decide(handshake: Request) -> None:
                    negotiate(self._core, handshake, meta, variables)
                    self._take_place(handshake.peer, max_connections, move=True)
                    self._end_moved(handshake.peer)

                return answer_with(answer_check(self._core, request, decide))
            negotiated = negotiate(self._core, request, meta, variables)
            negotiated = negotiated._replace(variables=contextvars.Context())
            drain = self._admit(environ, negotiated, max_connections)
        except HandshakeRejected as refusal:
            self._core.refusals.add(request, refusal.status, refusal.reason)
            if refusal.status == HTTPStatus.NOT_IMPLEMENTED:  # the operator has to act
                self._trouble(refusal.reason, refusal.reason)
            response = refusal_response(self._core, refusal)
            return answer_with(response, head=environ.get("REQUEST_METHOD") == "HEAD")
        return WSGIAnswer(101, drain=drain)  # for the decoy: the peer has got its own 101

    def start_once(self) -> None:
        """Start the hub in this process if it is new, and wait until it is open."""
        self.start_soon()
        if self._core.state.value == "running":
            self._core.wait_open()

    def start_soon(self) -> None:
        """Start the hub in this process if it is new, and close it when the process ends."""
        self._start()
        with self._lock:
            watched, self._watched = self._watched, True
        if not watched:
            at_end(self._close)
            if _STARTS_NO_THREAD_AT_THE_END:
                self._core.timers.set(_NEVER, lambda: None)  # the end needs its thread
            # Otherwise the process would keep each closed hub to its end.
            self._core.context.add_callback(lambda reason: forget(self._close))

    def _start_for_client(self) -> None:
        """Start the hub for a request.

        :raises HandshakeRejected: when the hub is closed, or the system cannot start a thread.
        """
        try:
            self.start_once()
        except RuntimeError as error:
            raise self._no_room(error) from None
        if self._core.state.value not in ("new", "running"):
            raise HandshakeRejected(503, "The server is going away.")

    def _admit(self, environ: dict[str, Any], negotiated: Negotiated, most: int) -> Drain | None:
        place = locate(environ)
        move = CAN_HIJACK and is_plain(place.sock)
        if not move and not environ.get("wsgi.multithread"):
            raise HandshakeRejected(
                501,
                "This connection's TLS ends in the WSGI server, so it needs a thread of that "
                "server, which has only one: give it threads, or end TLS in a proxy before it.",
            )
        peer = negotiated.request.peer
        self._take_place(peer, most, move=move)
        if place.read_ahead is None:
            self._warn_once(_REPLACED)
        if not move:
            self._warn_once(_PARKS)
            environ[_TAKEN] = True
            try:
                transport, trailing = open_parked(place)
                run_steps(self._serve(transport, negotiated, trailing))
            finally:
                self._core.address_limit.leave(peer)
                with self._lock:
                    self.parked -= 1
            return decoy(place.sock) if CAN_HIJACK else None
        try:
            drain = self._move(place, negotiated)
        except (OSError, RuntimeError) as error:  # no descriptor, or no thread
            self._end_moved(peer)
            raise self._no_room(error) from None
        environ[_TAKEN] = True
        return drain

    def _take_place(self, peer: Address, most: int, *, move: bool) -> None:
        """Count one more client.

        :raises HandshakeRejected: when its address, or all together, have too many.
        """
        addresses = self._core.address_limit
        if not addresses.enter(peer):
            reason = "Your address has too many open connections."
            raise HandshakeRejected(429, reason, (("Retry-After", "1"),))
        with self._lock:
            full = self.moved + self.parked >= most
            self.moved += move and not full
            self.parked += not move and not full
        if full:
            addresses.leave(peer)
            text = "%d connections, the limit of websocket_handler: refusing one"
            self._core.incidents.log_limit(CONNECTIONS, logging.WARNING, text, most)
            raise _full()

    def _warn_once(self, text: str) -> None:
        with self._lock:
            warned = text in self._warned
            self._warned.add(text)
        if not warned:
            log_safely(self._core.logger, logging.WARNING, "%r: %s", self._core.hub, text)

    def _no_room(self, why: object) -> HandshakeRejected:
        what = f"no thread or descriptor for a connection: answering 503 ({why})"
        self._trouble(f"no room: {type(why).__name__}", what)
        return _full()

    def _trouble(self, kind: str, what: str) -> None:
        self._core.incidents.log_limited(kind, logging.WARNING, "%s", what)

    def _move(self, place: Located, negotiated: Negotiated) -> Drain:
        taken = hijack(place)
        peer = negotiated.request.peer

        def steps(watch: Watching | None = None) -> Steps[None]:
            try:
                transport = open_transport(taken.sock, None, watch)
                yield from self._serve(transport, negotiated, taken.trailing)
            finally:
                self._end_moved(peer)

        try:
            if self._core.readers is None:
                self._core.threads.start(lambda: run_steps(steps()), "reader")
            else:
                self._core.readers.begin(taken.sock, steps)
        except RuntimeError:
            taken.give_back()
            raise
        return taken.drain

    def _end_moved(self, peer: Address) -> None:
        self._core.address_limit.leave(peer)
        with self._lock:
            self.moved -= 1

    # On the reader.

    def _serve(self, transport: Transport, negotiated: Negotiated, trailing: bytes) -> Steps[None]:
        request, began = negotiated.request, monotonic()
        with Arrival(self._core, transport, request.peer) as arrival:
            arrival.trailing = trailing
            yield from arrival.resume(0.0)
            connection = yield from arrival.run(lambda arrival: arrival.connect(negotiated))
            if connection is not None:
                text = "%r ended after %.1f s: %s %s"
                args = request, monotonic() - began, connection.ended_by, connection.code
                log_safely(self._core.logger, logging.INFO, text, *args)


def _full() -> HandshakeRejected:
    return HandshakeRejected(503, "This server is full.", (("Retry-After", "1"),))


def answer_with(response: Response, *, head: bool = False) -> WSGIAnswer:
    """Return a response as that of a WSGI application; without its body for ``HEAD``."""
    fields = [each for each in response.headers if each[0].lower() not in _HOP_BY_HOP]
    if response.status != HTTPStatus.NO_CONTENT:
        fields += [
            ("Content-Type", response.content_type),
            ("Content-Length", str(len(response.body))),
        ]
    fields.append(("X-Content-Type-Options", "nosniff"))
    # Few servers leave the body out themselves.
    return WSGIAnswer(response.status, fields, b"" if head else response.body)
