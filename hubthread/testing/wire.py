"""The client's half of WebSocket, as far as a virtual client needs it.

The hub's half is the real one.  Its conformance is tested with clients of other libraries, not
with this module.

Layer: testing.  Threads: any; only ``FrameReader`` has state, and is for one thread.
Source: RFC 6455 section 5.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from hubthread.protocol.frames import MessageType
from hubthread.protocol.masking import client_frame

__all__ = ["FrameReader", "client_close", "client_frame", "close_of"]

NO_STATUS = 1005


def client_close(code: int, reason: str = "") -> bytes:
    """Return a client's Close frame."""
    return client_frame(MessageType.CLOSE, struct.pack("!H", code) + reason.encode())


def close_of(payload: bytes) -> tuple[int, str]:
    """Return code and reason of a Close frame's payload."""
    if len(payload) < 2:
        return NO_STATUS, ""
    return int.from_bytes(payload[:2], "big"), payload[2:].decode()


class FrameReader:
    """A parser of the hub's bytes into frames."""

    def __init__(self) -> None:
        self._held = b""

    def read(self, pieces: list[bytes]) -> Iterator[tuple[int, bytes]]:
        """Yield opcode and payload of each frame that these bytes complete."""
        data = b"".join([self._held, *pieces]) if self._held or len(pieces) > 1 else pieces[0]
        position, end = 0, len(data)
        while position + 2 <= end:
            first, size = data[position], data[position + 1]
            begin = position + 2
            if size >= 126:
                begin += 2 if size == 126 else 8
                size = int.from_bytes(data[position + 2 : begin], "big")
            if begin + size > end:
                break
            payload = data[begin : begin + size]
            if first & 0x40:  # permessage-deflate, without context takeover
                payload = zlib.decompressobj(-15).decompress(payload + b"\x00\x00\xff\xff")
            yield first & 0x0F, payload
            position = begin + size
        self._held = data[position:]
