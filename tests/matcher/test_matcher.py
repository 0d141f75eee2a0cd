"""The matcher: a message finds its handler, and the result becomes the reply."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Any
from unittest.mock import Mock

import pytest

from hubthread import HubSetting
from hubthread.clients.client import Client
from hubthread.errors import (
    DuplicateHandler,
    HandleKindError,
    HandleNotFind,
    PayloadError,
    SettingError,
    UsageError,
)
from hubthread.matcher.formats import IntHeader, JsonHeader, PrefixHeader
from hubthread.matcher.matcher import (
    Answer,
    Empty,
    Handler,
    HandlerCall,
    MatcherMap,
    Recipient,
    SubMatcher,
)
from hubthread.testing import VirtualHub


class Context(Recipient):
    """A context that keeps its payload, as a client does."""

    payload: str | bytes = "untouched"

    def take(self, routed: HandlerCall | Answer, meta: Any) -> str | bytes | None:
        assert isinstance(routed, HandlerCall)
        self.payload = routed.payload
        return routed.run(self, meta)


@dataclass
class Move:
    x: int
    y: int = 0


class Level(IntEnum):
    LOW = 1


class Word(str, Enum):
    SAY = "say"


Matcher = MatcherMap[str, Any]
CTX, META = Context(), "meta"


def text_matcher(**handlers: Handler[str]) -> Matcher:
    return MatcherMap(PrefixHeader(), handlers)


def plain(ctx: object, meta: str, req: Move) -> object:
    return [meta, req]


def two(ctx: object, meta: str) -> object:
    return [meta]


def as_text(ctx: object, meta: object, req: str) -> object:
    return req


@pytest.mark.parametrize(
    ("form", "data", "text"),
    [
        (PrefixHeader(), "say hé", "hé"),
        (PrefixHeader(), "say hé".encode(), "hé"),
        (lambda data: ("say", data[4:]), "say hé", "hé"),
        (JsonHeader(), '{"type":"say","a":1}', '{"type":"say","a":1}'),
        (JsonHeader(), b'{"type":"say","a":1}', '{"type":"say","a":1}'),
    ],
)
def test_dispatch_str_and_bytes_get_the_payload_as_it_came(
    form: Any, data: Any, text: str
) -> None:
    """Undecoded, behind the header; the whole message where the header is inside it."""
    found: list[object] = []

    def keep_text(ctx: object, meta: object, req: str) -> None:
        found.append(req)

    def keep_bytes(ctx: object, meta: object, req: bytes) -> None:
        found.append(req)

    for handler in (keep_text, keep_bytes):
        MatcherMap(form, {"say": handler}).dispatch(CTX, META, data)
    assert found == [text, text.encode()]


def test_dispatch_str_under_a_body_gets_the_json_string() -> None:
    """A format that hands over single values hands over text too; bytes are the message."""
    form = JsonHeader(body="data")
    message = '{"type":"say","data":"hi"}'
    assert MatcherMap(form, {"say": as_text}).dispatch(CTX, META, message) == message
    got: list[bytes] = []

    def keep(ctx: object, meta: object, req: bytes) -> None:
        got.append(req)

    MatcherMap(form, {"say": keep}).dispatch(CTX, META, message)
    assert got == [message.encode()]
    with pytest.raises(PayloadError, match="expected str, got int"):
        MatcherMap(form, {"say": as_text}).dispatch(CTX, META, '{"type":"say","data":1}')


def test_dispatch_str_of_invalid_utf8_raises() -> None:
    """The peer is told, the handler does not run."""
    matcher: Matcher = MatcherMap(IntHeader(1), {1: as_text})
    with pytest.raises(PayloadError, match="not UTF-8") as raised:
        matcher.dispatch(CTX, META, b"\x01\xff")
    assert raised.value.header == 1


def test_add_second_handler_raises() -> None:
    """The error names the first handler, which stays."""
    matcher = text_matcher(move=plain)
    with pytest.raises(DuplicateHandler, match=r"'move' has the handler plain already"):
        matcher.add("move", two)
    assert matcher.dispatch(CTX, META, 'move {"x": 1}') == 'move ["meta",{"x":1,"y":0}]'


def test_add_unhashable_header_raises() -> None:
    """A list cannot be a header; the message says what can."""
    with pytest.raises(HandleKindError, match=r"header \['move'\]: a header must be hashable"):
        text_matcher().add(["move"], two)


def test_add_after_a_refused_handler_succeeds() -> None:
    """After the mistake the right function can be registered."""
    matcher = text_matcher()
    with pytest.raises(HandleKindError):
        matcher.add("move", Move)  # type: ignore[arg-type]
    matcher.add("move", two)
    assert matcher.dispatch(CTX, META, "move") == 'move ["meta"]'


def test_handle_registers_and_returns_the_function() -> None:
    """One function may serve several headers and be called by itself."""
    matcher = text_matcher()

    @matcher.handle("say")
    @matcher.handle("shout")
    def say(ctx: Any, meta: str, req: Move) -> int:
        return req.x

    assert say(CTX, META, Move(4)) == 4
    assert matcher.dispatch(CTX, META, 'say {"x": 5}') == "say 5"
    assert matcher.dispatch(CTX, META, 'shout {"x": 6}') == "shout 6"


def test_dispatch_gives_the_payload_to_the_context_first() -> None:
    """The context has the payload without its header, or the whole message if it is decoded."""
    seen: list[object] = []

    def look(ctx: Context, meta: str) -> None:
        seen.append(ctx.payload)

    text_matcher(look=look).dispatch(Context(), META, "look at this")
    MatcherMap(IntHeader(1), {7: look}).dispatch(Context(), META, b"\x07\x00")
    MatcherMap(JsonHeader(), {"look": look}).dispatch(Context(), META, '{"type":"look"}')
    body = JsonHeader(body="data")
    MatcherMap(body, {"a": look}).dispatch(Context(), META, '{"type":"a","data":"text"}')
    assert seen == ["at this", b"\x00", '{"type":"look"}', '{"type":"a","data":"text"}']


def test_route_finds_the_handler_without_calling_it() -> None:
    """The payload is there before the handler runs; ``run`` returns the reply."""
    calls: list[object] = []

    def keep(ctx: object, meta: object, req: Move) -> int:
        calls.append((ctx, meta, req))
        return 5

    routed = text_matcher(move=keep).route('move {"x": 1}')
    assert isinstance(routed, HandlerCall)
    assert (routed.header, routed.payload, routed.encoded, calls) == (
        "move",
        '{"x": 1}',
        True,
        [],
    )
    assert routed.run("ctx", META) == "move 5"
    assert calls == [("ctx", META, Move(1))]


def test_route_decoded_payload_keeps_the_whole_message() -> None:
    message = '{"type":"look","x":1}'
    routed = MatcherMap[Any, str](handlers={"look": two}).route(message)
    assert isinstance(routed, HandlerCall)
    assert (routed.payload, routed.value, routed.encoded) == (message, {"x": 1}, False)


def test_route_answer_has_number_and_payload() -> None:
    """No handler is looked up; the answer may have no header."""
    matcher = MatcherMap[Any, str](JsonHeader(id_field="id"))
    assert matcher.route('{"reply":7,"x":1}') == Answer(7, {"x": 1})
    with pytest.raises(UsageError, match="answers request 7: dispatch it to its client"):
        matcher.dispatch(None, META, '{"reply":7}')


def test_route_request_is_answered_with_its_id() -> None:
    matcher = MatcherMap[Any, str](JsonHeader(id_field="id"), {"ping": lambda ctx, meta: None})
    assert matcher.dispatch(None, META, '{"type":"ping","id":3}') == '{"type":"ping","reply":3}'


def fail(ctx: object, meta: str) -> None:
    raise KeyError("a secret")


def refuse(ctx: object, meta: str) -> None:
    raise PayloadError("no such seat")


@pytest.mark.parametrize(
    ("message", "answer"),
    [
        ('{"type":"fail","id":3}', '{"type":"fail","reply":3,"error":"internal error"}'),
        ('{"type":"refuse","id":"a"}', '{"type":"refuse","reply":"a","error":"no such seat"}'),
        ('{"type":"what","id":3}', '{"type":"what","reply":3,"error":"no handler for \'what\'"}'),
        (
            '{"type":"move","id":3}',
            '{"type":"move","reply":3,"error":"$: the field \'x\' is missing"}',
        ),
        ('{"type":"fail"}', None),
        ('{"id":3}', None),
        ("not JSON", None),
    ],
)
def test_failed_request_is_answered_with_an_error(message: str, answer: str | None) -> None:
    """With ``error_field``; the peer never reads the text of an exception of the program."""
    handlers: dict[str, Handler[str]] = {"fail": fail, "refuse": refuse, "move": plain}
    told: list[Exception] = []

    def on_error(ctx: object, meta: object, error: Exception) -> None:
        told.append(error)

    for error_field in ("error", None):
        matcher = MatcherMap(JsonHeader(id_field="id", error_field=error_field), handlers)
        setting = HubSetting(lambda: META, receive_matcher=matcher, receive_matcher_error=on_error)
        with VirtualHub(setting) as hub:
            client = hub.connect()
            client.send(message)
        assert client.messages() == ([answer] if error_field and answer else [])
    assert len(told) == 2


class Thief:
    """A context of the program's own, with a method that a client has, too."""

    def take(self, what: str) -> str:
        return f"took {what}"


@pytest.mark.parametrize(
    "ctx", [None, Thief(), Mock(), Mock(spec=Client)], ids=["none", "take", "mock", "mock client"]
)
def test_dispatch_takes_any_context(ctx: object) -> None:
    """Nothing else is asked of the context, whatever its methods are called."""
    seen: list[object] = []

    def ping(ctx: object, meta: str) -> list[str]:
        seen.append(ctx)
        return [meta]

    assert text_matcher(ping=ping).dispatch(ctx, META, "ping") == 'ping ["meta"]'
    assert seen == [ctx]


def test_dispatch_without_reply_returns_none() -> None:
    """If a handler returns nothing, nothing is sent."""
    assert text_matcher(ping=lambda ctx, meta: None).dispatch(CTX, META, "ping") is None


@pytest.mark.parametrize("reply", [0, "", [], {}, False])
def test_dispatch_false_reply_is_a_reply(reply: object) -> None:
    """Only None means that there is no reply."""
    matcher: Matcher = MatcherMap(handlers={"ping": lambda ctx, meta: reply})
    assert matcher.dispatch(CTX, META, '{"type":"ping"}') is not None


def test_route_unknown_header_lists_the_known() -> None:
    """At most ten are listed, and the error has the header."""
    matcher = text_matcher(**dict.fromkeys("abcdefghijkl", two))
    with pytest.raises(HandleNotFind) as raised:
        matcher.dispatch(CTX, META, "jump now")
    told = ", ".join(f"'{letter}'" for letter in "abcdefghij")
    assert str(raised.value) == f"handle not find header: 'jump' (known: {told} and 2 more)"
    assert raised.value.header == "jump"
    with pytest.raises(HandleNotFind, match=r"\(known: none\)"):
        text_matcher().dispatch(CTX, META, "jump")


def test_route_number_outside_the_enum_raises() -> None:
    """The error of the format is raised unchanged."""
    numbered: MatcherMap[str, Level] = MatcherMap(IntHeader(1, Level))
    with pytest.raises(HandleNotFind, match=r"^handle not find header: 2 is not a Level$"):
        numbered.dispatch(CTX, META, b"\x02")


def test_route_long_header_is_cut_in_the_message() -> None:
    """The error has the whole header, its text does not."""
    with pytest.raises(HandleNotFind) as raised:
        text_matcher().dispatch(CTX, META, "x" * 100_000)
    assert raised.value.header == "x" * 100_000
    assert len(str(raised.value)) < 100


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ("move", "not JSON"),
        ("move {", "not JSON"),
        ('move {"x": "1"}', "$.x: expected int, got str"),
        ("move []", "$: expected dict, got list"),
        ("move " + "[" * 100_000, "nested deeper"),
    ],
)
def test_dispatch_misfit_payload_has_its_header(data: str, told: str) -> None:
    """The error says where it does not fit, and for which header."""
    with pytest.raises(PayloadError) as raised:
        text_matcher(move=plain).dispatch(CTX, META, data)
    assert told in str(raised.value)
    assert raised.value.header == "move"


def test_dispatch_raises_the_handlers_exception_unchanged() -> None:
    """The exception is not wrapped or changed, even if it is one of hubthread."""
    error = PayloadError("mine")

    def fail(ctx: object, meta: object, req: Empty) -> None:
        raise error

    with pytest.raises(PayloadError) as raised:
        text_matcher(fail=fail).dispatch(CTX, META, "fail")
    assert raised.value is error
    assert error.header is None


def test_dispatch_with_a_header_function_cannot_reply() -> None:
    """Handlers write by themselves then, and are told so when they return something."""

    def first_letter(data: str | bytes) -> tuple[str, str]:
        return str(data)[0], str(data)[1:]

    seen: list[object] = []

    def keep(ctx: object, meta: str, req: Move) -> None:
        seen.append(req)

    matcher: MatcherMap[str, str] = MatcherMap(first_letter, {"m": keep, "r": two})
    assert matcher.dispatch(CTX, META, 'm{"x": 1}') is None
    assert seen == [Move(1)]
    with pytest.raises(UsageError, match=r"JsonHeader, PrefixHeader, IntHeader"):
        matcher.dispatch(CTX, META, "r")


@pytest.mark.parametrize(
    ("parse", "told"),
    [
        (lambda data: data[5], "IndexError"),
        (lambda data: None, "TypeError"),
        (lambda data: ([], data), "not hashable"),
    ],
)
def test_route_failing_header_function_is_a_payload_error(parse: Any, told: str) -> None:
    """An exception over a message counts as an error of the peer, and is kept as the cause."""
    with pytest.raises(PayloadError, match=told):
        MatcherMap(parse, {"a": two}).dispatch(CTX, META, "abc")


def test_matcher_own_functions_replace_json() -> None:
    """They see every annotated request and every reply, and judge the types themselves."""
    asked: list[object] = []

    def unmarshal(payload: Any, into: Any) -> Any:
        asked.append(into)
        return into(int(x) for x in payload.split(","))

    matcher: Matcher = MatcherMap(
        PrefixHeader(), marshal=lambda obj: f"<{obj}>", unmarshal=unmarshal
    )

    @matcher.handle("add")
    def add(ctx: object, meta: str, req: frozenset[int]) -> object:
        return sum(req)

    assert matcher.dispatch(CTX, META, "add 1,2,3") == "add <6>"
    assert asked == [frozenset[int]]
    assert matcher.unmarshal("1,2", set) == {1, 2}
    assert matcher.marshal([1]) == "<[1]>"
    with pytest.raises(PayloadError, match="cannot be unmarshalled: invalid literal") as raised:
        matcher.dispatch(CTX, META, "add one")
    assert isinstance(raised.value.__cause__, ValueError)
    assert raised.value.header == "add"


def test_matcher_default_functions_are_json() -> None:
    """The matcher's own methods do what dispatch does."""
    matcher = text_matcher()
    assert matcher.marshal(Move(1)) == '{"x":1,"y":0}'
    assert matcher.unmarshal('{"x":1}', Move) == Move(1)
    assert matcher.header_parsing("a b") == ("a", "b")


@pytest.mark.parametrize("name", ["header_parsing", "marshal", "unmarshal"])
def test_matcher_wrong_function_raises(name: str) -> None:
    """The error names the parameter."""
    settings: dict[str, Any] = {name: 3}
    with pytest.raises(SettingError, match=rf"^{name}: expected a function"):
        MatcherMap(**settings)
    form: Any = JsonHeader
    with pytest.raises(
        SettingError, match=r"header_parsing: expected JsonHeader\(…\), an object; got the class"
    ):
        MatcherMap(form)


def test_sub_matcher_wins_and_falls_through() -> None:
    """Its handlers are its own; the map and other overlays do not see them."""
    matcher = text_matcher(a=lambda ctx, meta: "map", b=lambda ctx, meta: "map")
    sub, other = matcher.gen_sub(), matcher.gen_sub()
    assert isinstance(sub, SubMatcher)
    sub.add("b", lambda ctx, meta: "sub")

    @sub.handle("c")
    def c(ctx: object, meta: str, req: int) -> int:
        return req + 1

    assert [sub.dispatch(CTX, META, data) for data in ("a", "b", "c 1")] == [
        "a map",
        "b sub",
        "c 2",
    ]
    assert matcher.dispatch(CTX, META, "b") == other.dispatch(CTX, META, "b") == "b map"
    with pytest.raises(HandleNotFind):
        other.dispatch(CTX, META, "c 1")
    with pytest.raises(HandleNotFind, match=r"\(known: 'b', 'c', 'a'\)"):
        sub.dispatch(CTX, META, "d")
    with pytest.raises(DuplicateHandler):
        sub.add("c", two)
    assert [repr(sub), repr(matcher)] == ["<SubMatcher handlers=3>", "<MatcherMap handlers=2>"]


def test_sub_matcher_handler_may_register_another() -> None:
    """A message may register what the next one needs."""
    sub = text_matcher().gen_sub()

    @sub.handle("join")
    def join(ctx: object, meta: str) -> None:
        sub.add("move", two)

    sub.dispatch(CTX, META, "join")
    assert sub.dispatch(CTX, META, "move") == 'move ["meta"]'


def test_matcher_frozen_refuses_handlers(caplog: pytest.LogCaptureFixture) -> None:
    """Once the hub runs, only overlays grow; the message says so."""
    for freeze in (MatcherMap.freeze, lambda matcher: matcher.init(logging.getLogger("t"))):
        matcher = text_matcher(a=two)
        with caplog.at_level(logging.DEBUG, logger="t"):
            freeze(matcher)
            freeze(matcher)
        with pytest.raises(UsageError, match=r"'b': the hub runs.*gen_sub"):
            matcher.add("b", two)
        matcher.gen_sub().add("b", two)
        assert matcher.dispatch(CTX, META, "a") == 'a ["meta"]'
    assert caplog.messages == ["matcher: 1 handlers"] * 2


def test_matcher_text_enum_members_are_headers() -> None:
    """The word on the wire finds the member's handler."""
    matcher: MatcherMap[str, Word] = MatcherMap(JsonHeader(), {Word.SAY: two})
    assert matcher.dispatch(CTX, META, '{"type":"say"}') == '{"type":"say","data":["meta"]}'
