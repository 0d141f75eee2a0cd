"""The fields of record types: dataclasses, attrs classes, ``TypedDict`` and ``NamedTuple``.

A generic record gives its fields with the types that stand for its type variables.

Layer: matcher.  Threads: pure functions; any thread may call them.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
import typing
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeVar, get_args, get_origin

from hubthread.errors import HandleAnyNotPtr

__all__ = [
    "RecordField",
    "attrs_fields",
    "bindings",
    "dataclass_fields",
    "hints_of",
    "literal_values",
    "named_tuple_fields",
    "typed_dict_fields",
    "unsupported",
]

_NOTES = {"doc", "description", "title", "help", "example", "examples"}
"""The keys of a field's metadata that do not limit its values."""


class RecordField(NamedTuple):
    """A field of a record."""

    name: str
    hint: Any
    needed: bool
    argument: str
    """The name of the parameter that takes it."""


def unsupported(into: Any, why: str = "") -> HandleAnyNotPtr:
    """Return the error for a type that no JSON value can be converted to."""
    why = why or (
        "no JSON value can be converted to it; use a dataclass, an attrs class, a msgspec struct, "
        "a pydantic model, TypedDict, NamedTuple, dict, list, tuple, set, Enum, Literal, bool, "
        "int, float, str, None, Any, datetime, date, time, UUID, Decimal, a type registered with "
        "register_json_type, or a union of these"
    )
    name = into.__name__ if isinstance(into, type) and not get_args(into) else repr(into)
    return HandleAnyNotPtr(f"handle any not ptr: {name}: {why}", into)


def bindings(cls: type, arguments: tuple[Any, ...] = ()) -> dict[Any, Any]:
    """Return the types that stand for the type variables of ``cls`` and its bases.

    :raises HandleAnyNotPtr: if a variable stands for two types.
    """
    bound = dict(zip(getattr(cls, "__parameters__", ()), arguments, strict=False))
    for base in vars(cls).get("__orig_bases__", cls.__bases__):
        origin = get_origin(base) or base
        if origin in (Generic, Protocol) or not isinstance(origin, type):
            continue
        given = tuple(_substituted(each, bound) for each in get_args(base))
        for variable, meaning in bindings(origin, given).items():
            if bound.setdefault(variable, meaning) != meaning:
                raise unsupported(cls, f"the type variable {variable} stands for two types in it")
    return bound


def _substituted(hint: Any, bound: Mapping[Any, Any]) -> Any:
    if isinstance(hint, TypeVar):
        return bound.get(hint, hint)
    variables = getattr(hint, "__parameters__", ())
    if not variables or get_origin(hint) is None:
        return hint
    return hint[tuple(bound.get(each, each) for each in variables)]


def hints_of(into: type, bound: Mapping[Any, Any], namespace: Mapping[str, Any]) -> dict[str, Any]:
    """Return the annotations of the fields, with the types that ``bound`` gives.

    :param namespace: the names that a local class may use.
    :raises HandleAnyNotPtr: for an annotation that cannot be resolved.
    """
    local = dict(namespace) if "<locals>" in into.__qualname__ else None
    try:
        hints = typing.get_type_hints(into, localns=local, include_extras=True)
        return {name: _substituted(hint, bound) for name, hint in hints.items()}
    except Exception as error:  # an annotation may run any code
        raise unsupported(
            into,
            f"an annotation in it cannot be resolved ({error}); define its types at module "
            "level, outside TYPE_CHECKING",
        ) from error


def dataclass_fields(into: Any, hints: Mapping[str, Any]) -> list[RecordField]:
    """Return the fields that make an instance.

    :raises HandleAnyNotPtr: if it takes more than its fields, or limits that nothing checks.
    """
    fields = [field for field in dataclasses.fields(into) if field.init]
    try:
        inspect.signature(into).bind(**{field.name: None for field in fields})
    except TypeError as error:
        raise unsupported(into, f"it cannot be made of its fields alone: {error}") from None
    missing = dataclasses.MISSING
    for field in fields:
        _check_metadata(into, field.name, field.metadata)
        library = type(field.default).__module__.partition(".")[0]
        if library in ("pydantic", "msgspec", "attr"):
            raise unsupported(
                into,
                f"the default of its field {field.name!r} is a {type(field.default).__name__} of "
                f"{library}, which a dataclass does not understand: use a class of {library}",
            )
    return [
        RecordField(
            field.name,
            hints[field.name],
            field.default is missing and field.default_factory is missing,
            field.name,
        )
        for field in fields
    ]


def attrs_fields(into: Any, hints: Mapping[str, Any]) -> list[RecordField]:
    """Return the fields that make an instance of an attrs class.

    :raises HandleAnyNotPtr: for metadata that may limit values.
    """
    nothing: Any = sys.modules["attr"].NOTHING
    fields = [field for field in into.__attrs_attrs__ if field.init]
    for field in fields:
        _check_metadata(into, field.name, field.metadata)
    return [
        RecordField(
            field.name,
            hints.get(field.name, Any),
            field.default is nothing,
            getattr(field, "alias", None) or field.name.lstrip("_"),
        )
        for field in fields
    ]


def typed_dict_fields(into: Any, hints: Mapping[str, Any]) -> list[RecordField]:
    """Return the keys of a ``TypedDict``."""
    fields = []
    for key, hint in hints.items():
        # The marker goes first: __required_keys__ is wrong for annotations kept as text.
        marker, inner = _unmarked(hint)
        needed = marker == "Required" if marker else key in into.__required_keys__
        fields.append(RecordField(key, inner, needed, key))
    return fields


def named_tuple_fields(into: Any, hints: Mapping[str, Any]) -> list[RecordField]:
    """Return the fields of a ``NamedTuple``, in order."""
    return [
        RecordField(name, hints.get(name, Any), name not in into._field_defaults, name)
        for name in into._fields
    ]


def literal_values(hint: Any) -> Iterable[tuple[Any, Any]]:
    """Return the values of a ``Literal`` in JSON, each with its value in Python."""
    for value in get_args(hint) if get_origin(hint) is Literal else ():
        yield (value.value if isinstance(value, Enum) else value), value


def _unmarked(hint: Any) -> tuple[str | None, Any]:
    """Return ``Required`` or ``NotRequired``, if around ``hint``; 3.10 has no such types."""
    name = getattr(get_origin(hint), "_name", None)
    return (name, get_args(hint)[0]) if name in ("Required", "NotRequired") else (None, hint)


def _check_metadata(into: type, name: str, metadata: Mapping[Any, Any]) -> None:
    for key in metadata:
        if key not in _NOTES:
            raise unsupported(
                into,
                f"its field {name!r} has the metadata {key!r}, which nothing reads here: check "
                "the value in __post_init__, or annotate it with msgspec.Meta or pydantic.Field",
            )
