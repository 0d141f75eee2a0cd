"""A drain sends the clients of a hub elsewhere, and they miss nothing there."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from hubthread import (
    CloseCode,
    DeadlockError,
    HandshakeRejected,
    History,
    HotlineOption,
    HubClosed,
    HubSetting,
    MemoryBackplane,
    Position,
    Request,
    SettingError,
)
from hubthread.hub.drain import LEAST_BATCH, pace
from hubthread.protocol.request import Headers
from hubthread.testing import FakeClock, VirtualHub


def test_drain_tells_clients_in_batches_oldest_first() -> None:
    ends: list[tuple[float, int]] = []
    health: list[tuple[str, int]] = []

    def on_close(ctx: Any, meta: object) -> None:
        ends.append((hub.clock.now(), ctx.connection_id))
        health.append((hub.state, hub.health(Request("GET", "/", Headers([]))).status))

    with VirtualHub[Any, Any](HubSetting(dict, on_connection_close=on_close)) as hub:
        clients = [hub.connect() for _ in range(5)]
        clients[4].ctx.write("the last")
        assert hub.drain(batch=2, interval=3)
        assert ends == [(0.0, 1), (0.0, 2), (3.0, 3), (3.0, 4), (6.0, 5)]
        assert clients[4].inbox == ["the last"]
        assert {client.close_code for client in clients} == {CloseCode.COME_BACK}
        assert {client.close_reason for client in clients} == {"the server restarts retry=3"}
        assert set(health) == {("draining", 503)}
        assert hub.drain()
    assert (hub.state, hub.errors) == ("closed", [])


def test_drain_refuses_new_clients_with_503() -> None:
    with VirtualHub[Any, Any](HubSetting(dict)) as hub:
        assert hub.drain()
        with pytest.raises(HandshakeRejected) as refusal:
            hub.connect()
        assert (refusal.value.status, refusal.value.reason) == (503, "The server is going away.")


def test_drain_cuts_a_client_that_does_not_answer() -> None:
    with VirtualHub[Any, Any](HubSetting(dict)) as hub:
        client = hub.connect()
        client.stall()
        assert not hub.drain(timeout=1)
        assert hub.clients_num() == 1
        assert hub.drain()
        assert client.close_code == 1006


def test_drain_in_a_callback_raises() -> None:
    raised: list[BaseException] = []

    def on_message(ctx: Any, meta: object) -> bool:
        with pytest.raises(DeadlockError) as error:
            ctx.hub.drain()
        raised.append(error.value)
        return True

    with VirtualHub[Any, Any](HubSetting(dict, on_receive_message=on_message)) as hub:
        hub.connect().send("drain")
        assert len(raised) == 1
        assert hub.state == "running"
    with pytest.raises(HubClosed):
        hub.drain()


@pytest.mark.parametrize("arguments", [{"batch": 0}, {"interval": 0}, {"interval": -1}])
def test_drain_wrong_number_raises(arguments: dict[str, Any]) -> None:
    with VirtualHub[Any, Any](HubSetting(dict)) as hub:
        with pytest.raises(SettingError):
            hub.drain(**arguments)
        assert hub.state == "running"


def test_drain_ends_with_the_hub() -> None:
    with VirtualHub[Any, Any](HubSetting(dict)) as hub:
        clients = [hub.connect() for _ in range(3)]
        hub.clock.after(1.0, hub.close)
        assert hub.drain(batch=1, interval=20)
        assert [client.close_code for client in clients] == [1012, 1001, 1001]
        assert hub.clock.now() < 20


def test_pace_tells_all_in_time() -> None:
    assert pace(3, 10.0) == LEAST_BATCH
    assert pace(10_000, 10.0) == 250  # each quarter of a second


def test_drained_client_misses_nothing_elsewhere() -> None:
    """It comes back to another hub with its position, and gets what was pushed meanwhile."""
    clock, backplane = FakeClock(), MemoryBackplane()
    setting = HubSetting[Any, Any](dict, backplane=backplane)
    option = HotlineOption("table 7", shared=True, history=History(size=100))
    with VirtualHub(setting, clock) as there, VirtualHub(setting, clock) as here:
        rooms = [hub.hotline(option) for hub in (there, here)]
        clients = [here.connect() for _ in range(4)]
        positions = {
            client: rooms[1].answer(client.ctx, since=None).position for client in clients
        }
        got: list[list[Any]] = []

        def push(number: int) -> None:
            rooms[number % 2].push(str(number))
            for client in list(positions):
                if client.closed:
                    position = positions.pop(client)
                    position = Position(position.epoch, position.offset + len(client.inbox))
                    back = there.connect()
                    assert rooms[0].answer(back.ctx, since=position).recovered
                    there.settle()
                    got.append([*client.inbox, *back.inbox])

        for number in range(20):
            clock.after(number * 0.4, partial(push, number))
        assert here.drain(batch=1, interval=1)
        clock.advance(10)
        assert not positions
        assert all(each == [str(number) for number in range(len(each))] for each in got)
        assert here.errors == there.errors == []
