"""The receiving end of a WebSocket: bytes in, messages out.

Layer: protocol.  Threads: owned by the connection's reader thread; nothing here is locked.
Source: RFC 6455 section 5.

``WebSocketProtocol`` is the server's end, and ``ClientProtocol`` the client's.

wsproto is the authority on the protocol, but is slow for small frames.  So a scanner of our
own looks at each frame's header first.  A plain frame that is complete in the buffer is read
at once (the *short way*).  Every other frame goes through wsproto, piece by piece as it
arrives, so that bad UTF-8 fails before its frame is complete.  The scanner counts the missing
bytes of the current frame, and so knows when wsproto stands at a frame border again.  It also
enforces the limits, which wsproto lacks, at the header: before a byte beyond a limit is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO, StringIO
from typing import Any, TypeAlias

from wsproto import events as wsproto_events
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.frame_protocol import XorMaskerSimple

from hubthread.limits import FRAGMENTS, MESSAGE
from hubthread.protocol.deflate import CappedDeflate, DeflateWindows
from hubthread.protocol.frames import decode_close

__all__ = [
    "ClientProtocol",
    "PeerClose",
    "Ping",
    "Pong",
    "ProtocolFailure",
    "WebSocketEvent",
    "WebSocketProtocol",
]


@dataclass(frozen=True, slots=True)
class Ping:
    """The peer asks for a Pong with the same payload (RFC 6455 section 5.5.2)."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Pong:
    """The peer's answer to a Ping, or an unsolicited sign of life (section 5.5.3)."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class PeerClose:
    """The peer's Close frame: the last event."""

    code: int | None
    """The close code; ``None`` for a Close without one (1005)."""
    reason: str


@dataclass(frozen=True, slots=True)
class ProtocolFailure:
    """The peer broke the protocol or a limit: the last event."""

    code: int
    """The code to close with: 1002 (protocol), 1007 (invalid data) or 1009 (too big)."""
    reason: str
    """The failure in words that fit a Close frame."""
    limit: str | None = None
    """The name of the broken limit (``hubthread.limits``); ``None`` for the protocol."""


WebSocketEvent: TypeAlias = str | bytes | Ping | Pong | PeerClose | ProtocolFailure
"""An event of :meth:`WebSocketProtocol.receive`; ``str`` is a text message, ``bytes`` a binary
message."""

_NO_STATUS = 1005
_PROTOCOL_ERROR = 1002
_INVALID_DATA = 1007
_CLOSE = 0x88
_TOO_BIG = 1009
# Up to this size, XOR of two integers is faster than wsproto's four translated slices.
_INTEGER_XOR = 1024
# Bytes given to wsproto at a time.  wsproto copies each piece several times; copies of this
# size come from the heap, and larger ones are mapped, cleared and unmapped each time.
_PIECE = 64 * 1024


class WebSocketProtocol:
    """The reader of one WebSocket client: bytes to messages and control events.

    Beyond a limit the connection fails with 1009 (RFC 6455 section 7.4.1).

    :param max_message: bytes of a message, before and after inflating.
    :param max_fragments: frames of a message.  The default allows a message of 4 MiB in frames
        of 4 KiB.  It ends a stream of empty fragments, which no limit in bytes ends.
    :param deflate: the negotiated windows; ``None`` without permessage-deflate.
    """

    # A subclass of the tests turns it off: everything then goes through wsproto.
    _short_way = True
    _role = ConnectionType.SERVER
    # The mask bit of a valid frame of the peer.
    _mask_bit = 0x80

    def __init__(
        self,
        *,
        max_message: int,
        max_fragments: int = 1024,
        deflate: DeflateWindows | None = None,
    ) -> None:
        self._max_message = max_message
        # Deflate adds some bytes to each block of incompressible data; a message at the limit
        # must not fail because it is compressed.
        self._max_wire = max_message + (max_message >> 3) + 64 if deflate else max_message
        # A small int: free-threaded CPython counts no references to it, while the limit is one
        # object for all connections.
        self._small_limit = min(max_message, 125)
        self._max_fragments = max_fragments
        self._extensions: list[CappedDeflate] = []
        if deflate is not None:
            window = deflate.client_max_window_bits
            self._extensions.append(CappedDeflate(window_bits=window, max_message=max_message))
        # Made on first use: a connection that never leaves the short way stays small.
        self._connection: Connection | None = None
        # The incomplete header of the next frame, or an incomplete Close: under 132 bytes.
        self._held = b""
        # Of the frame that wsproto is reading: the bytes still to come.
        self._missing = 0
        self._ends_message = False
        # Of the open message: the frames and bytes announced, and the parts that came.
        self._fragments = 0
        self._message_size = 0
        self._message_limit = max_message
        # A StringIO or a BytesIO is as fast as a list with one join.  A message that trickles
        # in two bytes at a time then costs its size, not 60 times its size in small objects.
        self._parts: Any = None
        self._ended = False

    @property
    def unfinished(self) -> bool:
        """True in the middle of a message or frame."""
        return not self._ended and bool(self._missing or self._fragments or self._held)

    def receive(self, data: bytes) -> list[WebSocketEvent]:
        """Take the bytes of one read; return the events that they complete, in order.

        Never raises, whatever the bytes.  After :class:`PeerClose` or
        :class:`ProtocolFailure` all bytes are ignored.
        """
        events: list[WebSocketEvent] = []
        if self._ended:
            return events
        if self._held:
            data = self._held + data
            self._held = b""
        position = 0
        end = len(data)
        while position < end and not self._ended:
            if not self._missing:
                if not self._fragments and self._short_way:
                    position = self._read_short(data, position, events)
                    if position == end:
                        return events
                if not self._begin_frame(data, position, events):
                    break
            stop = min(position + self._missing, end, position + _PIECE)
            self._missing -= stop - position
            self._feed(data[position:stop], events)
            position = stop
            if not self._missing and self._ends_message:
                self._fragments = 0
                self._message_size = 0
        return events

    def _read_short(self, data: bytes, position: int, events: list[WebSocketEvent]) -> int:
        """Read plain frames up to the first other frame, and return the index of that frame.

        A frame of 100 bytes takes a tenth of its time through wsproto.
        """
        end = len(data)
        small_limit = self._small_limit
        from_bytes = int.from_bytes  # made anew by each look
        while position + 6 <= end:
            first = data[position]
            # FIN, no reserved bit, text or binary.
            if first != 0x81 and first != 0x82:
                break
            # Below 0 without the mask bit.
            size = data[position + 1] - 0x80
            if size <= small_limit:
                if size < 0:
                    break
                key_at = position + 2
                integers = True
            elif size == 126:
                key_at = position + 4
                size = int.from_bytes(data[position + 2 : key_at], "big")
                if size < 126 or size > self._max_message:
                    break
                integers = size <= _INTEGER_XOR
            else:
                # Beyond the limit, or 64 KiB and more, where wsproto is as fast.
                break
            begin = key_at + 4
            stop = begin + size
            if stop > end:
                break
            masked = data[begin:stop]
            key = data[key_at:begin]
            if integers:
                payload = (
                    from_bytes(masked, "big") ^ from_bytes((key * ((size >> 2) + 1))[:size], "big")
                ).to_bytes(size, "big")
            else:
                payload = bytes(XorMaskerSimple(key).process(bytearray(masked)))
            if first == 0x82:
                events.append(payload)
            else:
                try:
                    events.append(payload.decode())
                except UnicodeDecodeError:
                    # wsproto fails it, with the same words as in all other cases.
                    break
            position = stop
        return position

    def _begin_frame(self, data: bytes, position: int, events: list[WebSocketEvent]) -> bool:
        """Look at the header at ``position``; return True if wsproto is to read the frame.

        Return False if the header is incomplete, breaks a limit, or is that of a Close.
        """
        available = len(data) - position
        if available < 2:
            self._held = data[position:]
            return False
        first = data[position]
        second = data[position + 1]
        size = second & 0x7F
        header = 6 if second & 0x80 else 2
        if size >= 126:
            width = 2 if size == 126 else 8
            header += width
            size = int.from_bytes(data[position + 2 : position + 2 + width], "big")
        if available < header:
            self._held = data[position:]
            return False
        if first == _CLOSE and second & 0x80 == self._mask_bit and size <= 125:
            # Not left to wsproto, whose list of codes is shorter than ours.
            if available < header + size:
                self._held = data[position:]
            else:
                begin = position + header
                payload = data[begin : begin + size]
                if self._mask_bit:
                    masker = XorMaskerSimple(data[begin - 4 : begin])
                    payload = bytes(masker.process(bytearray(payload)))
                self._end(_closed_by(payload), events)
            return False
        is_data = first & 0x08 == 0
        if is_data:
            excess = self._excess(size, compressed=first & 0x40 != 0)
            if excess:
                self._end(ProtocolFailure(_TOO_BIG, *excess), events)
                return False
        # Some clients send header and payload separately.  The header of a plain frame waits
        # for its payload, so that the two can still go the short way.
        plain = (first == 0x81 or first == 0x82) and second >= 0x80
        if plain and available == header and size:
            self._held = data[position:]
            return False
        self._ends_message = is_data and first >= 0x80
        if is_data:
            self._fragments += 1
            self._message_size += size
        self._missing = header + size
        return True

    def _excess(self, size: int, *, compressed: bool) -> tuple[str, str] | None:
        """Return the limit that a data frame of ``size`` bytes breaks: words and name."""
        if not self._fragments:
            self._message_limit = self._max_wire if compressed else self._max_message
        if self._message_size + size > self._message_limit:
            return f"message of more than {self._max_message} bytes", MESSAGE
        if self._fragments >= self._max_fragments:
            return f"message of more than {self._max_fragments} frames", FRAGMENTS
        return None

    def _feed(self, data: bytes, events: list[WebSocketEvent]) -> None:
        """Give wsproto a piece of the current frame, and take its events."""
        connection = self._connection
        if connection is None:
            connection = Connection(self._role, [*self._extensions])
            self._connection = connection
        connection.receive_data(data)
        for event in connection.events():
            if isinstance(event, wsproto_events.Message):
                self._assemble(event.data, event.message_finished, events)
            elif isinstance(event, wsproto_events.Ping):
                events.append(Ping(bytes(event.payload)))
            elif isinstance(event, wsproto_events.Pong):
                events.append(Pong(bytes(event.payload)))
            else:
                # After the handshake wsproto has no other events.
                assert isinstance(event, wsproto_events.CloseConnection)
                self._end(self._last_event(event, connection.state), events)

    def _last_event(
        self, event: wsproto_events.CloseConnection, state: ConnectionState
    ) -> PeerClose | ProtocolFailure:
        # wsproto reports its own refusal like a peer's Close.  Only its state tells the two
        # apart: it stays OPEN after a refusal.
        code = int(event.code)
        reason = event.reason or ""
        if state is not ConnectionState.OPEN:
            return PeerClose(None if code == _NO_STATUS else code, reason)
        if code == _TOO_BIG:
            # From our extension; wsproto's words are "error in extension".
            reason = f"message of more than {self._max_message} bytes"
            return ProtocolFailure(code, reason, MESSAGE)
        if code == _INVALID_DATA and any(each.failed for each in self._extensions):
            reason = (
                "the message cannot be inflated: was it compressed with the context of an "
                "earlier one?"
            )
        return ProtocolFailure(code, reason)

    def _assemble(
        self, piece: str | bytes | bytearray, finished: bool, events: list[WebSocketEvent]
    ) -> None:
        """Take a piece of a message; the last piece makes the message an event."""
        if self._parts is None:
            if finished:
                events.append(piece if isinstance(piece, str) else bytes(piece))
                return
            self._parts = StringIO() if isinstance(piece, str) else BytesIO()
        self._parts.write(piece)
        if finished:
            events.append(self._parts.getvalue())
            self._parts = None

    def _end(self, event: PeerClose | ProtocolFailure, events: list[WebSocketEvent]) -> None:
        events.append(event)
        self._ended = True
        # A reader may live long after this, and the last read may have been large.
        self._connection = None
        self._extensions = []
        self._parts = None


class ClientProtocol(WebSocketProtocol):
    """The reader of a client: its server's frames have no mask (RFC 6455 section 5.1).

    :param max_message: bytes of a message.
    """

    _role = ConnectionType.CLIENT
    _mask_bit = 0

    def __init__(self, *, max_message: int) -> None:
        super().__init__(max_message=max_message)

    def _read_short(self, data: bytes, position: int, events: list[WebSocketEvent]) -> int:
        end = len(data)
        while position + 2 <= end:
            first = data[position]
            size = data[position + 1]
            begin = position + 2
            if size == 126:
                begin += 2
                size = int.from_bytes(data[position + 2 : begin], "big")
                if size < 126:
                    break
            elif size > 126:  # a mask, or 64 KiB and more
                break
            stop = begin + size
            if (first != 0x81 and first != 0x82) or size > self._max_message or stop > end:
                break
            payload = data[begin:stop]
            if first == 0x82:
                events.append(payload)
            else:
                try:
                    events.append(payload.decode())
                except UnicodeDecodeError:
                    break  # wsproto fails it
            position = stop
        return position


def _closed_by(payload: bytes) -> PeerClose | ProtocolFailure:
    """Return the event of a Close frame."""
    try:
        return PeerClose(*decode_close(payload))
    except UnicodeDecodeError:
        return ProtocolFailure(_INVALID_DATA, "a Close with a reason that is not UTF-8")
    except ValueError as error:
        return ProtocolFailure(_PROTOCOL_ERROR, str(error))
