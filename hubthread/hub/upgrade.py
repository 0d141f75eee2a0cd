"""From a request to a client: the handshake, the user's hook, the connection.

Layer: hub.  Threads: the one that is to be the client's reader.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hubthread.errors import HandshakeRejected
from hubthread.hub.client import Client
from hubthread.net.connection import Connection
from hubthread.net.transport import Transport, send_all
from hubthread.protocol.handshake import accept
from hubthread.protocol.http import Request
from hubthread.protocol.websocket import WebSocketProtocol

if TYPE_CHECKING:
    from hubthread.hub.hub import Hub

__all__ = ["make_meta", "upgrade"]

_FAILED = "The server failed to accept the connection."


def make_meta(hub: Hub[Any, Any], request: Request) -> Any:
    """A new client's meta, from the user's hook or ``meta_gen``.

    :raises HandshakeRejected: when the user wants no such client, or the hook fails.
    """
    shake = hub.setting.on_handshake
    try:
        return hub.setting.meta_gen() if shake is None else shake(request)
    except HandshakeRejected:
        raise
    except BaseException:
        hub.logger.exception("the handshake hook raised for %r", request)
        raise HandshakeRejected(500, _FAILED) from None


def upgrade(
    hub: Hub[Any, Any], transport: Transport, request: Request, deadline: float
) -> Connection | None:
    """Shake hands and make the client; its start callback has run when this returns.

    :param deadline: for sending the answer, on the clock of ``time.monotonic``.
    :returns: what is to be ``run``; ``None`` when the socket has broken by then.
    :raises HandshakeRejected: with what is to be answered.
    """
    period = hub.setting.websocket_period
    upgrader = period.upgrader
    try:
        accepted = accept(
            request,
            subprotocols=upgrader.subprotocols,
            check_origin=upgrader.check_origin,
            compression=upgrader.compression,
        )
        meta = make_meta(hub, request)
    except HandshakeRejected:
        raise
    except BaseException:
        hub.logger.exception("the origin check raised for %r", request)
        raise HandshakeRejected(500, _FAILED) from None
    client = Client(hub, hub.registry.next_client_id(), meta, request)
    client.subprotocol = accepted.subprotocol
    deflate = accepted.deflate
    connection = client.ws_conn = Connection(
        transport,
        WebSocketProtocol(
            max_message=period.message_buffer_size,
            max_fragments=period.max_fragments,
            deflate=deflate,
        ),
        period,
        hub.limits,
        client,
        window_bits=deflate.server_max_window_bits if deflate else None,
        start_thread=hub.threads.start,
        alarms=hub.alarms,
        flusher=hub.flusher,
    )
    # Before the answer: whoever has got a 101 is told 1001 and not just cut.
    if not hub.tracker.opened(transport):
        raise HandshakeRejected(503, "The server is going away.")
    if not send_all(transport, accepted.response, deadline):
        return None
    client.begin()
    return connection
