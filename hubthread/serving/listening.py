"""A listening socket of a hub: the common part of both kinds of servers.

Layer: serving.  Threads: every method may be called on any thread.  Only the listener's thread
uses the socket.
"""

from __future__ import annotations

import logging
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, TypeVar

from hubthread.checks import check_kind, check_number
from hubthread.concurrency.logs import log_safely
from hubthread.core.core import Core
from hubthread.errors import SettingError, SettingTypeError
from hubthread.net.bind import (
    HAS_REUSE_PORT,
    HAS_UNIX,
    Address,
    Bound,
    check_listenable,
    open_tcp,
    open_unix,
    take_sock,
)
from hubthread.net.listener import Incoming, Listener
from hubthread.net.proxy import Proxies, receive_header
from hubthread.net.steps import Steps
from hubthread.net.tls import can_serve
from hubthread.net.udp.socket import UdpSocket
from hubthread.serving.accept import Arrival
from hubthread.statistics import ServerStatistics

if TYPE_CHECKING:
    import socket
    import ssl as tls


__all__ = ["Endpoint", "Listening"]

Self = TypeVar("Self", bound="Listening")

_MOST_BACKLOG = 2**31 - 1
_FOR_SERVERS = "an ssl.SSLContext for servers, such as ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)"


@dataclass(frozen=True)
class Endpoint:
    """The place that a server listens at, as the program has given it."""

    host: str
    port: int
    ssl: tls.SSLContext | None
    backlog: int
    """The number of connections that the system queues before they are accepted."""
    reuse_port: bool = False
    """Let other processes listen on the same port."""
    unix_path: str | PathLike[str] | None = None
    """The path of a Unix socket, to be used instead of ``host`` and ``port``."""
    unix_mode: int | None = None
    """The permissions of the file at ``unix_path``."""
    sock: socket.socket | None = None
    """A bound socket, to be used instead of ``host`` and ``port``."""
    proxy_protocol: Collection[str] = ()
    """The addresses whose connections begin with a PROXY header."""

    def check(self, host_field: str) -> None:
        """Refuse an endpoint that cannot be listened on.

        :param host_field: the name that the caller's parameter for ``host`` has.
        :raises SettingError: with the name of the parameter and its allowed values.
        """
        _check_host(host_field, self.host)
        wanted = f"expected an integer from 0 to 65535, got {self.port!r}"
        if type(self.port) is not int:  # not isinstance: True is an int
            raise SettingTypeError("port", wanted)
        if self.port not in range(65536):
            raise SettingError("port", wanted)
        check_number("backlog", self.backlog, 1, whole=True)
        if self.backlog > _MOST_BACKLOG:
            wanted = f"expected an integer of at most {_MOST_BACKLOG}, got {self.backlog!r}"
            raise SettingError("backlog", wanted)
        if self.ssl is not None and not can_serve(self.ssl):
            raise SettingTypeError("ssl", f"expected {_FOR_SERVERS}, or None, got {self.ssl!r}")
        check_kind("reuse_port", self.reuse_port, bool, "True or False")
        if self.unix_path is not None:
            _check_unix_path(self.unix_path)
        _check_mode(self.unix_mode)
        if self.sock is not None:
            check_listenable(self.sock)
        Proxies(self.proxy_protocol)
        self._check_together()

    def _check_together(self) -> None:
        """Refuse parameters that each are right, and cannot be honoured together."""
        port = bool(self.port)
        if self.sock is not None and (port or self.unix_path is not None):
            raise SettingError("sock", "expected None if port or unix_path is given")
        if self.unix_path is not None and port:
            raise SettingError("unix_path", f"expected None if port is given ({self.port})")
        if self.reuse_port and (self.sock is not None or self.unix_path is not None):
            raise SettingError("reuse_port", "expected False with sock and with unix_path")
        if self.reuse_port and not HAS_REUSE_PORT:
            raise SettingError("reuse_port", "expected False: this system has no SO_REUSEPORT")
        if self.unix_mode is not None and (
            self.unix_path is None or fspath(self.unix_path).startswith("\0")
        ):
            raise SettingError("unix_mode", "expected None without the file of a unix_path")

    def open_stream(self) -> Bound:
        """Return the listening sockets.

        :raises OSError: with the address in its text.
        """
        if self.sock is not None:
            return take_sock(self.sock, self.backlog)
        if self.unix_path is not None:
            return open_unix(fspath(self.unix_path), self.backlog, self.unix_mode)
        return open_tcp(self.host, self.port, self.backlog, reuse_port=self.reuse_port)


def _check_host(field: str, host: object) -> None:
    wanted = "a name or address: '0.0.0.0' for all of IPv4, '::' for all"
    check_kind(field, host, str, wanted)
    assert isinstance(host, str)
    if not host or "\0" in host:
        raise SettingError(field, f"expected {wanted}, got {host!r}")
    # As in a URL; the look-up of these would fail, and say only that the name is unknown.
    if host.startswith("["):
        raise SettingError(field, f"expected {wanted}, without brackets, got {host!r}")
    if host.count(":") == 1:
        raise SettingError(field, f"expected {wanted}, without a port, got {host!r}")


def _check_unix_path(path: object) -> None:
    wanted = f"expected a path as str or PathLike, got {path!r}"
    if not isinstance(path, str | PathLike) or not isinstance(fspath(path), str):
        raise SettingTypeError("unix_path", wanted)
    if not HAS_UNIX:
        raise SettingError("unix_path", "expected None: this system has no Unix sockets")
    text: str = fspath(path)
    abstract = text.startswith("\0")
    if not text or "\0" in text[1:]:
        raise SettingError("unix_path", f"{wanted}: a path is not empty and has no NUL inside")
    if abstract and (len(text) == 1 or not sys.platform.startswith("linux")):
        raise SettingError("unix_path", f"{wanted}: only Linux has abstract names")
    try:
        os.fsencode(text)
    except UnicodeError:
        raise SettingError("unix_path", f"{wanted}: the system cannot encode it") from None


def _check_mode(mode: object) -> None:
    if mode is None:
        return
    wanted = f"expected file permissions from 0 to 0o777, or None, got {mode!r}"
    if type(mode) is not int:
        raise SettingTypeError("unix_mode", wanted)
    if not 0 <= mode <= 0o777:
        raise SettingError("unix_mode", wanted)


MOMENT = 0.1
"""Seconds to wait for a thread that perhaps does not run."""


class Listening(ABC):
    """A bound socket and its address.  A context manager, which closes it.

    Threads: every method may be called on any thread.
    """

    def __init__(self, core: Core[Any, Any], endpoint: Endpoint) -> None:
        self._core = core
        self._context = endpoint.ssl
        self._proxies = Proxies(endpoint.proxy_protocol)
        self._listener: Listener | UdpSocket

    def _bind(self, endpoint: Endpoint) -> Bound:
        """Return the sockets at the endpoint."""
        return endpoint.open_stream()

    @abstractmethod
    def _listen(self, bound: Bound, most: int) -> Listener | UdpSocket:
        """Return a listener for at most ``most`` peers on ``bound``; it is started later."""

    def _open(self, endpoint: Endpoint, most: int) -> None:
        """Bind the sockets and begin to accept."""
        bound = self._bind(endpoint)
        listener = None
        try:
            listener = self._listener = self._listen(bound, most)
            listener.start()
        except BaseException:
            if listener is not None:  # after an interrupt its thread may run
                listener.close(MOMENT)
            bound.close()
            raise
        try:
            self._core.servers.add(self)
            # Again, after ``add``: the hub may have closed its servers meanwhile.
            self._core.state.refuse_closing("opens no server")
            self._log_opened(endpoint, bound)
        except BaseException:  # an interrupt, too: the caller has no server to close
            self.close()
            raise

    def _log_opened(self, endpoint: Endpoint, bound: Bound) -> None:
        also = "".join(f", {_written(each)}" for each in self._listener.addresses[1:])
        hub = self._core.hub
        text, args = "%s listens on %s%s", (self._core.name, self.url, also)
        log_safely(self._core.logger, logging.INFO, text, *args, about=hub)
        if bound.skipped:
            text = "%s does not listen on %s: this machine does not have all addresses of %r"
            skipped = ", ".join(bound.skipped)
            args = (self._core.name, skipped, endpoint.host)
            log_safely(self._core.logger, logging.WARNING, text, *args, about=hub)

    def _introduce(self, arrival: Arrival, incoming: Incoming) -> Steps[None]:
        """Receive a PROXY header and the TLS handshake, which come before the peer's own bytes.

        :raises TimeoutError, OSError, HandshakeRejected: as ``Arrival.handshake``.
        """
        if incoming.proxied:
            held, proxy = bytearray(), incoming.peer
            header = yield from arrival.wait_for(
                lambda: receive_header(arrival.transport, held, proxy)
            )
            if header.peer is not None:
                incoming.name(header.peer)
                arrival.peer = header.peer
        if self._context is not None:
            yield from arrival.handshake()

    @property
    def address(self) -> Address:
        """The bound ``(host, port)``, or the path of a Unix socket.

        Of a host name with several addresses this is the first; all have the same port.
        """
        return self._listener.addresses[0]

    @property
    @abstractmethod
    def url(self) -> str:
        """The URL that peers connect to."""

    def _place(self) -> str:
        return _written(self.address)

    def renew_ssl(self, context: tls.SSLContext) -> None:
        """Use ``context`` for every TLS handshake from now on; open connections stay.

        Use this to bring in a renewed certificate without a restart.  Make a new context.  Do
        not call ``load_cert_chain`` on the context that serves: it loads the certificate and
        the key one after the other, and a handshake in between finds no pair.

        :raises SettingError: when ``context`` is not an ``ssl.SSLContext`` for servers, or this
            server was opened without ``ssl``; nothing has changed then.
        """
        if self._context is None:
            raise SettingError("context", "nothing for a server that was opened without ssl=")
        if not can_serve(context):
            raise SettingTypeError("context", f"expected {_FOR_SERVERS}, got {context!r}")
        self._context = context

    def close(self) -> None:
        """Stop accepting; return when the socket is closed."""
        if self._core.state.refusal is None:  # the socket is not that of a parent process
            self._close(None)

    def _close(self, timeout: float | None) -> None:
        """Close as ``close`` does; return after ``timeout`` seconds at the latest."""
        self._listener.close(timeout)
        self._core.servers.remove(self)

    def statistics(self) -> ServerStatistics:
        """Return a snapshot of this server's address and counters."""
        listener = self._listener
        places = ", ".join(map(_written, listener.addresses))
        return ServerStatistics(places, listener.connections, listener.accepted, listener.refused)

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _written(address: Address) -> str:
    """Return an address as it stands in a URL."""
    if isinstance(address, str):
        # An abstract name begins with a NUL, which tools such as ss write as @.
        return "unix:" + address.replace("\0", "@")
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
