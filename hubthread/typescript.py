"""``hubthread types``: TypeScript interfaces for the messages of a matcher and of rooms.

The messages to the server, and the answers, come from the types of the handlers.  The messages
from the server come from the types of pushes, each with a ``Literal`` field for the header.

Layer: top.  Threads: pure functions; any thread may call them.
"""

from __future__ import annotations

import enum
import inspect
import json
import re
import types
import typing
from collections import abc
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from hubthread.errors import WrongValue
from hubthread.matcher import records
from hubthread.matcher.handlers import Empty, types_of
from hubthread.matcher.jsontypes import exact_json_type
from hubthread.matcher.matcher import MatcherMap
from hubthread.matcher.records import RecordField

__all__ = ["check_pushes", "declarations"]

_SCALARS: dict[Any, str] = {
    Any: "unknown", object: "unknown", bool: "boolean", int: "number", float: "number",
    str: "string", None: "null", type(None): "null", bytes: "unknown", bytearray: "unknown",
}  # fmt: skip

_JSON = {str: "string", int: "number", float: "number", bool: "boolean", type(None): "null"}

_HEAD = """\
/** The messages of {source}: made by `hubthread types`, not by hand. */

import type * as client from "./hubthread.js"
"""

_HUB = """
type Given<Fields, How> =
  {} extends Fields ? [fields?: Fields, how?: How] : [fields: Fields, how?: How]
type Roomless<Fields> = Fields extends unknown ? Omit<Fields, "room"> : never
type Listen = <T extends keyof Received>(
  type: T, listener: (message: Received[T]) => void, how?: { signal?: AbortSignal },
) => () => void

/** A hub with these messages: `connect("/ws") as TypedHub`. */
export interface TypedHub extends Omit<client.Hub, "send" | "request" | "on" | "room"> {
  send<T extends keyof Sent>(type: T, ...how: Given<Sent[T], client.How>): client.Fate
  request<T extends keyof Answers & keyof Sent>(
    type: T, ...how: Given<Sent[T], { timeout?: number; signal?: AbortSignal }>
  ): Promise<Answers[T]>
  on: Listen & client.Hub["on"]
  room(name: string, options?: { replay?: number }): TypedRoom
}

/** A room with these messages: what `TypedHub.room` returns. */
export interface TypedRoom extends Omit<client.Room, "send" | "on"> {
  send<T extends keyof Sent>(type: T, ...how: Given<Roomless<Sent[T]>, client.How>): client.Fate
  on: Listen & client.Room["on"]
}
"""

# Names that the file uses for its own interfaces, or that TypeScript has.
_TAKEN = frozenset(
    {"Sent", "Answers", "Received", "TypedHub", "TypedRoom", "Given", "Roomless", "Listen"}
    | {"client", "Array", "Omit", "Promise", "Record", "AbortSignal"}
)

_IDENTIFIER = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")


def declarations(matcher: MatcherMap[Any, Any], pushes: Iterable[Any], source: str) -> str:
    """Return the text of a ``.d.ts`` file.

    :param pushes: the types of the server's pushes.  Each type, or each member of a union, has a
        field ``type`` with a ``Literal``.
    :param source: the name of the matcher, for the first line.
    :raises WrongValue: for a type that no message can have.
    """
    writer = _Writer()
    field = matcher._coding.wire.header_field or "type"
    sent, answers, received = [], [], []
    for header, pack in matcher._packs.items():
        name = header.value if isinstance(header, enum.Enum) else header
        payload, result = types_of(pack.handler)
        sent.append((name, writer.payload(payload, field)))
        if result not in (None, type(None)):
            answers.append((name, result))
    # Only now: a field with a default may be missing in a message that a client sends.
    writer.complete = True
    told = [(name, writer.answer(result)) for name, result in answers]
    for push in pushes:
        for kind in _members(push):
            received += [(name, writer.written(kind)) for name in _headers(kind, field)]
    parts = [
        _HEAD.format(source=source),
        _table("Sent", "The fields of each message to the server, by its type.", sent),
        _table("Answers", "The answer to each request, by its type.", told),
        _table("Received", "Each message from the server, by its type.", received),
        *writer.interfaces.values(),
        _HUB,
    ]
    return "".join(parts)


class _Writer:
    """Writes types, and collects the interfaces that they name."""

    def __init__(self) -> None:
        self.interfaces: dict[str, str] = {}
        self.complete = False
        """True while types of the server's messages are written, in which no field is missing."""
        self._names: dict[Any, str] = {}

    def payload(self, payload: Any, field: str) -> str:
        """Return the type of a handler's payload, without the field of the header."""
        if payload is None or payload is Empty:
            return "{}"
        if payload in (Any, object, str, bytes, dict):
            return "Record<string, unknown>"
        text = self.written(payload)
        has_header = any(_headers(kind, field) for kind in _members(payload))
        return f'Omit<{text}, "{field}">' if has_header else text

    def answer(self, result: Any) -> str:
        """Return the type of an answer.  A value that is not a record is in the field ``data``."""
        texts = []
        for kind in _members(result):
            container = get_origin(kind) or kind
            text = self.written(kind)
            if kind in (None, type(None)):
                texts.append("{}")
            elif kind in (Any, object):
                texts.append("Record<string, unknown>")
            elif text in self.interfaces or container in (dict, abc.Mapping):
                texts.append(text)
            else:
                texts.append(f"{{ data: {text} }}")
        return " | ".join(dict.fromkeys(texts))

    def written(self, hint: Any) -> str:
        """Return the TypeScript type of a Python annotation."""
        origin, arguments = get_origin(hint), get_args(hint)
        if origin is typing.Annotated:
            return self.written(arguments[0])
        if origin in (Union, types.UnionType):
            return " | ".join(dict.fromkeys(self.written(each) for each in arguments))
        if origin is Literal:
            return _union(plain for plain, _ in records.literal_values(hint))
        if hasattr(hint, "__supertype__"):
            return self.written(hint.__supertype__)
        container = origin or hint
        if container in (list, set, frozenset, abc.Sequence) or (
            container is tuple and (not arguments or arguments[-1] is Ellipsis)
        ):
            return f"Array<{self.written(arguments[0] if arguments else Any)}>"
        if container is tuple:
            return f"[{', '.join(self.written(each) for each in arguments)}]"
        if container in (dict, abc.Mapping):
            return f"Record<string, {self.written(arguments[1] if arguments else Any)}>"
        scalar = None if isinstance(hint, TypeVar) else _SCALARS.get(hint)
        if scalar is not None:
            return scalar
        if isinstance(container, type):
            return self._class(container, hint, arguments)
        raise WrongValue(f"no TypeScript type for {hint!r}")

    def _class(self, cls: Any, hint: Any, arguments: tuple[Any, ...]) -> str:
        known = exact_json_type(cls)
        if known is not None:
            found = sorted(_JSON[each] for each in known.accepts if each in _JSON)
            # A type that is read from text or from a number is written as text.
            text = "string" if "string" in found else " | ".join(dict.fromkeys(found))
            return text if known.decode is not None and text else "unknown"
        if issubclass(cls, enum.Flag):
            return "number"
        if issubclass(cls, enum.Enum):
            return _union(member.value for member in cls)
        if hint in self._names:
            return self._names[hint]
        fields = _fields(cls, arguments)
        if fields is None:
            raise WrongValue(f"no TypeScript type for {cls.__name__}")
        if issubclass(cls, tuple):
            items = (f"{each.name}: {self.written(each.hint)}" for each in fields)
            return f"[{', '.join(items)}]"
        name = self._names[hint] = self._name_for(cls, arguments)
        self.interfaces[name] = ""  # keeps its place before the interfaces that it uses
        lines = [
            f"  {_key(each.name)}{'' if each.needed or self.complete else '?'}: "
            f"{self.written(each.hint)}\n"
            for each in fields
        ]
        self.interfaces[name] = f"\n{_doc(cls)}export interface {name} {{\n{''.join(lines)}}}\n"
        return name

    def _name_for(self, cls: type, arguments: tuple[Any, ...]) -> str:
        words = "".join(re.findall("[A-Za-z0-9]+", " ".join(self.written(a) for a in arguments)))
        wanted = name = f"{cls.__name__}{words[:1].upper()}{words[1:]}"
        number = 2
        while name in self.interfaces or name in _TAKEN:
            name = f"{wanted}{number}"
            number += 1
        return name


def _fields(cls: Any, arguments: tuple[Any, ...]) -> list[RecordField] | None:
    """Return the fields of a record; ``None`` for a class that is not a record."""
    if hasattr(cls, "model_fields"):  # pydantic
        return [
            RecordField(field.alias or name, field.annotation, field.is_required(), name)
            for name, field in cls.model_fields.items()
        ]
    hints = records.hints_of(cls, records.bindings(cls, arguments), {})
    if hasattr(cls, "__struct_fields__"):  # msgspec
        required = len(cls.__struct_fields__) - len(cls.__struct_defaults__)
        names = zip(cls.__struct_fields__, cls.__struct_encode_fields__, strict=True)
        return [
            RecordField(encoded, hints[name], number < required, name)
            for number, (name, encoded) in enumerate(names)
        ]
    if hasattr(cls, "__dataclass_fields__"):
        return records.dataclass_fields(cls, hints)
    if issubclass(cls, dict) and hasattr(cls, "__required_keys__"):
        return records.typed_dict_fields(cls, hints)
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):
        return records.named_tuple_fields(cls, hints)
    if hasattr(cls, "__attrs_attrs__"):
        return records.attrs_fields(cls, hints)
    return None


def _members(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _headers(kind: Any, field: str) -> list[Any]:
    """Return the headers of a type of messages: the values of its ``Literal`` field."""
    origin = get_origin(kind) or kind
    found = _fields(origin, get_args(kind)) if isinstance(origin, type) else None
    for each in found or ():
        if each.name == field:
            return [plain for plain, _ in records.literal_values(each.hint)]
    return []


def _table(name: str, doc: str, rows: Iterable[tuple[Any, str]]) -> str:
    merged: dict[str, list[str]] = {}
    for header, text in rows:
        merged.setdefault(_key(header), []).append(text)
    lines = [f"  {key}: {' | '.join(dict.fromkeys(texts))}\n" for key, texts in merged.items()]
    return f"\n/** {doc} */\nexport interface {name} {{\n{''.join(lines)}}}\n"


def _union(values: Iterable[Any]) -> str:
    return " | ".join(json.dumps(value, ensure_ascii=False) for value in values)


def _key(name: object) -> str:
    text = str(name)
    return text if _IDENTIFIER.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def _doc(cls: type) -> str:
    doc: str | None = vars(cls).get("__doc__")
    if not doc or doc.startswith(f"{cls.__name__}("):  # the signature that a dataclass gets
        return ""
    first = inspect.cleandoc(doc).splitlines()[0].replace("*/", "* /")
    return f"/** {first} */\n"


def check_pushes(pushes: Mapping[str, Any], field: str = "type") -> None:
    """Refuse a type of a push that has no header.

    :param pushes: the types, by their names.
    :raises WrongValue: for a type without a ``Literal`` field for the header.
    """
    for name, hint in pushes.items():
        for kind in _members(hint):
            if not _headers(kind, field):
                raise WrongValue(
                    f"{name}: expected types of messages, each with a field such as "
                    f'{field}: Literal["said"]; got {getattr(kind, "__name__", kind)}'
                )
