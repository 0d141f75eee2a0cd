"""Limits: real peers break each of them; it is counted, and the others go on."""

from __future__ import annotations

import contextlib
import itertools
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from hubthread import (
    ConnectionProtocols,
    Framing,
    HubSetting,
    Limits,
    MatcherMap,
    Overflow,
    PingPongPlan,
    PrefixHeader,
    Readers,
    SocketPeriod,
    TooManyRooms,
    Upgrader,
    WebsocketPeriod,
)
from hubthread.hub.hub import Hub
from hubthread.limits import LIMITS
from hubthread.net import connection
from hubthread.testing import VirtualHub
from tests.support import (
    CLOSE,
    PING,
    TIMEOUT,
    Items,
    Logs,
    RawPeer,
    Serving,
    ended,
    masked_frame,
    raw_handshake,
    read_to_end,
    server_context,
    serving,
    status_of,
    tcp_peer,
    udp_peer,
)

TCP, UDP = ConnectionProtocols.TCP, ConnectionProtocols.UDP


def echo(ctx: Any, meta: Any) -> bool:
    ctx.write(ctx.payload)
    return True


def struck(hub: Hub[Any, Any]) -> dict[str, int]:
    """Return the number of violations of each limit."""
    counts = hub.statistics().limits_struck
    assert set(counts) == set(LIMITS)
    return {limit: count for limit, count in counts.items() if count}


@contextlib.contextmanager
def limited(**fields: Any) -> Iterator[Serving]:
    """A hub that echoes, and whose one good client is served before and after."""
    fields.setdefault("on_receive_message", echo)
    with serving(**fields) as s:
        good, _ = s.pair()
        yield s
        good.send("still here")
        assert good.message() == "still here"


def test_limits_of_a_new_hub_are_all_zero() -> None:
    with limited() as s:
        assert struck(s.hub) == {}


def from_address(s: Serving, host: str) -> socket.socket:
    """A connection of another address of this machine."""
    assert isinstance(s.server.address, tuple)
    return socket.create_connection(s.server.address, TIMEOUT, (host, 0))


@pytest.mark.skipif(sys.platform != "linux", reason="has all of 127.0.0.0/8")
def test_limit_connections_per_address_refuses_with_429() -> None:
    """Other addresses are accepted, and a place becomes free again."""
    limits = Limits(connections_per_address=2, shared_addresses=("127.0.0.1",))
    readers: Items[threading.Thread] = Items()

    def start(ctx: Any, meta: Any) -> None:
        readers.add(threading.current_thread())

    with limited(limits=limits, on_connection_start=start, readers=Readers.OWN) as s:
        first, second = (RawPeer(from_address(s, "127.0.0.2")) for _ in range(2))
        with first, second:
            with from_address(s, "127.0.0.2") as third:
                third.sendall(raw_handshake())
                answer = read_to_end(third)
                assert status_of(answer) == 429
                head, _, body = answer.partition(b"\r\n\r\n")
                assert b"Content-Length: %d" % len(body) in head
            with RawPeer(from_address(s, "127.0.0.3")) as other:
                other.send("hello")
                assert other.message() == "hello"
            server = s.hub.socket_handles("127.0.0.1", 0, TCP)
            raw = socket.create_connection(server.address, TIMEOUT, ("127.0.0.2", 0))
            with raw:  # the same hub's
                assert raw.recv(100) == b""
            assert struck(s.hub) == {"connections_per_address": 2}
            (line,) = s.logs.warnings()
            assert "2 connections of 127.0.0.2, the limit" in line
            second.send_close()
            assert second.closed() == (1000, "")
            assert second.at_end()
        for reader in readers.wait(4)[1:]:  # only the connection of the good client is left
            reader.join(TIMEOUT)
        with RawPeer(from_address(s, "127.0.0.2")), RawPeer(from_address(s, "127.0.0.2")):
            assert struck(s.hub) == {"connections_per_address": 2}


def test_limit_handshake_time_of_raw_peers_ends_them() -> None:
    """Over TLS."""
    with serving(upgrader=Upgrader(handshake_timeout=0.2)) as s:
        server = s.hub.socket_handles("127.0.0.1", 0, TCP, ssl=server_context())
        with tcp_peer(server) as slow:
            assert slow.rest() == b""
        s.logs.wait("no TLS within 0.2 s")
        assert struck(s.hub) == {"handshake_time": 1}


def test_limit_flood_of_bad_clients_is_two_lines() -> None:
    """One line for limits, and one for violations of the protocol; all are counted."""
    period = WebsocketPeriod[Any](message_buffer_size=10)
    with limited(period=period) as s:
        for frames, code in ((masked_frame("x" * 11), 1009), (masked_frame("x", 3), 1002)):
            for _ in range(20):
                bad = s.peer()
                bad.sock.sendall(frames)
                assert bad.closed()[0] == code
                bad.close()
    assert s.hub.statistics().ended_by["violation"] == 40
    assert struck(s.hub) == {"message": 20}
    assert len(s.logs.warnings()) == 2


def virtual(**fields: Any) -> VirtualHub[Any, Any]:
    return VirtualHub(HubSetting[Any, Any](dict, logger=Logs(), **fields))


@pytest.mark.parametrize(
    ("policy", "count"),
    [(Overflow.CLOSE, 1), (Overflow.DROP_OLDEST, 6), (Overflow.DROP_NEWEST, 6)],
)
def test_limit_outbox_counts_a_closed_client_once_and_each_dropped_message(
    policy: Overflow, count: int
) -> None:
    with virtual(overflow=policy, chan_queue_size=4) as hub:
        good, bad = hub.connect(), hub.connect()
        bad.stall()
        for number in range(10):
            hub.broadcast(str(number))
            hub.settle()
        assert struck(hub) == ({} if policy is Overflow.CLOSE else {"outbox": 6})
        bad.resume()
        hub.settle()
        assert struck(hub) == {"outbox": count}
        assert good.messages() == [str(number) for number in range(10)]


def test_limit_stall_and_silence_are_counted() -> None:
    with virtual() as hub:
        good, mute, stalled = hub.connect(), hub.connect(), hub.connect()
        mute.vanish()
        stalled.stall()
        hub.broadcast("news")
        hub.advance(200)
        assert struck(hub) == {"stall": 1, "silence": 1}
        assert good.messages() == ["news"]


def test_limit_messages_per_second_closes_a_client_beyond_the_burst() -> None:
    """The others talk on."""
    limits = Limits(messages_per_second=2, message_burst=3)
    with virtual(limits=limits, on_receive_message=echo) as hub:
        good, bad = hub.connect(), hub.connect()
        for _ in range(3):
            bad.send("burst")
        for number in range(20):
            hub.advance(0.5)
            good.send(f"g{number}")
            bad.send(f"b{number}")
        assert struck(hub) == {}
        assert bad.closed is False
        bad.send_wire(masked_frame("more") * 6)
        assert (bad.close_code, bad.close_reason) == (1008, "more than 2 messages a second")
        assert bad.messages() == ["burst"] * 3 + [f"b{number}" for number in range(20)]
        good.send("still here")
        assert good.messages() == [*(f"g{number}" for number in range(20)), "still here"]
        assert struck(hub) == {"messages_per_second": 1}


def test_limit_messages_per_second_counts_pings() -> None:
    """No function of the program is called for the ping that is too much."""
    heard: list[bytes] = []
    plan = PingPongPlan[Any](ping_handler=lambda ctx, meta, payload: heard.append(payload))
    period = WebsocketPeriod[Any](ping_pong_plan=plan)
    limits = Limits(messages_per_second=1, message_burst=3)
    with virtual(limits=limits, websocket_period=period) as hub:
        good, bad = hub.connect(), hub.connect()
        for number in range(60):
            hub.advance(1.0)
            good.send_wire(masked_frame(b"%d" % number, PING))
        assert not good.closed
        bad.send_wire(masked_frame(b"flood", PING) * 1000)
        assert (bad.close_code, bad.close_reason) == (1008, "more than 1 messages a second")
        assert heard == [*(b"%d" % number for number in range(60)), *[b"flood"] * 3]
        assert struck(hub) == {"messages_per_second": 1}


def test_limit_messages_per_second_comes_before_the_interceptor() -> None:
    """The burst is what two seconds allow."""
    seen: list[str] = []
    matcher = MatcherMap[Any, str](PrefixHeader(" "))
    matcher.handle("say")(lambda ctx, meta: seen.append(ctx.payload))
    for fields in ({}, {"on_receive_message": lambda ctx, meta: ctx.payload != "say no"}):
        seen.clear()
        limits = Limits(messages_per_second=2.1)
        with virtual(limits=limits, receive_matcher=matcher, **fields) as hub:
            client = hub.connect()
            client.send_wire(masked_frame("say no") + masked_frame("say yes") * 7)
            assert seen == [*["no"] * (not fields), *["yes"] * 4]
            assert client.close_code == 1008


def test_limit_messages_per_second_of_raw_peers() -> None:
    """TCP ends the peer.  UDP drops messages, since the peer could come back at once."""
    limits = Limits(messages_per_second=0.001, message_burst=3)
    with limited(limits=limits) as s:
        server = s.hub.socket_handles("127.0.0.1", 0, TCP)
        with tcp_peer(server) as peer:
            peer.send(b"1\n2\n3\n4\n5\n")
            assert peer.end() == b"1\n2\n3\n"
        assert "more than 0.001 messages a second" in s.logs.wait(" ended: ")
        assert struck(s.hub) == {"messages_per_second": 1}
        datagrams = s.hub.socket_handles("127.0.0.1", 0, UDP)
        with udp_peer(datagrams) as one:
            one.send(b"1", b"2", b"3", b"4", b"5")
            assert one.messages(3) == [b"1", b"2", b"3"]
            s.logs.wait("dropping some")
            with udp_peer(datagrams) as another:  # all datagrams before its own were received
                another.send(b"x")
                assert another.message() == b"x"
        assert s.hub.statistics().ended_by == {"violation": 1}
    assert struck(s.hub) == {"messages_per_second": 3}


def test_limit_rooms_per_client_refuses_one_more() -> None:
    """One line in the log.  The client stays in its rooms."""

    def join(ctx: Any, meta: Any) -> bool:
        if ctx.payload == "leave":
            rooms[0].hangup(ctx)
        else:
            rooms[int(ctx.payload)].answer(ctx)
        return True

    limits = Limits(rooms_per_client=2)
    with virtual(limits=limits, on_receive_message=join) as hub:
        rooms = [hub.hotline() for _ in range(3)]
        good, bad = hub.connect(), hub.connect()
        for number in (0, 1, 0, 2, 2, 2):
            bad.send(str(number))
        good.send("2")
        assert [room.members_num for room in rooms] == [1, 1, 1]
        assert struck(hub) == {"rooms_per_client": 3}
        with pytest.raises(TooManyRooms, match="is in 2 rooms, the limit"):
            rooms[2].answer(bad.ctx)
        bad.send("leave")
        bad.send("2")
        assert [room.members_num for room in rooms] == [0, 1, 2]
        assert struck(hub) == {"rooms_per_client": 4}
        (line,) = hub.setting.logger.warnings()  # type: ignore[attr-defined]
        assert "in 2 rooms, the limit" in line


def test_limit_rooms_per_client_may_be_none() -> None:
    with virtual(limits=Limits(rooms_per_client=None)) as hub:
        client = hub.connect()
        for _ in range(1001):
            hub.hotline().answer(client.ctx)
        assert client.ctx.statistics().hotlines == 1001
        assert struck(hub) == {}


def test_limit_idle_time_closes_a_client_without_messages() -> None:
    """Pings and pongs do not count as messages."""
    with virtual(limits=Limits(idle_time=60), on_receive_message=echo) as hub:
        good, quiet, mute = hub.connect(), hub.connect(), hub.connect()
        for second in range(76):
            hub.advance(1)
            good.send(str(second))
            if not quiet.closed:
                quiet.send_wire(masked_frame(b"", PING))
            assert mute.closed == quiet.closed
            assert mute.closed or second < 75
            assert second >= 59 or not mute.closed
        for client in (quiet, mute):
            assert (client.close_code, client.close_reason) == (1000, "no message for 60 s")
        assert not good.closed
        assert struck(hub) == {"idle_time": 2}
        assert hub.statistics().ended_by == {"idle": 2}


def test_limit_idle_time_of_raw_peers_ends_them() -> None:
    """Empty lines and empty datagrams do not count as messages."""
    with serving(limits=Limits(idle_time=0.2), on_receive_message=echo) as s:
        server = s.hub.socket_handles("127.0.0.1", 0, TCP)
        datagrams = s.hub.socket_handles("127.0.0.1", 0, UDP)
        with tcp_peer(server) as peer, udp_peer(datagrams) as one:
            one.send(b"", b"hello")
            assert one.message() == b"hello"
            peer.send(b"\n\n")
            assert peer.end() == b""
            # On a busy machine a peer may be idle between its two datagrams, and end twice.
            assert ended(s, 2).keys() == {"idle"}
        assert struck(s.hub).keys() == {"idle_time"}


def trickle(peer: socket.socket, clock: HandClock, *parts: bytes) -> None:
    """Send ``parts`` over and over, one each second, until the other side closes."""
    peer.settimeout(0.01)
    with contextlib.suppress(ConnectionError):
        for part in itertools.cycle(parts):
            clock.now += 1
            with contextlib.suppress(TimeoutError):
                peer.sendall(part)
                said = peer.recv(1000)
                if not said or 0x80 | CLOSE in said:
                    break


class HandClock:
    """The clock of the times that messages take: the test moves it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> HandClock:
    found = HandClock()
    monkeypatch.setattr(connection, "monotonic", found)
    return found


ONE, EMPTY = masked_frame("x", fin=False), masked_frame("", 0, fin=False)


@pytest.mark.parametrize(
    ("first", "parts"),
    [
        (masked_frame("x" * 1000)[:20], [b"\x00"]),
        (ONE, [EMPTY]),
        (ONE, [masked_frame(b"", PING), EMPTY]),
    ],
    ids=["frame", "fragments", "pings between"],
)
def test_limit_message_time_closes_a_trickled_message(
    first: bytes, parts: list[bytes], clock: HandClock
) -> None:
    """The time runs from the first byte to the last, and anew for the next message."""
    limits = Limits(message_time=10.0)
    with limited(limits=limits, upgrader=Upgrader()) as s:
        slow = s.peer()
        for _ in range(3):
            slow.sock.sendall(ONE)
            slow.sock.sendall(EMPTY)
            slow.sock.sendall(masked_frame("y", 0))
            assert slow.message() == "xy"
            clock.now += 9
        slow.sock.sendall(first)
        trickle(slow.sock, clock, *parts)
        slow.close()
        line = s.logs.wait("closed: 1008")
        assert "The message took more than 10 s" in line
        assert struck(s.hub) == {"message_time": 1}


@pytest.mark.parametrize("framing", [Framing.LINES, Framing.LENGTH_2])
def test_limit_message_time_of_raw_peers_ends_them(framing: Framing, clock: HandClock) -> None:
    limits = Limits(message_time=10.0)
    with limited(limits=limits, socket_period=SocketPeriod(framing=framing)) as s:
        server = s.hub.socket_handles("127.0.0.1", 0, TCP)
        with tcp_peer(server) as peer:
            peer.send(b"\x03\xe8" if framing is Framing.LENGTH_2 else b"hell")
            trickle(peer.sock, clock, b"x")
        s.logs.wait("The message took more than 10 s")
        assert struck(s.hub) == {"message_time": 1}


def test_limit_message_time_is_counted_for_each_message(clock: HandClock) -> None:
    """Each read has the end of one message and the beginning of the next."""
    with limited(limits=Limits(message_time=10.0)) as s:
        busy = s.peer()
        busy.sock.sendall(ONE)
        for _ in range(20):
            clock.now += 9
            busy.sock.sendall(masked_frame("y", 0) + ONE)
            assert busy.message() == "xy"
        assert struck(s.hub) == {}


def test_limit_message_time_does_not_count_between_empty_lines(clock: HandClock) -> None:
    with limited(limits=Limits(message_time=10.0)) as s:
        server = s.hub.socket_handles("127.0.0.1", 0, TCP)
        with tcp_peer(server) as peer:
            for _ in range(5):
                clock.now += 9
                peer.send(b"\n")
                peer.send(b"hello\n")
                assert peer.line() == "hello"
                clock.now += 9
                peer.send(b"\n")
        assert struck(s.hub) == {}
