"""A virtual hub closes as a real one does, in virtual time, and leaves nothing behind."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from hubthread import (
    Context,
    DeadlockError,
    HandshakeRejected,
    HotlineFrameOption,
    HubClosed,
    HubSetting,
    LongPollingOption,
    UsageError,
)
from hubthread.concurrency import calls
from hubthread.testing import FakeClock, VirtualClient, VirtualHub


def test_virtual_hub_close_tells_every_client_and_takes_no_time() -> None:
    """If all clients answer their Close."""
    ends: list[str] = []
    setting = HubSetting[Any, Any](
        dict, on_connection_close=lambda ctx, meta: ends.append(f"client {ctx.connection_id}")
    )
    with VirtualHub(setting) as hub:
        clients = [hub.connect() for _ in range(3)]
        room = HotlineFrameOption[Any](
            list, on_close=lambda frame, obj: ends.append("room"), hz=10, logic=lambda *_: None
        ).run(hub.hotline())
        room.answer(clients[0].ctx)
        poll = hub.long_polling(LongPollingOption(lambda hub, done: None, 60))
        clients[1].ctx.write("the last")
        hub.exec_async(lambda _: ends.append("closure"))
    assert ends == ["closure", "room", "client 1", "client 2", "client 3"]
    assert [client.close_code for client in clients] == [1001, 1001, 1001]
    assert clients[1].inbox == ["the last"]
    assert (poll.outcome, hub.state, hub.clock.now()) == ("cancelled", "closed", 0.0)
    for refused in (room.push, hub.broadcast):
        with pytest.raises(Exception, match="closed"):
            refused("too late")
    with pytest.raises(HubClosed):
        hub.exec_sync(lambda _: None)
    with pytest.raises(HandshakeRejected) as told:
        hub.connect()
    assert told.value.status == 503
    hub.close()
    assert hub.join()


def test_virtual_hub_close_ends_hundreds_of_clients() -> None:
    """The end of one client does not wait for that of the next, as deep as there are clients."""
    ends: list[int] = []
    setting = HubSetting[Any, Any](
        dict, on_connection_close=lambda ctx, meta: ends.append(ctx.connection_id)
    )
    with VirtualHub(setting) as hub:
        clients = [hub.connect() for _ in range(400)]
    assert ends == list(range(1, 401))
    assert {client.close_code for client in clients} == {1001}
    assert not hub.errors


def test_virtual_hub_close_cuts_clients_that_do_not_answer() -> None:
    """They are cut after ``close_timeout``, or sooner if the time of ``close`` is up."""
    for timeout, until in ((10, 5.0), (4, 3.0)):
        hub = VirtualHub(HubSetting[Any, Any](dict))
        hub.start()
        good, stalled, gone = hub.connect(), hub.connect(), hub.connect()
        slow = hub.connect(bytes_per_second=100)
        stalled.stall()
        gone.vanish()
        slow.ctx.write("x" * 198)  # 200 bytes, 10 of them at once
        hub.close(timeout)
        assert hub.clock.now() == pytest.approx(until)
        assert [good.close_code, stalled.close_code, gone.close_code] == [1001, 1006, 1006]
        assert (slow.inbox, slow.close_code) == (["x" * 198], 1001)
        assert hub.clients_num() == 0


def test_virtual_hub_close_waits_for_wait_done() -> None:
    with VirtualHub(HubSetting[Any, Any](dict)) as hub:
        hub.wait_add()
        room = HotlineFrameOption[Any](list).run(hub.hotline())
        room.operation_timeout(3, lambda frame, obj: hub.wait_done())
    assert hub.clock.now() == 3.0


def test_virtual_hub_close_in_a_callback_happens_after_it() -> None:
    def tick(frame: Any, obj: Any) -> None:
        if frame.tick.index == 3:
            frame.hub.close()
            states.append(frame.hub.state)

    states: list[str] = []

    def hear(ctx: Any, meta: Any) -> bool:
        ctx.hub.close()
        return False

    setting = HubSetting[Any, Any](dict, on_receive_message=hear)
    with VirtualHub(setting) as hub:
        client = hub.connect()
        client.send("close it")
        assert (hub.state, client.close_code) == ("closed", 1001)
    with VirtualHub(HubSetting[Any, Any](dict)) as hub:
        client = hub.connect()
        HotlineFrameOption[Any](list, tick, hz=10).run(hub.hotline())
        hub.advance(1)
        assert (hub.state, client.close_code, states) == ("closed", 1001, ["running"])
        assert hub.clock.now() == 1.0
        hub.advance(1)
    assert hub.errors == []


def test_virtual_hub_close_leaves_no_thread_simulation_or_object() -> None:

    def session() -> list[weakref.ref[Any]]:
        with VirtualHub(HubSetting[Any, Any](dict)) as hub:
            clients = [hub.connect() for _ in range(4)]
            for client, misbehave in zip(
                clients,
                (
                    VirtualClient.stall,
                    VirtualClient.vanish,
                    VirtualClient.drop,
                    VirtualClient.close,
                ),
                strict=True,
            ):
                client.ctx.write("something")
                misbehave(client)
            hub.broadcast("to all")
            hub.tick(HotlineFrameOption[Any](list, lambda *_: None, hz=5).run(hub.hotline()), 7)
            assert hub.statistics().threads == 0
        return [weakref.ref(hub), *(weakref.ref(client.ctx) for client in clients)]

    left = session()
    gc.collect()
    assert [ref() for ref in left] == [None] * 5
    assert calls._simulations == {}
    assert not calls._simulated


def test_virtual_hub_serve_and_run_raise() -> None:
    with VirtualHub(HubSetting[Any, Any](dict)) as hub:
        for way_in in (hub.serve, hub.socket_handles):
            with pytest.raises(UsageError, match=r"hub\.connect\(\)"):
                way_in("127.0.0.1", 0)
        with pytest.raises(UsageError, match="start"):
            hub.run()
        with pytest.raises(UsageError, match="runs once"):
            hub.start()
        assert hub.servers() == []


def test_two_virtual_hubs_share_one_clock() -> None:
    clock = FakeClock()
    with VirtualHub(HubSetting[Any, Any](dict), clock) as one:
        with VirtualHub(HubSetting[Any, Any](dict), clock) as two:
            assert one.exec_sync(lambda _: two.exec_sync(lambda _: 2)) == 2
            one.advance(1)
            two.advance(1)
            assert one.clock.now() == two.clock.now() == 2.0
        assert one.exec_sync(lambda _: 1) == 1


@pytest.mark.parametrize("first", [0, 1])
def test_two_virtual_hubs_with_own_clocks_wait_for_each_other(first: int) -> None:
    """The waits also work after one of the hubs has closed."""
    one, two = (VirtualHub(HubSetting[Any, Any](dict)) for _ in range(2))
    with one, two:
        assert one.exec_sync(lambda _: two.exec_sync(lambda _: one.clients_num())) == 0
        assert two.exec_sync(lambda _: one.exec_sync(lambda _: 1)) == 1
        with pytest.raises(DeadlockError, match="it waits for this thread"):
            one.exec_sync(lambda _: two.exec_sync(lambda _: one.exec_sync(lambda _: 1, 1)))
        two.advance(1)
        one.advance(2)
        assert (one.clock.now(), two.clock.now()) == (2.0, 1.0)
        goes, stays = (one, two) if first == 0 else (two, one)
        goes.close()
        assert stays.exec_sync(lambda _: 1) == 1
    context = Context()
    assert not context.wait(0.001)
