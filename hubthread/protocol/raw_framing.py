"""Messages of raw TCP and UDP peers: find their ends in a stream of bytes, and write them.

The messages do not depend on how the stream is cut into reads, except for ``CHUNKS``, where a
read is a message.  Between two reads a reader keeps at most one unfinished message within the
limit.  Nothing here raises, whatever the bytes.

Layer: protocol.  Threads: a reader belongs to its connection's reader thread; the functions
are pure.
"""

from __future__ import annotations

import codecs

from hubthread.limits import MESSAGE
from hubthread.protocol.websocket import ProtocolFailure, WebSocketEvent
from hubthread.types import Framing

__all__ = ["MessageReader", "encode_message", "read_datagram"]

_INVALID = 1007
_TOO_BIG = 1009


def encode_message(body: bytes, framing: Framing) -> bytes:
    """Return the bytes that carry ``body`` to a peer with ``framing``.

    A body that ends with a line end gets no second line end.  A body with line ends in it is
    several lines to the peer.

    :returns: ``b""`` if the length does not fit the prefix; the body cannot be sent then.
    """
    if framing is Framing.LINES:
        return body if body.endswith(b"\n") else body + b"\n"
    if framing is Framing.CHUNKS:
        return body
    width: int = framing.value
    return len(body).to_bytes(width, "big") + body if len(body) < 256**width else b""


def read_datagram(
    data: bytes, framing: Framing, limit: int, *, text: bool
) -> str | bytes | ProtocolFailure:
    """Return the message in a datagram; ``LINES`` removes a line end.

    :param data: the datagram; its first ``limit + 3`` bytes are enough.
    :param limit: bytes of the longest message.
    :param text: True for messages that must be UTF-8 and become ``str``.
    """
    if framing is Framing.LINES and data.endswith(b"\n"):
        data = data[: -2 if data.endswith(b"\r\n") else -1]
    if len(data) > limit:
        return ProtocolFailure(_TOO_BIG, f"a datagram of more than {limit} bytes", MESSAGE)
    return _decoded(data) if text else data


def _decoded(data: bytes | bytearray) -> str | ProtocolFailure:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return ProtocolFailure(_INVALID, "a message that is not UTF-8; text is expected")


class MessageReader:
    """The reader of one raw TCP peer: bytes to messages.

    :param limit: bytes of the longest message, without line end or prefix.  A longer message
        fails with 1009; with a prefix it fails before its first byte.
    :param text: True for messages that must be UTF-8 and become ``str``; invalid UTF-8 fails
        with 1007.
    """

    __slots__ = ("_buffer", "_decoder", "_ended", "_framing", "_limit", "_searched", "_text")

    def __init__(self, framing: Framing, limit: int, *, text: bool) -> None:
        self._framing = framing
        self._limit = limit
        self._text = text
        self._buffer = bytearray()
        self._searched = 0  # bytes of the buffer that have no line end
        # A chunk may end in the middle of a character.
        chunks = framing is Framing.CHUNKS and text
        self._decoder = codecs.getincrementaldecoder("utf-8")() if chunks else None
        self._ended = False

    @property
    def unfinished(self) -> bool:
        """True in the middle of a message."""
        within = self._decoder is not None and bool(self._decoder.getstate()[0])
        return not self._ended and (bool(self._buffer) or within)

    def receive(self, data: bytes) -> list[WebSocketEvent]:
        """Take the bytes of one read; return the messages that they complete, in order.

        Empty messages are only a sign of life and are left out.  After a
        :class:`ProtocolFailure` all bytes are ignored.
        """
        events: list[WebSocketEvent] = []
        if self._ended:
            return events
        if self._framing is Framing.CHUNKS:
            self._cut(data, events)
        else:
            self._buffer += data
            if self._framing is Framing.LINES:
                self._read_lines(events)
            else:
                self._read_prefixed(self._framing.value, events)
        return events

    def _read_lines(self, events: list[WebSocketEvent]) -> None:
        buffer, begin = self._buffer, 0
        while (end := buffer.find(b"\n", max(begin, self._searched))) >= 0:
            stop = end - 1 if end > begin and buffer[end - 1] == 0x0D else end
            if stop - begin > self._limit or not self._emit(buffer[begin:stop], events):
                break
            begin = end + 1
        else:
            # One byte more than the limit: the last byte may be half of a line end.
            if len(buffer) - begin <= self._limit + 1:
                del buffer[:begin]
                self._searched = len(buffer)
                return
        if not self._ended:
            self._fail(f"a line of more than {self._limit} bytes", events)

    def _read_prefixed(self, width: int, events: list[WebSocketEvent]) -> None:
        buffer, begin = self._buffer, 0
        while len(buffer) - begin >= width:
            body = begin + width
            size = int.from_bytes(buffer[begin:body], "big")
            if size > self._limit:
                self._fail(f"a message of {size} bytes, more than {self._limit}", events)
                return
            if len(buffer) - body < size:
                break
            begin = body + size
            if not self._emit(buffer[body:begin], events):
                return
        del buffer[:begin]

    def _cut(self, data: bytes, events: list[WebSocketEvent]) -> None:
        for begin in range(0, len(data), self._limit):
            piece = data[begin : begin + self._limit]
            if self._decoder is None:
                events.append(piece)
                continue
            try:
                text = self._decoder.decode(piece)
            except UnicodeDecodeError as error:
                text = bytes(error.object[: error.start]).decode()
                failure = ProtocolFailure(_INVALID, "bytes that are not UTF-8")
                events.extend([text, failure] if text else [failure])
                self._end()
                return
            if text:
                events.append(text)

    def _emit(self, message: bytearray, events: list[WebSocketEvent]) -> bool:
        """Add a message; return False if it failed, which ends the stream."""
        if message:
            event = _decoded(message) if self._text else bytes(message)
            events.append(event)
            if isinstance(event, ProtocolFailure):
                self._end()
                return False
        return True

    def _fail(self, reason: str, events: list[WebSocketEvent]) -> None:
        events.append(ProtocolFailure(_TOO_BIG, reason, MESSAGE))
        self._end()

    def _end(self) -> None:
        self._ended = True
        self._buffer = bytearray()  # the last read may have been large
        self._decoder = None
