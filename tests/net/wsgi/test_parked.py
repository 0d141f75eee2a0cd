"""A WSGI server's TLS socket that is used in place, with a real TLS client at the other end."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator
from time import monotonic

import pytest

from hubthread.net.steps import run_steps
from hubthread.net.transport import send_steps
from hubthread.net.wsgi.hijack import Located
from hubthread.net.wsgi.parked import ParkedTLS, open_parked
from tests.support import TIMEOUT, client_context, in_thread, server_context, work


class Pair:
    """A WSGI server's socket, its transport, and the client's socket.

    :param early: called with the client's socket before the server's socket is used.
    """

    def __init__(self, early: Callable[[ssl.SSLSocket], object] = bool) -> None:
        near, far = socket.socketpair()
        near.settimeout(TIMEOUT)
        far.settimeout(TIMEOUT)
        shaken = in_thread(lambda: server_context().wrap_socket(near, server_side=True))
        self.client = client_context().wrap_socket(far, server_hostname="localhost")
        self.server = shaken()
        early(self.client)
        transport, self.trailing = open_parked(Located(self.server, lambda: self.server.recv(100)))
        assert isinstance(transport, ParkedTLS)
        self.transport = transport

    def close(self) -> None:
        self.server.close()
        self.client.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    pair.close()


def test_parked_carries_bytes_both_ways(pair: Pair) -> None:
    pair.client.sendall(b"hello")
    assert pair.transport.recv() == b"hello"
    assert pair.transport.send(b"hello yourself") == 14
    assert pair.client.recv(100) == b"hello yourself"
    assert pair.transport.unsent == 0


def test_parked_deadline_passes(pair: Pair) -> None:
    pair.transport.set_deadline(0.01)
    with pytest.raises(TimeoutError):
        pair.transport.recv()
    pair.transport.set_deadline(None)
    pair.client.sendall(b"late")
    assert pair.transport.recv() == b"late"


def test_parked_busy_reader_yields(pauses: list[None], pair: Pair) -> None:
    for count in range(3):
        pauses.clear()
        pair.client.sendall(b"much to do")
        assert pair.transport.recv() == b"much to do"
        assert not count or pauses == [None]
        work(0.002)


def test_parked_send_beyond_room_arrives_whole(pair: Pair) -> None:
    data = bytes(range(256)) * 8192
    taken = pair.transport.send(data)
    assert 0 < taken < len(data)
    assert pair.transport.unsent > 0
    assert pair.transport.send(b"not now") == 0
    assert not pair.transport.wait_writable(0.01)

    def read() -> bytes:
        parts = bytearray()
        while len(parts) < len(data):
            parts += pair.client.recv(65536)
        return bytes(parts)

    received = in_thread(read)
    assert run_steps(send_steps(pair.transport, data[taken:], monotonic() + TIMEOUT))
    assert received() == data


def test_parked_finish_follows_the_last_byte(pair: Pair) -> None:
    data = b"x" * 1_000_000
    taken = pair.transport.send(data)
    pair.transport.finish()

    def read() -> int:
        count = 0
        while part := pair.client.recv(65536):  # b"" is a close_notify; any other end raises
            count += len(part)
        return count

    received = in_thread(read)
    assert run_steps(send_steps(pair.transport, b"", monotonic() + TIMEOUT))
    assert received() == taken
    pair.client.close()
    while pair.transport.recv():  # undecrypted, since TLS has ended
        pass


def test_parked_shutdown_wakes_the_reader(pair: Pair) -> None:
    ended = in_thread(pair.transport.recv)
    pair.transport.shutdown()
    assert ended() == b""


def test_parked_close_gives_the_socket_back_shut_down(pair: Pair) -> None:
    pair.transport.close()
    assert pair.server.gettimeout() == TIMEOUT
    assert pair.server.recv(100) == b""
    pair.transport.shutdown()
    with pytest.raises(BrokenPipeError):
        pair.server.sendall(b"anybody there?")


def test_open_parked_returns_bytes_read_by_the_server() -> None:
    near, far = socket.socketpair()
    with near, far, near.makefile("rb") as file:
        far.sendall(b"head" + b"frames")
        assert file.read(4) == b"head"
        transport, trailing = open_parked(Located(near, file.read1))
        assert trailing == b"frames"
        far.sendall(b"more")
        assert transport.recv() == b"more"
        transport.close()


def test_open_parked_reads_a_flooding_peer_once() -> None:
    sent = bytearray()

    def flood(client: ssl.SSLSocket) -> None:
        client.settimeout(0.0)
        with contextlib.suppress(ssl.SSLWantWriteError):
            while True:
                sent.extend(bytes(client.send(bytes(range(250)))))

    with contextlib.closing(Pair(flood)) as pair:
        assert len(sent) > 10_000
        assert len(pair.trailing) <= 100


def test_open_parked_after_the_peer_left_reads_the_end() -> None:
    near, far = socket.socketpair()
    with near, near.makefile("rb") as file:
        near.sendall(b"never read")
        far.close()
        transport, trailing = open_parked(Located(near, file.read1))
        assert trailing == b""
        assert transport.recv() == b""
        transport.close()
