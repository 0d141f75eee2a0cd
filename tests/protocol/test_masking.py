"""The frames of a client, and the reader of the frames of its server."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.frame_protocol import FrameDecoder, Opcode

from hubthread.protocol.frames import Frame, MessageType, encode_close
from hubthread.protocol.masking import client_frame, masked_close
from hubthread.protocol.websocket import (
    ClientProtocol,
    PeerClose,
    Ping,
    ProtocolFailure,
    WebSocketProtocol,
)

MOST = 200_000


class SlowClient(ClientProtocol):
    """Everything goes through wsproto."""

    _short_way = False


@pytest.mark.parametrize("size", [0, 1, 125, 126, 1024, 1025, 65_535, 65_536])
@pytest.mark.parametrize("key", [b"\0\0\0\0", b"\x01\xff\x10\x80"])
def test_client_frame_is_read_by_wsproto_and_by_the_server(size: int, key: bytes) -> None:
    payload = bytes(range(256)) * (size // 256 + 1)
    wire = client_frame(MessageType.BINARY, payload[:size], key)
    decoder = FrameDecoder(client=False)
    decoder.receive_bytes(wire)
    frame = decoder.process_buffer()
    assert frame is not None
    assert (frame.opcode, frame.payload) == (Opcode.BINARY, payload[:size])
    assert WebSocketProtocol(max_message=MOST).receive(wire) == [payload[:size]]


def test_masked_close_carries_code_and_reason() -> None:
    wire = masked_close(encode_close(1012, "moved"), b"abcd")
    assert WebSocketProtocol(max_message=9).receive(wire) == [PeerClose(1012, "moved")]


@given(
    st.lists(
        st.one_of(
            st.text(max_size=300).map(lambda text: Frame(text, MessageType.TEXT).wire),
            st.sampled_from([126, 65_535, 65_536]).map(
                lambda size: Frame(bytes(size), MessageType.BINARY).wire
            ),
            st.sampled_from([b"\x89\x02hi", b"\x8a\x00", b"\x01\x02ab", b"\x80\x01c"]),
            st.sampled_from(
                [b"\x88\x02\x03\xf4", b"\x88\x02\x03\xed", b"\x81\x02\xff\xff", b"\x81\x81abcdx"]
            ),
            st.binary(max_size=8),
        ),
        max_size=6,
    ),
    st.integers(1, 50),
)
def test_client_protocol_short_way_is_that_of_wsproto(wires: list[bytes], piece: int) -> None:
    data = b"".join(wires)
    quick, slow = ClientProtocol(max_message=MOST), SlowClient(max_message=MOST)
    found = quick.receive(data)
    assert found == slow.receive(data)
    pieces = ClientProtocol(max_message=MOST)
    step = piece if len(data) < 2000 else 4096
    each = [pieces.receive(data[at : at + step]) for at in range(0, len(data), step)]
    assert [event for events in each for event in events] == found


def test_client_protocol_takes_no_masked_frame_and_no_long_message() -> None:
    (event,) = ClientProtocol(max_message=10).receive(client_frame(1, b"hi", b"abcd"))
    assert isinstance(event, ProtocolFailure)
    assert event.code == 1002
    for wire in (b"\x82\x0b", b"\x82\x7e\x01\x00", b"\x82\x7f" + bytes(4) + b"\x01\0\0\0"):
        (event,) = ClientProtocol(max_message=10).receive(wire)
        assert isinstance(event, ProtocolFailure)
        assert (event.code, event.limit) == (1009, "message")
    assert ClientProtocol(max_message=10).receive(b"\x89\x01a\x81\x01b") == [Ping(b"a"), "b"]
