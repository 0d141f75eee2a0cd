"""Ready-made formats of a message: where its header is and where its payload.

Layer: protocol.  A format takes a received message apart (``parse``) and puts a reply
together (``join``).  It holds no state: any thread.

======================  =============================================================
``PrefixHeader()``      text: ``move {"x": 1}``
``JsonHeader()``        text: ``{"type": "move", "x": 1}``
``IntHeader(2)``        binary: the header in 2 bytes, then the payload
======================  =============================================================

``JsonHeader(id_field="id")`` also carries questions and answers, in both directions; the
other two do not: a number that belongs to their payload would be no business of theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from enum import Enum, IntEnum
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeAlias, TypeVar, overload

from hubthread.errors import HandleNotFind, PayloadError, SettingError, UsageError
from hubthread.matcher.codecs import encode_int
from hubthread.matcher.jsontext import as_bytes, as_fields, as_text, load_json

__all__ = [
    "ID",
    "Correlated",
    "HeaderFormat",
    "IntHeader",
    "JsonHeader",
    "Marshal",
    "Parsed",
    "PrefixHeader",
]

Header = TypeVar("Header", bound=Hashable)
Number = TypeVar("Number", bound=int)

Marshal = Callable[[object], "str | bytes"]
"""Encodes a value (specification: ``MarshalFunc``)."""


ID: TypeAlias = "int | str"
"""What a question is told from others by."""

Message: TypeAlias = "str | bytes"


class Parsed(NamedTuple):
    """A message of a format with ids."""

    header: Any
    """Of no matter in an answer, which may do without one."""
    payload: Any
    question: ID | None
    """What the answer to this message has to carry; ``None`` where none is wanted."""
    answered: ID | None
    """What this message is the answer to."""


class HeaderFormat(Protocol[Header]):
    """What a matcher asks of a format; write your own for your wire protocol.

    A payload that is ``str`` or ``bytes`` is encoded still, and is unmarshalled into what
    the handler asks for; any other is a decoded JSON value already.  (A format whose ``str``
    payloads are decoded too says so by the attribute ``decoded_text = True``.)
    """

    def parse(self, data: str | bytes) -> tuple[Header, Any]:
        """The header and the payload of ``data``; ``PayloadError`` where it has no header."""
        ...

    def join(self, header: Header, obj: Any, marshal: Marshal) -> str | bytes:
        """The message that brings ``obj``, encoded by ``marshal``, behind ``header``."""
        ...


class Correlated(Protocol):
    """What a format has, besides, whose messages may be questions and answers.

    A question carries an id, text or a whole number, and its answer carries the same as
    the id of what it answers: two places, so that ids which both ends choose by themselves
    never meet.  Such a format says so by the attribute ``correlated = True``.
    """

    def parse_correlated(self, data: str | bytes) -> Parsed:
        """``data`` taken apart, as ``parse`` does, with its ids."""
        ...

    def join_question(self, header: Any, obj: Any, marshal: Marshal, question: ID) -> Message:
        """The message that asks ``obj`` behind ``header`` and wants an answer."""
        ...

    def join_answer(self, header: Any, obj: Any, marshal: Marshal, question: ID) -> Message:
        """The message that answers ``question`` with ``obj``; ``None``: with nothing else."""
        ...


class PrefixHeader:
    """Text up to the first ``separator`` is the header, all that follows the payload.

    Without a separator the whole text is the header and the payload is empty.  In a
    reply, ``str`` and UTF-8 ``bytes`` are written as they are.
    """

    def __init__(self, separator: str = " ") -> None:
        _check_text("separator", separator)
        self._separator = separator

    def parse(self, data: str | bytes) -> tuple[str, str]:
        """``"move {}"`` is ``("move", "{}")``; bytes are read as UTF-8."""
        text = as_text(data)
        header, _, payload = text.partition(self._separator)
        if not header:
            raise PayloadError(
                f"no header: a message begins with one, then {self._separator!r}, then its payload"
            )
        return header, payload

    def join(self, header: str, obj: Any, marshal: Marshal) -> str:
        """``header``, the separator, and ``obj``; ``UsageError`` for an impossible header."""
        name = header.value if isinstance(header, Enum) else header
        if not isinstance(name, str) or not name or self._separator in name:
            raise UsageError(
                f"header {header!r}: give text of at least 1 character, without the separator "
                f"{self._separator!r}"
            )
        body = obj if isinstance(obj, (str, bytes)) else marshal(obj)
        try:
            return f"{name}{self._separator}{as_text(body)}"
        except PayloadError as error:
            raise UsageError(f"the reply to {header!r} is {error}") from error

    def __repr__(self) -> str:
        return f"PrefixHeader(separator={self._separator!r})"


class JsonHeader:
    """The header is the ``field`` (text or a whole number) of a JSON object.

    The payload is the rest of the object, or what it has under ``body`` where that is
    given (``None`` where it is missing).  The message is decoded once, here.

    A reply's fields go beside the header's; one without fields goes under ``data``.  Where
    ``body`` is given, every reply goes under ``body``.

    With ``id_field``, a message that has it is a question, and its answer has the same
    value under ``reply_field``; an answer may do without a header::

        → {"type": "where", "id": 7}            ← {"type": "where", "reply": 7, "x": 1}

    A question is answered with the id alone where the handler returns ``None``.  Where there
    is no handler, or it raises, nothing is sent: ``receive_matcher_error`` is told, and may
    write an answer.
    """

    def __init__(
        self,
        field: str = "type",
        body: str | None = None,
        *,
        id_field: str | None = None,
        reply_field: str = "reply",
    ) -> None:
        self.correlated = id_field is not None
        names = {"field": field}
        if body is not None:
            names["body"] = body
        if id_field is not None:
            names |= {"id_field": id_field, "reply_field": reply_field}
        taken: set[str] = set()
        for name, value in names.items():
            _check_text(name, value)
            if value in taken:
                raise SettingError(name, f"a name of its own, not {value!r} again")
            taken.add(value)
        self._reserved = {value for name, value in names.items() if name != "body"}
        self._field = field
        self._body = body
        self._id = id_field
        self._reply = reply_field
        self.decoded_text = body is not None

    def parse(self, data: str | bytes) -> tuple[Any, Any]:
        """``{"type": "say", "text": "hi"}`` is ``("say", {"text": "hi"})``."""
        message = load_json(data)
        if type(message) is not dict:
            raise self._no_object(message)
        header = message.pop(self._field, None)
        if type(header) is not str and type(header) is not int:
            raise self._no_header(header)
        if self._id is not None:
            message.pop(self._id, None)
            message.pop(self._reply, None)
        return header, message if self._body is None else message.get(self._body)

    def parse_correlated(self, data: str | bytes) -> Parsed:
        """The same with its ids; ``PayloadError`` where they are no text or whole number."""
        message = load_json(data)
        if type(message) is not dict:
            raise self._no_object(message)
        assert self._id is not None
        question = _take_id(message, self._id)
        answered = _take_id(message, self._reply)
        header = message.pop(self._field, None)
        if answered is None and type(header) is not str and type(header) is not int:
            raise self._no_header(header)
        payload = message if self._body is None else message.get(self._body)
        return Parsed(header, payload, question, answered)

    def join(self, header: Any, obj: Any, marshal: Marshal) -> str | bytes:
        """The reply as described above; ``UsageError`` where it has the header's field."""
        return self._join("the reply to", {self._field: header}, obj, marshal)

    def join_question(self, header: Any, obj: Any, marshal: Marshal, question: ID) -> Message:
        """``{"type": header, "id": question, …}``; else as ``join``."""
        assert self._id is not None
        return self._join("the question", {self._field: header, self._id: question}, obj, marshal)

    def join_answer(self, header: Any, obj: Any, marshal: Marshal, question: ID) -> Message:
        """``{"type": header, "reply": question, …}``; else as ``join``."""
        return self._join(
            "the answer to", {self._field: header, self._reply: question}, obj, marshal
        )

    def _join(self, what: str, head: dict[str, Any], obj: Any, marshal: Marshal) -> Message:
        if self._body is not None:
            head[self._body] = obj
            return marshal(head)
        fields = {} if obj is None and len(head) > 1 else as_fields(obj)
        if fields is None:
            fields = {"data": obj}
        elif not self._reserved.isdisjoint(fields):
            name = min(self._reserved.intersection(fields))
            raise UsageError(
                f"{what} {head[self._field]!r} has a field {name!r}, which is the header's: "
                "rename it, or give JsonHeader a body"
            )
        head.update(fields)
        return marshal(head)

    def _no_object(self, message: object) -> PayloadError:
        return PayloadError(
            f"no header: expected an object with {self._field!r}, got {type(message).__name__}"
        )

    def _no_header(self, header: object) -> PayloadError:
        what = "is missing" if header is None else "must be text or a whole number"
        return PayloadError(f"no header: the field {self._field!r} {what}")

    def __repr__(self) -> str:
        ids = f", id_field={self._id!r}, reply_field={self._reply!r}" if self._id else ""
        return f"JsonHeader(field={self._field!r}, body={self._body!r}{ids})"


class IntHeader(Generic[Number]):
    """Binary messages: the first ``width`` bytes (1, 2, 4 or 8) are the header.

    It is signed, in network byte order, and a member of ``enum`` where that is given.
    In a reply, ``bytes`` and ``str`` (as UTF-8) are written as they are.
    """

    @overload
    def __init__(self: IntHeader[int], width: Literal[1, 2, 4, 8]) -> None: ...
    @overload
    def __init__(self, width: Literal[1, 2, 4, 8], enum: type[Number]) -> None: ...
    def __init__(self, width: int, enum: Any = None) -> None:
        if width not in (1, 2, 4, 8):
            raise SettingError("width", f"1, 2, 4 or 8 bytes, not {width!r}")
        if enum is not None:
            if not (isinstance(enum, type) and issubclass(enum, IntEnum)):
                raise SettingError("enum", f"an IntEnum or None, not {enum!r}")
            for member in enum:
                encode_int(member, width)
        self._width = width
        self._enum: type[IntEnum] | None = enum

    def parse(self, data: str | bytes) -> tuple[Number, bytes]:
        """``b"\\x00\\x07{}"`` is ``(7, b"{}")`` for a width of 2.

        Raises ``PayloadError`` for text and for fewer bytes than the header has, and
        ``HandleNotFind`` for a number that is not in ``enum``.
        """
        width = self._width
        if isinstance(data, str):
            raise PayloadError(f"no header: expected a binary message with {width} bytes of it")
        if len(data) < width:
            raise PayloadError(f"no header: expected at least {width} bytes, got {len(data)}")
        number: Any = int.from_bytes(data[:width], "big", signed=True)
        if self._enum is not None:
            try:
                number = self._enum(number)
            except ValueError:
                raise HandleNotFind(
                    f"handle not find header: {number} is no {self._enum.__name__}", number
                ) from None
        return number, data[width:]

    def join(self, header: Number, obj: Any, marshal: Marshal) -> bytes:
        """The header's bytes and ``obj``; ``UsageError`` for a header that does not fit."""
        body = obj if isinstance(obj, (str, bytes)) else marshal(obj)
        try:
            return encode_int(header, self._width) + as_bytes(body)
        except PayloadError as error:
            raise UsageError(f"the reply to {header!r} is {error}") from error

    def __repr__(self) -> str:
        return f"IntHeader({self._width}{f', {self._enum.__name__}' if self._enum else ''})"


def _take_id(message: dict[str, Any], name: str) -> ID | None:
    value = message.pop(name, None)
    if value is None or type(value) is str or type(value) is int:
        return value
    raise PayloadError(f"the field {name!r} must be text or a whole number")


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, str) or not value:
        raise SettingError(name, f"text of at least 1 character, not {value!r}")
