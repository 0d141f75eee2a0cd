"""The tests of the demo, and ``Page``, which does over a WebSocket what a page does.

One thread uses a page.
"""

from __future__ import annotations

import contextlib
import json
from time import monotonic
from typing import Any, TypeVar

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

Message = dict[str, Any]
P = TypeVar("P", bound="Page")

PATIENCE_S = 60.0
"""Seconds for one message; only a failing test waits that long."""


class Page:
    """A page of the chat, which handles messages as ``chat.js`` does.

    ``events`` are the events of the room since the page joined it; ``messages`` are the messages
    that the page knows.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._end = contextlib.ExitStack()
        # With a bound, the reader would stop at unread messages, and close would wait for it.
        self._socket = self._end.enter_context(
            connect(url, open_timeout=PATIENCE_S, max_queue=None)
        )
        self.room: str | None = None
        self.seq = 0
        self.joined: Message = {}
        self.events: list[Message] = []
        self.messages: list[Message] = []

    def send(self, kind: str, **fields: object) -> None:
        """Send a message as the page would."""
        self.send_text(json.dumps({"type": kind, **fields}))

    def send_text(self, text: str) -> None:
        """Send any text."""
        self._socket.send(text)

    def join(self, nick: str, room: str) -> Message:
        """Enter a room; return the server's answer."""
        self.send("join", nick=nick, room=room)
        return self.until("joined")

    def say(self, text: str) -> None:
        """Send a message to the room."""
        self.send("say", text=text)

    def until(self, kind: str, **fields: object) -> Message:
        """Take messages up to the first of this kind with these fields; return it."""
        deadline = monotonic() + PATIENCE_S
        while True:
            assert monotonic() < deadline, f"no {kind!r}"  # other messages may come for ever
            message = self.take()
            if (
                message is not None
                and message["type"] == kind
                and fields.items() <= message.items()
            ):
                return message

    def take(self) -> Message | None:
        """Return the next message, or None for one that the page drops."""
        message: Message = json.loads(self._socket.recv(timeout=PATIENCE_S))
        if message["type"] == "joined":
            self.room, self.seq, self.joined = message["room"], message["seq"], message
            self.events, self.messages = [], list(message["messages"])
        elif "seq" in message:
            if message["room"] != self.room or message["seq"] <= self.seq:
                return None
            self.seq = message["seq"]
            self.events.append(message)
            if message["type"] == "said":
                self.messages.append(message)
        return message

    def until_closed(self) -> int | None:
        """Take messages until the server closes; return the close code."""
        with contextlib.suppress(ConnectionClosed):
            for _ in self._socket:
                pass
        return self._socket.close_code

    def close(self) -> None:
        """Leave: a page that is only lost stays in the room for a while."""
        with contextlib.suppress(ConnectionClosed):
            self.send("leave")
        self._end.close()

    def __enter__(self: P) -> P:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
