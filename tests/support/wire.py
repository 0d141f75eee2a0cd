"""Bytes on the wire: opcodes, masked frames, handshakes, and blocking readers."""

from __future__ import annotations

import contextlib
import socket
import struct

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
KEY = "dGhlIHNhbXBsZSBub25jZQ=="


def raw_handshake(path: str = "/", *fields: str, host: str = "localhost") -> bytes:
    """Return a client's upgrade request.

    :param fields: further lines of its head.
    """
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {KEY}",
        "Sec-WebSocket-Version: 13",
        *fields,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def status_of(answer: bytes) -> int:
    """Return the status of an HTTP response."""
    assert answer.startswith(b"HTTP/1.1 "), answer
    return int(answer.split(b" ", 2)[1])


def masked_frame(
    payload: bytes | str = b"", opcode: int = TEXT, *, fin: bool = True, rsv: int = 0
) -> bytes:
    """Return a client's frame."""
    body = payload.encode() if isinstance(payload, str) else payload
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    if len(body) <= 125:
        head = struct.pack("!BB", first, 0x80 | len(body))
    elif len(body) <= 0xFFFF:
        head = struct.pack("!BBH", first, 0x80 | 126, len(body))
    else:
        head = struct.pack("!BBQ", first, 0x80 | 127, len(body))
    mask = b"\x11\x22\x33\x44"
    whole = (mask * (len(body) // 4 + 1))[: len(body)]
    masked = int.from_bytes(body, "big") ^ int.from_bytes(whole, "big")
    return head + mask + masked.to_bytes(len(body), "big")


def frame(opcode: int, payload: bytes = b"") -> bytes:
    """Return a client's frame, the opcode first."""
    return masked_frame(payload, opcode)


def close_frame(code: int, reason: str = "") -> bytes:
    """Return a client's Close."""
    return masked_frame(struct.pack("!H", code) + reason.encode(), CLOSE)


def read_exactly(sock: socket.socket, size: int) -> bytes:
    """Read ``size`` bytes."""
    data = bytearray()
    while len(data) < size:
        piece = sock.recv(min(64 * 1024, size - len(data)))
        assert piece, f"ended after {len(data)} of {size} bytes"
        data += piece
    return bytes(data)


def read_to_end(sock: socket.socket, *, may_reset: bool = True) -> bytes:
    """Read until the other side ends the stream, or resets it where it ``may_reset``."""
    data = bytearray()
    with contextlib.suppress(*[ConnectionResetError] if may_reset else []):
        while piece := sock.recv(64 * 1024):
            data += piece
    return bytes(data)


def read_frame(sock: socket.socket) -> tuple[int, bytes]:
    """Read one frame of the server; return opcode and payload."""
    first, size = read_exactly(sock, 2)
    if size == 126:
        (size,) = struct.unpack("!H", read_exactly(sock, 2))
    elif size == 127:
        (size,) = struct.unpack("!Q", read_exactly(sock, 8))
    return first & 0x0F, read_exactly(sock, size)


def read_close(sock: socket.socket) -> int:
    """Read to the server's Close and to the end of the stream; return the close code."""
    while True:
        opcode, payload = read_frame(sock)
        if opcode == CLOSE:
            assert read_to_end(sock, may_reset=False) == b"", "something came after the Close"
            return int.from_bytes(payload[:2], "big")
