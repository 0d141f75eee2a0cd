"""The PROXY header, both versions: against a model that writes headers, and by hand."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubthread.protocol.proxy_header import (
    MAX_HEADER,
    SIGNATURE,
    ProxyHeader,
    begins_proxy_header,
    parse_proxy_header,
)

REST = b"\x16\x03\x01GET / HTTP/1.1\r\n"


class Told(NamedTuple):
    """A header and what it tells."""

    wire: bytes
    peer: tuple[str, int] | None


def line(source: IPv4Address | IPv6Address, port: int, target_port: int) -> Told:
    kind = "TCP4" if isinstance(source, IPv4Address) else "TCP6"
    text = f"PROXY {kind} {source} {source} {port} {target_port}\r\n"
    return Told(text.encode(), (shown(source), port))


def binary(
    source: IPv4Address | IPv6Address, port: int, target_port: int, fields: list[bytes]
) -> Told:
    family = 0x11 if isinstance(source, IPv4Address) else 0x21
    body = source.packed * 2 + struct.pack("!HH", port, target_port)
    return Told(header(0x21, family, body + tlvs(fields)), (shown(source), port))


def local(family: int, body: bytes) -> Told:
    return Told(header(0x20, family, body), None)


def header(command: int, family: int, body: bytes) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(body)) + body


def tlvs(fields: list[bytes]) -> bytes:
    return b"".join(struct.pack("!BH", 0xE0, len(each)) + each for each in fields)


def shown(address: IPv4Address | IPv6Address) -> str:
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)


ports = st.integers(0, 65535)
addresses = st.ip_addresses()
told = st.one_of(
    st.builds(line, addresses, ports, ports),
    st.builds(binary, addresses, ports, ports, st.lists(st.binary(max_size=50), max_size=4)),
    st.builds(local, st.integers(0, 255), st.binary(max_size=50)),
    st.builds(
        Told, st.just(header(0x21, 0x31, bytes(216))) | st.just(header(0x21, 0, b"")), st.none()
    ),
    st.builds(lambda rest: Told(b"PROXY UNKNOWN" + rest + b"\r\n", None), st.just(b" x y z")),
)


@given(told, st.data())
def test_header_of_the_model_is_read_whole_and_not_beyond(each: Told, data: st.DataObject) -> None:
    assert begins_proxy_header(each.wire)
    assert parse_proxy_header(each.wire + REST) == ProxyHeader(len(each.wire), each.peer)
    cut = data.draw(st.integers(0, len(each.wire) - 1))
    assert parse_proxy_header(each.wire[:cut]) is None


@given(st.binary(max_size=300) | st.binary(max_size=60).map(lambda rest: SIGNATURE + rest))
def test_header_of_any_bytes_is_read_awaited_or_refused(data: bytes) -> None:
    """No other exception, and no wait beyond the bound."""
    try:
        found = parse_proxy_header(data)
    except ValueError:
        return
    assert found is None or found.size <= len(data)
    assert found is not None or len(data) < MAX_HEADER


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"GET / HTTP/1.1\r\n", "does not begin"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n", "CR LF"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n", "malformed"),
        (b"PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n", "malformed"),
        (b"PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n", "malformed"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n", "port"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n", "port"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 \xc2\xb2\r\n", "ASCII"),
        (b"PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n", "192.0.2.01"),
        (b"PROXY TCP4 ::1 ::1 1 2\r\n", "::1"),
        (b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n", "zone"),
        (b"PROXY UNKNOWN " + b"x" * 100, "longer than 107"),
        (SIGNATURE + b"\x11\x11\0\x0c" + bytes(12), "version"),
        (SIGNATURE + b"\x22\x11\0\x0c" + bytes(12), "command"),
        (SIGNATURE + b"\x21\x12\0\x0c" + bytes(12), "transport"),
        (SIGNATURE + b"\x21\x11\0\x0b" + bytes(11), "too short"),
        (SIGNATURE + b"\x21\x11\xff\xff", "longer than 4096"),
        (header(0x21, 0x11, bytes(12) + b"\xe0\0\x05abc"), "optional field"),
        (header(0x21, 0x11, bytes(12) + b"\xe0\0"), "optional field"),
    ],
)
def test_header_that_is_malformed_is_refused_with_the_reason(data: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_proxy_header(data)
