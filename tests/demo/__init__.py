"""The demo's tests, and the page as they play it: :class:`Page`, over a real WebSocket.

A page belongs to the thread that uses it.
"""

from __future__ import annotations

import contextlib
import json
from time import monotonic
from types import TracebackType
from typing import Any, TypeVar

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

Message = dict[str, Any]
P = TypeVar("P", bound="Page")

PATIENCE_S = 60.0
"""For one message; only a failing test waits that long."""


class Page:
    """What the page does: it joins, says, and takes each event of its room once.

    ``events`` are those of the room since it was joined, and ``messages`` all that were
    said in it, as far as the page knows; both as ``chat.js`` would show them.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._end = contextlib.ExitStack()
        # With a bound, its reader stops at what is unread, and its close waits for that.
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
        """Send anything."""
        self._socket.send(text)

    def join(self, nick: str, room: str) -> Message:
        """Enter a room; what the server answers."""
        self.send("join", nick=nick, room=room)
        return self.until("joined")

    def say(self, text: str) -> None:
        """Say something, without waiting for it to come back."""
        self.send("say", text=text)

    def until(self, kind: str, **fields: object) -> Message:
        """Take what comes, up to the first message of this kind with these fields."""
        deadline = monotonic() + PATIENCE_S
        while True:
            assert monotonic() < deadline, f"no {kind!r}"  # others may come for ever
            message = self.take()
            if (
                message is not None
                and message["type"] == kind
                and fields.items() <= message.items()
            ):
                return message

    def take(self) -> Message | None:
        """The next message; ``None`` for one that the page passes over."""
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
        """Take what comes until the server closes; the close code."""
        with contextlib.suppress(ConnectionClosed):
            for _ in self._socket:
                pass
        return self._socket.close_code

    def close(self) -> None:
        """Leave."""
        self._end.close()

    def __enter__(self: P) -> P:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
