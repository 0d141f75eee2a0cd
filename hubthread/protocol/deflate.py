"""Inflate incoming permessage-deflate, with a cap on the size of a message.

wsproto's own extension has no limit: 65 KB on the wire became a message of 64 MiB.  It also
forgets, on a ping between two fragments, that the message is compressed.  This extension
stops at the cap.  It keeps no inflater between messages (no context takeover, RFC 7692
section 7.1.1), so an idle connection holds none.

Layer: protocol.  Threads: owned, like the WebSocket protocol object that holds it, by the
connection's reader thread.
Source: RFC 7692.
"""

from __future__ import annotations

import zlib
from typing import Protocol

from wsproto.extensions import Extension
from wsproto.frame_protocol import CloseReason, FrameDecoder, FrameProtocol, Opcode, RsvBits

__all__ = ["CappedDeflate", "DeflateWindows"]

# RFC 7692 section 7.2.2: the sender removes these bytes from the end of each message.
_TAIL = b"\x00\x00\xff\xff"
# Bytes inflated at a time.  Between two pieces another thread can take the GIL, and a small
# piece comes from the heap where a large one is mapped anew.
_PIECE = 64 * 1024


class DeflateWindows(Protocol):
    """The negotiated parameters that this module reads."""

    @property
    def client_max_window_bits(self) -> int:
        """The client's window, 8 to 15: the base-2 logarithm of its bytes."""


class CappedDeflate(Extension):
    """The receiving half of permessage-deflate, for wsproto's frame decoder.

    A message that inflates to more than ``max_message`` bytes ends the connection with 1009,
    at a cost in memory of about twice the cap.  Data that is not deflate ends it with 1007; a
    compressed control or continuation frame ends it with 1002.  ``deflate_negotiation``
    negotiates; this extension is constructed with the agreed parameters.
    """

    name = "permessage-deflate"

    def __init__(self, *, window_bits: int, max_message: int) -> None:
        self._window_bits = window_bits
        self._max_message = max_message
        self.failed = False
        """True once a message could not be inflated."""
        # Of the open message; None if it is not compressed, or no message is open.
        self._inflater: zlib._Decompress | None = None
        self._inflated = 0
        # Of the current frame: a control frame between two fragments must not touch the
        # inflater of the message.
        self._is_control = False

    def enabled(self) -> bool:
        """Return True: wsproto drops extensions that are not enabled."""
        return True

    def offer(self) -> bool | str:
        """Return False: only a client offers."""
        return False

    def frame_inbound_header(
        self,
        proto: FrameDecoder | FrameProtocol,
        opcode: Opcode,
        rsv: RsvBits,
        payload_length: int,
    ) -> CloseReason | RsvBits:
        """Start a message; RSV1 is allowed in its first frame only (RFC 7692 section 6.1)."""
        self._is_control = opcode.iscontrol()
        if opcode is Opcode.TEXT or opcode is Opcode.BINARY:
            self._inflater = zlib.decompressobj(-self._window_bits) if rsv.rsv1 else None
            self._inflated = 0
        elif rsv.rsv1:
            return CloseReason.PROTOCOL_ERROR
        return RsvBits(True, False, False)

    def frame_inbound_payload_data(
        self, proto: FrameDecoder | FrameProtocol, data: bytes
    ) -> bytes | CloseReason:
        """Inflate one piece of a frame."""
        if self._inflater is None or self._is_control:
            return data
        return self._inflate(self._inflater, data)

    def frame_inbound_complete(
        self, proto: FrameDecoder | FrameProtocol, fin: bool
    ) -> bytes | CloseReason | None:
        """End a message, and drop its inflater."""
        inflater = self._inflater
        if inflater is None or self._is_control or not fin:
            return None
        self._inflater = None
        # A stream with a final block (RFC 7692 section 7.2.3.4) takes no tail.
        return b"" if inflater.eof else self._inflate(inflater, _TAIL)

    def _inflate(self, inflater: zlib._Decompress, data: bytes) -> bytes | CloseReason:
        pieces: list[bytes] = []
        while True:
            # One byte beyond the cap shows that the message is too big.  Never 0, which zlib
            # takes for "no limit"; never flush(), which has no limit.
            room = self._max_message - self._inflated + 1
            try:
                piece = inflater.decompress(data, min(room, _PIECE))
            except zlib.error:
                self.failed = True
                return CloseReason.INVALID_FRAME_PAYLOAD_DATA
            if len(piece) == room:
                return CloseReason.MESSAGE_TOO_BIG
            # After a final block only the header of the empty block may follow (section
            # 7.2.3.4).  zlib would collect anything else without end.
            if inflater.eof and inflater.unused_data not in (b"", b"\x00"):
                return CloseReason.INVALID_FRAME_PAYLOAD_DATA
            self._inflated += len(piece)
            pieces.append(piece)
            # At the end of the stream the unused bytes would be counted twice.
            if len(piece) < _PIECE or inflater.eof:
                return b"".join(pieces)
            data = inflater.unconsumed_tail  # may be empty while zlib still holds output
