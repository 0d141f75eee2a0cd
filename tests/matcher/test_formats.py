"""The header formats: messages that they split, replies that they join, errors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubthread.errors import HandleNotFind, PayloadError, SettingError, UsageError
from hubthread.matcher.formats import HeaderFormat, IntHeader, JsonHeader, PrefixHeader
from hubthread.matcher.handlers import Empty
from hubthread.matcher.jsontext import marshal_json


class Cmd(IntEnum):
    LEAVE = -1
    MOVE = 7


class Word(str, Enum):
    SAY = "say"


@dataclass
class Point:
    x: int
    y: int


FORMATS: dict[str, HeaderFormat[Any]] = {
    "prefix": PrefixHeader(),
    "colon": PrefixHeader("::"),
    "json": JsonHeader(),
    "body": JsonHeader("cmd", "data"),
    "int": IntHeader(2),
    "enum": IntHeader(1, Cmd),
}


@pytest.mark.parametrize(
    ("name", "data", "header", "payload"),
    [
        ("prefix", 'move {"x":1}', "move", '{"x":1}'),
        ("prefix", b'move {"x":1}', "move", '{"x":1}'),
        ("prefix", "say hello, you", "say", "hello, you"),
        ("prefix", "say ", "say", ""),
        ("prefix", "ping", "ping", ""),
        ("colon", "a b::c::d", "a b", "c::d"),
        ("json", '{"type": "say", "text": "hi"}', "say", {"text": "hi"}),
        ("json", b'{"text": "hi", "type": "say"}', "say", {"text": "hi"}),
        ("json", '{"type": 7}', 7, {}),
        ("json", '{"type": ""}', "", {}),
        ("body", '{"cmd": "say", "data": "hi", "more": 1}', "say", "hi"),
        ("body", '{"cmd": "say"}', "say", None),
        ("int", b"\x00\x07{}", 7, b"{}"),
        ("int", b"\xff\xff", -1, b""),
        ("enum", b"\x07\x00\xff", Cmd.MOVE, b"\x00\xff"),
    ],
)
def test_parse_splits_header_and_payload(
    name: str, data: str | bytes, header: object, payload: object
) -> None:
    """Header and payload come out, of the types that the format promises."""
    found = FORMATS[name].parse(data)
    assert found == (header, payload)
    assert [type(part) for part in found] == [type(header), type(payload)]


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("prefix", "", "no header: expected a header, then ' ', then the payload"),
        ("prefix", " move", "no header"),
        ("prefix", b"\xff move", "not UTF-8"),
        ("json", "", "not JSON"),
        ("json", "[1]", "no header: expected an object with 'type', got list"),
        ("json", '{"text": "hi"}', "no header: the field 'type' is missing"),
        ("json", '{"type": null}', "no header: the field 'type' is missing"),
        (
            "json",
            '{"type": ["say"]}',
            "no header: the field 'type' must be text or an integer",
        ),
        ("json", '{"type": true}', "must be text or an integer"),
        ("json", '{"type": 1.0}', "must be text or an integer"),
        ("body", '{"type": "say"}', "no header: the field 'cmd' is missing"),
        ("int", b"\x00", "no header: expected at least 2 bytes, got 1"),
        ("int", "\x00\x07{}", "no header: expected a binary message with 2 bytes of it"),
    ],
)
def test_parse_without_header_raises(name: str, data: str | bytes, told: str) -> None:
    """The sentence says what was expected."""
    with pytest.raises(PayloadError) as raised:
        FORMATS[name].parse(data)
    assert told in str(raised.value)


def test_parse_number_outside_the_enum_is_an_unknown_header() -> None:
    """The error is that of an unknown header, with the number."""
    with pytest.raises(HandleNotFind, match="8 is not a Cmd") as raised:
        FORMATS["enum"].parse(b"\x08")
    assert raised.value.header == 8


@pytest.mark.parametrize(
    ("name", "header", "obj", "message"),
    [
        ("prefix", "move", Point(1, 2), 'move {"x":1,"y":2}'),
        ("prefix", "say", "as it is", "say as it is"),
        ("prefix", "say", b"as it is", "say as it is"),
        ("prefix", Word.SAY, 1, "say 1"),
        ("json", "move", Point(1, 2), '{"type":"move","x":1,"y":2}'),
        ("json", "say", {"text": "hi"}, '{"type":"say","text":"hi"}'),
        ("json", "say", {"text": "hi", "type": "say"}, '{"type":"say","text":"hi"}'),
        ("json", "pong", Empty(), '{"type":"pong"}'),
        ("json", "list", [1], '{"type":"list","data":[1]}'),
        ("json", Word.SAY, "hi", '{"type":"say","data":"hi"}'),
        ("body", "move", Point(1, 2), '{"cmd":"move","data":{"x":1,"y":2}}'),
        ("body", "pick", {"cmd": 1}, '{"cmd":"pick","data":{"cmd":1}}'),
        ("int", 7, Point(1, 2), b'\x00\x07{"x":1,"y":2}'),
        ("int", -2, b"\x00\xff", b"\xff\xfe\x00\xff"),
        ("enum", Cmd.MOVE, "é", b"\x07\xc3\xa9"),
    ],
)
def test_join_makes_the_reply(name: str, header: Any, obj: object, message: object) -> None:
    """Records and values are encoded; text and bytes behind a prefix or number are not."""
    assert FORMATS[name].join(header, obj, marshal_json) == message


@pytest.mark.parametrize("name", ["prefix", "int"])
def test_join_uses_the_marshal_function(name: str) -> None:
    """The function may return text or bytes, whatever kind the format itself makes."""
    header: Any = {"prefix": "a", "int": 97}[name]
    joined = FORMATS[name].join(header, [1], lambda obj: f"<{obj}>".encode())
    assert joined in ("a <[1]>", b"\x00a<[1]>")
    assert FORMATS[name].join(header, [1], lambda obj: f"<{obj}>") == joined


@pytest.mark.parametrize(
    ("name", "header", "obj", "told"),
    [
        ("prefix", "two words", 1, "without the separator ' '"),
        ("prefix", "", 1, "at least 1 character"),
        ("prefix", 7, 1, "header 7: expected text"),
        ("prefix", "raw", b"\xff", "the reply to 'raw' is not UTF-8"),
        ("prefix", "move", {1j}, "marshal: set cannot be JSON"),
        ("json", "move", {"type": "other"}, "the reply to 'move' has a field 'type'"),
        ("int", 40_000, 1, "expected -32768 to 32767 for 2 bytes, got 40000"),
        ("int", 7, "\ud800", "the reply to 7 is not UTF-8"),
        ("int", "move", 1, "expected an integer, got 'move'"),
    ],
)
def test_join_unsendable_reply_raises(name: str, header: Any, obj: object, told: str) -> None:
    """The caller gets the error, and nothing is sent to the peer."""
    with pytest.raises(UsageError) as raised:
        FORMATS[name].join(header, obj, marshal_json)
    assert told in str(raised.value)


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: PrefixHeader(""), "separator"),
        (lambda: JsonHeader(""), "field"),
        (lambda: JsonHeader(body=""), "body"),
        (lambda: JsonHeader("a", "a"), "body"),
        (lambda: JsonHeader(id_field=""), "id_field"),
        (lambda: JsonHeader(id_field="type"), "id_field"),
        (lambda: JsonHeader(id_field="id", reply_field="id"), "reply_field"),
        (lambda: JsonHeader(body="reply", id_field="id"), "reply_field"),
        (lambda: JsonHeader(error_field="error"), "error_field"),
        (lambda: JsonHeader(id_field="id", error_field="reply"), "error_field"),
        (lambda: IntHeader(3), "width"),  # type: ignore[call-overload]
        (lambda: IntHeader(2, int), "enum"),
    ],
)
def test_format_wrong_setting_raises(make: Callable[[], object], field: str) -> None:
    """An impossible format is refused when it is made, by the setting's name."""
    with pytest.raises(SettingError) as raised:
        make()
    assert raised.value.field == field


def test_int_header_enum_too_wide_raises() -> None:
    """A member that could never be sent is found at once."""

    class Wide(IntEnum):
        FAR = 300

    with pytest.raises(UsageError, match="expected -128 to 127 for 1 byte, got 300"):
        IntHeader(1, Wide)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(header=st.text(min_size=1).filter(lambda text: " " not in text), payload=st.text())
def test_prefix_header_round_trips(header: str, payload: str) -> None:
    """``parse`` undoes ``join``."""
    form = FORMATS["prefix"]
    message = form.join(header, payload, marshal_json)
    assert form.parse(message) == (header, payload)


@given(header=st.text() | st.integers(), obj=json_values, name=st.sampled_from(["json", "body"]))
def test_json_header_round_trips(header: str | int, obj: Any, name: str) -> None:
    """Any value goes there and back; without a body, values without fields under data."""
    form = FORMATS[name]
    if name == "json" and isinstance(obj, dict):
        obj.pop("type", None)
    found = form.parse(form.join(header, obj, marshal_json))
    assert found == (header, obj if name == "body" or isinstance(obj, dict) else {"data": obj})


@pytest.mark.parametrize("width", [1, 2, 4, 8])
@given(data=st.data(), payload=st.binary())
def test_int_header_round_trips(width: Any, data: st.DataObject, payload: bytes) -> None:
    """Every number of the width is a header, before any bytes."""
    limit = 1 << (8 * width - 1)
    header = data.draw(st.integers(-limit, limit - 1))
    form: IntHeader[int] = IntHeader(width)
    assert form.parse(form.join(header, payload, marshal_json)) == (header, payload)


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (PrefixHeader(":"), "PrefixHeader(separator=':')"),
        (JsonHeader(), "JsonHeader(field='type', body=None)"),
        (IntHeader(2), "IntHeader(2)"),
        (IntHeader(1, Cmd), "IntHeader(1, Cmd)"),
    ],
)
def test_format_repr_has_the_settings(form: object, text: str) -> None:
    """Two formats that differ look different in a log."""
    assert repr(form) == text
