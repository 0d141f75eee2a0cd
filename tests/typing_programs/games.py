"""A room with a clock: the type of its state goes through all of its callbacks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from typing_extensions import assert_type

from hubthread import FrameControl, HotlineFrameOption, Hub, HubSetting, IOContext


@dataclass
class State:
    steps: int = 0
    names: list[str] = field(default_factory=list)


def logic(frame: FrameControl[State], state: State) -> None:
    state.steps += 1
    assert_type(frame.push("step"), int)


def wrong_logic(frame: FrameControl[int], state: int) -> None: ...


option = HotlineFrameOption(State, logic, hz=20)
assert_type(option, HotlineFrameOption[State])
HotlineFrameOption(State, wrong_logic, hz=20)  # type: ignore[misc]

hub = Hub(HubSetting[None, str](lambda: None))
frame = option.run(hub.hotline())
assert_type(frame, FrameControl[State])
assert_type(frame.exec_sync(lambda frame, state: state.steps), int)
assert_type(frame.exec_sync(lambda frame, state: state.names, timeout=1.0), list[str])
frame.exec_async(lambda frame, state: state.nothing)  # type: ignore[attr-defined]
assert_type(frame.latency_time(1.0), float)
assert_type(frame.each_client(lambda client_id, ctx, meta: 1).results, dict[Any, int])  # type: ignore[assert-type]


def open_game(ctx: IOContext, meta: object) -> None:
    """A handler has the hub as ``IHub``; the rooms that it opens take a clock all the same."""
    room = ctx.hub.hotline()
    room.answer(ctx)
    assert_type(option.run(room), FrameControl[State])
    ctx.hub.exec_async(lambda dhub: option.run(dhub.hub.hotline()))
