"""The runtime of a virtual hub: jobs of its clock, where a real hub has threads.

Layer: testing.  Threads: only the thread that made the clock.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from typing import Any

from hubthread.concurrency.clock import Drive
from hubthread.concurrency.flusher import Corked, Flusher
from hubthread.concurrency.incidents import Incidents
from hubthread.concurrency.threads import Threads
from hubthread.concurrency.timers import Timer, Timers
from hubthread.concurrency.workers import Workers
from hubthread.core.core import Core
from hubthread.core.runtime import Runtime
from hubthread.errors import HubClosed
from hubthread.hub.lifecycle import Lifecycle
from hubthread.testing.clock import FakeClock
from hubthread.testing.transport import Parked

__all__ = [
    "VirtualFlusher",
    "VirtualLifecycle",
    "VirtualThreads",
    "VirtualTimers",
    "VirtualWorkers",
    "virtual_runtime",
]


class VirtualThreads(Threads):
    """Jobs for writers, and for the closing of a hub."""

    def __init__(self, clock: FakeClock, prefix: str, incidents: Incidents) -> None:
        super().__init__(prefix, incidents)
        self._clock = clock
        self._left: int | None = None

    def start(self, target: Callable[[], None], what: str) -> None:
        """Run ``target`` in a job."""
        drive: Drive

        def step() -> float | None:
            try:
                target()
            except Parked as parked:
                parked.transport.writer = drive
                return parked.until
            return None

        drive = self._clock.drive(step, what)

    def is_mine(self) -> bool:
        """Return True in a job, unless it has called ``leave``."""
        return self._clock.in_callback and self._clock.role != self._left

    def leave(self) -> None:
        """Forget the calling job, which closes the hub."""
        self._left = self._clock.role

    def join(self, timeout: float) -> list[threading.Thread]:
        """Let all jobs come to their ends."""
        self._clock.run_others()
        return []


class VirtualWorkers(Workers):
    """A job for each piece of work."""

    def __init__(self, clock: FakeClock, threads: Threads) -> None:
        super().__init__(threads)
        self._clock = clock

    def submit(self, work: Callable[[], None]) -> None:
        """Run ``work`` in a job."""
        if self._closed:
            raise HubClosed(f"{self._threads.prefix} is closed and starts no more work")
        self._clock.drive(work, "worker")


class VirtualTimers(Timers):
    """Timers that fire in virtual time."""

    def __init__(self, clock: FakeClock, threads: Threads, incidents: Incidents) -> None:
        super().__init__(threads, incidents)
        self._clock = clock

    def set(self, delay: float, action: Callable[[], None]) -> Timer:
        """Call ``action`` in ``delay`` virtual seconds."""
        timer = Timer(action)
        self._clock.after(delay, timer.fire)
        return timer


class VirtualFlusher(Flusher):
    """A flusher that holds no reply back, because a handler takes no virtual time."""

    def watch(self, corked: Corked) -> bool:
        """Return False: hold nothing back."""
        return False


class VirtualLifecycle(Lifecycle):
    """The start and the end of a virtual hub."""

    def __init__(self, core: Core[Any, Any], clock: FakeClock) -> None:
        super().__init__(core)
        self._clock = clock
        self._open = False

    def close(self, timeout: float) -> None:
        """Close the hub; see ``Lifecycle.close``."""
        super().close(timeout)
        if self._state.value == "closed" and self._open:
            self._open = False
            self._clock.close_hub()

    def close_running(self) -> None:
        """Do nothing: the test closes the hub."""

    def _close_and_wait(self, timeout: float) -> None:
        self._close_here(timeout)

    def _start_thread(self) -> None:
        self._open = self._state.loop_runs = True
        self._clock.open_hub()
        self._watch_deadline()
        self._clock.add_loop(self._core.loop.is_due, self._run_loop)

    def _run_loop(self) -> float | None:
        if not self._core.loop.run_pending():
            return math.inf
        self._state.loop_ended()
        return None

    def _wait(self, arrived: Callable[[], bool], timeout: float) -> bool:
        self._clock.run_until(arrived, timeout)
        return arrived()

    def _wait_clients(self, timeout: float, arrived: Callable[[], bool]) -> bool:
        return self._clock.run_until(arrived, timeout)


def virtual_runtime(
    name: str, logger: logging.Logger, incidents: Incidents, clock: FakeClock
) -> Runtime:
    """Return a runtime whose threads are jobs of ``clock``."""
    threads = VirtualThreads(clock, f"hubthread-{name}", incidents)
    return Runtime(
        name,
        logger,
        threads,
        clock,
        VirtualWorkers(clock, threads),
        VirtualTimers(clock, threads, incidents),
        VirtualFlusher(threads),
        incidents,
    )
