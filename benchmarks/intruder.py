"""One hostile client in a process of its own, for ``hostile``: ``python -m benchmarks.intruder``.

::

    python -m benchmarks.intruder KIND PORT

The lines "on" and "off" on standard input switch it.  It answers "off" with a line of JSON: its
figures since "on".  It shares the machine with the server, so it does as little work as it can:
all that it sends is prepared in advance.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
import sys
import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["KINDS", "main"]

_TICK_S = 0.05
"""Seconds until it notices that it was switched off."""

_MASK = bytes(4)


def _frame(first: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        return bytes([first, 0x80 | size]) + _MASK + payload
    if size < 65536:
        return bytes([first, 0xFE]) + size.to_bytes(2, "big") + _MASK + payload
    return bytes([first, 0xFF]) + size.to_bytes(8, "big") + _MASK + payload


def _bomb(size: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(bytes(size)) + packer.flush(zlib.Z_SYNC_FLUSH)
    return _frame(0xC2, packed[:-4])


class Intruder:
    """The tools of every kind: connections, and the switch.

    :param port: the port of the server.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self.on = threading.Event()
        self.done = 0

    def connect(self, *, deflate: bool = False, small: bool = False) -> socket.socket:
        """Return a connection after its handshake."""
        sock = socket.socket()
        try:
            if small:  # few bytes should fit between client and server
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(5.0)
            sock.connect(("127.0.0.1", self._port))
            extension = "Sec-WebSocket-Extensions: permessage-deflate\r\n" if deflate else ""
            sock.sendall(
                "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
                "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                f"Sec-WebSocket-Version: 13\r\n{extension}\r\n".encode()
            )
            if not sock.recv(1024).startswith(b"HTTP/1.1 101"):
                raise ConnectionError("refused")
        except BaseException:
            sock.close()
            raise
        return sock

    def pour(self, sock: socket.socket, block: bytes, *, reads: bool = True) -> None:
        """Send the block again and again and discard the input, until it is switched off."""
        sock.setblocking(False)
        left = memoryview(block)
        both = selectors.EVENT_WRITE | (selectors.EVENT_READ if reads else 0)
        with selectors.DefaultSelector() as selector:
            selector.register(sock, both)
            while self.on.is_set():
                for _, events in selector.select(_TICK_S):
                    if events & selectors.EVENT_READ and not sock.recv(1 << 18):
                        return
                    if events & selectors.EVENT_WRITE:
                        left = left[sock.send(left) :]
                        if not left:
                            left = memoryview(block)
                            self.done += 1

    def wait(self, seconds: float) -> None:
        """Wait, at most until it is switched off."""
        until = time.monotonic() + seconds
        while self.on.is_set() and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _TICK_S))

    def wait_for_end(self, sock: socket.socket) -> None:
        """Read until the server closes, or it is switched off."""
        sock.settimeout(_TICK_S)
        while self.on.is_set():
            with contextlib.suppress(TimeoutError):
                if not sock.recv(1 << 18):
                    return


def _stalls(me: Intruder) -> None:
    with me.connect(small=True):
        me.done += 1
        me.wait(1e9)


def _trickles(me: Intruder) -> None:
    with me.connect() as sock:
        for byte in _frame(0x81, b"x" * 10_000):
            sock.sendall(bytes([byte]))
            me.done += 1
            me.wait(1.0)


def _pings(me: Intruder) -> None:
    with me.connect() as sock:
        me.pour(sock, _frame(0x89, b"x" * 4) * 1000)


def _messages(me: Intruder) -> None:
    with me.connect() as sock:
        me.pour(sock, _frame(0x81, b"x" * 20) * 1000)


def _fragments(me: Intruder) -> None:
    wire = _frame(0x02, b"x") + _frame(0x00, b"y") * 99_999
    with me.connect() as sock:
        me.done += 1
        sock.settimeout(_TICK_S * 20)
        with contextlib.suppress(ConnectionError):
            sock.sendall(wire)
        me.wait_for_end(sock)


_BOMB = _bomb(64 << 20)


def _bombs(me: Intruder) -> None:
    with me.connect(deflate=True) as sock:
        me.done += 1
        with contextlib.suppress(ConnectionError):
            sock.sendall(_BOMB)
        me.wait_for_end(sock)


def _storms(me: Intruder) -> None:
    with me.connect():
        me.done += 1


def _breaks(me: Intruder) -> None:
    with me.connect() as sock:
        me.done += 1
        sock.sendall(_frame(0xF3, b"no such opcode, and reserved bits"))
        me.wait_for_end(sock)


@dataclass(frozen=True)
class Kind:
    """A kind of hostile client.

    :param what: the words that follow "a client that".
    :param act: called again and again while it is switched on.
    """

    what: str
    act: Callable[[Intruder], None]


KINDS = {
    "stall": Kind("stops reading", _stalls),
    "trickle": Kind("sends a byte a second within a frame", _trickles),
    "pings": Kind("floods pings", _pings),
    "flood": Kind("floods small messages", _messages),
    "fragments": Kind("sends 100,000 fragments, and comes back", _fragments),
    "bomb": Kind("sends compression bombs, and comes back", _bombs),
    "reconnects": Kind("opens and drops connections in a storm", _storms),
    "malformed": Kind("breaks the protocol, and comes back", _breaks),
}


def _work(me: Intruder, kind: str) -> None:
    while True:
        me.on.wait()
        try:
            KINDS[kind].act(me)
        except OSError:
            me.wait(_TICK_S)


def main(kind: str, port: str) -> None:
    """Run until standard input ends."""
    me = Intruder(int(port))
    threading.Thread(target=_work, args=(me, kind), daemon=True).start()
    since, used = time.monotonic(), time.process_time()
    for line in sys.stdin:
        if line == "on\n":
            me.done = 0
            since, used = time.monotonic(), time.process_time()
            me.on.set()
        else:
            me.on.clear()
            seconds = max(1e-9, time.monotonic() - since)
            told = {"rate": me.done / seconds, "cpu": (time.process_time() - used) / seconds}
            print(json.dumps(told), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
