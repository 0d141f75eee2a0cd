"""A client as programs use it: writes, consumption, closures, contexts, its request, its end."""

from __future__ import annotations

import gc
import logging
import weakref
from typing import Any

import pytest
import simple_websocket
import websocket as websocket_client
from websockets.sync.client import connect as websocket

from hubthread import (
    ClientID,
    CloseCode,
    ConnectionType,
    ExecTimeout,
    HubSetting,
    IOContext,
    MatcherMap,
    MessageType,
    PrefixHeader,
    QueueFull,
    Readers,
    UsageError,
    WebsocketPeriod,
    WrongValue,
)
from hubthread.testing import VirtualHub
from tests.support import (
    CLOSE,
    PING,
    PONG,
    TIMEOUT,
    Gate,
    Items,
    RawPeer,
    connect,
    fence,
    in_thread,
    masked_frame,
    serving,
)


def test_client_write_methods_return_numbers_and_send() -> None:
    matcher = MatcherMap[Any, str](PrefixHeader(), marshal=lambda obj: f"<{obj}>")
    with serving(receive_matcher=matcher) as s:
        peer, ctx = s.pair()
        numbers = [
            ctx.write("text"),
            ctx.write(b"binary"),
            ctx.write_string("string"),
            ctx.write_json({"ä": [1, None]}),
            ctx.write_serialization(5),
            ctx.write_splicing("head ", 6),
            ctx.write_splicing(b"head ", 7),
            ctx.write_message_type(MessageType.TEXT, b"as text"),
            ctx.write_message_type(MessageType.BINARY, "as binary"),
        ]
        assert numbers == list(range(1, 10))
        assert ctx.write_count == 9
        assert peer.messages(9) == [
            "text",
            b"binary",
            "string",
            '{"ä":[1,null]}',
            "<5>",
            "head <6>",
            b"head <7>",
            "as text",
            b"as binary",
        ]
        # Control frames have no number.
        assert ctx.write_message_type(MessageType.PING, b"p") == 9
        assert peer.frame() == (PING, b"p")
        assert ctx.write_message_type(MessageType.PONG, b"q") == 9
        assert peer.frame() == (PONG, b"q")
        assert ctx.write_message_type(MessageType.CLOSE, "bye") == 9
        assert peer.closed() == (1000, "bye")
        peer.close()


def test_client_write_wrong_type_or_code_raises() -> None:
    """The call raises, and the connection goes on."""
    with serving() as s:
        peer, ctx = s.pair()
        for kind, data in (
            (MessageType.TEXT, b"\xff"),
            (MessageType.PING, b"x" * 126),
            (3, "no such type"),
            (0, "no such type"),
        ):
            with pytest.raises(ValueError, match=r".+"):
                ctx.write_message_type(kind, data)  # type: ignore[arg-type]
        for code in (1005, 1006, 999, 5000, True, 1000.0, "1000"):
            with pytest.raises(
                ValueError, match=r"close code: expected .* your own, 3000 to 4999, got"
            ):
                ctx.close(code)  # type: ignore[arg-type]
        ctx.write("on")
        assert peer.message() == "on"


def test_client_write_after_end_does_nothing() -> None:
    """A client may vanish at any moment, so writing never raises."""
    with serving() as s:
        peer, ctx = s.pair()
        context = ctx.context
        peer.close()
        assert context.wait(TIMEOUT)
        number = ctx.write("into the void")
        assert ctx.is_write_consumed(number)
        ctx.write_message_type(MessageType.PING, b"")
        ctx.close()


def test_client_handler_sees_message_request_and_hub() -> None:
    seen: Items[Any] = Items()

    def receive(ctx: Any, meta: Any) -> bool:
        request = ctx.handshake
        seen.add((ctx.payload, ctx.meta is meta, ctx.hub, ctx.logger, ctx.connection_type))
        seen.add((request.path, request.query["room"], request.cookies["user"]))
        seen.add((request.headers["x-lang"], request.peer[0], ctx.subprotocol))
        return False

    with serving(on_receive_message=receive) as s:
        fields = ("Cookie: user=ada", "X-Lang: en")
        with RawPeer(connect(s.server), "/ws/%C3%A4?room=5", *fields) as peer:
            client = s.came()
            peer.send("hi")
            assert seen.wait(3) == [
                ("hi", True, s.hub, s.logs, ConnectionType.WEBSOCKET),
                ("/ws/ä", "5", "ada"),
                ("en", "127.0.0.1", None),
            ]
            assert client.connection_id == 1
            assert client.matcher is None


def test_client_payload_is_dropped_after_callback() -> None:
    seen: Items[int] = Items()

    def receive(ctx: Any, meta: Any) -> bool:
        seen.add(len(ctx.payload))
        return False

    with serving(on_receive_message=receive) as s:
        peer, client = s.pair()
        peer.send(b"\0" * 500_000)
        seen.wait(1)
        assert client.exec_sync(lambda: client.payload) == b""


def test_client_exec_is_bounded_and_times_out() -> None:
    gate = Gate()
    with serving(chan_queue_size=4) as s:
        _, client = s.pair()
        client.exec_async(gate)
        gate.reached()
        with pytest.raises(ExecTimeout, match="in __call__"):
            client.exec_sync(lambda: None, 0.05)
        for _ in range(3):
            client.exec_async(lambda: None)
        for refused in (client.exec_async, client.exec_sync):
            with pytest.raises(QueueFull, match=r"client 1: 4 closures .*chan_queue_size"):
                refused(lambda: None)
        gate.open()


def test_client_context_is_cancelled_at_end() -> None:
    """The context is cancelled even if it is first used after the end."""
    gone: Items[Any] = Items()
    with serving(on_connection_close=lambda ctx, meta: gone.add(ctx)) as s:
        peer, client = s.pair()
        assert not client.context.cancelled
        told: Items[str] = Items()
        client.context.add_callback(told.add)
        peer.close()
        assert told.wait(1) == ["the connection has ended"]
        other, late = s.pair()
        other.close()
        assert late in gone.wait(2)
        assert late.context.reason == "the connection has ended"


def test_client_preprocessing_runs_before_callbacks() -> None:
    """An exception of it keeps the connection."""

    def trimmed(data: Any) -> Any:
        if data == b"":
            raise ValueError("empty")
        return data.strip()

    seen: Items[Any] = Items()
    errors: Items[Exception] = Items()
    with serving(
        period=WebsocketPeriod(read_buffer_preprocessing=trimmed),
        on_receive_message=lambda ctx, meta: seen.add(ctx.payload),
        receive_matcher_error=lambda ctx, meta, error: errors.add(error),
    ) as s:
        peer, _ = s.pair()
        peer.send("  text \n", b"", b" binary\r\n")
        assert seen.wait(2) == ["text", b"binary"]
        assert str(errors.wait(1)[0]) == "empty"
        peer.close()


def test_client_interceptor_false_skips_matcher() -> None:
    """False drops, True passes; a sub-matcher wins."""
    matcher = MatcherMap[Any, str](PrefixHeader())
    matcher.add("echo", lambda ctx, meta, req: req)

    @matcher.handle("enter")
    def enter(ctx: Any, meta: Any) -> str:
        ctx.matcher = ctx.matcher.gen_sub()
        ctx.matcher.add("echo", lambda ctx, meta, req: "inside")
        return "entered"

    with serving(
        receive_matcher=matcher,
        on_receive_message=lambda ctx, meta: "drop" not in str(ctx.payload),
    ) as s:
        peer, _ = s.pair()
        other, _ = s.pair()
        peer.send('echo "drop"', "echo 1", "enter", "echo 2")
        assert peer.messages(3) == ["echo 1", "enter entered", "echo inside"]
        other.send("echo 3")
        assert other.message() == "echo 3"


@pytest.mark.parametrize(
    ("code", "expected", "warned"),
    [
        (1000, {1000}, False),
        (1001, {1000}, True),
        (4000, {4000}, False),
        (None, {1005}, False),
        (None, {1000}, True),
    ],
)
def test_client_unexpected_close_code_is_logged(
    code: int | None, expected: set[int], warned: bool
) -> None:
    """Codes outside ``expected_ws_error`` are warnings."""
    period = WebsocketPeriod[Any](expected_ws_error=frozenset(expected))
    with serving(period=period) as s:
        peer, client = s.pair()
        context = client.context
        if code is None:
            peer.sock.sendall(masked_frame("", CLOSE))
        else:
            peer.send_close(code, "because")
        assert peer.closed()[0] == code
        peer.close()
        assert context.wait(TIMEOUT)
    assert (len(s.logs.warnings()) == 1) is warned
    if warned:
        assert f"closed: {code or 1005}" in s.logs.warnings()[0]


def test_client_talks_with_other_libraries() -> None:
    """Text, binary, large and empty messages, and a close with code and reason."""

    def echo(ctx: Any, meta: Any) -> bool:
        ctx.write(ctx.payload)
        return False

    messages: list[str | bytes] = ["text ä", b"\x00\xff", "x" * 200_000, b"y" * 70_000, ""]
    ends: Items[tuple[int | None, str]] = Items()
    with serving(
        on_receive_message=echo,
        on_connection_close=lambda ctx, meta: ends.add((ctx.ws_conn.code, ctx.ws_conn.reason)),
    ) as s:
        with websocket(s.server.url) as one:
            for message in messages:
                one.send(message)
                assert one.recv(TIMEOUT) == message
            one.close(4001, "one")
        two = simple_websocket.Client(s.server.url)
        for message in messages[:4]:  # it cannot send an empty one
            two.send(message)
            assert two.receive(TIMEOUT) == message
        two.close(4002, "two")
        three = websocket_client.create_connection(s.server.url, timeout=TIMEOUT)
        for message in messages:
            if isinstance(message, str):
                three.send(message)
            else:
                three.send_binary(message)
            assert three.recv() == message
        three.close(4003, b"three")
        assert sorted(ends.wait(3), key=str) == [(4001, "one"), (4002, "two"), (4003, "three")]
        assert s.hub.statistics().ended_by == {"peer": 3}


def test_client_statistics_and_repr_show_state() -> None:
    with serving() as s:
        peer, client = s.pair(path="/ws")
        assert repr(client) == "<Client 1 open '/ws'>"
        hotline = s.hub.hotline()
        hotline.answer(client)
        client.write("x")
        peer.send("y")
        peer.send_close()
        context = client.context
        assert context.wait(TIMEOUT)
        peer.close()
    statistics = client.statistics()
    assert (statistics.connection_id, statistics.state) == (1, "peer")
    assert (statistics.received, statistics.written, statistics.waiting) == (1, 1, 0)
    assert (statistics.dropped, statistics.hotlines, statistics.closures_waiting) == (0, 0, 0)
    assert "127.0.0.1" in statistics.peer
    assert repr(client) == "<Client 1 peer '/ws'>"
    assert s.logs.at_least(logging.WARNING) == []


def test_client_wait_for_unknown_number_raises() -> None:
    with serving() as s:
        _, client = s.pair()
        number = client.write("x")
        assert client.wait_write_consumed(number, TIMEOUT)
        with pytest.raises(UsageError, match="expected the number of a message, 1 at most, got 2"):
            client.wait_write_consumed(number + 1, TIMEOUT)


def test_client_wait_write_consumed_ends_when_the_client_is_gone() -> None:
    with serving() as s:
        peer, client = s.pair(receive_buffer=65536)
        number = [client.write(b"\0" * 2**20) for _ in range(4)][-1]
        waiting = in_thread(lambda: client.wait_write_consumed(number, TIMEOUT))
        peer.reset()
        assert waiting()
        assert client.write("late") == number + 1
        assert client.is_write_consumed(number + 1)


def test_client_dir_offers_the_names_of_its_interface_only() -> None:
    """The client has methods for rooms and connections, too, that look like the program's."""
    names = {name for name in dir(IOContext) if not name.startswith("_")}
    with VirtualHub(HubSetting[Any, Any](dict)) as hub:
        client = hub.connect().ctx
        assert {name for name in dir(client) if not name.startswith("_")} == names | {"matcher"}
        assert hub.client(client.connection_id) is client
        assert hub.client(ClientID(99)) is None


def test_client_close_names_the_advice() -> None:
    with VirtualHub[Any, Any](HubSetting(dict)) as hub:
        client = hub.connect()
        with pytest.raises(WrongValue):
            client.ctx.close(CloseCode.STAY_AWAY, "kicked", retry=8)
        client.ctx.close(CloseCode.COME_BACK, "moving", retry=8)
        assert (client.close_code, client.close_reason) == (1012, "moving retry=8")
        assert repr(client.ctx.ws_conn.code) == "1012"


@pytest.mark.parametrize("readers", Readers)
def test_client_that_has_ended_is_not_kept(readers: Readers) -> None:
    """A storm of short connections does not fill the memory."""
    alive: weakref.WeakSet[IOContext] = weakref.WeakSet()

    def start(ctx: IOContext, meta: object) -> None:
        alive.add(ctx)

    with serving(readers=readers, on_connection_start=start) as s:
        for _ in range(100):
            peer, ctx = s.pair()
            peer.sock.close()
            assert ctx.context.wait(TIMEOUT)
        del ctx
        while s.server.statistics().connections:
            fence(s.hub)
        gc.collect()
        # The thread of the last ones may not have come to its end yet.
        assert len(alive) < 50
