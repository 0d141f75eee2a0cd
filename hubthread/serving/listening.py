"""A listening socket of a hub: the common part of both kinds of servers.

Layer: serving.  Threads: every method may be called on any thread.  Only the listener's thread
uses the socket.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from hubthread.checks import check_kind, check_number
from hubthread.concurrency.logs import log_safely
from hubthread.core.core import Core
from hubthread.errors import HubClosed, SettingError, SettingTypeError
from hubthread.net.listener import Address, Listener
from hubthread.net.tls import can_serve
from hubthread.net.udp.socket import UdpSocket
from hubthread.statistics import ServerStatistics

if TYPE_CHECKING:
    import socket
    import ssl as tls


__all__ = ["Endpoint", "Listening"]

Self = TypeVar("Self", bound="Listening")

_FOR_SERVERS = "an ssl.SSLContext for servers, such as ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)"


@dataclass(frozen=True)
class Endpoint:
    """The place that a server listens at, as the program has given it."""

    host: str
    port: int
    ssl: tls.SSLContext | None
    backlog: int
    """The number of connections that the system queues before they are accepted."""
    unix_path: str | None = None
    """The path of a Unix socket, to be used instead of ``host`` and ``port``."""

    def check(self, host_field: str) -> None:
        """Refuse an endpoint that cannot be listened on.

        :param host_field: the name that the caller's parameter for ``host`` has.
        :raises SettingError: with the name of the parameter and what is allowed.
        """
        wanted = "a name or address: '0.0.0.0' for all of IPv4, '::' for all"
        check_kind(host_field, self.host, str, wanted)
        if not self.host:
            raise SettingError(host_field, f"expected {wanted}, got ''")
        wanted = f"expected an integer from 0 to 65535, got {self.port!r}"
        if type(self.port) is not int:  # not isinstance: True is an int
            raise SettingTypeError("port", wanted)
        if self.port not in range(65536):
            raise SettingError("port", wanted)
        check_number("backlog", self.backlog, 1, whole=True)
        if self.ssl is not None and not can_serve(self.ssl):
            raise SettingTypeError("ssl", f"expected {_FOR_SERVERS}, or None, got {self.ssl!r}")


class Listening(ABC):
    """A bound socket and its address.  A context manager, which closes it.

    Threads: every method may be called on any thread.
    """

    def __init__(self, core: Core[Any, Any], endpoint: Endpoint) -> None:
        self._core = core
        self._context = endpoint.ssl
        self._listener: Listener | UdpSocket

    @abstractmethod
    def _bind(self, endpoint: Endpoint) -> socket.socket:
        """Return a socket at the endpoint."""

    @abstractmethod
    def _listen(self, sock: socket.socket, most: int) -> Listener | UdpSocket:
        """Return what accepts at most ``most`` peers on ``sock``; it is started later."""

    def _open(self, endpoint: Endpoint, most: int) -> None:
        """Bind the socket and begin to accept."""
        sock = self._bind(endpoint)
        try:
            self._listener = self._listen(sock, most)
            self._listener.start()
        except BaseException:
            sock.close()
            raise
        self._core.servers.add(self)
        try:
            # Again, after ``add``: the hub may have closed its servers meanwhile.
            self._core.state.refuse_closing("opens no server")
        except HubClosed:
            self.close()
            raise
        log_safely(self._core.logger, logging.INFO, "%s listens on %s", self._core.name, self.url)

    @property
    def address(self) -> Address:
        """The bound ``(host, port)``, or the path of a Unix socket."""
        return self._listener.address

    @property
    @abstractmethod
    def url(self) -> str:
        """The URL that peers connect to."""

    def _place(self) -> str:
        address = self.address
        if isinstance(address, str):
            return f"unix:{address}"
        host, port = address
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

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
        return ServerStatistics(
            self._place(), listener.connections, listener.accepted, listener.refused
        )

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
