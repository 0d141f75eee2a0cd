"""The table of limits: names and defaults from the code, effects and reasons from here.

This module needs no Sphinx, so that the tests can read it: ``tables.py`` has the directives.
"""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any, NamedTuple

import hubthread
from hubthread import DataSize, Hub

__all__ = ["ROWS", "Row", "default_of", "limits_table"]


class Row(NamedTuple):
    """One way to set a limit."""

    counter: str
    """The key of ``hub.statistics().limits_struck``."""
    place: str
    """The class or the method of ``Hub`` that takes the limit."""
    field: str
    """The field of the class, or the parameter of the method."""
    unit: str
    """``""``, ``s`` or ``B``: the unit of the default."""
    effect: str
    """The effect beyond the limit."""
    reason: str
    """Why the default is what it is."""


ROWS = [
    Row(
        "connections",
        "Hub.serve",
        "max_connections",
        "",
        "503",
        "Each connection has a thread, and a small machine gives a process about 15,000.",
    ),
    Row(
        "connections",
        "Hub.websocket_handler",
        "max_connections",
        "",
        "503",
        "The same, for each process of a WSGI server.",
    ),
    Row(
        "connections",
        "Hub.socket_handles",
        "max_peers",
        "",
        "TCP: closed; UDP: the datagram is lost",
        "The same.  Over UDP a peer that has spoken only once makes room for a new one.",
    ),
    Row(
        "connections_per_address",
        "Limits",
        "connections_per_address",
        "",
        "429; raw TCP: closed",
        "A tenth of all connections: one address cannot take every place, and a school behind "
        "one address can still connect.",
    ),
    Row(
        "handshake_time",
        "Upgrader",
        "handshake_timeout",
        "s",
        "408",
        "Enough for a phone on a bad line.  A slow sender holds a thread no longer.",
    ),
    Row(
        "head",
        "Upgrader",
        "max_head",
        "B",
        "431",
        "Browsers with large cookies stay well below.",
    ),
    Row(
        "message",
        "WebsocketPeriod",
        "message_buffer_size",
        "B",
        "1009",
        "Checked before the message is stored or inflated.  More than JSON needs; 10,000 such "
        "messages would fill the memory of a machine.",
    ),
    Row(
        "message",
        "SocketPeriod",
        "message_buffer_size",
        "B",
        "closed",
        "Devices send lines.",
    ),
    Row(
        "fragments",
        "WebsocketPeriod",
        "max_fragments",
        "",
        "1009",
        "The largest message in frames of 1 KB.  Empty frames reach no limit in bytes.",
    ),
    Row(
        "message_time",
        "Limits",
        "message_time",
        "s",
        "1008",
        "A peer that sends a byte now and then looks alive to the keepalive.  A phone with "
        "9 KB/s still sends 1 MB.",
    ),
    Row(
        "messages_per_second",
        "Limits",
        "messages_per_second",
        "",
        "1008; UDP: the message is lost",
        "Only the application knows its normal rate: a mouse moves 60 times a second, and "
        "nobody types ten lines.",
    ),
    Row(
        "idle_time",
        "Limits",
        "idle_time",
        "s",
        "1000",
        "A user who watches a dashboard sends nothing.  The keepalive finds dead connections.",
    ),
    Row(
        "silence",
        "PingPongPlan",
        "ping_timeout",
        "s",
        "cut",
        "Three or four pings are unanswered by then.",
    ),
    Row(
        "silence",
        "SocketPeriod",
        "pong_wait",
        "s",
        "closed",
        "Few raw peers are pinged, and a device may speak once a minute.",
    ),
    Row(
        "outbox",
        "HubSetting",
        "chan_queue_size",
        "",
        "1013, or messages are dropped",
        ":class:`~hubthread.Overflow` decides.  A burst of several seconds fits.",
    ),
    Row(
        "outbox",
        "HubSetting",
        "outbox_bytes",
        "B",
        "1013, or messages are dropped",
        "Eight of the largest messages that a client may send.  A client that reads nothing "
        "is cut after ``write_wait`` anyway.",
    ),
    Row(
        "stall",
        "WebsocketPeriod",
        "write_wait",
        "s",
        "cut",
        "A network that takes no byte for so long is down.",
    ),
    Row(
        "stall",
        "SocketPeriod",
        "write_wait",
        "s",
        "cut",
        "The same.",
    ),
    Row(
        "rooms_per_client",
        "Limits",
        "rooms_per_client",
        "",
        "refused",
        ":meth:`~hubthread.Hotline.answer` raises :exc:`~hubthread.TooManyRooms`; the client "
        "stays connected.  A client that may choose its rooms could otherwise fill the memory.",
    ),
    Row(
        "sessions",
        "Sessions",
        "limit",
        "",
        "the client ends with its connection",
        "As many as there may be connections: clients that are away take memory, too.",
    ),
    Row(
        "unhandled",
        "",
        "",
        "",
        "the message of the UDP peer is lost",
        "At most 64 messages of one peer and 16 MB of one socket wait for their handlers.  "
        "Not configurable: a full network loses datagrams, too.",
    ),
]
"""Every row, in the order of ``hubthread.limits.LIMITS``."""


def default_of(row: Row) -> Any:
    """Return the default of a limit, as the code has it; ``None`` is no limit.

    :raises KeyError: if the class or method has no such field or parameter.
    """
    owner, _, method = row.place.partition(".")
    if method:
        return inspect.signature(getattr(Hub, method)).parameters[row.field].default
    fields = {each.name: each for each in dataclasses.fields(getattr(hubthread, owner))}
    return fields[row.field].default


# Read on import: autodoc puts the source text of a default in the place of its value.
_DEFAULTS = {row: default_of(row) for row in ROWS if row.place}


def limits_table() -> list[str]:
    """Return the table as reStructuredText."""
    lines = [".. list-table::", "   :header-rows: 1", "   :widths: 34 12 54", ""]
    lines += ["   * - Counter, set by", "     - Default", "     - Beyond it, and why this default"]
    for row in ROWS:
        lines += [
            f"   * - | **{row.counter}**",
            f"       | {_place(row)}",
            f"     - {_default(row)}",
            f"     - **{row.effect}.**  {row.reason}",
        ]
    return lines


def _place(row: Row) -> str:
    if not row.place:
        return "fixed"
    if row.place.startswith("Hub."):
        return f"``{row.field}`` of :meth:`~hubthread.{row.place}`"
    return f":attr:`{row.place}.{row.field} <hubthread.{row.place}.{row.field}>`"


def _default(row: Row) -> str:
    if not row.place:
        return "64"
    value = _DEFAULTS[row]
    if value is None:
        return "none"
    if row.unit == "B":
        large = value >= DataSize.MB
        unit = DataSize.MB if large else DataSize.KB
        return f"{value / unit:g} {'MB' if large else 'KB'}"
    return f"{value:,g} {row.unit}".rstrip() if row.unit else f"{value:,}"
