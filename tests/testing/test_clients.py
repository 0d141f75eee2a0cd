"""Virtual clients: they connect, talk and end as real ones do, and a test sees it at once."""

from __future__ import annotations

from typing import Any

import pytest

from hubthread import (
    ClientClosed,
    HandshakeRejected,
    HubSetting,
    SettingError,
    Upgrader,
    WebsocketPeriod,
)
from hubthread.testing import VirtualHub


def echo(ctx: Any, meta: Any) -> bool:
    ctx.write(ctx.payload)
    return True


def test_a_client_connects_and_is_answered() -> None:
    greeting = HubSetting[Any, Any](
        dict,
        on_connection_start=lambda ctx, meta: ctx.write(f"hello from {ctx.handshake.path}"),
        on_receive_message=echo,
    )
    with VirtualHub(greeting) as hub:
        client = hub.connect("/lobby?seat=7", headers={"Cookie": "session=1"})
        assert client.ctx.handshake.query == {"seat": "7"}
        assert client.ctx.handshake.cookies == {"session": "1"}
        client.send("text")
        client.send(b"\x00bytes")
        client.send_json({"a": [1]})
        assert client.inbox == ["hello from /lobby", "text", b"\x00bytes", '{"a": [1]}']
        assert client.take() == "hello from /lobby"
        assert client.messages() == ["text", b"\x00bytes", '{"a": [1]}']
        assert client.inbox == []
        with pytest.raises(LookupError, match="nothing has come"):
            client.take()
    assert hub.errors == []


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536, 300_000])
def test_messages_of_any_size_go_both_ways(size: int) -> None:
    with VirtualHub(HubSetting[Any, Any](dict, on_receive_message=echo)) as hub:
        client = hub.connect()
        client.send(b"x" * size)
        client.send("ä" * size)
        assert client.messages() == [b"x" * size, "ä" * size]


def test_a_refused_client_is_told_why() -> None:
    told = []
    period = WebsocketPeriod[Any](upgrader=Upgrader(error=lambda *args: told.append(args[1:])))

    def shake(request: Any) -> dict[str, str]:
        raise HandshakeRejected(401, "Log in first.")

    with VirtualHub(
        HubSetting[Any, Any](dict, on_handshake=shake, websocket_period=period)
    ) as hub:
        with pytest.raises(HandshakeRejected, match="Log in") as refused:
            hub.connect()
        assert refused.value.status == 401
        with pytest.raises(HandshakeRejected, match="may not connect here"):
            hub.connect(headers={"Origin": "https://elsewhere.example"})
        assert hub.clients_num() == 0
        assert hub.statistics().handshakes_refused == 2
        assert told == [(401, "Log in first."), (403, told[1][1])]


@pytest.mark.parametrize("code", [70000, -1, 0, 1000.0, "1000"])
def test_a_close_code_that_no_frame_can_hold(code: Any) -> None:
    """It is refused, and the client stays; one that may not be sent is for the hub to answer."""
    with VirtualHub(HubSetting[Any, Any](dict)) as hub:
        client = hub.connect()
        with pytest.raises(SettingError, match=r"^code: an integer .*, not "):
            client.close(code)
        assert not client.closed
        client.close(65535)
        assert client.closed


def test_the_closing_handshake_from_either_side() -> None:
    closed = []
    setting = HubSetting[Any, Any](
        dict, on_connection_close=lambda ctx, meta: closed.append(ctx.ws_conn.code)
    )
    with VirtualHub(setting) as hub:
        mine, theirs = hub.connect(), hub.connect()
        mine.close(4001, "bye")
        assert (mine.closed, mine.close_code, mine.close_reason) == (True, 4001, "bye")
        assert mine.ctx.ws_conn.clean
        theirs.ctx.close(4002, "out")
        assert (theirs.closed, theirs.close_code, theirs.close_reason) == (True, 4002, "out")
        assert theirs.ctx.ws_conn.clean
        assert closed == [4001, 4002]
        assert hub.clients_num() == 0
        for client in (mine, theirs):
            with pytest.raises(ClientClosed):
                client.send("too late")
        assert hub.clock.now() == 0.0
