"""The opening handshake of a WebSocket: accept a request with 101, or refuse it.

The 101 answer is written here and not by wsproto: wsproto adds no more than the accept token,
and its own checks do not tell a user what was wrong.

Layer: protocol.  Threads: pure functions of a :class:`Request`; any thread may call them.
Source: RFC 6455 section 4.2.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from hubthread.checks import checked
from hubthread.errors import HandshakeRejected, SettingError, SettingTypeError
from hubthread.protocol.deflate_negotiation import (
    DeflateParameters,
    choose_deflate,
    parse_extension_offers,
)
from hubthread.protocol.request import Headers, Request, checked_headers, split_authority

__all__ = [
    "Accepted",
    "DeflateParameters",
    "OriginCheck",
    "Subprotocols",
    "accept",
    "accept_token",
    "as_handshake",
    "origin_allowed",
    "validate_origin_check",
]

OriginCheck: TypeAlias = Literal["same", "any"] | Collection[str] | Callable[[Request], bool]
"""The pages that may connect: ``"same"``, ``"any"``, the allowed origins, or a function of the
request.  :func:`origin_allowed` explains each."""

Subprotocols: TypeAlias = Sequence[str] | Callable[[Request], str | None]
"""The subprotocols of the server, the preferred one first; or a function that chooses one of
``request.subprotocols``, or none."""

_KEY = re.compile(r"[A-Za-z0-9+/]{22}==")
_ANY_KEY = base64.b64encode(bytes(16)).decode()
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://([^/?#]*)")
_DEFAULT_PORTS = {"http": 80, "https": 443}
# Some programs send the scheme that they connect with; no page has these.
_SCHEMES = {"ws": "http", "wss": "https"}
_OWN_FIELDS = frozenset(
    {
        *("connection", "content-length", "sec-websocket-accept", "sec-websocket-extensions"),
        *("sec-websocket-protocol", "transfer-encoding", "upgrade"),
    }
)
_VERSION_OFFER = (("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"))


@dataclass(frozen=True)
class Accepted:
    """A handshake that succeeded."""

    response: bytes
    """The 101 answer, to be sent before any frame."""
    subprotocol: str | None = None
    """The chosen subprotocol, if any."""
    deflate: DeflateParameters | None = None
    """The agreed parameters of compression; ``None`` without compression."""

    def with_headers(self, fields: Iterable[tuple[str, str]]) -> Accepted:
        """Return the handshake with further header fields in its answer.

        :raises SettingError: for a field that the handshake writes itself, or that cannot be sent.
        """
        allowed = checked_headers(fields, reserved=_OWN_FIELDS)
        more = "".join(f"{name}: {value}\r\n" for name, value in allowed).encode("latin-1")
        return replace(self, response=self.response[:-2] + more + b"\r\n")


def accept(
    request: Request,
    *,
    subprotocols: Subprotocols = (),
    check_origin: OriginCheck = "same",
    compression: bool = False,
) -> Accepted:
    """Accept a WebSocket handshake (RFC 6455 section 4.2).

    :param subprotocols: the server's subprotocols in its order of preference.  The first that
        the client offers is chosen.  If the client offers none of them, the connection has no
        subprotocol; a browser that offered some then ends it.  A function of the request chooses
        itself.
    :param check_origin: see :func:`origin_allowed`.
    :param compression: True takes an offer of permessage-deflate (RFC 7692).
    :raises HandshakeRejected: with 426 for a request without the upgrade or with another
        version, 400 for a malformed request, 403 for an origin that is not allowed, 405 for a
        method other than ``GET``.
    :raises SettingError: for a wrong ``check_origin`` or ``subprotocols``, and for a subprotocol
        that the client has not offered.
    """
    if isinstance(subprotocols, str):
        wanted = f"expected a sequence such as ({subprotocols!r},), got a string"
        raise SettingTypeError("subprotocols", wanted)
    _check_upgrade(request)
    key = _checked_key(request)
    offers = parse_extension_offers(request.headers.get("sec-websocket-extensions", ""))
    if not origin_allowed(request, check_origin):
        page = f"A page from {request.origin[:100]!r}" if request.origin else "This request"
        raise HandshakeRejected(403, f"{page} may not connect here.")

    subprotocol = _chosen(request, subprotocols)
    deflate = choose_deflate(offers) if compression else None
    fields = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", accept_token(key)),
    ]
    if subprotocol is not None:
        fields.append(("Sec-WebSocket-Protocol", subprotocol))
    if deflate is not None:
        fields.append(("Sec-WebSocket-Extensions", deflate[1]))
    lines = [f"{name}: {value}\r\n" for name, value in fields]
    response = f"HTTP/1.1 101 Switching Protocols\r\n{''.join(lines)}\r\n"
    return Accepted(response.encode("latin-1"), subprotocol, deflate[0] if deflate else None)


def as_handshake(request: Request) -> Request:
    """Return the handshake that the sender of a plain request would send."""
    fields = {
        **request.headers,
        "connection": "Upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": _ANY_KEY,
    }
    return replace(request, headers=Headers.of(fields))


def _chosen(request: Request, subprotocols: Subprotocols) -> str | None:
    if not callable(subprotocols):
        return next((ours for ours in subprotocols if ours in request.subprotocols), None)
    found: object = checked(subprotocols(request))
    if found is None or (isinstance(found, str) and found in request.subprotocols):
        return found
    wanted = "expected the function to return one of request.subprotocols, or None"
    # Not the value itself: it may be a token.
    raise SettingError("subprotocols", f"{wanted}; it returned a {type(found).__name__}")


def origin_allowed(request: Request, check: OriginCheck) -> bool:
    """Return True if the page that sent the request may connect (RFC 6455 section 10.2).

    Browsers let any page connect to any server, with the cookies of that server; only this
    check prevents it.  A request without ``Origin`` comes from a program and not from a page.
    It passes ``"same"`` and a collection: a program can send any origin, so only
    authentication can keep programs out.

    :param check: the allowed origins:

        - ``"same"``: scheme, host and port of the page equal those of the request's ``Host``
          header, with default ports filled in.  If TLS ends in this process, the page must be
          ``https``.  If not, ``http`` and ``https`` both pass, because a proxy may end TLS.
          A proxy must forward ``Host`` unchanged; ``X-Forwarded-Host`` is not read.
          ``Origin: null`` is foreign, and so are ``file://`` and every scheme but http and
          https.  ``ws`` and ``wss``, which some programs send, count as http and https.
        - ``"any"``: every origin.
        - a collection of origins such as ``{"https://example.org"}``: compared exactly, except
          for case and default ports.  ``"null"``, ``"file://"`` and origins of other schemes,
          such as ``"app://local"``, may be listed.
        - a function of the request, which also decides on requests without ``Origin``.
    :raises SettingError: for any other ``check``.
    """
    if check == "any":
        return True
    if check == "same":
        return request.origin is None or _is_same_origin(request)
    if callable(check):
        return bool(checked(check(request)))
    allowed = _allowed_origins(check)
    return request.origin is None or _parse_origin(request.origin) in allowed


def validate_origin_check(check: OriginCheck) -> None:
    """Refuse a wrong ``check``, before any request.

    :raises SettingError: as :func:`origin_allowed`.
    """
    if check not in ("same", "any") and not callable(check):
        _allowed_origins(check)


_Origin: TypeAlias = tuple[str, str, int | None]


def _parse_origin(text: str) -> _Origin | None:
    """Return scheme, host and port of an origin, in lower case, with the default port."""
    text = text.lower()
    if text == "null":
        return ("null", "", None)
    match = _ORIGIN.fullmatch(text)
    authority = split_authority(match[2]) if match else None
    if match is None or authority is None:
        return None
    host, port = authority
    if not host and (match[1] in _DEFAULT_PORTS or port is not None):
        return None
    return (match[1], host, _DEFAULT_PORTS.get(match[1]) if port is None else port)


def _allowed_origins(check: object) -> set[_Origin]:
    wanted = f"expected 'same', 'any', a collection of origins or a function, got {check!r}"
    if isinstance(check, str):
        raise SettingError("check_origin", wanted)
    if not isinstance(check, Collection):
        raise SettingTypeError("check_origin", wanted)
    allowed = set()
    for entry in check:
        wanted = f"expected an origin such as 'https://example.org', got {entry!r}"
        if not isinstance(entry, str):
            raise SettingTypeError("check_origin", wanted)
        origin = _parse_origin(entry)
        if origin is None:
            raise SettingError("check_origin", wanted)
        allowed.add(origin)
    return allowed


def _is_same_origin(request: Request) -> bool:
    origin = _parse_origin(request.origin or "")
    authority = split_authority(request.headers.get("host", ""))
    if origin is None or authority is None:
        return False
    scheme, origin_host, origin_port = origin
    if scheme in _SCHEMES:
        scheme = _SCHEMES[scheme]
        origin_port = _DEFAULT_PORTS[scheme] if origin_port is None else origin_port
    # With TLS here, a page loaded over plain http may have been changed on its way.
    if scheme not in _DEFAULT_PORTS or (request.secure and scheme != "https"):
        return False
    host, port = authority
    return (origin_host, origin_port) == (host, _DEFAULT_PORTS[scheme] if port is None else port)


def _check_upgrade(request: Request) -> None:
    if request.method != "GET":
        raise HandshakeRejected(
            405, "A WebSocket handshake is a GET request.", (("Allow", "GET"),)
        )
    if request.http_version == "1.0":
        raise HandshakeRejected(
            426,
            "This is a WebSocket, which needs HTTP/1.1; the request came as HTTP/1.0. "
            "If a proxy is in between, let it pass requests on as HTTP/1.1.",
            _VERSION_OFFER,
        )
    if not request.has_token("upgrade", "websocket"):
        raise HandshakeRejected(
            426,
            "This is a WebSocket: connect with ws:// or wss://. If a proxy is in between, let "
            "it pass the Upgrade and Connection headers on.",
            _VERSION_OFFER,
        )
    if not request.has_token("connection", "upgrade"):
        raise HandshakeRejected(
            400,
            "The handshake lacks the header 'Connection: Upgrade'. If a proxy is in between, "
            "let it pass that header on.",
        )
    version = request.headers.get("sec-websocket-version")
    if version != "13":
        found = "none" if version is None else repr(version[:20])
        raise HandshakeRejected(
            426, f"Sec-WebSocket-Version must be 13; the handshake has {found}.", _VERSION_OFFER
        )


def _checked_key(request: Request) -> str:
    keys = request.headers.get_all("sec-websocket-key")
    if len(keys) != 1:
        found = "has none" if not keys else "repeats it"
        raise HandshakeRejected(
            400, f"Sec-WebSocket-Key must be sent once; the handshake {found}."
        )
    if not _KEY.fullmatch(keys[0]):
        raise HandshakeRejected(400, "Sec-WebSocket-Key must be 16 bytes in base64.")
    return keys[0]


def accept_token(key: str) -> str:
    """Return the value of ``Sec-WebSocket-Accept`` for a key."""
    # RFC 6455 section 4.2.2, item 5.4: SHA-1 guards against caches here, not attackers.
    digest = hashlib.sha1(key.encode("ascii") + _GUID, usedforsecurity=False).digest()
    return base64.b64encode(digest).decode("ascii")
