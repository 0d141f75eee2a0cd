"""The short way against wsproto: the same bytes, however they arrive, give the same events."""

from __future__ import annotations

import zlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto import events as wsproto_events
from wsproto.connection import Connection, ConnectionState, ConnectionType

from hubthread.protocol.deflate_negotiation import DeflateParameters
from hubthread.protocol.websocket import (
    PeerClose,
    Ping,
    Pong,
    ProtocolFailure,
    WebSocketEvent,
    WebSocketProtocol,
)
from tests.protocol.test_websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    client_frame,
)

MAX_MESSAGE = 3000


class ThroughWsproto(WebSocketProtocol):
    """A receiver without the short way: wsproto reads every frame."""

    _short_way = False


def deflated(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return (compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


KEYS = st.binary(min_size=4, max_size=4)
# Past 1024 bytes the short way unmasks in another way.
PAYLOADS = st.one_of(
    st.binary(max_size=20),
    st.text(max_size=20).map(str.encode),
    st.builds(lambda text, times: text.encode() * times, st.text(max_size=5), st.integers(0, 300)),
)


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """A message as a client sends it: in any fragments, pings between, compressed or not."""
    payload = draw(PAYLOADS)
    opcode = draw(st.sampled_from([TEXT, TEXT, BINARY]))
    rsv = 0
    if draw(st.integers(0, 4)) == 0:
        payload, rsv = deflated(payload), 4
    if draw(st.integers(0, 2)):
        return client_frame(opcode, payload, rsv=rsv, key=draw(KEYS))
    cuts = [0, *sorted(draw(st.lists(st.integers(0, len(payload)), max_size=3))), len(payload)]
    wire = b""
    for i, (begin, end) in enumerate(pairwise(cuts)):
        wire += client_frame(
            CONTINUATION if i else opcode,
            payload[begin:end],
            fin=i == len(cuts) - 2,
            rsv=0 if i else rsv,
            key=draw(KEYS),
        )
        if i < len(cuts) - 2 and draw(st.booleans()):
            wire += draw(control_frames)
    return wire


control_frames = st.builds(
    client_frame, st.sampled_from([PING, PONG]), st.binary(max_size=125), key=KEYS
)
odd_frames = st.builds(
    client_frame,
    st.integers(0, 15),
    PAYLOADS.filter(lambda payload: len(payload) <= 0xFFFF),
    fin=st.booleans(),
    rsv=st.integers(0, 7),
    key=st.none() | KEYS,
    length_form=st.sampled_from([None, 16, 64]),
)
close_frames = st.builds(client_frame, st.just(CLOSE), st.binary(max_size=125), key=KEYS)

valid_traffic = st.lists(messages() | control_frames, max_size=6).map(b"".join)


@st.composite
def traffic(draw: st.DrawFn) -> bytes:
    """Mostly valid traffic, with at times a frame that is not, or some bytes changed."""
    frame = st.one_of(messages(), messages(), control_frames, odd_frames, close_frames)
    wire = bytearray(b"".join(draw(st.lists(frame, max_size=6))))
    if wire:
        for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
            wire[draw(st.integers(0, len(wire) - 1))] ^= draw(st.integers(1, 255))
        del wire[: draw(st.sampled_from([0, 0, 0, 1]))]
    return bytes(wire)


@st.composite
def pieces_of(draw: st.DrawFn, source: st.SearchStrategy[bytes]) -> list[bytes]:
    """The bytes that ``source`` draws, cut at any places."""
    data = draw(source)
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=8)))
    return [data[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def make(
    kind: type[WebSocketProtocol], deflate: DeflateParameters | None = None
) -> WebSocketProtocol:
    return kind(max_message=MAX_MESSAGE, max_fragments=4, deflate=deflate)


def without_words(events: list[WebSocketEvent]) -> list[WebSocketEvent]:
    """The events, without the reason of a failure: it may name a position in a read."""
    return [
        ProtocolFailure(event.code, "") if isinstance(event, ProtocolFailure) else event
        for event in events
    ]


deflate_or_not = st.sampled_from([None, DeflateParameters()])


def test_websocket_large_message_in_one_read_is_whole() -> None:
    """A message longer than one piece for wsproto is not cut, and the next is not lost."""
    text = "a\u20ac\U0001f600" * 50_000  # characters of 1, 3 and 4 bytes, across any border
    wire = client_frame(TEXT, text.encode()) + client_frame(BINARY, bytes(200_000))
    protocol = WebSocketProtocol(max_message=1 << 20)
    assert protocol.receive(wire + client_frame(TEXT, b"next")) == [text, bytes(200_000), "next"]


@given(pieces_of(traffic()), deflate_or_not)
def test_short_way_gives_the_same_events_as_wsproto(
    pieces: list[bytes], deflate: DeflateParameters | None
) -> None:
    """Read by read, valid or not, events and words are those of wsproto alone."""
    short, long = make(WebSocketProtocol, deflate), make(ThroughWsproto, deflate)
    for piece in pieces:
        assert short.receive(piece) == long.receive(piece)


@given(pieces_of(traffic()))
def test_websocket_any_cut_gives_the_same_events(pieces: list[bytes]) -> None:
    """The events of a stream do not depend on how it arrives."""
    whole = make(WebSocketProtocol).receive(b"".join(pieces))
    protocol = make(WebSocketProtocol)
    cut = [event for piece in pieces for event in protocol.receive(piece)]
    assert without_words(cut) == without_words(whole)


@given(pieces_of(valid_traffic))
def test_websocket_any_cut_of_compressed_traffic_gives_the_same_events(
    pieces: list[bytes],
) -> None:
    """The same with compressed messages."""
    whole = make(WebSocketProtocol, DeflateParameters()).receive(b"".join(pieces))
    protocol = make(WebSocketProtocol, DeflateParameters())
    cut = [event for piece in pieces for event in protocol.receive(piece)]
    assert without_words(cut) == without_words(whole)


def wsproto_alone(data: bytes) -> list[WebSocketEvent]:
    """The events of a bare wsproto connection, without our scanner."""
    connection = Connection(ConnectionType.SERVER)
    connection.receive_data(data)
    result: list[WebSocketEvent] = []
    parts: list[str] | list[bytes] = []
    for event in connection.events():
        if isinstance(event, wsproto_events.Message):
            parts.append(event.data)
            if event.message_finished:
                result.append(type(parts[0])().join(parts))  # type: ignore[arg-type]
                parts = []
        elif isinstance(event, wsproto_events.Ping):
            result.append(Ping(event.payload))
        elif isinstance(event, wsproto_events.Pong):
            result.append(Pong(event.payload))
        elif isinstance(event, wsproto_events.CloseConnection):
            if connection.state is ConnectionState.OPEN:
                result.append(ProtocolFailure(event.code, ""))
            else:
                code = None if event.code == 1005 else event.code
                result.append(PeerClose(code, event.reason or ""))
    return result


def ends_at(data: bytes) -> int:
    """The end of the last complete header and its payload: the bytes that wsproto gets."""
    position = 0
    while position + 2 <= len(data):
        size = data[position + 1] & 0x7F
        header = 6 if data[position + 1] & 0x80 else 2
        if size >= 126:
            width = 2 if size == 126 else 8
            size = int.from_bytes(data[position + 2 : position + 2 + width], "big")
            header += width
        if position + header > len(data):
            break
        position += header + size
    return min(position, len(data))


@given(traffic())
def test_scanner_gives_the_same_events_as_bare_wsproto(data: bytes) -> None:
    """Without a limit in reach, events and codes are those of wsproto by itself.

    Only a header that is cut off by the end may fail later: it waits to be complete.
    """
    protocol = WebSocketProtocol(max_message=1 << 64, max_fragments=1 << 20)
    assert without_words(protocol.receive(data)) == wsproto_alone(data[: ends_at(data)])


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("size", [*range(10), 125, 126, 1023, 1024, 1025, 1026, 1027, 65535])
def test_short_way_unmasks_every_size(opcode: int, size: int) -> None:
    """Each remainder of the key, on both sides of each border."""
    payload = bytes(i % 127 for i in range(size))
    frame = client_frame(opcode, payload, key=b"\x00\xff\x55\x01")
    short = WebSocketProtocol(max_message=65535).receive(frame)
    assert short == [payload.decode() if opcode == TEXT else payload]
    assert short == ThroughWsproto(max_message=65535).receive(frame)


@pytest.mark.parametrize(
    ("frame", "header", "is_short"),
    [
        (client_frame(TEXT, b"x"), 6, True),
        (client_frame(BINARY, b"x" * 2000), 8, True),
        (client_frame(TEXT, b"x" * 65535), 8, True),
        (client_frame(BINARY, b"x" * 65536), 14, False),
        (client_frame(PING, b"x"), 6, False),
    ],
)
def test_short_way_takes_plain_frames_under_64_kib(
    frame: bytes, header: int, is_short: bool
) -> None:
    """A plain frame under 64 KiB needs no wsproto, also when its header comes by itself."""
    for cut in (0, 1, header - 1, header):
        protocol = WebSocketProtocol(max_message=1 << 20)
        assert protocol.receive(frame[:cut]) == []
        assert len(protocol.receive(frame[cut:])) == 1
        assert (protocol._connection is None) == is_short
