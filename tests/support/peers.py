"""Bare clients of a server: WebSocket, TCP and UDP.

``RawPeer`` speaks just enough WebSocket to send what no library would send, and to read
exactly when the test says so.  Where a well-behaved client is enough, tests use a library.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator

from hubthread import Server, SocketServer
from tests.support.waiting import TIMEOUT
from tests.support.wire import (
    BINARY,
    CLOSE,
    PING,
    TEXT,
    close_frame,
    masked_frame,
    raw_handshake,
    read_to_end,
    status_of,
)


def connect(server: Server | SocketServer, receive_buffer: int | None = None) -> socket.socket:
    """Return a connected socket.

    :param receive_buffer: bytes of the socket's receive buffer.  A small one is full
        soon.  Much below 64 KiB the system lets a stream only trickle.
    """
    address = server.address
    if isinstance(address, str):
        family = socket.AF_UNIX
    else:
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.settimeout(TIMEOUT)
        if receive_buffer is not None:  # must be set before the TCP window is negotiated
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock


def ask(server: Server, request: bytes) -> bytes:
    """Send a request to a server, and return all that it answers."""
    with connect(server) as sock:
        sock.sendall(request)
        return read_to_end(sock)


def reset(sock: socket.socket) -> None:
    """Close a socket so that the other side sees a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


class RawPeer:
    """A WebSocket client that does only what the test says: it sends no pong and no Close.

    :param behind: bytes to send in one segment with the upgrade request.
    """

    def __init__(
        self,
        sock: socket.socket,
        path: str = "/",
        *fields: str,
        behind: bytes = b"",
    ) -> None:
        self.sock = sock
        self._buffer = b""
        try:
            sock.sendall(raw_handshake(path, *fields) + behind)
            self.head = self._until(b"\r\n\r\n")
            assert status_of(self.head) == 101, self.head
        except BaseException:
            sock.close()
            raise

    def send(self, *payloads: bytes | str) -> None:
        """Send messages in one segment: text for ``str``, binary for ``bytes``."""
        frames = [
            masked_frame(each, TEXT if isinstance(each, str) else BINARY) for each in payloads
        ]
        self.sock.sendall(b"".join(frames))

    def send_close(self, code: int = 1000, reason: str = "") -> None:
        self.sock.sendall(close_frame(code, reason))

    def frame(self) -> tuple[int, bytes]:
        """Read the next frame; return opcode and payload."""
        first, size = self._take(2)
        assert not size & 0x80, "a server does not mask"
        if size == 126:
            (size,) = struct.unpack("!H", self._take(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", self._take(8))
        return first & 0x0F, self._take(size)

    def message(self) -> str | bytes:
        """Read the next message; skip pings."""
        while True:
            opcode, payload = self.frame()
            if opcode in (TEXT, BINARY):
                return payload.decode() if opcode == TEXT else payload
            assert opcode == PING, (opcode, payload)

    def messages(self, count: int) -> list[str | bytes]:
        """Read the next ``count`` messages; skip pings."""
        return [self.message() for _ in range(count)]

    def rest(self) -> tuple[list[str | bytes], int | None, str]:
        """Read until the server closes; return the messages, the close code and the reason."""
        found: list[str | bytes] = []
        while True:
            try:
                opcode, payload = self.frame()
            except EOFError:
                return found, None, ""
            if opcode == CLOSE:
                code = struct.unpack("!H", payload[:2])[0] if payload else None
                return found, code, payload[2:].decode()
            if opcode in (TEXT, BINARY):
                found.append(payload.decode() if opcode == TEXT else payload)

    def closed(self) -> tuple[int | None, str]:
        """Read the server's Close, which must come first; return code and reason."""
        found, code, reason = self.rest()
        assert not found, found
        return code, reason

    def at_end(self) -> bool:
        """Wait for the end of the stream; return False if bytes came before it."""
        return not self._buffer and not read_to_end(self.sock)

    def reset(self) -> None:
        """Close the socket so that the server sees a reset."""
        reset(self.sock)

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> RawPeer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            self._receive()
        end = self._buffer.index(mark) + len(mark)
        taken, self._buffer = self._buffer[:end], self._buffer[end:]
        return taken

    def _take(self, size: int) -> bytes:
        parts, have = [self._buffer], len(self._buffer)
        while have < size:
            self._buffer = b""
            self._receive()
            parts.append(self._buffer)
            have += len(self._buffer)
        whole = b"".join(parts)
        self._buffer = whole[size:]
        return whole[:size]

    def _receive(self) -> None:
        try:
            data = self.sock.recv(65536)
        except ConnectionResetError:
            data = b""
        if not data:
            raise EOFError
        self._buffer += data


class TcpPeer:
    """A connected TCP socket that reads lines or bytes."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._reading = sock.makefile("rb")

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def line(self) -> str:
        """Read the next line; return it without its end."""
        line = self._reading.readline()
        assert line.endswith(b"\n"), line
        return line[:-1].decode()

    def lines(self, count: int) -> list[str]:
        return [self.line() for _ in range(count)]

    def take(self, size: int) -> bytes:
        return self._reading.read(size)

    def rest(self) -> bytes:
        """Read to the end of the stream, or to its reset."""
        with contextlib.suppress(ConnectionResetError):
            return self._reading.read()
        return b""

    def end(self) -> bytes:
        """Read to the end of the stream, and close."""
        rest = self.rest()
        self.close()
        return rest

    def half_close(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close the socket so that the server sees a reset."""
        self._reading.close()
        reset(self.sock)

    def close(self) -> None:
        self._reading.close()
        self.sock.close()


class UdpPeer:
    """A bound UDP socket that sends to one address and reads from it."""

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


@contextlib.contextmanager
def tcp_peer(server: SocketServer, receive_buffer: int | None = None) -> Iterator[TcpPeer]:
    peer = TcpPeer(connect(server, receive_buffer))
    try:
        yield peer
    finally:
        peer.close()
