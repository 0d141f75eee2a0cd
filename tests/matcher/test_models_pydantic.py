"""Handlers that ask for pydantic models, where the user has pydantic."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest

from hubthread import HandleKindError, JsonHeader, MatcherMap, PayloadError, UsageError
from hubthread.matcher.compile import convert, marshal_json

pydantic: Any = pytest.importorskip("pydantic")
msgspec: Any = pytest.importorskip("msgspec")
annotated_types: Any = pytest.importorskip("annotated_types")
BaseModel: Any = pydantic.BaseModel
ListOfInt: Any = pydantic.RootModel[list[int]]


class Point(BaseModel):  # type: ignore[misc]  # Any, to a checker without the library
    x: int
    y: float = 0.5


class Move(BaseModel):  # type: ignore[misc]
    model_config = pydantic.ConfigDict(extra="forbid")
    to_point: Point = pydantic.Field(alias="toPoint")
    on_day: date | None = None
    name: str = pydantic.Field("", max_length=3)


class Numbers(ListOfInt):  # type: ignore[misc]
    pass


@dataclass
class Game:
    moves: list[Move]
    numbers: Numbers | None = None


def test_handler_gets_the_model_and_replies_with_one() -> None:
    """The model's own names and conversions apply."""
    matcher = MatcherMap[Any, str](JsonHeader())

    @matcher.handle("move")
    def on_move(ctx: Any, meta: Any, move: Move) -> Move:
        assert type(move) is Move
        assert move.on_day == date(2024, 2, 29)
        return move

    answer = matcher.dispatch(
        None, None, '{"type": "move", "toPoint": {"x": 1}, "on_day": "2024-02-29"}'
    )
    assert json.loads(answer or "") == {
        "type": "move", "toPoint": {"x": 1, "y": 0.5}, "on_day": "2024-02-29", "name": "",
    }  # fmt: skip


def test_convert_model_inside_other_types() -> None:
    """A root model too, which may be no object."""
    game = convert({"moves": [{"toPoint": {"x": 1}}], "numbers": [1, 2]}, Game)
    assert game == Game([Move(toPoint=Point(x=1))], Numbers([1, 2]))
    assert json.loads(marshal_json(game))["numbers"] == [1, 2]
    assert json.loads(marshal_json(game))["moves"][0]["toPoint"] == {"x": 1, "y": 0.5}


@pytest.mark.parametrize(
    ("payload", "told"),
    [
        ({}, r"\$: not a Move: toPoint: Field required$"),
        ({"toPoint": {"x": "one"}}, "not a Move: toPoint.x: Input should be a valid integer"),
        ({"toPoint": {"x": 1}, "more": 1}, "more: Extra inputs"),
        ({"toPoint": {"x": 1}, "name": "x" * 9999}, "name: String should have at most 3"),
        ([], "not a Move: Input should be an object"),
    ],
)
def test_convert_misfit_model_is_a_payload_error(payload: Any, told: str) -> None:
    with pytest.raises(PayloadError, match=told) as caught:
        convert(payload, Move)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_convert_many_errors_are_cut() -> None:
    with pytest.raises(PayloadError, match=r"and 97 more$") as caught:
        convert(["x"] * 100, Numbers)
    assert len(str(caught.value)) < 400


def test_convert_misfit_model_has_its_path() -> None:
    with pytest.raises(PayloadError, match=r"\$\.moves\[1\]: not a Move: "):
        convert({"moves": [{"toPoint": {"x": 1}}, {}]}, Game)


Field: Any = pydantic.Field


class Colour(Enum):
    RED = "red"


class Loose(BaseModel):  # type: ignore[misc]
    """Types for which pydantic has the same rules in Python and in JSON."""

    a: int = 0
    b: float = 0.0
    c: bool | None = None
    d: str = Field("", max_length=3)
    e: dict[str, list[int]] = Field({})
    f: dict[int, str] = Field({})
    g: Literal["x"] = "x"


class Exact(BaseModel, strict=True):  # type: ignore[misc,call-arg]
    when: datetime | None = None
    at: time | None = None
    name: UUID | None = None
    price: Decimal = Decimal(0)
    colour: Colour = Colour.RED
    tags: frozenset[str] = frozenset()
    pair: tuple[int, str] | None = None
    seats: dict[int, str] = Field({})
    raw: bytes = b""
    host: IPv4Address | None = None
    place: Path = Path()
    either: int | date | str = 0


VALUES: list[Any] = [
    *(0, 1, 1.0, 1.5, True, None, "", "1", "1.5", "abcd", "x", "red", 10**30, [], [1, "a"], {}),
    *({"1": "ada"}, {"x": [1]}, ["a", "a"], "2026-01-31", "2026-01-31T12:00:00", "12:00:00Z"),
    *("1b4e28ba-2fa1-11d2-883f-0016d3cca427", "127.0.0.1"),
]


@pytest.mark.parametrize(
    ("model", "name"),
    [(model, name) for model in (Loose, Exact) for name in model.model_fields],
)
def test_convert_model_takes_what_pydantic_takes_from_json(model: Any, name: str) -> None:
    """The same value, or the same refusal, for each field and each kind of value."""
    for value in VALUES:
        payload = {name: value}
        try:
            expected = model.model_validate_json(json.dumps(payload))
        except pydantic.ValidationError:
            with pytest.raises(PayloadError, match=rf"^\$: not a {model.__name__}: {name}"):
                convert(payload, model)
        else:
            found = convert(payload, model)
            assert found == expected
            assert type(getattr(found, name)) is type(getattr(expected, name))
            assert json.loads(marshal_json(found)) == json.loads(
                expected.model_dump_json(by_alias=True)
            )


class Bid(BaseModel):  # type: ignore[misc]
    type: Literal["bid"]
    id: int | None = None
    price: float


class Ask(BaseModel):  # type: ignore[misc]
    type: Literal["ask", "offer"]
    price: float


Order = Annotated[Bid | Ask, Field(discriminator="type")]


@pydantic.dataclasses.dataclass
class Seat:
    row: int = Field(ge=1, alias="seatRow")


@dataclass
class Limited:
    low: Annotated[int, Field(ge=0)]
    mail: Annotated[str, pydantic.AfterValidator(str.lower), "a note"] = ""
    link: Annotated[pydantic.HttpUrl, Field()] | None = None


def test_convert_union_of_models_with_a_literal_field() -> None:
    """Plain, and with pydantic's discriminator."""
    for into in (Bid | Ask, Order):
        assert convert({"type": "offer", "price": 1}, into) == Ask(type="offer", price=1)
        with pytest.raises(PayloadError):
            convert({"type": "other", "price": 1}, into)


def test_convert_metadata_of_pydantic_is_honoured() -> None:
    """By pydantic, wherever it stands."""
    assert convert({"low": 1, "mail": "A@B"}, Limited) == Limited(1, "a@b")
    link = convert({"low": 1, "link": "http://a.b/c"}, Limited).link
    assert link is not None
    assert link.host == "a.b"
    with pytest.raises(PayloadError, match=r"^\$\.low: not a int: Input should be greater"):
        convert({"low": -1}, Limited)


def test_convert_pydantic_dataclass_has_its_own_rules() -> None:
    assert convert([{"seatRow": 3}], list[Seat])[0].row == 3
    with pytest.raises(PayloadError, match="not a Seat: seatRow: Input should be greater"):
        convert({"seatRow": 0}, Seat)
    assert json.loads(marshal_json(convert({"seatRow": 3}, Seat))) == {"seatRow": 3}


def test_handler_of_a_model_with_the_headers_field_gets_it() -> None:
    """Header and id stand in the model, and the model may be the reply."""
    matcher = MatcherMap[Any, str](JsonHeader(id_field="id"))
    got: list[Any] = []

    @matcher.handle("bid")
    def on_bid(ctx: Any, meta: Any, bid: Bid) -> Ask:
        got.append(bid)
        return Ask(type="ask", price=1)

    @matcher.handle("ask")
    def on_ask(ctx: Any, meta: Any, ask: Ask) -> Ask:
        return ask

    assert matcher.dispatch(None, None, '{"type":"ask","price":1}') == '{"type":"ask","price":1.0}'
    for message in ('{"type":"bid","price":1}', '{"type":"bid","id":7,"price":1}'):
        with pytest.raises(UsageError, match="'bid' has a field 'type', which is the header's"):
            matcher.dispatch(None, None, message)
    assert got == [Bid(type="bid", price=1), Bid(type="bid", id=7, price=1)]


class Needed(BaseModel):  # type: ignore[misc]
    """A type with one schema for Python and one for JSON, which each message has to have."""

    place: Path
    host: IPv4Address


def test_convert_model_with_a_schema_for_json() -> None:
    assert convert({"place": "a", "host": "0.0.0.1"}, Needed).host.packed[3] == 1


def test_convert_nan_that_no_json_text_brings_raises() -> None:
    with pytest.raises(PayloadError, match="not a Exact: marshal: dict cannot be JSON"):
        convert({"price": float("nan")}, Exact)


def test_convert_model_of_a_local_model() -> None:
    """pydantic finds the names of the function around it."""

    class Inner(BaseModel):  # type: ignore[misc]
        x: int

    class Local(BaseModel):  # type: ignore[misc]
        inner: Inner

    assert convert({"inner": {"x": 1}}, Local).inner.x == 1


class Foreign(BaseModel):  # type: ignore[misc]
    low: list[Annotated[int, msgspec.Meta(ge=0)]]


class Unknown(BaseModel):  # type: ignore[misc]
    unknown: NotThere  # type: ignore[name-defined]  # noqa: F821


class Plain:
    pass


class Own(BaseModel):  # type: ignore[misc]
    """pydantic accepts the class, and then no message that has it."""

    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    own: list[Plain]


class Default(BaseModel):  # type: ignore[misc]
    """The server's own attribute: no message needs it."""

    model_config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    own: Plain | None = None


@dataclass
class Wrong:
    low: int = Field(ge=0)


def refused(into: Any) -> str:
    def handler(ctx: Any, meta: Any, req: Any) -> None:
        """Never called."""

    handler.__annotations__["req"] = into
    with pytest.raises(HandleKindError) as raised:
        MatcherMap[Any, str]().add("x", handler)
    return str(raised.value)


@pytest.mark.parametrize(
    ("into", "told"),
    [
        (Unknown, "Unknown: "),
        (Own, "Own: pydantic makes no Plain of a JSON value"),
        (Annotated[Plain, Field(title="a")], "Unable to generate pydantic-core schema"),
        (Foreign, "Foreign: pydantic ignores the metadata msgspec.Meta(ge=0) of its field 'low'"),
        (Wrong, "the default of its field 'low' is a FieldInfo of pydantic"),
        (Ask, "the field 'type' of its payload takes 'ask', 'offer', and the header is 'x'"),
    ],
)
def test_handler_unsupported_model_raises_at_registration(into: Any, told: str) -> None:
    """What no message could fit is refused before the first."""
    assert told in refused(into)


def test_convert_model_with_a_default_that_json_has_not() -> None:
    assert convert({}, Default).own is None


def test_handler_metadata_without_its_library_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "pydantic")
    told = refused(Annotated[int, annotated_types.Ge(0)])
    assert "only pydantic checks its metadata: install and import pydantic" in told
