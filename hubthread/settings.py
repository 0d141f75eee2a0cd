"""Every setting, validated where it is built.  Layer: base.

Times are seconds (float), sizes are bytes (int).  An error names the field and what is
allowed.  Source: the specification's ``HubSetting``, ``WebsocketPeriod``,
``PingPongPlan``, ``SocketPeriod`` and the ``websocket.Upgrader`` it takes.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from hubthread.checks import check_function, check_has, check_kind, check_number
from hubthread.errors import SettingError
from hubthread.limits import Limits
from hubthread.types import DataSize, Framing
from hubthread.types import Overflow as Overflow

if TYPE_CHECKING:
    from hubthread.concurrency.context import Context
    from hubthread.interfaces import IOContext
    from hubthread.matcher.matcher import MatcherMap
    from hubthread.protocol.http import Request

__all__ = [
    "HotlineOption",
    "HubSetting",
    "Overflow",
    "PingPongPlan",
    "ReadBufferPreprocessing",
    "SocketPeriod",
    "Upgrader",
    "WebsocketPeriod",
    "default_logger",
]

Meta = TypeVar("Meta")
Header = TypeVar("Header", bound=Hashable)

# RFC 9110 section 5.6.2.
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

KB, MB = DataSize.KB, DataSize.MB

ReadBufferPreprocessing = Callable[[Any], Any]
"""Makes of each received message what is handled: ``str`` of ``str``, ``bytes`` of ``bytes``."""


def default_logger() -> logging.Logger:
    """Return the logger ``hubthread`` of the standard library's ``logging`` (``DefaultLogger``).

    The specification's ``Panic`` and ``Fatal`` become ``critical``: the library never ends the
    process.
    """
    return logging.getLogger("hubthread")


@dataclass(frozen=True)
class Upgrader:
    """How a request becomes a WebSocket connection (``DefaultUpgrader``)."""

    handshake_timeout: float = 10.0
    """Seconds for TLS and the request head together: enough for a phone on a bad line, and
    a slow sender holds a thread no longer than that."""
    max_head: int = 16 * KB
    """Bytes of a request head; browsers with large cookies stay well below."""
    write_buffer_size: int = 256 * KB
    """Bytes that a writer joins into one send."""
    subprotocols: tuple[str, ...] = ()
    """What the server speaks, most wanted first."""
    check_origin: Literal["same", "any"] | Collection[str] | Callable[[Request], bool] = "same"
    """Which pages may connect: ``"same"`` (origin equal to the host asked for, or none),
    ``"any"`` (the specification's default), a collection of origins, or a function."""
    compression: bool = False
    """Offer permessage-deflate (RFC 7692), without context takeover."""
    error: Callable[[Request | None, int, str], None] | None = None
    """Told of each refused request: ``(request or None, status, reason)``."""

    def __post_init__(self) -> None:
        check_number("handshake_timeout", self.handshake_timeout, 0)
        check_number("max_head", self.max_head, 256, whole=True)
        check_number("write_buffer_size", self.write_buffer_size, 1 * KB, whole=True)
        check_kind("compression", self.compression, bool, "True or False")
        check_function("error", self.error)
        origin: object = self.check_origin
        if isinstance(origin, str) and origin not in ("same", "any"):
            raise SettingError(
                "check_origin",
                f"'same', 'any', a collection of origins or a function, not the string "
                f"{origin!r}; for one origin use [{origin!r}]",
            )
        subprotocols: object = self.subprotocols
        if not isinstance(subprotocols, (tuple, list)) or not all(
            isinstance(name, str) and _TOKEN.fullmatch(name) for name in subprotocols
        ):
            raise SettingError(
                "subprotocols",
                f"a tuple of names without spaces or separators, not {subprotocols!r}",
            )


@dataclass(frozen=True)
class PingPongPlan(Generic[Meta]):
    """How a connection is kept alive, and how its death is noticed.

    Pings of the client are always answered.  Any byte received is a sign of life.
    """

    ping_period: float | None = 16.0
    """Seconds of silence after which the server pings, or up to a quarter less, so that those
    who came together are not all pinged at once (above 16 s a Linux of 250 Hz ends such waits
    in steps of 2 s); ``None`` waits for the client's pings only (the specification's way;
    browsers never send one by themselves)."""
    ping_timeout: float | None = 60.0
    """Seconds of silence after which the client counts as gone; ``None``: never."""
    ping_handler: Callable[[IOContext, Meta, bytes], object] | None = None
    """Called with ``(ctx, meta, payload)`` for a client's ping, after the pong is sent."""
    pong_handler: Callable[[IOContext, Meta, bytes], object] | None = None
    """Called with ``(ctx, meta, payload)`` for a client's pong."""

    def __post_init__(self) -> None:
        check_number("ping_period", self.ping_period, 0, optional=True)
        check_number("ping_timeout", self.ping_timeout, 0, optional=True)
        if self.ping_period and self.ping_timeout and self.ping_timeout <= self.ping_period:
            raise SettingError(
                "ping_timeout",
                f"more than ping_period ({self.ping_period:g} s), not {self.ping_timeout:g}: "
                f"a ping must have time to be answered",
            )
        check_function("ping_handler", self.ping_handler)
        check_function("pong_handler", self.pong_handler)


@dataclass(frozen=True)
class WebsocketPeriod(Generic[Meta]):
    """How WebSocket connections of a hub behave (``DefaultWebsocketPeriod``)."""

    upgrader: Upgrader = field(default_factory=Upgrader)
    ping_pong_plan: PingPongPlan[Meta] = field(default_factory=PingPongPlan[Any])
    write_message_type: int | None = None
    """``MessageType.TEXT`` or ``BINARY`` for all that is written; ``None``: ``str`` goes
    out as text, ``bytes`` as binary."""
    expected_ws_error: frozenset[int] = frozenset({1000, 1001, 1005, 1006, 1013})
    """Close codes that are part of life; any other is logged as a warning."""
    write_newline: bytes = b""
    """Added to each message written."""
    read_buffer_preprocessing: ReadBufferPreprocessing | None = None
    """Applied to each message before it is handled, on the client's own thread."""
    message_buffer_size: int = 1 * MB
    """Bytes of a message, after inflating; a longer one closes the client with 1009."""
    max_fragments: int = 1024
    """Frames of one message; more close the client with 1009."""
    close_timeout: float = 5.0
    """Seconds for the closing handshake, before the connection is cut."""
    write_wait: float = 10.0
    """Seconds without a byte of progress after which a stalled connection is cut."""

    def __post_init__(self) -> None:
        check_kind("upgrader", self.upgrader, Upgrader, "an Upgrader")
        check_kind("ping_pong_plan", self.ping_pong_plan, PingPongPlan, "a PingPongPlan")
        check_kind("expected_ws_error", self.expected_ws_error, Collection, "a set of close codes")
        for code in self.expected_ws_error:
            check_number("expected_ws_error", code, 1000, whole=True)
        if self.write_message_type not in (None, 1, 2):
            raise SettingError(
                "write_message_type",
                f"MessageType.TEXT, MessageType.BINARY or None, not {self.write_message_type!r}",
            )
        check_kind("write_newline", self.write_newline, bytes, "bytes")
        if self.write_newline.decode(errors="replace").encode() != self.write_newline:
            raise SettingError("write_newline", f"UTF-8, for text, not {self.write_newline!r}")
        check_function("read_buffer_preprocessing", self.read_buffer_preprocessing)
        check_number("message_buffer_size", self.message_buffer_size, 1, whole=True)
        check_number("max_fragments", self.max_fragments, 1, whole=True)
        check_number("close_timeout", self.close_timeout, 0)
        check_number("write_wait", self.write_wait, 0)


@dataclass(frozen=True)
class SocketPeriod:
    """How raw TCP and UDP peers of a hub behave (``SocketPeriod``).

    An empty message (line, length of zero, datagram) is a sign of life in both directions:
    the server's ping, and never handed to a handler when it comes from the peer.
    """

    ping_period: float | None = None
    """Seconds of silence after which the peer is sent an empty message, and so on; over TCP up
    to a quarter less, as with ``PingPongPlan``.  ``None``: never, since few raw peers expect
    one.  ``Framing.CHUNKS`` has none."""
    pong_wait: float | None = 300.0
    """Seconds of silence after which the peer counts as gone, in the middle of a message
    too; ``None``: never.  A peer that only listens must say something within it."""
    write_wait: float = 10.0
    """Seconds without a byte of progress after which a stalled TCP peer is cut; and what one
    is given, at the end, to take what waits.  One for whom nothing waits is given a second."""
    write_message_type: int = 1
    """``MessageType.TEXT``: messages of raw peers are ``str`` and must be UTF-8; ``BINARY``:
    they are ``bytes``.  What is sent needs no kind: ``str`` goes out as UTF-8, ``bytes`` as
    they are."""
    message_buffer_size: int = 1 * KB
    """Bytes of a message; a longer one closes the peer.  ``Framing.CHUNKS`` cuts there."""
    framing: Framing = Framing.LINES
    """Where a message ends."""

    def __post_init__(self) -> None:
        check_number("ping_period", self.ping_period, 0, optional=True)
        check_number("pong_wait", self.pong_wait, 0, optional=True)
        if self.ping_period and self.pong_wait and self.pong_wait <= self.ping_period:
            raise SettingError(
                "pong_wait",
                f"more than ping_period ({self.ping_period:g} s), not {self.pong_wait:g}: "
                f"a ping must have time to be answered",
            )
        check_number("write_wait", self.write_wait, 0)
        if self.write_message_type not in (1, 2):
            raise SettingError(
                "write_message_type",
                f"MessageType.TEXT or MessageType.BINARY, not {self.write_message_type!r}",
            )
        check_number("message_buffer_size", self.message_buffer_size, 1, whole=True)
        kinds = ", ".join(f"Framing.{framing.name}" for framing in Framing)
        check_kind("framing", self.framing, Framing, f"one of {kinds}")


@dataclass(frozen=True)
class HotlineOption:
    """How a hotline is made (``HotlineOption``)."""

    name: str = ""
    """Shown in logs, statistics and ``repr``; need not be unique."""

    def __post_init__(self) -> None:
        check_kind("name", self.name, str, "a string")


@dataclass(frozen=True)
class HubSetting(Generic[Meta, Header]):
    """Everything that a hub needs to know (``HubSetting``).

    All callbacks of one client run one at a time, in order, on threads of the library,
    and may block: only that client waits.
    """

    meta_gen: Callable[[], Meta]
    """Makes the meta of each new client, where the handshake hook does not."""
    hub_name: str = ""
    """For logs, thread names and statistics; a short random one if empty."""
    context: Context | None = None
    """What the hub's own context hangs from: cancelling it closes the hub, as does its
    deadline (``ContextOption``; its ``cancel`` is the specification's ``CancelFunc``)."""
    logger: logging.Logger = field(default_factory=default_logger)
    receive_matcher: MatcherMap[Meta, Header] | None = None
    """Hands messages to handlers by their header."""
    receive_matcher_error: Callable[[IOContext, Meta, Exception], object] | None = None
    """Told of each message that reached no handler, or whose handler raised; without it
    they are logged.  The client stays."""
    on_handshake: Callable[[Request], Meta] | None = None
    """Sees the request before the connection stands, and returns the client's meta, or
    raises ``HandshakeRejected(status, reason)``: authentication goes here."""
    on_receive_message: Callable[[IOContext, Meta], bool] | None = None
    """Sees each message (``ctx.payload``) first; ``False`` keeps it from the matcher."""
    on_connection_start: Callable[[IOContext, Meta], object] | None = None
    """The client's first callback.  If it raises, the client is closed with 1011."""
    on_connection_close: Callable[[IOContext, Meta], object] | None = None
    """The client's last callback, exactly once, however the connection ended."""
    chan_queue_size: int = 16 * KB
    """How many entries any queue may hold: closures of the hub or of a client, pushes
    of a hotline, messages in an outbox."""
    outbox_bytes: int = 8 * MB
    """Bytes that may wait for one client (a single message may be larger)."""
    overflow: Overflow = Overflow.CLOSE
    """What is done with a client whose outbox is full."""
    websocket_period: WebsocketPeriod[Meta] = field(default_factory=WebsocketPeriod[Any])
    socket_period: SocketPeriod = field(default_factory=SocketPeriod)
    limits: Limits = field(default_factory=Limits)
    """How much one client, and one address, may ask of the hub."""
    delayed_execution: Callable[[Any], object] | None = None
    """Called with the hub, on its thread, before it opens for work: closures and callbacks of
    clients come after it.  Here begins what has a thread, such as rooms with a clock, where
    the program forks once the hub is made (``gunicorn --preload``)."""
    watchdog: float | None = 10.0
    """Seconds after which a closure of the hub, a callback of a client or of a room with a
    clock, a hook or a page counts as stuck: a warning with its stack is logged, and a line when
    it has ended.
    Most callbacks take less than a thousandth of it; ``None``: nobody watches."""

    def __post_init__(self) -> None:
        check_kind(
            "meta_gen", self.meta_gen, Callable, "a function that makes a client's meta: dict"
        )
        check_kind("hub_name", self.hub_name, str, "a string")
        if self.context is not None:
            check_has("context", self.context, "add_callback", "a Context or None")
            if self.context.cancelled:
                raise SettingError("context", f"one that is not cancelled, not {self.context!r}")
        check_has("logger", self.logger, "exception", "a logging.Logger, or what has its methods")
        if self.receive_matcher is not None:
            check_has("receive_matcher", self.receive_matcher, "dispatch", "a MatcherMap or None")
        check_number("chan_queue_size", self.chan_queue_size, 1, whole=True)
        check_number("watchdog", self.watchdog, 0, optional=True)
        check_number("outbox_bytes", self.outbox_bytes, 1, whole=True)
        policies = ", ".join(f"Overflow.{policy.name}" for policy in Overflow)
        check_kind("overflow", self.overflow, Overflow, f"one of {policies}")
        check_kind("websocket_period", self.websocket_period, WebsocketPeriod, "a WebsocketPeriod")
        check_kind("socket_period", self.socket_period, SocketPeriod, "a SocketPeriod")
        check_kind("limits", self.limits, Limits, "a Limits")
        for name in (
            "receive_matcher_error",
            "on_handshake",
            "on_receive_message",
            "on_connection_start",
            "on_connection_close",
            "delayed_execution",
        ):
            check_function(name, getattr(self, name))
