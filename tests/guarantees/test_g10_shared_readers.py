"""G10: with shared readers, threads are as many as callbacks that block, and a few besides."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from hubthread import MatcherMap, PingPongPlan, Readers, Response, WebsocketPeriod
from tests.support import TIMEOUT, Items, Serving, connect, in_thread, raw_handshake, serving

FEW = 10
"""Threads of a hub that only waits: its own, listener, watchdog, leader, monitor, spares."""

BLOCK = b"\0" * 60_000
BACKLOG = 200
"""Blocks that no socket takes at once."""


@contextlib.contextmanager
def sharing(**fields: Any) -> Iterator[Serving]:
    fields.setdefault("on_receive_message", echo)
    with serving(readers=Readers.SHARED, **fields) as s:
        yield s


def echo(ctx: Any, meta: Any) -> bool:
    ctx.write(ctx.payload)
    return False


class Blocking:
    """A handler that blocks for the message ``block`` until it is released, and echoes others."""

    def __init__(self) -> None:
        self.inside: Items[int] = Items()
        self.release = threading.Event()

    def __call__(self, ctx: Any, meta: Any) -> bool:
        if ctx.payload == "block":
            self.inside.add(threading.get_ident())
            assert self.release.wait(TIMEOUT)
        ctx.write(ctx.payload)
        return False


def hub_threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name.startswith("hubthread-")]


def test_threads_come_down_after_a_burst_of_blocking_callbacks() -> None:
    handler = Blocking()
    with sharing(on_receive_message=handler) as s:
        pairs = s.pairs(30)
        for peer, _ in pairs:
            peer.send("block")
        blocked = set(handler.inside.wait(30))
        assert len(blocked) == 30
        left = [each for each in hub_threads() if each.ident in blocked]
        handler.release.set()
        for peer, _ in pairs:
            assert peer.message() == "block"
        ended = Items[None]()
        for thread in left:
            in_thread(lambda thread=thread: ended.add(thread.join()))  # type: ignore[misc]
        ended.wait(29)  # one of them may lead for ever
        assert len(hub_threads()) < FEW


def test_messages_of_a_client_wait_while_its_callback_blocks() -> None:
    """G2: the socket is read again only when the callback has returned."""
    handler = Blocking()
    with sharing(on_receive_message=handler) as s:
        (peer, _), (other, _) = s.pairs(2)
        peer.send("block")
        handler.inside.wait(1)
        peer.send("second", "third")
        other.send("other")
        assert other.message() == "other"
        assert len(handler.inside.now()) == 1
        handler.release.set()
        assert [peer.message() for _ in range(3)] == ["block", "second", "third"]


def test_replies_of_one_read_do_not_wait_for_a_callback_that_blocks() -> None:
    handler = Blocking()
    with sharing(on_receive_message=handler) as s:
        peer, _ = s.pair()
        peer.send("one", "two", "block")
        assert [peer.message(), peer.message()] == ["one", "two"]
        assert not handler.release.is_set()
        handler.release.set()
        assert peer.message() == "block"


def test_handler_that_blocked_is_handed_over_at_once_until_it_is_quick() -> None:
    matcher: MatcherMap[Any, str] = MatcherMap()
    release, inside = threading.Event(), Items[int]()

    @matcher.handle("slow")
    def slow(ctx: Any, meta: Any) -> None:
        inside.add(threading.get_ident())
        assert release.wait(TIMEOUT)
        ctx.write("done")

    with serving(readers=Readers.SHARED, receive_matcher=matcher) as s:
        pairs = s.pairs(20)
        habits = pairs[0][1].habits
        assert habits is not None
        assert id(slow) not in habits
        for peer, _ in pairs:
            peer.send('{"type": "slow"}')
        inside.wait(20)
        assert id(slow) in habits
        release.set()
        peer = pairs[0][0]
        for peer, _ in pairs:
            assert peer.message() == "done"
        for _ in range(1000):  # quick now, so it is forgotten
            peer.send('{"type": "slow"}')
            assert peer.message() == "done"
            if id(slow) not in habits:
                break
        assert id(slow) not in habits


def test_peer_that_lags_needs_no_writer_thread() -> None:
    with sharing(outbox_bytes=2**26) as s:
        peer, client = s.pair(receive_buffer=4096)
        for _ in range(BACKLOG):
            client.write(BLOCK)
        assert client.statistics().waiting_bytes > 0
        # Not their number: a busy machine may leave a reader behind.
        assert [each.name for each in hub_threads() if "writer" in each.name] == []
        for _ in range(BACKLOG):
            assert peer.message() == BLOCK
        assert client.wait_write_consumed(BACKLOG, TIMEOUT)


def test_peer_that_reads_nothing_is_stalled() -> None:
    with sharing(outbox_bytes=2**26, period=WebsocketPeriod(write_wait=0.2)) as s:
        _, client = s.pair(receive_buffer=4096)
        for _ in range(BACKLOG):
            client.write(BLOCK)
        assert client.context.wait(TIMEOUT)
        assert client.statistics().state == "stalled"


def test_silent_peer_is_pinged_and_cut() -> None:
    plan = PingPongPlan[Any](ping_period=0.1, ping_timeout=0.35)
    with sharing(period=WebsocketPeriod(ping_pong_plan=plan)) as s:
        peer, client = s.pair()
        assert peer.frame() == (9, b"")
        assert client.context.wait(TIMEOUT)
        assert client.statistics().state == "silent"


def test_page_for_a_slow_browser_holds_up_nobody() -> None:
    page = Response(200, b"x" * 2**23)
    with sharing(serve={"pages": {"/page": lambda request: page}}) as s:
        browser = connect(s.server, 4096)
        with browser:
            browser.sendall(b"GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert browser.recv(1) == b"H"
            peer, _ = s.pair()
            peer.send("x")
            assert peer.message() == "x"
            assert len(hub_threads()) < FEW
            size = 1
            while part := browser.recv(2**16):
                size += len(part)
            assert size > 2**23


def test_connections_open_while_a_handshake_hook_blocks() -> None:
    release, inside = threading.Event(), Items[int]()

    def shake(request: Any) -> dict[str, Any]:
        if request.path == "/slow":
            inside.add(1)
            assert release.wait(TIMEOUT)
        return {}

    with sharing(on_handshake=shake) as s:
        slow = [connect(s.server) for _ in range(20)]
        for sock in slow:
            sock.sendall(raw_handshake("/slow"))
        inside.wait(20)
        peer, _ = s.pair()
        peer.send("x")
        assert peer.message() == "x"
        release.set()
        for sock in slow:
            assert sock.recv(1000).startswith(b"HTTP/1.1 101")
            sock.close()
