"""The demo's arena in virtual time: state, views, inputs, rounds, bots, replay and bad input."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubthread import HubSetting
from hubthread.demo import Demo
from hubthread.demo import field as rules
from hubthread.demo.arena import BUFFER, GATE, ROUND, SIGHT, STALL, STALL_AGAIN, Game
from hubthread.demo.field import Disc, Rules
from hubthread.demo.users import User
from hubthread.state.patch import apply
from hubthread.testing import VirtualClient, VirtualHub, replay
from tests.demo import Message
from tests.support.examples import examples

SMALL = Rules(width=1000.0, height=640.0)
HZ = SMALL.hz
RIGHT = SMALL.width - SMALL.radius


class Page:
    """A client that does what the arena's page does, with the state as the page has it."""

    def __init__(self, client: VirtualClient) -> None:
        self.client = client
        self.id = client.ctx.connection_id
        self.ticks: list[int] = []
        """The ticks of the states that came."""
        self.acked = 0
        self._state: Any = None
        self._told: list[Message] = []
        self._inputs = 0

    def say(self, kind: str, **fields: object) -> None:
        self.client.send_json({"type": kind, **fields})

    def join(self) -> None:
        self.say("hub:join", room="arena", id=1)

    def steer(self, x: object, y: object, tick: int | None = None) -> None:
        self._inputs += 1
        at = {} if tick is None else {"tick": tick}
        self.say("hub:input", room="arena", n=self._inputs, data={"x": x, "y": y}, **at)

    @property
    def state(self) -> Any:
        """The state, after all messages so far."""
        for text in self.client.messages():
            message = json.loads(text)
            message = message.get("data", message)
            if message["type"] != "hub:state":
                self._told.append(message)
                continue
            full = message.get("full")
            self._state = apply(self._state, message) if full is None else full
            self.ticks.append(message["tick"])
            self.acked = message.get("acks", {}).get(str(self.id), self.acked)
        return self._state

    def heard(self, kind: str) -> list[Message]:
        """Return and forget the messages of this kind that came."""
        assert self.state is not None or not self._state
        told, self._told = self._told, [each for each in self._told if each["type"] != kind]
        return [each for each in told if each["type"] == kind]

    def errors(self) -> list[str]:
        return [each["text"] for each in self.heard("error")]

    @property
    def disc(self) -> Any:
        return self.state["discs"][str(self.id)]


class Table:
    """An arena in virtual time."""

    def __init__(
        self, new_hub: Callable[[HubSetting[User, str]], VirtualHub[User, str]], **options: Any
    ) -> None:
        bots, size = options.pop("bots", 0), options.pop("rules", SMALL)
        self.site = Demo(lambda setting: self._keep(new_hub(setting)), bots)
        self.hub.start()
        arena = self.site.arena
        arena.take_long = lambda frame: self.hub.clock.spend(STALL)
        arena.option = replace(arena.option, new_obj=lambda: Game(size), **options)
        arena.open(self.hub)
        self.frame = arena.frame

    def _keep(self, hub: VirtualHub[User, str]) -> VirtualHub[User, str]:
        self.hub = hub
        return hub

    def watch(self) -> Page:
        """Connect a client that joins the room."""
        page = Page(self.hub.connect("/ws", session=True))
        page.join()
        return page

    def enter(self, nick: str) -> Page:
        """Connect a client and let it play."""
        page = self.watch()
        page.say("play", nick=nick)
        return page

    def watchers(self) -> dict[str, bool]:
        """Return for each nick True if its player only watches."""
        return {each.nick: each.watches for each in self.game().players.values()}

    def game(self) -> Game:
        """Return the room's state; nothing else runs meanwhile."""
        return self.frame.exec_sync(lambda frame, game: game)

    def place(self, page: Page, x: float, y: float) -> None:
        """Put the disc of a page somewhere, at rest."""
        self.frame.exec_sync(lambda frame, game: game.discs.update({page.id: Disc(x, y)}))


@contextmanager
def opened(**options: Any) -> Iterator[Table]:
    """Make a table; fail at the end if anything has raised."""
    made = Table(VirtualHub[User, str], **options)
    try:
        yield made
    finally:
        made.hub.close()
    assert made.hub.errors == []


@pytest.fixture
def table() -> Iterator[Table]:
    with opened() as made:
        yield made


# State, views and inputs.


def test_arena_state_has_players_discs_and_dots(table: Table) -> None:
    ada = table.enter("ada")
    table.hub.tick(table.frame)
    state = ada.state
    score = table.game().players[ada.id].score  # the disc may appear on a dot
    assert state["players"] == {
        str(ada.id): {"nick": "ada", "score": score, "watches": False, "ready": False}
    }
    assert (state["phase"], state["paused"], state["late"]) == ("free", False, 0)
    assert state["rules"]["width"] == SMALL.width
    assert len(state["dots"]) == len(table.game().dots) == 10
    assert SMALL.radius <= ada.disc["x"] <= RIGHT


def test_arena_inputs_move_the_disc_and_are_acknowledged(table: Table) -> None:
    ada = table.enter("ada")
    table.place(ada, 100, 300)
    table.hub.tick(table.frame)
    for number in range(5):
        ada.steer(1, 0, tick=2 + number)
    table.hub.tick(table.frame, 3)
    assert ada.acked == 0  # not read yet
    assert (ada.disc["y"], ada.acked) == (300, 3)
    assert ada.disc["x"] > 110
    table.hub.advance(5)
    assert (ada.disc["x"], ada.acked) == (RIGHT, 5)  # the last one holds on
    ada.steer(0, 0)
    table.hub.advance(3)
    assert ada.disc["vx"] == 0
    ada.ticks.clear()
    table.hub.advance(1)
    assert ada.disc["x"] < RIGHT
    assert ada.ticks == []  # nothing moves, nothing comes


def test_arena_page_sees_what_is_near_and_all_scores() -> None:
    with opened(rules=Rules()) as table:
        ada, bob = table.enter("ada"), table.enter("bob")
        table.place(ada, 100, 100)
        table.place(bob, 2300, 1500)
        table.hub.tick(table.frame)
        assert list(ada.state["discs"]) == [str(ada.id)]
        assert len(ada.state["players"]) == 2
        far = [each for each in table.game().dots.values() if each.x > 500 + SIGHT]
        assert 0 < len(ada.state["dots"]) <= len(table.game().dots) - len(far)
        table.place(bob, 600, 100)
        table.hub.tick(table.frame)
        assert len(ada.state["discs"]) == len(bob.state["discs"]) == 2
        watcher = table.watch()
        assert str(ada.id) not in watcher.state["discs"]  # it sees the middle


def test_arena_bots_collect_dots() -> None:
    with opened(bots=8) as table:
        ada = table.enter("ada")
        table.hub.advance(10)
        assert sum(each["score"] for each in ada.state["players"].values()) > 5
        assert [each["nick"] for each in ada.state["players"].values()][:1] == ["Bot 1"]


def test_arena_record_replays_to_the_same_state(tmp_path: Path) -> None:
    path = tmp_path / "arena.jsonl"
    with opened(bots=3, record=path) as table:
        ada, bob = table.enter("ada"), table.enter("bob")
        ada.say("ready")
        ada.steer(1, -1)
        table.hub.advance(GATE)
        bob.steer(-1, 0.5)
        bob.say("play", nick="ada")
        table.hub.advance(ROUND)
        bob.say("pause")
        bob.say("resume")
        ada.client.drop()
        table.hub.advance(1)
        option = table.site.arena.option
    found = replay(path, option)
    assert (found.errors, found.differs, found.marks) == ([], None, [])
    assert found.ticks > HZ * (GATE + ROUND)
    assert list(found.obj.players) == [-1, -2, -3]


# The clock.


def test_arena_stall_skips_ticks_and_keeps_grid(table: Table) -> None:
    ada = table.enter("ada")
    table.hub.tick(table.frame, 4)
    ada.steer(1, 0)
    ada.say("stall")
    assert ada.state is not None
    ada.ticks.clear()
    table.hub.tick(table.frame, 4)
    # Tick 5 takes six periods: it ends when tick 11 is due.
    assert ada.state["late"] == 0
    assert ada.ticks == [5, 11, 12, 13]
    assert table.hub.clock.now() == pytest.approx(13 / HZ)
    figures = table.frame.statistics()
    assert (figures.ticks, figures.skipped, figures.overruns) == (8, 5, 1)
    assert figures.work.max == pytest.approx(STALL)


def test_arena_second_stall_too_early_is_refused(table: Table) -> None:
    ada = table.enter("ada")
    ada.say("stall")
    table.hub.advance(STALL_AGAIN - 0.1)
    ada.say("stall")
    assert ada.errors() == ["The last stall is not long ago: wait a moment."]
    table.hub.advance(0.1)
    ada.say("stall")
    table.hub.advance(1)
    assert ada.errors() == []
    assert table.frame.statistics().overruns == 2


def test_arena_pause_skips_no_tick(table: Table) -> None:
    ada = table.enter("ada")
    ada.steer(1, 0)
    table.hub.tick(table.frame, 3)
    ada.say("pause")
    assert ada.state["paused"]
    ada.ticks.clear()
    table.hub.advance(100)
    assert ada.state["paused"]
    assert ada.ticks == []
    ada.say("resume")
    assert not ada.state["paused"]
    table.hub.tick(table.frame, 2)
    assert ada.state is not None
    assert ada.ticks == [3, 4, 5]
    assert table.frame.statistics().skipped == 0


def test_arena_newcomer_in_pause_gets_state_and_steers_after_it(table: Table) -> None:
    ada = table.enter("ada")
    table.hub.tick(table.frame, 3)
    ada.say("pause")
    grace = table.enter("grace")
    assert grace.state["paused"]
    assert len(grace.state["players"]) == 2
    grace.steer(1, 0)
    ada.say("resume")
    table.hub.advance(5)
    assert grace.disc["x"] == RIGHT


def test_arena_empty_does_not_tick(table: Table) -> None:
    table.hub.advance(10)
    ada = table.enter("ada")
    table.hub.tick(table.frame, 3)
    ada.client.close()
    table.hub.advance(10)
    assert table.frame.statistics().ticks == 3


def test_arena_pause_ends_when_arena_empties(table: Table) -> None:
    ada = table.enter("ada")
    ada.say("pause")
    ada.client.drop()
    grace = table.enter("grace")
    table.hub.tick(table.frame, 1)
    assert not grace.state["paused"]


# Rounds.


def test_arena_gate_ends_with_last_answer_or_leave(table: Table) -> None:
    ada, grace, eve = (table.enter(nick) for nick in ("ada", "grace", "eve"))
    ada.say("ready")
    table.hub.advance(GATE - 1)
    state = ada.state
    assert (state["phase"], state["until"]) == ("gate", GATE * HZ)
    assert [each["ready"] for each in state["players"].values()] == [True, False, False]
    grace.say("ready")
    table.hub.advance(0.5)
    assert ada.state["phase"] == "gate"
    eve.client.drop()
    (begins,) = ada.heard("begins")
    assert begins["inputs"][:2] == [["ada", "answered"], ["grace", "answered"]]
    table.hub.tick(table.frame)
    assert not any(each["ready"] for each in ada.state["players"].values())


def test_arena_ready_player_left_begins_no_round(table: Table) -> None:
    ada, grace = table.enter("ada"), table.enter("grace")
    ada.say("ready")
    ada.client.drop()
    table.hub.advance(GATE)
    assert grace.heard("begins") == []
    table.hub.tick(table.frame)
    assert grace.state["phase"] == "free"


def test_arena_player_without_answer_watches(table: Table) -> None:
    ada, grace = table.enter("ada"), table.enter("grace")
    grace.say("ready")
    table.hub.advance(GATE)
    (begins,) = ada.heard("begins")
    assert begins["inputs"] == [["grace", "answered"], ["ada", "defaulted"]]
    assert table.watchers() == {"ada": True, "grace": False}


def test_arena_round_is_timed_by_room_clock(table: Table) -> None:
    ada = table.enter("ada")
    ada.say("ready")
    table.hub.advance(ROUND / 2)
    ada.say("pause")
    table.hub.advance(100)
    assert ada.heard("ends") == []
    ada.say("resume")
    table.hub.advance(ROUND / 2 - 0.01)
    assert ada.heard("ends") == []
    table.hub.advance(0.01)
    (ends,) = ada.heard("ends")
    assert [nick for nick, _ in ends["ranking"]] == ["ada"]


def test_arena_newcomer_during_gate_or_round_watches(table: Table) -> None:
    ada, grace = table.enter("ada"), table.enter("grace")
    ada.say("ready")
    ada.say("ready")  # a second time does nothing
    late = table.enter("late")
    late.say("ready")
    assert late.errors() == ["You came after the question: you watch this round."]
    grace.say("ready")
    (begins,) = ada.heard("begins")
    assert begins["inputs"] == [["ada", "answered"], ["grace", "answered"]]
    later = table.enter("later")
    assert table.watchers() == {"ada": False, "grace": False, "late": True, "later": True}
    later.say("ready")
    assert later.errors() == ["A round is on: wait for its end."]


def test_arena_round_ends_with_last_player(table: Table) -> None:
    ada, grace = table.enter("ada"), table.enter("grace")
    grace.say("ready")
    table.hub.advance(GATE)
    assert table.watchers() == {"ada": True, "grace": False}
    grace.client.drop()
    (ends,) = ada.heard("ends")
    assert ends["ranking"] == []
    assert table.watchers() == {"ada": False}


# Players.


def test_arena_nick_taken_gets_number(table: Table) -> None:
    ada, other = table.enter("ada"), table.enter("Ada")
    assert other.state["players"][str(other.id)]["nick"] == "Ada-2"
    other.say("play", nick="  grace  hopper ")
    assert [each["nick"] for each in ada.state["players"].values()] == ["ada", "grace hopper"]


def test_arena_full_is_refused(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "MOST_PEOPLE", 1)
    table.enter("ada")
    late = table.enter("late")
    late.say("ready")
    assert late.errors() == ["The arena is full: at most 1 can play.", "Enter the arena first."]


def test_arena_players_are_in_chat_statistics(table: Table) -> None:
    table.enter("ada")
    chatter = Page(table.hub.connect("/ws"))
    chatter.say("statistics")
    (one, _) = chatter.heard("statistics")[0]["connections"]
    assert (one["nick"], one["room"], one["rooms"]) == ("ada", "arena", 1)


# Bad input.


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"type": "jump"}', "header"),
        ('{"type": "play", "nick": ""}', "nick: 1 to 32 printable"),
        ('{"type": "play", "nick": "a\\u202eb"}', "nick: 1 to 32 printable"),
        ('{"type": "play", "nick": 7}', "expected str, got int"),
        ('{"type": "play"}', "the field 'nick' is missing"),
    ],
)
def test_arena_bad_message_is_told(table: Table, text: str, told: str) -> None:
    ada = table.enter("ada")
    ada.client.send(text)
    assert told in ada.errors()[0]


@pytest.mark.parametrize(
    "data",
    ['{"x":1}', '{"x":"1","y":0}', '{"x":true,"y":0}', '{"x":1.01,"y":0}', '{"x":0,"y":-1e300}'],
)
def test_arena_unfit_input_changes_nothing_and_is_told(table: Table, data: str) -> None:
    ada = table.enter("ada")
    table.hub.tick(table.frame)
    before = ada.disc
    ada.client.send(f'{{"type":"hub:input","room":"arena","n":1,"data":{data}}}')
    table.hub.tick(table.frame, 2)
    assert ada.disc == before
    assert ada.heard("hub:input")[0]["refused"] == [[1, "unfit"]]
    assert table.frame.statistics().errors == 0


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("kind", ["ready", "stall", "pause", "resume"])
def test_arena_stranger_is_refused(table: Table, kind: str, left: bool) -> None:
    ada = table.enter("ada")
    stranger = table.enter("bob") if left else table.watch()
    if left:
        stranger.say("hub:leave", room="arena")
    stranger.say(kind)
    assert stranger.errors() == ["Enter the arena first."]
    table.hub.tick(table.frame)
    assert (ada.state["phase"], ada.state["paused"]) == ("free", False)


def test_arena_play_outside_the_room_is_refused(table: Table) -> None:
    outside = Page(table.hub.connect("/ws", session=True))
    outside.say("play", nick="ada")
    assert outside.errors() == ["Join the arena first."]
    outside.say("hub:join", room="lobby", id=1)
    assert table.game().players == {}


def test_arena_flood_costs_the_others_nothing(table: Table) -> None:
    ada, mallory = table.enter("ada"), table.enter("mallory")
    for _ in range(500):
        mallory.steer(1, 0)
        mallory.say("play", nick="")  # which is told each time that it is read
    refused = mallory.errors()
    assert 10 < len(refused) < 40
    table.hub.advance(5)
    assert ada.state["discs"][str(mallory.id)]["x"] == RIGHT
    assert mallory.acked <= 5 * HZ + BUFFER
    assert table.frame.statistics().skipped == 0


def test_arena_slow_page_gets_one_whole_state(table: Table) -> None:
    ada, grace = table.enter("ada"), table.enter("grace")
    ada.steer(1, 0)
    assert grace.state is not None
    grace.client.stall()
    table.hub.advance(5)  # less than a stalled connection is given
    grace.ticks.clear()
    grace.client.resume()
    table.hub.tick(table.frame)
    assert grace.state["discs"] == ada.state["discs"]
    assert len(grace.ticks) <= 2


# Any messages in any order.

WISH = st.sampled_from([0, 1, -0.5, 2, -1e300, "1", None])
ANY: st.SearchStrategy[dict[str, object]] = st.one_of(
    st.builds(dict, type=st.just("play"), nick=st.sampled_from(["ada", "Ada", "", 7])),
    st.builds(dict, type=st.sampled_from(["ready", "stall", "pause", "resume", "ticks", "jump"])),
    st.builds(dict, type=st.just("hub:leave"), room=st.just("arena"), id=st.just(2)),
)
WHO = st.integers(0, 2)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), WHO, ANY),
        st.tuples(st.just("steer"), WHO, st.tuples(WISH, WISH)),
        st.tuples(st.sampled_from(["close", "drop", "join"]), WHO, st.none()),
        st.tuples(st.just("wait"), WHO, st.sampled_from([0.01, 0.05, 0.3, 4, 31])),
    ),
    max_size=25,
)
Steps = list[tuple[str, int, Any]]


@settings(max_examples=examples(30))
@given(STEPS)
def test_arena_any_messages_keep_invariants(steps: Steps) -> None:
    with opened(bots=2) as it:
        pages = [it.enter(nick) for nick in ("ada", "grace", "eve")]
        for kind, who, what in steps:
            page = pages[who]
            if kind == "wait":
                it.hub.advance(what)
            elif page.client.closed:
                pages[who] = it.watch()
            elif kind == "send":
                page.client.send_json(what)
            elif kind == "steer":
                page.steer(*what)
            elif kind == "join":
                page.join()
            else:
                getattr(page.client, kind)()
            game = it.game()
            people = {number for number in game.players if number > 0}
            assert people <= {each.connection_id for each in it.frame.members}
            assert game.players.keys() == game.discs.keys()
            assert it.frame.statistics().errors == 0
            assert not (game.gate and game.round)
            if game.round is None:
                assert not any(each.watches for each in game.players.values())
            else:
                assert game.contended()
            if not it.frame.members:
                assert it.frame.paused
