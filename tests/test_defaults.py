"""The default settings and the ready-made preprocessing, with a peer at the other end."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hubthread import (
    DEFAULT_NEWLINE,
    DEFAULT_SPACE,
    DataSize,
    PingPongPlan,
    Upgrader,
    WebsocketPeriod,
    default_ping_handler,
    default_upgrader,
    default_websocket_period,
    read_buffer_preprocessing_binary,
    read_buffer_preprocessing_text,
)
from tests.support import PING, PONG, Items, masked_frame, serving

AROUND = " \t\r\n"


@given(text=st.text(), before=st.text(AROUND), after=st.text(AROUND))
def test_text_preprocessing_strips_both_ends(text: str, before: str, after: str) -> None:
    kept = text.strip(AROUND)
    assert read_buffer_preprocessing_text(before + text + after) == kept
    assert read_buffer_preprocessing_text((before + text + after).encode()) == kept.encode()


@given(data=st.text() | st.binary())
def test_binary_preprocessing_returns_same_object(data: Any) -> None:
    assert read_buffer_preprocessing_binary(data) is data


def test_default_websocket_period_strips_received_messages() -> None:
    seen = Items[str | bytes]()
    period = default_websocket_period()
    assert period.upgrader == default_upgrader() == Upgrader()
    with serving(
        period=period, on_receive_message=lambda ctx, meta: seen.add(ctx.payload)
    ) as served:
        peer = served.peer()
        peer.send("  move 1\r\n", b"two\nlines\n")
        assert seen.wait(2) == ["move 1", b"two\nlines"]


def test_default_newline_and_space_fit_setting_and_prefix() -> None:
    with serving(period=WebsocketPeriod(write_newline=DEFAULT_NEWLINE)) as served:
        peer, client = served.pair()
        client.write("one")
        client.write_splicing(b"two" + DEFAULT_SPACE, [1])
        assert peer.messages(2) == ["one\n", b"two [1]\n"]


def test_default_ping_handler_leaves_one_pong() -> None:
    plan = PingPongPlan[Any](ping_handler=default_ping_handler)
    with serving(period=WebsocketPeriod(ping_pong_plan=plan)) as served:
        peer, client = served.pair()
        peer.sock.sendall(masked_frame(b"now", PING))
        assert peer.frame() == (PONG, b"now")
        client.close()
        assert peer.closed() == (1000, "")


def test_data_size_constants_are_bytes() -> None:
    """Each constant is 1024 of the one before, and a setting in bytes accepts it."""
    sizes = [DataSize.B, DataSize.KB, DataSize.MB, DataSize.GB, DataSize.TB]
    assert sizes == [1, 1024, 1024**2, 1024**3, 1024**4]
    assert all(type(size) is DataSize for size in sizes)
    period = WebsocketPeriod[Any](message_buffer_size=DataSize(2))
    with serving(period=period) as served:
        peer = served.peer()
        peer.send("abc")
        assert peer.closed()[0] == 1009
