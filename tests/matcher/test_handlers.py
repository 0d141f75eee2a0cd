"""Handlers: the functions that can be handlers, and the reasons why others cannot."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal

import pytest

from hubthread.errors import HandleAnyNotPtr, HandleKindError, HandleNotFunc
from hubthread.matcher.formats import JsonHeader, PrefixHeader
from hubthread.matcher.matcher import Empty, Handler, MatcherMap

if TYPE_CHECKING:
    from nowhere import OnlyTheCheckerKnows  # type: ignore[import-not-found]

CTX, META = None, "meta"


@dataclass
class Move:
    x: int
    y: int = 0


def text_matcher(**handlers: Handler[str]) -> MatcherMap[str, Any]:
    return MatcherMap(PrefixHeader(), handlers)


class Game:
    """Handlers other than plain functions."""

    def method(self, ctx: object, meta: str, req: Move) -> object:
        return [meta, req]

    @classmethod
    def of_class(cls, ctx: object, meta: str, req: Move) -> object:
        return [meta, req]

    @staticmethod
    def static(ctx: object, meta: str, req: Move) -> object:
        return [meta, req]

    def __call__(self, ctx: object, meta: str, req: Move) -> object:
        return [meta, req]


def plain(ctx: object, meta: str, req: Move) -> object:
    return [meta, req]


def with_default(ctx: object, meta: str, req: Move, more: int = 1) -> object:
    return [meta, req]


def keyword_only(ctx: object, meta: str, req: Move, *, more: int = 1) -> object:
    return [meta, req]


def positional_only(ctx: object, meta: str, req: Move, /) -> object:
    return [meta, req]


def optional(ctx: object, meta: str, req: Move = Move(9)) -> object:  # noqa: B008
    return [meta, req]


def unresolvable_ctx(ctx: OnlyTheCheckerKnows, meta: OnlyTheCheckerKnows, req: Move) -> object:
    return [meta, req]


def first_bound(prefix: object, ctx: object, meta: str, req: Move) -> object:
    return [meta, req]


@functools.wraps(plain)
def wrapped(*args: Any, **keywords: Any) -> object:
    return plain(*args, **keywords)


async def later(ctx: object, meta: str, req: Move) -> object:
    return [meta, req]


@functools.wraps(later)
def awaited(ctx: object, meta: str, req: Move) -> object:
    with pytest.raises(StopIteration) as done:  # no event loop is needed: it waits for nothing
        later(ctx, meta, req).send(None)
    return done.value.value


@pytest.mark.parametrize(
    "handler",
    [
        *(plain, with_default, keyword_only, positional_only, optional),
        *(unresolvable_ctx, wrapped, awaited),
        *(Game().method, Game.of_class, Game.static, Game()),
        functools.partial(first_bound, None),
        functools.partial(keyword_only, more=2),
        functools.partial(Game().method),
    ],
)
def test_handler_any_callable_gets_the_request(handler: Any) -> None:
    """Functions, methods, partials and callable objects get the payload as annotated."""
    matcher = text_matcher(move=handler)
    assert matcher.dispatch(CTX, META, 'move {"x": 1}') == 'move ["meta",{"x":1,"y":0}]'


@pytest.mark.parametrize(
    "handler",
    [
        lambda ctx, meta, req: [meta, req],
        lambda *args: [*args[1:]],
        lambda ctx, meta, *rest: [meta, *rest],
    ],
)
def test_handler_without_annotation_gets_decoded_json(handler: Any) -> None:
    """A lambda gets what the JSON says."""
    matcher = text_matcher(move=handler)
    assert matcher.dispatch(CTX, META, 'move {"x": [1]}') == 'move ["meta",{"x":[1]}]'


def two(ctx: object, meta: str) -> object:
    return [meta]


def two_and_more(ctx: object, meta: str, **more: object) -> object:
    return [meta, *more]


def empty(ctx: object, meta: str, req: Empty) -> object:
    return [meta] if req == Empty() else None


@pytest.mark.parametrize("handler", [two, two_and_more, empty, lambda ctx, meta: [meta]])
@pytest.mark.parametrize("payload", ["", "{}", "{not json", '{"x":1}'])
def test_handler_without_request_never_unmarshals(handler: Any, payload: str) -> None:
    """Two parameters, or Empty: the payload may be anything."""
    matcher = text_matcher(ping=handler)
    assert matcher.dispatch(CTX, META, f"ping {payload}") == 'ping ["meta"]'


async def coroutine(ctx: object, meta: object, req: object) -> None: ...


async def async_generator(ctx: object, meta: object) -> AsyncIterator[int]:
    yield 1


def generator(ctx: object, meta: object) -> Iterator[int]:
    yield 1


class AsyncCall:
    async def __call__(self, ctx: object, meta: object) -> None: ...


def unresolvable(ctx: object, meta: object, req: OnlyTheCheckerKnows) -> None: ...


def unsupported(ctx: object, meta: object, req: list[bytes]) -> None: ...


def unsupported_inside(ctx: object, meta: object, req: Mapping[str, list[complex]]) -> None: ...


def four(ctx: object, meta: object, req: object, more: object) -> None: ...


def needs_keyword(ctx: object, meta: object, *, req: object) -> None: ...


def one(ctx: object) -> None: ...


@pytest.mark.parametrize(
    ("handler", "told"),
    [
        (coroutine, "it is async, but nothing awaits it"),
        (async_generator, "it is async"),
        (AsyncCall(), "it is async"),
        (functools.partial(coroutine, None), "it is async"),
        (generator, "it is a generator"),
        (Move, "handler Move: it is a class"),
        (one, "it takes 1 positional arguments: take (ctx, meta, req)"),
        (four, "its parameter 'more' gets no argument"),
        (needs_keyword, "its parameter 'req' gets no argument"),
        (unresolvable, "'OnlyTheCheckerKnows' of parameter 'req' cannot be resolved"),
        (unsupported, "handler unsupported: handle any not ptr: bytes"),
        (unsupported_inside, "handle any not ptr: complex"),
        (iter, "its parameters cannot be read"),
    ],
)
def test_handler_unfit_function_raises_at_registration(handler: Any, told: str) -> None:
    """Registration names header and handler, and says what to write instead."""
    with pytest.raises(HandleKindError, match=r"^handle kind error: header 'move'") as raised:
        text_matcher(move=handler)
    assert told in str(raised.value)
    assert raised.value.header == "move"


@dataclass
class Tagged:
    type: str
    id: int = 0


@dataclass
class Reply:
    reply: int | None = None


@dataclass
class Both:
    type: Literal["move", 7]


class Word(str, Enum):
    MOVE = "move"


def json_matcher(header: Any, handler: Any, **options: Any) -> MatcherMap[str, Any]:
    return MatcherMap(JsonHeader(**options), {header: handler})


@pytest.mark.parametrize(
    ("header", "into", "options", "message", "expected"),
    [
        ("move", Tagged, {}, '{"type":"move"}', Tagged("move")),
        (Word.MOVE, Tagged, {}, '{"type":"move","id":1}', Tagged("move", 1)),
        ("move", Tagged, {"id_field": "id"}, '{"type":"move","id":3}', Tagged("move", 3)),
        ("move", Tagged, {"id_field": "n"}, '{"type":"move","n":3}', Tagged("move")),
        ("move", Tagged, {"body": "of"}, '{"type":"move","of":{"type":"x"}}', Tagged("x")),
        ("move", Tagged | None, {}, '{"type":"move"}', Tagged("move")),
        (7, Both, {}, '{"type":7}', Both(7)),
        ("move", Reply, {}, '{"type":"move","reply":1}', Reply(1)),
        ("move", Any, {"id_field": "id"}, '{"type":"move","id":1,"x":2}', {"x": 2}),
    ],
)
def test_handler_with_the_formats_fields_gets_their_values(
    header: Any, into: Any, options: dict[str, Any], message: str, expected: object
) -> None:
    """What was checked at registration is what arrives, though the format takes fields out."""
    got: list[object] = []

    def keep(ctx: object, meta: object, req: Any) -> None:
        got.append(req)

    keep.__annotations__["req"] = into
    json_matcher(header, keep, **options).dispatch(CTX, META, message)
    assert got == [expected]


@pytest.mark.parametrize(
    ("header", "into", "told"),
    [
        ("move", Reply, "its payload has the field 'reply', which makes a message an answer"),
        (
            "jump",
            Both,
            "the field 'type' of its payload takes 'move', 7, and the header is 'jump'",
        ),
    ],
)
def test_handler_whose_messages_cannot_arrive_raises(header: str, into: Any, told: str) -> None:
    """At registration, instead of for each message."""

    def never(ctx: object, meta: object, req: Any) -> None:
        """Never called."""

    never.__annotations__["req"] = into
    with pytest.raises(HandleKindError) as raised:
        json_matcher(header, never, id_field="id")
    assert told in str(raised.value)


def test_handler_unsupported_annotation_is_the_cause() -> None:
    """The specification's name for it can be found from there."""
    with pytest.raises(HandleKindError) as raised:
        text_matcher(move=unsupported)
    assert isinstance(raised.value.__cause__, HandleAnyNotPtr)


@pytest.mark.parametrize("handler", [None, 3, "on_move", [], Move(1)])
def test_handler_not_callable_raises(handler: Any) -> None:
    """The message has the object, the header and the expected type."""
    with pytest.raises(HandleNotFunc, match=r"^handle not func: .*for header 'move': give") as r:
        text_matcher(move=handler)
    assert r.value.header == "move"


def test_handler_local_types_are_found() -> None:
    """Annotations that are text find types that are defined inside a function."""

    @dataclass
    class Inner:
        x: int

    @dataclass
    class Request:
        inner: Inner

    matcher = text_matcher()

    def register() -> None:
        @matcher.handle("deep")
        def deep(ctx: Any, meta: str, req: list[Request]) -> int:
            return req[0].inner.x

    register()
    assert matcher.dispatch(CTX, META, 'deep [{"inner": {"x": 3}}]') == "deep 3"


def test_handler_local_type_wins_over_a_module_type() -> None:
    """A name is resolved in the scope of the handler."""

    @dataclass
    class Move:
        z: str

    matcher = text_matcher()

    @matcher.handle("move")
    def on_move(ctx: Any, meta: str, req: Move) -> str:
        return req.z

    assert matcher.dispatch(CTX, META, 'move {"z": "here"}') == "move here"


def factory() -> Callable[..., object]:
    @dataclass
    class Gone:
        x: int

    def handler(ctx: object, meta: str, req: Gone) -> object:
        return req.x

    return handler


def closing_factory() -> Callable[..., object]:
    @dataclass
    class Kept:
        x: int

    def handler(ctx: object, meta: str, req: Kept) -> object:
        return [req.x, Kept.__name__]

    return handler


def test_handler_local_type_of_a_finished_function() -> None:
    """The type is found if the handler uses it; otherwise the handler is refused."""
    assert text_matcher(a=closing_factory()).dispatch(CTX, META, 'a {"x": 2}') == 'a [2,"Kept"]'
    with pytest.raises(HandleKindError, match=r"'Gone'.*at module level"):
        text_matcher(a=factory())
