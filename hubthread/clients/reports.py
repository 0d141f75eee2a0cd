"""The log lines, errors and figures of a client.

Layer: clients.  Threads: any; each line is logged on the thread that found the reason.
"""

from __future__ import annotations

import logging
from typing import Any

from hubthread.checks import checked
from hubthread.core.core import Core
from hubthread.errors import Closed, MatcherError, TooManyRooms
from hubthread.limits import ROOMS
from hubthread.net.connection import GOING_AWAY, INTERNAL_ERROR
from hubthread.protocol.frames import APPLICATION_CODES
from hubthread.statistics import ClientStatistics

__all__ = ["log_end", "log_failure", "refuse_start", "snapshot", "too_many_rooms"]


def log_failure(core: Core[Any, Any], client: Any, error: BaseException) -> None:
    """Tell ``receive_matcher_error`` of a message that failed, or the log."""
    handler = core.setting.receive_matcher_error
    if handler is not None and isinstance(error, Exception):
        try:
            checked(handler(client, client.meta, error))
        except BaseException as another:  # noqa: BLE001 - logged
            core.incidents.log_exception(another, "receive_matcher_error raised for %r", client)
    elif isinstance(error, TooManyRooms):
        pass  # ``too_many_rooms`` has logged it
    elif isinstance(error, MatcherError):
        core.incidents.log_unroutable(error, client)
    else:
        core.incidents.log_exception(error, "a handler of %r raised", client)


def refuse_start(core: Core[Any, Any], client: Any, error: BaseException) -> None:
    """Close a client whose start callback has raised, or that came while the hub closes."""
    if not client._started and isinstance(error, Closed):
        client.ws_conn.close(GOING_AWAY, "the server is going away")
    else:
        text = "on_connection_start raised for %r: closing the connection"
        core.incidents.log_exception(error, text, client)
        client.ws_conn.close(INTERNAL_ERROR, "the server failed to accept the connection")


def log_end(core: Core[Any, Any], client: Any) -> None:
    """Log the end of a WebSocket client, if it was not an ordinary one."""
    connection = client.ws_conn
    expected = connection.code in core.setting.websocket_period.expected_ws_error
    own = (connection.code or 0) >= APPLICATION_CODES
    text, args = "%r closed: %s %r", (client, connection.code, connection.reason)
    level = logging.INFO if expected or own else logging.WARNING
    kind = connection.limit or connection.ended_by  # not by code: a peer may send thousands
    if connection.limit is not None or connection.ended_by == "violation" or not expected:
        core.incidents.log_limited(kind, level, text, *args)


def too_many_rooms(core: Core[Any, Any], client: Any) -> TooManyRooms:
    """Log that a client cannot join another room, and return the error."""
    most = core.setting.limits.rooms_per_client
    text = "%r is in %d rooms, the limit: it cannot join another"
    core.incidents.log_limit(ROOMS, logging.WARNING, text, client, most)
    return TooManyRooms(
        f"{client!r} is in {most} rooms, the limit: let it leave one first, or raise "
        f"Limits.rooms_per_client"
    )


def snapshot(client: Any) -> ClientStatistics:
    """Return the figures of a client."""
    outbox = client.ws_conn.outbox
    waiting, waiting_bytes = outbox.waiting()
    return ClientStatistics(
        connection_id=client.connection_id,
        peer=str(client.handshake.peer),
        state=client.ws_conn.ended_by or "open",
        received=client.received,
        written=outbox.count,
        waiting=waiting,
        waiting_bytes=waiting_bytes,
        dropped=client.ws_conn.dropped,
        hotlines=len(client._rooms),
        closures_waiting=client._strand.waiting(),
    )
