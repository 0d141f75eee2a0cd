"""Raw peers for the tests: bare sockets, as a script or a device has them."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator

from hubthread import ConnectionProtocols, SocketServer
from tests.support import Serving, connect


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


def listen(s: Serving, protocol: ConnectionProtocols = ConnectionProtocols.TCP) -> SocketServer:
    return s.hub.socket_handles("127.0.0.1", 0, protocol)


@contextlib.contextmanager
def tcp_peer(server: SocketServer, receive_buffer: int | None = None) -> Iterator[TcpPeer]:
    peer = TcpPeer(connect(server, receive_buffer))
    try:
        yield peer
    finally:
        peer.close()
