"""The limits of a hub: their names, and the settings that have no older place.

A limit keeps one client, or one stranger, from taking the memory, threads or time of all
others.  ``hub.statistics().limits_struck`` counts by name how often each limit was reached.

Layer: base.  Threads: names and an immutable value; any thread may read them.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_network
from typing import Final

from hubthread.checks import check_number
from hubthread.errors import SettingError, SettingTypeError

__all__ = ["LIMITS", "Limits"]

CONNECTIONS: Final = "connections"
"""All connections: ``max_connections`` of ``hub.serve`` and ``hub.websocket_handler``,
``max_peers`` of ``hub.socket_handles``."""
ADDRESS: Final = "connections_per_address"
"""Connections of one address: ``Limits.connections_per_address``."""
HANDSHAKE: Final = "handshake_time"
"""Seconds for TLS and the request head: ``Upgrader.handshake_timeout``."""
HEAD: Final = "head"
"""Bytes of the request head: ``Upgrader.max_head``."""
MESSAGE: Final = "message"
"""Bytes of a message: ``message_buffer_size`` of ``WebsocketPeriod`` and ``SocketPeriod``."""
FRAGMENTS: Final = "fragments"
"""Frames of a message: ``WebsocketPeriod.max_fragments``."""
MESSAGE_TIME: Final = "message_time"
"""Seconds from the first part of a message to its last: ``Limits.message_time``."""
RATE: Final = "messages_per_second"
"""Messages and pings of one client: ``Limits.messages_per_second``."""
IDLE: Final = "idle_time"
"""Seconds since the last message of a client: ``Limits.idle_time``."""
SILENCE: Final = "silence"
"""Seconds since the last byte: ``PingPongPlan.ping_timeout``, ``SocketPeriod.pong_wait``."""
OUTBOX: Final = "outbox"
"""Messages and bytes that wait for one client: ``HubSetting.chan_queue_size``,
``HubSetting.outbox_bytes``."""
STALL: Final = "stall"
"""Seconds since a client with waiting messages took a byte: ``write_wait`` of
``WebsocketPeriod`` and ``SocketPeriod``."""
ROOMS: Final = "rooms_per_client"
"""Rooms of one client: ``Limits.rooms_per_client``."""
AWAY: Final = "sessions"
"""Clients that are away: ``Sessions.limit``."""
UNHANDLED: Final = "unhandled"
"""Messages of UDP peers that wait for their handlers: fixed, see ``net.udp.socket``."""

LIMITS: Final = (
    CONNECTIONS, ADDRESS, HANDSHAKE, HEAD, MESSAGE, FRAGMENTS, MESSAGE_TIME, RATE, IDLE, SILENCE,
    OUTBOX, STALL, ROOMS, AWAY, UNHANDLED,
)  # fmt: skip
"""The keys of ``limits_struck``."""

SHARED: Final = (
    "127.0.0.0/8", "::1/128",  # this machine
    "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7",  # private: RFC 1918, RFC 4193
    "100.64.0.0/10",  # behind a provider's address translation: RFC 6598
    "169.254.0.0/16", "fe80::/10",  # one link
)  # fmt: skip
"""Networks whose addresses belong to nobody on the internet."""


@dataclass(frozen=True)
class Limits:
    """The shares that one client, and one address, may take of a hub: ``HubSetting.limits``.

    ``None`` turns a limit off.
    """

    connections_per_address: int | None = 1000
    """Connections of one IPv4 address, or of the /64 of an IPv6 address, at a time.  Further
    requests get status 429; further raw TCP connections are closed.  The default is a tenth of
    ``max_connections``: no single address takes all places, and a school behind one address
    fits.  The address is the socket's, or ``REMOTE_ADDR`` of a WSGI server; no header is read.
    UDP peers are not counted, because an attacker could keep others out with forged addresses."""
    shared_addresses: tuple[str, ...] = SHARED
    """Networks, such as ``"203.0.113.7"`` or ``"10.0.0.0/8"``, whose addresses stand for many
    people and are not counted.  The default is this machine and the private networks, where
    proxies and load balancers are.  Add the address of a proxy with a public address."""
    messages_per_second: float | None = None
    """Messages of one client, by a ``RateLimiter``.  A client that sends more is closed with
    1008; a UDP peer loses the message.  Pings count, because each is answered.  Off by default:
    only the program knows its normal rate.  A mouse moves 60 times a second; nobody types 10
    lines a second."""
    message_burst: int | None = None
    """Messages that may come at once; ``None``: the messages of two seconds.  A client that was
    cut off from its network sends all that piled up."""
    message_time: float | None = 120.0
    """Seconds from the first part of a message to its last; a slower client is closed with
    1008.  Checked when another part of the message arrives.  The keepalive closes a peer that
    sends nothing; this limit closes a peer that sends a byte now and then.  120 seconds allow
    1 MB at 9 KB a second."""
    idle_time: float | None = None
    """Seconds without a message after which a client is closed with 1000.  Pings, pongs and
    empty lines do not count as messages.  The check is late by at most a quarter of the limit.
    Off by default: a dashboard's client never sends, and the keepalive finds lost clients."""
    rooms_per_client: int | None = 1000
    """Hotlines that a client is in at a time; ``answer`` raises ``TooManyRooms`` for another.
    Without a limit a client that chooses its rooms could fill the memory."""

    def __post_init__(self) -> None:
        most = self.connections_per_address
        check_number("connections_per_address", most, 1, optional=True, whole=True)
        _check_networks(self.shared_addresses)
        check_number("messages_per_second", self.messages_per_second, 0, optional=True)
        check_number("message_burst", self.message_burst, 1, optional=True, whole=True)
        if self.message_burst is not None and self.messages_per_second is None:
            burst = self.message_burst
            wanted = f"expected None while messages_per_second is None, got {burst!r}"
            raise SettingError("message_burst", wanted)
        check_number("message_time", self.message_time, 0, optional=True)
        check_number("idle_time", self.idle_time, 0, optional=True)
        check_number("rooms_per_client", self.rooms_per_client, 1, optional=True, whole=True)


def _check_networks(given: object) -> None:
    wanted = f"expected a tuple of networks such as '10.0.0.0/8', got {given!r}"
    # ip_network takes a number for an address.
    if not isinstance(given, (tuple, list)) or not all(isinstance(each, str) for each in given):
        raise SettingTypeError("shared_addresses", wanted)
    for each in given:
        try:
            ip_network(each)
        except ValueError as error:
            raise SettingError("shared_addresses", f"{wanted}: {error}") from None
