"""Hijacking a WSGI server's connection: the hub has the peer, the server has a decoy."""

from __future__ import annotations

import contextlib
import io
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cheroot.makefile import StreamReader
from cheroot.server import KnownLengthRFile
from django.core.handlers.wsgi import LimitedStream as DjangoStream
from gunicorn.http.body import Body, LengthReader
from gunicorn.http.unreader import SocketUnreader
from werkzeug.middleware.lint import InputStream
from werkzeug.wsgi import LimitedStream

from hubthread.errors import HandshakeRejected
from hubthread.net.wsgi.hijack import (
    CAN_HIJACK,
    Located,
    decoy,
    hijack,
    locate,
    read_buffer,
    refuse_server,
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


def _gunicorn(server: Server) -> dict[str, Any]:
    unreader = SocketUnreader(server.sock)
    unreader.buf.write(b"ahead")
    return {"gunicorn.socket": server.sock, "wsgi.input": Body(LengthReader(unreader, 0))}


def _read_ahead(server: Server) -> Any:
    server.peer.sendall(b"head ahead")
    assert server.buffer.read(5) == b"head "
    return server.buffer


class Slotted:
    """A wrapper of a middleware."""

    __slots__ = ("_input",)

    def __init__(self, source: Any) -> None:
        self._input = source


WRAPPERS: dict[str, Callable[[Any], Any]] = {
    "nothing": lambda source: source,
    "body of cheroot": lambda source: KnownLengthRFile(source, 0),
    "runserver of Django": lambda source: DjangoStream(source, 0),
    "Lint of werkzeug": InputStream,
    "limit of werkzeug": lambda source: LimitedStream(source, 0),
    "two middlewares": lambda source: Slotted(InputStream(source)),
}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS.keys())
@pytest.mark.parametrize("names_socket", [True, False])
def test_locate_finds_the_socket_and_the_buffer_in_each_wrapper(
    wrap: Callable[[Any], Any], names_socket: bool, server: Server
) -> None:
    environ = {"wsgi.input": wrap(_read_ahead(server))}
    if names_socket:
        environ["werkzeug.socket"] = server.sock
    refuse_server(environ)
    located = locate(environ)
    assert located.sock is server.sock
    assert read_buffer(located) == b"ahead"


def test_locate_finds_the_buffer_of_cheroot(server: Server) -> None:
    """Its streams are in Python, of other classes than those of ``io``."""
    server.peer.sendall(b"head ahead")
    reader: Any = StreamReader
    with contextlib.closing(reader(server.sock)) as stream:
        stream.read(5)
        assert read_buffer(locate({"wsgi.input": KnownLengthRFile(stream, 0)})) == b"ahead"


def test_locate_finds_the_buffer_of_gunicorn(server: Server) -> None:
    environ = _gunicorn(server)
    for wrap in (WRAPPERS["nothing"], WRAPPERS["Lint of werkzeug"]):
        located = locate(environ | {"wsgi.input": wrap(environ["wsgi.input"])})
        assert located.sock is server.sock
    assert read_buffer(located) == b"ahead"


@pytest.mark.parametrize("name", ["werkzeug.socket", "gunicorn.socket"])
def test_locate_of_a_replaced_input_takes_the_named_socket_alone(
    name: str, server: Server
) -> None:
    """A buffer of another connection is not taken for the server's."""
    other = Server()
    for replaced in (io.BytesIO(b"body"), object(), other.buffer):
        located = locate({name: server.sock, "wsgi.input": replaced})
        assert located.sock is server.sock
        assert read_buffer(located) == b""
    other.close()


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({}, "This WSGI server does not let go of a connection"),
        ({"SERVER_SOFTWARE": "Waitress", "wsgi.input": io.BytesIO()}, "Waitress does not let go"),
        ({"wsgi.input": io.BytesIO()}, "or a middleware has replaced wsgi.input"),
    ],
    ids=["unknown", "named", "replaced input"],
)
def test_locate_without_socket_is_refused_with_501(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(HandshakeRejected, match=why) as caught:
        locate(fields)
    assert caught.value.status == 501


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"eventlet.input": object()}, "runs its workers as greenlets"),
        ({"werkzeug.socket": 1, "wsgi.multiprocess": True}, "forks a process for each request"),
    ],
)
def test_refuse_server_answers_501(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(HandshakeRejected, match=why) as caught:
        refuse_server(fields)
    assert caught.value.status == 501
