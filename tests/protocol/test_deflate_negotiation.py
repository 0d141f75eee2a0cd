"""Negotiation of permessage-deflate: which offers are taken, and what is answered."""

from __future__ import annotations

import string
import zlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hubthread.errors import HandshakeRejected
from hubthread.protocol.handshake import Accepted, DeflateParameters, accept
from hubthread.protocol.http import Headers, Request

TAKEN = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"


def offering(value: str) -> Request:
    """A good handshake with a ``Sec-WebSocket-Extensions`` field."""
    fields = {
        "Host": "example.org",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Extensions": value,
    }
    return Request("GET", "/ws", Headers(fields.items()))


def answer_in(accepted: Accepted) -> str | None:
    """The ``Sec-WebSocket-Extensions`` field of the 101."""
    lines = accepted.response.decode("latin-1").split("\r\n")[1:-2]
    return dict(line.split(": ", 1) for line in lines).get("Sec-WebSocket-Extensions")


@pytest.mark.parametrize(
    ("offer", "answer", "windows"),
    [
        ("permessage-deflate", TAKEN, (15, 15)),
        ("permessage-deflate; client_no_context_takeover", TAKEN, (15, 15)),
        (
            "permessage-deflate; client_max_window_bits",
            f"{TAKEN}; client_max_window_bits=12",
            (15, 12),
        ),
        (
            "permessage-deflate; client_max_window_bits=10",
            f"{TAKEN}; client_max_window_bits=10",
            (15, 10),
        ),
        # A client that limits itself to 8 is not asked for a window that zlib cannot make.
        ("permessage-deflate; client_max_window_bits=8", TAKEN, (15, 15)),
        (
            "permessage-deflate; server_max_window_bits=9; client_max_window_bits=15",
            f"{TAKEN}; server_max_window_bits=9; client_max_window_bits=12",
            (9, 12),
        ),
        (
            'permessage-deflate;server_max_window_bits="1\\0"',
            f"{TAKEN}; server_max_window_bits=10",
            (10, 15),
        ),
        ("x-webkit-deflate-frame, permessage-deflate", TAKEN, (15, 15)),
        (", permessage-deflate ,", TAKEN, (15, 15)),
        ("permessage-deflate; server_max_window_bits=8, permessage-deflate", TAKEN, (15, 15)),
        (
            "permessage-deflate; unheard_of, permessage-deflate; server_max_window_bits = 11",
            f"{TAKEN}; server_max_window_bits=11",
            (11, 15),
        ),
    ],
)
def test_choose_deflate_takes_the_first_acceptable_offer(
    offer: str, answer: str, windows: tuple[int, int]
) -> None:
    """No context is kept, the server's window is honoured, the client's is asked for."""
    accepted = accept(offering(offer), compression=True)
    assert answer_in(accepted) == answer
    assert accepted.deflate == DeflateParameters(*windows)


@pytest.mark.parametrize(
    "offer",
    [
        "",
        "Permessage-Deflate",
        "permessage-bzip2",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=8",
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=010",
        "permessage-deflate; server_max_window_bits=1e1",
        "permessage-deflate; client_max_window_bits=0",
        "permessage-deflate; client_max_window_bits=x",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
        "permessage-deflate; server_max_window_bits=9; server_max_window_bits=10",
        "permessage-deflate; level=9",
    ],
)
def test_choose_deflate_wrong_parameter_is_declined(offer: str) -> None:
    """The connection goes on without compression (RFC 7692 section 7.1)."""
    accepted = accept(offering(offer), compression=True)
    assert accepted.deflate is None
    assert answer_in(accepted) is None


@pytest.mark.parametrize(
    "value",
    [
        ";",
        "a;",
        "a; =1",
        "a; b=",
        'a; b=""',
        'a; b="1, 2"',
        'a; b="1',
        "a; b=1=2",
        "a b",
        "permessage-deflate, é",
        "a\x00",
    ],
)
@pytest.mark.parametrize("compression", [True, False])
def test_extension_offers_broken_grammar_is_rejected(value: str, compression: bool) -> None:
    """RFC 6455 section 9.1, whatever we would have done with the offers."""
    with pytest.raises(HandshakeRejected, match="400"):
        accept(offering(value), compression=compression)


def test_accept_without_compression_ignores_offers() -> None:
    """An offer has no effect if compression is off."""
    accepted = accept(offering("permessage-deflate"))
    assert accepted.deflate is None
    assert answer_in(accepted) is None


tokens = st.text("!#$%&'*+-.^_`|~" + string.ascii_letters + string.digits, min_size=1, max_size=12)
windows = st.integers(6, 17).map(str)
parameters = st.one_of(
    st.sampled_from(["server_no_context_takeover", "client_no_context_takeover"]),
    st.sampled_from(["client_max_window_bits", "server_max_window_bits"]),
    windows.map("client_max_window_bits={}".format),
    windows.map('server_max_window_bits="{}"'.format),
    st.builds("{}={}".format, tokens, tokens),
)
offers = st.lists(
    st.builds(
        lambda name, found: "; ".join([name, *found]),
        st.sampled_from(["permessage-deflate", "permessage-deflate", "x-other"]),
        st.lists(parameters, max_size=3),
    ),
    max_size=4,
).map(", ".join)


@given(offers)
@example("permessage-deflate; client_max_window_bits=8; server_max_window_bits=15")
def test_choose_deflate_answer_works_with_zlib_and_keeps_to_the_offer(value: str) -> None:
    """The answer contains nothing that some offer did not allow, and nothing zlib refuses."""
    request = offering(value)
    accepted = accept(request, compression=True)
    if accepted.deflate is None:
        return
    answer = answer_in(accepted) or ""
    assert answer.startswith(TAKEN)
    assert ("client_max_window_bits" in answer) <= ("client_max_window_bits" in value)
    assert ("server_max_window_bits" in answer) <= ("server_max_window_bits" in value)
    client = zlib.compressobj(wbits=-9)
    server = zlib.compressobj(wbits=-accepted.deflate.server_max_window_bits)
    for packer, bits in ((client, accepted.deflate.client_max_window_bits), (server, 15)):
        packed = packer.compress(b"hubthread" * 99) + packer.flush()
        assert zlib.decompress(packed, wbits=-bits) == b"hubthread" * 99
