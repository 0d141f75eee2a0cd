"""Read the PROXY header of a connection, which comes before TLS and before the request.

Layer: net.  Threads: the connection's reader; ``Proxies`` is immutable.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from ipaddress import ip_address, ip_network

from hubthread.errors import SettingError, SettingTypeError
from hubthread.net.bind import Address
from hubthread.net.tls import TLSTransport
from hubthread.net.transport import PeerLeft, PlainTransport, Transport
from hubthread.protocol.http import WrongProtocol
from hubthread.protocol.proxy_header import MAX_HEADER, ProxyHeader, parse_proxy_header

__all__ = ["Proxies", "receive_header"]

UNIX = "unix"
"""Stands for every peer of a Unix socket."""


class Proxies:
    """The addresses whose connections begin with a PROXY header.

    :param given: networks as text, such as ``"10.0.0.5"`` or ``"10.0.0.0/8"``, and ``"unix"``.
    :raises SettingError: for anything else; it names ``proxy_protocol``.
    """

    def __init__(self, given: Collection[str]) -> None:
        wanted = (
            f"expected a collection of networks such as '10.0.0.0/8', or 'unix', got {given!r}"
        )
        texts: object = given
        if isinstance(texts, str | bytes) or not isinstance(texts, Collection):
            raise SettingTypeError("proxy_protocol", wanted)
        if not all(isinstance(each, str) for each in given):
            raise SettingTypeError("proxy_protocol", wanted)
        try:
            self._networks = [ip_network(each) for each in given if each != UNIX]
        except ValueError as error:
            raise SettingError("proxy_protocol", f"{wanted}: {error}") from None
        self._unix = UNIX in given
        self._known = lru_cache(1024)(self._find)

    def __bool__(self) -> bool:
        """Return True if any address is named."""
        return self._unix or bool(self._networks)

    def __contains__(self, peer: Address) -> bool:
        """Return True if connections of ``peer`` begin with a PROXY header."""
        return self._unix if isinstance(peer, str) else self._known(peer[0])

    def _find(self, host: str) -> bool:
        address = ip_address(host.partition("%")[0])
        return any(address in network for network in self._networks)


def receive_header(transport: Transport, held: bytearray, peer: Address) -> ProxyHeader:
    """Receive the header, and not one byte more.

    :param held: the bytes of the header so far; pass the same object again after a time-out.
    :param peer: the address of the proxy, for the refusal.
    :raises TimeoutError: as ``Transport.recv``.
    :raises PeerLeft: when the proxy has gone without a byte, as its health check does.
    :raises WrongProtocol: for anything but a header.
    """
    plain = transport._plain if isinstance(transport, TLSTransport) else transport
    assert isinstance(plain, PlainTransport)
    while True:
        try:
            data = plain.peek(MAX_HEADER)
        except ConnectionError:
            data = b""
        if not data and not held:
            raise PeerLeft
        try:
            if not data:
                raise ValueError("it ends too early")
            header = parse_proxy_header(bytes(held + data))
        except ValueError as error:
            place = peer if isinstance(peer, str) else peer[0]
            reason = f"A PROXY header must come first from {place!r}; this is not one: {error}."
            raise WrongProtocol("no PROXY header", reason) from None
        plain.take(len(data) if header is None else header.size - len(held))
        if header is not None:
            return header
        held += data
