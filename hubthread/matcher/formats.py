"""Header formats: split a message into header and payload, and join a reply.

Layer: matcher.  Threads: a format holds no state; any thread may use it.

======================  =============================================================
``PrefixHeader()``      text: ``move {"x": 1}``
``JsonHeader()``        text: ``{"type": "move", "x": 1}``
``IntHeader(2)``        binary: the header in 2 bytes, then the payload
======================  =============================================================

``JsonHeader(id_field="id")`` also carries requests and their answers, in both directions.  The
other two formats have no place for an id.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from enum import Enum, IntEnum
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeAlias, TypeVar, overload

from hubthread.checks import check_choice, check_kind
from hubthread.errors import (
    HandleNotFind,
    PayloadError,
    SettingError,
    SettingTypeError,
    WrongType,
    WrongValue,
)
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
"""The id of a request, which its answer carries."""

Message: TypeAlias = "str | bytes"


class Parsed(NamedTuple):
    """The parts of a message, in a format with ids."""

    header: Any
    """The header; ignored in an answer, which may have none."""
    payload: Any
    question: ID | None
    """The id that the answer to this message has to carry; ``None`` if no answer is expected."""
    answered: ID | None
    """The id of the request that this message answers."""


class HeaderFormat(Protocol[Header]):
    """The interface of a header format; implement it for a wire protocol of your own.

    A payload of type ``str`` or ``bytes`` is encoded; the matcher unmarshals it to the
    handler's type.  Any other payload is a decoded JSON value.  A format whose ``str`` payloads
    are decoded values has the attribute ``decoded_text = True``.  A format that takes its own
    fields out of a decoded object names them in ``header_field``, ``id_field`` and
    ``reply_field``; a handler whose type has a field of that name gets the value there.
    """

    def parse(self, data: str | bytes) -> tuple[Header, Any]:
        """Return the header and the payload of ``data``.

        :raises PayloadError: for a message without a header.
        """
        ...

    def join(self, header: Header, obj: Any, marshal: Marshal) -> str | bytes:
        """Return the message with ``obj``, encoded by ``marshal``, behind ``header``."""
        ...


class Correlated(Protocol):
    """The further interface of a format whose messages may be requests and answers.

    A request carries an id, a text or an integer.  Its answer carries the same id in another
    place, so that the ids of the two ends never collide.  Such a format has the attribute
    ``correlated = True``.  With a method ``join_failure(header, text, marshal, question)``, which
    returns an answer with an error, requests that fail are answered, too.
    """

    def parse_correlated(self, data: str | bytes) -> Parsed:
        """Return the header, the payload and the ids of ``data``, as ``parse`` does."""
        ...

    def join_question(self, header: Any, obj: Any, marshal: Marshal, question: ID) -> Message:
        """Return the request with ``obj`` behind ``header`` and the id ``question``."""
        ...

    def join_answer(self, header: Any, obj: Any, marshal: Marshal, question: ID) -> Message:
        """Return the answer to ``question`` with ``obj``; ``None`` sends the id alone."""
        ...


class PrefixHeader:
    """Text messages: the header, a separator, and the payload.

    A message without a separator is a header with an empty payload.  In a reply, ``str`` and
    UTF-8 ``bytes`` are written as they are.

    :param separator: at least one character.
    :raises SettingError: for another ``separator``.
    """

    def __init__(self, separator: str = " ") -> None:
        _check_text("separator", separator)
        self._separator = separator

    def parse(self, data: str | bytes) -> tuple[str, str]:
        """Split ``"move {}"`` into ``("move", "{}")``; bytes are read as UTF-8.

        :raises PayloadError: for a message without a header.
        """
        text = as_text(data)
        header, _, payload = text.partition(self._separator)
        if not header:
            raise PayloadError(
                f"no header: expected a header, then {self._separator!r}, then the payload"
            )
        return header, payload

    def join(self, header: str, obj: Any, marshal: Marshal) -> str:
        """Join ``header``, the separator, and ``obj``.

        :raises WrongValue: for an empty header, a header with the separator, and for bytes that
            are not UTF-8.
        :raises WrongType: for a header that is not text.
        """
        name = header.value if isinstance(header, Enum) else header
        if not isinstance(name, str) or not name or self._separator in name:
            error = WrongValue if isinstance(name, str) else WrongType
            raise error(
                f"header {header!r}: expected text of at least 1 character, without the "
                f"separator {self._separator!r}"
            )
        body = obj if isinstance(obj, (str, bytes)) else marshal(obj)
        try:
            return f"{name}{self._separator}{as_text(body)}"
        except PayloadError as error:
            raise WrongValue(f"the reply to {header!r} is {error}") from error

    def __repr__(self) -> str:
        return f"PrefixHeader(separator={self._separator!r})"


class JsonHeader:
    """JSON objects: one field is the header (text or an integer).

    The payload is the rest of the object or, with ``body``, the value of that field (``None``
    if it is missing).  The format decodes the message once.

    A handler whose type has a field ``field`` gets the header there, such as a pydantic model
    with ``type: Literal["bid"]``.

    The fields of a reply stand beside the header's field; a reply without fields stands under
    ``data``.  With ``body``, every reply stands under ``body``.

    With ``id_field``, a message with this field is a request.  Its answer has the same value
    under ``reply_field``; an answer may have no header::

        → {"type": "where", "id": 7}            ← {"type": "where", "reply": 7, "x": 1}

    If the handler returns ``None``, the answer is the id alone.  If there is no handler, the
    payload does not fit, or the handler raises, nothing is sent.  With ``error_field``, the
    answer then says so::

        → {"type": "where", "id": 8}            ← {"type": "where", "reply": 8, "error": "…"}

    The text is that of a ``PayloadError``, which a handler may raise, too; for other exceptions
    it is ``internal error``.

    :param field: the name of the header's field.
    :param body: the name of the payload's field; ``None`` for the rest of the object.
    :param id_field: the name of the field with a request's id; ``None`` for no requests.
    :param reply_field: the name of the field with the id of the answered request.
    :param error_field: the name of the field with the error of a failed request; ``None`` sends
        no answer to a request that fails.
    :raises SettingError: for an empty name, for a name given twice, and for an ``error_field``
        without ``id_field``.
    """

    def __init__(
        self,
        field: str = "type",
        body: str | None = None,
        *,
        id_field: str | None = None,
        reply_field: str = "reply",
        error_field: str | None = None,
    ) -> None:
        self.correlated = id_field is not None
        names = {"field": field}
        if body is not None:
            names["body"] = body
        if id_field is not None:
            names |= {"id_field": id_field, "reply_field": reply_field}
        if error_field is not None:
            names["error_field"] = error_field
            if id_field is None:
                raise SettingError("error_field", "expected None without an id_field")
        taken: set[str] = set()
        for name, value in names.items():
            _check_text(name, value)
            if value in taken:
                raise SettingError(name, f"expected a name of its own, got {value!r} again")
            taken.add(value)
        self._reserved = {
            names[name] for name in ("field", "id_field", "reply_field") if name in names
        }
        self._field = field
        self._body = body
        self._id = id_field
        self._reply = reply_field
        self._error = error_field
        # With a body the payload has fields of its own only.
        self.header_field = field if body is None else None
        self.id_field = id_field if body is None else None
        self.reply_field = reply_field if body is None and id_field is not None else None
        self.decoded_text = body is not None

    def parse(self, data: str | bytes) -> tuple[Any, Any]:
        """Split ``{"type": "say", "text": "hi"}`` into ``("say", {"text": "hi"})``.

        :raises PayloadError: for anything but a JSON object with a header.
        """
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
        """Split a message with its ids.

        :raises PayloadError: as ``parse``, and for an id that is not text or an integer.
        """
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
        """Return the reply as the class describes it.

        :raises WrongValue: for a reply with the header's field.
        """
        return self._join("the reply to", {self._field: header}, obj, marshal)

    def join_question(self, header: Any, obj: Any, marshal: Marshal, question: ID) -> Message:
        """Return ``{"type": header, "id": question, …}``; like ``join``."""
        assert self._id is not None
        return self._join("the question", {self._field: header, self._id: question}, obj, marshal)

    def join_answer(self, header: Any, obj: Any, marshal: Marshal, question: ID) -> Message:
        """Return ``{"type": header, "reply": question, …}``; like ``join``."""
        return self._join(
            "the answer to", {self._field: header, self._reply: question}, obj, marshal
        )

    @property
    def join_failure(self) -> Callable[[Any, str, Marshal, ID], Message] | None:
        """The function that returns an answer with an error; ``None`` without ``error_field``."""
        return None if self._error is None else self._join_failure

    def _join_failure(self, header: Any, text: str, marshal: Marshal, question: ID) -> Message:
        """Return ``{"type": header, "reply": question, "error": text}``."""
        return marshal({self._field: header, self._reply: question, self._error: text})

    def _join(self, what: str, head: dict[str, Any], obj: Any, marshal: Marshal) -> Message:
        if self._body is not None:
            head[self._body] = obj
            return marshal(head)
        fields = {} if obj is None and len(head) > 1 else as_fields(obj)
        if fields is None:
            fields = {"data": obj}
        elif not self._reserved.isdisjoint(fields):
            # A model may have the field of the header, with the header in it.
            if fields.get(self._field) == head[self._field]:
                fields = {name: value for name, value in fields.items() if name != self._field}
            name = min(self._reserved.intersection(fields), default=None)
            if name is not None:
                raise WrongValue(
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
        what = "is missing" if header is None else "must be text or an integer"
        return PayloadError(f"no header: the field {self._field!r} {what}")

    def __repr__(self) -> str:
        ids = f", id_field={self._id!r}, reply_field={self._reply!r}" if self._id else ""
        return f"JsonHeader(field={self._field!r}, body={self._body!r}{ids})"


class IntHeader(Generic[Number]):
    """Binary messages: the first ``width`` bytes are the header.

    The header is a signed integer in network byte order.  In a reply, ``bytes`` and ``str`` (as
    UTF-8) are written as they are.

    :param width: 1, 2, 4 or 8.
    :param enum: the ``IntEnum`` whose members are the headers; ``None`` for plain integers.
    :raises SettingError: for another ``width`` or ``enum``.
    :raises WrongValue: for an ``enum`` with a member that does not fit ``width``.
    """

    @overload
    def __init__(self: IntHeader[int], width: Literal[1, 2, 4, 8]) -> None: ...
    @overload
    def __init__(self, width: Literal[1, 2, 4, 8], enum: type[Number]) -> None: ...
    def __init__(self, width: int, enum: Any = None) -> None:
        check_choice("width", width, (1, 2, 4, 8))
        if enum is not None:
            if not (isinstance(enum, type) and issubclass(enum, IntEnum)):
                raise SettingTypeError("enum", f"expected an IntEnum or None, got {enum!r}")
            for member in enum:
                encode_int(member, width)
        self._width = width
        self._enum: type[IntEnum] | None = enum

    def parse(self, data: str | bytes) -> tuple[Number, bytes]:
        """Split ``b"\\x00\\x07{}"`` into ``(7, b"{}")``, for a width of 2.

        :raises PayloadError: for text, and for fewer bytes than the header has.
        :raises HandleNotFind: for a number that is not in ``enum``.
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
                    f"handle not find header: {number} is not a {self._enum.__name__}", number
                ) from None
        return number, data[width:]

    def join(self, header: Number, obj: Any, marshal: Marshal) -> bytes:
        """Join the header's bytes and ``obj``.

        :raises WrongValue: for a header that does not fit, and for text that is not UTF-8.
        :raises WrongType: for a header that is not an integer.
        """
        body = obj if isinstance(obj, (str, bytes)) else marshal(obj)
        try:
            return encode_int(header, self._width) + as_bytes(body)
        except PayloadError as error:
            raise WrongValue(f"the reply to {header!r} is {error}") from error

    def __repr__(self) -> str:
        return f"IntHeader({self._width}{f', {self._enum.__name__}' if self._enum else ''})"


def _take_id(message: dict[str, Any], name: str) -> ID | None:
    value = message.pop(name, None)
    if value is None or type(value) is str or type(value) is int:
        return value
    raise PayloadError(f"the field {name!r} must be text or an integer")


def _check_text(name: str, value: object) -> None:
    check_kind(name, value, str, "text of at least 1 character")
    if not value:
        raise SettingError(name, "expected text of at least 1 character, got ''")
