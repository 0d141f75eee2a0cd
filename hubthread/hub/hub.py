"""The hub: one thread that brings all shared work into one order.

Layer: hub.  Threads: the hub thread runs closures and fans out; every method may be called on
any thread, unless it says otherwise.
Source: the specification's ``Hub``, ``IHub``, ``NewHub``, ``NewHubRun``, ``SocketHandles``.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Hashable
from dataclasses import asdict
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast, overload

from hubthread.checks import check_kind, check_work
from hubthread.clients.client import Client
from hubthread.clients.each import EachClient
from hubthread.clients.ratelimit import behind_limit, limiter_of
from hubthread.concurrency.clock import Clock
from hubthread.concurrency.context import Context
from hubthread.core.core import Core
from hubthread.core.runtime import Runtime
from hubthread.errors import InternalError
from hubthread.hub.dhub import DHub
from hubthread.hub.lifecycle import Lifecycle
from hubthread.hub.polling import LongPollingOption, LongPollingResult
from hubthread.matcher.compile import marshal_json, unmarshal_json
from hubthread.protocol.handshake import validate_origin_check
from hubthread.protocol.http import Response
from hubthread.rooms.hotline import Hotline
from hubthread.rooms.silent import SilentHotline
from hubthread.serving.accept import ASK
from hubthread.serving.listening import Endpoint, Listening
from hubthread.serving.raw_server import SocketServer, open_socket_server
from hubthread.serving.server import Server, open_server
from hubthread.serving.wsgi import WSGIAnswer, WSGIBridge
from hubthread.settings import HotlineOption, HubSetting
from hubthread.statistics import HubStatistics
from hubthread.types import ConnectionProtocols, Key, check_key

if TYPE_CHECKING:
    import ssl as tls
    from collections.abc import Mapping

    from hubthread.interfaces import IOContext
    from hubthread.protocol.request import Request

__all__ = ["Hub"]

Meta = TypeVar("Meta")
Header = TypeVar("Header", bound=Hashable)
T = TypeVar("T")


class Parts(NamedTuple):
    """What a hub is assembled from; ``hubthread.testing`` has virtual ones."""

    core: Core[Any, Any]
    lifecycle: Lifecycle
    bridge: WSGIBridge


class Hub(EachClient[Meta, Header]):
    """Connections, rooms and shared state, in one order.

    ``with Hub(setting) as hub:`` starts the hub, and closes it at the end.

    :param setting: see ``HubSetting``; its matcher accepts no more handlers afterwards.
    """

    def __init__(self, setting: HubSetting[Meta, Header]) -> None:
        self._core: Core[Meta, Header]
        self._core, self._lifecycle, self._bridge = self._assemble(setting)
        core = self._core
        core.client_class = Client
        core.limiter = limiter_of(setting.limits, core.clock.now)
        core.intercept = behind_limit(core.limiter, setting.on_receive_message)
        validate_origin_check(setting.websocket_period.upgrader.check_origin)
        if setting.receive_matcher is not None:
            setting.receive_matcher.freeze()

    def _assemble(self, setting: HubSetting[Meta, Header]) -> Parts:
        runtime = Runtime.real(setting.hub_name or uuid.uuid4().hex[:8], setting.logger)
        core = Core(self, setting, runtime, DHub)
        lifecycle = Lifecycle(core)
        return Parts(core, lifecycle, WSGIBridge(core, lifecycle.start_once, self.close))

    @property
    def setting(self) -> HubSetting[Meta, Header]:
        """The setting that the hub was made with."""
        return self._core.setting

    @property
    def name(self) -> str:
        """The hub's name in logs, thread names and statistics."""
        return self._core.name

    @property
    def logger(self) -> logging.Logger:
        """The logger that the hub writes to."""
        return self._core.logger

    @property
    def context(self) -> Context:
        """A context that is cancelled while the hub closes, once its clients had time to go.

        Cancelling it earlier closes the hub, as does cancelling ``HubSetting.context``.
        """
        return self._core.context

    @property
    def clock(self) -> Clock:
        """The clock of rooms and polls; ``clock.now()`` is virtual in ``hubthread.testing``."""
        return self._core.clock

    @classmethod
    def started(cls, setting: HubSetting[Meta, Header]) -> Hub[Meta, Header]:
        """A hub with its thread running (``NewHubRun``)."""
        hub = cls(setting)
        hub.start()
        return hub

    def start(self) -> None:
        """Run the hub on a thread of its own; returns at once.

        :raises UsageError: when it was started before.
        :raises RuntimeError: when the system gives no thread; it may be tried again.
        """
        self._lifecycle.start()

    def run(self) -> None:
        """Run the hub on the calling thread, until it is closed (``Run``).

        :raises UsageError: when it was started before.
        :raises KeyboardInterrupt: after an orderly close, when it struck here: on the main
            thread, without a SIGINT handler of the program's own, at once in a closure and
            else between two jobs; a second one at once.
        """
        self._lifecycle.run_here()

    # Closures.

    def exec_async(self, work: Callable[[DHub[Meta, Header]], object]) -> None:
        """Run ``work(dhub)`` on the hub thread; returns at once (``ExecAsync``).

        A closure that was accepted runs exactly once, in the order of acceptance.  What
        it raises is logged and counted.

        :raises HubClosed: when the hub is closed; the closure will not run.
        :raises QueueFull: when ``chan_queue_size`` closures wait.
        """
        check_work(work)
        self._core.loop.exec_async(work)

    def exec_sync(
        self, work: Callable[[DHub[Meta, Header]], T], timeout: float | None = None
    ) -> T:
        """Run ``work(dhub)`` on the hub thread and return its result (``ExecSync``).

        What it raises is raised here.  On the hub thread itself it runs at once; where the
        hub has not started yet it waits for that too.

        :param timeout: seconds.
        :raises HubClosed, QueueFull: as ``exec_async``.
        :raises DeadlockError: when the hub waits for this thread.
        :raises ExecTimeout: with the stack of what the hub is doing; the work still runs.
        """
        check_work(work)
        return self._core.loop.exec_sync(work, timeout)

    # Sending to all.

    def broadcast(self, data: str | bytes, *, key: Key | None = None) -> int:
        """Send to every client (``HubBroadcast``); the broadcast's number, at once.

        All clients see broadcasts in one order.

        :param key: for ``Overflow.LATEST``: a waiting message of the same key is replaced.
        :raises HubClosed: when the hub is closed.
        :raises QueueFull: when ``chan_queue_size`` broadcasts wait.
        """
        if key is not None:
            check_key(key)
        return self._core.registry.everyone.push(self._core.make_frame(data), key)

    def broadcast_with_filter(
        self,
        data: str | bytes,
        predicate: Callable[[Hub[Meta, Header], IOContext, Meta], bool],
    ) -> None:
        """Send to every client for whom ``predicate(hub, ctx, meta)`` is true.

        It is asked on the hub thread, in order with the other broadcasts; where it raises,
        that client is left out and the log told (``BroadcastWithFilter``).

        :raises HubClosed, QueueFull: as ``broadcast``.
        """
        check_work(predicate)
        frame = self._core.make_frame(data)

        def send(clients: list[Client[Meta, Header]]) -> None:
            for client in clients:
                try:
                    wanted = predicate(self, client, client.meta)
                except KeyboardInterrupt as error:
                    self._core.loop.interrupt(error)  # meant for the program, not for the filter
                except BaseException as error:  # noqa: BLE001 - told to the log
                    self._core.incidents.log_exception(
                        error, "a broadcast filter raised for %r", client
                    )
                else:
                    if wanted:
                        client.ws_conn.send(frame)

        self._core.registry.everyone.run(send)

    # Objects and bytes.

    def marshal(self, obj: object) -> str | bytes:
        """``obj`` as a payload: by the matcher's function, else as JSON (``Marshal``)."""
        matcher = self.setting.receive_matcher
        return marshal_json(obj) if matcher is None else matcher.marshal(obj)

    @overload
    def unmarshal(self, data: str | bytes, into: type[T]) -> T: ...
    @overload
    def unmarshal(self, data: str | bytes, into: Any) -> Any: ...
    def unmarshal(self, data: str | bytes, into: Any) -> Any:
        """A payload as an object of type ``into`` (``Unmarshal``).

        :raises PayloadError: when it does not fit.
        """
        matcher = self.setting.receive_matcher
        return unmarshal_json(data, into) if matcher is None else matcher.unmarshal(data, into)

    def byte_splicing(self, prefix: str | bytes, obj: object) -> str | bytes:
        """``prefix`` and the marshalled ``obj``, of the prefix's kind (``ByteSplicing``)."""
        check_kind("prefix", prefix, str | bytes, "text or bytes")
        data = self.marshal(obj)
        if isinstance(prefix, str):
            return prefix + (data if isinstance(data, str) else data.decode())
        return prefix + (data.encode() if isinstance(data, str) else data)

    # Rooms and clients.

    def hotline(self, option: HotlineOption | None = None) -> Hotline[Meta, Header]:
        """A new room (``NewHotline``, ``NewHotlineWithOption`` and their Direct variants).

        :raises HubClosed: when the hub is closing.
        """
        if option is not None:
            check_kind("option", option, HotlineOption, "a HotlineOption or None")
        self._core.state.refuse_closing("opens no hotline")
        name = option.name if option is not None else ""
        hotline = Hotline(self._core, self._core.registry.next_hotline_id(), name)
        self._core.registry.add(hotline)
        return hotline

    def silent_hotline(self) -> SilentHotline[Meta, Header]:
        """A room that nobody hears (``NewHotlineSilence``, ``NewHotlineSilenceDirect``)."""
        return SilentHotline(self._core, self._core.registry.next_hotline_id())

    def long_polling(self, option: LongPollingOption) -> LongPollingResult:
        """Ask again and again until something is done, or time is up (``LongPolling``).

        Returns at once; see ``LongPollingOption``.

        :raises HubClosed: when the hub is closing.
        :raises RuntimeError: when the system gives no thread.
        """
        self._core.state.refuse_closing("polls no more")
        return LongPollingResult(self._core, option)

    def clients(self) -> list[Client[Meta, Header]]:
        """Every client, in the order of coming."""
        return self._core.registry.everyone.members()

    def clients_num(self) -> int:
        """How many clients are connected."""
        return self._core.registry.everyone.members_num()

    def _to_visit(self) -> tuple[Core[Any, Any], Callable[[], list[Client[Meta, Header]]]]:
        return self._core, self.clients

    # Ways in.

    def serve(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        ssl: tls.SSLContext | None = None,
        unix_path: str | None = None,
        path: str | None = None,
        pages: Mapping[str, Callable[[Request], Response]] | None = None,
        max_connections: int = 10_000,
        backlog: int = 1024,
    ) -> Server:
        """Listen for WebSocket clients; returns at once.

        :param host: an address or name of this machine; ``"0.0.0.0"`` for all of IPv4,
            ``"::"`` for IPv6, by default this machine only.
        :param port: 0 takes a free one: see ``server.address``.
        :param ssl: a server's context, for ``wss``.
        :param unix_path: listen on a Unix socket there instead of ``host`` and ``port``.
        :param path: where the WebSocket is; ``None``: everywhere.
        :param pages: plain HTTP on the same port: path → ``function(request) -> Response``,
            called on a thread of that request's own.  Everything else is 404.
        :param max_connections: at the same time, plain HTTP included; more get 503.
        :param backlog: connections that the system queues before they are accepted.
        :raises OSError: when the address cannot be listened on.
        :raises SettingError: for a value out of range.
        :raises HubClosed: when the hub is closing.
        """
        self._core.state.refuse_closing("serves nobody")
        endpoint = Endpoint(host, port, ssl, backlog, unix_path)
        return open_server(self._core, endpoint, path, pages or {}, max_connections)

    def socket_handles(
        self,
        addr: str,
        port: int,
        protocol: ConnectionProtocols,
        *,
        ssl: tls.SSLContext | None = None,
        max_peers: int = 10_000,
        backlog: int = 1024,
    ) -> SocketServer:
        """Let raw TCP or UDP peers in as clients of this hub; returns at once (``SocketHandles``).

        ``HubSetting.socket_period`` says how their messages end and how they are kept alive.
        ``on_handshake``, where there is one, is asked for them too: its request has the
        method ``"TCP"`` or ``"UDP"``, the peer's address, and no headers.

        :param addr: an address or name of this machine, as for ``serve``.
        :param port: 0 takes a free one: see ``address`` of what is returned.
        :param protocol: ``ConnectionProtocols.TCP`` or ``UDP``.
        :param ssl: a server's context, for TLS on TCP.
        :param max_peers: at the same time; more are closed at once.
        :param backlog: TCP connections that the system queues before they are accepted.
        :raises OSError: when the address cannot be listened on.
        :raises SettingError: for a value out of range.
        :raises HubClosed: when the hub is closing.
        """
        self._core.state.refuse_closing("serves nobody")
        endpoint = Endpoint(addr, port, ssl, backlog)
        return open_socket_server(self._core, endpoint, protocol, max_peers)

    def websocket_handler(
        self,
        environ: dict[str, Any],
        start_response: Callable[[str, list[tuple[str, str]]], object] | None = None,
        meta: Meta = ASK,
        *,
        max_connections: int = 10_000,
    ) -> WSGIAnswer:
        """Make the request of a WSGI application a client (``WebSocketHandler``).

        The socket is taken from the WSGI server, one of the hub's own threads serves it, and
        this returns at once: no worker is held.  Where a connection cannot be moved (TLS
        that the WSGI server ends itself, Windows) the calling thread serves the client and
        this returns at its end: see ``statistics().wsgi_parked``.

        A hub that is new is started, on this first need, so it may be made before a server
        forks.  It is closed when the process ends: its clients are told 1001.

        :param environ: as the application was called with; once for each request.
        :param start_response: called with the answer; ``None``: call what is returned, or
            return it from a Flask view.
        :param meta: the client's (``WebSocketHandlerWithMeta``); ``on_handshake`` and
            ``meta_gen`` are not asked then: whoever calls this has decided who may come.
        :param max_connections: through this method at the same time; more get 503.
        :returns: what the application is to return: the end of the request, or its refusal
            (426 for what is no WebSocket, 403 for a foreign page, 429 for an address beyond
            ``Limits.connections_per_address``, 501 for a server whose sockets cannot be had,
            503 for a hub that is closed, full or out of threads).
        :raises UsageError: for an environ whose request is a client already, and for a hub
            that had threads in another process, before it forked.
        """
        answer = self._bridge.enter(environ, meta, max_connections)
        if start_response is not None:
            start_response(answer.status, answer.headers)
        return answer

    def start_once(self) -> None:
        """Start a new hub in this process, and close it when the process ends.

        Returns when its ``delayed_execution``, if any, has run.  For a WSGI application that
        pushes before anybody has come by ``websocket_handler``, which does the same.  A hub
        that was started here, or has ended, stays as it is.

        :raises UsageError: when it had threads in another process, before that forked.
        :raises RuntimeError: when the system gives no thread; it may be tried again.
        """
        self._bridge.start_once()

    def servers(self) -> list[Listening]:
        """Return the servers that listen now, oldest first."""
        return cast("list[Listening]", self._core.servers.all())

    # The end.

    def wait_add(self, count: int = 1) -> None:
        """Let ``close`` wait for ``count`` more calls of ``wait_done`` (``WaitAdd``).

        :raises SettingError: for a count below 1.
        """
        self._core.state.wait_add(count)

    def wait_done(self) -> None:
        """One thing less for ``close`` to wait for (``WaitDone``).

        :raises UsageError: when there was none.
        """
        self._core.state.wait_done()

    def close(self, timeout: float = 10.0) -> None:
        """End everything, within ``timeout`` seconds (``Close``).

        Stop accepting; wait for ``wait_done``; run what was submitted; tell every client
        1001; bring out what waits for them, until near the deadline; cut who is left;
        join every thread.  A second call waits for the first.  Where the hub would wait for
        the caller (in a handler, in a closure) it returns at once, and another thread does it.
        """
        self._lifecycle.close(timeout)

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the hub is closed, ``timeout`` seconds at most; whether it is.

        :raises InternalError: when the hub was stopped by a bug of its own.
        """
        closed = self._lifecycle.join(timeout)
        if closed and self._core.state.failure is not None:
            raise InternalError(f"{self!r} was stopped by a bug") from self._core.state.failure
        return closed

    def __enter__(self) -> Hub[Meta, Header]:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def state(self) -> str:
        """``new``, ``running``, ``closing``, ``closed``, or ``failed`` by a bug of our own."""
        return "failed" if self._core.state.failure is not None else self._core.state.value

    def statistics(self) -> HubStatistics:
        """What is to be known of the hub now."""
        hotlines, total, dropped, ended = self._core.registry.counts()
        return HubStatistics(
            name=self.name,
            state=self.state,
            clients=self.clients_num(),
            hotlines=hotlines,
            threads=self._core.threads.count(),
            queue_depth=self._core.loop.depth(),
            closures_run=self._core.loop.closures_run,
            closures_failed=self._core.loop.closures_failed,
            clients_total=total,
            handshakes_refused=self._core.refusals.count,
            messages_dropped=dropped,
            ended_by=ended,
            wsgi_moved=self._bridge.moved,
            wsgi_parked=self._bridge.parked,
            queue_age=self._core.loop.oldest(),
            closure_running=self._core.loop.running(),
            closure_longest=self._core.loop.longest,
            limits_struck=self._core.incidents.counts(),
            stuck=self._lifecycle.watchdog.stuck,
        )

    def health(self, request: Request) -> Response:
        """A page that says how the hub is: ``hub.serve(pages={"/health": hub.health})``.

        Its statistics as JSON, with status 200, or 503 while the hub thread has been in one
        closure for longer than ``HubSetting.watchdog``, before the hub has been started, and
        from when it closes.  It is made on the request's own thread, so it answers where the
        hub thread does not.  It names no client, but tells everybody how many there are.
        """
        statistics = self.statistics()
        limit = self.setting.watchdog
        stuck = limit is not None and statistics.closure_running > limit
        well = statistics.state == "running" and not stuck
        return Response.json(asdict(statistics), 200 if well else 503)

    def __repr__(self) -> str:
        return f"<Hub {self.name} {self.state}, {self.clients_num()} clients>"
