"""The interface between a hub's shared rooms and the backplane that orders their pushes.

Layer: backplane.  Threads: each method says which threads may call it, and if it may wait.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from enum import Enum
from typing import Any, NamedTuple, Protocol

from hubthread.history import History, Position
from hubthread.protocol.frames import Frame
from hubthread.statistics import BackplaneStatistics

__all__ = [
    "Backplane",
    "BackplaneHost",
    "BackplaneLink",
    "BackplaneState",
    "LeaseAnswer",
    "Message",
    "Receiver",
]


class BackplaneState(str, Enum):
    """The state of a hub's connection to its backplane."""

    UP = "up"
    RESYNC = "resync"
    """Connected again; the rooms fetch missed pushes."""
    DOWN = "down"
    """Not connected: pushes wait, are refused, or reach only the members of their hub."""


class Message(NamedTuple):
    """One push of a shared room."""

    frame: Frame
    key: Hashable = None
    """The subject of the push for ``Overflow.LATEST``, or None."""
    exclude: Sequence[Any] | None = None
    """The clients of the hub that do not get the push."""
    reached: dict[Any, Any] | None = None
    """For a push to several rooms: maps each client of the hub that has got the push to the log of
    the room that sent it."""
    token: int = 0
    """For a push of the hub that owns the room: the token of its lease.  The backplane refuses the
    push if another hub has got the lease since.  0 for all other pushes."""


class LeaseAnswer(NamedTuple):
    """The answer to ``BackplaneLink.lease``."""

    held: bool
    """True if this hub has the lease now."""
    token: int
    """The token of the present lease, of this hub or another hub."""
    seconds: float
    """The seconds until the lease ends."""
    saved: bytes = b""
    """The state that was saved last, if this hub has just got the lease; otherwise empty."""


class Receiver(Protocol):
    """A hub's side of one shared room.

    The backplane makes one call at a time, on a thread of its own or on a thread that calls
    ``settle``.  The methods return at once and do not call the backplane.
    """

    def refused(self, number: int) -> None:
        """Learn that pushes of this hub were refused, because another hub has the room's lease.

        :param number: the number of the last refused push.
        """

    @property
    def has_presence(self) -> bool:
        """True if the backplane is to call ``present`` and ``counted``."""

    def attached(self, position: Position, settle: Callable[[], None] | None = None) -> None:
        """Learn the present position of the room.

        Called once, before any other method except ``shown``.

        :param settle: given by a backplane without threads.  It hands over all pushes that were
            published before the call.  The receiver calls it without holding its locks: before it
            sends, and when it needs the present position.
        """

    def arrived(self, first: Position, messages: Sequence[Message], number: int | None) -> None:
        """Take messages that have their place in the room's order.

        :param first: the position of the first message.  After an interrupt, messages may come
            again: by their offsets the receiver ignores the messages that it has.
        :param number: the number of the first message, as counted by ``BackplaneLink.publish``;
            None for messages of another hub.
        """

    def lost(self, position: Position, why: str, number: int | None = None) -> None:
        """Learn that messages may be missing: the room goes on after ``position``.

        :param why: ``"epoch"``, ``"trimmed"`` or ``"local"``, for clients.  ``"local"``: messages
            were shown ahead of their places and have their places now, and the members here have
            missed no other message.
        :param number: the number of this hub's last message before ``position``; None if that
            message is the last one that has arrived.
        """

    def shown(self, messages: Sequence[Message], number: int | None) -> None:
        """Send messages of this hub to its members at once, because the backplane is away.

        Once the messages have their places, ``arrived`` brings them for the history only.

        :param number: the number of the first message; None for a message that never gets a place.
        """

    def present(self, came: Mapping[str, str], went: Collection[str]) -> None:
        """Learn which users came to the room and left it, in all hubs, since the last call.

        Each hub gets the same changes in the same order.  The first call comes directly after
        ``attached``, and names all users in the room.  A backplane may repeat a user, which the
        receiver then ignores.  A hub that has missed changes gets one call with all that differs.

        :param came: the keys that are in the room now, each with a JSON text.
        :param went: the keys that no hub has in the room any more.
        """

    def counted(self, count: int) -> None:
        """Learn the sum of the numbers that all hubs have given to ``BackplaneLink.count``."""


class BackplaneHost(Protocol):
    """The hub, as its connection to the backplane sees it.

    Threads: every method may be called on any thread.
    """

    def start_thread(self, target: Callable[[], None], what: str) -> None:
        """Run ``target`` on a thread of the hub, with ``what`` in its name."""

    def tell_state(self, state: BackplaneState, reason: str) -> None:
        """Tell the program a new state of the connection; return at once."""

    def log_bug(self, error: Exception, part: str) -> None:
        """Log an exception that nobody expects in a part of the connection, which goes on."""

    def describe(self) -> dict[str, Any]:
        """Return the JSON object that describes this hub to other hubs; return at once."""


class BackplaneLink(Protocol):
    """One hub's connection to its backplane."""

    node: str
    """The name of the hub among all hubs, known from ``start`` on."""

    def start(self, host: BackplaneHost) -> None:
        """Begin to connect, on threads of its own; return at once.

        Called once, when the hub has started.  Before this call no connection is made and no push
        gets a place.  So a process may fork after its hub was made, and before the hub starts.
        """

    def attach(self, room: str, keep: History | None, receiver: Receiver) -> None:
        """Hand the pushes of ``room`` to ``receiver`` from now on.  Any thread; returns at once.

        :param keep: the history that the room offers; None if it offers none.
        :raises UsageError: if the hub has attached the room already.
        """

    def detach(self, room: str) -> None:
        """Stop handing over the pushes of ``room``, after those that this hub published before.

        Any thread; returns at once.  Nothing happens if the room is not attached.
        """

    def publish(self, room: str, message: Message) -> int:
        """Give a message to an attached room, to be placed and handed to every receiver.

        Any thread; returns at once.  The messages of one hub keep the order of the calls.

        :returns: the number of the message, counted from 1 since ``attach`` among the messages of
            this hub in this room.
        :raises UsageError: if the hub has not attached the room.
        :raises BackplaneDown: if the backplane is away, and the message cannot wait for it.
        :raises QueueFull: if too many messages wait.
        """

    def show(self, room: str, message: Message) -> int | None:
        """Show a message that ``publish`` has refused to the members of this hub.

        Any thread; returns at once.

        :returns: the number of the message before it; None if the message is not shown, because
            the backplane is not away, or never shows messages ahead of their places.
        """

    def present(self, room: str, came: Mapping[str, str], went: Collection[str]) -> None:
        """Tell which users came to an attached room in this hub, and which users left it.

        A key that several hubs have stays in the room until the last of these hubs says that the
        key went, detaches, or dies.  Any thread; returns at once.  Nothing happens if the room is
        not attached.

        :param came: the keys that came, each with a JSON text.  The text of the first hub counts.
        :param went: the keys that left.
        """

    def count(self, room: str, count: int) -> None:
        """Tell how many members an attached room has in this hub.

        Any thread; returns at once.  Nothing happens if the room is not attached.
        """

    def history(
        self, room: str, count: int, timeout: float
    ) -> tuple[Position, list[Message]] | None:
        """Return the last ``count`` messages, or all that are known, and the position before them.

        :param timeout: the seconds that the call may wait; 0 on the hub thread and in ticks.
        :returns: None if the backplane knows nothing of the room, or does not answer in time.
        """

    def listen(self, box: str, heard: Callable[[bytes], object]) -> None:
        """Hear the letters to a box from now on, or a moment later.  Any thread; returns at once.

        :param heard: called with each letter, on a thread of the backplane or of the hub that
            sends; returns at once, and never raises.
        """

    def unlisten(self, box: str) -> None:
        """Hear no more letters to a box.  Any thread; returns at once."""

    def tell(
        self,
        box: str,
        letter: bytes,
        sent: Callable[[int | None], object],
        within: float | None = None,
    ) -> None:
        """Send a letter to all hubs that hear a box.  Any thread; returns at once.

        A letter arrives once or not at all.  The letters of one hub keep the order of the calls.

        :param sent: called with the number of hubs that the letter has gone to; with None if the
            letter was not sent, or if the answer is lost.
        :param within: the seconds after which the letter is not sent any more; None for no limit.
        :raises BackplaneDown: if the backplane is away, and the letter cannot wait for it.
        :raises QueueFull: if too much waits.
        """

    def keep(self, key: str, record: bytes, seconds: float) -> None:
        """Keep a record for other hubs, if the record is new or belongs to this hub.

        Any thread; returns at once.  While the backplane is away, the latest change of each record
        waits for it.

        :param seconds: the time after which the backplane forgets the record.
        """

    def drop(self, key: str, seconds: float) -> None:
        """Forget a record, if it belongs to this hub.

        Any thread; returns at once.  Calls of ``keep`` and ``drop`` keep their order.

        :param seconds: the time after which the backplane has forgotten the record by itself.  A
            call that has waited longer for the backplane is not sent.
        """

    def take(self, key: str, timeout: float) -> tuple[str, bytes] | None:
        """Make a record belong to this hub, and return it.  Not on the hub thread, nor in ticks.

        Several hubs that take a record at the same time get it one after the other.

        :returns: the name of the hub that the record belonged to, and the record; None if there is
            no such record, or if the backplane has not answered in time.
        """

    def lease(
        self,
        room: str,
        token: int,
        seconds: float,
        told: Callable[[LeaseAnswer | None], object],
        saved: bytes | None = None,
    ) -> None:
        """Take the lease of a room, renew it, or give it up.  Any thread; returns at once.

        One hub at a time has the lease.  Each lease has a token that is higher than the tokens
        before it.  A hub whose lease has ended may renew it while no other hub has taken it.

        :param token: the token of this hub's lease; 0 asks for the lease.
        :param seconds: the time after which the lease ends, unless it is renewed; 0 gives it up.
        :param told: called with the answer, on a thread of the backplane or inside this call; with
            None if there is no answer, because the backplane is away.
        :param saved: a state to keep for the next owner; empty to keep none, None for no change.
        :raises BackplaneDown: if the backplane is away.
        :raises QueueFull: if too much waits.
        """

    def server_age(self) -> float:
        """Return the seconds since this hub's connection has come to another server than before.

        The new server may not know the leases that the old server gave.  Infinite while the hub is
        on its first server.
        """

    def nodes(self) -> list[tuple[str, float, dict[str, Any]]]:
        """Return the hubs of the backplane, including this hub.  Any thread; returns at once.

        :returns: for each hub its name, the seconds since it was last heard of, and its
            ``BackplaneHost.describe()``.
        """

    def statistics(self) -> BackplaneStatistics:
        """Return the figures of the connection.  Any thread; returns at once."""

    def close(self, timeout: float) -> None:
        """Detach every room, and end the connection within ``timeout`` seconds."""


class Backplane(Protocol):
    """A way to order the pushes of shared rooms: ``HubSetting(backplane=…)``."""

    def open(self, node: str, now: Callable[[], float]) -> BackplaneLink:
        """Return a connection for one hub.

        :param node: a name that no other hub has.
        :param now: returns the hub's time in seconds.
        """
