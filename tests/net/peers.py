"""What the tests of the net layer share: connected sockets, bare frames, gates."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import thread_time
from typing import Any

from hubthread.net.outbox import OutboxBounds
from hubthread.net.tls import TLSTransport
from hubthread.net.transport import PlainTransport, Transport
from hubthread.settings import Overflow

TIMEOUT = 20.0
"""Seconds for what should come at once: never waited out, unless the test fails."""

DATA = Path(__file__).parents[1] / "data"
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(DATA / "localhost.pem", DATA / "localhost.key")
    return context


def client_context() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(DATA / "localhost.pem"))


@contextlib.contextmanager
def tcp_pair(buffer: int | None = None) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connection over loopback: the server's end and the peer's; ``buffer`` bytes a way."""
    with socket.socket() as listening:
        if buffer:  # what an accepted socket inherits
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
        listening.bind(("127.0.0.1", 0))
        listening.listen(1)
        peer = socket.socket()
        peer.settimeout(TIMEOUT)
        if buffer:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        peer.connect(listening.getsockname())
        server, _ = listening.accept()
    with server, peer:
        yield server, peer


@contextlib.contextmanager
def unix_pair(buffer: int | None = None) -> Iterator[tuple[socket.socket, socket.socket]]:
    server, peer = socket.socketpair()
    if buffer:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
    peer.settimeout(TIMEOUT)
    with server, peer:
        yield server, peer


@contextlib.contextmanager
def transport_pair(
    kind: str, buffer: int | None = None
) -> Iterator[tuple[Transport, socket.socket]]:
    """A transport, its handshake done, and the peer's socket (with TLS where there is)."""
    pair = unix_pair if kind == "unix" else tcp_pair
    with contextlib.ExitStack() as stack:
        server, peer = stack.enter_context(pair(buffer))
        transport: Transport
        if kind == "tls":
            transport = TLSTransport(server, server_context())
            shaken = Task(lambda: transport.handshake(TIMEOUT))
            peer = stack.enter_context(
                client_context().wrap_socket(
                    peer, server_hostname="localhost", suppress_ragged_eofs=False
                )
            )
            shaken.result()
        else:
            transport = PlainTransport(server)
        try:
            yield transport, peer
        finally:
            transport.close()


class Task:
    """A function on a thread of its own; its result, or what it raised, comes back."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._work = work
        self._result: Any = None
        self._error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self._result = self._work()
        except BaseException as error:  # noqa: BLE001 - handed to who asks for the result
            self._error = error

    def join(self) -> None:
        self.thread.join(TIMEOUT)
        assert not self.thread.is_alive(), "still at work"

    def result(self) -> Any:
        self.join()
        if self._error is not None:
            raise self._error
        return self._result


class Starter:
    """Starts writers, counts them, and refuses where the test says so."""

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []
        self.refuse = False

    def __call__(self, target: Callable[[], None], what: str) -> None:
        assert what == "writer"
        if self.refuse:
            raise RuntimeError("can't start new thread")
        thread = threading.Thread(target=target, name=what, daemon=True)
        self.threads.append(thread)
        thread.start()

    def join(self) -> None:
        for thread in self.threads:
            thread.join(TIMEOUT)
            assert not thread.is_alive()


class Notes:
    """What happened, in order; a test waits until something has."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._notes: list[Any] = []

    def __call__(self, note: Any) -> None:
        with self._changed:
            self._notes.append(note)
            self._changed.notify_all()

    def now(self) -> list[Any]:
        with self._changed:
            return list(self._notes)

    def wait(self, wanted: object) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: wanted in self._notes, TIMEOUT), self._notes


def limits(
    overflow: Overflow = Overflow.CLOSE,
    *,
    max_messages: int = 100_000,
    max_bytes: int = 64 * 2**20,
    write_buffer: int = 64 * 1024,
    write_wait: float = TIMEOUT,
    linger: float = 0.02,
) -> OutboxBounds:
    return OutboxBounds(max_messages, max_bytes, overflow, write_buffer, write_wait, linger)


def fill(transport: Transport) -> bytes:
    """Send until the socket takes no more; what it took.

    A busy system carries what one end has taken to the other a moment later.
    """
    sent = bytearray()
    piece = bytes(range(256)) * 64
    while True:
        taken = transport.send(piece)
        if not taken:
            transport.wait_writable(0.1)
            taken = transport.send(piece)
            if not taken:
                return bytes(sent)
        sent += piece[:taken]


def read_exactly(sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = sock.recv(min(64 * 1024, size - len(data)))
        assert piece, f"ended after {len(data)} of {size} bytes"
        data += piece
    return bytes(data)


def read_to_the_end(sock: socket.socket) -> bytes:
    data = bytearray()
    while piece := sock.recv(64 * 1024):
        data += piece
    return bytes(data)


def frame(opcode: int, payload: bytes = b"") -> bytes:
    """A client's frame, masked with zeros."""
    size = len(payload)
    if size <= 125:
        head = struct.pack("!BB", 0x80 | opcode, 0x80 | size)
    elif size <= 0xFFFF:
        head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 0x80 | 127, size)
    return head + bytes(4) + payload


def close_frame(code: int) -> bytes:
    return frame(CLOSE, struct.pack("!H", code))


def read_frame(sock: socket.socket) -> tuple[int, bytes]:
    """One whole frame of the server's: opcode and payload."""
    first, size = read_exactly(sock, 2)
    if size == 126:
        (size,) = struct.unpack("!H", read_exactly(sock, 2))
    elif size == 127:
        (size,) = struct.unpack("!Q", read_exactly(sock, 8))
    return first & 0x0F, read_exactly(sock, size)


def read_close(sock: socket.socket) -> int:
    """Read to the server's Close, and to the end of the stream behind it; its code."""
    while True:
        opcode, payload = read_frame(sock)
        if opcode == CLOSE:
            assert read_to_the_end(sock) == b"", "something came after the Close"
            return int.from_bytes(payload[:2], "big")


def work(seconds: float) -> None:
    """Use so much CPU."""
    until = thread_time() + seconds
    while thread_time() < until:
        pass
