"""Decoded JSON to typed values: values that fit, and the errors of values that do not."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag, IntEnum
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    Optional,
    TypedDict,
    TypeVar,
)
from uuid import UUID

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubthread.errors import PayloadError
from hubthread.matcher.compile import convert, marshal_json, unmarshal_json

if sys.version_info >= (3, 11):
    from typing import NotRequired, Required
else:
    from typing_extensions import NotRequired, Required

T = TypeVar("T")
PlayerId = NewType("PlayerId", int)


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1
    HIGH = 3


class Right(Flag):
    READ = 1
    WRITE = 2


@dataclass(frozen=True)
class Point:
    x: int
    y: float = 0.0


@dataclass
class Move:
    player: Point
    path: list[Point] = field(default_factory=list)
    note: str | None = None


@dataclass
class Tree:
    """A type that contains itself, once directly and once in a list."""

    value: int
    parent: Tree | None = None
    children: list[Tree] = field(default_factory=list)


@dataclass
class Percent:
    """A type that checks its values."""

    value: int
    doubled: int = field(init=False)

    def __post_init__(self) -> None:
        if not 0 <= self.value <= 100:
            raise ValueError(f"{self.value} is not from 0 to 100")
        self.doubled = self.value * 2


class Chat(TypedDict):
    text: str
    room: NotRequired[str]


class Loose(TypedDict, total=False):
    text: Required[str]
    size: int


class Cell(NamedTuple):
    x: int
    when: date | None = None


@dataclass
class Page(Generic[T]):
    items: list[T]
    after: Page[T] | None = None


@dataclass
class Named(Page[Cell]):
    title: str = ""


@attrs.define
class Score:
    _points: int
    by: frozenset[str] = frozenset()

    def __attrs_post_init__(self) -> None:
        if self._points > 100:
            raise TypeError("more than 100 points")


@dataclass
class Circle:
    kind: Literal["circle"]
    size: int


@dataclass
class Group:
    kind: Literal["group", "row"]
    of: list[Circle | Group]


class Dot(TypedDict):
    kind: Literal[0]


Shape = Circle | Group | Dot

# The type, a value in JSON and the same value in Python: read and written.
TYPES: list[tuple[Any, Any, Any]] = [
    (Any, {"a": [1]}, {"a": [1]}),
    (object, None, None),
    (int, -3, -3),
    (int, 10**30, 10**30),
    (bool, False, False),
    (str, "é", "é"),
    (float, 1.5, 1.5),
    (None, None, None),
    (list, [1, "a"], [1, "a"]),
    (list[int], [], []),
    (list[list[bool]], [[True], []], [[True], []]),
    (Sequence[int], [1], [1]),
    (tuple, [1, "a"], (1, "a")),
    (tuple[int, ...], [1, 2, 3], (1, 2, 3)),
    (tuple[int, str], [1, "a"], (1, "a")),
    (set[int], [1], {1}),
    (set, ["a"], {"a"}),
    (frozenset[tuple[int, date]], [[1, "2026-01-31"]], frozenset({(1, date(2026, 1, 31))})),
    (dict, {"a": 1}, {"a": 1}),
    (dict[str, list[int]], {"a": [1]}, {"a": [1]}),
    (Mapping[str, int], {"a": 1}, {"a": 1}),
    (dict[int, str], {"-1": "a"}, {-1: "a"}),
    (dict[float, str], {"1.5": "a"}, {1.5: "a"}),
    (dict[PlayerId, set[int]], {"7": [1]}, {7: {1}}),
    (dict[date, int], {"2026-01-31": 1}, {date(2026, 1, 31): 1}),
    (dict[Decimal, Decimal], {"1.50": "2"}, {Decimal("1.50"): Decimal(2)}),
    (dict[Colour, Level], {"red": 3}, {Colour.RED: Level.HIGH}),
    (dict[Level, int], {"3": 1}, {Level.HIGH: 1}),
    (dict[Literal["a"], int], {"a": 1}, {"a": 1}),
    (Optional[int], None, None),  # noqa: UP045  (typing.Union differs from |)
    (int | str, "a", "a"),
    (bool | int, True, True),
    (int | list[int] | dict[str, int] | None, [1], [1]),
    (Point | Any, {"x": "any"}, {"x": "any"}),
    (Literal["a", 1, None], 1, 1),
    (Literal[1] | bool, True, True),
    (Literal[Colour.RED, 7], "red", Colour.RED),
    (Colour, "red", Colour.RED),
    (Level, 3, Level.HIGH),
    (str | Colour, "red", Colour.RED),
    (str | Colour, "green", "green"),
    (Right, 3, Right.READ | Right.WRITE),
    (dict[Right, None], {"0": None}, {Right(0): None}),
    (Annotated[int, "any note"], 1, 1),
    (PlayerId, 7, 7),
    (Point, {"x": 1, "y": 2.5}, Point(1, 2.5)),
    (Point | None, None, None),
    (Move, {"player": {"x": 1, "y": 0.0}, "path": [], "note": None}, Move(Point(1))),
    (
        Tree,
        {"value": 1, "parent": {"value": 2, "parent": None, "children": []}, "children": []},
        Tree(1, Tree(2)),
    ),
    (Chat, {"text": "a", "room": "b"}, {"text": "a", "room": "b"}),
    (Loose, {"text": "a"}, {"text": "a"}),
    (Cell, [1, "2026-01-31"], Cell(1, date(2026, 1, 31))),
    (Page[int], {"items": [1], "after": {"items": [], "after": None}}, Page([1], Page([]))),
    (Named, {"items": [[1, None]], "after": None, "title": "a"}, Named([Cell(1)], None, "a")),
    (Score, {"_points": 1, "by": ["a"]}, Score(1, frozenset({"a"}))),
    (Shape, {"kind": "circle", "size": 1}, Circle("circle", 1)),
    (
        Shape | None | int,
        {"kind": "row", "of": [{"kind": "circle", "size": 1}]},
        Group("row", [Circle("circle", 1)]),
    ),
    (Shape, {"kind": 0}, {"kind": 0}),
]

# Values that are not written the way they are read.
READ: list[tuple[Any, Any, Any]] = [
    (Point, {"x": 1, "unknown": None}, Point(1)),
    (Move, {"player": {"x": 1}, "path": [{"x": 2}]}, Move(Point(1), [Point(2)])),
    (Tree, {"value": 1, "children": [{"value": 2}]}, Tree(1, None, [Tree(2)])),
    (Percent, {"value": 50, "doubled": 3}, Percent(50)),
    (Chat, {"text": "a", "unknown": 1}, {"text": "a"}),
    (Cell, [1], Cell(1)),
    (Score, {"_points": 1}, Score(1)),
    (set[int], [1, 1], {1}),
]

REFUSED: list[tuple[Any, Any, str]] = [
    (int, "1", "$: expected int, got str"),
    (int, True, "$: expected int, got bool"),
    (int, 3.0, "$: expected int, got float"),
    (bool, 1, "$: expected bool, got int"),
    (str, None, "$: expected str, got None"),
    (None, 0, "$: expected None, got int"),
    (float, "1.5", "$: expected float, got str"),
    (float, True, "$: expected float, got bool"),
    (float, float("nan"), "$: expected a finite number"),
    (float, 10**400, "$: the number is too large for a float"),
    (list[int], {"a": 1}, "$: expected list, got dict"),
    (list[list[int]], [[1], [2, None]], "$[1][1]: expected int, got None"),
    (tuple[int, str], [1], "$: expected 2 items, got 1"),
    (tuple[int, str], [1, 2], "$[1]: expected str, got int"),
    (Cell, [], "$: expected 1 to 2 items, got 0"),
    (Cell, ["a"], "$[0]: expected int, got str"),
    (set, [[]], "$: not a set: unhashable type: 'list'"),
    (set[int], [1, "a"], "$[1]: expected int, got str"),
    (tuple[int, ...], "abc", "$: expected list, got str"),
    (dict[str, int], [], "$: expected dict, got list"),
    (dict[str, int], {"a b": "c"}, "$['a b']: expected int, got str"),
    (dict[int, str], {"01": "a"}, "$['01']: expected int as text, got another str"),
    (dict[int, str], {"a": "a"}, "$.a: expected int as text, got another str"),
    (dict[float, int], {"nan": 1}, "$.nan: expected a finite number"),
    (dict[float, int], {"1": 1, "1.0": 1}, "$['1.0']: the same key again, in another form"),
    (dict[Level, int], {"2": 1}, "$['2']: expected one of 1, 3, got another int"),
    (dict[int, int], {"1": "a"}, "$['1']: expected int, got str"),
    (int | str, 1.5, "$: expected int or str, got float"),
    (int | None, "a", "$: expected int or None, got str"),
    (int | list[Point], [{"x": "a"}], "$[0].x: expected int, got str"),
    (Literal["a", 1], True, "$: expected one of 'a', 1, got bool"),
    (Literal["a", 1], "b", "$: expected one of 'a', 1, got another str"),
    (Literal[0] | Colour, "b", "$: expected one of 'red', 'blue', got another str"),
    (Literal["a"] | Colour, "b", "$: expected one of 'a' or one of 'red', 'blue', got str"),
    (Level, True, "$: expected one of 1, 3, got bool"),
    (Level, 2, "$: expected one of 1, 3, got another int"),
    (Right, 4, "$: expected a sum of 1, 2, got another int"),
    (Right, -1, "$: expected a sum of 1, 2, got another int"),
    (Right, "1", "$: expected a sum of 1, 2, got str"),
    (Point, {"x": 1, "y": "a"}, "$.y: expected float, got str"),
    (Point, {"y": 1}, "$: the field 'x' is missing"),
    (Move, {"player": {"x": "a"}}, "$.player.x: expected int, got str"),
    (Move, {"player": {"x": 1}, "path": [{}]}, "$.path[0]: the field 'x' is missing"),
    (
        Tree,
        {"value": 1, "children": [{"value": None}]},
        "$.children[0].value: expected int, got None",
    ),
    (Page[int], {"items": ["a"]}, "$.items[0]: expected int, got str"),
    (Named, {"items": [], "title": 1}, "$.title: expected str, got int"),
    (Score, {"_points": 101}, "$: not a Score: more than 100 points"),
    (Shape, {"size": 1}, "$: the field 'kind' is missing"),
    (Shape, {"kind": "x"}, "$.kind: expected one of 'circle', 'group', 'row', 0, got another str"),
    (Shape, {"kind": []}, "$.kind: expected one of 'circle', 'group', 'row', 0, got list"),
    (Shape, {"kind": False}, "$.kind: expected one of 'circle', 'group', 'row', 0, got bool"),
    (
        Shape,
        {"kind": "row", "of": [{"kind": 0}]},
        "$.of[0].kind: expected one of 'circle', 'group', 'row', got int",
    ),
    (Shape, [], "$: expected dict, got list"),
    (Percent, {"value": 101}, "$: not a Percent: 101 is not from 0 to 100"),
    (Chat, {"room": "b"}, "$: the field 'text' is missing"),
    (Chat, {"text": 1}, "$.text: expected str, got int"),
    (Loose, {}, "$: the field 'text' is missing"),
]


@pytest.mark.parametrize(("into", "value", "expected"), [*TYPES, *READ])
def test_convert_fitting_value_has_the_right_type(into: Any, value: Any, expected: Any) -> None:
    """Each kind of target makes the right value, of exactly the right type."""
    found = convert(value, into)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(("into", "value", "expected"), TYPES)
def test_marshal_json_is_the_inverse_of_convert(into: Any, value: Any, expected: Any) -> None:
    """What a handler gets, it can send."""
    assert json.loads(marshal_json(expected)) == value


@pytest.mark.parametrize(("into", "value", "told"), REFUSED)
def test_convert_misfit_says_where_and_why(into: Any, value: Any, told: str) -> None:
    """The error has the place, the expected type and the value."""
    with pytest.raises(PayloadError) as raised:
        convert(value, into)
    assert str(raised.value) == told


def test_convert_int_becomes_a_float() -> None:
    """JavaScript writes 1.0 as 1; the handler still gets a float."""
    assert type(convert(1, float)) is float
    assert type(convert({"x": 1, "y": 2}, Point).y) is float


def test_convert_union_order_does_not_matter() -> None:
    """Unions that are equal to Python are one, so they must convert alike."""
    for into in (float | int, int | float):
        assert [type(convert(value, into)) for value in (1, 1.5)] == [int, float]


def test_convert_path_begins_as_given() -> None:
    """A caller that converts a part names the part."""
    with pytest.raises(PayloadError, match=r"^\$\.body\[0\]: expected int"):
        convert(["a"], list[int], "$.body")


def test_convert_post_init_error_is_the_cause() -> None:
    """The error has the ValueError of __post_init__ as its cause."""
    with pytest.raises(PayloadError) as raised:
        convert({"value": -1}, Percent)
    assert isinstance(raised.value.__cause__, ValueError)


def test_convert_long_key_is_cut_in_the_message() -> None:
    """A key of any length makes a message of bounded length."""
    with pytest.raises(PayloadError) as raised:
        convert({"x" * 100_000: "a"}, dict[str, int])
    assert len(str(raised.value)) < 100


def test_convert_value_deeper_than_the_stack_raises() -> None:
    """Without the limit of JSON text, depth is still a PayloadError."""
    value: dict[str, object] = {"value": 1}
    for _ in range(100_000):
        value = {"value": 1, "parent": value}
    try:
        with pytest.raises(PayloadError, match="nested too deeply"):
            convert(value, Tree)
    finally:
        # Free the value level by level: one deep deallocation could overflow the stack.
        while "parent" in value:
            value = value.pop("parent")  # type: ignore[assignment]


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
json_values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner)
)


def nearly(fitting: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Draw a value that mostly fits; each of its parts may be anything instead."""
    return st.one_of(fitting, fitting, fitting, json_values)


def record(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries({}, optional={key: nearly(each) for key, each in fields.items()})


class Kind(NamedTuple):
    """A type, and values that fit it or nearly do."""

    into: Any
    values: st.SearchStrategy[Any]


numbers = st.integers() | st.floats()
points = record(x=st.integers(), y=numbers)
trees: st.SearchStrategy[Any] = st.deferred(
    lambda: record(value=st.integers(), parent=trees, children=st.lists(trees))
)
LEAVES = [
    Kind(Any, json_values),
    Kind(bool, st.booleans()),
    Kind(int, st.integers()),
    Kind(float, numbers),
    Kind(str, st.text()),
    Kind(None, st.none()),
    Kind(Colour, st.sampled_from(["red", "blue"])),
    Kind(Level | str, st.sampled_from([1, 3, "a"])),
    Kind(Literal["x", 1], st.sampled_from(["x", 1])),
    Kind(Point, points),
    Kind(Move, record(player=points, path=st.lists(points), note=st.text())),
    Kind(Tree, trees),
    Kind(Percent, record(value=st.integers(-5, 105))),
    Kind(Chat, record(text=st.text(), room=st.text())),
    Kind(Loose, record(text=st.text(), size=st.integers())),
    Kind(datetime, st.datetimes().map(datetime.isoformat)),
    Kind(UUID | date, st.uuids().map(str) | st.dates().map(str)),
    Kind(Decimal, st.decimals().map(str) | numbers),
    Kind(Right, st.integers(0, 4)),
    Kind(set, st.lists(json_values)),
    Kind(dict[int, Level], st.dictionaries(st.integers().map(str), st.sampled_from([1, 3]))),
    Kind(dict[Decimal, Any], st.dictionaries(st.decimals().map(str), json_values)),
    Kind(Cell, st.tuples(st.integers(), st.dates().map(str)).map(list)),
    Kind(Score, record(_points=st.integers(), by=st.lists(st.text()))),
    Kind(Shape, record(kind=st.sampled_from(["circle", "group", 0]), size=st.integers())),
]


def containers(inner: st.SearchStrategy[Kind]) -> st.SearchStrategy[Kind]:
    def contain(kind: Kind, other: Kind) -> list[Kind]:
        # Any, since a type checker takes these for annotations.
        t: Any = kind.into
        u: Any = other.into
        items = st.lists(nearly(kind.values), max_size=3)
        return [
            Kind(list[t], items),
            Kind(tuple[t, ...], items),
            Kind(tuple[t, u], st.tuples(nearly(kind.values), nearly(other.values)).map(list)),
            Kind(dict[str, t], st.dictionaries(st.text(), nearly(kind.values), max_size=3)),
            Kind(Optional[t], nearly(kind.values) | st.none()),  # noqa: UP045
        ]

    return st.builds(contain, inner, inner).flatmap(st.sampled_from)


# Types whose values are drawn in Python, and come back equal.
hours = st.integers(-23, 23).map(lambda hour: timezone(timedelta(hours=hour)))
ROUND: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(),
    str: st.text(),
    bool: st.booleans(),
    None: st.none(),
    float: st.floats(allow_nan=False, allow_infinity=False),
    datetime: st.datetimes(timezones=st.none() | hours),
    date: st.dates(),
    time: st.times(timezones=st.none() | hours),
    UUID: st.uuids(),
    Decimal: st.decimals(allow_nan=False, allow_infinity=False, places=3),
    Colour: st.sampled_from(Colour),
    Level: st.sampled_from(Level),
    Literal["x", 1, True]: st.sampled_from(["x", 1, True]),
    Cell: st.builds(Cell, st.integers(), st.none() | st.dates()),
    Point: st.builds(Point, st.integers(), st.floats(allow_nan=False, allow_infinity=False)),
    Score: st.builds(Score, st.integers(max_value=100), st.frozensets(st.text())),
}
KEYS = (str, int, float, datetime, date, time, UUID, Decimal, Colour, Level)
Typed = tuple[Any, st.SearchStrategy[Any]]


def containing(inner: st.SearchStrategy[Typed]) -> st.SearchStrategy[Typed]:
    def contain(item: Typed, key: Any) -> list[Typed]:
        t: Any = item[0]
        return [
            (list[t], st.lists(item[1], max_size=3)),
            (tuple[t, ...], st.lists(item[1], max_size=3).map(tuple)),
            (tuple[t, key], st.tuples(item[1], ROUND[key])),
            (set[key], st.sets(ROUND[key], max_size=3)),
            (frozenset[key], st.frozensets(ROUND[key], max_size=3)),
            (dict[key, t], st.dictionaries(ROUND[key], item[1], max_size=3)),
            (Page[t], st.builds(Page, st.lists(item[1], max_size=3), st.none())),
            (Optional[t], st.none() | item[1]),  # noqa: UP045
        ]

    return st.builds(contain, inner, st.sampled_from(KEYS)).flatmap(st.sampled_from)


typed = st.recursive(st.sampled_from([*ROUND.items()]), containing, max_leaves=3)


@given(st.data())
def test_value_of_any_type_survives_the_round_trip(data: st.DataObject) -> None:
    """From Python to JSON text and back, for types nested in any way."""
    into, values = data.draw(typed)
    value = data.draw(values)
    found = unmarshal_json(marshal_json(value), into)
    assert found == value
    assert type(found) is type(value)


kinds = st.recursive(st.sampled_from(LEAVES), containers, max_leaves=4)


@given(st.data())
def test_convert_any_value_fits_or_raises_payload_error(data: st.DataObject) -> None:
    """Only PayloadError is raised, and a value that fits survives a round trip."""
    into, values = data.draw(st.sampled_from(LEAVES) | kinds)
    value = data.draw(nearly(values))
    try:
        found = convert(value, into)
    except PayloadError as error:
        assert str(error).startswith("$")  # noqa: PT017  (there may be none)
        return
    if "nan" not in repr(found) and "inf" not in repr(found):  # Any lets them pass
        assert unmarshal_json(marshal_json(found), into) == found
