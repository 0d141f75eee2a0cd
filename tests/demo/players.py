"""A player of the arena over a real WebSocket, without a page.  It belongs to one thread."""

from __future__ import annotations

from collections.abc import Callable

from tests.demo import Message, Page


class Player(Page):
    """What the arena's page does, as far as a server can tell."""

    id = 0
    nick = ""

    def play(self, nick: str) -> Player:
        """Enter, and wait until it is so."""
        self.send("play", nick=nick)
        entered = self.until("entered")
        self.id, self.nick = entered["id"], entered["nick"]
        return self

    def picture(self, enough: Callable[[Message], object] = lambda _: True) -> Message:
        """The next picture that is so."""
        while True:
            picture = self.until("picture")
            if enough(picture):
                return picture

    def ticks(self) -> Message:
        """The room's statistics, as of now."""
        self.send("ticks")
        return self.until("ticks")


def disc(picture: Message, player: Player) -> list[float]:
    """Where a disc stands: x, y."""
    (found,) = [each for each in picture["players"] if each[0] == player.id]
    return list(found[1:3])


def watches(picture: Message) -> dict[int, bool]:
    """Who watches, by id."""
    return {each[0]: bool(each[4]) for each in picture["players"]}
