"""The hub: one thread that puts everything that is shared into one order.

Layer: hub.  Threads: the hub thread runs closures and fans out; every method is for any
thread, unless it says otherwise.
Source: the specification's ``Hub``, ``IHub``, ``NewHub``, ``NewHubRun``.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Hashable
from dataclasses import asdict
from functools import partial
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, overload

from hubthread.checks import check_kind, check_work
from hubthread.clients.client import Client
from hubthread.clients.each import EachClient
from hubthread.clients.idle import Idle
from hubthread.clients.ratelimit import behind_limit, limiter_of
from hubthread.concurrency.clock import Clock, RealClock
from hubthread.concurrency.context import Context
from hubthread.concurrency.flusher import Flusher
from hubthread.concurrency.incidents import Incidents
from hubthread.concurrency.loop import Loop
from hubthread.concurrency.threads import Threads
from hubthread.concurrency.timers import Timers
from hubthread.concurrency.watchdog import Watchdog
from hubthread.concurrency.workers import Workers
from hubthread.core.framer import framer
from hubthread.core.options import websocket_options
from hubthread.core.push_log import PushLog
from hubthread.core.registry import Registry
from hubthread.errors import InternalError
from hubthread.hub.dhub import DHub
from hubthread.hub.entrances import Serves
from hubthread.hub.lifecycle import Lifecycle
from hubthread.hub.polling import LongPollingOption, LongPollingResult
from hubthread.limits import OUTBOX
from hubthread.matcher.compile import marshal_json, unmarshal_json
from hubthread.net.address_limit import AddressLimit
from hubthread.protocol.handshake import validate_origin_check
from hubthread.protocol.http import Response
from hubthread.rooms.hotline import Hotline
from hubthread.rooms.silent import SilentHotline
from hubthread.settings import HotlineOption, HubSetting
from hubthread.statistics import HubStatistics
from hubthread.types import Key, check_key

if TYPE_CHECKING:
    from hubthread.interfaces import IOContext
    from hubthread.protocol.request import Request

__all__ = ["Hub"]

Meta = TypeVar("Meta")
Header = TypeVar("Header", bound=Hashable)
T = TypeVar("T")


class Hub(EachClient[Meta, Header], Serves[Meta, Header]):
    """Connections, rooms and shared state, in one order.

    ``with Hub(setting) as hub:`` starts it and, at the end, closes it.

    :param setting: see ``HubSetting``; its matcher is frozen here.
    """

    def __init__(self, setting: HubSetting[Meta, Header]) -> None:
        self.setting = setting
        self.name = setting.hub_name or uuid.uuid4().hex[:8]
        self.logger = setting.logger
        self.context = Context(setting.context)
        """Cancelled while the hub closes, when its clients have had their time to go.

        Whoever cancels it before closes the hub, and so does ``HubSetting.context``.
        """
        # What clients, rooms and servers are built on; not for users.
        bound = setting.chan_queue_size
        self._equip()
        self.loop: Loop[DHub[Meta, Header]] = Loop(
            f"hub {self.name}",
            bound,
            DHub(self),
            self.incidents,
            self.lifecycle.failed,
            self.clock.now,
        )
        self.registry: Registry[Meta, Header] = Registry(
            PushLog(self.loop.schedule, bound, f"hub {self.name}")
        )
        self.watchdog = Watchdog(
            setting.watchdog,
            self.clock,
            lambda: [self.loop, *self.registry.watched()],
            self.logger,
        )
        most, shared = setting.limits.connections_per_address, setting.limits.shared_addresses
        self.addresses = AddressLimit(most, shared, self.incidents)
        self.idle = Idle(setting.limits.idle_time, self.clients, self.timers)
        self._init_serving()
        self.limiter = limiter_of(setting.limits, self.clock.now)
        self.intercept = behind_limit(self.limiter, setting.on_receive_message)
        self.frame = framer(setting.websocket_period)
        period = setting.websocket_period
        self.options = websocket_options(setting, partial(self.incidents.count_limit, OUTBOX))
        validate_origin_check(period.upgrader.check_origin)
        if setting.receive_matcher is not None:
            setting.receive_matcher.freeze()
        self.context.add_callback(self.lifecycle.context_cancelled)
        if setting.delayed_execution is not None:
            self.loop.schedule(self.lifecycle.delayed_execution)  # the first in the queue

    def _equip(self) -> None:
        """What it runs on: threads and real time.  In virtual time: ``hubthread.testing``."""
        self.lifecycle = Lifecycle(self)
        self.incidents = Incidents(self.logger, monotonic)
        self.threads = Threads(f"hubthread-{self.name}", self.incidents)
        self.clock: Clock = RealClock(self.threads)
        self.workers = Workers(self.threads)
        self.timers = Timers(self.threads, self.incidents)
        self.flusher = Flusher(self.threads)

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
        self.lifecycle.start()

    def run(self) -> None:
        """Run the hub on the calling thread, until it is closed (``Run``).

        :raises UsageError: when it was started before.
        :raises KeyboardInterrupt: after an orderly close, when it struck here: on the main
            thread, without a SIGINT handler of the program's own, at once in a closure and
            else between two jobs; a second one at once.
        """
        self.lifecycle.run_here()

    # Closures.

    def exec_async(self, work: Callable[[DHub[Meta, Header]], object]) -> None:
        """Run ``work(dhub)`` on the hub thread; returns at once (``ExecAsync``).

        A closure that was accepted runs exactly once, in the order of acceptance.  What
        it raises is logged and counted.

        :raises HubClosed: when the hub is closed; the closure will not run.
        :raises QueueFull: when ``chan_queue_size`` closures wait.
        """
        check_work(work)
        self.loop.exec_async(work)

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
        return self.loop.exec_sync(work, timeout)

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
        return self.registry.everyone.push(self.frame(data), key)

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
        frame = self.frame(data)

        def send(clients: list[Client[Meta, Header]]) -> None:
            for client in clients:
                try:
                    wanted = predicate(self, client, client.meta)
                except KeyboardInterrupt as error:
                    self.loop.interrupt(error)  # meant for the program, not for the filter
                except BaseException as error:  # noqa: BLE001 - told to the log
                    self.incidents.log_exception(error, "a broadcast filter raised for %r", client)
                else:
                    if wanted:
                        client.ws_conn.send(frame)

        self.registry.everyone.run(send)

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
        self.lifecycle.refuse_closing("opens no hotline")
        name = option.name if option is not None else ""
        hotline = Hotline(self, self.registry.next_hotline_id(), name)
        self.registry.add(hotline)
        return hotline

    def silent_hotline(self) -> SilentHotline[Meta, Header]:
        """A room that nobody hears (``NewHotlineSilence``, ``NewHotlineSilenceDirect``)."""
        return SilentHotline(self, self.registry.next_hotline_id())

    def long_polling(self, option: LongPollingOption) -> LongPollingResult:
        """Ask again and again until something is done, or time is up (``LongPolling``).

        Returns at once; see ``LongPollingOption``.

        :raises HubClosed: when the hub is closing.
        :raises RuntimeError: when the system gives no thread.
        """
        self.lifecycle.refuse_closing("polls no more")
        return LongPollingResult(self, option)

    def clients(self) -> list[Client[Meta, Header]]:
        """Every client, in the order of coming."""
        return self.registry.everyone.members()

    def clients_num(self) -> int:
        """How many clients are connected."""
        return self.registry.everyone.members_num()

    def _to_visit(self) -> tuple[Hub[Meta, Header], Callable[[], list[Client[Meta, Header]]]]:
        return self, self.clients

    # The end.

    def wait_add(self, count: int = 1) -> None:
        """Let ``close`` wait for ``count`` more calls of ``wait_done`` (``WaitAdd``).

        :raises SettingError: for a count below 1.
        """
        self.lifecycle.wait_add(count)

    def wait_done(self) -> None:
        """One thing less for ``close`` to wait for (``WaitDone``).

        :raises UsageError: when there was none.
        """
        self.lifecycle.wait_done()

    def close(self, timeout: float = 10.0) -> None:
        """End everything, within ``timeout`` seconds (``Close``).

        Stop accepting; wait for ``wait_done``; run what was submitted; tell every client
        1001; bring out what waits for them, until near the deadline; cut who is left;
        join every thread.  A second call waits for the first.  Where the hub would wait for
        the caller (in a handler, in a closure) it returns at once, and another thread does it.
        """
        self.lifecycle.close(timeout)

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the hub is closed, ``timeout`` seconds at most; whether it is.

        :raises InternalError: when the hub was stopped by a bug of its own.
        """
        closed = self.lifecycle.join(timeout)
        if closed and self.lifecycle.failure is not None:
            raise InternalError(f"{self!r} was stopped by a bug") from self.lifecycle.failure
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
        return "failed" if self.lifecycle.failure is not None else self.lifecycle.state

    def statistics(self) -> HubStatistics:
        """What is to be known of the hub now."""
        hotlines, total, dropped, ended = self.registry.counts()
        return HubStatistics(
            name=self.name,
            state=self.state,
            clients=self.clients_num(),
            hotlines=hotlines,
            threads=self.threads.count(),
            queue_depth=self.loop.depth(),
            closures_run=self.loop.closures_run,
            closures_failed=self.loop.closures_failed,
            clients_total=total,
            handshakes_refused=self._refused,
            messages_dropped=dropped,
            ended_by=ended,
            wsgi_moved=self.entrance.moved,
            wsgi_parked=self.entrance.parked,
            queue_age=self.loop.oldest(),
            closure_running=self.loop.running(),
            closure_longest=self.loop.longest,
            limits_struck=self.incidents.counts(),
            stuck=self.watchdog.stuck,
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
