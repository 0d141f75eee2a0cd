"""The sockets of one hub: its listening servers, and its connections at every stage.

Layer: core.  Threads: every method may be called on any thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

__all__ = ["CROWD", "Closable", "Connections", "Servers"]

CROWD = 1000
"""Connections with a thread each from which shared threads serve better on most machines."""


class Closable(Protocol):
    """A connection that can be cut: a transport, or a UDP peer."""

    def shutdown(self) -> None:
        """End the connection without a close code.  Any thread; never raises."""


class Closing(Protocol):
    """A listening socket that can be closed."""

    def _close(self, timeout: float) -> None:
        """Stop accepting connections; return after ``timeout`` seconds at the latest."""


class Servers:
    """The listening sockets of one hub.

    Threads: every method may be called on any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # guards what follows
        self._servers: list[Closing] = []

    def add(self, server: Closing) -> None:
        """Remember a server that has begun to listen."""
        with self._lock:
            self._servers.append(server)

    def remove(self, server: Closing) -> None:
        """Forget a server; a second call does nothing."""
        with self._lock:
            if server in self._servers:
                self._servers.remove(server)

    def all(self) -> list[Closing]:
        """Return the servers that listen now, oldest first."""
        with self._lock:
            return list(self._servers)


class Connections:
    """The connections of one hub: in their handshake, or open.

    Threads: every method may be called on any thread.

    :param on_crowd: called once, when more than ``CROWD`` connections are open.
    """

    def __init__(self, on_crowd: Callable[[], None]) -> None:
        self._on_crowd = on_crowd
        self._crowded = False
        self._lock = threading.RLock()  # guards what follows
        self._changed = threading.Condition(self._lock)
        self._handshaking: dict[Closable, None] = {}  # oldest first
        self._open: dict[Closable, None] = {}
        self._closing = False

    def begin(self, connection: Closable) -> None:
        """Add a connection whose handshake begins; cut it if the hub is closing."""
        with self._lock:
            self._handshaking[connection] = None
            closing = self._closing
        if closing:
            connection.shutdown()

    def open(self, connection: Closable) -> bool:
        """Mark a connection as open.

        :returns: False if the hub is already closing; the caller must then refuse the
            connection.  A connection that was marked is told when the hub closes.
        """
        with self._lock:
            if self._closing:
                return False
            self._handshaking.pop(connection, None)
            self._open[connection] = None
            crowd = len(self._open) > CROWD and not self._crowded
            self._crowded = self._crowded or crowd
        if crowd:
            self._on_crowd()
        return True

    def answered(self, connection: Closable) -> None:
        """Mark an open connection whose response has been sent; cut it if the hub is closing."""
        with self._lock:
            self._handshaking[connection] = None
            self._open.pop(connection, None)
            closing = self._closing
        if closing:
            connection.shutdown()

    def end(self, connection: Closable) -> None:
        """Forget a connection that has ended."""
        with self._lock:
            self._handshaking.pop(connection, None)
            self._open.pop(connection, None)
            self._changed.notify_all()

    def cut_handshakes(self) -> None:
        """Cut each connection that is in its handshake, and each that comes from now on."""
        with self._lock:
            self._closing = True
            handshaking = list(self._handshaking)
        for connection in handshaking:
            connection.shutdown()

    def cut_all(self) -> None:
        """Cut every connection."""
        self.cut_handshakes()
        with self._lock:
            opened = list(self._open)
        for connection in opened:
            connection.shutdown()

    def wait_empty(self, timeout: float) -> bool:
        """Wait until every connection has ended; return False after ``timeout`` seconds."""
        return self.wait(self.is_empty, timeout)

    def wait(self, arrived: Callable[[], bool], timeout: float) -> bool:
        """Wait until ``arrived()``, asked at the end of each connection.

        :returns: False after ``timeout`` seconds.
        """
        with self._lock:
            return self._changed.wait_for(arrived, timeout)

    def __len__(self) -> int:
        """Return the number of connections that have not ended."""
        return len(self._handshaking) + len(self._open)

    def is_empty(self) -> bool:
        """Return True if every connection has ended."""
        return not self._handshaking and not self._open
