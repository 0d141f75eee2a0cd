"""Make the plan by which a state is compared and sent, from the type of the state.

A plan is made once, from annotations.  A type that JSON cannot express is refused here, with the
path of the field.  So a room cannot fail at its first tick.

Layer: state.  Threads: pure functions; any thread may call them.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from functools import partial
from math import inf, isfinite
from operator import attrgetter, itemgetter
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Union, get_args, get_origin
from uuid import UUID

from hubthread.errors import SettingTypeError, WrongType
from hubthread.state.marks import Private, Round, Unsynced
from hubthread.state.shadow import (
    Difference,
    FreeShadow,
    LeafShadow,
    ListShadow,
    Make,
    MapShadow,
    OptionalShadow,
    RecordParts,
    RecordShadow,
    free_value,
)

__all__ = ["Node", "plan_of"]

Convert = Callable[[Any], Any]

_SEQUENCES = (list, tuple, set, frozenset)


class Node(NamedTuple):
    """The plan of one type."""

    make: Make
    plain: Callable[[Any, Difference], Any]
    """Converts a value to JSON.  The result shares no objects with the value."""
    leaf: Convert | None = None
    """Converts an immutable value, a *leaf*, to JSON; None for other types."""
    flat: RecordParts | None = None
    """The parts of a record whose fields are all leaves; None for other types."""
    is_map: bool = False
    """True for a dict with values of one type."""
    maps: frozenset[str] = frozenset()
    """The names of a record's fields that are such dicts."""


class _Field(NamedTuple):
    name: str
    node: Node
    private: bool


def plan_of(hint: Any) -> Node:
    """Return the plan of a state.

    :param hint: a dataclass, an attrs class, a msgspec struct, a ``TypedDict``, or ``dict``.
    :raises SettingTypeError: for a type that has no plan, with the path of the field.
    """
    return _Planner().node(hint, [], owned=False)


class _Planner:
    """One walk through the types of a state."""

    def __init__(self) -> None:
        self._open: list[Any] = []  # the records around the type, to refuse one inside itself

    def node(
        self, hint: Any, path: list[str], *, owned: bool, rounding: int | None = None
    ) -> Node:
        """Return the plan of one type.

        :param path: the fields that lead to the type.
        :param owned: True inside the values of a dict, whose keys may name owners.
        :param rounding: the digits of ``Round``, if the field has this mark.
        """
        hint, marks = _unmarked(hint)
        rounds = [mark.digits for mark in marks if isinstance(mark, Round)]
        rounding = rounds[0] if rounds else rounding
        origin, arguments = get_origin(hint), get_args(hint)
        if origin in (Union, types.UnionType):
            return self._union(arguments, path, owned=owned, rounding=rounding)
        if hint in (Any, object, dict, Mapping):
            return Node(FreeShadow, free_value)
        if origin is Literal:
            return _leaf_node(_enum_value)
        base = origin or hint
        if not isinstance(base, type):
            raise _refused(path, hint)
        if rounds and not issubclass(base, float | Decimal):
            raise _refused(path, hint, "Round is for float and Decimal")
        leaf = _leaf(base, rounding)
        if leaf is not None:
            return _leaf_node(leaf)
        if issubclass(base, dict | Mapping) and arguments:
            return self._map(arguments, path)
        if issubclass(base, _SEQUENCES) and not hasattr(base, "_fields"):
            return self._list(arguments, path)
        return self._record(hint, base, path, owned=owned)

    def _union(
        self, arguments: tuple[Any, ...], path: list[str], *, owned: bool, rounding: int | None
    ) -> Node:
        kinds = [each for each in arguments if each is not type(None)]
        if len(kinds) < len(arguments) and len(kinds) == 1:
            inner = self.node(kinds[0], path, owned=owned, rounding=rounding)
            if inner.leaf is not None:
                leaf = inner.leaf
                return _leaf_node(lambda value: None if value is None else leaf(value))
            plain = inner.plain
            return Node(
                lambda value, found: OptionalShadow(value, inner.make, found),
                lambda value, found: None if value is None else plain(value, found),
            )
        leaves = [_leaf(each, rounding) for each in kinds if isinstance(each, type)]
        if len(leaves) == len(kinds) and None not in leaves:
            return _leaf_node(_any_leaf)
        why = "expected one type, or a union of plain types only"
        raise _refused(path, arguments, why)

    def _map(self, arguments: tuple[Any, ...], path: list[str]) -> Node:
        key, value = arguments
        text: Callable[[Any], str]
        if key is str or key is int or (isinstance(key, type) and issubclass(key, str | int)):
            text = _enum_text if issubclass(key, Enum) else str
        elif getattr(key, "__supertype__", None) in (str, int):  # NewType, such as ClientID
            text = str
        else:
            raise _refused(path, key, "a key of a dict is text or a whole number")
        inner = self.node(value, [*path, "…"], owned=True)
        plain = inner.plain

        def plain_map(value: Any, found: Difference) -> dict[str, Any]:
            return {text(key): plain(each, found) for key, each in value.items()}

        return Node(
            lambda value, found: MapShadow(value, inner.make, text, inner.flat, found),
            plain_map,
            is_map=True,
        )

    def _list(self, arguments: tuple[Any, ...], path: list[str]) -> Node:
        kinds = [each for each in arguments if each is not ...]
        nodes = [self.node(each, [*path, "[]"], owned=False) for each in kinds]
        if len(nodes) == 1:
            convert = nodes[0].plain
        elif not nodes or any(node.leaf is None for node in nodes):
            convert = free_value
        else:
            convert = _plain_leaf

        def plain_list(value: Any, found: Difference) -> list[Any]:
            return [convert(each, found) for each in value]

        return Node(lambda value, found: ListShadow(value, convert, found), plain_list)

    def _record(self, hint: Any, base: type, path: list[str], *, owned: bool) -> Node:
        hints = _hints(hint, base, path)
        if hints is None:
            raise _refused(path, hint)
        if base in self._open:
            raise _refused(path, hint, "it contains itself")
        self._open.append(base)
        fields = []
        for name, each in hints.items():
            inner, marks = _unmarked(each)
            if get_origin(inner) is ClassVar or _has(marks, Unsynced):
                continue
            private = _has(marks, Private)
            if private and not owned:
                raise _refused(
                    [*path, name], inner, "a private field needs a record in a dict, by its owner"
                )
            fields.append(_Field(name, self.node(each, [*path, name], owned=owned), private))
        self._open.pop()
        return _record_node(base, fields)


def _record_node(base: type, fields: list[_Field]) -> Node:
    getter: Any = attrgetter
    kind: type = base
    if issubclass(base, dict):  # isinstance refuses a TypedDict, so check for dict
        getter, kind = itemgetter, dict
    parts = _parts([field for field in fields if not field.private], getter, kind)
    private = [field for field in fields if field.private]
    if private:
        own = _parts(private, getter, kind)
        parts = parts._replace(private=own)
    leaves = [(each.name, getter(each.name), each.node.leaf) for each in fields if each.node.leaf]
    others = [
        (each.name, getter(each.name), each.node.plain) for each in fields if not each.node.leaf
    ]

    def plain_record(value: Any, found: Difference) -> dict[str, Any]:
        record = {name: convert(get(value)) for name, get, convert in leaves}
        for name, get, plain in others:
            record[name] = plain(get(value), found)
        return record

    flat = None if parts.nested or parts.private else parts
    maps = frozenset(field.name for field in fields if field.node.is_map and not field.private)
    return Node(
        lambda value, found: RecordShadow(value, parts, found), plain_record, flat=flat, maps=maps
    )


def _parts(fields: list[_Field], getter: Any, base: type) -> RecordParts:
    leaves = [field for field in fields if field.node.leaf is not None]
    return RecordParts(
        _reader(tuple(field.name for field in leaves), getter),
        tuple((field.name, field.node.leaf) for field in leaves if field.node.leaf is not None),
        tuple(
            (field.name, getter(field.name), field.node.make)
            for field in fields
            if field.node.leaf is None
        ),
        None,
        base,
    )


def _reader(names: tuple[str, ...], getter: Any) -> Callable[[Any], tuple[Any, ...]]:
    if not names:
        return lambda value: ()
    if len(names) == 1:  # the getter of one name returns no tuple
        get = getter(names[0])
        return lambda value: (get(value),)
    read: Callable[[Any], tuple[Any, ...]] = getter(*names)
    return read


def _leaf_node(convert: Convert) -> Node:
    return Node(
        lambda value, found: LeafShadow(value, convert),
        lambda value, found: convert(value),
        convert,
    )


def _unmarked(hint: Any) -> tuple[Any, Iterable[Any]]:
    """Return the hint without ``Annotated`` and the markers of a ``TypedDict``, and the marks."""
    marks: list[Any] = []
    while True:
        origin = get_origin(hint)
        if origin is Annotated:
            marks += hint.__metadata__
            hint = get_args(hint)[0]
        elif getattr(origin, "_name", None) in ("Required", "ReadOnly"):
            hint = get_args(hint)[0]
        elif getattr(hint, "__supertype__", None) is not None:  # NewType
            hint = hint.__supertype__
        else:
            return hint, marks


def _has(marks: Iterable[Any], kind: type) -> bool:
    return any(mark is kind or isinstance(mark, kind) for mark in marks)


def _leaf(base: Any, rounding: int | None) -> Convert | None:
    """Return the function that converts a leaf to JSON; None for a type that is no leaf."""
    if issubclass(base, Enum):
        return _enum_value
    if issubclass(base, float):
        return _number if rounding is None else partial(_rounded, rounding)
    if issubclass(base, str | bool | int | type(None)):
        return _itself
    if issubclass(base, datetime | date | time):
        return _iso
    if issubclass(base, Decimal) and rounding is not None:
        return lambda value: str(round(value, rounding))
    if issubclass(base, UUID | Decimal):
        return str
    return None


def _itself(value: Any) -> Any:
    if value is None or isinstance(value, str | int | float):
        return value
    raise WrongType(f"expected None, bool, int, float or str, got {value!r:.100}")


def _number(value: Any) -> Any:
    """Return a number for JSON.  Infinity and NaN become ``null``, as in a browser."""
    if isinstance(value, float):
        return value if isfinite(value) else None
    return _itself(value)


def _rounded(digits: int, value: Any) -> Any:
    if type(value) is float and -inf < value < inf:
        return round(value, digits)
    return _number(value)


def _iso(value: Any) -> str:
    text: str = value.isoformat()
    return text


def _enum_value(value: Any) -> Any:
    return _itself(value.value if isinstance(value, Enum) else value)


def _enum_text(key: Any) -> str:
    return str(_enum_value(key))


def _any_leaf(value: Any) -> Any:
    convert = _leaf(type(value), None)
    return _itself(value) if convert is None else convert(value)


def _plain_leaf(value: Any, found: Difference) -> Any:
    return _any_leaf(value)


def _hints(hint: Any, base: type, path: list[str]) -> dict[str, Any] | None:
    """Return the annotations of the fields of a record; None for another type."""
    if typing.is_typeddict(base):
        names = list(base.__annotations__)
        if getattr(base, "__optional_keys__", None):
            raise _refused(path, hint, "expected a TypedDict without optional keys: use None")
    elif dataclasses.is_dataclass(base):
        names = [field.name for field in dataclasses.fields(base)]
    elif hasattr(base, "__attrs_attrs__"):
        names = [field.name for field in base.__attrs_attrs__]
    elif hasattr(base, "__struct_fields__"):
        names = list(base.__struct_fields__)
    elif issubclass(base, tuple) and hasattr(base, "_fields"):
        names = list(base._fields)  # a NamedTuple
    else:
        return None
    try:
        hints = typing.get_type_hints(base, include_extras=True)
    except Exception as error:
        raise _refused(path, hint, f"an annotation cannot be resolved ({error})") from error
    bound = dict(zip(getattr(base, "__parameters__", ()), get_args(hint), strict=False))
    return {name: bound.get(hints.get(name, Any), hints.get(name, Any)) for name in names}


def _refused(path: list[str], hint: Any, why: str = "") -> SettingTypeError:
    why = why or (
        "use a dataclass, an attrs class, a msgspec struct, TypedDict, dict, list, tuple, set, "
        "Enum, Literal, bool, int, float, str, None, datetime, date, time, UUID or Decimal, or "
        "mark the field as Unsynced"
    )
    name = hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint)
    return SettingTypeError("sync", f"{'.'.join(path) or 'the state'}: {name}: {why}")
