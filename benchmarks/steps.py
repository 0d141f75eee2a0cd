"""``python -m benchmarks.steps``: microseconds of single steps, beside their alternatives.

The code names the reason of each fast path; the figures behind the reasons come from here.  Each
figure is the best of several rounds, on one thread, with warm caches.
"""

from __future__ import annotations

import json
import timeit
import zlib
from collections.abc import Callable
from typing import NamedTuple

import h11
from wsproto.connection import Connection, ConnectionType

from benchmarks.machine import describe
from benchmarks.report import print_machine
from hubthread.protocol.frames import Frame, MessageType
from hubthread.protocol.http import RequestParser
from hubthread.protocol.websocket import WebSocketProtocol

__all__ = ["STEPS", "Step", "measure"]

ROUNDS = 5
MIB = 1024 * 1024
KEY = b"\x12\x34\x56\x78"

HEAD = (
    b"GET /ws?room=1 HTTP/1.1\r\nHost: example.org\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
BROWSER = HEAD + (
    b"Origin: http://example.org\r\nPragma: no-cache\r\nCache-Control: no-cache\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)\r\n"
    b"Accept-Encoding: gzip, deflate\r\nAccept-Language: en-GB,en;q=0.9\r\n"
    b"Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n"
    b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
)


class Step(NamedTuple):
    """One step and its alternative."""

    name: str
    ours: Callable[[], object]
    other: Callable[[], object] | None
    """The alternative, or ``None``."""
    alternative: str


def masked(size: int) -> bytes:
    """Return a client's text frame of ``size`` bytes."""
    if size < 126:
        head = bytes([0x81, 0x80 | size])
    elif size < 65536:
        head = bytes([0x81, 0xFE]) + size.to_bytes(2, "big")
    else:
        head = bytes([0x81, 0xFF]) + size.to_bytes(8, "big")
    four = bytes(ord("x") ^ byte for byte in KEY)
    return head + KEY + (four * (size // 4 + 1))[:size]


def _receive(size: int) -> Step:
    data = masked(size)
    protocol = WebSocketProtocol(max_message=2 * MIB)
    wsproto = Connection(ConnectionType.SERVER)

    def by_wsproto() -> object:
        wsproto.receive_data(data)
        return list(wsproto.events())

    name = f"receive a frame of {size:,} bytes"
    return Step(name, lambda: protocol.receive(data), by_wsproto, "wsproto")


def _parse(name: str, fields: bytes) -> Step:
    data = fields + b"\r\n"

    def ours() -> object:
        return RequestParser(peer=("127.0.0.1", 1), secure=False).receive(data)

    def by_h11() -> object:
        connection = h11.Connection(h11.SERVER)
        connection.receive_data(data)
        return connection.next_event()

    return Step(name, ours, by_h11, "h11 alone")


def _encode(size: int) -> Step:
    text = "x" * size
    return Step(f"make a frame of {size:,} bytes", lambda: Frame(text, MessageType.TEXT), None, "")


def _deflate(size: int) -> Step:
    lines = json.dumps([{"name": f"player {n}", "x": n * 7, "y": n * 3} for n in range(200)])
    text = lines[:size]

    def by_defaults() -> object:
        compressor = zlib.compressobj(wbits=-15)
        return compressor.compress(text.encode()) + compressor.flush(zlib.Z_SYNC_FLUSH)

    name = f"deflate {size:,} bytes of JSON"
    ours: Callable[[], object] = lambda: Frame(text, MessageType.TEXT).deflated(15)  # noqa: E731
    return Step(name, ours, by_defaults, "zlib's defaults")


STEPS = (
    # First, before large blocks have changed how the C library allocates.
    *(_deflate(size) for size in (100, 4096)),
    *(_receive(size) for size in (100, 1_000, 16 * 1024, 64 * 1024 - 1, MIB)),
    *(_encode(size) for size in (100, 64 * 1024)),
    _parse("read the handshake of a program", HEAD),
    _parse("read the handshake of a browser", BROWSER),
)
"""The measured steps."""


def measure(step: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Return the microseconds of one call, the best of several rounds."""
    timer = timeit.Timer(step)
    count, _ = timer.autorange()
    return min(timer.repeat(rounds, count)) / count * 1e6


def main() -> None:
    """Measure every step and print the table."""
    print_machine(describe([]))
    print(f"{'step':<38}{'µs':>10}{'µs':>10}  beside")
    for step in STEPS:
        other = "" if step.other is None else f"{measure(step.other):10.2f}"
        print(
            f"{step.name:<38}{measure(step.ours):>10.2f}{other:>10}  {step.alternative}".rstrip()
        )


if __name__ == "__main__":
    main()
