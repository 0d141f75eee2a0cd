"""Compile a type to a converter from decoded JSON values.

Layer: matcher.  Threads: pure functions; any thread may call them.  A converter runs on the
thread that calls the handler.

A type is compiled once, at registration, to nested closures; a message only runs them.

====================================  =======================================================
type                                  JSON values
====================================  =======================================================
``Any``, ``object``                   any value, unchanged
``bool``, ``int``, ``str``, ``None``  exactly this type (``True`` and 3.0 are not ``int``)
``float``                             a finite number; an ``int`` becomes a ``float``
``datetime``, ``date``, ``time``      text of ISO 8601
``UUID``                              text with hyphens
``Decimal``                           text or a number
``list[T]``, ``Sequence[T]``,         an array
``set[T]``, ``frozenset[T]``
``tuple[T, ...]``, ``tuple[A, B]``,   an array, with the length of the tuple if it has one
``NamedTuple``
``dict[K, T]``, ``Mapping[K, T]``     an object; the keys are text, or a type with a form as text
dataclass, attrs class                an object with its fields; fields with defaults may be
                                      missing; a ``ValueError`` from ``__post_init__`` (of
                                      attrs: a ``TypeError``, too) refuses
``TypedDict``                         an object with its keys (``Required``, ``NotRequired``)
msgspec ``Struct``, pydantic models   by the rules of these libraries, if the user has them
and dataclasses
``Enum``, ``Flag``                    the value of a member, or of several flags
``Literal``                           one of its values
unions, ``Optional``                  at most one array and one enum; several objects, if each has
                                      a ``Literal`` field of one name with other values
``Annotated[T, …]``                   as ``T``, or by the library whose metadata it has
``NewType``                           as its type
a registered type                     as ``register_json_type`` says
====================================  =======================================================

Fields that a record does not have are ignored: a newer client may talk to an older server.
"""

from __future__ import annotations

import types
import typing
from collections import abc
from collections.abc import Hashable, Iterable, Mapping
from enum import Enum, Flag
from functools import lru_cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, overload

from hubthread.checks import check_kind
from hubthread.errors import HandleAnyNotPtr, PayloadError
from hubthread.matcher import converters, records
from hubthread.matcher.converters import Convert, Field, Mismatch, Plan
from hubthread.matcher.jsontext import as_bytes, load_json, marshal_json
from hubthread.matcher.jsontypes import JsonType, exact_json_type, registrations
from hubthread.matcher.models import annotated_plan, model_plan, owner_of
from hubthread.matcher.records import RecordField, unsupported

__all__ = [
    "compile_converter",
    "compile_plan",
    "convert",
    "marshal_json",
    "telling_the_path",
    "unmarshal_json",
]

T = TypeVar("T")


@overload
def convert(obj: object, into: type[T], path: str = "$") -> T: ...
@overload
def convert(obj: object, into: Any, path: str = "$") -> Any: ...
def convert(obj: object, into: Any, path: str = "$") -> Any:
    """Convert ``obj``, a value as ``json.loads`` returns it, to an ``into``.

    :param path: the name of ``obj`` in messages, such as ``$.player.x: expected int, got str``.
    :raises PayloadError: for a value that does not fit.
    :raises HandleAnyNotPtr: for a type that is not in the table of this module.
    """
    return telling_the_path(_compiled(into).convert, path)(obj)


@overload
def unmarshal_json(data: str | bytes, into: type[T]) -> T: ...
@overload
def unmarshal_json(data: str | bytes, into: Any) -> Any: ...
def unmarshal_json(data: str | bytes, into: Any) -> Any:
    """Convert the JSON text ``data`` to the type ``into``; ``bytes`` gives ``data`` undecoded.

    :raises PayloadError: for text that is not JSON, and for a value that does not fit.
    :raises HandleAnyNotPtr: for a type that is not in the table of this module.
    """
    check_kind("data", data, str | bytes, "text or bytes")
    if into is bytes:
        return as_bytes(data)
    return convert(load_json(data), into)


def compile_converter(into: Any, namespace: Mapping[str, Any] | None = None) -> Convert:
    """Return a function like ``convert(obj, into)``, with ``into`` compiled.

    :param namespace: the names that annotations of local classes may use.
    :raises HandleAnyNotPtr: for a type that is not in the table of this module.
    """
    return telling_the_path(compile_plan(into, namespace).convert)


def compile_plan(into: Any, namespace: Mapping[str, Any] | None = None) -> Plan:
    """Return the plan of ``into``; parameters and errors as of ``compile_converter``."""
    return _Compiler(namespace).plan(into) if namespace else _compiled(into)


def telling_the_path(inner: Convert, path: str = "$") -> Convert:
    """Return ``inner`` with its mismatches raised as ``PayloadError``, with their path."""

    def convert(obj: object) -> Any:
        try:
            return inner(obj)
        except Mismatch as mismatch:
            place = path + "".join(reversed(mismatch.steps))
            raise PayloadError(f"{place}: {mismatch}") from mismatch.__cause__
        except RecursionError:
            raise PayloadError(f"{path}: nested too deeply") from None

    return convert


def _compiled(into: Any) -> Plan:
    try:
        hash(into)
    except TypeError:  # such as Literal[[]]
        return _Compiler({}).plan(into)
    return _cached_plan(into, registrations())


# Unions that differ only in the order of their members are cached as one: see Plan.rank.
@lru_cache(maxsize=512)
def _cached_plan(into: Any, registered: int) -> Plan:
    return _Compiler({}).plan(into)


class _Compiler:
    """The compiler of one type and the types in it, which may include itself."""

    def __init__(self, namespace: Mapping[str, Any]) -> None:
        self._namespace = namespace
        self._begun: dict[Hashable, Plan] = {}
        self._done: dict[Hashable, Plan] = {}

    def plan(self, into: Any) -> Plan:
        """Return the plan for ``into``.

        :raises HandleAnyNotPtr: for a type that is not in the table of this module.
        """
        origin, arguments = get_origin(into), get_args(into)
        if origin is typing.Annotated:
            return self._annotated(into, arguments[0])
        if origin in (Union, types.UnionType):
            return self._union(into, arguments)
        if origin is Literal:
            return _values(into, records.literal_values(into), converters.LITERAL_RANK)
        if hasattr(into, "__supertype__"):  # NewType
            return self.plan(into.__supertype__)
        if isinstance(into, TypeVar):
            raise unsupported(into, "say which type it stands for, such as Page[int]")
        container = origin or into
        if container in (list, abc.Sequence):
            return self._array(arguments)
        if container in (set, frozenset):
            return self._set(into, container, arguments)
        if container is tuple:
            return self._tuple(arguments)
        if container in (dict, abc.Mapping):
            return self._dict(into, arguments)
        if container is None or container is Any or isinstance(container, type):
            scalar = None if arguments else converters.SCALARS.get(into)
            return scalar or self._class(container, into, arguments)
        raise unsupported(into)

    def _annotated(self, into: Any, inner: Any) -> Plan:
        owner = owner_of(into)
        if owner is None:
            return self.plan(inner)
        try:
            base = self.plan(inner)
        except HandleAnyNotPtr:  # the library may know the type
            base = Plan(lambda value: value, converters.JSON_TYPES, repr(inner))
        return annotated_plan(owner, into, base)

    def _class(self, cls: Any, into: Any, arguments: tuple[Any, ...]) -> Plan:
        known = exact_json_type(cls)
        if known is not None:
            return _registered(cls, known)
        if issubclass(cls, Flag):
            return converters.to_flag(cls)
        if issubclass(cls, Enum):
            pairs = [(member.value, member) for member in cls]
            return _values(cls, pairs, converters.ENUM_RANK)
        plan = model_plan(cls, into)
        if plan is not None:
            return plan
        if hasattr(cls, "__dataclass_fields__"):
            return self._record(cls, into, arguments)
        if issubclass(cls, dict) and hasattr(cls, "__required_keys__"):  # a TypedDict
            return self._record(cls, into, arguments)
        if issubclass(cls, tuple) and hasattr(cls, "_fields"):  # a NamedTuple
            return self._record(cls, into, arguments)
        if hasattr(cls, "__attrs_attrs__"):
            return self._record(cls, into, arguments)
        raise unsupported(into)

    def _record(self, cls: Any, into: Any, arguments: tuple[Any, ...]) -> Plan:
        try:
            begun = self._done.get(into) or self._begun.get(into)
        except TypeError:
            raise unsupported(into, "its type arguments cannot be hashed") from None
        if begun is not None:
            return begun
        hints = records.hints_of(cls, records.bindings(cls, arguments), self._namespace)
        make: Any = cls
        refusals: tuple[type[Exception], ...] = (ValueError,)
        if hasattr(cls, "__dataclass_fields__"):
            fields = records.dataclass_fields(cls, hints)
        elif issubclass(cls, dict):
            fields, make = records.typed_dict_fields(cls, hints), dict
        elif issubclass(cls, tuple):
            fields = records.named_tuple_fields(cls, hints)
        else:
            fields, refusals = records.attrs_fields(cls, hints), (ValueError, TypeError)
        is_array = issubclass(cls, tuple)
        tags = {field.name: _tag(field.hint) for field in fields}
        plan = Plan(
            # A type that contains itself: its plan is complete before the first value.
            lambda value: self._done[into].convert(value),  # noqa: PLW0108 - not there yet
            converters.ARRAY if is_array else converters.OBJECT,
            cls.__name__,
            fields=frozenset() if is_array else frozenset(tags),
            tags={} if is_array else {name: values for name, values in tags.items() if values},
        )
        self._begun[into] = plan
        if is_array:
            items = [self._field(cls, field) for field in fields]
            needed = sum(field.needed for field in fields)
            convert = converters.to_tuple(items, needed, make)
        else:
            parts = [
                Field(field.name, self._field(cls, field), field.needed, field.argument)
                for field in fields
            ]
            convert = converters.to_record(
                cls.__name__, parts, None if make is dict else make, refusals
            )
        self._done[into] = plan._replace(convert=convert)
        return self._done[into]

    def _field(self, cls: type, field: RecordField) -> Convert:
        try:
            return self.plan(field.hint).convert
        except HandleAnyNotPtr as error:
            message = f"{error}, in field {field.name!r} of {cls.__name__}"
            raise HandleAnyNotPtr(message, error.target) from error

    def _array(self, arguments: tuple[Any, ...]) -> Plan:
        item = self.plan(arguments[0] if arguments else Any)
        return Plan(converters.to_array(item.convert), converters.ARRAY, "list")

    def _set(self, into: Any, kind: Any, arguments: tuple[Any, ...]) -> Plan:
        item = arguments[0] if arguments else Any
        convert = self.plan(item).convert
        if _unhashable(item):
            raise unsupported(into, f"its items cannot be in a set; use list[{_name(item)}]")
        return Plan(converters.to_set(convert, kind), converters.ARRAY, kind.__name__)

    def _tuple(self, arguments: tuple[Any, ...]) -> Plan:
        if not arguments or arguments[-1] is Ellipsis:
            to_list = self._array(arguments).convert
            return Plan(lambda value: tuple(to_list(value)), converters.ARRAY, "list")
        items = [self.plan(argument).convert for argument in arguments]
        return Plan(converters.to_tuple(items, len(items)), converters.ARRAY, "list")

    def _dict(self, into: Any, arguments: tuple[Any, ...]) -> Plan:
        key, item = arguments or (str, Any)
        convert = converters.to_object(self.plan(item).convert)
        if key not in (str, Any):
            to_name = converters.to_key(self.plan(key))
            if to_name is None:
                raise unsupported(
                    into,
                    "the keys of a JSON object are text: use str, int, float, datetime, date, "
                    "time, UUID, Decimal, or an Enum or Literal of text or of integers",
                )
            convert = converters.to_keyed(convert, to_name)
        return Plan(convert, converters.OBJECT, "dict")

    def _union(self, into: Any, arguments: tuple[Any, ...]) -> Plan:
        plans = [self.plan(argument) for argument in arguments]
        if converters.ANY in plans:
            return converters.ANY
        # Trying one record after another takes time exponential in the depth of the message,
        # and the order of two enums would decide which wins.
        objects = [plan for plan in plans if dict in plan.accepts]
        if len(objects) > 1:
            plans = [plan for plan in plans if dict not in plan.accepts]
            plans.append(_told_apart(into, objects))
        for many, count in (
            ("arrays", sum(list in plan.accepts for plan in plans)),
            ("enums", sum(plan.rank == converters.ENUM_RANK for plan in plans)),
        ):
            if count > 1:
                raise unsupported(
                    into,
                    f"several {many} in a union cannot be told apart: use one of them, or put "
                    "each into a dataclass with a Literal field",
                )
        return plans[0] if len(plans) == 1 else converters.to_union(plans)


def _told_apart(into: Any, records: list[Plan]) -> Plan:
    """Return the plan of several records, which a field of theirs tells apart."""
    for field in records[0].tags:
        values = [value for each in records for value in each.tags.get(field, ())]
        all_have_it = all(field in each.tags for each in records)
        if all_have_it and len(set(values)) == len(values):
            return converters.to_tagged(field, records)
    raise unsupported(
        into,
        "several objects in a union cannot be told apart: give each a field of one name with "
        'values of its own, such as kind: Literal["circle"] (msgspec: tag=True)',
    )


def _registered(cls: type, known: JsonType) -> Plan:
    if known.decode is None:
        raise unsupported(cls, "it is only written: register_json_type(…, decode=…) reads it")
    return converters.to_json_type(known)


def _tag(hint: Any) -> frozenset[tuple[type, Any]]:
    return frozenset((type(plain), plain) for plain, _ in records.literal_values(hint))


def _unhashable(item: Any) -> bool:
    """Return True for a type whose values cannot be in a set."""
    container = get_origin(item) or item
    if container in (Union, types.UnionType, tuple, typing.Annotated, frozenset):
        return any(_unhashable(each) for each in get_args(item) if each is not Ellipsis)
    if container in (abc.Sequence, abc.Mapping):
        return True
    return isinstance(container, type) and container.__hash__ is None


def _name(into: Any) -> str:
    return into.__name__ if isinstance(into, type) and not get_args(into) else repr(into)


def _values(into: Any, pairs: Iterable[tuple[Any, Any]], rank: int) -> Plan:
    """Return the plan of a Literal or an Enum: pairs of JSON values and their results."""
    values = {}
    for value, result in pairs:
        if type(value) not in converters.JSON_TYPES - {dict, list}:
            raise unsupported(into, "its values must be text, numbers, bool or None")
        values[type(value), value] = result
    return converters.to_value(values, rank)
