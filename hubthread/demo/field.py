"""The arena's rules: how discs move and bump, and who gets a dot.

Layer: top.  Threads: none of its own; a field belongs to whoever steps it.

Arithmetic on what it is given, and nothing else: the same inputs give the same field, every
time.  Lengths are in units of the field, times in seconds.
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
"""Of a player's disc."""
DOT_RADIUS = 8.0
DOTS = 12
MOST_PLAYERS = 40
"""Each is held against each in every tick."""
SPEED = 340.0
"""Where a player's wish leads, units a second."""
TOP_SPEED = 700.0
"""No bump makes anybody faster."""
GRIP = 7.0
"""How quickly a wish becomes movement: the share of what is missing, a second."""
BOUNCE = 0.6
"""What a wall leaves of the speed."""
KICK = 120.0
"""Units a second that a bump adds to each of the two."""


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
    """Where it wants to go, -1 to 1, as the next."""
    wish_y: float = 0.0
    score: int = 0
    watches: bool = False
    """Not in the round that is on: it moves, but bumps nobody and gets no dots."""


@dataclass
class Field:
    """All discs and dots.

    :param random: decides where things appear.
    """

    random: Random = field(default_factory=Random)
    players: dict[int, Player] = field(default_factory=dict)
    """By id, in the order of coming."""
    dots: list[tuple[float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.dots = [self._place(DOT_RADIUS) for _ in range(DOTS)]

    def enter(self, player_id: int, nick: str, *, watches: bool) -> Player:
        """A new disc; who is in already only gets another name.

        :raises Refused: when the field is full.
        """
        former = self.players.get(player_id)
        if former is None and len(self.players) >= MOST_PLAYERS:
            raise Refused(f"The arena is full: {MOST_PLAYERS} play already.")
        others = [each for each in self.players.values() if each is not former]
        nick = free_nick(nick, {each.nick.casefold() for each in others})
        if former is not None:
            former.nick = nick
            return former
        player = Player(player_id, nick, *self._place(RADIUS), watches=watches)
        self.players[player_id] = player
        return player

    def leave(self, player_id: int) -> None:
        """A disc goes, if it is there."""
        self.players.pop(player_id, None)

    def steer(self, player_id: int, x: float, y: float) -> None:
        """Where a disc wants to go: no further than a unit circle allows."""
        player = self.players.get(player_id)
        if player is not None:
            length = max(1.0, hypot(x, y))
            player.wish_x, player.wish_y = x / length, y / length

    def begin_round(self, ready: Collection[int]) -> None:
        """From now on those who are ready play, from zero; the others watch."""
        for player in self.players.values():
            player.score = 0
            player.watches = player.id not in ready

    def end_round(self) -> list[tuple[str, int]]:
        """Everybody plays again, from zero; who had which score, the best first."""
        ranking = [(each.nick, each.score) for each in self.players.values() if not each.watches]
        self.begin_round(set(self.players))
        return sorted(ranking, key=lambda each: -each[1])

    def contended(self) -> bool:
        """Whether somebody is playing, and not only watching."""
        return any(not player.watches for player in self.players.values())

    def step(self, dt: float) -> None:
        """Move on by ``dt`` seconds."""
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
    """Two discs that overlap are pushed apart; what they run at each other with is swapped."""
    dx, dy = other.x - one.x, other.y - one.y
    distance = hypot(dx, dy)
    if distance >= 2 * RADIUS:
        return
    # On the very same spot any way apart is as good as another.
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
