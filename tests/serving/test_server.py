"""Serving: where it listens, what it lets in, what else it answers, and what it says of itself."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
import websocket as websocket_client
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect as websocket
from websockets.sync.client import unix_connect

from hubthread import (
    HandshakeRejected,
    Hub,
    HubSetting,
    Request,
    Response,
    SettingError,
    Upgrader,
    WebsocketPeriod,
)
from tests.support import TIMEOUT, RawPeer, ask, connect, fence, raw_handshake, serving, status_of

DATA = Path(__file__).parents[1] / "data"


def echo(ctx: Any, meta: Any) -> bool:
    ctx.write(ctx.payload)
    return False


def get(path: str, method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def test_the_hook_makes_the_meta_or_refuses() -> None:
    """Authentication: by the query here; the meta is what the handlers get."""

    def shake(request: Request) -> str:
        user = request.query.get("user")
        if user is None:
            raise HandshakeRejected(401, "Say who you are.")
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
        with pytest.raises(websocket_client.WebSocketBadStatusException, match="401"):
            websocket_client.create_connection(s.server.url)
        assert s.hub.statistics().handshakes_refused == 2
        assert s.hub.statistics().clients_total == 1


def test_without_a_hook_each_client_has_its_own_meta() -> None:
    """Made by ``meta_gen``; one that raises costs that client a 500."""
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
def test_origins(check: Any, origin: str | None, status: int) -> None:
    """The same or none by default; any; a list; a function."""
    with serving(upgrader=Upgrader(check_origin=check)) as s:
        fields = () if origin is None else (f"Origin: {origin}",)
        with connect(s.server) as sock:
            sock.sendall(raw_handshake("/", *fields))
            assert status_of(sock.recv(1000)) == status


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [(["a", "b"], "b"), (["c"], None), ([], None)],
)
def test_subprotocols(offered: list[Any], chosen: str | None) -> None:
    """The server's first that the client offers; none where there is none in common."""
    with serving(upgrader=Upgrader(subprotocols=("x", "b", "a"))) as s:
        fields = [f"Sec-WebSocket-Protocol: {', '.join(offered)}"] if offered else []
        with RawPeer(connect(s.server), "/", *fields) as peer:
            assert s.came().subprotocol == chosen
            said = [line for line in peer.head.decode().split("\r\n") if "Protocol:" in line]
            assert said == ([f"Sec-WebSocket-Protocol: {chosen}"] if chosen else [])


def test_compression_with_a_peer_by_others() -> None:
    """Negotiated with who offers it; a room's members with and without get the same."""
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


def test_pages_and_websocket_on_one_port() -> None:
    """Pages by path, HEAD without a body, 404, the WebSocket where it was put."""

    def refuse(request: Request) -> Response:
        raise HandshakeRejected(403, "Not for you.")

    def trip(request: Request) -> Response:
        raise LookupError("the secret")

    pages: dict[str, Any] = {
        "/": lambda request: Response.html("<p>here"),
        "/healthz": lambda request: Response.text(200, request.query.get("who", "ok")),
        "/refuse": refuse,
        "/trip": trip,
        "/nothing": lambda request: None,
    }
    with serving(serve={"path": "/ws", "pages": pages}) as s:
        assert s.server.url.endswith("/ws")
        assert ask(s.server, get("/")).endswith(b"\r\n\r\n<p>here")
        assert ask(s.server, get("/healthz?who=me")).endswith(b"\r\n\r\nme")
        head = ask(s.server, get("/healthz", "HEAD"))
        assert head.endswith(b"\r\n\r\n")
        assert b"Content-Length: 2" in head
        assert status_of(ask(s.server, get("/ws"))) == 426
        assert status_of(ask(s.server, get("/none"))) == 404
        assert status_of(ask(s.server, raw_handshake("/none"))) == 404
        assert status_of(ask(s.server, get("/refuse"))) == 403
        for path, logged in (("/trip", "the secret"), ("/nothing", "returns a Response")):
            answer = ask(s.server, get(path))
            assert status_of(answer) == 500
            assert b"secret" not in answer
            assert s.logs.wait(logged)
        with websocket(s.server.url):
            assert s.came().handshake.path == "/ws"


def test_a_unix_socket(tmp_path: Path) -> None:
    """Served and taken away; what a dead server left there is no hindrance."""
    path = str(tmp_path / "sock")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    with serving(serve={"unix_path": path}, on_receive_message=echo) as s:
        assert s.server.address == path
        assert repr(s.server) == f"<Server ws://unix:{path}/ 0 connections>"
        with unix_connect(path) as peer:
            peer.send("hi")
            assert peer.recv(TIMEOUT) == "hi"
    assert not Path(path).exists()


def test_ipv6() -> None:
    """With its address in brackets."""
    with serving(serve={"host": "::1"}, on_receive_message=echo) as s:
        assert s.server.url.startswith("ws://[::1]:")
        with websocket(s.server.url) as peer:
            peer.send("hi")
            assert peer.recv(TIMEOUT) == "hi"


def test_tls() -> None:
    """``wss`` with a peer by others, large messages both ways; plain HTTP there gets nowhere."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(DATA / "localhost.pem", DATA / "localhost.key")
    # Not websockets: its client reads and writes one TLS object on two threads, and once in
    # some hundred times its request is never sent.
    trusting = {"ca_certs": str(DATA / "localhost.pem")}
    with serving(serve={"ssl": server}, on_receive_message=echo) as s:
        assert s.server.url.startswith("wss://")
        assert s.server.http_url.startswith("https://")
        url = s.server.url.replace("127.0.0.1", "localhost")
        peer = websocket_client.create_connection(url, TIMEOUT, sslopt=trusting)
        assert s.came().handshake.secure
        for size in (1, 5_000, 500_000):
            peer.send("x" * size)
            assert peer.recv() == "x" * size
        peer.close()
        ask(s.server, raw_handshake())
        assert s.hub.statistics().handshakes_refused == 1
        assert s.logs.warnings() == []


def test_a_full_server_turns_away_with_503() -> None:
    """``max_connections`` at the same time, and one more when one has gone."""
    with serving(serve={"max_connections": 2}) as s:
        (first, client), _ = s.pairs(2)
        assert status_of(ask(s.server, raw_handshake())) == 503
        assert s.server.statistics().connections == 2
        assert s.server.statistics().refused == 1
        context = client.context
        first.close()
        assert context.wait(TIMEOUT)
        while s.server.statistics().connections == 2:
            fence(s.hub)
        s.pair()


def test_a_server_that_closes_keeps_its_clients() -> None:
    """It accepts no more; who came through it stays; the hub can open another."""
    with serving() as s:
        peer, client = s.pair()
        with s.hub.serve() as second:
            assert len(s.hub.servers()) == 2
            with RawPeer(connect(second)) as other:
                s.came()
                s.hub.broadcast("to all")
                assert other.message() == peer.message() == "to all"
        s.server.close()
        s.server.close()
        assert s.hub.servers() == []
        with pytest.raises(ConnectionRefusedError):
            connect(s.server)
        client.write("still here")
        assert peer.message() == "still here"


def test_statistics_and_repr() -> None:
    """Connections now, accepted and refused so far."""
    with serving() as s:
        s.pairs(2)
        ask(s.server, get("/"))
        host, port = s.server.address[0], s.server.address[1]
        statistics = s.server.statistics()
        assert statistics.address == f"{host}:{port}"
        assert (statistics.accepted, statistics.refused) == (3, 0)
        assert statistics.connections in (2, 3)  # the third may be on its way out
        assert repr(s.server).startswith(f"<Server ws://127.0.0.1:{port}/ ")
        assert s.server.http_url == f"http://127.0.0.1:{port}/"


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("port", {"port": -1}),
        ("port", {"port": 65536}),
        ("port", {"port": "80"}),
        ("port", {"port": True}),
        ("port", {"port": 8000.0}),
        ("max_connections", {"max_connections": 0}),
        ("backlog", {"backlog": 0}),
        ("path", {"path": "ws"}),
        ("path", {"path": 1}),
        ("pages", {"pages": ["/"]}),
        ("path", {"pages": {"x": lambda request: Response.text(200, "")}}),
        ("pages", {"pages": {"/": "text"}}),
        ("ssl", {"ssl": True}),
    ],
)
def test_wrong_arguments_name_the_field(field: str, arguments: dict[str, Any]) -> None:
    """Before anything is opened, in one line."""
    hub = Hub(HubSetting[Any, Any](dict, websocket_period=WebsocketPeriod()))
    with pytest.raises(SettingError) as caught:
        hub.serve(**arguments)
    assert caught.value.field == field
    assert "\n" not in str(caught.value)
    assert hub.servers() == []
    hub.close()
