"""The arena's rules: discs that move, bump and collect dots.

It is pure arithmetic: the same inputs always give the same field.  Lengths are in units of the
field, times in seconds.

Layer: top.  Threads: none; the caller owns the field.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import combinations
from math import hypot
from random import Random

from hubthread.demo.users import Refused, free_nick

__all__ = ["DOT_RADIUS", "HEIGHT", "MOST_PLAYERS", "RADIUS", "WIDTH", "Field", "Player"]

WIDTH, HEIGHT = 1000.0, 640.0
RADIUS = 24.0
"""The radius of a player's disc."""
DOT_RADIUS = 8.0
DOTS = 12
MOST_PLAYERS = 40
"""The limit of players; every tick compares each with each."""
SPEED = 340.0
"""Units a second that a player can reach by steering."""
TOP_SPEED = 700.0
"""Units a second that a bump can lead to."""
GRIP = 7.0
"""The share of the missing speed that a player gains per second."""
BOUNCE = 0.6
"""The share of the speed that a wall leaves."""
KICK = 120.0
"""Units a second that a bump adds to both discs."""


@dataclass
class Player:
    """One disc."""

    id: int
    nick: str
    x: float
    y: float
    vx: float = 0.0
    vy: float = 0.0
    wish_x: float = 0.0
    """The direction that the player steers to, from -1 to 1; so is ``wish_y``."""
    wish_y: float = 0.0
    score: int = 0
    watches: bool = False
    """True while it has no part in the round: it moves, but does not bump or collect dots."""


@dataclass
class Field:
    """All discs and dots.

    :param random: places new discs and dots.
    """

    random: Random = field(default_factory=Random)
    players: dict[int, Player] = field(default_factory=dict)
    """The players by id, oldest first."""
    dots: list[tuple[float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.dots = [self._place(DOT_RADIUS) for _ in range(DOTS)]

    def enter(self, player_id: int, nick: str, *, watches: bool) -> Player:
        """Add a disc and return it; a player that is already in only gets the new name.

        :raises Refused: if the field is full.
        """
        former = self.players.get(player_id)
        if former is None and len(self.players) >= MOST_PLAYERS:
            raise Refused(f"The arena is full: at most {MOST_PLAYERS} can play.")
        others = [each for each in self.players.values() if each is not former]
        nick = free_nick(nick, {each.nick.casefold() for each in others})
        if former is not None:
            former.nick = nick
            return former
        player = Player(player_id, nick, *self._place(RADIUS), watches=watches)
        self.players[player_id] = player
        return player

    def leave(self, player_id: int) -> None:
        """Remove a disc; ignore an unknown id."""
        self.players.pop(player_id, None)

    def steer(self, player_id: int, x: float, y: float) -> None:
        """Set the direction of a disc, shortened to the unit circle."""
        player = self.players.get(player_id)
        if player is not None:
            length = max(1.0, hypot(x, y))
            player.wish_x, player.wish_y = x / length, y / length

    def begin_round(self, ready: Collection[int]) -> None:
        """Begin a round with the players in ``ready``, from zero; the others watch."""
        for player in self.players.values():
            player.score = 0
            player.watches = player.id not in ready

    def end_round(self) -> list[tuple[str, int]]:
        """Let all players play again, from zero; return the nicks and scores, the best first."""
        ranking = [(each.nick, each.score) for each in self.players.values() if not each.watches]
        self.begin_round(set(self.players))
        return sorted(ranking, key=lambda each: -each[1])

    def contended(self) -> bool:
        """Return True if at least one player does not only watch."""
        return any(not player.watches for player in self.players.values())

    def step(self, dt: float) -> None:
        """Advance by ``dt`` seconds."""
        for player in self.players.values():
            _move(player, dt)
        playing = [player for player in self.players.values() if not player.watches]
        for one, other in combinations(playing, 2):
            _bump(one, other)
        for player in playing:
            self._collect(player)

    def _collect(self, player: Player) -> None:
        reach = RADIUS + DOT_RADIUS
        for number, (x, y) in enumerate(self.dots):
            if hypot(x - player.x, y - player.y) < reach:
                player.score += 1
                self.dots[number] = self._place(DOT_RADIUS)

    def _place(self, margin: float) -> tuple[float, float]:
        random = self.random
        return random.uniform(margin, WIDTH - margin), random.uniform(margin, HEIGHT - margin)


def _move(player: Player, dt: float) -> None:
    grip = min(1.0, GRIP * dt)
    player.vx += (player.wish_x * SPEED - player.vx) * grip
    player.vy += (player.wish_y * SPEED - player.vy) * grip
    player.x, player.vx = _in_walls(player.x + player.vx * dt, player.vx, WIDTH)
    player.y, player.vy = _in_walls(player.y + player.vy * dt, player.vy, HEIGHT)


def _in_walls(at: float, speed: float, size: float) -> tuple[float, float]:
    inside = min(max(at, RADIUS), size - RADIUS)
    return inside, speed if inside == at else -speed * BOUNCE


def _bump(one: Player, other: Player) -> None:
    """Push two overlapping discs apart and exchange their closing speed."""
    dx, dy = other.x - one.x, other.y - one.y
    distance = hypot(dx, dy)
    if distance >= 2 * RADIUS:
        return
    # Discs on the same spot may part in any direction.
    nx, ny = (dx / distance, dy / distance) if distance else (1.0, 0.0)
    apart = RADIUS - distance / 2
    closing = max(0.0, (one.vx - other.vx) * nx + (one.vy - other.vy) * ny)
    for player, sign in ((one, -1.0), (other, 1.0)):
        player.x = _in_walls(player.x + sign * nx * apart, 0.0, WIDTH)[0]
        player.y = _in_walls(player.y + sign * ny * apart, 0.0, HEIGHT)[0]
        gain = sign * (closing + (KICK if closing else 0.0))
        vx, vy = player.vx + gain * nx, player.vy + gain * ny
        brake = min(1.0, TOP_SPEED / hypot(vx, vy)) if vx or vy else 1.0
        player.vx, player.vy = vx * brake, vy * brake
