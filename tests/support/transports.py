"""Connected sockets, TLS contexts and writers, for tests of transports without a hub."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import thread_time

from hubthread.concurrency.flusher import Flusher
from hubthread.concurrency.threads import Threads
from hubthread.concurrency.timers import Timers
from hubthread.net.options import OutboxBounds
from hubthread.net.tls import TLSTransport
from hubthread.net.traffic import Meter
from hubthread.net.transport import PlainTransport, Transport
from hubthread.types import Overflow
from tests.support.logs import Logs, incidents_to
from tests.support.waiting import TIMEOUT, Task

DATA = Path(__file__).parents[1] / "data"
"""The folder of the certificate and the key of localhost."""


def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(DATA / "localhost.pem", DATA / "localhost.key")
    return context


def client_context() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(DATA / "localhost.pem"))


@contextlib.contextmanager
def tcp_pair(buffer: int | None = None) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Return both ends of a TCP connection over loopback, the server's first.

    :param buffer: bytes that each end's socket buffer holds.
    """
    with socket.socket() as listening:
        if buffer:  # an accepted socket inherits it
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
    """Return both ends of a Unix socket pair, the server's first."""
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
    """Return a transport with its handshake done, and the peer's socket.

    :param kind: "tcp", "tls" or "unix".
    """
    pair = unix_pair if kind == "unix" else tcp_pair
    with contextlib.ExitStack() as stack:
        server, peer = stack.enter_context(pair(buffer))
        transport: Transport
        if kind == "tls":
            transport = TLSTransport(PlainTransport(server), server_context())
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


class NetServices:
    """The services of connections: ``hubthread.net.interfaces.Services`` with real threads.

    :param kind: the class of ``threads``, for a test whose threads cannot always start.
    """

    readers = None

    def __init__(self, kind: type[Threads] = Threads) -> None:
        self.logs = Logs()
        self.incidents = incidents_to(self.logs)
        self.threads = kind("test", self.incidents)
        self.timers = Timers(self.threads, self.incidents)
        self.flusher = Flusher(self.threads)
        self.meter = Meter()

    def close(self) -> None:
        """End the threads; fail if one stays."""
        self.timers.close()
        self.flusher.close()
        assert self.threads.join(TIMEOUT) == []


class Starter:
    """A starter of writer threads that keeps the threads, or refuses to start one."""

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
        """Wait until every writer has ended."""
        for thread in self.threads:
            thread.join(TIMEOUT)
            assert not thread.is_alive()


def outbox_bounds(
    overflow: Overflow = Overflow.CLOSE,
    *,
    max_messages: int = 100_000,
    max_bytes: int = 64 * 2**20,
    write_buffer: int = 64 * 1024,
    write_wait: float = TIMEOUT,
    linger: float = 0.02,
) -> OutboxBounds:
    """Return the bounds of an outbox, wide unless the test narrows them."""
    return OutboxBounds(max_messages, max_bytes, overflow, write_buffer, write_wait, linger)


def fill(transport: Transport) -> bytes:
    """Send until the socket takes no more, and return all that it took.

    A busy kernel moves bytes to the other end a moment after it takes them, so a full
    socket is tried a second time.
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


def work(seconds: float) -> None:
    """Use ``seconds`` of CPU time."""
    until = thread_time() + seconds
    while thread_time() < until:
        pass
