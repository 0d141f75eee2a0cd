"""The Python client in virtual time: ``VirtualHub.link``.

The link, its states, its rooms and its queue are real.  A job of the clock stands for its
thread, and an ``Endpoint`` for its socket.

Layer: testing.  Threads: only the thread that made the clock.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from hubthread.client.link import Link
from hubthread.errors import HandshakeRejected
from hubthread.protocol.client_handshake import WrongAnswer
from hubthread.protocol.envelope import SUBPROTOCOL
from hubthread.protocol.frames import MessageType
from hubthread.protocol.masking import client_frame
from hubthread.testing.clock import FakeClock, Job
from hubthread.testing.wire import client_close

if TYPE_CHECKING:
    from hubthread.client.interfaces import Task
    from hubthread.testing.client import VirtualClient

__all__ = ["Ended", "Endpoint", "HubEndpoint", "Opened", "VirtualDriver", "hub_link"]


class Opened(NamedTuple):
    """The event of a complete handshake."""

    subprotocol: str | None


class Ended(NamedTuple):
    """The event of the connection's end."""

    code: int
    reason: str


class Endpoint(Protocol):
    """The link's end of a connection in memory."""

    wake: Callable[[], object]
    """Called by the endpoint when ``events`` has something to return."""

    def events(self) -> list[Opened | Ended | WrongAnswer | OSError | str | bytes]:
        """Take all events so far.  ``str`` and ``bytes`` are messages."""

    def send(self, data: str | bytes) -> None:
        """Send a message."""

    def ping(self) -> None:
        """Send a Ping."""

    @property
    def buffered(self) -> int:
        """The bytes that wait for the socket."""

    def close(self, code: int | None) -> None:
        """End the connection with a Close, or cut it."""


class VirtualDriver:
    """The driver of a link in virtual time; see ``client.interfaces.Work``.

    :param dial: called for each attempt; raises ``WrongAnswer`` or ``OSError`` for a failure.
    """

    def __init__(self, link: Link, clock: FakeClock, dial: Callable[[Link], Endpoint]) -> None:
        self._link = link
        self._clock = clock
        self._dial = dial
        self._job: Job | None = None
        self._endpoint: Endpoint | None = None
        self._token: str | None = None
        self.now = clock.now
        self.random = Random(link._name).random

    def wake(self) -> None:
        """See ``Driver``."""
        if self._job is not None:
            self._job.wake()

    def send(self, data: str | bytes) -> None:
        """See ``Driver``."""
        if self._endpoint is not None:
            self._endpoint.send(data)

    def ping(self) -> None:
        """See ``Driver``."""
        if self._endpoint is not None:
            self._endpoint.ping()

    @property
    def buffered(self) -> int:
        """See ``Driver``."""
        return 0 if self._endpoint is None else self._endpoint.buffered

    def hang_up(self, code: int | None) -> None:
        """See ``Driver``."""
        endpoint, self._endpoint = self._endpoint, None
        if endpoint is not None:
            endpoint.wake = _nothing
            endpoint.close(code)
        self.wake()

    def start(self) -> None:
        """See ``Work``."""
        self._job = self._clock.job(self._step)

    def stop(self, timeout: float) -> None:
        """See ``Work``."""
        self._clock.settle()

    def _step(self) -> float | None:
        link = self._link
        machine, delivery = link._machine, link._delivery
        while True:
            delivery.run_events()
            if link._closed:
                return None
            with link._lock:
                task, paused = machine.task(), delivery.paused
            if task is not None:
                self._attempt(task)
            elif not paused:
                self._take_events()
            with link._lock:
                if delivery.busy or machine.has_task:
                    continue
                due = math.inf if paused else machine.due()
                if due > self.now():
                    return due
                machine.on_time()

    def _attempt(self, task: Task) -> None:
        link = self._link
        machine = link._machine
        token = link._fetch_token(task)
        self._token = token.value
        with link._lock:
            if token.reason or machine.begin(task.epoch) is None:
                return
        try:
            endpoint = self._dial(link)
        except (WrongAnswer, OSError) as error:
            with link._lock:
                self._fail(error)
            return
        endpoint.wake = self.wake
        with link._lock:
            self._endpoint = endpoint
        self._take_events()

    def _take_events(self) -> None:
        endpoint, link = self._endpoint, self._link
        machine = link._machine
        epoch = machine.epoch
        for event in [] if endpoint is None else endpoint.events():
            with link._lock:
                if epoch != machine.epoch:
                    return
                if isinstance(event, Opened):
                    machine.on_connected(event.subprotocol, self._token)
                elif isinstance(event, Ended):
                    machine.on_closed(event.code, event.reason)
                elif isinstance(event, (str, bytes)):
                    machine.on_heard()
                    machine.on_data(event)
                else:
                    self._fail(event)
            link._delivery.run_events()

    def _fail(self, error: WrongAnswer | OSError) -> None:
        machine = self._link._machine
        if isinstance(error, WrongAnswer):
            machine.on_refused(error.status, str(error), error.retry_after)
        else:
            machine.on_unreachable(f"the server cannot be reached: {error}")


class HubEndpoint:
    """A connection to a virtual hub."""

    def __init__(self, hub: Any, link: Link) -> None:
        self.wake: Callable[[], object] = _nothing
        if hub.state != "running":
            raise ConnectionRefusedError("the hub does not run")
        fields = dict(link._option.fields())
        if not link._option.plain:
            fields["Sec-WebSocket-Protocol"] = SUBPROTOCOL
        try:
            client = hub.connect(
                link._address.target,
                headers=fields,
                on_message=lambda client, message: self._tell(),
            )
        except HandshakeRejected as refusal:
            after = dict(refusal.headers).get("Retry-After", "")
            wait = float(after) if after.isdecimal() else 0.0
            raise WrongAnswer(str(refusal), refusal.status, wait) from None
        self._client: VirtualClient = client
        client._on_end = self._tell
        self._new = True
        self._ended = False

    def _tell(self) -> None:
        self.wake()

    def events(self) -> list[Opened | Ended | WrongAnswer | OSError | str | bytes]:
        """See ``Endpoint``."""
        found: list[Opened | Ended | WrongAnswer | OSError | str | bytes] = []
        if self._new:
            self._new = False
            # Read from the answer: there may be no client of the hub before the first message.
            spoken = f"Sec-WebSocket-Protocol: {SUBPROTOCOL}\r\n".encode()
            found.append(Opened(SUBPROTOCOL if spoken in self._client._transport.answer else None))
        found += self._client.messages()
        if self._client.closed and not self._ended:
            self._ended = True
            code = self._client.close_code
            found.append(Ended(0 if code is None else code, self._client.close_reason))
        return found

    # These methods do not run the hub (``settle``), because the caller holds the link's lock.

    def send(self, data: str | bytes) -> None:
        """See ``Endpoint``."""
        kind = MessageType.TEXT if isinstance(data, str) else MessageType.BINARY
        self._put(client_frame(kind, data.encode() if isinstance(data, str) else data))

    def ping(self) -> None:
        """See ``Endpoint``."""
        self._put(client_frame(MessageType.PING, b""))

    @property
    def buffered(self) -> int:
        """See ``Endpoint``."""
        return 0

    def close(self, code: int | None) -> None:
        """See ``Endpoint``."""
        if code is None:
            self._client._transport.ended = True
            self._client._transport.shutdown()
        else:
            self._put(client_close(code))
            self._client._said_close = True

    def _put(self, data: bytes) -> None:
        client = self._client
        if not (client._said_close or client._over or client._transport.vanished):
            client._transport.put(data)


def hub_link(hub: Any, path: str, options: dict[str, Any]) -> Link:
    """Return a link to a virtual hub; see ``VirtualHub.link``."""

    def make(link: Link) -> VirtualDriver:
        return VirtualDriver(link, hub.clock, lambda each: HubEndpoint(hub, each))

    return Link._over(make, f"ws://localhost{path}", options)


def _nothing() -> None:
    """Wake nobody."""
