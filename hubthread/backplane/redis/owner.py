"""The hub's connection, as its three threads see it.

Layer: backplane.  Threads: every method may be called on any thread.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Protocol

from hubthread.backplane.redis.boxes import Letter
from hubthread.backplane.redis.presence import Presences, RoomPresence
from hubthread.backplane.redis.room import Batch, Room
from hubthread.backplane.redis.wire import Connector, ReplyError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Owner", "PublisherView", "SubscriberView"]


class PublisherView(Protocol):
    """The publisher, as the keeper sees it."""

    run_id: bytes
    """The ``run_id`` of the server that the publisher is connected to."""

    def read_top(self, room: Room) -> None:
        """Read a room's position, and begin an epoch if the room has none."""

    def send_beat(self, data: bytes) -> None:
        """Send the command of a beat.  It replaces a beat that still waits."""


class SubscriberView(Protocol):
    """The subscriber, as the keeper sees it."""

    heard: float
    """The time at which the hub's own beat came last, or at which the connection began."""

    def change(self, wanted: Sequence[bytes], unwanted: Sequence[bytes]) -> None:
        """Subscribe to ``wanted``, and unsubscribe from ``unwanted``."""

    def cut(self) -> None:
        """End the connection; another one takes its place."""


class Owner(Protocol):
    """The methods of ``RedisLink`` that its threads use."""

    connector: Connector
    closed: threading.Event
    beat: float
    """Seconds between two beats."""
    everyone: bytes
    """The channel that all hubs hear.  Beats go there."""
    repaired: int
    """The number of times that the keeper has read the stream of a room."""
    presences: Presences
    """The members of all rooms, and the lease of the hub."""

    def presence_of(self, room: Room | None) -> RoomPresence | None:
        """Return the presence of a room, or None if it has none."""

    def hears(self, channel: bytes) -> Callable[[bytes], object] | None:
        """Return the function that hears the letters of a channel, or None."""

    def take_letters(self) -> list[Letter]:
        """Return the letters that are to be sent now."""

    def take_records(self) -> list[bytes]:
        """Return the commands that change records, as many as fit into one pipeline."""

    def answer_records(self, replies: list[Any]) -> ReplyError | None:
        """Take the answers to ``take_records``; return the error of a missing script, or None."""

    def is_wanted(self, channel: bytes) -> bool:
        """Return True if the hub is to be subscribed to a channel."""

    def take_beat(self, data: bytes) -> bool:
        """Take what was published to all hubs; return True for a beat of this hub."""

    def rooms_of(self, channel: bytes) -> tuple[Room, ...]:
        """Return the rooms that hear a channel."""

    def channels(self) -> list[bytes]:
        """Return the channels of all rooms and boxes."""

    def all_rooms(self) -> list[Room]:
        """Return all rooms."""

    def subscribe(self, room: Room) -> None:
        """Subscribe to a room whose position is known."""

    def answered(self, batch: Batch) -> None:
        """Note that the server has a batch."""

    def beat_command(self) -> bytes:
        """Return the command that tells all hubs that this one lives."""

    def unknown(self) -> None:
        """Note a message of another version of the library."""

    def refuse_closed(self) -> None:
        """Refuse a connection that was made after ``close``, which cannot end it any more.

        :raises Lost: if the link is closed.
        """

    def has(self, part: str) -> bool:
        """Return True if a part is connected."""

    def connected(self, part: str) -> None:
        """Note that a part is connected again."""

    def worked(self, part: str) -> None:
        """Note that a part has done some work on its connection."""

    def failed(self, part: str, error: Exception) -> None:
        """Note that a part has lost its connection, or cannot make one; wait for a moment.

        Any exception but ``Lost`` is a bug, and logged.  The part goes on with a new connection.
        """

    def silent(self) -> None:
        """Note that no beat of this hub comes back."""

    def report_up(self) -> None:
        """Report that all rooms are up to date, if so.  Called when nothing is to be fetched."""

    def wake_keeper(self) -> None:
        """Wake the keeper."""
