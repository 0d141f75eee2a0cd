"""A hub in virtual time, on the thread of a test.

Layer: testing.  Threads: only the thread that made the hub, which simulates all of the hub's
threads.
"""

from __future__ import annotations

import logging
import sys
import uuid
from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

from hubthread.checks import check_has, check_kind, check_number
from hubthread.client.link import Link
from hubthread.concurrency.incidents import Incidents
from hubthread.core.core import Core
from hubthread.errors import HandshakeRejected, UsageError, WrongType
from hubthread.hub.dhub import DHub
from hubthread.hub.hub import Hub
from hubthread.hub.parts import Parts
from hubthread.protocol.envelope import SUBPROTOCOL
from hubthread.rooms.ticking.control import FrameControl
from hubthread.serving.accept import Negotiated
from hubthread.serving.wsgi import WSGIBridge
from hubthread.settings import HubSetting
from hubthread.testing.client import VirtualClient
from hubthread.testing.clock import FakeClock
from hubthread.testing.link import hub_link
from hubthread.testing.reader import Reader
from hubthread.testing.threads import VirtualLifecycle, virtual_runtime
from hubthread.testing.transport import MemoryTransport

__all__ = ["VirtualHub"]

Meta = TypeVar("Meta")
Header = TypeVar("Header", bound=Hashable)

HANDSHAKE = {
    "host": "localhost",
    "upgrade": "websocket",
    "connection": "Upgrade",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    "sec-websocket-version": "13",
}


class VirtualHub(Hub[Meta, Header]):
    """A hub without threads and sockets, whose time passes when a test says so.

    ``with VirtualHub(setting) as hub:``.  Clients, rooms, queues and protocol are real; only
    the threads and sockets below them are virtual.

    The methods of virtual clients, ``advance``, ``tick`` and ``settle`` return when everything
    that is due has happened.  Other calls of the test, such as ``room.push`` and
    ``hub.exec_async``, take effect with the next of those methods, or when the test reads an
    inbox.

    In virtual time a callback happens at one moment.  If it waits (``exec_sync``,
    ``gate.wait``, ``poll.wait`` …), everything that is due at that moment happens.  If the wait
    is not over then, it ends at once: as after its time-out, or with ``DeadlockError`` if it
    has none.  This holds for every wait of the hub's thread while the hub is open.  A real hub
    beside it needs a thread of its own.

    Threads: only the thread that made the hub; other threads get ``WrongThread``.

    :param clock: a clock to share with other hubs; a new one by default.  Hubs with clocks of
        their own have times of their own: a wait lets the other hubs act, but does not move
        their time.
    """

    def __init__(self, setting: HubSetting[Meta, Header], clock: FakeClock | None = None) -> None:
        if clock is not None:
            check_kind("clock", clock, FakeClock, "a FakeClock")
        self._clock = FakeClock() if clock is None else clock
        self.errors: list[BaseException] = []
        """The exceptions of callbacks that went to the log; empty if all is well."""
        self._clock.expect_hub()
        self._last_peer = 0
        self._admitted: VirtualClient | None = None  # by the application that is called now
        super().__init__(setting)

    def _assemble(self, setting: HubSetting[Meta, Header]) -> Parts:
        clock = self._clock
        incidents = _RecordingIncidents(setting.logger, clock.now, self.errors)
        logger = cast("logging.Logger", _RecordingLogger(setting.logger, self.errors))
        name = setting.hub_name or uuid.uuid4().hex[:8]
        runtime = virtual_runtime(name, logger, incidents, clock)
        core = Core(self, setting, runtime, DHub)
        bounds = replace(core.options.bounds, linger=0.0)  # a writer ends with its backlog
        core.options = replace(core.options, bounds=bounds)
        return Parts(core, VirtualLifecycle(core, clock), _VirtualBridge(self, core))

    @property
    def clock(self) -> FakeClock:
        """The hub's virtual clock."""
        return self._clock

    # Time.

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` of virtual time pass, and do everything that becomes due.

        :raises UsageError: in a callback of the hub.
        """
        self.clock.advance(seconds)

    def tick(self, room: FrameControl[Any], count: int = 1) -> None:
        """Let time pass until ``room`` has run ``count`` more ticks, and no longer.

        Everything else that becomes due is done too.

        :raises UsageError: if the room does not tick, because it has no rate, is paused or has
            closed; or if it has another clock than this hub.
        """
        check_number("count", count, 1, whole=True)
        given: object = room
        if not isinstance(given, FrameControl) or given._core.clock is not self.clock:
            raise WrongType(f"expected a ticking room on this hub's clock, got {given!r}")
        if self.clock.in_callback:
            raise UsageError("call tick in the test itself, not in a callback")

        def ticks() -> int:
            return room._loop.agenda.ticks()

        goal = ticks() + count

        def over() -> bool:
            return ticks() >= goal or room.is_closed or room.paused

        self.clock.settle()
        if room.hz:
            self.clock.run_until(over, None)
        if ticks() < goal:
            why = "closed" if room.is_closed else "paused" if room.paused else "without a rate"
            raise UsageError(f"{room!r} is {why}: {goal - ticks()} of {count} ticks did not come")

    def settle(self) -> None:
        """Do everything that is due now, such as pushes of the test itself."""
        self.clock.settle()

    # Clients.

    def connect(
        self,
        path: str = "/",
        *,
        headers: Mapping[str, str] | None = None,
        bytes_per_second: float | None = None,
        on_message: Callable[[VirtualClient, str | bytes], object] | None = None,
        session: bool = False,
        resume: VirtualClient | None = None,
    ) -> VirtualClient:
        """Connect a new client, and return it after its start callback has run.

        :param path: the path of its request, with the query.
        :param headers: more header fields of its request, such as ``Cookie``.
        :param bytes_per_second: the speed at which the client reads; it takes up to a tenth of
            it at once.  ``None`` for a client that reads everything at once.
        :param on_message: see ``VirtualClient.on_message``.
        :param session: True for a client of ``hubthread.1`` that asks for a session
            (``HubSetting.sessions``).  The hub's hello does not come into its inbox.
        :param resume: an earlier client with a session, whatever its connection has come to.  The
            new connection goes on with that session, and says which messages have been read.
        :raises HandshakeRejected: if the hub refuses the client.
        :raises UsageError: if ``resume`` has no session.
        """
        check_number("bytes_per_second", bytes_per_second, 0, optional=True)
        check_kind("path", path, str, "text")
        check_kind("session", session, bool, "True or False")
        if resume is not None:
            check_kind("resume", resume, VirtualClient, "a VirtualClient or None")
            if resume.session is None:
                raise UsageError(f"{resume!r} has no session: connect it with session=True")
        session = session or resume is not None
        own = {"sec-websocket-protocol": SUBPROTOCOL} if session else {}
        fields = HANDSHAKE | own | _lowered(headers)
        lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        request = "\r\n".join([*lines, "", ""]).encode("latin-1")
        client = self._new_client(request, bytes_per_second)
        client.on_message = on_message
        self.clock.run(client._reader.job)
        self.clock.settle()
        if client._reader.refusal is not None:
            raise client._reader.refusal
        if session:
            client._say_hello(resume)
        return client

    def connect_through(
        self, application: Any, path: str = "/", *, headers: Mapping[str, str] | None = None
    ) -> VirtualClient:
        """Connect a new client through a WSGI application, and return it.

        :param application: a test client of the application, Flask's, werkzeug's or Django's,
            with its cookies.
        :param path: the path of the request, with the query.
        :param headers: more header fields of the request.
        :raises HandshakeRejected: if the application or the hub answers with status 400 or
            above.
        :raises UsageError: if the view answers otherwise, and so has not called
            ``websocket_handler``.
        """
        check_has("application", application, "get", "a test client of the application")
        check_kind("path", path, str, "text")
        response = application.get(path, headers=HANDSHAKE | _lowered(headers))
        client, self._admitted = self._admitted, None
        if client is not None:
            self.clock.run(client._reader.job)
            self.clock.settle()
            return client
        if response.status_code < 400:
            raise UsageError(
                f"{path} answered {response.status_code}: its view has not called the hub's "
                f"websocket_handler"
            )
        body: Any = getattr(response, "content", None)  # Django
        text = response.get_data(as_text=True) if body is None else body.decode(errors="replace")
        raise HandshakeRejected(response.status_code, text)

    def link(self, path: str = "/", **options: Any) -> Link:
        """Return a link of ``hubthread.client`` to this hub, in virtual time; it is idle.

        Its callbacks run when the hub's jobs do: in ``advance``, ``tick`` and ``settle``, and
        while a call of the link waits.

        :param path: the path of its address, with the query.
        :param options: fields of ``LinkOption``; those for sockets have no effect.
        """
        return hub_link(self, path, options)

    def _new_client(
        self, request: bytes | Negotiated, bytes_per_second: float | None = None
    ) -> VirtualClient:
        self._last_peer += 1
        transport = MemoryTransport(self.clock, bytes_per_second)
        client = VirtualClient(self._clock, transport)
        client._reader = Reader(
            self._core, self._clock, transport, request, f"virtual-{self._last_peer}"
        )
        return client

    # Start and end.

    def start(self) -> None:
        """Start the hub, and do all due work."""
        super().start()
        self.clock.settle()

    def run(self) -> NoReturn:
        """Refuse: the test runs a virtual hub.

        :raises UsageError: always.
        """
        raise UsageError("a virtual hub runs on its test's thread: use start or a with statement")

    def serve(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse: ``connect`` or ``connect_through`` makes the clients of a virtual hub.

        :raises UsageError: always.
        """
        raise UsageError("a virtual hub has no sockets: make clients with hub.connect()")

    socket_handles = serve

    def drain(self, batch: int = 100, interval: float = 1.0, timeout: float | None = None) -> bool:
        """Send the clients elsewhere; virtual time passes until they have gone."""
        with self.clock.played():
            return super().drain(batch, interval, timeout)

    def close(self, timeout: float = 10.0) -> None:
        """Close the hub; virtual time passes until all clients have gone.

        If a callback calls it, the hub closes after the callback.

        :param timeout: virtual seconds.
        """
        with self.clock.played():
            super().close(timeout)

    def __enter__(self) -> VirtualHub[Meta, Header]:
        self.start()
        return self


def _lowered(headers: Mapping[str, str] | None) -> dict[str, str]:
    if headers is None:
        return {}
    check_kind("headers", headers, Mapping, "a mapping of names to values")
    return {name.lower(): value for name, value in headers.items()}


class _VirtualBridge(WSGIBridge):
    """``websocket_handler`` without a socket; the request is checked as in a real hub."""

    def __init__(self, hub: VirtualHub[Any, Any], core: Core[Any, Any]) -> None:
        super().__init__(core, hub.start, hub.close)
        self._hub = hub

    def start_soon(self) -> None:
        """Start the hub if it is new."""
        if self._hub.state == "new":
            self._hub.start()

    def _admit(self, environ: dict[str, Any], negotiated: Negotiated, most: int) -> None:
        peer = negotiated.request.peer
        self._take_place(peer, most, move=True)
        self._hub._admitted = self._hub._new_client(negotiated)
        self._hub._admitted._reader.on_end = partial(self._end_moved, peer)


if TYPE_CHECKING:
    _Adapter = logging.LoggerAdapter[logging.Logger]
else:
    _Adapter = logging.LoggerAdapter  # generic from Python 3.11 on


class _RecordingIncidents(Incidents):
    """Incidents that also record each exception, even if it is not logged."""

    def __init__(
        self, logger: logging.Logger, now: Callable[[], float], errors: list[BaseException]
    ) -> None:
        super().__init__(logger, now)
        self._errors = errors

    def log_exception(
        self, error: BaseException, text: str, *args: object, level: int = logging.ERROR
    ) -> None:
        """Record the exception, and log it."""
        self._errors.append(error)
        super().log_exception(error, text, *args, level=level)


class _RecordingLogger(_Adapter):
    """The user's logger, which also records the exceptions that are logged to it."""

    def __init__(self, logger: logging.Logger, errors: list[BaseException]) -> None:
        super().__init__(logger, {})
        self._errors = errors

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Record the exception, and log it."""
        error = kwargs.get("exc_info")
        if level >= logging.ERROR and error:
            raised = error if isinstance(error, BaseException) else sys.exc_info()[1]
            if raised is not None:
                self._errors.append(raised)
        self.logger.log(level, msg, *args, **kwargs)
