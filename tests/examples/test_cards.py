"""The card game: in virtual time, and two players in a browser."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from hubthread import Hub
from hubthread.examples import cards
from hubthread.examples.cards import GRACE, HAND, TURN, Cards, Seat, Table
from hubthread.state.patch import apply
from hubthread.testing import VirtualClient, VirtualHub

if TYPE_CHECKING:
    from selenium import webdriver


class Player:
    """A client at the table, with the state as its page has it."""

    def __init__(self, game: Game, name: str) -> None:
        self._game = game
        self.client: VirtualClient = game.hub.connect(session=True)
        self.key = str(self.client.ctx.connection_id)
        self._state: dict[str, Any] = {}
        self.refused: list[str] = []
        self.seen = ""
        self.client.send_json({"type": "hub:join", "room": "table", "id": 1})
        self.say("sit", name=name)

    def say(self, kind: str, **fields: object) -> None:
        self.client.send_json({"type": kind, **fields})

    def state(self) -> dict[str, Any]:
        """Return the state, after all messages so far."""
        for text in self.client.messages():
            self.seen += str(text)
            message = json.loads(text)
            message = message.get("data", message)
            if message.get("type") == "refused":
                self.refused.append(message["text"])
            elif message.get("type") == "hub:state":
                if "full" in message:
                    self._state = message["full"]
                else:
                    self._state = apply(self._state, message.get("mine", message))
        return self._state

    @property
    def hand(self) -> list[int]:
        hand: list[int] = self.state()["seats"][self.key]["hand"]
        return hand

    def told(self) -> str:
        """Return the last refusal."""
        self.state()
        return self.refused[-1]

    def come_back(self) -> None:
        self.client = self._game.hub.connect(resume=self.client)


class Game:
    """A table in virtual time."""

    def __init__(self) -> None:
        self.cards = Cards(VirtualHub, Random(1))
        hub: Any = self.cards.hub
        self.hub: VirtualHub[Any, str] = hub
        self.hub.start()
        self.cards.open()

    def table(self) -> Table:
        return self.cards.frame.exec_sync(lambda frame, table: table)

    def seat(self, player: Player) -> Seat:
        return self.table().seats[player.client.ctx.connection_id]


@pytest.fixture
def game() -> Iterator[Game]:
    made = Game()
    yield made
    made.hub.close()
    assert made.hub.errors == []


@pytest.fixture
def players(game: Game) -> tuple[Player, Player]:
    ada, bob = Player(game, "Ada"), Player(game, "Bob")
    ada.say("deal")
    return ada, bob


def test_cards_highest_card_wins_the_prize(game: Game, players: tuple[Player, Player]) -> None:
    ada, bob = players
    prize = ada.state()["prize"]
    card, other = ada.hand[-1], bob.hand[0]
    ada.say("play", card=card)
    assert bob.state()["turn"] == 1
    assert bob.state()["seats"][ada.key]["chosen"]
    bob.say("play", card=other)
    winner = ada if card > other else bob
    assert bob.state()["turn"] == 2
    assert bob.state()["shown"] == {"Ada": card, "Bob": other}
    assert bob.state()["seats"][winner.key]["score"] == prize
    assert card not in ada.hand


def test_cards_game_ends_after_the_last_card(game: Game, players: tuple[Player, Player]) -> None:
    ada, bob = players
    total = sum(game.table().prizes) + game.table().prize
    for _ in range(HAND):
        ada.say("play", card=ada.hand[0])
        bob.say("play", card=bob.hand[-1])
    state = ada.state()
    assert (state["turn"], ada.hand) == (0, [])
    assert sum(seat["score"] for seat in state["seats"].values()) == total
    assert state["news"].startswith("The game is over: ")
    bob.say("deal")
    assert len(ada.hand) == HAND


def test_cards_nobody_sees_the_hand_of_another(game: Game, players: tuple[Player, Player]) -> None:
    ada, bob = players
    for player, other in ((ada, bob), (bob, ada)):
        assert len(player.hand) == HAND
        assert "hand" not in player.state()["seats"][other.key]
    watcher = game.hub.connect(session=True)
    watcher.send_json({"type": "hub:join", "room": "table", "id": 1})
    game.hub.advance(TURN * 2)
    assert not any("hand" in str(message) for message in watcher.messages())


def test_cards_slow_player_plays_its_lowest_card(
    game: Game, players: tuple[Player, Player]
) -> None:
    ada, bob = players
    ada.say("play", card=ada.hand[-1])
    lowest = bob.hand[0]
    game.hub.advance(TURN)
    assert bob.state()["shown"]["Bob"] == lowest


def test_cards_player_comes_back_within_the_grace_and_goes_on(
    game: Game, players: tuple[Player, Player]
) -> None:
    ada, bob = players
    hand = ada.hand
    ada.client.drop()
    assert bob.state()["seats"][ada.key]["away"]
    bob.say("play", card=bob.hand[0])
    game.hub.advance(GRACE - TURN / 2)  # one turn passes meanwhile
    ada.come_back()
    state = ada.state()
    assert (state["turn"], state["seats"][ada.key]["away"]) == (2, False)
    assert ada.hand == hand[1:] == game.seat(ada).hand
    ada.say("play", card=ada.hand[0])
    assert bob.state()["seats"][ada.key]["chosen"]
    assert state == {**bob.state(), "seats": state["seats"]}


def test_cards_player_who_stays_away_leaves_the_game(
    game: Game, players: tuple[Player, Player]
) -> None:
    ada, bob = players
    ada.client.drop()
    game.hub.advance(GRACE + 1)
    state = bob.state()
    assert ada.key not in state["seats"]
    assert state["turn"] == 0
    assert "Bob won" in state["news"]


@pytest.mark.parametrize(
    ("act", "told"),
    [
        (lambda ada, bob: ada.say("sit", name="bob"), "bob has a place already"),
        (lambda ada, bob: ada.say("sit", name=" "), "A name has 1 to 20 letters."),
        (lambda ada, bob: ada.say("deal"), "A game is on."),
        (lambda ada, bob: ada.say("play", card=99), "This card is not in your hand."),
        (lambda ada, bob: ada.say("play", card=bob.hand[0]), "This card is not in your hand."),
        (lambda ada, bob: ada.say("play", card="9"), "expected int"),
        (lambda ada, bob: [ada.say("play", card=c) for c in ada.hand[:2]], "chosen already"),
    ],
)
def test_cards_what_the_rules_forbid_is_refused(
    game: Game,
    players: tuple[Player, Player],
    act: Callable[[Player, Player], object],
    told: str,
) -> None:
    ada, bob = players
    act(ada, bob)
    assert told in ada.told()
    assert game.table().turn == 1


def test_cards_strangers_and_the_lonely_do_not_play(game: Game) -> None:
    ada = Player(game, "Ada")
    ada.say("deal")
    assert ada.told() == "Wait for another player."
    others = [Player(game, name) for name in ("Bob", "Cleo", "Dan", "Eve")]
    assert others[-1].told() == "All places are taken."
    others[-1].say("deal")
    assert others[-1].told() == "Take a place first."
    ada.say("deal")
    others[-1].say("play", card=1)
    assert others[-1].told() == "You have no hand in this game."
    stranger = game.hub.connect()
    stranger.send_json({"type": "sit", "name": "Eve"})
    assert "Come to the table first." in str(stranger.messages())


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[webdriver.Chrome]:
    from tests.browser import chromium

    with chromium(tmp_path) as driver:
        yield driver


@pytest.mark.browser
def test_cards_page_two_tabs_play_a_turn(driver: webdriver.Chrome) -> None:
    from selenium.webdriver.common.keys import Keys

    from tests.demo.tabs import Tab

    game = Cards(Hub)
    with game.hub, cards.serve(game, 0) as server:
        tabs = [Tab(driver, server.http_url) for _ in range(2)]
        for tab, name in zip(tabs, ("Ada <b>", "Bob"), strict=True):
            tab.until(tab["[name=name]"].is_displayed)
            tab["[name=name]"].send_keys(name + Keys.ENTER)
            tab.until(lambda name=name, tab=tab: f"{name} (you)" in tab.texts("#seats b"))  # type: ignore[misc]
        ada, bob = tabs
        ada["#deal"].click()
        for tab in tabs:
            tab.until(lambda tab=tab: len(tab.texts("#hand button")) == HAND)  # type: ignore[misc]
        assert not set(ada.texts("#hand button")) & set(bob.texts("#hand button"))
        ada["#hand button"].click()
        bob.until(lambda: "has chosen" in bob.texts("#seats .soft"))
        bob["#hand button"].click()
        for tab in tabs:
            tab.until(lambda tab=tab: len(tab.texts("#hand button")) == HAND - 1)  # type: ignore[misc]
            assert tab.trouble() == []
