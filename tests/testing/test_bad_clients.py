"""Clients that stall, read slowly, vanish or drop: what the hub does about them, and when."""

from __future__ import annotations

from typing import Any

import pytest

from hubthread import HubSetting, Overflow, PingPongPlan, SettingError, WebsocketPeriod
from hubthread.testing import VirtualClient, VirtualHub


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


def test_a_vanished_client_is_found_by_the_keepalive() -> None:
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


def test_a_client_that_only_answers_pings_stays() -> None:
    pongs: list[float] = []
    plan = PingPongPlan[Any](
        ping_period=20, ping_timeout=60, pong_handler=lambda *_: pongs.append(hub.clock.now())
    )
    with VirtualHub(setting(ping_pong_plan=plan)) as hub:
        client = hub.connect()
        hub.advance(3600)
        assert not client.closed
        assert pongs == [20.0 * n for n in range(1, 181)]


def test_without_a_plan_nobody_is_pinged_and_nobody_missed() -> None:
    plan = PingPongPlan[Any](ping_period=None, ping_timeout=None)
    with VirtualHub(setting(ping_pong_plan=plan)) as hub:
        client = hub.connect()
        client.vanish()
        hub.advance(10**6)
        assert hub.clients_num() == 1


def test_a_client_that_reads_nothing_does_not_see_the_pings() -> None:
    """Nor are they answered; that it still takes no byte is found even sooner."""
    for write_wait, found, cause in ((100, 60, "silent"), (10, 26, "stalled")):
        with VirtualHub(setting(write_wait=write_wait)) as hub:
            client = hub.connect()
            client.stall()
            hub.advance(found - 0.001)
            assert not client.closed
            hub.advance(0.001)
            assert ended(client) == (cause, 1006)


# Ends.


def test_a_lost_connection_ends_without_a_close() -> None:
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


def test_a_peer_that_breaks_the_protocol_is_told() -> None:
    with VirtualHub(setting()) as hub:
        client = hub.connect()
        client.send_wire(b"\x81\x05hello")  # not masked
        assert client.close_code == 1002
        assert ended(client) == ("violation", 1002)


def test_a_close_that_is_not_answered_ends_in_time() -> None:
    for deaf in (VirtualClient.stall, VirtualClient.vanish):
        with VirtualHub(setting(close_timeout=5)) as hub:
            client = hub.connect()
            deaf(client)
            client.ctx.close(4000, "out")
            hub.advance(4.999)
            assert not client.closed
            hub.advance(0.001)
            assert ended(client) == ("server", 1006)


def test_a_close_of_a_client_that_reads_nothing_ends_in_time() -> None:
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


def test_a_stalled_client_gets_all_when_it_resumes() -> None:
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


def test_a_client_that_takes_no_byte_is_cut() -> None:
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
    """A client that stalled before 20 messages for it, where 8 may wait, and then resumed."""
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


def test_overflow_close() -> None:
    with VirtualHub(setting(chan_queue_size=8, overflow=Overflow.CLOSE)) as hub:
        client = full(hub)
        assert (client.inbox, client.close_code) == ([], 1013)
        assert ended(client) == ("overflow", 1013)
        assert client.ctx.statistics().dropped == 9  # no more was sent to it


def test_overflow_drop_oldest() -> None:
    with VirtualHub(setting(chan_queue_size=8, overflow=Overflow.DROP_OLDEST)) as hub:
        client = full(hub)
        assert client.inbox == numbers(range(12, 20))
        assert (client.closed, client.ctx.statistics().dropped) == (False, 12)


def test_overflow_drop_newest() -> None:
    with VirtualHub(setting(chan_queue_size=8, overflow=Overflow.DROP_NEWEST)) as hub:
        client = full(hub)
        assert client.inbox == numbers(range(8))
        assert (client.closed, client.ctx.statistics().dropped) == (False, 12)


def test_overflow_latest() -> None:
    with VirtualHub(setting(chan_queue_size=8, overflow=Overflow.LATEST)) as hub:
        client = full(hub, keys=3)
        assert client.inbox == ["18", "19", "17"]  # each in the place of the first of its key
        assert (client.closed, client.ctx.statistics().dropped) == (False, 17)


def test_a_slow_client_gets_so_many_bytes_a_second() -> None:
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


def test_a_slow_client_is_alive_and_one_that_is_too_slow_overflows() -> None:
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


def test_one_byte_within_write_wait_is_enough() -> None:
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


def test_the_others_notice_nothing() -> None:
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
