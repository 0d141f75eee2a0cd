"""The way of one connection to its client: the handshake, the hooks, the answer.

``server.py``, ``raw_server.py``, ``wsgi.py`` and the virtual hub of ``hubthread.testing`` all
accept a connection by an ``Arrival``.  They differ in how they come by the request.

Layer: serving.  Threads: ``negotiate`` runs on the thread that has the request.  An ``Arrival``
belongs to the connection's reader thread.  In a server of our own this is one thread.
"""

from __future__ import annotations

import contextvars
import logging
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from time import monotonic
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from hubthread.checks import checked
from hubthread.clients.admission import Admission
from hubthread.concurrency.deadline import wall_time
from hubthread.concurrency.habits import HOOKS
from hubthread.core.core import ACCEPT_FAILED, Core
from hubthread.errors import HandshakeRejected
from hubthread.limits import HANDSHAKE, HEAD
from hubthread.net.bind import Address
from hubthread.net.connection import Connection
from hubthread.net.lasting import LastingConnection
from hubthread.net.shared import reading
from hubthread.net.steps import Steps
from hubthread.net.transport import PeerLeft, Transport, send_steps
from hubthread.protocol import handshake
from hubthread.protocol.envelope import SUBPROTOCOL
from hubthread.protocol.handshake import Accepted
from hubthread.protocol.hosts import AllowedHosts
from hubthread.protocol.http import Request, Response, WrongProtocol
from hubthread.protocol.websocket import WebSocketProtocol

__all__ = ["ASK", "Arrival", "Negotiated", "check_host", "negotiate", "refusal_response"]

T = TypeVar("T")

_FOREIGN = 403

_HOOKS = ("check_origin", "subprotocols")

_NO_TOKEN = (
    f"Clients of this server show a token in the subprotocol {SUBPROTOCOL}: hubthread.js and "
    f"hubthread.client do."
)

_LIMITS = {408: HANDSHAKE, 414: HEAD, 431: HEAD}
"""The limit that refused a peer before its request was complete, by status."""

ASK: Final[Any] = object()
"""Stands for a meta that the hub's hooks make."""


class Negotiated(NamedTuple):
    """A handshake that both sides agree on; nothing was sent to the peer yet."""

    request: Request
    accepted: Accepted
    meta: Any
    variables: contextvars.Context
    """The context variables that the hooks have set, and that the client's callbacks have."""


def check_host(core: Core[Any, Any], request: Request, hosts: AllowedHosts | None) -> None:
    """Refuse a request for a host that is not ours.

    :raises HandshakeRejected: with 403.
    """
    if hosts is None or hosts.allow(request):
        return
    host = request.headers.get("host", "")[:100]
    text = (
        "refused a request for host %r: if a proxy passes it on, name it in "
        "Upgrader.allowed_hosts; otherwise a page tries to reach this machine (DNS rebinding)"
    )
    core.incidents.log_limited("host", logging.WARNING, text, host, about=request)
    raise HandshakeRejected(403, f"This server does not answer for {host!r}.")


def negotiate(
    core: Core[Any, Any],
    request: Request,
    meta: Any = ASK,
    variables: contextvars.Context | None = None,
) -> Negotiated:
    """Check the handshake and call the hooks.

    :param meta: the client's meta, if the caller has made it already.
    :param variables: the context that the hooks run in; a new one by default.
    :raises HandshakeRejected: with the status and reason to answer.
    """
    if variables is None:
        variables = contextvars.Context()
    return variables.run(_negotiate, core, request, meta, variables)


def _negotiate(
    core: Core[Any, Any], request: Request, meta: Any, variables: contextvars.Context
) -> Negotiated:
    core.wait_open()
    core.refuse_draining()
    check_host(core, request, core.hosts)
    upgrader = core.setting.websocket_period.upgrader
    check = upgrader.check_origin
    hooks = [name for name in _HOOKS if callable(getattr(upgrader, name))]
    call = core.hook_call(" and ".join(hooks), request) if hooks else nullcontext()
    try:
        with call:
            accepted = handshake.accept(
                request,
                subprotocols=upgrader.subprotocols,
                check_origin=check,
                compression=upgrader.compression,
            )
    except HandshakeRejected as refusal:
        if refusal.status == _FOREIGN:  # a browser shows the page's author the status only
            text = (
                "%s  It asked for host %r.  If a proxy in between has changed that host, let it "
                "pass Host on unchanged; otherwise Upgrader.check_origin says which pages may."
            )
            args = (refusal.reason, request.headers.get("host", "")[:100])
            core.incidents.log_limited("origin", logging.WARNING, text, *args, about=request)
        raise
    except BaseException as error:  # noqa: BLE001 - logged
        core.incidents.log_exception(error, "%s raised for %r", " or ".join(hooks), request)
        raise HandshakeRejected(500, ACCEPT_FAILED) from None
    offered = request.headers.get("sec-websocket-protocol")
    if offered and accepted.subprotocol is None:  # what is offered may be a token: not logged
        text = (
            "%r offers subprotocols, and Upgrader.subprotocols has none of them: browsers end "
            "such a connection at once"
        )
        core.incidents.log_limited("subprotocol", logging.WARNING, text, request)
    meta = core.make_meta(request) if meta is ASK else meta
    return Negotiated(request, _with_headers(core, request, accepted, meta), meta, variables)


def _with_headers(
    core: Core[Any, Any], request: Request, accepted: Accepted, meta: Any
) -> Accepted:
    hook = core.setting.websocket_period.upgrader.headers
    if hook is None:
        return accepted
    try:
        with core.hook_call("headers", request):
            return accepted.with_headers(checked(hook(request, meta)))
    except HandshakeRejected:
        raise
    except BaseException as error:  # noqa: BLE001 - logged
        core.incidents.log_exception(error, "Upgrader.headers raised for %r", request)
        raise HandshakeRejected(500, ACCEPT_FAILED) from None


def refusal_response(core: Core[Any, Any], refusal: HandshakeRejected) -> Response:
    """Return the response to a refused request."""
    try:
        return Response.text(refusal.status, refusal.reason, refusal.headers)
    except Exception as error:  # noqa: BLE001 - a hook has put a line break into a header
        core.incidents.log_exception(error, "cannot send the refusal %r", refusal)
        return Response.text(500, "The server failed to say why it refuses.")


def _make_client(core: Core[Any, Any], negotiated: Negotiated) -> Any:
    """Return a new client without a connection."""
    request, accepted, meta, variables = negotiated
    number = core.registry.next_client_id()
    client = core.client_class(core, number, meta, request, variables=variables)
    client.subprotocol = accepted.subprotocol
    if core.setting.check_token is not None:
        client.admission = Admission(core, client)
    if accepted.subprotocol == SUBPROTOCOL:
        client.intercept = client.admission or core.client_messages
    return client


Negotiator: TypeAlias = "Callable[[Arrival], Steps[Connection | Response | None]]"
"""Comes by the request of an arrival, and agrees on a connection; see ``Arrival.accept``."""


class Arrival:
    """One connection, from its socket to a client or a refusal.

    The hub knows of the connection from the moment its ``Arrival`` is made until ``end``, and
    cuts the connection when the hub closes.  As a context manager an ``Arrival`` closes the
    transport, and ends, at the end of the block.

    Its methods that return ``Steps`` wait for the peer as the connection's reader does.

    Threads: the connection's reader only.

    :param transport: the connection; the hub's deadline for handshakes begins now.
    :param peer: the peer's address, for the log.
    """

    __slots__ = (
        "_core",
        "deadline",
        "peer",
        "request",
        "response",
        "trailing",
        "transport",
    )

    def __init__(self, core: Core[Any, Any], transport: Transport, peer: Address = "") -> None:
        timeout = core.setting.websocket_period.upgrader.handshake_timeout
        self._core = core
        self.peer = peer
        self.transport = transport
        self.deadline = monotonic() + timeout
        """The end of the handshake, on the clock of ``time.monotonic``."""
        self.request: Request | None = None
        """The request, once it is complete."""
        self.response: Response | None = None
        """The response that ``answer`` sends, if any."""
        self.trailing = b""
        """The bytes that came behind the request: the first frames of a hasty client."""
        core.connections.begin(transport)

    def run(self, negotiate: Negotiator) -> Steps[Connection | None]:
        """Make a client and read from it until its connection ends, or send an answer.

        :param negotiate: as for ``accept``.
        :returns: the connection that has ended; None if there was no client.
        """
        connection = yield from self.accept(negotiate)
        if connection is None:
            yield from self.answer()
        else:
            yield from self.read(connection)
        return connection

    def read(self, connection: Connection) -> Steps[None]:
        """Read from a client until its connection ends."""
        if self.transport.watch is None:
            connection.run(self.trailing)
        else:
            yield reading(connection, self.trailing)

    def accept(self, negotiate: Negotiator) -> Steps[Connection | None]:
        """Make a client, or record the refusal.

        :param negotiate: called with this arrival.  Returns the connection that ``connect`` has
            made, or the response to plain HTTP, or None if the peer has gone.  An error of the
            socket or a ``HandshakeRejected`` refuses the connection.
        :returns: the connection, whose ``run`` the caller calls; None if there is no client,
            and then ``response`` is what to ``answer``.
        """
        refusals = self._core.refusals
        try:
            outcome = yield from negotiate(self)
        except HandshakeRejected as refusal:
            limit = _LIMITS.get(refusal.status) if self.request is None else None
            refusals.add(self.request, refusal.status, refusal.reason, limit, self.peer)
            if isinstance(refusal, WrongProtocol):
                text, args = "%s  (from %r)", (refusal.reason, self.peer)
                self._core.incidents.log_limited(
                    refusal.kind, logging.WARNING, text, *args, about=self.request
                )
            outcome = refusal_response(self._core, refusal)
        except PeerLeft:  # nobody is there to be refused
            return None
        except OSError as error:  # the connection broke, or TLS was not agreed on
            refusals.add(self.request, 400, f"{type(error).__name__}: {error}")
            return None
        if isinstance(outcome, Response):
            self.response = outcome
            return None
        return outcome

    def connect(self, negotiated: Negotiated) -> Steps[Connection | None]:
        """Send the 101 and make the client; its start callback has run when this returns.

        :returns: the connection; None if the socket has broken.
        :raises HandshakeRejected: when the hub closes.
        """
        core, transport = self._core, self.transport
        period = core.setting.websocket_period
        self.request, accepted, _, _ = negotiated
        knows_hub = accepted.subprotocol == SUBPROTOCOL
        if core.setting.check_token is not None and not knows_hub:
            raise HandshakeRejected(400, _NO_TOKEN)
        sink: Any
        kind: type[Connection] = Connection
        make = partial(_make_client, core, negotiated)
        if knows_hub and core.sessions is not None:
            sink = core.sessions.sink(self.request, make, self.share)
            kind = LastingConnection
        else:
            sink = make()
            self.share(sink)
        deflate = accepted.deflate
        connection = kind(
            transport,
            WebSocketProtocol(
                max_message=period.message_buffer_size,
                max_fragments=period.max_fragments,
                deflate=deflate,
            ),
            sink,
            core.options,
            core,
            window_bits=deflate.server_max_window_bits if deflate else None,
        )
        if knows_hub:
            connection.envelop()
        if kind is Connection:
            sink.ws_conn = connection
        else:
            sink.connection = connection
        # Before the 101: a client that has the 101 is told 1001 when the hub closes.
        if not core.connections.open(transport):
            raise HandshakeRejected(503, "The server is going away.")
        if not (yield from send_steps(transport, accepted.response, self.deadline)):
            return None
        sink.begin()
        return connection

    @property
    def seconds_left(self) -> float:
        """The seconds that are left of the handshake; at least a millisecond."""
        return max(0.001, self.deadline - monotonic())

    def share(self, client: Any) -> None:
        """Let a client know the threads that it shares, if it does."""
        watch = self.transport.watch
        if watch is not None:
            watch.client = client
            client.habits = watch.habits

    def ahead(self) -> None:
        """Let another thread serve the others, if the hooks, which run next, may block."""
        watch = self.transport.watch
        if watch is not None and watch.habits:
            watch.habits.ahead(HOOKS)

    def resume(self, seconds: float) -> Steps[None]:
        """Go on with the shared threads, when the peer has sent something.

        Where a connection has a thread, this is it already, and it goes on at once.

        :param seconds: the longest wait for the peer.
        """
        if self.transport.watch is not None:
            yield seconds

    def receive(self) -> Steps[bytes]:
        """Receive the next bytes of the handshake.

        :raises TimeoutError: at the end of its time.
        """
        return (yield from self.wait_for(self.transport.recv))

    def handshake(self) -> Steps[None]:
        """Complete the TLS handshake, if there is TLS.

        :raises TimeoutError: at the end of its time.
        """
        yield from self.wait_for(lambda: self.transport.handshake(self.seconds_left))

    def wait_for(self, receive: Callable[[], T]) -> Steps[T]:
        """Return the result of ``receive``, which raises ``TimeoutError`` while bytes are missing.

        :raises TimeoutError: at the end of the time for the handshake.
        """
        while True:
            self.transport.set_deadline(self.seconds_left)
            try:
                return receive()
            except TimeoutError:
                if monotonic() >= self.deadline or self.transport.watch is None:
                    raise
                yield self.seconds_left

    def answer(self) -> Steps[None]:
        """Send ``response``, if there is one, and let the peer read it before the close."""
        if self.response is None:
            return
        transport, until = self.transport, max(self.deadline, monotonic() + 1.0)
        connections = self._core.connections
        connections.open(transport)  # a hub that closes lets the peer read to the end
        patience = self._core.setting.websocket_period.close_timeout
        wire = self.response.encode(self.request, wall_time())
        if not (yield from send_steps(transport, wire, until, patience=patience)):
            return
        connections.answered(transport)
        until = max(self.deadline, monotonic() + 1.0)
        transport.finish()
        yield from send_steps(transport, b"", until)  # the rest of TLS's close_notify
        try:
            while (left := until - monotonic()) > 0:
                transport.set_deadline(left)
                try:
                    if not transport.recv():
                        return
                except TimeoutError:
                    if transport.watch is None:
                        return
                    yield left
        except OSError:  # TimeoutError included
            pass

    def end(self) -> None:
        """Let the hub forget the connection, which has ended."""
        self._core.connections.end(self.transport)

    def __enter__(self) -> Arrival:
        return self

    def __exit__(self, *error: object) -> None:
        self.transport.close()
        self.end()
