"""The parts that one hub is made of, and that its clients, rooms and servers share.

Layer: core.  Threads: made on the thread that makes the hub.  Each part says which threads may
use it.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Generic, TypeAlias, TypeVar

from hubthread.checks import checked
from hubthread.concurrency.context import Context
from hubthread.concurrency.logs import LogName, log_safely
from hubthread.concurrency.loop import Loop
from hubthread.core.connections import CROWD, Connections, Servers
from hubthread.core.framer import framer
from hubthread.core.hooks import HookCall, Refusals
from hubthread.core.options import websocket_options
from hubthread.core.push_log import PushLog
from hubthread.core.registry import Registry
from hubthread.core.runtime import Runtime
from hubthread.core.sharing import Sharing
from hubthread.core.state import HubState
from hubthread.errors import HandshakeRejected
from hubthread.interfaces import IHub
from hubthread.limits import OUTBOX
from hubthread.net.address_limit import AddressLimit
from hubthread.net.shared import SharedReaders
from hubthread.net.traffic import Meter
from hubthread.protocol.hosts import hosts_of
from hubthread.protocol.request import Request
from hubthread.settings import HubSetting
from hubthread.types import Readers

__all__ = ["ACCEPT_FAILED", "Core", "Intercept"]

ACCEPT_FAILED = "The server failed to accept the connection."
"""The reason that a peer gets when a hook raised."""

Intercept: TypeAlias = "Callable[[Any, Any], bool] | None"
"""A function of client and meta that decides whether a message is handled."""

Meta = TypeVar("Meta")
Header = TypeVar("Header", bound=Hashable)


class Core(Generic[Meta, Header]):
    """The parts of one hub, in one object that they share.  The hub makes it.

    :param hub: the hub, as handlers see it.
    :param runtime: the threads and the clock; virtual ones in ``hubthread.testing``.
    :param view: called once with this core; returns the argument of the hub's closures.
    """

    def __init__(
        self,
        hub: IHub,
        setting: HubSetting[Meta, Header],
        runtime: Runtime,
        view: Callable[[Core[Meta, Header]], object],
    ) -> None:
        self.hub = hub
        self.setting = setting
        self._runtime = runtime
        self.name = runtime.name
        self.node = f"{runtime.name}-{secrets.token_hex(4)}"
        """A name that no other hub has."""
        self.logger = runtime.logger
        self.context = Context(setting.context)
        # The threads and services that the hub runs on.
        self.threads = runtime.threads
        self.clock = runtime.clock
        self.workers = runtime.workers
        self.timers = runtime.timers
        self.flusher = runtime.flusher
        self.incidents = runtime.incidents
        self.readers: SharedReaders | None = None
        """The threads that connections share; ``None`` if each connection has its own thread."""
        # The parts that the hub owns.
        bound, limits = setting.chan_queue_size, setting.limits
        self.state = HubState(self.name, opened=setting.delayed_execution is None)
        self.loop: Loop[Any] = Loop(
            LogName(f"hub {self.name}", {"hub_name": self.name}),
            bound,
            view(self),
            self.incidents,
            self.state.fail,
            self.clock.now,
        )
        self.registry: Registry[Any, Any] = Registry(
            PushLog(self.loop.schedule, bound, f"hub {self.name}"), self.clock.now
        )
        self.sharing = Sharing(
            self.node, hub, setting, self.threads, self.incidents, self.loop, self.clock.now
        )
        self.servers = Servers()
        self.connections = Connections(self._tell_crowd)
        self.address_limit = AddressLimit(
            limits.connections_per_address, limits.shared_addresses, self.incidents
        )
        # The settings and classes of its clients.
        period = setting.websocket_period
        self.make_frame = framer(period)
        self.options = websocket_options(setting, partial(self.incidents.count_limit, OUTBOX))
        """The keepalive, bounds and closing of the hub's WebSocket connections."""
        hosts = period.upgrader.allowed_hosts
        self.hosts = None if hosts is None else hosts_of(hosts)
        """The hosts that every request must ask for; ``None`` leaves them to the server."""
        self.meter = Meter()
        self.refusals = Refusals(self.logger, self.incidents, period.upgrader.error)
        self.read_by(setting.readers)
        self.client_class: Callable[..., Any]
        """Makes a WebSocket client of ``(core, connection_id, meta, request)``."""
        self.limiter: Intercept = None
        """The limit of ``Limits.messages_per_second``."""
        self.intercept: Intercept = setting.on_receive_message
        """``on_receive_message``, behind ``limiter``."""
        self.on_start: list[Callable[[], object]] = []
        """Called when the hub has started, on the thread that starts it."""
        self.on_drain: list[Callable[[], Callable[[], object]]] = []
        """Called when a drain begins.  Each returns a function, which is called afterwards, and
        waits until its room is handed over."""
        self.started_at: float | None = None
        """The time of the start, on the hub's clock."""
        self.letters: Any
        """The messages and calls between this hub and other hubs (``hub.cluster``)."""
        self.sessions: Any = None
        """The sessions of clients of ``hubthread.1`` (``hub.session_table``), or ``None``."""
        self.client_messages: Callable[[Any, Any], bool]
        """``intercept`` for clients of ``hubthread.1``; also answers the hub's own messages."""

    def read_by(self, readers: Readers) -> None:
        """Let connections share threads, or have one each, from now on."""
        self.readers = self._runtime.readers if readers is Readers.SHARED else None

    def _tell_crowd(self) -> None:
        if self.readers is None and self._runtime.readers is not None:
            text = (
                "%s: %d connections have a thread each; HubSetting(readers=Readers.SHARED) serves "
                "so many with less memory and CPU time"
            )
            args = self.name, CROWD
            log_safely(self.logger, logging.WARNING, text, *args, about=self.hub)

    @contextmanager
    def hook_call(self, what: str, request: Request) -> Iterator[None]:
        """Let the watchdog see a hook or page that the calling thread calls for ``request``."""
        call = HookCall(what, request)
        with self.registry.busy(call):
            try:
                yield
            finally:
                call.runner = None

    def refuse_draining(self) -> None:
        """Refuse a new client while the hub sends its clients elsewhere.

        :raises HandshakeRejected: with 503.
        """
        if self.state.draining:
            raise HandshakeRejected(503, "The server is going away.", (("Retry-After", "1"),))

    def make_meta(self, request: Request) -> Any:
        """Return a new client's meta, from ``on_handshake`` or ``meta_gen``.

        :raises HandshakeRejected: when the hook refuses the client, or fails.
        """
        self.wait_open()  # the hooks may need things that delayed_execution makes
        hook = self.setting.on_handshake
        try:
            if hook is None:
                return checked(self.setting.meta_gen())
            with self.hook_call("on_handshake", request):
                return checked(hook(request))
        except HandshakeRejected:
            raise
        except BaseException as error:  # noqa: BLE001 - logged
            self.incidents.log_exception(error, "the handshake hook raised for %r", request)
            raise HandshakeRejected(500, ACCEPT_FAILED) from None

    def wait_open(self) -> None:
        """Wait until ``delayed_execution`` has run, or the hub has closed without running it.

        On the hub thread, which runs it, return at once.
        """
        if not self.loop.is_here():
            self.state.wait_open()
