"""The receiving end of a WebSocket server connection: bytes in, messages out.

Layer: protocol (no threads, sockets or clocks).  One owner, the connection's reader
thread: nothing here is locked.

wsproto is the authority on the protocol, but takes 10 µs and more for a small frame.  So a
scanner of our own looks at each frame's header first.  A frame that is whole in the
buffer and as plain as frames come is read on the spot (the *short way*); every other one
goes through wsproto, piece by piece as it arrives, so that bad UTF-8 fails before its
frame is complete.  The scanner counts what the frame still misses, and so knows when
wsproto stands at a frame border again.  It also sets the limits, which wsproto has none
of, at the header: before a byte of what is too big is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO, StringIO
from typing import Any, TypeAlias

from wsproto import events as wsproto_events
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.extensions import Extension
from wsproto.frame_protocol import XorMaskerSimple

from hubthread.limits import FRAGMENTS, MESSAGE
from hubthread.protocol.deflate import CappedDeflate, DeflateWindows

__all__ = ["PeerClose", "Ping", "Pong", "ProtocolFailure", "WebSocketEvent", "WebSocketProtocol"]


@dataclass(frozen=True, slots=True)
class Ping:
    """The peer asks for a Pong with the same payload (RFC 6455 section 5.5.2)."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Pong:
    """The peer's answer to a Ping, or its unasked sign of life (section 5.5.3)."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class PeerClose:
    """The peer's Close frame: the last event.  ``code`` is None where it had none (1005)."""

    code: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class ProtocolFailure:
    """The peer broke the protocol or a limit: the last event.

    ``code`` is what to close with: 1002 (protocol), 1007 (invalid data) or 1009 (too
    big); ``reason`` says it in words, fit for a Close frame.  ``limit`` is the name of
    the limit that was broken (``hubthread.limits``), None where it was the protocol.
    """

    code: int
    reason: str
    limit: str | None = None


#: What :meth:`WebSocketProtocol.receive` returns; ``str`` is a text message, ``bytes`` a
#: binary one.
WebSocketEvent: TypeAlias = str | bytes | Ping | Pong | PeerClose | ProtocolFailure

_NO_STATUS = 1005
_TOO_BIG = 1009
# Up to here XOR of two integers beats wsproto's four translated slices: 0.5 against 1.5 µs
# for 100 bytes, 2.3 against 2.6 for 1,000, 7.5 against 5 for 4 KiB (CPython 3.11).
_INTEGER_XOR = 1024
# What wsproto gets at once: it copies each piece several times, and copies this small come
# out of the heap, where larger ones are mapped, cleared and unmapped each time.  Echo of 1
# MiB takes 5.0 ms of CPU time a message, against 7.1 with reads of 256 KiB as they come (on a
# busy machine, CPython 3.11).  128 KiB would make that 3.8, but costs 3.13t 13 % more than
# whole reads, where 64 KiB cost nothing.  1.2 ms of it is unmasking, by slices as wsproto
# does or as integers.
_PIECE = 64 * 1024


class WebSocketProtocol:
    """What the bytes of one client mean.

    ``max_message``: bytes of a message, before and after inflating.  ``max_frame``:
    bytes of one frame on the wire, ``max_message`` by default.  ``max_fragments``:
    frames of one message; the default lets a message of 4 MiB come in frames of 4 KiB,
    and ends a stream of empty fragments, which no limit in bytes would.  ``deflate``:
    the negotiated windows, None without permessage-deflate.

    Beyond a limit the connection fails with 1009 (RFC 6455 section 7.4.1).
    """

    # Off in a subclass of the tests only: everything then goes through wsproto.
    _short_way = True

    def __init__(
        self,
        *,
        max_message: int,
        max_frame: int | None = None,
        max_fragments: int = 1024,
        deflate: DeflateWindows | None = None,
    ) -> None:
        self._max_message = max_message
        # What does not shrink grows: deflate adds some bytes to each of its blocks, and
        # a message at the limit must not fail for being sent compressed.
        self._max_wire = max_message + (max_message >> 3) + 64 if deflate else max_message
        self._max_frame = self._max_wire if max_frame is None else max_frame
        self._short_limit = min(self._max_frame, max_message)
        # A small number, to which free-threaded CPython counts no references: the limit
        # itself is one object for all connections.
        self._small_limit = min(self._short_limit, 125)
        self._max_fragments = max_fragments
        self._extensions: list[Extension] = []
        if deflate is not None:
            window = deflate.client_max_window_bits
            self._extensions.append(CappedDeflate(window_bits=window, max_message=max_message))
        # Made when first needed: many a connection never leaves the short way, and is 0.3
        # KB instead of 2.
        self._connection: Connection | None = None
        # The beginning of a frame whose payload has not begun: under 14 bytes.
        self._held = b""
        # Of the frame that wsproto is in the middle of: bytes still to come.
        self._missing = 0
        self._ends_message = False
        # Of the open message: frames and bytes announced, and what has come of it.
        self._fragments = 0
        self._message_size = 0
        self._message_limit = max_message
        # A StringIO or a BytesIO rather than a list and one join: as fast (25 µs for 1 MiB
        # in pieces of 64 KiB, 46 in pieces of 4 KiB), and a message that trickles in two
        # bytes at a time costs its size and not 60 times that in small objects.
        self._parts: Any = None
        self._ended = False

    @property
    def unfinished(self) -> bool:
        """Whether the stream stands in the middle of a message or frame."""
        return not self._ended and bool(self._missing or self._fragments or self._held)

    def receive(self, data: bytes) -> list[WebSocketEvent]:
        """Take what the socket gave; returns all that it completes, in order.

        Never raises, whatever the bytes.  After :class:`PeerClose` or
        :class:`ProtocolFailure` everything is ignored.
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
                        break
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
        """Read plain frames up to the first that is not, and return where that begins.

        On CPython 3.11 a frame of 100 bytes takes 0.8 µs in a read of many and 1.2 µs in
        one of its own, against 10.5 through wsproto; of 1,000 bytes 3 against 12.5, of 16
        KiB 20 against 30.  Slices of a memoryview instead of the bytes: no faster.
        """
        end = len(data)
        small_limit = self._small_limit
        while position + 6 <= end:
            first = data[position]
            # FIN, no reserved bit, text or binary.
            if first != 0x81 and first != 0x82:
                break
            # Without the mask bit it is below 0.
            size = data[position + 1] - 0x80
            if size <= small_limit:
                if size < 0:
                    break
                key_at = position + 2
                integers = True
            elif size == 126:
                key_at = position + 4
                size = int.from_bytes(data[position + 2 : key_at], "big")
                if size < 126 or size > self._short_limit:
                    break
                integers = size <= _INTEGER_XOR
            else:
                # Beyond the limit, or 64 KiB and more: 78 µs here against 85 through
                # wsproto, and 1 MiB, which no longer fits the cache, 2.1 ms against 1.3.
                break
            begin = key_at + 4
            stop = begin + size
            if stop > end:
                break
            masked = data[begin:stop]
            key = data[key_at:begin]
            if integers:
                payload = (
                    int.from_bytes(masked, "big")
                    ^ int.from_bytes((key * ((size >> 2) + 1))[:size], "big")
                ).to_bytes(size, "big")
            else:
                payload = bytes(XorMaskerSimple(key).process(bytearray(masked)))
            if first == 0x82:
                events.append(payload)
            else:
                try:
                    events.append(payload.decode())
                except UnicodeDecodeError:
                    # wsproto fails it, and says what it says in the other cases.
                    break
            position = stop
        return position

    def _begin_frame(self, data: bytes, position: int, events: list[WebSocketEvent]) -> bool:
        """Look at the header at ``position``; returns whether wsproto is to go on there.

        It is not when the header is incomplete, or breaks a limit.
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
        is_data = first & 0x08 == 0
        if is_data:
            excess = self._excess(size, compressed=first & 0x40 != 0)
            if excess:
                self._end(ProtocolFailure(_TOO_BIG, *excess), events)
                return False
        # Some clients send header and payload by themselves; a plain frame's header waits
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
        """Which limit a data frame of ``size`` bytes would break: in words, and its name."""
        if not self._fragments:
            self._message_limit = self._max_wire if compressed else self._max_message
        if size > self._max_frame:
            return f"frame of more than {self._max_frame} bytes", MESSAGE
        if self._message_size + size > self._message_limit:
            return f"message of more than {self._max_message} bytes", MESSAGE
        if self._fragments >= self._max_fragments:
            return f"message of more than {self._max_fragments} frames", FRAGMENTS
        return None

    def _feed(self, data: bytes, events: list[WebSocketEvent]) -> None:
        """Give wsproto a piece of the current frame, and take what it makes of it."""
        connection = self._connection
        if connection is None:
            connection = Connection(ConnectionType.SERVER, self._extensions)
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
                # Nothing else comes out of a connection whose handshake is done.
                assert isinstance(event, wsproto_events.CloseConnection)
                self._end(self._last_event(event, connection.state), events)

    def _last_event(
        self, event: wsproto_events.CloseConnection, state: ConnectionState
    ) -> PeerClose | ProtocolFailure:
        # wsproto reports its own refusal in the form of a peer's Close; only its state,
        # which then stays OPEN, tells the two apart.
        code = int(event.code)
        reason = event.reason or ""
        if state is not ConnectionState.OPEN:
            return PeerClose(None if code == _NO_STATUS else code, reason)
        if code == _TOO_BIG:
            # Our extension's; wsproto says "error in extension".
            reason = f"message of more than {self._max_message} bytes"
            return ProtocolFailure(code, reason, MESSAGE)
        return ProtocolFailure(code, reason)

    def _assemble(
        self, piece: str | bytes | bytearray, finished: bool, events: list[WebSocketEvent]
    ) -> None:
        """Take a piece of a message; the last one makes the message an event."""
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
        # A reader may linger for long after this, and the last read may have been large.
        self._connection = None
        self._extensions = []
        self._parts = None
