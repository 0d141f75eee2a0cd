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
from functools import partial
from typing import Any, TypeAlias

from hubthread.concurrency.bell import Bell
from hubthread.concurrency.deadline import wall_time
from hubthread.concurrency.fairness import fan_outs
from hubthread.errors import HandshakeRejected
from hubthread.limits import CONNECTIONS
from hubthread.net.address_limit import AddressLimit
from hubthread.net.bind import Address, Bound, address_of, peer_of
from hubthread.net.interfaces import Services
from hubthread.net.proxy import Proxies
from hubthread.net.steps import Steps, Watching, run_steps
from hubthread.protocol.http import Response

__all__ = ["RESERVE", "Incoming", "Listener"]

_RETRY = (("Retry-After", "1"),)

RESERVE = 32
"""Connections beyond the limit that are read all the same: each is told over TLS and HTTP why it
is refused, and a request for a page (a health check) is answered.  Connections of addresses at
their limit get half of these places, so that one address cannot take them all."""

_NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)
_GONE = (errno.ECONNABORTED, errno.EPROTO, errno.EPERM)
"""Errors of one connection, which has ended or which a firewall forbids; the next may be fine."""

PAUSE = 0.1
"""Seconds without accepting after a failed ``accept``, while the selector would return at
once."""


class Incoming:
    """One accepted connection on its way to ``serve``.

    Threads: the connection's reader only.
    """

    __slots__ = ("_listener", "counted", "extra", "peer", "proxied", "refuse", "sock", "watch")

    def __init__(self, sock: socket.socket, peer: Address, listener: Listener) -> None:
        self._listener = listener
        self.sock = sock
        self.peer = peer
        """The address of the peer."""
        self.counted = False
        """True if the limit of connections of one address counts this one."""
        self.extra = False
        """True if the connection has a place in the reserve."""
        self.proxied = False
        """True if the connection begins with a PROXY header, which tells the peer's address."""
        self.refuse: Refuse | None = None
        """Counts the refusal and returns what to refuse the connection with; ``None`` for a
        connection within the limits."""
        self.watch: Watching | None = None
        """The place of the connection among those that share threads, if it shares them."""

    def name(self, peer: Address) -> None:
        """Replace the address of the proxy by that of the peer behind it."""
        self.peer = peer
        if self.refuse is None:
            self._listener._count_address(self)


Refuse: TypeAlias = Callable[[], HandshakeRejected]


class Listener:
    """The accept loop of the listening sockets of one server.

    Threads: ``start`` is called once; any thread may call ``close`` and read the counters.

    :param bound: listening sockets; the listener owns them from now on.
    :param serve: called with an ``Incoming``; returns the work of the connection, which runs on
        its own thread, or with a watch on shared ones.  The socket is closed at the end of the
        work.
    :param max_connections: the most connections at the same time; further ones are refused.
    :param proxies: the addresses whose connections begin with a PROXY header.
    :param reserve: the connections beyond the limits that ``serve`` gets all the same, to refuse
        them; further ones are refused by the listener.
    :param http: True if the listener may refuse a connection with an HTTP response.
    """

    def __init__(
        self,
        bound: Bound,
        serve: Callable[[Incoming], Steps[Any]],
        services: Services,
        max_connections: int,
        address_limit: AddressLimit,
        proxies: Proxies | None = None,
        *,
        reserve: int = 0,
        http: bool = True,
    ) -> None:
        self._bound = bound
        self._serve = serve
        self._threads = services.threads
        self._readers = services.readers
        self._max_connections = max_connections
        self._incidents = services.incidents
        self._address_limit = address_limit
        self._proxies = proxies
        self._reserve = reserve
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
            opened.callback(os.close, self._spare)
            opened.pop_all()
        self._closing = False  # written by ``close`` only
        self._pause = Bell()  # ends the pause after an error
        self._lock = threading.RLock()  # guards what follows
        self._changed = threading.Condition(self._lock)
        self._ended = False
        self._started = False
        self._abandoned = False  # ``close`` has not waited for the end
        self._extra = 0  # connections beyond the limits that are read all the same
        self.connections = 0
        """Connections now, without those beyond the limits."""
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
        self._closing = True
        self._pause.ring()
        with self._lock:
            started, self._started = self._started, True
        if not started:
            self._release_sockets()
        with contextlib.suppress(OSError):  # another thread has closing it
            self._wake.send(b"x")
        # The accept loop logs, and a log handler of the user may block it.
        with self._lock:
            if not self._changed.wait_for(lambda: self._ended, timeout):
                self._abandoned = True
                return False
        self._wake.close()
        return True

    def _accept(self) -> None:
        try:
            while not self._closing:
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
            self._ended = True
            self._changed.notify_all()
            if self._abandoned:
                self._wake.close()

    def _accept_all(self, listening: socket.socket) -> None:
        while not self._closing and self._accept_one(listening):
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
            self._pause.wait(PAUSE)
            return False
        incoming = Incoming(sock, peer_of(peer, self.addresses[0]), self)
        incoming.proxied = self._proxies is not None and incoming.peer in self._proxies
        with self._lock:
            full = self.connections >= self._max_connections
        if full:
            incoming.refuse = self._count_full
        elif not incoming.proxied:  # otherwise the address of the peer is not known yet
            self._count_address(incoming)
        if not self._take_place(incoming):
            self._refuse(incoming)
            return True
        try:
            if self._readers is None:
                self._threads.start(lambda: run_steps(self._steps(incoming)), "reader")
            else:
                self._readers.begin(sock, partial(self._steps, incoming))
        except RuntimeError as error:
            self._leave_place(incoming)
            with self._lock:
                self.accepted -= incoming.refuse is None
            self._warn("no thread for a connection: refusing it", error)
            self._refuse(incoming)
        return True

    def _count_address(self, incoming: Incoming) -> None:
        incoming.counted = self._address_limit.enter(incoming.peer)
        if not incoming.counted:
            incoming.refuse = self._count_too_many

    def _take_place(self, incoming: Incoming) -> bool:
        """Count a connection that is to be read; return False if there is no place for it."""
        with self._lock:
            if incoming.refuse is None:
                self.connections += 1
                self.accepted += 1
                return True
            # One address that is at its limit must not take all places of the reserve.
            reserve = self._reserve if incoming.refuse == self._count_full else self._reserve // 2
            if self._extra >= reserve:
                return False
            self._extra += 1
            incoming.extra = True
            return True

    def _leave_place(self, incoming: Incoming) -> None:
        if incoming.counted:
            self._address_limit.leave(incoming.peer)
        with self._lock:
            if incoming.extra:
                self._extra -= 1
            else:
                self.connections -= 1

    def _steps(self, incoming: Incoming, watch: Watching | None = None) -> Steps[None]:
        incoming.watch = watch
        try:
            if watch is None:
                fan_outs.wait_for_one()
            yield from self._serve(incoming)
        finally:
            incoming.sock.close()
            self._leave_place(incoming)

    def _count_full(self) -> HandshakeRejected:
        text = "%d connections, the limit of %s: refusing one"
        where = self._max_connections, self.addresses[0]
        self._incidents.log_limit(CONNECTIONS, logging.WARNING, text, *where)
        return self._count_refusal()

    def _count_too_many(self) -> HandshakeRejected:
        self._count_refusal()
        return HandshakeRejected(429, "Your address has too many open connections.", _RETRY)

    def _count_refusal(self) -> HandshakeRejected:
        with self._lock:
            self.refused += 1
        return HandshakeRejected(503, "This server is full. Try again soon.", _RETRY)

    def _refuse(self, incoming: Incoming) -> None:
        """Refuse a connection at once, without reading its request."""
        rejected = (incoming.refuse or self._count_refusal)()
        sock = incoming.sock
        with sock, contextlib.suppress(OSError):
            sock.setblocking(False)
            if self._http:
                response = Response.text(rejected.status, rejected.reason, rejected.headers)
                sock.send(response.encode(now=wall_time()))
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
            self._pause.wait(PAUSE)  # until another thread closes a descriptor
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
