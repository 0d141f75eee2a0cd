"""From a message to the handler of its header, and from its result to the reply.

Layer: protocol.  ``dispatch`` runs on the thread that runs the client's callbacks; several
clients may dispatch through one matcher at once, since a matcher that serves does not
change.  Handlers are checked and compiled when they are registered (``handlers``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, cast, overload

from hubthread.errors import (
    DuplicateHandler,
    HandleKindError,
    HandleNotFind,
    HubThreadError,
    PayloadError,
    SettingError,
    UsageError,
)
from hubthread.matcher.compile import compile_converter, marshal_json, unmarshal_json
from hubthread.matcher.formats import Correlated, HeaderFormat, JsonHeader, Marshal
from hubthread.matcher.handlers import (
    Empty,
    HandleFunc,
    HandlePack,
    Handler,
    Unmarshal,
    name_of,
    pack_handler,
    unmarshal_with,
)
from hubthread.matcher.jsontext import brief, load_json

__all__ = [
    "Empty",
    "HandleFunc",
    "HandlePack",
    "Handler",
    "HeaderParsing",
    "MatcherMap",
    "SubMatcher",
]

Meta = TypeVar("Meta")
Header = TypeVar("Header", bound=Hashable)
P = ParamSpec("P")
Reply = TypeVar("Reply")
T = TypeVar("T")

HeaderParsing = Callable[["str | bytes"], "tuple[Header, Any]"]
"""Takes a message apart into header and payload (specification: ``HeaderParsingFunc``)."""

_KNOWN_SHOWN = 10


class _Coding(Generic[Header]):
    """How one wire protocol encodes: shared by a map and its overlays."""

    def __init__(
        self,
        header_parsing: HeaderFormat[Header] | HeaderParsing[Header] | None,
        marshal: Marshal | None,
        unmarshal: Unmarshal | None,
    ) -> None:
        form: Any = JsonHeader() if header_parsing is None else header_parsing
        if isinstance(form, type):
            raise SettingError("header_parsing", f"{form.__name__}(…), an object, not the class")
        self.parse: HeaderParsing[Header] = getattr(form, "parse", form)
        self.join: Callable[[Header, object, Marshal], str | bytes] | None = getattr(
            form, "join", None
        )
        self.decoded_text: bool = getattr(form, "decoded_text", False)
        self.correlated: Correlated | None = form if getattr(form, "correlated", False) else None
        self.marshal: Marshal = marshal or marshal_json
        self.unmarshal = unmarshal
        for name, value in (
            ("header_parsing", self.parse),
            ("marshal", self.marshal),
            ("unmarshal", unmarshal),
        ):
            if value is not None and not callable(value):
                raise SettingError(name, f"a function, not {value!r}")


class _Matcher(Generic[Meta, Header]):
    """What a map and an overlay have in common."""

    def __init__(self, coding: _Coding[Header], packs: dict[Header, HandlePack]) -> None:
        self._coding = coding
        self._packs = packs

    def handle(
        self, header: Header
    ) -> Callable[
        [Callable[Concatenate[Any, Meta, P], Reply]], Callable[Concatenate[Any, Meta, P], Reply]
    ]:
        """Decorator: register the function for ``header``; raises as ``add``.

        The function stays as it is, so that one may serve several headers.
        """

        def register(
            handler: Callable[Concatenate[Any, Meta, P], Reply],
        ) -> Callable[Concatenate[Any, Meta, P], Reply]:
            self.add(header, cast("Handler[Meta]", handler))
            return handler

        return register

    def add(self, header: Header, handler: Handler[Meta]) -> None:
        """Register ``handler`` for the messages with ``header``.

        It is called as ``handler(ctx, meta, req)``.  The annotation of ``req`` says what
        the payload is unmarshalled into: nothing or ``Any`` for the decoded JSON value,
        ``bytes`` or ``str`` for the payload as it came, ``Empty`` for none; all others
        stand in ``protocol.convert``.  A handler of two parameters gets no payload.
        What it returns, other than ``None``, is the reply, behind the same header.

        Raises ``HandleNotFunc``, ``HandleKindError``, ``DuplicateHandler``.
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
                "remove one of the two, or let an overlay win with gen_sub()",
                header,
            )
        self._packs[header] = pack_handler(
            header, handler, self._coding.unmarshal, self._coding.decoded_text
        )

    def dispatch(self, ctx: Any, meta: Meta, data: str | bytes) -> str | bytes | None:
        """Give the message ``data`` to its handler; returns the encoded reply, if any.

        An answer goes to the method ``_take_answer`` of ``ctx``, and to no handler.  Where
        ``ctx`` has a method ``_set_payload``, it gets the payload first, without the
        header, if the format leaves it as text or bytes.

        Raises ``PayloadError`` for a malformed header or payload and ``HandleNotFind`` for
        an unknown header, both before the handler ran, and whatever the handler raises.
        """
        coding = self._coding
        question = answered = None
        try:
            if coding.correlated is None:
                header, payload = coding.parse(data)
            else:
                header, payload, question, answered = coding.correlated.parse_correlated(data)
        except HubThreadError:
            raise
        except Exception as error:
            # A header-parsing function that stumbles does so over what a peer sent.
            raise PayloadError(f"the header cannot be parsed: {error!r}") from error
        if answered is not None:
            ctx._take_answer(answered, payload)
            return None
        try:
            pack = self._packs[header]
        except KeyError:
            raise self._not_found(header) from None
        except TypeError:
            raise PayloadError(f"the header {brief(header)} is not hashable", header) from None
        encoded = isinstance(payload, (str, bytes)) and not coding.decoded_text
        if encoded:
            set_payload = getattr(ctx, "_set_payload", None)
            if set_payload is not None:
                set_payload(payload)
        load = pack.load
        if load is None:
            reply = pack.handler(ctx, meta)
        else:
            try:
                request = load(payload, encoded, data)
            except PayloadError as error:
                error.header = header
                raise
            reply = pack.handler(ctx, meta, request)
        if question is not None:
            assert coding.correlated is not None
            return coding.correlated.join_answer(header, reply, coding.marshal, question)
        if reply is None:
            return None
        if coding.join is None:
            raise UsageError(
                f"the handler for header {header!r} returned a reply, and a header-parsing "
                "function cannot put a header before it: give the matcher an object with parse "
                "and join (JsonHeader, PrefixHeader, IntHeader), or write with ctx.write"
            )
        return coding.join(header, reply, coding.marshal)

    def question(self, header: Header, obj: object, number: int) -> str | bytes:
        """The message that asks ``obj`` behind ``header``; its answer carries ``number``.

        Raises ``UsageError`` for a header format whose messages carry no ids.
        """
        correlated = self._coding.correlated
        if correlated is None:
            raise UsageError(
                "the messages of this header format carry no ids to tell answers by: use "
                'JsonHeader(id_field="id"), or a format of your own like it'
            )
        return correlated.join_question(header, obj, self._coding.marshal, number)

    def answer_as(self, into: Any) -> Callable[[Any], Any]:
        """What makes an ``into`` of an answer's payload; ``PayloadError`` where it cannot.

        Raises ``HandleAnyNotPtr`` for a target that no payload becomes.
        """
        coding = self._coding
        unmarshal = coding.unmarshal
        if unmarshal is not None:
            return lambda payload: unmarshal_with(unmarshal, payload, into)
        convert = compile_converter(into)

        def load(payload: Any) -> Any:
            encoded = isinstance(payload, (str, bytes)) and not coding.decoded_text
            return convert(load_json(payload) if encoded else payload)

        return load

    def header_parsing(self, data: str | bytes) -> tuple[Header, Any]:
        """The header and the payload of ``data`` (specification: ``HeaderParsing``)."""
        return self._coding.parse(data)

    def marshal(self, obj: object) -> str | bytes:
        """``obj`` encoded: JSON, or what the ``marshal`` function makes of it."""
        return self._coding.marshal(obj)

    @overload
    def unmarshal(self, data: str | bytes, into: type[T]) -> T: ...
    @overload
    def unmarshal(self, data: str | bytes, into: Any) -> Any: ...
    def unmarshal(self, data: str | bytes, into: Any) -> Any:
        """``data`` as an ``into``: from JSON, or by the ``unmarshal`` function."""
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

    ``header_parsing`` says where the header is: one of ``protocol.headers``, an object like
    them, or a plain function, with which handlers cannot reply by returning; by default
    ``JsonHeader()``.  ``handlers`` registers as ``add`` does (``HandleSetting``).
    ``marshal(obj)`` and ``unmarshal(payload, into)`` replace JSON (``MarshalFunc``,
    ``UnmarshalFunc``); then ``unmarshal`` alone judges what a handler may ask for.

    Threads: register on one, before the hub serves; dispatch on any.
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
        for header, handler in (handlers or {}).items():
            self.add(header, handler)

    def add(self, header: Header, handler: Handler[Meta]) -> None:
        """Register ``handler``, as an overlay does; ``UsageError`` once the hub runs."""
        if self._frozen:
            raise UsageError(
                f"header {header!r}: the hub runs, and its matcher is read by all its clients: "
                "register before it starts, or in an overlay for one client (gen_sub)"
            )
        super().add(header, handler)

    def freeze(self) -> None:
        """No more handlers: from here on ``add`` raises ``UsageError``.  Idempotent."""
        self._frozen = True

    def init(self, logger: logging.Logger) -> None:
        """What the hub does before it serves: freeze, and log what there is (``Init``)."""
        self.freeze()
        logger.debug("matcher: %d handlers", len(self._packs))

    def gen_sub(self) -> SubMatcher[Meta, Header]:
        """An empty overlay over this map: its handlers win (specification: ``GenSub``)."""
        return SubMatcher(self)


class SubMatcher(_Matcher[Meta, Header]):
    """Handlers of one connection, or of one stage of a game, over those of a map.

    A header that it does not have falls through to the map.  Threads: one client's
    callbacks, which may also register while messages flow (specification: ``SubMatcher``).
    """

    def __init__(self, parent: MatcherMap[Meta, Header]) -> None:
        super().__init__(parent._coding, _Overlay(parent._packs))
        self._parent = parent

    def _known(self) -> list[Header]:
        return list({**self._packs, **self._parent._packs})


class _Overlay(dict[Any, HandlePack]):
    """Looks up in ``below`` what it does not have, on the quick way of a plain dict."""

    def __init__(self, below: dict[Any, HandlePack]) -> None:
        super().__init__()
        self._below = below

    def __missing__(self, header: object) -> HandlePack:
        return self._below[header]
