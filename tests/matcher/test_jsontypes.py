"""Types that stand in JSON as another value: dates, UUIDs, decimals, and those of the program."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from hubthread import HubSetting, JsonHeader, MatcherMap, SettingError, register_json_type
from hubthread.errors import HandleAnyNotPtr, PayloadError, SettingTypeError, UsageError
from hubthread.matcher import jsontypes
from hubthread.matcher.compile import convert, marshal_json, unmarshal_json
from hubthread.testing import VirtualHub

UTC = timezone.utc
EAST = timezone(timedelta(hours=5, minutes=30))
NAME = "1b4e28ba-2fa1-11d2-883f-0016d3cca427"


@pytest.mark.parametrize(
    ("into", "value", "expected"),
    [
        (datetime, "2026-01-31T12:00:00Z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        (datetime, "2026-01-31t12:00:00z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        (datetime, "2026-01-31 12:00", datetime(2026, 1, 31, 12)),  # noqa: DTZ001
        (datetime, "2026-01-31T12:00:00.5+05:30", datetime(2026, 1, 31, 12, 0, 0, 500_000, EAST)),
        (datetime, "2026-01-31T12:00:00.123456789-00:00",
         datetime(2026, 1, 31, 12, 0, 0, 123_456, UTC)),
        (date, "2024-02-29", date(2024, 2, 29)),
        (time, "12:00", time(12)),
        (time, "12:00:00.001Z", time(12, 0, 0, 1000, UTC)),
        (UUID, NAME.upper(), UUID(NAME)),
        (Decimal, "1.50", Decimal("1.50")),
        (Decimal, "-.5e-3", Decimal("-0.0005")),
        (Decimal, 3, Decimal(3)),
        (Decimal, 9.99, Decimal("9.99")),
        (date | datetime, "2024-02-29T00:00", datetime(2024, 2, 29)),  # noqa: DTZ001
        (str | date, "2024-02-29", date(2024, 2, 29)),
        (str | date, "today", "today"),
        (Decimal | int, 3, 3),
        (Decimal | float, 0.5, 0.5),
        (Decimal | str, "3", Decimal(3)),
    ],
)  # fmt: skip
def test_convert_text_form_has_the_right_type(into: Any, value: Any, expected: Any) -> None:
    """The forms that peers write, on every version of Python."""
    found = convert(value, into)
    assert found == expected
    assert (type(found), str(found)) == (type(expected), str(expected))


@pytest.mark.parametrize(
    ("into", "value", "told"),
    [
        (datetime, 0, "expected datetime, such as '2026-01-31T12:00:00Z', got int"),
        (datetime, "2026-01-31", "datetime, such as '2026-01-31T12:00:00Z': the text has another"),
        (datetime, "2026-01-31T12:00:00+0530", "the text has another form"),
        (datetime, "2026-01-31T24:30:00Z", "hour must be in 0..23"),
        (datetime, "２０２６-01-31T12:00:00Z", "the text has another form"),  # noqa: RUF001
        (date, "2026-02-30", "expected date, such as '2026-01-31': day"),
        (date, "2026-01-31T12:00:00Z", "the text has another form"),
        (date, "20260131", "the text has another form"),
        (time, "25:00", "expected time, such as '12:00:00': hour must be in 0..23"),
        (UUID, "{" + NAME + "}", "expected UUID, such as '1b4e28ba-2fa1-11d2-883f-0016d3cca427'"),
        (UUID, NAME.replace("-", ""), "the text has another form"),
        (Decimal, "NaN", "expected Decimal, such as '1.50': not a finite decimal number"),
        (Decimal, "1_000", "not a finite decimal number"),
        (Decimal, "1e999999999", "the exponent is beyond 6144"),
        (Decimal, float("inf"), "not a finite decimal number"),
        (Decimal, True, "expected Decimal, such as '1.50', got bool"),
        (date | UUID, "x", "got str"),
    ],
)  # fmt: skip
def test_convert_misfit_text_form_says_why(into: Any, value: Any, told: str) -> None:
    """The error has an example of the form, and never the peer's text."""
    with pytest.raises(PayloadError) as raised:
        convert(value, into)
    assert told in str(raised.value)


@pytest.mark.parametrize(
    ("obj", "text"),
    [
        (datetime(2026, 1, 31, 12, tzinfo=UTC), '"2026-01-31T12:00:00Z"'),
        (datetime(2026, 1, 31, 12, tzinfo=EAST), '"2026-01-31T12:00:00+05:30"'),
        (time(12, tzinfo=UTC), '"12:00:00Z"'),
        (Decimal("1.50"), '"1.50"'),
        ({UUID(NAME): date(2026, 1, 31)}, f'{{"{NAME}":"2026-01-31"}}'),
        ([{date(2026, 1, 31): {1}}, {2: frozenset()}], '[{"2026-01-31":[1]},{"2":[]}]'),
    ],
)
def test_marshal_json_writes_text_forms(obj: object, text: str) -> None:
    assert marshal_json(obj) == text


def test_marshal_json_infinite_decimal_raises() -> None:
    with pytest.raises(UsageError, match="Infinity is not a finite number"):
        marshal_json([Decimal("inf")])


class Money:
    def __init__(self, cents: int) -> None:
        self.cents = cents

    @classmethod
    def parse(cls, value: object) -> Money:
        units, cents = str(value).split(".")
        return cls(int(units) * 100 + int(cents))

    def __str__(self) -> str:
        return f"{self.cents // 100}.{self.cents % 100:02}"


class Tip(Money):
    pass


@dataclass
class Bill:
    total: Money | None
    parts: list[Money]


@pytest.fixture(autouse=True)
def _own_table(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test registers ends with it."""
    monkeypatch.setattr(jsontypes, "_types", dict(jsontypes._types))
    yield
    jsontypes._registrations += 1


def test_registered_type_comes_in_and_goes_out() -> None:
    """One registration is enough for handlers, replies and everything else that is sent."""
    register_json_type(Money, encode=str, decode=Money.parse)
    matcher: MatcherMap[dict[str, object], str] = MatcherMap(JsonHeader())

    @matcher.handle("bill")
    def on_bill(ctx: Any, meta: object, bill: Bill) -> Bill:
        ctx.write_json(bill.total)
        return bill

    with VirtualHub(HubSetting(dict, receive_matcher=matcher)) as hub:
        client, room = hub.connect(), hub.hotline()
        client.send('{"type":"bill","total":"1.05","parts":["1.00","0.05"]}')
        client.ctx.write_serialization(Money(7))
        room.answer(client.ctx)
        room.push_json([Tip(5)])
        room.push_splicing("tip ", Tip(5))
    assert client.messages() == [
        '"1.05"',
        '{"type":"bill","total":"1.05","parts":["1.00","0.05"]}',
        '"0.07"',
        '["0.05"]',
        'tip "0.05"',
    ]


def test_registered_decode_that_raises_refuses_the_message() -> None:
    """Whatever it raises: the value is the peer's."""
    register_json_type(Money, encode=str, decode=Money.parse)
    values: list[Any] = ["1", [], {}, True]
    for value in values:
        with pytest.raises(PayloadError, match=r"^\$\.parts\[0\]: expected Money: "):
            convert({"total": None, "parts": [value]}, Bill)
    assert convert(None, Money | None) is None


def test_register_json_type_again_replaces_the_first() -> None:
    """Also for types that were compiled before, and for those of the standard library."""
    register_json_type(Money, encode=str, decode=Money.parse)
    assert unmarshal_json('"1.05"', Money).cents == 105
    register_json_type(Money, encode=lambda money: money.cents, decode=Money)
    assert unmarshal_json("105", Money).cents == 105
    register_json_type(datetime, encode=datetime.timestamp)
    assert json.loads(marshal_json(datetime(1970, 1, 2, tzinfo=UTC))) == 86400


def test_registered_type_without_decode_is_refused_as_a_payload() -> None:
    register_json_type(Money, encode=str)
    with pytest.raises(HandleAnyNotPtr, match="Money: it is only written"):
        convert("1.05", Bill)
    with pytest.raises(HandleAnyNotPtr, match="Tip: no JSON value"):
        convert("1.05", Tip)


def test_registered_encode_may_return_none() -> None:
    register_json_type(Money, encode=lambda money: None)
    assert marshal_json([Money(1)]) == "[null]"


@pytest.mark.parametrize(
    ("kind", "encode", "error", "told"),
    [
        ("Money", str, SettingTypeError, "kind: expected a class, got 'Money'"),
        (int, str, SettingError, "kind: expected a class that JSON does not have itself, got int"),
        (Money, 3, SettingTypeError, "encode: expected a function"),
        (Money, lambda: "1", SettingTypeError, "encode: expected a function"),
    ],
)
def test_register_json_type_wrong_argument_raises(
    kind: Any, encode: Any, error: type[Exception], told: str
) -> None:
    with pytest.raises(error) as raised:
        register_json_type(kind, encode)
    assert told in str(raised.value)
