"""The arena in virtual time: each tick and countdown, exactly; and whatever is sent to it."""

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
from hubthread.demo.arena import GATE, HZ, ROUND, STALL, STALL_AGAIN, Game
from hubthread.demo.field import Field
from hubthread.demo.users import User
from hubthread.testing import VirtualClient, VirtualHub
from tests.demo import Message


class Table:
    """An arena without threads; things appear in the same places each time."""

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
        """A player."""
        client = self.hub.connect("/ws")
        say(client, "play", nick=nick)
        return client

    def game(self) -> Game:
        """The room's state: nothing else runs while the test looks."""
        return self.frame.exec_sync(lambda frame, game: game)


@contextmanager
def table() -> Iterator[Table]:
    """Nothing may have raised when it is cleared."""
    made = Table(VirtualHub[User, str])
    try:
        yield made
    finally:
        made.hub.close()
    assert made.hub.errors == []


def say(client: VirtualClient, kind: str, **fields: object) -> None:
    client.send_json({"type": kind, **fields})


def heard(client: VirtualClient, kind: str) -> list[Message]:
    """What has come of this kind; the rest is thrown away."""
    messages = [json.loads(message) for message in client.messages()]
    return [message for message in messages if message["type"] == kind]


def last_picture(client: VirtualClient) -> Message:
    return heard(client, "picture")[-1]


# The clock.


def test_each_tick_has_its_picture(table: Table) -> None:
    ada = table.enter("ada")
    heard(ada, "picture")
    table.hub.advance(3)
    pictures = heard(ada, "picture")
    assert [picture["tick"] for picture in pictures] == [*range(1, 3 * HZ + 1)]
    assert {picture["late"] for picture in pictures} == {0}


def test_a_stall_skips_ticks_and_the_next_is_on_the_old_grid(table: Table) -> None:
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


def test_stalls_have_a_distance_of_room_time(table: Table) -> None:
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


def test_a_pause_is_nothing_to_the_ticks(table: Table) -> None:
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


def test_an_empty_arena_does_not_tick(table: Table) -> None:
    table.hub.advance(10)
    ada = table.enter("ada")
    table.hub.tick(table.frame, 3)
    ada.close()
    table.hub.advance(10)
    assert table.frame.statistics().ticks == 3


def test_a_pause_that_is_left_behind_does_not_meet_who_comes(table: Table) -> None:
    ada = table.enter("ada")
    say(ada, "pause")
    ada.drop()
    table.enter("grace")
    table.hub.tick(table.frame, 1)


# Rounds.


def test_the_gate_waits_for_all_and_no_longer(table: Table) -> None:
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


def test_who_was_ready_and_has_left_plays_no_round(table: Table) -> None:
    ada, grace = table.enter("ada"), table.enter("grace")
    say(ada, "ready")
    ada.drop()
    table.hub.advance(GATE)
    assert heard(grace, "begins") == []
    table.hub.tick(table.frame)
    assert last_picture(grace)["phase"] == "free"


def test_who_has_not_answered_in_time_watches(table: Table) -> None:
    ada, grace = table.enter("ada"), table.enter("grace")
    say(grace, "ready")
    table.hub.advance(GATE)
    (begins,) = heard(ada, "begins")
    assert begins["inputs"] == [["grace", "answered"], ["ada", "defaulted"]]
    players = table.game().field.players.values()
    assert {each.nick: each.watches for each in players} == {"ada": True, "grace": False}


def test_a_round_takes_its_time_of_the_room_s_clock(table: Table) -> None:
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


def test_the_gate_stands_still_while_the_room_is_paused(table: Table) -> None:
    ada = table.enter("ada")
    table.enter("grace")
    say(ada, "pause")
    say(ada, "ready")
    table.hub.advance(10 * GATE)
    say(ada, "resume")
    assert last_picture(ada)["left"] == GATE


# Bad clients.


def test_more_than_a_page_sends_is_not_heard(table: Table) -> None:
    ada, mallory = table.enter("ada"), table.enter("mallory")
    for _ in range(500):
        say(mallory, "steer", x=2, y=2)
    assert 100 < len(heard(mallory, "error")) < 130
    table.hub.advance(5)
    say(mallory, "steer", x=1, y=0)
    table.hub.advance(5)
    (player,) = [each for each in table.game().field.players.values() if each.nick == "mallory"]
    assert player.wish_x == 1
    assert last_picture(ada)["tick"] == 10 * HZ


def test_a_slow_page_gets_the_newest_picture_alone(table: Table) -> None:
    ada, grace = table.enter("ada"), table.enter("grace")
    heard(grace, "picture")
    grace.stall()
    table.hub.advance(5)  # less than a stalled connection is given
    assert len(heard(ada, "picture")) >= 5 * HZ
    grace.resume()
    table.hub.settle()
    assert [each["tick"] for each in heard(grace, "picture")] == [5 * HZ]


def test_a_page_that_gives_no_sign_of_life_leaves_the_field(table: Table) -> None:
    ada, grace = table.enter("ada"), table.enter("grace")
    grace.vanish()
    table.hub.advance(300)
    assert [each.nick for each in table.game().field.players.values()] == ["ada"]
    assert len(last_picture(ada)["players"]) == 1


# Whatever is sent, in whatever order.

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
    """Do all of it, and hold what always holds; everything that came to everybody."""
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


@settings(max_examples=60)
@given(STEPS)
def test_the_room_stays_whole_whatever_is_sent(steps: Steps) -> None:
    play(steps)


@settings(max_examples=15)
@given(STEPS)
def test_the_same_inputs_give_the_same_game(steps: Steps) -> None:
    assert play(steps) == play(steps)


@pytest.fixture(name="table")
def _table() -> Iterator[Table]:
    with table() as made:
        yield made
