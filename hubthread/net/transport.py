"""One connected stream socket: bytes in by blocking, bytes out without.

Layer: net.  Threads: the reader receives; whoever holds the outbox's lock sends; the
writer waits for room.  ``shutdown`` from any thread wakes the reader.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import sys
import threading
from time import monotonic
from typing import Protocol

from hubthread.concurrency.fairness import SLICE, CpuBudget

__all__ = ["PlainTransport", "Stream", "Transport", "send_all"]

Stream = socket.socket
"""A connected stream socket."""

# A plain number: the socket module's is a member of an enumeration, which all threads would
# count references to (see protocol/closing.py).
MSG_DONTWAIT = int(getattr(socket, "MSG_DONTWAIT", 0))

KERNEL_DEADLINE = sys.platform.startswith("linux") or sys.platform == "darwin"
"""Whether the kernel keeps receive deadlines (``SO_RCVTIMEO`` as a ``timeval``).

One system call for each read then: ``select`` before ``recv`` costs 30 % of the echo
rate of 100 clients (18,800 against 26,900 messages/s on CPython 3.11, 2 cores), since
each call that may block gives the interpreter lock away.  Elsewhere: ``select``.
"""

_LEAST_READ = 8
_FIRST_READ = 9
_USUAL_READ = 11
_MOST_READ = 18
"""How much a recv may read, as powers of two: 512 bytes at first, then 256 to 256 KiB.  Tiny
fragments go through wsproto at 12 µs each: 2 KiB of them would be 3.5 ms of work.  But who has
sent more at once stays at 2 KiB: a frame of 600 bytes that is read in two goes through wsproto,
too, and takes twice the time."""
_SMALL = 1024
_SMALL_READS = 8
"""A look at the burden is worth its 1 µs after so many smaller reads."""
_LONGEST_POLL = 2**31 - 1  # milliseconds: poll takes an int
_LONGEST_WAIT = 2.0**31 - 1  # seconds


class Transport(Protocol):
    """What a connection needs of its socket; plain and TLS have the same face."""

    unsent: int
    """How many bytes that ``send`` took have not reached the operating system yet; what
    they become, where they are encrypted."""

    def handshake(self, timeout: float) -> None:
        """Shake hands, where there is something to agree on first.  The reader, once.

        :raises TimeoutError: after ``timeout`` seconds.
        :raises OSError: when that fails.
        """

    def set_deadline(self, seconds: float | None) -> None:
        """From the next ``recv`` on, raise ``TimeoutError`` after so long without a byte."""

    def recv(self) -> bytes:
        """Block for bytes; ``b""`` at the end of the stream.  The reader only.

        :raises TimeoutError: when the deadline passed.
        :raises OSError: when the connection is broken.
        """

    def send(self, data: bytes | memoryview) -> int:
        """Take what fits now, and say how much; never blocks.  Under the outbox's lock.

        :raises OSError: when the connection is broken, or never came about.
        """

    def wait_writable(self, timeout: float) -> bool:
        """Block until ``send`` may take something, or ``timeout`` seconds; the writer only."""

    def finish(self) -> None:
        """Say that nothing more is sent.  Under the outbox's lock; never raises.

        Over TLS that takes some bytes, which may wait as ``unsent`` for the next ``send``.
        What ``recv`` gives after it only tells that the peer still sends: it may be cipher.
        """

    def shutdown(self) -> None:
        """Cut both directions: wakes the reader.  Any thread; never raises."""

    def close(self) -> None:
        """Give the descriptor back, when no other thread is inside any call but
        ``shutdown``.  The reader, at its end; never raises."""


class PlainTransport:
    """A TCP or Unix stream socket without TLS.

    :param sock: connected; the transport owns it from now on.
    """

    __slots__ = (
        "_burden",
        "_closing",
        "_deadline",
        "_full",
        "_got",
        "_read_power",
        "_reads",
        "_sock",
        "unsent",
    )

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._read_power = _FIRST_READ
        self._full = False  # the last read took as much as it may, and so may have left some
        self._got = 0  # bytes of the last read
        self._reads = 0  # since the last look; a larger one counts as many
        self._burden: CpuBudget | None = None  # made for those who send more than a little
        self._deadline: float | None = None
        # Between the two, the number of a descriptor could be another connection's.
        self._closing = threading.Lock()  # held by shutdown and close
        self.unsent = 0
        # Blocking where each send can say for itself that it must not block.
        sock.setblocking(bool(MSG_DONTWAIT) and KERNEL_DEADLINE)
        if sock.family != getattr(socket, "AF_UNIX", None):
            with contextlib.suppress(OSError):  # already broken: the first recv says so
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def handshake(self, timeout: float) -> None:
        """Nothing to agree on."""

    def set_deadline(self, seconds: float | None) -> None:
        """See ``Transport``, as for all that follows."""
        self._deadline = seconds
        if KERNEL_DEADLINE:
            # Zero means "for ever", and a timeval has an end.
            whole = 0.0 if seconds is None else min(max(seconds, 0.001), _LONGEST_WAIT)
            timeval = struct.pack("@ll", int(whole), int(whole % 1 * 1_000_000))
            with contextlib.suppress(OSError):  # already broken: the next recv says so
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)

    def recv(self) -> bytes:
        """Block for bytes."""
        if not KERNEL_DEADLINE and not self._wait(select_read=True, timeout=self._deadline):
            raise TimeoutError
        if self._reads >= _SMALL_READS:
            self._look()
        power = self._read_power
        size = 1 << power
        try:
            data = self._sock.recv(size)
        except BlockingIOError:
            raise TimeoutError from None
        # A recv allocates what it may read: small while messages are, which also keeps a
        # thread that waits small.
        self._got = got = len(data)
        self._full = got == size
        if got < size // 4 and power > _USUAL_READ:
            self._read_power = _USUAL_READ
        self._reads += 1 if got < _SMALL and not self._full else _SMALL_READS
        if self._reads >= _SMALL_READS and self._burden is None:
            self._burden = CpuBudget()
        return data

    def _look(self) -> None:
        """What came is dealt with: give way if that is due, and read what fits into a slice.

        256 KiB of a large message do, but as many bytes of small ones are thousands of
        callbacks.
        """
        self._reads = 0
        assert self._burden is not None
        took = self._burden.look(more=self._full)
        if took >= 2 * SLICE and (self._full or self._got >= _SMALL):
            self._read_power = max(_LEAST_READ, self._read_power - 1)
        elif self._full and took < SLICE / 4:
            self._read_power = min(_MOST_READ, self._read_power + 2)

    def send(self, data: bytes | memoryview) -> int:
        """Take what fits now."""
        try:
            return self._sock.send(data, MSG_DONTWAIT)
        except BlockingIOError:
            return 0

    def wait_writable(self, timeout: float) -> bool:
        """Block until there is room."""
        return self._wait(select_read=False, timeout=timeout)

    def _wait(self, *, select_read: bool, timeout: float | None) -> bool:
        # Not selectors: a DefaultSelector is an epoll descriptor more for each waiting
        # writer, and select() refuses descriptors above 1023.
        try:
            if hasattr(select, "poll"):
                poll = select.poll()
                poll.register(self._sock, select.POLLIN if select_read else select.POLLOUT)
                return bool(poll.poll(None if timeout is None else _milliseconds(timeout)))
            reading, writing = ([self._sock], []) if select_read else ([], [self._sock])
            return any(select.select(reading, writing, [], timeout))
        except (OSError, ValueError):  # closed meanwhile: the next call on it says so
            return True

    def finish(self) -> None:
        """End the sending side."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    def shutdown(self) -> None:
        """Cut both directions."""
        with self._closing, contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Give the descriptor back."""
        with self._closing, contextlib.suppress(OSError):
            self._sock.close()


def _milliseconds(seconds: float) -> int:
    return min(max(1, int(seconds * 1000)), _LONGEST_POLL)


def send_all(transport: Transport, data: bytes, deadline: float) -> bool:
    """Send ``data`` whole before ``deadline`` (monotonic); whether that went well.

    For the time before a connection has its outbox, and for plain HTTP; blocks.
    """
    rest = memoryview(data)
    try:
        while rest or transport.unsent:
            rest = rest[transport.send(rest) :]
            if not rest and not transport.unsent:
                break
            left = deadline - monotonic()
            if left <= 0 or not transport.wait_writable(left):
                return False
    except OSError:
        return False
    return True
