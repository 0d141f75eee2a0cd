"""Connect to a server: its addresses, a proxy, and TLS, within one deadline.

Layer: net.  Threads: one thread dials; any thread may ring its ``Waker``.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from base64 import b64encode
from collections.abc import Callable
from functools import cache
from urllib.parse import unquote, urlsplit

from hubthread.concurrency.deadline import Deadline
from hubthread.net.steps import run_steps
from hubthread.net.tls import TLSTransport
from hubthread.net.transport import Transport, send_steps
from hubthread.net.waker import Waker, WakingTransport
from hubthread.protocol.client_handshake import Address, Answer, Exchange, WrongAnswer
from hubthread.protocol.http import WrongProtocol

__all__ = ["Dialing", "Interrupted", "detach"]

_IN_PROGRESS = (errno.EINPROGRESS, errno.EWOULDBLOCK)
_LEAST_TIME = 0.25
_SUCCESS = range(200, 300)
_SERVER_ERRORS = 500
_NO_TLS = "the server does not speak TLS: connect with ws instead of wss"


@cache
def _system_context() -> ssl.SSLContext:
    """Return the context with the system's certificates, made once: reading them takes long."""
    return ssl.create_default_context()


class Interrupted(Exception):
    """The attempt was given up, because the connection is not wanted any more."""


class Dialing:
    """One attempt to reach a server.

    Only the look-up of a name cannot be interrupted, because the system has no means for it.

    :param timeout: the seconds for the whole attempt.
    :param waker: ends a wait, so that ``wanted`` is asked again.
    :param wanted: returns False once the attempt is to be given up.
    """

    def __init__(self, timeout: float, waker: Waker, wanted: Callable[[], bool]) -> None:
        self._deadline = Deadline(timeout)
        self._waker = waker
        self._wanted = wanted

    def open(
        self, address: Address, context: ssl.SSLContext | None, proxy: str | None
    ) -> Transport:
        """Return a transport to ``address``, after the handshake of TLS if the address wants it.

        :param context: the TLS; ``None`` verifies the server with the system's certificates.
        :param proxy: the URL of an HTTP proxy; ``None``: connect directly.
        :raises OSError: if the server, or the proxy, cannot be reached.
        :raises WrongAnswer: if the proxy refuses, or the certificate is not valid.
        :raises Interrupted: when the attempt is not wanted any more.
        """
        first = address if proxy is None else Address.of(proxy, ("http",))
        plain = WakingTransport(self._connect(first), self._waker)
        try:
            if proxy is not None:
                self._tunnel(plain, address, proxy)
            if not address.secure:
                return plain
            chosen = _system_context() if context is None else context
            encrypted = TLSTransport(plain, chosen, address.host)
            self._shake_hands(encrypted)
        except BaseException:
            plain.close()
            raise
        return encrypted

    def ask(self, transport: Transport, exchange: Exchange) -> Answer:
        """Send a request, and return the answer.

        :raises OSError: if no answer comes in time.
        :raises WrongAnswer: for an answer that is not HTTP.
        :raises Interrupted: when the attempt is not wanted any more.
        """
        if not run_steps(send_steps(transport, exchange.request, self._deadline.at or 0.0)):
            raise ConnectionResetError("the server takes no request")
        while True:
            answer = exchange.receive(self._receive(transport))
            if answer is not None:
                return answer

    def _receive(self, transport: Transport) -> bytes:
        while True:
            transport.set_deadline(self._left())
            try:
                return transport.recv()
            except TimeoutError:
                pass

    def _left(self) -> float:
        """Return the seconds that are left.

        :raises TimeoutError: if no time is left.
        :raises Interrupted: see ``open``.
        """
        if not self._wanted():
            raise Interrupted
        left = self._deadline.left()
        if not left:
            raise TimeoutError(errno.ETIMEDOUT, "the server does not answer")
        return left

    def _connect(self, address: Address) -> socket.socket:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        error: OSError = ConnectionRefusedError(f"{address.host} has no address")
        for number, (family, kind, protocol, _, place) in enumerate(found):
            # Each address gets a share of the time: one that drops packets must leave time.
            share = max(_LEAST_TIME, self._left() / (len(found) - number))
            try:
                sock = socket.socket(family, kind, protocol)
            except OSError as failed:  # a family that this system lacks
                error = failed
                continue
            try:
                self._reach(sock, place, min(share, self._left()))
                return sock
            except OSError as failed:
                sock.close()
                error = failed
            except BaseException:
                sock.close()
                raise
        raise error

    def _reach(self, sock: socket.socket, place: object, timeout: float) -> None:
        sock.setblocking(False)
        code = sock.connect_ex(place)  # type: ignore[arg-type]
        if code in _IN_PROGRESS:
            share = Deadline(timeout)
            while not self._waker.wait(share.left(), sock, write=True):
                self._left()
                if share.passed:
                    raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))

    def _tunnel(self, plain: WakingTransport, address: Address, proxy: str) -> None:
        fields = [("Host", address.authority)]
        user = urlsplit(proxy)
        if user.username is not None:
            pair = f"{unquote(user.username)}:{unquote(user.password or '')}"
            fields.append(("Proxy-Authorization", f"Basic {b64encode(pair.encode()).decode()}"))
        answer = self.ask(plain, Exchange("CONNECT", address.authority, fields))
        if answer.status not in _SUCCESS:
            # A proxy that cannot reach the server may reach it later.
            later = answer.status if answer.status >= _SERVER_ERRORS else None
            raise WrongAnswer(f"the proxy refuses ({answer.status})", later)
        if answer.rest:
            raise WrongAnswer("the proxy has sent something of its own behind its answer")

    def _shake_hands(self, transport: TLSTransport) -> None:
        while True:
            left = self._left()
            try:
                transport.handshake(left)
                return
            except TimeoutError:  # woken, or overdue: ``_left`` tells which
                continue
            except ssl.SSLCertVerificationError as error:
                text = f"the certificate of the server is refused: {error.verify_message}"
                raise WrongAnswer(text) from None
            except WrongProtocol:
                raise WrongAnswer(_NO_TLS) from None
            except ssl.SSLError as error:
                if error.reason == "WRONG_VERSION_NUMBER":
                    raise WrongAnswer(_NO_TLS) from None
                raise


def detach(transport: Transport) -> int:
    """Let ``recv`` of a transport of ``Dialing.open`` wait no more; return the descriptor."""
    plain = transport._plain if isinstance(transport, TLSTransport) else transport
    assert isinstance(plain, WakingTransport)
    return plain.detach()
