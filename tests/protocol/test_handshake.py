"""The opening handshake: the 101, and the rejections with their reasons."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection
from wsproto.events import Request as Opening
from wsproto.extensions import Extension, PerMessageDeflate

from hubthread.errors import HandshakeRejected, SettingError
from hubthread.protocol.handshake import (
    Accepted,
    DeflateParameters,
    OriginCheck,
    accept,
    origin_allowed,
    validate_origin_check,
)
from hubthread.protocol.http import Headers, Request, RequestParser

# The example of RFC 6455 section 1.3.
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

HANDSHAKE = {
    "Host": "example.org",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": KEY,
}


def handshake(
    *more: tuple[str, str],
    without: str = "",
    secure: bool = False,
    method: str = "GET",
    http_version: str = "1.1",
    **changed: str,
) -> Request:
    """A good handshake, less one field, with others changed (``_`` for ``-``) or added."""
    fields = {name: value for name, value in HANDSHAKE.items() if name != without}
    fields |= {name.replace("_", "-"): value for name, value in changed.items()}
    headers = Headers([*fields.items(), *more])
    return Request(method, "/ws", headers, ("192.0.2.7", 50123), secure, http_version)


def fields_of(accepted: Accepted) -> dict[str, str]:
    """The header fields of the 101, read by hand."""
    status, *lines, end, rest = accepted.response.decode("latin-1").split("\r\n")
    assert (status, end, rest) == ("HTTP/1.1 101 Switching Protocols", "", "")
    return dict(line.split(": ", 1) for line in lines)


def opened_by_wsproto(
    offer: list[Extension], offered: list[str], ours: tuple[str, ...]
) -> tuple[AcceptConnection, Accepted]:
    """The handshake of a client written by others, and how it takes our answer."""
    client = WSConnection(ConnectionType.CLIENT)
    sent = client.send(
        Opening(host="example.org", target="/ws", extensions=offer, subprotocols=offered)
    )
    request = RequestParser(peer="", secure=False).receive(sent)
    assert request is not None
    accepted = accept(request, subprotocols=ours, compression=True)
    client.receive_data(accepted.response)
    (event,) = client.events()
    assert isinstance(event, AcceptConnection)
    return event, accepted


def test_accept_rfc_example_is_answered_as_in_the_rfc() -> None:
    """Key and token of RFC 6455 section 1.3."""
    accepted = accept(handshake())
    assert fields_of(accepted) == {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Accept": ACCEPT.decode(),
    }
    assert (accepted.subprotocol, accepted.deflate) == (None, None)


def test_accept_answer_is_understood_by_wsproto() -> None:
    """wsproto's client checks the token, the subprotocol and the extension."""
    event, accepted = opened_by_wsproto([PerMessageDeflate()], ["a", "b"], ("b", "a"))
    assert event.subprotocol == accepted.subprotocol == "b"
    (deflate,) = event.extensions
    assert isinstance(deflate, PerMessageDeflate)
    assert deflate.server_no_context_takeover
    assert deflate.client_no_context_takeover
    assert accepted.deflate == DeflateParameters(
        deflate.server_max_window_bits, deflate.client_max_window_bits
    )


@pytest.mark.parametrize(
    ("request_", "status", "said"),
    [
        (handshake(without="Upgrade"), 426, "ws://"),
        (handshake(Upgrade="h2c"), 426, "ws://"),
        (handshake(http_version="1.0"), 426, "HTTP/1.0"),
        (handshake(method="POST"), 405, "GET"),
        (handshake(without="Connection"), 400, "Connection: Upgrade"),
        (handshake(Connection="keep-alive"), 400, "Connection: Upgrade"),
        (handshake(without="Sec-WebSocket-Version"), 426, "has none"),
        (handshake(Sec_WebSocket_Version="8"), 426, "has '8'"),
        (handshake(Sec_WebSocket_Version="13, 8"), 426, "has '13, 8'"),
        (handshake(("Sec-WebSocket-Version", "13")), 426, "must be 13"),
        (handshake(without="Sec-WebSocket-Key"), 400, "has none"),
        (handshake(("Sec-WebSocket-Key", KEY)), 400, "repeats it"),
        (handshake(Sec_WebSocket_Key=""), 400, "16 bytes in base64"),
        (handshake(Sec_WebSocket_Key="c2hvcnQ="), 400, "16 bytes in base64"),
        (handshake(Sec_WebSocket_Key="A" * 24), 400, "16 bytes in base64"),
        (handshake(Sec_WebSocket_Key=KEY.replace("G", "!")), 400, "16 bytes in base64"),
        (handshake(Sec_WebSocket_Key=KEY + KEY), 400, "16 bytes in base64"),
        (handshake(Sec_WebSocket_Key="é" * 22 + "=="), 400, "16 bytes in base64"),
        (handshake(Sec_WebSocket_Extensions="a b"), 400, "Sec-WebSocket-Extensions"),
        (handshake(Origin="https://evil.example"), 403, "'https://evil.example'"),
    ],
)
def test_accept_bad_handshake_is_rejected_with_status_and_reason(
    request_: Request, status: int, said: str
) -> None:
    """Each mistake has its status, and the reason names it."""
    with pytest.raises(HandshakeRejected) as refused:
        accept(request_)
    assert refused.value.status == status
    assert said in refused.value.reason


@pytest.mark.parametrize(
    "request_",
    [handshake(without="Upgrade"), handshake(Sec_WebSocket_Version="8")],
)
def test_accept_426_names_protocol_and_version(request_: Request) -> None:
    """RFC 6455 section 4.4 and RFC 9110 section 15.5.22."""
    with pytest.raises(HandshakeRejected) as refused:
        accept(request_)
    assert dict(refused.value.headers) == {"Upgrade": "websocket", "Sec-WebSocket-Version": "13"}


@pytest.mark.parametrize(
    ("offered", "ours", "chosen"),
    [
        ("chat.v1, chat.v2", ("chat.v2", "chat.v1"), "chat.v2"),
        ("chat.v1", ("chat.v2", "chat.v1"), "chat.v1"),
        ("chat.v3", ("chat.v2", "chat.v1"), None),
        ("CHAT.V1", ("chat.v1",), None),
        ("chat.v1", (), None),
        (None, ("chat.v1",), None),
    ],
)
def test_accept_chooses_the_servers_first_offered_subprotocol(
    offered: str | None, ours: tuple[str, ...], chosen: str | None
) -> None:
    """The server's preference decides; without a match the connection goes without."""
    request = handshake(*([("Sec-WebSocket-Protocol", offered)] if offered else []))
    accepted = accept(request, subprotocols=ours)
    assert accepted.subprotocol == chosen
    assert fields_of(accepted).get("Sec-WebSocket-Protocol") == chosen


def test_accept_subprotocols_as_a_string_raises() -> None:
    """Each letter would count as a subprotocol."""
    with pytest.raises(SettingError, match="subprotocols"):
        accept(handshake(), subprotocols="chat")


def test_accept_lets_a_function_choose_the_subprotocol() -> None:
    """Such as a token, which no list can name."""
    offer = handshake(Sec_WebSocket_Protocol="token.abc, chat")
    accepted = accept(offer, subprotocols=lambda request: request.subprotocols[0])
    assert accepted.subprotocol == fields_of(accepted)["Sec-WebSocket-Protocol"] == "token.abc"
    accepted = accept(offer, subprotocols=lambda request: None)
    assert "Sec-WebSocket-Protocol" not in fields_of(accepted)


@pytest.mark.parametrize("chosen", ["other", b"chat", True])
def test_accept_refuses_a_subprotocol_that_was_not_offered(chosen: Any) -> None:
    with pytest.raises(SettingError, match="subprotocols"):
        accept(handshake(Sec_WebSocket_Protocol="chat"), subprotocols=lambda request: chosen)


def test_accepted_takes_further_headers() -> None:
    accepted = accept(handshake()).with_headers([("Set-Cookie", "a=é"), ("X-Node", " 7 ")])
    fields = fields_of(accepted)
    assert (fields["Set-Cookie"], fields["X-Node"]) == ("a=é", "7")
    assert fields["Sec-WebSocket-Accept"] == ACCEPT.decode()


@pytest.mark.parametrize(
    "field",
    [
        *(("Upgrade", "x"), ("sec-websocket-protocol", "x"), ("Content-Length", "0")),
        *(("X", "a\r\nY: b"), ("X Y", "a")),
    ],
)
def test_accepted_refuses_headers_of_its_own_and_malformed_ones(field: tuple[str, str]) -> None:
    with pytest.raises(SettingError):
        accept(handshake()).with_headers([field])


@pytest.mark.parametrize(
    ("origin", "host", "secure", "allowed"),
    [
        ("http://example.org", "example.org", False, True),
        ("http://Example.org", "EXAMPLE.ORG", False, True),
        ("http://example.org:80", "example.org", False, True),
        ("http://example.org", "example.org:80", False, True),
        ("http://example.org:8000", "example.org:8000", False, True),
        ("http://[::1]:8000", "[::1]:8000", False, True),
        # Behind a proxy that ends TLS the page is https and the request is not.
        ("https://example.org", "example.org", False, True),
        ("https://example.org", "example.org:443", False, True),
        ("https://example.org:8443", "example.org:8443", False, True),
        ("https://example.org", "example.org", True, True),
        ("https://example.org:443", "example.org", True, True),
        # With TLS of our own, no page that came in plain text.
        ("http://example.org", "example.org", True, False),
        ("http://example.org", "example.org:443", True, False),
        ("http://example.org", "example.org:443", False, False),
        ("https://example.org", "example.org:80", False, False),
        ("http://example.org", "example.org:8000", False, False),
        ("http://example.org:8001", "example.org:8000", False, False),
        ("http://example.org.evil.example", "example.org", False, False),
        ("http://evil-example.org", "example.org", False, False),
        ("http://www.example.org", "example.org", False, False),
        ("http://example.org@evil.example", "example.org", False, False),
        ("http://evil.example/http://example.org", "example.org", False, False),
        ("null", "example.org", False, False),
        ("null", "", False, False),
        ("", "example.org", False, False),
        ("file://", "", False, False),
        ("http://", "", False, False),
        ("chrome-extension://example.org", "example.org", False, False),
        # Programs that send the scheme they connect with; no page has it.
        ("ws://example.org", "example.org:80", False, True),
        ("wss://example.org", "example.org", True, True),
        ("wss://example.org:8443", "example.org:8443", False, True),
        ("ws://example.org", "example.org", True, False),
        ("ws://evil.example", "example.org", False, False),
        ("http://example.org, http://example.org", "example.org", False, False),
        ("http://example.org:99999", "example.org:99999", False, False),
        ("example.org", "example.org", False, False),
    ],
)
def test_origin_allowed_same_compares_scheme_host_and_port(
    origin: str, host: str, secure: bool, allowed: bool
) -> None:
    """The default check: the page comes from where it connects to."""
    request = handshake(Origin=origin, Host=host, secure=secure)
    assert origin_allowed(request, "same") is allowed


LISTED = ("https://example.org", "HTTP://localhost:3000", "null", "app://shell", "file://")


@pytest.mark.parametrize(
    ("check", "origin", "allowed"),
    [
        ("same", None, True),
        ("any", None, True),
        ("any", "https://evil.example", True),
        ("any", "null", True),
        (LISTED, None, True),
        (LISTED, "https://example.org", True),
        (LISTED, "https://EXAMPLE.org:443", True),
        (LISTED, "http://localhost:3000", True),
        (LISTED, "null", True),
        (LISTED, "app://shell", True),
        (LISTED, "http://example.org", False),
        (LISTED, "https://example.org:8443", False),
        (LISTED, "https://sub.example.org", False),
        (LISTED, "gibberish", False),
        (frozenset[str](), "https://example.org", False),
        (lambda request: request.origin is not None, "https://x.example", True),
        (lambda request: request.origin is not None, None, False),
    ],
)
def test_origin_allowed_by_word_collection_or_function(
    check: OriginCheck, origin: str | None, allowed: bool
) -> None:
    """Only a function decides on requests without an origin."""
    request = handshake(*([("Origin", origin)] if origin is not None else []))
    validate_origin_check(check)
    assert origin_allowed(request, check) is allowed
    if allowed:
        assert accept(request, check_origin=check).subprotocol is None
    else:
        with pytest.raises(HandshakeRejected, match="403"):
            accept(request, check_origin=check)


@pytest.mark.parametrize(
    "check",
    ["all", "https://example.org", None, 5, ["example.org"], ["https://example.org/"], [b"null"]],
)
def test_origin_allowed_wrong_check_raises(check: Any) -> None:
    """Each message names the setting and what is allowed."""
    with pytest.raises(SettingError, match=r"check_origin: .*'(any|https://example\.org)'"):
        validate_origin_check(check)
    with pytest.raises(SettingError, match="check_origin"):
        origin_allowed(handshake(), check)


printable = st.text(st.characters(min_codepoint=0, max_codepoint=255), max_size=40)
FIELDS = [*HANDSHAKE, "Origin", "Sec-WebSocket-Extensions", "Sec-WebSocket-Protocol", "Cookie"]


@given(st.dictionaries(st.sampled_from(FIELDS), printable, max_size=3))
def test_accept_any_fields_give_101_or_a_rejection(
    changed: dict[str, str],
) -> None:
    """Only HandshakeRejected is raised, and no field of the request can split the 101."""
    request = Request("GET", "/ws", Headers((HANDSHAKE | changed).items()))
    status = 101
    try:
        accepted = accept(request, subprotocols=("chat",), compression=True)
    except HandshakeRejected as refused:
        status = refused.status
    assert status in (101, 400, 403, 426)
    if status == 101:
        assert set(fields_of(accepted)) <= {
            "Upgrade",
            "Connection",
            "Sec-WebSocket-Accept",
            "Sec-WebSocket-Protocol",
            "Sec-WebSocket-Extensions",
        }
