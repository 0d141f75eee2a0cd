"""Connections that share threads: their transport, their reading, and the crews that run them.

Layer: net.  Threads: the crews' threads receive, run every callback, and close the sockets; any
thread sends, and calls the methods of ``SharedReaders``.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
from collections.abc import Callable
from time import thread_time
from typing import TYPE_CHECKING, Any

from hubthread.concurrency.crew import Crew, Monitor, Step
from hubthread.concurrency.deadline import Deadline
from hubthread.concurrency.fairness import SLICE
from hubthread.net.keepalive import Keepalive
from hubthread.net.selecting import Selecting, Watch
from hubthread.net.steps import Drained, Steps, Watching
from hubthread.net.transport import PlainTransport

if TYPE_CHECKING:
    from hubthread.concurrency.incidents import Incidents
    from hubthread.concurrency.threads import Threads
    from hubthread.net.connection import Connection

__all__ = ["SharedReaders", "SharedTransport", "reading"]

INTERNAL_ERROR = 1011

_HAS_GIL: bool = getattr(sys, "_is_gil_enabled", lambda: True)()

CREWS = 1 if _HAS_GIL else max(1, min(8, os.cpu_count() or 1))
"""The crews of a hub: one thread at a time runs Python where there is a GIL."""

_LEAST_READ = 256
_FIRST_READ = 512
_USUAL_READ = 2048
_MOST_READ = 256 * 1024
"""Bytes of one read: the least for a peer whose reads cost much time, the first ones, those of a
peer that has filled a read before, and the most for one whose reads cost little."""


class SharedTransport(PlainTransport):
    """A plain socket that never blocks.

    :param sock: a connected socket; the transport owns it from now on.
    """

    __slots__ = ("full", "size", "watch")

    def __init__(self, sock: socket.socket, watch: Watching) -> None:
        super().__init__(sock)
        sock.setblocking(False)
        self.watch: Watching | None = watch
        self.size = _FIRST_READ
        self.full = False
        """True if the last read was full, and has perhaps left some bytes."""

    def set_deadline(self, seconds: float | None) -> None:
        """Do nothing: the watch keeps the deadline."""

    def recv(self) -> bytes:
        """See ``Transport``; raise ``TimeoutError`` if there is nothing to receive."""
        size = self.size
        try:
            data = self._sock.recv(size)
        except BlockingIOError:
            raise TimeoutError from None
        self.full = full = len(data) == size
        if not full and size > _USUAL_READ and len(data) < size // 4:
            self.size = _USUAL_READ
        return data

    def adapt_reads(self, took: float) -> None:
        """Adapt the size of the next read to the seconds that the last one took to handle."""
        if took >= 2 * SLICE:
            self.size = max(_LEAST_READ, self.size // 2)
        elif took < SLICE / 4:
            self.size = min(_MOST_READ, self.size * 4)

    def close(self) -> None:
        """See ``Transport``."""
        assert self.watch is not None
        self.watch.end()
        super().close()


def reading(connection: Connection, first: bytes) -> Steps[None]:
    """Do the work of ``Connection.run``, for a connection without a thread.

    :param first: the bytes that came behind the handshake in the same segment.
    """
    transport: Any = connection._transport
    watch = transport.watch
    assert watch is not None
    receive, recv = connection.receive, transport.recv
    try:
        try:
            keepalive = Keepalive(connection._options)
            goes_on = not first or receive(first)
            del first
            if goes_on:
                yield _seconds(keepalive)
            while goes_on:
                try:
                    data = recv()
                except TimeoutError:
                    left = watch.seconds_left
                    if left > 0:  # nothing came after all
                        yield left
                    else:
                        goes_on = connection.keep_alive(keepalive)
                        if goes_on:
                            yield _seconds(keepalive)
                    continue
                except OSError as error:
                    connection._lost(error)
                    break
                goes_on = _receive_much(connection, data) if transport.full else receive(data)
                if not goes_on:
                    break
                del data  # an idle connection does not keep it
                if keepalive.elapsed:
                    keepalive.reset()
                    yield _seconds(keepalive)
                else:
                    yield None
        except BaseException:
            connection.close(INTERNAL_ERROR, "Internal server error")
            raise
        finally:
            connection.leave()
            yield from _read_to_end(connection)
    finally:
        connection.end()


def _seconds(keepalive: Keepalive) -> float:
    return float("inf") if keepalive.next_timeout is None else keepalive.next_timeout


def _receive_much(connection: Connection, data: bytes) -> bool:
    """Handle a full read, and adapt the size of the next to the time that this one takes.

    256 KiB of one large message cost little; as many bytes of small messages are thousands of
    callbacks, for which the other connections wait.
    """
    transport: Any = connection._transport
    began = thread_time()
    goes_on = connection.receive(data)
    took = thread_time() - began
    transport.adapt_reads(took)
    if took >= SLICE:
        transport.watch.note_busy()
    return goes_on


def _read_to_end(connection: Connection) -> Steps[None]:
    """Read and discard up to the end of the peer's stream; see ``Connection._read_to_end``."""
    transport, outbox = connection._transport, connection.outbox
    timeout = connection._options.close_timeout
    waiting = None
    ended = False
    try:
        while not ended and (waiting is None or outbox.waiting_bytes < waiting):
            waiting = outbox.waiting_bytes
            deadline = Deadline(timeout)
            while not ended and (left := deadline.left()):
                with contextlib.suppress(TimeoutError):
                    ended = not transport.recv()
                if not ended:
                    yield left
    except OSError:
        pass
    if not connection.waits_for_rest:
        return
    waiting = None
    while waiting is None or outbox.waiting_bytes < waiting:
        waiting = outbox.waiting_bytes
        deadline = Deadline(timeout)
        while left := deadline.left():
            if not outbox.has_writer:
                return
            yield Drained(left)


class SharedReaders:
    """The crews of one hub, which run its connections.

    Threads: every method may be called on any thread.
    """

    def __init__(self, threads: Threads, monitor: Monitor, incidents: Incidents) -> None:
        self._threads = threads
        self._monitor = monitor
        self._incidents = incidents
        self._lock = threading.RLock()  # guards what follows
        self._sources: list[Selecting] = []
        self._dealt = 0
        self._closed = False

    def begin(self, sock: socket.socket, steps: Callable[[Watching], Steps[Any]]) -> None:
        """Have a crew run the steps of one connection.

        :param steps: called with the connection's watch.
        :raises RuntimeError: when the system cannot start a thread, or the hub is closed.
        """
        watch = Watch(self._next_source(), sock)
        watch.begin(steps(watch))

    def _next_source(self) -> Selecting:
        with self._lock:
            if self._closed:
                raise RuntimeError("the hub is closed")
            self._dealt += 1
            number = self._dealt % CREWS
            if number < len(self._sources):
                return self._sources[number]
            source = Selecting()
            name = "readers" if CREWS == 1 else f"readers-{len(self._sources) + 1}"
            try:
                Crew(
                    source, self._threads.start, name, self._monitor, self._incidents, _left_behind
                ).start()
            except BaseException:
                source.close()
                source.wait()  # releases its descriptors
                raise
            self._sources.append(source)
            return source

    def close(self) -> None:
        """End each crew after its last connection."""
        with self._lock:
            self._closed = True
            sources = list(self._sources)
        for source in sources:
            source.close()


def _left_behind(step: Step) -> str | None:
    watch = getattr(step, "__self__", None)
    return watch.left_behind() if isinstance(watch, Watch) else None
