"""Bring each message to its room, request, handler, listeners or inbox.

Code that holds the lock of the link only adds events.  The link's thread runs the events in order,
without the lock, because they call the program.

Layer: client.  Threads: the methods under "Under the lock" need the lock of the link; the link's
thread calls the others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

from hubthread.checks import checked
from hubthread.client.listeners import Inbox, Listener, Listeners
from hubthread.client.room import Room, data_of
from hubthread.concurrency.calls import thread_id
from hubthread.errors import HandleNotFind, MatcherError, PayloadError
from hubthread.matcher.compile import marshal_json
from hubthread.matcher.formats import JsonHeader

__all__ = ["WIRE", "Answerer", "Delivery"]

WIRE: JsonHeader = JsonHeader(id_field="id", error_field="error")
"""The format of requests and answers."""

Answerer = Callable[[dict[str, Any]], object]
"""A function that answers the server's requests."""

EVENTS = frozenset({"open", "state", "gap", "message", "*"})
ROOM_EVENTS = frozenset({"join", "gap", "members", "refused", "rejected", "state", "*"})
"""The names of a link's and a room's events.  A message whose header is one of them is not given
to listeners of that name."""


class Delivery:
    """The events and listeners of one link.

    :param inbox: the most messages that wait for ``receive``.
    """

    def __init__(self, link: Any, inbox: int) -> None:
        self._link = link
        self._events: deque[tuple[int | None, Callable[[], object]]] = deque()
        self.listeners = Listeners()
        self.answers: dict[Hashable, Answerer] = {}
        self.inbox = Inbox(inbox)
        self.runner: int | None = None
        """The number of the thread that runs a callback now."""

    # Under the lock.

    @property
    def busy(self) -> bool:
        """True if an event waits."""
        return bool(self._events)

    @property
    def paused(self) -> bool:
        """True while an inbox is full, and no request waits for its answer."""
        machine = self._link._machine
        rooms = [room._inbox for room in machine.rooms.values() if isinstance(room, Room)]
        return not machine.requests and any(inbox.full for inbox in (self.inbox, *rooms))

    def emit(self, name: str, *values: object) -> None:
        """Call the listeners of an event of the link."""
        if name == "state":
            self._link._changed.notify_all()
            values = (self._link.state, self._link.reason)
        self.emit_to(self.listeners, name, *values)

    def emit_to(self, listeners: Listeners, name: str, *values: object) -> None:
        """Call the listeners of an event."""
        self._events.append((None, lambda: self._call_all(listeners.of(name), *values)))
        self._link._driver.wake()

    def run_soon(self, run: Callable[[], object]) -> None:
        """Call ``run`` on the link's thread, in order with the callbacks."""
        self._events.append((None, run))
        self._link._driver.wake()

    def emit_soon(self, run: Callable[[], object]) -> None:
        """Call ``run`` as ``run_soon`` does, unless the connection has ended by then."""
        self._events.append((self._link._machine.epoch, run))

    def emit_message(self, room: Room, data: Any, size: int, number: int | None) -> None:
        """Deliver a message of a room."""

        def deliver() -> None:
            self._deliver(room, data, None, size)
            with self._link._lock:
                room.heard(number)

        self._events.append((self._link._machine.epoch, deliver))

    def on_message(self, data: str | bytes, message: Any) -> None:
        """Take a message of the present connection."""
        epoch, size = self._link._machine.epoch, len(data)
        heard = self.listeners.of("message")
        if heard:
            self._events.append((epoch, partial(self._call_all, heard, data)))
        if self._link._option.plain:
            if heard:
                return
            self._events.append((epoch, partial(self._deliver, None, data, data, size)))
        elif isinstance(message, dict):
            self._dispatch(data, message, epoch, size)

    def _dispatch(self, data: str | bytes, message: dict[str, Any], epoch: int, size: int) -> None:
        machine = self._link._machine
        kind, name = message.get("type"), message.get("room")
        if "reply" in message:
            machine.requests.take_answer(message)
        elif name is not None and (kind is None or _is_own(kind)):
            room = machine.rooms.get(name) if isinstance(name, str) else None
            if room is not None:
                room.take(message, size)
            elif isinstance(name, str) and name not in machine.named and kind is None:
                # The server has let the client into a room that the program did not ask for.
                pushed = data_of(message)
                self._events.append((epoch, partial(self._deliver, None, pushed, None, size)))
        elif not _is_own(kind):  # an unknown message of the hub's own comes from a newer hub
            self._events.append((epoch, partial(self._deliver, None, message, data, size)))

    # On the link's thread.

    def run_events(self) -> None:
        """Run all events that wait, and so the callbacks."""
        self.runner = thread_id()
        try:
            while self._events:
                epoch, run = self._events.popleft()
                if epoch is None or epoch == self._link._machine.epoch:
                    run()
        finally:
            self.runner = None

    def _deliver(
        self, room: Room | None, message: Any, data: str | bytes | None, size: int
    ) -> None:
        """Give a message to its answer function, its handler, its listeners, or the inbox."""
        kind = message.get("type") if isinstance(message, dict) else None
        if not isinstance(kind, (str, int)):
            kind = None
        listeners = self.listeners if room is None else room._listeners
        if room is None and isinstance(message, dict) and "id" in message:
            answer = self.answers.get(kind)
            if answer is not None:
                self._answer(answer, message)
                return
        if self._match(room, message, data):
            return
        events = EVENTS if room is None else ROOM_EVENTS
        found = listeners.of(kind) if kind is not None and kind not in events else ()
        found = found or listeners.of("*")
        if found:
            self._call_all(found, message)
            return
        with self._link._lock:
            (self.inbox if room is None else room._inbox).put(message, size)
            self._link._changed.notify_all()

    def _match(self, room: Room | None, message: Any, data: str | bytes | None) -> bool:
        """Give a message to the matcher; return False if it has no handler."""
        matcher: Any = self._link._option.matcher
        if matcher is None:
            return False
        wire = marshal_json(message) if data is None else data
        try:
            matcher.route(wire)
        except (HandleNotFind, PayloadError):
            return False
        try:
            reply = matcher.dispatch(self._link, room, wire)
        except MatcherError as error:
            self._link._incidents.log_unroutable(error, self._link)
            reply = matcher.failure(wire, error)
        except BaseException as error:  # noqa: BLE001 - logged, and told to the server
            self.failed(error)
            reply = matcher.failure(wire, error)
        if reply is not None:
            self._link.raw.send(reply)
        return True

    def _answer(self, function: Answerer, message: dict[str, Any]) -> None:
        """Answer a request of the server."""
        fields = {name: value for name, value in message.items() if name not in ("type", "id")}
        header, number = message["type"], message["id"]
        if type(number) is not int and type(number) is not str:
            return
        text: str | bytes
        try:
            answer = checked(function(fields))
            text = WIRE.join_answer(header, answer, marshal_json, number)
        except BaseException as error:  # noqa: BLE001 - logged, and told to the server
            self.failed(error)
            failure = {"type": header, "reply": number, "error": "internal error"}
            text = marshal_json(failure)
        self._link.raw.send(text)

    def _call_all(self, listeners: tuple[Listener, ...], *values: object) -> None:
        for listener in listeners:
            try:
                checked(listener(*values))
            except BaseException as error:  # noqa: BLE001 - logged
                self.failed(error)

    def failed(self, error: BaseException) -> None:
        """Log the exception of a callback."""
        self._link._incidents.log_exception(error, "a callback of %r raised", self._link)


def _is_own(kind: object) -> bool:
    return isinstance(kind, str) and kind.startswith("hub:")
