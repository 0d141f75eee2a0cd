"""The way from a request to a client: the handshake, the hooks, the connection.

Layer: serving.  Threads: ``negotiate`` runs on the thread that has the request, ``accept`` on
the client's reader thread.  In a server of our own they are the same thread.
"""

from __future__ import annotations

import logging
from contextlib import nullcontext
from typing import Any, Final, NamedTuple

from hubthread.core.core import ACCEPT_FAILED, Core
from hubthread.errors import HandshakeRejected
from hubthread.net.connection import Connection
from hubthread.net.transport import Transport, send_all
from hubthread.protocol import handshake
from hubthread.protocol.handshake import Accepted
from hubthread.protocol.http import Request, Response
from hubthread.protocol.websocket import WebSocketProtocol

__all__ = ["ASK", "Negotiated", "accept", "negotiate", "refusal_response"]

_FOREIGN = 403

ASK: Final[Any] = object()
"""In the place of a meta: the hub's hooks make it."""


class Negotiated(NamedTuple):
    """A handshake that both sides want; nothing was sent to the peer yet."""

    request: Request
    accepted: Accepted
    meta: Any


def negotiate(core: Core[Any, Any], request: Request, meta: Any = ASK) -> Negotiated:
    """Check the handshake and call the hooks.

    :param meta: the client's meta, if the caller has made it already.
    :raises HandshakeRejected: with the status and reason to answer.
    """
    core.wait_open()
    upgrader = core.setting.websocket_period.upgrader
    check = upgrader.check_origin
    call = core.hook_call("check_origin", request) if callable(check) else nullcontext()
    try:
        with call:
            accepted = handshake.accept(
                request,
                subprotocols=upgrader.subprotocols,
                check_origin=check,
                compression=upgrader.compression,
            )
    except HandshakeRejected as refusal:
        if refusal.status == _FOREIGN:  # a browser's console has no more than the number
            text = "%s  Upgrader.check_origin says which pages may."
            core.incidents.log_limited("origin", logging.WARNING, text, refusal.reason)
        raise
    except BaseException as error:  # noqa: BLE001 - told to the log
        core.incidents.log_exception(error, "the origin check raised for %r", request)
        raise HandshakeRejected(500, ACCEPT_FAILED) from None
    return Negotiated(request, accepted, core.make_meta(request) if meta is ASK else meta)


def refusal_response(core: Core[Any, Any], refusal: HandshakeRejected) -> Response:
    """Return the response to a refused request."""
    try:
        return Response.text(refusal.status, refusal.reason, refusal.headers)
    except Exception as error:  # noqa: BLE001 - a hook has put a line break into a header
        core.incidents.log_exception(error, "cannot send the refusal %r", refusal)
        return Response.text(500, "The server failed to say why it refuses.")


def accept(
    core: Core[Any, Any], transport: Transport, negotiated: Negotiated, deadline: float
) -> Connection | None:
    """Send the 101 and make the client; its start callback has run when this returns.

    :param deadline: for sending the 101, on the clock of ``time.monotonic``.
    :returns: the connection, whose ``run`` the caller calls; None if the socket has broken.
    :raises HandshakeRejected: when the hub closes.
    """
    period = core.setting.websocket_period
    request, accepted, meta = negotiated
    client = core.client_class(core, core.registry.next_client_id(), meta, request)
    client.subprotocol = accepted.subprotocol
    deflate = accepted.deflate
    connection = client.ws_conn = Connection(
        transport,
        WebSocketProtocol(
            max_message=period.message_buffer_size,
            max_fragments=period.max_fragments,
            deflate=deflate,
        ),
        client,
        core.options,
        core,
        window_bits=deflate.server_max_window_bits if deflate else None,
    )
    # Before the 101: a client that has it is told 1001 when the hub closes, and not just cut.
    if not core.connections.open(transport):
        raise HandshakeRejected(503, "The server is going away.")
    if not send_all(transport, accepted.response, deadline):
        return None
    client.begin()
    return connection
