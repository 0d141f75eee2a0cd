"""The record of a room, and its replay."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubthread import (
    FrameControl,
    HotlineFrameOption,
    HotlineOption,
    HubSetting,
    Private,
    SettingError,
    StateSync,
    UsageError,
    WrongThread,
)
from hubthread.testing import Replay, VirtualHub, replay


@dataclass
class Move:
    dx: int = 0


@dataclass
class Player:
    x: int = 0
    gold: Annotated[int, Private] = 0


@dataclass
class Arena:
    players: dict[int, Player] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    luck: float = 0.0
    turn: int = 0


Frame = FrameControl[Arena]


def start(frame: Frame, arena: Arena) -> None:
    frame.inputs(Move)
    arena.luck = frame.random.random()


def come(frame: Frame, arena: Arena, ctx: Any) -> None:
    arena.players[ctx.connection_id] = Player(gold=frame.random.randrange(9))
    arena.log.append(f"{ctx.user or ctx.connection_id} of {len(frame.members)}")


def go(frame: Frame, arena: Arena, ctx: Any) -> None:
    del arena.players[ctx.connection_id]


def logic(frame: Frame, arena: Arena) -> None:
    for ctx, move in frame.inputs(Move):
        player = arena.players[ctx.connection_id]
        player.x += move.dx
        if player.x == 13:
            raise ValueError("unlucky")
    arena.luck += frame.random.random() + frame.tick.late
    if frame.tick.index % 10 == 0:
        frame.exec_async(remember)
        frame.push("ten")


def remember(frame: Frame, arena: Arena) -> None:
    arena.log.append(f"tick {frame.tick.index}")


def give(name: str, ctx: Any, frame: Frame, arena: Arena, *, gold: int) -> None:
    if ctx.connection_id in arena.players:
        arena.players[ctx.connection_id].gold += gold
        arena.log.append(name)


def ask(frame: Frame, arena: Arena) -> None:
    frame.await_inputs(frame.members, 0.45, -1, count)
    operation = frame.operation_ticker(0.7, remember, 0.3, remember)
    arena.log.append(repr(operation.outcome))


def count(frame: Frame, arena: Arena, gate: Any) -> None:
    for ctx, each in gate.inputs.items():
        arena.log.append(f"{ctx.connection_id} {each.state.value} {each.value}")


def close(frame: Frame, arena: Arena) -> None:
    arena.log.append("closed")


OPTION = HotlineFrameOption(
    Arena, logic, hz=10, on_start=start, on_join=come, on_leave=go, on_close=close
)


class Stage:
    """A room that is recorded, and its clients."""

    def __init__(self, path: Path, option: Any = OPTION, **fields: Any) -> None:
        setting = HubSetting[Any, Any](
            dict, user=lambda ctx, meta: ctx.handshake.query.get("name")
        )
        self.hub: VirtualHub[Any, Any] = VirtualHub(setting).__enter__()
        room = self.hub.room("arena", HotlineOption("arena"))
        try:
            self.frame: Frame = replace(option, record=path, **fields).run(room)
        except BaseException:
            self.end()
            raise
        self.hub.settle()

    def join(self, name: str = "ann") -> Any:
        client = self.hub.connect(
            f"/?name={name}", headers={"sec-websocket-protocol": "hubthread.1"}
        )
        self.frame.answer(client.ctx)
        self.hub.settle()
        return client

    def say(self, client: Any, n: int, **data: Any) -> None:
        client.send_json({"type": "hub:input", "room": "arena", "n": n, "data": data})

    def end(self) -> None:
        self.hub.close()


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def same(path: Path, option: Any = OPTION) -> Replay:
    """Replay a record twice, and expect that nothing differs."""
    found = replay(path, option)
    assert found.differs is None
    assert found.hashes == [line for line in lines(path) if isinstance(line, str)]
    assert replay(path, option).hashes == found.hashes
    return found


def test_replay_has_the_state_of_the_room_after_each_tick(tmp_path: Path) -> None:
    path = tmp_path / "arena.jsonl"
    stage = Stage(path, sync=StateSync())
    ann, bob = stage.join("ann"), stage.join("bob")
    for n in range(1, 40):
        stage.say(ann, n, dx=2)
        if n == 20:
            stage.frame.exec_async(partial(give, "gift", bob.ctx, gold=3))
            stage.frame.exec_sync(ask)
            stage.hub.settle()
            gate_of(stage).answer(ann.ctx, {"card": 4})
        if n == 30:
            bob.drop()
        stage.hub.tick(stage.frame)
    arena = stage.frame.exec_sync(partial(copy_of))
    stage.end()
    found = same(path)
    assert found.ticks == 39
    assert found.errors == []
    assert found.end == "the hub was closed"
    assert found.obj.log[:-1] == arena["log"]
    assert found.obj.log[-1] == "closed"
    assert "gift" in arena["log"]
    assert "1 answered {'card': 4}" in arena["log"]
    assert "2 defaulted -1" in arena["log"]


def copy_of(frame: Frame, arena: Arena) -> Any:
    return {"log": list(arena.log)}


def gate_of(stage: Stage) -> Any:
    return stage.frame._loop.agenda.countdowns()[0]


def test_recorded_fault_is_found_again_and_is_gone_with_the_mended_logic(tmp_path: Path) -> None:
    path = tmp_path / "arena.jsonl"
    stage = Stage(path)
    ann = stage.join()
    stage.say(ann, 1, dx=13)
    stage.hub.tick(stage.frame, 3)
    stage.hub.errors.clear()
    stage.end()
    found = same(path)
    assert [repr(error) for error in found.errors] == ["ValueError('unlucky')"]
    assert found.recorded_errors == ["ValueError: unlucky"]

    def mended(frame: Frame, arena: Arena) -> None:
        arena.turn += 1

    found = replay(path, replace(OPTION, logic=mended))
    assert found.errors == []
    assert found.differs == 1


def spoil(frame: Frame, arena: Arena) -> None:
    arena.log.append("half a character: \ud800")


def mend(frame: Frame, arena: Arena) -> None:
    arena.log.clear()


def count_to(number: int, frame: Frame, arena: Arena) -> None:
    arena.turn = 0


def test_what_json_cannot_say_costs_no_tick(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "arena.jsonl")
    stage.hub.tick(stage.frame)
    stage.frame.exec_async(spoil)
    stage.hub.tick(stage.frame, 2)
    stage.frame.exec_async(partial(count_to, 10**5000))
    stage.frame.exec_async(mend)
    stage.hub.tick(stage.frame, 2)
    stage.end()
    again = replay(tmp_path / "arena.jsonl", OPTION)
    assert (again.ticks, again.differs, len(again.recorded_errors)) == (5, None, 3)
    spoilt = replay(tmp_path / "arena.jsonl", replace(OPTION, logic=spoil))
    assert spoilt.differs == 1


def test_room_without_hooks_for_its_members_is_played(tmp_path: Path) -> None:
    option = replace(OPTION, on_join=None, on_leave=None)
    stage = Stage(tmp_path / "arena.jsonl", option)
    stage.join().close()
    stage.hub.tick(stage.frame)
    stage.end()
    again = replay(tmp_path / "arena.jsonl", option)
    assert (again.ticks, again.differs) == (1, None)


def dismiss(frame: Frame, arena: Arena) -> None:
    for ctx in frame.members:
        frame.hangup(ctx)


@pytest.mark.parametrize("when", ["pause_when_empty", "close_when_empty"])
def test_members_that_a_callback_dismisses_are_played(tmp_path: Path, when: str) -> None:
    seconds: dict[str, Any] = {when: 9.0}
    option = replace(OPTION, **seconds)
    stage = Stage(tmp_path / "arena.jsonl", option)
    stage.join()
    stage.frame.exec_async(dismiss)
    stage.hub.tick(stage.frame, 2)
    stage.end()
    again = replay(tmp_path / "arena.jsonl", option)
    assert (again.ticks, again.differs, again.errors) == (2, None, [])


def test_record_has_no_private_field(tmp_path: Path) -> None:
    path = tmp_path / "arena.jsonl"
    stage = Stage(path)
    stage.join()
    stage.hub.tick(stage.frame, 2)
    stage.end()
    assert "gold" not in path.read_text("utf-8")


def test_closure_without_a_name_is_marked_and_refused(tmp_path: Path) -> None:
    path = tmp_path / "arena.jsonl"
    stage = Stage(path)
    stage.hub.tick(stage.frame)
    stage.frame.exec_async(lambda frame, arena: arena.log.append("x"))
    stage.frame.exec_async(partial(give, "gift", object(), gold=3))
    stage.hub.settle()
    stage.hub.errors.clear()
    stage.end()
    marks = [line["what"] for line in lines(path) if isinstance(line, dict) and "do" in line]
    assert "<lambda> at " in marks[0]
    assert "neither JSON nor a client" in marks[1]
    with pytest.raises(UsageError, match=r"line \d+: a closure without a name"):
        replay(path, OPTION)


def test_gate_made_outside_of_the_room_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "arena.jsonl"
    stage = Stage(path)
    stage.frame.await_inputs([], 1, None)
    stage.end()
    with pytest.raises(UsageError, match="outside of the room's own callbacks"):
        replay(path, OPTION)


def roll(arena: Arena) -> None:
    arena.luck = random.random() + time.time()


def test_clocks_and_chance_are_marked_and_found_by_the_hash(tmp_path: Path) -> None:
    def gamble(frame: Frame, arena: Arena) -> None:
        roll(arena)

    path = tmp_path / "arena.jsonl"
    option = replace(OPTION, logic=gamble)
    stage = Stage(path, option)
    stage.hub.tick(stage.frame, 2)
    stage.end()
    found = replay(path, option)
    assert found.marks == ["roll uses random", "roll uses time"]
    assert found.differs == 1


def test_room_without_ticks_is_played_closure_by_closure(tmp_path: Path) -> None:
    path = tmp_path / "cards.jsonl"
    option = HotlineFrameOption(Arena, on_join=come, on_leave=go)
    stage = Stage(path, option)
    ann, bob = stage.join("ann"), stage.join("bob")
    stage.frame.exec_async(ask)
    stage.hub.settle()
    gate = gate_of(stage)
    gate.answer(bob.ctx, 7)
    ann.close()
    stage.hub.advance(2)
    log = stage.frame.exec_sync(copy_of)["log"]
    stage.end()
    found = same(path, option)
    assert found.obj.log == log
    assert "2 answered 7" in log
    assert "1 left -1" in log


def test_paths_and_files_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "arena.jsonl"
    with pytest.raises(SettingError, match="record"):
        replace(OPTION, record=3)  # type: ignore[arg-type]
    with pytest.raises(SettingError, match="Unplanned"):
        HotlineFrameOption[Any](Unplanned, record=path)
    with pytest.raises(OSError, match="nowhere"):
        Stage(tmp_path / "nowhere" / "arena.jsonl")
    stage = Stage(path)
    with pytest.raises(UsageError, match="another room records"):
        replace(OPTION, record=path).run(stage.hub.hotline())
    with pytest.raises(WrongThread):
        _ = stage.frame.random
    stage.end()
    Stage(path).end()  # the file is free again
    for text in ("", "[]\n", '{"hubthread":2}\n', "no\n"):
        path.write_text(text)
        with pytest.raises(UsageError):
            replay(path, OPTION)


class Unplanned:
    socket: object


def test_full_disk_ends_the_record_and_not_the_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "arena.jsonl"
    monkeypatch.setattr("hubthread.rooms.ticking.record.MOST_BYTES", 400)
    stage = Stage(path)
    stage.hub.tick(stage.frame, 20)
    stage.end()
    assert path.stat().st_size < 500
    assert same(path).end == "the record is full"
    stage = Stage(Path("/dev/full"))
    stage.hub.tick(stage.frame, 20)
    stage.frame._loop.recorder._flush()  # type: ignore[union-attr]
    stage.hub.tick(stage.frame, 20)
    (error,) = stage.hub.errors
    assert isinstance(error, OSError)
    assert stage.frame.statistics().ticks == 40
    stage.end()


def test_line_that_was_cut_ends_the_replay(tmp_path: Path) -> None:
    path = tmp_path / "arena.jsonl"
    stage = Stage(path)
    stage.hub.tick(stage.frame, 5)
    stage.end()
    whole = path.read_text("utf-8")
    path.write_text(whole[: whole.index('{"tick":4')] + '{"tick":4')
    assert replay(path, OPTION).ticks == 3


Act = tuple[str, int, int]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                ["join", "drop", "rejoin", "say", "say", "tick", "gift", "ask", "answer", "pause"]
            ),
            st.integers(0, 2),
            st.integers(0, 9),
        ),
        max_size=40,
    )
)
def test_any_game_is_the_same_again(acts: list[Act]) -> None:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        path = Path(folder) / "arena.jsonl"
        stage = Stage(path)
        clients = [stage.join(name) for name in ("ann", "bob", "cyd")]
        numbers = [0, 0, 0]
        for what, who, number in acts:
            act(stage, clients, numbers, what, who, number)
        stage.hub.tick(stage.frame, 12)
        stage.hub.errors.clear()
        stage.end()
        same(path)


def act(
    stage: Stage, clients: list[Any], numbers: list[int], what: str, who: int, number: int
) -> None:
    client, frame = clients[who], stage.frame

    def rejoin() -> None:
        frame.hangup(client.ctx)
        frame.answer(client.ctx)

    def pause() -> None:
        frame.pause()
        stage.hub.advance(number)
        frame.resume()

    done: dict[str, Callable[[], object]] = {
        "join": lambda: frame.answer(client.ctx),
        "rejoin": rejoin,
        "tick": lambda: stage.hub.tick(frame, number + 1),
        "gift": lambda: frame.exec_async(partial(give, "gift", client.ctx, gold=number)),
        "ask": lambda: frame.exec_async(ask),
        "pause": pause,
    }
    if what == "say":
        numbers[who] += 1
        stage.say(client, numbers[who], dx=number)
    elif what == "drop":
        client.drop()
        clients[who] = stage.join(f"user{number}")
        numbers[who] = 0
    elif what == "answer":
        for gate in frame._loop.agenda.countdowns()[:1]:
            if hasattr(gate, "answer"):
                gate.answer(client.ctx, number)
    else:
        done[what]()
    stage.hub.settle()
