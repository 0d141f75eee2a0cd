"""The interfaces around a connection: its transport, its sink, its threads, and its outside.

- ``Receiver`` turns a connection's bytes into events.
- ``Sink`` is called by a connection.
- ``Services`` holds the threads and timers that connections run on.
- ``Link`` and ``Outgoing`` show a connection, whatever its kind, to the rest of the library.

Layer: net.  Threads: the reader thread calls a receiver and a sink; any thread uses the other
three.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Hashable
from typing import Any, Protocol

from hubthread.concurrency.flusher import Corked, Flusher
from hubthread.concurrency.incidents import Incidents
from hubthread.concurrency.threads import Threads
from hubthread.concurrency.timers import Timers
from hubthread.net.steps import Steps, Watching
from hubthread.net.traffic import Meter
from hubthread.protocol.batch import FrameBatch
from hubthread.protocol.frames import Frame
from hubthread.protocol.websocket import WebSocketEvent

__all__ = ["Flushing", "Link", "Outgoing", "Receiver", "Services", "Sharing", "Sink"]


class Receiver(Protocol):
    """A protocol's receiving half: it turns the bytes of one connection into events."""

    @property
    def unfinished(self) -> bool:
        """True if the stream stands in the middle of a message or frame."""

    def receive(self, data: bytes) -> list[WebSocketEvent]:
        """Return the events that ``data`` completes, in order; never raise.

        After ``PeerClose`` or ``ProtocolFailure`` all further bytes are ignored.
        """


class Sink(Protocol):
    """The receiver of a connection's events.  The reader thread makes every call."""

    def enter(self) -> None:
        """Wait until the client's callback slot is free; events follow."""

    def leave(self) -> None:
        """Free the callback slot; no more events for now."""

    def on_message(self, message: str | bytes) -> None:
        """Handle a whole message."""

    def on_ping(self, payload: bytes) -> None:
        """Handle a ping that has already been answered."""

    def on_pong(self, payload: bytes) -> None:
        """Handle a pong."""

    def on_leaving(self) -> None:
        """Prepare for the end: nothing is received any more.  The socket is still open."""

    def on_closed(self) -> None:
        """Handle the end.  The last call; ``code``, ``reason`` and ``ended_by`` are final."""


class Flushing(Protocol):
    """The watch over an outbox that a reader has corked: ``Flusher``, or a ``Watch``."""

    def watch(self, corked: Corked) -> bool:
        """Uncork ``corked`` if its reader blocks; return False if the caller must do it now."""

    def forget(self, corked: Corked) -> None:
        """Stop watching ``corked``: its reader has uncorked it."""


class Sharing(Protocol):
    """The threads that the connections of one hub share: ``shared.SharedReaders``."""

    def begin(self, sock: socket.socket, steps: Callable[[Watching], Steps[Any]]) -> None:
        """Run the steps of one connection.

        :param steps: called with the connection's place among the others.
        :raises RuntimeError: when the system cannot start a thread, or the hub is closed.
        """


class Services(Protocol):
    """The threads, timers and counters that the connections of one hub share."""

    @property
    def threads(self) -> Threads:
        """The starter of readers, writers and listeners."""

    @property
    def timers(self) -> Timers:
        """The timers of closing handshakes."""

    @property
    def flusher(self) -> Flusher:
        """The watch over corked outboxes."""

    @property
    def incidents(self) -> Incidents:
        """The counters of limits, and the rate-limited log."""

    @property
    def meter(self) -> Meter:
        """The counters of what connections send and receive."""

    @property
    def readers(self) -> Sharing | None:
        """The threads that connections share; ``None``: each connection has a reader."""


class Outgoing(Protocol):
    """The messages sent to one peer that still wait for its socket.  Any thread."""

    count: int
    """The number of messages sent so far, and so the number of the last one."""

    @property
    def lags(self) -> bool:
        """True if something waits for the peer, and is not only collected."""

    def is_consumed(self, number: int) -> bool:
        """Return True if message ``number``, and so each earlier one, no longer waits here."""

    def wait_consumed(self, number: int | None, timeout: float | None) -> bool:
        """Wait until message ``number`` no longer waits here; return False on time-out.

        :param number: ``None`` waits for all messages.
        :param timeout: in seconds; ``None`` waits without a limit.
        """

    def waiting(self) -> tuple[int, int]:
        """Return the number of messages that wait here, and their bytes."""


class Link(Protocol):
    """One connection, whatever its kind: WebSocket, raw TCP or UDP.  Any thread."""

    @property
    def outbox(self) -> Outgoing:
        """The outbox through which every message goes."""

    @property
    def ended_by(self) -> str | None:
        """The cause of the end, in one word; ``None`` while the connection is open."""

    @property
    def code(self) -> int | None:
        """The close code, once the connection has ended.  It is never sent to a raw peer."""

    @property
    def reason(self) -> str:
        """The close reason that goes with ``code``."""

    @property
    def limit(self) -> str | None:
        """The limit (``hubthread.limits``) that ended the connection, if a limit did."""

    @property
    def clean(self) -> bool:
        """True if both sides have sent a Close."""

    @property
    def dropped(self) -> int:
        """The number of messages that were dropped instead of sent."""

    def send(self, frame: Frame, key: Hashable = None) -> int:
        """Send or queue one message; return its number at once."""

    def send_batch(self, batch: FrameBatch) -> int:
        """Send or queue the messages of ``batch``.

        :returns: the number of the last message if it waits here, zero if it is consumed.
        """

    def send_control(self, frame: Frame) -> None:
        """Send a ping or pong, or the peer's equivalent of one."""

    def close(
        self,
        code: int = 1000,
        reason: str = "",
        *,
        ended_by: str = "server",
        limit: str | None = None,
    ) -> None:
        """Begin to close the connection; return at once.

        :param ended_by: the cause, recorded if this call is the first to end the connection.
        :param limit: the limit that ends the connection, recorded likewise.
        :raises ValueError: for a code that must not be sent (RFC 6455 section 7.4).
        """
