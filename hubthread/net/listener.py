"""The listening sockets of one server: accept, count, and give each connection a thread.

Layer: net.  Threads: the accept loop is one thread per server, woken by a socket pair; no user
code runs on it.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import selectors
import socket
import threading
from collections.abc import Callable
from typing import Any

from hubthread.concurrency.fairness import fan_outs
from hubthread.limits import CONNECTIONS
from hubthread.net.address_limit import AddressLimit
from hubthread.net.bind import Address, Bound, address_of, peer_of
from hubthread.net.interfaces import Services
from hubthread.net.steps import Steps, Watching, run_steps

__all__ = ["Address", "Listener"]

_REFUSAL = (
    b"HTTP/1.1 %b\r\nConnection: close\r\nRetry-After: 1\r\n"
    b"Content-Type: text/plain\r\nContent-Length: %d\r\n\r\n%b"
)
_FULL = b"This server is full. Try again soon."
_TOO_MANY = b"Your address has too many open connections."
BUSY = _REFUSAL % (b"503 Service Unavailable", len(_FULL), _FULL)
TOO_MANY = _REFUSAL % (b"429 Too Many Requests", len(_TOO_MANY), _TOO_MANY)

_NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)
_GONE = (errno.ECONNABORTED, errno.EPROTO, errno.EPERM)
"""Errors of one connection, which has ended or which a firewall forbids; the next may be fine."""

PAUSE = 0.1
"""Seconds without accepting after a failed ``accept``, while the selector would return at
once."""


class Listener:
    """The accept loop of the listening sockets of one server.

    Threads: ``start`` is called once; any thread may call ``close`` and read the counters.

    :param bound: listening sockets; the listener owns them from now on.
    :param serve: called with ``(socket, peer address, watch)``; returns the work of the
        connection, which runs on its own thread, or with a watch on shared ones.  The socket is
        closed at the end of the work.
    :param max_connections: the most connections at the same time; further ones are refused.
    :param http: True answers a refused connection with an HTTP response.
    """

    def __init__(
        self,
        bound: Bound,
        serve: Callable[[socket.socket, Address, Watching | None], Steps[Any]],
        services: Services,
        max_connections: int,
        address_limit: AddressLimit,
        *,
        http: bool = True,
    ) -> None:
        self._bound = bound
        self._serve = serve
        self._threads = services.threads
        self._readers = services.readers
        self._max_connections = max_connections
        self._incidents = services.incidents
        self._address_limit = address_limit
        self._http = http
        self.addresses: tuple[Address, ...] = tuple(map(address_of, bound.socks))
        with contextlib.ExitStack() as opened:
            self._waker, self._wake = map(opened.enter_context, socket.socketpair())
            self._selector = opened.enter_context(selectors.DefaultSelector())
            for sock in bound.socks:
                sock.setblocking(False)
                self._selector.register(sock, selectors.EVENT_READ)
            self._selector.register(self._waker, selectors.EVENT_READ)
            # A spare descriptor.  Without it, a process that has none left could not accept a
            # connection in order to close it, and the selector would report it for ever.
            self._spare = os.open(os.devnull, os.O_RDONLY)
            opened.pop_all()
        self._closing = threading.Event()
        self._ended = threading.Event()
        self._lock = threading.RLock()  # guards what follows
        self._started = False
        self._abandoned = False  # ``close`` has not waited for the end
        self.connections = 0
        """Connections now."""
        self.accepted = 0
        """Connections accepted so far."""
        self.refused = 0
        """Connections refused so far."""

    def start(self) -> None:
        """Begin to accept.

        :raises RuntimeError: when the system cannot start a thread.
        """
        with self._lock:
            if self._started:
                return  # ``close`` came first
            self._started = True
        try:
            self._threads.start(self._accept, "listener")
        except RuntimeError:
            self._release_sockets()
            raise

    def close(self, timeout: float | None = None) -> bool:
        """Stop accepting; return when no connection can be accepted any more.

        :returns: False after ``timeout`` seconds, if the accept loop has not ended.
        """
        self._closing.set()
        with self._lock:
            started, self._started = self._started, True
        if not started:
            self._release_sockets()
        with contextlib.suppress(OSError):  # another thread has closing it
            self._wake.send(b"x")
        # The accept loop logs, and a log handler of the user may block it.
        if not self._ended.wait(timeout):
            with self._lock:
                if not self._ended.is_set():
                    self._abandoned = True
                    return False
        self._wake.close()
        return True

    def _accept(self) -> None:
        try:
            while not self._closing.is_set():
                ready = [key.fileobj for key, _ in self._selector.select()]
                fan_outs.wait_for_one()  # once for all connections that wait
                for sock in self._bound.socks:
                    if sock in ready:
                        self._accept_all(sock)
        finally:
            self._release_sockets()

    def _release_sockets(self) -> None:
        self._selector.close()
        self._bound.close()
        self._waker.close()
        if self._spare >= 0:
            os.close(self._spare)
        with self._lock:
            self._ended.set()
            if self._abandoned:
                self._wake.close()

    def _accept_all(self, listening: socket.socket) -> None:
        while not self._closing.is_set() and self._accept_one(listening):
            pass

    def _accept_one(self, listening: socket.socket) -> bool:
        """Accept one connection; return False when it is time to select again."""
        try:
            sock, peer = listening.accept()
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            if error.errno in _NO_DESCRIPTOR:
                return self._refuse_without_descriptor(listening, error)
            if error.errno in _GONE:
                return True
            self._warn("cannot accept a connection", error)
            self._closing.wait(PAUSE)
            return False
        address = peer_of(peer, self.addresses[0])
        with self._lock:
            full = self.connections >= self._max_connections
        if full:
            text = "%d connections, the limit of %s: refusing one"
            where = self._max_connections, self.addresses[0]
            self._incidents.log_limit(CONNECTIONS, logging.WARNING, text, *where)
            self._refuse(sock, BUSY)
            return True
        if not self._address_limit.enter(address):
            self._refuse(sock, TOO_MANY)
            return True
        with self._lock:
            self.connections += 1
            self.accepted += 1
        try:
            if self._readers is None:
                self._threads.start(lambda: run_steps(self._steps(sock, address)), "reader")
            else:
                self._readers.begin(sock, lambda watch: self._steps(sock, address, watch))
        except RuntimeError as error:
            self._address_limit.leave(address)
            with self._lock:
                self.connections -= 1
                self.accepted -= 1
            self._warn("no thread for a connection: refusing it", error)
            self._refuse(sock, BUSY)
        return True

    def _steps(
        self, sock: socket.socket, peer: Address, watch: Watching | None = None
    ) -> Steps[None]:
        try:
            if watch is None:
                fan_outs.wait_for_one()
            yield from self._serve(sock, peer, watch)
        finally:
            sock.close()
            self._address_limit.leave(peer)
            with self._lock:
                self.connections -= 1

    def _refuse(self, sock: socket.socket, answer: bytes) -> None:
        with self._lock:
            self.refused += 1
        with sock, contextlib.suppress(OSError):
            sock.setblocking(False)
            if self._http:
                sock.send(answer)
            sock.shutdown(socket.SHUT_WR)
            # Unread bytes would turn the close into a reset, which can overtake the answer.
            sock.recv(64 * 1024)

    def _refuse_without_descriptor(self, listening: socket.socket, error: OSError) -> bool:
        """Accept with the spare descriptor and close; return False when that fails too."""
        if self._spare >= 0:
            os.close(self._spare)
            self._spare = -1
        try:
            listening.accept()[0].close()
        except BlockingIOError:
            return False  # none waits: Linux checks for a descriptor first
        except OSError:
            self._warn("no file descriptor for a connection: it must wait", error)
            self._closing.wait(PAUSE)  # until another thread closes a descriptor
            return False
        finally:
            with contextlib.suppress(OSError):
                self._spare = os.open(os.devnull, os.O_RDONLY)
        self._warn("no file descriptor for a connection: closing it", error)
        with self._lock:
            self.refused += 1
        return True

    def _warn(self, what: str, error: Exception) -> None:
        self._incidents.log_limited(what, logging.WARNING, "%s (%s)", what, error)
