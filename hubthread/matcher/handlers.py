"""Check that a function can be a handler, and prepare it for its messages.

Everything is decided at registration: the number of arguments of the handler, and the way to
unmarshal its payload.  A message only runs the result.

Layer: matcher.  Threads: the thread that registers the handler.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from inspect import Parameter
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

from hubthread.checks import called_function, refuse_unrun, why_never_run
from hubthread.errors import (
    HandleAnyNotPtr,
    HandleKindError,
    HandleNotFunc,
    HubThreadError,
    PayloadError,
)
from hubthread.matcher.compile import compile_plan, telling_the_path
from hubthread.matcher.converters import Plan
from hubthread.matcher.jsontext import as_bytes, as_text, brief, load_json

__all__ = [
    "Empty",
    "HandleFunc",
    "HandlePack",
    "Handler",
    "Unmarshal",
    "Wire",
    "name_of",
    "pack_handler",
    "types_of",
    "unmarshal_with",
]

Meta = TypeVar("Meta")

HandleFunc = Callable[[Any, Meta], object]
"""A function of the context and the client's meta (specification: ``HandleFunc``)."""

Handler = Callable[[Any, Meta, Any], object] | HandleFunc[Meta]
"""A handler: ``(ctx, meta, req)``, or ``(ctx, meta)`` to ignore the payload."""

Unmarshal = Callable[[Any, Any], Any]
"""A function ``(payload, into)`` that returns an ``into`` (specification: ``UnmarshalFunc``)."""

Load = Callable[[Any, bool, "str | bytes"], Any]
"""See ``HandlePack.load``."""


@dataclass(frozen=True)
class Empty:
    """The annotation of a handler that needs no payload: nothing is unmarshalled."""


class Wire(NamedTuple):
    """The properties of a wire protocol on which the loading of payloads depends."""

    unmarshal: Unmarshal | None = None
    """Replaces JSON."""
    decoded_text: bool = False
    """The attribute of the header format, as the next three."""
    header_field: str | None = None
    id_field: str | None = None
    reply_field: str | None = None


class HandlePack:
    """A handler and the function that loads its payload (specification: ``HandlePack``)."""

    __slots__ = ("handler", "id_field", "load")

    handler: Callable[..., object]
    load: Load | None
    """``load(value, encoded, payload)`` returns the third argument of the handler.  ``encoded``
    is True if ``value`` is text or bytes to unmarshal; ``payload`` is the payload or message as
    it came.  ``None`` for a handler with two arguments."""

    id_field: str | None
    """The field of the payload's type that takes the id of a request, if there is one."""

    def __init__(
        self, handler: Callable[..., object], load: Load | None, id_field: str | None = None
    ) -> None:
        self.handler = handler
        self.load = load
        self.id_field = id_field


def pack_handler(header: object, handler: object, wire: Wire) -> HandlePack:
    """Check ``handler``, and prepare it for the messages with ``header``.

    :raises HandleNotFunc: if ``handler`` is not callable.
    :raises HandleKindError: if its parameters or annotations do not fit; the message says what
        to write instead.
    """
    if not callable(handler):
        raise HandleNotFunc(
            f"handle not func: {brief(handler)} for header {header!r}: "
            "give a function (ctx, meta, req) or (ctx, meta)",
            header,
        )
    try:
        parameter = _payload_parameter(handler)
        if parameter is None:
            return HandlePack(handler, None)
        return _packed(header, handler, parameter, wire)
    except (_Unfit, HandleAnyNotPtr) as error:
        cause = error.__cause__ if isinstance(error, _Unfit) else error
        raise HandleKindError(
            f"handle kind error: header {header!r}, handler {name_of(handler)}: {error}", header
        ) from cause


def types_of(handler: Callable[..., object]) -> tuple[Any, Any]:
    """Return the types of a handler's payload and of its result, as its annotations say.

    The payload's is ``None`` for a handler without one.  The result's is ``Any`` without an
    annotation, and for one that cannot be resolved.
    """
    parameter = _payload_parameter(handler)
    function = inspect.unwrap(called_function(handler))
    names = _names_around(function)
    payload = None if parameter is None else _annotation(function, parameter, names)
    returned = inspect.signature(handler).return_annotation
    try:
        result = Parameter("result", Parameter.POSITIONAL_ONLY, annotation=returned)
        return payload, _annotation(function, result, names)
    except _Unfit:
        return payload, Any


def name_of(handler: object) -> str:
    """Return the name of a handler for messages."""
    return getattr(handler, "__qualname__", None) or repr(handler)


class _Unfit(Exception):
    """The reason why a callable cannot be a handler."""


def _payload_parameter(handler: Callable[..., object]) -> Parameter | None:
    """Return the parameter that takes the payload, if the handler has one."""
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
                f"its parameter {parameter.name!r} gets no argument: "
                "take (ctx, meta, req), and give every other parameter a default"
            )
    if len(positional) > 2:
        return positional[2]
    if variadic:
        return variadic[0].replace(annotation=Parameter.empty)  # it annotates each argument
    if len(positional) < 2:
        raise _Unfit(
            f"it takes {len(positional)} positional arguments: "
            "take (ctx, meta, req) or (ctx, meta)"
        )
    return None


def _refuse_other_kinds(handler: Callable[..., object]) -> None:
    if isinstance(handler, type):
        raise _Unfit("it is a class; give a function, or a method of an instance")
    why = why_never_run(handler)
    if why is not None:
        raise _Unfit(why)


def _packed(
    header: object, handler: Callable[..., object], parameter: Parameter, wire: Wire
) -> HandlePack:
    # The function that inspect.signature has read: the inner one under functools.wraps.
    function = inspect.unwrap(called_function(handler))
    names = _names_around(function)
    into = _annotation(function, parameter, names)
    if into is Empty:
        empty = Empty()
        return HandlePack(handler, lambda value, encoded, payload: empty)
    # Text and bytes are the payload as it came; str is also the type of a value that a format
    # with decoded text has decoded.
    if into is bytes:
        return HandlePack(handler, lambda value, encoded, payload: as_bytes(payload))
    if into is str and not wire.decoded_text:
        return HandlePack(handler, lambda value, encoded, payload: as_text(payload))
    if wire.unmarshal is not None:
        return HandlePack(handler, _custom(wire.unmarshal, into))
    plan = compile_plan(into, names)
    convert = telling_the_path(plan.convert)
    id_field = wire.id_field if wire.id_field in plan.fields else None
    if wire.reply_field in plan.fields:
        raise _Unfit(
            f"its payload has the field {wire.reply_field!r}, which makes a message an answer: "
            "rename the field, or give JsonHeader another reply_field or a body"
        )
    field = wire.header_field
    if field is None or field not in plan.fields:
        return HandlePack(handler, _json(convert), id_field)
    given = header.value if isinstance(header, Enum) else header
    _check_tag(given, field, plan)

    def load(value: Any, encoded: bool, payload: str | bytes) -> Any:
        return convert({**value, field: given})

    return HandlePack(handler, load, id_field)


def _json(convert: Callable[[Any], Any]) -> Load:
    return lambda value, encoded, payload: convert(load_json(value) if encoded else value)


def _check_tag(header: object, field: str, plan: Plan) -> None:
    """Refuse a type whose ``field`` takes the header, but not this one."""
    values = plan.tags.get(field)
    if values is not None and (type(header), header) not in values:
        shown = ", ".join(sorted(repr(value) for _, value in values))
        raise _Unfit(
            f"the field {field!r} of its payload takes {shown}, and the header is {header!r}: "
            "register it for that header"
        )


def _custom(unmarshal: Unmarshal, into: Any) -> Load:
    return lambda value, encoded, payload: unmarshal_with(unmarshal, value, into)


def unmarshal_with(unmarshal: Unmarshal, payload: Any, into: Any) -> Any:
    """Unmarshal ``payload`` with the user's function.

    :raises PayloadError: for any exception of the function.
    """
    try:
        obj = unmarshal(payload, into)
        if obj is not None:
            refuse_unrun(obj)
        return obj
    except HubThreadError:
        raise
    except Exception as error:
        raise PayloadError(f"the payload cannot be unmarshalled: {error}") from error


def _annotation(function: Any, parameter: Parameter, names: dict[str, Any]) -> Any:
    """Return the type that the parameter's annotation names; ``Any`` without an annotation.

    Only this annotation is evaluated: those of ``ctx`` and ``meta`` may name types that only a
    type checker imports.
    """
    if parameter.annotation is Parameter.empty:
        return Any
    holder = types.SimpleNamespace(__annotations__={parameter.name: parameter.annotation})
    module = getattr(function, "__globals__", {})
    try:
        return typing.get_type_hints(holder, module, names, include_extras=True)[parameter.name]
    except Exception as error:  # an annotation may run any code
        raise _Unfit(
            f"the annotation {parameter.annotation!r} of parameter {parameter.name!r} cannot be "
            f"resolved ({error}): define or import the type at module level, outside "
            "TYPE_CHECKING, and before the handler is registered"
        ) from error


def _names_around(function: Any) -> dict[str, Any]:
    """Return the local variables of the functions around a local function.

    An application made in a function has its types in local variables, which annotations kept
    as text do not capture.  While the function runs, the variables are found in its frame.
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
