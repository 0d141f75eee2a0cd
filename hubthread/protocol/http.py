"""The HTTP front, on h11: bytes to a :class:`Request`, a :class:`Response` to bytes.

A connection carries one request.  It becomes a WebSocket, or it gets one answer and is closed:
no keep-alive, no bodies.  This is decided before wsproto sees a byte, so health checks, pages
and WebSockets share one port.

Layer: protocol.  Threads: a :class:`RequestParser` belongs to the reader of its connection; a
:class:`Response` is an immutable value.
Source: RFC 9110, RFC 9112.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import Any

import h11

from hubthread.checks import check_kind
from hubthread.errors import HandshakeRejected, SettingError
from hubthread.protocol.http_head import parse_head, read_plain_head
from hubthread.protocol.proxy_header import SIGNATURE, begins_proxy_header
from hubthread.protocol.request import (
    ABSOLUTE_FORM,
    Headers,
    Request,
    checked_headers,
    is_check,
    split_authority,
)

__all__ = [
    "MAX_HEAD",
    "Headers",
    "Request",
    "RequestParser",
    "Response",
    "WrongProtocol",
    "check_request",
    "foreign_protocol",
]

MAX_HEAD = 16 * 1024
"""Bytes of the longest request head: request line, header fields and the blank line.

Browsers keep at most about 4 KiB per cookie, so a handshake with several cookies and a signed
token fits.  Node.js and h11 have the same limit.  A larger one would let each connection that
has not authenticated yet take more memory."""

_BLANK_LINE = re.compile(rb"\n\r?\n")
_REQUEST_LINE = re.compile(rb"\S+ \S+ HTTP/[0-9]\.[0-9]\r?\n")
_SPACE = 0x20

_PLAIN_HTTP = re.compile(rb"[A-Z]{3,10} ")
_METHODS = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"}
)
_SCHEMES = frozenset({"http", "https", "ws", "wss"})

_BODYLESS = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.RESET_CONTENT, HTTPStatus.NOT_MODIFIED})
_OWN_FIELDS = frozenset(
    {
        *("connection", "content-length", "content-type", "date", "transfer-encoding"),
        "x-content-type-options",
    }
)


class WrongProtocol(HandshakeRejected):
    """The peer speaks another protocol: a server or a proxy is configured wrongly.

    :param kind: the kind of mistake, for the log.
    """

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(400, reason)
        self.kind = kind


@dataclass(frozen=True)
class Response:
    """A complete HTTP answer; the connection is closed after it.

    :raises SettingError: for a status out of range, for a body with a status that has none,
        and for a header field that cannot be sent as it is, such as a line break in a value.
    """

    status: int
    """The HTTP status, 200 to 599."""
    body: bytes = b""
    """The body; empty for the statuses without a body (204, 205, 304)."""
    content_type: str = "text/plain; charset=utf-8"
    """The value of ``Content-Type``."""
    headers: tuple[tuple[str, str], ...] = ()
    """Further header fields, as pairs of name and value."""

    def __post_init__(self) -> None:
        """Refuse a response that cannot be sent, where it is made."""
        wanted = "an HTTP status from 200 to 599"
        check_kind("status", self.status, int, wanted)
        if not 200 <= self.status <= 599:
            raise SettingError("status", f"expected {wanted}, got {self.status!r}")
        check_kind("body", self.body, (bytes, bytearray, memoryview), "bytes")
        if self.body and self.status in _BODYLESS:
            raise SettingError("body", f"expected no body: status {self.status} has none")
        checked_headers((("Content-Type", self.content_type),))
        checked_headers(self.headers, reserved=_OWN_FIELDS)

    @classmethod
    def text(cls, status: int, text: str, headers: Iterable[tuple[str, str]] = ()) -> Response:
        """Return an answer of plain text, in UTF-8."""
        return cls(status, text.encode(), headers=tuple(headers))

    @classmethod
    def html(cls, text: str) -> Response:
        """Return a page, in UTF-8, with status 200."""
        return cls(200, text.encode(), "text/html; charset=utf-8")

    @classmethod
    def json(cls, obj: object, status: int = 200) -> Response:
        """Return an object as JSON.

        :raises TypeError: if JSON cannot express the object.
        """
        return cls(status, json.dumps(obj).encode(), "application/json")

    def encode(self, request: Request | None = None, now: float | None = None) -> bytes:
        """Return the bytes to send.

        :param request: the request that is answered: ``HEAD`` gets no body.  ``None`` if the
            request could not be read.
        :param now: the time for the ``Date`` field, in seconds since 1970.
        """
        fields = checked_headers(self.headers)
        # RFC 9110 section 7.8: Connection has to name an Upgrade field (status 426).
        upgrade = any(name.lower() == "upgrade" for name, _ in fields)
        fields.append(("Connection", "close, Upgrade" if upgrade else "close"))
        fields.append(("X-Content-Type-Options", "nosniff"))
        if now is not None:
            fields.append(("Date", formatdate(now, usegmt=True)))
        if self.status == HTTPStatus.RESET_CONTENT:
            fields.append(("Content-Length", "0"))
        if self.status not in _BODYLESS:
            fields.append(("Content-Type", self.content_type))
            fields.append(("Content-Length", str(len(self.body))))
        head = h11.Connection(h11.SERVER).send(
            h11.Response(
                status_code=self.status,
                reason=reason_phrase(self.status),
                headers=[(name.encode(), value.encode("latin-1")) for name, value in fields],
            )
        )
        return head if request is not None and request.method == "HEAD" else head + self.body


class RequestParser:
    """The parser of a connection's one request, fed with bytes as they come.

    The result does not depend on how the bytes are cut into pieces, and the work is linear in
    their number.  The parser holds at most ``max_head`` bytes and the last piece.

    Threads: the reader of the connection.

    :param peer: becomes :attr:`Request.peer`.
    :param secure: becomes :attr:`Request.secure`.
    :param certificate: becomes :attr:`Request.client_certificate`.
    :param max_head: bytes of the longest request head.
    :param posts: the paths that take ``POST``, without a body.
    """

    # A subclass of the tests turns it off: everything then goes through h11.
    _short_way = True

    def __init__(
        self,
        *,
        peer: tuple[str, int] | str,
        secure: bool,
        certificate: Mapping[str, Any] | None = None,
        max_head: int = MAX_HEAD,
        posts: Collection[str] = (),
    ) -> None:
        self._peer = peer
        self._secure = secure
        self._certificate = certificate
        self._max_head = max_head
        self._posts = posts
        self._buffer = bytearray()
        self._searched = 0
        self._line_seen = False
        self._empty_line_seen = False
        self._request: Request | None = None
        self._refused = False

    @property
    def trailing(self) -> bytes:
        """The bytes received after the request head; empty before the request is complete.

        A client may send its first frames with the handshake, without waiting for the answer.
        """
        return bytes(self._buffer) if self._request is not None else b""

    def receive(self, data: bytes) -> Request | None:
        """Take the bytes that arrived.

        :param data: ``b""`` is the end of the stream.  After the request, further bytes are
            added to :attr:`trailing`.
        :returns: the request as soon as its head is complete, ``None`` before.
        :raises HandshakeRejected: with 400 for invalid HTTP and for a stream that ended too
            early, 405 for a method other than ``GET`` and ``HEAD``
            (and ``OPTIONS`` of a check), 413 for a request with a
            body, 414 for a request line and 431 for a head over the limit, 501 for an unknown
            method or transfer coding, 505 for another major version of HTTP.  No other exception
            is raised.  After a refusal every further call is refused.
        """
        if self._refused:
            raise HandshakeRejected(400, "The request was refused already.")
        if self._request is not None:
            self._buffer += data
            return self._request
        try:
            self._request = self._advance(data)
        except HandshakeRejected:
            self._refused = True
            self._buffer.clear()
            raise
        return self._request

    def _advance(self, data: bytes) -> Request | None:
        if not data:
            raise HandshakeRejected(400, "The connection ended before the request was complete.")
        request = self._short(data) if self._short_way and not self._buffer else None
        if request is not None:
            return request
        self._buffer += data
        if not self._refuse_early():
            return None
        blank_line = _BLANK_LINE.search(self._buffer, self._searched, self._max_head)
        if blank_line is None:
            if len(self._buffer) >= self._max_head:
                status, what = (431, "head") if self._line_seen else (414, "line")
                reason = f"The request {what} is longer than {self._max_head} bytes."
                raise HandshakeRejected(status, reason)
            # The last two bytes may begin the blank line that the next piece completes.
            self._searched = max(0, len(self._buffer) - 2)
            return None
        head = bytes(self._buffer[: blank_line.end()])
        request = self._checked(parse_head(head))
        del self._buffer[: blank_line.end()]
        return request

    def _short(self, data: bytes) -> Request | None:
        """Read a plain head that came in one piece; return ``None`` to leave it to h11."""
        plain = read_plain_head(data, self._max_head)
        if plain is None:
            return None
        target, fields, end = plain
        if split_authority(fields["host"]) is None:
            return None
        self._buffer += data[end:]
        return Request(
            "GET",
            target,
            Headers.of(fields),
            self._peer,
            self._secure,
            client_certificate=self._certificate,
        )

    def _refuse_early(self) -> bool:
        """Refuse a peer of another protocol, which may never send a blank line.

        :returns: False if more bytes must come first.
        """
        if self._line_seen:
            return True
        if len(self._buffer) < len(SIGNATURE) and SIGNATURE.startswith(self._buffer):
            return False
        foreign = foreign_protocol(bytes(self._buffer[: len(SIGNATURE)]), tls=self._secure)
        # Over TLS the first bytes are known to be those of TLS; these come from within.
        if foreign is not None and not self._secure:
            raise foreign
        if self._buffer.startswith(b"\r\n") and not self._empty_line_seen:
            del self._buffer[:2]  # some clients send one (RFC 9112 section 2.2)
            self._empty_line_seen = True
        first = self._buffer[0]
        end = self._buffer.find(b"\n", self._searched, self._max_head) + 1
        if first <= _SPACE or (end and not _REQUEST_LINE.fullmatch(self._buffer, 0, end)):
            raise HandshakeRejected(400, "This is not an HTTP request.")
        self._line_seen = end > 0
        return True

    def _checked(self, event: h11.Request) -> Request:
        target = event.target.decode("ascii")
        fields: list[tuple[str | bytes, str | bytes]] = [*event.headers]
        absolute = ABSOLUTE_FORM.match(target)
        if absolute is not None:  # its authority replaces Host (RFC 9112 section 3.2.2)
            fields = [("host", absolute[2]), *(each for each in fields if each[0] != b"host")]
        request = Request(
            method=event.method.decode("ascii"),
            target=target,
            headers=Headers(fields),
            peer=self._peer,
            secure=self._secure,
            http_version=event.http_version.decode("ascii"),
            client_certificate=self._certificate,
        )
        check_request(request, post=request.path in self._posts)
        return request


def foreign_protocol(first: bytes, *, tls: bool) -> WrongProtocol | None:
    """Return the refusal of a peer that speaks another protocol, told by its first bytes.

    :param tls: True if TLS is expected, False for plain HTTP.
    :returns: ``None`` for the right protocol, and for one that is not known here.
    """
    if begins_proxy_header(first):
        reason = "This looks like a PROXY header, and proxy_protocol does not name this address."
        return WrongProtocol("PROXY header", reason)
    if tls and _PLAIN_HTTP.match(first):
        reason = "This port speaks TLS, and this looks like plain HTTP."
        return WrongProtocol("plain HTTP", reason)
    if not tls and first[:1] == b"\x16":
        reason = "This port speaks plain HTTP, and this looks like TLS."
        return WrongProtocol("TLS", reason)
    return None


def check_request(request: Request, *, post: bool = False) -> None:
    """Refuse a valid HTTP request that a hub does not answer.

    :param post: True if the path of the request takes ``POST``, without a body.
    :raises HandshakeRejected: as :meth:`RequestParser.receive`.
    """
    if request.http_version[0] != "1":
        raise HandshakeRejected(
            505, f"This server speaks HTTP/1.1, not HTTP/{request.http_version}."
        )
    _check_method(request, post)
    _check_target(request)
    if request.headers.get("content-length", "0").strip("0") or (
        "transfer-encoding" in request.headers
    ):
        raise HandshakeRejected(413, "A request to this server cannot have a body.")


def _check_method(request: Request, post: bool) -> None:
    if request.method not in _METHODS:
        raise HandshakeRejected(501, f"The method {request.method[:20]} is unknown here.")
    upgrade = request.has_token("upgrade", "websocket")
    allowed = ["GET"] if upgrade else ["GET", "HEAD", "POST"] if post else ["GET", "HEAD"]
    if request.method not in allowed and not is_check(request):
        raise HandshakeRejected(
            405,
            f"Only {' and '.join(allowed)} can be asked for here, not {request.method[:20]}.",
            (("Allow", ", ".join(allowed)),),
        )


def _check_target(request: Request) -> None:
    if split_authority(request.headers.get("host", "")) is None:
        raise HandshakeRejected(400, "The Host header is malformed.")
    if request.target.startswith("/"):
        return
    absolute = ABSOLUTE_FORM.match(request.target)
    if absolute is None:
        raise HandshakeRejected(400, "The request target must be a path, such as /ws.")
    if absolute[1].lower() not in _SCHEMES or not absolute[2]:
        raise HandshakeRejected(400, "The request target is of another scheme, or has no host.")


def reason_phrase(status: int) -> str:
    """Return the name of a status; ``""`` for a status without a name."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
