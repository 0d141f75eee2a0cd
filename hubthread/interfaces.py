"""The client, the hub and the hotline as handlers see them.

Layer: interfaces.  Threads: a method may be called on any thread, unless it says otherwise.
Source: the specification's ``IOContext``, ``IHub`` and ``IHotline``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload

if TYPE_CHECKING:
    import logging

    from hubthread.concurrency.clock import Clock
    from hubthread.concurrency.context import Context
    from hubthread.net.interfaces import Link
    from hubthread.protocol.frames import MessageType
    from hubthread.protocol.request import Request
    from hubthread.statistics import ClientStatistics, HotlineStatistics, HubStatistics
    from hubthread.types import ClientID, ConnectionType, HotlineID, Key

__all__ = ["IHotline", "IHub", "IOContext"]

T = TypeVar("T")


class IOContext(Protocol):
    """One client, as its handlers and everybody else sees it.

    Writing never blocks on the peer and never raises because the peer is gone: a client
    may vanish at any moment, and its close callback says so.
    """

    @property
    def payload(self) -> str | bytes:
        """The message being handled; in a matcher's handler, without its header.

        Only meaningful in this client's own callbacks.
        """

    @property
    def connection_id(self) -> ClientID:
        """The client's number in its hub; never given to another client."""

    @property
    def connection_type(self) -> ConnectionType:
        """What kind of connection it is."""

    @property
    def meta(self) -> Any:
        """What ``meta_gen`` or the handshake hook made for this client."""

    @property
    def hub(self) -> IHub:
        """The hub that the client belongs to."""

    @property
    def handshake(self) -> Request:
        """The request that became this connection: path, query, headers, cookies, peer.

        Of a raw peer: the method ``"TCP"`` or ``"UDP"``, the peer's address, and no headers.
        """

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol agreed on in the handshake."""

    matcher: Any
    """What handles this client's messages; a ``SubMatcher`` may take its place, from the
    client's own callbacks: it gets the next message."""

    @property
    def logger(self) -> logging.Logger:
        """The hub's logger."""

    @property
    def context(self) -> Context:
        """Cancelled when the connection ends, or the hub."""

    @property
    def ws_conn(self) -> Link:
        """The connection, for what this interface does not cover."""

    @property
    def write_count(self) -> int:
        """The number of the last message written or pushed to this client."""

    def write(self, data: str | bytes, *, key: Key | None = None) -> int:
        """Send a text message (``str``) or a binary one (``bytes``).

        ``key`` is for ``Overflow.LATEST``: a waiting message of the same key is replaced.
        Writes from one thread arrive in order.  Between a write and a push of a room that
        the client is in, no order is promised.

        :returns: the message's number, at once.
        :raises ValueError: for text that UTF-8 cannot carry.
        """

    def write_string(self, text: str) -> int:
        """Send a text message."""

    def write_json(self, obj: object) -> int:
        """Send ``obj`` as JSON text: JSON's own types, dataclasses, enums, mappings."""

    def write_serialization(self, obj: object) -> int:
        """Send ``obj`` as the matcher's ``marshal`` encodes it; JSON without a matcher."""

    def write_splicing(self, prefix: str | bytes, obj: object) -> int:
        """Send ``prefix`` and the encoded ``obj`` as one message."""

    def write_message_type(self, message_type: MessageType, data: str | bytes) -> int:
        """Send ``data`` as a message, or control frame, of the type given."""

    def is_write_consumed(self, number: int) -> bool:
        """Whether message ``number`` waits here no more.

        It was handed to the operating system whole, or dropped by the overflow policy,
        or the connection has ended.
        """

    def wait_write_consumed(self, number: int, timeout: float | None = None) -> bool:
        """Wait for that, ``timeout`` seconds at most; whether it is so.

        How a producer of much keeps pace with one client.

        :raises WrongThread: on the hub thread, which may not wait for a socket, and in a
            tick of a room, at whose end the message leaves.
        :raises UsageError: for a number that no message has yet.
        """

    @overload
    def request(self, header: Any, obj: object, timeout: float = ...) -> Any: ...
    @overload
    def request(self, header: Any, obj: object, timeout: float = ..., *, into: type[T]) -> T: ...
    def request(self, header: Any, obj: object, timeout: float = 10.0, *, into: Any = Any) -> Any:
        """Ask the client something, and wait for its answer; the answer's payload.

        The message is ``obj`` behind ``header`` with an id, and what comes back with that
        id is the answer, whatever its header: for a matcher with
        ``JsonHeader(id_field="id")``, or a format like it.  It takes its turn among the
        client's messages, ``on_receive_message`` sees it too, and no handler does.  One
        that comes too late is logged at debug.

        :param timeout: seconds.
        :param into: what the answer is unmarshalled into, as for a handler, but for
            ``bytes``; by default the decoded value.
        :raises ClientClosed: when the client has left, or leaves meanwhile.
        :raises ExecTimeout: with the stack of what the client's callbacks are doing.
        :raises PayloadError: when the answer does not fit ``into``.
        :raises DeadlockError: in the client's own callbacks, and where the client waits
            for this thread: the answer could never be read.
        :raises WrongThread: on the hub thread, and in a tick.
        :raises QueueFull: when ``chan_queue_size`` questions wait for this client.
        :raises HandleAnyNotPtr: for an ``into`` that no answer becomes; nothing is asked.
        :raises UsageError: for a matcher whose messages carry no ids, or none.
        """

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection: what waits here is sent first; returns at once.

        That is what was written to it.  A push to one of its rooms may still be on its way,
        in a tick until the tick's end, and then it is not sent: write the last word.

        A raw peer is not told the code: over TCP it sees the end of the stream, over UDP
        nothing.

        :raises ValueError: for a code that must not be sent (RFC 6455 section 7.4).
        """

    def hub_broadcast(self, data: str | bytes, *, key: Key | None = None) -> int:
        """Send to every client of the hub, this one included; the broadcast's number."""

    def statistics(self) -> ClientStatistics:
        """What is to be known of this client now: what waits, what was dropped, and more."""

    def exec_async(self, work: Callable[[], object]) -> None:
        """FrameBatch ``work`` in the order of this client's callbacks; returns at once.

        What it raises is logged.

        :raises ClientClosed: when the close callback is already queued.
        :raises QueueFull: when ``chan_queue_size`` closures wait.
        """

    def exec_sync(self, work: Callable[[], T], timeout: float | None = None) -> T:
        """FrameBatch ``work`` in the order of this client's callbacks and return its result.

        Inside one of the client's own callbacks it runs at once.

        :param timeout: seconds.
        :raises ClientClosed, QueueFull: as ``exec_async``.
        :raises DeadlockError: when the client waits for this thread.
        :raises ExecTimeout: with the stack of what the client is doing; the work still runs.
        """


class IHotline(Protocol):
    """A room, as handlers see it; ``hubthread.Hotline`` documents each method."""

    name: str

    @property
    def hotline_id(self) -> HotlineID:
        """The hotline's number in its hub."""

    @property
    def hub(self) -> IHub:
        """The hub that the hotline belongs to."""

    @property
    def context(self) -> Context:
        """A context that is cancelled when the hotline or the hub closes."""

    @property
    def is_closed(self) -> bool:
        """True once the hotline is closed."""

    @property
    def members_num(self) -> int:
        """The number of members."""

    @property
    def members(self) -> Sequence[IOContext]:
        """The members, oldest first."""

    def answer(self, ctx: IOContext) -> None:
        """Let a client in."""

    def hangup(self, ctx: IOContext) -> None:
        """Let a client out."""

    def push(self, data: str | bytes, *, key: Key | None = None) -> int:
        """Send a message to all members; return the push's number."""

    def push_json(self, obj: object) -> int:
        """Send ``obj`` as JSON text to all members; return the push's number."""

    def push_splicing(self, prefix: str | bytes, obj: object) -> int:
        """Send ``prefix`` and the marshalled ``obj`` as one message; return its number."""

    def close(self) -> None:
        """Let everybody out and refuse new members."""

    def close_if_empty(self) -> bool:
        """Close the hotline if it has no member; return True if it is closed afterwards."""

    def statistics(self) -> HotlineStatistics:
        """Return a snapshot of the hotline's figures."""


class IHub(Protocol):
    """A hub, as handlers see it; ``hubthread.Hub`` documents each method."""

    @property
    def setting(self) -> Any:
        """The ``HubSetting`` that the hub was made with."""

    @property
    def name(self) -> str:
        """The hub's name in logs and statistics."""

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
        """``new``, ``running``, ``closing``, ``closed`` or ``failed``."""

    def exec_async(self, work: Callable[[Any], object]) -> None:
        """Run ``work(dhub)`` on the hub thread; return at once."""

    def exec_sync(self, work: Callable[[Any], T], timeout: float | None = None) -> T:
        """Run ``work(dhub)`` on the hub thread and return its result."""

    def broadcast(self, data: str | bytes, *, key: Key | None = None) -> int:
        """Send a message to every client; return the broadcast's number."""

    def broadcast_with_filter(
        self, data: str | bytes, predicate: Callable[[Any, IOContext, Any], bool]
    ) -> None:
        """Send a message to every client for which ``predicate(hub, ctx, meta)`` is true."""

    def marshal(self, obj: object) -> str | bytes:
        """Return ``obj`` as a payload."""

    def unmarshal(self, data: str | bytes, into: Any) -> Any:
        """Return a payload as an object of type ``into``."""

    def byte_splicing(self, prefix: str | bytes, obj: object) -> str | bytes:
        """Return ``prefix`` followed by the marshalled ``obj``."""

    def hotline(self, option: Any = None) -> IHotline:
        """Make a hotline; ``option`` is a ``HotlineOption``."""

    def silent_hotline(self) -> IHotline:
        """Make a hotline that accepts every call and does nothing."""

    def long_polling(self, option: Any) -> Any:
        """Begin a poll; ``option`` is a ``LongPollingOption``."""

    def each_client(
        self,
        task: Callable[[ClientID, IOContext, Any], T],
        *,
        wait_hub: bool = True,
        wait_clients: bool = True,
        timeout: float | None = None,
    ) -> Any:
        """Run ``task(client_id, ctx, meta)`` for each client, in each client's own order."""

    def clients(self) -> Sequence[IOContext]:
        """Return every client, oldest first."""

    def clients_num(self) -> int:
        """Return the number of clients."""

    def wait_add(self, count: int = 1) -> None:
        """Make ``close`` wait for ``count`` more calls of ``wait_done``."""

    def wait_done(self) -> None:
        """Report one thing done that ``close`` waits for."""

    def close(self, timeout: float = 10.0) -> None:
        """Close the hub within ``timeout`` seconds."""

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the hub is closed; return True if it is."""

    def statistics(self) -> HubStatistics:
        """Return a snapshot of the hub's figures."""
