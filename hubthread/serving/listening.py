"""A listening socket of a hub: the common part of both kinds of servers.

Layer: serving.  Threads: every method may be called on any thread; only the listener's thread
uses the socket.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from hubthread.checks import check_number
from hubthread.concurrency.logs import log_safely
from hubthread.core.core import Core
from hubthread.errors import HubClosed, SettingError
from hubthread.net.listener import Address, Listener
from hubthread.net.tls import can_serve
from hubthread.net.udp.socket import UdpSocket
from hubthread.statistics import ServerStatistics

if TYPE_CHECKING:
    import socket
    import ssl as tls


__all__ = ["Listening", "check_place"]

Self = TypeVar("Self", bound="Listening")

_FOR_SERVERS = "an ssl.SSLContext for servers, such as ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)"


class Listening:
    """A bound socket, and where it is.  A context manager, which closes it.

    Threads: every method from any.
    """

    def __init__(self, core: Core[Any, Any], context: tls.SSLContext | None) -> None:
        self._core = core
        self._context = context
        self._listener: Listener | UdpSocket

    def _open(self, sock: socket.socket, listener: Callable[[], Listener | UdpSocket]) -> None:
        """Begin to listen on ``sock``, which is closed if that fails."""
        try:
            self._listener = listener()
            self._listener.start()
        except BaseException:
            sock.close()
            raise
        self._core.servers.add(self)
        try:
            # Again, after it was added: the hub may have closed its servers meanwhile.
            self._core.state.refuse_closing("serves nobody")
        except HubClosed:
            self.close()
            raise
        log_safely(self._core.logger, logging.INFO, "%s listens on %s", self._core.name, self.url)

    @property
    def address(self) -> Address:
        """``(host, port)`` as bound, or the path of a Unix socket."""
        return self._listener.address

    @property
    def url(self) -> str:
        """Where others connect."""
        raise NotImplementedError

    def _place(self) -> str:
        address = self.address
        if isinstance(address, str):
            return f"unix:{address}"
        host, port = address
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def renew_ssl(self, context: tls.SSLContext) -> None:
        """Use ``context`` for each handshake from now on; connections that stand stay.

        How a renewed certificate comes into use without a restart.  A context of its own,
        and not ``load_cert_chain`` on the one that serves: that takes certificate and key
        one after the other, and a handshake between the two finds no pair.

        :raises SettingError: when it is no ``ssl.SSLContext`` for servers, or this server has
            no TLS; nothing has changed then.
        """
        if self._context is None:
            raise SettingError("context", "nothing for a server that was opened without ssl=")
        if not can_serve(context):
            raise SettingError("context", f"{_FOR_SERVERS}, not {context!r}")
        self._context = context

    def close(self) -> None:
        """Accept nobody more; returns when the socket is closed."""
        self._listener.close()
        self._core.servers.remove(self)

    def statistics(self) -> ServerStatistics:
        """What is to be known of this server now."""
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


def check_place(
    field: str, host: str, port: int, backlog: int, context: tls.SSLContext | None
) -> None:
    """Refuse what cannot be listened on.

    :param field: what the caller's parameter for the host is called.
    :raises SettingError: that names the parameter and what is allowed.
    """
    if not host or not isinstance(host, str):
        raise SettingError(
            field, f"a name or address: '0.0.0.0' for all of IPv4, '::' for all, not {host!r}"
        )
    if type(port) is not int or port not in range(65536):  # True and 8000.0 are in it
        raise SettingError("port", f"a whole number from 0 to 65535, not {port!r}")
    check_number("backlog", backlog, 1, whole=True)
    if context is not None and not can_serve(context):
        raise SettingError("ssl", f"{_FOR_SERVERS}, or None, not {context!r}")
