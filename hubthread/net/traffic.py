"""Counts of what connections send and receive, kept where it happens.

With the GIL, all connections of one kind count in one object: ``counts.sent += 1`` is one step,
because CPython changes threads only at calls and at the ends of loops.  Without the GIL, each
thread counts in an object of its own, which no other thread writes to; its counts are added to
the totals when the thread ends.  Neither way needs a lock for a message.

Layer: net.  Threads: see ``Meter`` and ``Counts``.
"""

from __future__ import annotations

import sys
import threading
from typing import Protocol

from hubthread.concurrency.histogram import Histogram

__all__ = ["Counts", "Meter", "SharedTraffic", "Traffic"]


class Lagging(Protocol):
    """An outbox in which messages may wait."""

    def waiting(self) -> tuple[int, int]:
        """Return the number of messages that wait here, and their bytes."""


class Counts:
    """Messages and bytes so far.

    Threads: without the GIL one thread adds to it; any thread may read it.
    """

    __slots__ = ("callbacks", "dropped", "received", "received_bytes", "sent", "sent_bytes")

    def __init__(self) -> None:
        self.received = 0
        """Messages received."""
        self.sent = 0
        """Messages written and pushed."""
        self.received_bytes = 0
        """Bytes of the stream, without TLS."""
        self.sent_bytes = 0
        """Bytes of the stream, without TLS."""
        self.dropped = 0
        """Messages that the overflow policy dropped."""
        self.callbacks = Histogram()
        """The times of callbacks, if they are measured."""

    def add(self, other: Counts) -> None:
        """Add the counts of another one."""
        self.received += other.received
        self.sent += other.sent
        self.received_bytes += other.received_bytes
        self.sent_bytes += other.sent_bytes
        self.dropped += other.dropped
        self.callbacks.merge(other.callbacks)


class Traffic(Protocol):
    """The traffic of the connections of one kind, as its connections see it."""

    counts: Counts
    """The object in which the calling thread counts."""
    lagging: dict[Lagging, None]
    """The outboxes of the hub in which something waits, or has waited a moment ago."""


class SharedTraffic:
    """Counts of one kind in one object, for all threads: see the module."""

    __slots__ = ("counts", "lagging")

    def __init__(
        self, total: _Total | None = None, lagging: dict[Lagging, None] | None = None
    ) -> None:
        self.counts = Counts() if total is None else total.gone
        self.lagging: dict[Lagging, None] = {} if lagging is None else lagging


class _ThreadTraffic(threading.local):
    """Counts of one kind in an object for each thread.

    Threads: Python runs ``__init__`` on each thread that uses the object, and drops the
    attributes of a thread when it ends.
    """

    def __init__(self, total: _Total, lagging: dict[Lagging, None]) -> None:
        self.counts = Counts()
        self.lagging = lagging
        self._end = _End(total, self.counts)


class _Total:
    """The counts of one kind: those of the threads that have ended, and of those that run."""

    def __init__(self) -> None:
        self.lock = threading.RLock()  # guards what follows
        self.gone = Counts()
        self.running: dict[Counts, None] = {}

    def sum(self) -> Counts:
        """Return the counts so far."""
        found = Counts()
        with self.lock:
            for each in (self.gone, *self.running):
                found.add(each)
        return found


class _End:
    """The end of a thread: its counts stay in the total."""

    _total: _Total | None = None  # an interrupt may come before it is set

    def __init__(self, total: _Total, counts: Counts) -> None:
        self._counts = counts
        self._total = total
        with total.lock:
            total.running[counts] = None

    def __del__(self) -> None:
        total = self._total
        if total is not None:
            with total.lock:
                total.running.pop(self._counts, None)
                total.gone.add(self._counts)


class Meter:
    """The traffic of all connections of one hub, by kind.

    Threads: every method may be called on any thread.

    :param shared: True if all threads may count in one object; by default, if the process has a
        GIL.
    """

    def __init__(self, *, shared: bool | None = None) -> None:
        has_gil: bool = getattr(sys, "_is_gil_enabled", lambda: True)()
        self._kind = SharedTraffic if shared or (shared is None and has_gil) else _ThreadTraffic
        self.lagging: dict[Lagging, None] = {}
        """See ``Traffic.lagging``."""
        self._lock = threading.RLock()  # guards what follows
        self._kinds: dict[str, tuple[Traffic, _Total]] = {}

    def traffic(self, kind: str) -> Traffic:
        """Return where the connections of that kind count: ``websocket``, ``tcp`` or ``udp``."""
        with self._lock:
            found = self._kinds.get(kind)
            if found is None:
                total = _Total()
                found = self._kinds[kind] = self._kind(total, self.lagging), total
            return found[0]

    def totals(self) -> dict[str, Counts]:
        """Return the counts so far by kind."""
        with self._lock:
            kinds = dict(self._kinds)
        return {kind: total.sum() for kind, (_, total) in kinds.items()}
