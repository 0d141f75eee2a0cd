"""Faults of peers: they trickle, vanish, send fragments, or reconnect in a storm."""

from __future__ import annotations

import contextlib
import select
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from hubthread import (
    PingPongPlan,
    Upgrader,
    WebsocketPeriod,
)
from tests.support import (
    BINARY,
    TIMEOUT,
    Items,
    RawPeer,
    Serving,
    connect,
    masked_frame,
    raw_handshake,
    read_to_end,
    serving,
    status_of,
    together,
)
from tests.support.networks import another_machine, ip

Record = Callable[[str, object], None]
ROOT = Path(__file__).parents[2]
PAUSE = 0.02


def echo(ctx: Any, meta: Any) -> bool:
    ctx.write(ctx.payload)
    return False


def trickle(sock: socket.socket, data: bytes) -> int:
    """Send a byte every ``PAUSE`` seconds until there is an answer; return the bytes sent."""
    for sent in range(len(data)):
        try:
            sock.sendall(data[sent : sent + 1])
        except OSError:
            return sent
        if select.select([sock], [], [], PAUSE)[0]:
            return sent + 1
    return len(data)


def test_peer_trickles_handshake_gets_408(record_property: Record) -> None:
    """The time-out is for the whole request, even if bytes arrive steadily."""
    request = raw_handshake("/", "X-Long: " + "x" * 500)
    with serving(upgrader=Upgrader(handshake_timeout=1.0), on_receive_message=echo) as s:
        with s.peer() as good, connect(s.server) as sock:
            start = monotonic()
            sent = trickle(sock, request)
            took = monotonic() - start
            assert status_of(read_to_end(sock)) == 408
            assert sent < len(request)
            good.send("hello")
            assert good.message() == "hello"
        assert s.hub.statistics().clients_total == 1
        assert s.logs.warnings() == []
    record_property("seen", f"408 after {took:.1f} s of 1.0 s, {sent} of {len(request)} bytes")


# Vanishing without a FIN.

PEER = """
import socket, sys
sys.path.insert(0, sys.argv[1])
from tests.support import RawPeer
peer = RawPeer(socket.create_connection((sys.argv[2], int(sys.argv[3])), 20))
print("in", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("cause", ["silent", "stalled"])
def test_machine_vanishes_is_found_out(cause: str, record_property: Record) -> None:
    """Without FIN or reset, the keepalive finds out, or ``write_wait`` if data waits."""
    plan = PingPongPlan[Any](ping_period=0.3, ping_timeout=1.0)
    if cause == "stalled":
        plan = PingPongPlan[Any](ping_period=None, ping_timeout=None)
    period = WebsocketPeriod[Any](ping_pong_plan=plan, write_wait=1.0)
    with (
        another_machine() as (name, host),
        serving(period=period, serve={"host": host}, outbox_bytes=2**26) as s,
    ):
        port = str(s.server.address[1])
        command = ["ip", "netns", "exec", name, sys.executable, "-c", PEER, str(ROOT), host, port]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            try:
                client = s.came()
                assert process.stdout is not None
                assert process.stdout.readline() == b"in\n"
                ip("-n", name, "link", "set", "far", "down")
                gone = monotonic()
                process.kill()
                for _ in range(32 * (cause == "stalled")):  # more than the system buffers
                    client.write(bytes(2**20))
                assert client.context.wait(TIMEOUT)
                took = monotonic() - gone
            finally:
                process.kill()
        assert s.hub.statistics().ended_by == {cause: 1}
    record_property("seen", f"{cause}: found out after {took:.1f} s of 1.0 s")


# Fragments.


@pytest.mark.parametrize("allowed", [1024, pytest.param(200_000, marks=pytest.mark.load)])
def test_peer_sends_100_000_fragments(allowed: int, record_property: Record) -> None:
    """More than ``max_fragments`` close with 1009; the allowed number is one message."""
    count = 100_000
    first, middle = masked_frame(b"x", BINARY, fin=False), masked_frame(b"y", 0, fin=False)
    wire = first + middle * (count - 2) + masked_frame(b"z", 0)
    sizes: Items[int] = Items()

    def receive(ctx: Any, meta: Any) -> bool:
        sizes.add(len(ctx.payload))
        return False

    period = WebsocketPeriod[Any](max_fragments=allowed)
    with serving(period=period, on_receive_message=receive) as s:
        peer, client = s.pair()
        began = monotonic()
        with contextlib.suppress(OSError):  # the server closes meanwhile
            peer.sock.sendall(wire)
        if allowed < count:
            assert peer.closed()[0] == 1009
            assert client.context.wait(TIMEOUT)
            assert sizes.now() == []
        else:
            assert sizes.wait(1) == [count]
        peer.close()
    what = "1009" if allowed < count else "one message"
    record_property("seen", f"{allowed:,} allowed: {what} after {monotonic() - began:.1f} s")


# Reconnecting.


def leave(peer: RawPeer, number: int) -> None:
    """Leave in one of three ways."""
    if number % 3 == 0:
        peer.send_close()
        peer.rest()
    elif number % 3 == 1:
        peer.reset()
    peer.close()


def test_peers_reconnect_in_storm_leave_nothing(record_property: Record) -> None:
    """Hundreds join and leave in three ways; a member that stays misses nothing."""
    threads, rounds = 8, 40

    def start(ctx: Any, meta: Any) -> None:
        room.answer(ctx)

    with serving(on_connection_start=start, on_receive_message=echo) as s:
        room = s.hub.hotline()
        stays, _ = s.pair()
        quiet = s.hub.statistics().threads

        def come_and_go(_: int) -> None:
            for number in range(rounds):
                peer = RawPeer(connect(s.server))
                room.push("one more")
                leave(peer, number)

        began = monotonic()
        together(threads, come_and_go)
        took = monotonic() - began
        assert stays.messages(threads * rounds) == ["one more"] * (threads * rounds)
        all_gone(s, 1)
        assert s.hub.statistics().clients_total == threads * rounds + 1
        assert room.members_num == 1
        assert s.logs.warnings() == []
        at_end = s.hub.statistics().threads
        assert at_end <= quiet + 10  # threads that wait for more, a flusher, timers
    record_property(
        "seen", f"{threads * rounds} in {took:.1f} s, nobody left over, threads {quiet} → {at_end}"
    )


CROWD = """
import socket, sys
sys.path.insert(0, sys.argv[1])
from tests.support import raw_handshake
socks = []
for _ in range(int(sys.argv[3])):
    sock = socket.create_connection(("127.0.0.1", int(sys.argv[2])), 20)
    sock.sendall(raw_handshake())
    assert sock.recv(1000).startswith(b"HTTP/1.1 101")
    socks.append(sock)
print("in", flush=True)
sys.stdin.read()
"""


@pytest.mark.load
@pytest.mark.usefixtures("many_descriptors")
def test_crowd_vanishes_neighbour_is_served(record_property: Record) -> None:
    """All 2,000 clients of a killed process are gone; another client is served meanwhile."""
    count = 2_000
    with serving(on_receive_message=echo) as s:
        stays, _ = s.pair()
        port = str(s.server.address[1])
        command = [sys.executable, "-c", CROWD, str(ROOT), port, str(count)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"in\n"
            for _ in range(count):  # a client has its 101 just before the hub counts it
                s.came()
            assert s.hub.statistics().clients == count + 1
            process.kill()
            gone = monotonic()
        stays.send("still here")
        assert stays.message() == "still here"
        all_gone(s, 1)
        took = monotonic() - gone
        assert s.hub.statistics().ended_by == {"lost": count}
    record_property("seen", f"{count:,} gone after {took:.1f} s")


def all_gone(s: Serving, but: int) -> None:
    """Wait until only ``but`` clients are left and the threads of the others have ended."""
    for client in s.hub.clients()[but:]:
        assert client.context.wait(TIMEOUT)
    deadline = monotonic() + TIMEOUT
    while s.server.statistics().connections > but:
        assert monotonic() < deadline
        s.hub.exec_sync(lambda _: None)
