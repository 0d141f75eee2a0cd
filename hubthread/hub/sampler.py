"""The history of a hub's figures, and the callbacks that take long, for the monitor page.

Layer: hub.  Threads: the sampler has a thread of its own, so that it goes on while the hub thread,
tick threads or clients are stuck.  Any thread may call its methods.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from typing import Any, Final, NamedTuple

from hubthread.concurrency.calls import stack_of
from hubthread.concurrency.clock import Drive
from hubthread.concurrency.logs import log_safely
from hubthread.concurrency.watchdog import Watched
from hubthread.core.core import Core
from hubthread.core.figures import TickFigures
from hubthread.net.traffic import Counts

__all__ = ["INTERVAL", "KEPT", "Sample", "Sampler", "Stuck"]

INTERVAL: Final = 2.0
"""Seconds between two samples."""

KEPT: Final = 300
"""The most samples that are kept: ten minutes."""

LONG: Final = 1.0
"""Seconds after which a callback is shown with its stack."""

MOST_STUCK: Final = 20
"""The most callbacks that are shown with their stacks.  Further ones are only counted."""


class Sample(NamedTuple):
    """The figures of a hub at one moment; rates are means since the sample before."""

    clients: int
    rooms: int
    received: float
    """Messages received per second."""
    sent: float
    """Messages written and pushed per second."""
    received_bytes: float
    """Bytes received per second."""
    sent_bytes: float
    """Bytes sent per second."""
    dropped: float
    """Messages dropped by the overflow policy, per second."""
    lagging: int
    """Clients that messages wait for."""
    waiting_bytes: int
    """Bytes that wait for clients."""
    queue: int
    """Jobs that wait for the hub thread."""
    queue_age: float
    """Seconds that the oldest of these jobs has waited at most."""
    running: float
    """Seconds that the hub thread's present job has run."""
    load: float
    """Share of its period that the busiest room works."""
    work: float
    """Seconds of work of all ticks, per second."""
    ticks: float
    """Ticks per second."""
    skipped: float
    """Ticks left out per second."""
    late: float
    """Seconds that 99 of 100 ticks were late at most: the end of a histogram's bucket."""
    cpu: float
    """Seconds of processor time of the process, per second."""


class Stuck(NamedTuple):
    """A callback that runs for long."""

    name: str
    """The hub, client, room or request that the callback belongs to."""
    seconds: float
    """Seconds since the sampler first saw the callback."""
    stack: str
    """The stack of the callback's thread; empty if the thread has ended."""


class _Totals(NamedTuple):
    """Counters that only grow, at one moment."""

    at: float
    traffic: Counts
    ticks: TickFigures
    cpu: float


class Sampler:
    """Samples the figures of a hub while it runs, and notices callbacks that take long.

    Threads: every method may be called on any thread.
    """

    def __init__(self, core: Core[Any, Any]) -> None:
        self._core = core
        self._before: _Totals | None = None  # only the sampler's thread touches it
        # The running callbacks, and since when each was seen.  Replaced as a whole.
        self._seen: dict[Watched, tuple[object, float]] = {}
        self._lock = threading.RLock()  # guards what follows
        self._drive: Drive | None = None
        self._samples: deque[Sample] = deque(maxlen=KEPT)
        self._count = 0

    def begin(self) -> None:
        """Begin to sample, if the hub runs and the sampler has not begun yet."""
        try:
            with self._lock:
                if self._drive is not None or self._core.state.value != "running":
                    return
                drive = self._drive = self._core.clock.drive(self._step, "monitor")
        except RuntimeError as error:
            text = "no thread for the monitor: its curves stay empty (%s)"
            log_safely(self._core.logger, logging.WARNING, text, error)
            return
        self._core.context.add_callback(lambda reason: drive.wake())

    def since(self, number: int) -> tuple[int, list[Sample]]:
        """Return the kept samples from ``number`` on.

        :returns: the number of the next sample, and the samples.
        """
        with self._lock:
            first = self._count - len(self._samples)
            return self._count, list(self._samples)[max(0, number - first) :]

    def stuck(self) -> tuple[list[Stuck], int]:
        """Return callbacks that run for long, the longest first, and the number of all of them."""
        now, loop = self._core.clock.now(), self._core.loop
        found = [
            (now - began, each)
            for each, (callback, began) in self._seen.items()
            if now - began >= LONG and each.current_callback() == callback
        ]
        if loop.running() >= LONG:
            found.append((loop.running(), loop))
        found.sort(key=lambda pair: -pair[0])
        shown = [
            Stuck(each.name, seconds, stack_of(each.runner))
            for seconds, each in found[:MOST_STUCK]
        ]
        return shown, len(found)

    # The sampler's thread.

    def _step(self) -> float | None:
        if self._core.state.value != "running":
            return None
        now = self._core.clock.now()
        sample = self._sample(now)
        with self._lock:
            if sample is not None:
                self._samples.append(sample)
                self._count += 1
        self._look(now)
        return now + INTERVAL

    def _look(self, now: float) -> None:
        """Remember the running callbacks, each with the time at which it was first seen."""
        seen, found = self._seen, {}
        # A client that has left the hub may still be in a callback.
        for each in {**dict.fromkeys(self._core.registry.watched()), **seen}:
            callback = each.current_callback()
            if callback is not None:
                began = now
                if each in seen and seen[each][0] == callback:
                    began = seen[each][1]
                found[each] = callback, began
        self._seen = found

    def _sample(self, now: float) -> Sample | None:
        """Return the sample of this moment; ``None`` the first time, without a rate yet."""
        core = self._core
        traffic, ticks, load = Counts(), TickFigures(), 0.0
        for each in core.meter.totals().values():
            traffic.add(each)
        kinds, hotlines = core.registry.all_room_figures()
        for figures in kinds.values():
            ticks.add(figures.ticks)
        for hotline in hotlines:
            if hotline._ticks is not None:
                ticks.add(hotline._ticks)
                load = max(load, hotline._load or 0.0)
        waiting = [outbox.waiting() for outbox in list(core.meter.lagging)]
        before, after = self._before, _Totals(now, traffic, ticks, time.process_time())
        self._before = after
        if before is None or now <= before.at:
            return None
        old, seconds = before.traffic, now - before.at
        return Sample(
            clients=core.registry.everyone.members_num(),
            rooms=len(hotlines),
            received=(traffic.received - old.received) / seconds,
            sent=(traffic.sent - old.sent) / seconds,
            received_bytes=(traffic.received_bytes - old.received_bytes) / seconds,
            sent_bytes=(traffic.sent_bytes - old.sent_bytes) / seconds,
            dropped=(traffic.dropped - old.dropped) / seconds,
            lagging=sum(1 for number, _ in waiting if number),
            waiting_bytes=sum(size for _, size in waiting),
            queue=core.loop.depth(),
            queue_age=core.loop.oldest(),
            running=core.loop.running(),
            load=load,
            work=max(0.0, ticks.work.total - before.ticks.work.total) / seconds,
            ticks=max(0, ticks.ticks - before.ticks.ticks) / seconds,
            skipped=max(0, ticks.skipped - before.ticks.skipped) / seconds,
            late=_late(before.ticks, ticks),
            cpu=(after.cpu - before.cpu) / seconds,
        )


def _late(before: TickFigures, after: TickFigures) -> float:
    """Return the seconds that 99 of 100 ticks between two moments were late at most."""
    counts = [new - old for new, old in zip(after.late.counts, before.late.counts, strict=True)]
    beyond = sum(counts) / 100
    if beyond <= 0 or sum(counts[1:]) <= beyond:
        return 0.0
    bounds = after.late.bounds
    for place in range(len(counts) - 1, -1, -1):
        beyond -= counts[place]
        if beyond < 0:
            return bounds[min(place, len(bounds) - 1)]
    return 0.0
