"""Endpoints and addresses, of both kinds of servers."""

from __future__ import annotations

import errno
import inspect
import os
import socket
import ssl
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect as websocket

from hubthread import (
    ConnectionProtocols,
    Hub,
    HubSetting,
    Request,
    Response,
    SettingError,
)
from tests.support import TIMEOUT, RawPeer, connect, serving


def page(request: Request) -> Response:
    return Response.text(200, "")


async def async_page(request: Request) -> Response:
    return Response.text(200, "")


class PathOfBytes:
    def __fspath__(self) -> bytes:
        return b"sock"


BOUND = socket.create_server(("127.0.0.1", 0))


def echo(ctx: Any, meta: Any) -> bool:
    ctx.write(ctx.payload)
    return False


def name_two_addresses(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Let the name ``both`` have these addresses."""
    look_up = socket.getaddrinfo

    def found(host: Any, *args: Any, **kwargs: Any) -> list[Any]:
        hosts = addresses if host == "both" else (host,)
        return [each for host in hosts for each in look_up(host, *args, **kwargs)]

    monkeypatch.setattr(socket, "getaddrinfo", found)


def test_listening_at_an_unusable_place_names_it(tmp_path: Path) -> None:
    """Port in use, no such address, no such folder."""
    with serving() as s:
        port = int(s.server.address[1])
        with pytest.raises(OSError, match=f"127.0.0.1:{port}") as caught:
            s.hub.serve(port=port)
        assert caught.value.errno == errno.EADDRINUSE
        with pytest.raises(OSError, match=r"192\.0\.2\.1:0"):
            s.hub.serve("192.0.2.1")
        with pytest.raises(OSError, match="nowhere"):
            s.hub.serve(unix_path=str(tmp_path / "nowhere" / "sock"))
        assert len(s.hub.servers()) == 1


def closed_socket() -> socket.socket:
    sock = socket.socket()
    sock.close()
    return sock


CLIENT_SIDE = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
BAD_HOSTS: list[Any] = ["", "a\0b", "[::1]", "127.0.0.1:8000", None, 1, b"localhost"]
BAD_PORTS: list[Any] = [-1, 65536, "80", True, 8000.0, None]
BAD_COUNTS: list[Any] = [0, -1, 1.0, "1", None, True]
BAD_TLS: list[Any] = [True, "cert.pem", CLIENT_SIDE]

BAD_PROXIES: list[Any] = [None, 1, "10.0.0.5", ["localhost"], [1], ["10.0.0.5/8"], b"unix"]

BAD_VALUES: dict[str, dict[str, list[Any]]] = {
    "serve": {
        "host": BAD_HOSTS,
        "port": BAD_PORTS,
        "ssl": BAD_TLS,
        "unix_path": ["", "\0", "a\0b", b"sock", 1, PathOfBytes(), "\udcff\ud800", 0],
        "unix_mode": [-1, 0o1000, "660", True, 0o660],
        "sock": [
            *[1, "sock", socket.socket(), socket.socket(type=socket.SOCK_DGRAM)],
            *[closed_socket(), socket.create_connection(BOUND.getsockname())],
        ],
        "reuse_port": [None, 1, "yes"],
        "proxy_protocol": BAD_PROXIES,
        "path": ["ws", "", 1, b"/ws"],
        "pages": [["/"], {"/": "text"}, {1: page}, {"x": page}, {"/": async_page}, 0],
        "client": [1, b"/hubthread.js", "hubthread.js", "", 0],
        "max_connections": BAD_COUNTS,
        "backlog": [*BAD_COUNTS, 2**31],
    },
    "socket_handles": {
        "addr": BAD_HOSTS,
        "port": BAD_PORTS,
        "protocol": ["sctp", 1, None],
        "ssl": BAD_TLS,
        "max_peers": BAD_COUNTS,
        "backlog": [*BAD_COUNTS, 2**31],
        "reuse_port": [None, 1, "yes"],
        "proxy_protocol": BAD_PROXIES,
    },
}
GOOD: dict[str, dict[str, Any]] = {
    "serve": {},
    "socket_handles": {"addr": "127.0.0.1", "port": 0, "protocol": "tcp"},
}


@pytest.fixture
def unopened(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub[Any, Any]]:
    """A hub whose servers must open nothing."""

    def refuse(*args: object, **kwargs: object) -> None:
        pytest.fail("something was opened before all arguments were checked")

    for name in ("listening.open_tcp", "listening.open_unix", "listening.take_sock"):
        monkeypatch.setattr(f"hubthread.serving.{name}", refuse)
    monkeypatch.setattr("hubthread.serving.raw_server.open_udp", refuse)
    hub = Hub(HubSetting[Any, Any](dict))
    threads = threading.enumerate()
    yield hub
    assert threading.enumerate() == threads
    assert hub.servers() == []
    hub.close()


@pytest.mark.parametrize("method", BAD_VALUES)
def test_bad_values_are_listed_for_each_parameter(method: str) -> None:
    parameters = [*inspect.signature(getattr(Hub, method)).parameters][1:]
    assert [*BAD_VALUES[method]] == parameters


@pytest.mark.parametrize(
    ("method", "name", "value"),
    [
        (method, name, value)
        for method, names in BAD_VALUES.items()
        for name, values in names.items()
        for value in values
    ],
)
def test_listening_with_a_wrong_argument_names_it_and_opens_nothing(
    unopened: Hub[Any, Any], method: str, name: str, value: Any
) -> None:
    with pytest.raises(SettingError) as caught:
        getattr(unopened, method)(**{**GOOD[method], name: value})
    if not (name == "pages" and isinstance(value, dict)):  # a key of pages is a path
        assert caught.value.field == name
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("sock", {"port": 80, "sock": BOUND}),
        ("sock", {"unix_path": "sock", "sock": BOUND}),
        ("unix_path", {"unix_path": "sock", "port": 80}),
        ("reuse_port", {"unix_path": "sock", "reuse_port": True}),
        ("reuse_port", {"sock": BOUND, "reuse_port": True}),
        ("unix_mode", {"unix_path": "\0sock", "unix_mode": 0o600}),
    ],
)
def test_listening_with_arguments_that_exclude_each_other_names_one(
    unopened: Hub[Any, Any], field: str, arguments: dict[str, Any]
) -> None:
    with pytest.raises(SettingError) as caught:
        unopened.serve(**arguments)
    assert caught.value.field == field


def test_listening_at_a_name_with_two_addresses_serves_both_on_one_port(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name_two_addresses(monkeypatch, "127.0.0.1", "::1")
    with serving(serve={"host": "both"}, on_receive_message=echo) as s:
        port = s.server.address[1]
        for host in ("127.0.0.1", "[::1]"):
            with websocket(f"ws://{host}:{port}/") as peer:
                peer.send("hi")
                assert peer.recv(TIMEOUT) == "hi"
        assert s.server.statistics().address == f"127.0.0.1:{port}, [::1]:{port}"
        assert s.logs.wait(f"listens on ws://127.0.0.1:{port}/, [::1]:{port}")


def test_listening_over_udp_at_a_name_with_two_addresses_answers_from_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name_two_addresses(monkeypatch, "127.0.0.1", "127.0.0.2")
    with serving(on_receive_message=echo) as s:
        server = s.hub.socket_handles("both", 0, ConnectionProtocols.UDP)
        with socket.socket(type=socket.SOCK_DGRAM) as peer:
            peer.settimeout(TIMEOUT)
            for host in ("127.0.0.1", "127.0.0.2"):
                peer.sendto(b"hello", (host, server.address[1]))
                assert peer.recvfrom(100) == (b"hello", (host, server.address[1]))
        assert len({s.came().connection_id, s.came().connection_id}) == 2


def test_listening_at_a_name_with_an_address_of_another_machine_warns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name_two_addresses(monkeypatch, "127.0.0.1", "192.0.2.1")
    with serving(serve={"host": "both"}) as s:
        connect(s.server).close()
        assert s.logs.wait("does not listen on 192.0.2.1: this machine does not have")


def test_listening_at_all_addresses_shows_ipv4_peers_as_ipv4() -> None:
    with serving(serve={"host": "::"}) as s:
        peer = socket.create_connection(("127.0.0.1", int(s.server.address[1])))
        with RawPeer(peer):
            assert s.came().handshake.peer == peer.getsockname()


def test_listening_on_a_socket_of_the_program_closes_it_at_the_end(tmp_path: Path) -> None:
    """The file of a Unix socket stays: its maker may use it again."""
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(tmp_path / "sock"))
    with serving(serve={"sock": sock}) as s:
        s.pair()
    assert sock.fileno() == -1
    assert (tmp_path / "sock").exists()


def test_listening_with_reuse_port_lets_two_servers_share_a_port() -> None:
    with serving(serve={"reuse_port": True}) as s:
        s.hub.serve(port=int(s.server.address[1]), reuse_port=True).close()
        s.pair()


@pytest.mark.parametrize("kind", [str, Path])
def test_listening_at_a_unix_path_sets_its_mode(tmp_path: Path, kind: Any) -> None:
    path = tmp_path / "sock"
    with serving(serve={"unix_path": kind(path), "unix_mode": 0o600}) as s:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert s.server.address == str(path)
        s.pair()
    assert not path.exists()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has them")
def test_listening_at_an_abstract_name_serves_it() -> None:
    name = f"\0hubthread-{os.getpid()}"
    with serving(serve={"unix_path": name}) as s:
        assert s.server.address == name
        assert s.server.url == f"ws://unix:@{name[1:]}/"
        s.pair()
