"""The HTTP front: requests, rejections and responses."""

from __future__ import annotations

import json
import string
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import TextMessage

from hubthread.errors import HandshakeRejected, SettingError, SettingTypeError
from hubthread.protocol.http import MAX_HEAD, Headers, Request, RequestParser, Response

PEER = ("192.0.2.7", 50123)

UPGRADE = (
    b"GET /ws?room=1 HTTP/1.1\r\n"
    b"Host: example.org\r\n"
    b"Upgrade: websocket\r\n"
    b"Connection: keep-alive, Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Version: 13\r\n"
    b"\r\n"
)
PLAIN = b"GET /healthz HTTP/1.1\r\nHost: example.org\r\n\r\n"

# "hi" as a masked text frame: RFC 6455 section 5.2.
HI = b"\x81\x82\x01\x02\x03\x04" + bytes((ord("h") ^ 1, ord("i") ^ 2))


class Outcome(NamedTuple):
    """The outcome of feeding bytes to a parser."""

    request: Request | None = None
    trailing: bytes = b""
    status: int = 0
    reason: str = ""
    headers: tuple[tuple[str, str], ...] = ()


def feed(
    pieces: Iterable[bytes],
    *,
    secure: bool = False,
    max_head: int = MAX_HEAD,
    kind: type[RequestParser] = RequestParser,
) -> Outcome:
    parser = kind(peer=PEER, secure=secure, max_head=max_head)
    request = None
    for piece in pieces:
        try:
            request = parser.receive(piece)
        except HandshakeRejected as refusal:
            return Outcome(status=refusal.status, reason=refusal.reason, headers=refusal.headers)
    return Outcome(request, parser.trailing)


def one_by_one(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


def parsed(data: bytes) -> Request:
    request = feed([data]).request
    assert request is not None
    return request


def test_parser_reads_an_upgrade_request() -> None:
    """The request has each part of the handshake."""
    request = parsed(UPGRADE)
    assert (request.method, request.target, request.http_version) == ("GET", "/ws?room=1", "1.1")
    assert (request.path, request.query_string) == ("/ws", "room=1")
    assert dict(request.query) == {"room": "1"}
    assert (request.peer, request.secure, request.is_websocket) == (PEER, False, True)
    assert (request.origin, request.subprotocols, dict(request.cookies)) == (None, (), {})
    assert request.headers["host"] == "example.org"


def test_parser_plain_get_is_not_a_websocket() -> None:
    """wsproto raises over a plain GET, so a health check must be told apart here."""
    request = parsed(PLAIN)
    assert not request.is_websocket
    assert request.path == "/healthz"


def test_parser_keeps_a_frame_behind_the_request() -> None:
    """The bytes after the head are kept and are valid frames."""
    parser = RequestParser(peer=PEER, secure=False)
    assert parser.trailing == b""
    assert parser.receive(UPGRADE + HI) is not None
    websocket = Connection(ConnectionType.SERVER)
    websocket.receive_data(parser.trailing)
    assert [event.data for event in websocket.events() if isinstance(event, TextMessage)] == ["hi"]


def test_parser_adds_later_bytes_to_trailing() -> None:
    """Bytes after the request, and the end of the stream, change nothing about the request."""
    parser = RequestParser(peer=PEER, secure=False)
    request = parser.receive(UPGRADE + HI[:3])
    assert parser.receive(HI[3:]) is request
    assert parser.receive(b"") is request
    assert parser.trailing == HI


def test_parser_incomplete_head_gives_no_request() -> None:
    """A head without its last byte gives no request, and leaves nothing in trailing."""
    parser = RequestParser(peer=PEER, secure=False)
    assert parser.receive(UPGRADE[:-1]) is None
    assert parser.trailing == b""
    assert parser.receive(UPGRADE[-1:]) is not None


@pytest.mark.parametrize(
    ("data", "status", "said"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "looks like TLS"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", 400, "not an HTTP request"),
        (b"hello\n", 400, "not an HTTP request"),
        (b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "not an HTTP request"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET /", 400, "PROXY header"),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", 400, "PROXY header"),
        (b"\n", 400, "not an HTTP request"),
        (b" GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "not an HTTP request"),
        (b"GET /\r\nHost: a\r\n\r\n", 400, "not an HTTP request"),
        (b"GET / HTTP/1\r\nHost: a\r\n\r\n", 400, "not an HTTP request"),
        (b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", 400, "illegal request line"),
        (b"G(T / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "illegal request line"),
        (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400, "continuation line"),
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400, "illegal header line"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: \x1b[2J\r\n\r\n", 400, "control character"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rY: b\r\n\r\n", 400, "control character"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "Host"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400, "Host"),
        (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400, "Host"),
        (b"GET / HTTP/1.1\r\nHost: user@a\r\n\r\n", 400, "Host"),
        (b"GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n", 400, "Host"),
        (b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400, "must be a path"),
        (b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, "another scheme"),
        (b"GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n", 400, "no host"),
        (b"GET http://me@a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, "Host"),
        (b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n", 501, "BREW is unknown"),
        (b"get / HTTP/1.1\r\nHost: a\r\n\r\n", 501, "get is unknown"),
        (b"GET /" + b"x" * MAX_HEAD, 414, "request line is longer than 16384 bytes"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n", 405, "not POST"),
        (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 405, "not OPTIONS"),
        (UPGRADE.replace(b"GET", b"HEAD", 1), 405, "Only GET can"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx", 413, "body"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 413, "body"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400, "Content-Length"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: x\r\n\r\n", 501, "Transfer-Encoding"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "not HTTP/2.0"),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * MAX_HEAD, 431, "16384 bytes"),
    ],
)
def test_parser_bad_request_is_rejected_with_status_and_reason(
    data: bytes, status: int, said: str
) -> None:
    """Each refusal has the status of its kind and says what was wrong, at once and in pieces."""
    outcome = feed([data])
    assert outcome.status == status
    assert said in outcome.reason
    assert feed(one_by_one(data)) == outcome


@pytest.mark.parametrize(
    ("data", "name", "value"),
    [
        (b"POST / HTTP/1.1\r\nHost: a\r\n\r\n", "Allow", "GET, HEAD"),
        (UPGRADE.replace(b"GET", b"POST", 1), "Allow", "GET"),
    ],
)
def test_parser_rejection_has_the_fields_of_its_status(data: bytes, name: str, value: str) -> None:
    """405 says what is allowed (RFC 9110 section 15.5.6)."""
    assert dict(feed([data]).headers)[name] == value


@pytest.mark.parametrize(
    "data",
    [
        PLAIN,
        PLAIN.replace(b"GET", b"HEAD", 1),
        PLAIN.replace(b"\r\n", b"\n"),
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: [::1]:8000\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: [fe80::1%eth0]:8000\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: [fe80::1%25eth0]\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: one\r\n two\r\n\r\n",
        b"GET http://a:80/x HTTP/1.1\r\nHost: A:80\r\n\r\n",
    ],
)
def test_parser_unusual_valid_request_passes(data: bytes) -> None:
    """Strictness ends where the specifications allow or tolerate something."""
    assert feed([data]).request is not None


def test_parser_absolute_target_gives_its_path() -> None:
    """Proxies may send the whole URL (RFC 9112 section 3.2.2)."""
    request = parsed(b"GET http://example.org/a%20b?c=d HTTP/1.1\r\nHost: example.org\r\n\r\n")
    assert (request.path, request.query_string) == ("/a b", "c=d")


@pytest.mark.parametrize("sent", [b"", PLAIN[:1], PLAIN[:-1]])
def test_parser_early_end_of_stream_is_rejected(sent: bytes) -> None:
    """A connection that ends too early is a 400, for the log's sake."""
    assert feed([*one_by_one(sent), b""]).status == 400


def test_parser_limit_counts_the_head_to_the_byte() -> None:
    """A head of exactly the limit passes, whatever follows it; one byte more does not."""
    frames = b"\x00" * MAX_HEAD
    assert feed([PLAIN + frames], max_head=len(PLAIN)).trailing == frames
    assert feed([PLAIN + frames], max_head=len(PLAIN) - 1).status == 431
    assert feed(one_by_one(PLAIN), max_head=len(PLAIN) - 1).status == 431


def test_parser_after_a_rejection_rejects_everything() -> None:
    """A good request after a bad one on the same connection is not served."""
    parser = RequestParser(peer=PEER, secure=False)
    for data in (b"hello\n", PLAIN, b""):
        with pytest.raises(HandshakeRejected):
            parser.receive(data)
    assert parser.trailing == b""


def test_parser_rejection_does_not_quote_the_head() -> None:
    """A malformed line may hold a password, and the reason reaches logs."""
    outcome = feed([b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization : Basic c2VjcmV0\r\n\r\n"])
    assert outcome.status == 400
    assert "c2VjcmV0" not in outcome.reason


def test_parser_single_bytes_cost_linear_work() -> None:
    """Searching the whole head again for each byte would take this some ten seconds."""
    head = b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 200_000 + b"\r\n\r\n"
    started = time.process_time()
    assert feed(one_by_one(head), max_head=len(head)).request is not None
    assert time.process_time() - started < 3.0


def test_parser_field_of_blanks_costs_linear_work() -> None:
    """h11 alone backtracks over this for minutes: its time grows with the square."""
    head = b"GET / HTTP/1.1\r\nHost: a\r\nX:" + b" " * 200_000 + b"\x00\r\n\r\n"
    started = time.process_time()
    assert feed([head], max_head=len(head)).status == 400
    assert time.process_time() - started < 3.0


lines = st.one_of(
    st.binary(max_size=20).map(b"Cookie: a=b; %b; c=".__mod__),
    st.binary(max_size=20).map(b"X: ".__add__),
    st.sampled_from([b" folded", b"Origin: null", b"Sec-WebSocket-Protocol: ,a,,b"]),
)


field_names = st.text("-" + string.ascii_letters + string.digits, max_size=10)
field_values = st.text("".join(map(chr, range(ord(" "), ord("~") + 1))), max_size=22).map(
    str.strip
)


@given(st.lists(st.tuples(field_names.map("X-{}".format), field_values), max_size=10))
def test_parser_header_fields_arrive_as_sent(fields: list[tuple[str, str]]) -> None:
    """Names whatever their case, values to the character, repeats in order."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
    request = parsed(f"GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n".encode())
    assert request.headers == Headers([("host", "a"), *fields])
    for name, _ in fields:
        sent = [value for other, value in fields if other.lower() == name.lower()]
        assert request.headers.get_all(name.upper()) == sent
        assert request.headers[name.swapcase()] == ", ".join(sent)


def read_response(data: bytes, method: str = "GET") -> tuple[h11.Response, bytes]:
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    client.receive_data(b"")
    response = client.next_event()
    assert isinstance(response, h11.Response)
    body = b""
    while isinstance(event := client.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    assert client.next_event() == h11.ConnectionClosed()
    return response, body


@pytest.mark.parametrize(
    ("response", "status", "content_type", "body"),
    [
        (Response.text(404, "no such page"), 404, b"text/plain; charset=utf-8", b"no such page"),
        (Response.html("<p>grüß"), 200, b"text/html; charset=utf-8", "<p>grüß".encode()),
        (Response.json({"a": [1]}), 200, b"application/json", json.dumps({"a": [1]}).encode()),
        (Response(200, b"\x00\xff", "image/png"), 200, b"image/png", b"\x00\xff"),
        (Response(599), 599, b"text/plain; charset=utf-8", b""),
    ],
)
def test_response_is_understood_by_h11(
    response: Response, status: int, content_type: bytes, body: bytes
) -> None:
    """Status, type, length and body arrive, and the connection is to be closed."""
    head, received = read_response(response.encode(parsed(PLAIN)))
    fields = dict(head.headers)
    assert (head.status_code, received) == (status, body)
    assert fields[b"content-type"] == content_type
    assert fields[b"content-length"] == str(len(body)).encode()
    assert fields[b"connection"] == b"close"
    assert fields[b"x-content-type-options"] == b"nosniff"


def test_response_to_head_has_no_body() -> None:
    """HEAD is told the length that GET would get."""
    request = parsed(PLAIN.replace(b"GET", b"HEAD", 1))
    response, body = read_response(Response.text(200, "fine").encode(request), "HEAD")
    assert dict(response.headers)[b"content-length"] == b"4"
    assert body == b""


def test_response_status_without_body_announces_none() -> None:
    """204 has neither length nor type (RFC 9110 section 8.6)."""
    response, _ = read_response(Response(204).encode(None))
    assert {b"content-length", b"content-type"}.isdisjoint(dict(response.headers))
    with pytest.raises(SettingError, match="body"):
        Response(204, b"something")


def test_response_of_a_rejection_has_its_fields() -> None:
    """426 names its Upgrade field in Connection as well (RFC 9110 section 7.8)."""
    offer = (("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"))
    response = Response.text(426, "This is a WebSocket.", offer)
    head, body = read_response(response.encode(None))
    fields = dict(head.headers)
    assert head.status_code == 426
    assert head.reason == b"Upgrade Required"
    assert fields[b"upgrade"] == b"websocket"
    assert fields[b"connection"] == b"close, Upgrade"
    assert body == b"This is a WebSocket."
    assert b"date" not in fields


def test_response_with_a_time_has_a_date() -> None:
    """RFC 9110 section 6.6.1: every answer of a server with a clock."""
    head, _ = read_response(Response.text(404, "no").encode(None, 784111777.9))
    assert dict(head.headers)[b"date"] == b"Sun, 06 Nov 1994 08:49:37 GMT"


def test_response_205_has_a_length_of_zero() -> None:
    """RFC 9110 section 15.3.6."""
    head, body = read_response(Response(205).encode(None))
    assert dict(head.headers)[b"content-length"] == b"0"
    assert body == b""


@pytest.mark.parametrize("start", [b"http://B:80/x?y", b"https://b:80/x?y", b"WS://b:80/x?y"])
def test_parser_absolute_target_replaces_host(start: bytes) -> None:
    """RFC 9112 section 3.2.2."""
    request = parsed(b"GET " + start + b" HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n")
    assert request.headers.get_all("host")[0].lower() == "b:80"
    assert (request.path, request.query_string, request.headers["x"]) == ("/x", "y", "1")


def test_parser_skips_one_empty_line_before_the_request() -> None:
    """RFC 9112 section 2.2: some clients send one behind an earlier request."""
    for pieces in ([b"\r\n" + PLAIN], [b"\r\n", PLAIN], one_by_one(b"\r\n" + PLAIN)):
        outcome = feed(pieces)
        assert outcome.request is not None
        assert outcome.request.path == "/healthz"


def test_parser_ignores_an_upgrade_in_http_1_0() -> None:
    """RFC 9110 section 7.8: a page answers it; the handshake refuses it with 426."""
    request = parsed(UPGRADE.replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert not request.is_websocket


def test_response_headers_keep_latin1_and_repeats() -> None:
    """Two cookies are two fields, and é is one byte."""
    response = Response(200, headers=(("Set-Cookie", "a=é"), ("Set-Cookie", " b=2 ")))
    head, _ = read_response(response.encode(None))
    assert [value for name, value in head.headers if name == b"set-cookie"] == [b"a=\xe9", b"b=2"]


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("X", "a\r\nSet-Cookie: s3cret=1", "value of X"),
        ("X", "a\nb", "value of X"),
        ("X", "s3cret\x00", "value of X"),
        ("X", "€", "value of X"),
        ("X\r\nY", "a", "the name of a header field, got"),
        ("", "a", "the name of a header field, got"),
        ("X Y", "a", "the name of a header field, got"),
        ("Content-Length", "5", "Content-Length"),
        ("connection", "keep-alive", "connection"),
        ("Transfer-Encoding", "chunked", "Transfer-Encoding"),
    ],
)
def test_response_unsendable_field_raises(name: str, value: str, said: str) -> None:
    """Header injection is refused where the response is made, without quoting the value."""
    with pytest.raises(SettingError, match=said) as error:
        Response(200, headers=((name, value),))
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize("headers", [{"X": "a"}, ["X: a"], [("X", 5)], [("X", "a", "b")], [5]])
def test_response_headers_that_are_no_pairs_of_text_raise(headers: Any) -> None:
    """A dict and a line of text are the usual mistakes."""
    with pytest.raises(SettingTypeError, match=r"^headers: expected pairs of text, such as"):
        Response(200, headers=headers)


def test_response_content_type_cannot_inject_a_field() -> None:
    """The type goes the same way as every other field."""
    with pytest.raises(SettingError, match="Content-Type"):
        Response(200, content_type="text/html\r\nX: y")


@pytest.mark.parametrize("status", [0, 101, 199, 600])
def test_response_status_out_of_range_raises(status: int) -> None:
    """An answer is final and of a known class."""
    with pytest.raises(SettingError, match="200 to 599"):
        Response(status)
