"""Clients that show a token in their first message."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hubthread import (
    CloseCode,
    ConnectionProtocols,
    HandshakeRejected,
    Hub,
    HubSetting,
    IOContext,
    SettingError,
    Upgrader,
    WebsocketPeriod,
)
from hubthread.testing import VirtualClient, VirtualHub
from tests.support import RawPeer, connect, in_thread, serving

HUBTHREAD = {"Sec-WebSocket-Protocol": "hubthread.1"}
REFUSED = CloseCode.TOKEN_REFUSED

VERDICTS: dict[str, Any] = {"good": True, "short": 10, "banned": "go away", "wrong": False}


def check(ctx: IOContext, meta: dict[str, str], token: str) -> bool | float | str:
    meta["token"] = token
    verdict: bool | float | str = VERDICTS[token]
    return verdict


class Scene:
    """A hub that checks tokens, and what its callbacks saw."""

    def __init__(self, **fields: Any) -> None:
        self.events: list[str] = []

        def note(event: str) -> Any:
            return lambda ctx, meta: self.events.append(f"{event} {meta.get('token')}")

        fields = {
            "check_token": check,
            "on_connection_start": note("start"),
            "on_connection_close": note("close"),
            "on_receive_message": note("message"),
            **fields,
        }
        self.hub: VirtualHub[Any, Any] = VirtualHub(HubSetting(dict, **fields))

    def client(self, *messages: Any) -> VirtualClient:
        client = self.hub.connect(headers=HUBTHREAD)
        for message in messages:
            client.send(message if isinstance(message, (str, bytes)) else json.dumps(message))
        return client


def hello(token: object = "good") -> dict[str, Any]:
    return {"type": "hub:hello", "v": 1, "token": token}


def test_client_with_a_good_token_begins_behind_its_check() -> None:
    scene = Scene()
    with scene.hub as hub:
        client = scene.client()
        hub.broadcast("before")
        assert (client.messages(), hub.clients_num(), scene.events) == ([], 0, [])
        client.send(json.dumps(hello()))
        [answer] = map(json.loads, client.messages())
        assert (answer["type"], "token_ttl" in answer) == ("hub:hello", False)
        hub.broadcast("after")
        client.send("hi")
        assert client.messages() == ["after"]
        assert hub.clients_num() == 1
        hub.advance(1000)
        assert not client.closed
        client.close()
        assert scene.events == ["start good", "message good", "close good"]


@pytest.mark.parametrize(
    ("first", "code", "reason"),
    [
        (hello("wrong"), REFUSED, "the token was refused"),
        (hello("banned"), REFUSED, "go away"),
        (hello(7), REFUSED, "expected a token, a text"),
        ({"type": "hub:hello", "v": 1}, REFUSED, "expected a token, a text"),
        (hello("unknown"), CloseCode.INTERNAL_ERROR, "the server failed to check the token"),
        ("hi", REFUSED, "send hub:hello with a token first"),
        (b"\0", REFUSED, "send hub:hello with a token first"),
        ({"type": "hub:join", "room": "r"}, REFUSED, "send hub:hello with a token first"),
    ],
)
def test_client_without_a_good_token_is_closed_and_never_begins(
    first: Any, code: int, reason: str
) -> None:
    scene = Scene()
    with scene.hub as hub:
        client = scene.client(first)
        assert (client.close_code, client.close_reason) == (code, reason)
        assert (scene.events, hub.clients_num()) == ([], 0)
        assert [type(error) for error in hub.errors] == [KeyError] * (code == 1011)
        hub.errors.clear()


def test_client_that_shows_no_token_in_time_is_closed() -> None:
    scene = Scene()
    with scene.hub as hub:
        client = scene.client()
        hub.advance(9.9)
        assert not client.closed
        hub.advance(0.2)
        assert (client.close_code, client.close_reason) == (REFUSED, "no token came in 10 s")
        assert scene.events == []


def test_token_that_expires_closes_unless_another_comes() -> None:
    scene = Scene()
    with scene.hub as hub:
        client = scene.client(hello("short"))
        [answer] = map(json.loads, client.messages())
        assert answer["token_ttl"] == 10
        hub.advance(9)
        client.send(json.dumps({"type": "hub:token", "id": 1, "token": "short"}))
        assert json.loads(client.messages()[-1]) == {
            "type": "hub:token",
            "reply": 1,
            "token_ttl": 10,
        }
        hub.advance(9)
        assert not client.closed
        hub.advance(2)
        assert (client.close_code, client.close_reason) == (REFUSED, "the token has expired")
        assert scene.events == ["start short", "close short"]


def test_new_token_is_checked_as_the_first() -> None:
    scene = Scene()
    with scene.hub as hub:
        client = scene.client(hello("short"))
        client.send(json.dumps({"type": "hub:token", "id": 1, "token": "banned"}))
        assert client.close_reason == "go away"
        forever = scene.client(hello("short"))
        forever.send(json.dumps({"type": "hub:token", "id": 1, "token": "good"}))
        assert json.loads(forever.messages()[-1]) == {"type": "hub:token", "reply": 1}
        hub.advance(100)
        assert not forever.closed


def test_server_without_a_check_refuses_a_new_token() -> None:
    scene = Scene(check_token=None)
    with scene.hub:
        client = scene.client({"type": "hub:token", "id": 1, "token": "good"})
        assert json.loads(client.messages()[-1])["error"] == "token: this server takes none"


def test_start_callback_that_raises_closes_the_client() -> None:
    def fail(ctx: IOContext, meta: object) -> None:
        raise LookupError

    scene = Scene(on_connection_start=fail)
    with scene.hub as hub:
        client = scene.client(hello())
        assert client.close_code == CloseCode.INTERNAL_ERROR
        assert client.messages() == []
        assert [type(error) for error in hub.errors] == [LookupError]
        hub.errors.clear()


def test_hub_that_closes_tells_a_client_whose_token_it_awaits() -> None:
    scene = Scene()
    with scene.hub as hub:
        client = scene.client()
        hub.close()
        assert client.close_code == CloseCode.GOING_AWAY
    with serving(check_token=check) as s:
        peer = RawPeer(connect(s.server), "/", "Sec-WebSocket-Protocol: hubthread.1")
        closing = in_thread(s.hub.close)
        assert peer.closed()[0] == CloseCode.GOING_AWAY
        peer.close()
        closing()


def test_client_of_another_subprotocol_is_refused() -> None:
    with Scene().hub as hub, pytest.raises(HandshakeRejected, match=r"400.*hubthread\.1"):
        hub.connect()


def test_check_runs_inside_around_callback() -> None:
    class Around:
        def __init__(self, ctx: IOContext, meta: object) -> None:
            events.append("enter")

        def __enter__(self) -> None: ...

        def __exit__(self, *raised: object) -> None:
            events.append("exit")

    events: list[str] = []

    def noted(ctx: IOContext, meta: dict[str, str], token: str) -> bool:
        events.append("check")
        return True

    scene = Scene(check_token=noted, around_callback=Around)
    with scene.hub:
        scene.client(hello())
        assert events == ["enter", "check", "exit"]


def test_setting_that_no_client_could_meet_is_refused() -> None:
    period = WebsocketPeriod[Any](upgrader=Upgrader(subprotocols=("chat",)))
    with pytest.raises(SettingError, match=r"hubthread\.1"):
        HubSetting(dict, check_token=check, websocket_period=period)
    with (
        Hub[Any, Any](HubSetting(dict, check_token=check)) as hub,
        pytest.raises(SettingError, match="a raw peer shows no token"),
    ):
        hub.socket_handles("127.0.0.1", 0, ConnectionProtocols.TCP)
