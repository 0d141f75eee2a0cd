"""TLS: the transport of one connection, and the context of a server from its files.

A ``TLSTransport`` keeps the TLS state between two memory buffers.  OpenSSL works on memory
only, and the socket is read and written outside of it.  Both directions can therefore run at
once.  A read that must write (a key update, a renegotiation) only leaves bytes to send, and no
decrypted byte is ever hidden from a selector.

Layer: net.  Threads: as for ``transport``.  The SSL object is used under the transport's own
lock, and no thread waits while it holds that lock.
"""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from hubthread.concurrency.deadline import Deadline
from hubthread.net.shared import SharedTransport
from hubthread.net.steps import Watching
from hubthread.net.transport import PeerLeft, PlainTransport, Stream, Transport
from hubthread.protocol.http import foreign_protocol

__all__ = ["TLSTransport", "can_serve", "certificate_of", "open_transport", "server_context"]

_PLAIN_PIECE = 64 * 1024
"""Plain bytes that are encrypted at a time.  Encrypted bytes can no longer be dropped by the
outbox, so no more are encrypted than the socket takes."""


class TLSTransport:
    """A stream with TLS.  ``handshake`` comes first.

    :param plain: the transport of the encrypted bytes; it is owned from now on.
    :param server_hostname: the name of the server, for a client; ``None`` for a server.
    """

    def __init__(
        self, plain: PlainTransport, context: ssl.SSLContext, server_hostname: str | None = None
    ) -> None:
        self._plain = plain
        self.watch: Watching | None = plain.watch
        self._lock = threading.RLock()  # guards what follows; no call under it can block
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._ssl = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=server_hostname is None,
            server_hostname=server_hostname,
        )
        self._cipher = b""  # encrypted bytes that the socket has not taken yet
        self._flushing = False
        self._handshaken = False
        self._first = b""  # the first bytes, until the handshake is complete
        self._finished = False  # our close_notify is made: nothing is decrypted any more
        self.unsent = 0

    def handshake(self, timeout: float) -> None:
        """Complete the TLS handshake within ``timeout`` seconds, on the reader thread.

        With a ``watch`` it raises ``TimeoutError`` whenever the peer's bytes are missing, and is
        called again when some have come.  So it does when the transport of a client is woken.

        :raises PeerLeft: when the peer has gone without a byte.
        :raises WrongProtocol: when the peer speaks another protocol, which has a name.
        :raises TimeoutError, ssl.SSLError, OSError: when the handshake fails.
        """
        deadline = Deadline(timeout)
        while True:
            with self._lock:
                try:
                    self._ssl.do_handshake()
                    done = True
                except ssl.SSLWantReadError:
                    done = False
                except ssl.SSLError:
                    self._flush()  # the alert that tells the peer why
                    foreign = foreign_protocol(self._first, tls=True)
                    if foreign is not None:
                        raise foreign from None
                    raise
                self._flush()
                flushed = not self.unsent
            left = deadline.left()
            if not left:
                raise TimeoutError
            if not flushed:
                self._plain.wait_writable(left)
            elif done:
                self._handshaken = True
                self._first = b""
                return
            else:
                self._plain.set_deadline(left)
                self._feed(self._receive_handshake())

    def _receive_handshake(self) -> bytes:
        try:
            data = self._plain.recv()
        except ConnectionError:
            data = b""
            if self._first:
                raise
        if not data and not self._first:
            raise PeerLeft
        self._first = self._first or data
        return data

    @property
    def certificate(self) -> Mapping[str, Any] | None:
        """The peer's certificate, which the context has verified; ``None`` without one."""
        found = self._ssl.getpeercert() if self._handshaken else None
        return MappingProxyType(found) if found else None

    def set_deadline(self, seconds: float | None) -> None:
        """See ``Transport``."""
        self._plain.set_deadline(seconds)

    def recv(self) -> bytes:
        """See ``Transport``."""
        while True:
            with self._lock:
                if self._finished:
                    break
                parts = []
                try:
                    while part := self._ssl.read(_PLAIN_PIECE):
                        parts.append(part)
                    ended = True  # close_notify
                except ssl.SSLWantReadError:
                    ended = False
                except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                    ended = True
                except ssl.SSLError:
                    if not parts:
                        raise
                    ended = True  # deliver the bytes before the error; OpenSSL cannot read further
                if self._outgoing.pending:
                    with contextlib.suppress(OSError):
                        self._flush()
            if parts or ended:
                return b"".join(parts)
            self._feed(self._plain.recv())
        # Nobody needs what comes after our close_notify, so it is not decrypted.  It must be
        # read all the same: unread bytes would turn the close into a reset.
        return self._plain.recv()

    @property
    def full(self) -> bool:
        """See ``SharedTransport``."""
        assert isinstance(self._plain, SharedTransport)
        return self._plain.full

    def adapt_reads(self, took: float) -> None:
        """See ``SharedTransport``."""
        assert isinstance(self._plain, SharedTransport)
        self._plain.adapt_reads(took)

    def _feed(self, data: bytes) -> None:
        """Give OpenSSL the bytes that came; none mean the end of the stream."""
        with self._lock:
            if data:
                self._incoming.write(data)
            else:
                self._incoming.write_eof()

    def send(self, data: bytes | memoryview) -> int:
        """See ``Transport``."""
        taken = 0
        with self._lock:
            self._flush()
            while taken < len(data) and not self._cipher and not self._flushing:
                wrote = self._encrypt(data[taken : taken + _PLAIN_PIECE])
                if not wrote:
                    break
                taken += wrote
                self._flush()
        return taken

    def _encrypt(self, piece: bytes | memoryview) -> int:
        """Encrypt ``piece`` and return its length; 0 if the reader must receive first."""
        try:
            return self._ssl.write(piece)
        except ssl.SSLWantReadError:
            if not self._handshaken:  # waiting for room in the socket will not help
                raise
            return 0  # a renegotiation

    def _flush(self) -> None:
        """Offer the socket the encrypted bytes.  The caller holds the lock.

        A finaliser may send on a thread that is in this method.  Its bytes go out with the
        others, here.
        """
        if self._flushing:
            self.unsent = len(self._cipher) + self._outgoing.pending
            return
        self._flushing = True
        try:
            while self._cipher or self._outgoing.pending:
                self._cipher += self._outgoing.read()
                self._cipher = self._cipher[self._plain.send(self._cipher) :]
                if self._cipher:
                    break
        finally:
            self._flushing = False
            self.unsent = len(self._cipher)
        if self._finished and not self.unsent:
            self._plain.finish()

    def wait_writable(self, timeout: float) -> bool:
        """See ``Transport``."""
        return self._plain.wait_writable(timeout)

    def finish(self) -> None:
        """End the sending side once our close_notify is out; until then it is ``unsent``."""
        with self._lock, contextlib.suppress(OSError):
            self._finished = True
            with contextlib.suppress(ssl.SSLError):  # it may want the peer's close_notify too
                self._ssl.unwrap()  # leaves our close_notify to be sent
            self._flush()

    def shutdown(self) -> None:
        """See ``Transport``."""
        self._plain.shutdown()

    def close(self) -> None:
        """See ``Transport``."""
        self._plain.close()


def open_transport(
    sock: Stream, context: ssl.SSLContext | None, watch: Watching | None = None
) -> Transport:
    """Return the transport over an accepted socket: with TLS if there is a context.

    :param watch: the socket's place among those that share threads, if it shares them.
    """
    plain = _plain(sock, watch)
    return plain if context is None else TLSTransport(plain, context)


def _plain(sock: Stream, watch: Watching | None) -> PlainTransport:
    return PlainTransport(sock) if watch is None else SharedTransport(sock, watch)


def certificate_of(transport: Transport) -> Mapping[str, Any] | None:
    """Return the certificate of the peer, once TLS is agreed on; ``None`` without one."""
    return transport.certificate if isinstance(transport, TLSTransport) else None


def can_serve(context: object) -> bool:
    """Return True if ``context`` is an ``ssl.SSLContext`` for the server's side.

    ``ssl.create_default_context()`` is for clients: with it each handshake would fail.
    """
    if not isinstance(context, ssl.SSLContext):
        return False
    try:
        context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)
    except ssl.SSLError:
        return False
    return True


def server_context(certfile: str, keyfile: str | None = None) -> ssl.SSLContext:
    """Return a context for ``hub.serve(ssl=...)``: TLS 1.2 and later.

    The errors of ``ssl`` name neither the file nor the fault
    (``[SSL] PEM lib (_ssl.c:4149)``); the errors of this function name both.

    :param certfile: PEM: the server's certificate, then the certificates between it and the root.
    :param keyfile: PEM: the certificate's private key, unencrypted; ``None``: the key is in
        ``certfile``.
    :raises OSError: when a file is missing, unreadable or malformed.  Its text is one line.
    """
    _check_readable("certificate", certfile)
    if keyfile is not None:
        _check_readable("private key", keyfile)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A renegotiation (TLS 1.2) costs the server far more than the client that asks for it.
    context.options |= ssl.OP_NO_RENEGOTIATION
    # Browsers that prefer HTTP/2 learn here that this server does not speak it.
    context.set_alpn_protocols(["http/1.1"])
    try:
        # Without ``password`` OpenSSL asks on the terminal, where nobody answers a server.
        context.load_cert_chain(certfile, keyfile, password=_refuse_password)
    except ssl.SSLError as error:
        raise OSError(error.errno, _explained(error, certfile, keyfile)) from None
    return context


class _Encrypted(OSError):
    """The private key needs a password."""


def _refuse_password() -> str:
    raise _Encrypted(None, "the private key is encrypted: give one without a password")


def _check_readable(what: str, path: str) -> None:
    """Check that a file can be read.

    :raises OSError: if not; its text names the file.
    """
    try:
        with open(path, "rb") as file:
            file.read(1)  # some systems open a folder, but none reads one
    except OSError as error:
        raise OSError(error.errno, f"cannot read the {what} {path}: {error.strerror}") from None


def _explained(error: ssl.SSLError, certfile: str, keyfile: str | None) -> str:
    """Return the text of ``error`` in words that name the file and the fault."""
    key = certfile if keyfile is None else keyfile
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"the private key in {key} does not belong to the certificate in {certfile}"
    return (
        f"no certificate in {certfile}, or no private key in {key}: both must be PEM "
        f"(blocks that start with -----BEGIN)"
    )
