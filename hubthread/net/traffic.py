"""Counts of what connections send and receive, kept where it happens.

With the GIL, the connections of one kind share an object: ``traffic.sent += 1`` is one step,
because CPython changes threads only at calls and at the ends of loops.  Without the GIL, each
connection has an object of its own, so that no two threads write to one; it is added to the
totals at the connection's end.

Layer: net.  Threads: see ``Meter`` and ``Traffic``.
"""

from __future__ import annotations

import sys
import threading
from typing import Protocol

__all__ = ["Meter", "Traffic"]


class Lagging(Protocol):
    """An outbox in which messages may wait."""

    def waiting(self) -> tuple[int, int]:
        """Return the number of messages that wait here, and their bytes."""


class Traffic:
    """Counts of one connection, or of several.

    Threads: a connection's reader counts what it receives; a thread that holds the lock of its
    outbox counts the rest.
    """

    __slots__ = ("dropped", "kind", "lagging", "received", "received_bytes", "sent", "sent_bytes")

    def __init__(self, kind: str = "", lagging: dict[Lagging, None] | None = None) -> None:
        self.kind = kind
        """The kind of connection: ``websocket``, ``tcp`` or ``udp``."""
        self.lagging: dict[Lagging, None] = {} if lagging is None else lagging
        """The outboxes of the hub in which something waits, or has waited a moment ago."""
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

    def add(self, other: Traffic) -> None:
        """Add the counts of another one."""
        self.received += other.received
        self.sent += other.sent
        self.received_bytes += other.received_bytes
        self.sent_bytes += other.sent_bytes
        self.dropped += other.dropped


class Meter:
    """The traffic of all connections of one hub, by kind.

    Threads: every method may be called on any thread.

    :param shared: True if the connections of a kind may share an object; by default, if the
        process has a GIL.
    """

    def __init__(self, *, shared: bool | None = None) -> None:
        has_gil: bool = getattr(sys, "_is_gil_enabled", lambda: True)()
        self._shared = has_gil if shared is None else shared
        self.lagging: dict[Lagging, None] = {}
        """See ``Traffic.lagging``."""
        self._lock = threading.RLock()  # guards what follows
        self._totals: dict[str, Traffic] = {}
        self._own: dict[Traffic, None] = {}

    def begin(self, kind: str) -> Traffic:
        """Return the object in which a new connection counts."""
        with self._lock:
            total = self._totals.get(kind)
            if total is None:
                total = self._totals[kind] = Traffic(kind, self.lagging)
            if self._shared:
                return total
            own = Traffic(kind, self.lagging)
            self._own[own] = None
            return own

    def end(self, traffic: Traffic) -> None:
        """Add the counts of a connection that has ended; a second call does nothing."""
        with self._lock:
            if traffic in self._own:
                del self._own[traffic]
                self._totals[traffic.kind].add(traffic)

    def totals(self) -> dict[str, Traffic]:
        """Return the counts so far by kind."""
        with self._lock:
            found = {kind: Traffic(kind) for kind in self._totals}
            for each in (*self._totals.values(), *self._own):
                found[each.kind].add(each)
            return found
