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
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus

import h11

from hubthread.checks import check_kind
from hubthread.errors import HandshakeRejected, SettingError
from hubthread.protocol.http_head import parse_head, read_plain_head
from hubthread.protocol.request import (
    ABSOLUTE_FORM,
    Headers,
    Request,
    checked_headers,
    split_authority,
)

__all__ = ["MAX_HEAD", "Headers", "Request", "RequestParser", "Response", "check_request"]

MAX_HEAD = 16 * 1024
"""Bytes of the longest request head: request line, header fields and the blank line.

Browsers keep at most about 4 KiB per cookie, so a handshake with several cookies and a signed
token fits.  Node.js and h11 have the same limit.  A larger one would let each connection that
has not authenticated yet take more memory."""

_BLANK_LINE = re.compile(rb"\n\r?\n")
_REQUEST_LINE = re.compile(rb"\S+ \S+ HTTP/[0-9]\.[0-9]\r?\n")
_SPACE = 0x20
_TLS_HANDSHAKE = 0x16

_BODYLESS = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})
_OWN_FIELDS = frozenset(
    {"connection", "content-length", "content-type", "transfer-encoding", "x-content-type-options"}
)


@dataclass(frozen=True)
class Response:
    """A complete HTTP answer; the connection is closed after it.

    :raises SettingError: for a status out of range, for a body with a status that has none,
        and for a header field that cannot be sent as it is, such as a line break in a value.
    """

    status: int
    """The HTTP status, 200 to 599."""
    body: bytes = b""
    """The body; empty for the statuses without a body (204, 304)."""
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

    def encode(self, request: Request | None = None) -> bytes:
        """Return the bytes to send.

        :param request: the request that is answered: ``HEAD`` gets no body.  ``None`` if the
            request could not be read.
        """
        fields = checked_headers(self.headers)
        # RFC 9110 section 7.8: Connection has to name an Upgrade field (status 426).
        upgrade = any(name.lower() == "upgrade" for name, _ in fields)
        fields.append(("Connection", "close, Upgrade" if upgrade else "close"))
        fields.append(("X-Content-Type-Options", "nosniff"))
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
    :param max_head: bytes of the longest request head.
    """

    # A subclass of the tests turns it off: everything then goes through h11.
    _short_way = True

    def __init__(
        self, *, peer: tuple[str, int] | str, secure: bool, max_head: int = MAX_HEAD
    ) -> None:
        self._peer = peer
        self._secure = secure
        self._max_head = max_head
        self._buffer = bytearray()
        self._searched = 0
        self._line_seen = False
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
            early, 405 for a method other than ``GET`` and ``HEAD``, 413 for a request with a
            body, 426 for an upgrade in HTTP/1.0, 431 for a head over the limit, 501 for an
            unknown transfer coding, 505 for another major version of HTTP.  No other exception
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
        self._refuse_early()
        blank_line = _BLANK_LINE.search(self._buffer, self._searched, self._max_head)
        if blank_line is None:
            if len(self._buffer) >= self._max_head:
                raise HandshakeRejected(
                    431, f"The request head is longer than {self._max_head} bytes."
                )
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
        return Request("GET", target, Headers.of(fields), self._peer, self._secure)

    def _refuse_early(self) -> None:
        """Refuse a peer of another protocol, which may never send a blank line."""
        if self._line_seen:
            return
        first = self._buffer[0]
        if first == _TLS_HANDSHAKE and not self._secure:
            raise HandshakeRejected(400, "This port speaks plain HTTP, and this looks like TLS.")
        end = self._buffer.find(b"\n", self._searched, self._max_head) + 1
        if first <= _SPACE or (end and not _REQUEST_LINE.fullmatch(self._buffer, 0, end)):
            raise HandshakeRejected(400, "This is not an HTTP request.")
        self._line_seen = end > 0

    def _checked(self, event: h11.Request) -> Request:
        request = Request(
            method=event.method.decode("ascii"),
            target=event.target.decode("ascii"),
            headers=Headers(event.headers),
            peer=self._peer,
            secure=self._secure,
            http_version=event.http_version.decode("ascii"),
        )
        check_request(request)
        return request


def check_request(request: Request) -> None:
    """Refuse a valid HTTP request that a hub does not answer.

    :raises HandshakeRejected: as :meth:`RequestParser.receive`.
    """
    if request.http_version[0] != "1":
        raise HandshakeRejected(
            505, f"This server speaks HTTP/1.1, not HTTP/{request.http_version}."
        )
    _check_method(request)
    _check_target(request)
    if request.headers.get("content-length", "0").strip("0") or (
        "transfer-encoding" in request.headers
    ):
        raise HandshakeRejected(413, "A request to this server cannot have a body.")
    if request.http_version == "1.0" and request.has_token("upgrade", "websocket"):
        raise HandshakeRejected(
            426,
            "WebSocket needs HTTP/1.1, and this request came as HTTP/1.0.",
            (("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")),
        )


def _check_method(request: Request) -> None:
    allowed = ("GET",) if request.has_token("upgrade", "websocket") else ("GET", "HEAD")
    if request.method not in allowed:
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
    # An absolute target overrides Host (RFC 9112 section 3.2.2), and a client has to send both
    # alike.  Refuse a difference instead of guessing.
    if request.headers.get("host", absolute[1]).lower() != absolute[1].lower():
        raise HandshakeRejected(400, "The request target and the Host header differ.")


def reason_phrase(status: int) -> str:
    """Return the name of a status; ``""`` for a status without a name."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
