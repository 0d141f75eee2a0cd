"""One listening socket: accepts, counts, and gives each connection a thread.

Layer: net.  Threads: ``_accept`` is the listener thread, woken by a socket pair; no code
of the user runs on it.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import selectors
import socket
import stat
import threading
from collections.abc import Callable, Iterator

from hubthread.concurrency.fairness import fan_outs
from hubthread.limits import CONNECTIONS
from hubthread.net.address_limit import Addresses
from hubthread.net.interfaces import Services

__all__ = ["Listener", "open_tcp", "open_udp", "open_unix"]

Address = tuple[str, int] | str

_REFUSAL = (
    b"HTTP/1.1 %b\r\nConnection: close\r\nRetry-After: 1\r\n"
    b"Content-Type: text/plain\r\nContent-Length: 36\r\n\r\n%b"
)
BUSY = _REFUSAL % (b"503 Service Unavailable", b"This server is full. Try again soon.")
TOO_MANY = _REFUSAL % (b"429 Too Many Requests", b"Your address has too many open here.")

_NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)
_GONE = (errno.ECONNABORTED, errno.EPROTO, errno.EPERM)
"""That connection is no more (or a firewall's), and the next may be fine."""

PAUSE = 0.1
"""Seconds without accepting when it fails and select would say at once that one waits."""


def open_tcp(host: str, port: int, backlog: int) -> socket.socket:
    """A listening TCP socket; ``port`` 0 takes a free one.

    :raises OSError: with the address in it.
    """
    with _naming(f"{host}:{port}"):
        family, _, _, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            if os.name == "posix":
                # A restart must not wait for the last connections to be forgotten.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
            sock.listen(backlog)
        except OSError:
            sock.close()
            raise
    return sock


def open_udp(host: str, port: int) -> socket.socket:
    """A bound UDP socket; ``port`` 0 takes a free one.

    :raises OSError: with the address in it.
    """
    with _naming(f"{host}:{port}"):
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, socket.SOCK_DGRAM)
        try:
            sock.bind(address)
        except OSError:
            sock.close()
            raise
    return sock


def open_unix(path: str, backlog: int) -> socket.socket:
    """A listening Unix socket at ``path``; what a dead server left there is replaced.

    :raises OSError: with the path in it.
    """
    with _naming(path):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with contextlib.suppress(FileNotFoundError):
                if stat.S_ISSOCK(os.stat(path).st_mode):
                    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                        probe.setblocking(False)  # a server that is full lets connect wait
                        if probe.connect_ex(path) == errno.ECONNREFUSED:
                            os.unlink(path)
            sock.bind(path)
            sock.listen(backlog)
        except OSError:
            sock.close()
            raise
    return sock


@contextlib.contextmanager
def _naming(place: str) -> Iterator[None]:
    try:
        yield
    except UnicodeError:  # says the look-up of a name that no host can have
        raise OSError(errno.EINVAL, f"cannot listen on {place}: no host is called so") from None
    except OSError as error:
        why = error.strerror or error  # an address that is too long has no number
        raise OSError(error.errno, f"cannot listen on {place}: {why}") from None


class Listener:
    """The accept loop of one listening socket.

    Threads: ``start`` once; ``close`` and the counters from any.

    :param serve: called with ``(socket, peer address)`` on a thread of the connection's
        own; it owns the socket.
    :param max_connections: at the same time; more are turned away.
    :param polite: with an answer, since HTTP is spoken.
    """

    def __init__(
        self,
        sock: socket.socket,
        serve: Callable[[socket.socket, Address], None],
        services: Services,
        max_connections: int,
        addresses: Addresses,
        *,
        polite: bool = True,
    ) -> None:
        self._sock = sock
        self._serve = serve
        self._threads = services.threads
        self._max_connections = max_connections
        self._incidents = services.incidents
        self._addresses = addresses
        self._polite = polite
        self._waker, self._wake = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._selector.register(sock, selectors.EVENT_READ)
        self._selector.register(self._waker, selectors.EVENT_READ)
        # A descriptor kept back: without it a process that has none left could not even
        # accept a connection to turn it away, and select would report it for ever.
        self._spare = os.open(os.devnull, os.O_RDONLY)
        self._closing = threading.Event()
        self._ended = threading.Event()
        self._lock = threading.Lock()  # guards what follows
        self._started = False
        self.connections = 0
        self.accepted = 0
        self.refused = 0
        sock.setblocking(False)
        name = sock.getsockname()
        self.address: Address = name if isinstance(name, str) else (name[0], name[1])

    def start(self) -> None:
        """Begin to accept.  :raises RuntimeError: when there is no thread for it."""
        with self._lock:
            if self._started:
                return  # closed already
            self._started = True
        try:
            self._threads.start(self._accept, "listener")
        except RuntimeError:
            self._let_go()
            raise

    def close(self) -> None:
        """Stop accepting; returns when no connection can be accepted any more."""
        self._closing.set()
        with self._lock:
            started, self._started = self._started, True
        if not started:
            self._let_go()
        with contextlib.suppress(OSError):  # somebody else was first
            self._wake.send(b"x")
        self._ended.wait()
        self._wake.close()

    def _accept(self) -> None:
        try:
            while not self._closing.is_set():
                self._selector.select()
                fan_outs.let_through()  # once for all who wait, be they a thousand
                while not self._closing.is_set() and self._accept_one():
                    pass
        finally:
            self._let_go()

    def _let_go(self) -> None:
        self._selector.close()
        # The name first: once the socket is closed somebody else may take it.
        if isinstance(self.address, str) and self.address:
            with contextlib.suppress(OSError):
                os.unlink(self.address)
        self._sock.close()
        self._waker.close()
        if self._spare >= 0:
            os.close(self._spare)
        self._ended.set()

    def _accept_one(self) -> bool:
        """Accept one connection; false when it is time to select again."""
        try:
            sock, peer = self._sock.accept()
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            if error.errno in _NO_DESCRIPTOR:
                return self._turn_away_blind(error)
            if error.errno in _GONE:
                return True
            self._trouble("cannot accept a connection", error)
            self._closing.wait(PAUSE)
            return False
        address: Address = (peer[0], peer[1]) if isinstance(peer, tuple) else self.address
        with self._lock:
            full = self.connections >= self._max_connections
        if full:
            text = "%d connections, the limit of %s: turning one away"
            where = self._max_connections, self.address
            self._incidents.log_limit(CONNECTIONS, logging.WARNING, text, *where)
            self._turn_away(sock, BUSY)
            return True
        if not self._addresses.enter(address):
            self._turn_away(sock, TOO_MANY)
            return True
        with self._lock:
            self.connections += 1
            self.accepted += 1
        try:
            self._threads.start(lambda: self._run(sock, address), "reader")
        except RuntimeError as error:
            self._addresses.leave(address)
            with self._lock:
                self.connections -= 1
                self.accepted -= 1
            self._trouble("no thread for a connection: turning it away", error)
            self._turn_away(sock, BUSY)
        return True

    def _run(self, sock: socket.socket, peer: Address) -> None:
        try:
            fan_outs.let_through()
            self._serve(sock, peer)
        finally:
            sock.close()
            self._addresses.leave(peer)
            with self._lock:
                self.connections -= 1

    def _turn_away(self, sock: socket.socket, answer: bytes) -> None:
        with self._lock:
            self.refused += 1
        with sock, contextlib.suppress(OSError):
            sock.setblocking(False)
            if self._polite:
                sock.send(answer)
            sock.shutdown(socket.SHUT_WR)
            # Unread bytes would turn the close into a reset, which overtakes the answer.
            sock.recv(64 * 1024)

    def _turn_away_blind(self, error: OSError) -> bool:
        """Accept with the spare descriptor and close at once; false when that fails too."""
        if self._spare >= 0:
            os.close(self._spare)
            self._spare = -1
        try:
            self._sock.accept()[0].close()
        except BlockingIOError:
            return False  # none waits: Linux looks for a descriptor first
        except OSError:
            self._trouble("no file descriptor for a connection: it has to wait", error)
            self._closing.wait(PAUSE)  # for somebody to give one back
            return False
        finally:
            with contextlib.suppress(OSError):
                self._spare = os.open(os.devnull, os.O_RDONLY)
        self._trouble("no file descriptor for a connection: closing it", error)
        with self._lock:
            self.refused += 1
        return True

    def _trouble(self, what: str, error: Exception) -> None:
        self._incidents.log_limited(what, logging.WARNING, "%s (%s)", what, error)
