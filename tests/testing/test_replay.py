"""The same inputs give the same states, every time, whatever the clients do."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from hubthread import (
    FrameControl,
    HotlineFrameOption,
    HubSetting,
    LongPollingOption,
    Overflow,
    WebsocketPeriod,
)
from hubthread.errors import ClientClosed
from hubthread.testing import VirtualClient, VirtualHub
from tests.support.examples import examples

Action = tuple[str, int]

# fmt: off
ACTIONS = (
    "connect", "slow", "send", "send", "send", "stall", "resume", "vanish", "drop", "close",
    "advance", "advance", "pause", "poll", "ask", "broadcast", "busy",
)
# fmt: on
actions = st.lists(
    st.tuples(
        st.sampled_from(ACTIONS),
        st.integers(0, 7),
    ),
    max_size=40,
)


def play(script: list[Action]) -> list[Any]:
    """Run a script in two rooms; return everything that was seen, with its time."""
    seen: list[Any] = []
    spend: list[float] = []

    def tick(frame: FrameControl[dict[int, int]], points: dict[int, int]) -> None:
        while spend:
            hub.clock.spend(spend.pop())
        frame.push_json([frame.hotline_id, frame.tick.index, frame.tick.skipped, points])

    def hear(ctx: Any, meta: Any) -> bool:
        for room in rooms:
            room.exec_async(lambda _, points: points.update({ctx.connection_id: ctx.received}))
        total = hub.exec_sync(lambda dhub: dhub.clients_num())
        ctx.write(f"you are one of {total}")
        return False

    def come(ctx: Any, meta: Any) -> None:
        for room in rooms:
            room.answer(ctx)

    def gone(ctx: Any, meta: Any) -> None:
        seen.append((hub.clock.now(), ctx.connection_id, ctx.statistics()))
        rooms[0].push(f"{ctx.connection_id} left")

    setting = HubSetting[Any, Any](
        dict,
        hub_name="game",
        on_connection_start=come,
        on_connection_close=gone,
        on_receive_message=hear,
        overflow=Overflow.DROP_OLDEST,
        chan_queue_size=16,
        websocket_period=WebsocketPeriod(write_wait=3),
    )
    clients: list[VirtualClient] = []
    with VirtualHub(setting) as hub:
        options = (
            HotlineFrameOption[dict[int, int]](dict, tick, hz=10),
            HotlineFrameOption[dict[int, int]](dict, tick, hz=7, overrun="burst"),
        )
        rooms = [option.run(hub.hotline()) for option in options]

        def act(name: str, number: int) -> None:
            if name in ("connect", "slow"):
                rate = 100 + 50 * number if name == "slow" else None
                who = len(clients)
                clients.append(
                    hub.connect(
                        bytes_per_second=rate,
                        on_message=lambda _, text: seen.append((hub.clock.now(), who, text)),
                    )
                )
            elif name == "advance":
                hub.advance(number * 0.37)
            elif name == "pause":
                (FrameControl.pause if number % 2 else FrameControl.resume)(rooms[number // 4])
            elif name == "poll":
                hub.long_polling(
                    LongPollingOption(lambda hub, _: hub.broadcast("poll"), number + 1)
                )
            elif name == "ask":
                rooms[0].await_inputs(
                    rooms[0].members, 1, 0, lambda frame, _, gate: frame.push(repr(gate))
                )
            elif name == "broadcast":
                hub.broadcast(f"to all {number}")
            elif name == "busy":
                spend.append(number * 0.1)
            elif clients:
                client = clients[number % len(clients)]
                if name == "send":
                    client.send("x" * number)
                else:
                    getattr(client, name)()

        for name, number in script:
            try:
                act(name, number)
            except ClientClosed:
                seen.append("closed")
            seen.append((hub.clock.now(), name, hub.statistics()))
        seen.extend(room.statistics() for room in rooms)
    seen.extend((client.messages(), client.close_code) for client in clients)
    seen.append((hub.clock.now(), hub.statistics(), [repr(error) for error in hub.errors]))
    return seen


@given(actions)
@settings(max_examples=examples(30))
def test_virtual_hub_same_inputs_give_the_same_transcript(script: list[Action]) -> None:
    first, second = play(script), play(script)
    assert first == second
    assert first[-1][2] == []
