"""Virtual clients, good and bad: what they send and read, and how the hub treats them."""

from __future__ import annotations

from typing import Any

import pytest

from hubthread import (
    ClientClosed,
    HandshakeRejected,
    HubSetting,
    Overflow,
    PingPongPlan,
    SettingError,
    Upgrader,
    WebsocketPeriod,
)
from hubthread.testing import VirtualClient, VirtualHub


def echo(ctx: Any, meta: Any) -> bool:
    ctx.write(ctx.payload)
    return True


def test_virtual_client_connects_sends_and_reads_its_inbox() -> None:
    greeting = HubSetting[Any, Any](
        dict,
        on_connection_start=lambda ctx, meta: ctx.write(f"hello from {ctx.handshake.path}"),
        on_receive_message=echo,
    )
    with VirtualHub(greeting) as hub:
        client = hub.connect("/lobby?seat=7", headers={"Cookie": "session=1"})
        assert client.ctx.handshake.query == {"seat": "7"}
        assert client.ctx.handshake.cookies == {"session": "1"}
        client.send("text")
        client.send(b"\x00bytes")
        client.send_json({"a": [1]})
        assert client.inbox == ["hello from /lobby", "text", b"\x00bytes", '{"a": [1]}']
        assert client.take() == "hello from /lobby"
        assert client.messages() == ["text", b"\x00bytes", '{"a": [1]}']
        assert client.inbox == []
        with pytest.raises(LookupError, match="is empty"):
            client.take()
    assert hub.errors == []


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536, 300_000])
def test_virtual_client_messages_of_any_size_go_both_ways(size: int) -> None:
    with VirtualHub(HubSetting[Any, Any](dict, on_receive_message=echo)) as hub:
        client = hub.connect()
        client.send(b"x" * size)
        client.send("ä" * size)
        assert client.messages() == [b"x" * size, "ä" * size]


def test_virtual_hub_connect_refused_raises_with_the_reason() -> None:
    told = []
    period = WebsocketPeriod[Any](upgrader=Upgrader(error=lambda *args: told.append(args[1:])))

    def shake(request: Any) -> dict[str, str]:
        raise HandshakeRejected(401, "Log in first.")

    with VirtualHub(
        HubSetting[Any, Any](dict, on_handshake=shake, websocket_period=period)
    ) as hub:
        with pytest.raises(HandshakeRejected, match="Log in") as refused:
            hub.connect()
        assert refused.value.status == 401
        with pytest.raises(HandshakeRejected, match="may not connect here"):
            hub.connect(headers={"Origin": "https://elsewhere.example"})
        assert hub.clients_num() == 0
        assert hub.statistics().handshakes_refused == 2
        assert told == [(401, "Log in first."), (403, told[1][1])]


@pytest.mark.parametrize("code", [70000, -1, 0, 1000.0, "1000"])
def test_virtual_client_close_code_out_of_range_is_refused(code: Any) -> None:
    """A code that a frame can hold but must not carry is sent: the hub answers it."""
    with VirtualHub(HubSetting[Any, Any](dict)) as hub:
        client = hub.connect()
        with pytest.raises(SettingError, match=r"^code: expected an integer .*, got "):
            client.close(code)
        assert not client.closed
        client.close(65535)
        assert client.closed


def test_virtual_client_closing_handshake_from_either_side_is_clean() -> None:
    closed = []
    setting = HubSetting[Any, Any](
        dict, on_connection_close=lambda ctx, meta: closed.append(ctx.ws_conn.code)
    )
    with VirtualHub(setting) as hub:
        mine, theirs = hub.connect(), hub.connect()
        mine.close(4001, "bye")
        assert (mine.closed, mine.close_code, mine.close_reason) == (True, 4001, "bye")
        assert mine.ctx.ws_conn.clean
        theirs.ctx.close(4002, "out")
        assert (theirs.close_code, theirs.close_reason, theirs.closed) == (4002, "out", True)
        assert theirs.ctx.ws_conn.clean
        assert closed == [4001, 4002]
        assert hub.clients_num() == 0
        for client in (mine, theirs):
            with pytest.raises(ClientClosed):
                client.send("too late")
        assert hub.clock.now() == 0.0


def setting(**fields: Any) -> HubSetting[Any, Any]:
    period = {
        name: fields.pop(name)
        for name in ("ping_pong_plan", "write_wait", "close_timeout")
        if name in fields
    }
    return HubSetting(dict, websocket_period=WebsocketPeriod(**period), **fields)


def ended(client: VirtualClient) -> tuple[str, int | None]:
    return client.ctx.statistics().state, client.close_code


def numbers(*parts: int | range) -> list[str]:
    return [str(n) for part in parts for n in ([part] if isinstance(part, int) else part)]


# The keepalive.


def test_virtual_client_vanished_is_found_by_the_keepalive() -> None:
    with VirtualHub(setting()) as hub:
        client = hub.connect()
        hub.advance(7)
        client.ctx.write("the last word")
        client.send("the last sign of life")
        client.vanish()
        client.ctx.write("lost on the way")
        client.send("lost on the way")
        hub.advance(59.999)
        assert (client.closed, hub.clients_num()) == (False, 1)
        hub.advance(0.001)
        assert (client.closed, hub.clients_num()) == (True, 0)
        assert ended(client) == ("silent", 1006)
        assert client.ctx.statistics().received == 1
        assert client.inbox == ["the last word"]


def test_virtual_client_that_only_answers_pings_stays() -> None:
    pongs: list[float] = []
    plan = PingPongPlan[Any](
        ping_period=20, ping_timeout=60, pong_handler=lambda *_: pongs.append(hub.clock.now())
    )
    with VirtualHub(setting(ping_pong_plan=plan)) as hub:
        client = hub.connect()
        hub.advance(3600)
        assert not client.closed
        assert pongs == [20.0 * n for n in range(1, 181)]


def test_virtual_client_vanished_stays_without_a_ping_plan() -> None:
    plan = PingPongPlan[Any](ping_period=None, ping_timeout=None)
    with VirtualHub(setting(ping_pong_plan=plan)) as hub:
        client = hub.connect()
        client.vanish()
        hub.advance(10**4)
        assert hub.clients_num() == 1


def test_virtual_client_stalled_is_found_silent_or_stalled() -> None:
    """It does not answer pings; a short ``write_wait`` finds it even sooner."""
    for write_wait, found, cause in ((100, 60, "silent"), (10, 26, "stalled")):
        with VirtualHub(setting(write_wait=write_wait)) as hub:
            client = hub.connect()
            client.stall()
            hub.advance(found - 0.001)
            assert not client.closed
            hub.advance(0.001)
            assert ended(client) == (cause, 1006)


# Ends.


def test_virtual_client_dropped_ends_without_a_close() -> None:
    left = []
    with VirtualHub(setting(on_connection_close=lambda ctx, meta: left.append(ctx))) as hub:
        one, two = hub.connect(), hub.connect()
        room = hub.hotline()
        for client in (one, two):
            room.answer(client.ctx)
        one.drop()
        assert left == [one.ctx]
        assert room.members == [two.ctx]
        assert ended(one) == ("lost", 1006)
        room.push("goes on")
        assert (one.inbox, two.inbox) == ([], ["goes on"])


def test_virtual_client_deaf_to_a_close_is_cut_after_close_timeout() -> None:
    for deaf in (VirtualClient.stall, VirtualClient.vanish):
        with VirtualHub(setting(close_timeout=5)) as hub:
            client = hub.connect()
            deaf(client)
            client.ctx.close(4000, "out")
            hub.advance(4.999)
            assert not client.closed
            hub.advance(0.001)
            assert ended(client) == ("server", 1006)


def test_virtual_client_stalled_own_close_ends_after_close_timeout() -> None:
    with VirtualHub(setting(close_timeout=5)) as hub:
        client = hub.connect()
        client.stall()
        client.ctx.write("waits")
        client.close()
        hub.advance(4.999)
        assert not client.closed
        hub.advance(0.001)
        assert ended(client) == ("peer", 1006)


# A client that reads nothing, or slowly.


def test_virtual_client_resumed_gets_everything() -> None:
    with VirtualHub(setting()) as hub:
        client = hub.connect()
        room = hub.hotline()
        room.answer(client.ctx)
        client.stall()
        for number in range(100):
            room.push(str(number))
        hub.advance(9.999)
        assert client.inbox == []
        assert client.ctx.statistics().waiting == 100
        client.resume()
        assert client.inbox == numbers(range(100))
        hub.advance(3600)
        assert (client.closed, client.ctx.statistics().waiting) == (False, 0)


def test_virtual_client_stalled_is_cut_after_write_wait_if_data_waits() -> None:
    with VirtualHub(setting(write_wait=10)) as hub:
        client, idle = hub.connect(), hub.connect()
        client.stall()
        idle.stall()
        hub.advance(5)
        client.ctx.write("waits")
        hub.advance(9.999)
        assert not client.closed
        hub.advance(0.001)
        assert ended(client) == ("stalled", 1006)
        assert not idle.closed  # nothing waits for it


def full(hub: VirtualHub[Any, Any], keys: int | None = None) -> VirtualClient:
    """Return a client that stalled before 20 messages, of which 8 may wait, and resumed."""
    client = hub.connect()
    room = hub.hotline()
    room.answer(client.ctx)
    client.stall()
    for number in range(20):
        room.push(str(number), key=None if keys is None else number % keys)
        hub.settle()
    hub.advance(1)
    client.resume()
    return client


@pytest.mark.parametrize(
    ("policy", "keys", "inbox", "dropped"),
    [
        (Overflow.DROP_OLDEST, None, numbers(range(12, 20)), 12),
        (Overflow.DROP_NEWEST, None, numbers(range(8)), 12),
        (Overflow.LATEST, 3, ["18", "19", "17"], 17),  # each in the place of the first of its key
        (Overflow.CLOSE, None, [], 9),  # no more was sent to it
    ],
)
def test_virtual_client_overflow_meets_the_policy(
    policy: Overflow, keys: int | None, inbox: list[str], dropped: int
) -> None:
    with VirtualHub(setting(chan_queue_size=8, overflow=policy)) as hub:
        client = full(hub, keys)
        assert client.inbox == inbox
        assert client.ctx.statistics().dropped == dropped
        closed = ("overflow", 1013) if policy is Overflow.CLOSE else ("open", None)
        assert ended(client) == closed


def test_virtual_client_slow_reads_at_its_rate() -> None:
    """Frames of 102 bytes, 1,020 bytes a second, 102 of them at once."""
    with VirtualHub(setting()) as hub:
        client = hub.connect(bytes_per_second=1020)
        for _ in range(30):
            client.ctx.write("x" * 100)
        assert len(client.inbox) == 1
        for second in range(1, 3):
            hub.advance(1)
            assert len(client.inbox) == 1 + 10 * second
        hub.advance(0.85)
        assert len(client.inbox) == 29
        hub.advance(0.05)
        assert len(client.messages()) == 30
        assert client.ctx.statistics().waiting == 0
        hub.advance(5)
        client.ctx.write("x" * 100)
        assert len(client.inbox) == 1


def test_virtual_client_slow_stays_and_too_slow_overflows() -> None:
    with VirtualHub(setting(chan_queue_size=100, write_wait=10)) as hub:
        slow, slower = hub.connect(bytes_per_second=30), hub.connect(bytes_per_second=10)
        room = hub.hotline()
        for client in (slow, slower):
            room.answer(client.ctx)
        for _ in range(300):
            room.push("x" * 18)  # 20 bytes, once a second
            hub.advance(1)
        assert len(slow.inbox) == 300
        assert ended(slow) == ("open", None)
        assert ended(slower)[0] == "overflow"
        with pytest.raises(SettingError, match="bytes_per_second"):
            hub.connect(bytes_per_second=0)


def test_virtual_client_one_byte_within_write_wait_is_enough() -> None:
    with VirtualHub(setting(write_wait=10)) as hub:
        alive, dead = hub.connect(bytes_per_second=0.2), hub.connect(bytes_per_second=0.05)
        alive.ctx.write("ab")  # the first byte at once, three more in 15 seconds
        dead.ctx.write("ab")
        hub.advance(10)
        assert ended(dead) == ("stalled", 1006)
        hub.advance(4.999)
        assert alive.inbox == []
        hub.advance(0.001)
        assert alive.inbox == ["ab"]


def test_virtual_client_good_is_not_held_up_by_bad_ones() -> None:
    with VirtualHub(setting()) as hub:
        good, stalled, gone = hub.connect(), hub.connect(), hub.connect()
        slow = hub.connect(bytes_per_second=50)
        room = hub.hotline()
        for client in (stalled, gone, slow, good):
            room.answer(client.ctx)
        stalled.stall()
        gone.vanish()
        for number in range(100):
            room.push(str(number))
            assert good.inbox == [str(number)]
            good.messages()
            hub.advance(0.05)
        assert stalled.inbox == gone.inbox == []
        assert slow.inbox == numbers(range(len(slow.inbox)))
        assert 60 < len(slow.inbox) < 100
