"""A demo that can be restarted on its port, for the tests in browsers."""

from __future__ import annotations

from hubthread import Server, demo
from hubthread.demo import Demo

HOST = "127.0.0.12"
"""An address of its own: on 127.0.0.1 another test may get the port while it is free."""


class Running:
    """A demo that serves and can be restarted on the same port."""

    def __init__(self) -> None:
        self.port = 0
        self.start()

    def start(self) -> None:
        self.site = Demo()
        self.site.hub.start()
        self.server: Server = demo.serve(self.site, HOST, self.port)
        self.port = int(self.server.address[1])

    def stop(self) -> None:
        self.site.hub.close()
