"""The demo's arena: a ticking room with bots, in which every browser tab is a disc.

Layer: top.  Threads: handlers run in their client's order, many clients at once.  The room's
tick thread owns ``Game``; handlers reach it with ``exec_sync``, which can refuse.  There is no
lock, and the hub thread has no part in it.  What handlers run there are functions of this module,
and chance is ``frame.random``, so a record of the room can be played again.

The page joins the room ``arena``, so it has the room's state, ``Game``; of the discs and dots it
has those near its own.  It gives the room an input for each tick, ``Steer``, and sends ``play``,
``ready``, ``stall``, ``pause``, ``resume`` and ``ticks``.  Besides the state it gets

    begins   {inputs: [[nick, state]]}: the start of a round, with each member's answer
    ends     {ranking: [[nick, score]]}: the end of a round
    ticks    the reply to ``ticks``: the room's statistics
    error    {about, text}

A member only watches until it has sent ``play`` with its nick.

Rounds show how a room waits for input.  A player that asks for a round opens a gate
(``frame.await_inputs``), which asks all players for at most ``GATE`` seconds.  Players who answer
play the round, the others watch it, and the gate does not wait for players who leave.  The round
ends with its countdown, or when its last player leaves.  A pause stops both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from hubthread import (
    FrameControl,
    HotlineFrameOption,
    HotlineOption,
    Hub,
    InputGate,
    InputState,
    IOContext,
    MatcherMap,
    OperationCountdown,
    RateLimiter,
    Round,
    StateSync,
    Unsynced,
)
from hubthread.demo.field import Field, Player
from hubthread.demo.users import Refused, User, checked_name
from hubthread.statistics import FrameStatistics

__all__ = ["BOTS", "BUFFER", "GATE", "ROUND", "SIGHT", "STALL", "Arena", "Game", "Play", "Steer"]

BOTS = 50
BUFFER = 16
"""Ticks that an input may be ahead."""
SIGHT = 700.0
"""Units from the middle of a page's screen to discs and dots: a little more than it shows."""
STALL = 0.3
"""Seconds that a stalled tick takes."""
STALL_AGAIN = 2.0
"""Seconds between two stalled ticks."""
GATE = 10.0
"""Seconds for the answer "ready"."""
ROUND = 30.0
"""Seconds of a round."""


@dataclass
class Play:
    """The request for a disc, or for another nick."""

    nick: str

    def __post_init__(self) -> None:
        # A ValueError refuses the message before a handler sees it.
        self.nick = checked_name("nick", self.nick)


@dataclass
class Steer:
    """The input for a tick: where to.  It is valid until the next one; two zeros stop the disc."""

    x: float
    y: float

    def __post_init__(self) -> None:
        if not (abs(self.x) <= 1 and abs(self.y) <= 1):
            raise ValueError("x, y: from -1 to 1")


@dataclass
class Game(Field):
    """The room's state."""

    phase: str = "free"
    """``"gate"`` while players are asked who is ready, ``"round"`` in a round."""
    until: int = 0
    """The tick at which this phase ends."""
    paused: bool = False
    late: Annotated[float, Round(1)] = 0.0
    """Milliseconds that the last tick began late."""
    gate: Annotated[InputGate[Game, bool] | None, Unsynced] = None
    round: Annotated[OperationCountdown[Game] | None, Unsynced] = None


Frame = FrameControl[Game]


class Arena:
    """The arena's room.  Its clock is paused while the room is empty.

    :param matcher: the matcher that the hub will be made with; the handlers are added to it.
    :param bots: players that the room moves itself.
    """

    frame: Frame
    """The room, once ``open`` has made it."""

    def __init__(self, matcher: MatcherMap[User, str], bots: int = BOTS) -> None:
        self.take_long: Callable[[Frame], object] = lambda frame: frame.context.wait(STALL)
        """A stalled tick calls this on the tick thread."""
        self.option: HotlineFrameOption[Game] = HotlineFrameOption(
            Game,
            self._tick,
            hz=Game().rules.hz,
            on_start=partial(begin, bots),
            on_leave=leave,
            on_empty=go_on,
            pause_when_empty=0,
            sync=StateSync(type=Game, views={"discs": near_discs, "dots": near_dots}),
        )
        matcher.add("play", self.on_play)
        matcher.add("ready", self.on_ready)
        matcher.add("stall", self.on_stall)
        matcher.add("pause", self.on_pause)
        matcher.add("resume", self.on_resume)
        matcher.add("ticks", self.on_ticks)

    def open(self, hub: Hub[User, str]) -> None:
        """Make the room, before the first client comes."""
        self._now = hub.clock.now
        self._limiter = RateLimiter(rate=10, burst=30, clock=self._now)
        self._stall = False  # the next tick
        self._stall_again = 0.0  # the time at which another tick may stall
        self.frame = self.option.run(hub.room("arena", HotlineOption("arena")))

    # Handlers and callbacks: in the order of their client.

    def on_receive(self, ctx: IOContext, user: User) -> bool:
        """Return True if the message may pass: players have a rate limit."""
        return not user.player or self._limiter(ctx, user)

    def on_play(self, ctx: IOContext, user: User, play: Play) -> None:
        """Give a member a disc, or a player another nick."""
        user.player = self.frame.exec_sync(partial(enter, play.nick, ctx))

    def on_ready(self, ctx: IOContext, user: User) -> None:
        """Ask for a round, or answer the question for one."""
        self.frame.exec_sync(partial(ready, ctx))

    def on_stall(self, ctx: IOContext, user: User) -> None:
        """Let one tick stall."""
        self.frame.exec_sync(partial(player_of, ctx))
        if self._now() < self._stall_again:
            raise Refused("The last stall is not long ago: wait a moment.")
        self._stall_again = self._now() + STALL_AGAIN
        self._stall = True

    def on_pause(self, ctx: IOContext, user: User) -> None:
        """Pause the clock, for everyone."""
        self.frame.exec_sync(partial(stop, ctx))

    def on_resume(self, ctx: IOContext, user: User) -> None:
        """Resume the clock."""
        self.frame.exec_sync(partial(resume, ctx))

    def on_ticks(self, ctx: IOContext, user: User) -> FrameStatistics:
        """Reply with the room's statistics."""
        return self.frame.statistics()

    def _tick(self, frame: Frame, game: Game) -> None:
        if self._stall:
            self._stall = False
            self.take_long(frame)
        tick(frame, game)


# On the tick thread, one at a time.


def begin(bots: int, frame: Frame, game: Game) -> None:
    """Place dots and bots."""
    game.begin(frame.random, bots)
    frame.inputs(Steer, buffer=BUFFER)


def tick(frame: Frame, game: Game) -> None:
    """Advance the game by one tick."""
    for ctx, steer in frame.inputs(Steer, buffer=BUFFER):
        game.steer(ctx.connection_id, steer.x, steer.y)
    game.steer_bots(frame.tick.index)
    game.step(frame.tick.dt)
    game.late = frame.tick.late * 1000


def near_discs(ctx: IOContext, game: Game) -> list[int]:
    """Return the discs that a member sees."""
    return game.disc_grid.near(*_screen_of(ctx, game), SIGHT)


def near_dots(ctx: IOContext, game: Game) -> list[int]:
    """Return the dots that a member sees."""
    return game.dot_grid.near(*_screen_of(ctx, game), SIGHT)


def _screen_of(ctx: IOContext, game: Game) -> tuple[float, float]:
    """Return the middle of what the page of a member shows."""
    rules, disc = game.rules, game.discs.get(ctx.connection_id)
    if disc is None:
        return rules.width / 2, rules.height / 2
    x, y = rules.screen_width / 2, rules.screen_height / 2
    return min(max(disc.x, x), rules.width - x), min(max(disc.y, y), rules.height - y)


def enter(nick: str, ctx: IOContext, frame: Frame, game: Game) -> str:
    """Give a member a disc, or a player another nick; return the nick."""
    if ctx not in frame:
        raise Refused("Join the arena first.")
    player = game.enter(ctx.connection_id, nick, watches=game.round is not None)
    game.look()
    frame.sync_now()
    return player.nick


def leave(frame: Frame, game: Game, ctx: IOContext) -> None:
    """Take the disc of a member away; a round without players ends."""
    game.leave(ctx.connection_id)
    if game.round is not None and not game.contended() and game.round.done():
        end_round(frame, game)


def player_of(ctx: IOContext, frame: Frame, game: Game) -> Player:
    """Return the player of a member.

    :raises Refused: if the member only watches, or has left.
    """
    player = game.players.get(ctx.connection_id)
    if player is None:
        raise Refused("Enter the arena first.")
    return player


def stop(ctx: IOContext, frame: Frame, game: Game) -> None:
    """Pause the clock, for a player."""
    player_of(ctx, frame, game)
    frame.pause()
    game.paused = True
    frame.sync_now()


def resume(ctx: IOContext, frame: Frame, game: Game) -> None:
    """Let the clock go on, for a player."""
    player_of(ctx, frame, game)
    go_on(frame, game)


def go_on(frame: Frame, game: Game) -> None:
    """Let the clock go on."""
    frame.resume()
    game.paused = False
    frame.sync_now()


def ready(ctx: IOContext, frame: Frame, game: Game) -> None:
    """Ask all players for a round, or take the answer of one."""
    player = player_of(ctx, frame, game)
    if game.round is not None:
        raise Refused("A round is on: wait for its end.")
    if game.gate is None:
        players = [each for each in frame.members if each.connection_id in game.players]
        game.gate = frame.await_inputs(players, GATE, False, begin_round)
        _set_phase(frame, game, "gate", GATE)
    if game.gate.answer(ctx, True):
        player.ready = True
    elif ctx not in game.gate.inputs:
        raise Refused("You came after the question: you watch this round.")
    frame.sync_now()


def begin_round(frame: Frame, game: Game, gate: InputGate[Game, bool]) -> None:
    """Begin a round with the players that are ready, if there are any."""
    game.gate = None
    given = {ctx.connection_id: each.state for ctx, each in gate.inputs.items()}
    here = {number: state for number, state in given.items() if number in game.players}
    chosen = [number for number, state in here.items() if state is InputState.ANSWERED]
    if not chosen:
        _set_phase(frame, game, "free")
        return
    told = [[game.players[number].nick, state] for number, state in here.items()]
    game.begin_round(chosen)
    game.round = frame.operation_timeout(ROUND, end_round)
    _set_phase(frame, game, "round", ROUND)
    frame.push_json({"type": "begins", "inputs": told})


def end_round(frame: Frame, game: Game) -> None:
    """End the round, and tell who has won."""
    game.round = None
    _set_phase(frame, game, "free")
    frame.push_json({"type": "ends", "ranking": game.end_round()})


def _set_phase(frame: Frame, game: Game, phase: str, seconds: float = 0.0) -> None:
    game.phase = phase
    game.until = frame.tick.index + round(seconds * frame.hz)
