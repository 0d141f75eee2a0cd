"""The threads and the clock that a hub runs on.

Layer: core.  Threads: made on the thread that makes the hub; its parts may be used on any.
"""

from __future__ import annotations

import logging
import uuid
from dataclasses import dataclass
from time import monotonic
from typing import Any

from hubthread.concurrency.clock import Clock, RealClock
from hubthread.concurrency.crew import Monitor
from hubthread.concurrency.flusher import Flusher
from hubthread.concurrency.incidents import Incidents
from hubthread.concurrency.threads import Threads
from hubthread.concurrency.timers import Timers
from hubthread.concurrency.workers import Workers
from hubthread.net.shared import SharedReaders
from hubthread.settings import HubSetting

__all__ = ["Runtime"]


@dataclass(frozen=True)
class Runtime:
    """Threads and real time, or in ``hubthread.testing`` their virtual counterparts."""

    name: str
    """The hub's name, which the names of its threads begin with."""
    logger: logging.Logger
    threads: Threads
    clock: Clock
    workers: Workers
    timers: Timers
    flusher: Flusher
    incidents: Incidents
    readers: SharedReaders | None = None
    """The threads that connections share, if the hub's setting says so; ``None``: they cannot."""

    @classmethod
    def real(cls, setting: HubSetting[Any, Any]) -> Runtime:
        """Return a runtime of real threads, which are started when they are needed."""
        name, logger = setting.hub_name or uuid.uuid4().hex[:8], setting.logger
        incidents = Incidents(logger, monotonic)
        threads = Threads(f"hubthread-{name}", incidents)
        monitor = Monitor(threads.start, incidents)
        return cls(
            name,
            logger,
            threads,
            RealClock(threads, monitor, incidents),
            Workers(threads),
            Timers(threads, incidents),
            Flusher(threads),
            incidents,
            SharedReaders(threads, monitor, incidents),
        )
