"""Raw UDP peers as clients: addresses, proof by a second datagram, ends, bounds."""

from __future__ import annotations

import contextlib
import gc
import logging
import socket
import threading
import tracemalloc
from time import monotonic
from typing import Any

import pytest
from websockets.sync.client import connect as websocket

from hubthread import (
    ConnectionProtocols,
    ConnectionType,
    HandshakeRejected,
    Hub,
    HubSetting,
    MessageType,
    Request,
    SocketPeriod,
)
from hubthread.net.udp import socket as udp_socket
from tests.support import (
    TIMEOUT,
    Items,
    UdpPeer,
    ended,
    fence,
    how_it_ended,
    in_thread,
    listen,
    serving,
    tcp_peer,
    udp_peer,
)

UDP = ConnectionProtocols.UDP


def echo(ctx: Any, meta: Any) -> bool:
    ctx.write(ctx.payload)
    return False


def test_udp_datagram_is_message_in_both_directions() -> None:
    """The end of a line is not part of a text."""
    with serving(on_receive_message=echo) as s, udp_peer(listen(s, UDP)) as peer:
        peer.send(b"hello")
        assert peer.message() == b"hello"
        ctx = s.came()
        peer.send("wörld\r\n".encode(), b"", b"third\n")
        assert peer.messages(2) == ["wörld".encode(), b"third"]
        number = ctx.write(b"two\nlines\n")
        assert number == 4
        assert ctx.wait_write_consumed(number, TIMEOUT)
        assert peer.message() == b"two\nlines\n"
        assert ctx.connection_type is ConnectionType.SOCKET
        assert ctx.handshake.method == "UDP"
        assert ctx.handshake.peer == peer.sock.getsockname()
        statistics = ctx.statistics()
        assert (statistics.received, statistics.written, statistics.state) == (3, 4, "open")
        host, port = peer.sock.getsockname()
        assert repr(ctx) == f"<Client 1 open UDP {host}:{port}>"
        assert s.hub.clients() == [ctx]


def test_udp_ipv6_peer_is_client() -> None:
    """The address of an IPv6 peer has four parts."""
    with serving(on_receive_message=echo) as s:
        server = s.hub.socket_handles("::1", 0, UDP)
        assert server.url == f"udp://[::1]:{server.address[1]}"
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as peer:
            peer.settimeout(TIMEOUT)
            peer.connect(server.address)
            peer.send(b"hello")
            assert peer.recv(100) == b"hello"
            assert s.came().handshake.peer == peer.getsockname()[:2]


def test_udp_handler_closes_hub() -> None:
    """The close callback of this peer runs too."""
    closed: Items[Any] = Items()

    def stop(ctx: Any, meta: Any) -> bool:
        ctx.hub.close(TIMEOUT)
        return False

    with (
        serving(
            on_receive_message=stop, on_connection_close=lambda ctx, meta: closed.add(ctx)
        ) as s,
        udp_peer(listen(s, UDP)) as peer,
    ):
        peer.send(b"stop")
        assert s.hub.join(TIMEOUT)
        assert closed.now() == [s.came()]


def test_udp_tcp_and_websocket_members_see_one_order() -> None:
    room: Any = None

    def join(ctx: Any, meta: Any) -> None:
        room.answer(ctx)

    def say(ctx: Any, meta: Any) -> bool:
        if ctx.payload == "ready":
            ready.set()
        else:
            room.push(f"{ctx.connection_id}: {ctx.payload}")
        return True

    ready = threading.Event()
    each_says = 30  # all 90 datagrams fit into the device's buffer, if it is slow
    with serving(on_connection_start=join, on_receive_message=say) as s:
        room = s.hub.hotline()
        with (
            websocket(s.server.url) as browser,
            tcp_peer(listen(s)) as script,
            udp_peer(listen(s, UDP)) as device,
        ):
            s.came(), s.came()
            device.send(b"", b"ready")  # two datagrams prove the address
            s.came()
            assert ready.wait(TIMEOUT)
            fence(s.hub)
            in_order = {
                "browser": in_thread(lambda: [str(browser.recv()) for _ in range(3 * each_says)]),
                "script": in_thread(lambda: script.lines(3 * each_says)),
                "device": in_thread(
                    lambda: [each.decode() for each in device.messages(3 * each_says)]
                ),
            }
            for number in range(each_says):
                browser.send(f"b{number}")
                script.send(f"s{number}\n".encode())
                device.send(f"d{number}".encode())
            found = {name: wait() for name, wait in in_order.items()}
            assert found["browser"] == found["script"] == found["device"]
            texts = [text.split(": ")[1] for text in found["browser"]]
            for who in "bsd":
                assert [t for t in texts if t[0] == who] == [f"{who}{n}" for n in range(each_says)]


def test_udp_unproven_peer_gets_no_more_than_it_sent() -> None:
    """So a forged address gets no more bytes than the forger sent."""
    greeting = "x" * 1_000
    heard: Items[Any] = Items()

    def greet(ctx: Any, meta: Any) -> None:
        ctx.write(greeting)
        ctx.write("hi")

    def note(ctx: Any, meta: Any) -> bool:
        heard.add(ctx.payload)
        return False

    with serving(on_connection_start=greet, on_receive_message=note) as s:
        with udp_peer(listen(s, UDP)) as peer:
            peer.send(b"hello")
            ctx = s.came()
            heard.wait(1)
            number = ctx.write("one more")
            assert ctx.is_write_consumed(number)
            assert ctx.statistics().dropped == 2
            assert ctx.statistics().waiting == 0
            peer.send(b"hello")
            heard.wait(2)
            ctx.write(greeting)
            assert peer.messages(2) == [b"hi", greeting.encode()]
        ctx.close()
        ended(s)
        assert s.hub.statistics().messages_dropped == 2


def forge(address: tuple[str, int], number: int, *datagrams: bytes) -> None:
    """Send from an address of its own."""
    with UdpPeer(address, f"127.1.{number >> 8}.{number & 255}") as peer:
        peer.send(*datagrams)


@pytest.mark.load
@pytest.mark.parametrize("max_peers", [1_000, 6_000])
def test_udp_flood_of_forged_addresses_is_bounded(max_peers: int) -> None:
    """Peers, memory and threads are bounded, and a proven peer stays."""
    senders, at_once = 4_000, 100
    threads = peers = 0
    # Not ``serving``, which remembers every client.
    with Hub(HubSetting[Any, Any](dict, on_receive_message=echo)) as hub:
        server = hub.socket_handles("127.0.0.1", 0, UDP, max_peers=max_peers)
        with udp_peer(server) as honest:
            honest.send(b"first", b"second")
            assert honest.messages(2) == [b"first", b"second"]
            room = hub.hotline()
            room.answer(hub.clients()[0])
            tracemalloc.start()
            try:
                for number in range(senders):
                    forge(server.address, number, b"knock")
                    if number % at_once == at_once - 1:  # fewer than the system's buffer holds
                        honest.send(b"%d" % number)
                        assert honest.message() == b"%d" % number
                        threads = max(threads, hub.statistics().threads)
                        peers = max(peers, server.statistics().connections)
                # Peers that are being ended free their memory soon.
                deadline = monotonic() + TIMEOUT
                while tracemalloc.get_traced_memory()[0] > peers * 5_000 + 5_000_000:
                    assert monotonic() < deadline
                    fence(hub)
                    gc.collect()
            finally:
                tracemalloc.stop()
            room.push("still here")
            assert honest.message() == b"still here"
            late = [UdpPeer(server.address) for _ in range(3)]
            for peer in late:  # new peers are still accepted
                peer.send(b"late", b"later")
                assert peer.messages(2) == [b"late", b"later"]
                peer.close()
    # 64 workers, the hub, the socket, and a few more for a moment.
    assert threads <= 64 + 10
    assert peers <= max_peers + 1024
    statistics = hub.statistics()
    assert statistics.clients_total == server.statistics().accepted
    assert statistics.clients_total > senders * 0.9
    assert sum(statistics.ended_by.values()) == statistics.clients_total
    assert (statistics.ended_by.get("crowded out", 0) > 0) == (max_peers < senders)


def test_udp_full_table_replaces_unproven_peer() -> None:
    """A proven peer stays; of the others the one that was silent longest is ended."""
    with serving(on_receive_message=echo) as s, contextlib.ExitStack() as stack:
        server = s.hub.socket_handles("127.0.0.1", 0, UDP, max_peers=3)
        peers = [stack.enter_context(udp_peer(server)) for _ in range(4)]
        first, second, third, fourth = peers
        for peer in peers[:3]:
            peer.send(b"1")
            assert peer.message() == b"1"
        first.send(b"2")
        assert first.message() == b"2"
        fourth.send(b"1")
        assert fourth.message() == b"1"
        assert ended(s) == {"crowded out": 1}
        level, text = how_it_ended(s)
        assert level == logging.DEBUG
        assert f":{second.sock.getsockname()[1]}>" in text
        for peer in (third, fourth):
            peer.send(b"2")
            assert peer.message() == b"2"
        second.send(b"nobody listens")
        first.send(b"3")
        assert first.message() == b"3"
        statistics = server.statistics()
        assert (statistics.accepted, statistics.refused) == (4, 1)
        assert s.hub.statistics().limits_struck["connections"] == 2
        assert "3 UDP peers, the limit" in s.logs.wait("the limit")
        assert s.hub.clients_num() == 3


def test_udp_silent_peer_ends_and_answered_ping_keeps_peer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A ping is an empty datagram, and so is its answer; only proven peers get pings."""
    now = 1000.0  # the time of pings and of silence, which stands still meanwhile
    monkeypatch.setattr(udp_socket, "monotonic", lambda: now)
    period = SocketPeriod(ping_period=1 / 64, pong_wait=1 / 8)
    closed: Items[Any] = Items()
    with (
        serving(
            on_receive_message=echo,
            on_connection_close=lambda ctx, meta: closed.add(ctx),
            socket_period=period,
        ) as s,
        contextlib.ExitStack() as stack,
    ):
        server = listen(s, UDP)
        alive, busy, mute, once = (stack.enter_context(udp_peer(server)) for _ in range(4))
        for peer in (alive, busy):
            peer.send(b"", b"")
            s.came()
        mute.send(b"", b"")
        once.send(b"knock")
        assert once.message() == b"knock"
        gone = {s.came(), s.came()}
        for _ in range(12):  # longer than pong_wait
            now += 1 / 64
            assert alive.message() == b""
            alive.send(b"")
            busy.send(b"go on")  # its echo comes when the answer to the ping was seen
            while busy.message() != b"go on":
                pass
        assert set(closed.wait(2)) == gone
        for ctx in gone:
            assert ctx.ws_conn.ended_by == "silent"
            assert ctx.ws_conn.reason == "silent for 0.125 s"
        assert mute.messages(2) == [b"", b""]
        alive.send(b"still here")
        assert alive.message() == b"still here"
        now += 1 / 8
        closed.wait(4)
        assert s.hub.statistics().ended_by == {"silent": 4}
        assert s.hub.statistics().limits_struck["silence"] == 4
        once.send(b"again")  # it is a new peer now
        assert once.message() == b"again"
        assert s.hub.statistics().clients_total == 5


@pytest.mark.parametrize("datagram", [b"x" * 1025, b"x" * 60_000, b"\xff"])
def test_udp_violation_ends_peer_with_one_line(datagram: bytes) -> None:
    """It does not make a peer.  Others go on."""
    with serving(on_receive_message=echo) as s:
        server = listen(s, UDP)
        with udp_peer(server) as other, udp_peer(server) as peer:
            other.send(b"1")
            assert other.message() == b"1"
            peer.send(datagram)
            other.send(b"2")
            assert other.message() == b"2"
            assert server.statistics().refused == 1
            peer.send(b"fine", datagram)
            assert peer.message() == b"fine"
            assert ended(s) == {"violation": 1}
            level, text = how_it_ended(s)
            assert level == logging.INFO
            assert "violation UDP 127.0.0.1:" in text
            assert ("UTF-8" if datagram == b"\xff" else "more than 1024 bytes") in text
            struck = s.hub.statistics().limits_struck["message"]
            assert struck == (0 if datagram == b"\xff" else 2)
            assert "xxx" not in text
            other.send(b"3")
            assert other.message() == b"3"


def test_udp_binary_period_gives_bytes() -> None:
    period = SocketPeriod(write_message_type=MessageType.BINARY)
    got: Items[object] = Items()
    with (
        serving(
            on_receive_message=lambda ctx, meta: got.add(ctx.payload), socket_period=period
        ) as s,
        udp_peer(listen(s, UDP)) as peer,
    ):
        peer.send(b"\xff\x00", b"x")
        assert got.wait(2) == [b"\xff\x00", b"x"]


def test_udp_blocked_handler_delays_own_peer_only() -> None:
    """Datagrams beyond the bound are dropped and counted."""
    gate = threading.Event()
    handled: Items[Any] = Items()

    def handle(ctx: Any, meta: Any) -> bool:
        if ctx.payload == "block":
            assert gate.wait(TIMEOUT)
        handled.add(ctx.payload)
        return echo(ctx, meta)

    with serving(on_receive_message=handle) as s:
        server = listen(s, UDP)
        with udp_peer(server) as busy, udp_peer(server) as other:
            busy.send(b"block")
            for number in range(100):
                busy.send(b"%d" % number)
                other.send(b"o%d" % number)
                assert other.message() == b"o%d" % number
            assert server.statistics().refused == 100 - 63  # the blocked one counts too
            assert s.hub.statistics().limits_struck["unhandled"] == 100 - 63
            (line,) = [each for each in s.logs.at_least(logging.INFO) if "losing some" in each]
            assert "sends faster than its handler works" in line
            gate.set()
            assert busy.messages(64) == [b"block", *(b"%d" % number for number in range(63))]
            busy.send(b"on")
            assert busy.message() == b"on"
        assert len(handled.now()) == 165


def test_udp_stranger_over_limit_is_counted_and_logged() -> None:
    """A flood of such datagrams is one line."""
    with serving() as s:
        server = listen(s, UDP)
        with udp_peer(server) as stranger:
            for _ in range(20):
                stranger.send(b"payload" * 1000)
            line = s.logs.wait("is not a peer")
            assert "more than 1024 bytes" in line
            assert "payload" not in line
        with udp_peer(server) as other:
            other.send(b"hello")
            s.came()
        struck = s.hub.statistics().limits_struck["message"]
        assert struck == server.statistics().refused == 20
        told = [each for each in s.logs.at_least(logging.INFO) if "is not a peer" in each]
        assert told == [line]


def test_udp_more_busy_peers_than_threads_are_served() -> None:
    """Handlers without a thread run when others have returned."""
    gate = threading.Event()
    inside: Items[int] = Items()

    def handle(ctx: Any, meta: Any) -> bool:
        inside.add(ctx.connection_id)
        assert gate.wait(TIMEOUT)
        return echo(ctx, meta)

    with serving(on_receive_message=handle) as s:
        server = listen(s, UDP)
        peers = [udp_peer(server) for _ in range(100)]
        for peer in peers:
            peer.send(b"now")
        inside.wait(64)
        while server.statistics().accepted < 100:
            fence(s.hub)
        assert s.hub.statistics().threads <= 64 + 4  # hub, watchdog, listener, datagrams
        assert len(inside.now()) == 64
        gate.set()
        for peer in peers:
            assert peer.message() == b"now"
            peer.close()
        assert len(set(inside.now())) == 100


def test_udp_closures_and_messages_keep_order() -> None:
    order: Items[Any] = Items()
    with (
        serving(
            on_receive_message=lambda ctx, meta: order.add(ctx.payload),
            on_connection_close=lambda ctx, meta: order.add("closed"),
        ) as s,
        udp_peer(listen(s, UDP)) as peer,
    ):
        peer.send(b"1")
        order.wait(1)
        ctx = s.came()
        assert ctx.exec_sync(lambda: order.add("closure")) is None
        peer.send(b"2")
        order.wait(3)
        ctx.exec_async(lambda: order.add("another"))
        ctx.exec_async(ctx.close)
        assert order.wait(5) == ["1", "closure", "2", "another", "closed"]
        assert ctx.context.cancelled
        assert ended(s) == {"server": 1}
        assert server_is_empty(s.hub.servers()[-1])


def server_is_empty(server: Any) -> bool:
    """Return True when the last peer has gone, a moment after its last callback."""
    while server.statistics().connections:
        assert server.statistics().accepted
    return True


def test_udp_handshake_hook_decides_about_peer() -> None:
    """A refused peer leaves nothing behind."""
    seen: Items[Request] = Items()

    def shake(request: Request) -> str:
        seen.add(request)
        if len(seen.now()) == 1:
            raise HandshakeRejected(403, "Not the first.")
        return f"by {request.method}"

    with serving(on_handshake=shake, on_receive_message=echo) as s:
        server = listen(s, UDP)
        with udp_peer(server) as peer:
            peer.send(b"let me in")
            seen.wait(1)
            s.logs.wait("request refused: 403 Not the first.")
            assert server_is_empty(server)
            peer.send(b"let me in")
            assert peer.message() == b"let me in"
            assert s.came().meta == "by UDP"
            assert seen.now()[1].peer == peer.sock.getsockname()
        statistics = s.hub.statistics()
        assert (statistics.clients_total, statistics.handshakes_refused) == (1, 1)
        assert statistics.ended_by == {}


def test_udp_start_callback_raises_ends_peer() -> None:
    """The first message is not handled."""
    got: Items[object] = Items()

    def fail(ctx: Any, meta: Any) -> None:
        raise RuntimeError("no start today")

    with (
        serving(
            on_connection_start=fail, on_receive_message=lambda ctx, meta: got.add(ctx.payload)
        ) as s,
        udp_peer(listen(s, UDP)) as peer,
    ):
        peer.send(b"1")
        s.logs.wait("no start today")
        assert ended(s) == {"server": 1}
        assert got.now() == []


def test_udp_hub_closes_ends_peers() -> None:
    """Their close callbacks run, and no thread or socket is left."""
    closed: Items[Any] = Items()
    with serving(
        on_receive_message=echo, on_connection_close=lambda ctx, meta: closed.add(ctx)
    ) as s:
        # An address of its own: on 127.0.0.1 another socket may get the free port.
        server = s.hub.socket_handles("127.0.0.17", 0, UDP)
        peers = [udp_peer(server) for _ in range(20)]
        for peer in peers:
            peer.send(b"hello")
            assert peer.message() == b"hello"
    assert len(closed.now()) == 20
    assert all(ctx.ws_conn.code == 1001 for ctx in closed.now())
    assert s.hub.statistics().ended_by == {"server": 20}
    assert s.hub.statistics().threads == 0
    with udp_peer(server) as late:  # the port is free
        late.send(b"anybody?")
        with pytest.raises(ConnectionRefusedError):
            late.message()
    for peer in peers:
        peer.close()
