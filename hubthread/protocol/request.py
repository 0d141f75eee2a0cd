"""Header fields, and the request as users see it: :class:`Headers` and :class:`Request`.

Layer: protocol.  No thread: both are immutable values, and any thread may read them.

What they owe to the rest: an authentication hook decides on a :class:`Request`, and it stays
on the connection afterwards, so nothing here raises over what a peer sent, and no ``repr``
shows what authenticates it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import TypeVar, overload
from urllib.parse import parse_qs, unquote

from hubthread.errors import SettingError

__all__ = ["ABSOLUTE_FORM", "Headers", "Request", "checked_headers", "split_authority"]

T = TypeVar("T")

#: How a request target in absolute form begins; the group is its authority.
ABSOLUTE_FORM = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://([^/?]*)")

# Sec-WebSocket-Protocol is here because a browser can set no other field of its handshake, so
# pages put their tokens into it.
_SECRET_FIELDS = frozenset(
    {
        "authorization",
        "proxy-authorization",
        "cookie",
        "set-cookie",
        "sec-websocket-protocol",
    }
)

_FIELD_NAME = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_FIELD_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~%-]*)(?::([0-9]{0,5}))?")
_QUOTED_PAIR = re.compile(r"\\(?:([0-3][0-7][0-7])|(.))")


class Headers(Mapping[str, str]):
    """Header fields by case-insensitive name, immutable (RFC 9110 section 5).

    ``headers[name]`` joins a repeated field with ``", "`` (``Cookie`` with ``"; "``, as
    RFC 9113 section 8.2.3 does); :meth:`get_all` keeps the values apart.  Iterating gives each
    name once, in lower case, in the order of first appearance.

    Args:
        fields: pairs of name and value; ``bytes`` are read as Latin-1.
    """

    __slots__ = ("_values",)

    def __init__(self, fields: Iterable[tuple[str | bytes, str | bytes]] = ()) -> None:
        values: dict[str, list[str]] = {}
        for name, value in fields:
            values.setdefault(_latin1(name).lower(), []).append(_latin1(value))
        self._values = {name: tuple(lines) for name, lines in values.items()}

    @classmethod
    def of(cls, fields: Mapping[str, str]) -> Headers:
        """Header fields of which none is repeated, by name in lower case."""
        made = cls()
        made._values = {name: (value,) for name, value in fields.items()}
        return made

    def __getitem__(self, name: str) -> str:
        """The value of a field; ``KeyError`` if it is absent."""
        value = self.get(name)
        if value is None:
            raise KeyError(name)
        return value

    @overload
    def get(self, name: str, default: None = None, /) -> str | None: ...
    @overload
    def get(self, name: str, default: T, /) -> str | T: ...
    def get(self, name: str, default: object = None, /) -> object:
        """The value of a field, or ``default`` if it is absent."""
        # Of our own: that of Mapping raises and catches a KeyError, and a handshake asks
        # for many a field that is not there (2 µs less for each connection).
        key = name.lower()
        lines = self._values.get(key)
        if lines is None:
            return default
        return lines[0] if len(lines) == 1 else ("; " if key == "cookie" else ", ").join(lines)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names, in lower case."""
        return iter(self._values)

    def __len__(self) -> int:
        """The number of different names."""
        return len(self._values)

    def __eq__(self, other: object) -> bool:
        """Whether the same fields carry the same values, line by line."""
        if not isinstance(other, Headers):
            return NotImplemented
        return self._values == other._values

    def __hash__(self) -> int:
        """A hash that agrees with equality."""
        return hash(frozenset(self._values.items()))

    def get_all(self, name: str) -> list[str]:
        """Every value of a field, in order; an empty list if it is absent."""
        return list(self._values.get(name.lower(), ()))

    def __repr__(self) -> str:
        """The fields, with the values of those that carry credentials hidden."""
        shown = (
            f"{name}: {'<hidden>' if name in _SECRET_FIELDS else value!r}"
            for name, value in self.items()
        )
        return f"<Headers {', '.join(shown)}>"


@dataclass(frozen=True, repr=False)
class Request:
    """One HTTP request: what an authentication hook sees, and ``ctx.handshake`` afterwards.

    The fields are the plain pieces; everything else is worked out of them when first asked
    for, and kept.

    :param method: the method as sent, such as ``"GET"``.
    :param target: the request target as sent, such as ``"/ws?room=1"``.
    :param headers: the header fields.
    :param peer: the address of the other end: ``(host, port)``, or the path of a Unix socket,
        which is ``""`` for most clients.  Behind a proxy, the proxy's.
    :param secure: True if TLS ends in this process, False behind a proxy that ends it.
    :param http_version: ``"1.1"`` or ``"1.0"``.
    """

    method: str
    target: str
    headers: Headers
    peer: tuple[str, int] | str = ""
    secure: bool = False
    http_version: str = "1.1"

    @cached_property
    def path(self) -> str:
        """The path, percent-decoded as UTF-8, without the query.

        Dot segments and doubled slashes stay as they were sent.  Bytes that are no UTF-8
        become U+FFFD.
        """
        return unquote(self._origin_form.partition("?")[0]) or "/"

    @cached_property
    def query_string(self) -> str:
        """What follows the first ``?`` of the target, as sent; ``""`` if nothing does."""
        return self._origin_form.partition("?")[2]

    @cached_property
    def query(self) -> Mapping[str, str]:
        """The first value of each query parameter, decoded; read-only."""
        return MappingProxyType({name: found[0] for name, found in self._query_values.items()})

    def query_all(self, name: str) -> list[str]:
        """Every value of a query parameter, in order; an empty list if it is absent."""
        return list(self._query_values.get(name, ()))

    @cached_property
    def cookies(self) -> Mapping[str, str]:
        """The cookies, read-only (RFC 6265 section 4.2).

        A malformed cookie is left out and the others stay.  Of several with one name the
        first counts: browsers send the one with the most specific path first.
        """
        found: dict[str, str] = {}
        for pair in self.headers.get("cookie", "").split(";"):
            name, equals, value = pair.partition("=")
            if equals and name.strip(" \t"):
                found.setdefault(name.strip(" \t"), _cookie_value(value.strip(" \t")))
        return MappingProxyType(found)

    @cached_property
    def subprotocols(self) -> tuple[str, ...]:
        """The subprotocols offered, most wanted first (RFC 6455 section 4.1, item 10)."""
        return tuple(_list_tokens(self.headers.get("sec-websocket-protocol", "")))

    @property
    def origin(self) -> str | None:
        """The origin of the page that connects; None where no browser sent it (RFC 6454)."""
        return self.headers.get("origin")

    @cached_property
    def is_websocket(self) -> bool:
        """Whether this asks for a switch to WebSocket: ``GET``, both header fields, HTTP/1.1.

        It need not be a valid handshake: ``hubthread.protocol.handshake.accept`` says.
        An ``Upgrade`` in HTTP/1.0 or without ``Connection: upgrade`` counts for nothing
        (RFC 9110 section 7.8).
        """
        return (
            self.method == "GET"
            and self.http_version != "1.0"
            and self.has_token("upgrade", "websocket")
            and self.has_token("connection", "upgrade")
        )

    def has_token(self, field: str, token: str) -> bool:
        """Whether a comma-separated header field lists a token, whatever the case."""
        value, token = self.headers.get(field, "").lower(), token.lower()
        return value == token or token in _list_tokens(value)

    def __repr__(self) -> str:
        """Method, path (cut), version and peer; no query, since tokens travel in it."""
        peer = self.peer if isinstance(self.peer, str) else f"{self.peer[0]}:{self.peer[1]}"
        kind = "WebSocket " if self.is_websocket else ""
        return (
            f"<{kind}Request {self.method[:20]} {self.path[:100]!r} "
            f"HTTP/{self.http_version} from {peer!r}>"
        )

    @cached_property
    def _origin_form(self) -> str:
        absolute = ABSOLUTE_FORM.match(self.target)
        return self.target[absolute.end() :] if absolute else self.target

    @cached_property
    def _query_values(self) -> dict[str, list[str]]:
        return parse_qs(self.query_string, keep_blank_values=True)


def _list_tokens(value: str) -> list[str]:
    """The entries of a comma-separated list, empty ones left out (RFC 9110 section 5.6.1)."""
    return [entry for part in value.split(",") if (entry := part.strip(" \t"))]


def checked_headers(
    fields: Iterable[tuple[str, str]], *, reserved: Collection[str] = ()
) -> list[tuple[str, str]]:
    """Header fields that are safe to send, with the blanks around the values removed.

    Args:
        fields: pairs of name and value.
        reserved: names in lower case that the caller of this function writes itself.

    Raises:
        SettingError: a malformed or reserved name, or a value with line breaks, other control
            characters or characters outside Latin-1.  The message leaves the value out, since
            it may be a secret.
    """
    checked = []
    for name, value in fields:
        if not _FIELD_NAME.fullmatch(name):
            raise SettingError("headers", f"{name!r} is no name of a header field")
        if name.lower() in reserved:
            raise SettingError("headers", f"{name} is written by hubthread itself")
        if not _FIELD_VALUE.fullmatch(value):
            raise SettingError(
                "headers",
                f"the value of {name} may not contain line breaks, other control characters "
                "or characters outside Latin-1",
            )
        checked.append((name, value.strip(" \t")))
    return checked


def split_authority(text: str) -> tuple[str, int | None] | None:
    """Split ``host[:port]`` as in a ``Host`` field (RFC 9110 section 7.2).

    Returns:
        The host in lower case (may be empty, as in a ``Host`` without a value) and the port,
        None where not given; or None if the text has another form.
    """
    match = _AUTHORITY.fullmatch(text)
    if match is None:
        return None
    port = int(match[2]) if match[2] else None
    if port is not None and port > 65535:
        return None
    return match[1].lower(), port


def _latin1(text: str | bytes) -> str:
    return text.decode("latin-1") if isinstance(text, bytes) else text


def _cookie_value(value: str) -> str:
    # Quotes and octal escapes are what http.cookies, and with it Django and Werkzeug, write
    # for anything unusual; no standard has them.
    if len(value) >= 2 and value[0] == value[-1] == '"':
        value = _QUOTED_PAIR.sub(
            lambda pair: chr(int(pair[1], 8)) if pair[1] else pair[2], value[1:-1]
        )
    # Pages write cookies in UTF-8, and header fields are read as Latin-1.
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return value
