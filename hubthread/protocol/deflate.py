"""Incoming permessage-deflate with a cap on what a message may grow to.

Layer: protocol (no threads, sockets or clocks).  Owned, like the WebSocket protocol
object that holds it, by the connection's reader thread.

wsproto's own extension sets no limit (65 KB on the wire became one event of 64 MiB) and
forgets, on a ping between two fragments, that the message is compressed.  This one
inflates into what the cap leaves and no further, and keeps no inflater between messages
(no context takeover, RFC 7692 section 7.1.1), so that an idle connection holds none.
"""

from __future__ import annotations

import zlib
from typing import Protocol

from wsproto.extensions import Extension
from wsproto.frame_protocol import CloseReason, FrameDecoder, FrameProtocol, Opcode, RsvBits

__all__ = ["CappedDeflate", "DeflateWindows"]

# RFC 7692 section 7.2.2: what the sender took off the end of each message.
_TAIL = b"\x00\x00\xff\xff"
# Bytes inflated at a time: from one to the next another thread can have the interpreter lock,
# and a bomb takes no fresh megabytes from the system for each of its kind.
_PIECE = 64 * 1024


class DeflateWindows(Protocol):
    """What this layer reads of the negotiated parameters."""

    @property
    def client_max_window_bits(self) -> int:
        """The client's window: 8 to 15, as a power of two of bytes."""


class CappedDeflate(Extension):
    """The receiving half of permessage-deflate, for wsproto's frame decoder.

    A message that inflates to more than ``max_message`` bytes ends the connection with
    1009, at a cost in memory of about twice the cap; data that is not deflate, with
    1007; a compressed control or continuation frame, with 1002.  Negotiation is done
    elsewhere: what is constructed here is agreed.
    """

    name = "permessage-deflate"

    def __init__(self, *, window_bits: int, max_message: int) -> None:
        self._window_bits = window_bits
        self._max_message = max_message
        # The open message's: None where it is not compressed, or none is open.
        self._inflater: zlib._Decompress | None = None
        self._inflated = 0
        # Of the current frame: control frames pass between the fragments of a message
        # and must leave its inflater alone.
        self._is_control = False

    def enabled(self) -> bool:
        """Wsproto drops extensions that say no."""
        return True

    def offer(self) -> bool | str:
        """Nothing: only a client offers."""
        return False

    def frame_inbound_header(
        self,
        proto: FrameDecoder | FrameProtocol,
        opcode: Opcode,
        rsv: RsvBits,
        payload_length: int,
    ) -> CloseReason | RsvBits:
        """Start a message; RFC 7692 section 6.1 says where RSV1 may stand."""
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
        """End a message; its inflater goes with it."""
        inflater = self._inflater
        if inflater is None or self._is_control or not fin:
            return None
        self._inflater = None
        # A stream that said it was final (RFC 7692 section 7.2.3.4) takes no tail.
        return b"" if inflater.eof else self._inflate(inflater, _TAIL)

    def _inflate(self, inflater: zlib._Decompress, data: bytes) -> bytes | CloseReason:
        pieces: list[bytes] = []
        while True:
            # One byte over the cap is how a message that is too big shows.  Never 0, which
            # zlib takes for "no limit"; and never flush(), which has none.
            room = self._max_message - self._inflated + 1
            try:
                piece = inflater.decompress(data, min(room, _PIECE))
            except zlib.error:
                return CloseReason.INVALID_FRAME_PAYLOAD_DATA
            if len(piece) == room:
                return CloseReason.MESSAGE_TOO_BIG
            # After a final block only the empty block's header may follow, as in the
            # example of section 7.2.3.4.  zlib would collect anything else without end.
            if inflater.eof and inflater.unused_data not in (b"", b"\x00"):
                return CloseReason.INVALID_FRAME_PAYLOAD_DATA
            self._inflated += len(piece)
            pieces.append(piece)
            # At the end of the stream what follows it would be counted twice.
            if len(piece) < _PIECE or inflater.eof:
                return b"".join(pieces)
            data = inflater.unconsumed_tail  # none, perhaps, and zlib still has some
