"""The demo's chat: named rooms, their people and their last messages.

Layer: top.  Threads: handlers run in their client's order, many clients at once.  The hub thread
owns rooms and users, so there is no lock.  A handler runs its step there with ``exec_sync``: it
gets a refusal as an exception, and only its client waits.

The page sends ``join``, ``leave``, ``say`` and ``statistics``.  It gets

    rooms       {rooms: [{name, people}]}: at the start and after each change
    joined      {id, run, room, nick, seq, people, messages}: the reply to ``join``
    came, went  {room, seq, nick}
    said        {room, seq, nick, text, at}
    statistics  the reply to ``statistics``
    error       {about, text}

``seq`` counts the events of one room, without gaps.  One step on the hub thread lets a client in
and writes ``joined``; the same thread makes and fans out all pushes.  So ``joined`` contains
everything up to its ``seq``, and the later events follow it.  A page that changes the room may
still get the last events of the old room: it drops events of another ``room`` and events whose
``seq`` is not above the last.

A line may be lost for ``GRACE`` seconds, and nobody notices: the user stays in the room, by the
room's presence.  The page joins again with the ``key`` of its tab, and gets its nick back.  It
finds what it has missed in ``messages``.  After a restart of the server, which has forgotten all,
``run`` has another value.
"""

from __future__ import annotations

import secrets
import time
import unicodedata
from contextlib import suppress
from dataclasses import dataclass

from hubthread import (
    Closed,
    DHub,
    Hotline,
    HotlineOption,
    Hub,
    IOContext,
    MatcherMap,
    Presence,
    PresenceChange,
)
from hubthread.demo.figures import Figures, Statistics
from hubthread.demo.users import Refused, Room, User, checked_name, free_nick

__all__ = ["LONGEST_MESSAGE", "Chat", "Join", "Say"]

LONGEST_MESSAGE = 2000
"""Characters of a message."""
ChatHotline = Hotline[User, str]

GRACE = 20.0
"""Seconds that a user may be gone without leaving the room."""
LONGEST_KEY = 64
"""Characters of a tab's key."""
MOST_ROOMS = 200
"""Rooms in the list of rooms; it has those with the most people."""


@dataclass
class Join:
    """The request to enter a room, which leaves the room before."""

    nick: str
    room: str
    key: str = ""

    def __post_init__(self) -> None:
        if len(self.key) > LONGEST_KEY:
            raise ValueError(f"key: at most {LONGEST_KEY} characters")
        # A ValueError refuses the message before a handler sees it.
        self.nick = checked_name("nick", self.nick)
        self.room = checked_name("room", self.room)


@dataclass
class Say:
    """The request to send a message to the room."""

    text: str

    def __post_init__(self) -> None:
        self.text = self.text.replace("\r\n", "\n").strip()
        if not 1 <= len(self.text) <= LONGEST_MESSAGE:
            raise ValueError(f"text: 1 to {LONGEST_MESSAGE:,} characters")
        if any(unicodedata.category(char) == "Cc" and char not in "\n\t" for char in self.text):
            raise ValueError("text: no control characters")


def _nick_of(ctx: IOContext, user: User) -> str:
    return user.nick


class Chat:
    """The chat rooms of one hub.

    :param matcher: the matcher that the hub will be made with; the handlers are added to it.
    """

    hub: Hub[User, str]
    """The hub; the demo sets it before the hub starts."""

    def __init__(self, matcher: MatcherMap[User, str]) -> None:
        self._rooms: dict[str, Room] = {}  # by case-folded name; the hub thread owns it
        self._rooms_due = False
        self._run = secrets.token_hex(4)
        self._figures = Figures()
        matcher.add("join", self.on_join)
        matcher.add("leave", self.on_leave)
        matcher.add("say", self.on_say)
        matcher.add("statistics", self.on_statistics)

    # Handlers and callbacks: in the order of their client.

    def on_start(self, ctx: IOContext, user: User) -> None:
        """Send the list of rooms to a new client."""
        self.hub.exec_async(lambda _: ctx.write(self._rooms_message()))

    def on_join(self, ctx: IOContext, user: User, join: Join) -> None:
        """Let the user into a room."""
        self.hub.exec_sync(lambda _: self._enter(ctx, user, join))

    def on_leave(self, ctx: IOContext, user: User) -> None:
        """Let the user out."""
        self.hub.exec_sync(lambda _: self._leave(ctx, user))

    def on_say(self, ctx: IOContext, user: User, say: Say) -> None:
        """Send a message to everyone in the room."""
        self.hub.exec_sync(lambda _: self._say(user, say))

    def on_statistics(self, ctx: IOContext, user: User) -> Statistics:
        """Reply with the statistics of all connections."""
        return self.hub.exec_sync(self._statistics)

    # Steps: on the hub thread, one at a time.

    def _enter(self, ctx: IOContext, user: User, join: Join) -> None:
        self._leave(ctx, user)
        key = join.room.casefold()
        room = self._rooms.get(key)
        if room is None:
            presence = Presence(user=_nick_of, linger=GRACE, on_change=self._changed)
            option = HotlineOption(join.room, shared=True, presence=presence)
            room = self._rooms[key] = Room(self.hub, option)
        others = [
            nick
            for nick, each in room.people.items()
            if not join.key or each.key != join.key  # the user may come back
        ]
        user.room, user.nick, user.key = room, free_nick(join.nick, others), join.key
        comes_back = user.nick.casefold() in room.people
        room.people[user.nick.casefold()] = user
        if not comes_back:
            room.tell("came", nick=user.nick)
        # ``joined`` tells this client about everything pushed so far; it gets the later pushes.
        joined = {
            "type": "joined",
            "id": ctx.connection_id,
            "run": self._run,
            "room": room.name,
            "nick": user.nick,
            "seq": room.seq,
            "people": [each.nick for each in room.people.values()],
            "messages": list(room.messages),
        }
        room.hotline.answer(ctx, first=self.hub.marshal(joined))
        if ctx not in room.hotline:  # its connection has ended meanwhile
            self._leave(ctx, user)
        self._rooms_changed()

    def _say(self, user: User, say: Say) -> None:
        if user.room is None:
            raise Refused("Join a room first.")
        message = user.room.tell("said", nick=user.nick, text=say.text, at=time.time())
        user.room.messages.append(message)

    def _leave(self, ctx: IOContext, user: User) -> None:
        """Let a user out who wants to go."""
        room, user.room = user.room, None
        if room is not None:
            room.hotline.hangup(ctx)
            self._gone(room, user.nick)

    def _changed(self, hotline: ChatHotline, change: PresenceChange) -> None:
        for nick in change.went:
            # A user who has come back meanwhile is a change of its own, which comes next.
            if not any(ctx.meta.nick == nick for ctx in hotline.members):
                self._gone(hotline.data, nick)

    def _gone(self, room: Room, nick: str) -> None:
        """Tell that a user has gone, once, and close the room after the last."""
        if room.people.pop(nick.casefold(), None) is not None:
            room.tell("went", nick=nick)
            self._rooms_changed()
            if not room.people:
                with suppress(Closed):
                    self.hub.exec_async(lambda _: self._close_deserted(room))

    def _close_deserted(self, room: Room) -> None:
        if not room.people and not room.hotline.is_closed:  # nobody has come meanwhile
            room.hotline.close()
            del self._rooms[room.name.casefold()]
            self._rooms_changed()

    def _rooms_changed(self) -> None:
        # Changes that pile up share one message: a thousand clients that come at once must not
        # cost a thousand lists for each of a thousand clients.
        if not self._rooms_due:
            with suppress(Closed):  # the hub has closed, and its rooms
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
