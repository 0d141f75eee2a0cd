"""The beginning and the end of a hub: its threads, and the order of closing (G7).

Layer: hub.  Threads: ``close`` may be called on any thread.  The first thread that calls it
walks the order of closing.  If that is a thread of the hub itself, another thread walks instead.
"""

from __future__ import annotations

import contextlib
import contextvars
import itertools
import logging
import re
from collections.abc import Callable
from time import monotonic
from typing import Any

from hubthread.checks import check_number, check_timeout, checked
from hubthread.clients.idle import IdleSweep
from hubthread.concurrency.bell import Bell
from hubthread.concurrency.calls import stack_of, thread_id
from hubthread.concurrency.crew import only_waits
from hubthread.concurrency.logs import log_safely
from hubthread.concurrency.loop import EARLY
from hubthread.concurrency.sigint import interrupts_between_jobs
from hubthread.concurrency.watchdog import Watchdog
from hubthread.core.core import Core
from hubthread.errors import (
    DeadlockError,
    ExecTimeout,
    HubClosed,
    HubThreadError,
    InternalError,
    UsageError,
)
from hubthread.hub.drain import INTERVAL, drain, pace
from hubthread.hub.fork import refusal, watch_forks
from hubthread.hub.worker_metrics import WorkerMetrics
from hubthread.protocol.close_codes import AFTER_LOSS, MOST_RETRY, CloseCode

__all__ = ["Lifecycle"]

_CREW = re.compile("(-(?:readers|ticks))-.*")

GRACE = 0.5
"""Seconds that ``close`` waits beyond its deadline for a walk that code of the program blocks."""

LISTENER_SHARE = 0.1
"""The share of the time to close that one listening socket may take."""

PROGRESS = 2.0
"""Seconds between two log lines about the connections that ``close`` waits for."""

RETURNS_PER_SECOND = 150
"""Handshakes a second for the next server, from the clients that are told to come back."""

FORCE_SHARE = 0.25
"""The share of the time to close for cutting connections and joining threads at the end."""


class Lifecycle:
    """Starts one hub, and closes it.

    Threads: every method may be called on any thread.
    """

    def __init__(self, core: Core[Any, Any]) -> None:
        self._core = core
        self._state = core.state
        setting, registry = core.setting, core.registry
        self.watchdog = Watchdog(
            setting.watchdog, core.clock, lambda: [core.loop, *registry.watched()], core.logger
        )
        self.metrics = WorkerMetrics(core)
        self._walker: int | None = None  # the thread that walks the order of closing
        self._lines: list[tuple[Any, ...]] = []  # to log at the end of the walk
        self._idle = IdleSweep(setting.limits.idle_time, registry.everyone.members, core.timers)
        self.start_early: Callable[[], object] | None = None
        """Called when something is posted to the hub before its start; may start it."""
        self._early: float | None = None  # the time of the first such post
        self._warned = False
        self._begun = False  # False after an interrupted start: the hub may have no thread
        self._runs = itertools.count()
        core.loop.on_early = self._posted_early
        watch_forks(core)
        core.state.on_failure(self._close_soon)
        core.context.add_callback(lambda reason: self._close_if_open())
        if setting.delayed_execution is not None:
            core.loop.schedule(self._delayed_execution)  # the first in the queue

    def start(self) -> None:
        """Run the hub on a thread of its own.

        :raises UsageError: when it was started before.
        :raises RuntimeError: when the system cannot start a thread; the hub is as before.
        """
        try:
            self._begin()
            try:
                self._start_thread()
                self._begun = True
            except RuntimeError:
                self._state.cannot_begin()
                self._core.loop.on_early = self._posted_early
                raise
            self._start_parts()
        except Exception:
            raise
        except BaseException:  # an interrupt: a part of the hub may not run
            if self._state.value == "running":
                self._close_elsewhere(timeout=0.1)
            raise

    def start_once(self) -> None:
        """Start a new hub; leave any other hub as it is.

        :raises UsageError: when the hub had threads in another process, before that one forked.
        :raises RuntimeError: as ``start``.
        """
        self._refuse_forked()
        with contextlib.suppress(UsageError):  # another thread has started it meanwhile
            if self._state.value == "new":
                self.start()

    def run_here(self) -> None:
        """Run the hub on the calling thread, until it is closed.

        :raises UsageError: when it was started before.
        """
        try:
            self._begin()
            self._state.loop_runs = True
            self._start_parts()
            with interrupts_between_jobs(self._core.loop):
                self._run()
        except Exception:
            raise
        except BaseException:  # an interrupt: the hub may not run
            if self._state.value == "running":
                self._close_elsewhere(timeout=0.1)
            raise

    def _posted_early(self) -> None:
        if self._state.value == "new" and self.start_early is not None:
            self.start_early()
        if self._state.value != "new":
            return
        now = self._core.clock.now()
        if self._early is None:
            self._early = now
        if now - self._early >= EARLY and not self._warned:
            self._warned = True
            text = (
                "%r was not started in this process, and its closures and pushes have waited for "
                "more than %g s: start it, or let the process that has the clients do this"
            )
            log_safely(self._core.logger, logging.WARNING, text, self._core.hub, EARLY)

    def _refuse_forked(self) -> None:
        if self._state.forked() or self._core.threads.left_behind():
            raise UsageError(refusal(self._core.name))

    def _begin(self) -> None:
        self._refuse_forked()
        self._state.begin()
        self._core.loop.on_early = None

    def _start_parts(self) -> None:
        self._core.started_at = self._core.clock.now()
        self.watchdog.start()
        self._idle.start()
        self._core.sharing.start()
        self._core.letters.start()
        self.metrics.start()
        for each in list(self._core.on_start):
            each()

    def _start_thread(self) -> None:
        self._state.loop_runs = True
        try:
            self._core.threads.start(self._run, "hub")
        except BaseException:  # after an interrupt the thread may run all the same
            self._state.loop_runs = False
            raise

    def _run(self) -> None:
        """Run the hub thread."""
        if next(self._runs):  # the thread of a start that was interrupted runs the hub
            return
        self._begun = True
        self._state.loop_runs = True
        self._watch_deadline()
        try:
            self._core.loop.run(on_interrupt=self._close_soon)
        finally:
            self._state.loop_ended()

    def _watch_deadline(self) -> None:
        deadline = self._core.context.deadline
        if deadline is not None:  # a context calls no callback when its deadline passes
            self._core.timers.set(deadline - monotonic(), self._close_if_open)

    def _delayed_execution(self) -> None:
        """Call ``delayed_execution``: the first job on the hub thread."""
        work = self._core.setting.delayed_execution
        assert work is not None
        hub = self._core.hub
        try:
            checked(contextvars.Context().run(work, hub))
        except KeyboardInterrupt:
            raise  # meant for the program
        except BaseException as error:  # noqa: BLE001 - logged
            self._core.incidents.log_exception(error, "%r: delayed_execution raised", hub)
        finally:
            self._state.open()

    def close_running(self) -> None:
        """Close a hub that runs, on another thread."""
        if self._state.refusal is None and self._state.value == "running":
            self._close_elsewhere()

    def _close_if_open(self) -> None:
        if self._state.refusal is None and self._state.value in ("new", "running"):
            self._close_elsewhere()

    def join(self, timeout: float | None) -> bool:
        """Wait until the hub is closed; see ``Hub.join``."""
        closed = self._wait_closed(timeout)
        if closed and self._state.failure is not None:
            text = f"{self._core.hub!r} was stopped by a bug"
            raise InternalError(text) from self._state.failure
        return closed

    def _wait_closed(self, timeout: float | None) -> bool:
        check_timeout(timeout)
        if self._state.refusal is not None:
            raise UsageError(self._state.refusal)
        return self._state.wait_closed(timeout)

    def drain(self, batch: int, interval: float, timeout: float | None) -> bool:
        """Tell the clients to come back elsewhere; see ``Hub.drain``."""
        check_number("batch", batch, 1, whole=True)
        check_number("interval", interval, 0)
        check_timeout(timeout)
        self._state.refuse_closing("is not drained")
        if self._would_wait_for_caller():
            raise DeadlockError(
                "drain waits for every client, also for the one whose callback calls it: call it "
                "on a thread of the program"
            )
        return drain(self._core, self._wait_clients, batch, interval, timeout)

    def end(self, close: Callable[[], object]) -> None:
        """Drain the hub as ``HubSetting.drain`` says, and close it, because the process ends."""
        self.let_go(self._core.setting.drain)
        close()

    def let_go(self, seconds: float | None) -> None:
        """Drain the hub in ``seconds``; do nothing for None, or if the hub does not run."""
        running = self._state.refusal is None and self._state.value == "running"
        if seconds is not None and running and not self._would_wait_for_caller():
            batch = pace(self._core.registry.everyone.members_num(), seconds)
            drain(self._core, self._wait_clients, batch, INTERVAL, seconds)

    def close(self, timeout: float) -> None:
        """Walk the order of closing, once; a second caller waits for the first.

        In a forked child there is nothing to close: the sockets are the parent's.
        """
        check_number("timeout", timeout, 0)
        if self._state.refusal is not None or self._walker == thread_id():
            return
        if self._would_wait_for_caller():
            self._close_elsewhere(timeout)
        elif self._state.value in ("new", "running"):
            self._close_and_wait(timeout)
        else:
            self._wait_closed(timeout)

    def _close_and_wait(self, timeout: float) -> None:
        # On a thread of its own: a log handler, or a callback of a context, may block the walk.
        try:
            logged = self._close_elsewhere(timeout)
        except RuntimeError:  # no thread
            if not self._close_here(timeout):
                self._wait_closed(timeout)
            return
        if self._state.wait_closed(timeout + GRACE):
            logged.wait(GRACE)

    def _close_here(self, timeout: float) -> bool:
        """Walk the order of closing; return False if another thread does."""
        if self._state.begin_close() is None:
            return False
        self._walker = thread_id()
        try:
            if not self._begun:  # closures that were accepted before the start still run
                self._start_thread()
            self._walk(self._core.clock.now() + timeout, timeout)
        finally:
            self._walker = None
            self._state.end()
            lines, self._lines = self._lines, []
            for line in lines:
                log_safely(self._core.logger, logging.ERROR, *line)
        return True

    def _would_wait_for_caller(self) -> bool:
        core = self._core
        # A thread of the program may run the hub (``run``), or a client's closure
        # (``exec_sync``, where the client is idle).
        here = core.threads.is_mine() or core.loop.is_here()
        return here or any(client.is_here() for client in core.registry.everyone.members())

    def _close_soon(self) -> None:
        self._close_elsewhere()

    def _close_elsewhere(self, timeout: float = 10.0) -> Bell:
        """Close on another thread; return a bell that rings at the end."""
        logged = Bell()

        def close() -> None:
            self._core.threads.leave()  # or it would wait for itself
            try:
                self._close_here(timeout)
            finally:
                logged.ring()

        self._core.threads.start(close, "closer")
        return logged

    def _walk(self, deadline: float, timeout: float) -> None:
        core, state = self._core, self._state
        gentle = deadline - timeout * FORCE_SHARE

        def left(until: float) -> float:
            return max(0.0, until - core.clock.now())

        # 1. Accept no more connections, and wait for no other hub.
        core.letters.close()
        for server in core.servers.all():
            server._close(left(gentle) * LISTENER_SHARE)
        # 2. Wait for ``wait_done``, and for the closures that were accepted so far.
        done = self._wait(lambda: state.missing == 0, left(gentle))
        if not done:
            text = "%r is closing, but %d calls of wait_done are missing"
            self._log(text, core.hub, state.missing)
        try:
            core.loop.exec_sync(lambda _: None, left(gentle))
        except ExecTimeout as error:
            if done:  # otherwise no time was left for it
                self._log("%r is closing, but its thread is busy: %s", core.hub, error)
        except HubThreadError:
            pass  # the hub thread has failed, or its queue is full of work that still runs
        # 3. Let the ticking rooms say their last word, while their members can still hear it.
        spoken = core.clock.now() + left(gentle) / 2
        self._let_rooms_speak(lambda: left(spoken))
        #    Tell every client.  A client that comes now is either among these, or the sealed
        #    push log refuses it and its own thread tells it.
        core.registry.everyone.seal()
        members = [*core.registry.everyone.members(), *core.registry.expected()]
        seconds = min(len(members) / RETURNS_PER_SECOND, MOST_RETRY)
        retry = seconds if seconds > AFTER_LOSS else None  # otherwise they know themselves
        for client in members:
            client.close(CloseCode.GOING_AWAY, "the server is going away", retry)
        if core.sessions is not None:
            core.sessions.close()
        core.connections.cut_handshakes()
        # 4. Outboxes drain and closing handshakes end by themselves.  Then cut the rest.
        self._wait_connections(left(gentle))
        core.connections.cut_all()
        # This ends handlers that wait for a context and so hold up their client's end.
        self._call(lambda: core.context.cancel("the hub was closed"))
        self._wait_connections(left(deadline - timeout * FORCE_SHARE / 2))
        # 5. Closures of the last callbacks still find their rooms.
        with contextlib.suppress(HubThreadError):  # a busy hub is logged below
            core.loop.exec_sync(lambda _: None, left(deadline - timeout * FORCE_SHARE / 4))
        # 6. End the rooms, then every thread.
        hotlines = core.registry.hotlines()
        for hotline in hotlines:
            hotline.close()
        for hotline in hotlines:  # the last callback of a room may use the hub
            hotline._wait_ended(left(deadline - timeout * FORCE_SHARE / 4))
        core.sharing.close(left(deadline))
        self.metrics.close()
        if core.readers is not None:
            core.readers.close()
        core.workers.close()
        core.timers.close()
        self.watchdog.close()
        core.flusher.close()
        core.loop.close()
        # The loop may run on a thread of the program, which must not be joined.
        self._wait(lambda: not state.loop_runs, left(deadline))
        late: dict[str, list[tuple[str, int | None]]] = {}
        for thread in core.threads.join(left(deadline)):
            if not only_waits(thread):  # a crew ends with its last step
                # A thread of a crew is named after the client or room that blocks it.
                kind = _CREW.sub(r"\1", thread.name)
                late.setdefault(kind, []).append((thread.name, thread.ident))
        if state.loop_runs:
            name = f"{core.threads.prefix}-hub"
            late.setdefault(name, [(name, core.loop.runner)])
        # One stack for each kind: a thousand hanging handlers must not log a thousand stacks.
        for (name, ident), *others in late.values():
            more = f" and {len(others)} others of its kind" if others else ""
            self._log(
                "%r is closed, but %s%s still runs; it is doing:\n%s",
                core.hub,
                name,
                more,
                stack_of(ident),
            )

    def _let_rooms_speak(self, left: Callable[[], float]) -> None:
        hotlines = self._core.registry.hotlines()
        calls = [hotline._last_word() for hotline in hotlines]
        for call in calls:
            call(left())

    def _log(self, text: str, *args: object) -> None:
        # Logged after the walk, which a log handler must not block.
        self._lines.append((text, *args))

    # Virtual time passes in these; see ``hubthread.testing``.

    def _wait(self, arrived: Callable[[], bool], timeout: float) -> bool:
        return self._state.wait(arrived, timeout)

    def _wait_connections(self, timeout: float) -> bool:
        """Wait until every connection has ended; log once in a while how many are left."""
        connections, now = self._core.connections, self._core.clock.now
        end = now() + timeout
        while True:
            left = max(0.0, end - now())
            if self._wait_clients(min(left, PROGRESS), connections.is_empty):
                return True
            if left <= PROGRESS:
                return False
            self._log_progress(len(connections))

    def _log_progress(self, count: int) -> None:
        core = self._core

        def log() -> None:
            text = "%r is closing: %d connections are left"
            log_safely(core.logger, logging.INFO, text, core.hub, count)

        # A log handler may block this thread, so without another one nothing is logged.
        with contextlib.suppress(RuntimeError, HubThreadError):
            core.workers.submit(log)

    def _wait_clients(self, timeout: float, arrived: Callable[[], bool]) -> bool:
        return self._core.connections.wait(arrived, timeout)

    def _call(self, callback: Callable[[], object]) -> None:
        try:
            callback()
        except HubClosed:
            pass
        except Exception as error:  # noqa: BLE001 - logged
            text = "%r: a context's callback raised"
            self._core.incidents.log_exception(error, text, self._core.hub)
