"""Use a WSGI server's socket in place; the server's thread is the reader meanwhile.

A connection with TLS of the server's own cannot be hijacked, because OpenSSL is bound to the
descriptor.  So the server's thread stays in the application and reads for the hub ("parked").

Layer: net.  Threads: as for ``transport``; the reader is the thread of the request.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import threading

from hubthread.concurrency.deadline import Deadline
from hubthread.concurrency.fairness import CpuBudget
from hubthread.net.steps import Watching
from hubthread.net.transport import PlainTransport, Transport
from hubthread.net.wsgi.hijack import Located, read_buffer

__all__ = ["ParkedTLS", "open_parked"]

_RECORD = 16 * 1024
"""Plain bytes handed to OpenSSL at a time: the most that one TLS record takes."""

# A DefaultSelector would cost a descriptor for each thread that waits.
_Selector = getattr(selectors, "PollSelector", selectors.SelectSelector)


class ParkedTLS:
    """The transport over a server's ``ssl.SSLSocket``.

    Two threads must not use one SSL object at once.  Each call to it is non-blocking and under
    this transport's lock, and no thread waits while it holds the lock.

    :param sock: the server's socket.  ``close`` gives it back, shut down.
    """

    watch: Watching | None = None

    def __init__(self, sock: ssl.SSLSocket) -> None:
        self._sock = sock
        self._deadline: float | None = None
        self._timeout = sock.gettimeout()
        self._budget = CpuBudget()
        self._lock = threading.RLock()  # guards what follows
        # Plain bytes that OpenSSL may already have encrypted.  OpenSSL must be given the same
        # bytes again, until the socket takes the record.
        self._begun = b""
        self._finished = False
        self._cut = False
        self._given_back = False
        self.unsent = 0
        sock.settimeout(0.0)

    def handshake(self, timeout: float) -> None:
        """Do nothing: the server has completed the handshake."""

    def set_deadline(self, seconds: float | None) -> None:
        """See ``Transport``."""
        self._deadline = seconds

    def recv(self) -> bytes:
        """See ``Transport``."""
        deadline = Deadline(self._deadline)
        self._budget.charge(more=False)
        while True:
            try:
                with self._lock:
                    # After ``shutdown`` nothing may be decrypted: see _shutdown.
                    return b"" if self._cut else self._sock.recv(4 * _RECORD)
            except (ssl.SSLWantReadError, BlockingIOError):
                event = selectors.EVENT_READ
            except ssl.SSLWantWriteError:
                event = selectors.EVENT_WRITE
            if not self._wait(event, deadline.left()):
                raise TimeoutError

    def send(self, data: bytes | memoryview) -> int:
        """See ``Transport``."""
        taken = 0
        with self._lock:
            self._flush()
            while taken < len(data) and not self._begun:
                self._begun = bytes(data[taken : taken + _RECORD])
                taken += len(self._begun)
                self._flush()
        return taken

    def _flush(self) -> None:
        """Offer OpenSSL the bytes of the begun record.  The caller holds the lock."""
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
            while self._begun:
                self._begun = self._begun[self._sock.send(self._begun) :]
        self.unsent = len(self._begun)
        if self._finished and not self._begun:
            # unwrap also wants the peer's close_notify, and fails after a shutdown.
            with contextlib.suppress(OSError, ValueError):
                self._sock.unwrap()
            self._shutdown(socket.SHUT_WR)

    def wait_writable(self, timeout: float) -> bool:
        """See ``Transport``."""
        return self._wait(selectors.EVENT_WRITE, timeout)

    def _wait(self, event: int, timeout: float | None) -> bool:
        try:
            with _Selector() as selector:
                selector.register(self._sock, event)
                return bool(selector.select(timeout))
        except (OSError, ValueError):  # closed meanwhile: the next call on it says so
            return True

    def finish(self) -> None:
        """End the sending side once our close_notify is out."""
        with self._lock, contextlib.suppress(OSError):
            if not self._finished:
                self._finished = True
                self._flush()

    def shutdown(self) -> None:
        """See ``Transport``."""
        with self._lock:
            if not self._given_back:
                self._cut = True
                self._shutdown(socket.SHUT_RDWR)

    def _shutdown(self, how: int) -> None:
        """Shut the socket down, in one or both directions.  The caller holds the lock.

        ``SSLSocket.shutdown`` also discards the TLS state.  Later bytes of the peer are
        therefore not decrypted, and the server's answer is not encrypted and reaches nobody.
        """
        with contextlib.suppress(OSError):
            self._sock.shutdown(how)

    def close(self) -> None:
        """Give the socket back to the server."""
        with self._lock:
            self._shutdown(socket.SHUT_RDWR)
            self._given_back = True
            with contextlib.suppress(OSError):
                self._sock.settimeout(self._timeout)


def open_parked(located: Located) -> tuple[Transport, bytes]:
    """Return a transport over a server's socket, and the bytes read beyond the request.

    The socket stays the server's.
    """
    sock, before = located.sock, located.sock.gettimeout()
    sock.settimeout(0.0)
    trailing = read_buffer(located)
    sock.settimeout(before)
    if isinstance(sock, ssl.SSLSocket):
        return ParkedTLS(sock), trailing
    return PlainTransport(sock.dup()), trailing
