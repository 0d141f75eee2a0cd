"""The demo's arena: a ticking room in which every browser tab is a disc.

The page sends ``play``, ``steer``, ``ready``, ``stall``, ``pause``, ``resume`` and ``ticks``.  It
gets

    entered  {id, nick, hz, width, height, radius, dot}: the reply to ``play``
    players  {players: [[id, nick]]}: at the start and after each change
    picture  {tick, late, phase, left, paused, players: [[id, x, y, score, watches]],
             dots: [[x, y]], ready: [id]}: the whole state, in each tick and after each change
             while the clock is paused
    begins   {inputs: [[nick, state]]}: the start of a round, with each member's answer
    ends     {ranking: [[nick, score]]}: the end of a round
    ticks    the reply to ``ticks``: the room's statistics
    error    {about, text}

Rounds show how a room waits for input.  A player that asks for a round opens a gate
(``frame.await_inputs``), which asks all members for at most ``GATE`` seconds.  Members who answer
play the round, the others watch it, and the gate does not wait for members who leave.  The round
ends with its countdown, or when its last player leaves.  A pause stops both.

Layer: top.  Threads: handlers run in their client's order, many clients at once.  The room's
tick thread owns ``Game``; handlers reach it with ``exec_sync``, which can refuse, and with
``exec_async``.  There is no lock, and the hub thread has no part in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from hubthread import (
    ClientID,
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
"""Seconds that a stalled tick takes."""
STALL_AGAIN = 2.0
"""Seconds of the room's time between two stalled ticks."""
GATE = 10.0
"""Seconds for the answer "ready"."""
ROUND = 30.0
"""Seconds of a round."""


@dataclass
class Play:
    """The request to enter the arena, or to change the nick."""

    nick: str

    def __post_init__(self) -> None:
        # A ValueError refuses the message before a handler sees it.
        self.nick = checked_name("nick", self.nick)


@dataclass
class Steer:
    """The request to steer, valid until the next one; two zeros stop the disc."""

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
    """The gate that asks who is ready, while it is open."""
    round: OperationCountdown[Game] | None = None
    """The countdown of the round, during a round."""
    stall: bool = False
    """True if the next tick stalls."""
    stall_again: float = 0.0
    """The room's time at which another tick may stall."""


Frame = FrameControl[Game]


class Arena:
    """The arena's room.  Its clock is paused while the room is empty.

    :param matcher: the matcher that the hub will be made with; the handlers are added to it.
    """

    frame: Frame
    """The room, once ``open`` has made it."""

    def __init__(self, matcher: MatcherMap[User, str]) -> None:
        self.take_long: Callable[[Frame], object] = lambda frame: frame.context.wait(STALL)
        """A stalled tick calls this on the tick thread."""
        matcher.add("play", self.on_play)
        matcher.add("steer", self.on_steer)
        matcher.add("ready", self.on_ready)
        matcher.add("stall", self.on_stall)
        matcher.add("pause", self.on_pause)
        matcher.add("resume", self.on_resume)
        matcher.add("ticks", self.on_ticks)

    def open(self, hub: Hub[User, str]) -> None:
        """Make the room, before the first client comes."""
        # Twice the most that a page sends: the release of a key must not be lost.
        self._limiter = RateLimiter(rate=60, burst=120, clock=hub.clock.now)
        option = HotlineFrameOption(
            Game,
            self._tick,
            hz=HZ,
            on_join=lambda frame, game, ctx: self._show_players(frame, game),
            on_leave=self._leave,
            on_empty=lambda frame, game: frame.resume(),
            pause_when_empty=0,
        )
        self.frame = option.run(hub.hotline(HotlineOption("arena")))

    # Handlers and callbacks: in the order of their client.

    def on_receive(self, ctx: IOContext, user: User) -> bool:
        """Return True if the message may pass: players have a rate limit."""
        return not user.player or self._limiter(ctx, user)

    def on_play(self, ctx: IOContext, user: User, play: Play) -> None:
        """Let the user in, or give a player another nick."""
        self.frame.exec_sync(lambda frame, game: self._enter(frame, game, ctx, user, play.nick))

    def on_steer(self, ctx: IOContext, user: User, steer: Steer) -> None:
        """Steer the player's disc, from the next tick on."""
        _refuse_outside(user)
        self.frame.exec_async(
            lambda frame, game: game.field.steer(ctx.connection_id, steer.x, steer.y)
        )

    def on_ready(self, ctx: IOContext, user: User) -> None:
        """Ask for a round, or answer the question for one."""
        _refuse_outside(user)
        self.frame.exec_sync(lambda frame, game: self._ready(frame, game, ctx))

    def on_stall(self, ctx: IOContext, user: User) -> None:
        """Let one tick stall."""
        _refuse_outside(user)
        self.frame.exec_sync(self._stall)

    def on_pause(self, ctx: IOContext, user: User) -> None:
        """Pause the clock, for everyone."""
        _refuse_outside(user)
        self.frame.pause()
        self.frame.exec_async(self._show)

    def on_resume(self, ctx: IOContext, user: User) -> None:
        """Resume the clock."""
        _refuse_outside(user)
        self.frame.resume()
        self.frame.exec_async(self._show)

    def on_ticks(self, ctx: IOContext, user: User) -> FrameStatistics:
        """Reply with the room's statistics."""
        return self.frame.statistics()

    # Steps: on the tick thread, one at a time.

    def _tick(self, frame: Frame, game: Game) -> None:
        if game.stall:
            game.stall = False
            self.take_long(frame)
        game.field.step(frame.tick.dt)
        self._show(frame, game)

    def _enter(self, frame: Frame, game: Game, ctx: IOContext, user: User, nick: str) -> None:
        known = ctx in frame
        player = game.field.enter(ctx.connection_id, nick, watches=game.round is not None)
        user.player = player.nick
        frame.answer(ctx)
        if ctx not in frame:  # its connection has ended meanwhile
            game.field.leave(ctx.connection_id)
            return
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
        if known:  # otherwise on_join follows
            self._show_players(frame, game)

    def _leave(self, frame: Frame, game: Game, ctx: IOContext) -> None:
        game.field.leave(ctx.connection_id)
        if game.round is not None and not game.field.contended() and game.round.done():
            self._end_round(frame, game)
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
        """Push the picture; a slow page gets only the newest."""
        frame.push(frame.hub.marshal(picture(frame, game)), key="picture")


def picture(frame: Frame, game: Game) -> dict[str, object]:
    """Return the message with everything that the page draws."""
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
