"""A connection to a hub that comes back by itself.

Layer: client.  Threads: any thread may call the methods of a ``Link``.  The link has one thread,
which connects, reads and runs every callback, one at a time and in order.  A second thread sends
while the socket is full.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable, Hashable, Iterator
from dataclasses import replace
from typing import Any

from hubthread.checks import check_callable, check_kind, check_number, checked
from hubthread.client.delivery import WIRE, Answerer, Delivery
from hubthread.client.interfaces import Fate, State, Task, Token, Tunables, Work
from hubthread.client.listeners import Inbox, Listener
from hubthread.client.machine import Machine
from hubthread.client.options import LinkOption
from hubthread.client.raw import Raw
from hubthread.client.room import Room
from hubthread.client.socket_driver import SocketDriver
from hubthread.concurrency.calls import Call, thread_id, wait_for
from hubthread.concurrency.deadline import wall_time
from hubthread.concurrency.incidents import Incidents
from hubthread.errors import (
    DeadlockError,
    ExecTimeout,
    Lost,
    Refused,
    SettingError,
    TimedOut,
    UsageError,
)
from hubthread.matcher.compile import marshal_json
from hubthread.matcher.formats import JsonHeader
from hubthread.matcher.jsontext import as_fields
from hubthread.matcher.matcher import Answer, MatcherMap
from hubthread.protocol.client_handshake import Address

__all__ = ["Link", "connect"]

_JSON = JsonHeader()
_NO_HANDLERS: MatcherMap[Any, Any] = MatcherMap(WIRE)
_numbers = itertools.count(1)


class Link:
    """A connection to a hub that comes back by itself: ``Link("ws://localhost:8000/ws")``.

    A new link is idle.  Add listeners, and then call :meth:`connect`; or make an open link with
    ``hubthread.client.connect``.  ``with Link(url) as link:`` closes the link at the end.

    Threads: any thread may call the methods.  The link's own thread runs every callback
    (listeners, handlers of the matcher, answers, the token function), one at a time and in order.
    A callback may block; the link does not read meanwhile.  A callback must not wait for its own
    link, and gets ``DeadlockError`` if it tries to.

    :param url: an address of ws, wss, http or https.
    :param option: the options.
    :param options: fields of ``LinkOption``, which replace the fields of ``option``.
    :raises WrongValue: for another address.
    :raises SettingError: for an option out of range.
    """

    def __init__(self, url: str, option: LinkOption | None = None, **options: Any) -> None:
        self._setup(url, option, options, SocketDriver)

    @classmethod
    def _over(cls, make: Callable[..., Any], url: str, options: dict[str, Any]) -> Link:
        """Return a link with another driver, for virtual time."""
        link = cls.__new__(cls)
        link._setup(url, None, options, make)
        return link

    def _setup(
        self,
        url: str,
        option: LinkOption | None,
        options: dict[str, Any],
        make: Callable[..., Any],
    ) -> None:
        self._option = replace(LinkOption() if option is None else option, **options)
        self._address = Address.of(url)
        if self._option.ssl is not None and not self._address.secure:
            raise SettingError("ssl", "expected None for an address without TLS: write wss")
        self._name = f"link-{next(_numbers)}"
        self._lock = threading.RLock()  # guards what follows, and the machine
        self._changed = threading.Condition(self._lock)
        self._closed = False
        self._started = False
        self._forked = False
        self._why = "the link is closed"
        self._delivery = Delivery(self, self._option.inbox)
        self.raw = Raw(self)
        """For servers with a format of their own."""
        chosen = self._option
        tunables = Tunables(
            chosen.plain,
            callable(chosen.token),
            chosen.timeout,
            chosen.messages,
            chosen.message_bytes,
        )
        self._driver: Work = make(self)
        self._incidents = Incidents(chosen.logger, self._driver.now)
        self._machine = Machine(
            self._driver, tunables, self._delivery.on_message, self._delivery.emit, self._renew
        )

    # The state.

    @property
    def state(self) -> State:
        """The state: ``"idle"``, ``"connecting"``, ``"open"``, ``"waiting"``, ``"resting"`` or
        ``"ended"``."""
        return self._machine.state

    @property
    def reason(self) -> str:
        """The reason of the state, as a text for people; empty while the link is open."""
        return self._machine.reason

    @property
    def retry_at(self) -> float | None:
        """The time of the next attempt, in seconds since 1970; None unless waiting."""
        due = self._machine.retry_due
        return None if due == math.inf else wall_time() + due - self._driver.now()

    @property
    def id(self) -> int | str | None:
        """The client's number in the hub; None until the first hello of the hub."""
        return self._machine.id

    @property
    def rtt(self) -> float | None:
        """The smallest measured round trip in seconds; None before the first measurement."""
        best = self._machine.clock.best
        return None if best is None else best[0]

    @property
    def closed(self) -> bool:
        """True after ``close``."""
        return self._closed

    def now(self) -> float:
        """Return the time of the server's clock, in seconds since 1970.

        Until the server's clock is known, it is the time of the own clock.
        """
        best = self._machine.clock.best
        return wall_time() if best is None else self._driver.now() + best[1]

    @property
    def runner(self) -> int | None:
        """The number of the thread that runs a callback now.  Not for users."""
        return self._delivery.runner

    # Connect and end.

    def connect(self) -> None:
        """Begin to connect, and return at once; ``wait_open`` waits.

        :raises Lost: after ``close``.
        """
        with self._lock:
            self._refuse_closed()
            self._machine.connect()
            if not self._started:
                self._start()

    def _start(self) -> None:
        try:
            self._started = True
            self._driver.start()
        except BaseException:
            self._started = False
            self._machine.disconnect()
            raise

    def disconnect(self) -> None:
        """Close the connection, and stay away until ``connect``.

        Queued messages are dropped, and waiting requests raise ``Lost``.
        """
        with self._lock:
            self._refuse_closed()
            self._machine.disconnect()
            self._changed.notify_all()

    def retry_now(self) -> None:
        """Connect at once instead of at ``retry_at``."""
        with self._lock:
            self._machine.retry_now()

    def wait_open(self, timeout: float = 10.0) -> None:
        """Wait until the link is open.

        :raises TimedOut: after ``timeout`` seconds; the text names the last reason.
        :raises Refused: if the link has ended.
        :raises Lost: if the link is closed or disconnected.
        :raises DeadlockError: in a callback of this link.
        """
        check_number("timeout", timeout, 0)
        self._refuse_here("wait_open")
        with self._lock:
            if self.state == "resting":
                self._machine.retry_now()

        def settled() -> bool:
            return self._closed or self.state in ("open", "ended", "idle")

        wait_for(self._changed, settled, timeout)
        state, reason = self.state, self.reason
        if self._closed or state == "idle":
            raise Lost(self._why if self._closed else "the link is not connected")
        if state == "ended":
            raise Refused(reason)
        if state != "open":
            raise TimedOut(f"not connected within {timeout:.4g} s: {reason or 'no answer so far'}")

    def close(self) -> None:
        """End the link for good: every wait, request and iteration ends at once.

        Messages that were sent before still go out, and the server gets a Close.  This takes 2
        seconds at most.  Queued messages are dropped.  In a callback of the link the method
        returns at once.  A second call does nothing.
        """
        with self._lock:
            if not self._closed:
                if self.state != "ended":  # a link that has ended keeps its reason
                    self._machine.disconnect()
                self._closed = True
            self._changed.notify_all()  # in each call: an earlier one may have been interrupted
            self._driver.wake()
            started = self._started
        if started and not self._forked and self._delivery.runner != thread_id():
            self._driver.stop(LINGER)

    def __enter__(self) -> Link:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # Messages.

    def on(self, name: Hashable, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` for each message with this header, or for an event.

        ==============  ==========================================================
        ``"open"``      ``listener()``: the link is open
        ``"state"``     ``listener(state, reason)``: see ``state``
        ``"gap"``       ``listener(count)``: so many messages of the session are lost
        ``"message"``   ``listener(data)``: every message, as text or bytes
        ``"*"``         ``listener(message)``: messages without a listener of their own
        ==============  ==========================================================

        :returns: a function that removes the listener.
        """
        check_callable("listener", listener, *_ARGUMENTS.get(name, ("message",)))
        return self._delivery.listeners.add(name, listener)

    def answer(self, header: Hashable, function: Answerer) -> Callable[[], None]:
        """Answer each request of the server with this header by calling ``function(message)``.

        :param function: returns the answer: a mapping, a dataclass, or another type that handlers
            may return.
        :returns: a function that removes ``function``.
        """
        check_callable("function", function, "message")
        with self._lock:
            self._delivery.answers[header] = function

        def off() -> None:
            with self._lock:
                if self._delivery.answers.get(header) is function:
                    del self._delivery.answers[header]

        return off

    def send(
        self,
        header: str | int,
        fields: object = None,
        *,
        ttl: float = math.inf,
        key: Hashable = None,
        volatile: bool = False,
    ) -> Fate:
        """Send a message, queue it or drop it; never wait.

        :param fields: the other fields: a mapping, a dataclass, or another type that handlers
            take.
        :param ttl: the seconds that the message may wait for a connection.
        :param key: while the message waits, a later message with the same key replaces it.
        :param volatile: True drops the message if it cannot be sent now.
        :returns: ``"sent"``, ``"queued"`` for the next connection, or ``"dropped"``.
        """
        return self._send(header, fields, {}, ttl, key, volatile)

    def request(
        self,
        header: str | int,
        fields: object = None,
        *,
        timeout: float | None = None,
        into: Any = None,
    ) -> Any:
        """Send a request and wait for its answer.

        The request is never sent twice.

        :param timeout: seconds; None takes the ``timeout`` of ``LinkOption``.
        :param into: the type of the result; None for the decoded object.
        :raises TimedOut: if no answer came in time.
        :raises Refused: if the server answers with an error.
        :raises Lost: if the connection ended before the answer, or the queue is full.
        :raises PayloadError: if the answer does not fit ``into``.
        :raises DeadlockError: in a callback of this link.
        """
        seconds = self._option.timeout if timeout is None else timeout
        check_number("timeout", seconds, 0)
        self._refuse_here("request")
        if self._option.plain:
            raise UsageError("request needs a server that speaks hubthread.1, not plain=True")
        load = None if into is None else _NO_HANDLERS.answer_as(into)
        box: list[dict[str, Any]] = []
        call: Call[dict[str, Any]] = Call(lambda: box[0])

        def resolve(answer: dict[str, Any]) -> None:
            box.append(answer)
            call.run()

        number = self._machine.requests.new_number()
        try:
            with self._lock:
                self._refuse_closed()
                # A little later than the caller gives up: an interrupted caller may leave its
                # request behind.
                deadline = self._driver.now() + seconds + LINGER
                self._machine.requests.open(resolve, call.abandon, deadline, number)
                text = WIRE.join_question(header, _fields(fields), marshal_json, number)
                if self._machine.post(text, request=number) == "dropped":
                    raise Lost(f"request {header!r}: {self._why_dropped()}")
                self._driver.wake()  # a full inbox does not keep the answer away
            answer = call.result(self, self._name, seconds)
        except TimedOut:
            raise
        except ExecTimeout:
            raise TimedOut(f"request {header!r}: no answer within {seconds:.4g} s") from None
        finally:
            with self._lock:
                self._machine.requests.forget(number)
        if load is None:
            return answer
        payload = {name: value for name, value in answer.items() if name not in ("type", "reply")}
        return load(Answer(number, payload, answer.get("type")))

    def room(self, name: str, *, replay: int = 0) -> Room:
        """Join a room, now and after each loss of the connection; return the room.

        While the program holds a room, the same name gives the same ``Room``.

        :param replay: the number of past messages to get at the first join.
        :raises UsageError: if the link is ``plain``.
        """
        check_kind("name", name, str, "a text")
        if replay != 0:
            check_number("replay", replay, 1, whole=True)
        if self._option.plain:
            raise UsageError("rooms need a server that speaks hubthread.1, not plain=True")
        with self._lock:
            self._refuse_closed()
            room = self._machine.rooms.get(name)
            if room is None:
                room = Room(self, name, self._option.inbox)
            assert isinstance(room, Room)
            room.hold(replay)
            self._machine.enter(room)
        return room

    def receive(self, timeout: float | None = None) -> Any:
        """Wait for a message that no listener takes, and return it.

        :param timeout: seconds; None waits without a limit.
        :raises TimedOut: after ``timeout`` seconds.
        :raises Lost: if the link has ended or is closed.
        :raises DeadlockError: in a callback of this link.
        """
        return self._receive(self._delivery.inbox, timeout)

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the messages that no listener takes, until the link has ended."""
        return self._iterate(self._delivery.inbox)

    def __repr__(self) -> str:
        why = f": {self.reason}" if self.reason else ""
        return f"<Link {self._address.authority} {self.state}{why}>"

    # For rooms.

    def _send(
        self,
        header: str | int,
        fields: object,
        more: dict[str, Any],
        ttl: float,
        key: Hashable,
        volatile: bool,
    ) -> Fate:
        text = _JSON.join(header, _fields(fields) | more, marshal_json)
        return self._post(text, ttl=ttl, key=key, volatile=volatile)

    def _post(self, data: str | bytes, *, ttl: float, key: Hashable, volatile: bool) -> Fate:
        if ttl != math.inf:
            check_number("ttl", ttl, 0)
        with self._lock:
            if self._closed:
                return "dropped"
            return self._machine.post(data, ttl=ttl, key=key, volatile=volatile)

    def _receive(self, inbox: Inbox, timeout: float | None) -> Any:
        if timeout is not None:
            check_number("timeout", timeout, 0)
        self._refuse_here("receive")
        with self._lock:
            inbox.read = True

        def settled() -> bool:
            return self._closed or bool(inbox) or self.state == "ended"

        wait_for(self._changed, settled, timeout)
        with self._lock:
            if inbox and not self._closed:
                was_full = inbox.full
                message = inbox.take()
                if was_full:
                    self._driver.wake()
                return message
            if self._closed or self.state == "ended":
                raise Lost(self.reason or self._why)
        raise TimedOut(f"no message within {timeout:.4g} s")

    def _iterate(self, inbox: Inbox) -> Iterator[Any]:
        try:
            while True:
                try:
                    message = self._receive(inbox, None)
                except Lost:
                    return
                yield message
        finally:
            with self._lock:
                inbox.read = False
                self._driver.wake()

    # For the driver, on the link's thread.

    def _fetch_token(self, task: Task) -> Token:
        """Return the token for an attempt; tell the machine if there is none."""
        token = self._ask_token(again=task.again)
        if token.reason:
            with self._lock:
                if task.epoch == self._machine.epoch:
                    self._machine.on_no_token(token)
        return token

    def _ask_token(self, *, again: bool) -> Token:
        """Ask the token function, if there is one."""
        token = self._option.token
        if not callable(token):
            return Token(token)
        runner, self._delivery.runner = self._delivery.runner, thread_id()
        try:
            found: object = checked(token(again))
        except BaseException as error:  # noqa: BLE001 - logged; tried again later
            self._delivery.failed(error)
            return Token(None, "the token function failed")
        finally:
            self._delivery.runner = runner
        return Token(found) if isinstance(found, str) else Token(None, "not logged in", ends=True)

    def _renew(self) -> None:
        """Have the link's thread fetch the next token.  The caller holds the lock."""

        def renew() -> None:
            epoch = self._machine.epoch
            token = self._ask_token(again=False)
            with self._lock:
                if epoch == self._machine.epoch:
                    self._machine.on_renewal(token)

        self._delivery.emit_soon(renew)

    def _refuse_here(self, name: str) -> None:
        if self._delivery.runner == thread_id():
            raise DeadlockError(
                f"{name} in a callback of {self!r} itself would never end: the link reads only "
                f"after the callback has returned. Call it on another thread"
            )

    def _refuse_closed(self) -> None:
        if self._closed:
            raise Lost(self._why)

    def _why_dropped(self) -> str:
        if self.state == "idle":
            return "the link is not connected"
        return self.reason if self.state == "ended" else "the queue is full"


LINGER = 1.0
"""Seconds that ``close`` waits for sent messages to go out, and again for the server's Close."""

_ARGUMENTS: dict[Hashable, tuple[str, ...]] = {"open": (), "state": ("state", "reason")}


def connect(
    url: str, option: LinkOption | None = None, *, wait: float = 10.0, **options: Any
) -> Link:
    """Connect to a hub, and return the link once it is open.

    :param wait: the most seconds until the link is open.  Failed attempts are repeated meanwhile.
    :param options: fields of ``LinkOption``, as for ``Link``.
    :raises TimedOut: if the link is not open in time.
    :raises Refused: if the server refuses the link for good.
    """
    check_number("wait", wait, 0)
    link = Link(url, option, **options)
    try:
        link.connect()
        link.wait_open(wait)
    except BaseException:
        link.close()
        raise
    return link


def _fields(fields: object) -> dict[str, Any]:
    """Return the fields of a message.  A value without fields becomes the field ``data``."""
    if fields is None:
        return {}
    found = as_fields(fields)
    return {"data": fields} if found is None else dict(found)
