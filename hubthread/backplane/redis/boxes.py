"""The letters of a hub: the boxes that it hears, and the letters that wait to be sent.

A letter is a plain PUBLISH: it arrives once or not at all.  The server's answer says how many hubs
it has gone to.  A letter whose answer is lost is not sent again.

Layer: backplane.  Threads: every method may be called on any thread, and returns at once.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any, NamedTuple

from hubthread.backplane.redis.wire import command

__all__ = ["Boxes", "Letter", "box_channel"]

PIPELINE_BYTES = 1 << 20
"""Bytes of the letters that are sent at once."""


def box_channel(prefix: str, box: str) -> bytes:
    """Return the channel of a box."""
    return f"{prefix}:b:{box}".encode("utf-8", "surrogatepass")


class Letter(NamedTuple):
    """A letter that waits to be sent."""

    data: bytes
    """The bytes of the command."""
    until: float | None
    """The time after which the letter is not sent; None for no limit."""
    sent: Callable[[Any], object]
    """Called with the server's answer: the number of hubs that the letter has gone to; None if
    there is no answer."""
    server: bytes = b""
    """The run_id of the only server that may get the letter; empty for any server."""


class Boxes:
    """The boxes of one hub, and its letters on their way out."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._lock = threading.RLock()  # guards what follows
        self._heard: dict[bytes, Callable[[bytes], object]] = {}
        self._waiting: deque[Letter] = deque()

    def listen(self, box: str, heard: Callable[[bytes], object]) -> bytes:
        """Hear a box; return its channel."""
        channel = box_channel(self._prefix, box)
        with self._lock:
            self._heard[channel] = heard
        return channel

    def unlisten(self, box: str) -> bytes:
        """Hear a box no longer; return its channel."""
        channel = box_channel(self._prefix, box)
        with self._lock:
            self._heard.pop(channel, None)
        return channel

    def channels(self) -> list[bytes]:
        """Return the channels of the boxes that the hub hears."""
        with self._lock:
            return list(self._heard)

    def hears(self, channel: bytes) -> Callable[[bytes], object] | None:
        """Return the function that hears a channel, or None."""
        return self._heard.get(channel)

    def post(
        self,
        box: str,
        letter: bytes,
        sent: Callable[[int | None], object],
        within: float | None,
    ) -> None:
        """Queue a letter to a box."""
        until = None if within is None else monotonic() + within
        data = command(b"PUBLISH", box_channel(self._prefix, box), letter)
        self.send(Letter(data, until, sent))

    def send(self, letter: Letter) -> None:
        """Queue a command that is sent like a letter."""
        self._waiting.append(letter)

    def waiting(self) -> int:
        """Return the number of letters that wait."""
        return len(self._waiting)

    def take(self, server: bytes) -> list[Letter]:
        """Return the letters to send now.

        Letters that are too late, and letters for another server, are dropped.

        :param server: the run_id of the present server.
        """
        found: list[Letter] = []
        size = 0
        while self._waiting and size < PIPELINE_BYTES:
            letter = self._waiting.popleft()
            late = letter.until is not None and monotonic() >= letter.until
            if late or letter.server not in (b"", server):
                letter.sent(None)
                continue
            size += len(letter.data)
            found.append(letter)
        return found
