"""The users of the demo, the chat rooms they are in, and the names they may choose.

Layer: top.  Threads: each field says which thread owns it; any thread may call the functions.
"""

from __future__ import annotations

import time
import unicodedata
from collections import deque
from collections.abc import Container
from dataclasses import dataclass, field

from hubthread import HotlineOption, Hub

__all__ = ["HISTORY", "LONGEST_NAME", "Refused", "Room", "User", "checked_name", "free_nick"]

LONGEST_NAME = 32
"""Characters of a nick or of a room's name."""
HISTORY = 50
"""Messages that a room keeps for newcomers."""


class Refused(Exception):
    """A request that cannot be granted; the text is for the user."""


@dataclass(eq=False)
class User:
    """The meta of one connection."""

    since: float = field(default_factory=time.monotonic)
    """The time of the connection; never changes."""
    nick: str = ""
    """The nick in the chat.  The hub thread owns it."""
    key: str = ""
    """The secret of the tab, by which a user who comes back is known.  The hub thread owns it."""
    room: Room | None = None
    """The chat room.  The hub thread owns it."""
    player: str = ""
    """The nick in the arena; empty before ``play``.  Its handlers set it; others may read."""


class Room:
    """One chat room.

    Threads: the hub thread owns it, except the hotline.
    """

    def __init__(self, hub: Hub[User, str], option: HotlineOption) -> None:
        self.name = option.name
        self.hotline = hub.hotline(option)
        self.hotline.data = self
        self.seq = 0
        """The number of the last event."""
        self.people: dict[str, User] = {}
        """The users by nick, case-folded, so that no two nicks look alike."""
        self.messages: deque[dict[str, object]] = deque(maxlen=HISTORY)

    def tell(self, kind: str, **fields: object) -> dict[str, object]:
        """Push an event to everyone in the room; return the event."""
        self.seq += 1
        event = {"type": kind, "room": self.name, "seq": self.seq, **fields}
        self.hotline.push(self.hotline.hub.marshal(event))
        return event


def checked_name(field_name: str, text: str) -> str:
    """Return ``text`` as a name: in Unicode's normal form, with single spaces.

    :raises ValueError: if the name is too long or has characters that cannot be printed.
    """
    text = " ".join(unicodedata.normalize("NFC", text).split())
    # isprintable also excludes line breaks and characters that hide or reverse text.
    if not (1 <= len(text) <= LONGEST_NAME and text.isprintable()):
        raise ValueError(f"{field_name}: 1 to {LONGEST_NAME} printable characters")
    return text


def free_nick(nick: str, taken: Container[str]) -> str:
    """Return ``nick``, with a number appended if it is taken.

    :param taken: case-folded nicks.
    """
    free, number = nick, 1
    while free.casefold() in taken:
        number += 1
        free = f"{nick}-{number}"
    return free
