"""From a request to a client: the handshake, the user's hook, the connection.

Layer: hub.  Threads: ``agree`` on the one that has the request, ``connect`` on the one
that is to be the client's reader; on our own server both are the same.
"""

from __future__ import annotations

import logging
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from hubthread.errors import HandshakeRejected
from hubthread.net.connection import Connection
from hubthread.net.transport import Transport, send_all
from hubthread.protocol.handshake import Accepted, accept
from hubthread.protocol.http import Request, Response
from hubthread.protocol.websocket import WebSocketProtocol

if TYPE_CHECKING:
    from hubthread.hub.hub import Hub

__all__ = ["ASK", "Agreed", "agree", "connect", "make_meta", "refusal_response"]

_FOREIGN = 403
_FAILED = "The server failed to accept the connection."

ASK: Final[Any] = object()
"""No meta was given: the hub's hooks are asked for it."""


class Agreed(NamedTuple):
    """A handshake that both sides want, before anything was said to the peer."""

    request: Request
    accepted: Accepted
    meta: Any


def make_meta(hub: Hub[Any, Any], request: Request) -> Any:
    """A new client's meta, from the user's hook or ``meta_gen``.

    :raises HandshakeRejected: when the user wants no such client, or the hook fails.
    """
    hub.lifecycle.wait_open()  # the hooks may use what it makes, and so may all that follows
    shake = hub.setting.on_handshake
    try:
        if shake is None:
            return hub.setting.meta_gen()
        with hub.registry.hook_call("on_handshake", request):
            return shake(request)
    except HandshakeRejected:
        raise
    except BaseException as error:  # noqa: BLE001 - told to the log
        hub.incidents.log_exception(error, "the handshake hook raised for %r", request)
        raise HandshakeRejected(500, _FAILED) from None


def agree(hub: Hub[Any, Any], request: Request, meta: Any = ASK) -> Agreed:
    """Check the handshake, and ask the user's hook.

    :param meta: the client's, where somebody has decided on it already.
    :raises HandshakeRejected: with what is to be answered.
    """
    hub.lifecycle.wait_open()
    upgrader = hub.setting.websocket_period.upgrader
    check = upgrader.check_origin
    asking = hub.registry.hook_call("check_origin", request) if callable(check) else nullcontext()
    try:
        with asking:
            accepted = accept(
                request,
                subprotocols=upgrader.subprotocols,
                check_origin=check,
                compression=upgrader.compression,
            )
    except HandshakeRejected as refusal:
        if refusal.status == _FOREIGN:  # a browser's console has no more than the number
            text = "%s  Upgrader.check_origin says which pages may."
            hub.incidents.log_limited("origin", logging.WARNING, text, refusal.reason)
        raise
    except BaseException as error:  # noqa: BLE001 - told to the log
        hub.incidents.log_exception(error, "the origin check raised for %r", request)
        raise HandshakeRejected(500, _FAILED) from None
    return Agreed(request, accepted, make_meta(hub, request) if meta is ASK else meta)


def refusal_response(hub: Hub[Any, Any], refusal: HandshakeRejected) -> Response:
    """What is answered to a request that is refused."""
    try:
        return Response.text(refusal.status, refusal.reason, refusal.headers)
    except Exception as error:  # noqa: BLE001 - a hook's or a page's: line breaks in a header
        hub.incidents.log_exception(error, "a refusal that cannot be sent: %r", refusal)
        return Response.text(500, "The server failed to say why it refuses.")


def connect(
    hub: Hub[Any, Any], transport: Transport, agreed: Agreed, deadline: float
) -> Connection | None:
    """Say yes and make the client; its start callback has run when this returns.

    :param deadline: for sending the answer, on the clock of ``time.monotonic``.
    :returns: what is to be ``run``; ``None`` when the socket has broken by then.
    :raises HandshakeRejected: when the hub closes.
    """
    period = hub.setting.websocket_period
    request, accepted, meta = agreed
    client = hub.client_class(hub, hub.registry.next_client_id(), meta, request)
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
        hub.options,
        hub,
        window_bits=deflate.server_max_window_bits if deflate else None,
    )
    # Before the answer: whoever has got a 101 is told 1001 and not just cut.
    if not hub.connections.opened(transport):
        raise HandshakeRejected(503, "The server is going away.")
    if not send_all(transport, accepted.response, deadline):
        return None
    client.begin()
    return connection
