"""The short way for request heads against h11: the same bytes give the same request."""

from __future__ import annotations

import string
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hubthread.protocol.http import MAX_HEAD, RequestParser
from hubthread.protocol.http_head import parse_head, read_plain_head
from hubthread.protocol.request import Headers
from tests.protocol.test_http import UPGRADE, feed

BROWSER = (
    b"GET /chat?room=1 HTTP/1.1\r\n"
    b"Host: 127.0.0.1:8000\r\n"
    b"Connection: Upgrade\r\n"
    b"Pragma: no-cache\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)\r\n"
    b"Upgrade: websocket\r\n"
    b"Origin: http://127.0.0.1:8000\r\n"
    b"Sec-WebSocket-Version: 13\r\n"
    b"Accept-Language: en-US,en;q=0.9\r\n"
    b"Cookie: session=abcdef; theme=dark\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
    b"\r\n"
)


VISIBLE = "".join(map(chr, range(ord("!"), ord("~") + 1)))


class ThroughH11(RequestParser):
    """A parser without the short way: h11 reads every head."""

    _short_way = False


def choice(text: bytes) -> st.SearchStrategy[bytes]:
    return st.sampled_from(text.split(b"|"))


def joined(*parts: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return st.tuples(*parts).map(b"".join)


# A plain head with at most one odd part, because a second one would hide the first.
name = st.text("-" + string.ascii_letters + string.digits, min_size=1, max_size=8).map(str.encode)
value = st.text(VISIBLE + " ", min_size=1, max_size=22).map(str.strip).filter(bool).map(str.encode)
target = st.text(VISIBLE, max_size=20).map("/{}".format).map(str.encode)
plain_field = joined(name, st.just(b": "), value, st.just(b"\r\n"))
odd_name = choice(
    b"Host|HOST|Content-Length|Transfer-Encoding|Expect|Cookie|X|x|X_Y|X!|X | X||X\xe9"
)
odd_value = st.one_of(
    choice(b"a|b:80|a b|u@a|websocket|| | a|a |a\t|a\tb|\xe9|a\x00|a\x7f|a\rb|: x: y"),
    st.binary(max_size=5),
)
odd_field = st.one_of(
    choice(b"Content-Length: 0\r\n|Content-Length: 2\r\n|Transfer-Encoding: chunked\r\n"),
    joined(odd_name, st.just(b": "), value, st.just(b"\r\n")),
    joined(odd_name, st.just(b": "), odd_value, st.just(b"\r\n")),
    joined(name, choice(b":|:\t| : |:  |"), value, st.just(b"\r\n")),
    joined(name, st.just(b": "), odd_value, st.just(b"\r\n")),
    joined(name, st.just(b": "), value, choice(b"\n|\r|\r\n |\r\r\n| \r\n|")),
)
odd_line = st.one_of(
    joined(choice(b"HEAD|get|POST|GET |"), st.just(b" "), target, st.just(b" HTTP/1.1\r\n")),
    joined(
        choice(b"GET *|GET http://a/|GET /\xff|GET /a b|GET a|GET "), st.just(b" HTTP/1.1\r\n")
    ),
    joined(
        st.just(b"GET "),
        target,
        choice(b" HTTP/1.0\r\n| HTTP/2.0\r\n| http/1.1\r\n| HTTP/1.10\r\n"),
    ),
    joined(st.just(b"GET "), target, choice(b" HTTP/1.1\n| HTTP/1.1 \r\n| HTTP/1.1\r\r\n|\r\n")),
)
line = joined(st.just(b"GET "), target, st.just(b" HTTP/1.1\r\n"))
host = choice(b"Host: a:80\r\n|host: [::1]\r\n|Host: a\r\n|Host: a b\r\n|Host:\r\n|")


def head(
    line: st.SearchStrategy[bytes], odd: st.SearchStrategy[bytes], end: st.SearchStrategy[bytes]
) -> st.SearchStrategy[bytes]:
    some = st.lists(plain_field, max_size=2).map(b"".join)
    # The odd part may also be a repeated field at the end.
    return joined(line, some, host, some, odd, some, end, st.binary(max_size=10))


blank = st.just(b"\r\n")
heads = st.one_of(
    head(line, st.just(b""), blank),
    head(line, odd_field, blank),
    head(odd_line, st.just(b""), blank),
    head(line, st.just(b""), choice(b"\n|\r| \r\n|\r\r\n|")),
)


@given(heads, st.sampled_from([MAX_HEAD, 60]))
@example(UPGRADE, MAX_HEAD)
@example(BROWSER + b"\x81\x80abcd", MAX_HEAD)
@example(b"GET / HTTP/1.1\r\nHost: a\r\nX: a \r\n\r\n", MAX_HEAD)
@example(b"GET / HTTP/1.1\r\nHost: a\r\nX:  a\r\n\r\n", MAX_HEAD)
@example(b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", MAX_HEAD)
@example(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi", MAX_HEAD)
def test_short_way_gives_the_same_outcome_as_h11(data: bytes, max_head: int) -> None:
    """Request or refusal, status, reason and the bytes that follow: all the same."""
    short = feed([data] if data else [], max_head=max_head)
    assert short == feed([data] if data else [], max_head=max_head, kind=ThroughH11)


@given(heads)
@example(BROWSER)
def test_read_plain_head_agrees_with_h11(data: bytes) -> None:
    """It finds the same end, target and fields, and takes nothing but a GET in HTTP/1.1."""
    plain = read_plain_head(data, MAX_HEAD)
    if plain is not None:
        target, found, end = plain
        event = parse_head(data[:end])
        assert (event.method, event.http_version) == (b"GET", b"1.1")
        assert event.target == target.encode()
        assert Headers(event.headers) == Headers.of(found)


@pytest.mark.parametrize("data", [UPGRADE, BROWSER, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"])
def test_read_plain_head_reads_handshakes_of_clients(data: bytes) -> None:
    """The bytes after the head are ignored."""
    for more in (b"", b"\r\n\r\n", b"\x81\x80abcd"):
        plain = read_plain_head(data + more, len(data))
        assert plain is not None
        assert plain[2] == len(data)
    assert read_plain_head(data, len(data) - 1) is None
    assert read_plain_head(data[:-1], MAX_HEAD) is None


@pytest.mark.parametrize(
    "line",
    [
        *(b"Content-Length: 0", b"Transfer-Encoding: chunked", b"Host: b", b"X: a\r\nx: b"),
        *(
            b"X:a",
            b"X:  a",
            b"X: a ",
            b"X: a\tb",
            b"X: ",
            b"X : a",
            b" folded",
            b"X: \xe9",
            b"X\xe9: a",
        ),
        *(b"X: a\nY: b", b"X: a\rY: b", b"X: \x1b[2J", b"X: a\x00", b"X"),
    ],
)
def test_read_plain_head_leaves_other_heads_to_h11(line: bytes) -> None:
    """Heads with a body, a repeated field or unusual bytes, valid or not."""
    assert read_plain_head(b"GET / HTTP/1.1\r\nHost: a\r\n" + line + b"\r\n\r\n", MAX_HEAD) is None


@pytest.mark.parametrize(
    "fill",
    [
        *(b" " * 1_000_000, b"a " * 500_000, b"a" * 1_000_000, b"a: b\r\n" * 160_000),
        *(b": " * 500_000, b"a:" * 500_000, b"a: " * 300_000, b"a: b \r\n" * 140_000),
    ],
)
@pytest.mark.parametrize("begin", [b"", b"X: a", b"X: a\r\nX"])
def test_read_plain_head_hostile_bytes_cost_linear_work(begin: bytes, fill: bytes) -> None:
    """A megabyte that nearly is a head takes milliseconds; going back over it, hours."""
    data = b"GET / HTTP/1.1\r\nHost: a\r\n" + begin + fill
    started = time.process_time()
    assert read_plain_head(data, len(data)) is None
    assert time.process_time() - started < 3.0
