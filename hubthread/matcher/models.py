"""Convert JSON values to msgspec structs and pydantic models, if the user has these libraries.

Neither library is imported here.  A program with a class of one of them has imported it, so
the library is looked up among the loaded modules when a handler is registered (``jsontext``
does the same when a reply is encoded).

Layer: matcher.  Threads: pure functions; any thread may call them.
"""

from __future__ import annotations

import sys
from typing import Any

from hubthread.errors import HandleAnyNotPtr
from hubthread.matcher.converters import ARRAY, JSON_TYPES, OBJECT, Mismatch, Plan

__all__ = ["model_plan"]

MOST_SHOWN = 3
"""Errors of one message that are shown; a peer could cause any number of them."""


def model_plan(into: type) -> Plan | None:
    """Return the plan of a struct or model class; ``None`` for another class.

    :raises HandleAnyNotPtr: for a class that its library cannot decode.
    """
    msgspec: Any = sys.modules.get("msgspec")
    if msgspec is not None and issubclass(into, msgspec.Struct):
        return _struct_plan(msgspec, into)
    pydantic: Any = sys.modules.get("pydantic")
    if pydantic is not None and issubclass(into, pydantic.BaseModel):
        return _model_plan(pydantic, into)
    return None


def _struct_plan(msgspec: Any, into: Any) -> Plan:
    name = into.__name__
    try:
        msgspec.json.Decoder(into)  # raises for a type that it cannot decode
    except Exception as error:  # an annotation may run any code
        raise HandleAnyNotPtr(f"handle any not ptr: {name}: {error}", into) from error

    def convert(value: Any) -> Any:
        try:
            return msgspec.convert(value, into)
        except msgspec.ValidationError as error:
            raise Mismatch(f"not a {name}: {error}") from error

    return Plan(convert, ARRAY if into.__struct_config__.array_like else OBJECT, name)


def _model_plan(pydantic: Any, into: Any) -> Plan:
    name = into.__name__
    try:
        into.model_rebuild()  # does nothing unless a name in it was not defined yet
    except Exception as error:  # an annotation may run any code
        raise HandleAnyNotPtr(f"handle any not ptr: {name}: {error}", into) from error

    def convert(value: Any) -> Any:
        try:
            return into.model_validate(value)
        except pydantic.ValidationError as error:
            raise Mismatch(f"not a {name}: {_what(error)}") from error

    # A root model may take any JSON value.
    accepts = JSON_TYPES if issubclass(into, pydantic.RootModel) else OBJECT
    return Plan(convert, accepts, name)


def _what(error: Any) -> str:
    """Return the errors in one line, with their places, without the peer's values."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    shown = [
        f"{'.'.join(str(step) for step in each['loc'])}: {each['msg']}".removeprefix(": ")
        for each in found[:MOST_SHOWN]
    ]
    more = len(found) - len(shown)
    return "; ".join(shown) + (f" and {more} more" if more else "")
