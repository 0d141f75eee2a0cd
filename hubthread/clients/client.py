"""The server's end of one connection, as users hold it.

Layer: hub.  Threads: callbacks run in the client's own order (G2), most on its reader;
everything else is for any thread.
Source: the specification's ``Client`` and ``IOContext``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Generic, TypeVar

from hubthread.checks import check_kind, check_work
from hubthread.clients.membership import Membership
from hubthread.clients.pending import PendingRequests, ask
from hubthread.concurrency.context import Context
from hubthread.concurrency.logs import log_safely
from hubthread.concurrency.strand import Strand
from hubthread.errors import Closed, MatcherError, TooManyRooms, UsageError
from hubthread.limits import RATE
from hubthread.matcher.compile import marshal_json
from hubthread.matcher.formats import ID
from hubthread.net.connection import GOING_AWAY, INTERNAL_ERROR, POLICY_VIOLATION
from hubthread.net.tick_batch import refuse_in_tick
from hubthread.protocol.frames import Frame, MessageType
from hubthread.statistics import ClientStatistics
from hubthread.types import ClientID, ConnectionType, Key, check_key

if TYPE_CHECKING:
    from hubthread.hub.hub import Hub
    from hubthread.matcher.matcher import MatcherMap, SubMatcher
    from hubthread.net.interfaces import Link
    from hubthread.protocol.request import Request

__all__ = ["Client"]

Meta = TypeVar("Meta")
Header = TypeVar("Header", bound=Hashable)
T = TypeVar("T")


class Client(Membership, Generic[Meta, Header]):
    """One client.  It satisfies ``IOContext``, where its methods are documented.

    Threads: the hub makes it, its connection calls the ``on_…`` methods on the reader.
    """

    __slots__ = (
        "__weakref__",
        "_context",
        "_frame",
        "_intercept",
        "_preprocess",
        "_questions",
        "_started",
        "connection_id",
        "handshake",
        "hub",
        "matcher",
        "meta",
        "payload",
        "subprotocol",
        "ws_conn",
    )

    connection_type = ConnectionType.WEBSOCKET

    ws_conn: Link

    def __init__(
        self, hub: Hub[Meta, Header], connection_id: ClientID, meta: Meta, request: Request
    ) -> None:
        self.hub = hub
        self.connection_id = connection_id
        self.meta = meta
        self.handshake = request
        self.subprotocol: str | None = None
        self.matcher: MatcherMap[Meta, Header] | SubMatcher[Meta, Header] | None = (
            hub.setting.receive_matcher
        )
        setting = hub.setting
        # Its own references to what each message needs: those to the hub are shared.
        self._frame = hub.frame
        self._intercept = hub.intercept
        self._preprocess = setting.websocket_period.read_buffer_preprocessing
        # The reader's.
        self.payload: str | bytes = b""
        self.received = 0
        self._started = False
        self._strand = Strand(
            hub.workers, hub.setting.chan_queue_size, self._report, f"client {connection_id}"
        )
        super().__init__()
        # Guarded by its lock:
        self._context: Context | None = None
        self._questions: PendingRequests | None = None

    # What users call.

    @property
    def logger(self) -> logging.Logger:
        """The hub's logger."""
        return self.hub.logger

    @property
    def context(self) -> Context:
        """Cancelled when the connection ends, or the hub."""
        # Made when first asked for: an idle client should be small.
        with self._lock:
            if self._context is None:
                self._context = Context(self.hub.context)
                if self._gone:
                    self._context.cancel("the connection has ended")
            return self._context

    @property
    def write_count(self) -> int:
        """The number of the last message written or pushed to this client."""
        return self.ws_conn.outbox.count

    def write(self, data: str | bytes, *, key: Key | None = None) -> int:
        """Send text (``str``) or binary (``bytes``); its number, at once.  See ``IOContext``."""
        if key is not None:
            check_key(key)
        return self.ws_conn.send(self._frame(data), key)

    def write_string(self, text: str) -> int:
        """Send a text message; its number."""
        return self.ws_conn.send(self._frame(text))

    def write_json(self, obj: object) -> int:
        """Send ``obj`` as JSON text; its number."""
        return self.write(marshal_json(obj))

    def write_serialization(self, obj: object) -> int:
        """Send ``obj`` as the matcher encodes it; its number."""
        return self.write(self.hub.marshal(obj))

    def write_splicing(self, prefix: str | bytes, obj: object) -> int:
        """Send ``prefix`` and the encoded ``obj`` as one message; its number."""
        return self.write(self.hub.byte_splicing(prefix, obj))

    def write_message_type(self, message_type: MessageType, data: str | bytes) -> int:
        """Send a message, or control frame, of the type given; the last number."""
        if message_type == MessageType.CLOSE:
            self.close(1000, data if isinstance(data, str) else data.decode(errors="replace"))
        elif message_type > MessageType.BINARY:
            self.ws_conn.send_control(Frame(data, MessageType(message_type)))
        else:
            return self.ws_conn.send(self._frame(data, MessageType(message_type)))
        return self.write_count

    def is_write_consumed(self, number: int) -> bool:
        """Whether message ``number`` waits no more.  See ``IOContext``."""
        return self.ws_conn.outbox.is_consumed(number)

    def wait_write_consumed(self, number: int, timeout: float | None = None) -> bool:
        """Wait for that, ``timeout`` seconds at most; whether it is so.  See ``IOContext``."""
        self.hub.loop.refuse_here("wait_write_consumed")
        refuse_in_tick("wait_write_consumed")
        if number > self.write_count:
            raise UsageError(
                f"no message {number} was written yet: {self.write_count} is the last"
            )
        return self.ws_conn.outbox.wait_consumed(number, timeout)

    request = ask

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection; returns at once.  See ``IOContext``."""
        check_kind("reason", reason, str, "text")
        self.ws_conn.close(code, reason)

    def hub_broadcast(self, data: str | bytes, *, key: Key | None = None) -> int:
        """Send to every client of the hub, this one included."""
        return self.hub.broadcast(data, key=key)

    def exec_async(self, work: Callable[[], object]) -> None:
        """Run ``work`` in the order of this client's callbacks.  See ``IOContext``."""
        check_work(work)
        self._strand.post(work)

    def exec_sync(self, work: Callable[[], T], timeout: float | None = None) -> T:
        """Run ``work`` in that order and return its result.  See ``IOContext``."""
        check_work(work)
        return self._strand.call(work, timeout)

    def statistics(self) -> ClientStatistics:
        """What is to be known of this client now."""
        outbox = self.ws_conn.outbox
        waiting, waiting_bytes = outbox.waiting()
        with self._lock:
            hotlines = len(self._rooms)
        return ClientStatistics(
            connection_id=self.connection_id,
            peer=str(self.handshake.peer),
            state=self.ws_conn.ended_by or "open",
            received=self.received,
            written=outbox.count,
            waiting=waiting,
            waiting_bytes=waiting_bytes,
            dropped=self.ws_conn.dropped,
            hotlines=hotlines,
            closures_waiting=self._strand.waiting(),
        )

    def __repr__(self) -> str:
        state = self.ws_conn.ended_by or "open"
        # The path is the peer's to choose, so it is quoted and cut: this goes into logs.
        return f"<Client {self.connection_id} {state} {self.handshake.path[:100]!r}>"

    # What the connection calls, on the reader: see connection.Sink.

    def begin(self) -> None:
        """Join the hub, then the first callback, on the reader.

        If the user's raises, there is no client to go on with.  One that comes while the
        hub closes is told so; as it has never started, the user does not hear of its end.
        """
        self._strand.enter()  # before anybody can see it, and so queue a closure
        try:
            self._begin()
        finally:
            self._strand.leave()

    def _begin(self) -> None:
        """In its turn."""
        callback = self.hub.setting.on_connection_start
        try:
            self.hub.registry.admit(self)
            self._started = True
            if callback is not None:
                callback(self, self.meta)
        except BaseException as error:  # noqa: BLE001 - told to the peer, or to the log
            self.note(error)
            if not self._started and isinstance(error, Closed):
                self.ws_conn.close(GOING_AWAY, "the server is going away")
            else:
                text = "on_connection_start raised for %r: closing it"
                self.hub.incidents.log_exception(error, text, self)
                self.ws_conn.close(INTERNAL_ERROR, "the server could not begin")

    def enter(self) -> None:
        """Take this client's turn."""
        self._strand.enter()

    def leave(self) -> None:
        """End the turn."""
        self.payload = b""  # or each idle client would keep its last message alive
        self._strand.leave()

    def on_message(self, message: str | bytes) -> None:
        """Hand a message to the interceptor and the matcher, and write the reply."""
        self.received += 1
        try:
            if self._preprocess is not None:
                message = self._preprocess(message)
            self.payload = message
            if self._intercept is not None and self._intercept(self, self.meta) is False:
                return
            if self.matcher is not None:
                reply = self.matcher.dispatch(self, self.meta, message)
                if reply is not None:
                    self.write(reply)
        except BaseException as error:  # noqa: BLE001 - told to the user or the log
            self._failed(error)

    def talks_too_much(self) -> None:
        """It has sent more messages than it may."""
        rate = self.hub.setting.limits.messages_per_second
        reason = f"more than {rate:g} messages a second"
        self.ws_conn.close(POLICY_VIOLATION, reason, ended_by="violation", limit=RATE)

    def _set_payload(self, payload: str | bytes) -> None:
        """From the matcher: the payload without its header."""
        self.payload = payload

    def questions(self) -> PendingRequests:
        """What was asked and not answered yet; made when first asked for."""
        with self._lock:
            if self._questions is None:
                self._questions = PendingRequests(
                    self.hub.setting.chan_queue_size, self._strand.name
                )
                if self._gone:
                    self._questions.close()
            return self._questions

    def _take_answer(self, number: ID, payload: object) -> None:
        """From the matcher: the answer to a question of ours, perhaps too late."""
        if not self.questions().answer(number, payload):
            log_safely(
                self.logger, logging.DEBUG, "%r: nobody waits for an answer that has come", self
            )

    def note(self, error: BaseException) -> None:
        """A callback of the user's raised, in its turn; for integrations, which may have to know.

        Not called for closures, which raise through what an integration puts around them.
        """

    def _failed(self, error: BaseException) -> None:
        self.note(error)
        handler = self.hub.setting.receive_matcher_error
        if handler is not None and isinstance(error, Exception):
            try:
                handler(self, self.meta, error)
            except BaseException as another:  # noqa: BLE001 - told to the log
                self.hub.incidents.log_exception(
                    another, "receive_matcher_error raised for %r", self
                )
        elif isinstance(error, TooManyRooms):
            pass  # the log was told when it struck
        elif isinstance(error, MatcherError):
            self.hub.incidents.log_unroutable(error, self)
        else:
            self.hub.incidents.log_exception(error, "a handler of %r raised", self)

    def on_ping(self, payload: bytes) -> None:
        """Tell the user's ping handler.  A ping counts as a message where these are limited."""
        limiter = self.hub.limiter
        if limiter is not None and not limiter(self, self.meta):
            self.talks_too_much()
            return
        handler = self.hub.setting.websocket_period.ping_pong_plan.ping_handler
        if handler is not None:
            self._call(lambda: handler(self, self.meta, payload))

    def on_pong(self, payload: bytes) -> None:
        """Tell the user's pong handler."""
        handler = self.hub.setting.websocket_period.ping_pong_plan.pong_handler
        if handler is not None and self._started:
            self._call(lambda: handler(self, self.meta, payload))

    def on_leaving(self) -> None:
        """Leave every room: nothing is pushed to this client any more."""
        # Counted first: whoever sees the context cancelled finds the end in the statistics.
        if self.ws_conn.limit is not None:
            self.hub.incidents.count_limit(self.ws_conn.limit)
        self.hub.registry.forget(self)
        with self._lock:
            self._gone = True
            rooms = list(self._rooms)
            context, questions = self._context, self._questions
        if questions is not None:
            questions.close()
        for room in rooms:
            self.leave_room(room)
        if context is not None:
            self._call(lambda: context.cancel("the connection has ended"))

    def on_closed(self) -> None:
        """The last callback."""
        self._log_end()
        self._strand.close(self._tell_end)

    def _log_end(self) -> None:
        connection = self.ws_conn
        expected = connection.code in self.hub.setting.websocket_period.expected_ws_error
        text, args = "%r closed: %s %r", (self, connection.code, connection.reason)
        level = logging.INFO if expected else logging.WARNING
        kind = connection.limit or connection.ended_by  # not the code: a peer has thousands
        if connection.limit is not None or connection.ended_by == "violation" or not expected:
            self.hub.incidents.log_limited(kind, level, text, *args)

    def _tell_end(self) -> None:
        """In its turn, the last one."""
        callback = self.hub.setting.on_connection_close
        if callback is not None and self._started:
            with self.hub.registry.busy(self):
                self._call(lambda: callback(self, self.meta))

    def _call(self, callback: Callable[[], object]) -> None:
        try:
            callback()
        except BaseException as error:  # noqa: BLE001 - told to the log
            self._report(error)

    def _report(self, error: BaseException) -> None:
        self.hub.incidents.log_exception(error, "a callback of %r raised", self)
