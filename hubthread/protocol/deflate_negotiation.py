"""Negotiation of permessage-deflate: which offer is taken, and what is answered (RFC 7692).

Layer: protocol.  No thread: pure functions of a header field.

Every message is compressed on its own (no context takeover, both ways).  Compression state
kept between messages costs a connection more than 100 KB, and without it a compressed frame is
the same bytes for all members of a room whose ``server_max_window_bits`` agree.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from hubthread.errors import HandshakeRejected, SettingError

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

# RFC 7692 begins at 8, where zlib's raw deflate cannot go: it was refused or, in versions
# before 1.2.9, silently done with 9.
_SMALLEST_WINDOW = 9
_LARGEST_WINDOW = 15


@dataclass(frozen=True)
class DeflateParameters:
    """What was agreed: the sliding windows, as base-2 logarithms of bytes, 9 to 15.

    Context takeover is off in both directions, always.

    Args:
        server_max_window_bits: the largest window that we may compress with.
        client_max_window_bits: the window that decompresses what the client sends.
    """

    server_max_window_bits: int = _LARGEST_WINDOW
    client_max_window_bits: int = _LARGEST_WINDOW


@dataclass(frozen=True)
class ExtensionOffer:
    """One extension that a client offers: its name, and its parameters in order.

    A parameter without a value has None for it.
    """

    name: str
    parameters: tuple[tuple[str, str | None], ...] = ()


def parse_extension_offers(value: str) -> list[ExtensionOffer]:
    """Read a ``Sec-WebSocket-Extensions`` field (RFC 6455 section 9.1).

    Args:
        value: the value of the field, repeated fields joined with commas.

    Returns:
        The offers, most wanted first.

    Raises:
        HandshakeRejected: 400, if the grammar is broken: RFC 6455 demands the end of the
            connection then.
    """
    offers = []
    # No care for quotes here: what is quoted has to be a token, which contains no separator.
    for element in value.split(","):
        name, *parameters = element.split(";")
        if not parameters and not name.strip(" \t"):
            continue
        offers.append(ExtensionOffer(_token(name), tuple(map(_parameter, parameters))))
    return offers


def choose_deflate(
    offers: Iterable[ExtensionOffer], *, client_window_bits: int = 12
) -> tuple[DeflateParameters, str] | None:
    """Take the first acceptable offer of permessage-deflate (RFC 7692 sections 5 and 7.1).

    An offer with an unknown, repeated or malformed parameter is declined, and so is one with
    ``server_max_window_bits=8``.

    Args:
        offers: what the client offers, most wanted first.
        client_window_bits: the window that the client is asked to keep to, 9 to 15, where it
            lets itself be asked.

    Returns:
        The parameters, and the element of ``Sec-WebSocket-Extensions`` to answer with; None if
        no offer is acceptable.

    Raises:
        SettingError: ``client_window_bits`` is out of range.
    """
    if not _SMALLEST_WINDOW <= client_window_bits <= _LARGEST_WINDOW:
        raise SettingError(
            "client_window_bits",
            f"from {_SMALLEST_WINDOW} to {_LARGEST_WINDOW}, not {client_window_bits!r}",
        )
    for offer in offers:
        if offer.name == "permessage-deflate" and _well_formed(offer):
            chosen = _answer(dict(offer.parameters), client_window_bits)
            if chosen is not None:
                return chosen
    return None


def _well_formed(offer: ExtensionOffer) -> bool:
    names = [name for name, _ in offer.parameters]
    return len(set(names)) == len(names) and all(
        _PARAMETER.fullmatch(name if value is None else f"{name}={value}")
        for name, value in offer.parameters
    )


def _answer(
    offered: dict[str, str | None], client_window_bits: int
) -> tuple[DeflateParameters, str] | None:
    answer = ["permessage-deflate", "server_no_context_takeover", "client_no_context_takeover"]
    server_bits = client_bits = _LARGEST_WINDOW
    if "server_max_window_bits" in offered:
        server_bits = int(offered["server_max_window_bits"] or _LARGEST_WINDOW)
        if server_bits < _SMALLEST_WINDOW:
            return None
        answer.append(f"server_max_window_bits={server_bits}")
    # It may be answered only where it was offered (RFC 7692 section 7.1.2.2).
    if "client_max_window_bits" in offered:
        limit = int(offered["client_max_window_bits"] or _LARGEST_WINDOW)
        # The client keeps to 8 by itself, and a window that is too large always inflates.
        if limit >= _SMALLEST_WINDOW:
            client_bits = min(limit, client_window_bits)
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
