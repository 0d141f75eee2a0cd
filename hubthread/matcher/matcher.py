"""Find the handler of a message by its header, call it, and encode its reply.

``handlers`` checks and compiles a handler when it is registered; a message only runs the
result.

Layer: matcher.  Threads: ``route`` and ``run`` are called on the thread that runs the client's
callbacks.  Several clients may use one matcher at once: a serving matcher does not change.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from types import NoneType
from typing import (
    Any,
    Concatenate,
    Generic,
    NamedTuple,
    ParamSpec,
    TypeVar,
    cast,
    overload,
)

from hubthread.checks import check_callable, check_function, check_kind, checked, refuse_unrun
from hubthread.errors import (
    DuplicateHandler,
    HandleKindError,
    HandleNotFind,
    HubThreadError,
    PayloadError,
    SettingTypeError,
    UsageError,
)
from hubthread.matcher.compile import compile_plan, marshal_json, telling_the_path, unmarshal_json
from hubthread.matcher.formats import ID, Correlated, HeaderFormat, JsonHeader, Marshal
from hubthread.matcher.handlers import (
    Empty,
    HandleFunc,
    HandlePack,
    Handler,
    Unmarshal,
    Wire,
    name_of,
    pack_handler,
    unmarshal_with,
)
from hubthread.matcher.jsontext import brief, load_json

__all__ = [
    "Answer",
    "Empty",
    "HandleFunc",
    "HandlePack",
    "Handler",
    "HandlerCall",
    "HeaderParsing",
    "MatcherMap",
    "Recipient",
    "SubMatcher",
]

Meta = TypeVar("Meta")
Header = TypeVar("Header", bound=Hashable)
P = ParamSpec("P")
Reply = TypeVar("Reply")
T = TypeVar("T")

HeaderParsing = Callable[["str | bytes"], "tuple[Header, Any]"]
"""Splits a message into header and payload (specification: ``HeaderParsingFunc``)."""

_KNOWN_SHOWN = 10

_PLAIN = frozenset({NoneType, str, bytes, dict, list, tuple, int, float, bool})
"""The classes of most replies, which need no further check."""


class _Coding(Generic[Header]):
    """The encoding of one wire protocol, shared by a map and its overlays."""

    def __init__(
        self,
        header_parsing: HeaderFormat[Header] | HeaderParsing[Header] | None,
        marshal: Marshal | None,
        unmarshal: Unmarshal | None,
    ) -> None:
        form: Any = JsonHeader() if header_parsing is None else header_parsing
        if isinstance(form, type):
            wanted = f"expected {form.__name__}(…), an object; got the class"
            raise SettingTypeError("header_parsing", wanted)
        self.parse: HeaderParsing[Header] = getattr(form, "parse", form)
        self.join: Callable[[Header, object, Marshal], str | bytes] | None = getattr(
            form, "join", None
        )
        self.decoded_text: bool = getattr(form, "decoded_text", False)
        self.correlated: Correlated | None = form if getattr(form, "correlated", False) else None
        self.marshal: Marshal = marshal_json if marshal is None else _finished(marshal)
        self.unmarshal = unmarshal
        self.wire = Wire(
            unmarshal,
            self.decoded_text,
            getattr(form, "header_field", None),
            getattr(form, "id_field", None),
            getattr(form, "reply_field", None),
        )
        # Only a format with a place for it has the method.
        self.join_failure: Callable[[Any, str, Marshal, ID], str | bytes] | None = (
            getattr(form, "join_failure", None) if self.correlated is not None else None
        )
        check_callable("header_parsing", self.parse, "data")
        check_function("marshal", marshal, "obj")
        check_function("unmarshal", unmarshal, "payload", "into")
        if not type(form).__module__.startswith("hubthread."):
            self.parse = _finished(self.parse)
            self.join = self.join and _finished(self.join)


def _finished(function: Callable[..., T]) -> Callable[..., T]:
    """Return the user's function, which refuses a coroutine as its result."""
    return lambda *args: checked(function(*args))


class Answer(NamedTuple):
    """A message that answers a request: the caller of ``route`` hands it to the request."""

    number: ID
    """The id of the request."""
    payload: Any
    """The payload as the header format leaves it: encoded or decoded."""
    header: Any = None
    """The header; ``None`` if the answer has none."""


class HandlerCall(NamedTuple):
    """A message that found its handler; ``run`` calls the handler."""

    payload: str | bytes
    """The payload without its header; the whole message if the format has decoded it."""
    value: Any
    """The payload as the header format leaves it."""
    encoded: bool
    """True if ``value`` is text or bytes that are still to be unmarshalled."""
    header: Any
    pack: HandlePack
    coding: _Coding[Any]
    question: ID | None
    """The id that the reply has to carry, if the message asks for an answer."""

    def run(self, ctx: Any, meta: Any) -> str | bytes | None:
        """Unmarshal the payload, call the handler, and return the encoded reply, if any.

        :raises PayloadError: for a malformed payload, before the handler runs.
        :raises UsageError: for a reply that the header format cannot put behind a header.
        :raises Exception: any exception of the handler.
        """
        payload, value, encoded, header, pack, coding, question = self
        if pack.load is None:
            reply = pack.handler(ctx, meta)
        else:
            try:
                request = pack.load(value, encoded, payload)
            except PayloadError as error:
                error.header = header
                raise
            reply = pack.handler(ctx, meta, request)
        if reply.__class__ not in _PLAIN:
            refuse_unrun(reply)
        if question is not None:
            assert coding.correlated is not None
            return coding.correlated.join_answer(header, reply, coding.marshal, question)
        if reply is None:
            return None
        if coding.join is None:
            raise UsageError(
                f"the handler for header {header!r} returned a reply, but a header-parsing "
                "function cannot put a header before it: give the matcher an object with parse "
                "and join (JsonHeader, PrefixHeader, IntHeader), or write with ctx.write"
            )
        return coding.join(header, reply, coding.marshal)


# The __new__ of a named tuple is a Python function; this runs for each message.
_call: Callable[[tuple[Any, ...]], HandlerCall] = partial(tuple.__new__, HandlerCall)


class Recipient:
    """The base of a context that keeps its payload and waits for answers: a hub's client."""

    __slots__ = ()

    def take(self, routed: HandlerCall | Answer, meta: Any) -> str | bytes | None:
        """Keep the payload of a call and run it; hand an answer to its request."""
        raise NotImplementedError


class _Matcher(Generic[Meta, Header]):
    """The common base of a map and an overlay."""

    def __init__(self, coding: _Coding[Header], packs: dict[Header, HandlePack]) -> None:
        self._coding = coding
        self._packs = packs

    def handle(
        self, header: Header
    ) -> Callable[
        [Callable[Concatenate[Any, Meta, P], Reply]], Callable[Concatenate[Any, Meta, P], Reply]
    ]:
        """Return a decorator that registers a function for ``header``, as ``add`` does.

        The decorator returns the function unchanged, so one function may serve several headers.
        """

        def register(
            handler: Callable[Concatenate[Any, Meta, P], Reply],
        ) -> Callable[Concatenate[Any, Meta, P], Reply]:
            self.add(header, cast("Handler[Meta]", handler))
            return handler

        return register

    def add(self, header: Header, handler: Handler[Meta]) -> None:
        """Register ``handler`` for the messages with ``header``.

        The handler is called as ``handler(ctx, meta, req)``.  The annotation of ``req`` is the
        type that the payload is unmarshalled into: no annotation or ``Any`` gives the decoded
        JSON value, ``bytes`` or ``str`` the payload as it came, ``Empty`` no payload; the other
        types are listed in ``hubthread.matcher.compile``.  A handler of two parameters gets no
        payload.  A result other than ``None`` is sent back behind the same header.

        :raises HandleNotFunc: if ``handler`` is not callable.
        :raises HandleKindError: if its parameters or annotations do not fit.
        :raises DuplicateHandler: if the header has a handler already.
        """
        try:
            taken = self._packs.get(header)
        except TypeError:
            raise HandleKindError(
                f"handle kind error: header {brief(header)}: a header must be hashable, such as "
                "text, a number or an enum's member",
                header,
            ) from None
        if taken is not None:
            raise DuplicateHandler(
                f"header {header!r} has the handler {name_of(taken.handler)} already: "
                "remove one of the two, or override it in an overlay (gen_sub)",
                header,
            )
        self._packs[header] = pack_handler(header, handler, self._coding.wire)

    def route(self, data: str | bytes) -> HandlerCall | Answer:
        """Find the handler of the message ``data``, or the request that ``data`` answers.

        No user code runs, except for a header format of the user's own.

        :raises PayloadError: for a malformed header.
        :raises HandleNotFind: for an unknown header.
        """
        coding = self._coding
        question = answered = None
        try:
            if coding.correlated is None:
                header, value = coding.parse(data)
            else:
                header, value, question, answered = coding.correlated.parse_correlated(data)
        except HubThreadError:
            raise
        except Exception as error:
            # The peer's message made the user's header-parsing function fail.
            raise PayloadError(f"the header cannot be parsed: {error!r}") from error
        if answered is not None:
            return Answer(answered, value, header)
        try:
            pack = self._packs[header]
        except KeyError:
            raise self._not_found(header) from None
        except TypeError:
            raise PayloadError(f"the header {brief(header)} is not hashable", header) from None
        encoded = isinstance(value, (str, bytes)) and not coding.decoded_text
        payload = value if encoded else data
        if question is not None and pack.id_field is not None:
            value = {**value, pack.id_field: question}
        return _call((payload, value, encoded, header, pack, coding, question))

    def dispatch(self, ctx: Any, meta: Meta, data: str | bytes) -> str | bytes | None:
        """Give the message ``data`` to its handler, and return the encoded reply, if any.

        A client of a hub given as ``ctx`` also gets the payload (``ctx.payload``) and the
        answers to its requests.  The hub itself calls ``route``.

        :param ctx: the first argument of the handler; any object.
        :raises PayloadError: for a malformed header or payload, before the handler runs.
        :raises HandleNotFind: for an unknown header.
        :raises UsageError: for an answer, if ``ctx`` is not a client of a hub.
        :raises Exception: any exception of the handler.
        """
        routed = self.route(data)
        # Not isinstance: a mock of a client names the client's class as its own.
        if issubclass(type(ctx), Recipient):
            return cast("Recipient", ctx).take(routed, meta)
        if isinstance(routed, Answer):
            raise UsageError(
                f"the message answers request {routed.number!r}: dispatch it to its client"
            )
        return routed.run(ctx, meta)

    def question(self, header: Header, obj: object, number: int) -> str | bytes:
        """Return the message that requests an answer to ``obj``, behind ``header``.

        :param number: the id that the answer will carry.
        :raises UsageError: for a header format without ids.
        """
        correlated = self._coding.correlated
        if correlated is None:
            raise UsageError(
                "the messages of this header format carry no ids, so answers cannot be matched: "
                'use JsonHeader(id_field="id"), or a format of your own with ids'
            )
        return correlated.join_question(header, obj, self._coding.marshal, number)

    def failure(self, data: str | bytes, error: BaseException) -> str | bytes | None:
        """Return the answer that tells the peer that its request ``data`` has failed.

        ``None`` for a message that is not a request, and for a header format that has no place
        for it: ``JsonHeader(error_field="error")`` has.

        :param error: the exception of ``route`` or ``run``.  The peer is told the text of a
            ``PayloadError``, but not that of an exception of the program.
        """
        coding = self._coding
        if coding.join_failure is None or coding.correlated is None:
            return None
        try:
            header, _, question, answered = coding.correlated.parse_correlated(data)
        except Exception:  # noqa: BLE001 - without an id there is nothing to answer
            return None
        if question is None or answered is not None:
            return None
        if isinstance(error, HandleNotFind):
            text = f"no handler for {brief(header)}"  # not the names of the others
        else:
            text = str(error) if isinstance(error, PayloadError) else "internal error"
        return coding.join_failure(header, text, coding.marshal, question)

    def answer_as(self, into: Any) -> Callable[[Answer], Any]:
        """Return a function that converts the payload of an answer to an ``into``.

        The function raises ``PayloadError`` for a payload that does not fit.

        :raises HandleAnyNotPtr: for a type that no payload can be converted to.
        """
        coding = self._coding
        unmarshal = coding.unmarshal
        if unmarshal is not None:
            return lambda answer: unmarshal_with(unmarshal, answer.payload, into)
        plan = compile_plan(into)
        convert = telling_the_path(plan.convert)
        field = coding.wire.header_field
        has_header = field is not None and field in plan.fields

        def load(answer: Answer) -> Any:
            payload = answer.payload
            if isinstance(payload, (str, bytes)) and not coding.decoded_text:
                payload = load_json(payload)
            elif has_header and answer.header is not None:
                payload = {**payload, field: answer.header}
            return convert(payload)

        return load

    def header_parsing(self, data: str | bytes) -> tuple[Header, Any]:
        """Split ``data`` into header and payload (specification: ``HeaderParsing``)."""
        check_kind("data", data, str | bytes, "text or bytes")
        return self._coding.parse(data)

    def marshal(self, obj: object) -> str | bytes:
        """Encode ``obj`` as JSON, or with the ``marshal`` function."""
        return self._coding.marshal(obj)

    @overload
    def unmarshal(self, data: str | bytes, into: type[T]) -> T: ...
    @overload
    def unmarshal(self, data: str | bytes, into: Any) -> Any: ...
    def unmarshal(self, data: str | bytes, into: Any) -> Any:
        """Decode ``data`` to an ``into`` from JSON, or with the ``unmarshal`` function."""
        check_kind("data", data, str | bytes, "text or bytes")
        return (self._coding.unmarshal or unmarshal_json)(data, into)

    def _known(self) -> list[Header]:
        return list(self._packs)

    def _not_found(self, header: object) -> HandleNotFind:
        known = self._known()
        shown = ", ".join(brief(each) for each in known[:_KNOWN_SHOWN]) or "none"
        more = len(known) - _KNOWN_SHOWN
        return HandleNotFind(
            f"handle not find header: {brief(header)} "
            f"(known: {shown}{f' and {more} more' if more > 0 else ''})",
            header,
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} handlers={len(self._known())}>"


class MatcherMap(_Matcher[Meta, Header]):
    """The handlers of a hub, by header (specification: ``MatcherMap``).

    :param header_parsing: the format of the header: ``JsonHeader()`` by default, another format
        of ``hubthread.matcher.formats``, an object like these, or a plain function.  With a
        function, handlers cannot reply by returning a value.
    :param handlers: handlers by header, registered as ``add`` does (``HandleSetting``).
    :param marshal: ``marshal(obj)`` replaces JSON in replies (``MarshalFunc``).
    :param unmarshal: ``unmarshal(payload, into)`` replaces JSON in messages
        (``UnmarshalFunc``); a handler may then ask for any type that it supports.
    :raises SettingTypeError: for a format or function of the wrong type.
    :raises HandlerError: as ``add``.

    Threads: register on one thread, before the hub serves; ``dispatch`` is for any thread.
    """

    def __init__(
        self,
        header_parsing: HeaderFormat[Header] | HeaderParsing[Header] | None = None,
        handlers: Mapping[Header, Handler[Meta]] | None = None,
        marshal: Marshal | None = None,
        unmarshal: Unmarshal | None = None,
    ) -> None:
        super().__init__(_Coding(header_parsing, marshal, unmarshal), {})
        self._frozen = False
        if handlers is not None:
            check_kind("handlers", handlers, Mapping, "a mapping of headers to functions")
        for header, handler in (handlers or {}).items():
            self.add(header, handler)

    def add(self, header: Header, handler: Handler[Meta]) -> None:
        """Register ``handler``, as an overlay does.

        :raises UsageError: once the hub runs.
        """
        if self._frozen:
            raise UsageError(
                f"header {header!r}: the hub runs, and all its clients read its matcher: "
                "register before the hub starts, or in an overlay for one client (gen_sub)"
            )
        super().add(header, handler)

    def freeze(self) -> None:
        """Refuse further handlers: ``add`` raises ``UsageError`` from now on.  Idempotent."""
        self._frozen = True

    def init(self, logger: logging.Logger) -> None:
        """Freeze, and log the number of handlers; the hub does so before it serves (``Init``)."""
        self.freeze()
        logger.debug("matcher: %d handlers", len(self._packs))

    def gen_sub(self) -> SubMatcher[Meta, Header]:
        """Return an empty overlay over this map (specification: ``GenSub``)."""
        return SubMatcher(self)


class SubMatcher(_Matcher[Meta, Header]):
    """Handlers of one connection, or of one stage of a game, that override those of a map.

    A header without a handler here falls through to the map (specification: ``SubMatcher``).

    Threads: one client's callbacks, which may also register handlers between messages.
    """

    def __init__(self, parent: MatcherMap[Meta, Header]) -> None:
        check_kind("parent", parent, MatcherMap, "a MatcherMap")
        super().__init__(parent._coding, _Overlay(parent._packs))
        self._parent = parent

    def _known(self) -> list[Header]:
        return list({**self._packs, **self._parent._packs})


class _Overlay(dict[Any, HandlePack]):
    """A dict that falls through to ``below``, with the speed of a plain dict for its own keys."""

    def __init__(self, below: dict[Any, HandlePack]) -> None:
        super().__init__()
        self._below = below

    def __missing__(self, header: object) -> HandlePack:
        return self._below[header]
