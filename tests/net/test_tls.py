"""TLS over memory buffers: both directions at once, short reads, stalls, ends; certificates."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
from collections.abc import Iterator

import pytest

from hubthread.net.outbox import Outbox
from hubthread.net.tls import TLSTransport
from hubthread.net.transport import PeerLeft, PlainTransport
from hubthread.protocol.http import WrongProtocol
from tests.support import (
    TIMEOUT,
    Notes,
    Starter,
    Task,
    client_context,
    fill,
    outbox_bounds,
    read_exactly,
    read_to_end,
    server_context,
    tcp_pair,
    transport_pair,
)


class BareClient:
    """A TLS client whose records a test sends itself, whole or broken."""

    def __init__(self, peer: socket.socket) -> None:
        self.peer = peer
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = client_context().wrap_bio(
            self.incoming, self.outgoing, server_hostname="localhost"
        )

    def handshake(self, piece: int) -> None:
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self.send(piece)
                self.incoming.write(self.peer.recv(piece))
            else:
                self.send(piece)
                return

    def cipher(self, data: bytes) -> bytes:
        self.tls.write(data)
        return self.outgoing.read()

    def send(self, piece: int) -> None:
        data = self.outgoing.read()
        for at in range(0, len(data), piece):
            self.peer.sendall(data[at : at + piece])


@contextlib.contextmanager
def bare_client(piece: int = 10_000) -> Iterator[tuple[TLSTransport, BareClient]]:
    """Return a transport whose handshake is done, and its client.

    :param piece: bytes of the handshake that the client sends and reads at a time.
    """
    with tcp_pair() as (server, plain):
        transport, client = (
            TLSTransport(PlainTransport(server), server_context()),
            BareClient(plain),
        )
        shaken = Task(lambda: transport.handshake(TIMEOUT))
        client.handshake(piece)
        shaken.result()
        transport.set_deadline(TIMEOUT)
        yield transport, client


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_carries_both_directions_at_once(version: ssl.TLSVersion) -> None:
    """Megabytes each way at the same time, through small buffers."""
    size = 3 * 2**20
    down, up = bytes(range(256)) * (size // 256), bytes(range(255, -1, -1)) * (size // 256)
    context = server_context()
    context.minimum_version = context.maximum_version = version
    with tcp_pair(32 * 1024) as (server, plain):
        transport = TLSTransport(PlainTransport(server), context)
        shaken = Task(lambda: transport.handshake(TIMEOUT))
        with client_context().wrap_socket(plain, server_hostname="localhost") as peer:
            shaken.result()
            transport.set_deadline(TIMEOUT)

            def read() -> bytes:
                got = bytearray()
                while len(got) < size:
                    got += transport.recv()
                return bytes(got)

            def write() -> None:
                rest = memoryview(down)
                while rest or transport.unsent:
                    rest = rest[transport.send(rest) :]
                    transport.wait_writable(TIMEOUT)

            reader, writer = Task(read), Task(write)
            got, rest = bytearray(), memoryview(up)
            peer.setblocking(False)
            while len(got) < size or rest:
                wait_to_write = [peer] if rest else []
                if not peer.pending():
                    assert any(select.select([peer], wait_to_write, [], TIMEOUT))
                with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    got += peer.recv(64 * 1024)
                with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    if rest:
                        rest = rest[peer.send(rest[:10_000]) :]
            assert bytes(got) == down
            assert reader.result() == up
            writer.result()


def test_tls_records_in_single_bytes_arrive() -> None:
    """The handshake comes in single bytes too."""
    with bare_client(1) as (transport, client):
        cipher = client.cipher(b"slowly")

        def send() -> None:
            for at in range(len(cipher)):
                client.peer.sendall(cipher[at : at + 1])

        sender = Task(send)
        assert transport.recv() == b"slowly"
        sender.result()


def test_tls_recv_returns_all_decrypted_records() -> None:
    """No decrypted byte waits for more bytes from the socket."""
    data = bytes(range(256)) * 200
    with bare_client() as (transport, client):
        client.peer.sendall(client.cipher(data))
        got = transport.recv()
        while len(got) < len(data):
            got += transport.recv()
        assert got == data


@pytest.mark.parametrize("begun", [b"", b"\x16\x03\x01\x02\x00\x01"])
def test_tls_stalled_handshake_times_out(begun: bytes) -> None:
    """The whole handshake has one deadline."""
    with tcp_pair() as (server, plain):
        plain.sendall(begun)
        with pytest.raises(TimeoutError):
            TLSTransport(PlainTransport(server), server_context()).handshake(0.02)


def test_tls_send_before_the_handshake_raises() -> None:
    """It must not return 0: the socket has room, so the sender would try again at once."""
    with tcp_pair() as (server, _):
        transport = TLSTransport(PlainTransport(server), server_context())
        with pytest.raises(TimeoutError):
            transport.handshake(0.02)
        with pytest.raises(ssl.SSLWantReadError):
            transport.send(b"too late")


def test_tls_plain_http_fails_the_handshake() -> None:
    with tcp_pair() as (server, plain):
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(WrongProtocol, match="plain HTTP"):
            TLSTransport(PlainTransport(server), server_context()).handshake(TIMEOUT)


def test_tls_failed_handshake_sends_an_alert() -> None:
    with tcp_pair() as (server, plain):
        plain.sendall(b"\x16\x03\x01\x00\x05hello")
        with pytest.raises(ssl.SSLError):
            TLSTransport(PlainTransport(server), server_context()).handshake(TIMEOUT)
        assert read_exactly(plain, 1) == b"\x15"


@pytest.mark.parametrize(
    ("begun", "error"), [(b"", PeerLeft), (b"\x16\x03\x01\x02\x00\x01", ssl.SSLEOFError)]
)
def test_tls_end_of_stream_fails_the_handshake(begun: bytes, error: type[OSError]) -> None:
    with tcp_pair() as (server, plain):
        plain.sendall(begun)
        plain.shutdown(socket.SHUT_WR)
        with pytest.raises(error):
            TLSTransport(PlainTransport(server), server_context()).handshake(TIMEOUT)


def test_tls_close_notify_ends_one_direction() -> None:
    """``recv`` returns the data before it, then the end; the server may still send."""
    with bare_client() as (transport, client):
        cipher = client.cipher(b"bye")
        with pytest.raises(ssl.SSLWantReadError):
            client.tls.unwrap()
        client.peer.sendall(cipher + client.outgoing.read())
        assert transport.recv() == b"bye"
        assert transport.recv() == b""
        assert transport.send(b"good bye") == 8


def test_tls_finish_sends_close_notify() -> None:
    with transport_pair("tls") as (transport, peer):
        transport.send(b"done")
        transport.finish()
        assert read_to_end(peer, may_reset=False) == b"done"  # any other end raises


def test_tls_data_before_a_broken_record_arrives() -> None:
    """Then the stream ends."""
    with bare_client() as (transport, client):
        good, bad = client.cipher(b"good"), bytearray(client.cipher(b"bad"))
        bad[-1] ^= 1
        client.peer.sendall(good + bad)
        assert transport.recv() == b"good"
        assert transport.recv() == b""


def test_tls_send_takes_many_records_at_once() -> None:
    """A large message needs no writer while the socket takes it."""
    with transport_pair("tls") as (transport, peer):
        data = bytes(200_000)
        assert transport.send(data) + transport.unsent >= len(data)
        assert read_exactly(peer, 64 * 1024)


def test_tls_last_bytes_are_consumed() -> None:
    """The transport held them when the socket was full."""
    broken, starter = Notes(), Starter()
    with transport_pair("tls", 16 * 1024) as (transport, peer):
        outbox = Outbox(transport, outbox_bounds(), starter, broken)
        sent = len(fill(transport))
        number = [outbox.send(bytes(10_000)) for _ in range(20)][-1]
        assert not outbox.is_consumed(number)
        reader = Task(lambda: read_exactly(peer, sent + 200_000))
        assert outbox.wait_consumed(number, TIMEOUT)
        reader.result()
        assert outbox.is_consumed(number)
        transport.shutdown()
        outbox.end()
    starter.join()
    assert broken.now() == []


def test_tls_close_notify_waits_for_room() -> None:
    """The socket is full when the sending side ends."""
    with transport_pair("tls", 16 * 1024) as (transport, peer):
        sent = fill(transport)
        transport.finish()
        got = bytearray()
        while transport.unsent:
            got += peer.recv(4096)
            transport.send(b"")
        got += read_to_end(peer, may_reset=False)  # any other end raises
        assert got == sent


def test_tls_unsent_shrinks_with_each_byte() -> None:
    """It tells a slow peer from a stalled one."""
    with transport_pair("tls", 16 * 1024) as (transport, peer):
        fill(transport)
        before = transport.unsent
        assert before > 0
        while transport.unsent == before:
            peer.recv(1024)
            transport.send(b"")
        assert transport.unsent < before
