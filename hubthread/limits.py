"""Every limit of a hub by its name, and those that have no older place.  Layer: base.

A limit keeps one client, or one stranger, from costing the others their share of memory,
threads or time.  ``hub.statistics().limits_struck`` counts how often each has struck, by the
names below; README.rst ("Limits") has a table of where each is set, its default and why.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_network
from typing import Final

from hubthread.checks import check_number
from hubthread.errors import SettingError

__all__ = ["LIMITS", "Limits"]

CONNECTIONS: Final = "connections"
"""Connections in all: ``max_connections`` of ``hub.serve`` and ``hub.websocket_handler``,
``max_peers`` of ``hub.socket_handles``."""
ADDRESS: Final = "connections_per_address"
"""Connections of one address: ``Limits.connections_per_address``."""
HANDSHAKE: Final = "handshake_time"
"""TLS and the request head: ``Upgrader.handshake_timeout``."""
HEAD: Final = "head"
"""Bytes of the request head: ``Upgrader.max_head``."""
MESSAGE: Final = "message"
"""Bytes of a message: ``message_buffer_size`` of ``WebsocketPeriod`` and ``SocketPeriod``."""
FRAGMENTS: Final = "fragments"
"""Frames of a message: ``WebsocketPeriod.max_fragments``."""
MESSAGE_TIME: Final = "message_time"
"""From the first part of a message to its last: ``Limits.message_time``."""
RATE: Final = "messages_per_second"
"""Messages and pings of one client: ``Limits.messages_per_second``."""
IDLE: Final = "idle_time"
"""Since the last message of a client: ``Limits.idle_time``."""
SILENCE: Final = "silence"
"""Since the last byte: ``PingPongPlan.ping_timeout``, ``SocketPeriod.pong_wait``."""
OUTBOX: Final = "outbox"
"""What waits for one client: ``HubSetting.chan_queue_size``, ``HubSetting.outbox_bytes``."""
STALL: Final = "stall"
"""Since a client that is to read has taken a byte: ``write_wait`` of ``WebsocketPeriod`` and
``SocketPeriod``."""
ROOMS: Final = "rooms_per_client"
"""Rooms that one client is in: ``Limits.rooms_per_client``."""
UNHANDLED: Final = "unhandled"
"""Messages of UDP peers that wait for their handlers: fixed, see ``net.udp.socket``."""

LIMITS: Final = (
    CONNECTIONS, ADDRESS, HANDSHAKE, HEAD, MESSAGE, FRAGMENTS, MESSAGE_TIME, RATE, IDLE, SILENCE,
    OUTBOX, STALL, ROOMS, UNHANDLED,
)  # fmt: skip
"""The keys of ``limits_struck``."""

SHARED: Final = (
    "127.0.0.0/8", "::1/128",  # this machine
    "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7",  # private: RFC 1918, RFC 4193
    "100.64.0.0/10",  # behind a provider's address translation: RFC 6598
    "169.254.0.0/16", "fe80::/10",  # one link
)  # fmt: skip
"""Addresses that are nobody's on the internet."""


@dataclass(frozen=True)
class Limits:
    """How much one client, and one address, may ask of a hub: ``HubSetting.limits``.

    ``None`` is no limit.
    """

    connections_per_address: int | None = 1000
    """Connections of one IPv4 address, or of the /64 of an IPv6 one, at a time; more get 429,
    or are closed, where they are raw TCP.  A tenth of ``max_connections``: no single address
    takes all the places, and a school behind one address still comes in.  The address is that
    of the socket, or what a WSGI server says (``REMOTE_ADDR``): no header is looked at.  UDP
    peers are not counted: with forged addresses one could keep others out."""
    shared_addresses: tuple[str, ...] = SHARED
    """Networks, such as ``"203.0.113.7"`` or ``"10.0.0.0/8"``, whose addresses stand for many
    people, and are not counted.  By default this machine and private networks, where proxies
    and load balancers are.  A proxy with a public address has to be named."""
    messages_per_second: float | None = None
    """Messages of one client, by a ``RateLimiter``; who sends more is closed with 1008, and of
    a UDP peer the message is lost.  A client's pings count, too, since each is answered.  Off
    by default, since only the program knows what is much: a mouse moves 60 times a second, and
    nobody types a line 10 times."""
    message_burst: int | None = None
    """Messages that may come at once; ``None``: those of two seconds.  Whoever was cut off
    from the network sends what has piled up."""
    message_time: float | None = 120.0
    """Seconds from the first part of a message to its last; who takes longer is closed with
    1008.  Looked at when a part comes: for who sends nothing any more there is the keepalive,
    which a byte from time to time would satisfy for ever.  A phone with 9 KB a second still
    sends a megabyte."""
    idle_time: float | None = None
    """Seconds without a message, after which a client is closed with 1000; pings, pongs and
    empty lines are none.  Seen after a quarter more of it, at the latest.  Off by default:
    who watches a dashboard says nothing, and the keepalive finds who is gone."""
    rooms_per_client: int | None = 1000
    """Hotlines that a client is in at a time; ``answer`` raises ``TooManyRooms`` for one more.
    A client that may choose its rooms would else fill the memory, 150 bytes and more for each."""

    def __post_init__(self) -> None:
        most = self.connections_per_address
        check_number("connections_per_address", most, 1, optional=True, whole=True)
        check_number("messages_per_second", self.messages_per_second, 0, optional=True)
        check_number("message_burst", self.message_burst, 1, optional=True, whole=True)
        if self.message_burst is not None and self.messages_per_second is None:
            burst = self.message_burst
            wanted = f"None where messages_per_second is, not {burst!r}"
            raise SettingError("message_burst", wanted)
        check_number("message_time", self.message_time, 0, optional=True)
        check_number("idle_time", self.idle_time, 0, optional=True)
        shared: object = self.shared_addresses
        try:
            if not isinstance(shared, (tuple, list)):
                raise ValueError("it is none")
            for each in shared:
                if not isinstance(each, str):  # a number is an address, too, for ip_network
                    raise ValueError(f"{each!r} is no text")
                ip_network(each)
        except ValueError as error:
            wanted = f"a tuple of networks such as '10.0.0.0/8', not {shared!r}: {error}"
            raise SettingError("shared_addresses", wanted) from None
        check_number("rooms_per_client", self.rooms_per_client, 1, optional=True, whole=True)
