"""Frozen snapshots of a hub, a client, a hotline and a server.

Each figure is exact by itself.  The figures of one snapshot are of nearly the same moment.

Layer: base.  Threads: a snapshot is made on the thread that calls ``statistics``, and is an
immutable value that any thread may read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = [
    "BackplaneStatistics",
    "ClientStatistics",
    "FrameStatistics",
    "HotlineStatistics",
    "HubStatistics",
    "ServerStatistics",
    "Spread",
]


@dataclass(frozen=True)
class BackplaneStatistics:
    """A hub's connection to its backplane at one moment."""

    state: str
    """``up``, ``resync`` or ``down``; see ``BackplaneState``."""
    seconds: float = 0.0
    """Seconds since the state began."""
    waiting: int = 0
    """Pushes that have no place yet."""
    waiting_bytes: int = 0
    """The bytes of these pushes."""
    lost_connections: int = 0
    """Connections to the server that were lost, or could not be made, so far."""
    looks: int = 0
    """Looks into the streams of rooms for missed pushes, so far."""
    unknown: int = 0
    """Messages of another version of the library that were ignored, so far."""
    local: int = 0
    """Pushes that only the members of this hub have got, so far; see ``RedisBackplane``."""


@dataclass(frozen=True)
class HubStatistics:
    """A hub at one moment."""

    name: str
    state: str
    """``new``, ``running``, ``closing``, ``closed`` or ``failed``."""
    clients: int
    """Clients that are connected now."""
    hotlines: int
    """Hotlines that are open now."""
    threads: int
    """Threads of this hub now: hub thread, listeners, readers, writers, workers."""
    queue_depth: int
    """Closures and flushes that wait for the hub thread."""
    closures_run: int
    """Closures of the user that ran on the hub thread."""
    closures_failed: int
    """Closures among ``closures_run`` that raised."""
    clients_total: int
    """Clients that connected so far."""
    handshakes_refused: int
    """Requests that were answered with an error status."""
    messages_dropped: int
    """Messages that the overflow policy dropped, of clients that are gone.  A connected client
    counts its own: ``ClientStatistics.dropped``."""
    ended_by: Mapping[str, int]
    """Ended connections by cause: ``peer``, ``server``, ``violation``, ``overflow``,
    ``stalled``, ``silent``, ``idle``, ``lost``, ``no thread``; of UDP peers also ``crowded
    out``."""
    wsgi_moved: int = 0
    """Open connections that the hub took over from a WSGI server."""
    wsgi_parked: int = 0
    """Open connections that keep a thread of their WSGI server."""
    queue_age: float = 0.0
    """Seconds that the oldest entry of the queue has waited, at most; 0 for an empty queue."""
    closure_running: float = 0.0
    """Seconds since the hub thread began its present closure or flush; 0 while it waits."""
    closure_longest: float = 0.0
    """Seconds of the longest closure or flush so far."""
    limits_struck: Mapping[str, int] = field(default_factory=dict)
    """The number of times that each limit was reached, by its name in ``hubthread.limits``."""
    stuck: int = 0
    """Callbacks of the hub, of clients and of ticking rooms that had run for longer than
    ``HubSetting.watchdog`` when the watchdog last looked."""
    backplane: BackplaneStatistics | None = None
    """The connection to the backplane; None before the first shared room."""


@dataclass(frozen=True)
class ClientStatistics:
    """A client at one moment."""

    connection_id: int
    peer: str
    """The address of the other end."""
    state: str
    """``open``, or the cause of the end as in ``HubStatistics.ended_by``."""
    received: int
    """Messages received."""
    written: int
    """Messages written and pushed to the client; the number of the last message."""
    waiting: int
    """Messages that the socket has not taken yet."""
    waiting_bytes: int
    """The bytes of the waiting messages."""
    dropped: int
    """Messages dropped by the overflow policy."""
    hotlines: int
    """Rooms that the client is in."""
    closures_waiting: int
    """Closures that wait for the client's callback slot."""


@dataclass(frozen=True)
class HotlineStatistics:
    """A hotline at one moment."""

    hotline_id: int
    name: str
    closed: bool
    members: int
    pushes: int
    """Pushes accepted so far; the number of the last push."""
    waiting: int
    """Pushes, joins and leaves that wait for the next fan-out."""
    lagging: int
    """Members with pushes that were fanned out and not sent yet."""


@dataclass(frozen=True)
class Spread:
    """A quantity over the last ticks, in seconds."""

    p50: float
    p99: float
    max: float


@dataclass(frozen=True)
class FrameStatistics(HotlineStatistics):
    """A ticking room at one moment."""

    paused: bool
    ticks: int
    """Ticks run so far."""
    skipped: int
    """Ticks skipped so far."""
    late: int
    """Ticks that were due while the room was busy."""
    overruns: int
    """Ticks that took longer than the period."""
    errors: int
    """Ticks whose ``logic`` raised."""
    work: Spread
    """Durations of the last ticks, including their sends."""
    lateness: Spread
    """Delays of the last ticks after their deadlines."""
    closures_waiting: int
    """Closures that wait for the tick thread."""
    handovers: int
    """Callbacks that took long, so that other rooms went on with another tick thread."""


@dataclass(frozen=True)
class ServerStatistics:
    """A listening socket at one moment."""

    address: str
    connections: int
    """Connections open now, including handshakes and plain HTTP."""
    accepted: int
    """Connections accepted so far."""
    refused: int
    """Connections refused for lack of room, threads or descriptors; on UDP, datagrams."""
