"""A demo that can be restarted on its port, for the tests in browsers."""

from __future__ import annotations

from dataclasses import replace

from hubthread import Server, demo
from hubthread.demo import Demo
from hubthread.demo.arena import Game
from hubthread.demo.field import Rules

SMALL = Rules(width=1000.0, height=640.0)
"""A field that a page shows as a whole."""

HOST = "127.0.0.12"
"""An address of its own: on 127.0.0.1 another test may get the port while it is free."""


class Running:
    """A demo that serves and can be restarted on the same port.

    :param rules: of the arena.
    """

    def __init__(self, rules: Rules = SMALL, bots: int = 0) -> None:
        self.port = 0
        self._rules, self._bots = rules, bots
        self.start()

    def start(self) -> None:
        self.site = Demo(bots=self._bots)
        arena = self.site.arena
        arena.option = replace(arena.option, new_obj=lambda: Game(self._rules))
        self.site.hub.start()
        self.server: Server = demo.serve(self.site, HOST, self.port)
        self.port = int(self.server.address[1])

    def stop(self) -> None:
        self.site.hub.close()
