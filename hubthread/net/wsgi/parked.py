"""The socket of a WSGI server, used where it is: its thread is parked as the reader.

Layer: net.  Threads: as ``transport``.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import ssl
import threading
from time import monotonic

from hubthread.concurrency.fairness import CpuBudget
from hubthread.net.transport import PlainTransport, Transport
from hubthread.net.wsgi.hijack import Place, read_buffer

__all__ = ["ParkedTLS", "open_parked"]

_RECORD = 16 * 1024
"""Plain bytes handed to OpenSSL at a time: the most that one record takes."""

# No descriptor more for each that waits, where there is poll.
_Selector = getattr(selectors, "PollSelector", selectors.SelectSelector)


class ParkedTLS:
    """A connection with TLS of the server's own.

    OpenSSL is bound to the descriptor, so it is the server's socket that is read, written
    and waited for.  One SSL object must not be used by two threads at once: each call is
    non-blocking and under this transport's lock, and nobody waits under it.

    :param sock: the server's; ``close`` gives it back with the peer gone.
    """

    def __init__(self, sock: ssl.SSLSocket) -> None:
        self._sock = sock
        self._deadline: float | None = None
        self._timeout = sock.gettimeout()
        self._burden = CpuBudget()
        self._lock = threading.Lock()  # guards what follows
        self._begun = b""  # OpenSSL may have made a record of it, and has to get it again
        self._finished = False
        self._cut = False
        self._given_back = False
        self.unsent = 0
        sock.settimeout(0.0)

    def handshake(self, timeout: float) -> None:
        """The server has done that."""

    def set_deadline(self, seconds: float | None) -> None:
        """See ``Transport``, as for all that follows."""
        self._deadline = seconds

    def recv(self) -> bytes:
        """Block for bytes."""
        until = None if self._deadline is None else monotonic() + self._deadline
        self._burden.look(more=False)
        while True:
            try:
                with self._lock:
                    # What may still come is not decrypted: see _shutdown.
                    return b"" if self._cut else self._sock.recv(4 * _RECORD)
            except (ssl.SSLWantReadError, BlockingIOError):
                event = selectors.EVENT_READ
            except ssl.SSLWantWriteError:
                event = selectors.EVENT_WRITE
            if not self._wait(event, None if until is None else max(0.0, until - monotonic())):
                raise TimeoutError

    def send(self, data: bytes | memoryview) -> int:
        """Take what fits now."""
        taken = 0
        with self._lock:
            self._flush()
            while taken < len(data) and not self._begun:
                self._begun = bytes(data[taken : taken + _RECORD])
                taken += len(self._begun)
                self._flush()
        return taken

    def _flush(self) -> None:
        """Offer OpenSSL what it has begun.  Under the lock."""
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
            while self._begun:
                self._begun = self._begun[self._sock.send(self._begun) :]
        self.unsent = len(self._begun)
        if self._finished and not self._begun:
            # It wants the peer's close_notify, too; or TLS has ended by a shutdown.
            with contextlib.suppress(OSError, ValueError):
                self._sock.unwrap()
            self._shutdown(socket.SHUT_WR)

    def wait_writable(self, timeout: float) -> bool:
        """Block until there is room."""
        return self._wait(selectors.EVENT_WRITE, timeout)

    def _wait(self, event: int, timeout: float | None) -> bool:
        try:
            with _Selector() as selector:
                selector.register(self._sock, event)
                return bool(selector.select(timeout))
        except (OSError, ValueError):  # closed meanwhile: the next call on it says so
            return True

    def finish(self) -> None:
        """End the sending side, when our close_notify is out."""
        with self._lock, contextlib.suppress(OSError):
            if not self._finished:
                self._finished = True
                self._flush()

    def shutdown(self) -> None:
        """Cut both directions."""
        with self._lock:
            if not self._given_back:
                self._cut = True
                self._shutdown(socket.SHUT_RDWR)

    def _shutdown(self, how: int) -> None:
        """Half or all of it.  Under the lock.

        What comes after it is not decrypted, and the server's answer not encrypted: its
        TLS has ended, and there is nobody whom the answer could reach.
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


def open_parked(place: Place) -> tuple[Transport, bytes]:
    """The transport over a server's socket that stays the server's; what was read of it."""
    sock, before = place.sock, place.sock.gettimeout()
    sock.settimeout(0.0)
    trailing = read_buffer(place)
    sock.settimeout(before)
    if isinstance(sock, ssl.SSLSocket):
        return ParkedTLS(sock), trailing
    return PlainTransport(sock.dup()), trailing
