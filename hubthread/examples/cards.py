"""A card game with hidden hands: all choose a card at once, and the highest wins the prize.

Layer: top.  Threads: handlers run in their client's order; the room's callbacks, which own
``Table``, run on a tick thread, one at a time.

::

    python -m hubthread.examples.cards                      # http://127.0.0.1:8000

Two to four players get five cards each, which nobody else sees.  In each of five turns a prize is
on the table, and everybody chooses a card.  The highest card wins the prize: each card is there
once.  A player that chooses nothing in time plays its lowest card.  A player that loses its
connection keeps its place and its hand for ``GRACE`` seconds.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from random import Random
from typing import Annotated, Any

from hubthread import (
    FrameControl,
    HotlineFrameOption,
    HotlineOption,
    Hub,
    HubSetting,
    InputGate,
    InputState,
    IOContext,
    JsonHeader,
    MatcherError,
    MatcherMap,
    Private,
    Response,
    Server,
    Sessions,
    StateSync,
    Unsynced,
)

__all__ = ["Cards", "Play", "Sit", "Table", "main", "serve"]

GRACE = 30.0
"""Seconds that a player may be away."""
TURN = 20.0
"""Seconds to choose a card."""
HAND = 5
HIGHEST = 40
"""Cards are numbers from 1 to this, each of them once."""
MOST_PLAYERS = 4
LONGEST_NAME = 20

Meta = dict[str, Any]


class Refused(Exception):
    """A request that cannot be granted; the text is for the player."""


@dataclass
class Sit:
    """The request for a place at the table."""

    name: str

    def __post_init__(self) -> None:
        self.name = " ".join(self.name.split())
        if not (1 <= len(self.name) <= LONGEST_NAME and self.name.isprintable()):
            raise ValueError(f"A name has 1 to {LONGEST_NAME} letters.")


@dataclass
class Play:
    """The choice of a card."""

    card: int


@dataclass
class Seat:
    """One player."""

    name: str
    score: int = 0
    plays: bool = False
    """True during a game that the player has a hand in."""
    chosen: bool = False
    away: bool = False
    hand: Annotated[list[int], Private] = field(default_factory=list)
    """Goes to the player itself, and to nobody else."""


@dataclass
class Table:
    """The state that everybody at the table sees."""

    seats: dict[int, Seat] = field(default_factory=dict)
    """The players by the id of their client."""
    turn: int = 0
    """The number of the turn; 0 between games."""
    prize: int = 0
    until: int = 0
    """The end of the turn, in milliseconds of the server's clock."""
    shown: dict[str, int] = field(default_factory=dict)
    """The cards of the last turn, by name."""
    news: str = "Take a place."
    prizes: Annotated[list[int], Unsynced] = field(default_factory=list)
    gate: Annotated[InputGate[Table, int] | None, Unsynced] = None


Frame = FrameControl[Table]


class Cards:
    """The table, and its hub, which is not started yet.

    :param hub_class: the class of the hub; tests give ``hubthread.testing.VirtualHub``.
    :param random: deals the cards.
    """

    def __init__(
        self, hub_class: type[Hub[Meta, str]] = Hub, random: Random | None = None
    ) -> None:
        self._random = random or Random()
        matcher = MatcherMap[Meta, str](JsonHeader())
        matcher.add("sit", self.on_sit)
        matcher.add("deal", self.on_deal)
        matcher.add("play", self.on_play)
        self.hub = hub_class(
            HubSetting(
                dict,
                receive_matcher=matcher,
                receive_matcher_error=self.on_error,
                may_join=lambda ctx, meta, name: name == "table",
                sessions=Sessions(grace=GRACE),
                on_connection_lost=lambda ctx, meta: self._mark(ctx, away=True),
                on_connection_resume=lambda ctx, meta: self._mark(ctx, away=False),
            )
        )

    def open(self) -> None:
        """Make the table, once the hub runs."""
        option = HotlineFrameOption(Table, on_leave=self._leave, sync=StateSync())
        self.frame: Frame = option.run(self.hub.hotline(HotlineOption("table", shared=True)))

    # Handlers: in the order of their client.

    def on_sit(self, ctx: IOContext, meta: Meta, sit: Sit) -> None:
        """Give the client a place."""
        self.frame.exec_sync(lambda frame, table: self._sit(frame, table, ctx, sit.name))

    def on_deal(self, ctx: IOContext, meta: Meta) -> None:
        """Begin a game."""
        self.frame.exec_sync(lambda frame, table: self._deal(frame, table, ctx))

    def on_play(self, ctx: IOContext, meta: Meta, play: Play) -> None:
        """Choose a card."""
        self.frame.exec_sync(lambda frame, table: self._play(frame, table, ctx, play.card))

    def on_error(self, ctx: IOContext, meta: Meta, error: Exception) -> None:
        """Tell the player what was wrong."""
        if not isinstance(error, (MatcherError, Refused)):
            ctx.logger.error("cards: a handler of %r raised", ctx, exc_info=error)
            error = Refused("The server failed to do that.")
        ctx.write_json({"type": "refused", "text": str(error.__cause__ or error)})

    # Steps: on a tick thread, one at a time.

    def _sit(self, frame: Frame, table: Table, ctx: IOContext, name: str) -> None:
        if ctx not in frame:
            raise Refused("Come to the table first.")
        seat = table.seats.get(ctx.connection_id)
        others = [each for each in table.seats.values() if each is not seat]
        if any(each.name.casefold() == name.casefold() for each in others):
            raise Refused(f"{name} has a place already: choose another name.")
        if seat is not None:
            seat.name = name
        elif len(others) >= MOST_PLAYERS:
            raise Refused("All places are taken.")
        else:
            table.seats[ctx.connection_id] = Seat(name)
            table.news = f"{name} has a place."
        frame.sync_now()

    def _deal(self, frame: Frame, table: Table, ctx: IOContext) -> None:
        if ctx.connection_id not in table.seats:
            raise Refused("Take a place first.")
        if table.turn:
            raise Refused("A game is on.")
        if len(table.seats) < 2:
            raise Refused("Wait for another player.")
        deck = self._random.sample(range(1, HIGHEST + 1), HAND * len(table.seats))
        for place, seat in enumerate(table.seats.values()):
            seat.hand = sorted(deck[place * HAND : (place + 1) * HAND])
            seat.score, seat.plays = 0, True
        table.prizes = self._random.sample(range(1, 11), HAND)
        table.shown = {}
        table.news = "The cards are dealt."
        self._next_turn(frame, table)

    def _next_turn(self, frame: Frame, table: Table) -> None:
        players = {each for each, seat in table.seats.items() if seat.plays}
        if not table.prizes or len(players) < 2:
            self._end(table)
        else:
            for seat in table.seats.values():
                seat.chosen = False
            table.turn += 1
            table.prize = table.prizes.pop()
            table.until = int((time.time() + TURN) * 1000)
            asked = [ctx for ctx in frame.members if ctx.connection_id in players]
            table.gate = frame.await_inputs(asked, TURN, 0, self._count)
        frame.sync_now()

    def _play(self, frame: Frame, table: Table, ctx: IOContext, card: int) -> None:
        seat = table.seats.get(ctx.connection_id)
        if table.gate is None or seat is None or not seat.plays:
            raise Refused("You have no hand in this game.")
        if card not in seat.hand:
            raise Refused("This card is not in your hand.")
        if not table.gate.answer(ctx, card):
            raise Refused("You have chosen already.")
        seat.chosen = True
        frame.sync_now()

    def _count(self, frame: Frame, table: Table, gate: InputGate[Table, int]) -> None:
        """Show the cards of a turn, and give the prize away."""
        table.gate = None
        shown: dict[int, int] = {}
        for ctx, given in gate.inputs.items():
            seat = table.seats.get(ctx.connection_id)
            if seat is not None and seat.plays and seat.hand:
                # Who was too slow, or away, plays the lowest card.
                answered = given.state is InputState.ANSWERED
                card = given.value if answered else seat.hand[0]
                seat.hand = [each for each in seat.hand if each != card]
                shown[ctx.connection_id] = card
        table.shown = {table.seats[each].name: card for each, card in shown.items()}
        if shown:
            winner = table.seats[max(shown, key=lambda each: shown[each])]
            winner.score += table.prize
            table.news = f"{winner.name} wins {table.prize}."
        self._next_turn(frame, table)

    @staticmethod
    def _end(table: Table) -> None:
        players = [seat for seat in table.seats.values() if seat.plays]
        best = max((seat.score for seat in players), default=0)
        names = " and ".join(seat.name for seat in players if seat.score == best)
        table.news = f"The game is over: {names or 'nobody'} won with {best}."
        table.turn = table.prize = table.until = 0
        for seat in table.seats.values():
            seat.plays = seat.chosen = False
            seat.hand = []

    def _leave(self, frame: Frame, table: Table, ctx: IOContext) -> None:
        seat = table.seats.pop(ctx.connection_id, None)
        if seat is not None:
            table.news = f"{seat.name} has left."
            if table.gate is not None and sum(seat.plays for seat in table.seats.values()) < 2:
                table.gate.done()  # the last player wins
            frame.sync_now()

    def _mark(self, ctx: IOContext, *, away: bool) -> None:
        def mark(frame: Frame, table: Table) -> None:
            seat = table.seats.get(ctx.connection_id)
            if seat is not None:
                seat.away = away
                frame.sync_now()

        self.frame.exec_async(mark)


def serve(cards: Cards, port: int, host: str = "127.0.0.1") -> Server:
    """Serve a table whose hub runs."""
    cards.open()
    page = Response.html(PAGE)
    pages = {"/": lambda request: page}
    return cards.hub.serve(host, port, path="/ws", client="/hubthread.js", pages=pages)


def main(port: int = 8000) -> None:
    """Serve the game until Ctrl-C."""
    cards = Cards()
    with cards.hub, serve(cards, port) as server:
        sys.stdout.write(f"{server.http_url}\n")
        cards.hub.join()


PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">
<title>Cards</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 40rem; margin: 0 auto; padding: 1rem }
  h1 { font-size: 1.3rem } ul { list-style: none; padding: 0 }
  #seats li { display: flex; gap: .7rem; padding: .35rem 0; border-bottom: 1px solid #8884 }
  #seats b { flex: 1; overflow-wrap: anywhere } .soft { color: #777 }
  #prize { font-size: 2.2rem; font-weight: 700; min-height: 3.3rem }
  #hand { display: flex; flex-wrap: wrap; gap: .5rem; min-height: 5rem }
  #hand button { font: 700 1.4rem system-ui; width: 3.6rem; height: 5rem; border-radius: .6rem }
  form { display: flex; gap: .5rem } input { font: inherit; flex: 1; min-width: 0 }
  button { font: inherit } #error { color: #c33; min-height: 1.5rem }
</style>
<h1>Cards</h1>
<p id="news" role="status"></p>
<p id="prize"></p>
<ul id="seats"></ul>
<div id="hand"></div>
<form id="sit"><input name="name" maxlength="20" required placeholder="your name"
  aria-label="your name" autocomplete="off"><button>Take a place</button></form>
<p><button id="deal" type="button">Deal</button></p>
<p id="error" role="alert"></p><p id="line" class="soft"></p>
<script type="module">
  import { connect } from "/hubthread.js"

  const find = id => document.getElementById(id)
  const make = (tag, text, how = {}) =>
    Object.assign(document.createElement(tag), { textContent: text, ...how })
  const hub = connect("/ws")
  const room = hub.room("table")
  const send = (type, fields) => { find("error").textContent = ""; hub.send(type, fields) }

  function draw(table) {
    const mine = table.seats[hub.id]
    find("news").textContent = table.news
    find("seats").replaceChildren(...Object.entries(table.seats).map(([id, seat]) => {
      const item = make("li", "")
      const what = seat.away ? "away" : seat.chosen ? "has chosen" : seat.plays ? "chooses" : ""
      item.append(make("b", seat.name + (id == hub.id ? " (you)" : "")),
        make("span", what, { className: "soft" }),
        make("span", table.shown[seat.name] ?? "", { className: "soft" }),
        make("span", seat.score))
      return item
    }))
    find("hand").replaceChildren(...(mine?.hand ?? []).map(card => make("button", card, {
      type: "button", disabled: mine.chosen, onclick: () => send("play", { card }) })))
    find("sit").hidden = Boolean(mine)
    find("sit").style.display = mine ? "none" : ""
    find("deal").hidden = !mine || table.turn > 0
    clock()
  }
  function clock() {
    const table = room.state
    const left = Math.max(0, Math.ceil(((table?.until ?? 0) - hub.now()) / 1000))
    find("prize").textContent = table?.turn ? `Prize ${table.prize} · ${left} s` : ""
  }
  room.onState(draw)
  setInterval(clock, 250)
  hub.on("refused", ({ text }) => find("error").textContent = text)
  hub.on("state", ({ state, reason }) =>
    find("line").textContent = state === "open" ? "" : `${state}: ${reason}`)
  find("sit").onsubmit = event => {
    event.preventDefault()
    send("sit", { name: new FormData(event.target).get("name") })
  }
  find("deal").onclick = () => send("deal", {})
</script>
"""


if __name__ == "__main__":
    main()
