"""Outgoing WebSocket frames: encoded once, shared by everyone they go to.

Layer: protocol (no threads, sockets or clocks).  Runs on whichever thread writes or
fans out; a :class:`Frame` is immutable to its users and may be shared by threads.

A server's frames are not masked (RFC 6455 section 5.1), so a frame is the same bytes
for every member of a room, and, with the same window and no context takeover, so is
the compressed one (RFC 7692).  This is the fan-out's hot path: everything that can be
is computed before the first frame.
"""

from __future__ import annotations

import struct
import zlib
from enum import IntEnum

__all__ = [
    "Frame",
    "MessageType",
    "check_code",
    "encode_close",
    "encode_ping",
    "encode_pong",
    "is_sendable_code",
]


class MessageType(IntEnum):
    """What a frame carries: its opcode (RFC 6455 section 5.2).

    The specification's ``TextMessage`` … ``PongMessage``.
    """

    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


#: RFC 6455 section 5.5: no control frame carries more.
MAX_CONTROL_PAYLOAD = 125
#: Two of these bytes are the code.
MAX_CLOSE_REASON = MAX_CONTROL_PAYLOAD - 2

# JSON of 60 bytes becomes 52, of 30 none less; and the receiver has to inflate it.
_WORTH_DEFLATING = 64

# Plain numbers, since the hot path compares with them: a member of the enumeration costs
# a look-up in its class each time.
_TEXT = 1
_LAST_DATA = 2
_FIN = 0x80
_RSV1 = 0x40
_LENGTH_16 = struct.Struct("!BBH").pack
_LENGTH_64 = struct.Struct("!BBQ").pack


def _header(first: int, size: int) -> bytes:
    if size <= 125:
        return bytes((first, size))
    if size <= 0xFFFF:
        return _LENGTH_16(first, 126, size)
    return _LENGTH_64(first, 127, size)


class Frame:
    """One outgoing message, encoded when it is made.

    ``payload`` is sent as given (``bytes``) or as UTF-8 (``str``).  ``message_type`` is
    TEXT, BINARY, PING or PONG, or its number; a Close goes through :func:`encode_close`, since the
    state of the connection depends on it.

    Raises :class:`ValueError` for text that is not valid UTF-8 (a lone surrogate, or
    bytes that do not decode): the receiver would have to end the connection with 1007;
    and for a control frame of more than 125 bytes.
    """

    __slots__ = ("_deflated", "message_type", "payload", "wire")

    #: What the caller gave.
    payload: bytes | str
    message_type: int
    #: The plain frame, as it goes to the socket (RFC 6455 section 5.2).
    wire: bytes

    def __init__(self, payload: bytes | str, message_type: int) -> None:
        try:
            if isinstance(payload, str):
                body = payload.encode()
            else:
                body = payload
                if message_type == _TEXT:
                    body.decode()
        except UnicodeError as error:
            raise ValueError(f"not text that UTF-8 can carry: {error}") from None
        # Eagerly: a frame that is made is sent, and a plain attribute costs each of a
        # thousand members 0.03 µs, a property with its test 0.08.  In all 0.35 µs per
        # frame of 100 bytes on CPython 3.11, 4 for 64 KiB; a table of the 126 short
        # headers instead of the function would save 0.03.
        size = len(body)
        self.wire = _header(_FIN | message_type, size) + body
        if message_type > _LAST_DATA:
            _check_control(message_type, size)
        self.payload = payload
        self.message_type = message_type
        self._deflated: dict[int, bytes] | None = None

    @property
    def body(self) -> bytes:
        """The payload as bytes, unframed: for peers with another framing."""
        payload = self.payload
        return payload.encode() if isinstance(payload, str) else payload

    @property
    def size(self) -> int:
        """Bytes of :attr:`wire`."""
        return len(self.wire)

    def deflated(self, window_bits: int) -> bytes:
        """The frame for peers that negotiated permessage-deflate (RFC 7692 section 7.2.1).

        ``window_bits``: the negotiated ``server_max_window_bits``, 9 to 15.  No context
        takeover.  The result is :attr:`wire` where compression does not pay.  Made once
        for each window; any thread may ask.

        Raises :class:`ValueError` for a window that zlib cannot keep to.
        """
        if not 9 <= window_bits <= 15:
            raise ValueError(f"a window of 9 to 15 bits, not {window_bits}")
        # Two threads may both find it empty: each then makes the same bytes, and one
        # of the two results is kept.  Nothing is changed once it can be seen.
        cache = self._deflated
        if cache is None:
            cache = self._deflated = {}
        wire = cache.get(window_bits)
        if wire is None:
            wire = cache[window_bits] = self._deflate(window_bits)
        return wire

    def _deflate(self, window_bits: int) -> bytes:
        payload = self.body
        # Control frames are never compressed (RFC 7692 section 5).
        if len(payload) < _WORTH_DEFLATING or self.message_type > _LAST_DATA:
            return self.wire
        # A window larger than the payload finds nothing more, and memory level 5 changes
        # the size by 1 % either way.  But the 50 KB that both need come from the heap,
        # where the 260 KB of zlib's defaults are mapped and unmapped each time: 3.5 µs
        # for 100 bytes of JSON instead of 54, 30 for 4 KiB instead of 83, and no
        # difference from 64 KiB on (CPython 3.11, a window of 15 bits).
        bits = max(9, min(window_bits, (len(payload) - 1).bit_length()))
        compressor = zlib.compressobj(wbits=-bits, memLevel=5)
        body = compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)
        wire = _header(_FIN | _RSV1 | self.message_type, len(body) - 4) + body[:-4]
        return wire if len(wire) < len(self.wire) else self.wire

    def __repr__(self) -> str:
        return f"<Frame {MessageType(self.message_type).name} {self.size} bytes>"


def _check_control(message_type: int, size: int) -> None:
    if message_type == MessageType.CLOSE:
        raise ValueError("a Close frame is made by encode_close()")
    if size > MAX_CONTROL_PAYLOAD:
        raise ValueError(f"a control frame carries at most 125 bytes, not {size}")


def is_sendable_code(code: int) -> bool:
    """Whether a Close frame may carry ``code`` (RFC 6455 section 7.4 and IANA's list).

    1004, 1005, 1006 and 1015 never are on the wire; 1016 to 2999 are not assigned.
    """
    return 3000 <= code <= 4999 or (1000 <= code <= 1014 and code not in (1004, 1005, 1006))


def check_code(code: object) -> None:
    """Refuse what is no code that a Close frame may carry; raises :class:`ValueError`."""
    if not isinstance(code, int) or not is_sendable_code(code):
        allowed = "1000 to 1003, 1007 to 1014, or one of your own, 3000 to 4999"
        raise ValueError(f"close code {code!r} must not be sent: {allowed}")


def encode_close(code: int | None, reason: str = "") -> bytes:
    """A Close frame (RFC 6455 section 5.5.1).

    ``code`` None makes the empty Close, which the receiver reports as 1005.  ``reason``
    is cut at 123 bytes of UTF-8, between characters; what UTF-8 cannot carry becomes
    ``?``, since closing must not fail on a text.

    Raises :class:`ValueError` for a code that must not be sent, or a reason without one.
    """
    if code is None:
        if reason:
            raise ValueError("a close reason needs a code")
        return b"\x88\x00"
    check_code(code)
    text = reason.encode("utf-8", "replace")
    if len(text) > MAX_CLOSE_REASON:
        text = text[:MAX_CLOSE_REASON].decode("utf-8", "ignore").encode()
    return struct.pack("!BBH", 0x88, 2 + len(text), code) + text


def encode_ping(payload: bytes = b"") -> bytes:
    """A Ping frame; raises :class:`ValueError` beyond 125 bytes."""
    _check_control(MessageType.PING, len(payload))
    return _header(_FIN | MessageType.PING, len(payload)) + payload


def encode_pong(payload: bytes = b"") -> bytes:
    """A Pong frame; raises :class:`ValueError` beyond 125 bytes."""
    _check_control(MessageType.PONG, len(payload))
    return _header(_FIN | MessageType.PONG, len(payload)) + payload
