"""The handshake: hooks, origins, subprotocols, compression, refusals."""

from __future__ import annotations

import socket
from typing import Any

import pytest
import websocket as websocket_client
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect as websocket

from hubthread import (
    HandshakeRejected,
    Hub,
    HubSetting,
    Request,
    Upgrader,
)
from hubthread.limits import HANDSHAKE, HEAD
from hubthread.net.steps import Steps, run_steps
from hubthread.net.transport import PlainTransport
from hubthread.protocol.request import Headers
from hubthread.serving.accept import Arrival
from tests.support import (
    TIMEOUT,
    AnyHub,
    Logs,
    RawPeer,
    ask,
    connect,
    raw_handshake,
    read_to_end,
    serving,
    status_of,
)


def test_arrival_ended_in_its_request_costs_nothing() -> None:
    with serving() as s:
        for sent in (b"GET", raw_handshake()[:-2]):
            with connect(s.server) as sock:
                sock.sendall(sent)
                sock.shutdown(socket.SHUT_WR)
                assert status_of(read_to_end(sock)) == 400
            RawPeer(connect(s.server)).reset()
        with s.peer():
            pass


def test_arrival_hook_makes_the_meta_or_refuses() -> None:

    def shake(request: Request) -> str:
        user = request.query.get("user")
        if user is None:
            raise HandshakeRejected(401, "Say who you are.", (("WWW-Authenticate", "Bearer"),))
        return user

    def greet(ctx: Any, meta: str) -> None:
        ctx.write(f"hello {meta}")

    with serving(on_handshake=shake, on_connection_start=greet) as s:
        with websocket(s.server.url + "?user=ada") as peer:
            assert peer.recv(TIMEOUT) == "hello ada"
        with pytest.raises(InvalidStatus) as caught:
            websocket(s.server.url)
        assert caught.value.response.status_code == 401
        assert caught.value.response.body == b"Say who you are."
        assert caught.value.response.headers["WWW-Authenticate"] == "Bearer"
        with pytest.raises(websocket_client.WebSocketBadStatusException, match="401"):
            websocket_client.create_connection(s.server.url)
        assert s.hub.statistics().handshakes_refused == 2
        assert s.hub.statistics().clients_total == 1
        assert s.logs.warnings() == []


def test_arrival_without_a_hook_has_a_meta_of_its_own() -> None:
    """A ``meta_gen`` that raises costs the client a 500."""
    made: list[dict[str, int]] = []

    def meta_gen() -> dict[str, int]:
        if len(made) == 2:
            raise LookupError("no more")
        made.append({})
        return made[-1]

    with serving(meta_gen=meta_gen) as s:
        pairs = s.pairs(2)
        assert pairs[0][1].meta is made[0]
        assert pairs[1][1].meta is made[1]
        assert status_of(ask(s.server, raw_handshake())) == 500
        assert "no more" in s.logs.wait("the handshake hook raised")


@pytest.mark.parametrize(
    ("check", "origin", "status"),
    [
        ("same", None, 101),
        ("same", "http://localhost", 101),
        ("same", "http://evil.example", 403),
        ("same", "null", 403),
        ("any", "http://evil.example", 101),
        ({"https://app.example"}, "https://app.example", 101),
        ({"https://app.example"}, "https://evil.example", 403),
        (lambda request: request.origin == "x://y", "x://y", 101),
        (lambda request: request.origin == "x://y", None, 403),
    ],
)
def test_arrival_of_a_foreign_origin_is_refused(
    check: Any, origin: str | None, status: int
) -> None:
    """A policy, a list or a function may refuse it."""
    with serving(upgrader=Upgrader(check_origin=check)) as s:
        fields = () if origin is None else (f"Origin: {origin}",)
        with connect(s.server) as sock:
            sock.sendall(raw_handshake("/", *fields))
            assert status_of(sock.recv(1000)) == status


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [(["a", "b"], "b"), (["c"], None), ([], None)],
)
def test_arrival_gets_the_first_common_subprotocol(offered: list[Any], chosen: str | None) -> None:
    with serving(upgrader=Upgrader(subprotocols=("x", "b", "a"))) as s:
        fields = [f"Sec-WebSocket-Protocol: {', '.join(offered)}"] if offered else []
        with RawPeer(connect(s.server), "/", *fields) as peer:
            assert s.came().subprotocol == chosen
            said = [line for line in peer.head.decode().split("\r\n") if "Protocol:" in line]
            assert said == ([f"Sec-WebSocket-Protocol: {chosen}"] if chosen else [])


def echo(ctx: Any, meta: Any) -> bool:
    ctx.write(ctx.payload)
    return False


def test_arrival_offering_compression_gets_it() -> None:
    """Members of one room with and without it get the same messages."""
    text = "the same again and again, " * 1000
    with serving(upgrader=Upgrader(compression=True), on_receive_message=echo) as s:
        with (
            websocket(s.server.url) as one,
            websocket(s.server.url) as two,
            websocket(s.server.url, compression=None) as plain,
        ):
            assert "permessage-deflate" in one.response.headers["Sec-WebSocket-Extensions"]  # type: ignore[union-attr]
            for peer in (one, plain):
                peer.send(text)
                assert peer.recv(TIMEOUT) == text
            hotline = s.hub.hotline()
            for _ in range(3):
                hotline.answer(s.came())
            for number in range(10):
                hotline.push(f"{number} {text}")
            for peer in (one, two, plain):
                assert [peer.recv(TIMEOUT) for _ in range(10)] == [
                    f"{number} {text}" for number in range(10)
                ]
        raw = RawPeer(connect(s.server), "/", "Sec-WebSocket-Extensions: permessage-deflate")
        with raw:
            s.came().write(text)
            _, payload = raw.frame()
            assert len(payload) < len(text) / 20


def arrival_on(hub: AnyHub, sock: socket.socket) -> Arrival:
    return Arrival(hub._core, PlainTransport(sock), ("192.0.2.1", 7))


def refusing(error: BaseException) -> Any:
    def negotiate(arrival: Arrival) -> Steps[None]:
        yield from ()
        raise error

    return negotiate


def test_arrival_is_tracked_until_its_end() -> None:
    ours, theirs = socket.socketpair()
    hub: AnyHub = Hub(HubSetting[Any, Any](dict))
    with theirs:
        with arrival_on(hub, ours):
            assert not hub._core.connections.is_empty()
        assert hub._core.connections.is_empty()
        assert theirs.recv(1) == b""
    hub.close()


def test_arrival_refused_sends_its_status_and_counts() -> None:
    """A header that cannot be sent is left out, with the reason."""
    for headers, status in (((), b"418"), ((("X-Wrong", "a\r\nb"),), b"500")):
        ours, theirs = socket.socketpair()
        hub: AnyHub = Hub(HubSetting[Any, Any](dict, logger=Logs()))
        with theirs, arrival_on(hub, ours) as arrival:
            refuse = refusing(HandshakeRejected(418, "no coffee", headers))
            assert run_steps(arrival.accept(refuse)) is None
            theirs.shutdown(socket.SHUT_WR)
            run_steps(arrival.answer())
            assert read_to_end(theirs).split()[1] == status
            assert hub.statistics().handshakes_refused == 1
        hub.close()


def test_arrival_broken_is_counted_and_sends_nothing() -> None:
    ours, theirs = socket.socketpair()
    hub: AnyHub = Hub(HubSetting[Any, Any](dict, logger=Logs()))
    with theirs:
        with arrival_on(hub, ours) as arrival:
            assert run_steps(arrival.run(refusing(ConnectionResetError("gone")))) is None
            assert arrival.response is None
        assert theirs.recv(1) == b""
    assert hub.statistics().handshakes_refused == 1
    hub.close()


@pytest.mark.parametrize(("status", "limit"), [(408, HANDSHAKE), (431, HEAD)])
def test_arrival_refused_before_its_request_counts_the_limit(status: int, limit: str) -> None:
    """With a request the same status is the program's own, and counts for no limit."""
    ours, theirs = socket.socketpair()
    hub: AnyHub = Hub(HubSetting[Any, Any](dict, logger=Logs()))
    with theirs, arrival_on(hub, ours) as arrival:
        run_steps(arrival.accept(refusing(HandshakeRejected(status, "no"))))
        assert hub.statistics().limits_struck[limit] == 1
        arrival.request = Request("GET", "/", Headers([]))
        run_steps(arrival.accept(refusing(HandshakeRejected(status, "no"))))
        assert hub.statistics().limits_struck[limit] == 1
    hub.close()
