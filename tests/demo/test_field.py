"""The arena's rules, which are pure arithmetic."""

from __future__ import annotations

from math import hypot
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubthread.demo import field as rules
from hubthread.demo.field import TOP_SPEED, Disc, Dot, Field, Rules
from hubthread.demo.users import Refused

DT = 0.05
RULES = Rules(width=1000.0, height=640.0)
WIDTH, HEIGHT, RADIUS, DOT_RADIUS = RULES.width, RULES.height, RULES.radius, RULES.dot

IDS = st.integers(-2, 5).filter(bool)
WISHES = st.floats(-1, 1)
STEPS = st.one_of(
    st.tuples(st.just("enter"), IDS),
    st.tuples(st.just("leave"), IDS),
    st.tuples(st.just("steer"), IDS, WISHES, WISHES),
    st.tuples(st.just("step")),
    st.tuples(st.just("bots"), st.integers(0, 9)),
    st.tuples(st.just("begin"), st.frozensets(IDS)),
    st.tuples(st.just("end")),
)


def do(field: Field, kind: str, *more: object) -> None:
    match kind, more:
        case "enter", (int(player),):
            field.enter(player, "ada", watches=False)
        case "leave", (int(player),):
            field.leave(player)
        case "steer", (int(player), float(x), float(y)):
            field.steer(player, x, y)
        case "begin", (frozenset() as ready,):
            field.begin_round(ready)
        case "end", ():
            field.end_round()
        case "bots", (int(tick),):
            field.steer_bots(tick)
        case _:
            field.step(DT)


def begun(seed: int) -> Field:
    """Return a field with dots."""
    field = Field(RULES)
    field.begin(Random(seed))
    return field


def alone(seed: int = 1) -> tuple[Field, Disc]:
    """Return a field without dots, and a disc in its middle."""
    field = Field(RULES, random=Random(seed))
    field.enter(1, "ada", watches=False)
    disc = field.discs[1]
    disc.x, disc.y = WIDTH / 2, HEIGHT / 2
    return field, disc


def with_another(x: float, y: float) -> tuple[Field, Disc, Disc]:
    """Return a field without dots, with a second disc at a distance from the first."""
    field, ada = alone()
    field.enter(2, "grace", watches=False)
    grace = field.discs[2]
    grace.x, grace.y = ada.x + x, ada.y + y
    return field, ada, grace


@given(st.lists(STEPS, max_size=60), st.integers())
def test_field_any_steps_keep_invariants(steps: list[tuple[str, object]], seed: int) -> None:
    field = begun(seed)
    count = len(field.dots)
    for step in steps:
        before = sum(player.score for player in field.players.values())
        dots = list(field.dots.values())
        do(field, *step)
        assert field.discs.keys() == field.players.keys()
        for disc in field.discs.values():
            assert RADIUS <= disc.x <= WIDTH - RADIUS
            assert RADIUS <= disc.y <= HEIGHT - RADIUS
            assert hypot(disc.vx, disc.vy) <= TOP_SPEED + 1e-6
            assert hypot(disc.wish_x, disc.wish_y) <= 1 + 1e-9
        nicks = [player.nick.casefold() for player in field.players.values()]
        assert len(set(nicks)) == len(nicks)
        assert len(field.dots) == count
        for dot in field.dots.values():
            assert DOT_RADIUS <= dot.x <= WIDTH - DOT_RADIUS
            assert DOT_RADIUS <= dot.y <= HEIGHT - DOT_RADIUS
        if step[0] == "step":
            # One point for each dot; a new dot may appear where the next disc collects it.
            now = field.dots.values()
            moved = sum(one != other for one, other in zip(dots, now, strict=True))
            gained = sum(player.score for player in field.players.values()) - before
            assert (gained > 0) == (moved > 0)
            assert gained >= moved


@given(st.lists(STEPS, max_size=60), st.integers())
def test_field_same_inputs_give_same_field(steps: list[tuple[str, object]], seed: int) -> None:
    one, other = begun(seed), begun(seed)
    for step in steps:
        do(one, *step)
        do(other, *step)
    assert (one.players, one.discs) == (other.players, other.discs)
    assert one.dots == other.dots


def test_field_disc_follows_steering_and_stops() -> None:
    field, ada = alone()
    field.steer(1, 1, 0)
    for _ in range(10):
        field.step(DT)
    assert ada.x > WIDTH / 2 + 100
    assert ada.y == HEIGHT / 2
    field.steer(1, 0, 0)
    for _ in range(100):
        field.step(DT)
    assert hypot(ada.vx, ada.vy) < 1e-3


def test_field_diagonal_is_not_faster() -> None:
    field, ada = alone()
    field.steer(1, 1, 1)
    for _ in range(10):
        field.step(DT)
    across = hypot(ada.x - WIDTH / 2, ada.y - HEIGHT / 2)
    field, ada = alone()
    field.steer(1, 1, 0)
    for _ in range(10):
        field.step(DT)
    assert across == pytest.approx(ada.x - WIDTH / 2)


def test_field_wall_reverses_speed() -> None:
    field, ada = alone()
    ada.x, ada.vx = RADIUS + 1, -300.0
    field.step(DT)
    assert ada.x == RADIUS
    assert ada.vx > 0


@given(st.floats(-40, 40), st.floats(-40, 40))
def test_field_overlapping_discs_are_pushed_apart(x: float, y: float) -> None:
    field, ada, grace = with_another(x, y)
    field.step(DT)
    assert hypot(grace.x - ada.x, grace.y - ada.y) >= 2 * RADIUS - 1e-6


def test_field_bump_exchanges_speed() -> None:
    field, ada, grace = with_another(2 * RADIUS + 5, 0)
    ada.vx = 300.0
    field.step(DT)
    assert ada.vx < 0 < grace.vx
    assert grace.vx > 200


def test_field_bump_is_limited_to_top_speed() -> None:
    field, ada, grace = with_another(2 * RADIUS + 5, 0)
    ada.vx = 1000.0
    field.step(DT)
    assert grace.vx == TOP_SPEED


def test_field_bump_keeps_discs_inside() -> None:
    field, ada, grace = with_another(0, 0)
    ada.x, grace.x = RADIUS, RADIUS + 10
    ada.y = grace.y = HEIGHT - RADIUS
    field.step(DT)
    assert (ada.x, ada.y) == (RADIUS, HEIGHT - RADIUS)
    assert grace.x > RADIUS + 10


def test_field_dot_scores_and_moves() -> None:
    field, ada = alone()
    field.dots = {0: Dot(ada.x + RADIUS, ada.y)}
    field.step(DT)
    assert field.players[1].score == 1
    assert field.dots != {0: Dot(ada.x + RADIUS, ada.y)}


def test_field_watcher_bumps_and_scores_nothing() -> None:
    field, ada, grace = with_another(10, 0)
    field.begin_round({1})
    assert [each.watches for each in field.players.values()] == [False, True]
    field.dots = {0: Dot(grace.x + RADIUS, grace.y)}
    before = grace.x
    field.steer(2, 1, 0)
    field.step(DT)
    assert grace.x > before
    assert ada.x == WIDTH / 2
    assert [each.score for each in field.players.values()] == [0, 0]


def test_field_round_ranks_scores_from_zero_and_bots_play() -> None:
    field, *_ = with_another(200, 0)
    field.enter(3, "eve", watches=True)
    field.enter(-1, "bot", watches=False)
    ada, grace, _, bot = field.players.values()
    ada.score = 9
    field.begin_round({1, 2})
    assert ada.score == 0
    grace.score, bot.score = 2, 1
    assert field.end_round() == [("grace", 2), ("bot", 1), ("ada", 0)]
    assert all(not each.watches and each.score == 0 for each in field.players.values())


def test_field_bot_goes_for_the_nearest_dot() -> None:
    field, *_ = alone()
    field.enter(-1, "bot", watches=False)
    bot = field.discs[-1]
    bot.x, bot.y = 100, 100
    field.dots = {0: Dot(400, 100), 1: Dot(100, 250)}
    field.look()
    for tick in range(rules.THOUGHT):
        field.steer_bots(tick)
    assert (bot.wish_x, bot.wish_y) == (0, 1)


def test_field_contended_until_last_player_leaves() -> None:
    field, *_ = with_another(200, 0)
    field.enter(-1, "bot", watches=False)
    field.begin_round({1})
    assert field.contended()
    field.leave(1)
    assert not field.contended()


def test_field_enter_again_renames_player() -> None:
    field, *_ = with_another(200, 0)
    ada = field.players[1]
    ada.score = 3
    assert field.enter(1, "GRACE", watches=True) is ada
    assert (ada.nick, ada.score, ada.watches) == ("GRACE-2", 3, False)
    assert field.enter(1, "GRACE-2", watches=False).nick == "GRACE-2"


def test_field_full_refuses_new_player(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rules, "MOST_PEOPLE", 2)
    field, *_ = with_another(200, 0)
    with pytest.raises(Refused, match="at most 2 can play"):
        field.enter(3, "eve", watches=False)
    field.enter(-1, "bot", watches=False)
    assert list(field.players) == [1, 2, -1]
    assert field.enter(2, "eve", watches=False).nick == "eve"


def test_field_steer_unknown_player_does_nothing() -> None:
    field, _ = alone()
    field.steer(7, 1, 1)
    field.leave(7)
    assert list(field.players) == [1]
