"""The closures that ``compile`` compiles types into.

A converter takes a decoded JSON value and returns the typed value, or raises ``Mismatch``.
This is the path of every message: everything that depends on the type alone is decided before
the first value.

Layer: matcher.  Threads: no state; a converter runs on the thread that calls the handler.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from hubthread.matcher.jsontext import brief

__all__ = [
    "ANY",
    "ARRAY",
    "ENUM_RANK",
    "JSON_TYPES",
    "LITERAL_RANK",
    "OBJECT",
    "SCALARS",
    "Convert",
    "Field",
    "Mismatch",
    "Plan",
    "to_array",
    "to_object",
    "to_record",
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


class Field(NamedTuple):
    """A field of a record: a dataclass or a ``TypedDict``."""

    name: str
    convert: Convert
    needed: bool


LITERAL_RANK, ENUM_RANK, SCALAR_RANK, FLOAT_RANK = range(4)


def to_record(name: str, fields: Iterable[Field], make: Convert | None) -> Convert:
    """Convert an object with ``fields``; ``make`` turns their dictionary into the record."""
    fields = [*fields]

    def convert(value: Any) -> Any:
        _expect(value, dict)
        found = {}
        for key, item, needed in fields:
            if key in value:
                try:
                    found[key] = item(value[key])
                except Mismatch as mismatch:
                    mismatch.steps.append(_step(key))
                    raise
            elif needed:
                raise Mismatch(f"the field {key!r} is missing")
        if make is None:
            return found
        try:
            return make(found)
        except ValueError as error:
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


def to_array(item: Convert) -> Convert:
    """Convert an array of any length to a list."""

    def convert(value: Any) -> list[Any]:
        _expect(value, list)
        return _items(value, [item] * len(value))

    return convert


def to_tuple(items: list[Convert]) -> Convert:
    """Convert an array of exactly as many items to a tuple."""

    def convert(value: Any) -> tuple[Any, ...]:
        _expect(value, list)
        if len(value) != len(items):
            raise Mismatch(f"expected {len(items)} items, got {len(value)}")
        return tuple(_items(value, items))

    return convert


def to_union(plans: list[Plan]) -> Plan:
    """Convert a value by the first of ``plans``, by rank, that takes it."""
    plans = sorted(plans, key=lambda plan: plan.rank)
    name = " or ".join(dict.fromkeys(plan.name for plan in plans))
    choices: dict[type, list[Convert]] = {
        kind: [plan.convert for plan in plans if kind in plan.accepts] for kind in JSON_TYPES
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

    return Plan(convert, frozenset(kind for kind in choices if choices[kind]), name)


def to_value(values: Mapping[tuple[type, Any], Any], rank: int) -> Plan:
    """Convert one of ``values``, by type and value: 1 is not ``True``."""
    accepts = frozenset(kind for kind, _ in values)
    name = "one of " + ", ".join(repr(value) for _, value in values)

    def convert(value: Any) -> Any:
        kind = type(value)
        if kind in accepts and (kind, value) in values:
            return values[kind, value]
        other = "another " if kind in accepts else ""  # without the value: this goes into logs
        raise Mismatch(f"expected {name}, got {other}{_kind_name(kind)}")

    return Plan(convert, accepts, name, rank)


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
