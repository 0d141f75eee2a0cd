"""A link in virtual time, and servers that do what the test says."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

from hubthread.client import Link
from hubthread.protocol.client_handshake import WrongAnswer
from hubthread.protocol.envelope import SUBPROTOCOL
from hubthread.testing import FakeClock
from hubthread.testing.link import Ended, Opened, VirtualDriver
from tests.support.logs import Logs


class FakeServer:
    """The server's end of one attempt; see ``testing.link.Endpoint``."""

    def __init__(self, plain: bool) -> None:
        self.wake: Callable[[], object] = lambda: None
        self.sent: list[str | bytes] = []
        self.buffered = 0
        self.pings = 0
        self.closed_with: int | None = None
        self.is_open = False
        self.gone = False
        self.answers = False
        self._plain = plain
        self._events: list[Any] = []

    # What the server and the network do.

    def open(self, subprotocol: str | None = SUBPROTOCOL) -> None:
        if not self.is_open:
            self.is_open = True
            self._add(Opened(None if self._plain else subprotocol or None))

    def receive(self, message: object) -> None:
        if self.is_open:
            self._add(message if isinstance(message, (str, bytes)) else json.dumps(message))

    def end(self, code: int = 1006, reason: str = "") -> None:
        if not self.gone:
            self.gone = True
            self._add(Ended(code, reason))

    def fail(self, error: OSError | WrongAnswer) -> None:
        self.gone = True
        self._add(error)

    def _add(self, event: object) -> None:
        self._events.append(event)
        self.wake()

    def messages(self) -> list[dict[str, Any]]:
        return [json.loads(each) for each in self.sent]

    # For the driver.

    def events(self) -> list[Any]:
        found, self._events = self._events, []
        return found

    def send(self, data: str | bytes) -> None:
        assert self.is_open
        assert not self.gone
        self.sent.append(data)
        if self.answers and isinstance(data, str):
            number = json.loads(data).get("id")
            if number is not None:
                self.receive({"reply": number, "epoch": "k", "at": 1, "now": 1})

    def ping(self) -> None:
        self.pings += 1

    def close(self, code: int | None) -> None:
        self.gone = True
        self.closed_with = code


class World:
    """A clock, a link, and the servers of its attempts."""

    def __init__(self, chance: Callable[[], float] = lambda: 1.0, **options: Any) -> None:
        self.clock = FakeClock()
        self.clock.expect_hub()
        self.clock.open_hub()
        self.servers: list[FakeServer] = []
        self.refusal: OSError | WrongAnswer | None = None
        self.serves = False
        self.logs = Logs()
        plain = options.get("plain", False)

        def dial(link: Link) -> FakeServer:
            if self.refusal is not None:
                raise self.refusal
            server = FakeServer(plain)
            self.servers.append(server)
            if self.serves:
                server.answers = True
                server.open()
                server.receive({"type": "hub:hello", "id": 17})
            return server

        def make(link: Link) -> VirtualDriver:
            driver = VirtualDriver(link, self.clock, dial)
            driver.random = chance
            return driver

        options.setdefault("logger", self.logs)
        self.link = Link._over(make, "ws://hub.example/ws", options)

    @property
    def server(self) -> FakeServer:
        return self.servers[-1]

    def live(self) -> list[FakeServer]:
        return [each for each in self.servers if not each.gone]

    def opened(self) -> World:
        """Connect, and let the hub say hello."""
        self.link.connect()
        self.clock.settle()
        self.accept()
        return self

    def accept(self) -> None:
        """Let the server of the present attempt accept it."""
        self.server.open()
        self.server.receive(
            {"type": "hub:hello", "session": "s1", "resumed": False, "id": 17, "now": 5000}
        )
        self.clock.settle()

    def close(self) -> None:
        self.link.close()
        self.clock.settle()
        self.clock.close_hub()

    def __enter__(self) -> World:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def quiet() -> logging.Logger:
    """Return a logger that tells nobody."""
    return logging.getLogger("tests.quiet")
