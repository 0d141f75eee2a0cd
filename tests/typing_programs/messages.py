"""Typed messages: headers, handlers, sub-matchers, conversions, codecs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, TypedDict

from typing_extensions import assert_type

from hubthread import (
    Client,
    DataSize,
    Empty,
    Hub,
    HubSetting,
    IncrementByte,
    IntHeader,
    IOContext,
    JsonHeader,
    MatcherMap,
    PrefixHeader,
    SubMatcher,
    WebsocketPeriod,
    bytes_i8,
    bytes_i64,
    default_websocket_period,
    i16_bytes,
    read_buffer_preprocessing_text,
)


class Code(IntEnum):
    MOVE = 1
    LEAVE = 2


@dataclass
class Move:
    x: int
    y: int


class Say(TypedDict):
    text: str


Meta = dict[str, int]

matcher = MatcherMap[Meta, Code](IntHeader(2, Code))


@matcher.handle(Code.MOVE)
def on_move(ctx: IOContext, meta: Meta, move: Move) -> Move:
    return Move(meta["x"] + move.x, move.y)


@matcher.handle(Code.LEAVE)
def on_leave(ctx: IOContext, meta: Meta, _: Empty) -> None:
    ctx.close()


@matcher.handle("move")  # type: ignore[arg-type]
def on_text(ctx: IOContext, meta: Meta, say: Say) -> None: ...


@matcher.handle(Code.MOVE)  # type: ignore[arg-type]
def on_wrong_meta(ctx: IOContext, meta: str, say: Say) -> None: ...


def call(ctx: IOContext) -> None:
    """A registered function may be called like any other."""
    assert_type(on_move(ctx, {"x": 1}, Move(1, 2)), Move)
    on_move(ctx, {"x": 1}, "move")  # type: ignore[arg-type]


assert_type(matcher.gen_sub(), SubMatcher[Meta, Code])
assert_type(matcher.unmarshal(b"{}", Move), Move)
assert_type(matcher.unmarshal(b"{}", list[int]), list[int])
assert_type(matcher.marshal(Move(1, 2)), str | bytes)
assert_type(matcher.dispatch(None, {"x": 1}, ""), str | bytes | None)
matcher.dispatch(None, "meta", "")  # type: ignore[arg-type]
matcher.add(7, on_move)  # type: ignore[arg-type]
matcher.add(Code.MOVE, 3)  # type: ignore[arg-type]
assert_type(matcher.header_parsing(b"\0\1"), tuple[Code, Any])

hub = Hub(HubSetting(meta_gen=Meta, receive_matcher=matcher))
assert_type(hub, Hub[Meta, Code])
assert_type(hub.unmarshal(b"{}", Move), Move)


def ask(client: Client[Meta, Code]) -> None:
    assert_type(client.request(Code.MOVE, Move(1, 2), into=Move), Move)
    assert_type(client.request(Code.MOVE, Move(1, 2), 3.0), Any)
    client.request("move", Move(1, 2))  # type: ignore[call-overload]
    client.request(Code.MOVE, Move(1, 2), into="Move")  # type: ignore[call-overload]
    assert_type(client.meta, Meta)


MatcherMap[Meta, str](JsonHeader("type", id_field="id"))
MatcherMap[Meta, str](PrefixHeader(" "))
MatcherMap(PrefixHeader(" "), {1: on_move})  # type: ignore[misc]
MatcherMap[Meta, str](IntHeader(2))  # type: ignore[arg-type]
IntHeader(3)  # type: ignore[call-overload]

assert_type(bytes_i8(b"\1"), int)
assert_type(bytes_i64(bytes(8), Code), Code)
assert_type(i16_bytes(Code.MOVE), bytes)
assert_type(IncrementByte().increment(), int)
assert_type(read_buffer_preprocessing_text("text\n"), str)
assert_type(read_buffer_preprocessing_text(b"text\n"), bytes)
assert_type(DataSize.MB, DataSize)
period: WebsocketPeriod[Meta] = default_websocket_period()
WebsocketPeriod[Meta](message_buffer_size=4 * DataSize.KB)
