"""The contract of every server under test, and the parts that all servers share.

``python -m benchmarks.peers NAME JOB`` (JOB is JSON) listens on a free port of 127.0.0.1 and
prints ``listening PORT``.  It ends with its standard input, so that no server outlives a killed
runner.

``echo``: each message goes back to its sender.  ``room``: each message goes to all members, the
sender included, in one order for all.  ``publish``: from a client's "go" to its "stop", the server
sends messages to all members, and then a last one with a mark.  In ``room`` and ``publish`` the
server sends "joined" to each new member.

With ``Job.redis`` several servers are one: a message of one reaches the members of all.  Then
"go" and "stop" come on the standard input of the server that is to publish.

A message has 8 digits of sequence number, 24 digits of CLOCK_MONOTONIC in nanoseconds, 8 digits of
sender (in ``publish``: 1 for the last message), and words up to the agreed size.
"""

from __future__ import annotations

import asyncio
import os
import resource
import ssl
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

__all__ = [
    "BLOCK",
    "JOINED",
    "Job",
    "Publisher",
    "Stamper",
    "listening",
    "open_files",
    "publish_async",
    "watch_stdin",
]

JOINED = "joined"
BLOCK = "block"

_WORDS = (
    '{"type":', '"position",', '"x":', "12.5,", '"y":', "-3.75,", '"name":', '"ada",',
    '"text":', '"hello ', 'there",', '"room":', '"table 7"', "},", "1024,", "true,",
)  # fmt: skip
_HEAD = 40


@dataclass(frozen=True)
class Job:
    """The task of a server."""

    mode: Literal["echo", "room", "publish"] = "echo"
    rate: float = 0.0
    """Messages a second in ``publish``; 0: as fast as the server lets a publisher go."""
    size: int = 100
    """Bytes of a message in ``publish``."""
    window: int = 16
    """Messages that a publisher hands over before it waits for the batch before.

    It is for servers that accept messages without blocking.
    """
    deflate: bool = False
    """Negotiate permessage-deflate."""
    pause: float = 0.0
    """Seconds that the handler sleeps before it echoes; below 0 only for the message ``BLOCK``."""
    certificate: str = ""
    """A PEM file with certificate and key, to serve with TLS."""
    redis: str = ""
    """The URL of the Redis server through which several servers are one."""
    since: str = ""
    """The epoch of a room from whose begin new members recover."""

    def tls(self) -> ssl.SSLContext | None:
        """Return the server's TLS context, or None without a certificate."""
        if not self.certificate:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate)
        return context


class Stamper:
    """The maker of numbered messages with a time stamp."""

    def __init__(self, size: int) -> None:
        self._words = _words(size - _HEAD)
        self._sequence = 0

    def next(self, *, last: bool = False) -> str:
        """Return the next message."""
        self._sequence += 1
        return f"{self._sequence:08d}{time.monotonic_ns():024d}{int(last):08d}{self._words}"


def _words(size: int) -> str:
    """Return words that compress about as chat or JSON does; the same as in ``load.h``."""
    state, parts, length = 1, [], 0
    while length < size:
        state = (state * 1103515245 + 12345) & 0x7FFFFFFF
        parts.append(_WORDS[(state >> 16) & 15])
        length += len(parts[-1])
    return "".join(parts)[:size]


_publishers: list[Publisher] = []
"""The publishers of this process, which obey its standard input."""


class Publisher:
    """A publisher from "go" to "stop", on a thread of its own.

    :param push: sends to all members; blocks where the server under test does.
    """

    def __init__(self, job: Job, push: Callable[[str], object]) -> None:
        self._job = job
        self._push = push
        self._stop = threading.Event()
        _publishers.append(self)

    def told(self, message: object) -> None:
        """Handle a client's "go" or "stop"."""
        if not self._job.redis:
            self.obey(message)

    def obey(self, message: object) -> None:
        """Handle "go" or "stop"."""
        if message == "go":
            threading.Thread(target=self._run, daemon=True).start()
        elif message == "stop":
            self._stop.set()

    def _run(self) -> None:
        stamper, rate, due = Stamper(self._job.size), self._job.rate, time.monotonic()
        while not self._stop.is_set():
            self._push(stamper.next())
            if rate:
                due += 1 / rate
                self._stop.wait(max(0.0, due - time.monotonic()))
        self._push(stamper.next(last=True))


async def publish_async(
    job: Job, stop: asyncio.Event, push: Callable[[str], Awaitable[object]]
) -> None:
    """Publish until ``stop``, in a task; the counterpart of ``Publisher`` for asyncio."""
    stamper, due = Stamper(job.size), time.monotonic()
    while not stop.is_set():
        await push(stamper.next())
        due += 1 / job.rate if job.rate else 0.0
        # Yield to the event loop even without a rate, because the sends may never do so.
        await asyncio.sleep(max(0.0, due - time.monotonic()))
    await push(stamper.next(last=True))


def listening(port: int) -> None:
    """Print the port for the runner."""
    print(f"listening {port}", flush=True)


def watch_stdin() -> None:
    """Obey the lines of standard input, and end this process when it ends."""

    def watch() -> None:
        for line in sys.stdin:
            for publisher in _publishers:
                publisher.obey(line.strip())
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def open_files() -> None:
    """Raise the limit of descriptors to the most that the system allows."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
