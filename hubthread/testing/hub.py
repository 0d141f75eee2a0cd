"""A hub in virtual time, on the thread of a test.

Layer: testing.  Threads: the one that made it plays all of its threads.
"""

from __future__ import annotations

import logging
import sys
import uuid
from collections.abc import Callable, Hashable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

from hubthread.checks import check_number
from hubthread.concurrency.incidents import Incidents
from hubthread.core.core import Core
from hubthread.errors import HandshakeRejected, UsageError
from hubthread.hub.dhub import DHub
from hubthread.hub.hub import Hub, Parts
from hubthread.rooms.ticking.control import FrameControl
from hubthread.serving.accept import Negotiated
from hubthread.serving.wsgi import WSGIBridge
from hubthread.settings import HubSetting
from hubthread.testing.client import VirtualClient
from hubthread.testing.clock import FakeClock
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

    ``with VirtualHub(setting) as hub:``.  It is the real hub with the real clients, rooms,
    queues and protocol; only what they run on is virtual.  What a test does to a virtual
    client, and ``advance``, ``tick`` and ``settle``, return when everything that is due has
    happened; what it does otherwise (``room.push``, ``hub.exec_async``) happens with the
    next of these, or when it looks into an inbox.

    In virtual time a callback happens at one moment.  One that waits (``exec_sync``,
    ``gate.wait``, ``poll.wait`` …) lets happen what is due at that moment; if that does not
    bring what it waits for, the wait ends at once, as after its time-out, or with
    ``DeadlockError`` where it has none.  This goes for all that its thread waits for while it
    is open: a real hub beside it needs a thread of its own.

    Threads: only the one that made it; ``WrongThread`` on others.

    :param clock: one that is shared with other hubs; a new one if not given, and then its time
        passes by itself: a wait lets the other hubs act, but at the time that they have.
    """

    def __init__(self, setting: HubSetting[Meta, Header], clock: FakeClock | None = None) -> None:
        self._clock = FakeClock() if clock is None else clock
        self.errors: list[BaseException] = []
        """What callbacks have raised, and was told to the log only: empty, if all is well."""
        self._clock.expect_hub()
        self._last_peer = 0
        self._admitted: VirtualClient | None = None  # by an application, just now
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
        """Let so many virtual seconds pass, and do all that is due until then.

        :raises UsageError: in a callback of the hub's.
        """
        self.clock.advance(seconds)

    def tick(self, room: FrameControl[Any], count: int = 1) -> None:
        """Let time pass until ``room`` has run ``count`` more ticks, and no longer.

        Everything else that is due until then is done too.

        :raises UsageError: when it will not tick: it has no rate, is paused, or has closed; or
            has another clock than this hub.
        """
        check_number("count", count, 1, whole=True)
        given: object = room
        if not isinstance(given, FrameControl) or given._core.clock is not self.clock:
            raise UsageError(f"tick is for a room of this hub's clock, not for {given!r}")
        if self.clock.in_callback:
            raise UsageError("tick is for the test itself, not for a callback")

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
        """Do all that is due now, such as pushes of the test itself."""
        self.clock.settle()

    # Clients.

    def connect(
        self,
        path: str = "/",
        *,
        headers: Mapping[str, str] | None = None,
        bytes_per_second: float | None = None,
        on_message: Callable[[VirtualClient, str | bytes], object] | None = None,
    ) -> VirtualClient:
        """A new client; its start callback has run when this returns.

        :param path: with the query.
        :param headers: more header fields of its request, such as ``Cookie``.
        :param bytes_per_second: how fast it reads, a tenth of that at once; ``None``: at once.
        :param on_message: see ``VirtualClient.on_message``.
        :raises HandshakeRejected: when it is refused.
        """
        check_number("bytes_per_second", bytes_per_second, 0, optional=True)
        fields = HANDSHAKE | {name.lower(): value for name, value in (headers or {}).items()}
        lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        request = "\r\n".join([*lines, "", ""]).encode("latin-1")
        client = self._new_client(request, bytes_per_second)
        client.on_message = on_message
        self.clock.run(client._reader.job)
        self.clock.settle()
        if client._reader.refusal is not None:
            raise client._reader.refusal
        return client

    def connect_through(
        self, application: Any, path: str = "/", *, headers: Mapping[str, str] | None = None
    ) -> VirtualClient:
        """A new client whose request goes through a WSGI application, whose view decides.

        :param application: a test client of it, Flask's or werkzeug's, with its cookies.
        :param path: with the query.
        :param headers: more header fields of its request.
        :raises HandshakeRejected: for an answer of 400 and above: the application's or ours.
        :raises UsageError: for another answer; the view has not made it a client.
        """
        names = {name.lower(): value for name, value in (headers or {}).items()}
        response = application.get(path, headers=HANDSHAKE | names)
        client, self._admitted = self._admitted, None
        if client is not None:
            self.clock.run(client._reader.job)
            self.clock.settle()
            return client
        if response.status_code < 400:
            raise UsageError(
                f"{path} answered {response.status}: its view has not called the hub's "
                f"websocket_handler"
            )
        raise HandshakeRejected(response.status_code, response.get_data(as_text=True))

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

    # Beginning and end.

    def start(self) -> None:
        """Begin, and do what is due."""
        super().start()
        self.clock.settle()

    def run(self) -> NoReturn:
        """No: a virtual hub is played.

        :raises UsageError: always.
        """
        raise UsageError("a virtual hub is played by its test: use start, or a with statement")

    def serve(self, *args: Any, **kwargs: Any) -> NoReturn:
        """No: clients come by ``connect``, or by ``connect_through`` an application.

        :raises UsageError: always.
        """
        raise UsageError("a virtual hub has no sockets: clients come by hub.connect()")

    socket_handles = serve

    def close(self, timeout: float = 10.0) -> None:
        """End everything, as a hub does; virtual time passes until all have gone.

        In a callback it is done after that.
        """
        with self.clock.played():
            super().close(timeout)

    def __enter__(self) -> VirtualHub[Meta, Header]:
        self.start()
        return self


class _VirtualBridge(WSGIBridge):
    """``websocket_handler`` without a socket; the request is checked as in a real hub."""

    def __init__(self, hub: VirtualHub[Any, Any], core: Core[Any, Any]) -> None:
        super().__init__(core, hub.start, hub.close)
        self._hub = hub

    def start_once(self) -> None:
        """Start the hub if it is new."""
        if self._hub.state == "new":
            self._hub.start()

    def _admit(self, environ: dict[str, Any], negotiated: Negotiated, most: int) -> None:
        self._hub._admitted = self._hub._new_client(negotiated)


if TYPE_CHECKING:
    _Adapter = logging.LoggerAdapter[logging.Logger]
else:
    _Adapter = logging.LoggerAdapter  # generic from Python 3.11 on


class _RecordingIncidents(Incidents):
    """What the hub tells the log, with an ear for errors: for those, too, that it leaves out."""

    def __init__(
        self, logger: logging.Logger, now: Callable[[], float], errors: list[BaseException]
    ) -> None:
        super().__init__(logger, now)
        self._errors = errors

    def log_exception(
        self, error: BaseException, text: str, *args: object, level: int = logging.ERROR
    ) -> None:
        """Remember it, and tell the log."""
        self._errors.append(error)
        super().log_exception(error, text, *args, level=level)


class _RecordingLogger(_Adapter):
    """The user's logger, with an ear for what callbacks tell it themselves."""

    def __init__(self, logger: logging.Logger, errors: list[BaseException]) -> None:
        super().__init__(logger, {})
        self._errors = errors

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Remember what was raised, and tell the logger."""
        error = kwargs.get("exc_info")
        if level >= logging.ERROR and error:
            raised = error if isinstance(error, BaseException) else sys.exc_info()[1]
            if raised is not None:
                self._errors.append(raised)
        self.logger.log(level, msg, *args, **kwargs)
