"""The sockets that a server listens on: stale files are replaced, errors name the address."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hubthread.net.bind import open_tcp, open_udp, open_unix
from tests.support import TIMEOUT


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "hub.sock")


def test_open_tcp_on_port_zero_listens_on_a_free_port() -> None:
    with closing(open_tcp("127.0.0.1", 0, 10)) as bound:
        socket.create_connection(bound.socks[0].getsockname(), TIMEOUT).close()


def test_open_udp_on_port_zero_receives_on_a_free_port() -> None:
    with (
        closing(open_udp("127.0.0.1", 0)) as bound,
        socket.socket(type=socket.SOCK_DGRAM) as peer,
    ):
        (sock,) = bound.socks
        sock.settimeout(TIMEOUT)
        peer.sendto(b"hello", sock.getsockname())
        assert sock.recv(100) == b"hello"


def test_open_unix_replaces_the_file_of_a_dead_server(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    with closing(open_unix(path, 10)), socket.socket(socket.AF_UNIX) as peer:
        peer.connect(path)


@pytest.mark.parametrize("backlog", [10, 0], ids=["accepting", "full"])
def test_open_unix_refuses_the_path_of_a_living_server(path: str, backlog: int) -> None:
    """A server whose backlog is full lives too, and its file stays."""
    with socket.socket(socket.AF_UNIX) as living, socket.socket(socket.AF_UNIX) as waiting:
        living.bind(path)
        living.listen(backlog)
        waiting.connect(path)
        with pytest.raises(OSError, match=r"cannot listen on .*hub\.sock: ") as caught:
            open_unix(path, 10)
        assert caught.value.errno == errno.EADDRINUSE
        assert os.path.exists(path)


def test_open_unix_keeps_a_file_that_is_not_a_socket(path: str) -> None:
    Path(path).write_text("precious")
    with pytest.raises(OSError, match=r"hub\.sock"):
        open_unix(path, 10)
    assert Path(path).read_text() == "precious"


@pytest.mark.parametrize(
    ("opened", "text"),
    [
        (lambda: open_tcp("no such host", 1, 10), "no such host:1: ."),
        (lambda: open_tcp(".", 1, 10), r"\.:1: this is not a valid host name"),
        (lambda: open_tcp("192.0.2.1", 0, 10), r"192\.0\.2\.1:0: ."),
        (lambda: open_udp("192.0.2.1", 0), r"192\.0\.2\.1:0: ."),
        (lambda: open_unix("/" + "x" * 200, 10), "/x+: (?!None)"),
    ],
    ids=["unknown host", "no host", "foreign address", "foreign UDP address", "overlong path"],
)
def test_open_error_names_the_address(opened: Callable[[], object], text: str) -> None:
    with pytest.raises(OSError, match=f"^.*cannot listen on {text}"):
        opened()


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_open_error_of_a_taken_port_keeps_the_number(kind: int) -> None:
    with socket.socket(type=kind) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        if kind == socket.SOCK_STREAM:
            taken.listen(1)
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}: ") as caught:
            open_tcp("127.0.0.1", port, 10) if kind == socket.SOCK_STREAM else open_udp(
                "127.0.0.1", port
            )
    assert caught.value.errno == errno.EADDRINUSE


def test_open_tcp_at_two_addresses_takes_a_port_that_is_free_at_both(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The port that is free at the first address is taken at the second, at first."""
    look_up = socket.getaddrinfo
    taken = [socket.create_server(("127.0.0.2", 0))]
    first = iter([taken[0].getsockname()[1]])

    def found(host: str, port: int, **kwargs: object) -> list[object]:
        return [*look_up("127.0.0.1", port), *look_up("127.0.0.2", port)]

    class Chosen(socket.socket):
        def bind(self, address: Any) -> None:
            host, port = address
            super().bind((host, port or next(first, 0)))

    monkeypatch.setattr(socket, "getaddrinfo", found)
    monkeypatch.setattr(socket, "socket", Chosen)
    with taken[0], closing(open_tcp("both", 0, 10)) as bound:
        (one, port), (two, same) = (sock.getsockname() for sock in bound.socks)
        assert (one, two) == ("127.0.0.1", "127.0.0.2")
        assert port == same != taken[0].getsockname()[1]
