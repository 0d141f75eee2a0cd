"""The types of the standard library and of the program that stand in JSON as another value.

A ``JsonType`` says how a type is written and read: a ``datetime`` as ISO 8601 text, a
``Decimal`` as its digits.  ``register_json_type`` adds a type of the program.  ``jsontext``
writes by this table, ``compile`` reads by it.

Layer: matcher.  Threads: the table changes in ``register_json_type`` alone, by one assignment;
any thread may read it.
Source: RFC 3339 for dates and times, RFC 9562 for UUIDs.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from hubthread.checks import check_callable, check_function, checked
from hubthread.errors import SettingError, SettingTypeError

__all__ = ["JsonType", "exact_json_type", "json_type_of", "register_json_type", "registrations"]

T = TypeVar("T")

MOST_DIGITS = 6144
"""The largest exponent of a ``Decimal``, as in IEEE 754's decimal128.

The ``int`` of a larger number would take all memory.
"""

_TEXT: frozenset[type] = frozenset({str})
_ANY_BUT_NONE: frozenset[type] = frozenset({dict, list, str, int, float, bool})
_NATIVE = (str, int, float, list, tuple, dict, type(None))

_CLOCK = r"[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.([0-9]+))?)?"
_ZONE = r"([Zz]|[+-][0-9]{2}:[0-9]{2}(?::[0-9]{2})?)?"
_DAY = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_date = re.compile(_DAY).fullmatch
_time = re.compile(_CLOCK + _ZONE).fullmatch
_datetime = re.compile(f"{_DAY}[Tt ]{_CLOCK}{_ZONE}").fullmatch
_uuid = re.compile("[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}").fullmatch
_decimal = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,9})?").fullmatch


class JsonType(NamedTuple):
    """The way of a type to JSON and back."""

    encode: Callable[[Any], Any]
    """Returns a value that JSON has, or that ``marshal_json`` can encode."""
    decode: Callable[[Any], Any] | None
    """Takes a value of a type in ``accepts``; raises for a value that does not fit.  ``None`` for
    a type that is only written."""
    accepts: frozenset[type]
    """The types of the JSON values that ``decode`` takes."""
    wanted: str
    """The type and its form, for messages."""
    is_key: bool
    """True for a form that may be a key of a JSON object."""


def register_json_type(
    kind: type[T], encode: Callable[[T], object], decode: Callable[[Any], T] | None = None
) -> None:
    """Say how a type of the program is written as JSON, and how it is read.

    Whatever the hub encodes as JSON may contain instances of ``kind`` from then on: replies,
    ``write_json``, ``push_json`` and the like.  With ``decode``, handlers may ask for ``kind``,
    alone or inside another type.  Register before the handlers.  A second call for the same
    type replaces the first; handlers that are registered already keep what they have.

    ::

        register_json_type(Money, encode=str, decode=Money.parse)

    :param kind: the class; its subclasses are encoded alike.  The types that JSON itself has,
        and their subclasses, cannot be registered.
    :param encode: ``encode(obj)`` returns text, a number, a list, a dict, or another object
        that can be encoded.
    :param decode: ``decode(value)`` makes a ``kind`` of a decoded JSON value.  Any exception
        refuses the message.
    :raises SettingError: for a ``kind`` that JSON itself has.
    :raises SettingTypeError: for a ``kind`` that is not a class, and for other functions.
    """
    given: object = kind
    if not isinstance(given, type):
        raise SettingTypeError("kind", f"expected a class, got {kind!r}")
    if issubclass(kind, _NATIVE):
        raise SettingError(
            "kind", f"expected a class that JSON does not have itself, got {kind.__name__}"
        )
    check_callable("encode", encode, "obj")
    check_function("decode", decode, "value")
    global _registrations  # noqa: PLW0603
    _types[kind] = JsonType(
        lambda obj: checked(encode(obj)),
        decode and (lambda value: checked(decode(value))),
        _ANY_BUT_NONE,
        kind.__name__,
        is_key=False,
    )
    _registrations += 1


def registrations() -> int:
    """Return a number that changes with each registration."""
    return _registrations


def exact_json_type(kind: type) -> JsonType | None:
    """Return the way of ``kind`` itself; a value is never read as a subclass."""
    return _types.get(kind)


def json_type_of(kind: type) -> JsonType | None:
    """Return the way of instances of ``kind`` to JSON, inherited ways included."""
    if _types.keys().isdisjoint(kind.__mro__):  # in C: this runs for each object that is sent
        return None
    return next(_types[each] for each in kind.__mro__ if each in _types)


def _iso(obj: datetime | time) -> str:
    text = obj.isoformat()
    return text[:-6] + "Z" if text.endswith("+00:00") else text


def _to_iso(found: re.Match[str] | None) -> str:
    """Return the text in the form that Python 3.10 reads, too."""
    if found is None:
        raise ValueError("the text has another form")
    text, fraction, zone = found[0], found[1] or "", found[2] or ""
    text = text[: len(text) - len(zone)]
    if fraction:
        text = f"{text[: -len(fraction)]}{fraction[:6]:0<6}"
    return text + ("+00:00" if zone in ("Z", "z") else zone)


def _to_date(text: str) -> date:
    if _date(text) is None:
        raise ValueError("the text has another form")
    return date.fromisoformat(text)


def _to_uuid(text: str) -> UUID:
    if _uuid(text) is None:
        raise ValueError("the text has another form")
    return UUID(text)


def _digits(obj: Decimal) -> str:
    if not obj.is_finite():
        raise ValueError(f"{obj} is not a finite number")
    return str(obj)


def _to_decimal(value: str | int | float) -> Decimal:
    # repr: the shortest decimal of the number, which is the one that the peer has written.
    text = value if isinstance(value, str) else repr(value)
    if _decimal(text) is None:
        raise ValueError("not a finite decimal number")
    number = Decimal(text)
    if abs(number.adjusted()) > MOST_DIGITS:
        raise ValueError(f"the exponent is beyond {MOST_DIGITS}")
    return number


_registrations = 0
_types: dict[type, JsonType] = {
    datetime: JsonType(
        _iso,
        lambda text: datetime.fromisoformat(_to_iso(_datetime(text))),
        _TEXT,
        "datetime, such as '2026-01-31T12:00:00Z'",
        is_key=True,
    ),
    date: JsonType(date.isoformat, _to_date, _TEXT, "date, such as '2026-01-31'", is_key=True),
    time: JsonType(
        _iso,
        lambda text: time.fromisoformat(_to_iso(_time(text))),
        _TEXT,
        "time, such as '12:00:00'",
        is_key=True,
    ),
    UUID: JsonType(
        str, _to_uuid, _TEXT, "UUID, such as '1b4e28ba-2fa1-11d2-883f-0016d3cca427'", is_key=True
    ),
    Decimal: JsonType(
        _digits, _to_decimal, frozenset({str, int, float}), "Decimal, such as '1.50'", is_key=True
    ),
    set: JsonType(list, None, frozenset(), "set", is_key=False),
    frozenset: JsonType(list, None, frozenset(), "frozenset", is_key=False),
}
