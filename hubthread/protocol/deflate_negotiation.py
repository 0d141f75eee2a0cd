"""Negotiate permessage-deflate: choose an offer and its answer.

Every message is compressed on its own (no context takeover, both ways).  A context kept
between messages costs a connection more than 100 KB.  Without it a compressed frame is the
same bytes for all members of a room with the same ``server_max_window_bits``.

Layer: protocol.  Threads: pure functions of a header field; any thread may call them.
Source: RFC 7692, RFC 6455 section 9.1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from hubthread.errors import HandshakeRejected

__all__ = [
    "DeflateParameters",
    "ExtensionOffer",
    "choose_deflate",
    "parse_extension_offers",
]

_TOKEN = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_QUOTED_PAIR = re.compile(r"\\(.)")
_PARAMETER = re.compile(
    r"(?:server|client)_no_context_takeover"
    r"|server_max_window_bits=(?:[89]|1[0-5])"
    r"|client_max_window_bits(?:=(?:[89]|1[0-5]))?"
)

# RFC 7692 begins at 8, which zlib's raw deflate does not support: zlib refuses it, and before
# 1.2.9 silently used 9.
_SMALLEST_WINDOW = 9
_LARGEST_WINDOW = 15
# The window that clients are asked to use, if they offer to be asked: the server's memory for
# inflating a message grows with it.
_CLIENT_WINDOW = 12


@dataclass(frozen=True)
class DeflateParameters:
    """The agreed sliding windows: base-2 logarithms of their bytes, 9 to 15.

    Context takeover is always off, in both directions.
    """

    server_max_window_bits: int = _LARGEST_WINDOW
    """The largest window that the server may compress with."""
    client_max_window_bits: int = _LARGEST_WINDOW
    """The window that decompresses the client's messages."""


@dataclass(frozen=True)
class ExtensionOffer:
    """One extension that a client offers."""

    name: str
    parameters: tuple[tuple[str, str | None], ...] = ()
    """Names and values in order; the value is ``None`` for a parameter without a value."""


def parse_extension_offers(value: str) -> list[ExtensionOffer]:
    """Read a ``Sec-WebSocket-Extensions`` field (RFC 6455 section 9.1).

    :param value: the value of the field; repeated fields are joined with commas.
    :returns: the offers, in the client's order of preference.
    :raises HandshakeRejected: with 400 for broken grammar: RFC 6455 demands the end of the
        connection.
    """
    offers = []
    # Quotes need no care here: a quoted value has to be a token, which contains no separator.
    for element in value.split(","):
        name, *parameters = element.split(";")
        if not parameters and not name.strip(" \t"):
            continue
        offers.append(ExtensionOffer(_token(name), tuple(map(_parameter, parameters))))
    return offers


def choose_deflate(
    offers: Iterable[ExtensionOffer],
) -> tuple[DeflateParameters, str] | None:
    """Take the first acceptable offer of permessage-deflate (RFC 7692 sections 5 and 7.1).

    An offer with an unknown, repeated or malformed parameter is declined, and so is an offer
    with ``server_max_window_bits=8``.

    :param offers: the client's offers, in its order of preference.
    :returns: the parameters, and the element of ``Sec-WebSocket-Extensions`` to answer with;
        ``None`` if no offer is acceptable.
    """
    for offer in offers:
        if offer.name == "permessage-deflate" and _well_formed(offer):
            chosen = _answer(dict(offer.parameters))
            if chosen is not None:
                return chosen
    return None


def _well_formed(offer: ExtensionOffer) -> bool:
    names = [name for name, _ in offer.parameters]
    return len(set(names)) == len(names) and all(
        _PARAMETER.fullmatch(name if value is None else f"{name}={value}")
        for name, value in offer.parameters
    )


def _answer(offered: dict[str, str | None]) -> tuple[DeflateParameters, str] | None:
    answer = ["permessage-deflate", "server_no_context_takeover", "client_no_context_takeover"]
    server_bits = client_bits = _LARGEST_WINDOW
    if "server_max_window_bits" in offered:
        server_bits = int(offered["server_max_window_bits"] or _LARGEST_WINDOW)
        if server_bits < _SMALLEST_WINDOW:
            return None
        answer.append(f"server_max_window_bits={server_bits}")
    # Only a client that offers this parameter may be asked (RFC 7692 section 7.1.2.2).
    if "client_max_window_bits" in offered:
        limit = int(offered["client_max_window_bits"] or _LARGEST_WINDOW)
        # A client with a limit of 8 keeps to it by itself: the larger window inflates it.
        if limit >= _SMALLEST_WINDOW:
            client_bits = min(limit, _CLIENT_WINDOW)
            answer.append(f"client_max_window_bits={client_bits}")
    return DeflateParameters(server_bits, client_bits), "; ".join(answer)


def _parameter(text: str) -> tuple[str, str | None]:
    name, equals, value = text.partition("=")
    if not equals:
        return _token(name), None
    value = value.strip(" \t")
    if len(value) >= 2 and value[0] == value[-1] == '"':
        value = _QUOTED_PAIR.sub(r"\1", value[1:-1])
    return _token(name), _token(value)


def _token(text: str) -> str:
    token = text.strip(" \t")
    if not _TOKEN.fullmatch(token):
        raise HandshakeRejected(400, "The Sec-WebSocket-Extensions header is malformed.")
    return token
