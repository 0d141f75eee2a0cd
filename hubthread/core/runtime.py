"""The threads and the clock that a hub runs on.

Layer: core.  Threads: made on the thread that makes the hub; its parts may be used on any.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from time import monotonic

from hubthread.concurrency.clock import Clock, RealClock
from hubthread.concurrency.flusher import Flusher
from hubthread.concurrency.incidents import Incidents
from hubthread.concurrency.threads import Threads
from hubthread.concurrency.timers import Timers
from hubthread.concurrency.workers import Workers

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

    @classmethod
    def real(cls, name: str, logger: logging.Logger) -> Runtime:
        """Return a runtime of real threads, which are started when they are needed."""
        incidents = Incidents(logger, monotonic)
        threads = Threads(f"hubthread-{name}", incidents)
        return cls(
            name,
            logger,
            threads,
            RealClock(threads),
            Workers(threads),
            Timers(threads, incidents),
            Flusher(threads),
            incidents,
        )
