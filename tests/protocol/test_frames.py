"""Outgoing frames, read back by the parsers of wsproto and websockets."""

from __future__ import annotations

import struct
import threading
from collections.abc import Generator

import pytest
import websockets.frames
from hypothesis import given
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.streams import StreamReader
from wsproto import events as wsproto_events
from wsproto.connection import Connection, ConnectionType

from hubthread.protocol.frames import (
    Frame,
    MessageType,
    encode_close,
    encode_ping,
    encode_pong,
    is_sendable_code,
)

# On both sides of each form of the length (RFC 6455 section 5.2).
SIZES = [0, 1, 125, 126, 127, 65535, 65536]

DATA_TYPES = [MessageType.TEXT, MessageType.BINARY]

JSON = b'{"type": "chat", "room": "lobby", "text": "the same words, the same words"}' * 9


def as_wsproto_reads(wire: bytes) -> wsproto_events.Event:
    """The one event that wsproto's client makes of ``wire``."""
    client = Connection(ConnectionType.CLIENT)
    client.receive_data(wire)
    (event,) = client.events()
    return event


def as_websockets_reads(wire: bytes, window_bits: int | None = None) -> websockets.frames.Frame:
    """The one frame that the websockets library makes of ``wire``."""
    reader = StreamReader()
    reader.feed_data(wire)
    reader.feed_eof()
    extensions = [] if window_bits is None else [PerMessageDeflate(True, True, window_bits, 15)]
    parser: Generator[None, None, websockets.frames.Frame] = websockets.frames.Frame.parse(
        reader.read_exact, mask=False, extensions=extensions
    )
    with pytest.raises(StopIteration) as stop:
        next(parser)
    assert reader.buffer == b""
    frame = stop.value.value
    assert isinstance(frame, websockets.frames.Frame)
    return frame


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("message_type", DATA_TYPES)
def test_frame_is_read_back_by_wsproto_and_websockets(
    size: int, message_type: MessageType
) -> None:
    """Each form of the length carries the payload to wsproto and to websockets."""
    payload = b"x" * size
    frame = Frame(payload, message_type)
    read = as_websockets_reads(frame.wire)
    assert (int(read.opcode), bytes(read.data), read.fin) == (message_type, payload, True)
    event = as_wsproto_reads(frame.wire)
    assert isinstance(event, wsproto_events.Message)
    assert event.message_finished
    assert event.data == (payload.decode() if message_type is MessageType.TEXT else payload)


@given(st.text())
def test_frame_text_is_sent_as_utf8(text: str) -> None:
    """Text of any characters arrives as it was, and is kept as it was given."""
    frame = Frame(text, MessageType.TEXT)
    event = as_wsproto_reads(frame.wire)
    assert isinstance(event, wsproto_events.TextMessage)
    assert event.data == text
    assert (frame.payload, frame.body) == (text, text.encode())


def test_frame_str_as_binary_is_utf8() -> None:
    """A string in a binary frame is its UTF-8."""
    assert Frame("é", MessageType.BINARY).wire == b"\x82\x02\xc3\xa9"


@pytest.mark.parametrize("payload", ["\ud800", b"\xff", b"\xed\xa0\x80", b"\xc3"])
def test_frame_text_that_is_not_utf8_raises(payload: str | bytes) -> None:
    """The sender hears of it, not every receiver."""
    with pytest.raises(ValueError, match="not valid UTF-8") as caught:
        Frame(payload, MessageType.TEXT)
    assert not isinstance(caught.value, UnicodeError)


def test_frame_control_over_125_bytes_raises() -> None:
    """125 bytes pass in a Ping or Pong, 126 do not (RFC 6455 section 5.5)."""
    for message_type in (MessageType.PING, MessageType.PONG):
        assert len(Frame(b"x" * 125, message_type).wire) == 127
        with pytest.raises(ValueError, match="at most 125 bytes in a control frame, got 126"):
            Frame(b"x" * 126, message_type)
    for encode in (encode_ping, encode_pong):
        assert len(encode(b"x" * 125)) == 127
        with pytest.raises(ValueError, match="at most 125 bytes in a control frame, got 126"):
            encode(b"x" * 126)


def test_frame_close_raises() -> None:
    """Closing has a state per connection, so a Frame refuses to be a Close."""
    with pytest.raises(ValueError, match="encode_close"):
        Frame(b"", MessageType.CLOSE)


@pytest.mark.parametrize("payload", [b"", b"beat", bytes(range(125))])
def test_encode_ping_and_pong_carry_the_payload(payload: bytes) -> None:
    """Both carry their payload, from the functions as from a Frame."""
    ping = as_wsproto_reads(encode_ping(payload))
    assert isinstance(ping, wsproto_events.Ping)
    assert ping.payload == payload
    pong = as_wsproto_reads(encode_pong(payload))
    assert isinstance(pong, wsproto_events.Pong)
    assert pong.payload == payload
    assert Frame(payload, MessageType.PING).wire == encode_ping(payload)
    assert Frame(payload, MessageType.PONG).wire == encode_pong(payload)


@pytest.mark.parametrize("window_bits", range(9, 16))
@pytest.mark.parametrize("message_type", DATA_TYPES)
def test_frame_deflated_is_read_back(window_bits: int, message_type: MessageType) -> None:
    """Every window that can be negotiated inflates to what was sent, in fewer bytes."""
    for payload in (JSON[:75], JSON, JSON * 200):
        frame = Frame(payload, message_type)
        wire = frame.deflated(window_bits)
        assert len(wire) < len(frame.wire)
        assert wire[0] == 0xC0 | message_type
        read = as_websockets_reads(wire, window_bits)
        assert bytes(read.data) == payload


def test_frame_deflated_has_no_context() -> None:
    """A receiver without context takeover reads each of two equal frames."""
    first, second = Frame(JSON, MessageType.TEXT), Frame(JSON, MessageType.TEXT)
    assert first.deflated(12) == second.deflated(12)


def test_frame_deflated_is_made_once_for_each_window() -> None:
    """Members with the same window share the same bytes object."""
    frame = Frame(JSON * 200, MessageType.TEXT)
    assert frame.deflated(12) is frame.deflated(12)
    assert frame.deflated(9) is not frame.deflated(12)


@pytest.mark.parametrize("payload", [b"", b"[1]", b"x" * 63, bytes(range(256))])
def test_frame_deflated_that_does_not_shrink_is_plain(payload: bytes) -> None:
    """Small and incompressible payloads go without RSV1, as RFC 7692 allows."""
    frame = Frame(payload, MessageType.BINARY)
    assert frame.deflated(15) is frame.wire


def test_frame_deflated_control_is_plain() -> None:
    """A Ping that would shrink goes as it is (RFC 7692 section 5)."""
    frame = Frame(b"x" * 125, MessageType.PING)
    assert frame.deflated(15) is frame.wire


@pytest.mark.parametrize("window_bits", [8, 16, -15, 0])
def test_frame_deflated_unsupported_window_raises(window_bits: int) -> None:
    """Out of range is an error even where nothing would be compressed."""
    with pytest.raises(ValueError, match="window_bits: expected 9 to 15"):
        Frame(b"", MessageType.BINARY).deflated(window_bits)


def test_frame_deflated_by_many_threads_is_whole() -> None:
    """Threads that ask together all get the whole frame."""
    count = 8
    expected = Frame(JSON, MessageType.TEXT).deflated(12)
    for _ in range(50):
        frame = Frame(JSON, MessageType.TEXT)
        barrier = threading.Barrier(count)
        results: list[bytes] = []

        def ask(
            frame: Frame = frame,
            barrier: threading.Barrier = barrier,
            results: list[bytes] = results,
        ) -> None:
            barrier.wait()
            results.append(frame.deflated(12))

        threads = [threading.Thread(target=ask) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == [expected] * count


SENDABLE = [1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3999, 4000, 4999]
NOT_SENDABLE = [-1, 0, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000, 65535, 65536]


@pytest.mark.parametrize("code", SENDABLE)
def test_encode_close_sendable_code_is_read_back(code: int) -> None:
    """Every code that may be sent is read back, with its reason."""
    assert is_sendable_code(code)
    close = websockets.frames.Close.parse(bytes(as_websockets_reads(encode_close(code, "é")).data))
    assert (close.code, close.reason) == (code, "é")


@pytest.mark.parametrize("code", NOT_SENDABLE)
def test_encode_close_unsendable_code_raises(code: int) -> None:
    """Reserved, unassigned and impossible codes raise (RFC 6455 section 7.4)."""
    assert not is_sendable_code(code)
    with pytest.raises(ValueError, match="close code: expected 1000 to"):
        encode_close(code, "")


def test_encode_close_without_code_is_empty() -> None:
    """No code makes an empty body, which wsproto reports as 1005; and takes no reason."""
    event = as_wsproto_reads(encode_close(None))
    assert isinstance(event, wsproto_events.CloseConnection)
    assert event.code == 1005
    with pytest.raises(ValueError, match="expected a code with the reason"):
        encode_close(None, "why")


@given(st.text(min_size=30, max_size=200))
def test_encode_close_long_reason_is_cut_between_characters(reason: str) -> None:
    """At most 123 bytes are sent: the longest beginning of the reason that fits."""
    wire = encode_close(1000, reason)
    assert struct.unpack("!BBH", wire[:4]) == (0x88, len(wire) - 2, 1000)
    sent = wire[4:].decode()
    assert len(wire) <= 127
    assert reason.startswith(sent)
    if sent != reason:
        assert len(wire) - 4 + len(reason[len(sent)].encode()) > 123


def test_encode_close_lone_surrogate_becomes_a_question_mark() -> None:
    """A lone surrogate in a reason does not keep a connection from closing."""
    assert encode_close(1000, "a\ud800b")[4:] == b"a?b"


def test_frame_repr_has_type_and_size_only() -> None:
    """The text of a frame says what it is, not what it carries."""
    assert repr(Frame("secret", MessageType.TEXT)) == "<Frame TEXT 8 bytes>"
