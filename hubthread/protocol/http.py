"""The HTTP front: bytes to a :class:`Request`, a :class:`Response` to bytes, on h11.

Layer: protocol.  No thread: a :class:`RequestParser` belongs to the reader of its connection,
and a :class:`Response` is an immutable value.

A connection carries one request.  It becomes a WebSocket, or it gets one answer and is closed:
no keep-alive, no bodies.  That is decided here, before wsproto sees anything, so that health
checks, pages and WebSocket live on one port.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus

import h11

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

#: The longest request head, in bytes: request line, header fields and the blank line.
#:
#: Browsers keep at most about 4 KiB per cookie, and a handshake with a few of them and a signed
#: token fits well.  Node.js and h11 stop at 16 KiB too, nginx at 8 KiB a line and 32 KiB in all,
#: Apache at 8 KiB a line, Tomcat at 8 KiB.  Go's 1 MiB, for each connection that has not
#: authenticated itself yet, is what an attacker would like.
MAX_HEAD = 16 * 1024

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
    """A whole HTTP answer; the connection is closed after it.

    Args:
        status: the HTTP status, 200 to 599.
        body: the body; empty for the statuses that have none (204, 304).
        content_type: the value of ``Content-Type``.
        headers: further fields, pairs of name and value.

    Raises:
        SettingError: a status out of range, a body where there can be none, or a header field
            that could not be sent as it is (line breaks above all).
    """

    status: int
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        """Refuse what cannot be sent, where it is made rather than where it is sent."""
        if not 200 <= self.status <= 599:
            raise SettingError("status", f"an HTTP status from 200 to 599, not {self.status!r}")
        if self.body and self.status in _BODYLESS:
            raise SettingError("body", f"must be empty, since status {self.status} has none")
        checked_headers((("Content-Type", self.content_type),))
        checked_headers(self.headers, reserved=_OWN_FIELDS)

    @classmethod
    def text(cls, status: int, text: str, headers: Iterable[tuple[str, str]] = ()) -> Response:
        """An answer of plain text, in UTF-8."""
        return cls(status, text.encode(), headers=tuple(headers))

    @classmethod
    def html(cls, text: str) -> Response:
        """A page, in UTF-8, with status 200."""
        return cls(200, text.encode(), "text/html; charset=utf-8")

    @classmethod
    def json(cls, obj: object, status: int = 200) -> Response:
        """An object as JSON; ``TypeError`` if JSON cannot express it."""
        return cls(status, json.dumps(obj).encode(), "application/json")

    def encode(self, request: Request | None = None) -> bytes:
        """The bytes to send.

        Args:
            request: what is answered, so that ``HEAD`` gets no body; None if it could not be
                read.
        """
        fields = checked_headers(self.headers)
        # A sender of Upgrade (status 426) has to name it in Connection: RFC 9110 section 7.8.
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
    """Reads the one request of a connection out of the bytes as they come.

    How the bytes are cut into pieces makes no difference, and the work is linear in their
    number.  It holds at most ``max_head`` bytes and the last piece.

    Args:
        peer: handed on to :attr:`Request.peer`.
        secure: handed on to :attr:`Request.secure`.
        max_head: the longest request head accepted, in bytes.
    """

    # Off in a subclass of the tests only: everything then goes through h11.
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
        """The bytes received after the request head: empty until there is a request.

        A client may send its first frames without waiting for the answer, in one segment with
        the handshake.
        """
        return bytes(self._buffer) if self._request is not None else b""

    def receive(self, data: bytes) -> Request | None:
        """Take what arrived.

        Args:
            data: the bytes received; ``b""`` is the end of the stream.  After the request,
                further bytes are added to :attr:`trailing`.

        Returns:
            The request as soon as its head is whole, None before.

        Raises:
            HandshakeRejected: 400 for what is not valid HTTP or has ended too early, 405 for a
                method other than ``GET`` and ``HEAD``, 413 for a request with a body, 426 for
                an upgrade in HTTP/1.0, 431 for a head over the limit, 501 for an unknown
                transfer coding, 505 for another major version of HTTP.  Nothing else, and
                once it was raised every further call raises.
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
        """Read a plain head that came in one piece; ``None`` leaves it to h11."""
        plain = read_plain_head(data, self._max_head)
        if plain is None:
            return None
        target, fields, end = plain
        if split_authority(fields["host"]) is None:
            return None
        self._buffer += data[end:]
        return Request("GET", target, Headers.of(fields), self._peer, self._secure)

    def _refuse_early(self) -> None:
        """Refuse what speaks another protocol before it keeps us waiting for a blank line."""
        if self._line_seen:
            return
        first = self._buffer[0]
        if first == _TLS_HANDSHAKE and not self._secure:
            raise HandshakeRejected(400, "This port speaks plain HTTP, and that looks like TLS.")
        end = self._buffer.find(b"\n", self._searched, self._max_head) + 1
        if first <= _SPACE or (end and not _REQUEST_LINE.fullmatch(self._buffer, 0, end)):
            raise HandshakeRejected(400, "That is not an HTTP request.")
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
    """Refuse what is HTTP, but nothing that a hub could answer.

    Raises:
        HandshakeRejected: as :meth:`RequestParser.receive`.
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
    # An absolute target overrides Host (RFC 9112 section 3.2.2).  A client has to send both
    # alike, so whoever does not is better refused than guessed at.
    if request.headers.get("host", absolute[1]).lower() != absolute[1].lower():
        raise HandshakeRejected(400, "The request target and the Host header differ.")


def reason_phrase(status: int) -> str:
    """What a status is called, ``""`` for one that has no name."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
