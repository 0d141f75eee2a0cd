"""Compile a type to a converter from decoded JSON values.

A type is compiled once, at registration, to nested closures; a message only runs them.

=================================  ==========================================================
type                               JSON values
=================================  ==========================================================
``Any``, ``object``                any value, unchanged
``bool``, ``int``, ``str``,        exactly this type (``True`` and 3.0 are not ``int``)
``None``
``float``                          a finite number; an ``int`` becomes a ``float``
``list[T]``, ``Sequence[T]``       an array
``tuple[T, ...]``, ``tuple[A, B]``   an array, with the length of the tuple if it has one
``dict[str, T]``, ``Mapping``      an object
dataclass                          an object with its fields; fields with defaults may be
                                   missing; a ``ValueError`` from ``__post_init__`` refuses
``TypedDict``                      an object with its keys (``Required``, ``NotRequired``)
msgspec ``Struct``,                by the rules of these libraries, if the user has them
pydantic ``BaseModel``
``Enum``                           the value of a member
``Literal``                        one of its values
unions, ``Optional``               at most one object, one array and one enum: several could
                                   only be told apart by trying
``Annotated[T, …]``, ``NewType``   as ``T``
=================================  ==========================================================

Fields that a dataclass or ``TypedDict`` does not have are ignored: a newer client may talk to
an older server.

Layer: matcher.  Threads: pure functions; any thread may call them.  A converter runs on the
thread that calls the handler.
"""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from collections import abc
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from functools import lru_cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, overload

from hubthread.errors import HandleAnyNotPtr, PayloadError
from hubthread.matcher import converters
from hubthread.matcher.converters import Convert, Field, Mismatch, Plan
from hubthread.matcher.jsontext import as_bytes, load_json, marshal_json
from hubthread.matcher.models import model_plan

__all__ = ["compile_converter", "convert", "marshal_json", "unmarshal_json"]

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
    return _telling_the_path(_compiled(into).convert, path)(obj)


@overload
def unmarshal_json(data: str | bytes, into: type[T]) -> T: ...
@overload
def unmarshal_json(data: str | bytes, into: Any) -> Any: ...
def unmarshal_json(data: str | bytes, into: Any) -> Any:
    """Convert the JSON text ``data`` to the type ``into``; ``bytes`` gives ``data`` undecoded.

    :raises PayloadError: for text that is not JSON, and for a value that does not fit.
    :raises HandleAnyNotPtr: for a type that is not in the table of this module.
    """
    if into is bytes:
        return as_bytes(data)
    return convert(load_json(data), into)


def compile_converter(into: Any, namespace: Mapping[str, Any] | None = None) -> Convert:
    """Return a function like ``convert(obj, into)``, with ``into`` compiled.

    :param namespace: the names that annotations of local classes may use.
    :raises HandleAnyNotPtr: for a type that is not in the table of this module.
    """
    plan = _Compiler(namespace).plan(into) if namespace else _compiled(into)
    return _telling_the_path(plan.convert, "$")


def _telling_the_path(inner: Convert, path: str) -> Convert:
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
    except TypeError:  # such as Annotated[int, {}]
        return _Compiler({}).plan(into)
    return _cached_plan(into)


# Unions that differ only in the order of their members are cached as one: see Plan.rank.
@lru_cache(maxsize=512)
def _cached_plan(into: Any) -> Plan:
    return _Compiler({}).plan(into)


def _unsupported(into: Any, why: str = "") -> HandleAnyNotPtr:
    why = why or (
        "no JSON value can be converted to it; use a dataclass, TypedDict, dict, list, tuple, "
        "Enum, Literal, bool, int, float, str, None, Any, or a union of these"
    )
    name = into.__name__ if isinstance(into, type) and not get_args(into) else repr(into)
    return HandleAnyNotPtr(f"handle any not ptr: {name}: {why}", into)


class _Compiler:
    """The compiler of one type and the types in it, which may include itself."""

    def __init__(self, namespace: Mapping[str, Any]) -> None:
        self._namespace = namespace
        self._begun: dict[type, list[Plan]] = {}

    def plan(self, into: Any) -> Plan:
        """Return the plan for ``into``.

        :raises HandleAnyNotPtr: for a type that is not in the table of this module.
        """
        origin, arguments = get_origin(into), get_args(into)
        if origin is typing.Annotated:
            return self.plan(arguments[0])
        if origin in (Union, types.UnionType):
            return self._union(into, arguments)
        if origin is Literal:
            return _values(into, zip(arguments, arguments, strict=True), converters.LITERAL_RANK)
        if hasattr(into, "__supertype__"):  # NewType
            return self.plan(into.__supertype__)
        container = origin or into
        if container in (list, abc.Sequence):
            return self._array(arguments)
        if container is tuple:
            return self._tuple(arguments)
        if container in (dict, abc.Mapping):
            return self._dict(into, arguments)
        if into is None or into is Any or (isinstance(into, type) and origin is None):
            return converters.SCALARS.get(into) or self._class(into)
        raise _unsupported(into)

    def _class(self, into: Any) -> Plan:
        if issubclass(into, Enum):
            pairs = [(member.value, member) for member in into]
            return _values(into, pairs, converters.ENUM_RANK)
        if hasattr(into, "__dataclass_fields__"):  # a dataclass
            fields = _dataclass_fields(into)
            return self._record(into, lambda hints: fields, lambda found: into(**found))
        if issubclass(into, dict) and hasattr(into, "__required_keys__"):  # a TypedDict
            return self._record(into, lambda hints: _typeddict_fields(into, hints), None)
        plan = model_plan(into)
        if plan is not None:
            return plan
        raise _unsupported(into)

    def _record(self, into: type, fields_of: _FieldsOf, make: Convert | None) -> Plan:
        name = into.__name__
        if into in self._begun:
            begun = self._begun[into]
            # A type that contains itself: its plan is complete before the first value.
            return Plan(lambda value: begun[0].convert(value), converters.OBJECT, name)  # noqa: PLW0108
        done = self._begun[into] = []
        hints = self._hints(into)
        fields = [
            Field(key, self._field(into, key, hints[key]), needed)
            for key, needed in fields_of(hints)
        ]
        done.append(Plan(converters.to_record(name, fields, make), converters.OBJECT, name))
        return done[0]

    def _hints(self, into: type) -> dict[str, Any]:
        local = dict(self._namespace) if "<locals>" in into.__qualname__ else None
        try:
            return typing.get_type_hints(into, localns=local, include_extras=True)
        except Exception as error:  # an annotation may run any code
            raise _unsupported(
                into,
                f"an annotation in it cannot be resolved ({error}); define its types at module "
                "level, outside TYPE_CHECKING",
            ) from error

    def _field(self, into: type, key: str, hint: Any) -> Convert:
        if _marker(hint) is not None:
            (hint,) = get_args(hint)
        try:
            return self.plan(hint).convert
        except HandleAnyNotPtr as error:
            message = f"{error}, in field {key!r} of {into.__name__}"
            raise HandleAnyNotPtr(message, error.target) from error

    def _array(self, arguments: tuple[Any, ...]) -> Plan:
        item = self.plan(arguments[0] if arguments else Any)
        return Plan(converters.to_array(item.convert), converters.ARRAY, "list")

    def _tuple(self, arguments: tuple[Any, ...]) -> Plan:
        if not arguments or arguments[-1] is Ellipsis:
            to_list = self._array(arguments).convert
            return Plan(lambda value: tuple(to_list(value)), converters.ARRAY, "list")
        items = [self.plan(argument).convert for argument in arguments]
        return Plan(converters.to_tuple(items), converters.ARRAY, "list")

    def _dict(self, into: Any, arguments: tuple[Any, ...]) -> Plan:
        key, item = arguments or (str, Any)
        if key not in (str, Any):
            raise _unsupported(into, "the keys of a JSON object are text: dict[str, …]")
        return Plan(converters.to_object(self.plan(item).convert), converters.OBJECT, "dict")

    def _union(self, into: Any, arguments: tuple[Any, ...]) -> Plan:
        plans = [self.plan(argument) for argument in arguments]
        if converters.ANY in plans:
            return converters.ANY
        # Trying one record after another takes time exponential in the depth of the message,
        # and the order of two enums would decide which wins.
        for many, count in (
            ("objects", sum(dict in plan.accepts for plan in plans)),
            ("arrays", sum(list in plan.accepts for plan in plans)),
            ("enums", sum(plan.rank == converters.ENUM_RANK for plan in plans)),
        ):
            if count > 1:
                raise _unsupported(into, f"several {many} in a union cannot be told apart")
        return converters.to_union(plans)


_Fields = Iterable[tuple[str, bool]]
_FieldsOf = Callable[[dict[str, Any]], _Fields]


def _dataclass_fields(into: Any) -> _Fields:
    fields = [field for field in dataclasses.fields(into) if field.init]
    try:
        inspect.signature(into).bind(**{field.name: None for field in fields})
    except TypeError as error:
        raise _unsupported(into, f"it cannot be made of its fields alone: {error}") from None
    missing = dataclasses.MISSING
    return [
        (field.name, field.default is missing and field.default_factory is missing)
        for field in fields
    ]


def _typeddict_fields(into: Any, hints: dict[str, Any]) -> _Fields:
    # The marker goes first: __required_keys__ is wrong for annotations kept as text.
    return [
        (key, marker == "Required" if (marker := _marker(hint)) else key in into.__required_keys__)
        for key, hint in hints.items()
    ]


def _marker(hint: Any) -> str | None:
    """Return ``Required`` or ``NotRequired``, if around ``hint``; 3.10 has no such types."""
    name = getattr(get_origin(hint), "_name", None)
    return name if name in ("Required", "NotRequired") else None


def _values(into: Any, pairs: Iterable[tuple[Any, Any]], rank: int) -> Plan:
    """Return the plan of a Literal or an Enum: pairs of JSON values and their results."""
    values = {}
    for value, result in pairs:
        if type(value) not in converters.JSON_TYPES - {dict, list}:
            raise _unsupported(into, "its values must be text, numbers, bool or None")
        values[type(value), value] = result
    return converters.to_value(values, rank)
