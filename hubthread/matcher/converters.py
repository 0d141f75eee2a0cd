"""The closures that ``compile`` compiles types into.

A converter takes a decoded JSON value and returns the typed value, or raises ``Mismatch``.
This is the path of every message: everything that depends on the type alone is decided before
the first value.

Layer: matcher.  Threads: no state; a converter runs on the thread that calls the handler.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from enum import Flag
from typing import Any, NamedTuple

from hubthread.matcher.jsontext import brief
from hubthread.matcher.jsontypes import JsonType

__all__ = [
    "ANY",
    "ARRAY",
    "ENUM_RANK",
    "JSON_TYPES",
    "LITERAL_RANK",
    "OBJECT",
    "SCALARS",
    "TEXT_RANK",
    "Convert",
    "Field",
    "Mismatch",
    "Plan",
    "to_array",
    "to_flag",
    "to_json_type",
    "to_key",
    "to_keyed",
    "to_object",
    "to_record",
    "to_set",
    "to_tagged",
    "to_tuple",
    "to_union",
    "to_value",
]

Convert = Callable[[Any], Any]
JSON_TYPES: frozenset[type] = frozenset({dict, list, str, int, float, bool, type(None)})
OBJECT: frozenset[type] = frozenset({dict})
ARRAY: frozenset[type] = frozenset({list})


class Mismatch(Exception):
    """A value does not fit; on its way out each level adds its step to the path."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.steps: list[str] = []
        """The steps of the path, innermost first, such as ``.name`` or ``[3]``."""


class Plan(NamedTuple):
    """A compiled type."""

    convert: Convert
    accepts: frozenset[type]
    """The types of the JSON values that ``convert`` may take; it refuses all others."""
    name: str
    """The name of the type in messages."""
    rank: int = 0
    """The order of trial in a union: a type that takes fewer values has a lower rank."""
    fields: frozenset[str] = frozenset()
    """The names of a record's fields in JSON."""
    tags: Mapping[str, frozenset[Any]] = {}
    """The ``Literal`` fields of a record, and their values: a union chooses by them."""


class Field(NamedTuple):
    """A field of a record: a dataclass or a ``TypedDict``."""

    name: str
    convert: Convert
    needed: bool
    argument: str
    """The name of the parameter of ``make`` that takes it."""


LITERAL_RANK, ENUM_RANK, TEXT_RANK, SCALAR_RANK, FLOAT_RANK = range(5)


def to_record(
    name: str,
    fields: Iterable[Field],
    make: Callable[..., Any] | None,
    refusals: tuple[type[Exception], ...] = (ValueError,),
) -> Convert:
    """Convert an object with ``fields``; ``make`` takes the values by name.

    :param refusals: the exceptions by which ``make`` refuses a value.
    """
    fields = [*fields]

    def convert(value: Any) -> Any:
        _expect(value, dict)
        found = {}
        for key, item, needed, argument in fields:
            if key in value:
                try:
                    found[argument] = item(value[key])
                except Mismatch as mismatch:
                    mismatch.steps.append(_step(key))
                    raise
            elif needed:
                raise Mismatch(f"the field {key!r} is missing")
        if make is None:
            return found
        try:
            return make(**found)
        except refusals as error:
            raise Mismatch(f"not a {name}: {error}") from error

    return convert


def to_object(item: Convert) -> Convert:
    """Convert an object with any keys."""

    def convert(value: Any) -> dict[str, Any]:
        _expect(value, dict)
        found = {}
        for key, part in value.items():
            try:
                found[key] = item(part)
            except Mismatch as mismatch:
                mismatch.steps.append(_step(key))
                raise
        return found

    return convert


def to_keyed(to_items: Convert, to_name: Convert) -> Convert:
    """Convert an object with ``to_items``, and then its keys."""

    def convert(value: Any) -> dict[Any, Any]:
        found = {}
        for key, item in to_items(value).items():
            try:
                name = to_name(key)
                if name in found:
                    raise Mismatch("the same key again, in another form")
            except Mismatch as mismatch:
                mismatch.steps.append(_step(key))
                raise
            found[name] = item
        return found

    return convert


def to_key(plan: Plan) -> Convert | None:
    """Convert the text of a key; ``None`` for a type that cannot be a key."""
    if plan.rank == TEXT_RANK or plan.accepts == {str}:
        return plan.convert
    read: Convert
    if plan.accepts == {int}:
        read = int
    elif plan.accepts == {int, float}:
        read = float
    else:
        return None

    def convert(key: str) -> Any:
        try:
            number = read(key)
        except ValueError:
            raise Mismatch(f"expected {plan.name} as text, got another str") from None
        # " 1", "01" and "1_000" are keys of a program that does not write numbers.
        if read is int and str(number) != key:
            raise Mismatch(f"expected {plan.name} as text, got another str")
        return plan.convert(number)

    return convert


def to_array(item: Convert) -> Convert:
    """Convert an array of any length to a list."""

    def convert(value: Any) -> list[Any]:
        _expect(value, list)
        return _items(value, [item] * len(value))

    return convert


def to_set(item: Convert, kind: type[set[Any]] | type[frozenset[Any]]) -> Convert:
    """Convert an array to a set; equal items are one."""
    to_list = to_array(item)

    def convert(value: Any) -> Any:
        items = to_list(value)
        try:
            return kind(items)
        except TypeError as error:  # only a set of Any comes here
            raise Mismatch(f"not a {kind.__name__}: {error}") from error

    return convert


def to_tuple(items: list[Convert], needed: int, make: Callable[..., Any] | None = None) -> Convert:
    """Convert an array with ``needed`` items or more to a tuple, or to what ``make`` returns."""
    most = len(items)
    wanted = f"{most} items" if needed == most else f"{needed} to {most} items"

    def convert(value: Any) -> Any:
        _expect(value, list)
        if not needed <= len(value) <= most:
            raise Mismatch(f"expected {wanted}, got {len(value)}")
        found = _items(value, items[: len(value)])
        return tuple(found) if make is None else make(*found)

    return convert


def to_json_type(form: JsonType) -> Plan:
    """Convert as ``form`` says, which has ``decode``."""
    decode, accepts, wanted = form.decode, form.accepts, form.wanted
    assert decode is not None

    def convert(value: Any) -> Any:
        if type(value) not in accepts:
            raise _expected(wanted, value)
        try:
            return decode(value)
        except Exception as error:  # the program's own function, too, refuses so
            raise Mismatch(f"expected {wanted}: {error}") from error

    return Plan(convert, accepts, wanted, TEXT_RANK)


def to_tagged(field: str, records: list[Plan]) -> Plan:
    """Convert an object to the one of ``records`` whose tags have the value of ``field``."""
    chosen = {tag: plan.convert for plan in records for tag in plan.tags[field]}
    kinds = {kind for kind, _ in chosen}
    wanted = "one of " + ", ".join(sorted(repr(value) for _, value in chosen))

    def convert(value: Any) -> Any:
        _expect(value, dict)
        if field not in value:
            raise Mismatch(f"the field {field!r} is missing")
        tag = value[field]
        kind = type(tag)
        record = chosen.get((kind, tag)) if kind in kinds else None
        if record is None:
            mismatch = Mismatch(f"expected {wanted}, got {_other(kind, kind in kinds)}")
            mismatch.steps.append(_step(field))
            raise mismatch
        return record(value)

    return Plan(
        convert,
        OBJECT,
        " or ".join(plan.name for plan in records),
        fields=frozenset.intersection(*(plan.fields for plan in records)),
        tags={field: frozenset(chosen)},
    )


def to_union(plans: list[Plan]) -> Plan:
    """Convert a value by the first of ``plans``, by rank, that takes it."""
    plans = sorted(plans, key=lambda plan: plan.rank)
    name = " or ".join(dict.fromkeys(plan.name for plan in plans))
    # A type with a form as text comes before text, and after numbers: Decimal.
    choices: dict[type, list[Convert]] = {
        kind: [
            plan.convert
            for plan in sorted(plans, key=lambda plan: plan.rank == TEXT_RANK and kind is not str)
            if kind in plan.accepts
        ]
        for kind in JSON_TYPES
    }

    def convert(value: Any) -> Any:
        candidates = choices.get(type(value), ())
        if len(candidates) == 1:
            return candidates[0](value)
        for candidate in candidates:  # only scalars compete: the compiler refuses other unions
            try:
                return candidate(value)
            except Mismatch:
                continue
        raise _expected(name, value)

    records = [plan for plan in plans if plan.fields]
    fields, tags = (records[0].fields, records[0].tags) if len(records) == 1 else (frozenset(), {})
    accepts = frozenset(kind for kind in choices if choices[kind])
    return Plan(convert, accepts, name, fields=fields, tags=tags)


def to_value(values: Mapping[tuple[type, Any], Any], rank: int) -> Plan:
    """Convert one of ``values``, by type and value: 1 is not ``True``."""
    accepts = frozenset(kind for kind, _ in values)
    name = "one of " + ", ".join(repr(value) for _, value in values)

    def convert(value: Any) -> Any:
        kind = type(value)
        if kind in accepts and (kind, value) in values:
            return values[kind, value]
        raise Mismatch(f"expected {name}, got {_other(kind, kind in accepts)}")

    return Plan(convert, accepts, name, rank)


def to_flag(kind: type[Flag]) -> Plan:
    """Convert the number of any combination of the members of ``kind``."""
    every = 0
    for member in kind:
        every |= member.value
    name = f"a sum of {', '.join(str(member.value) for member in kind)}"

    def convert(value: Any) -> Flag:
        if type(value) is not int or value & ~every:
            raise Mismatch(f"expected {name}, got {_other(type(value), type(value) is int)}")
        return kind(value)

    return Plan(convert, frozenset({int}), name, ENUM_RANK)


def _items(values: list[Any], converters: list[Convert]) -> list[Any]:
    found: list[Any] = []
    try:
        for value, item in zip(values, converters, strict=True):
            found.append(item(value))
    except Mismatch as mismatch:
        mismatch.steps.append(f"[{len(found)}]")
        raise
    return found


def _exactly(kind: type) -> Plan:
    name = _kind_name(kind)

    def convert(value: Any) -> Any:
        # No call to _expect: this runs for nearly every field of every message.
        if type(value) is kind:
            return value
        raise _expected(name, value)

    return Plan(convert, frozenset({kind}), name, SCALAR_RANK)


def _to_float(value: Any) -> float:
    if type(value) is float:
        if math.isfinite(value):
            return value
        raise Mismatch("expected a finite number")
    if type(value) is int:
        try:
            return float(value)
        except OverflowError:
            raise Mismatch("the number is too large for a float") from None
    raise _expected("float", value)


def _expect(value: Any, kind: type) -> None:
    if type(value) is not kind:
        raise _expected(kind.__name__, value)


def _expected(name: str, value: Any) -> Mismatch:
    return Mismatch(f"expected {name}, got {_kind_name(type(value))}")


def _other(kind: type, fits: bool) -> str:
    """Return the name of a value's type, without the value: the text goes into logs."""
    return f"another {_kind_name(kind)}" if fits else _kind_name(kind)


def _kind_name(kind: type) -> str:
    return "None" if kind is type(None) else kind.__name__


def _step(key: str) -> str:
    short = brief(key)
    # The peer may have chosen the key: a key that brief() had to cut is quoted.
    return f".{key}" if key.isidentifier() and len(short) == len(key) + 2 else f"[{short}]"


ANY = Plan(lambda value: value, JSON_TYPES, "Any")
_NONE = _exactly(type(None))
SCALARS: dict[Any, Plan] = {
    Any: ANY,
    object: ANY,
    bool: _exactly(bool),
    int: _exactly(int),
    str: _exactly(str),
    float: Plan(_to_float, frozenset({int, float}), "float", FLOAT_RANK),
    None: _NONE,
    type(None): _NONE,
}
