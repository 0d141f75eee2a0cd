"""One connected stream socket: blocking receives, non-blocking sends.

Layer: net.  Threads: the reader thread receives; a thread that holds the outbox's lock sends;
the writer thread waits for room.  Any thread may call ``shutdown``, which wakes the reader.
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
from hubthread.net.steps import Steps, Watching, Writable

__all__ = ["PeerLeft", "PlainTransport", "SendingHalf", "Stream", "Transport", "send_steps"]

Stream = socket.socket
"""A connected stream socket."""

# A plain int.  All threads would count references to the socket module's enumeration member.
MSG_DONTWAIT = int(getattr(socket, "MSG_DONTWAIT", 0))

KERNEL_DEADLINE = sys.platform.startswith("linux") or sys.platform == "darwin"
"""True if the kernel keeps receive deadlines (``SO_RCVTIMEO`` as a ``timeval``).

Each read is one system call then.  Elsewhere ``select`` comes before ``recv``, which costs 30 %
of the echo rate, because each call that may block releases the GIL.
"""

# The size of the next recv is a power of two, and these are the exponents.  Small reads bound
# the work of one read: many tiny frames cost far more than the same bytes of a large one.
_LEAST_READ = 8
"""256 bytes: for a peer whose reads keep the CPU busy for too long."""
_FIRST_READ = 9
"""512 bytes: until the peer fills a read."""
_USUAL_READ = 11
"""2 KiB: for a peer that has filled a read before.  A frame that is cut by the end of a read
takes twice the time, so 512 bytes would be too few."""
_MOST_READ = 18
"""256 KiB: while the peer fills its reads and they cost little, as a large message does."""

_SMALL = 1024
"""Bytes below which a read counts as small."""
_SMALL_READS = 8
"""Small reads between two looks at the CPU budget; a larger read is followed by a look."""

_LONGEST_POLL = 2**31 - 1
"""Milliseconds that poll takes: it is a C int."""
_LONGEST_WAIT = 2.0**31 - 1
"""Seconds that a ``timeval`` takes."""


class PeerLeft(ConnectionError):
    """The peer has gone without a byte, as the health check of a load balancer does."""


class SendingHalf(Protocol):
    """The part of a transport that an outbox needs."""

    watch: Watching | None
    """The place of a socket among those that share threads; ``recv`` does not block then, and
    raises ``TimeoutError`` if there is nothing to receive.  ``None``: the connection has a reader
    of its own."""

    @property
    def unsent(self) -> int:
        """The number of bytes that ``send`` has taken and the operating system has not; after
        encryption, where there is TLS."""

    def send(self, data: bytes | memoryview) -> int:
        """Take what fits now and return the number of bytes; never block.

        The caller holds the outbox's lock.

        :raises OSError: when the connection is broken, or its handshake has failed.
        """

    def wait_writable(self, timeout: float) -> bool:
        """Wait until ``send`` may take something; return False on time-out.  The writer only.

        :param timeout: in seconds.
        """

    def finish(self) -> None:
        """End the sending side; never raise.  The caller holds the outbox's lock.

        Over TLS this sends some bytes, which may stay ``unsent`` until the next ``send``.
        Bytes that ``recv`` returns afterwards only show that the peer still sends: they may be
        encrypted.
        """


class Transport(SendingHalf, Protocol):
    """The interface of a connection's socket, the same for plain sockets and TLS."""

    def handshake(self, timeout: float) -> None:
        """Complete the TLS handshake, if there is TLS.  The reader thread, once.

        :raises TimeoutError: after ``timeout`` seconds.
        :raises OSError: when the handshake fails.
        """

    def set_deadline(self, seconds: float | None) -> None:
        """Let each later ``recv`` raise ``TimeoutError`` after ``seconds`` without a byte."""

    def recv(self) -> bytes:
        """Wait for bytes and return them; ``b""`` at the end of the stream.  The reader only.

        :raises TimeoutError: when the deadline has passed.
        :raises OSError: when the connection is broken.
        """

    def shutdown(self) -> None:
        """Cut both directions, which wakes the reader; never raise.  Any thread."""

    def close(self) -> None:
        """Close the descriptor; never raise.  The reader, at its end.

        No other thread may be inside any other call than ``shutdown``.
        """


class PlainTransport:
    """A TCP or Unix stream socket without TLS.

    :param sock: a connected socket; the transport owns it from now on.
    """

    __slots__ = (
        "_budget",
        "_closing",
        "_deadline",
        "_full",
        "_got",
        "_read_power",
        "_reads",
        "_sock",
        "unsent",
    )

    watch: Watching | None = None

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._read_power = _FIRST_READ
        self._full = False  # the last read was full, and may have left some bytes
        self._got = 0  # the bytes of the last read
        self._reads = 0  # small reads since the last look at the budget
        self._budget: CpuBudget | None = None  # made for a peer that sends more than a little
        self._deadline: float | None = None
        # Held by shutdown and close.  Without it, shutdown could hit another connection that
        # has got the number of the closed descriptor.
        self._closing = threading.RLock()
        self.unsent = 0
        # Blocking, if each send can be told not to block.
        sock.setblocking(bool(MSG_DONTWAIT) and KERNEL_DEADLINE)
        if sock.family != getattr(socket, "AF_UNIX", None):
            with contextlib.suppress(OSError):  # already broken: the first recv reports it
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def handshake(self, timeout: float) -> None:
        """Do nothing: a plain socket has no handshake."""

    def set_deadline(self, seconds: float | None) -> None:
        """See ``Transport``."""
        self._deadline = seconds
        if KERNEL_DEADLINE:
            # Zero means "for ever".
            whole = 0.0 if seconds is None else min(max(seconds, 0.001), _LONGEST_WAIT)
            timeval = struct.pack("@ll", int(whole), int(whole % 1 * 1_000_000))
            with contextlib.suppress(OSError):  # already broken: the next recv reports it
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)

    def recv(self) -> bytes:
        """See ``Transport``."""
        if not KERNEL_DEADLINE and not self._wait(select_read=True, timeout=self._deadline):
            raise TimeoutError
        if self._reads >= _SMALL_READS:
            self._look_at_budget()
        power = self._read_power
        size = 1 << power
        try:
            data = self._sock.recv(size)
        except BlockingIOError:
            raise TimeoutError from None
        # A recv allocates the size that it may read.  A small size keeps waiting threads small.
        self._got = got = len(data)
        self._full = got == size
        if got < size // 4 and power > _USUAL_READ:
            self._read_power = _USUAL_READ
        self._reads += 1 if got < _SMALL and not self._full else _SMALL_READS
        if self._reads >= _SMALL_READS and self._budget is None:
            self._budget = CpuBudget()
        return data

    def _look_at_budget(self) -> None:
        """Yield the GIL if that is due, and adapt the read size to the CPU time of a read.

        256 KiB of one large message cost little; as many bytes of small messages are thousands
        of callbacks.
        """
        self._reads = 0
        assert self._budget is not None
        took = self._budget.charge(more=self._full)
        if took >= 2 * SLICE and (self._full or self._got >= _SMALL):
            self._read_power = max(_LEAST_READ, self._read_power - 1)
        elif self._full and took < SLICE / 4:
            self._read_power = min(_MOST_READ, self._read_power + 2)

    def peek(self, size: int) -> bytes:
        """Return up to ``size`` bytes that ``recv`` returns again; raise as ``recv`` does."""
        if not KERNEL_DEADLINE and not self._wait(select_read=True, timeout=self._deadline):
            raise TimeoutError
        try:
            return self._sock.recv(size, socket.MSG_PEEK)
        except BlockingIOError:
            raise TimeoutError from None

    def take(self, size: int) -> None:
        """Receive ``size`` bytes that ``peek`` has returned, and drop them."""
        self._sock.recv(size)

    def send(self, data: bytes | memoryview) -> int:
        """See ``Transport``."""
        try:
            return self._sock.send(data, MSG_DONTWAIT)
        except BlockingIOError:
            return 0

    def wait_writable(self, timeout: float) -> bool:
        """See ``Transport``."""
        return self._wait(select_read=False, timeout=timeout)

    def _wait(self, *, select_read: bool, timeout: float | None) -> bool:
        # No DefaultSelector, which costs an epoll descriptor for each waiting writer, and
        # no select() if there is poll: select refuses descriptors above 1023.
        try:
            if hasattr(select, "poll"):
                poll = select.poll()
                poll.register(self._sock, select.POLLIN if select_read else select.POLLOUT)
                return bool(poll.poll(None if timeout is None else _milliseconds(timeout)))
            reading, writing = ([self._sock], []) if select_read else ([], [self._sock])
            return any(select.select(reading, writing, [], timeout))
        except (OSError, ValueError):  # closed meanwhile: the next call on it reports it
            return True

    def finish(self) -> None:
        """See ``Transport``."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    def shutdown(self) -> None:
        """See ``Transport``."""
        with self._closing, contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """See ``Transport``."""
        with self._closing, contextlib.suppress(OSError):
            self._sock.close()


def _milliseconds(seconds: float) -> int:
    return min(max(1, int(seconds * 1000)), _LONGEST_POLL)


def send_steps(
    transport: Transport, data: bytes, deadline: float, *, patience: float = 0.0
) -> Steps[bool]:
    """Send all of ``data``; return False if that fails.

    For responses of plain HTTP, and for the handshake, before a connection has its outbox.

    :param deadline: on the clock of ``time.monotonic``.
    :param patience: seconds that the peer has at least after each part that it has taken.
    """
    rest = memoryview(data)
    try:
        while rest or transport.unsent:
            unsent = transport.unsent
            sent = transport.send(rest)
            rest = rest[sent:]
            if not rest and not transport.unsent:
                break
            if sent or transport.unsent < unsent:
                deadline = max(deadline, monotonic() + patience)
            left = deadline - monotonic()
            if left <= 0:
                return False
            if transport.watch is not None:
                yield Writable(left)
            elif not transport.wait_writable(left):
                return False
    except OSError:
        return False
    return True
