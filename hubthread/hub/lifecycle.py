"""How a hub begins and ends: its states, its threads, and the order of closing (G7).

Layer: hub.  Threads: ``close`` from any; the order is walked by the first thread that
calls it, or by a thread for it where the caller is one of the hub's own.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

from hubthread.checks import check_number
from hubthread.concurrency.calls import stack_of, wait_for
from hubthread.concurrency.clock import RealClock
from hubthread.concurrency.logs import log_safely
from hubthread.concurrency.sigint import interrupts_between_jobs
from hubthread.errors import ExecTimeout, HubClosed, HubThreadError, UsageError
from hubthread.net.connection import GOING_AWAY
from hubthread.rooms.ticking.control import FrameControl

if TYPE_CHECKING:
    from hubthread.hub.hub import Hub

__all__ = ["Lifecycle"]

LOOK_UP = 1.0
"""Seconds after which ``join`` waits anew, and so sees a signal that was missed."""

FORCE_SHARE = 0.25
"""The part of the time to close that is kept for cutting and joining what is left."""


class Lifecycle:
    """The state of one hub: ``new``, ``running``, ``closing``, ``closed``.

    Threads: every method from any.
    """

    def __init__(self, hub: Hub[Any, Any]) -> None:
        self._hub = hub
        self._changed = threading.Condition()  # guards what follows, and tells of changes
        self._busy = 0
        self._runs = False  # the loop
        self._process = 0  # where it was started
        self.opened = hub.setting.delayed_execution is None
        self.state = "new"
        self.failure: BaseException | None = None

    def start(self) -> None:
        """Run the hub on a thread of its own.

        :raises UsageError: when it was started before.
        :raises RuntimeError: when the system gives no thread; the hub is as before.
        """
        self._begin()
        try:
            self._start_thread()
        except RuntimeError:
            with self._changed:
                if self.state == "running":  # not "closing": somebody is about to end it
                    self.state = "new"
            raise
        self._hub.watchdog.start()
        self._hub.idle.start()

    def start_once(self) -> None:
        """Start, unless somebody has, and wait until it is open; one that has ended stays so.

        :raises UsageError: when it had threads in another process, before that forked.
        :raises RuntimeError: as ``start``.
        """
        self._refuse_forked()
        with contextlib.suppress(UsageError):  # it was started meanwhile
            if self.state == "new":
                self.start()
        if self.state == "running":
            self.wait_open()

    def wait_open(self) -> None:
        """Return when ``delayed_execution`` has run, or never will; on the hub thread at once."""
        if not self.opened and not self._hub.loop.is_here():
            wait_for(self._changed, lambda: self.opened or self.state == "closed", None)

    def run_here(self) -> None:
        """Run the hub on the calling thread, until it is closed.

        :raises UsageError: when it was started before.
        """
        self._begin()
        self._runs = True
        self._hub.watchdog.start()
        self._hub.idle.start()
        with interrupts_between_jobs(self._hub.loop):
            self._run()

    def _refuse_forked(self) -> None:
        if self._process not in (0, os.getpid()) or self._hub.threads.left_behind():
            raise UsageError(
                f"hub {self._hub.name} had threads in another process, before this one was "
                f"forked from it, and they have not come along: make it with Hub(setting), let "
                f"the first request start it, and begin rooms with a clock and polls in "
                f"HubSetting.delayed_execution"
            )

    def _begin(self) -> None:
        self._refuse_forked()
        with self._changed:
            if self.state != "new":
                raise UsageError(f"this hub is {self.state}: a hub runs once, make a new one")
            self.state = "running"
            self._process = os.getpid()

    def _start_thread(self) -> None:
        self._runs = True
        try:
            self._hub.threads.start(self._run, "hub")
        except RuntimeError:
            self._runs = False
            raise

    def _run(self) -> None:
        """The hub thread."""
        self._watch_deadline()
        try:
            self._hub.loop.run(on_interrupt=self._close_elsewhere)
        finally:
            with self._changed:
                self._runs = False
                self._changed.notify_all()

    def _watch_deadline(self) -> None:
        deadline = self._hub.context.deadline
        if deadline is not None:  # nobody is told when it passes, so it is watched
            self._hub.timers.set(deadline - monotonic(), self._close_if_open)

    def delayed_execution(self) -> None:
        """On the hub thread, before anything else there: what the user has put off."""
        work = self._hub.setting.delayed_execution
        assert work is not None
        try:
            work(self._hub)
        except KeyboardInterrupt:
            raise  # meant for the program
        except BaseException as error:  # noqa: BLE001 - told to the log
            self._hub.incidents.log_exception(error, "%r: delayed_execution raised", self._hub)
        finally:
            with self._changed:
                self.opened = True
                self._changed.notify_all()

    def refuse_closing(self, what: str) -> None:
        """:raises HubClosed: when the hub is closing or closed."""
        if self.state in ("closing", "closed"):
            raise HubClosed(f"hub {self._hub.name} is {self.state} and {what}")

    def context_cancelled(self, reason: str) -> None:
        """From the hub's context: somebody wants the end, if it is not the end already."""
        self._close_if_open()

    def _close_if_open(self) -> None:
        if self.state in ("new", "running"):
            self._close_elsewhere()

    def failed(self, error: BaseException) -> None:
        """The hub thread has stopped by a bug of ours: end everything else too."""
        self.failure = error
        self._close_elsewhere()

    def wait_add(self, count: int) -> None:
        """``close`` has ``count`` things more to wait for."""
        check_number("count", count, 1, whole=True)
        with self._changed:
            self._busy += count

    def wait_done(self) -> None:
        """``close`` has one thing less to wait for."""
        with self._changed:
            if self._busy == 0:
                raise UsageError("wait_done without a wait_add before it")
            self._busy -= 1
            self._changed.notify_all()

    def join(self, timeout: float | None) -> bool:
        """Wait until the hub is closed; whether it is."""

        def closed() -> bool:
            return self.state == "closed"

        if timeout is None and isinstance(self._hub.clock, RealClock):
            # Python may miss a signal that comes as a wait begins, until that wait is over:
            # a program that waits here for Ctrl-C would wait for ever.
            while not wait_for(self._changed, closed, LOOK_UP):
                pass
            return True
        return wait_for(self._changed, closed, timeout)

    def close(self, timeout: float) -> None:
        """Walk the order of closing, once; a second caller waits for the first."""
        check_number("timeout", timeout, 0)
        if self._would_wait_for_caller():
            self._close_elsewhere(timeout)
            return
        with self._changed:
            first = self.state in ("new", "running")
            fresh = self.state == "new"
            if first:
                self.state = "closing"
        if not first:
            self.join(timeout)
            return
        try:
            if fresh:  # what was submitted before the start was accepted, so it runs
                self._start_thread()
            self._walk(self._hub.clock.now() + timeout, timeout)
        finally:
            with self._changed:
                self.state = "closed"
                self._changed.notify_all()

    def _would_wait_for_caller(self) -> bool:
        hub = self._hub
        # A thread of the user's own may run the hub (``run``), or a client's closure
        # (``exec_sync``, where the client is idle).
        here = hub.threads.is_mine() or hub.loop.is_here()
        return here or any(client.is_here() for client in hub.clients())

    def _close_elsewhere(self, timeout: float = 10.0) -> None:
        def close() -> None:
            self._hub.threads.leave()  # or it would wait for itself
            self.close(timeout)

        self._hub.threads.start(close, "closer")

    def _walk(self, deadline: float, timeout: float) -> None:
        hub = self._hub
        gentle = deadline - timeout * FORCE_SHARE

        def left(until: float) -> float:
            return max(0.0, until - hub.clock.now())

        # 1. Nobody new.
        for server in hub.servers():
            server.close()
        # 2. What the user has asked to wait for, and what was submitted so far.
        done = self._wait(lambda: self._busy == 0, left(gentle))
        if not done:
            self._say("%r is closing, but %d wait_done are missing", hub, self._busy)
        try:
            hub.loop.exec_sync(lambda _: None, left(gentle))
        except ExecTimeout as error:
            if done:  # else there was no time for it
                self._say("%r is closing, but its thread is busy: %s", hub, error)
        except HubThreadError:
            pass  # it has failed, or its queue is full of what will still run
        # 3. Everybody is told.  Under the room's lock a client that comes now is either
        #    among these, or refused by the room and told by its own thread.
        hub.registry.everyone.seal()
        for client in hub.clients():
            client.close(GOING_AWAY, "the server is going away")
        hub.connections.cut_handshakes()
        # 4. Outboxes drain and closing handshakes end, by themselves; then force.
        hub.connections.wait_empty(left(gentle))
        hub.connections.cut_all()
        # Handlers that wait for a context, and so keep their client from seeing its end.
        self._call(lambda: hub.context.cancel("the hub was closed"))
        hub.connections.wait_empty(left(deadline - timeout * FORCE_SHARE / 2))
        # 5. What the last callbacks have submitted still finds its rooms.
        with contextlib.suppress(HubThreadError):  # a busy hub is told of below
            hub.loop.exec_sync(lambda _: None, left(deadline - timeout * FORCE_SHARE / 4))
        # 6. Everything of ours ends.
        for hotline in hub.registry.hotlines():
            hotline.close()
        for hotline in hub.registry.hotlines():  # those that end by themselves
            if isinstance(hotline, FrameControl):  # its last callback may use the hub
                hotline.join(left(deadline - timeout * FORCE_SHARE / 4))
        hub.workers.close()
        hub.timers.close()
        hub.watchdog.close()
        hub.flusher.close()
        hub.loop.close()
        # The loop may run on a thread of the user's, not to be joined.
        self._wait(lambda: not self._runs, left(deadline))
        late: dict[str, list[int | None]] = {}
        for thread in hub.threads.join(deadline):
            late.setdefault(thread.name, []).append(thread.ident)
        if self._runs:
            late.setdefault(f"{hub.threads.prefix}-hub", [hub.loop.runner])
        # One of each name: a thousand handlers that hang are not to be as many stacks.
        for name, (ident, *others) in late.items():
            more = f" and {len(others)} others of that name" if others else ""
            self._say(
                "%r is closed, but %s%s still runs; it is doing:\n%s",
                hub,
                name,
                more,
                stack_of(ident),
            )

    def _say(self, text: str, *args: object) -> None:
        log_safely(self._hub.logger, logging.ERROR, text, *args)

    def _wait(self, arrived: Callable[[], bool], timeout: float) -> bool:
        with self._changed:
            return self._changed.wait_for(arrived, timeout)

    def _call(self, callback: Callable[[], object]) -> None:
        try:
            callback()
        except HubClosed:
            pass
        except Exception as error:  # noqa: BLE001 - told to the log
            self._hub.incidents.log_exception(error, "%r: a context's callback raised", self._hub)
