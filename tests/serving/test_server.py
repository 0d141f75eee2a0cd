"""Servers: sockets, pages, TLS, statistics."""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import os
import shutil
import socket
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest
import websocket as websocket_client
from websockets.sync.client import connect as websocket
from websockets.sync.client import unix_connect

from hubthread import HandshakeRejected, Limits, Request, Response, Server, Upgrader
from tests.support import (
    TIMEOUT,
    RawPeer,
    ask,
    connect,
    peers,
    raw_handshake,
    read_to_end,
    serving,
    status_of,
)

DATA = Path(__file__).parents[1] / "data"


def echo(ctx: Any, meta: Any) -> bool:
    ctx.write(ctx.payload)
    return False


def get(path: str, method: str = "GET", host: str = "localhost") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()


TRUSTING = ssl.create_default_context(cafile=str(DATA / "localhost.pem"))
ONE_EACH = Limits(connections_per_address=1, shared_addresses=())


def serving_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(DATA / "localhost.pem", DATA / "localhost.key")
    return context


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
        (line,) = s.logs.warnings()
        assert line.startswith("This port speaks TLS, and this looks like plain HTTP.")


def test_server_full_refuses_with_503() -> None:
    """One line for all of them.  It accepts the next client when one has gone."""
    with serving(serve={"max_connections": 2}) as s:
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
        while s.server.statistics().connections == 2:
            s.hub.exec_sync(lambda _: None)
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


def get_over_tls(server: Server, path: str) -> http.client.HTTPResponse:
    peer = http.client.HTTPSConnection(
        "localhost", int(server.address[1]), timeout=TIMEOUT, context=TRUSTING
    )
    peer.request("GET", path)
    return peer.getresponse()


@pytest.mark.parametrize(
    ("limits", "most", "status"), [(Limits(), 1, 503), (ONE_EACH, 100, 429)], ids=["503", "429"]
)
def test_server_with_tls_refuses_after_the_tls_handshake(
    limits: Limits, most: int, status: int
) -> None:
    """A client reads the status, and not that the TLS version is wrong."""
    with serving(serve={"ssl": serving_tls(), "max_connections": most}, limits=limits) as s:
        url = s.server.url.replace("127.0.0.1", "localhost")
        peer = websocket_client.create_connection(
            url, TIMEOUT, sslopt={"ca_certs": str(DATA / "localhost.pem")}
        )
        answer = get_over_tls(s.server, "/")
        assert answer.status == status
        assert answer.getheader("Retry-After") == "1"
        assert s.server.statistics().refused == 1
        peer.close()


@pytest.mark.parametrize("tls", [False, True])
def test_server_full_still_answers_its_pages(tls: bool) -> None:
    """A health check can tell a full server from a stuck one."""
    pages = {"/health": lambda request: Response.json({"fine": True})}
    serve: dict[str, Any] = {"max_connections": 1, "pages": pages}
    serve["ssl"] = serving_tls() if tls else None
    with serving(serve=serve) as s, connect(s.server):
        if tls:
            answer = get_over_tls(s.server, "/health")
            assert (answer.status, answer.read()) == (200, b'{"fine": true}')
        else:
            assert status_of(ask(s.server, get("/health"))) == 200
            assert status_of(ask(s.server, raw_handshake())) == 503


def test_server_full_refuses_at_once_when_its_reserve_is_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without waiting for a request.  Over TLS it can only close."""
    monkeypatch.setattr("hubthread.serving.server.RESERVE", 2)
    for tls in (None, serving_tls()):
        serve = {"max_connections": 1, "ssl": tls}
        with serving(serve=serve) as s, contextlib.ExitStack() as stack:
            for _ in range(3):
                stack.enter_context(connect(s.server))
            answer = read_to_end(stack.enter_context(connect(s.server)))
            assert answer == b"" if tls else status_of(answer) == 503
            assert s.server.statistics().refused == 1


V1 = b"PROXY TCP4 203.0.113.7 192.0.2.1 40000 443\r\n"
V2 = (
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"
    b"\xcb\x00\x71\x07\xc0\x00\x02\x01" + (40000).to_bytes(2, "big") + b"\x01\xbb"
)


@pytest.mark.parametrize("header", [V1, V2])
@pytest.mark.parametrize("tls", [False, True])
def test_server_takes_the_peer_from_the_header_of_a_named_proxy(header: bytes, tls: bool) -> None:
    """The header may come in pieces, and comes before TLS."""
    serve = {"proxy_protocol": ["127.0.0.0/8"], "ssl": serving_tls() if tls else None}
    with serving(serve=serve) as s:
        sock = connect(s.server)
        sock.sendall(header[:9])
        sock.sendall(header[9:])
        if tls:
            sock = TRUSTING.wrap_socket(sock, server_hostname="localhost")
        with RawPeer(sock):
            assert s.came().handshake.peer == ("203.0.113.7", 40000)


def test_server_limits_the_address_that_a_proxy_tells() -> None:
    with serving(serve={"proxy_protocol": ["127.0.0.1"]}, limits=ONE_EACH) as s:
        sock = connect(s.server)
        sock.sendall(V1)
        with RawPeer(sock):
            s.came()
            assert status_of(ask(s.server, V1 + raw_handshake())) == 429
            local = b"PROXY UNKNOWN\r\n"  # the proxy speaks for itself
            assert status_of(ask(s.server, local + get("/"))) == 426
        assert s.logs.wait("connections of 203.0.113.7, the limit")


def test_server_refuses_a_named_proxy_without_a_header_and_others_with_one() -> None:
    with serving(serve={"proxy_protocol": ["127.0.0.1"]}) as s:
        assert status_of(ask(s.server, raw_handshake())) == 400
        assert s.logs.wait("A PROXY header must come first from '127.0.0.1'")
        second = s.hub.serve(proxy_protocol=["192.0.2.1"])
        assert status_of(ask(second, V1 + raw_handshake())) == 400
        assert s.logs.wait("proxy_protocol does not name this address")
        tls = s.hub.serve(ssl=serving_tls())
        assert ask(tls, V2 + raw_handshake()) == b""


@pytest.mark.parametrize("serve", [{}, {"ssl": True}, {"proxy_protocol": ["127.0.0.1"]}])
def test_server_ignores_a_peer_that_leaves_without_a_byte(serve: dict[str, Any]) -> None:
    """As the health checks of load balancers do, with FIN or RST."""
    refused: list[object] = []
    upgrader = Upgrader(error=lambda *args: refused.append(args))
    if "ssl" in serve:
        serve = {"ssl": serving_tls()}
    with serving(serve=serve, upgrader=upgrader) as s:
        connect(s.server).close()
        peers.reset(connect(s.server))
        s.hub.close()  # waits for both
        assert refused == []
        assert s.hub.statistics().handshakes_refused == 0


@pytest.mark.parametrize("request_line", [raw_handshake, lambda host: get("/", host=host)])
def test_server_on_loopback_refuses_a_foreign_host(request_line: Any) -> None:
    """DNS rebinding: Host and Origin agree, and both are the attacker's."""
    serve = {"path": "/ws", "pages": {"/": lambda request: Response.html("")}}
    with serving(serve=serve) as s:
        answer = ask(s.server, request_line(host="evil.example:8000"))
        assert status_of(answer) == 403
        assert s.logs.wait("refused a request for host 'evil.example:8000'")


@pytest.mark.parametrize(
    ("allowed", "serve", "host", "status"),
    [
        (["example.org"], {}, "example.org", 426),
        (["example.org"], {"host": "0.0.0.0"}, "other.example", 403),
        (None, {"host": "0.0.0.0"}, "other.example", 426),
        (None, {"proxy_protocol": ["192.0.2.1"]}, "other.example", 426),
        ("any", {}, "other.example", 426),
        (None, {}, "127.0.0.1:80", 426),
    ],
)
def test_server_allows_the_hosts_that_are_named(
    allowed: Any, serve: dict[str, Any], host: str, status: int
) -> None:
    with serving(serve=serve, upgrader=Upgrader(allowed_hosts=allowed)) as s:
        sock = socket.create_connection(("127.0.0.1", int(s.server.address[1])))
        with sock:
            sock.sendall(get("/", host=host))
            assert status_of(read_to_end(sock)) == status


def test_server_tells_a_hook_the_certificate_of_the_client() -> None:
    context = serving_tls()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(DATA / "localhost.pem")
    with serving(serve={"ssl": context}) as s:
        files = {"certfile": DATA / "localhost.pem", "keyfile": DATA / "localhost.key"}
        options = {"ca_certs": str(DATA / "localhost.pem")}
        url = s.server.url.replace("127.0.0.1", "localhost")
        peer = websocket_client.create_connection(url, TIMEOUT, sslopt={**options, **files})
        certificate = s.came().handshake.client_certificate
        assert certificate is not None
        assert "subject" in certificate
        peer.close()


def test_server_lets_hooks_choose_the_subprotocol_and_add_headers() -> None:
    def headers(request: Request, meta: Any) -> Any:
        return [("Set-Cookie", f"seat={meta['seat']}")]

    upgrader = Upgrader(subprotocols=lambda request: request.subprotocols[0], headers=headers)
    offer: Any = ["token.abc"]
    with (
        serving(upgrader=upgrader, on_handshake=lambda request: {"seat": 7}) as s,
        websocket(s.server.url, subprotocols=offer) as peer,
    ):
        assert peer.subprotocol == s.came().subprotocol == "token.abc"
        assert peer.response is not None
        assert peer.response.headers["Set-Cookie"] == "seat=7"


@pytest.mark.parametrize(
    "upgrader",
    [
        Upgrader(subprotocols=lambda request: "never offered"),
        Upgrader(headers=lambda request, meta: [("Upgrade", "x")]),
        Upgrader(headers=lambda request, meta: 1 / 0),  # type: ignore[arg-type,return-value]
    ],
)
def test_server_refuses_with_500_where_such_a_hook_fails(upgrader: Upgrader) -> None:
    with serving(upgrader=upgrader) as s:
        answer = ask(s.server, raw_handshake("/", "Sec-WebSocket-Protocol: chat"))
        assert status_of(answer) == 500
        assert s.logs.wait("raised for <WebSocket Request")


def test_server_logs_the_cause_of_handshakes_that_browsers_do_not_tell() -> None:
    with serving() as s:
        with RawPeer(connect(s.server), "/", "Sec-WebSocket-Protocol: a-secret-token"):
            line = s.logs.wait("offers subprotocols, and Upgrader.subprotocols has none of them")
            assert "secret" not in line
        ask(s.server, raw_handshake("/", "Origin: http://page.example"))
        assert s.logs.wait("It asked for host 'localhost'")
        ask(s.server, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        assert s.logs.wait("This port speaks plain HTTP, and this looks like TLS.")


def test_server_answers_with_a_date() -> None:
    with serving() as s:
        peer = http.client.HTTPConnection("127.0.0.1", int(s.server.address[1]), TIMEOUT)
        peer.request("GET", "/")
        answer = peer.getresponse()
        assert answer.status == 426
        assert email.utils.parsedate(answer.getheader("Date")) is not None
        peer.close()


@pytest.mark.parametrize("code", [3000, 4321])
def test_server_does_not_warn_of_codes_of_the_application(code: int) -> None:
    with serving() as s:
        peer, client = s.pair()
        client.close(code)
        assert peer.closed()[0] == code
        peer, _ = s.pair()
        peer.send_close(code)
        assert peer.closed()[0] == code
        s.close_peers()
        s.hub.close()
        assert s.logs.warnings() == []


@pytest.mark.parametrize("tls", [False, True])
def test_server_takes_the_proxy_header_of_curl(tls: bool) -> None:
    """Its connection to the server, on the way as HAProxy sends it (version 1)."""
    curl = shutil.which("curl")
    if curl is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no curl on the path")
    seen: list[Any] = []

    def page(request: Request) -> Response:
        seen.append(request.peer)
        return Response.text(200, "seen")

    context = serving_tls() if tls else None
    serve = {"proxy_protocol": ["127.0.0.1"], "pages": {"/": page}, "ssl": context}
    with serving(serve=serve) as s:
        done = subprocess.run(
            [
                *(curl, "-s", "-k", "--haproxy-protocol", "--local-port", "20000-60000"),
                *("-w", " from %{local_port}", s.server.http_url),
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        body, _, port = done.stdout.partition(" from ")
        assert body == "seen"
        assert seen == [("127.0.0.1", int(port))]
