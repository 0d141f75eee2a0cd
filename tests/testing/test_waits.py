"""One thread plays all: who waits for whom is as it is with threads, and nothing hangs."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from hubthread import (
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
    WrongThread,
)
from hubthread.testing import VirtualClient, VirtualHub

AnyHub = VirtualHub[Any, Any]


def answering(handler: Callable[[Any], object]) -> HubSetting[Any, Any]:
    """Each message is handled by ``handler(ctx)``, and answered by what that returns."""

    def on_message(ctx: Any, meta: Any) -> bool:
        ctx.write(repr(handler(ctx)))
        return False

    return HubSetting(dict, on_receive_message=on_message)


def room_of(hub: AnyHub, **fields: Any) -> Any:
    return HotlineFrameOption(new_obj=list, **fields).run(hub.hotline())


def test_a_handler_gets_the_results_of_others() -> None:
    def handler(ctx: Any) -> object:
        one = ctx.hub.exec_sync(lambda dhub: dhub.clients_num())
        two = room.exec_sync(lambda frame, obj: [*obj, "room"])
        three = other.ctx.exec_sync(lambda: other.ctx.connection_id)
        return one, two, three, ctx.exec_sync(lambda: ctx.payload)

    with VirtualHub(answering(handler)) as hub:
        room, client, other = room_of(hub), hub.connect(), hub.connect()
        client.send("mine")
        assert client.messages() == [repr((2, ["room"], 2, "mine"))]


def test_the_test_itself_gets_results_and_exceptions() -> None:
    with VirtualHub(HubSetting[Any, Any](dict)) as hub:
        client, room = hub.connect(), room_of(hub)
        assert hub.exec_sync(lambda dhub: dhub.clients()) == [client.ctx]
        assert room.exec_sync(lambda frame, obj: frame.members_num) == 0
        assert client.ctx.exec_sync(lambda: 7) == 7
        for wait in (hub.exec_sync, room.exec_sync, client.ctx.exec_sync):
            with pytest.raises(ZeroDivisionError):
                wait(lambda *_: 1 / 0)
        iteration = hub.each_client(lambda client_id, ctx, meta: client_id)
        assert iteration.results == {1: 1}


def test_a_circle_of_waits_is_refused() -> None:
    """As with threads: the hub waits for a client that waits for the hub."""
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


def test_each_keeps_to_its_own_thread() -> None:
    """On the one thread that plays all, what belongs to another one is refused still."""
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


def test_what_a_tick_holds_back_stays_its_own() -> None:
    """Another thread's write goes out at once, behind what is held; the order is kept."""
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


def test_a_closure_that_waits_holds_up_those_behind_it() -> None:
    """Of the hub and of a client alike: the others run meanwhile, and these after it."""
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


def test_a_wait_lets_the_others_run_first() -> None:
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


def test_callbacks_of_a_client_do_not_overlap_while_one_waits() -> None:
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


def test_a_wait_in_vain_ends_at_once() -> None:
    """Nothing more happens now, so time would have to pass, and that is the test's to say."""
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


def test_a_client_that_plays_by_itself_answers_requests() -> None:
    def plays(client: VirtualClient, message: str | bytes) -> None:
        question = json.loads(message)
        client.send_json({"reply": question["id"], "points": 3})

    matcher: MatcherMap[Any, Any] = MatcherMap(JsonHeader("type", id_field="id"))
    with VirtualHub(HubSetting[Any, Any](dict, receive_matcher=matcher)) as hub:
        good, mute = hub.connect(on_message=plays), hub.connect()
        ctx: IOContext = good.ctx
        assert ctx.request("points?", {})["points"] == 3
        with pytest.raises(ExecTimeout):
            mute.ctx.request("points?", {}, 5)
        assert hub.clock.now() == 0.0


def test_a_context_ends_waits_of_the_same_thread() -> None:
    with VirtualHub(HubSetting[Any, Any](dict)) as hub:
        client = hub.connect()
        below = Context(client.ctx.context)
        assert not below.wait(1)
        client.close()
        assert below.wait()


def test_afterwards_the_thread_is_as_it_was() -> None:
    """A wait after a virtual hub is a real one again."""
    with VirtualHub(HubSetting[Any, Any](dict)) as hub:
        hub.advance(1)
    context = Context()
    assert not context.wait(0.001)
    context.cancel()
    assert context.wait()
