"""Raw TCP peers as clients: framings, ends, policies, TLS."""

from __future__ import annotations

import contextlib
import logging
import threading
from typing import Any

import pytest

from hubthread import (
    ConnectionProtocols,
    ConnectionType,
    Framing,
    HandshakeRejected,
    MessageType,
    Request,
    SocketPeriod,
    WebsocketPeriod,
)
from hubthread.clients import raw
from tests.support import (
    TIMEOUT,
    Items,
    TcpPeer,
    connect,
    ended,
    fence,
    how_it_ended,
    in_thread,
    listen,
    serving,
    tcp_peer,
)

TCP = ConnectionProtocols.TCP


def echo(ctx: Any, meta: Any) -> bool:
    ctx.write(ctx.payload)
    return False


def test_tcp_line_is_message_in_both_directions() -> None:
    with serving(on_receive_message=echo) as s, tcp_peer(listen(s)) as peer:
        ctx = s.came()
        peer.send(b"hel")
        peer.send("lo\nwörld\r\nthird\n".encode())
        assert peer.lines(3) == ["hello", "wörld", "third"]
        assert ctx.write(b"bytes") == 4
        assert ctx.wait_write_consumed(4, TIMEOUT)
        assert peer.line() == "bytes"
        assert ctx.connection_type is ConnectionType.SOCKET
        assert ctx.handshake.method == "TCP"
        assert ctx.handshake.peer == peer.sock.getsockname()
        assert not ctx.handshake.headers
        statistics = ctx.statistics()
        assert (statistics.received, statistics.written, statistics.state) == (3, 4, "open")
        host, port = peer.sock.getsockname()
        assert repr(ctx) == f"<Client 1 open TCP {host}:{port}>"
        assert ctx in s.hub.clients()


@pytest.mark.parametrize(
    ("framing", "wire"),
    [
        (Framing.LENGTH_1, b"\x03one\x02\xff\x00"),
        (Framing.LENGTH_2, b"\x00\x03one\x00\x02\xff\x00"),
        (Framing.LENGTH_4, b"\x00\x00\x00\x03one\x00\x00\x00\x02\xff\x00"),
        (Framing.LENGTH_8, bytes(7) + b"\x03one" + bytes(7) + b"\x02\xff\x00"),
        (Framing.CHUNKS, b"one\xff\x00"),
    ],
)
def test_tcp_framing_echoes_bytes(framing: Framing, wire: bytes) -> None:
    period = SocketPeriod(framing=framing, write_message_type=MessageType.BINARY)
    got: Items[object] = Items()

    def note(ctx: Any, meta: Any) -> bool:
        got.add(ctx.payload)
        return echo(ctx, meta)

    fields: dict[str, Any] = {"on_receive_message": note, "socket_period": period}
    with serving(**fields) as s, tcp_peer(listen(s)) as peer:
        peer.send(wire)
        assert peer.take(len(wire)) == wire
        wanted = [wire] if framing is Framing.CHUNKS else [b"one", b"\xff\x00"]
        assert got.now() == wanted


def test_tcp_message_is_not_preprocessed() -> None:
    """``read_buffer_preprocessing`` is for WebSocket messages."""
    period = WebsocketPeriod[Any](read_buffer_preprocessing=str.strip)
    with serving(on_receive_message=echo, period=period) as s, tcp_peer(listen(s)) as peer:
        peer.send(b"  two blanks  \n")
        assert peer.line() == "  two blanks  "


@pytest.mark.parametrize(
    ("fields", "sent", "reason"),
    [
        ({}, b"x" * 1026, "a line of more than 1024 bytes"),
        ({}, b"x" * 1025 + b"\n", "a line of more than 1024 bytes"),
        ({}, b"\xff\n", "not UTF-8"),
        ({"framing": Framing.CHUNKS}, b"\xff", "not UTF-8"),
        ({"framing": Framing.LENGTH_2}, b"\x04\x01", "a message of 1025 bytes, more than 1024"),
    ],
)
def test_tcp_violation_closes_peer_with_warning(
    fields: dict[str, Any], sent: bytes, reason: str
) -> None:
    """The warning has the reason but nothing of the message; other peers go on."""
    with serving(on_receive_message=echo, socket_period=SocketPeriod(**fields)) as s:
        server = listen(s)
        with tcp_peer(server) as peer, tcp_peer(server) as other:
            s.came()
            s.came()
            peer.send(sent)
            assert peer.rest() == b""
            assert ended(s) == {"violation": 1}
            level, text = how_it_ended(s)
            assert level == logging.WARNING
            assert "violation TCP 127.0.0.1:" in text
            assert reason in text
            assert "xxx" not in text
            assert s.hub.statistics().limits_struck["message"] == ("more than" in reason)
            message = b"\x00\x02on" if "framing" in fields else b"on\n"
            if fields.get("framing") is Framing.CHUNKS:
                message = b"on"
            other.send(message)
            assert other.take(len(message)) == message


def test_tcp_silent_in_message_ends_peer() -> None:
    sent = threading.Event()
    fields: dict[str, Any] = {
        "on_handshake": lambda request: sent.wait(TIMEOUT),  # the time begins behind it
        "socket_period": SocketPeriod(pong_wait=0.05),
    }
    with serving(**fields) as s, tcp_peer(listen(s)) as peer:
        peer.send(b"half a mess")
        sent.set()
        assert peer.rest() == b""
        assert ended(s) == {"silent": 1}
        assert s.hub.statistics().limits_struck["silence"] == 1
        level, text = how_it_ended(s)
        assert level == logging.INFO
        assert "silent for 0.05 s in the middle of a message" in text
        assert "half" not in text


def test_tcp_end_in_message_is_loss() -> None:
    """Half a message reaches no handler."""
    got: Items[object] = Items()
    with serving(on_receive_message=lambda ctx, meta: got.add(ctx.payload)) as s:
        with tcp_peer(listen(s)) as peer:
            peer.send(b"transfer 1000")
            peer.half_close()
            assert peer.rest() == b""
            assert ended(s) == {"lost": 1}
            assert "the stream ended in the middle of a message" in how_it_ended(s)[1]
        assert got.now() == []


def test_tcp_reset_is_loss() -> None:
    closed: Items[Any] = Items()
    with serving(on_connection_close=lambda ctx, meta: closed.add(ctx)) as s:
        peer = TcpPeer(connect(listen(s)))
        ctx = s.came()
        peer.reset()
        assert closed.wait(1) == [ctx]
        assert ended(s) == {"lost": 1}
        level, text = how_it_ended(s)
        assert level == logging.INFO
        assert "the connection broke: " in text
        assert ctx.ws_conn.code == 1006
        assert not ctx.ws_conn.clean


def test_tcp_half_closed_peer_gets_answers() -> None:
    """The answer may be more than the system takes at once."""
    answer = b"y" * 20_000_000  # more than the system takes at once

    def reply(ctx: Any, meta: Any) -> bool:
        ctx.write(answer)
        return False

    with serving(on_receive_message=reply) as s, tcp_peer(listen(s), 65536) as peer:
        ctx = s.came()
        peer.send(b"go on\n")
        peer.half_close()
        assert ended(s) == {"peer": 1}
        assert peer.rest() == answer + b"\n"
        assert how_it_ended(s)[0] == logging.DEBUG
        assert (ctx.ws_conn.code, ctx.ws_conn.clean) == (1005, True)


def test_tcp_half_closed_peer_gets_earlier_pushes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub thread may send them after the end of the peer's half."""
    monkeypatch.setattr(raw, "FLUSH_TIME", TIMEOUT)
    busy = threading.Event()

    def say(ctx: Any, meta: Any) -> bool:
        ctx.hub.exec_async(lambda _: busy.wait(TIMEOUT))
        room.answer(ctx)
        room.push(ctx.payload)
        return False

    with serving(on_receive_message=say) as s, tcp_peer(listen(s)) as peer:
        room = s.hub.hotline()
        peer.send(b"hello\n")
        peer.half_close()
        ctx = s.came()
        assert ctx.context.wait(TIMEOUT)  # the peer has left the room
        assert ctx not in room
        busy.set()
        assert peer.rest() == b"hello\n"


def test_tcp_silent_peer_is_pinged_then_ended() -> None:
    """The ping is an empty line.  An empty line of the peer is a sign of life."""
    period = SocketPeriod(ping_period=0.2, pong_wait=2.0)
    fields: dict[str, Any] = {"on_receive_message": echo, "socket_period": period}
    with serving(**fields) as s, tcp_peer(listen(s)) as peer:
        s.came()
        for _ in range(12):  # longer than pong_wait
            assert peer.line() == ""
            peer.send(b"\n")
        peer.send(b"still here\n")
        assert next(line for line in iter(peer.line, None) if line) == "still here"
        assert set(peer.rest()) <= {0x0A}  # pings only
        assert ended(s) == {"silent": 1}
        assert "silent for 2 s" in how_it_ended(s)[1]
        assert "middle" not in how_it_ended(s)[1]


def test_tcp_ping_is_empty_message() -> None:
    """``Framing.CHUNKS`` has no empty message, so nothing is sent."""
    with serving() as s, tcp_peer(listen(s)) as peer:
        ctx = s.came()
        ctx.write_message_type(MessageType.PING, "anything")
        ctx.write_message_type(MessageType.TEXT, "text")
        ctx.write_message_type(MessageType.CLOSE, "enough")
        assert peer.end() == b"\ntext\n"
        assert ended(s) == {"server": 1}
    chunks = SocketPeriod(framing=Framing.CHUNKS)
    with serving(socket_period=chunks) as s, tcp_peer(listen(s)) as peer:
        ctx = s.came()
        ctx.write_message_type(MessageType.PING, "anything")
        ctx.close()
        assert peer.end() == b""


def test_tcp_message_longer_than_prefix_is_dropped() -> None:
    """Only for that peer, and counted; other messages arrive."""
    period = SocketPeriod(framing=Framing.LENGTH_1)
    with serving(socket_period=period) as s, tcp_peer(listen(s)) as peer:
        ctx = s.came()
        browser, web = s.pair()
        room = s.hub.hotline()
        room.answer(ctx)
        room.answer(web)
        for text in ("first", "x" * 256, "last"):
            room.push(text)
        fence(s.hub)
        number = ctx.write("y" * 300)
        assert browser.messages(3) == ["first", "x" * 256, "last"]
        assert peer.take(11) == b"\x05first\x04last"
        assert ctx.is_write_consumed(number)
        assert ctx.statistics().dropped == 2


def test_tcp_hub_closes_ends_stream_after_messages() -> None:
    with contextlib.ExitStack() as stack:
        with serving() as s:
            server = listen(s)
            peer = stack.enter_context(tcp_peer(server))
            ctx = s.came()
            ctx.write("goodbye")
            rest = in_thread(peer.end)
        assert rest() == b"goodbye\n"
        assert (ctx.ws_conn.code, ctx.ws_conn.reason) == (1001, "the server is going away")
        assert s.hub.statistics().threads == 0
        with pytest.raises(OSError, match="refused"):
            connect(server)


def test_tcp_peer_that_stays_does_not_delay_close() -> None:
    """A peer that never closes its half still gets what was written."""
    with contextlib.ExitStack() as stack:
        with serving(socket_period=SocketPeriod(write_wait=600.0), close_timeout=600.0) as s:
            peer = stack.enter_context(tcp_peer(listen(s)))
            s.came().write("goodbye")
        assert s.hub.statistics().ended_by == {"server": 1}
        assert peer.rest() == b"goodbye\n"


def test_tcp_handshake_hook_decides_about_peer() -> None:
    """It makes the meta, or refuses the peer, which gets nothing."""
    seen: Items[Request] = Items()

    def shake(request: Request) -> str:
        seen.add(request)
        if len(seen.now()) > 1:
            raise HandshakeRejected(403, "One is enough.")
        return f"by {request.method}"

    def greet(ctx: Any, meta: str) -> None:
        ctx.write(meta)

    with serving(on_handshake=shake, on_connection_start=greet) as s:
        server = listen(s)
        with tcp_peer(server) as peer, tcp_peer(server) as other:
            greetings = {peer.take(7) or other.take(7)}
            assert greetings == {b"by TCP\n"}
            assert s.hub.statistics().clients_total == 1
            seen.wait(2)
        s.logs.wait("request refused: 403 One is enough.")
        assert s.hub.statistics().handshakes_refused == 1
        assert s.hub.statistics().clients_total == 1


def test_tcp_start_callback_raises_ends_peer() -> None:

    def fail(ctx: Any, meta: Any) -> None:
        raise RuntimeError("no start today")

    with serving(on_connection_start=fail) as s, tcp_peer(listen(s)) as peer:
        assert peer.end() == b""
        s.logs.wait("no start today")
        assert ended(s) == {"server": 1}
