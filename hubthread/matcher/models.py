"""Records of libraries that only the user may have: msgspec structs, pydantic models.

Layer: protocol.  Pure functions: any thread.

Neither library is ever imported here.  Whoever has a class of theirs has imported it, so
it is looked up among the loaded modules, when a handler is registered (and in ``jsontext``
when a reply is encoded).
"""

from __future__ import annotations

import sys
from typing import Any

from hubthread.errors import HandleAnyNotPtr
from hubthread.matcher.converters import ARRAY, JSON_TYPES, OBJECT, Mismatch, Plan

__all__ = ["model_plan"]

MOST_SHOWN = 3
"""Errors of one message that are shown; a model may find as many as the peer likes."""


def model_plan(into: type) -> Plan | None:
    """How to make an ``into`` of a JSON value; ``None`` where it is no such class.

    Raises ``HandleAnyNotPtr`` where the library cannot make one.
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
        msgspec.json.Decoder(into)  # refuses what it could not decode, before any message
    except Exception as error:  # evaluating annotations runs whatever they say
        raise HandleAnyNotPtr(f"handle any not ptr: {name}: {error}", into) from error

    def convert(value: Any) -> Any:
        try:
            return msgspec.convert(value, into)
        except msgspec.ValidationError as error:
            raise Mismatch(f"no {name}: {error}") from error

    return Plan(convert, ARRAY if into.__struct_config__.array_like else OBJECT, name)


def _model_plan(pydantic: Any, into: Any) -> Plan:
    name = into.__name__
    try:
        into.model_rebuild()  # does nothing unless a name in it was not defined yet
    except Exception as error:  # evaluating annotations runs whatever they say
        raise HandleAnyNotPtr(f"handle any not ptr: {name}: {error}", into) from error

    def convert(value: Any) -> Any:
        try:
            return into.model_validate(value)
        except pydantic.ValidationError as error:
            raise Mismatch(f"no {name}: {_what(error)}") from error

    # A root model takes whatever it is told to.
    accepts = JSON_TYPES if issubclass(into, pydantic.RootModel) else OBJECT
    return Plan(convert, accepts, name)


def _what(error: Any) -> str:
    """The errors in one line, with their places; the values are the peer's, and left out."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    shown = [
        f"{'.'.join(str(step) for step in each['loc'])}: {each['msg']}".removeprefix(": ")
        for each in found[:MOST_SHOWN]
    ]
    more = len(found) - len(shown)
    return "; ".join(shown) + (f" and {more} more" if more else "")
