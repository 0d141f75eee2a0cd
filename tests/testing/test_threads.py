"""One thread simulates all: waits end as they do with threads, and none hangs."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from hubthread import (
    ClientClosed,
    Context,
    DeadlockError,
    DHub,
    ExecTimeout,
    HotlineFrameOption,
    HubSetting,
    IOContext,
    JsonHeader,
    LongPollingOption,
    MatcherMap,
    RateLimiter,
    WrongThread,
)
from hubthread.testing import FakeClock, VirtualClient, VirtualHub

AnyHub = VirtualHub[Any, Any]


def answering(handler: Callable[[Any], object]) -> HubSetting[Any, Any]:
    """Return settings that answer each message by ``repr(handler(ctx))``."""

    def on_message(ctx: Any, meta: Any) -> bool:
        ctx.write(repr(handler(ctx)))
        return False

    return HubSetting(dict, on_receive_message=on_message)


def room_of(hub: AnyHub, **fields: Any) -> Any:
    return HotlineFrameOption(new_obj=list, **fields).run(hub.hotline())


def test_simulation_handler_gets_results_of_hub_room_and_clients() -> None:
    def handler(ctx: Any) -> object:
        one = ctx.hub.exec_sync(lambda dhub: dhub.clients_num())
        two = room.exec_sync(lambda frame, obj: [*obj, "room"])
        three = other.ctx.exec_sync(lambda: other.ctx.connection_id)
        return one, two, three, ctx.exec_sync(lambda: ctx.payload)

    with VirtualHub(answering(handler)) as hub:
        room, client, other = room_of(hub), hub.connect(), hub.connect()
        client.send("mine")
        assert client.messages() == [repr((2, ["room"], 2, "mine"))]


def test_simulation_cycle_of_waits_is_refused() -> None:
    refused = []

    def back(dhub: DHub[Any, Any]) -> None:
        (client,) = dhub.clients()
        with pytest.raises(DeadlockError, match="it waits for this thread"):
            client.exec_sync(lambda: None, 5)
        refused.append("client")

    def tick(frame: Any, obj: Any) -> None:
        def again(dhub: object) -> None:
            with pytest.raises(DeadlockError, match="it waits for this thread"):
                frame.exec_sync(lambda frame, obj: None, 5)
            refused.append("room")

        hub.exec_sync(again)

    with VirtualHub(answering(lambda ctx: ctx.hub.exec_sync(back))) as hub:
        hub.connect().send("go")
        hub.tick(room_of(hub, logic=tick, hz=10))
    assert (refused, hub.errors) == (["client", "room"], [])


def test_simulation_methods_for_another_thread_are_refused() -> None:
    """One thread simulates all, but each job has a thread number of its own."""
    kept: list[DHub[Any, Any]] = []
    told: list[int] = []

    def tick(frame: Any, obj: Any) -> None:
        assert frame.tick.index == 1

        def elsewhere(dhub: DHub[Any, Any]) -> None:
            kept.append(dhub)
            with pytest.raises(WrongThread):
                _ = frame.tick
            with pytest.raises(WrongThread):
                client.ctx.wait_write_consumed(1)
            told.append(dhub.clients_num())

        hub.exec_sync(elsewhere)
        with pytest.raises(WrongThread):
            kept[0].clients_num()
        with pytest.raises(WrongThread):
            frame.exec_sync(lambda frame, obj: None)
        assert frame.tick.index == 1

    with VirtualHub(HubSetting[Any, Any](dict)) as hub:
        client = hub.connect()
        room = room_of(hub, logic=tick, hz=10)
        hub.tick(room)
        with pytest.raises(WrongThread):
            _ = room.tick
    assert (told, hub.errors) == ([1], [])


def test_simulation_writes_of_a_corked_tick_keep_their_order() -> None:
    """Another thread's write goes out at once, behind the writes that the tick holds back."""
    seen: list[Any] = []

    def tick(frame: Any, obj: Any) -> None:
        client.ctx.write("one")
        hub.exec_sync(lambda _: None)  # lets the client read what there is
        seen.append(client.inbox.copy())
        hub.exec_sync(lambda _: client.ctx.write("two"))
        seen.append(client.inbox.copy())
        client.ctx.write("three")

    with VirtualHub(HubSetting[Any, Any](dict)) as hub:
        client = hub.connect()
        hub.tick(room_of(hub, logic=tick, hz=10))
        assert client.inbox == ["one", "two", "three"]
        assert seen[0] == []
    assert hub.errors == []


def test_simulation_waiting_closure_holds_up_only_its_own_queue() -> None:
    order: list[str] = []

    def waits(name: str) -> None:
        order.append(f"{name} begins")
        hub.exec_async(lambda _: order.append("hub, behind"))
        client.send("a message, behind")
        room.exec_sync(lambda frame, obj: order.append("room"))
        order.append(f"{name} ends")

    def hear(ctx: Any) -> None:
        order.append(ctx.payload)

    with VirtualHub(answering(hear)) as hub:
        client, room = hub.connect(), room_of(hub)
        hub.exec_async(lambda _: waits("hub"))
        hub.settle()
        assert order[0] == "hub begins"
        assert order.index("hub, behind") > order.index("hub ends") > order.index("room")
        order.clear()
        client.ctx.exec_async(lambda: waits("client"))
        hub.settle()
        assert order[0] == "client begins"
        assert order[-2:] == ["client ends", "a message, behind"]
    assert hub.errors == []


def test_simulation_wait_runs_the_others_first() -> None:
    with VirtualHub(HubSetting[Any, Any](dict)) as hub:
        client, room = hub.connect(), room_of(hub)
        room.answer(client.ctx)
        assert room.wait_push_consumed(room.push("now"))
        gate = room.await_inputs([client.ctx], 5, None)
        gate.answer(client.ctx, 1)
        assert len(gate.wait()) == 1
        assert hub.long_polling(LongPollingOption(lambda hub, done: done(), 5)).wait() == "done"
        room.close()
        assert room.join()


def test_simulation_waiting_callback_of_a_client_is_not_overlapped() -> None:
    order: list[str] = []

    def handler(ctx: Any) -> object:
        order.append(f"begin {ctx.payload}")
        if ctx.payload == "first":
            client.send("second")
            client.ctx.exec_async(lambda: order.append("closure"))
            hub.exec_sync(lambda _: order.append("hub"))
            client.close()
            hub.exec_sync(lambda _: None)
        order.append(f"end {ctx.payload}")
        return None

    with VirtualHub(answering(handler)) as hub:
        client = hub.connect()
        client.send("first")
    assert order[:3] == ["begin first", "hub", "end first"]
    assert sorted(order[3:]) == ["begin second", "closure", "end second"]
    assert order.index("begin second") + 1 == order.index("end second")


def test_simulation_wait_in_vain_ends_at_once() -> None:
    """Nothing more happens at this moment, and only the test moves the time."""
    with VirtualHub(HubSetting[Any, Any](dict)) as hub:
        client, room = hub.connect(), room_of(hub)
        poll = hub.long_polling(LongPollingOption(lambda hub, done: None, 5))
        room.answer(client.ctx)
        client.stall()
        number = room.push("waits")
        waits: list[tuple[Callable[..., object], object]] = [
            (poll.wait, None),
            (room.join, False),
            (hub.join, False),
            (hub.context.wait, False),
            (lambda *left: client.ctx.wait_write_consumed(1, *left), False),
            (lambda *left: room.wait_push_consumed(number, *left), False),
        ]
        hub.settle()
        for wait, in_vain in waits:
            assert wait(60) is in_vain
            with pytest.raises(DeadlockError, match="virtual time"):
                wait()
        gate = room.await_inputs([client.ctx], 5, None)
        with pytest.raises(ExecTimeout):
            gate.wait(60)
        with pytest.raises(DeadlockError, match="virtual time"):
            gate.wait()
        assert hub.clock.now() == 0.0
        client.resume()
        assert room.wait_push_consumed(number)
        hub.advance(5)
        assert (poll.wait(), len(gate.wait())) == ("timeout", 1)


def test_simulation_context_cancel_ends_a_wait_of_the_same_thread() -> None:
    with VirtualHub(HubSetting[Any, Any](dict)) as hub:
        client = hub.connect()
        below = Context(client.ctx.context)
        assert not below.wait(1)
        client.close()
        assert below.wait()


def test_simulation_after_its_end_waits_are_real_again() -> None:
    with VirtualHub(HubSetting[Any, Any](dict)) as hub:
        hub.advance(1)
    context = Context()
    assert not context.wait(0.001)
    context.cancel()
    assert context.wait()


def matching_hub() -> VirtualHub[Any, Any]:
    matcher = MatcherMap[Any, Any](JsonHeader(id_field="id"))
    return VirtualHub(HubSetting[Any, Any](dict, receive_matcher=matcher))


def answer(client: VirtualClient, message: str | bytes) -> None:
    client.send_json({"reply": json.loads(message)["id"], "is": 7})


def test_simulation_request_is_answered_at_once_or_times_out() -> None:
    with matching_hub() as made:
        talks, silent = made.connect(on_message=answer), made.connect()
        assert talks.ctx.request("q", {}) == {"is": 7}
        with pytest.raises(ExecTimeout):
            silent.ctx.request("q", {}, 1000)
        gone = talks.ctx
        talks.close()
        with pytest.raises(ClientClosed):
            gone.request("q", {})


def test_rate_limiter_goes_by_the_virtual_clock() -> None:
    clock = FakeClock()
    limiter = RateLimiter(rate=1, burst=2, clock=clock.now)
    heard: list[Any] = []

    def receive(ctx: IOContext, meta: Any) -> bool:
        heard.append(limiter(ctx, meta))
        return True

    setting = HubSetting[Any, Any](dict, on_receive_message=receive)
    with VirtualHub(setting, clock) as made:
        client = made.connect()
        for seconds in (0.0, 0.0, 0.0, 0.5, 0.5, 3600.0):
            made.advance(seconds)
            client.send("x")
        assert heard == [True, True, False, False, True, True]
