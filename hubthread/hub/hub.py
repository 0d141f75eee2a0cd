"""The hub: one thread that brings all shared work into one order.

Layer: hub.  Threads: the hub thread runs closures and sends pushes and broadcasts.  Every method
may be called on any thread, unless it says otherwise.
Source: the specification's ``Hub``, ``IHub``, ``NewHub``, ``NewHubRun``, ``SocketHandles``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from hubthread.checks import check_kind, check_timeout, check_work
from hubthread.clients.client import Client
from hubthread.clients.each import EachClient
from hubthread.concurrency.clock import Clock
from hubthread.concurrency.context import Context
from hubthread.core.core import Core
from hubthread.hub import metrics, payloads, report, sending
from hubthread.hub.dhub import DHub
from hubthread.hub.monitor import Guard, Monitor
from hubthread.hub.parts import Parts, assemble, wire
from hubthread.hub.polling import LongPollingOption, LongPollingResult
from hubthread.hub.rooms import MakeOption, RoomMaker
from hubthread.hub.users import User
from hubthread.matcher.compile import marshal_json
from hubthread.protocol.http import Response
from hubthread.protocol.request import Request
from hubthread.rooms.hotline import Hotline
from hubthread.rooms.silent import SilentHotline
from hubthread.serving.accept import ASK
from hubthread.serving.listening import Endpoint, Listening
from hubthread.serving.raw_server import SocketServer, open_socket_server
from hubthread.serving.server import Server, open_server
from hubthread.serving.wsgi import WSGIAnswer
from hubthread.settings import HotlineOption, HubSetting
from hubthread.statistics import HubStatistics
from hubthread.types import ClientID, ConnectionProtocols, Key

if TYPE_CHECKING:
    import socket
    import ssl as tls
    from collections.abc import Collection, Mapping
    from os import PathLike

    from hubthread.hub.cluster import Callee
    from hubthread.interfaces import IOContext
    from hubthread.nodes import Node, Target
    from hubthread.rooms.ticking.owned import OwnedOption, OwnedRoom

__all__ = ["Hub"]

Meta = TypeVar("Meta")
Header = TypeVar("Header", bound=Hashable)
T = TypeVar("T")


class Hub(EachClient[Meta, Header]):
    """Clients, rooms and shared state, kept in one order (``NewHub``).

    ``with Hub(setting) as hub:`` starts the hub, and closes it at the end of the block.

    Threads: every method may be called on any thread, unless it says otherwise.  Closures of
    ``exec_async`` and ``exec_sync``, and the predicates of filters, run on the hub thread.

    :param setting: see ``HubSetting``; its matcher accepts no more handlers afterwards.
    :raises SettingError: for a ``check_origin`` that is neither a policy nor a function.
    """

    def __init__(self, setting: HubSetting[Meta, Header]) -> None:
        check_kind("setting", setting, HubSetting, "a HubSetting")
        self._core, self._lifecycle, self._bridge = self._assemble(setting)
        self._rooms: RoomMaker[Meta, Header] = RoomMaker(self._core)
        wire(self._core)

    def _assemble(self, setting: HubSetting[Meta, Header]) -> Parts:
        return assemble(self, setting)

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
        """A context that is cancelled while the hub closes; cancelling it closes the hub."""
        return self._core.context

    @property
    def clock(self) -> Clock:
        """The clock of rooms and polls; ``clock.now()`` is virtual in ``hubthread.testing``."""
        return self._core.clock

    @classmethod
    def started(cls, setting: HubSetting[Meta, Header]) -> Hub[Meta, Header]:
        """Make a hub and start it (``NewHubRun``); see ``start``."""
        hub = cls(setting)
        hub.start()
        return hub

    def start(self) -> None:
        """Start the hub on a thread of its own; return at once.

        :raises UsageError: when the hub was started before.
        :raises RuntimeError: when the system cannot start a thread; ``start`` may be called again.
        """
        self._lifecycle.start()

    def run(self) -> None:
        """Run the hub on the calling thread until the hub is closed (``Run``).

        :raises UsageError: when the hub was started before.
        :raises KeyboardInterrupt: after the hub has closed, if Ctrl-C arrived while it ran on
            the main thread and the program has no SIGINT handler.  The first Ctrl-C interrupts
            a closure at once, and the library's work between two jobs.  A second one
            interrupts at once.
        """
        self._lifecycle.run_here()

    # Closures.

    def exec_async(self, work: Callable[[DHub[Meta, Header]], object]) -> None:
        """Run ``work(dhub)`` on the hub thread; return at once (``ExecAsync``).

        A closure that was accepted runs exactly once, in the order of acceptance.  An exception
        of ``work`` is logged and counted.

        :raises HubClosed: when the hub is closed; ``work`` will not run.
        :raises QueueFull: when ``HubSetting.chan_queue_size`` closures wait.
        """
        check_work(work, ("dhub",))
        self._core.loop.exec_async(work)

    def exec_sync(
        self, work: Callable[[DHub[Meta, Header]], T], timeout: float | None = None
    ) -> T:
        """Run ``work(dhub)`` on the hub thread and return its result (``ExecSync``).

        An exception of ``work`` is raised here.  On the hub thread ``work`` runs at once.  Before
        ``start`` the call also waits for the start.

        :param timeout: seconds; None waits without limit.
        :raises HubClosed: when the hub is closed; ``work`` will not run.
        :raises QueueFull: when ``HubSetting.chan_queue_size`` closures wait.
        :raises DeadlockError: when the hub waits for this thread.
        :raises ExecTimeout: after ``timeout`` seconds; its text has the stack of the hub
            thread.  ``work`` still runs.
        """
        check_work(work, ("dhub",))
        check_timeout(timeout)
        return self._core.loop.exec_sync(work, timeout)

    # Sending to all, and to other hubs.

    def broadcast(
        self,
        data: str | bytes,
        *,
        key: Key | None = None,
        exclude: IOContext | Iterable[IOContext] | None = None,
    ) -> int:
        """Send a text or binary message to every client (``HubBroadcast``).

        All clients see broadcasts in one order.

        :param key: for ``Overflow.LATEST``: replaces a waiting message with the same key.
        :param exclude: a client, or several, that do not get the message.
        :returns: the broadcast's number, at once.
        :raises ContextNotClient: when ``exclude`` has anything but clients.
        :raises HubClosed: when the hub is closed.
        :raises QueueFull: when ``HubSetting.chan_queue_size`` broadcasts wait.
        :raises WrongValue: for anything but ``str`` or ``bytes``, and text that is not UTF-8.
        """
        return sending.broadcast(self._core, data, key, exclude)

    def broadcast_json(
        self, obj: object, *, exclude: IOContext | Iterable[IOContext] | None = None
    ) -> int:
        """Send ``obj`` as JSON text to every client; see ``broadcast``.

        :param obj: anything that ``marshal_json`` takes.
        """
        return self.broadcast(marshal_json(obj), exclude=exclude)

    def broadcast_with_filter(
        self,
        data: str | bytes,
        predicate: Callable[[Hub[Meta, Header], IOContext, Meta], bool],
    ) -> None:
        """Send to the clients for which a predicate is true (``BroadcastWithFilter``).

        :param predicate: called with ``(hub, ctx, meta)`` for each client, on the hub thread,
            in order with the other broadcasts.  An exception is logged, and leaves the client
            out.
        :raises HubClosed, QueueFull, WrongType, WrongValue: as ``broadcast``.
        """
        sending.broadcast_filtered(self._core, data, predicate)

    def push(
        self,
        rooms: Iterable[Hotline[Meta, Header]],
        data: str | bytes,
        *,
        key: Key | None = None,
        exclude: IOContext | Iterable[IOContext] | None = None,
    ) -> list[int]:
        """Send a message to every client that is in any of the rooms, once.

        In each room the message has its place among the room's pushes.  A client that changes
        between the rooms during the call may miss it.  A client that comes back with positions in
        several of the rooms gets a missed message in each of them.

        :param key: for ``Overflow.LATEST``: replaces a waiting message with the same key.
        :param exclude: a client, or several, that do not get the message.
        :returns: the number of the push in each room; see ``Hotline.push``.
        :raises ContextNotClient: when ``exclude`` has anything but clients.
        :raises HotlineClosed: when a room is closed; then no room gets the push.
        :raises HubClosed: when the hub is closed.
        :raises QueueFull: when ``HubSetting.chan_queue_size`` pushes wait in a room.
        :raises WrongValue: for anything but ``str`` or ``bytes``, and text that is not UTF-8.
        """
        return sending.push_to_several(self._core, rooms, data, key, exclude)

    def cluster(self) -> list[Node]:
        """Return all hubs of the backplane, each as it has described itself within 5 s."""
        return list(self._core.letters.cluster())

    def tell(self, target: Target, data: str | bytes, *, key: Key | None = None) -> None:
        """Send a message to clients in any hub, if they are connected now; return at once.

        :param target: the name of a user, a client's ``ctx.address``, or a hub of ``cluster``.
        :param key: for ``Overflow.LATEST``: replaces a waiting message with the same key.
        :raises BackplaneDown, QueueFull, HubClosed, WrongType: as a push to a shared room.
        """
        self._core.letters.tell(target, data, key)

    def call(self, node: Callee, name: str, payload: Any = None, timeout: float = 2) -> Any:
        """Run ``HubSetting.calls[name]`` in another hub, and return its result.

        :param node: a hub of ``cluster``, or its ``id``, such as ``ctx.address.node``.  A room
            runs ``OwnedOption.calls[name]`` in the hub that owns the room.
        :param payload: a value that JSON can express, and so is the result.
        :param timeout: seconds; the function begins within twice this time, or never.
        :raises NodeGone, CallFailed: when there is no such hub; when the function raises.
        :raises CallTimeout, BackplaneDown: when no answer has come; the function may have run.
        :raises HubClosed: when this hub closes, also while it waits.
        :raises UsageError: on the hub thread, and in a tick.
        """
        return self._core.letters.call(node, name, payload, timeout)

    # Objects and bytes.

    def marshal(self, obj: object) -> str | bytes:
        """Encode an object as the matcher does, or as JSON without a matcher (``Marshal``)."""
        return payloads.marshal(self.setting, obj)

    @overload
    def unmarshal(self, data: str | bytes, into: type[T]) -> T: ...
    @overload
    def unmarshal(self, data: str | bytes, into: Any) -> Any: ...
    def unmarshal(self, data: str | bytes, into: Any) -> Any:
        """Decode a payload as the matcher does, or as JSON without a matcher (``Unmarshal``).

        :param into: the type of the result, as in a handler's annotation.
        :raises PayloadError: when the payload does not fit the type.
        """
        return payloads.unmarshal(self.setting, data, into)

    def byte_splicing(self, prefix: str | bytes, obj: object) -> str | bytes:
        """Return ``prefix`` followed by the encoded ``obj``, as one type (``ByteSplicing``)."""
        return payloads.splice_object(self.setting, prefix, obj)

    # Rooms and clients.

    def hotline(self, option: HotlineOption | None = None) -> Hotline[Meta, Header]:
        """Open a room (``NewHotline``, ``NewHotlineWithOption`` and their Direct variants).

        :raises UsageError: for a shared room whose name an open room has.
        :raises HubClosed: when the hub is closing.
        """
        return self._rooms.make(option)

    def room(self, name: str, option: MakeOption = None) -> Hotline[Meta, Header]:
        """Return the room of that name, and make it if there is none.

        If several threads ask at once, one of them makes the room.

        :param option: the option of a new room, or a function that returns it for the name.
        :raises SettingError: for a name that is not 1 to 200 printable characters.
        """
        return self._rooms.find_or_make(name, option)

    def own(self, name: str, option: OwnedOption[T]) -> OwnedRoom[T]:
        """Return a room whose clock runs in one of the hubs that call this, in one at a time.

        If several threads of this hub ask at once, one of them makes the room.

        :raises UsageError: when this hub has another kind of room of that name.
        :raises SettingError: for a name that is not 1 to 200 printable characters.
        :raises HubClosed: when the hub is closing.
        """
        return self._rooms.own(name, option)

    def rooms(self) -> list[Hotline[Meta, Header]]:
        """Return the rooms that ``room`` finds, oldest first."""
        return self._core.registry.rooms()

    def silent_hotline(self) -> SilentHotline[Meta, Header]:
        """Return a room without members (``NewHotlineSilence``, ``NewHotlineSilenceDirect``)."""
        return SilentHotline(self._core, self._core.registry.next_hotline_id())

    def long_polling(self, option: LongPollingOption) -> LongPollingResult:
        """Call a function again and again until it succeeds or time is up (``LongPolling``).

        Returns at once; see ``LongPollingOption``.

        :raises HubClosed: when the hub is closing.
        :raises RuntimeError: when the system cannot start a thread.
        """
        return LongPollingResult(self._core, option)

    def client(self, connection_id: ClientID) -> Client[Meta, Header] | None:
        """Return the client of that id, or None if it is gone."""
        return self._core.registry.client(connection_id)

    def clients(self) -> list[Client[Meta, Header]]:
        """Return every client, oldest first."""
        return self._core.registry.everyone.members()

    def clients_num(self) -> int:
        """Return the number of clients."""
        return self._core.registry.everyone.members_num()

    def user(self, name: str) -> User[Meta, Header]:
        """Return the user of that name: all clients with this ``ctx.user``."""
        check_kind("name", name, str, "a string")
        return User(self._core, name)

    def users(self) -> list[User[Meta, Header]]:
        """Return every user that has a client."""
        return [User(self._core, name) for name in self._core.registry.users()]

    def _to_visit(self) -> tuple[Core[Any, Any], Callable[[], list[Client[Meta, Header]]]]:
        return self._core, self.clients

    # Ways in.

    def serve(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        ssl: tls.SSLContext | None = None,
        unix_path: str | PathLike[str] | None = None,
        unix_mode: int | None = None,
        sock: socket.socket | None = None,
        reuse_port: bool = False,
        proxy_protocol: Collection[str] = (),
        path: str | None = None,
        pages: Mapping[str, Callable[[Request], Response]] | None = None,
        client: str | None = None,
        max_connections: int = 10_000,
        backlog: int = 1024,
    ) -> Server:
        """Listen for WebSocket clients; return at once.

        :param host: an address or name of this machine: ``"0.0.0.0"`` for all of IPv4,
            ``"::"`` for IPv6 and IPv4.  Of a name, all addresses.  The default reaches this
            machine only.
        :param port: 0 takes a free port; see ``server.address``.
        :param ssl: a TLS context for servers; clients then use ``wss``.
        :param unix_path: a Unix socket instead; ``unix_mode``: the permissions of its file.
        :param sock: a bound stream socket instead; the server owns it (``systemd_sockets``).
        :param reuse_port: let several processes listen on the port (``SO_REUSEPORT``).
        :param proxy_protocol: addresses of proxies, such as ``["10.0.0.0/8"]`` or ``["unix"]``,
            whose connections begin with a PROXY header (version 1 or 2).
        :param path: the path of the WebSocket; None takes every path.
        :param pages: plain HTTP on the same port: maps a path to ``function(request) ->
            Response``, called on the request's own thread.  Other paths get 404.
        :param client: the path of the browser's client, such as ``"/hubthread.js"``.
        :param max_connections: the most connections at the same time, plain HTTP included;
            further ones get 503, except for ``pages``.
        :param backlog: the number of connections that the system queues.
        :raises OSError: when the address cannot be listened on.
        :raises SettingError: for a value out of range.
        :raises HubClosed: when the hub is closing.
        """
        endpoint = Endpoint(
            host, port, ssl, backlog, reuse_port, unix_path, unix_mode, sock, proxy_protocol
        )
        return open_server(self._core, endpoint, path, pages, client, max_connections)

    def socket_handles(
        self,
        addr: str,
        port: int,
        protocol: ConnectionProtocols,
        *,
        ssl: tls.SSLContext | None = None,
        max_peers: int = 10_000,
        backlog: int = 1024,
        reuse_port: bool = False,
        proxy_protocol: Collection[str] = (),
    ) -> SocketServer:
        """Listen for raw TCP or UDP peers; return at once (``SocketHandles``).

        ``HubSetting.socket_period`` says how their messages end, and how silent they may be.
        ``on_handshake`` is called for them, too: its request has the method ``"TCP"`` or
        ``"UDP"``, the peer's address and no headers.

        :param addr: an address or name of this machine, as ``host`` of ``serve``.
        :param port: 0 takes a free port; see ``server.address``.
        :param protocol: ``ConnectionProtocols.TCP`` or ``UDP``.
        :param ssl: a TLS context for servers, for TCP.
        :param max_peers: the most peers at the same time; further ones are closed at once.
        :param backlog: the number of TCP connections that the system queues.
        :param reuse_port: as for ``serve``, and ``proxy_protocol`` too.
        :raises OSError: when the address cannot be listened on.
        :raises SettingError: for a value out of range.
        :raises HubClosed: when the hub is closing.
        """
        endpoint = Endpoint(addr, port, ssl, backlog, reuse_port, proxy_protocol=proxy_protocol)
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

        The hub takes the socket from the WSGI server and serves it on a thread of its own.
        This returns at once, so no worker is held.  A connection that cannot be moved (TLS that
        ends in the WSGI server, Windows) is served on the calling thread, and this returns when
        the client has gone; see ``statistics().wsgi_parked``.

        The first call starts a new hub, and the end of the process closes it.

        :param environ: the request's environ; each request may be passed once.
        :param start_response: called with the answer.  None: the caller calls the result as a
            WSGI application, or returns it from a Flask view.
        :param meta: the client's meta (``WebSocketHandlerWithMeta``).  With a meta neither
            ``on_handshake`` nor ``meta_gen`` is called: the caller admits the client.
        :param max_connections: the most connections through this method at the same time;
            further ones get 503.
        :returns: the application's response: the end of the request, or a refusal (426 without
            a WebSocket upgrade, 403 for a foreign page, 429 beyond
            ``Limits.connections_per_address``, 501 if the server does not let go of its
            sockets, 503 for a hub that is closed, full or out of threads).
        :raises UsageError: for a request that is a client already, and as ``start_once``.
        """
        return self._bridge.answer(environ, start_response, meta, max_connections)

    def start_once(self) -> None:
        """Start a new hub in this process, and close it when the process ends.

        Returns when ``delayed_execution`` has run.  A hub that was started before stays as it is.

        :raises UsageError: when the hub had threads in a process that this one was forked from.
        :raises RuntimeError: when the system cannot start a thread; the call may be repeated.
        """
        self._bridge.start_once()

    def servers(self) -> list[Listening]:
        """Return the servers that listen now, oldest first."""
        return cast("list[Listening]", self._core.servers.all())

    # The end.

    def wait_add(self, count: int = 1) -> None:
        """Make ``close`` wait for ``count`` more calls of ``wait_done`` (``WaitAdd``).

        :raises SettingError: for a count below 1.
        """
        self._core.state.wait_add(count)

    def wait_done(self) -> None:
        """Report one thing done that ``close`` waits for (``WaitDone``).

        :raises UsageError: when ``wait_add`` has not announced it.
        """
        self._core.state.wait_done()

    def drain(self, batch: int = 100, interval: float = 1.0, timeout: float | None = None) -> bool:
        """Send the clients elsewhere, ``batch`` of them each ``interval`` seconds, oldest first.

        From now on the hub takes no new clients, and its health page answers 503.  Each client
        gets its waiting messages, and the close code 1012 with the advice to come back at a random
        time.  The hub's state is ``draining`` until ``close``, which should follow.

        :param timeout: seconds; None waits without limit.
        :returns: True when all clients have gone; False after ``timeout`` seconds.
        :raises HubClosed: when the hub is closing.
        :raises DeadlockError: in a callback of the hub.
        :raises SettingError: for a number out of range.
        """
        return self._lifecycle.drain(batch, interval, timeout)

    def close(self, timeout: float = 10.0) -> None:
        """Close the hub within ``timeout`` seconds (``Close``).

        The steps are: stop accepting; wait for ``wait_done``; run the closures that were
        accepted; tell every client 1001; send the messages that wait for them, until three
        quarters of the time are up; cut the clients that are left; join every thread.  If code
        of the program, such as a log handler, blocks one of these steps, this returns at most
        half a second after the time is up.

        A second call waits for the first.  In a handler or a closure this returns at once, and
        another thread closes the hub.

        :raises SettingError: for a ``timeout`` that is not a number of seconds.
        """
        self._lifecycle.close(timeout)

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the hub is closed.

        :param timeout: seconds; None waits without limit.
        :returns: False after ``timeout`` seconds.
        :raises InternalError: when a bug of hubthread has stopped the hub.
        """
        return self._lifecycle.join(timeout)

    def __enter__(self) -> Hub[Meta, Header]:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def state(self) -> str:
        """``new``, ``running``, ``draining``, ``closing``, ``closed``, or ``failed`` by a bug."""
        return report.state_of(self._core)

    def statistics(self) -> HubStatistics:
        """Return a snapshot of the hub's counters."""
        return report.snapshot(self._core, self._lifecycle, self._bridge)

    def health(self, request: Request | None = None) -> Response:
        """Answer a health check; serve it with ``hub.serve(pages={"/health": hub.health})``.

        The page is ``statistics()`` as JSON.  Its status is 200, or 503 before the start, from
        the begin of a drain or the close, and while one closure runs longer than
        ``HubSetting.watchdog``.
        It is made on the request's own thread, so it answers even if the hub thread is stuck.
        Everyone who can request it sees the number of clients.
        """
        return report.health_page(self.statistics(), self.setting.watchdog)

    def metrics(self, request: Request) -> Response:
        """Answer a scrape of Prometheus: ``hub.serve(pages={"/metrics": hub.metrics})``.

        The page is in Prometheus' text format, or in OpenMetrics where the request asks for it.
        It is made on the request's own thread, so it answers even if the hub thread is stuck.
        Everyone who can request it sees the figures.  They name the kinds of rooms
        (``HotlineOption.kind``), but no client and no room.
        """
        return metrics.answer_scrape(self._lifecycle.metrics.families, request)

    def metrics_app(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> list[bytes]:
        """Answer a scrape inside a WSGI server, as ``metrics`` does.  A WSGI application."""
        found = self._lifecycle.metrics.families
        return metrics.answer_wsgi_scrape(found, environ, start_response)

    def monitor(
        self, *, token: str | None = None, guard: Guard | None = None, actions: bool = False
    ) -> Monitor:
        """Make a page for operators: clients, rooms, ticks, stuck callbacks; see ``Monitor``.

        :param token: the token that the page asks for, 16 characters or more; ``None`` makes one.
        :param guard: decides instead of a token: ``function(request)`` returns the operator's
            name, or ``None`` to refuse.  It runs on the request's thread.
        :param actions: True lets operators close clients and rooms, stop clocks, and drain.
        """
        return Monitor(self._core, token, guard, actions)

    def _log_ids(self) -> dict[str, object]:
        return {"hub_name": self.name}

    def __repr__(self) -> str:
        return f"<Hub {self.name} {self.state}, {self.clients_num()} clients>"
