"""Who uses the demo, and what is said to them when something cannot be.

Layer: top.  Threads: each field of a user says whose it is; functions are for any.
"""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Container
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hubthread.demo.chat import Room

__all__ = ["LONGEST_NAME", "Refused", "User", "checked_name", "free_nick"]

LONGEST_NAME = 32
"""Characters of a nick or of a room's name."""


class Refused(Exception):
    """What the user asked for cannot be; the text is for the user."""


@dataclass(eq=False)
class User:
    """The meta of one connection.  ``since`` stays."""

    since: float = field(default_factory=time.monotonic)
    nick: str = ""
    """In the chat.  The hub thread's, as the next."""
    room: Room | None = None
    player: str = ""
    """The nick in the arena; empty: not there.  The arena's; others may look."""


def checked_name(field_name: str, text: str) -> str:
    """``text`` as a name, of normal form and spaces.

    :raises ValueError: for what is too long, or does not show as what it is.
    """
    text = " ".join(unicodedata.normalize("NFC", text).split())
    # Printable: without line breaks, or what hides and turns text around.
    if not (1 <= len(text) <= LONGEST_NAME and text.isprintable()):
        raise ValueError(f"{field_name}: 1 to {LONGEST_NAME} printable characters")
    return text


def free_nick(nick: str, taken: Container[str]) -> str:
    """``nick``, with a number behind it where somebody has it.

    :param taken: without case: two who look alike would be taken for each other.
    """
    free, number = nick, 1
    while free.casefold() in taken:
        number += 1
        free = f"{nick}-{number}"
    return free
