"""The settings of a hub: frozen dataclasses that check their fields when they are built.

Times are seconds (``float``), sizes are bytes (``int``).  A wrong value raises
``SettingError``, which names the field and the allowed values.

Layer: settings.  Threads: a setting never changes; any thread may read it.
Source: the specification's ``HubSetting``, ``WebsocketPeriod``, ``PingPongPlan``,
``SocketPeriod``, ``HotlineOption``, and the ``websocket.Upgrader`` that it uses.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from os import PathLike
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from hubthread.checks import check_callable, check_function, check_has, check_kind, check_number
from hubthread.errors import SettingError, SettingTypeError
from hubthread.limits import Limits
from hubthread.protocol.envelope import SUBPROTOCOL
from hubthread.protocol.hosts import hosts_of
from hubthread.room_option import HotlineOption as HotlineOption
from hubthread.sessions import Sessions
from hubthread.types import DataSize, Framing
from hubthread.types import Overflow as Overflow
from hubthread.types import Readers as Readers

if TYPE_CHECKING:
    from hubthread.backplane.interfaces import Backplane, BackplaneState
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
"""A function that changes each received message before it is handled.

It takes ``str`` and returns ``str``, or takes ``bytes`` and returns ``bytes``.
"""


def default_logger() -> logging.Logger:
    """Return the logger ``hubthread`` of the standard library's ``logging`` (``DefaultLogger``).

    The specification's ``Panic`` and ``Fatal`` become ``critical``: the library never ends the
    process.
    """
    return logging.getLogger("hubthread")


@dataclass(frozen=True)
class Upgrader:
    """The handshake: from a request to a WebSocket connection (``DefaultUpgrader``).

    ``check_origin`` and ``error`` run on the thread that has the request: the connection's
    reader thread, or the WSGI server's thread.

    :raises SettingError: for a value out of range.
    """

    handshake_timeout: float = 10.0
    """Seconds for TLS and the request head together.

    10 s are enough for a phone on a bad line.  A slow sender holds a thread no longer.
    """
    max_head: int = 16 * KB
    """Bytes of a request head; a longer one gets 431.  Large cookies stay well below 16 KB."""
    write_buffer_size: int = 256 * KB
    """Bytes that a writer thread joins into one send."""
    subprotocols: tuple[str, ...] | Callable[[Request], str | None] = (SUBPROTOCOL,)
    """The subprotocols that the server speaks, the preferred one first.

    ``"hubthread.1"`` is that of hubthread's own clients.  Only clients that ask for it get it.

    Or a function that returns one of ``request.subprotocols``, or None: for a page that sends a
    token as its subprotocol, or where it depends on the path.
    """
    headers: Callable[[Request, Any], Iterable[tuple[str, str]]] | None = None
    """Called with ``(request, meta)`` for each accepted request; returns further header fields of
    the 101, as pairs of name and value, such as ``Set-Cookie``.

    It may still raise ``HandshakeRejected``.
    """
    check_origin: Literal["same", "any"] | Collection[str] | Callable[[Request], bool] = "same"
    """The pages that may connect; a page from elsewhere gets 403.

    ``"same"`` accepts an ``Origin`` that equals the requested host, and requests without one.
    ``"any"`` accepts every page (the specification's default).  A collection lists the allowed
    origins, such as ``["https://example.org"]``.  A function decides for itself.
    """
    allowed_hosts: Literal["any"] | Collection[str] | None = None
    """The host names that requests may ask for, pages included; a request for another gets 403.

    ``None`` checks them where a server listens on this machine only (loopback): another page
    could let its name resolve to this machine (DNS rebinding).  A collection such as
    ``["example.org", "*.example.org"]`` is checked everywhere: the names under which a proxy
    passes requests on.  ``"any"`` checks nothing.  ``localhost``, addresses, and requests without
    ``Host`` always pass.
    """
    compression: bool = False
    """Accept permessage-deflate (RFC 7692), without context takeover."""
    error: Callable[[Request | None, int, str], None] | None = None
    """Called with ``(request, status, reason)`` for each refused request.

    The request is None if its head could not be parsed.
    """

    def __post_init__(self) -> None:
        check_number("handshake_timeout", self.handshake_timeout, 0)
        check_number("max_head", self.max_head, 256, whole=True)
        check_number("write_buffer_size", self.write_buffer_size, 1 * KB, whole=True)
        check_kind("compression", self.compression, bool, "True or False")
        check_function("error", self.error, "request", "status", "reason")
        origin: object = self.check_origin
        if not isinstance(origin, Collection):  # a string is one, too
            check_callable("check_origin", origin, "request")
        if isinstance(origin, str) and origin not in ("same", "any"):
            raise SettingError(
                "check_origin",
                f"expected 'same', 'any', a collection of origins or a function, got the string "
                f"{origin!r}; for one origin use [{origin!r}]",
            )
        if self.allowed_hosts is not None:
            hosts_of(self.allowed_hosts)
        check_function("headers", self.headers, "request", "meta")
        if callable(self.subprotocols):
            check_callable("subprotocols", self.subprotocols, "request")
        else:
            self._check_subprotocols()

    def _check_subprotocols(self) -> None:
        subprotocols: object = self.subprotocols
        wanted = f"expected a tuple of names without spaces or separators, got {subprotocols!r}"
        if not isinstance(subprotocols, (tuple, list)) or not all(
            isinstance(name, str) for name in subprotocols
        ):
            raise SettingTypeError("subprotocols", wanted)
        if not all(_TOKEN.fullmatch(name) for name in subprotocols):
            raise SettingError("subprotocols", wanted)


@dataclass(frozen=True)
class PingPongPlan(Generic[Meta]):
    """The keepalive of WebSocket connections (``PingPongPlan``).

    The server always answers a client's ping.  Every byte that arrives is a sign of life.

    The handlers run in the order of the client's callbacks, on its reader thread.

    :raises SettingError: for a value out of range.
    """

    ping_period: float | None = 16.0
    """Seconds without a byte from the client after which the server sends a ping.

    The actual time is up to a quarter shorter, so that clients that connected together are not
    all pinged at once.  Linux kernels of 250 Hz end waits above 16 s in steps of 2 s.

    ``None`` sends no pings and relies on those of the client (the specification's way).
    Browsers send none by themselves.
    """
    ping_timeout: float | None = 60.0
    """Seconds without a byte after which the client counts as gone; ``None``: never."""
    ping_handler: Callable[[IOContext, Meta, bytes], object] | None = None
    """Called with ``(ctx, meta, payload)`` for a client's ping, after the pong was sent."""
    pong_handler: Callable[[IOContext, Meta, bytes], object] | None = None
    """Called with ``(ctx, meta, payload)`` for a client's pong."""

    def __post_init__(self) -> None:
        check_number("ping_period", self.ping_period, 0, optional=True)
        check_number("ping_timeout", self.ping_timeout, 0, optional=True)
        if self.ping_period and self.ping_timeout and self.ping_timeout <= self.ping_period:
            raise SettingError(
                "ping_timeout",
                f"expected more than ping_period ({self.ping_period:g} s), got "
                f"{self.ping_timeout:g}: a ping must have time to be answered",
            )
        check_function("ping_handler", self.ping_handler, "ctx", "meta", "payload")
        check_function("pong_handler", self.pong_handler, "ctx", "meta", "payload")


@dataclass(frozen=True)
class WebsocketPeriod(Generic[Meta]):
    """The WebSocket connections of a hub (``WebsocketPeriod``, ``DefaultWebsocketPeriod``).

    :raises SettingError: for a value out of range.
    """

    upgrader: Upgrader = field(default_factory=Upgrader)
    """The handshake."""
    ping_pong_plan: PingPongPlan[Meta] = field(default_factory=PingPongPlan[Any])
    """The keepalive."""
    write_message_type: int | None = None
    """``MessageType.TEXT`` or ``MessageType.BINARY`` for every message that is written.

    With ``None``, ``str`` is sent as text and ``bytes`` as binary.
    """
    expected_ws_error: frozenset[int] = frozenset({1000, 1001, 1005, 1006, 1012, 1013})
    """Close codes of ordinary ends; any other code below 3000 is logged as a warning.

    Codes from 3000 on are the application's own.
    """
    write_newline: bytes = b""
    """Bytes added to each message that is written; they must be UTF-8."""
    read_buffer_preprocessing: ReadBufferPreprocessing | None = None
    """Called with each message before it is handled, on the client's reader thread."""
    message_buffer_size: int = 1 * MB
    """Bytes of a received message, after inflating; a longer one closes the client with 1009."""
    max_fragments: int = 1024
    """Frames of a received message; more of them close the client with 1009."""
    close_timeout: float = 5.0
    """Seconds of the closing handshake in which the peer reads nothing; then it is cut."""
    write_wait: float = 10.0
    """Seconds without a byte of progress after which a stalled connection is cut."""

    def __post_init__(self) -> None:
        check_kind("upgrader", self.upgrader, Upgrader, "an Upgrader")
        check_kind("ping_pong_plan", self.ping_pong_plan, PingPongPlan, "a PingPongPlan")
        check_kind("expected_ws_error", self.expected_ws_error, Collection, "a set of close codes")
        for code in self.expected_ws_error:
            check_number("expected_ws_error", code, 1000, whole=True)
        if self.write_message_type is not None:
            _check_message_type(self.write_message_type, ", or None")
        check_kind("write_newline", self.write_newline, bytes, "bytes")
        if self.write_newline.decode(errors="replace").encode() != self.write_newline:
            raise SettingError(
                "write_newline", f"expected UTF-8 bytes, got {self.write_newline!r}"
            )
        check_function("read_buffer_preprocessing", self.read_buffer_preprocessing, "message")
        check_number("message_buffer_size", self.message_buffer_size, 1, whole=True)
        check_number("max_fragments", self.max_fragments, 1, whole=True)
        check_number("close_timeout", self.close_timeout, 0)
        check_number("write_wait", self.write_wait, 0)


def _check_message_type(given: object, none: str = "") -> None:
    wanted = f"expected MessageType.TEXT or MessageType.BINARY{none}, got {given!r}"
    if not isinstance(given, int):
        raise SettingTypeError("write_message_type", wanted)
    if given not in (1, 2):
        raise SettingError("write_message_type", wanted)


@dataclass(frozen=True)
class SocketPeriod:
    """The raw TCP and UDP peers of a hub (``SocketPeriod``).

    An empty message (an empty line, a length of zero, an empty datagram) is a sign of life.  The
    server sends one as its ping.  One from the peer reaches no handler.

    :raises SettingError: for a value out of range.
    """

    ping_period: float | None = None
    """Seconds without a byte from the peer after which the server sends an empty message.

    Over TCP the actual time is up to a quarter shorter, as with ``PingPongPlan``.  ``None``
    sends none, because few raw peers expect one.  ``Framing.CHUNKS`` has no empty message, so it
    sends none either.
    """
    pong_wait: float | None = 300.0
    """Seconds without a byte after which the peer counts as gone; ``None``: never.

    The middle of a message makes no difference.  A peer that only listens must send something
    within this time.
    """
    write_wait: float = 10.0
    """Seconds without a byte of progress after which a stalled TCP peer is cut.

    At the end of a connection a TCP peer gets the same time to read what still waits for it.  If
    nothing waits, it gets 1 s.
    """
    write_message_type: int = 1
    """The type of the messages that raw peers send.

    With ``MessageType.TEXT`` a message is ``str`` and must be UTF-8.  With ``BINARY`` it is
    ``bytes``.  In the other direction, ``str`` is sent as UTF-8 and ``bytes`` as they are.
    """
    message_buffer_size: int = 1 * KB
    """Bytes of a received message; a longer one closes the peer.

    ``Framing.CHUNKS`` cuts messages at this size.
    """
    framing: Framing = Framing.LINES
    """The rule that says where a message ends."""

    def __post_init__(self) -> None:
        check_number("ping_period", self.ping_period, 0, optional=True)
        check_number("pong_wait", self.pong_wait, 0, optional=True)
        if self.ping_period and self.pong_wait and self.pong_wait <= self.ping_period:
            raise SettingError(
                "pong_wait",
                f"expected more than ping_period ({self.ping_period:g} s), got "
                f"{self.pong_wait:g}: a ping must have time to be answered",
            )
        check_number("write_wait", self.write_wait, 0)
        _check_message_type(self.write_message_type)
        check_number("message_buffer_size", self.message_buffer_size, 1, whole=True)
        kinds = ", ".join(f"Framing.{framing.name}" for framing in Framing)
        check_kind("framing", self.framing, Framing, f"one of {kinds}")


@dataclass(frozen=True)
class HubSetting(Generic[Meta, Header]):
    """The settings of a hub (``HubSetting``).

    The hooks ``on_handshake`` and ``meta_gen`` run on the thread that has the request: the
    connection's reader thread, or the WSGI server's thread.  The callbacks of one client run one
    at a time, in order, most of them on its reader thread.  All of them may block: only this
    client waits.

    :raises SettingError: for a value out of range.
    """

    meta_gen: Callable[[], Meta]
    """Called for each new client without ``on_handshake``; returns the client's meta."""
    hub_name: str = ""
    """The name in logs, thread names and statistics; if empty, a short random one."""
    context: Context | None = None
    """The parent of the hub's own context.

    The hub closes when the parent is cancelled or its deadline is over (``ContextOption``; the
    specification's ``CancelFunc`` is ``context.cancel``).
    """
    logger: logging.Logger = field(default_factory=default_logger)
    """The logger of the hub: a ``logging.Logger`` or an object with the same methods."""
    receive_matcher: MatcherMap[Meta, Header] | None = None
    """The matcher, which finds the handler of each message by its header."""
    receive_matcher_error: Callable[[IOContext, Meta, Exception], object] | None = None
    """Called with ``(ctx, meta, error)`` when a message has no handler or its handler raises.

    Without it the error is logged.  The client stays connected either way.
    """
    on_handshake: Callable[[Request], Meta] | None = None
    """Called with each request before it becomes a client: the place for authentication.

    It returns the client's meta, or raises ``HandshakeRejected(status, reason)``.
    """
    on_receive_message: Callable[[IOContext, Meta], bool] | None = None
    """Called with ``(ctx, meta)`` before the matcher handles ``ctx.payload``.

    If it returns ``False``, the matcher does not get the message.
    """
    on_connection_start: Callable[[IOContext, Meta], object] | None = None
    """Called with ``(ctx, meta)`` as the client's first callback.

    If it raises, the client is closed with 1011.  Closures and pushes that it hands to the hub and
    to rooms are accepted even if their queues are full; those of ``on_connection_close``, too.
    """
    on_connection_close: Callable[[IOContext, Meta], object] | None = None
    """Called with ``(ctx, meta)`` as the client's last callback.

    It is called exactly once for each client that has started, whatever ended the connection.
    With ``sessions`` it waits for the end of the grace.  With ``Sessions.save`` it is also called
    for a client that goes on in another hub: ``ctx.ws_conn.ended_by`` is ``"taken over"``.
    """
    sessions: Sessions | None = None
    """Lets a client of ``hubthread.1`` come back after a lost connection, as the same client.

    ``None`` ends each client with its connection.
    """
    on_connection_lost: Callable[[IOContext, Meta], object] | None = None
    """Called with ``(ctx, meta)`` when the connection of a client with a session is lost.

    The client is away, and stays in its rooms.  ``on_connection_resume`` or
    ``on_connection_close`` follows.
    """
    on_connection_resume: Callable[[IOContext, Meta], object] | None = None
    """Called with ``(ctx, meta)`` when a client has come back on another connection.

    If the client has come back before the hub noticed the loss, ``on_connection_lost`` was not
    called.  With ``Sessions.save`` this is also the first callback of a client that was in another
    hub of the backplane.
    """
    around_callback: Callable[[IOContext, Meta], AbstractContextManager[object]] | None = None
    """Called with ``(ctx, meta)``; returns a context manager that each callback runs inside.

    The callbacks are those of clients: start, messages with the hooks around them, pings,
    closures of ``exec_async``, ``exec_sync`` and ``each_client``, and close.  The manager's
    ``__exit__`` gets the exception of the callback, before it is logged or after
    ``receive_matcher_error`` has handled it.
    """
    user: Callable[[IOContext, Meta], str | None] | None = None
    """Called with ``(ctx, meta)`` before ``on_connection_start``; returns the name of the
    client's user, ``ctx.user``, or None.

    Several clients may be one user: see ``hub.user``.  If the function raises, the client is
    closed with 1011.
    """
    check_token: Callable[[IOContext, Meta, str], bool | float | str] | None = None
    """Called with ``(ctx, meta, token)`` for the token of a client's ``hub:hello``.

    ``True`` lets the client in.  A number is the seconds that the token is valid: within this time
    the client has to bring the next token.  Any other result closes the client with
    ``CloseCode.TOKEN_REFUSED``; a text is told to the client as the reason.  The hook may put data
    of the token into the meta.

    With the hook every client must speak ``hubthread.1``, and is in no list of the hub before the
    hook has run; then ``on_connection_start`` runs.  A client that shows no token within
    ``Upgrader.handshake_timeout`` is closed.
    """
    may_join: Callable[[IOContext, Meta, str], bool | str] | None = None
    """Called with ``(ctx, meta, name)`` when a client of ``hubthread.1`` asks to join a room.

    ``True`` lets the client into the room that ``hub.room(name)`` finds; the hook may make the
    room.  Any other result refuses the client; a text is told to the client as the reason.
    Without the hook no client can join a room by its name.
    """
    chan_queue_size: int = 16 * KB
    """The number of entries that each queue may hold.

    The queues are the closures of the hub, the closures of a client, the pushes of a room and
    the messages in a client's outbox.
    """
    outbox_bytes: int = 8 * MB
    """Bytes that may wait for one client; a single message may be larger."""
    overflow: Overflow = Overflow.CLOSE
    """The policy for a client whose outbox is full."""
    readers: Readers = Readers.OWN
    """The threads that receive from clients: one for each connection, or a few for all.

    With ``Readers.SHARED``, a client's reader thread is the one that leads at the moment.
    """
    websocket_period: WebsocketPeriod[Meta] = field(default_factory=WebsocketPeriod[Any])
    """The settings of WebSocket connections."""
    socket_period: SocketPeriod = field(default_factory=SocketPeriod)
    """The settings of raw TCP and UDP peers."""
    backplane: Backplane | None = None
    """The order and the history of shared rooms.

    ``None`` gives the hub a ``MemoryBackplane`` of its own.  Hubs with the same backplane share
    their shared rooms.
    """
    calls: Mapping[str, Callable[[Any, Any], object]] = field(default_factory=dict)
    """The functions that other hubs of the backplane may run with ``hub.call``, by name.

    Each function is called with ``(hub, payload)`` on a worker thread, and returns a value that
    JSON can express.
    """
    on_backplane: Callable[[Any, BackplaneState], object] | None = None
    """Called with ``(hub, state)``, on the hub thread, when the backplane is lost or back."""
    limits: Limits = field(default_factory=Limits)
    """The limits for one client and for one address."""
    drain: float | None = None
    """Seconds in which clients are sent elsewhere, in batches, when the process ends.

    See ``Hub.drain``.  This is at SIGTERM for ``hubthread serve``, and at the end of a worker of
    a WSGI server.  ``None`` closes all at once.
    """
    delayed_execution: Callable[[Any], object] | None = None
    """Called with the hub, on the hub thread, before any closure and any client's callback.

    It is the place to start what has a thread, such as a ticking room, in a program that forks
    after it has made the hub (``gunicorn --preload``).
    """
    watchdog: float | None = 10.0
    """Seconds after which a callback counts as stuck; ``None`` switches the watchdog off.

    It watches the hub's closures, the callbacks of clients and ticking rooms, hooks and pages.
    The stack of a stuck callback is logged as a warning, and its end is logged too.
    """
    callback_times: bool = False
    """True: ``hub.metrics`` has the time of each callback of a client, as a histogram.

    It costs about a microsecond for each callback.
    """
    metrics_dir: str | PathLike[str] | None = None
    """A folder in which the processes of one program find each other for metrics.

    ``hub.metrics`` of each process then answers for all that run, with the label ``worker``.
    Each program needs a folder of its own, on a local disk.  ``None``: each process answers for
    itself.
    """

    def __post_init__(self) -> None:
        check_callable("meta_gen", self.meta_gen)
        check_kind("hub_name", self.hub_name, str, "a string")
        if self.context is not None:
            check_has("context", self.context, "add_callback", "a Context or None")
            if self.context.cancelled:
                raise SettingError(
                    "context", f"expected a context that is not cancelled, got {self.context!r}"
                )
        check_has("logger", self.logger, "exception", "a logging.Logger or an object like it")
        if self.receive_matcher is not None:
            check_has("receive_matcher", self.receive_matcher, "route", "a MatcherMap or None")
        check_number("chan_queue_size", self.chan_queue_size, 1, whole=True)
        check_number("watchdog", self.watchdog, 0, optional=True)
        check_number("drain", self.drain, 0, optional=True)
        check_number("outbox_bytes", self.outbox_bytes, 1, whole=True)
        check_kind("callback_times", self.callback_times, bool, "True or False")
        if self.metrics_dir is not None:
            check_kind("metrics_dir", self.metrics_dir, str | PathLike, "a path or None")
        policies = ", ".join(f"Overflow.{policy.name}" for policy in Overflow)
        check_kind("overflow", self.overflow, Overflow, f"one of {policies}")
        kinds = ", ".join(f"Readers.{readers.name}" for readers in Readers)
        check_kind("readers", self.readers, Readers, f"one of {kinds}")
        check_kind("websocket_period", self.websocket_period, WebsocketPeriod, "a WebsocketPeriod")
        check_kind("socket_period", self.socket_period, SocketPeriod, "a SocketPeriod")
        check_kind("limits", self.limits, Limits, "a Limits")
        if self.backplane is not None:
            check_has("backplane", self.backplane, "open", "a Backplane or None")
        if self.sessions is not None:
            check_kind("sessions", self.sessions, Sessions, "a Sessions or None")
        self._need_subprotocol("check_token", "its clients show tokens")
        self._need_subprotocol("sessions", "its clients come back")
        check_kind("calls", self.calls, Mapping, "a mapping from names to functions")
        for name, function in self.calls.items():
            check_function(f"calls[{name!r}]", function, "hub", "payload")
        for name, arguments in (
            ("receive_matcher_error", ("ctx", "meta", "error")),
            ("on_handshake", ("request",)),
            ("on_receive_message", ("ctx", "meta")),
            ("on_connection_start", ("ctx", "meta")),
            ("on_connection_close", ("ctx", "meta")),
            ("on_connection_lost", ("ctx", "meta")),
            ("on_connection_resume", ("ctx", "meta")),
            ("around_callback", ("ctx", "meta")),
            ("user", ("ctx", "meta")),
            ("check_token", ("ctx", "meta", "token")),
            ("may_join", ("ctx", "meta", "name")),
            ("delayed_execution", ("hub",)),
            ("on_backplane", ("hub", "state")),
        ):
            check_function(name, getattr(self, name), *arguments)

    def _need_subprotocol(self, name: str, why: str) -> None:
        spoken = self.websocket_period.upgrader.subprotocols
        if getattr(self, name) is not None and not callable(spoken) and SUBPROTOCOL not in spoken:
            wanted = f"expected {SUBPROTOCOL!r} in Upgrader.subprotocols, got {spoken!r}"
            raise SettingError(name, f"{wanted}: {why}")
