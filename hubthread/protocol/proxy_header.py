"""The PROXY protocol, versions 1 and 2: the peer's address, told by a proxy before any other byte.

Layer: protocol.  Threads: pure functions; any thread may call them.
Source: HAProxy's proxy-protocol.txt, sections 2.1 and 2.2.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

__all__ = ["MAX_HEADER", "SIGNATURE", "ProxyHeader", "begins_proxy_header", "parse_proxy_header"]

MAX_HEADER = 4096
"""Bytes of the longest header.  The addresses take 232 bytes at most; the rest is for the optional
fields of version 2, which may hold a certificate's name."""

_LINE = b"PROXY "
_MAX_LINE = 107
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
"""The beginning of a header of version 2."""
_FIXED = 16
_LOCAL, _PROXY = 0x20, 0x21
_PORT = re.compile(r"0|[1-9][0-9]{0,4}")
_SIZES = {0x00: 0, 0x11: 12, 0x21: 36, 0x31: 216}
"""Bytes of both addresses, by family and transport: none, IPv4, IPv6, Unix; all are streams."""


@dataclass(frozen=True)
class ProxyHeader:
    """A complete header."""

    size: int
    """The bytes of the header."""
    peer: tuple[str, int] | None = None
    """The address of the peer; ``None`` if the proxy speaks for itself, or does not know it."""


def begins_proxy_header(data: bytes) -> bool:
    """Return True if ``data`` begins with a PROXY header."""
    return data.startswith((_LINE, SIGNATURE))


def parse_proxy_header(data: bytes) -> ProxyHeader | None:
    """Parse the header at the beginning of ``data``.

    :returns: ``None`` as long as it is incomplete.
    :raises ValueError: for anything but a header; the text says why.
    """
    if data[: len(_LINE)] == _LINE[: len(data)]:
        return _parse_line(data)
    if data[: len(SIGNATURE)] == SIGNATURE[: len(data)]:
        return _parse_binary(data)
    raise ValueError("it does not begin like one")


def _parse_line(data: bytes) -> ProxyHeader | None:
    end = data.find(b"\n", 0, _MAX_LINE) + 1
    if not end:
        if len(data) >= _MAX_LINE:
            raise ValueError(f"its line is longer than {_MAX_LINE} bytes")
        return None
    try:
        text = data[:end].decode("ascii")
    except UnicodeError:
        raise ValueError("its line is not ASCII") from None
    if not text.endswith("\r\n"):
        raise ValueError("its line does not end with CR LF")
    words = text[:-2].split(" ")
    if words[1] == "UNKNOWN":  # what follows is to be ignored
        return ProxyHeader(end)
    kinds: dict[str, type[IPv4Address | IPv6Address]] = {"TCP4": IPv4Address, "TCP6": IPv6Address}
    if words[1] not in kinds or len(words) != 6:
        raise ValueError("its line is malformed")
    _, kind, source, target, port, target_port = words
    if not all(_PORT.fullmatch(each) and int(each) < 65536 for each in (port, target_port)):
        raise ValueError("a port is malformed")
    if "%" in source + target:
        raise ValueError("an address has a zone")
    kinds[kind](target)
    return ProxyHeader(end, (_text(kinds[kind](source)), int(port)))


def _parse_binary(data: bytes) -> ProxyHeader | None:
    if len(data) < _FIXED:
        return None
    command, family, length = struct.unpack("!BBH", data[12:_FIXED])
    size = _FIXED + length
    if size > MAX_HEADER:
        raise ValueError(f"it is longer than {MAX_HEADER} bytes")
    if command not in (_LOCAL, _PROXY):
        raise ValueError("its version or command is unknown")
    if command == _PROXY and family not in _SIZES:
        raise ValueError("its family or transport is unknown")
    if len(data) < size:
        return None
    if command == _LOCAL:
        return ProxyHeader(size)
    addresses, fields = _SIZES[family], _FIXED + _SIZES[family]
    if length < addresses:
        raise ValueError("it is too short for its addresses")
    _check_fields(data[fields:size])
    if family not in (0x11, 0x21):
        return ProxyHeader(size)
    width = 4 if family == 0x11 else 16
    text = data[_FIXED : _FIXED + width]
    source = IPv4Address(text) if family == 0x11 else IPv6Address(text)
    (port,) = struct.unpack_from("!H", data, _FIXED + 2 * width)
    return ProxyHeader(size, (_text(source), port))


def _check_fields(data: bytes) -> None:
    """Check that the optional fields (type, length, value) fill ``data``."""
    position = 0
    while position < len(data):
        length = int.from_bytes(data[position + 1 : position + 3], "big")
        position += 3 + length
    if position != len(data):
        raise ValueError("an optional field is cut")


def _text(address: IPv4Address | IPv6Address) -> str:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(address if mapped is None else mapped)
