"""The inputs of members: each in its tick, counted, and acknowledged with the state."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubthread import (
    ContextNotClient,
    FrameControl,
    HotlineFrameOption,
    HotlineOption,
    HubSetting,
    Inputs,
    SettingError,
    StateSync,
    UsageError,
)
from hubthread.client import Link
from hubthread.testing import VirtualClient, VirtualHub
from tests.rooms.ticking.rooms import AnyVirtualHub
from tests.support import Notes


@dataclass
class Move:
    dx: int = 0


@dataclass
class Arena:
    at: dict[int, int] = field(default_factory=dict)


class Game:
    """A room that notes what each tick takes."""

    def __init__(
        self, hub: AnyVirtualHub, on_join: Any = None, on_leave: Any = None, **terms: Any
    ) -> None:
        self.taken: list[tuple[int, Any, int]] = []
        """Tick, member's id and value of each input."""
        self.spend: list[float] = []
        self.inputs: Inputs[Move]

        def start(frame: FrameControl[Arena], arena: Arena) -> None:
            self.inputs = frame.inputs(Move, **terms)

        def logic(frame: FrameControl[Arena], arena: Arena) -> None:
            for ctx, move in frame.inputs(Move, **terms):
                self.taken.append((frame.tick.index, ctx.connection_id, move.dx))
                arena.at[ctx.connection_id] = arena.at.get(ctx.connection_id, 0) + move.dx
            while self.spend:
                hub.clock.spend(self.spend.pop())

        option = HotlineFrameOption(
            Arena,
            logic,
            hz=10,
            on_start=start,
            on_join=on_join,
            on_leave=on_leave,
            sync=StateSync(),
        )
        self.frame = option.run(hub.room("arena", HotlineOption("arena")))
        hub.settle()

    def values(self) -> list[tuple[int, int]]:
        """Return the tick and the value of each input that was taken."""
        return [(tick, value) for tick, _, value in self.taken]


@pytest.fixture
def hub() -> Iterator[AnyVirtualHub]:
    with VirtualHub(HubSetting[Any, Any](dict, may_join=lambda ctx, meta, name: True)) as hub:
        yield hub


@pytest.fixture
def link(hub: AnyVirtualHub) -> Iterator[Link]:
    with hub.link() as link:
        link.connect()
        link.wait_open()
        yield link


def member(hub: AnyVirtualHub, game: Game) -> VirtualClient:
    client = hub.connect(headers={"sec-websocket-protocol": "hubthread.1"})
    game.frame.answer(client.ctx)
    hub.settle()
    client.messages()
    return client


def say(client: VirtualClient, n: Any = 1, tick: Any = None, **data: Any) -> None:
    client.send_json({"type": "hub:input", "room": "arena", "n": n, "tick": tick, "data": data})


def told(client: VirtualClient, kind: str) -> list[Any]:
    messages = [json.loads(text) for text in client.messages()]
    return [each for each in messages if each["type"] == kind]


def test_input_is_taken_by_the_tick_that_it_is_for(hub: AnyVirtualHub) -> None:
    game = Game(hub)
    client = member(hub, game)
    say(client, 1, dx=1)  # for the next tick
    say(client, 2, 3, dx=2)
    hub.tick(game.frame, 4)
    assert game.values() == [(1, 1), (3, 2)]
    assert game.inputs.counts["taken"] == 2
    assert list(game.inputs) == []  # of the last tick


def test_member_that_joins_once_more_begins_anew_and_does_not_leave(hub: AnyVirtualHub) -> None:
    heard: list[str] = []
    game = Game(
        hub,
        on_join=lambda frame, arena, ctx: heard.append("join"),
        on_leave=lambda frame, arena, ctx: heard.append("leave"),
    )
    client = member(hub, game)
    say(client, 1, dx=1)
    say(client, 2, dx=1)
    hub.tick(game.frame, 2)
    client.messages()
    client.send_json({"type": "hub:join", "id": 1, "room": "arena"})
    answer, state = [json.loads(text) for text in client.messages()]
    assert (answer["type"], state["full"]["at"]) == (
        "hub:join",
        {str(client.ctx.connection_id): 2},
    )
    say(client, 1, dx=5)
    hub.tick(game.frame)
    assert game.values()[-1] == (3, 5)
    assert heard == ["join"]


def test_inputs_are_handled_by_the_type_of_a_handler_and_unfit_ones_are_told(
    hub: AnyVirtualHub,
) -> None:
    game = Game(hub)
    client = member(hub, game)
    say(client, 1, dx="left")
    say(client, None)
    say(client, 1.5)
    say(client, 2**53)
    say(client, 2, -1)
    hub.tick(game.frame)
    assert game.values() == []
    assert game.inputs.counts["unfit"] == 5
    (message,) = told(client, "hub:input")
    assert message["refused"] == [
        [1, "unfit"],
        [None, "unfit"],
        [0, "unfit"],
        [0, "unfit"],
        [2, "unfit"],
    ]
    hub.tick(game.frame)
    assert told(client, "hub:input") == []


def test_one_input_for_each_tick_and_missed_ones_are_made_up_for(hub: AnyVirtualHub) -> None:
    game = Game(hub)
    client = member(hub, game)
    for n in (1, 2, 3):
        say(client, n, dx=n)
    hub.tick(game.frame, 3)
    assert game.values() == [(1, 1), (2, 2), (3, 3)]
    hub.tick(game.frame, 2)  # without an input
    for n in (4, 5, 6, 7):
        say(client, n, dx=n)
    hub.tick(game.frame, 2)
    assert game.values()[3:] == [(6, 4), (6, 5), (6, 6), (7, 7)]


def test_all_inputs_whose_tick_has_come(hub: AnyVirtualHub) -> None:
    game = Game(hub, per_tick="all")
    client = member(hub, game)
    for n in (1, 2, 3):
        say(client, n, dx=n)
    hub.tick(game.frame)
    assert game.values() == [(1, 1), (1, 2), (1, 3)]


def test_tick_after_skipped_ones_takes_their_inputs(hub: AnyVirtualHub) -> None:
    game = Game(hub)
    client = member(hub, game)
    for n in (1, 2, 3, 4):
        say(client, n, n + 1, dx=n)
    game.spend.append(0.25)  # in tick 1: tick 2 is skipped
    hub.advance(0.45)
    assert game.values() == [(3, 1), (3, 2), (4, 3)]


@pytest.mark.parametrize(("late", "taken"), [("next", [(4, 7)]), ("drop", [])])
def test_late_input_is_taken_next_or_dropped(hub: AnyVirtualHub, late: str, taken: Any) -> None:
    game = Game(hub, late=late)
    client = member(hub, game)
    hub.tick(game.frame, 3)
    say(client, 1, 3, dx=7)
    hub.tick(game.frame)
    assert game.values() == taken
    assert game.inputs.counts["late"] == 1
    assert [each["refused"] for each in told(client, "hub:input")] == (
        [] if taken else [[[1, "late"]]]
    )


def test_doubled_input_is_taken_once(hub: AnyVirtualHub) -> None:
    game = Game(hub, per_tick="all")
    client = member(hub, game)
    for n in (1, 2, 1, 2, 3):
        say(client, n, dx=n)
    hub.tick(game.frame)
    assert game.values() == [(1, 1), (1, 2), (1, 3)]
    assert game.inputs.counts["doubled"] == 2
    assert told(client, "hub:input") == []


def test_early_inputs_and_floods_are_bounded_and_told_once_a_tick(hub: AnyVirtualHub) -> None:
    game = Game(hub, buffer=4)
    client, other = member(hub, game), member(hub, game)
    say(client, 1, 10**15, dx=1)
    for n in range(2, 1000):
        say(client, n, 4, dx=1)
    say(other, 1, dx=5)
    hub.tick(game.frame)
    assert game.values() == [(1, 5)]
    (message,) = told(client, "hub:input")
    assert message["refused"] == [[1, "early"], [6, "full"], [7, "full"], [8, "full"]]
    assert game.inputs.counts["early"] == 1
    assert game.inputs.counts["full"] == 994
    hub.tick(game.frame, 3)
    assert len(game.taken) == 5
    assert game.frame.statistics().skipped == 0


def test_numbers_begin_anew_with_each_join(hub: AnyVirtualHub) -> None:
    game = Game(hub)
    client = member(hub, game)
    say(client, 5, dx=1)
    hub.tick(game.frame)
    game.frame.hangup(client.ctx)
    say(client, 6, dx=2)  # not in the room
    game.frame.answer(client.ctx)
    say(client, 1, dx=3)
    hub.tick(game.frame)
    assert game.values() == [(1, 1), (2, 3)]
    assert game.inputs.acked == {client.ctx: 1}


def test_room_without_inputs_and_foreign_rooms_answer_with_an_error(hub: AnyVirtualHub) -> None:
    room = hub.room("plain", HotlineOption("plain"))
    game = Game(hub)
    client = hub.connect(headers={"sec-websocket-protocol": "hubthread.1"})
    room.answer(client.ctx)
    for name in ("plain", "arena", "nowhere"):
        client.send_json({"type": "hub:input", "id": name, "room": name, "n": 1})
    errors = {each["reply"]: each["error"] for each in told(client, "hub:input")}
    assert errors == {
        "plain": "the room takes no inputs",
        "arena": "the client is not in the room",
        "nowhere": "there is no such room",
    }
    assert game.inputs.counts["unfit"] == 0


def test_handler_puts_inputs_of_its_own_messages(hub: AnyVirtualHub) -> None:
    game = Game(hub)
    client = member(hub, game)
    stranger = hub.connect()
    assert game.inputs.put(client.ctx, Move(1))
    assert not game.inputs.put(stranger.ctx, Move(2))
    assert game.inputs.put(client.ctx, Move(3), number=1, tick=2)
    assert not game.inputs.put(client.ctx, Move(3), number=1, tick=2)
    hub.tick(game.frame, 2)
    assert game.values() == [(1, 1), (2, 3)]
    assert game.inputs.acked == {client.ctx: 1}
    with pytest.raises(ContextNotClient):
        game.inputs.put("client", Move())  # type: ignore[arg-type]


def test_terms_are_checked_and_the_same_for_each_call(hub: AnyVirtualHub) -> None:
    game = Game(hub)
    assert game.frame.inputs(Move) is game.inputs
    for terms in ({"buffer": 9}, {"late": "drop"}, {"per_tick": "all"}):
        with pytest.raises(UsageError, match="other terms"):
            game.frame.inputs(Move, **terms)
    idle = HotlineFrameOption[Any](dict).run(hub.hotline())
    with pytest.raises(UsageError, match="no ticks"):
        idle.inputs(Move)
    fresh = HotlineFrameOption[Any](dict, lambda frame, state: None, hz=10).run(hub.hotline())
    for wrong in ({"buffer": 0}, {"late": "never"}, {"per_tick": 2}):
        with pytest.raises(SettingError):
            fresh.inputs(Move, **wrong)


def test_state_acknowledges_what_ticks_have_taken(hub: AnyVirtualHub, link: Link) -> None:
    Game(hub)
    room, heard = link.room("arena"), Notes()
    assert room.input({"dx": 1}) == 0  # not joined yet
    hub.settle()
    room.on("state", lambda state: heard((len(room.pending), state["at"])))
    here = str(link.id)
    numbers = [room.input({"dx": 1}), room.input({"dx": 0}, tick=2), room.input({"dx": 5}, tick=8)]
    assert numbers == [1, 2, 3]
    assert [each.number for each in room.pending] == numbers
    hub.advance(1.05)
    # The second input changes nothing; that it was taken is told all the same.
    assert heard.now() == [(2, {here: 1}), (1, {here: 1}), (0, {here: 6})]
    assert room.tick.number == 8
    assert room.tick_at() == pytest.approx(10.5, abs=0.02)
    assert room.tick_at(room.tick.time) == room.tick.number


def test_refused_input_is_not_pending_and_is_heard_of(hub: AnyVirtualHub, link: Link) -> None:
    Game(hub)
    room, heard = link.room("arena"), Notes()
    room.on("rejected", lambda number, why: heard((number, why)))
    hub.settle()
    room.input({"dx": 1}, tick=1_000)
    room.input({"dx": "x"})
    room.input({"dx": 2}, tick=3)
    hub.advance(0.15)
    assert heard.now() == [(1, "early"), (2, "unfit")]
    assert [each.number for each in room.pending] == [3]
    link.retry_now()
    link.disconnect()
    assert room.input({"dx": 1}) == 0


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("say"), st.integers(0, 1), st.integers(0, 12), st.integers(-3, 12)),
            st.tuples(st.just("tick"), st.integers(1, 3), st.just(0), st.just(0)),
            st.tuples(st.just("rejoin"), st.integers(0, 1), st.just(0), st.just(0)),
        ),
        max_size=40,
    ),
    st.sampled_from(["one", "all"]),
    st.sampled_from(["next", "drop"]),
)
def test_each_input_is_taken_once_in_order_or_refused(
    steps: list[tuple[str, int, int, int]], per_tick: str, late: str
) -> None:
    with VirtualHub(HubSetting[Any, Any](dict)) as hub:
        game = Game(hub, per_tick=per_tick, late=late, buffer=3)
        clients = [member(hub, game), member(hub, game)]
        accepted: dict[Any, list[tuple[int | None, int]]] = {each.ctx: [] for each in clients}
        lost = serial = 0
        for what, which, number, ahead in steps:
            if what == "tick":
                hub.tick(game.frame, which)
                continue
            ctx = clients[which].ctx
            if what == "rejoin":
                taken = sum(each[1] == ctx.connection_id for each in game.taken)
                lost += len(accepted[ctx]) - taken
                del accepted[ctx][taken:]
                game.frame.hangup(ctx)
                game.frame.answer(ctx)
                continue
            index = game.frame.statistics().ticks
            tick = None if ahead < 0 else index + ahead - 2
            if tick is not None and tick < 0:
                tick = 0
            serial += 1
            value = Move(serial)
            if game.inputs.put(ctx, value, number=number or None, tick=tick):
                accepted[ctx].append((tick, serial))
                assert tick is None or tick <= index + 3
        hub.tick(game.frame, 12)
        for ctx, inputs in accepted.items():
            taken_ticks = [each for each in game.taken if each[1] == ctx.connection_id]
            assert [each[2] for each in taken_ticks] == [serial for _, serial in inputs]
            for (tick, _), (at, _, _) in zip(inputs, taken_ticks, strict=True):
                assert tick is None or at >= tick
        counts = game.inputs.counts
        assert (
            counts["taken"]
            == len(game.taken)
            == serial
            - lost
            - sum(counts[why] for why in ("early", "doubled", "full", "unfit"))
            - (counts["late"] if late == "drop" else 0)
        )
