"""The demo's arena over real WebSockets: movement, rounds, stalls, pauses, bad input."""

from __future__ import annotations

import json

import pytest

from hubthread import Server
from hubthread.demo import Demo, arena
from hubthread.demo import field as rules
from hubthread.demo.field import HEIGHT, RADIUS, WIDTH
from tests.demo import Page
from tests.demo.players import Player, disc, watches

# Coming, moving, going.


def test_two_players_see_each_other_move(server: Server) -> None:
    with Player(server.url) as ada, Player(server.url) as grace:
        ada.play("ada")
        grace.play("grace")
        assert dict(ada.until("players", players=[[1, "ada"], [2, "grace"]]))
        ada.send("steer", x=-1, y=0)
        grace.send("steer", x=0, y=1)
        for player in (ada, grace):
            player.picture(
                lambda picture: (
                    disc(picture, ada)[0] == RADIUS and disc(picture, grace)[1] == HEIGHT - RADIUS
                )
            )


def test_who_lets_go_comes_to_rest(server: Server) -> None:
    with Player(server.url) as ada:
        ada.play("ada")
        ada.send("steer", x=1, y=0)
        ada.picture(lambda picture: disc(picture, ada)[0] == WIDTH - RADIUS)
        ada.send("steer", x=0, y=0)
        last = disc(ada.picture(), ada)
        while (now := disc(ada.picture(), ada)) != last:
            last = now


def test_a_tick_s_picture_tells_everything(server: Server) -> None:
    with Player(server.url) as ada:
        ada.play("ada")
        picture = ada.picture(lambda picture: picture["tick"] > 3)
        assert (picture["phase"], picture["left"], picture["paused"]) == ("free", 0, False)
        assert picture["late"] >= 0
        assert len(picture["dots"]) == rules.DOTS
        ((player, x, y, score, watching),) = picture["players"]
        assert (player, watching) == (ada.id, 0)
        assert RADIUS <= x <= WIDTH - RADIUS
        assert RADIUS <= y <= HEIGHT - RADIUS
        assert score >= 0


def test_who_leaves_is_gone_from_the_field(server: Server) -> None:
    with Player(server.url) as ada:
        ada.play("ada")
        with Player(server.url) as grace:
            grace.play("grace")
            ada.picture(lambda picture: len(picture["players"]) == 2)
        ada.until("players", players=[[ada.id, "ada"]])
        assert len(ada.picture()["players"]) == 1


def test_nobody_in_costs_nothing(server: Server) -> None:
    with Player(server.url) as watcher:
        assert (watcher.ticks()["ticks"], watcher.ticks()["paused"]) == (0, True)
        with Player(server.url) as ada:
            ada.play("ada")
            ada.picture(lambda picture: picture["tick"] > 2)
            assert not ada.ticks()["paused"]
        while not watcher.ticks()["paused"]:
            pass
        with Player(server.url) as ada:
            ada.play("ada")
            tick = ada.picture()["tick"]
            ada.picture(lambda picture: picture["tick"] > tick)


def test_names_are_told_apart_and_can_change(server: Server) -> None:
    with Player(server.url) as ada, Player(server.url) as other:
        assert ada.play("ada").nick == "ada"
        assert other.play("Ada").nick == "Ada-2"
        assert other.play("  grace  hopper ").nick == "grace hopper"
        ada.until("players", players=[[ada.id, "ada"], [other.id, "grace hopper"]])


def test_a_full_arena_says_so(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "MOST_PLAYERS", 1)
    with Player(server.url) as ada, Player(server.url) as late:
        ada.play("ada")
        late.send("play", nick="late")
        assert late.until("error")["text"] == "The arena is full: at most 1 can play."
        late.send("steer", x=1, y=0)
        assert late.until("error")["text"] == "Enter the arena first."
        assert ada.ticks()["members"] == 1


def test_the_chat_s_panel_shows_players(server: Server) -> None:
    with Player(server.url) as ada, Page(server.url) as chatter:
        ada.play("ada")
        chatter.send("statistics")
        (one, _) = chatter.until("statistics")["connections"]
        assert (one["nick"], one["room"], one["rooms"]) == ("ada", "arena", 1)


def test_the_end_of_the_server_is_1001(site: Demo, server: Server) -> None:
    with Player(server.url) as ada:
        ada.play("ada")
        site.hub.close()
        assert ada.until_closed() == 1001


# The clock.


def test_a_stall_skips_ticks_and_the_grid_stays(server: Server) -> None:
    with Player(server.url) as ada:
        ada.play("ada")
        last = ada.picture(lambda picture: picture["tick"] > 1)["tick"]
        ada.send("stall")
        longest = int(arena.STALL * arena.HZ)  # periods that the stall takes, at the least
        while (now := ada.picture()["tick"]) - last < longest:
            last = now
        # A tick is counted after its picture has left, and before the next one's.
        ada.picture(lambda picture: picture["tick"] > now)
        figures = ada.ticks()
        assert figures["skipped"] >= longest - 1
        assert figures["work"]["max"] >= arena.STALL
        assert figures["late"] >= 1
        assert figures["overruns"] >= 1
        # Nothing of the grid is lost: each place was run, or counted as skipped.
        ada.send("pause")
        index = ada.picture(lambda picture: picture["paused"])["tick"]
        figures = ada.ticks()
        assert figures["ticks"] + figures["skipped"] == index


def test_stalls_have_a_distance(server: Server) -> None:
    with Player(server.url) as ada:
        ada.play("ada")
        ada.send("stall")
        ada.send("stall")
        assert ada.until("error")["text"] == "The last stall is not long ago: wait a moment."


def test_a_pause_stops_the_ticks_and_nothing_else(server: Server) -> None:
    with Player(server.url) as ada, Player(server.url) as grace:
        ada.play("ada")
        ada.send("pause")
        tick = ada.picture(lambda picture: picture["paused"])["tick"]
        before = ada.ticks()
        # Who comes sees the picture, and what was steered is heeded when it goes on.
        grace.play("grace")
        assert grace.picture(lambda picture: len(picture["players"]) == 2)["tick"] == tick
        grace.send("steer", x=1, y=0)
        after = grace.ticks()
        assert (before["paused"], after["paused"]) == (True, True)
        assert before["ticks"] == after["ticks"]
        ada.send("resume")
        grace.picture(
            lambda picture: picture["tick"] > tick and disc(picture, grace)[0] == WIDTH - RADIUS
        )


# Rounds.


def test_a_round_begins_as_soon_as_all_are_ready(server: Server) -> None:
    with Player(server.url) as ada, Player(server.url) as grace, Player(server.url) as late:
        ada.play("ada")
        grace.play("grace")
        ada.send("ready")
        asked = grace.picture(lambda picture: picture["phase"] == "gate")
        assert asked["ready"] == [ada.id]
        assert 0 < asked["left"] <= arena.GATE
        grace.send("ready")
        begins = ada.until("begins")
        assert sorted(begins["inputs"]) == [["ada", "answered"], ["grace", "answered"]]
        picture = ada.picture()
        assert picture["phase"] == "round"
        assert 0 < picture["left"] <= arena.ROUND
        # Who comes now watches, and cannot ask for another.
        late.play("late")
        picture = late.picture(lambda picture: len(picture["players"]) == 3)
        assert watches(picture) == {ada.id: False, grace.id: False, late.id: True}
        late.send("ready")
        assert late.until("error")["text"] == "A round is on: wait for its end."


def test_who_does_not_answer_watches_and_who_leaves_is_not_waited_for(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arena, "GATE", 0.5)
    with Player(server.url) as ada, Player(server.url) as grace, Player(server.url) as late:
        ada.play("ada")
        grace.play("grace")
        with Player(server.url) as eve:
            eve.play("eve")
            ada.send("pause")  # so that the gate cannot close before all has been done
            ada.send("ready")
            ada.picture(lambda picture: picture["phase"] == "gate")
            ada.send("ready")  # no harm
        ada.picture(lambda picture: len(picture["players"]) == 2)
        late.play("late")
        late.send("ready")
        told = late.until("error")["text"]
        assert told == "You came after the question: you watch this round."
        ada.send("resume")
        begins = grace.until("begins")["inputs"]
        assert sorted(begins) == [["ada", "answered"], ["eve", "left"], ["grace", "defaulted"]]
        assert watches(grace.picture()) == {ada.id: False, grace.id: True, late.id: True}


def test_a_round_ends_with_its_time(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arena, "ROUND", 0.3)
    with Player(server.url) as ada:
        ada.play("ada")
        for _ in range(2):
            ada.send("ready")  # nobody else is there to be waited for
            ada.until("begins", inputs=[["ada", "answered"]])
            ((nick, score),) = ada.until("ends")["ranking"]
            assert nick == "ada"
            assert score >= 0
            assert ada.picture()["phase"] == "free"


def test_a_round_ends_with_its_last_player(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arena, "GATE", 0.2)
    with Player(server.url) as ada:
        ada.play("ada")
        with Player(server.url) as grace:
            grace.play("grace")
            grace.send("ready")
            ada.until("begins")
        assert ada.until("ends")["ranking"] == []
        assert watches(ada.picture()) == {ada.id: False}


def test_a_gate_that_all_have_left_leaves_the_arena_free(server: Server) -> None:
    """Who was the last of them may begin a round alone, and ends it by leaving."""
    with Player(server.url) as ada:
        with Player(server.url) as grace, Player(server.url) as eve:
            grace.play("grace")
            eve.play("eve")
            grace.send("ready")
            eve.picture(lambda picture: picture["phase"] == "gate")
        ada.play("ada").picture(
            lambda picture: picture["phase"] == "free" and len(picture["players"]) == 1
        )


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
def test_bad_input_changes_nothing_and_hurts_nobody(server: Server, text: str, told: str) -> None:
    with Player(server.url) as ada, Player(server.url) as grace:
        ada.play("ada")
        grace.play("grace")
        # Nobody has steered; two who came on one spot are pushed apart in the next tick.
        tick = grace.picture(lambda picture: len(picture["players"]) == 2)["tick"]
        before = grace.picture(lambda picture: picture["tick"] > tick + 2)
        ada.send_text(text)
        assert told in ada.until("error")["text"]
        tick = ada.picture()["tick"]
        after = grace.picture(lambda picture: picture["tick"] > tick + 2)
        for player in (ada, grace):
            assert disc(after, player) == pytest.approx(disc(before, player), abs=0.2)
        assert ada.ticks()["errors"] == 0


@pytest.mark.parametrize("kind", ["steer", "ready", "stall", "pause", "resume"])
def test_only_players_may(server: Server, kind: str) -> None:
    with Player(server.url) as ada, Page(server.url) as stranger:
        ada.play("ada")
        stranger.send(kind, x=1, y=0)
        assert stranger.until("error")["text"] == "Enter the arena first."
        tick = ada.picture()["tick"]
        picture = ada.picture(lambda picture: picture["tick"] > tick)
        assert (picture["phase"], picture["paused"]) == ("free", False)


def test_unknown_fields_are_passed_over(server: Server) -> None:
    with Player(server.url) as ada:
        ada.play("ada")
        ada.send("steer", x=-1, y=0, z=1e300, speed="warp")
        ada.picture(lambda picture: disc(picture, ada)[0] == RADIUS)


def test_a_flood_of_wishes_holds_up_nobody(server: Server) -> None:
    flood = json.dumps({"type": "steer", "x": 0.5, "y": 0.5})
    with Player(server.url) as ada, Player(server.url) as mallory:
        ada.play("ada")
        mallory.play("mallory")
        for _ in range(20_000):
            mallory.send_text(flood)
        tick = ada.picture()["tick"]
        ada.send("steer", x=-1, y=0)
        ada.picture(lambda picture: picture["tick"] > tick and disc(picture, ada)[0] == RADIUS)
        # Far less than a room's queue holds has come through.
        assert ada.ticks()["closures_waiting"] < 1000
