"""The request as users see it: path, query, fields, cookies, and what its repr hides."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubthread.protocol.http import Headers, Request

PEER = ("192.0.2.7", 50123)


def request_with(
    *fields: tuple[str | bytes, str | bytes], target: str = "/", peer: tuple[str, int] | str = PEER
) -> Request:
    return Request("GET", target, Headers([("Host", "example.org"), *fields]), peer)


@given(st.lists(st.tuples(st.text(min_size=1, max_size=10), st.text(max_size=10)), max_size=8))
def test_request_query_parameters_arrive_as_sent(pairs: list[tuple[str, str]]) -> None:
    """The first value of each name in the mapping, all of them in query_all."""
    pairs = [(name, value) for name, value in pairs if _has_no_surrogates(name + value)]
    request = request_with(target=f"/ws?{urlencode(pairs)}")
    assert list(request.query) == list(dict(pairs))
    for name in dict(pairs):
        sent = [value for other, value in pairs if other == name]
        assert request.query[name] == sent[0]
        assert request.query_all(name) == sent


def _has_no_surrogates(text: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in text)


@pytest.mark.parametrize(
    ("target", "path", "query_string"),
    [
        ("/", "/", ""),
        ("/a%2Fb%20c?x=%20", "/a/b c", "x=%20"),
        ("/gr%C3%BC%C3%9Fe", "/grüße", ""),
        ("/%ff", "/\ufffd", ""),
        ("//evil.example/x", "//evil.example/x", ""),
        ("/a?b?c", "/a", "b?c"),
        ("/x?next=http://other/", "/x", "next=http://other/"),
        ("http://a", "/", ""),
        ("http://a?b", "/", "b"),
    ],
)
def test_request_target_is_split_and_decoded(target: str, path: str, query_string: str) -> None:
    """The path is decoded, the query string stays raw."""
    request = request_with(target=target)
    assert (request.path, request.query_string) == (path, query_string)


def test_request_absent_values_are_empty() -> None:
    """No query parameter, cookie or field that was not sent."""
    request = request_with()
    assert request.query_all("x") == []
    assert "x" not in request.query
    assert "x" not in request.cookies
    assert request.headers.get_all("x") == []
    with pytest.raises(KeyError):
        request.headers["x"]


@pytest.mark.parametrize(
    ("sent", "cookies"),
    [
        ("a=1; b=2", {"a": "1", "b": "2"}),
        ("a=1;b=2", {"a": "1", "b": "2"}),
        ("a=1; broken; =x; ;; b=2", {"a": "1", "b": "2"}),
        ("a[]=1; b c=2; d=3", {"a[]": "1", "b c": "2", "d": "3"}),
        ("a=first; a=second", {"a": "first"}),
        ("a=x=y==", {"a": "x=y=="}),
        ('a="quoted"; b="', {"a": "quoted", "b": '"'}),
        (r'a="one\054 \"two\"\\"', {"a": r'one, "two"\\'[:-1]}),
        (r'a="gr\303\274n"', {"a": "grün"}),
        ("a=à".encode(), {"a": "à"}),
        (b"a=\xe0; b=2", {"a": "\xe0", "b": "2"}),
        ("", {}),
    ],
)
def test_request_malformed_cookie_keeps_the_others(
    sent: str | bytes, cookies: dict[str, str]
) -> None:
    """Cookies are read pair by pair, in the forms that browsers and frameworks write."""
    assert dict(request_with(("Cookie", sent)).cookies) == cookies


def test_request_cookies_of_several_fields_are_joined() -> None:
    """HTTP/2 splits the field, and proxies to HTTP/1.1 may leave it so."""
    request = request_with(("Cookie", "a=1"), ("cookie", "b=2"))
    assert request.headers["Cookie"] == "a=1; b=2"
    assert dict(request.cookies) == {"a": "1", "b": "2"}


@pytest.mark.parametrize(
    ("method", "version", "upgrade", "connection", "is_websocket"),
    [
        ("GET", "1.1", "websocket", "Upgrade", True),
        ("GET", "1.1", "WebSocket", "keep-alive, UPGRADE", True),
        ("GET", "1.1", "h2c, websocket", "upgrade", True),
        ("GET", "1.1", "websockets", "upgrade", False),
        ("GET", "1.1", "h2c", "upgrade", False),
        ("GET", "1.1", "websocket", "keep-alive", False),
        ("GET", "1.0", "websocket", "upgrade", False),
        ("HEAD", "1.1", "websocket", "upgrade", False),
    ],
)
def test_request_is_websocket_by_its_fields(
    method: str, version: str, upgrade: str, connection: str, is_websocket: bool
) -> None:
    """Both fields count, as tokens, whatever their case (RFC 6455 section 4.2.1)."""
    headers = Headers([("Host", "a"), ("Upgrade", upgrade), ("Connection", connection)])
    assert Request(method, "/", headers, PEER, http_version=version).is_websocket is is_websocket


def test_request_subprotocols_keep_their_order() -> None:
    """Repeated fields and lists count alike."""
    request = request_with(
        ("Sec-WebSocket-Protocol", "chat.v2, chat.v1"), ("Sec-WebSocket-Protocol", ",superchat")
    )
    assert request.subprotocols == ("chat.v2", "chat.v1", "superchat")


def test_request_repr_hides_secrets() -> None:
    """Neither credentials in fields nor a token in the query reach a log by way of repr."""
    request = request_with(
        ("Authorization", "Bearer s3cret"),
        ("Cookie", "session=s3cret"),
        ("Sec-WebSocket-Protocol", "bearer, s3cret"),
        ("User-Agent", "probe/1.0"),
        target="/ws?token=s3cret",
    )
    shown = repr(request) + repr(request.headers)
    assert "s3cret" not in shown
    assert all(part in shown for part in ("GET", "/ws", "192.0.2.7:50123", "probe/1.0", "cookie"))


def test_request_is_an_immutable_value() -> None:
    """Equal pieces make equal requests; nothing of one can be changed."""
    request: Any = request_with(("Cookie", "a=1"), target="/?a=1")
    assert request == request_with(("cookie", b"a=1"), target="/?a=1")
    assert len({request, request_with(("cookie", b"a=1"), target="/?a=1")}) == 1
    assert request != request_with()
    with pytest.raises(FrozenInstanceError):
        request.method = "POST"
    for mapping in (request.headers, request.query, request.cookies):
        with pytest.raises(TypeError):
            mapping["a"] = "2"


def test_request_unix_peer_is_a_string() -> None:
    """A Unix socket's client has a path, mostly an empty one, instead of host and port."""
    assert "/run/app.sock" in repr(request_with(peer="/run/app.sock"))
