"""G7: stop accepting, tell clients 1001, drain up to the deadline, force, join; no leaks."""

from __future__ import annotations

import logging
import os
import re
import socket
import threading
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as websocket

from hubthread import (
    HotlineFrameOption,
    HubClosed,
    HubSetting,
    Readers,
    Response,
    SettingError,
    UsageError,
    WebsocketPeriod,
)
from hubthread.testing import VirtualClient, VirtualHub
from tests.support import (
    TIMEOUT,
    AnyClient,
    Items,
    RawPeer,
    Serving,
    connect,
    in_thread,
    raw_handshake,
    read_to_end,
    serving,
)

PATIENT = WebsocketPeriod[Any](write_wait=120.0, close_timeout=120.0)
"""No client is cut for being slow: the close alone decides."""


def ended_late(s: Serving) -> list[str]:
    """Wait for all threads of a closed hub; return what it warned of, but that they were late."""
    assert s.hub._core.threads.join(TIMEOUT) == []
    assert s.hub.join(TIMEOUT)
    return [line for line in s.logs.warnings() if "still runs; it is doing" not in line]


def test_close_sends_waiting_messages_then_1001() -> None:
    """Both sides then end in order."""
    with serving(period=PATIENT) as s:
        peer, client = s.pair()
        with websocket(s.server.url) as other:
            s.came()
            for number in range(100):
                s.hub.broadcast(str(number))
            closing = in_thread(lambda: s.hub.close(TIMEOUT))
            assert peer.rest() == (
                [str(number) for number in range(100)],
                1001,
                "the server is going away",
            )
            peer.send_close(1001)
            peer.close()
            assert [other.recv(TIMEOUT) for _ in range(100)] == [str(n) for n in range(100)]
            with pytest.raises(ConnectionClosed) as caught:
                other.recv(TIMEOUT)
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 1001
            closing()
        assert client.ws_conn.clean
        assert s.hub.statistics().ended_by == {"server": 2}
        assert s.hub.statistics().state == "closed"


@pytest.mark.parametrize("readers", Readers)
def test_close_reader_of_a_large_page_gets_all_of_it(readers: Readers) -> None:
    """It goes on to read while the hub waits for clients: progress counts."""
    body = bytes(6_000_000)  # more than the system buffers
    pages = {"/large": lambda request: Response(200, body)}
    with serving(readers=readers, serve={"pages": pages}) as s:
        peer, _ = s.pair()
        with connect(s.server, receive_buffer=64 * 1024) as reader:
            reader.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert reader.recv(1) == b"H"
            closing = in_thread(lambda: s.hub.close(TIMEOUT))
            assert peer.rest() == ([], 1001, "the server is going away")
            peer.send_close(1001)
            peer.close()
            _, _, got = read_to_end(reader, may_reset=False).partition(b"\r\n\r\n")
            assert got == body
        closing()


def test_close_stops_accepting() -> None:
    with serving() as s:
        s.hub.close()
        with pytest.raises(ConnectionRefusedError):
            connect(s.server)
        with pytest.raises(HubClosed):
            s.hub.serve()


def test_close_cuts_what_is_left_at_the_deadline() -> None:
    """A client that reads nothing, and one that does not answer the Close.  No thread is left."""
    with serving(outbox_bytes=2**26, period=PATIENT) as s:
        _, stalled = s.pair(receive_buffer=65536)
        mute, _ = s.pair()
        for _ in range(32):
            stalled.write(b"\0" * 2**20)
        s.hub.close(3.0)
        assert mute.closed() == (1001, "the server is going away")
        assert ended_late(s) == []
        assert s.hub.statistics().clients == 0


def test_close_waits_for_wait_done() -> None:
    """The clients are still there meanwhile."""
    with serving() as s:
        peer, _ = s.pair()
        s.hub.wait_add(2)
        begun = threading.Event()
        s.hub._core.servers.add(
            SimpleNamespace(_close=lambda timeout: begun.set())
        )  # closed first of all
        closing = in_thread(lambda: s.hub.close(TIMEOUT))
        assert begun.wait(TIMEOUT)
        s.hub.wait_done()
        s.hub.broadcast("last words")
        assert peer.message() == "last words"
        s.hub.wait_done()
        assert peer.closed()[0] == 1001
        peer.close()
        closing()
        with pytest.raises(UsageError, match="wait_add"):
            s.hub.wait_done()
        with pytest.raises(SettingError, match="count"):
            s.hub.wait_add(0)


def test_close_called_again_waits_for_the_first() -> None:
    with serving() as s:
        s.pairs(3)
        closings = [in_thread(lambda: s.hub.close(TIMEOUT)) for _ in range(4)]
        s.close_peers()
        for closing in closings:
            closing()
            assert s.hub.statistics().state == "closed"
        s.hub.close()
        assert s.hub.join(0)


def test_close_in_a_handler_returns_at_once() -> None:
    returned = threading.Event()

    def receive(ctx: Any, meta: Any) -> bool:
        ctx.hub.close()
        returned.set()
        return False

    with serving(on_receive_message=receive) as s:
        peer, _ = s.pair()
        peer.send("close")
        assert returned.wait(TIMEOUT)
        assert peer.closed()[0] == 1001
        peer.close()
        assert s.hub.join(TIMEOUT)


def test_close_in_a_closure_returns_at_once() -> None:
    """The closure runs on the hub thread, or is a client's closure on another thread."""
    for on_client in (False, True):
        with serving() as s:
            peer, client = s.pair()
            if on_client:
                client.exec_sync(s.hub.close)
            else:
                s.hub.exec_sync(lambda dhub: dhub.hub.close())
            assert peer.closed()[0] == 1001
            peer.close()
            assert s.hub.join(TIMEOUT)
            assert s.hub.statistics().threads == 0


def test_close_names_a_callback_that_does_not_end() -> None:
    """One line for all callbacks of its kind, with a stack, and ``close`` returns."""
    inside, release = Items[int](), threading.Event()

    def stubborn(ctx: Any, meta: Any) -> bool:
        inside.add(1)
        release.wait(TIMEOUT)
        return False

    with serving(on_receive_message=stubborn) as s:
        for peer, _ in s.pairs(3):
            peer.send("x")
        inside.wait(3)
        s.hub.close(0.5)
        s.logs.wait("in stubborn")  # on a busy machine close returns before it is logged
        (record,) = [each for each in s.logs.warnings() if "in stubborn" in each]
        others = re.search(r"and (\d+) others of its kind still runs", record)
        assert others is not None
        assert int(others[1]) >= 2  # there other threads may not have ended in time, too
        release.set()


def test_close_forgets_no_client_that_arrives_meanwhile() -> None:
    """Each start callback has its close callback, and each peer its end."""
    for _ in range(15):
        calls: Items[tuple[str, int]] = Items()
        with serving(
            on_connection_start=lambda ctx, _: calls.add(("start", ctx.connection_id)),  # noqa: B023
            on_connection_close=lambda ctx, _: calls.add(("close", ctx.connection_id)),  # noqa: B023
        ) as s:
            ends: Items[str] = Items()
            going = threading.Barrier(5)

            def storm(going: threading.Barrier, ends: Items[str], server: Any) -> None:
                going.wait(TIMEOUT)
                while True:
                    try:
                        sock = connect(server)
                    except OSError:
                        return  # refused: the listener has gone
                    try:
                        with RawPeer(sock) as peer:
                            ends.add(str(peer.closed()[0]))
                    except (OSError, EOFError):
                        ends.add("cut")  # in its handshake
                    except AssertionError as refused:  # its request was just in time for that
                        ends.add("503" if "HTTP/1.1 503 " in str(refused) else str(refused))

            storms = [in_thread(lambda: storm(going, ends, s.server)) for _ in range(4)]  # noqa: B023
            going.wait(TIMEOUT)
            s.came()
            s.hub.close(TIMEOUT)
            for wait in storms:
                wait()
            assert s.hub.statistics().threads == 0
            assert set(ends.now()) <= {"1001", "503", "cut", "None"}
        counted = Counter(calls.now())
        assert set(counted.values()) == {1}
        starts = {who for what, who in counted if what == "start"}
        assert starts == {who for what, who in counted if what == "close"}


def crowd(s: Serving, count: int) -> list[tuple[socket.socket, AnyClient]]:
    """Connected clients that have read their handshake's answer, and their other ends."""
    socks = []
    for _ in range(count):
        socks.append(connect(s.server))
        socks[-1].sendall(raw_handshake())
    clients = {client.handshake.peer: client for client in (s.came() for _ in range(count))}
    pairs = []
    for sock in socks:
        assert sock.recv(1000).startswith(b"HTTP/1.1 101")
        pairs.append((sock, clients[sock.getsockname()]))
    return pairs


@pytest.mark.load
@pytest.mark.usefixtures("many_descriptors")
def test_clients_gone_leave_no_thread_and_no_descriptor() -> None:
    """A thousand idle clients have a thread each, and no other thread."""
    with serving(readers=Readers.OWN) as s:
        threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))
        pairs = crowd(s, 1000)
        assert s.hub.statistics().clients == 1000
        assert threading.active_count() == threads + 1000
        assert len(os.listdir("/proc/self/fd")) == descriptors + 2000
        contexts = [client.context for _, client in pairs]
        for sock, _ in pairs:
            sock.close()
        for context in contexts:
            assert context.wait(TIMEOUT)
        readers = [each for each in threading.enumerate() if each.name.endswith("-reader")]
        for reader in readers:
            reader.join(TIMEOUT)
        assert threading.active_count() == threads
        assert len(os.listdir("/proc/self/fd")) == descriptors
        assert s.hub.statistics().clients == 0
        assert s.server.statistics().connections == 0


@pytest.mark.load
@pytest.mark.usefixtures("many_descriptors")
def test_close_with_a_thousand_clients_leaves_nothing() -> None:
    """Some have stopped reading; the others get 1001."""
    with serving(outbox_bytes=2**26, period=PATIENT) as s:
        pairs = crowd(s, 1000)
        for _, client in pairs[:20]:
            for _ in range(10):
                client.write(b"\0" * 2**20)
        s.hub.close(8.0)
        assert ended_late(s) == []
        assert s.hub.statistics().threads == 0
        assert s.hub.statistics().clients == 0
        assert s.hub.statistics().ended_by == {"server": 1000}
        for sock, _ in pairs[20:]:
            wire = sock.recv(100)
            assert (wire[:1], wire[2:4]) == (b"\x88", b"\x03\xe9")
        for sock, _ in pairs:
            sock.close()


class _Stuck(logging.Handler):
    """A log handler whose receiver is down."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.released = threading.Event(), threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.entered.set()
        self.released.wait(4 * TIMEOUT)  # the test's own waits fail first


def test_close_while_a_log_handler_blocks_ends() -> None:
    logger = logging.getLogger("tests.stuck")
    stuck = _Stuck()
    logger.addHandler(stuck)
    logger.propagate = False
    try:
        with serving(logger=logger, serve={"max_connections": 1}) as s:
            s.pair()
            with connect(s.server) as sock:
                sock.sendall(raw_handshake())  # one too many: its reader logs it
                assert stuck.entered.wait(TIMEOUT)
                closing = in_thread(lambda: s.hub.close(1.0))
                closing()  # it ends, although the handler does not
                assert s.hub.join(TIMEOUT)
                assert not stuck.released.is_set()
    finally:
        stuck.released.set()
        logger.removeHandler(stuck)


def test_close_while_a_context_callback_blocks_ends() -> None:
    released = threading.Event()

    def block(reason: str) -> None:
        released.wait(TIMEOUT)

    with serving() as s:
        s.hub.context.add_callback(block)
        in_thread(lambda: s.hub.close(0.5))()
        assert s.hub.state == "closing"
        released.set()
        assert s.hub.join(TIMEOUT)


def test_close_in_a_callback_of_the_closing_itself_returns_at_once() -> None:
    with serving() as s:
        s.hub.context.add_callback(lambda reason: s.hub.close(1e6))
        s.hub.close(TIMEOUT)
        assert s.hub.state == "closed"


def test_close_second_caller_returns_at_its_own_deadline() -> None:
    with serving() as s:
        s.hub.wait_add()
        first = in_thread(lambda: s.hub.close(TIMEOUT))
        while s.hub.state == "running":
            pass
        in_thread(lambda: s.hub.close(0.01))()
        assert s.hub.state == "closing"
        s.hub.wait_done()
        first()
        assert s.hub.state == "closed"


def _slow_reader(hub: VirtualHub[Any, Any]) -> VirtualClient:
    """Return a client that reads for 10 s what waits for it."""
    client = hub.connect(bytes_per_second=100_000)
    for number in range(10):
        client.ctx.write(bytes([number]) * 100_000)
    return client


def _setting(**fields: Any) -> HubSetting[Any, Any]:
    period = WebsocketPeriod[Any](close_timeout=1.0)
    return HubSetting(dict, websocket_period=period, **fields)


def test_close_client_that_reads_slowly_gets_all_that_waits() -> None:
    """``close_timeout`` counts the time without progress only."""
    with VirtualHub(_setting()) as hub:
        client = _slow_reader(hub)
        hub.close(timeout=60)
        assert len(client.messages()) == 10
        assert client.close_code == 1001
        assert client.ctx.ws_conn.clean


def test_close_slow_reader_is_cut_near_the_deadline_of_the_hub() -> None:
    with VirtualHub(_setting()) as hub:
        client = _slow_reader(hub)
        before = hub.clock.now()
        hub.close(timeout=4)
        assert hub.clock.now() - before <= 4
        assert 0 < len(client.messages()) < 10


def test_client_close_slow_reader_gets_all_that_waits() -> None:
    codes: list[int | None] = []
    closed = lambda ctx, meta: codes.append(ctx.ws_conn.code)  # noqa: E731
    with VirtualHub(_setting(on_connection_close=closed)) as hub:
        client = _slow_reader(hub)
        client.ctx.close(1000, "that was all")
        hub.advance(30)
        assert len(client.messages()) == 10
        assert (client.close_code, codes) == (1000, [1000])


def test_client_close_peer_that_reads_nothing_is_cut_with_1006() -> None:
    """The close callback does not claim a Close that was never sent."""
    codes: list[int | None] = []
    closed = lambda ctx, meta: codes.append(ctx.ws_conn.code)  # noqa: E731
    with VirtualHub(_setting(on_connection_close=closed)) as hub:
        client = hub.connect()
        client.stall()
        for _ in range(5):
            client.ctx.write(b"\0" * 1_000_000)
        client.ctx.close(1000, "that was all")
        hub.advance(2)
        assert codes == [1006]
        assert not client.ctx.ws_conn.clean


@pytest.mark.parametrize("threads", ["virtual", "shared", "own"])
def test_close_ticking_room_says_its_last_word_before_1001(threads: str) -> None:
    option = HotlineFrameOption[Any](
        dict, on_close=lambda frame, obj: frame.push("3:2"), own_thread=threads == "own"
    )
    if threads == "virtual":
        with VirtualHub(HubSetting[Any, Any](dict)) as hub:
            client = hub.connect()
            option.run(hub.hotline()).answer(client.ctx)
        assert client.messages() == ["3:2"]
        assert client.close_code == 1001
        return
    with serving() as s:
        peer, ctx = s.pair()
        option.run(s.hub.hotline()).answer(ctx)
        closing = in_thread(s.hub.close)
        assert peer.rest() == (["3:2"], 1001, "the server is going away")
        peer.close()
        closing()


def test_close_last_word_is_said_once_and_closures_still_run() -> None:
    ends: list[str] = []
    setting = HubSetting[Any, Any](
        dict,
        on_connection_close=lambda ctx, meta: room.exec_async(
            lambda frame, obj: ends.append("closure")
        ),
    )
    hub: VirtualHub[Any, Any]
    with VirtualHub(setting) as hub:
        room = HotlineFrameOption[Any](
            dict, on_close=lambda frame, obj: ends.append("on_close"), hz=10, logic=lambda *_: None
        ).run(hub.hotline())
        room.answer(hub.connect().ctx)
        gate = room.await_inputs(room.members, 60, None)
    assert ends == ["on_close", "closure"]
    assert not gate.is_complete
    assert hub.errors == []
