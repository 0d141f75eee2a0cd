"""The receiving end of a WebSocket: messages, limits, and the codes of failures."""

from __future__ import annotations

import struct
import tracemalloc
import zlib

import pytest

from hubthread.protocol.deflate_negotiation import DeflateParameters
from hubthread.protocol.websocket import (
    PeerClose,
    Ping,
    Pong,
    ProtocolFailure,
    WebSocketEvent,
    WebSocketProtocol,
)

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
MIB = 1 << 20


def client_frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    key: bytes | None = b"\x01\x80\xfe\x37",
    length_form: int | None = None,
) -> bytes:
    """A client's frame by RFC 6455 section 5.2, or a broken one.

    ``rsv``: three bits.  ``key``: None leaves the mask out.  ``length_form``: 7, 16 or 64
    bits, the shortest by default.
    """
    size = len(payload)
    form = length_form or (7 if size <= 125 else 16 if size <= 0xFFFF else 64)
    mask_bit = 0x80 if key else 0
    wire = bytes([fin << 7 | rsv << 4 | opcode])
    if form == 7:
        wire += bytes([mask_bit | size])
    elif form == 16:
        wire += struct.pack("!BH", mask_bit | 126, size)
    else:
        wire += struct.pack("!BQ", mask_bit | 127, size)
    if key is None:
        return wire + payload
    return wire + key + bytes(byte ^ key[i % 4] for i, byte in enumerate(payload))


def announced(opcode: int, size: int, *, fin: bool = True) -> bytes:
    """The header of a frame whose ``size`` bytes do not come."""
    return bytes([fin << 7 | opcode]) + struct.pack("!BQ", 0xFF, size) + b"mask"


def receiver(
    max_message: int = MIB, *, deflate: DeflateParameters | None = None
) -> WebSocketProtocol:
    """A protocol object with the default limits."""
    return WebSocketProtocol(max_message=max_message, deflate=deflate)


def in_pieces(protocol: WebSocketProtocol, data: bytes, size: int) -> list[WebSocketEvent]:
    """All events of ``data`` when ``size`` bytes arrive at a time."""
    events: list[WebSocketEvent] = []
    for begin in range(0, len(data), size):
        events += protocol.receive(data[begin : begin + size])
    return events


def failure_code(events: list[WebSocketEvent]) -> int:
    """The code of the one failure that ``events`` must be."""
    (event,) = events
    assert isinstance(event, ProtocolFailure), event
    return event.code


@pytest.mark.parametrize(
    "size", [0, 1, 3, 4, 125, 126, 127, 1024, 1025, 1027, 65535, 65536, 70001]
)
def test_websocket_message_of_any_size_arrives(size: int) -> None:
    """Each form of the length and each way of unmasking gives what was sent."""
    payload = bytes(i % 251 for i in range(size))
    text = "é" * (size // 2)
    data = client_frame(BINARY, payload) + client_frame(TEXT, text.encode())
    assert receiver().receive(data) == [payload, text]
    assert in_pieces(receiver(), data, 1000) == [payload, text]


def test_websocket_many_frames_in_one_read_arrive_in_order() -> None:
    """One read may complete any number of messages, in their order."""
    messages: list[WebSocketEvent] = [f"message {i}" for i in range(3000)]
    data = b"".join(client_frame(TEXT, str(message).encode()) for message in messages)
    assert receiver().receive(data) == messages


def test_websocket_fragments_become_one_message() -> None:
    """A fragmented message is one event, when its last frame is complete."""
    protocol = receiver()
    assert protocol.receive(client_frame(TEXT, "añ".encode()[:2], fin=False)) == []
    assert protocol.receive(client_frame(CONTINUATION, "añ".encode()[2:], fin=False)) == []
    assert protocol.receive(client_frame(CONTINUATION, b"!")) == ["añ!"]
    assert protocol.receive(client_frame(BINARY, b"a", fin=False)) == []
    assert protocol.receive(client_frame(CONTINUATION, b"b") + client_frame(TEXT, b"c")) == [
        b"ab",
        "c",
    ]


def test_websocket_text_keeps_newlines() -> None:
    """Text that is put together from pieces keeps its line ends as they are."""
    text = "a\r\nb\rc\n\u2028d\x85"
    first = client_frame(TEXT, text[:3].encode(), fin=False)
    assert receiver().receive(first + client_frame(CONTINUATION, text[3:].encode())) == [text]


def test_websocket_control_frames_pass_between_fragments() -> None:
    """A Ping or Pong in the middle of a message is an event before it."""
    data = (
        client_frame(BINARY, b"a", fin=False)
        + client_frame(PING, b"1")
        + client_frame(CONTINUATION, b"b", fin=False)
        + client_frame(PONG, b"2")
        + client_frame(CONTINUATION, b"c")
    )
    assert receiver().receive(data) == [Ping(b"1"), Pong(b"2"), b"abc"]
    assert in_pieces(receiver(), data, 1) == [Ping(b"1"), Pong(b"2"), b"abc"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", PeerClose(None, "")),
        (b"\x03\xe8", PeerClose(1000, "")),
        (b"\x03\xf3r\xc3\xa9", PeerClose(1011, "ré")),
        (b"\x0b\xb8" + b"x" * 123, PeerClose(3000, "x" * 123)),
        (b"\x13\x87", PeerClose(4999, "")),
    ],
)
def test_websocket_close_is_the_last_event(body: bytes, expected: PeerClose) -> None:
    """Code and reason are read, and what follows is not (RFC 6455 section 5.5.1)."""
    protocol = receiver()
    data = client_frame(TEXT, b"last") + client_frame(CLOSE, body) + client_frame(TEXT, b"late")
    assert protocol.receive(data) == ["last", expected]
    assert protocol.receive(client_frame(TEXT, b"later")) == []


def test_websocket_close_code_is_a_plain_int() -> None:
    """Codes compare, print and serialise as int, not as an enumeration of wsproto's."""
    (closed,) = receiver().receive(client_frame(CLOSE, b"\x03\xe8"))
    assert isinstance(closed, PeerClose)
    assert type(closed.code) is int
    (failed,) = receiver().receive(client_frame(3, b""))
    assert isinstance(failed, ProtocolFailure)
    assert type(failed.code) is int


# As the Autobahn suite's section 7.9 has them, and the ends of the ranges.
BAD_CODES = [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535]


@pytest.mark.parametrize("code", BAD_CODES)
def test_websocket_close_with_an_impossible_code_is_1002(code: int) -> None:
    """Such a code is answered with 1002 (RFC 6455 section 7.4)."""
    body = struct.pack("!H", code)
    assert failure_code(receiver().receive(client_frame(CLOSE, body))) == 1002


@pytest.mark.parametrize("code", [1000, 1003, 1007, *range(1007, 1015), 3000, 4999])
@pytest.mark.parametrize("cut", [False, True])
def test_websocket_close_with_a_registered_code_is_reported(code: int, cut: bool) -> None:
    """The registry of close codes (RFC 6455 section 11.7) has 1012 to 1014, too."""
    wire = client_frame(CLOSE, struct.pack("!H", code) + "gone é".encode())
    reader = receiver()
    events = (
        [e for i in range(len(wire)) for e in reader.receive(wire[i : i + 1])]
        if cut
        else (reader.receive(wire))
    )
    assert events == [PeerClose(code, "gone é")]


VIOLATIONS = {
    "close body of one byte": (client_frame(CLOSE, b"\x03"), 1002),
    "close reason not utf-8": (client_frame(CLOSE, b"\x03\xe8\xff"), 1007),
    "close too long": (client_frame(CLOSE, b"\x03\xe8" + b"x" * 124, length_form=16), 1002),
    "ping too long": (client_frame(PING, b"x" * 126), 1002),
    "ping in fragments": (client_frame(PING, b"x", fin=False), 1002),
    "no mask": (client_frame(TEXT, b"x", key=None), 1002),
    "no mask, longer": (client_frame(BINARY, b"x" * 200, key=None), 1002),
    "rsv1 without deflate": (client_frame(TEXT, b"x", rsv=4), 1002),
    "rsv2": (client_frame(TEXT, b"x", rsv=2), 1002),
    "rsv3": (client_frame(BINARY, b"x", rsv=1), 1002),
    "rsv3 on a ping": (client_frame(PING, b"x", rsv=1), 1002),
    "reserved opcode 3": (client_frame(3), 1002),
    "reserved opcode 15": (client_frame(15, b"x"), 1002),
    "continuation of nothing": (client_frame(CONTINUATION, b"x"), 1002),
    "empty continuation of nothing": (client_frame(CONTINUATION), 1002),
    "message in a message": (client_frame(TEXT, b"a", fin=False) + client_frame(TEXT, b"b"), 1002),
    "length of 16 bits for 125": (client_frame(TEXT, b"x" * 125, length_form=16), 1002),
    "length of 64 bits for 65535": (client_frame(BINARY, b"x" * 65535, length_form=64), 1002),
    "text not utf-8": (client_frame(TEXT, b"\xff"), 1007),
    "surrogate in text": (client_frame(TEXT, b"\xed\xa0\x80"), 1007),
    "text ends in a character": (client_frame(TEXT, b"\xc3"), 1007),
    "fragments end in a character": (
        client_frame(TEXT, b"a", fin=False) + client_frame(CONTINUATION, b"\xc3"),
        1007,
    ),
}


@pytest.mark.parametrize(("data", "code"), VIOLATIONS.values(), ids=VIOLATIONS.keys())
def test_websocket_violation_fails_with_its_code(data: bytes, code: int) -> None:
    """Each is one failure, whole or byte by byte, and the messages before it count."""
    before = client_frame(TEXT, b"before")
    events = receiver().receive(before + data + client_frame(TEXT, b"after"))
    assert events[0] == "before"
    assert failure_code(events[1:]) == code
    assert failure_code(in_pieces(receiver(), data, 1)) == code


def test_websocket_violation_has_a_reason() -> None:
    """The reason is fit for a Close frame and a log."""
    (event,) = receiver().receive(client_frame(TEXT, b"x", key=None))
    assert event == ProtocolFailure(1002, "server received unexpected unmasked frame")


def test_websocket_limit_failure_names_the_limit() -> None:
    """Frame, message, inflated message and fragments: the words name limit and number."""
    (event,) = receiver(99).receive(announced(BINARY, 65536))
    assert event == ProtocolFailure(1009, "message of more than 99 bytes", "message")
    (event,) = receiver(99).receive(
        client_frame(TEXT, b"x" * 99, fin=False) + client_frame(CONTINUATION, b"x")
    )
    assert event == ProtocolFailure(1009, "message of more than 99 bytes", "message")
    zeros = zlib.compressobj(wbits=-15)
    deflated = zeros.compress(bytes(100)) + zeros.flush(zlib.Z_SYNC_FLUSH)
    protocol = receiver(99, deflate=DeflateParameters())
    (event,) = protocol.receive(client_frame(BINARY, deflated[:-4], rsv=4))
    assert event == ProtocolFailure(1009, "message of more than 99 bytes", "message")
    protocol = WebSocketProtocol(max_message=99, max_fragments=1)
    (event,) = protocol.receive(client_frame(TEXT, fin=False) + client_frame(CONTINUATION))
    assert event == ProtocolFailure(1009, "message of more than 1 frames", "fragments")


def test_websocket_bad_text_fails_before_the_frame_is_complete() -> None:
    """One bad byte ends the connection, however much the frame still misses."""
    begun = client_frame(TEXT, b"good\xff" + b"x" * 1000)
    for stop in (6 + 2 + 5, 400):
        assert failure_code(receiver().receive(begun[:stop])) == 1007
    protocol = receiver()
    assert protocol.receive(client_frame(TEXT, b"\xce", fin=False)) == []
    assert failure_code(protocol.receive(client_frame(CONTINUATION, b"x" * 99)[:7])) == 1007


def test_websocket_bad_header_fails_without_payload() -> None:
    """A bad frame is refused without waiting for its payload."""
    assert failure_code(receiver().receive(client_frame(BINARY, b"x", rsv=1)[:6])) == 1002
    assert failure_code(receiver().receive(client_frame(BINARY, b"x", key=None)[:2])) == 1002


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_websocket_frame_over_the_limit_fails_at_its_header(opcode: int) -> None:
    """A message at the limit passes; one byte more is 1009 before its payload arrives."""
    exact = client_frame(opcode, b"x" * 1000)
    assert len(receiver(1000).receive(exact)) == 1
    assert failure_code(receiver(999).receive(exact)) == 1009
    assert failure_code(receiver(999).receive(exact[:8])) == 1009
    assert failure_code(receiver().receive(announced(opcode, (1 << 63) - 1))) == 1009


def test_websocket_limit_counts_fragments_together() -> None:
    """The limit is on the sum, and the header that exceeds it is enough."""
    protocol = receiver(1000)
    assert protocol.receive(client_frame(BINARY, b"x" * 600, fin=False)) == []
    assert protocol.receive(client_frame(PING)) == [Ping(b"")]
    third = client_frame(CONTINUATION, b"x" * 401)
    assert failure_code(protocol.receive(third[:8])) == 1009


def test_websocket_limit_begins_anew_with_each_message() -> None:
    """Messages at the limit may follow each other, in fragments or not."""
    protocol = receiver(10)
    message = client_frame(BINARY, b"12345", fin=False) + client_frame(CONTINUATION, b"67890")
    assert protocol.receive(message * 3) == [b"1234567890"] * 3


def test_websocket_fragments_over_the_limit_fail() -> None:
    """A message without end is ended, though its empty fragments never add up."""
    protocol = WebSocketProtocol(max_message=1000, max_fragments=3)
    empty = client_frame(CONTINUATION, fin=False)
    message = client_frame(BINARY, fin=False) + empty + client_frame(CONTINUATION)
    assert protocol.receive(message * 2) == [b"", b""]
    assert protocol.receive(client_frame(BINARY, fin=False) + empty * 2) == []
    assert failure_code(protocol.receive(empty)) == 1009


def test_websocket_long_control_frame_is_1002() -> None:
    """The limit of 125 bytes for control frames is checked first."""
    assert failure_code(receiver(10).receive(announced(PING, MIB))) == 1002


def test_websocket_empty_read_is_ignored() -> None:
    """An empty read gives no event."""
    protocol = receiver()
    assert protocol.receive(b"") == []
    begun = client_frame(PING, b"x")
    assert protocol.receive(begun[:3]) == []
    assert protocol.receive(b"") == []
    assert protocol.receive(begun[3:]) == [Ping(b"x")]


def test_websocket_announced_size_takes_no_memory() -> None:
    """A header that announces a gigabyte is not prepared for, only refused."""
    protocol = receiver()
    tracemalloc.start()
    try:
        assert failure_code(protocol.receive(announced(BINARY, 1 << 30))) == 1009
        assert tracemalloc.get_traced_memory()[1] < 50_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("size", [4096, 65536])
def test_websocket_message_in_many_reads_is_one_event(size: int) -> None:
    """1 MiB that arrives in pieces is one message, for the memory of two."""
    payload = bytes(range(256)) * (MIB // 256)
    binary = client_frame(BINARY, payload)
    text = client_frame(TEXT, b"x" * MIB)
    protocol = receiver()
    assert in_pieces(protocol, binary, size) == [payload]
    tracemalloc.start()
    try:
        (event,) = in_pieces(protocol, text, size)
        assert tracemalloc.get_traced_memory()[1] < 2.5 * MIB
    finally:
        tracemalloc.stop()
    assert event == "x" * MIB


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_websocket_trickled_message_takes_its_size_in_memory(opcode: int) -> None:
    """Pieces of two bytes are not kept as objects of fifty."""
    frame = client_frame(opcode, "é".encode() * 10_000)
    protocol = receiver()
    tracemalloc.start()
    try:
        (event,) = in_pieces(protocol, frame, 2)
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()
    assert event == ("é" * 10_000 if opcode == TEXT else "é".encode() * 10_000)


def test_websocket_violation_differs_from_a_close() -> None:
    """Both look alike in wsproto; here they differ, and both swallow what follows."""
    violating, closing = receiver(), receiver()
    (violated,) = violating.receive(client_frame(TEXT, b"\xff"))
    (closed,) = closing.receive(client_frame(CLOSE, struct.pack("!H", 1007)))
    assert isinstance(violated, ProtocolFailure)
    assert closed == PeerClose(1007, "")
    for protocol in (violating, closing):
        assert protocol.receive(client_frame(TEXT, b"x")) == []
        assert protocol.receive(client_frame(CLOSE)) == []


def test_websocket_second_close_is_ignored() -> None:
    """Two Close frames in one read are one event."""
    close = client_frame(CLOSE, b"\x03\xe8")
    assert receiver().receive(close * 2) == [PeerClose(1000, "")]


def test_websocket_idle_connection_keeps_no_window() -> None:
    """After a compressed message a connection holds a few KB, not a window of 32."""
    compressor = zlib.compressobj(wbits=-15)
    text = b"the same words, the same words, " * 2000
    deflated = (compressor.compress(text) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
    data = client_frame(TEXT, deflated, rsv=4)
    receiver(deflate=DeflateParameters()).receive(data)
    tracemalloc.start()
    try:
        protocol = receiver(deflate=DeflateParameters())
        assert protocol.receive(data) == [text.decode()]
        assert tracemalloc.get_traced_memory()[0] < 6_000
    finally:
        tracemalloc.stop()
