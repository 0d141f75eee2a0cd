"""Incoming permessage-deflate: every form that RFC 7692 allows, and the cap."""

from __future__ import annotations

import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode

from hubthread.protocol.deflate import CappedDeflate
from hubthread.protocol.deflate_negotiation import DeflateParameters
from hubthread.protocol.websocket import Ping, ProtocolFailure, WebSocketEvent, WebSocketProtocol
from tests.protocol.test_websocket import (
    BINARY,
    CONTINUATION,
    MIB,
    PING,
    TEXT,
    client_frame,
    failure_code,
    in_pieces,
)

PIECE = 64 * 1024
WORDS = b"the same words, the same words, and some others. " * 30


def deflate(data: bytes, window_bits: int = 15, level: int = 6) -> bytes:
    """Compress a payload as RFC 7692 section 7.2.1 does."""
    compressor = zlib.compressobj(level, zlib.DEFLATED, -window_bits)
    return (compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


def receiver(max_message: int = MIB, window_bits: int = 15) -> WebSocketProtocol:
    """A protocol object with deflate."""
    parameters = DeflateParameters(client_max_window_bits=window_bits)
    return WebSocketProtocol(max_message=max_message, deflate=parameters)


def received(payload: bytes, max_message: int = MIB) -> list[WebSocketEvent]:
    """The events of a binary message with this compressed payload, whole and in single bytes."""
    frame = client_frame(BINARY, payload, rsv=4)
    events = receiver(max_message).receive(frame)
    assert in_pieces(receiver(max_message), frame, 1) == events
    return events


@pytest.mark.parametrize("window_bits", range(9, 16))
def test_deflate_any_window_inflates(window_bits: int) -> None:
    """A message that uses the whole window comes out as it was."""
    data = bytes(range(251)) * 300
    frame = client_frame(BINARY, deflate(data, window_bits), rsv=4)
    assert receiver(window_bits=window_bits).receive(frame) == [data]


@given(st.binary(max_size=2000), st.integers(0, 9))
def test_deflate_message_of_websockets_is_inflated(data: bytes, level: int) -> None:
    """A client that others wrote is understood, whatever it sends and at whatever level."""
    client = PerMessageDeflate(True, True, 15, 15, {"level": level})
    frame = client.encode(Frame(Opcode.BINARY, data))
    assert received(bytes(frame.data)) == [data]


def test_deflate_rfc_examples_are_inflated() -> None:
    """RFC 7692 sections 7.2.3.1 to 7.2.3.6: one, two, stored, final and empty blocks."""
    for payload in ("f248cdc9c90700", "000500faff48656c6c6f00", "f348cdc9c9070000"):
        assert received(bytes.fromhex(payload)) == [b"Hello"]
    assert received(bytes.fromhex("f24805000000ffffcac9c90700")) == [b"Hello"]
    assert received(b"\x00") == [b""]


def test_deflate_fragments_cut_anywhere_are_one_message() -> None:
    """Section 7.2.3.1: the fragments are those of the compressed data."""
    payload = deflate(WORDS)
    for cut in range(len(payload) + 1):
        frames = client_frame(TEXT, payload[:cut], fin=False, rsv=4)
        frames += client_frame(CONTINUATION, payload[cut:])
        assert receiver().receive(frames) == [WORDS.decode()]


@pytest.mark.parametrize("size", [n * PIECE + d for n in (1, 2, 5) for d in (-1, 0, 1)])
def test_deflate_message_of_several_pieces_is_whole(size: int) -> None:
    """The message may end where a piece ends; the cap counts all pieces together."""
    data = (b"0123456789abcdef!" * (size // 17 + 1))[:size]
    frame = client_frame(BINARY, deflate(data), rsv=4)
    assert receiver(max_message=size).receive(frame) == [data]
    assert failure_code(receiver(max_message=size - 1).receive(frame)) == 1009


@pytest.mark.parametrize("size", [n * PIECE + d for n in (1, 2, 3) for d in (-1, 0, 1)])
def test_deflate_final_block_at_the_end_of_a_piece_is_accepted(size: int) -> None:
    """Only the header of the empty block may follow it (section 7.2.3.4)."""
    compressor = zlib.compressobj(wbits=-15)
    data = bytes(size)
    final = compressor.compress(data) + compressor.flush()
    for rest in (b"", b"\x00"):
        frame = client_frame(BINARY, final + rest, rsv=4)
        assert receiver(max_message=size).receive(frame) == [data]
    frame = client_frame(BINARY, final + b"\x00\x00", rsv=4)
    assert failure_code(receiver(max_message=size).receive(frame)) == 1007


def test_deflate_many_and_empty_blocks_are_one_message() -> None:
    """A sender that flushes after each word sends one message all the same."""
    compressor = zlib.compressobj(wbits=-15)
    payload = b""
    for word in WORDS.split():
        payload += compressor.compress(word) + compressor.flush(zlib.Z_SYNC_FLUSH)
        payload += compressor.flush(zlib.Z_FULL_FLUSH)
    assert received(payload[:-4]) == [WORDS.replace(b" ", b"")]


def test_deflate_uncompressed_message_passes() -> None:
    """Compression is the sender's choice, message by message (section 6)."""
    plain = client_frame(TEXT, b"plain", fin=False) + client_frame(CONTINUATION, b"!")
    compressed = client_frame(TEXT, deflate(WORDS), rsv=4)
    assert receiver().receive(plain + compressed + client_frame(BINARY, b"x")) == [
        "plain!",
        WORDS.decode(),
        b"x",
    ]


def test_deflate_reference_to_an_earlier_message_is_1007() -> None:
    """Data that refers to the message before it is corrupt (section 7.1.1)."""
    compressor = zlib.compressobj(wbits=-15)
    first = (compressor.compress(WORDS) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
    second = (compressor.compress(WORDS) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
    protocol = receiver()
    assert protocol.receive(client_frame(TEXT, first, rsv=4)) == [WORDS.decode()]
    (failed,) = protocol.receive(client_frame(TEXT, second, rsv=4))
    assert isinstance(failed, ProtocolFailure)
    assert failed.code == 1007
    assert "compressed with the context of an earlier one?" in failed.reason


@pytest.mark.parametrize(
    "payload",
    [
        b"\x07",  # a block of the reserved type
        b"\xff" * 20,
        b"\x03\x02\x00",  # a reference to what was before the message
        bytes.fromhex("000500faf0") + b"Hello\x00",  # a stored block's lengths differ
    ],
)
def test_deflate_corrupt_data_is_1007(payload: bytes) -> None:
    """Data that does not inflate does not fit its type."""
    assert failure_code(received(payload)) == 1007


def test_deflate_inflated_text_that_is_not_utf8_is_1007() -> None:
    """Compressed text has to be UTF-8 like any other."""
    frame = client_frame(TEXT, deflate(b"\xff"), rsv=4)
    assert failure_code(receiver().receive(frame)) == 1007


def test_deflate_data_after_a_final_block_is_1007() -> None:
    """Only one empty header may follow a final block."""
    compressor = zlib.compressobj(wbits=-15)
    final = compressor.compress(WORDS) + compressor.flush(zlib.Z_FINISH)
    assert received(final) == [WORDS]
    assert received(final + b"\x00") == [WORDS]
    assert failure_code(received(final + b"\x01")) == 1007
    assert failure_code(received(final + final)) == 1007


def test_deflate_rsv1_after_the_first_frame_is_1002() -> None:
    """RSV1 on a continuation or control frame is 1002 (section 6.1)."""
    begun = client_frame(TEXT, deflate(WORDS), fin=False, rsv=4)
    continued = client_frame(CONTINUATION, b"", rsv=4)
    assert failure_code(receiver().receive(begun + continued)) == 1002
    assert failure_code(receiver().receive(client_frame(PING, b"", rsv=4))) == 1002


def test_deflate_other_reserved_bits_are_1002() -> None:
    """Deflate makes use of RSV1 alone."""
    for rsv in (2, 1, 6, 5):
        frame = client_frame(TEXT, deflate(WORDS), rsv=rsv)
        assert failure_code(receiver().receive(frame)) == 1002


def test_deflate_cap_limits_the_inflated_size() -> None:
    """A message at the cap passes, one byte more is 1009, in one frame or several."""
    data = b"x" * 5000
    assert received(deflate(data), 5000) == [data]
    assert failure_code(received(deflate(data), 4999)) == 1009
    payload = deflate(data)
    frames = client_frame(BINARY, payload[:9], fin=False, rsv=4)
    frames += client_frame(CONTINUATION, payload[9:])
    assert receiver(5000).receive(frames) == [data]
    assert failure_code(receiver(4999).receive(frames)) == 1009


def test_deflate_cap_applies_to_each_message() -> None:
    """Many messages at the cap pass, because the cap is for each message."""
    frame = client_frame(BINARY, deflate(b"x" * 5000), rsv=4)
    assert receiver(5000).receive(frame * 3) == [b"x" * 5000] * 3


def test_deflate_message_at_the_cap_may_be_larger_on_the_wire() -> None:
    """The bytes that deflate adds to incompressible data do not count."""
    data = zlib.compress(bytes(i * i % 256 for i in range(65536)), 9)[:1000]
    stored = deflate(data, level=0)
    assert len(stored) > len(data)
    assert received(stored, len(data)) == [data]


def test_deflate_uncompressed_message_over_the_cap_is_1009() -> None:
    """The margin on the wire is for compressed messages only."""
    assert failure_code(receiver(1000).receive(client_frame(BINARY, b"x" * 1001))) == 1009


@pytest.mark.parametrize("size", [1000, MIB])
def test_deflate_bomb_is_1009_and_takes_little_memory(size: int) -> None:
    """65 KB that would become 64 MiB end at 1009, for about twice the cap of 1 MiB."""
    bomb = client_frame(BINARY, deflate(bytes(64 * MIB), level=9), rsv=4)
    assert 60_000 < len(bomb) < 70_000
    protocol = receiver(MIB)
    tracemalloc.start()
    try:
        assert failure_code(in_pieces(protocol, bomb, size)) == 1009
        assert tracemalloc.get_traced_memory()[1] < 3 * MIB
        assert tracemalloc.get_traced_memory()[0] < 10_000
    finally:
        tracemalloc.stop()


def test_deflate_ping_between_fragments_is_an_event() -> None:
    """A ping may come before, between and after compressed fragments."""
    payload = deflate(WORDS)
    ping = client_frame(PING, b"\x00\xff")
    first = client_frame(TEXT, payload[:5], fin=False, rsv=4)
    last = client_frame(CONTINUATION, payload[5:])
    beat = Ping(b"\x00\xff")
    assert receiver().receive(ping + first + ping + ping + last + ping) == [
        beat,
        beat,
        beat,
        WORDS.decode(),
        beat,
    ]


@given(st.binary(max_size=200), st.integers(0, 300))
def test_deflate_any_payload_is_a_message_within_the_cap_or_a_failure(
    payload: bytes, cap: int
) -> None:
    """No compressed bytes give a message larger than the cap."""
    frame = client_frame(BINARY, payload, rsv=4)
    (event,) = receiver(cap).receive(frame)
    if isinstance(event, bytes):
        assert len(event) <= cap
    else:
        assert failure_code([event]) in (1007, 1009)


def test_deflate_extension_is_enabled_and_offers_nothing() -> None:
    """A server's extension has nothing to offer, and is in use once it is made."""
    extension = CappedDeflate(window_bits=15, max_message=1)
    assert (extension.name, extension.offer()) == ("permessage-deflate", False)
    assert extension.enabled()
