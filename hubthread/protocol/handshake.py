"""The opening handshake: whether a request becomes a WebSocket, and the 101 (RFC 6455, 4.2).

Layer: protocol.  No thread: pure functions of a :class:`Request`.

The answer is written here rather than by wsproto: all that wsproto adds is the accept token,
while its own checks do not tell a user what was wrong.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from hubthread.errors import HandshakeRejected, SettingError
from hubthread.protocol.deflate_negotiation import (
    DeflateParameters,
    choose_deflate,
    parse_extension_offers,
)
from hubthread.protocol.request import Request, checked_headers, split_authority

__all__ = [
    "Accepted",
    "DeflateParameters",
    "OriginCheck",
    "accept",
    "origin_allowed",
    "validate_origin_check",
]

#: Which pages may connect: ``"same"``, ``"any"``, the allowed origins, or a function of the
#: request.  :func:`origin_allowed` says what each means.
OriginCheck: TypeAlias = Literal["same", "any"] | Collection[str] | Callable[[Request], bool]

_KEY = re.compile(r"[A-Za-z0-9+/]{22}==")
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://([^/?#]+)")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_VERSION_OFFER = (("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"))
_HANDSHAKE_FIELDS = frozenset(
    {
        "connection",
        "content-length",
        "sec-websocket-accept",
        "sec-websocket-extensions",
        "sec-websocket-protocol",
        "sec-websocket-version",
        "transfer-encoding",
        "upgrade",
    }
)


@dataclass(frozen=True)
class Accepted:
    """A handshake that succeeded.

    Args:
        response: the bytes of the 101 answer, to be sent before any frame.
        subprotocol: the subprotocol that was chosen, None without one.
        deflate: what was agreed on compression, None without it.
    """

    response: bytes
    subprotocol: str | None = None
    deflate: DeflateParameters | None = None


def accept(
    request: Request,
    *,
    subprotocols: Sequence[str] = (),
    check_origin: OriginCheck = "same",
    compression: bool = False,
    client_window_bits: int = 12,
    headers: Iterable[tuple[str, str]] = (),
) -> Accepted:
    """Accept a WebSocket handshake (RFC 6455 section 4.2).

    Args:
        request: the request.
        subprotocols: those that we speak, most wanted first.  The first that the client offers
            is chosen; if there is none, the connection goes without, and a browser that
            offered some ends it.
        check_origin: see :func:`origin_allowed`.
        compression: whether an offer of permessage-deflate is taken (RFC 7692).
        client_window_bits: the window that a client with compression is asked to keep to, as
            a base-2 logarithm of bytes, 9 to 15.
        headers: further fields of the answer, such as a ``Set-Cookie`` of an authentication
            hook.

    Raises:
        HandshakeRejected: 426 for a request without the upgrade or with another version, 400
            for one that is malformed, 403 for an origin that is not allowed, 405 for a method
            other than ``GET``.
        SettingError: an argument that is no fault of the peer's: ``headers`` that cannot be
            sent, a wrong ``check_origin``, ``subprotocols`` or ``client_window_bits``.
    """
    if isinstance(subprotocols, str):
        raise SettingError("subprotocols", f"a sequence such as ({subprotocols!r},), not a string")
    extra = checked_headers(headers, reserved=_HANDSHAKE_FIELDS)
    _check_upgrade(request)
    key = _checked_key(request)
    offers = parse_extension_offers(request.headers.get("sec-websocket-extensions", ""))
    if not origin_allowed(request, check_origin):
        page = f"A page from {request.origin[:100]!r}" if request.origin else "This request"
        raise HandshakeRejected(403, f"{page} may not connect here.")

    subprotocol = next((ours for ours in subprotocols if ours in request.subprotocols), None)
    deflate = (
        choose_deflate(offers, client_window_bits=client_window_bits) if compression else None
    )
    fields = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", _accept_token(key)),
    ]
    if subprotocol is not None:
        fields.append(("Sec-WebSocket-Protocol", subprotocol))
    if deflate is not None:
        fields.append(("Sec-WebSocket-Extensions", deflate[1]))
    lines = [f"{name}: {value}\r\n" for name, value in fields + extra]
    response = f"HTTP/1.1 101 Switching Protocols\r\n{''.join(lines)}\r\n"
    return Accepted(response.encode("latin-1"), subprotocol, deflate[0] if deflate else None)


def origin_allowed(request: Request, check: OriginCheck) -> bool:
    """Whether the page that connects may do so (RFC 6455 section 10.2).

    Browsers let any page connect anywhere, with the cookies of the place it connects to; this
    check is what stands against that.  A request without ``Origin`` comes from no page.  It
    passes ``"same"`` and a list, since a program that is no browser can send whatever origin
    it likes: only authentication stands against programs.

    Args:
        request: the request.
        check: which origins are allowed:

            - ``"same"``: scheme, host and port of the page are those of the request, judged
              by its ``Host`` header, default ports filled in.  Where TLS ends in this process
              the page must be ``https``; where it does not, ``http`` and ``https`` both pass,
              since a proxy in front may end it.  A proxy must hand ``Host`` on as the browser
              sent it; ``X-Forwarded-Host`` is not looked at.  ``Origin: null`` is foreign.
            - ``"any"``: every origin.
            - a collection of origins such as ``{"https://example.org"}``: exact, except that
              case does not matter and default ports are filled in.  ``"null"`` may be listed.
            - a function of the request, which also decides on requests without ``Origin``.

    Raises:
        SettingError: ``check`` is none of these.
    """
    if check == "any":
        return True
    if check == "same":
        return request.origin is None or _is_same_origin(request)
    if callable(check):
        return bool(check(request))
    allowed = _allowed_origins(check)
    return request.origin is None or _parse_origin(request.origin) in allowed


def validate_origin_check(check: OriginCheck) -> None:
    """Raise :class:`SettingError` unless this is a valid check, for use before any request."""
    if check not in ("same", "any") and not callable(check):
        _allowed_origins(check)


_Origin: TypeAlias = tuple[str, str, int | None]


def _parse_origin(text: str) -> _Origin | None:
    """Scheme, host and port of an origin, in lower case and with the default port."""
    text = text.lower()
    if text == "null":
        return ("null", "", None)
    match = _ORIGIN.fullmatch(text)
    authority = split_authority(match[2]) if match else None
    if match is None or authority is None or not authority[0]:
        return None
    host, port = authority
    return (match[1], host, _DEFAULT_PORTS.get(match[1]) if port is None else port)


def _allowed_origins(check: object) -> set[_Origin]:
    if isinstance(check, str) or not isinstance(check, Collection):
        raise SettingError(
            "check_origin",
            f"'same', 'any', a collection of origins or a function, not {check!r}",
        )
    allowed = set()
    for entry in check:
        origin = _parse_origin(entry) if isinstance(entry, str) else None
        if origin is None:
            raise SettingError(
                "check_origin", f"an origin such as 'https://example.org', not {entry!r}"
            )
        allowed.add(origin)
    return allowed


def _is_same_origin(request: Request) -> bool:
    origin = _parse_origin(request.origin or "")
    authority = split_authority(request.headers.get("host", ""))
    if origin is None or authority is None:
        return False
    scheme, origin_host, origin_port = origin
    # With TLS of our own, a page that came over plain http may be an attacker's on the wire.
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
            "This is a WebSocket, which needs HTTP/1.1, and the request came as HTTP/1.0. "
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


def _accept_token(key: str) -> str:
    # RFC 6455 section 4.2.2, item 5.4: SHA-1 guards against caches here, not against attackers.
    digest = hashlib.sha1(key.encode("ascii") + _GUID, usedforsecurity=False).digest()
    return base64.b64encode(digest).decode("ascii")
