"""A player of the arena over a real WebSocket, without a page; one thread uses it."""

from __future__ import annotations

from collections.abc import Callable

from tests.demo import Message, Page


class Player(Page):
    """A page of the arena, as the server sees it."""

    id = 0
    nick = ""

    def play(self, nick: str) -> Player:
        """Enter and wait for the answer."""
        self.send("play", nick=nick)
        entered = self.until("entered")
        self.id, self.nick = entered["id"], entered["nick"]
        return self

    def picture(self, enough: Callable[[Message], object] = lambda _: True) -> Message:
        """Return the next picture for which ``enough`` is true."""
        while True:
            picture = self.until("picture")
            if enough(picture):
                return picture

    def ticks(self) -> Message:
        """Return the room's statistics."""
        self.send("ticks")
        return self.until("ticks")


def disc(picture: Message, player: Player) -> list[float]:
    """Return the position of a disc."""
    (found,) = [each for each in picture["players"] if each[0] == player.id]
    return list(found[1:3])
