"""Patches of a state that changes in any way, applied to what members have."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Any, TypedDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubthread import WrongType
from hubthread.state.marks import Private, Round, Unsynced
from hubthread.state.patch import Patch, apply, merge
from hubthread.state.plan import plan_of
from hubthread.state.shadow import SAME, Difference, Shadow
from tests.state.vectors import FILE, vectors


class Team(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Point:
    x: Annotated[float, Round(1)] = 0.0
    y: float = 0.0


@dataclass
class Player:
    name: str
    at: Point = field(default_factory=Point)
    aim: Point | None = None
    team: Team = Team.RED
    bag: list[str] = field(default_factory=list)
    hand: Annotated[list[int], Private] = field(default_factory=list)
    gold: Annotated[int, Private] = 0
    secret: Annotated[Any, Unsynced] = None


class Score(TypedDict):
    red: int
    blue: int


@dataclass
class Table:
    round: int = 0
    players: dict[int, Player] = field(default_factory=dict)
    scores: Score = field(default_factory=lambda: Score(red=0, blue=0))
    log: list[str] = field(default_factory=list)
    names: dict[str, int | None] = field(default_factory=dict)
    free: dict[str, Any] = field(default_factory=dict)


class Members:
    """What members have: one without a record of its own, and the owner of each record."""

    def __init__(self, table: Table) -> None:
        self.table = table
        found = Difference()
        self.shadow: Shadow = plan_of(Table).make(table, found)
        self.public = self.sent(self.shadow.plain)
        self.own: dict[int, Any] = {}
        self.take(found)

    @staticmethod
    def sent(value: Any) -> Any:
        """Return a value after its way through JSON."""
        return json.loads(json.dumps(value))

    def step(self) -> bool:
        """Compare, and apply the patches; return True if there was anything to say."""
        found = Difference()
        said = self.shadow.diff(self.table, found, found.patch)
        if said is not SAME:
            merge(found.patch.sets, said)
        patch = self.sent(found.patch.fields())
        self.public = apply(self.public, patch)
        self.own = {owner: apply(state, patch) for owner, state in self.own.items()}
        self.take(found)
        return bool(patch) or any(found.private.values())

    def take(self, found: Difference) -> None:
        """Give owners what is theirs; an owner that is new begins with what all have."""
        for owner in self.table.players:
            if owner not in self.own:
                self.own[owner] = apply(self.public, self.sent(self.snapshot(owner).fields()))
        for owner, patch in found.private.items():
            self.own[owner] = apply(self.own[owner], self.sent(patch.fields()))

    def snapshot(self, owner: int) -> Patch:
        """Return the private fields of one owner."""
        found = Difference()
        self.shadow.collect({owner}, found)
        return found.private.get(owner, Patch())

    def check(self) -> None:
        """Compare what members have with the state."""
        assert self.public == seen(self.table, None)
        assert self.shadow.plain == self.public
        for owner in self.table.players:
            assert self.own[owner] == seen(self.table, owner)


def seen(table: Table, owner: int | None) -> Any:
    """Return the state as a member sees it, by the rules of the annotations."""

    def point(at: Point) -> Any:
        return {"x": round(at.x, 1), "y": at.y}

    players = {}
    for key, player in table.players.items():
        players[str(key)] = {
            "name": player.name,
            "at": point(player.at),
            "aim": None if player.aim is None else point(player.aim),
            "team": player.team.value,
            "bag": player.bag,
        }
        if key == owner:
            players[str(key)] |= {"hand": player.hand, "gold": player.gold}
    return {
        "round": table.round,
        "players": players,
        "scores": table.scores,
        "log": table.log,
        "names": table.names,
        "free": table.free,
    }


KEYS = st.integers(1, 3)
NUMBERS = st.floats(-10, 10).map(lambda x: round(x, 2))
FREE = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab"), inner, max_size=3),
    max_leaves=6,
)
MUTATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("round"), KEYS, st.integers()),
        st.tuples(st.just("join"), KEYS, st.text(max_size=3)),
        st.tuples(st.just("leave"), KEYS, st.none()),
        st.tuples(st.just("move"), KEYS, NUMBERS),
        st.tuples(st.just("aim"), KEYS, st.none() | NUMBERS),
        st.tuples(st.just("team"), KEYS, st.sampled_from(Team)),
        st.tuples(st.just("bag"), KEYS, st.lists(st.text("ab", max_size=1), max_size=3)),
        st.tuples(st.just("put"), KEYS, st.text("ab", max_size=1)),
        st.tuples(st.just("hand"), KEYS, st.lists(st.integers(1, 9), max_size=3)),
        st.tuples(st.just("gold"), KEYS, st.integers(0, 9)),
        st.tuples(st.just("secret"), KEYS, st.integers()),
        st.tuples(st.just("say"), KEYS, st.text(max_size=3)),
        st.tuples(st.just("name"), st.sampled_from("abc"), st.none() | st.integers(0, 2)),
        st.tuples(st.just("unname"), st.sampled_from("abc"), st.none()),
        st.tuples(st.just("free"), st.sampled_from("abc"), FREE),
        st.tuples(st.just("step"), KEYS, st.none()),
    ),
    max_size=40,
)


def mutate(table: Table, what: str, key: Any, value: Any) -> None:
    player = table.players.get(key)
    if what == "round":
        table.round = value
    elif what == "join":
        table.players[key] = Player(value, hand=[1], gold=2)
    elif what == "leave":
        table.players.pop(key, None)
    elif what == "say":
        table.log.append(value)
    elif what == "name":
        table.names[key] = value
    elif what == "unname":
        table.names.pop(key, None)
    elif what == "free":
        table.free[key] = value
    elif player is not None:
        if what == "move":
            player.at.x += value
            table.scores["red"] += 1
        elif what == "aim":
            player.aim = None if value is None else Point(value, value)
        elif what == "put":
            player.bag.append(value)
        else:
            setattr(player, what, value)


@given(MUTATIONS)
def test_patches_applied_equal_the_state(mutations: list[tuple[str, Any, Any]]) -> None:
    members = Members(Table())
    for what, key, value in mutations:
        if what == "step":
            members.step()
            members.check()
            assert not members.step()
        else:
            mutate(members.table, what, key, value)
    members.step()
    members.check()


def test_vectors_of_all_clients_are_those_of_the_script() -> None:
    """And they apply here as they do in JavaScript, to a copy."""
    cases = json.loads(FILE.read_text(encoding="utf-8"))
    assert cases == vectors()
    for case, kept in zip(cases, vectors(), strict=True):
        assert apply(case["before"], case["patch"]) == case["after"]
        assert case["before"] == kept["before"]


def patch_after(table: Any, change: Any) -> dict[str, Any]:
    """Return the patch for all members after a change."""
    found = Difference()
    shadow = plan_of(type(table)).make(table, found)
    change()
    found = Difference()
    said = shadow.diff(table, found, found.patch)
    if said is not SAME:
        merge(found.patch.sets, said)
    return found.patch.fields()


def test_patch_names_only_what_has_changed() -> None:
    table = Table(players={1: Player("Ada"), 2: Player("Bob")}, log=["one"])

    def change() -> None:
        table.players[1].at.x = 3.04
        table.players[1].secret = table
        table.log.append("two")
        del table.players[2]

    assert patch_after(table, change) == {
        "del": [["players", "2"]],
        "set": {"players": {"1": {"at": {"x": 3.0}}}},
        "add": [(["log"], ["two"])],
    }


def test_change_below_the_rounding_is_not_sent() -> None:
    table = Table(players={1: Player("Ada", Point(1.0))})

    def change() -> None:
        table.players[1].at.x = 1.04

    assert patch_after(table, change) == {}


def test_number_without_a_word_in_json_is_null() -> None:
    table = Table(players={1: Player("Ada")})

    def change() -> None:
        table.players[1].at.y = math.nan
        table.players[1].at.x = math.inf

    assert patch_after(table, change)["set"]["players"]["1"]["at"] == {"x": None, "y": None}


def test_private_fields_are_in_no_patch_for_all() -> None:
    table = Table()

    def change() -> None:
        table.players[7] = Player("Ada", hand=[1, 2], gold=5)

    text = json.dumps(patch_after(table, change))
    assert "hand" not in text
    assert "gold" not in text


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda table: setattr(table, "players", [1]), "players"),
        (lambda table: table.players.update({1: "Ada"}), "players.1"),
        (lambda table: table.free.update(a=object()), "free.a"),
        (lambda table: setattr(table, "log", "text"), "log"),
    ],
)
def test_value_of_another_type_is_refused_with_its_place(change: Any, place: str) -> None:
    table = Table()
    with pytest.raises(WrongType, match=f"state: {place}: expected"):
        patch_after(table, lambda: change(table))


def test_free_value_in_itself_is_refused() -> None:
    circle: dict[str, Any] = {}
    circle["a"] = circle
    with pytest.raises(WrongType, match="nested deeper"):
        plan_of(dict).make(circle, Difference())
