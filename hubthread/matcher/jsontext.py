"""JSON text to values and back, hardened against hostile input.

Beyond the standard library, this module refuses NaN and infinities, numbers too large for a
float, lone surrogates (text that could not be encoded again), and nesting so deep that it
would overflow the stack of a C function, which ends the process instead of raising.

Layer: matcher.  Threads: pure functions; any thread may call them.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import reprlib
import sys
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, NoReturn

from hubthread.errors import PayloadError, WrongType, WrongValue
from hubthread.matcher.jsontypes import json_type_of

__all__ = [
    "MAX_DEPTH",
    "as_bytes",
    "as_fields",
    "as_text",
    "brief",
    "load_json",
    "marshal_json",
    "splice",
]

MAX_DEPTH = 100
"""Levels of arrays and objects that a message may nest.

``json`` recurses in C.  On a thread with a small stack (1 MiB on free-threaded 3.13) it
crashes the process at depths that its own guard still allows.
"""

# Matches to the end of the text even if the string is not closed: linear for any input.
_STRING = re.compile(r'"(?:[^"\\]+|\\.)*"?', re.DOTALL)
_BRACKET = re.compile(r"[\[\]{}]")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def load_json(data: str | bytes) -> Any:
    """Return the value of the JSON text ``data`` (bytes: UTF-8).

    :raises PayloadError: for text that is not JSON, and for values that the module refuses.
    """
    text = as_text(data)
    # The number of brackets bounds the depth, so a common message needs no closer look.
    if text.count("[") + text.count("{") > MAX_DEPTH and _too_deep(text):
        raise PayloadError(f"nested deeper than {MAX_DEPTH} levels")
    try:
        value = _decode(text)
    except json.JSONDecodeError as error:
        if text.startswith("\ufeff"):
            why = "the text begins with a byte order mark (U+FEFF): send it without the mark"
            raise PayloadError(f"not JSON: {why}") from None
        raise PayloadError(f"not JSON: {error}") from None
    except PayloadError:
        raise  # from parse_float or parse_constant
    except ValueError:
        # Python's limit on the digits of a number; its own message advises the programmer.
        raise PayloadError("a number has too many digits") from None
    if "\\u" in text and _SURROGATE.search(text):
        try:
            _encode(value).encode()
        except UnicodeEncodeError:
            raise PayloadError("text with a lone surrogate (half a character)") from None
    return value


def splice(prefix: str | bytes, data: str | bytes) -> str | bytes:
    """Return ``prefix`` with ``data`` behind it, of the type of ``prefix``."""
    if isinstance(prefix, str):
        return prefix + (data if isinstance(data, str) else data.decode())
    return prefix + (data.encode() if isinstance(data, str) else data)


def marshal_json(obj: object) -> str:
    """Return ``obj`` as compact JSON text.

    :param obj: any value that ``json`` accepts, a dataclass, an attrs class, a msgspec struct, a
        pydantic model, an ``Enum`` member (encoded as its value), a mapping, a set, a
        ``datetime``, ``date``, ``time``, ``UUID`` or ``Decimal`` (encoded as text), and what
        ``register_json_type`` has added, nested in any way.  The keys of a mapping may be text,
        numbers, members of an enum, and all that is encoded as text.
    :raises WrongValue: for a value that JSON cannot express.
    :raises WrongType: for an object of another type.
    """
    try:
        try:
            text = _encode(obj)
        except TypeError as error:
            if not str(error).startswith("keys must be"):
                raise
            text = _encode(_text_keys(obj))  # ``json`` asks ``default`` about values only
        if not text.isascii():
            text.encode()
    except UnicodeEncodeError:
        raise WrongValue(
            f"marshal: text in {_kind(obj)} has a lone surrogate (half a character)"
        ) from None
    except TypeError as error:
        raise WrongType(f"marshal: {_kind(obj)} cannot be JSON: {error}") from error
    except ValueError as error:
        raise WrongValue(f"marshal: {_kind(obj)} cannot be JSON: {error}") from error
    except RecursionError:
        raise WrongValue(f"marshal: {_kind(obj)} is nested too deeply") from None
    return text


def as_text(data: str | bytes) -> str:
    """Return ``data`` as text.

    :raises PayloadError: for bytes that are not UTF-8.
    """
    if isinstance(data, str):
        return data
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError as error:
        raise PayloadError(f"not UTF-8: {error.reason} at byte {error.start}") from None


def as_bytes(data: str | bytes) -> bytes:
    """Return ``data`` as bytes, with text as UTF-8.

    :raises PayloadError: for text with a lone surrogate.
    """
    if not isinstance(data, str):
        return data
    try:
        return data.encode()
    except UnicodeEncodeError as error:
        raise PayloadError(f"not UTF-8: {error.reason} at {error.start}") from None


def as_fields(obj: object) -> dict[Any, Any] | None:
    """Return the fields of a value that becomes a JSON object; ``None`` for other values."""
    plain = obj if isinstance(obj, dict) else _plainer(obj)
    return plain if isinstance(plain, dict) else None


def brief(value: object) -> str:
    """Return a short ``repr`` for messages, whatever a peer has put into ``value``."""
    try:
        return reprlib.repr(value)
    except ValueError:  # an int of too many digits to print
        return f"a very large {_kind(value)}"


def _plainer(obj: object) -> object:
    """Return the value that stands for ``obj`` in JSON; ``None`` for one that has none."""
    kind: Any = type(obj)
    known = json_type_of(kind)
    if known is not None:
        return known.encode(obj)
    # In the order of their cost: isinstance(obj, Mapping) takes as long as all others together.
    if "__dataclass_fields__" in kind.__dict__ and "__pydantic_serializer__" not in kind.__dict__:
        return {field.name: getattr(obj, field.name) for field in dataclasses.fields(kind)}
    if hasattr(kind, "__struct_fields__"):
        return sys.modules["msgspec"].to_builtins(obj, enc_hook=_plain)
    if isinstance(obj, Enum):
        return obj.value
    if hasattr(kind, "__pydantic_serializer__"):
        model: Any = obj
        if hasattr(kind, "model_dump"):
            return model.model_dump(mode="json", by_alias=True)
        return kind.__pydantic_serializer__.to_python(obj, mode="json", by_alias=True)
    if dataclasses.is_dataclass(kind):  # the subclass of one
        return {field.name: getattr(obj, field.name) for field in dataclasses.fields(kind)}
    if hasattr(kind, "__attrs_attrs__"):
        return {field.name: getattr(obj, field.name) for field in kind.__attrs_attrs__}
    return dict(obj) if isinstance(obj, Mapping) else None


def _plain(obj: object) -> object:
    plain = _plainer(obj)
    if plain is not None or isinstance(obj, Enum) or json_type_of(type(obj)) is not None:
        return plain
    raise TypeError(
        f"{brief(obj)} is a {_kind(obj)}; use dataclasses, mappings, lists, text or numbers, or "
        f"say how to write it: register_json_type({_kind(obj)}, encode=…)"
    )


def _text_keys(obj: object) -> object:
    """Return ``obj`` with the keys of its mappings as ``json`` accepts them."""
    if isinstance(obj, dict):
        return {_text_key(key): _text_keys(value) for key, value in obj.items()}
    if isinstance(obj, list | tuple):
        return [_text_keys(value) for value in obj]
    if obj is None or isinstance(obj, str | int | float):
        return obj
    return _text_keys(_plain(obj))


def _text_key(key: object) -> object:
    if isinstance(key, Enum):
        key = key.value
    if key is None or isinstance(key, str | int | float):
        return key
    known = json_type_of(type(key))
    if known is None or not known.is_key:
        raise TypeError(
            f"keys must be text, numbers, dates or UUIDs; {brief(key)} is a {_kind(key)}"
        )
    return known.encode(key)


def _too_deep(text: str) -> bool:
    depth = 0
    for bracket in _BRACKET.finditer(_STRING.sub("", text)):
        depth += 1 if bracket[0] in "[{" else -1
        if depth > MAX_DEPTH:
            return True
    return False


def _decode(text: str) -> Any:
    # JSONDecoder.decode matches two regular expressions for blanks around the value, which cost
    # as much as the value of a short message.
    try:
        value, end = _scan(text, 0)
    except StopIteration:  # blanks before the value, or no value
        return _decoder.decode(text)
    return value if end == len(text) else _decoder.decode(text)


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise PayloadError("a number is too large for a float")
    return number


def _refuse(constant: str) -> NoReturn:
    raise PayloadError(f"not JSON: {constant}")


def _kind(obj: object) -> str:
    return type(obj).__name__


_decoder = json.JSONDecoder(parse_float=_finite, parse_constant=_refuse)
_scan: Callable[[str, int], tuple[Any, int]] = _decoder.scan_once  # type: ignore[attr-defined]
_encode = json.JSONEncoder(
    separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=_plain
).encode
