"""What hub, client, hotline and server say of themselves: frozen snapshots.

Layer: hub.  Threads: made on whichever thread asks; each figure is right by itself, and
all of one snapshot are of nearly the same moment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = [
    "ClientStatistics",
    "FrameStatistics",
    "HotlineStatistics",
    "HubStatistics",
    "ServerStatistics",
    "Spread",
]


@dataclass(frozen=True)
class HubStatistics:
    """A hub at one moment."""

    name: str
    state: str
    """``new``, ``running``, ``closing``, ``closed`` or ``failed``."""
    clients: int
    """Connected now."""
    hotlines: int
    """Open now."""
    threads: int
    """Of this hub now: its own, listeners, readers, writers, workers."""
    queue_depth: int
    """Closures and flushes that wait for the hub thread."""
    closures_run: int
    """Closures of the user that have run on the hub thread."""
    closures_failed: int
    """Those among them that raised."""
    clients_total: int
    """Clients that ever connected."""
    handshakes_refused: int
    """Requests that were answered with an error status."""
    messages_dropped: int
    """By the overflow policy, of clients that are gone; see each client for those here."""
    ended_by: Mapping[str, int]
    """Ended connections by cause: ``peer``, ``server``, ``violation``, ``overflow``,
    ``stalled``, ``silent``, ``idle``, ``lost``, ``no thread``; of UDP peers also ``crowded
    out``."""
    wsgi_moved: int = 0
    """Connections here that were taken from a WSGI server."""
    wsgi_parked: int = 0
    """Connections here that keep a thread of their WSGI server."""
    queue_age: float = 0.0
    """Seconds for which the oldest entry of the queue has waited, at the most; 0: it is empty."""
    closure_running: float = 0.0
    """Seconds for which the hub thread has been at its present closure or flush; 0: it waits."""
    closure_longest: float = 0.0
    """Seconds of the longest closure or flush that has ended so far."""
    limits_struck: Mapping[str, int] = field(default_factory=dict)
    """How often each limit has struck, by the names of the table in README.rst ("Limits")."""
    stuck: int = 0
    """Callbacks of the hub, of clients and of rooms with a clock that have been running for
    longer than ``HubSetting.watchdog``, when the watchdog last looked."""


@dataclass(frozen=True)
class ClientStatistics:
    """A client at one moment."""

    connection_id: int
    peer: str
    """Its address."""
    state: str
    """``open``, or the reason of its end as in ``HubStatistics.ended_by``."""
    received: int
    """Messages received."""
    written: int
    """Messages written and pushed to it; the number of the last one."""
    waiting: int
    """Messages that its socket has not taken yet."""
    waiting_bytes: int
    """The bytes of those."""
    dropped: int
    """Messages dropped by the overflow policy."""
    hotlines: int
    """Rooms that it is in."""
    closures_waiting: int
    """Closures that wait for their turn in its order."""


@dataclass(frozen=True)
class HotlineStatistics:
    """A hotline at one moment."""

    hotline_id: int
    name: str
    closed: bool
    members: int
    pushes: int
    """Accepted so far; the number of the last one."""
    waiting: int
    """Pushes, joins and leaves that wait for the next fan-out."""
    lagging: int
    """Members who have not got all that was fanned out."""


@dataclass(frozen=True)
class Spread:
    """A quantity over the last ticks, in seconds."""

    p50: float
    p99: float
    max: float


@dataclass(frozen=True)
class FrameStatistics(HotlineStatistics):
    """A hotline with a clock at one moment."""

    paused: bool
    ticks: int
    """Ticks run so far."""
    skipped: int
    """Ticks left out so far."""
    late: int
    """Ticks that found the room busy when they were due."""
    overruns: int
    """Ticks that took longer than the time between two."""
    errors: int
    """Ticks whose ``logic`` raised."""
    work: Spread
    """What the last ticks took, their sends included."""
    lateness: Spread
    """How long after their deadlines the last ticks began."""
    closures_waiting: int
    """Closures that wait for the tick thread."""


@dataclass(frozen=True)
class ServerStatistics:
    """A listening socket at one moment."""

    address: str
    connections: int
    """Open now, handshakes and plain HTTP included."""
    accepted: int
    """Accepted so far."""
    refused: int
    """Turned away for want of room, threads or descriptors; datagrams, where it is UDP."""
