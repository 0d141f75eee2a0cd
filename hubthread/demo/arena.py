"""The demo's arena: a room with a clock, in which every tab of a browser is a disc.

Layer: top.  Threads: handlers run in their client's order, many clients at once; ``Game``
belongs to the room's tick thread, which they reach with ``exec_sync`` (it may refuse) and
``exec_async`` (nothing to wait for).  No lock, and the hub's thread has no part in it.

The page sends ``play``, ``steer``, ``ready``, ``stall``, ``pause``, ``resume`` and
``ticks``.  It gets

    entered  {id, nick, hz, width, height, radius, dot}: the answer to play
    players  {players: [[id, nick]]}: at first, and whenever that changes
    picture  {tick, late, phase, left, paused, players: [[id, x, y, score, watches]],
             dots: [[x, y]], ready: [id]}: each tick, and when something has changed
             while the clock stands still; each one tells all
    begins   {inputs: [[nick, state]]}: a round, with what became of everybody's "ready?"
    ends     {ranking: [[nick, score]]}: a round
    ticks    the answer to its question: the room's statistics
    error    {about, text}

Rounds show what a room can wait for.  Whoever asks for one opens a gate
(``frame.await_inputs``) that asks everybody who is in, for ``GATE`` seconds at the most;
those who have answered play the round, the others watch it, and who has left is waited for
no longer.  The round ends with its countdown, or with its last player.  Both stand still
while the room is paused.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from hubthread import (
    ClientID,
    Closed,
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
)
from hubthread.demo.field import DOT_RADIUS, HEIGHT, RADIUS, WIDTH, Field
from hubthread.demo.users import Refused, User, checked_name
from hubthread.statistics import FrameStatistics

__all__ = ["GATE", "HZ", "ROUND", "STALL", "Arena", "Game", "Play", "Steer"]

HZ = 20
"""Ticks a second."""
STALL = 0.3
"""Seconds that a tick takes when somebody wants to see what happens then."""
STALL_AGAIN = 2.0
"""Seconds of the room's time between two of those."""
GATE = 10.0
"""Seconds to say "ready" in."""
ROUND = 30.0
"""Seconds of a round."""


@dataclass
class Play:
    """Enter the arena, under a name."""

    nick: str

    def __post_init__(self) -> None:
        # A ValueError here refuses the message: handlers only ever see good ones.
        self.nick = checked_name("nick", self.nick)


@dataclass
class Steer:
    """Where to go, until told otherwise: two zeros are a wish to stop."""

    x: float
    y: float

    def __post_init__(self) -> None:
        if not (abs(self.x) <= 1 and abs(self.y) <= 1):
            raise ValueError("x, y: from -1 to 1")


@dataclass
class Game:
    """The room's state."""

    field: Field = field(default_factory=Field)
    gate: InputGate[Game, bool] | None = None
    """Open: everybody is asked whether they are ready."""
    round: OperationCountdown[Game] | None = None
    """A round is on."""
    stall: bool = False
    """The next tick is to take long."""
    stall_again: float = 0.0
    """The room's time from which on there may be another such tick."""


Frame = FrameControl[Game]


class Arena:
    """One room, open as long as its hub; while nobody is in, its clock stands still.

    :param matcher: gets the handlers, which it takes only before there is a hub.
    """

    frame: Frame
    """The room, once it is open."""

    def __init__(self, matcher: MatcherMap[User, str]) -> None:
        self.take_long: Callable[[Frame], object] = lambda frame: frame.context.wait(STALL)
        """What a tick does that is to take long, on the tick thread."""
        matcher.add("play", self.on_play)
        matcher.add("steer", self.on_steer)
        matcher.add("ready", self.on_ready)
        matcher.add("stall", self.on_stall)
        matcher.add("pause", self.on_pause)
        matcher.add("resume", self.on_resume)
        matcher.add("ticks", self.on_ticks)

    def open(self, hub: Hub[User, str]) -> None:
        """Begin, before anybody comes."""
        # Twice what a page sends at the most: a key that is let go must not be missed.
        self._limiter = RateLimiter(rate=60, burst=120, clock=hub.clock.now)
        option = HotlineFrameOption(
            Game, self._tick, hz=HZ, on_start=lambda frame, game: frame.pause()
        )
        self.frame = option.run(hub.hotline(HotlineOption("arena")))

    # Handlers and callbacks: in the order of their client.

    def on_receive(self, ctx: IOContext, user: User) -> bool:
        """Whether a message is heard: players have no business with more than so many."""
        return not user.player or self._limiter(ctx, user)

    def on_play(self, ctx: IOContext, user: User, play: Play) -> None:
        """Let the user in, or give a player another name."""
        self.frame.exec_sync(lambda frame, game: self._enter(frame, game, ctx, user, play.nick))

    def on_steer(self, ctx: IOContext, user: User, steer: Steer) -> None:
        """Take the wish; the next tick heeds it."""
        _refuse_outside(user)
        self.frame.exec_async(
            lambda frame, game: game.field.steer(ctx.connection_id, steer.x, steer.y)
        )

    def on_ready(self, ctx: IOContext, user: User) -> None:
        """Ask for a round, or answer who has asked."""
        _refuse_outside(user)
        self.frame.exec_sync(lambda frame, game: self._ready(frame, game, ctx))

    def on_stall(self, ctx: IOContext, user: User) -> None:
        """Have one tick take long."""
        _refuse_outside(user)
        self.frame.exec_sync(self._stall)

    def on_pause(self, ctx: IOContext, user: User) -> None:
        """Stop the clock, for all."""
        _refuse_outside(user)
        self.frame.pause()
        self.frame.exec_async(self._show)

    def on_resume(self, ctx: IOContext, user: User) -> None:
        """Let it go on."""
        _refuse_outside(user)
        self.frame.resume()
        self.frame.exec_async(self._show)

    def on_ticks(self, ctx: IOContext, user: User) -> FrameStatistics:
        """Say how the ticks are; what a handler returns is its reply."""
        return self.frame.statistics()

    def on_close(self, ctx: IOContext, user: User) -> None:
        """The last of it, however the connection ended."""
        if user.player:
            with suppress(Closed):  # the room's end is everybody's
                self.frame.exec_async(lambda frame, game: self._leave(frame, game, ctx))

    # Steps: on the tick thread, one at a time.

    def _tick(self, frame: Frame, game: Game) -> None:
        if game.stall:
            game.stall = False
            self.take_long(frame)
        game.field.step(frame.tick.dt)
        self._show(frame, game)

    def _enter(self, frame: Frame, game: Game, ctx: IOContext, user: User, nick: str) -> None:
        player = game.field.enter(ctx.connection_id, nick, watches=game.round is not None)
        user.player = player.nick
        # Its connection may have gone meanwhile: then it is not let in, but on_close is
        # still to come, and takes the disc away.
        frame.answer(ctx)
        ctx.write_json(
            {
                "type": "entered",
                "id": player.id,
                "nick": player.nick,
                "hz": HZ,
                "width": WIDTH,
                "height": HEIGHT,
                "radius": RADIUS,
                "dot": DOT_RADIUS,
            }
        )
        if len(game.field.players) == 1:
            frame.resume()
        self._show_players(frame, game)

    def _leave(self, frame: Frame, game: Game, ctx: IOContext) -> None:
        game.field.leave(ctx.connection_id)
        if game.round is not None and not game.field.contended() and game.round.done():
            self._end_round(frame, game)
        if not game.field.players:
            frame.pause()
        self._show_players(frame, game)

    def _ready(self, frame: Frame, game: Game, ctx: IOContext) -> None:
        if game.round is not None:
            raise Refused("A round is on: wait for its end.")
        if game.gate is None:
            game.gate = frame.await_inputs(frame.members, GATE, False, self._begin_round)
        if not game.gate.answer(ctx, True) and ctx not in game.gate.inputs:
            raise Refused("You came after the question: you watch this round.")
        self._show(frame, game)

    def _begin_round(self, frame: Frame, game: Game, gate: InputGate[Game, bool]) -> None:
        game.gate = None
        ready = [each for each in _answered(gate) if each in game.field.players]
        if ready:
            game.field.begin_round(ready)
            game.round = frame.operation_timeout(ROUND, self._end_round)
            told = [[ctx.meta.player, given.state] for ctx, given in gate.inputs.items()]
            frame.push_json({"type": "begins", "inputs": told})
        self._show(frame, game)

    def _end_round(self, frame: Frame, game: Game) -> None:
        game.round = None
        frame.push_json({"type": "ends", "ranking": game.field.end_round()})
        self._show(frame, game)

    @staticmethod
    def _stall(frame: Frame, game: Game) -> None:
        now = frame.tick.index * frame.tick.dt
        if now < game.stall_again:
            raise Refused("The last stall is not long ago: wait a moment.")
        game.stall = True
        game.stall_again = now + STALL_AGAIN

    def _show_players(self, frame: Frame, game: Game) -> None:
        players = [[each.id, each.nick] for each in game.field.players.values()]
        frame.push_json({"type": "players", "players": players})
        self._show(frame, game)

    @staticmethod
    def _show(frame: Frame, game: Game) -> None:
        """Push the picture; a page that is slow gets the newest alone."""
        frame.push(frame.hub.marshal(picture(frame, game)), key="picture")


def picture(frame: Frame, game: Game) -> dict[str, object]:
    """All that there is to be drawn."""
    waits = game.gate or game.round
    return {
        "type": "picture",
        "tick": frame.tick.index,
        "late": round(frame.tick.late * 1000, 1),
        "phase": "gate" if game.gate else "round" if game.round else "free",
        "left": round(waits.remaining, 1) if waits else 0,
        "paused": frame.paused,
        "players": [
            [each.id, round(each.x, 1), round(each.y, 1), each.score, int(each.watches)]
            for each in game.field.players.values()
        ],
        "dots": [[round(x), round(y)] for x, y in game.field.dots],
        "ready": _answered(game.gate) if game.gate else [],
    }


def _answered(gate: InputGate[Game, bool]) -> list[ClientID]:
    inputs = gate.inputs.items()
    return [ctx.connection_id for ctx, given in inputs if given.state is InputState.ANSWERED]


def _refuse_outside(user: User) -> None:
    if not user.player:
        raise Refused("Enter the arena first.")
