"""Header fields and the request, as users see them: :class:`Headers` and :class:`Request`.

An authentication hook decides on a :class:`Request`, and the request stays on the connection
afterwards.  So nothing here raises over the bytes of a peer, and no ``repr`` shows credentials.

Layer: protocol.  Threads: immutable values; any thread may read them.
Source: RFC 9110, RFC 6265.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, TypeVar, overload
from urllib.parse import parse_qs, unquote

from hubthread.errors import SettingError, SettingTypeError

__all__ = [
    "ABSOLUTE_FORM",
    "CHECK_FIELD",
    "Headers",
    "Request",
    "checked_headers",
    "is_check",
    "split_authority",
]

CHECK_FIELD = "x-hubthread-check"
"""The header field with which a page asks why its handshakes fail."""

T = TypeVar("T")

ABSOLUTE_FORM = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?]*)")
"""The beginning of a request target in absolute form; the groups are scheme and authority."""

# Sec-WebSocket-Protocol may carry a token: it is the only field of a handshake that a page can
# set in a browser.
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
_AUTHORITY = re.compile(
    r"(?:\[([0-9A-Fa-f:.]+)(?:%[A-Za-z0-9._~%-]+)?\]|([A-Za-z0-9._~%-]*))(?::([0-9]{0,5}))?"
)
_MAX_ID = 100
"""Characters of a request's id in the log: the peer may have chosen it."""

_QUOTED_PAIR = re.compile(r"\\(?:([0-3][0-7][0-7])|(.))")


class Headers(Mapping[str, str]):
    """Header fields by case-insensitive name, immutable (RFC 9110 section 5).

    ``headers[name]`` joins a repeated field with ``", "`` (``Cookie`` with ``"; "``, as
    RFC 9113 section 8.2.3 does); :meth:`get_all` keeps the values apart.  Iteration gives each
    name once, in lower case, in the order of first appearance.

    :param fields: pairs of name and value; ``bytes`` are read as Latin-1.
    """

    __slots__ = ("_values",)

    def __init__(self, fields: Iterable[tuple[str | bytes, str | bytes]] = ()) -> None:
        values: dict[str, list[str]] = {}
        for name, value in fields:
            values.setdefault(_latin1(name).lower(), []).append(_latin1(value))
        self._values = {name: tuple(lines) for name, lines in values.items()}

    @classmethod
    def of(cls, fields: Mapping[str, str]) -> Headers:
        """Make header fields from a mapping of names in lower case, with none repeated."""
        made = cls()
        made._values = {name: (value,) for name, value in fields.items()}
        return made

    def __getitem__(self, name: str) -> str:
        """Return the value of a field.

        :raises KeyError: if the field is absent.
        """
        value = self.get(name)
        if value is None:
            raise KeyError(name)
        return value

    @overload
    def get(self, name: str, default: None = None, /) -> str | None: ...
    @overload
    def get(self, name: str, default: T, /) -> str | T: ...
    def get(self, name: str, default: object = None, /) -> object:
        """Return the value of a field, or ``default`` if it is absent."""
        # Mapping.get raises and catches a KeyError, and a handshake asks for many absent fields.
        key = name.lower()
        lines = self._values.get(key)
        if lines is None:
            return default
        return lines[0] if len(lines) == 1 else ("; " if key == "cookie" else ", ").join(lines)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names, in lower case."""
        return iter(self._values)

    def __len__(self) -> int:
        """Return the number of different names."""
        return len(self._values)

    def __eq__(self, other: object) -> bool:
        """Return True if the same fields carry the same values, line by line."""
        if not isinstance(other, Headers):
            return NotImplemented
        return self._values == other._values

    def __hash__(self) -> int:
        """Return a hash that agrees with equality."""
        return hash(frozenset(self._values.items()))

    def get_all(self, name: str) -> list[str]:
        """Return every value of a field, in order; an empty list if it is absent."""
        return list(self._values.get(name.lower(), ()))

    def __repr__(self) -> str:
        """Show the fields, with the values of credentials hidden."""
        shown = (
            f"{name}: {'<hidden>' if name in _SECRET_FIELDS else value!r}"
            for name, value in self.items()
        )
        return f"<Headers {', '.join(shown)}>"


@dataclass(frozen=True, repr=False)
class Request:
    """One HTTP request: the argument of an authentication hook, and ``ctx.handshake`` later.

    The fields are stored; every other attribute is computed from them on first use, and kept.
    """

    method: str
    """The method as sent, such as ``"GET"``."""
    target: str
    """The request target as sent, such as ``"/ws?room=1"``."""
    headers: Headers
    """The header fields."""
    peer: tuple[str, int] | str = ""
    """The address of the other end: ``(host, port)``, or the path of a Unix socket, which is
    ``""`` for most clients.  Behind a proxy it is the proxy's address."""
    secure: bool = False
    """True if TLS ends in this process; False behind a proxy that ends TLS."""
    http_version: str = "1.1"
    """``"1.1"`` or ``"1.0"``."""
    client_certificate: Mapping[str, Any] | None = None
    """The certificate of the client, as ``ssl.SSLSocket.getpeercert`` returns it, if the context
    of ``hub.serve(ssl=...)`` asks for one (``verify_mode``) and has verified it; else ``None``."""
    environ: dict[str, Any] | None = field(default=None, compare=False)
    """The environ of a request that a WSGI server has read, without streams and sockets, if an
    integration keeps it; ``HUBTHREAD_REQUEST_CONTEXT`` of ``FlaskHub`` does."""

    def _log_ids(self) -> dict[str, object]:
        given = self.headers.get("x-request-id", "")[:_MAX_ID]
        return {"request_id": given if given and given.isascii() and given.isprintable() else None}

    @cached_property
    def path(self) -> str:
        """The path, percent-decoded as UTF-8, without the query.

        Dot segments and doubled slashes stay as they were sent.  Invalid UTF-8 becomes U+FFFD.
        """
        return unquote(self._origin_form.partition("?")[0]) or "/"

    @cached_property
    def query_string(self) -> str:
        """The query of the target after the first ``?``, as sent; ``""`` without a query."""
        return self._origin_form.partition("?")[2]

    @cached_property
    def query(self) -> Mapping[str, str]:
        """The first value of each query parameter, decoded; read-only."""
        return MappingProxyType({name: found[0] for name, found in self._query_values.items()})

    def query_all(self, name: str) -> list[str]:
        """Return every value of a query parameter, in order; an empty list if it is absent."""
        return list(self._query_values.get(name, ()))

    @cached_property
    def cookies(self) -> Mapping[str, str]:
        """The cookies, read-only (RFC 6265 section 4.2).

        A malformed cookie is left out; the others stay.  Of several cookies with one name the
        first counts: browsers send the cookie with the most specific path first.
        """
        found: dict[str, str] = {}
        for pair in self.headers.get("cookie", "").split(";"):
            name, equals, value = pair.partition("=")
            if equals and name.strip(" \t"):
                found.setdefault(name.strip(" \t"), _cookie_value(value.strip(" \t")))
        return MappingProxyType(found)

    @cached_property
    def subprotocols(self) -> tuple[str, ...]:
        """The offered subprotocols, in order of preference (RFC 6455 section 4.1, item 10)."""
        return tuple(_list_tokens(self.headers.get("sec-websocket-protocol", "")))

    @property
    def origin(self) -> str | None:
        """The origin of the page that connects; ``None`` without the field (RFC 6454)."""
        return self.headers.get("origin")

    @cached_property
    def is_websocket(self) -> bool:
        """True if this asks for a switch to WebSocket: ``GET``, both header fields, HTTP/1.1.

        ``hubthread.protocol.handshake.accept`` checks the rest of the handshake.  An
        ``Upgrade`` in HTTP/1.0 or without ``Connection: upgrade`` is ignored (RFC 9110
        section 7.8).
        """
        return (
            self.method == "GET"
            and self.http_version != "1.0"
            and self.has_token("upgrade", "websocket")
            and self.has_token("connection", "upgrade")
        )

    def has_token(self, field: str, token: str) -> bool:
        """Return True if a comma-separated header field lists ``token``, in any case."""
        value, token = self.headers.get(field, "").lower(), token.lower()
        return value == token or token in _list_tokens(value)

    def __repr__(self) -> str:
        """Show method, path (cut), version and peer; the query may hold a token."""
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


def is_check(request: Request) -> bool:
    """Return True if a page asks why its handshakes fail, or asks if it may ask that."""
    if request.method == "OPTIONS":
        return request.has_token("access-control-request-headers", CHECK_FIELD)
    return request.method == "GET" and CHECK_FIELD in request.headers and not request.is_websocket


def _list_tokens(value: str) -> list[str]:
    """Return the entries of a comma-separated list without empty ones (RFC 9110, 5.6.1)."""
    return [entry for part in value.split(",") if (entry := part.strip(" \t"))]


def _is_pair_of_text(pair: object) -> bool:
    is_pair = isinstance(pair, tuple | list) and len(pair) == 2
    return is_pair and all(isinstance(part, str) for part in pair)  # type: ignore[attr-defined]


def checked_headers(
    fields: Iterable[tuple[str, str]], *, reserved: Collection[str] = ()
) -> list[tuple[str, str]]:
    """Return header fields that are safe to send, with the blanks around the values removed.

    :param fields: pairs of name and value.
    :param reserved: names in lower case that the caller of this function writes itself.
    :raises SettingTypeError: for anything but pairs of text.
    :raises SettingError: for a malformed or reserved name, or a value with line breaks, other
        control characters or characters outside Latin-1.  The message leaves the value out,
        because it may be a secret.
    """
    checked = []
    for pair in fields:
        if not _is_pair_of_text(pair):
            raise SettingTypeError(
                "headers", "expected pairs of text, such as (('X-Name', 'value'),)"
            )
        name, value = pair
        if not _FIELD_NAME.fullmatch(name):
            raise SettingError("headers", f"expected the name of a header field, got {name!r}")
        if name.lower() in reserved:
            raise SettingError(
                "headers", f"expected a field that hubthread does not write itself, got {name}"
            )
        if not _FIELD_VALUE.fullmatch(value):
            raise SettingError(
                "headers",
                f"expected Latin-1 text without line breaks and other control characters as the "
                f"value of {name}",
            )
        checked.append((name, value.strip(" \t")))
    return checked


def split_authority(text: str) -> tuple[str, int | None] | None:
    """Split ``host[:port]`` as in a ``Host`` field (RFC 9110 section 7.2).

    :returns: the host in lower case (empty for a ``Host`` without a value) and the port
        (``None`` if it is not given); ``None`` for a text of another form.  The zone of an IPv6
        address is left out: it has a meaning on the client's machine only (RFC 9844), and some
        clients send it.
    """
    match = _AUTHORITY.fullmatch(text)
    if match is None:
        return None
    port = int(match[3]) if match[3] else None
    if port is not None and port > 65535:
        return None
    host = match[2] if match[1] is None else f"[{match[1]}]"
    return host.lower(), port


def _latin1(text: str | bytes) -> str:
    return text.decode("latin-1") if isinstance(text, bytes) else text


def _cookie_value(value: str) -> str:
    # http.cookies, and with it Django and Werkzeug, writes quotes and octal escapes for unusual
    # values; no standard has them.
    if len(value) >= 2 and value[0] == value[-1] == '"':
        value = _QUOTED_PAIR.sub(
            lambda pair: chr(int(pair[1], 8)) if pair[1] else pair[2], value[1:-1]
        )
    # Pages write cookies in UTF-8; header fields are read as Latin-1.
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return value
