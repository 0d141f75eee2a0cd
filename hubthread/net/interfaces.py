"""The two sides of a connection: what its bytes go through, and who is told.

Layer: net.  Threads: the reader calls both.
"""

from __future__ import annotations

from typing import Protocol

from hubthread.protocol.websocket import WebSocketEvent

__all__ = ["Receiver", "Sink"]


class Sink(Protocol):
    """What a connection calls, on the reader thread."""

    def enter(self) -> None:
        """Events follow: wait until it is their turn."""

    def leave(self) -> None:
        """That was all for now."""

    def on_message(self, message: str | bytes) -> None:
        """A whole message."""

    def on_ping(self, payload: bytes) -> None:
        """A ping, already answered."""

    def on_pong(self, payload: bytes) -> None:
        """A pong."""

    def on_leaving(self) -> None:
        """It will send and receive no more; called before the socket is let go."""

    def on_closed(self) -> None:
        """The last call; ``code``, ``reason`` and ``ended_by`` are settled."""


class Receiver(Protocol):
    """What a connection's bytes go through."""

    @property
    def unfinished(self) -> bool:
        """Whether the stream stands in the middle of a message or frame."""

    def receive(self, data: bytes) -> list[WebSocketEvent]:
        """All that they complete, in order; never raises.

        After ``PeerClose`` or ``ProtocolFailure`` everything is ignored.
        """
