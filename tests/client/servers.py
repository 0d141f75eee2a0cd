"""Servers of one port that do what a test says: right, wrong, or nothing."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any

from hubthread.protocol.frames import Frame, MessageType, encode_close
from hubthread.protocol.handshake import accept_token
from tests.support import TIMEOUT, Items, read_exactly, read_to_end

HELLO = {"type": "hub:hello", "v": 1, "id": 1, "now": 0}


class Peer:
    """The server's end of one connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.head = b""

    def read_head(self) -> str:
        """Read a request."""
        data = b""
        while not data.endswith(b"\r\n\r\n"):
            data += read_exactly(self.sock, 1)
        self.head = data
        return data.decode()

    def field(self, name: str) -> str | None:
        """Return a field of the request."""
        for line in self.head.decode().splitlines():
            if line.lower().startswith(f"{name.lower()}: "):
                return line.partition(": ")[2]
        return None

    def shake(self, behind: bytes = b"", subprotocol: str = "hubthread.1") -> Peer:
        """Accept the handshake; send ``behind`` in the same segment."""
        self.read_head()
        key = self.field("Sec-WebSocket-Key")
        assert key is not None
        lines = [
            "HTTP/1.1 101 Switching Protocols",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Accept: {accept_token(key)}",
            *([f"Sec-WebSocket-Protocol: {subprotocol}"] if subprotocol else []),
        ]
        self.sock.sendall("\r\n".join([*lines, "", ""]).encode() + behind)
        return self

    def send(self, message: object) -> None:
        self.sock.sendall(text(message))

    def read(self) -> Any:
        """Read a message of the client; its Close is its code."""
        first, size = read_exactly(self.sock, 2)
        assert size & 0x80, "a client masks its frames"
        size &= 0x7F
        if size == 126:
            size = int.from_bytes(read_exactly(self.sock, 2), "big")
        elif size == 127:
            size = int.from_bytes(read_exactly(self.sock, 8), "big")
        key = read_exactly(self.sock, 4)
        masks = int.from_bytes((key * (size // 4 + 1))[:size], "big")
        masked = int.from_bytes(read_exactly(self.sock, size), "big")
        body = (masked ^ masks).to_bytes(size, "big")  # megabytes byte by byte take seconds
        if first & 0x0F == MessageType.CLOSE:
            return int.from_bytes(body[:2], "big")
        return json.loads(body) if first & 0x0F == MessageType.TEXT else body

    def hello(self) -> Peer:
        """Accept the handshake and the hello."""
        self.shake()
        assert self.read()["type"] == "hub:hello"
        self.send(HELLO)
        return self

    def close(self, code: int, reason: str = "") -> None:
        self.sock.sendall(encode_close(code, reason))

    def wait_end(self) -> None:
        """Wait until the client has gone."""
        read_to_end(self.sock)


def text(message: object) -> bytes:
    data = message if isinstance(message, str) else json.dumps(message)
    return Frame(data, MessageType.TEXT).wire


class Listening:
    """A port whose connections are served by a function, each on a thread of its own.

    The function of the connection number n is the n-th; the last one serves all that follow.
    """

    def __init__(
        self, *serve: Callable[[Peer], object], tls: ssl.SSLContext | None = None
    ) -> None:
        self._serve = serve
        self._tls = tls
        self._sock = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._peers: list[socket.socket] = []
        self.came: Items[Peer] = Items()
        self.failures: list[BaseException] = []
        self.port: int = self._sock.getsockname()[1]
        self._start(self._accept)

    @property
    def url(self) -> str:
        return f"{'wss' if self._tls else 'ws'}://localhost:{self.port}/ws"

    def _start(self, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        number = 0
        while True:
            try:
                sock, _ = self._sock.accept()
            except OSError:
                return
            self._peers.append(sock)
            serve = self._serve[min(number, len(self._serve) - 1)]
            number += 1
            self._start(lambda sock=sock, serve=serve: self._run(sock, serve))  # type: ignore[misc]

    def _run(self, sock: socket.socket, serve: Callable[[Peer], object]) -> None:
        sock.settimeout(TIMEOUT)
        try:
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_side=True)
            with sock:
                peer = Peer(sock)
                self.came.add(peer)
                serve(peer)
        except OSError:  # the client has gone
            pass
        except BaseException as error:  # noqa: BLE001 - told to the test
            self.failures.append(error)
        finally:
            sock.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()
        for sock in self._peers:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(TIMEOUT)
        for sock in self._peers:
            sock.close()
        assert not self.failures, self.failures


@contextlib.contextmanager
def listening(
    *serve: Callable[[Peer], object], tls: ssl.SSLContext | None = None
) -> Iterator[Listening]:
    server = Listening(*serve, tls=tls)
    try:
        yield server
    finally:
        server.close()


def tunnel(peer: Peer, port: int, user: str | None = None) -> None:
    """Serve as an HTTP proxy: connect to ``port`` of this machine, and pass bytes on."""
    request = peer.read_head().splitlines()[0]
    assert request.startswith("CONNECT localhost:")
    if peer.field("Proxy-Authorization") != user:
        peer.sock.sendall(b"HTTP/1.1 407 Login\r\nContent-Length: 0\r\n\r\n")
        return
    with socket.create_connection(("127.0.0.1", port)) as other:
        peer.sock.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        back = threading.Thread(target=_pass_on, args=(other, peer.sock))
        back.start()
        _pass_on(peer.sock, other)
        back.join(TIMEOUT)


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(64 * 1024):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
