"""Servers: sockets, pages, TLS, statistics."""

from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest
import websocket as websocket_client
from websockets.sync.client import connect as websocket
from websockets.sync.client import unix_connect

from hubthread import (
    HandshakeRejected,
    Request,
    Response,
)
from tests.support import TIMEOUT, RawPeer, ask, connect, raw_handshake, serving, status_of

DATA = Path(__file__).parents[1] / "data"


def echo(ctx: Any, meta: Any) -> bool:
    ctx.write(ctx.payload)
    return False


def get(path: str, method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def test_server_serves_pages_and_the_websocket_on_one_port() -> None:
    """HEAD without a body, 404 elsewhere."""

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
        for path, logged in (("/trip", "the secret"), ("/nothing", "expected a Response")):
            answer = ask(s.server, get(path))
            assert status_of(answer) == 500
            assert b"secret" not in answer
            assert s.logs.wait(logged)
        with websocket(s.server.url):
            assert s.came().handshake.path == "/ws"


def test_server_on_a_unix_socket_replaces_a_dead_one_and_removes_it(tmp_path: Path) -> None:
    path = str(tmp_path / "sock")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    with serving(serve={"unix_path": path}, on_receive_message=echo) as s:
        assert s.server.address == path
        assert repr(s.server) == f"<Server ws://unix:{path}/ 0 connections>"
        with unix_connect(path) as peer:
            peer.send("hi")
            assert peer.recv(TIMEOUT) == "hi"
            assert s.came().handshake.peer == path
    assert not Path(path).exists()


def test_server_on_ipv6_has_brackets_in_its_url() -> None:
    with serving(serve={"host": "::1"}, on_receive_message=echo) as s:
        assert s.server.url.startswith("ws://[::1]:")
        with websocket(s.server.url) as peer:
            peer.send("hi")
            assert peer.recv(TIMEOUT) == "hi"


def test_server_with_tls_refuses_plain_http() -> None:
    """Large messages go both ways."""
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


def test_server_full_refuses_with_503() -> None:
    """One line for all of them.  It accepts the next client when one has gone."""
    readers: list[threading.Thread] = []

    def start(ctx: Any, meta: Any) -> None:
        readers.append(threading.current_thread())

    with serving(serve={"max_connections": 2}, on_connection_start=start) as s:
        (first, _), _ = s.pairs(2)
        for _ in range(5):
            answer = ask(s.server, raw_handshake())
            head, _, body = answer.partition(b"\r\n\r\n")
            assert status_of(answer) == 503
            assert b"Content-Length: %d" % len(body) in head
        assert s.server.statistics().connections == 2
        assert s.server.statistics().refused == 5
        assert s.hub.statistics().limits_struck["connections"] == 5
        (line,) = s.logs.warnings()
        assert line.startswith("2 connections, the limit of ")
        first.close()
        readers[0].join(TIMEOUT)
        s.pair()


def test_server_closed_keeps_its_clients() -> None:
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


def test_server_statistics_and_repr_count_connections() -> None:
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
