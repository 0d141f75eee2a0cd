"""Decoded JSON to typed values: values that fit, and the errors of values that do not."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Annotated, Any, Literal, NamedTuple, NewType, Optional, TypedDict, TypeVar

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


FITS: list[tuple[Any, Any, Any]] = [
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
    (dict, {"a": 1}, {"a": 1}),
    (dict[str, list[int]], {"a": [1]}, {"a": [1]}),
    (Mapping[str, int], {"a": 1}, {"a": 1}),
    (Optional[int], None, None),  # noqa: UP045  (typing.Union differs from |)
    (int | str, "a", "a"),
    (bool | int, True, True),
    (int | list[int] | dict[str, int] | None, [1], [1]),
    (Point | Any, {"x": "any"}, {"x": "any"}),
    (Literal["a", 1, None], 1, 1),
    (Literal[1] | bool, True, True),
    (Colour, "red", Colour.RED),
    (Level, 3, Level.HIGH),
    (str | Colour, "red", Colour.RED),
    (str | Colour, "green", "green"),
    (Annotated[int, "any note"], 1, 1),
    (list[Annotated[int, {"not": "hashable"}]], [1], [1]),
    (PlayerId, 7, 7),
    (Point, {"x": 1, "y": 2.5}, Point(1, 2.5)),
    (Point, {"x": 1, "unknown": None}, Point(1)),
    (Point | None, None, None),
    (Move, {"player": {"x": 1}, "path": [{"x": 2}]}, Move(Point(1), [Point(2)])),
    (Tree, {"value": 1, "children": [{"value": 2}]}, Tree(1, None, [Tree(2)])),
    (Tree, {"value": 1, "parent": {"value": 2}}, Tree(1, Tree(2))),
    (Percent, {"value": 50, "doubled": 3}, Percent(50)),
    (Chat, {"text": "a", "room": "b"}, {"text": "a", "room": "b"}),
    (Chat, {"text": "a", "unknown": 1}, {"text": "a"}),
    (Loose, {"text": "a"}, {"text": "a"}),
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
    (tuple[int, ...], "abc", "$: expected list, got str"),
    (dict[str, int], [], "$: expected dict, got list"),
    (dict[str, int], {"a b": "c"}, "$['a b']: expected int, got str"),
    (int | str, 1.5, "$: expected int or str, got float"),
    (int | None, "a", "$: expected int or None, got str"),
    (int | list[Point], [{"x": "a"}], "$[0].x: expected int, got str"),
    (Literal["a", 1], True, "$: expected one of 'a', 1, got bool"),
    (Literal["a", 1], "b", "$: expected one of 'a', 1, got another str"),
    (Literal[0] | Colour, "b", "$: expected one of 'red', 'blue', got another str"),
    (Literal["a"] | Colour, "b", "$: expected one of 'a' or one of 'red', 'blue', got str"),
    (Level, True, "$: expected one of 1, 3, got bool"),
    (Level, 2, "$: expected one of 1, 3, got another int"),
    (Point, {"x": 1, "y": "a"}, "$.y: expected float, got str"),
    (Point, {"y": 1}, "$: the field 'x' is missing"),
    (Move, {"player": {"x": "a"}}, "$.player.x: expected int, got str"),
    (Move, {"player": {"x": 1}, "path": [{}]}, "$.path[0]: the field 'x' is missing"),
    (
        Tree,
        {"value": 1, "children": [{"value": None}]},
        "$.children[0].value: expected int, got None",
    ),
    (Percent, {"value": 101}, "$: not a Percent: 101 is not from 0 to 100"),
    (Chat, {"room": "b"}, "$: the field 'text' is missing"),
    (Chat, {"text": 1}, "$.text: expected str, got int"),
    (Loose, {}, "$: the field 'text' is missing"),
]


@pytest.mark.parametrize(("into", "value", "expected"), FITS)
def test_convert_fitting_value_has_the_right_type(into: Any, value: Any, expected: Any) -> None:
    """Each kind of target makes the right value, of exactly the right type."""
    found = convert(value, into)
    assert found == expected
    assert type(found) is type(expected)


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
