"""The seam between a hub's shared rooms and the backplane that orders their pushes.

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
    """Connected again; the rooms fetch what they have missed."""
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
    """For a push to several rooms: each client of the hub that has got it, and the log of the room
    through which."""
    token: int = 0
    """For a push of the hub that owns the room: the token of its lease.  The push has no place if
    another hub has had the lease since.  0 for all other pushes."""


class LeaseAnswer(NamedTuple):
    """The answer to ``BackplaneLink.lease``."""

    held: bool
    """True if this hub has the lease now."""
    token: int
    """The token of the lease, of this hub or another one."""
    seconds: float
    """The seconds until the lease ends."""
    saved: bytes = b""
    """The state that was saved last, if this hub has just got the lease; or nothing."""


class Receiver(Protocol):
    """A hub's side of one shared room.

    The backplane calls it on a thread of its own or on one that calls ``settle``, one call at a
    time.  The methods return at once and do not call the backplane.
    """

    def refused(self, number: int) -> None:
        """Learn that pushes of this hub have no place, as another hub has the room's lease.

        :param number: the number of the last of them.
        """

    @property
    def has_presence(self) -> bool:
        """True for a receiver of which ``present`` and ``counted`` are to be called."""

    def attached(self, position: Position, settle: Callable[[], None] | None = None) -> None:
        """Learn the position that the room is at.  Called once, before any method but ``shown``.

        :param settle: for a backplane without threads: hands over all that was published before
            the call.  The receiver calls it without its locks, before it sends, and when it needs
            the present position.
        """

    def arrived(self, first: Position, messages: Sequence[Message], number: int | None) -> None:
        """Take messages that have their place in the room's order.

        :param first: the position of the first message.  After an interrupt, messages may come
            again: the receiver ignores those that it has, by their offsets.
        :param number: the number of the first message, as counted by ``BackplaneLink.publish``;
            None for messages of another hub.
        """

    def lost(self, position: Position, why: str, number: int | None = None) -> None:
        """Learn that messages may be missing: the room goes on after ``position``.

        :param why: ``"epoch"``, ``"trimmed"`` or ``"local"``, for clients.  ``"local"``: what was
            shown ahead of its place has that place now, and the members here have missed nothing
            else.
        :param number: the number of this hub's last message before ``position``; None if it is
            the last that has arrived.
        """

    def shown(self, messages: Sequence[Message], number: int | None) -> None:
        """Send own messages to the members of this hub now: the backplane is away.

        When they have their place later, ``arrived`` brings them for the history only.

        :param number: the number of the first message; None for one that gets no place.
        """

    def present(self, came: Mapping[str, str], went: Collection[str]) -> None:
        """Learn which users came to the room and left it, in all hubs, since the last call.

        Each hub gets the same changes in the same order.  Directly after ``attached``, all users
        in the room come.  A backplane may repeat a user, which the receiver then ignores.  A hub
        that has missed changes gets one change to what is true now.

        :param came: JSON text for each key that is in now.
        :param went: keys that are in no hub any more.
        """

    def counted(self, count: int) -> None:
        """Learn the sum of what all hubs have said with ``BackplaneLink.count``."""


class BackplaneHost(Protocol):
    """The hub, as its connection to the backplane sees it.  Any thread."""

    def start_thread(self, target: Callable[[], None], what: str) -> None:
        """Run ``target`` on a thread of the hub, with ``what`` in its name."""

    def tell_state(self, state: BackplaneState, reason: str) -> None:
        """Tell the program a new state of the connection; return at once."""

    def describe(self) -> dict[str, Any]:
        """Return the object of JSON that other hubs are told of this one, in a moment."""


class BackplaneLink(Protocol):
    """One hub's connection to its backplane."""

    node: str
    """The name of the hub among all hubs, known from ``start`` on."""

    def start(self, host: BackplaneHost) -> None:
        """Connect, on threads of its own; return at once.  Called once, when the hub has started.

        Before that nothing is placed: a hub that starts after a fork has its own connection.
        """

    def attach(self, room: str, keep: History | None, receiver: Receiver) -> None:
        """Hand the pushes of ``room`` to ``receiver`` from now on.  Any thread; returns at once.

        :param keep: the history that the room offers; None if it offers none.
        :raises UsageError: if the hub has attached the room already.
        """

    def detach(self, room: str) -> None:
        """Stop that, behind the messages of this hub that were published before.

        Any thread; returns at once.  Nothing happens if it is not attached.
        """

    def publish(self, room: str, message: Message) -> int:
        """Give an attached room a message, to be placed and handed to every receiver.

        Any thread; returns at once.  The messages of one hub keep the order of the calls.

        :returns: the number of the message among those of this hub in this room, from 1 since
            ``attach``.
        :raises UsageError: if the hub has not attached the room.
        :raises BackplaneDown: if the backplane is away, and the message cannot wait for it.
        :raises QueueFull: if too many messages wait.
        """

    def show(self, room: str, message: Message) -> int | None:
        """Show a message that ``publish`` has refused to the members of this hub.

        Any thread; returns at once.

        :returns: the number of the message before; None if nothing is shown while the backplane is
            away, or if it is not away.
        """

    def present(self, room: str, came: Mapping[str, str], went: Collection[str]) -> None:
        """Say who came to this hub's side of an attached room, and who went.

        A key that several hubs have is in until the last of them says that it went, detaches, or
        has died.  Any thread; returns at once.  Nothing happens if the room is not attached.

        :param came: JSON text for each key.  The text of the first hub stays.
        """

    def count(self, room: str, count: int) -> None:
        """Say how many are in this hub's side of an attached room; otherwise as ``present``."""

    def history(
        self, room: str, count: int, timeout: float
    ) -> tuple[Position, list[Message]] | None:
        """Return the last ``count`` messages, or as many as are known, and the position before.

        :param timeout: the seconds that the call may wait; 0 on the hub thread and in ticks.
        :returns: None if nothing is known of the room, or not within that time.
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

        :param sent: called with the number of hubs that the letter has gone to; with None if it
            was not sent, or if nobody knows.
        :param within: the letter is not sent later than in so many seconds.
        :raises BackplaneDown: if the backplane is away, and the letter cannot wait for it.
        :raises QueueFull: if too much waits.
        """

    def keep(self, key: str, record: bytes, seconds: float) -> None:
        """Keep a record for other hubs, if it is new or this hub's own.  Any thread.

        Returns at once.  While the backplane is away the latest change of a record waits for it.

        :param seconds: the time after which it is forgotten.
        """

    def drop(self, key: str, seconds: float) -> None:
        """Forget a record, if it is this hub's own, in the order of the calls of ``keep``.

        Any thread; returns at once.

        :param seconds: the time after which it is forgotten anyway, so that a backplane that is
            away need not be told.
        """

    def take(self, key: str, timeout: float) -> tuple[str, bytes] | None:
        """Make a record this hub's own.  Not on the hub thread, and not in ticks.

        Of several hubs that take it at the same time, one comes after the other.

        :returns: the name of the hub whose own it was, and the record; None if there is none, or
            if the backplane has not answered in time.
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

        One hub at a time has the lease.  Each one has a token that is higher than the tokens
        before it.  A hub whose lease has ended may renew it while no other hub has taken it.

        :param token: that of this hub's lease; 0 asks for the lease.
        :param seconds: the time after which the lease ends, unless it is renewed; 0 gives it up.
        :param told: called with the answer, on a thread of the backplane or inside this call;
            with None if nobody knows, as the backplane is away.
        :param saved: a state to keep for the next owner; empty to keep none, None for no change.
        :raises BackplaneDown: if the backplane is away.
        :raises QueueFull: if too much waits.
        """

    def server_age(self) -> float:
        """Return the seconds since this hub has come to another server than before.

        Such a server may have lost leases.  Infinite if it is still the first one.
        """

    def nodes(self) -> list[tuple[str, float, dict[str, Any]]]:
        """Return the hubs of the backplane, this one too; any thread, returns at once.

        Each is its name, the seconds since it was heard of, and what it has described.
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
