"""One connected stream socket with TLS, between two memory buffers.

Layer: net.  Threads: as ``transport``; the SSL object is used under this transport's own
lock, and never while anything waits: OpenSSL works on memory, the socket is read and
written outside of it.  So both directions run at once, a read that must write (key
update, renegotiation) just leaves bytes to send, and no decrypted byte is ever hidden
from a selector.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from time import monotonic

from hubthread.net.transport import PlainTransport, Stream, Transport

__all__ = ["TLSTransport", "can_serve", "open_transport"]

_RECORDS = 64 * 1024
"""Plain bytes encrypted at a time: what is encrypted can no more be dropped."""


class TLSTransport:
    """A TCP socket with TLS, server side; the handshake is its first business.

    :param sock: connected; the transport owns it from now on.
    """

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self._plain = PlainTransport(sock)
        self._lock = threading.Lock()  # guards what follows; no call under it can block
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._ssl = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._cipher = b""  # encrypted, and not yet taken by the socket
        self._shaken = False  # the handshake is done
        self._finished = False  # our close_notify is made: nothing is decrypted any more
        self.unsent = 0

    def handshake(self, timeout: float) -> None:
        """Shake hands within ``timeout`` seconds, on the reader thread.

        :raises TimeoutError, ssl.SSLError, OSError: when that fails.
        """
        deadline = monotonic() + timeout
        while True:
            with self._lock:
                try:
                    self._ssl.do_handshake()
                    done = True
                except ssl.SSLWantReadError:
                    done = False
                except ssl.SSLError:
                    self._flush()  # the alert that tells the peer why
                    raise
                self._flush()
                flushed = not self.unsent
            remaining = deadline - monotonic()
            if remaining <= 0:
                raise TimeoutError
            if not flushed:
                self._plain.wait_writable(remaining)
            elif done:
                self._shaken = True
                return
            else:
                self._plain.set_deadline(remaining)
                self._feed(self._plain.recv())

    def set_deadline(self, seconds: float | None) -> None:
        """See ``Transport``, as for all that follows."""
        self._plain.set_deadline(seconds)

    def recv(self) -> bytes:
        """Block for bytes."""
        while True:
            with self._lock:
                if self._finished:
                    break
                parts = []
                try:
                    while part := self._ssl.read(_RECORDS):
                        parts.append(part)
                    ended = True  # close_notify
                except ssl.SSLWantReadError:
                    ended = False
                except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                    ended = True
                except ssl.SSLError:
                    if not parts:
                        raise
                    ended = True  # what came before it counts; to OpenSSL this was the end
                if self._outgoing.pending:
                    with contextlib.suppress(OSError):
                        self._flush()
            if parts or ended:
                return b"".join(parts)
            self._feed(self._plain.recv())
        # Not decrypted: nobody looks at what comes after our close_notify, but left unread it
        # would turn the close into a reset.
        return self._plain.recv()

    def _feed(self, data: bytes) -> None:
        with self._lock:
            if data:
                self._incoming.write(data)
            else:
                self._incoming.write_eof()

    def send(self, data: bytes | memoryview) -> int:
        """Take what fits now."""
        taken = 0
        with self._lock:
            self._flush()
            while taken < len(data) and not self._cipher:
                try:
                    taken += self._ssl.write(data[taken : taken + _RECORDS])
                except ssl.SSLWantReadError:
                    if not self._shaken:  # room in the socket will not help
                        raise
                    break  # a renegotiation is under way: the reader's turn
                self._flush()
        return taken

    def _flush(self) -> None:
        """Offer the socket what is encrypted.  Under the lock."""
        if self._outgoing.pending:
            self._cipher += self._outgoing.read()
        if self._cipher:
            self._cipher = self._cipher[self._plain.send(self._cipher) :]
        self.unsent = len(self._cipher)
        if self._finished and not self.unsent:
            self._plain.finish()

    def wait_writable(self, timeout: float) -> bool:
        """Block until there is room."""
        return self._plain.wait_writable(timeout)

    def finish(self) -> None:
        """End the sending side, when our close_notify is out: ``unsent`` says so."""
        with self._lock, contextlib.suppress(OSError):
            self._finished = True
            with contextlib.suppress(ssl.SSLError):  # it may want the peer's, too
                self._ssl.unwrap()  # leaves our close_notify to be sent
            self._flush()

    def shutdown(self) -> None:
        """Cut both directions."""
        self._plain.shutdown()

    def close(self) -> None:
        """Give the descriptor back."""
        self._plain.close()


def can_serve(context: object) -> bool:
    """Whether it is an ``ssl.SSLContext`` for the server's side of a connection.

    ``ssl.create_default_context()`` is not: it is for clients, and each handshake would fail.
    """
    if not isinstance(context, ssl.SSLContext):
        return False
    try:
        context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)
    except ssl.SSLError:
        return False
    return True


def open_transport(sock: Stream, context: ssl.SSLContext | None) -> Transport:
    """The transport over an accepted socket: plain, or TLS where there is a context."""
    return PlainTransport(sock) if context is None else TLSTransport(sock, context)
