"""A request through WSGI is the request that our own server would have read."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote_from_bytes, unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubthread import HandshakeRejected
from hubthread.protocol.http import RequestParser
from hubthread.protocol.wsgi_environ import request_of

TEXT = st.binary(max_size=20)
FIELDS = st.dictionaries(
    st.sampled_from(["Cookie", "Origin", "X-One", "Sec-WebSocket-Protocol", "Connection"]),
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=20),
)


def environ_of(path: bytes, query: str, fields: dict[str, str]) -> dict[str, Any]:
    """A request as PEP 3333 has it: bytes as Latin-1, the path decoded, the query not."""
    return {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": path.decode("latin-1"),
        "QUERY_STRING": query,
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "192.0.2.1",
        "REMOTE_PORT": "4321",
        "wsgi.url_scheme": "http",
        **{f"HTTP_{name.upper().replace('-', '_')}": value for name, value in fields.items()},
    }


@given(TEXT, TEXT, FIELDS)
def test_request_of_environ_equals_the_parsed_request(
    path: bytes, query: bytes, fields: dict[str, str]
) -> None:
    target, asked = "/" + quote_from_bytes(path), quote_from_bytes(query, "=&")
    fields = {"Host": "example.org", **fields}
    lines = [
        f"GET {target}?{asked} HTTP/1.1",
        *(f"{name}: {value}" for name, value in fields.items()),
    ]
    read = RequestParser(peer=("192.0.2.1", 4321), secure=False).receive(
        "\r\n".join([*lines, "", ""]).encode()
    )
    assert read is not None
    made = request_of(environ_of(unquote_to_bytes(target), asked, fields))
    assert (made.method, made.path, made.query) == (read.method, read.path, read.query)
    assert made.headers == read.headers
    assert (made.peer, made.secure, made.http_version) == (read.peer, False, "1.1")


@given(st.text(max_size=20), st.text(max_size=20), st.dictionaries(st.text(), st.text()))
def test_request_of_any_environ_is_a_request_or_a_rejection(
    path: str, query: str, fields: dict[str, str]
) -> None:
    try:
        request = request_of(environ_of(b"", query, fields) | {"PATH_INFO": path})
    except HandshakeRejected:
        return
    assert request.target.isascii()
    assert request.path.startswith("/")
    assert not any(ord(letter) < 32 for letter in request.target)


@pytest.mark.parametrize(
    ("script", "path", "target"),
    [
        ("", "", "/"),
        ("/app", "", "/app"),
        ("/app", "/ws", "/app/ws"),
        ("", "/a b?c", "/a%20b%3Fc"),
    ],
)
def test_request_of_path_joins_mount_and_rest(script: str, path: str, target: str) -> None:
    environ = environ_of(b"", "", {}) | {"SCRIPT_NAME": script, "PATH_INFO": path}
    assert request_of(environ).target == target
