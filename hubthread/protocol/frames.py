"""Encode outgoing WebSocket frames: once, for every client that gets them.

A server's frames are not masked (RFC 6455 section 5.1).  So a frame is the same bytes for
every member of a room, and, with the same window and no context takeover, so is the
compressed frame (RFC 7692).  This is the hot path of the fan-out: everything that can be
computed is computed before the first frame.

Layer: protocol.  Threads: any thread that writes or fans out; a :class:`Frame` is immutable
to its users and may be shared by threads.
Source: RFC 6455 section 5, RFC 7692 section 7.2.1.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from enum import IntEnum

from hubthread.errors import WrongType, WrongValue

__all__ = [
    "Frame",
    "MessageType",
    "check_code",
    "check_message_type",
    "decode_close",
    "encode_close",
    "encode_ping",
    "encode_pong",
    "is_sendable_code",
    "whole_messages",
]


class MessageType(IntEnum):
    """The opcode of a frame (RFC 6455 section 5.2).

    The specification's ``TextMessage`` … ``PongMessage``.
    """

    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


MAX_CONTROL_PAYLOAD = 125
"""Bytes that a control frame carries at most (RFC 6455 section 5.5)."""
MAX_CLOSE_REASON = MAX_CONTROL_PAYLOAD - 2
"""Bytes of a close reason; two bytes of the payload are the code."""

# Shorter payloads hardly shrink, and the receiver has to inflate them.
_WORTH_DEFLATING = 64

# Plain numbers: the hot path compares with them, and a member of an enumeration costs a
# look-up in its class each time.
_TEXT = 1
_LAST_DATA = 2
_FIN = 0x80
_RSV1 = 0x40
_LENGTH_16 = struct.Struct("!BBH").pack
_LENGTH_64 = struct.Struct("!BBQ").pack


_SHORT = [
    [bytes((_FIN | message_type, size)) for size in range(126)]
    for message_type in range(_LAST_DATA + 1)
]
"""The headers of short data frames, by type and size: nearly every frame has one of them."""


def _header(first: int, size: int) -> bytes:
    if size <= 125:
        return bytes((first, size))
    if size <= 0xFFFF:
        return _LENGTH_16(first, 126, size)
    return _LENGTH_64(first, 127, size)


class Frame:
    """One outgoing message, encoded when it is made.

    :param payload: sent as given (``bytes``) or as UTF-8 (``str``).
    :param message_type: TEXT, BINARY, PING or PONG, or its number.  A Close is made by
        :func:`encode_close`, because the state of the connection depends on it.
    :raises WrongValue: for text that is not valid UTF-8 (a lone surrogate, or bytes that do not
        decode), because the receiver would have to end the connection with 1007; for a control
        frame of more than 125 bytes; for a Close.
    """

    __slots__ = ("_deflated", "message_type", "payload", "wire")

    payload: bytes | str
    """The payload as given."""
    message_type: int
    """The opcode."""
    wire: bytes
    """The plain frame, as it goes to the socket (RFC 6455 section 5.2)."""

    def __init__(self, payload: bytes | str, message_type: int) -> None:
        try:
            if isinstance(payload, str):
                body = payload.encode()
            else:
                body = payload
                if message_type == _TEXT:
                    body.decode()
        except UnicodeError as error:
            raise WrongValue(f"the text is not valid UTF-8: {error}") from None
        # Encoded at once: nearly every frame that is made is sent, and each of a thousand
        # members reads a plain attribute faster than a property with a test.
        size = len(body)
        if size <= 125 and message_type <= _LAST_DATA:
            self.wire = _SHORT[message_type][size] + body
        else:
            self.wire = _header(_FIN | message_type, size) + body
            if message_type > _LAST_DATA:
                _check_control(message_type, size)
        self.payload = payload
        self.message_type = message_type
        self._deflated: dict[int, bytes] | None = None

    @property
    def body(self) -> bytes:
        """The payload as bytes, without a frame: for peers with another framing."""
        payload = self.payload
        return payload.encode() if isinstance(payload, str) else payload

    def deflated(self, window_bits: int) -> bytes:
        """Return the frame for peers with permessage-deflate (RFC 7692 section 7.2.1).

        The frame is compressed once for each window, without context takeover.  Any thread may
        call this.

        :param window_bits: the negotiated ``server_max_window_bits``, 9 to 15.
        :returns: :attr:`wire` where compression saves nothing.
        :raises WrongValue: for a window that zlib does not support.
        """
        if not 9 <= window_bits <= 15:
            raise WrongValue(f"window_bits: expected 9 to 15, got {window_bits}")
        # Two threads may both find the cache empty: each makes the same bytes, and one result
        # is kept.  Nothing changes once another thread can see it.
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
        # A window larger than the payload finds nothing more, and memory level 5 hardly
        # changes the size.  The 50 KB that both need come from the heap; the 260 KB of zlib's
        # defaults are mapped and unmapped each time.
        bits = max(9, min(window_bits, (len(payload) - 1).bit_length()))
        compressor = zlib.compressobj(wbits=-bits, memLevel=5)
        body = compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)
        wire = _header(_FIN | _RSV1 | self.message_type, len(body) - 4) + body[:-4]
        return wire if len(wire) < len(self.wire) else self.wire

    def __repr__(self) -> str:
        return f"<Frame {MessageType(self.message_type).name} {len(self.wire)} bytes>"


def _check_control(message_type: int, size: int) -> None:
    if message_type == MessageType.CLOSE:
        raise WrongValue("message_type: expected PING or PONG, got CLOSE; use encode_close")
    if size > MAX_CONTROL_PAYLOAD:
        raise WrongValue(f"expected at most 125 bytes in a control frame, got {size}")


def check_message_type(given: object) -> MessageType:
    """Return ``given`` as a member of ``MessageType``.

    :raises WrongValue: for another number.
    :raises WrongType: for anything but an integer.
    """
    if isinstance(given, int) and given in MessageType.__members__.values():
        return MessageType(given)
    error = WrongValue if isinstance(given, int) else WrongType
    raise error(f"message_type: expected a member of MessageType, got {given!r}")


APPLICATION_CODES = 3000
"""The first close code that a program may give a meaning of its own."""


def is_sendable_code(code: int) -> bool:
    """Return True if a Close frame may carry ``code`` (RFC 6455 section 7.4, IANA's list).

    1004, 1005, 1006 and 1015 are never sent; 1016 to 2999 are not assigned.
    """
    return 3000 <= code <= 4999 or (1000 <= code <= 1014 and code not in (1004, 1005, 1006))


def check_code(code: object) -> None:
    """Refuse a code that a Close frame may not carry.

    :raises WrongValue: for such a code.
    :raises WrongType: for anything but an integer.
    """
    if isinstance(code, int) and is_sendable_code(code):
        return
    error = WrongValue if isinstance(code, int) else WrongType
    allowed = "1000 to 1003, 1007 to 1014, or one of your own, 3000 to 4999"
    raise error(f"close code: expected {allowed}, got {code!r}")


def encode_close(code: int | None, reason: str = "") -> bytes:
    """Return a Close frame (RFC 6455 section 5.5.1).

    :param code: ``None`` makes the empty Close, which the receiver reports as 1005.
    :param reason: cut at 123 bytes of UTF-8, between characters.  A lone surrogate becomes
        ``?``, because closing must not fail on a text.
    :raises WrongValue: for a code that must not be sent, or a reason without a code.
    """
    if code is None:
        if reason:
            raise WrongValue(f"expected a code with the reason {reason!r}, got None")
        return b"\x88\x00"
    check_code(code)
    text = reason.encode("utf-8", "replace")
    if len(text) > MAX_CLOSE_REASON:
        text = text[:MAX_CLOSE_REASON].decode("utf-8", "ignore").encode()
    return struct.pack("!BBH", 0x88, 2 + len(text), code) + text


def decode_close(payload: bytes) -> tuple[int | None, str]:
    """Return code and reason of a Close frame's payload; the code of an empty one is ``None``.

    :raises ValueError: for a payload of one byte, and for a code that must not be sent.
    :raises UnicodeDecodeError: for a reason that is not UTF-8.
    """
    if not payload:
        return None, ""
    if len(payload) == 1:
        raise ValueError("a Close of one byte")
    (code,) = struct.unpack_from("!H", payload)
    if not is_sendable_code(code):
        raise ValueError(f"a Close with the reserved code {code}")
    return code, payload[2:].decode()


def encode_ping(payload: bytes = b"") -> bytes:
    """Return a Ping frame.

    :raises WrongValue: for a payload of more than 125 bytes.
    """
    _check_control(MessageType.PING, len(payload))
    return _header(_FIN | MessageType.PING, len(payload)) + payload


def encode_pong(payload: bytes = b"") -> bytes:
    """Return a Pong frame.

    :raises WrongValue: for a payload of more than 125 bytes.
    """
    _check_control(MessageType.PONG, len(payload))
    return _header(_FIN | MessageType.PONG, len(payload)) + payload


def whole_messages(stream: bytes | bytearray) -> Iterator[tuple[int, int, bool]]:
    """Yield the frames at the start of what was sent: begin, end, and True for a message.

    False stands for a control frame.  A frame whose end is missing is not yielded.
    """
    begin, size = 0, len(stream)
    while begin + 2 <= size:
        length, head = stream[begin + 1], 2
        if length >= 126:
            head = 4 if length == 126 else 10
            if begin + head > size:
                return
            length = int.from_bytes(stream[begin + 2 : begin + head], "big")
        end = begin + head + length
        if end > size:
            return
        yield begin, end, not stream[begin] & 0x08
        begin = end
