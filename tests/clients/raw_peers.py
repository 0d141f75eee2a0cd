"""Raw peers for the tests: bare sockets, as a script or a device has them."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator

from hubthread import ConnectionProtocols, SocketServer
from tests.support import TIMEOUT, Serving, connect


class TcpPeer:
    """A connected socket that reads lines, or whatever it is told to."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._reading = sock.makefile("rb")

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def line(self) -> str:
        """The next line, without its end."""
        line = self._reading.readline()
        assert line.endswith(b"\n"), line
        return line[:-1].decode()

    def lines(self, count: int) -> list[str]:
        return [self.line() for _ in range(count)]

    def take(self, size: int) -> bytes:
        return self._reading.read(size)

    def rest(self) -> bytes:
        """All that comes to the end of the stream, which may be a reset."""
        with contextlib.suppress(ConnectionResetError):
            return self._reading.read()
        return b""

    def end(self) -> bytes:
        """As a program that reads to the end, and then goes."""
        rest = self.rest()
        self.close()
        return rest

    def half_close(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Vanish without a word."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._reading.close()
        self.sock.close()

    def close(self) -> None:
        self._reading.close()
        self.sock.close()


class UdpPeer:
    """A bound socket that sends to one place and reads what comes from there."""

    def __init__(self, address: tuple[str, int], source: str = "127.0.0.1") -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.settimeout(TIMEOUT)
        self.sock.bind((source, 0))
        self.sock.connect(address)

    def send(self, *datagrams: bytes) -> None:
        for datagram in datagrams:
            self.sock.send(datagram)

    def message(self) -> bytes:
        return self.sock.recv(65536)

    def messages(self, count: int) -> list[bytes]:
        return [self.message() for _ in range(count)]

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> UdpPeer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def udp_peer(server: SocketServer) -> UdpPeer:
    return UdpPeer(server.address)


def ended(s: Serving, count: int = 1) -> dict[str, int]:
    """What ``count`` raw peers have ended by, once they have."""
    s.logs.records.until(
        lambda records: sum(" ended: " in record.getMessage() for record in records) >= count
    )
    return dict(s.hub.statistics().ended_by)


def how_it_ended(s: Serving) -> tuple[int, str]:
    """Level and text of the one line that the log has about the end of a raw peer."""
    (record,) = [each for each in s.logs.records.now() if " ended: " in each.getMessage()]
    return record.levelno, record.getMessage()


def listen(s: Serving, protocol: ConnectionProtocols = ConnectionProtocols.TCP) -> SocketServer:
    return s.hub.socket_handles("127.0.0.1", 0, protocol)


@contextlib.contextmanager
def tcp_peer(server: SocketServer, receive_buffer: int | None = None) -> Iterator[TcpPeer]:
    peer = TcpPeer(connect(server, receive_buffer))
    try:
        yield peer
    finally:
        peer.close()
