"""``hubthread types``: the interfaces of the messages of a matcher and of pushes."""

from __future__ import annotations

import enum
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, TypedDict, TypeVar
from uuid import UUID

import pytest

from hubthread import Empty, JsonHeader, MatcherMap, WrongValue, cli
from hubthread.typescript import check_pushes, declarations

T = TypeVar("T")
Name = NewType("Name", str)


class Colour(enum.Enum):
    RED = "red"
    BLUE = 7


class Rights(enum.IntFlag):
    READ = 1


class Point(NamedTuple):
    x: float
    y: float


class Extra(TypedDict, total=False):
    at: datetime


@dataclass
class Say:
    """A line of the chat. */ no"""

    text: str
    to: Name | None = None
    tags: list[str] = field(default_factory=list)


@dataclass
class Page(Generic[T]):
    items: list[T]
    next: int | None = None


@dataclass
class Tree:
    left: Tree | None
    value: dict[str, tuple[int, str]]


@dataclass
class Move:
    type: Literal["move", "jump"]
    to: Point


@dataclass
class Said:
    text: str
    by: UUID
    type: Literal["said"] = "said"


@dataclass
class Moved:
    type: Literal["moved"]
    tree: Tree


def matcher_of(**handlers: Any) -> MatcherMap[Any, Any]:
    matcher = MatcherMap[Any, Any](JsonHeader(id_field="id"))
    for header, (payload, result) in handlers.items():

        def handle(ctx: Any, meta: Any, req: Any) -> None: ...

        handle.__annotations__ |= {"req": payload, "return": result}
        matcher.add(header, handle)
    return matcher


def table(name: str, text: str) -> list[str]:
    """Return the lines of an interface."""
    lines = text.splitlines()
    first = lines.index(f"export interface {name} {{") + 1
    return [line.strip() for line in lines[first : lines.index("}", first)]]


@pytest.mark.parametrize(
    ("payload", "written"),
    [
        (Say, "Say"),
        (Extra, "Extra"),
        (Annotated[Say, "x"], "Say"),
        (Page[int], "PageNumber"),
        (Page[Say], "PageSay"),
        (Empty, "{}"),
        (bytes, "Record<string, unknown>"),
        (Any, "Record<string, unknown>"),
        (dict[str, Colour], 'Record<string, "red" | 7>'),
        (Move, 'Omit<Move, "type">'),
        (Tree, "Tree"),
    ],
)
def test_payload_of_a_handler_is_what_is_sent(payload: Any, written: str) -> None:
    header = "move" if payload is Move else "a"
    text = declarations(matcher_of(**{header: (payload, None)}), (), "app:matcher")
    assert table("Sent", text) == [f"{header}: {written}"]
    assert table("Answers", text) == []


@pytest.mark.parametrize(
    ("result", "written"),
    [
        (Say, "Say"),
        (bool, "{ data: boolean }"),
        (list[Point], "{ data: Array<[x: number, y: number]> }"),
        (Say | None, "Say | {}"),
        (Any, "Record<string, unknown>"),
        (Rights, "{ data: number }"),
        (set[Literal["a", 1, True]], '{ data: Array<"a" | 1 | true> }'),
        (tuple[int, ...], "{ data: Array<number> }"),
        (Decimal, "{ data: string }"),
        (dict[int, datetime], "Record<string, string>"),
    ],
)
def test_result_of_a_handler_is_its_answer(result: Any, written: str) -> None:
    text = declarations(matcher_of(a=(Empty, result)), (), "app:matcher")
    assert table("Answers", text) == [f"a: {written}"]


def test_handlers_without_annotations_take_and_answer_anything() -> None:
    matcher = MatcherMap[Any, Any]()
    matcher.add("leave now", lambda ctx, meta: None)
    matcher.add(7, lambda ctx, meta, req: None)
    text = declarations(matcher, (), "app:matcher")
    assert table("Sent", text) == ['"leave now": {}', '"7": Record<string, unknown>']
    assert table("Answers", text)[1] == '"7": Record<string, unknown>'


def test_field_with_a_default_may_be_missing_in_what_a_client_sends_only() -> None:
    text = declarations(matcher_of(a=(Say, Page[int])), [Said | Moved], "app:matcher")
    assert table("Say", text) == ["text: string", "to?: string | null", "tags?: Array<string>"]
    assert table("PageNumber", text) == ["items: Array<number>", "next: number | null"]
    assert table("Received", text) == ["said: Said", "moved: Moved"]
    assert table("Said", text) == ["text: string", "by: string", 'type: "said"']
    assert table("Tree", text)[0] == "left: Tree | null"
    assert "/** A line of the chat. * / no */\n" in text


@pytest.mark.parametrize("name", ["Received", "TypedRoom", "Record"])
def test_type_of_a_name_that_is_taken_gets_another(name: str) -> None:
    taken: Any = dataclass(type(name, (), {"__annotations__": {"a": int}}))
    text = declarations(matcher_of(a=(taken, None)), (), "app:matcher")
    assert table("Sent", text) == [f"a: {name}2"]


def test_two_types_of_one_name_get_two_names() -> None:
    one: Any
    other: Any
    one, other = (
        dataclass(type("Say", (), {"__annotations__": {"a": kind}})) for kind in (int, str)
    )
    text = declarations(matcher_of(a=(one, None), b=(other, None)), (), "app:matcher")
    assert table("Sent", text) == ["a: Say", "b: Say2"]


def test_models_of_libraries_have_their_fields() -> None:
    pydantic, msgspec = pytest.importorskip("pydantic"), pytest.importorskip("msgspec")
    model = pydantic.create_model("Model", a=(int, ...), b=(str, "x"))
    struct = msgspec.defstruct("Struct", [("a", int), ("b", str, "x")])
    text = declarations(matcher_of(a=(model, None), b=(struct, None)), (), "app:matcher")
    assert table("Model", text) == table("Struct", text) == ["a: number", "b?: string"]


@pytest.mark.parametrize("push", [Say, int, Said | Say])
def test_push_without_a_header_is_refused(push: Any) -> None:
    with pytest.raises(WrongValue, match=r"app:Push: expected types of messages"):
        check_pushes({"app:Push": push})


def test_type_that_no_message_can_have_is_refused() -> None:
    with pytest.raises(WrongValue, match="no TypeScript type"):
        declarations(matcher_of(a=(Empty, complex)), (), "app:matcher")


@pytest.fixture
def app() -> Iterator[None]:
    module = types.ModuleType("types_app")
    vars(module).update(matcher=matcher_of(say=(Say, None)), Said=Said, Say=Say, other=5)
    sys.modules["types_app"] = module
    yield
    del sys.modules["types_app"]


@pytest.mark.usefixtures("app")
def test_command_prints_the_declarations(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["types", "types_app:matcher", "types_app:Said"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("/** The messages of types_app:matcher")
    assert table("Received", text) == ["said: Said"]


@pytest.mark.usefixtures("app")
@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["types_app"], "argument MODULE:MATCHER: expected a module, a colon and an attribute"),
        (["types_app:none"], "types_app has no attribute 'none'; it has the matcher matcher"),
        (["types_app:other"], "expected a MatcherMap; types_app:other is of type int"),
        (["no_such:matcher"], "argument MODULE:MATCHER: no module named 'no_such'"),
        (["types_app:matcher", "types_app:Say"], "types_app:Say: expected types of messages"),
        (
            ["types_app:matcher", "types_app:no"],
            "argument MODULE:TYPE: types_app has no attribute",
        ),
    ],
)
def test_command_wrong_arguments_print_one_line(
    arguments: list[str], error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["types", *arguments]) == 2
    printed = capsys.readouterr().err
    assert error in printed
    assert len(printed.splitlines()) == 1
