"""Decoded JSON to typed values: what fits, what does not and where, what no type can be."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from enum import Enum, IntEnum
from typing import Annotated, Any, Literal, NamedTuple, NewType, Optional, TypedDict, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubthread.errors import HandleAnyNotPtr, PayloadError
from hubthread.matcher.compile import compile_converter, convert, marshal_json, unmarshal_json

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
    """A type that judges its values."""

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
def test_what_fits(into: Any, value: Any, expected: Any) -> None:
    """Each kind of target makes the right value, of exactly the right type."""
    found = convert(value, into)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(("into", "value", "told"), REFUSED)
def test_what_does_not_fit(into: Any, value: Any, told: str) -> None:
    """The error says where, what was wanted and what was there."""
    with pytest.raises(PayloadError) as raised:
        convert(value, into)
    assert str(raised.value) == told


def test_an_int_for_a_float_is_made_one() -> None:
    """JavaScript writes 1.0 as 1; the handler gets a float all the same."""
    assert type(convert(1, float)) is float
    assert type(convert({"x": 1, "y": 2}, Point).y) is float


def test_the_order_of_a_union_does_not_matter() -> None:
    """Unions that are equal to Python are one, so they must convert alike."""
    for into in (float | int, int | float):
        assert [type(convert(value, into)) for value in (1, 1.5)] == [int, float]


def test_the_path_begins_where_the_caller_says() -> None:
    """A caller that converts a part names the part."""
    with pytest.raises(PayloadError, match=r"^\$\.body\[0\]: expected int"):
        convert(["a"], list[int], "$.body")


def test_a_judgement_of_the_dataclass_keeps_its_cause() -> None:
    """The ValueError of __post_init__ hangs on the error."""
    with pytest.raises(PayloadError) as raised:
        convert({"value": -1}, Percent)
    assert isinstance(raised.value.__cause__, ValueError)


def test_long_names_from_a_peer_are_cut() -> None:
    """A key of any length makes a message of bounded length."""
    with pytest.raises(PayloadError) as raised:
        convert({"x" * 100_000: "a"}, dict[str, int])
    assert len(str(raised.value)) < 100


def test_a_value_deeper_than_the_stack_is_refused() -> None:
    """Without the limit of JSON text, depth is still a PayloadError."""
    value: dict[str, object] = {"value": 1}
    for _ in range(100_000):
        value = {"value": 1, "parent": value}
    try:
        with pytest.raises(PayloadError, match="nested too deeply"):
            convert(value, Tree)
    finally:
        while "parent" in value:  # taken apart by hand, not by one deep deallocation
            value = value.pop("parent")  # type: ignore[assignment]


@dataclass
class Unsupported:
    tags: set[str]


@dataclass
class Outer:
    inner: list[Unsupported]


@dataclass
class Needs:
    seed: InitVar[int]
    x: int = 0


@dataclass
class Unresolved:
    x: Missing  # type: ignore[name-defined]  # noqa: F821


class Odd(Enum):
    PAIR = (1, 2)


class Plain:
    pass


UNSUPPORTED: list[tuple[Any, str]] = [
    (set, "set: no JSON value can be converted"),
    (bytes, "bytes: no JSON value"),
    (complex, "complex: no JSON value"),
    (Plain, "Plain: no JSON value"),
    (3, "3: no JSON value"),
    ({"a": int}, "{'a': <class 'int'>}: no JSON value"),
    ("Point", "'Point': no JSON value"),
    (T, "~T: no JSON value"),
    (list[set[int]], "set[int]: no JSON value"),
    (dict[int, str], "dict[int, str]: the keys of a JSON object are text"),
    (Point | Move, "several objects in a union cannot be told apart"),
    (Point | dict[str, int], "several objects"),
    (list[int] | tuple[int, int], "several arrays"),
    (Colour | Level, "several enums"),
    (Odd, "Odd: its values must be text, numbers, bool or None"),
    (Literal[b"a"], "its values must be text"),
    (Unsupported, "set[str]: no JSON value"),
    (Outer, "in field 'tags' of Unsupported, in field 'inner' of Outer"),
    (Needs, "Needs: it cannot be made of its fields alone: missing a required argument: 'seed'"),
    (Unresolved, "Unresolved: an annotation in it cannot be resolved (name 'Missing'"),
]


@pytest.mark.parametrize(("into", "told"), UNSUPPORTED)
def test_what_no_json_becomes_is_refused_before_any_message(into: Any, told: str) -> None:
    """Compiling says what is wrong with the type, and how to mend it."""
    with pytest.raises(HandleAnyNotPtr, match=r"^handle any not ptr: ") as raised:
        compile_converter(into)
    assert told in str(raised.value)


def test_the_error_has_the_type() -> None:
    """A program can tell which part of its type is at fault."""
    with pytest.raises(HandleAnyNotPtr) as raised:
        convert({}, Outer)
    assert raised.value.target == set[str]


def test_local_types_are_found_by_the_names_given() -> None:
    """Types of an application made in a function name each other as text."""

    @dataclass
    class Inner:
        x: int

    @dataclass
    class Local:
        inner: Inner

    assert compile_converter(Local, locals())({"inner": {"x": 1}}) == Local(Inner(1))
    with pytest.raises(HandleAnyNotPtr, match="at module level"):
        compile_converter(Local)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
json_values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner)
)


def nearly(fitting: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Mostly what fits, at each place of a value on its own, else anything."""
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
def test_any_value_into_any_type_fits_or_is_refused(data: st.DataObject) -> None:
    """Nothing but PayloadError comes out, and what fits is written and read as the same."""
    into, values = data.draw(st.sampled_from(LEAVES) | kinds)
    value = data.draw(nearly(values))
    try:
        found = convert(value, into)
    except PayloadError as error:
        assert str(error).startswith("$")  # noqa: PT017  (there may be none)
        return
    if "nan" not in repr(found) and "inf" not in repr(found):  # Any lets them pass
        assert unmarshal_json(marshal_json(found), into) == found


@given(
    st.builds(
        Move,
        player=st.builds(Point, st.integers(), st.floats(allow_nan=False, allow_infinity=False)),
        path=st.lists(st.builds(Point, st.integers())),
        note=st.none() | st.text(),
    )
)
def test_a_dataclass_comes_back_as_it_was(move: Move) -> None:
    """Marshal and unmarshal are each other's inverse."""
    assert unmarshal_json(marshal_json(move), Move) == move
    assert unmarshal_json(marshal_json(move).encode(), Move) == move


@pytest.mark.parametrize("data", ["{not json", b"{not json"])
def test_bytes_are_the_data_undecoded(data: str | bytes) -> None:
    """Who asks for bytes does the decoding."""
    assert unmarshal_json(data, bytes) == b"{not json"


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ('{"x": 1', "not JSON"),
        ('{"x": NaN}', "not JSON: NaN"),
        ('{"x": "1"}', "$.x: expected int"),
    ],
)
def test_text_that_is_no_such_value_is_refused(data: str, told: str) -> None:
    """Malformed text and text that does not fit are both the peer's mistake."""
    with pytest.raises(PayloadError) as raised:
        unmarshal_json(data, Point)
    assert str(raised.value).startswith(told)


def test_a_list_of_any_is_not_searched_for_types() -> None:
    """What Python's json reads is what Any gives."""
    text = '{"a": [1, 2.5, "x", null, {"b": []}]}'
    assert unmarshal_json(text, dict[str, Any]) == json.loads(text)
