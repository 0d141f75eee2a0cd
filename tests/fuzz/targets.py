"""The targets: each eats one input that hypothesis draws, and its docstring is the invariant.

They are functions with ``@given``, so that the same code is an ordinary test for some hundred
inputs (``test_targets.py``) and is run by ``python -m tests.fuzz`` for as long as asked.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hubthread import IntHeader, JsonHeader, MatcherError, MatcherMap, PrefixHeader
from hubthread.errors import HandshakeRejected
from hubthread.protocol.deflate_negotiation import DeflateParameters
from hubthread.protocol.http import Request, RequestParser, Response
from hubthread.protocol.raw_framing import MessageReader
from hubthread.protocol.websocket import (
    PeerClose,
    ProtocolFailure,
    WebSocketEvent,
    WebSocketProtocol,
)
from hubthread.types import Framing
from tests.support import masked_frame, raw_handshake

__all__ = ["TARGETS", "http", "matcher", "raw", "websocket"]

_MOST = 200
_LAST = (PeerClose, ProtocolFailure)


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    """Return the data in pieces of these sizes, which repeat."""
    pieces, at, number = [], 0, 0
    while at < len(data):
        size = sizes[number % len(sizes)]
        pieces.append(data[at : at + size])
        at, number = at + size, number + 1
    return pieces


cuts = st.lists(st.integers(1, 40), min_size=1, max_size=4)
frames = st.builds(
    masked_frame,
    st.binary(max_size=130) | st.text(max_size=40),
    st.sampled_from([0, 1, 2, 8, 9, 10]) | st.integers(0, 15),
    fin=st.booleans(),
    rsv=st.sampled_from([0, 0, 0, 0, 4, 2, 1]),
)
# A frame with a wrong length, or without its end or its mask.
damaged = st.builds(
    lambda frame, at, byte: frame[:at] + bytes([byte]) + frame[at + 1 :],
    frames,
    st.integers(0, 14),
    st.integers(0, 255),
)


@given(
    st.lists(frames | damaged | st.binary(max_size=30), max_size=10),
    cuts,
    st.sampled_from([None, DeflateParameters()]),
)
def websocket(pieces: list[bytes], sizes: list[int], deflate: DeflateParameters | None) -> None:
    """Frames, however damaged and cut, are messages within the limit, then at most one end."""
    data = b"".join(pieces)
    found: list[list[WebSocketEvent]] = []
    for parts in ([data], cut(data, sizes)):
        reader = WebSocketProtocol(max_message=_MOST, max_fragments=6, deflate=deflate)
        found.append([event for part in parts for event in reader.receive(part)])
    for events in found:
        assert not any(isinstance(event, _LAST) for event in events[:-1])
        for event in events:
            if isinstance(event, str | bytes):
                assert len(event.encode() if isinstance(event, str) else event) <= _MOST
            elif isinstance(event, ProtocolFailure):
                assert event.code in (1002, 1007, 1009)
                assert len(event.reason.encode()) <= 123  # fit for a Close frame
    whole, pieced = ([e for e in events if isinstance(e, str | bytes)] for events in found)
    # Cut up, bad text may be found out earlier: never later, and never another message.
    assert whole == pieced


@given(
    st.sampled_from(Framing),
    st.lists(
        st.binary(max_size=60)
        | st.integers(0, 2**32 - 1).map(lambda size: size.to_bytes(8, "big").lstrip(b"\0"))
        | st.text(max_size=20).map(lambda text: text.encode() + b"\r\n")
        | st.builds(
            lambda size, width: size.to_bytes(8, "big")[-width:] + b"y" * size + b"\n",
            st.integers(0, 3 * _MOST),
            st.sampled_from([1, 2, 4, 8]),
        ),
        max_size=10,
    ),
    cuts,
    st.booleans(),
)
def raw(framing: Framing, pieces: list[bytes], sizes: list[int], text: bool) -> None:
    """Raw bytes are messages within the limit, of the right kind, then at most one failure."""
    data = b"".join(pieces)
    found = []
    for parts in ([data], cut(data, sizes)):
        reader = MessageReader(framing, _MOST, text=text)
        events = [event for part in parts for event in reader.receive(part)]
        assert not any(isinstance(event, ProtocolFailure) for event in events[:-1])
        for event in events:
            if not isinstance(event, ProtocolFailure):
                assert isinstance(event, str if text else bytes)
                assert 0 < len(event.encode() if isinstance(event, str) else event) <= _MOST + 3
        found.append(events)
    if framing is not Framing.CHUNKS:
        assert found[0] == found[1]


lines = (
    st.sampled_from(
        [
            b"Host: a",
            b"Host: b",
            b"Content-Length: 5",
            b"Content-Length: -1",
            b"Transfer-Encoding: chunked",
            b"Upgrade: websocket",
            b"Connection: Upgrade, close",
            b"Sec-WebSocket-Version: 13",
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=99",
            b"Cookie: a=b; c",
            b" folded",
            b"",
        ]
    )
    | st.binary(max_size=30)
    | st.integers(0, 500).map(lambda size: b"X: " + b"y" * size)
)
heads = st.builds(
    lambda first, fields, end, ending: end.join([first, *fields]) + end + ending,
    st.sampled_from([b"GET / HTTP/1.1", b"GET /%ff?a=%00 HTTP/1.1", b"PRI * HTTP/2.0", b"GET  /"])
    | st.binary(max_size=30),
    st.lists(lines, max_size=8),
    st.sampled_from([b"\r\n", b"\n"]),
    st.sampled_from([b"\r\n", b"\n", b"", b"\r\n\x81\x80abcd"]),
)
spoiled = st.builds(
    lambda at, junk: raw_handshake()[:at] + junk + raw_handshake()[at:],
    st.integers(0, len(raw_handshake())),
    st.binary(max_size=5),
)


@given(heads | spoiled | st.binary(max_size=200), cuts)
def http(data: bytes, sizes: list[int]) -> None:
    """A request head ends in a request, a wait or a refusal, the same however it is cut."""

    def outcome(parts: list[bytes]) -> object:
        parser = RequestParser(peer=("192.0.2.1", 1), secure=False, max_head=400)
        request: Request | None = None
        try:
            for part in parts:
                if request is None:
                    request = parser.receive(part)
                else:
                    parser.receive(part)
        except HandshakeRejected as refusal:
            return refusal.status, Response.text(refusal.status, refusal.reason).encode(None)
        if request is None:
            return None
        seen = request.path, dict(request.query), dict(request.cookies), request.is_websocket
        return seen, list(request.headers.items()), parser.trailing

    assert outcome([data] if data else []) == outcome(cut(data, sizes))


@dataclass
class Move:
    """The request type of the handler."""

    x: int
    name: str = ""
    path: list[float] | None = None


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "id", "x", "name", "path"]), inner, max_size=4)
    ),
    max_leaves=8,
)
messages: st.SearchStrategy[str | bytes] = st.one_of(
    json_values.map(json.dumps),
    json_values.map(lambda value: f"move {json.dumps(value)}"),
    json_values.map(lambda value: b"\x01" + json.dumps(value).encode()),
    st.dictionaries(st.sampled_from(["x", "name", "path", "id"]), json_values, max_size=4).map(
        lambda fields: json.dumps({**fields, "type": "move"})
    ),
    st.integers(1, 20_000).map(lambda depth: "[" * depth),
    st.text(max_size=50),
    st.binary(max_size=50),
)


@given(
    st.sampled_from([JsonHeader("type"), JsonHeader("type", id_field="id"), PrefixHeader(" ")])
    | st.just(IntHeader(1)),
    messages,
)
def matcher(form: Any, message: str | bytes) -> None:
    """A message gives a handler the type that it asks for, or its sender a MatcherError."""
    got: list[Move] = []

    def on_move(ctx: object, meta: object, req: Move) -> None:
        got.append(req)

    header: Any = 1 if isinstance(form, IntHeader) else "move"
    try:
        MatcherMap(form, {header: on_move}).dispatch(None, None, message)
    except MatcherError:
        assert got == []
        return
    for move in got:
        assert type(move) is Move
        assert type(move.x) is int
        assert type(move.name) is str
        assert move.path is None or all(type(each) in (float, int) for each in move.path)


TARGETS = {"websocket": websocket, "raw": raw, "http": http, "matcher": matcher}
"""The targets by name."""
