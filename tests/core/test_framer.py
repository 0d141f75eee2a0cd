"""The kinds of messages, and the refusal of data that is not a message."""

from __future__ import annotations

from typing import Any

import pytest

from hubthread import (
    MessageType,
    UsageError,
    WebsocketPeriod,
)
from tests.support import (
    fence,
    serving,
)


def test_framer_given_no_message_refuses_it() -> None:
    """The caller gets the error, which names the calls that take objects; nothing is sent."""
    told = (
        r"^expected a message of str \(text\) or bytes \(binary\), got .*; send objects with "
        "write_json to a client, with push_json or push_splicing to a room, and with "
        "broadcast_json to all$"
    )
    with serving() as s:
        peer, client = s.pair()
        hotline = s.hub.hotline()
        sends: list[Any] = [s.hub.broadcast, hotline.push, client.write, client.hub_broadcast]
        for send in sends:
            for wrong in ({"a": 1}, None, bytearray(b"x"), 5):
                with pytest.raises(UsageError, match=told):
                    send(wrong)
            with pytest.raises(ValueError, match="UTF-8"):
                send("\ud800")
        assert client.write("only this") == 1
        assert peer.message() == "only this"


@pytest.mark.parametrize(
    ("kind", "newline", "text", "data"),
    [
        (None, b"", "t", b"b"),
        (MessageType.TEXT, b"", "t", "b"),
        (MessageType.BINARY, b"", b"t", b"b"),
        (None, b"\r\n", "t\r\n", b"b\r\n"),
    ],
)
def test_framer_follows_write_message_type_and_write_newline(
    kind: int | None, newline: bytes, text: Any, data: Any
) -> None:
    period = WebsocketPeriod[Any](write_message_type=kind, write_newline=newline)
    with serving(period=period) as s:
        peer, client = s.pair()
        s.hub.broadcast("t")
        s.hub.broadcast(b"b")
        fence(s.hub)
        client.write("t")
        client.write(b"b")
        client.write_message_type(MessageType.TEXT, "t")
        client.write_message_type(MessageType.BINARY, b"b")
        end = newline.decode()
        assert peer.messages(6) == [text, data, text, data, "t" + end, b"b" + newline]
