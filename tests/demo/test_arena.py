"""The demo's arena: ticks, rounds and bad input in virtual time, and players over real sockets."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubthread import HubSetting
from hubthread.demo import Demo
from hubthread.demo import field as rules
from hubthread.demo.arena import GATE, HZ, ROUND, STALL, STALL_AGAIN, Game
from hubthread.demo.field import HEIGHT, RADIUS, WIDTH, Field
from hubthread.demo.users import User
from hubthread.testing import VirtualClient, VirtualHub
from tests.demo import Message
from tests.support.examples import examples


class Table:
    """An arena in virtual time, whose dots and discs always appear in the same places."""

    def __init__(self, new_hub: Callable[[HubSetting[User, str]], VirtualHub[User, str]]) -> None:
        self.site = Demo(lambda setting: self._keep(new_hub(setting)))
        self.hub.start()
        arena = self.site.arena
        arena.take_long = lambda frame: self.hub.clock.spend(STALL)
        arena.open(self.hub)
        self.frame = arena.frame
        self.frame.exec_sync(lambda frame, game: setattr(game, "field", Field(Random(1))))

    def _keep(self, hub: VirtualHub[User, str]) -> VirtualHub[User, str]:
        self.hub = hub
        return hub

    def enter(self, nick: str) -> VirtualClient:
        """Connect a client and let it play."""
        client = self.hub.connect("/ws")
        say(client, "play", nick=nick)
        return client

    def player(self, nick: str) -> rules.Player:
        """Return the disc of this nick."""
        (found,) = [each for each in self.game().field.players.values() if each.nick == nick]
        return found

    def watchers(self) -> dict[str, bool]:
        """Return for each nick True if its player only watches."""
        return {each.nick: each.watches for each in self.game().field.players.values()}

    def game(self) -> Game:
        """Return the room's state; nothing else runs meanwhile."""
        return self.frame.exec_sync(lambda frame, game: game)


@contextmanager
def table() -> Iterator[Table]:
    """Make a table; fail at the end if anything has raised."""
    made = Table(VirtualHub[User, str])
    try:
        yield made
    finally:
        made.hub.close()
    assert made.hub.errors == []


def say(client: VirtualClient, kind: str, **fields: object) -> None:
    client.send_json({"type": kind, **fields})


def heard(client: VirtualClient, kind: str) -> list[Message]:
    """Return the messages of this kind that have come; drop the others."""
    messages = [json.loads(message) for message in client.messages()]
    return [message for message in messages if message["type"] == kind]


def last_picture(client: VirtualClient) -> Message:
    return heard(client, "picture")[-1]


# The clock.


def test_arena_tick_pushes_picture(table: Table) -> None:
    ada = table.enter("ada")
    heard(ada, "picture")
    table.hub.advance(3)
    pictures = heard(ada, "picture")
    assert [picture["tick"] for picture in pictures] == [*range(1, 3 * HZ + 1)]
    assert {picture["late"] for picture in pictures} == {0}


def test_arena_stall_skips_ticks_and_keeps_grid(table: Table) -> None:
    ada = table.enter("ada")
    table.hub.tick(table.frame, 4)
    heard(ada, "picture")
    say(ada, "stall")
    table.hub.tick(table.frame, 4)
    # Tick 5 takes six periods: it ends when tick 11 is due.
    pictures = heard(ada, "picture")
    assert [each["tick"] for each in pictures] == [5, 11, 12, 13]
    assert {each["late"] for each in pictures} == {0}
    assert table.hub.clock.now() == pytest.approx(13 / HZ)
    figures = table.frame.statistics()
    assert (figures.ticks, figures.skipped, figures.overruns) == (8, 5, 1)
    assert figures.work.max == pytest.approx(STALL)


def test_arena_second_stall_too_early_is_refused(table: Table) -> None:
    ada = table.enter("ada")
    say(ada, "stall")
    table.hub.advance(STALL_AGAIN - 0.1)
    say(ada, "stall")
    assert [each["text"] for each in heard(ada, "error")] == [
        "The last stall is not long ago: wait a moment."
    ]
    table.hub.advance(0.1)
    say(ada, "stall")
    table.hub.advance(1)
    assert heard(ada, "error") == []
    assert table.frame.statistics().overruns == 2


def test_arena_pause_skips_no_tick(table: Table) -> None:
    ada = table.enter("ada")
    table.hub.tick(table.frame, 3)
    say(ada, "pause")
    heard(ada, "picture")
    table.hub.advance(100)
    assert heard(ada, "picture") == []
    say(ada, "resume")
    assert [(each["tick"], each["paused"]) for each in heard(ada, "picture")] == [(3, False)]
    table.hub.tick(table.frame, 2)
    assert [each["tick"] for each in heard(ada, "picture")] == [4, 5]
    assert table.frame.statistics().skipped == 0


def test_arena_newcomer_in_pause_gets_picture_and_steers_after_it(table: Table) -> None:
    ada = table.enter("ada")
    table.hub.tick(table.frame, 3)
    say(ada, "pause")
    grace = table.enter("grace")
    picture = last_picture(grace)
    assert (picture["tick"], picture["paused"], len(picture["players"])) == (3, True, 2)
    say(grace, "steer", x=1, y=0)
    say(ada, "resume")
    table.hub.advance(5)
    assert table.player("grace").x == WIDTH - RADIUS


def test_arena_empty_does_not_tick(table: Table) -> None:
    table.hub.advance(10)
    ada = table.enter("ada")
    table.hub.tick(table.frame, 3)
    ada.close()
    table.hub.advance(10)
    assert table.frame.statistics().ticks == 3


def test_arena_pause_ends_when_arena_empties(table: Table) -> None:
    ada = table.enter("ada")
    say(ada, "pause")
    ada.drop()
    table.enter("grace")
    table.hub.tick(table.frame, 1)


# Rounds.


def test_arena_gate_ends_with_last_answer_or_leave(table: Table) -> None:
    ada, grace, eve = (table.enter(nick) for nick in ("ada", "grace", "eve"))
    say(ada, "ready")
    table.hub.advance(GATE - 1)
    picture = last_picture(ada)
    assert (picture["phase"], picture["left"], picture["ready"]) == ("gate", 1, [1])
    say(grace, "ready")
    table.hub.advance(0.5)
    assert last_picture(ada)["phase"] == "gate"
    eve.drop()
    (begins,) = heard(ada, "begins")
    assert begins["inputs"] == [["ada", "answered"], ["grace", "answered"], ["eve", "left"]]


def test_arena_ready_player_left_begins_no_round(table: Table) -> None:
    ada, grace = table.enter("ada"), table.enter("grace")
    say(ada, "ready")
    ada.drop()
    table.hub.advance(GATE)
    assert heard(grace, "begins") == []
    table.hub.tick(table.frame)
    assert last_picture(grace)["phase"] == "free"


def test_arena_player_without_answer_watches(table: Table) -> None:
    ada, grace = table.enter("ada"), table.enter("grace")
    say(grace, "ready")
    table.hub.advance(GATE)
    (begins,) = heard(ada, "begins")
    assert begins["inputs"] == [["grace", "answered"], ["ada", "defaulted"]]
    assert table.watchers() == {"ada": True, "grace": False}


def test_arena_round_is_timed_by_room_clock(table: Table) -> None:
    ada = table.enter("ada")
    say(ada, "ready")
    table.hub.advance(ROUND / 2)
    say(ada, "pause")
    table.hub.advance(100)
    assert heard(ada, "ends") == []
    say(ada, "resume")
    table.hub.advance(ROUND / 2 - 0.01)
    assert heard(ada, "ends") == []
    table.hub.advance(0.01)
    (ends,) = heard(ada, "ends")
    assert [nick for nick, _ in ends["ranking"]] == ["ada"]


def test_arena_gate_pauses_with_room(table: Table) -> None:
    ada = table.enter("ada")
    table.enter("grace")
    say(ada, "pause")
    say(ada, "ready")
    table.hub.advance(10 * GATE)
    say(ada, "resume")
    assert last_picture(ada)["left"] == GATE


def test_arena_newcomer_during_gate_or_round_watches(table: Table) -> None:
    ada, grace = table.enter("ada"), table.enter("grace")
    say(ada, "ready")
    assert 0 < last_picture(ada)["left"] <= GATE
    say(ada, "ready")  # a second time does nothing
    late = table.enter("late")
    say(late, "ready")
    (error,) = heard(late, "error")
    assert error["text"] == "You came after the question: you watch this round."
    say(grace, "ready")
    (begins,) = heard(ada, "begins")
    assert begins["inputs"] == [["ada", "answered"], ["grace", "answered"]]
    later = table.enter("later")
    assert table.watchers() == {"ada": False, "grace": False, "late": True, "later": True}
    say(later, "ready")
    assert heard(later, "error")[0]["text"] == "A round is on: wait for its end."


def test_arena_round_ends_with_last_player(table: Table) -> None:
    ada, grace = table.enter("ada"), table.enter("grace")
    say(grace, "ready")
    table.hub.advance(GATE)
    assert table.watchers() == {"ada": True, "grace": False}
    grace.drop()
    (ends,) = heard(ada, "ends")
    assert ends["ranking"] == []
    assert table.watchers() == {"ada": False}


def test_arena_gate_all_left_is_free(table: Table) -> None:
    grace, eve = table.enter("grace"), table.enter("eve")
    say(grace, "ready")
    grace.drop()
    eve.drop()
    ada = table.enter("ada")
    table.hub.tick(table.frame)
    picture = last_picture(ada)
    assert (picture["phase"], len(picture["players"])) == ("free", 1)


# Players.


def test_arena_picture_has_whole_state(table: Table) -> None:
    ada = table.enter("ada")
    table.hub.tick(table.frame)
    picture = last_picture(ada)
    assert (picture["phase"], picture["left"], picture["paused"]) == ("free", 0, False)
    assert len(picture["dots"]) == rules.DOTS
    ((player, x, y, score, watching),) = picture["players"]
    assert (player, score, watching) == (1, 0, 0)
    assert RADIUS <= x <= WIDTH - RADIUS
    assert RADIUS <= y <= HEIGHT - RADIUS


def test_arena_nick_taken_gets_number(table: Table) -> None:
    ada, other = table.enter("ada"), table.enter("Ada")
    assert heard(other, "entered")[0]["nick"] == "Ada-2"
    say(other, "play", nick="  grace  hopper ")
    assert heard(other, "entered")[0]["nick"] == "grace hopper"
    assert heard(ada, "players")[-1]["players"] == [[1, "ada"], [2, "grace hopper"]]


def test_arena_full_is_refused(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "MOST_PLAYERS", 1)
    table.enter("ada")
    late = table.enter("late")
    say(late, "steer", x=1, y=0)
    texts = [each["text"] for each in heard(late, "error")]
    assert texts == ["The arena is full: at most 1 can play.", "Enter the arena first."]
    assert table.frame.statistics().members == 1


def test_arena_players_are_in_chat_statistics(table: Table) -> None:
    table.enter("ada")
    chatter = table.hub.connect("/ws")
    say(chatter, "statistics")
    (one, _) = heard(chatter, "statistics")[0]["connections"]
    assert (one["nick"], one["room"], one["rooms"]) == ("ada", "arena", 1)


# Bad input.


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"type": "jump"}', "header"),
        ('{"type": "steer"}', "the field 'x' is missing"),
        ('{"type": "steer", "x": 1}', "the field 'y' is missing"),
        ('{"type": "steer", "x": "1", "y": 0}', "expected float, got str"),
        ('{"type": "steer", "x": true, "y": 0}', "expected float, got bool"),
        ('{"type": "steer", "x": null, "y": 0}', "expected float"),
        ('{"type": "steer", "x": [1], "y": 0}', "expected float"),
        ('{"type": "steer", "x": 1.01, "y": 0}', "x, y: from -1 to 1"),
        ('{"type": "steer", "x": 0, "y": -1e300}', "x, y: from -1 to 1"),
        ('{"type": "steer", "x": 1e999, "y": 0}', "too large"),
        ('{"type": "steer", "x": NaN, "y": 0}', "not JSON"),
        (f'{{"type": "steer", "x": 1{"0" * 400}, "y": 0}}', ""),
        (f'{{"type": "steer", "x": 1{"0" * 9000}, "y": 0}}', "too many digits"),
        ('{"type": "steer", "up": 1, "y": 0}', "the field 'x' is missing"),
        ('{"type": "play", "nick": ""}', "nick: 1 to 32 printable"),
        ('{"type": "play", "nick": "a\\u202eb"}', "nick: 1 to 32 printable"),
        ('{"type": "play", "nick": 7}', "expected str, got int"),
        ('{"type": "play"}', "the field 'nick' is missing"),
    ],
)
def test_arena_bad_input_changes_nothing(table: Table, text: str, told: str) -> None:
    ada = table.enter("ada")
    table.enter("grace")
    table.hub.tick(table.frame)  # discs that appeared on one spot are apart now
    before = last_picture(ada)["players"]
    ada.send(text)
    assert told in heard(ada, "error")[0]["text"]
    table.hub.tick(table.frame, 2)
    for old, new in zip(before, last_picture(ada)["players"], strict=True):
        assert new == pytest.approx(old, abs=0.2)
    assert table.frame.statistics().errors == 0


@pytest.mark.parametrize("kind", ["steer", "ready", "stall", "pause", "resume"])
def test_arena_stranger_is_refused(table: Table, kind: str) -> None:
    ada = table.enter("ada")
    stranger = table.hub.connect("/ws")
    say(stranger, kind, x=1, y=0)
    assert heard(stranger, "error")[0]["text"] == "Enter the arena first."
    table.hub.tick(table.frame)
    picture = last_picture(ada)
    assert (picture["phase"], picture["paused"]) == ("free", False)


# Bad clients.


def test_arena_flood_is_rate_limited(table: Table) -> None:
    ada, mallory = table.enter("ada"), table.enter("mallory")
    for _ in range(500):
        say(mallory, "steer", x=2, y=2)
    assert 100 < len(heard(mallory, "error")) < 130
    table.hub.advance(5)
    say(mallory, "steer", x=1, y=0)
    table.hub.advance(5)
    assert table.player("mallory").wish_x == 1
    assert last_picture(ada)["tick"] == 10 * HZ


def test_arena_slow_page_gets_newest_picture_only(table: Table) -> None:
    ada, grace = table.enter("ada"), table.enter("grace")
    heard(grace, "picture")
    grace.stall()
    table.hub.advance(5)  # less than a stalled connection is given
    assert len(heard(ada, "picture")) >= 5 * HZ
    grace.resume()
    table.hub.settle()
    assert [each["tick"] for each in heard(grace, "picture")] == [5 * HZ]


# Any messages in any order.

WISH = st.sampled_from([0, 1, -0.5, 2, -1e300, "1", None])
SENT: st.SearchStrategy[dict[str, object]] = st.one_of(
    st.builds(dict, type=st.just("play"), nick=st.sampled_from(["ada", "Ada", "", 7])),
    st.builds(dict, type=st.just("steer"), x=WISH, y=WISH),
    st.builds(dict, type=st.sampled_from(["ready", "stall", "pause", "resume", "ticks", "jump"])),
)
WHO = st.integers(0, 2)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), WHO, SENT),
        st.tuples(st.sampled_from(["close", "drop"]), WHO, st.none()),
        st.tuples(st.just("wait"), WHO, st.sampled_from([0.01, 0.05, 0.3, 4, 31])),
    ),
    max_size=25,
)
Steps = list[tuple[str, int, object]]


def play(steps: Steps) -> list[str | bytes]:
    """Do the steps, check the invariants, and return all messages of all clients."""
    came: list[str | bytes] = []
    with table() as it:
        clients = [it.enter(nick) for nick in ("ada", "grace", "eve")]
        for kind, who, what in steps:
            if kind == "wait":
                it.hub.advance(float(str(what)))
            elif clients[who].closed:
                clients[who] = it.hub.connect("/ws")
            elif kind == "send":
                clients[who].send_json(what)
            else:
                getattr(clients[who], kind)()
            came += [message for client in clients for message in client.messages()]
            game = it.game()
            assert set(game.field.players) == {each.connection_id for each in it.frame.members}
            assert it.frame.statistics().errors == 0
            assert not (game.gate and game.round)
            if game.round is None:
                assert not any(each.watches for each in game.field.players.values())
            else:
                assert game.field.contended()
            if not game.field.players:
                assert it.frame.paused
    return came


@settings(max_examples=examples(30))
@given(STEPS)
def test_arena_any_messages_keep_invariants(steps: Steps) -> None:
    play(steps)


@settings(max_examples=8)
@given(STEPS)
def test_arena_same_inputs_give_same_game(steps: Steps) -> None:
    assert play(steps) == play(steps)


# Over real WebSockets.


@pytest.fixture(name="table")
def _table() -> Iterator[Table]:
    with table() as made:
        yield made
