"""The frames of a client, which are masked (RFC 6455 section 5.3).

Layer: protocol.  Threads: pure functions; any thread may call them.
Source: RFC 6455 section 5.
"""

from __future__ import annotations

import struct

from wsproto.frame_protocol import XorMaskerSimple

from hubthread.protocol.frames import MessageType

__all__ = ["client_frame", "masked_close"]

# Up to this size, XOR of two integers is faster than wsproto's four translated slices.
_INTEGER_XOR = 1024
_NO_MASK = bytes(4)


def client_frame(kind: int, payload: bytes, key: bytes = _NO_MASK) -> bytes:
    """Return a client's frame.

    :param key: four bytes that nobody can foresee.  The default leaves the payload readable in
        the bytes, for tests.
    """
    size = len(payload)
    if size <= 125:
        head = struct.pack("!BB", 0x80 | kind, 0x80 | size)
    elif size <= 0xFFFF:
        head = struct.pack("!BBH", 0x80 | kind, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", 0x80 | kind, 0x80 | 127, size)
    if key == _NO_MASK:
        masked = payload
    elif size <= _INTEGER_XOR:
        mask = int.from_bytes((key * ((size >> 2) + 1))[:size], "big")
        masked = (int.from_bytes(payload, "big") ^ mask).to_bytes(size, "big")
    else:
        masked = bytes(XorMaskerSimple(key).process(bytearray(payload)))
    return b"".join((head, key, masked))


def masked_close(close: bytes, key: bytes) -> bytes:
    """Return the client's frame of a Close that ``encode_close`` has made."""
    return client_frame(MessageType.CLOSE, close[2:], key)
