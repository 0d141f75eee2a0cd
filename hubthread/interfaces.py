"""The client, the room and the hub as handlers see them.

The classes here are protocols: they declare what handlers may use.  ``Client``, ``Hotline`` and
``Hub`` implement them.

Layer: interfaces.  Threads: a method may be called on any thread, unless it says otherwise.
Source: the specification's ``IOContext``, ``IHotline`` and ``IHub``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload

if TYPE_CHECKING:
    import logging

    from hubthread.concurrency.clock import Clock
    from hubthread.concurrency.context import Context
    from hubthread.net.interfaces import Link
    from hubthread.nodes import Address
    from hubthread.protocol.frames import MessageType
    from hubthread.protocol.request import Request
    from hubthread.statistics import ClientStatistics, HotlineStatistics, HubStatistics
    from hubthread.types import ClientID, ConnectionType, HotlineID, Key

__all__ = ["IHotline", "IHub", "IOContext"]

T = TypeVar("T")


class IOContext(Protocol):
    """One client: the first argument of every handler (``IOContext``).

    Writing never waits for the peer.  It never raises because the peer has gone: a client may
    vanish at any moment, and its close callback is told.

    Threads: every method may be called on any thread, except where it says otherwise.
    """

    @property
    def payload(self) -> str | bytes:
        """The message that is being handled; in a matcher's handler, without its header.

        Valid only inside this client's own callbacks.
        """

    @property
    def connection_id(self) -> ClientID:
        """The client's number in its hub.  No other client ever gets the same number."""

    @property
    def connection_type(self) -> ConnectionType:
        """``ConnectionType.WEBSOCKET``, or ``SOCKET`` for a raw TCP or UDP peer."""

    @property
    def meta(self) -> Any:
        """The client's meta, as ``on_handshake`` or ``meta_gen`` returned it."""

    @property
    def hub(self) -> IHub:
        """The hub that the client belongs to."""

    @property
    def handshake(self) -> Request:
        """The request that opened the connection: path, query, headers, cookies, peer.

        A raw peer sends no request.  Its ``handshake`` has the method ``"TCP"`` or ``"UDP"``,
        the peer's address, and no headers.
        """

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol that the handshake chose, or None."""

    @property
    def user(self) -> str | None:
        """The name of the client's user, from ``HubSetting.user``; None without one."""

    @property
    def address(self) -> Address:
        """The client's name among the clients of all hubs, for ``hub.tell``."""

    matcher: Any
    """The ``MatcherMap`` or ``SubMatcher`` that handles this client's messages, or None.

    One of the client's own callbacks may assign another.  It handles the messages from the next
    one on.
    """

    @property
    def logger(self) -> logging.Logger:
        """The hub's logger."""

    @property
    def context(self) -> Context:
        """A context that is cancelled when the connection ends, or the hub."""

    @property
    def ws_conn(self) -> Link:
        """The connection, for everything that this interface does not cover."""

    @property
    def is_away(self) -> bool:
        """True while the client's connection is lost and ``HubSetting.sessions`` waits for it."""

    @property
    def hotlines(self) -> tuple[IHotline, ...]:
        """The rooms that the client is in, oldest first.

        In ``on_connection_close`` the rooms that it was in when its connection ended.
        """

    @property
    def write_count(self) -> int:
        """The number of the last message written or pushed to this client."""

    def write(self, data: str | bytes, *, key: Key | None = None) -> int:
        """Send a text message (``str``) or a binary message (``bytes``); return at once.

        Writes from one thread arrive in order.  No order is promised between a write and a push
        to a room that the client is in.

        :param key: for ``Overflow.LATEST``: the message replaces a waiting message with the
            same key.
        :returns: the message's number.
        :raises ValueError: for text that UTF-8 cannot encode.
        """

    def write_string(self, text: str) -> int:
        """Send a text message; return its number."""

    def write_json(self, obj: object) -> int:
        """Send ``obj`` as JSON text; return the message's number.

        :param obj: JSON's own types, dataclasses, enums, mappings.
        """

    def write_serialization(self, obj: object) -> int:
        """Send ``obj`` as the matcher's ``marshal`` encodes it; return the message's number.

        A hub without a matcher encodes as JSON.
        """

    def write_splicing(self, prefix: str | bytes, obj: object) -> int:
        """Send ``prefix`` and the marshalled ``obj`` as one message; return its number."""

    def write_message_type(self, message_type: MessageType, data: str | bytes) -> int:
        """Send ``data`` as a message or control frame of the given type.

        :returns: the number of the last message.
        """

    def is_write_consumed(self, number: int) -> bool:
        """Return True if message ``number`` does not wait in this process any more.

        The message was handed to the operating system whole, or the overflow policy dropped it,
        or the connection has ended.
        """

    def wait_write_consumed(self, number: int, timeout: float | None = None) -> bool:
        """Wait until ``is_write_consumed(number)`` is true.

        A producer of many messages keeps pace with one client this way.

        :param timeout: seconds; None waits without limit.
        :returns: True if the message is consumed, False if the time is up.
        :raises WrongThread: on the hub thread, which may not wait for a socket, and in a tick of
            a room, because the message leaves only at the end of the tick.
        :raises UsageError: for a number that no message has yet.
        """

    @overload
    def request(self, header: Any, obj: object, timeout: float = ...) -> Any: ...
    @overload
    def request(self, header: Any, obj: object, timeout: float = ..., *, into: type[T]) -> T: ...
    @overload
    def request(
        self,
        header: Any,
        obj: object,
        timeout: float = ...,
        *,
        into: Any = ...,
        then: Callable[[Any, Any, Any], object],
    ) -> None: ...
    def request(
        self,
        header: Any,
        obj: object,
        timeout: float = 10.0,
        *,
        into: Any = Any,
        then: Callable[[Any, Any, Any], object] | None = None,
    ) -> Any:
        """Send a request to the client, wait for its answer and return the answer's payload.

        The request is ``obj`` behind ``header``, with an id.  A message that comes back with the
        same id is the answer, whatever its header.  The matcher must carry ids, such as
        ``JsonHeader(id_field="id")``.

        The answer keeps its place in the order of the client's messages.  ``on_receive_message``
        sees it, but no handler does.  An answer that comes too late is logged at debug level.

        :param timeout: seconds.
        :param into: the type of the result, as in a handler's annotation, except ``bytes``.  By
            default the result is the decoded value.
        :param then: a function ``(ctx, meta, answer)``.  With it the call returns None at once, on
            every thread, and ``then`` runs as a callback of the client.  If there is no answer,
            ``answer`` is the error: a ``ClientClosed``, ``ExecTimeout`` or ``PayloadError``.
        :raises ClientClosed: if the client has left, or leaves meanwhile.
        :raises ExecTimeout: if the time is up; its text has the stack of the client's callback.
        :raises PayloadError: if the answer does not fit ``into``.
        :raises DeadlockError: in the client's own callbacks, and if the client waits for this
            thread: the answer could never be read.
        :raises WrongThread: on the hub thread, and in a tick.
        :raises QueueFull: if ``chan_queue_size`` requests to this client wait for answers.
        :raises HandleAnyNotPtr: if ``into`` cannot be the type of an answer; nothing is sent.
        :raises UsageError: if there is no matcher, or its messages carry no ids.
        """

    def close(self, code: int = 1000, reason: str = "", retry: float | None = None) -> None:
        """Close the connection; return at once.

        Messages already written to this client are sent first.  A push to one of its rooms may
        still be on its way and is then lost: use ``write`` for the last message.

        A raw peer is not told the code.  A TCP peer sees the end of the stream; a UDP peer is
        told nothing.

        :param code: a ``CloseCode``, which tells the client when to come back, or another code
            that an endpoint may send (RFC 6455 section 7.4).
        :param reason: text for the peer; at most 123 bytes of UTF-8 are sent.
        :param retry: seconds in which the client comes back, at a random time.  Name it where
            many clients are closed together: 1,000 that come back within 8 seconds are 125
            handshakes a second.  It is written at the end of the reason.
        :raises ValueError: for a code that must not be sent, and for ``retry`` with a code
            after which a client does not come back by itself.
        """

    def hub_broadcast(self, data: str | bytes, *, key: Key | None = None) -> int:
        """Send to every client of the hub, this one included; return the broadcast's number."""

    def statistics(self) -> ClientStatistics:
        """Return a snapshot of the client's figures: sent, received, waiting, dropped."""

    def exec_async(self, work: Callable[[], object]) -> None:
        """Run ``work`` in the order of this client's callbacks; return at once.

        It may run on another thread than the callbacks, so thread-local state, such as a
        connection of ``sqlite3``, is not there.  An exception of ``work`` is logged.

        :raises ClientClosed: if the close callback is already queued.
        :raises QueueFull: if ``chan_queue_size`` closures of this client wait.
        """

    def exec_sync(self, work: Callable[[], T], timeout: float | None = None) -> T:
        """Run ``work`` in the order of this client's callbacks and return its result.

        An exception of ``work`` is raised here.  Inside one of the client's own callbacks
        ``work`` runs at once.

        :param timeout: seconds; None waits without limit.
        :raises ClientClosed: if the close callback is already queued.
        :raises QueueFull: if ``chan_queue_size`` closures of this client wait.
        :raises DeadlockError: if the client waits for this thread.
        :raises ExecTimeout: if the time is up; its text has the stack of the client's callback.
            ``work`` still runs.
        """


class IHotline(Protocol):
    """A room, as handlers see it (``IHotline``).

    ``hub.hotline()`` makes one.  ``Hotline`` and ``SilentHotline`` are the implementations;
    ``Hotline`` describes each method in full.

    Threads: every method may be called on any thread, except where it says otherwise.
    """

    name: str
    """The name given in ``HotlineOption``."""

    data: Any
    """Data of the program about the room; None at first."""

    @property
    def hotline_id(self) -> HotlineID:
        """The room's number in its hub."""

    @property
    def hub(self) -> IHub:
        """The hub that the room belongs to."""

    @property
    def logger(self) -> logging.Logger:
        """The hub's logger."""

    @property
    def context(self) -> Context:
        """A context that is cancelled when the room closes, or the hub."""

    @property
    def is_closed(self) -> bool:
        """True once the room is closed."""

    @property
    def members_num(self) -> int:
        """The number of members."""

    @property
    def members(self) -> Sequence[IOContext]:
        """The members, oldest first."""

    def answer(self, ctx: IOContext, *, first: str | bytes | None = None) -> None:
        """Let a client in: it gets every push accepted from now on.

        :param first: a message that the client gets before these pushes.
        :raises ContextNotClient: for anything but a client.
        :raises HotlineFull: if the room has ``HotlineOption.max_members`` members.
        :raises TooManyRooms: if the client is in ``Limits.rooms_per_client`` rooms.
        :raises HotlineClosed: after the end of the room.
        :raises HubClosed: after the end of the hub.
        """

    def hangup(self, ctx: IOContext) -> None:
        """Let a client out: it still gets the pushes accepted so far.

        A client that disconnects leaves by itself.  A client that is not a member is ignored.

        :raises ContextNotClient: for anything but a client.
        """

    def push(
        self,
        data: str | bytes,
        *,
        key: Key | None = None,
        exclude: IOContext | Iterable[IOContext] | None = None,
    ) -> int:
        """Send a message to all members; return the push's number, at once.

        :param key: for ``Overflow.LATEST``: the message replaces a waiting message with the
            same key.
        :param exclude: a client, or several, that do not get it.
        :raises ContextNotClient: if ``exclude`` has anything but clients.
        :raises HotlineClosed: after the end of the room.
        :raises HubClosed: after the end of the hub.
        :raises QueueFull: if ``chan_queue_size`` pushes of the room wait.
        :raises ValueError: for text that UTF-8 cannot encode.
        """

    def push_json(
        self, obj: object, *, exclude: IOContext | Iterable[IOContext] | None = None
    ) -> int:
        """Send ``obj`` as JSON text to all members; return the push's number."""

    def push_splicing(
        self,
        prefix: str | bytes,
        obj: object,
        *,
        exclude: IOContext | Iterable[IOContext] | None = None,
    ) -> int:
        """Send ``prefix`` and the marshalled ``obj`` as one message; return the push's number."""

    @property
    def push_count(self) -> int:
        """The number of the last push.

        A shared room counts the pushes of all hubs; with Redis, a push counts once it is placed.
        """

    def is_push_consumed(self, number: int) -> bool:
        """Return True once push ``number`` waits for no member any more."""

    def wait_push_consumed(self, number: int, timeout: float | None = None) -> bool:
        """Wait until ``is_push_consumed(number)`` is true.

        :param timeout: seconds; None waits without limit.
        :returns: True if the push is consumed, False if the time is up.
        :raises WrongThread: on the hub thread and in a tick.
        """

    def each_client(
        self,
        task: Callable[[ClientID, IOContext, Any], T],
        *,
        wait_hub: bool = True,
        wait_clients: bool = True,
        timeout: float | None = None,
    ) -> Any:
        """Run ``task(client_id, ctx, meta)`` for each member; return an ``Iteration``."""

    def close(self) -> None:
        """Let all members out and refuse new ones; pushes accepted before are still sent."""

    def close_if_empty(self) -> bool:
        """Close the room if it has no member; return True if it is closed afterwards."""

    def statistics(self) -> HotlineStatistics:
        """Return a snapshot of the room's figures."""


class IHub(Protocol):
    """A hub, as handlers see it: ``ctx.hub`` and ``hotline.hub`` (``IHub``).

    ``Hub`` describes each method in full.

    Threads: every method may be called on any thread, except where it says otherwise.
    """

    @property
    def setting(self) -> Any:
        """The ``HubSetting`` that the hub was made with."""

    @property
    def name(self) -> str:
        """The hub's name in the log, in thread names and in statistics."""

    @property
    def logger(self) -> logging.Logger:
        """The logger that the hub writes to."""

    @property
    def context(self) -> Context:
        """A context that is cancelled when the hub closes."""

    @property
    def clock(self) -> Clock:
        """The clock of rooms and polls, which is virtual in ``hubthread.testing``."""

    @property
    def state(self) -> str:
        """``"new"``, ``"running"``, ``"draining"``, ``"closing"``, ``"closed"``, ``"failed"``."""

    def exec_async(self, work: Callable[[Any], object]) -> None:
        """Run ``work(dhub)`` on the hub thread; return at once."""

    def exec_sync(self, work: Callable[[Any], T], timeout: float | None = None) -> T:
        """Run ``work(dhub)`` on the hub thread; return its result or raise its exception.

        :param timeout: seconds; None waits without limit.
        """

    def broadcast(
        self,
        data: str | bytes,
        *,
        key: Key | None = None,
        exclude: IOContext | Iterable[IOContext] | None = None,
    ) -> int:
        """Send a message to every client; return the broadcast's number, at once."""

    def broadcast_json(
        self, obj: object, *, exclude: IOContext | Iterable[IOContext] | None = None
    ) -> int:
        """Send ``obj`` as JSON text to every client; return the broadcast's number."""

    def broadcast_with_filter(
        self, data: str | bytes, predicate: Callable[[Any, IOContext, Any], bool]
    ) -> None:
        """Send a message to every client for which ``predicate(hub, ctx, meta)`` is true."""

    def push(
        self,
        rooms: Iterable[Any],
        data: str | bytes,
        *,
        key: Key | None = None,
        exclude: IOContext | Iterable[IOContext] | None = None,
    ) -> list[int]:
        """Send a message to every client that is in any of the rooms, once."""

    def marshal(self, obj: object) -> str | bytes:
        """Return ``obj`` as a payload: encoded by the matcher, or as JSON without a matcher."""

    def unmarshal(self, data: str | bytes, into: Any) -> Any:
        """Return a payload as an object of type ``into``."""

    def byte_splicing(self, prefix: str | bytes, obj: object) -> str | bytes:
        """Return ``prefix`` followed by the marshalled ``obj``, of the type of ``prefix``."""

    def hotline(self, option: Any = None) -> IHotline:
        """Make a room; ``option`` is a ``HotlineOption`` or None."""

    def silent_hotline(self) -> IHotline:
        """Make a room that accepts every call and does nothing."""

    def long_polling(self, option: Any) -> Any:
        """Begin the poll of a ``LongPollingOption``; return its ``LongPollingResult``, at once."""

    def each_client(
        self,
        task: Callable[[ClientID, IOContext, Any], T],
        *,
        wait_hub: bool = True,
        wait_clients: bool = True,
        timeout: float | None = None,
    ) -> Any:
        """Run ``task(client_id, ctx, meta)`` for each client; return an ``Iteration``."""

    def client(self, connection_id: ClientID) -> IOContext | None:
        """Return the client of that id, or None if it is gone."""

    def clients(self) -> Sequence[IOContext]:
        """Return every client, oldest first."""

    def clients_num(self) -> int:
        """Return the number of clients."""

    def user(self, name: str) -> Any:
        """Return the ``User`` of that name: all clients whose ``ctx.user`` it is."""

    def users(self) -> Sequence[Any]:
        """Return every ``User`` that has a client."""

    def wait_add(self, count: int = 1) -> None:
        """Make ``close`` wait for ``count`` more calls of ``wait_done``."""

    def wait_done(self) -> None:
        """Report the end of one thing that ``close`` waits for."""

    def close(self, timeout: float = 10.0) -> None:
        """Close the hub within ``timeout`` seconds.

        In a handler and in a closure ``close`` returns at once, and another thread closes the
        hub.
        """

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the hub is closed; return False after ``timeout`` seconds."""

    def statistics(self) -> HubStatistics:
        """Return a snapshot of the hub's figures."""
