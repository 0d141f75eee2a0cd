"""What a handler is, and the check that a function can be one.  Layer: protocol.

Everything is decided at registration, on the thread that registers: how many arguments
the handler takes, and how its payload is unmarshalled.  A message only runs the result.
"""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from inspect import Parameter
from itertools import pairwise
from typing import Any, TypeVar

from hubthread.errors import (
    HandleAnyNotPtr,
    HandleKindError,
    HandleNotFunc,
    HubThreadError,
    PayloadError,
)
from hubthread.matcher.compile import compile_converter
from hubthread.matcher.jsontext import as_bytes, as_text, brief, load_json

__all__ = [
    "Empty",
    "HandleFunc",
    "HandlePack",
    "Handler",
    "Unmarshal",
    "name_of",
    "pack_handler",
    "unmarshal_with",
]

Meta = TypeVar("Meta")

HandleFunc = Callable[[Any, Meta], object]
"""A function of the context and the client's meta (specification: ``HandleFunc``)."""

Handler = Callable[[Any, Meta, Any], object] | HandleFunc[Meta]
"""What a matcher takes: ``(ctx, meta, req)``, or ``(ctx, meta)`` to ignore the payload."""

Unmarshal = Callable[[Any, Any], Any]
"""``(payload, into)`` to an ``into`` (specification: ``UnmarshalFunc``)."""

Load = Callable[[Any, bool, "str | bytes"], Any]


@dataclass(frozen=True)
class Empty:
    """No payload: a handler that asks for it is called without unmarshalling anything."""


class HandlePack:
    """A handler and how to call it (specification: ``HandlePack``).

    ``load(payload, encoded, data)`` makes its third argument: ``encoded`` says whether
    ``payload`` is text or bytes still, ``data`` is the whole message.  ``load`` is ``None``
    for a handler that takes two arguments.
    """

    __slots__ = ("handler", "load")

    def __init__(self, handler: Callable[..., object], load: Load | None) -> None:
        self.handler = handler
        self.load = load


def pack_handler(
    header: object, handler: object, unmarshal: Unmarshal | None, decoded_text: bool
) -> HandlePack:
    """``handler``, checked and made ready for the messages with ``header``.

    ``unmarshal`` replaces JSON; ``decoded_text`` is the header format's.  Raises
    ``HandleNotFunc`` and ``HandleKindError``, which say what to write instead.
    """
    if not callable(handler):
        raise HandleNotFunc(
            f"handle not func: {brief(handler)} for header {header!r}: "
            "give a function (ctx, meta, req) or (ctx, meta)",
            header,
        )
    try:
        parameter = _payload_parameter(handler)
        load = None if parameter is None else _loader(handler, parameter, unmarshal, decoded_text)
    except (_Unfit, HandleAnyNotPtr) as error:
        cause = error.__cause__ if isinstance(error, _Unfit) else error
        raise HandleKindError(
            f"handle kind error: header {header!r}, handler {name_of(handler)}: {error}", header
        ) from cause
    return HandlePack(handler, load)


def name_of(handler: object) -> str:
    """What messages call a handler."""
    return getattr(handler, "__qualname__", None) or repr(handler)


class _Unfit(Exception):
    """Why a callable is no handler."""


def _payload_parameter(handler: Callable[..., object]) -> Parameter | None:
    """The parameter that takes the payload, ``None`` where there is no such."""
    _refuse_other_kinds(handler)
    try:
        parameters = inspect.signature(handler).parameters.values()
    except (TypeError, ValueError, NameError) as error:
        raise _Unfit(f"its parameters cannot be read: {error}; wrap it in a function") from error
    positional = [
        parameter
        for parameter in parameters
        if parameter.kind in (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    ]
    variadic = [each for each in parameters if each.kind is Parameter.VAR_POSITIONAL]
    for parameter in parameters:
        extra = parameter.kind is Parameter.KEYWORD_ONLY or parameter in positional[3:]
        if extra and parameter.default is Parameter.empty:
            raise _Unfit(
                f"nothing is given for its parameter {parameter.name!r}: "
                "take (ctx, meta, req), and give any other a default"
            )
    if len(positional) > 2:
        return positional[2]
    if variadic:
        return variadic[0].replace(annotation=Parameter.empty)  # it speaks of each argument
    if len(positional) < 2:
        raise _Unfit(
            f"it takes {len(positional)} positional arguments: "
            "take (ctx, meta, req) or (ctx, meta)"
        )
    return None


def _refuse_other_kinds(handler: Callable[..., object]) -> None:
    if isinstance(handler, type):
        raise _Unfit("it is a class; give a function, or a method of an instance")
    called = _called(handler)
    if inspect.iscoroutinefunction(called) or inspect.isasyncgenfunction(called):
        raise _Unfit("it is async, and nothing awaits it here: write a plain, blocking def")
    if inspect.isgeneratorfunction(called):
        raise _Unfit("it is a generator, which a call does not run: return instead of yield")


def _called(handler: Any) -> Any:
    """The function that a call runs: inside partials, bound methods, callable objects."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    if inspect.ismethod(handler):
        return handler.__func__
    return handler if inspect.isroutine(handler) else type(handler).__call__


def _loader(
    handler: Callable[..., object],
    parameter: Parameter,
    unmarshal: Unmarshal | None,
    decoded_text: bool,
) -> Load:
    # What inspect.signature has read: where a decorator uses functools.wraps, the inner one.
    function = inspect.unwrap(_called(handler))
    names = _names_around(function)
    into = _annotation(function, parameter, names)
    if into is Empty:
        empty = Empty()
        return lambda payload, encoded, data: empty
    # Text and bytes are the payload as it came: where the format has decoded it, its
    # message, unless a payload of text is what the format hands over.
    if into is bytes:
        return lambda payload, encoded, data: as_bytes(payload if encoded else data)
    if into is str and not decoded_text:
        return lambda payload, encoded, data: as_text(payload if encoded else data)
    if unmarshal is not None:
        return _custom(unmarshal, into)
    convert = compile_converter(into, names)
    return lambda payload, encoded, data: convert(load_json(payload) if encoded else payload)


def _custom(unmarshal: Unmarshal, into: Any) -> Load:
    return lambda payload, encoded, data: unmarshal_with(unmarshal, payload, into)


def unmarshal_with(unmarshal: Unmarshal, payload: Any, into: Any) -> Any:
    """``payload`` by the user's function; ``PayloadError`` for whatever it calls a misfit."""
    try:
        return unmarshal(payload, into)
    except HubThreadError:
        raise
    except Exception as error:
        raise PayloadError(f"the payload cannot be unmarshalled: {error}") from error


def _annotation(function: Any, parameter: Parameter, names: dict[str, Any]) -> Any:
    """What the parameter's annotation stands for; ``Any`` where there is none.

    This annotation alone: those of ``ctx`` and ``meta`` may name what only a type
    checker imports.
    """
    if parameter.annotation is Parameter.empty:
        return Any
    holder = types.SimpleNamespace(__annotations__={parameter.name: parameter.annotation})
    module = getattr(function, "__globals__", {})
    try:
        return typing.get_type_hints(holder, module, names, include_extras=True)[parameter.name]
    except Exception as error:  # evaluating an annotation runs whatever it says
        raise _Unfit(
            f"the annotation {parameter.annotation!r} of parameter {parameter.name!r} cannot be "
            f"resolved ({error}): define or import the type at module level, outside "
            "TYPE_CHECKING, and before the handler is registered"
        ) from error


def _names_around(function: Any) -> dict[str, Any]:
    """What the functions around a local function have in their local variables.

    An application made in a function has its types there; annotations kept as text do
    not hold on to them.  While that function runs, its frame has them.
    """
    parts = getattr(function, "__qualname__", "").split(".")
    around = {name for name, local in pairwise(parts) if local == "<locals>"}
    names: dict[str, Any] = {}
    if not around:
        return names
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code.co_name in around and frame.f_globals is function.__globals__:
            names = {**frame.f_locals, **names}
        frame = frame.f_back
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    for name, cell in cells:
        try:
            names[name] = cell.cell_contents
        except ValueError:
            continue  # not assigned yet
    return names
