"""G8: whatever bytes arrive: the right code or status, no effect on others, bounded memory."""

from __future__ import annotations

import json
import logging
import random
import socket
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import pytest

from hubthread import (
    HandshakeRejected,
    MatcherMap,
    Overflow,
    Upgrader,
    WebsocketPeriod,
)
from tests.support import (
    BINARY,
    CLOSE,
    PING,
    TEXT,
    TIMEOUT,
    Items,
    RawPeer,
    Serving,
    ask,
    connect,
    fence,
    in_thread,
    masked_frame,
    raw_handshake,
    read_to_end,
    serving,
    status_of,
)

ROOT = Path(__file__).parents[2]


GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n"


UPGRADE = GET + b"Upgrade: websocket\r\nConnection: Upgrade\r\n"


@pytest.mark.parametrize(
    ("request_", "status", "said"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, b"looks like TLS"),
        (b"hello\r\n\r\n", 400, b"not an HTTP request"),
        (b"\x00" * 100, 400, b"not an HTTP request"),
        (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400, b"Host"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, b"not valid HTTP"),
        (GET + b"X: " + b"a" * 20_000 + b"\r\n\r\n", 431, b"longer than 16384 bytes"),
        (GET + b"X-Y: 1\r\n" * 3000, 431, b"longer than 16384 bytes"),
        (GET + b"\r\n", 426, b"Upgrade"),
        (UPGRADE + b"Sec-WebSocket-Version: 8\r\n\r\n", 426, b"Sec-WebSocket-Version: 13"),
        (UPGRADE + b"Sec-WebSocket-Version: 13\r\n\r\n", 400, b"Sec-WebSocket-Key"),
        (
            UPGRADE + b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: short\r\n\r\n",
            400,
            b"Sec-WebSocket-Key",
        ),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nabcde", 405, b"GET"),
        (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505, b"HTTP/1.1"),
        (raw_handshake("/", "Origin: http://evil.example"), 403, b"evil.example"),
    ],
)
def test_request_malformed_or_foreign_gets_its_status(
    request_: bytes, status: int, said: bytes
) -> None:
    """It is counted.  A foreign origin is logged, because the author of the page sees no more than
    a status, and so is another protocol, because a server or proxy has a wrong setting."""
    refused: Items[tuple[Any, int, str]] = Items()
    with serving(upgrader=Upgrader(error=lambda *told: refused.add(told))) as s:
        answer = ask(s.server, request_)
        assert status_of(answer) == status
        assert said in answer
        assert b"Connection: close" in answer
        (told,) = refused.wait(1)
        assert told[1] == status
        assert s.hub.statistics().handshakes_refused == 1
        assert s.hub.statistics().limits_struck["head"] == (status == 431)
        causes = ["evil.example" in each or "looks like TLS" in each for each in s.logs.warnings()]
        assert causes == [True] * (status == 403 or b"TLS" in said)
        assert len([each for each in s.logs.at_least(logging.DEBUG) if "refused" in each]) == 1


def test_request_incomplete_after_handshake_timeout_gets_408() -> None:
    """The part of the request arrives in one piece or byte by byte."""
    with serving(upgrader=Upgrader(handshake_timeout=0.2)) as s:
        assert status_of(ask(s.server, b"")) == 408
        assert status_of(ask(s.server, raw_handshake()[:-1])) == 408
        assert s.hub.statistics().handshakes_refused == 2
        assert s.hub.statistics().limits_struck["handshake_time"] == 2
        assert "not complete in 0.2 s" in s.logs.wait("request refused")
        assert s.logs.warnings() == []


@pytest.mark.parametrize(
    ("error", "logged"),
    [
        (LookupError("the secret"), "LookupError: the secret"),
        (HandshakeRejected(401, "no", (("X", "a\r\nb"),)), "cannot send the refusal"),
        (HandshakeRejected(401, "\ud800"), "cannot send the refusal"),
    ],
)
def test_request_with_a_failing_hook_gets_500_and_no_reason(error: Exception, logged: str) -> None:
    """The log has the traceback, and the server goes on."""
    broken = [True]

    def shake(request: Any) -> str:
        if broken:
            raise error
        return "meta"

    with serving(on_handshake=shake) as s:
        answer = ask(s.server, raw_handshake())
        assert status_of(answer) == 500
        assert b"secret" not in answer
        assert b"Traceback" not in answer
        assert "Traceback" in s.logs.wait(logged)
        broken.clear()
        with s.peer():
            assert s.came().meta == "meta"


def frames_of(payload: bytes, count: int) -> bytes:
    middle = masked_frame(payload, 0, fin=False) * (count - 2)
    return masked_frame(payload, TEXT, fin=False) + middle + masked_frame(payload, 0)


SMALL = WebsocketPeriod[Any](message_buffer_size=1000, max_fragments=10)


@pytest.mark.parametrize(
    ("bytes_", "code"),
    [
        (masked_frame(b"\xff\xfe"), 1007),
        (masked_frame(b"\xce", fin=False) + masked_frame(b"\xff", 0), 1007),
        (masked_frame("x", rsv=4), 1002),
        (masked_frame("x", rsv=1), 1002),
        (masked_frame("x", 3), 1002),
        (masked_frame("x", 11), 1002),
        (b"\x81\x01x", 1002),
        (masked_frame(b"x" * 126, PING), 1002),
        (masked_frame(b"x", PING, fin=False), 1002),
        (masked_frame("x", 0), 1002),
        (masked_frame("x", fin=False) + masked_frame("y"), 1002),
        (masked_frame(b"\x03", CLOSE), 1002),
        (masked_frame(b"\x03\xe8\xff", CLOSE), 1007),
        (masked_frame(b"\x03\xed", CLOSE), 1002),
        (masked_frame("x" * 1001), 1009),
        (masked_frame(b"x" * 1001, BINARY), 1009),
        (masked_frame("x" * 100_000)[:20], 1009),
        (frames_of(b"x" * 300, 5), 1009),
        (frames_of(b"", 11), 1009),
        (b"\x82\xff" + b"\xff" * 8 + b"mask", 1009),
    ],
)
def test_frames_breaking_protocol_or_limit_get_their_close_code(bytes_: bytes, code: int) -> None:
    """The violation is counted, and the neighbour goes on talking.  No line has a payload."""

    def echo(ctx: Any, meta: Any) -> bool:
        ctx.write(ctx.payload)
        return False

    with serving(period=SMALL, on_receive_message=echo) as s:
        (bad, client), (good, _) = s.pairs(2)
        good.send("before")
        bad.sock.sendall(bytes_)
        assert bad.closed()[0] == code
        bad.close()
        good.send("after")
        assert good.messages(2) == ["before", "after"]
        assert client.context.wait(TIMEOUT)
        assert s.hub.statistics().ended_by == {"violation": 1}
        struck = {name for name, count in s.hub.statistics().limits_struck.items() if count}
        limit = "fragments" if bytes_ == frames_of(b"", 11) else "message"
        assert struck == ({limit} if code == 1009 else set())
        assert "xxx" not in s.logs.wait(f"closed: {code}")


def test_message_inflated_over_the_limit_gets_1009_and_costs_no_memory() -> None:
    """A bomb of 64 MiB in 64 KiB is closed before it is inflated."""
    squeezer = zlib.compressobj(wbits=-15)
    bomb = squeezer.compress(b"\0" * 2**26) + squeezer.flush(zlib.Z_SYNC_FLUSH)
    period = WebsocketPeriod[Any](upgrader=Upgrader(compression=True))
    with serving(period=period) as s:
        peer = RawPeer(connect(s.server), "/", "Sec-WebSocket-Extensions: permessage-deflate")
        assert b"permessage-deflate" in peer.head
        tracemalloc.start()
        try:
            peer.sock.sendall(masked_frame(bomb[:-4], BINARY, rsv=4))
            assert peer.closed()[0] == 1009
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        peer.close()
        assert peak < 8 * 2**20


def test_message_without_a_handler_keeps_the_connection() -> None:
    """Unknown header, wrong payload, raising handler."""
    matcher = MatcherMap[Any, str]()
    told: Items[str] = Items()

    @matcher.handle("add")
    def add(ctx: Any, meta: Any, req: dict[str, int]) -> dict[str, int]:
        return {"sum": req["a"] // req["b"]}

    with serving(
        receive_matcher=matcher,
        receive_matcher_error=lambda ctx, meta, error: told.add(type(error).__name__),
    ) as s:
        peer, _ = s.pair()
        peer.send("{", "[]", '{"type": "no"}', '{"type": "add", "a": "x"}', b"\xff\x00")
        peer.send('{"type": "add", "a": 1, "b": 0}', '{"type": "add", "a": 6, "b": 3}')
        assert json.loads(peer.message()) == {"type": "add", "sum": 2}
        peer.close()
    names = told.now()
    assert len(names) == 6
    assert names[5] == "ZeroDivisionError"
    assert set(names[:5]) <= {"PayloadError", "HandleNotFind"}
    assert names[2] == "HandleNotFind"


def test_peer_writes_no_lines_of_its_own_into_the_log() -> None:
    """The log quotes the path and the close reason."""
    with serving() as s:
        peer, client = s.pair(path="/%0aERROR%20fake")
        assert "\n" not in repr(client)
        assert repr(client) == r"<Client 1 open '/\nERROR fake'>"
        peer.send_close(4000, "bye\nERROR fake")
        assert "\n" not in s.logs.wait("closed: 4000")
        peer.close()
        ask(s.server, b"GET /%0aERROR%20fake HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert all("\n" not in record for record in s.logs.at_least(logging.DEBUG))


def test_pings_of_a_peer_that_does_not_read_cost_no_memory(tmp_path: Path) -> None:
    """One pong waits, not all of them."""
    # Not TCP: Linux may drop the end of what the peer does not read, and then every
    # acknowledgement behind it, so that the peer cannot send any more.
    serve = {"unix_path": str(tmp_path / "socket")}
    with serving(overflow=Overflow.CLOSE, outbox_bytes=2**16, serve=serve) as s:
        peer, client = s.pair()
        peer.sock.sendall(masked_frame(b"x" * 125, PING) * 30_000)
        assert client.statistics().waiting_bytes < 2**16
        assert client.statistics().state == "open"


@pytest.mark.load
def test_bytes_at_random_hurt_nobody_else() -> None:
    """They arrive before and after the handshake, whole and in pieces."""
    dice = random.Random(5)

    def echo(ctx: Any, meta: Any) -> bool:
        ctx.write(ctx.payload)
        return False

    def noise(s: Serving) -> None:
        for round_ in range(100):
            data = dice.randbytes(dice.randrange(1, 400))
            if round_ % 2:
                data = masked_frame(data, dice.randrange(16), rsv=dice.randrange(2)) + data
            with connect(s.server) as sock:
                sock.sendall((raw_handshake() if round_ % 4 < 3 else b"") + data)
                sock.shutdown(socket.SHUT_WR)
                read_to_end(sock)

    with serving(on_receive_message=echo) as s:
        good, _ = s.pair()
        noises = in_thread(lambda: noise(s))
        for number in range(300):
            good.send(str(number))
            assert good.message() == str(number)
        noises()
        fence(s.hub)
        good.close()
    assert [each for each in s.logs.warnings() if "closed: " not in each] == []
