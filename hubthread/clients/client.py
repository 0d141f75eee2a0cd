"""One client: the server's end of one connection, as programs hold it.

Layer: clients.  Threads: callbacks run one at a time, in the client's own order, most of them on
its reader thread.  Every other method may be called on any thread.
Source: the specification's ``Client`` and ``IOContext``.
"""

from __future__ import annotations

import contextvars
import logging
import threading
from collections.abc import Callable, Hashable
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeAlias, TypeVar, cast, overload

from hubthread.checks import check_kind, check_serial, check_timeout, check_work, checked
from hubthread.clients import reports
from hubthread.clients.around import around_of
from hubthread.clients.asking import ask
from hubthread.clients.membership import Memberships
from hubthread.clients.pending import PendingRequests
from hubthread.concurrency.calls import thread_id
from hubthread.concurrency.context import Context
from hubthread.concurrency.essential import run_essential
from hubthread.concurrency.habits import Habits
from hubthread.concurrency.logs import LogName, log_safely
from hubthread.concurrency.strand import Strand
from hubthread.core.core import Core
from hubthread.core.push_log import PushLog
from hubthread.errors import WrongValue
from hubthread.interfaces import IOContext
from hubthread.limits import RATE
from hubthread.matcher.compile import marshal_json
from hubthread.matcher.matcher import Answer, HandlerCall, Recipient
from hubthread.net.connection import POLICY_VIOLATION
from hubthread.net.tick_batch import catch_up, refuse_in_tick
from hubthread.nodes import Address
from hubthread.protocol.close_codes import advised_reason
from hubthread.protocol.frames import Frame, MessageType, check_message_type
from hubthread.statistics import ClientStatistics
from hubthread.types import ClientID, ConnectionType, Key, check_key

if TYPE_CHECKING:
    from hubthread.clients.admission import Admission
    from hubthread.concurrency.calls import Call
    from hubthread.concurrency.workers import Pool
    from hubthread.interfaces import IHub
    from hubthread.matcher.matcher import MatcherMap, SubMatcher
    from hubthread.net.interfaces import Link
    from hubthread.protocol.batch import FrameBatch
    from hubthread.protocol.request import Request

__all__ = ["Client", "Returning"]

Meta = TypeVar("Meta")
Header = TypeVar("Header", bound=Hashable)
T = TypeVar("T")

Then: TypeAlias = Callable[[Any, Any, Any], object]


class Returning(Protocol):
    """A client that was in another hub before (``hub.session_moves``)."""

    number: ClientID

    def load(self, client: Any) -> Any:
        """Return its meta."""

    def enter(self, client: Any, meta: Any) -> object:
        """Let it into its rooms, and tell the program: in the place of the start callback."""


_SHOWN = frozenset(dir(IOContext)) | IOContext.__annotations__.keys()
"""The names that ``dir`` shows."""


class Client(Recipient, Generic[Meta, Header]):
    """One client: the implementation of ``IOContext``, which documents the methods.

    Threads: every method of ``IOContext`` may be called on any thread.  The connection calls
    ``begin``, ``enter``, ``leave`` and the ``on_…`` methods on the client's reader thread.

    :param request: the request that opened the connection.
    :param pool: runs the closures that find the client idle; by default the hub's workers.
    :param variables: the context that all callbacks of the client run in; a new one by default.
    """

    __slots__ = (
        "__weakref__", "_around", "_context", "_core", "_lock", "_make_frame", "_pending",
        "_preprocess", "_rooms", "_started", "_strand", "admission", "connection_id", "habits",
        "handshake", "intercept", "matcher", "meta", "on_rooms", "payload", "received",
        "returning", "running", "since", "subprotocol", "user", "ws_conn",
    )  # fmt: skip

    connection_type = ConnectionType.WEBSOCKET
    kind = "websocket"

    ws_conn: Link

    def __init__(
        self,
        core: Core[Meta, Header],
        connection_id: ClientID,
        meta: Meta,
        request: Request,
        pool: Pool | None = None,
        variables: contextvars.Context | None = None,
    ) -> None:
        setting = core.setting
        self._core = core
        self.connection_id = connection_id
        self.meta = meta
        self.handshake = request
        self.subprotocol: str | None = None
        self.user: str | None = None
        self.admission: Admission | None = None
        self.returning: Returning | None = None
        self.on_rooms: Callable[[], object] | None = None
        self.matcher: MatcherMap[Meta, Header] | SubMatcher[Meta, Header] | None = (
            setting.receive_matcher
        )
        # Copies of references that each message needs: see "Free threading" in the docstring of
        # ``concurrency``.
        self._make_frame = core.make_frame
        self.intercept = core.intercept
        self._preprocess = setting.websocket_period.read_buffer_preprocessing
        self._around = around_of(self, core)
        self._rooms = Memberships(self, setting.limits.rooms_per_client)
        # The reader thread's.
        self.payload: str | bytes = b""
        self.received = 0
        self.since = core.clock.now()
        self._started = False
        # For shared threads: see ``net.steps.Shared``.
        self.habits: Habits | None = None
        self.running: object = None
        self._strand = Strand(
            pool or core.workers, setting.chan_queue_size, self._report, f"client {connection_id}"
        )
        if variables is not None:
            self._strand.variables = variables
        self._lock = threading.RLock()  # guards what follows
        # Both are made at their first use, so that an idle client stays small.
        self._context: Context | None = None
        self._pending: PendingRequests | None = None

    # For the program.

    @property
    def hub(self) -> IHub:
        """The hub that the client belongs to."""
        return self._core.hub

    @property
    def logger(self) -> logging.Logger:
        """The hub's logger."""
        return self._core.logger

    @property
    def context(self) -> Context:
        """A context that is cancelled when the connection ends, or the hub."""
        with self._lock:
            if self._context is None:
                self._context = Context(self._core.context)
                if self._rooms.ended:
                    self._context.cancel("the connection has ended")
            return self._context

    @property
    def is_away(self) -> bool:
        """True while its connection is lost and it may come back.  See ``IOContext``."""
        return self.ws_conn.ended_by == "away"

    @property
    def hotlines(self) -> tuple[Any, ...]:
        """The rooms that the client is in, oldest first.  See ``IOContext``."""
        return self._rooms.hotlines()

    @property
    def write_count(self) -> int:
        """The number of the last message written or pushed to this client."""
        return self.ws_conn.outbox.count

    def write(self, data: str | bytes, *, key: Key | None = None) -> int:
        """Send text (``str``) or binary (``bytes``); return the number.  See ``IOContext``."""
        if key is not None:
            check_key(key)
        return self.ws_conn.send(self._make_frame(data), key)

    def write_string(self, text: str) -> int:
        """Send a text message; return its number."""
        return self.ws_conn.send(self._make_frame(text))

    def write_json(self, obj: object) -> int:
        """Send ``obj`` as JSON text; return the message's number."""
        return self.write(marshal_json(obj))

    def write_serialization(self, obj: object) -> int:
        """Send ``obj`` as the matcher encodes it; return the message's number."""
        return self.write(self.hub.marshal(obj))

    def write_splicing(self, prefix: str | bytes, obj: object) -> int:
        """Send ``prefix`` and the marshalled ``obj`` as one message; return its number."""
        return self.write(self.hub.byte_splicing(prefix, obj))

    def write_message_type(self, message_type: MessageType, data: str | bytes) -> int:
        """Send a message or control frame of the given type; return the last number."""
        kind = check_message_type(message_type)
        if kind is MessageType.CLOSE:
            self.close(1000, data if isinstance(data, str) else data.decode(errors="replace"))
        elif kind > MessageType.BINARY:
            self.ws_conn.send_control(Frame(data, kind))
        else:
            return self.ws_conn.send(self._make_frame(data, kind))
        return self.write_count

    def is_write_consumed(self, number: int) -> bool:
        """Return True if message ``number`` no longer waits here.  See ``IOContext``."""
        check_serial(number)
        return self.ws_conn.outbox.is_consumed(number)

    def wait_write_consumed(self, number: int, timeout: float | None = None) -> bool:
        """Wait until message ``number`` no longer waits here.  See ``IOContext``."""
        check_serial(number)
        check_timeout(timeout)
        self._core.loop.refuse_here("wait_write_consumed")
        refuse_in_tick("wait_write_consumed")
        last = self.write_count
        if number > last:
            raise WrongValue(f"expected the number of a message, {last} at most, got {number}")
        return self.ws_conn.outbox.wait_consumed(number, timeout)

    @overload
    def request(self, header: Header, obj: object, timeout: float = ...) -> Any: ...
    @overload
    def request(
        self, header: Header, obj: object, timeout: float = ..., *, into: type[T]
    ) -> T: ...
    @overload
    def request(
        self,
        header: Header,
        obj: object,
        timeout: float = ...,
        *,
        into: Any = ...,
        then: Then,
    ) -> None: ...
    def request(
        self,
        header: Header,
        obj: object,
        timeout: float = 10.0,
        *,
        into: Any = Any,
        then: Then | None = None,
    ) -> Any:
        """Send a request and return the client's answer.  See ``IOContext``."""
        return ask(self, header, obj, timeout, into, then)

    def close(self, code: int = 1000, reason: str = "", retry: float | None = None) -> None:
        """Close the connection; return at once.  See ``IOContext``."""
        check_kind("reason", reason, str, "text")
        reason = advised_reason(code, reason, retry)
        catch_up()
        self.ws_conn.close(code, reason)

    @property
    def address(self) -> Address:
        """The client's name among the clients of all hubs.  See ``IOContext``."""
        return Address(self._core.sharing.node, self.connection_id)

    def hub_broadcast(self, data: str | bytes, *, key: Key | None = None) -> int:
        """Send to every client of the hub; return the broadcast's number."""
        return self.hub.broadcast(data, key=key)

    def exec_async(self, work: Callable[[], object]) -> None:
        """Run ``work`` in the order of this client's callbacks.  See ``IOContext``."""
        check_work(work)
        self._strand.post(work if self._around is None else partial(self._around.run, work))

    def exec_sync(self, work: Callable[[], T], timeout: float | None = None) -> T:
        """Run ``work`` in that order and return its result.  See ``IOContext``."""
        check_work(work)
        check_timeout(timeout)
        if self._around is None or self.is_here():
            return self._strand.call(work, timeout)
        # Not on the calling thread: the context manager around its own work may hold things of
        # the thread, such as a database session, which the manager of this work would end.
        work = cast("Callable[[], T]", partial(self._around.run, work))
        return self._strand.call(work, timeout, borrow=False)

    def statistics(self) -> ClientStatistics:
        """Return a snapshot of the client's figures."""
        return reports.snapshot(self)

    def __dir__(self) -> list[str]:  # not the names for the library itself
        return sorted(_SHOWN.intersection(super().__dir__()))

    def __repr__(self) -> str:
        state = self.ws_conn.ended_by or "open"
        # The peer chooses the path and logs show it, so it is quoted and cut.
        return f"<Client {self.connection_id} {state} {self.handshake.path[:100]!r}>"

    # For rooms, whose member the client is (see ``core.push_log.Member``).

    def enter_room(self, room: PushLog[Any], join: Callable[[Any], object]) -> None:
        """Join a room; do nothing if the connection has ended.

        :param join: see ``Memberships.enter``.
        :raises TooManyRooms: if the client is in ``Limits.rooms_per_client`` rooms.
        """
        if not self._rooms.enter(room, join):
            raise reports.too_many_rooms(self._core, self)

    def leave_room(self, room: PushLog[Any]) -> None:
        """Leave a room."""
        self._rooms.leave(room)

    def send_batch(self, batch: FrameBatch) -> int:
        """Send pushes of a room; return the last number (see ``Link.send_batch``)."""
        return self.ws_conn.send_batch(batch)

    def is_batch_consumed(self, number: int) -> bool:
        """Return True if message ``number`` no longer waits, or the client has left."""
        return self._rooms.ended or self.ws_conn.outbox.is_consumed(number)

    def wait_batch_consumed(self, number: int, timeout: float | None) -> bool:
        """Wait until message ``number`` no longer waits; the room has checked the thread."""
        return self.ws_conn.outbox.wait_consumed(number, timeout)

    # For the watchdog and for waits (see ``watchdog.Watched`` and ``calls.Executor``).

    @property
    def name(self) -> str:
        """The client's name in the log."""
        return LogName(self._strand.name, self._log_ids())

    def _log_ids(self) -> dict[str, object]:
        hub, client = self._core.name, self.connection_id
        return {"hub_name": hub, "client_id": client, **self.handshake._log_ids()}

    @property
    def runner(self) -> int | None:
        """The thread that runs one of the client's callbacks now."""
        return self._strand.runner

    def current_callback(self) -> tuple[int, int] | None:
        """Return a value that stays equal during one callback; None while idle."""
        number = self._strand.current_callback()
        return None if number is None else (number, self.received)

    def is_here(self) -> bool:
        """Return True if the calling thread runs one of the client's callbacks."""
        return self._strand.runner == thread_id()

    def wait_for(self, call: Call[T], timeout: float | None) -> T:
        """Wait for work that runs in the client's order; see ``Call.result``."""
        return call.result(self._strand, self._strand.name, timeout)

    # For the connection, on the reader thread (see ``net.interfaces.Sink``).

    def begin(self) -> None:
        """Add the client to the hub and run its first callback.

        If the start callback raises, the client is closed with 1011.  If the hub is closing,
        the client is closed with 1001; it has not started, so it gets no close callback.
        """
        if self.admission is not None:
            self._try_start(self.admission.begin)
            return
        self._strand.enter()  # first: once others see the client, they may queue closures
        try:
            self._strand.variables.run(self._begin)
        finally:
            self._strand.leave()

    def _begin(self) -> None:
        around = self._around
        self._try_start(self._start if around is None else partial(around.run, self._start))

    def become(self, returning: Returning) -> None:
        """Become a client that was in another hub.  Called before the start."""
        self.returning = returning
        if self._core.registry.client(returning.number) is None:  # it may just be leaving here
            self.connection_id = returning.number
            self._strand.name = f"client {returning.number}"

    def start(self, welcome: Callable[[], bool] | None = None) -> bool:
        """Add a client to the hub in the callback of its first message; see ``admission``.

        :param welcome: called first; if it returns False, it has closed the client.
        :returns: False if the client was closed instead.
        """
        try:
            if welcome is not None and not welcome():
                return False
            self._start()
        except BaseException as error:  # noqa: BLE001 - logged, and the client closed
            self.note(error)
            reports.refuse_start(self._core, self, error)
            return False
        return True

    def _try_start(self, start: Callable[[], object]) -> None:
        try:
            start()
        except BaseException as error:  # noqa: BLE001 - logged, and the client closed
            reports.refuse_start(self._core, self, error)

    def _start(self) -> None:
        setting = self._core.setting
        returning = self.returning
        if returning is not None:
            self.meta = returning.load(self)
        callback = setting.on_connection_start if returning is None else returning.enter
        if setting.user is not None:
            self._ahead(setting.user)
            self.user = checked(setting.user(self, self.meta))
            check_kind("user", self.user, str | None, "a function that returns a string or None")
        self._core.registry.admit(self)
        self._started = True
        if callback is not None:
            self._ahead(callback)
            checked(run_essential(partial(callback, self, self.meta)))

    def enter(self) -> None:
        """Wait until the client's earlier callbacks have run, and hold back later ones."""
        self._strand.enter()

    def leave(self) -> None:
        """Let the client's later callbacks run."""
        self.payload = b""  # an idle client must not keep its last message alive
        self._strand.leave()

    def on_message(self, message: str | bytes) -> None:
        """Hand a message to the interceptor and the matcher, and write the reply."""
        handle = self._handle if self._around is None else self._handle_inside
        self._strand.variables.run(handle, message)

    def _handle_inside(self, message: str | bytes) -> None:
        assert self._around is not None
        self._try(partial(self._around.run, partial(self._handle, message)))

    def _handle(self, message: str | bytes) -> None:
        """Handle a message; in the client's context variables."""
        self.received += 1
        try:
            if self._preprocess is not None:
                message = checked(self._preprocess(message))
            self.payload = message
            if self.intercept is not None:
                if self.habits is not None:
                    self._ahead(self.intercept)
                verdict: object = self.intercept(self, self.meta)
                if verdict is False or (verdict is not True and checked(verdict) is False):
                    return
            if self.matcher is not None:
                reply = self.take(self.matcher.route(message), self.meta)
                if reply is not None:
                    self.write(reply)
        except BaseException as error:  # noqa: BLE001 - told to the user or the log
            self._failed(error, message)

    def on_rate_exceeded(self) -> None:
        """Close the client, which sends more than ``Limits.messages_per_second``."""
        rate = self._core.setting.limits.messages_per_second
        reason = f"more than {rate:g} messages a second"
        self.ws_conn.close(POLICY_VIOLATION, reason, ended_by="violation", limit=RATE)

    def take(self, routed: HandlerCall | Answer, meta: Any) -> str | bytes | None:
        """Keep the payload of a call and run it; hand an answer to its request."""
        if isinstance(routed, Answer):
            if not self._pending_requests().answer(routed):
                text = "%r: got an answer that no request waits for; it is dropped"
                log_safely(self.logger, logging.DEBUG, text, self)
            return None
        self.payload = routed.payload
        if self.habits is not None:
            self._ahead(routed.pack.handler)
        return routed.run(self, meta)

    def _pending_requests(self) -> PendingRequests:
        with self._lock:
            if self._pending is None:
                bound = self._core.setting.chan_queue_size
                self._pending = PendingRequests(bound, self._strand.name)
                if self._rooms.ended:
                    self._pending.close()
            return self._pending

    def note(self, error: BaseException) -> None:
        """Take note that the present callback raised, for the end of ``around_callback``.

        For exceptions that are handled before they get there.
        """
        if self._around is not None:
            self._around.noted = error

    def _failed(self, error: BaseException, message: str | bytes | None = None) -> None:
        self.note(error)
        if message is not None and self.matcher is not None:
            answer = self.matcher.failure(message, error)
            if answer is not None:
                self.write(answer)
        reports.log_failure(self._core, self, error)

    def on_ping(self, payload: bytes) -> None:
        """Call the ping handler; a ping counts for ``Limits.messages_per_second``."""
        if not self._started:
            return
        limiter = self._core.limiter
        if limiter is not None and not limiter(self, self.meta):
            self.on_rate_exceeded()
            return
        handler = self._core.setting.websocket_period.ping_pong_plan.ping_handler
        if handler is not None:
            self._strand.variables.run(self._call, lambda: handler(self, self.meta, payload))

    def on_pong(self, payload: bytes) -> None:
        """Call the pong handler."""
        handler = self._core.setting.websocket_period.ping_pong_plan.pong_handler
        if handler is not None and self._started:
            self._strand.variables.run(self._call, lambda: handler(self, self.meta, payload))

    def on_leaving(self) -> None:
        """Leave every room and end every wait for an answer."""
        # Counted first, so that a callback of the context finds the end in the statistics.
        if self.ws_conn.limit is not None:
            self._core.incidents.count_limit(self.ws_conn.limit)
        self._core.registry.forget(self)
        if self.admission is not None:
            self.admission.end()
        self._rooms.end()
        with self._lock:
            context, pending = self._context, self._pending
        if pending is not None:
            pending.close()
        if context is not None:
            cancel = partial(context.cancel, "the connection has ended")
            # In variables of its own: another thread may run a callback of the client now.
            apart = cancel if self._around is None else partial(self._around.run_apart, cancel)
            contextvars.Context().run(self._try, apart)

    def on_closed(self) -> None:
        """Log the end and run the close callback, the client's last."""
        self._log_end()
        self._strand.close(self._tell_end)

    def _log_end(self) -> None:
        reports.log_end(self._core, self)

    def _tell_end(self) -> None:
        """Run the close callback, in the client's order."""
        callback = self._core.setting.on_connection_close
        if callback is not None and self._started:
            self._ahead(callback)
            with self._core.registry.busy(self):
                self._call(lambda: run_essential(partial(callback, self, self.meta)))

    # For its session, in the client's order.

    def decide(self, question: Callable[[], bool]) -> bool:
        """Return the answer of a function of the program; False if it has raised."""
        answers: list[bool] = []
        self._call(lambda: answers.append(question()))
        return answers == [True]

    def tell_lost(self) -> None:
        """Call ``on_connection_lost``."""
        callback = self._core.setting.on_connection_lost
        if callback is not None:
            self._call(lambda: callback(self, self.meta))

    def tell_resumed(self) -> None:
        """Call ``on_connection_resume``."""
        callback = self._core.setting.on_connection_resume
        if callback is not None:
            self._call(lambda: callback(self, self.meta))

    def _ahead(self, function: object) -> None:
        """Let another thread serve the others, if ``function``, which runs next, may block."""
        self.running = function
        if self.habits:
            self.habits.ahead(function)

    def _call(self, callback: Callable[[], object]) -> None:
        self._try(callback if self._around is None else partial(self._around.run, callback))

    def _try(self, callback: Callable[[], object]) -> None:
        try:
            checked(callback())
        except BaseException as error:  # noqa: BLE001 - logged
            self._report(error)

    def _report(self, error: BaseException) -> None:
        self._core.incidents.log_exception(error, "a callback of %r raised", self)
