"""The handshake of a client; tests/client has servers that answer wrongly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubthread import SettingError, WrongValue
from hubthread.protocol.client_handshake import (
    Address,
    Answer,
    Exchange,
    WrongAnswer,
    check_upgrade,
    upgrade_fields,
)
from hubthread.protocol.handshake import accept, accept_token
from hubthread.protocol.http import RequestParser
from hubthread.protocol.request import Headers

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
GOOD = {"upgrade": "websocket", "sec-websocket-accept": accept_token(KEY)}


@pytest.mark.parametrize(
    ("url", "secure", "host", "port", "target", "field"),
    [
        ("ws://localhost:8000/ws", False, "localhost", 8000, "/ws", "localhost:8000"),
        ("ws://localhost", False, "localhost", 80, "/", "localhost"),
        ("WSS://Example.org/a?b=c#d", True, "example.org", 443, "/a?b=c", "example.org"),
        ("https://example.org:80", True, "example.org", 80, "/", "example.org:80"),
        ("http://[::1]:81/", False, "::1", 81, "/", "[::1]:81"),
        ("ws://[::1]/", False, "::1", 80, "/", "[::1]"),
        ("ws://x/ä b?ö=1", False, "x", 80, "/%C3%A4%20b?%C3%B6=1", "x"),
        ("ws://x/%20?a=%2F", False, "x", 80, "/%20?a=%2F", "x"),
    ],
)
def test_address_of_url(
    url: str, secure: bool, host: str, port: int, target: str, field: str
) -> None:
    address = Address.of(url)
    assert address == Address(secure, host, port, target)
    assert address.host_field == field


@given(st.text(max_size=30))
def test_address_of_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        address = Address.of(f"ws://{text}")
    except WrongValue:
        return
    exchange = Exchange("GET", address.target, upgrade_fields(address, KEY, (), ()))
    assert RequestParser(peer="x", secure=False).receive(exchange.request) is not None


def test_exchange_is_accepted_by_the_server() -> None:
    address = Address.of("ws://localhost:8000/ws?a=1")
    fields = upgrade_fields(address, KEY, ("hubthread.1",), {"Cookie": "a=1"}.items())
    exchange = Exchange("GET", address.target, fields)
    request = RequestParser(peer="x", secure=False).receive(exchange.request)
    assert request is not None
    accepted = accept(request, subprotocols=("hubthread.1",))
    head = accepted.response
    assert exchange.receive(head[:10]) is None
    answer = exchange.receive(head[10:] + b"\x81\x00")
    assert answer is not None
    assert answer.rest == b"\x81\x00"
    assert check_upgrade(answer, KEY, ("hubthread.1",)) == "hubthread.1"


def test_exchange_skips_interim_answers() -> None:
    exchange = Exchange("GET", "/", upgrade_fields(Address.of("ws://x"), KEY, (), ()))
    answer = exchange.receive(
        b"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 503 No\r\nRetry-After: 7\r\n\r\n"
    )
    assert answer is not None
    with pytest.raises(WrongAnswer) as caught:
        check_upgrade(answer, KEY, ())
    assert (caught.value.status, caught.value.retry_after) == (503, 7)


def test_exchange_without_an_answer_is_a_lost_connection() -> None:
    for begun in (b"", b"HTTP/1.1 101 Switch"):
        exchange = Exchange("GET", "/", upgrade_fields(Address.of("ws://x"), KEY, (), ()))
        if begun:
            assert exchange.receive(begun) is None
        with pytest.raises(ConnectionResetError):
            exchange.receive(b"")


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"sec-websocket-accept": "x"}, "Sec-WebSocket-Accept is wrong"),
        ({"upgrade": "h2c"}, "another protocol"),
        ({"sec-websocket-extensions": "permessage-deflate"}, "extension that was not offered"),
        ({"sec-websocket-protocol": "other"}, "subprotocol that was not offered"),
    ],
)
def test_check_upgrade_refuses_what_was_not_asked_for(fields: dict[str, str], text: str) -> None:
    answer = Answer(101, Headers.of({**GOOD, **fields}), b"")
    with pytest.raises(WrongAnswer, match=text) as caught:
        check_upgrade(answer, KEY, ("hubthread.1",))
    assert caught.value.status is None


@pytest.mark.parametrize("date", ["", "Wed, 21 Oct 2026 07:28:00 GMT", "-1", "1e9", "9" * 40])
def test_check_upgrade_takes_only_seconds_of_retry_after(date: str) -> None:
    with pytest.raises(WrongAnswer) as caught:
        check_upgrade(Answer(503, Headers.of({"retry-after": date}), b""), KEY, ())
    assert caught.value.retry_after == 0


@pytest.mark.parametrize("name", ["Host", "upgrade", "Sec-WebSocket-Key", "a b"])
def test_upgrade_fields_refuses_its_own_fields(name: str) -> None:
    with pytest.raises(SettingError):
        upgrade_fields(Address.of("ws://x"), KEY, (), [(name, "x")])
