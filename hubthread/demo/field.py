"""The arena's rules: discs that move, bump and collect dots.

It is pure arithmetic: the same inputs always give the same field.  Lengths are in units of the
field, times in seconds.  The annotations say what the players' pages get.

Layer: top.  Threads: none; the caller owns the field.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from math import hypot
from random import Random
from typing import Annotated

from hubthread import Grid, Round, Unsynced
from hubthread.demo.users import Refused, free_nick

__all__ = ["MOST_PEOPLE", "TOP_SPEED", "Disc", "Dot", "Field", "Player", "Rules"]

DOT_SPACE = 64_000.0
"""Square units for each dot."""
MOST_PEOPLE = 50
TOP_SPEED = 700.0
"""Units a second that a bump can lead to."""
KICK = 120.0
"""Units a second that a bump adds to both discs."""
CELL = 200.0
SIGHT = 500.0
"""The distance at which a bot sees a dot."""
THOUGHT = 5
"""Ticks between two decisions of a bot."""


@dataclass(frozen=True)
class Rules:
    """The numbers that a page needs to draw the field, and to move its own disc ahead."""

    hz: int = 20
    """Ticks a second."""
    width: float = 2400.0
    height: float = 1600.0
    screen_width: float = 1000.0
    """Units that a page shows; so is ``screen_height``."""
    screen_height: float = 640.0
    radius: float = 24.0
    """The radius of a player's disc."""
    dot: float = 8.0
    """The radius of a dot."""
    speed: float = 340.0
    """Units a second that a player can reach by steering."""
    grip: float = 7.0
    """The share of the missing speed that a player gains per second."""
    bounce: float = 0.6
    """The share of the speed that a wall leaves."""


@dataclass
class Player:
    """One player, as all see it."""

    nick: str
    score: int = 0
    watches: bool = False
    """True while it has no part in the round: it moves, but does not bump or collect dots."""
    ready: bool = False
    """True if it has said so, while all are asked."""


@dataclass
class Disc:
    """The disc of a player, as those near it see it."""

    x: Annotated[float, Round(1)]
    y: Annotated[float, Round(1)]
    vx: Annotated[float, Round(1)] = 0.0
    vy: Annotated[float, Round(1)] = 0.0
    wish_x: Annotated[float, Unsynced] = 0.0
    """The direction that the player steers to, from -1 to 1; so is ``wish_y``."""
    wish_y: Annotated[float, Unsynced] = 0.0


@dataclass
class Dot:
    """A dot that a disc may collect."""

    x: Annotated[float, Round(0)]
    y: Annotated[float, Round(0)]


@dataclass
class Field:
    """All players, discs and dots.  Players are numbered; those below zero are bots."""

    rules: Rules = field(default_factory=Rules)
    players: dict[int, Player] = field(default_factory=dict)
    """The players by number, oldest first."""
    discs: dict[int, Disc] = field(default_factory=dict)
    dots: dict[int, Dot] = field(default_factory=dict)
    random: Annotated[Random, Unsynced] = field(default_factory=Random)
    """Places new discs and dots."""
    disc_grid: Annotated[Grid[int], Unsynced] = field(default_factory=lambda: Grid(CELL))
    dot_grid: Annotated[Grid[int], Unsynced] = field(default_factory=lambda: Grid(CELL))

    def begin(self, random: Random, bots: int = 0) -> None:
        """Place the dots and the bots."""
        self.random = random
        rules = self.rules
        count = max(1, round(rules.width * rules.height / DOT_SPACE))
        self.dots = {number: Dot(*self._place(rules.dot)) for number in range(count)}
        for number in range(1, bots + 1):
            self.enter(-number, f"Bot {number}", watches=False)
        self.look()

    def enter(self, number: int, nick: str, *, watches: bool) -> Player:
        """Add a player and return it; a player that is already in only gets the new name.

        :raises Refused: if the field is full.
        """
        former = self.players.get(number)
        if former is None and number > 0 and self.people >= MOST_PEOPLE:
            raise Refused(f"The arena is full: at most {MOST_PEOPLE} can play.")
        others = [each for each in self.players.values() if each is not former]
        nick = free_nick(nick, {each.nick.casefold() for each in others})
        if former is not None:
            former.nick = nick
            return former
        player = self.players[number] = Player(nick, watches=watches)
        self.discs[number] = Disc(*self._place(self.rules.radius))
        return player

    def leave(self, number: int) -> None:
        """Remove a player; ignore an unknown number."""
        self.players.pop(number, None)
        self.discs.pop(number, None)

    @property
    def people(self) -> int:
        """The number of players that are no bots."""
        return sum(number > 0 for number in self.players)

    def steer(self, number: int, x: float, y: float) -> None:
        """Set the direction of a disc, shortened to the unit circle."""
        disc = self.discs.get(number)
        if disc is not None:
            length = max(1.0, hypot(x, y))
            disc.wish_x, disc.wish_y = x / length, y / length

    def steer_bots(self, tick: int) -> None:
        """Let the bots whose turn it is go for the nearest dot."""
        for number, disc in self.discs.items():
            if number < 0 and (tick + number) % THOUGHT == 0:
                x, y = disc.x, disc.y
                seen = [self.dots[key] for key in self.dot_grid.near(x, y, SIGHT)]
                to = min(seen, key=lambda dot: hypot(dot.x - x, dot.y - y), default=None)
                if to is not None:
                    self.steer(number, (to.x - x) / 50, (to.y - y) / 50)

    def begin_round(self, ready: Collection[int]) -> None:
        """Begin a round with the players in ``ready`` and the bots, from zero; others watch."""
        for number, player in self.players.items():
            player.score = 0
            player.ready = False
            player.watches = number > 0 and number not in ready

    def end_round(self) -> list[tuple[str, int]]:
        """Let all players play again, from zero; return the nicks and scores, the best first."""
        ranking = [(each.nick, each.score) for each in self.players.values() if not each.watches]
        self.begin_round(set(self.players))
        return sorted(ranking, key=lambda each: -each[1])

    def contended(self) -> bool:
        """Return True if at least one of the people does not only watch."""
        return any(n > 0 and not player.watches for n, player in self.players.items())

    def step(self, dt: float) -> None:
        """Advance by ``dt`` seconds."""
        for disc in self.discs.values():
            _move(disc, dt, self.rules)
        self.look()
        playing = {n: self.discs[n] for n, each in self.players.items() if not each.watches}
        reach = 2 * self.rules.radius
        for number, disc in playing.items():
            for other in self.disc_grid.near(disc.x, disc.y, reach):
                if other > number and other in playing:
                    _bump(disc, playing[other], self.rules)
        reach = self.rules.radius + self.rules.dot
        for number, disc in playing.items():
            for key in self.dot_grid.near(disc.x, disc.y, reach):
                dot = self.dots[key]
                if hypot(dot.x - disc.x, dot.y - disc.y) < reach:  # nobody else has had it
                    self.players[number].score += 1
                    self.dots[key] = Dot(*self._place(self.rules.dot))

    def look(self) -> None:
        """Note where everything is, for bumps, bots and views."""
        self.disc_grid.fill((number, each.x, each.y) for number, each in self.discs.items())
        self.dot_grid.fill((number, each.x, each.y) for number, each in self.dots.items())

    def _place(self, margin: float) -> tuple[float, float]:
        random, rules = self.random, self.rules
        x = random.uniform(margin, rules.width - margin)
        return x, random.uniform(margin, rules.height - margin)


def _move(disc: Disc, dt: float, rules: Rules) -> None:
    grip = min(1.0, rules.grip * dt)
    disc.vx += (disc.wish_x * rules.speed - disc.vx) * grip
    disc.vy += (disc.wish_y * rules.speed - disc.vy) * grip
    disc.x, disc.vx = _in_walls(disc.x + disc.vx * dt, disc.vx, rules.width, rules)
    disc.y, disc.vy = _in_walls(disc.y + disc.vy * dt, disc.vy, rules.height, rules)


def _in_walls(at: float, speed: float, size: float, rules: Rules) -> tuple[float, float]:
    inside = min(max(at, rules.radius), size - rules.radius)
    return inside, speed if inside == at else -speed * rules.bounce


def _bump(one: Disc, other: Disc, rules: Rules) -> None:
    """Push two overlapping discs apart and exchange their closing speed."""
    dx, dy = other.x - one.x, other.y - one.y
    distance = hypot(dx, dy)
    if distance >= 2 * rules.radius:
        return
    # Discs on the same spot may part in any direction.
    nx, ny = (dx / distance, dy / distance) if distance else (1.0, 0.0)
    apart = rules.radius - distance / 2
    closing = max(0.0, (one.vx - other.vx) * nx + (one.vy - other.vy) * ny)
    for disc, sign in ((one, -1.0), (other, 1.0)):
        disc.x = _in_walls(disc.x + sign * nx * apart, 0.0, rules.width, rules)[0]
        disc.y = _in_walls(disc.y + sign * ny * apart, 0.0, rules.height, rules)[0]
        gain = sign * (closing + (KICK if closing else 0.0))
        vx, vy = disc.vx + gain * nx, disc.vy + gain * ny
        brake = min(1.0, TOP_SPEED / hypot(vx, vy)) if vx or vy else 1.0
        disc.vx, disc.vy = vx * brake, vy * brake
