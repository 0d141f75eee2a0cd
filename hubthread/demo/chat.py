"""The demo's chat: named rooms, who is here, what was said last.

Layer: top.  Threads: handlers run in their client's order, many clients at once; rooms
and users belong to the hub thread, so nothing here needs a lock.  A handler hands its
step to the hub with ``exec_sync``: the step's refusal comes back as its exception, and
only this one client waits.

The page sends ``join``, ``say`` and ``statistics``; see the three dataclasses.  It gets

    rooms       {rooms: [{name, people}]}: at first, and whenever that changes
    joined      {id, room, nick, seq, people, messages}: the answer to join
    came, went  {room, seq, nick}
    said        {room, seq, nick, text, at}
    statistics  the answer to its question
    error       {about, text}

``seq`` counts what happens in one room, without gaps.  The step that lets a client in
writes ``joined`` before it returns, and all pushes are made, and fanned out, by the same
thread: what happened up to ``seq`` is in ``joined``, what comes after it follows.  (A page
that moves between rooms may still get the last pushes of the one it has left: it knows
them by ``room``, or by a ``seq`` that is not above the last.)
"""

from __future__ import annotations

import time
import unicodedata
from collections import deque
from contextlib import suppress
from dataclasses import dataclass

from hubthread import Closed, DHub, HotlineOption, Hub, IOContext, MatcherMap
from hubthread.demo.figures import Figures, Statistics
from hubthread.demo.users import Refused, User, checked_name, free_nick

__all__ = ["HISTORY", "LONGEST_MESSAGE", "Chat", "Join", "Say"]

HISTORY = 50
"""Messages that a room keeps for those who come."""
LONGEST_MESSAGE = 2000
"""Characters of a message."""
MOST_ROOMS = 200
"""Rooms that a list of them names: those with most people in them."""


@dataclass
class Join:
    """Enter a room, under a name; whoever is in another room leaves it."""

    nick: str
    room: str

    def __post_init__(self) -> None:
        # A ValueError here refuses the message: handlers only ever see good ones.
        self.nick = checked_name("nick", self.nick)
        self.room = checked_name("room", self.room)


@dataclass
class Say:
    """Say something in the room."""

    text: str

    def __post_init__(self) -> None:
        self.text = self.text.replace("\r\n", "\n").strip()
        if not 1 <= len(self.text) <= LONGEST_MESSAGE:
            raise ValueError(f"text: 1 to {LONGEST_MESSAGE:,} characters")
        if any(unicodedata.category(char) == "Cc" and char not in "\n\t" for char in self.text):
            raise ValueError("text: no control characters")


class Room:
    """One room.  The hub thread's, but for the hotline."""

    def __init__(self, hub: Hub[User, str], name: str) -> None:
        self.name = name
        self.hotline = hub.hotline(HotlineOption(name))
        self.seq = 0
        self.people: dict[str, User] = {}
        """By nick, without case: two who look alike would be taken for each other."""
        self.messages: deque[dict[str, object]] = deque(maxlen=HISTORY)

    def tell(self, kind: str, **fields: object) -> dict[str, object]:
        """Push an event to all who are in; gives the event."""
        self.seq += 1
        event = {"type": kind, "room": self.name, "seq": self.seq, **fields}
        self.hotline.push(self.hotline.hub.marshal(event))
        return event


class Chat:
    """All rooms of one hub.

    :param matcher: gets the handlers, which it takes only before there is a hub.
    """

    hub: Hub[User, str]
    """Given before it starts."""

    def __init__(self, matcher: MatcherMap[User, str]) -> None:
        self._rooms: dict[str, Room] = {}  # the hub thread's, by name without case
        self._rooms_due = False
        self._figures = Figures()
        matcher.add("join", self.on_join)
        matcher.add("say", self.on_say)
        matcher.add("statistics", self.on_statistics)

    # Handlers and callbacks: in the order of their client.

    def on_start(self, ctx: IOContext, user: User) -> None:
        """Show a page that has just connected what rooms there are."""
        self.hub.exec_async(lambda _: ctx.write(self._rooms_message()))

    def on_join(self, ctx: IOContext, user: User, join: Join) -> None:
        """Let the user in."""
        self.hub.exec_sync(lambda _: self._enter(ctx, user, join))

    def on_say(self, ctx: IOContext, user: User, say: Say) -> None:
        """Tell everybody in the room."""
        self.hub.exec_sync(lambda _: self._say(user, say))

    def on_statistics(self, ctx: IOContext, user: User) -> Statistics:
        """Say how each connection is; what a handler returns is its reply."""
        return self.hub.exec_sync(self._statistics)

    def on_close(self, ctx: IOContext, user: User) -> None:
        """The last of it, however the connection ended."""
        with suppress(Closed):  # the hub's end is everybody's
            self.hub.exec_async(lambda _: self._gone(user))

    # Steps: on the hub thread, one at a time.

    def _enter(self, ctx: IOContext, user: User, join: Join) -> None:
        former = user.room
        self._leave(ctx, user)
        key = join.room.casefold()
        room = self._rooms.get(key)
        if room is None:
            room = self._rooms[key] = Room(self.hub, join.room)
        user.room, user.nick = room, free_nick(join.nick, room.people)
        room.people[user.nick.casefold()] = user
        room.tell("came", nick=user.nick)
        # What was pushed so far is for the others, and stands in what this client is
        # given; what is pushed from here on it gets, after that.
        room.hotline.answer(ctx)
        ctx.write_json(
            {
                "type": "joined",
                "id": ctx.connection_id,
                "room": room.name,
                "nick": user.nick,
                "seq": room.seq,
                "people": [each.nick for each in room.people.values()],
                "messages": list(room.messages),
            }
        )
        self._close_if_empty(former)
        self._rooms_changed()

    def _say(self, user: User, say: Say) -> None:
        if user.room is None:
            raise Refused("Join a room first.")
        message = user.room.tell("said", nick=user.nick, text=say.text, at=time.time())
        user.room.messages.append(message)

    def _leave(self, ctx: IOContext | None, user: User) -> None:
        room, user.room = user.room, None
        if room is None:
            return
        del room.people[user.nick.casefold()]
        if ctx is not None:
            room.hotline.hangup(ctx)
        room.tell("went", nick=user.nick)

    def _gone(self, user: User) -> None:
        room = user.room
        # Closed: the hub has closed its rooms, and there is nobody to be told.
        with suppress(Closed):
            self._leave(None, user)  # its connection has left the hotline by itself
            self._close_if_empty(room)
            self._rooms_changed()

    def _close_if_empty(self, room: Room | None) -> None:
        # Nobody can come in between: coming is a step of this same thread.  Were it not,
        # close_if_empty would still refuse to close over somebody's head.
        if room is not None and not room.people and room.hotline.close_if_empty():
            del self._rooms[room.name.casefold()]

    def _rooms_changed(self) -> None:
        # Steps that pile up share one message: a thousand who come at once do not cost a
        # thousand lists for each of a thousand.
        if not self._rooms_due:
            self.hub.exec_async(self._tell_rooms)
            self._rooms_due = True

    def _tell_rooms(self, dhub: DHub[User, str]) -> None:
        self._rooms_due = False
        with suppress(Closed):
            dhub.hub.broadcast(self._rooms_message())

    def _rooms_message(self) -> str | bytes:
        fullest = sorted(self._rooms.values(), key=lambda room: (-len(room.people), room.name))
        rooms = [{"name": room.name, "people": len(room.people)} for room in fullest[:MOST_ROOMS]]
        return self.hub.marshal({"type": "rooms", "rooms": rooms})

    def _statistics(self, dhub: DHub[User, str]) -> Statistics:
        return self._figures.of(dhub)
