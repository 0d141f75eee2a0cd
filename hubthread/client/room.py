"""One room of a link: its messages, its members, and the position in its history.

Layer: client.  Threads: any thread may call the methods; the link's thread calls the listeners.
"""

from __future__ import annotations

import math
from base64 import b64decode
from binascii import Error as NotBase64
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from hubthread.checks import check_callable
from hubthread.client.listeners import Inbox, Listener, Listeners
from hubthread.errors import HubThreadError
from hubthread.history import Position
from hubthread.matcher.compile import marshal_json
from hubthread.state.patch import apply

if TYPE_CHECKING:
    from hubthread.client.interfaces import Fate

__all__ = ["PendingInput", "Room", "RoomTick", "data_of"]

MOST_OFFSET = 2**63
MOST_GIVEN = 256
"""The most inputs that are kept until the room's state has them."""


class RoomTick(NamedTuple):
    """The last tick of a room whose state the link has."""

    number: int
    """The number of the tick."""
    time: float
    """The time at which the tick was due, in seconds of the server's clock since 1970."""
    hz: float
    """Ticks per second; 0 if the room has no ticks, or has not told their rate."""


class PendingInput(NamedTuple):
    """An input that the room's state does not have yet."""

    number: int
    tick: int | None
    """The tick that the input is for; ``None`` for the next tick."""
    data: Any


class Room:
    """A room that the link has joined, or joins with its next connection.

    Made by :meth:`Link.room() <hubthread.client.Link.room>`.  Each call of ``Link.room`` holds the
    room once more, and each :meth:`leave` releases it once.  ``with link.room(name) as room:``
    leaves at the end.  ``for message in room:`` yields the messages that no listener takes.
    """

    def __init__(self, link: Any, name: str, inbox: int) -> None:
        self._link = link
        self._name = name
        self._listeners = Listeners()
        self._inbox = Inbox(inbox)
        self._held = 0
        self._replay = 0
        self._live = False
        self._asked = False
        self._was_live = False  # before the connection was lost
        self._position: Position | None = None
        self._members: dict[str, Any] = {}
        self._version: int | None = None
        self._present: int | None = None
        self._state: dict[str, Any] | None = None
        self._number = 0  # the number of the state
        self._tick = RoomTick(0, 0.0, 0.0)
        self._inputs = 0  # the number of the last input
        self._given: deque[PendingInput] = deque(maxlen=MOST_GIVEN)

    # For the program.

    @property
    def name(self) -> str:
        """The name of the room."""
        return self._name

    @property
    def live(self) -> bool:
        """True while the link is in the room and gets its messages."""
        return self._live

    @property
    def members(self) -> dict[str, Any]:
        """A copy of the members, if the room tells them: by key, the data about each member."""
        with self._link._lock:
            return dict(self._members)

    @property
    def present(self) -> int:
        """The number of members, if the room tells its members or their number."""
        return len(self._members) if self._present is None else self._present

    @property
    def position(self) -> Position | None:
        """The place of the last message in the room's order; ``None`` without a history."""
        return self._position

    @property
    def state(self) -> dict[str, Any] | None:
        """The state of the room, if the room sends it: the server's ``StateSync``.

        Read the state only.  A change in the room makes a new object; the old one stays as it is.
        """
        return self._state

    @property
    def tick(self) -> RoomTick:
        """The last tick of the state, if the room sends it: ``number``, ``time``, ``hz``."""
        return self._tick

    def tick_at(self, time: float | None = None) -> float:
        """Return the number of the room's tick at a time, as a float with its fraction.

        :param time: seconds of the server's clock, as ``Link.now`` returns; ``None`` for now.
        """
        tick = self._tick
        at: float = self._link.now() if time is None else time
        return tick.number + (at - tick.time) * tick.hz

    def input(self, data: object, *, tick: int | None = None) -> int:
        """Give an input to the room, for the server's ``frame.inputs``.

        :param tick: the tick that the input is for; ``None`` for the next tick.
        :returns: the number of the input; 0 if it cannot be sent now.  An input never waits.
        """
        message: dict[str, Any] = {"type": "hub:input", "room": self._name}
        with self._link._lock:
            number = self._inputs + 1
            message |= {"n": number} | ({} if tick is None else {"tick": tick})
            text = marshal_json(message | {"data": data})
            if not self._live or self._link._machine.post(text, volatile=True) != "sent":
                return 0
            self._inputs = number
            self._given.append(PendingInput(number, tick, data))
        return number

    @property
    def pending(self) -> list[PendingInput]:
        """The inputs that the state does not have yet, oldest first."""
        with self._link._lock:
            return list(self._given)

    def on(self, name: Hashable, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` for each message with this header, or for an event.

        ==============  ==========================================================
        ``"join"``      ``listener(recovered, count)``: the room is joined
        ``"gap"``       ``listener(why)``: messages were missed, so fetch a snapshot
        ``"members"``   ``listener(members)``: members came or went
        ``"state"``     ``listener(state)``: the state has changed; see :attr:`state`
        ``"refused"``   ``listener(error)``: the server does not let the client in
        ``"rejected"``  ``listener(number, why)``: the room does not take an input
        ``"*"``         ``listener(message)``: messages without a listener of their own
        ==============  ==========================================================

        :returns: a function that removes the listener.
        """
        check_callable("listener", listener, *_ARGUMENTS.get(name, ("message",)))
        return self._listeners.add(name, listener)

    def send(
        self,
        header: str | int,
        fields: object = None,
        *,
        ttl: float = math.inf,
        key: Hashable = None,
        volatile: bool = False,
    ) -> Fate:
        """Send a message with the room's name in the field ``room``; see ``Link.send``."""
        more = {"room": self._name}
        fate: Fate = self._link._send(header, fields, more, ttl, key, volatile)
        return fate

    def receive(self, timeout: float | None = None) -> Any:
        """Wait for a message that no listener takes; see ``Link.receive``."""
        return self._link._receive(self._inbox, timeout)

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the messages that no listener takes, until the link has ended."""
        messages: Iterator[Any] = self._link._iterate(self._inbox)
        return messages

    def leave(self) -> None:
        """Release the room once.  After as many calls as ``Link.room`` had, the link leaves it."""
        with self._link._lock:
            if not self._held:
                return
            self._held -= 1
            if not self._held:
                self._live = False
                self._link._machine.leave(self)

    def __enter__(self) -> Room:
        return self

    def __exit__(self, *error: object) -> None:
        self.leave()

    def __repr__(self) -> str:
        return f"<Room {self._name!r} {'live' if self._live else 'not joined'}>"

    # For the link: the caller holds its lock.

    def hold(self, replay: int) -> None:
        """Hold the room once more."""
        self._held += 1
        self._replay = max(replay, self._replay)

    def lost(self) -> None:
        """Note that the connection has ended."""
        self._was_live |= self._live
        self._live = self._asked = False

    def resume(self, lost: int) -> None:
        """Stay in the room, because the session goes on.

        If messages are lost, a room with a history joins anew, and gets them from the history.

        :param lost: the number of the session's messages that are lost.
        """
        self._live = self._was_live and not (lost and self._position is not None)
        self._was_live = False
        if self._live and lost:
            self._tell("gap", "lost")

    def joining(self) -> dict[str, Any] | None:
        """Return the message that joins; ``None`` if the link is in, or has asked already."""
        if self._live or self._asked:
            return None
        self._asked = True
        message: dict[str, Any] = {"type": "hub:join", "room": self._name}
        if self._position is not None:
            message |= {"epoch": self._position.epoch, "at": self._position.offset}
        elif self._replay:
            message["replay"] = self._replay
        return message

    def joined(self, answer: Mapping[str, Any]) -> None:
        """Take the answer of the server."""
        self._live, self._asked, self._was_live = self._held > 0, False, False
        self._inputs = 0  # the room counts from 1, too
        self._given.clear()
        recovered = answer.get("recovered")
        count = _whole(answer.get("count")) or 0
        if recovered is not True or self._position is None:
            self._position = _position(answer.get("epoch"), answer.get("at"), count)
        members = answer.get("members", {} if "present" in answer else None)
        if isinstance(members, dict):
            self._members = members
            self._version = _whole(answer.get("v"))
            self._present = _whole(answer.get("present"))
        if recovered is False:
            self._tell("gap", str(answer.get("why", "unknown")))
        self._tell("join", recovered is True, count)
        if isinstance(members, dict):
            self._tell("members", dict(members))

    def refused(self, error: HubThreadError) -> None:
        """Note that the server does not let the client in."""
        self._asked = False
        self._tell("refused", error)

    def take(self, message: Mapping[str, Any], size: int) -> None:
        """Take a message of the room.

        :param size: the bytes of the message.
        """
        if not self._live and self._position is not None:
            return  # the room joins anew with its position, and gets all messages again
        kind = message.get("type")
        if kind == "hub:gap":
            self._position = _position(message.get("epoch"), message.get("at"), 0)
            self._tell("gap", str(message.get("why", "unknown")))
        elif kind == "hub:members":
            self._take_members(message)
        elif kind == "hub:state":
            self._take_state(message)
        elif kind == "hub:input":
            self._take_refused(message)
        elif kind is None:
            number = _whole(message.get("n"))
            place = self._position
            # A missing number is no loss: that push was for others.  "hub:gap" tells losses.
            if number is not None and place is not None and number <= place.offset:
                return
            data = data_of(message)
            if isinstance(data, dict) and data.get("type") == "hub:state":
                self._take_state(data)
                self.heard(number)
            else:
                self._link._delivery.emit_message(self, data, size, number)

    def heard(self, number: int | None) -> None:
        """Note that the program has got a message, so the next join does not ask for it."""
        if number is not None and self._position is not None:
            self._position = Position(self._position.epoch, number)

    def _take_members(self, message: Mapping[str, Any]) -> None:
        version = _whole(message.get("v"))
        if self._version is not None and version != self._version + 1:
            self._live = self._asked = False
            self._link._machine.join(self)
            return
        self._version = version
        self._present = _whole(message.get("present"))
        came, went = message.get("came"), message.get("went")
        if isinstance(came, dict):
            self._members |= came
        for key in went if isinstance(went, list) else ():
            if isinstance(key, str):
                self._members.pop(key, None)
        self._tell("members", dict(self._members))

    def _take_state(self, message: Mapping[str, Any]) -> None:
        number, full, mine = _whole(message.get("n")), message.get("full"), message.get("mine")
        if number is None:
            return
        if isinstance(full, dict):
            self._state = full
        elif self._state is None or number != self._number + (mine is None):
            return  # a patch for a state that is not here: the whole state comes later
        else:
            try:
                self._state = apply(self._state, message if mine is None else mine)
            except (AttributeError, IndexError, KeyError, TypeError, ValueError):
                self._state = None  # the patch does not fit: wait for a whole state
                return
        self._number = number
        if mine is None:
            self._take_time(message)
        self._tell("state", self._state)

    def _take_time(self, message: Mapping[str, Any]) -> None:
        """Take the tick of a state, and the number of the last own input that the state has."""
        tick, time = _whole(message.get("tick")), _whole(message.get("time"))
        hz = message.get("hz", self._tick.hz)
        known = isinstance(hz, (int, float)) and 0 <= hz < MOST_OFFSET
        if tick is not None and time is not None and known:
            self._tick = RoomTick(tick, time / 1000, hz)
        acks = message.get("acks")
        acked = _whole(acks.get(str(self._link.id))) if isinstance(acks, dict) else None
        while acked is not None and self._given and self._given[0].number <= acked:
            self._given.popleft()

    def _take_refused(self, message: Mapping[str, Any]) -> None:
        refused = message.get("refused")
        for each in refused if isinstance(refused, list) else ():
            if isinstance(each, list) and len(each) == 2:
                number, why = each
                kept = [given for given in self._given if given.number != number]
                self._given = deque(kept, maxlen=MOST_GIVEN)
                self._tell("rejected", number, str(why))

    def _tell(self, name: str, *values: object) -> None:
        self._link._delivery.emit_to(self._listeners, name, *values)


_ARGUMENTS: dict[Hashable, tuple[str, ...]] = {
    "join": ("recovered", "count"),
    "gap": ("why",),
    "state": ("state",),
    "rejected": ("number", "why"),
}


def _whole(value: object) -> int | None:
    return value if type(value) is int and 0 <= value < MOST_OFFSET else None


def _position(epoch: object, at: object, count: int) -> Position | None:
    offset = _whole(at)
    if not isinstance(epoch, str) or offset is None:
        return None
    return Position(epoch, max(0, offset - count))


def data_of(message: Mapping[str, Any]) -> Any:
    """Return the data of a push from its envelope; ``None`` if the envelope has no data."""
    if "data" in message:
        return message["data"]
    if "text" in message:
        return message["text"]
    try:
        return b64decode(message["bytes"], validate=True)
    except (KeyError, TypeError, ValueError, NotBase64):
        return None
