"""The options of connections: plain values, made once and shared by many connections.

The hub makes them from its settings, so that no module of this package imports the settings.

Layer: net.  Threads: the values are immutable; any thread reads them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from hubthread.types import Framing, Overflow

__all__ = ["ConnectionOptions", "OutboxBounds", "RawFormat"]

CORK_MESSAGES = 64
CORK_BYTES = 64 * 1024
"""Bounds of what a corked outbox collects.  Beyond them, the cost of a system call no longer
counts."""


def _ignore() -> None:
    """Do nothing: the default of ``on_drop``."""


@dataclass(frozen=True)
class OutboxBounds:
    """The bounds of one outbox, and the limits of its writer."""

    max_messages: int
    """Messages that may wait."""
    max_bytes: int
    """Bytes that may wait; a single message may be larger."""
    overflow: Overflow
    """The policy for a message that does not fit."""
    write_buffer: int
    """Bytes that the writer joins into one send."""
    write_wait: float
    """Seconds without a byte of progress after which the connection counts as stalled."""
    linger: float = 1.0
    """Seconds that a writer thread stays after it has sent the backlog: backlogs come in
    bursts."""
    on_drop: Callable[[], object] = _ignore
    """Called for each message that the policy drops.  The caller holds the outbox's lock, so
    this function must return at once and must not call user code."""
    sent_bytes: int = 0
    """Bytes of sent messages that are kept for a peer that comes back (``net.lasting``)."""

    @cached_property
    def cork_messages(self) -> int:
        """The number of messages that a corked outbox collects before it sends them."""
        return min(CORK_MESSAGES, self.max_messages // 2)

    @cached_property
    def cork_bytes(self) -> int:
        """The number of bytes that a corked outbox collects before it sends them."""
        return min(CORK_BYTES, self.max_bytes)


@dataclass(frozen=True)
class ConnectionOptions:
    """The keepalive, bounds and closing of a connection.  All times are seconds."""

    bounds: OutboxBounds
    """The bounds of the connection's outbox."""
    ping_period: float | None = None
    """Silence after which the peer is pinged; ``None``: it never is."""
    ping_timeout: float | None = None
    """Silence after which the peer counts as gone; ``None``: it never does."""
    close_timeout: float = 5.0
    """Time for the closing handshake, before the connection is cut."""
    message_time: float | None = None
    """Time from the first part of a message to its last; ``None``: no limit."""


@dataclass(frozen=True)
class RawFormat:
    """The framing and encoding of messages of raw TCP and UDP peers."""

    framing: Framing
    """The rule that says where a message ends."""
    max_message: int
    """Bytes of a message; a peer that sends a longer one is closed."""
    text: bool = True
    """True if messages are UTF-8 text and arrive as ``str``; otherwise they are ``bytes``."""
