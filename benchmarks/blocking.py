"""Handlers that block, with a thread for each connection and with shared threads.

In ``sleeping`` each of 100 clients has one message in flight, and the handler sleeps for 100 ms
before it answers: 1,000 messages a second are ideal.  In ``one blocked`` 1,000 clients echo, and
the handler of one more sleeps all the while; ``none blocked`` is the same without it.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from benchmarks.case import Case, Measurement, Options, measure_traffic
from benchmarks.peers import SHARED, SUBJECT, Peer
from benchmarks.peers.contract import BLOCK, Job

__all__ = ["cases"]

_MASK = bytes(4)
_HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def cases(quick: bool) -> list[Case]:
    """Return the three cases; a quick run has 100 clients instead of 1,000."""
    crowd = 100 if quick else 1000
    found = [
        Case(
            "blocking",
            "sleeping",
            "100 clients whose handlers sleep 100 ms for each message",
            Job("echo", pause=0.1),
            "echo",
            100,
            ("--window", "1"),
            only=(SUBJECT, SHARED),
        )
    ]
    for name, blocked in (("none blocked", False), ("one blocked", True)):
        found.append(
            Case(
                "blocking",
                name,
                f"Echo of {crowd:,} clients, {name}",
                Job("echo", pause=-1.0),
                "echo",
                crowd,
                ("--window", "1"),
                measure=partial(_measure, blocked),
                only=(SUBJECT, SHARED),
            )
        )
    return found


def _measure(blocked: bool, case: Case, peer: Peer, options: Options) -> Measurement:
    return measure_traffic(case, peer, options, partial(_beside, blocked))


@contextmanager
def _beside(blocked: bool, port: int) -> Iterator[Callable[[str], None]]:
    """Connect one more client; from the measured time on, its handler sleeps."""
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(_HANDSHAKE)
        sock.recv(1000)

        def at(phase: str) -> None:
            if blocked and phase == "measuring":
                payload = BLOCK.encode()
                sock.sendall(bytes([0x81, 0x80 | len(payload)]) + _MASK + payload)

        yield at
