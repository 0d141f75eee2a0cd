"""Hijacking a WSGI server's connection: the hub has the peer, the server has a decoy."""

from __future__ import annotations

import io
import os
import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from hubthread.errors import HandshakeRejected
from hubthread.net.wsgi.hijack import (
    CAN_HIJACK,
    Located,
    decoy,
    hijack,
    locate,
    read_buffer,
    refuse_greenlets,
)
from tests.support import TIMEOUT

needs_dup2 = pytest.mark.skipif(not CAN_HIJACK, reason="Windows has no dup2 for sockets")


class Server:
    """A WSGI server's socket and its buffer, and the peer at the other end."""

    def __init__(self) -> None:
        self.sock, self.peer = socket.socketpair()
        self.sock.setblocking(False)
        self.peer.settimeout(TIMEOUT)
        self.buffer = io.BufferedReader(socket.SocketIO(self.sock, "r"))
        self.located = Located(self.sock, self.buffer.read1)

    def close(self) -> None:
        self.buffer.close()
        self.sock.close()
        self.peer.close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@needs_dup2
def test_hijack_gives_the_hub_the_peer_and_the_bytes_read_ahead(server: Server) -> None:
    server.peer.sendall(b"head, frames")
    assert server.buffer.read(4) == b"head"
    taken = hijack(server.located)
    with taken.sock:
        assert taken.trailing == b", frames"
        server.peer.sendall(b"more")
        assert taken.sock.recv(100) == b"more"
        taken.sock.sendall(b"answer")
        assert server.peer.recv(100) == b"answer"
    taken.drain.close()


@needs_dup2
def test_hijack_leaves_the_server_a_client_that_hangs_up(server: Server) -> None:
    """The server's answer reaches nobody.  Its shutdown does not end the hub's connection."""
    taken = hijack(server.located)
    with taken.sock:
        assert server.sock.recv(100) == b""
        server.sock.sendall(b"HTTP/1.1 101 of the server\r\n\r\n")
        server.sock.shutdown(socket.SHUT_RDWR)
        taken.sock.sendall(b"of the hub")
        assert server.peer.recv(100) == b"of the hub"
    taken.drain.close()


@needs_dup2
def test_hijacked_give_back_restores_the_server(server: Server) -> None:
    hijack(server.located).give_back()
    server.sock.sendall(b"503")
    assert server.peer.recv(100) == b"503"
    server.peer.sendall(b"next request")
    assert server.sock.recv(100) == b"next request"


@needs_dup2
def test_hijack_without_a_descriptor_leaves_the_server_its_connection(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The failing call is the last one that may fail."""

    def fail() -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(socket, "socketpair", fail)
    before = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else None
    with pytest.raises(OSError, match="Too many"):
        hijack(server.located)
    if before is not None:
        assert len(os.listdir("/proc/self/fd")) == before
    server.sock.sendall(b"503")
    assert server.peer.recv(100) == b"503"


@needs_dup2
def test_drain_close_lets_the_server_see_the_end(server: Server) -> None:
    drain = decoy(server.sock)
    server.sock.sendall(b"taken")
    drain.close()
    with pytest.raises(BrokenPipeError):
        server.sock.sendall(b"nobody is there")


def test_read_buffer_of_an_empty_buffer_is_empty(server: Server) -> None:
    """The socket has nothing either, and must not block."""
    assert read_buffer(server.located) == b""


def _unreader(data: bytes) -> Any:
    return SimpleNamespace(reader=SimpleNamespace(unreader=io.BytesIO(data)))


def _file(sock: socket.socket, data: bytes) -> Any:
    return SimpleNamespace(raw=SimpleNamespace(_sock=sock), read1=io.BytesIO(data).read1)


@pytest.mark.parametrize("kind", ["werkzeug", "gunicorn", "wsgiref", "cheroot"])
def test_locate_finds_the_socket_and_the_buffer_of_each_server(kind: str, server: Server) -> None:
    sock = server.sock
    environ: dict[str, Any] = {
        "werkzeug": {"werkzeug.socket": sock, "wsgi.input": io.BytesIO(b"ahead")},
        "gunicorn": {"gunicorn.socket": sock, "wsgi.input": _unreader(b"ahead")},
        "wsgiref": {"wsgi.input": _file(sock, b"ahead")},
        "cheroot": {"wsgi.input": SimpleNamespace(rfile=_file(sock, b"ahead"))},
    }[kind]
    located = locate(environ)
    assert located.sock is sock
    assert located.read_ahead() == b"ahead"
    refuse_greenlets(environ)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({}, "This WSGI server does not let go of a connection"),
        ({"SERVER_SOFTWARE": "Waitress"}, "Waitress does not let go"),
        (
            {"werkzeug.socket": True, "wsgi.input": object()},
            "A middleware has replaced wsgi.input",
        ),
    ],
    ids=["unknown", "named", "replaced input"],
)
def test_locate_without_socket_or_buffer_is_refused_with_501(
    fields: dict[str, Any], why: str, server: Server
) -> None:
    if fields.get("werkzeug.socket"):
        fields = fields | {"werkzeug.socket": server.sock}
    with pytest.raises(HandshakeRejected, match=why) as caught:
        locate(fields)
    assert caught.value.status == 501


def test_refuse_greenlets_of_eventlet_answers_501() -> None:
    with pytest.raises(HandshakeRejected, match="runs its workers as greenlets") as caught:
        refuse_greenlets({"eventlet.input": object()})
    assert caught.value.status == 501
