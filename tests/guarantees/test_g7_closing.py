"""G7: stop accepting, tell clients 1001, drain up to the deadline, force, join; no leaks."""

from __future__ import annotations

import threading
from collections import Counter
from time import monotonic
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as websocket

from hubthread import (
    Hub,
    HubClosed,
    HubSetting,
    Server,
    SettingError,
    UsageError,
    WebsocketPeriod,
)
from tests.support import (
    TIMEOUT,
    Items,
    Logs,
    RawPeer,
    connect,
    fence,
    in_thread,
    raw_handshake,
    serving,
)


def test_clients_are_told_1001_after_what_waits_for_them() -> None:
    """Messages written before the close arrive, then the Close, and both sides are clean."""
    with serving() as s:
        peer, client = s.pair()
        with websocket(s.server.url) as other:
            s.came()
            for number in range(100):
                s.hub.broadcast(str(number))
            closing = in_thread(s.hub.close)
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


def test_nobody_new_is_accepted() -> None:
    """From the close on, the port refuses, and the hub opens no listener."""
    with serving() as s:
        s.hub.close()
        with pytest.raises(ConnectionRefusedError):
            connect(s.server)
        with pytest.raises(HubClosed):
            s.hub.serve()


def test_what_is_left_at_the_deadline_is_cut() -> None:
    """A client that reads nothing, and one that does not answer the Close: cut in time."""
    with serving(
        outbox_bytes=2**26, period=WebsocketPeriod(write_wait=120.0, close_timeout=120.0)
    ) as s:
        _, stalled = s.pair(receive_buffer=65536)
        mute, _ = s.pair()
        for _ in range(32):
            stalled.write(b"\0" * 2**20)
        start = monotonic()
        s.hub.close(3.0)
        took = monotonic() - start
        assert 1.5 < took < 3.0 + 2.0  # room for a loaded machine
        assert mute.closed() == (1001, "the server is going away")
        assert s.hub.statistics().threads == 0
        assert s.hub.statistics().clients == 0
    assert s.logs.warnings() == []


def test_close_waits_for_wait_done() -> None:
    """Work that was announced with wait_add is finished while everybody is still there."""
    with serving() as s:
        peer, _ = s.pair()
        s.hub.wait_add(2)
        closing = in_thread(s.hub.close)
        while s.hub.statistics().state == "running":
            fence(s.hub)
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


def test_a_wait_done_that_never_comes_is_named() -> None:
    """Not the hub's thread, for which no time is left: that is idle."""
    with serving() as s:
        ran = threading.Event()
        s.hub.wait_add(3)
        s.hub.wait_done()
        s.hub.exec_async(lambda _: ran.set())
        s.hub.close(0.2)
        assert ran.is_set()
        (error,) = s.logs.warnings()
        assert "2 calls of wait_done are missing" in error


def test_a_second_close_waits_for_the_first() -> None:
    """Closing is idempotent, from any number of threads, and after it everything is over."""
    with serving() as s:
        s.pairs(3)
        closings = [in_thread(lambda: s.hub.close(5.0)) for _ in range(4)]
        s.close_peers()
        for closing in closings:
            closing()
            assert s.hub.statistics().state == "closed"
        s.hub.close()
        assert s.hub.join(0)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), "1", None])
def test_a_deadline_must_be_a_number(timeout: Any) -> None:
    """What is no number of seconds is refused, and nothing is closed."""
    with Hub(HubSetting[Any, Any](dict)) as hub:
        with pytest.raises(SettingError, match="timeout"):
            hub.close(timeout)
        assert hub.statistics().state == "running"


def test_close_from_a_handler_returns_at_once() -> None:
    """A client's callback can close the hub: it would otherwise wait for itself."""
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


def test_close_from_a_closure_returns_at_once() -> None:
    """So can a closure on the hub thread, and one of a client that a foreign thread runs."""
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


def test_close_from_a_closure_of_run_returns_at_once() -> None:
    """Also where the user's own thread runs the hub."""
    hub = Hub(HubSetting[Any, Any](dict))
    ran = []

    def close(_: Any) -> None:
        hub.close()
        ran.append("closed")

    hub.exec_async(close)
    hub.exec_async(lambda _: ran.append("the next"))
    in_thread(hub.run)()
    assert ran == ["closed", "the next"]
    assert hub.join(TIMEOUT)


def test_close_waits_for_run_to_end() -> None:
    """After close nothing of the hub runs any more, on whatever thread it ran."""
    hub = Hub(HubSetting[Any, Any](dict))
    inside, release, ran = threading.Event(), threading.Event(), Items[int]()

    def work(_: Any) -> None:
        inside.set()
        release.wait(TIMEOUT)
        ran.add(1)

    running = in_thread(hub.run)
    hub.exec_async(work)
    assert inside.wait(TIMEOUT)
    closing = in_thread(hub.close)
    release.set()
    closing()
    assert ran.now() == [1]
    running()


def test_a_handler_that_waits_for_its_context_is_woken() -> None:
    """A callback that blocks until the end of the client, or of the hub, hears of it."""
    inside, woken = threading.Event(), threading.Event()

    def receive(ctx: Any, meta: Any) -> bool:
        inside.set()
        assert ctx.context.wait(TIMEOUT)
        woken.set()
        return False

    with serving(on_receive_message=receive) as s:
        peer, _ = s.pair()
        peer.send("wait")
        assert inside.wait(TIMEOUT)
        s.hub.close(1.0)
        assert woken.is_set()
        assert s.hub.statistics().threads == 0
    assert s.logs.warnings() == []


def test_a_callback_that_does_not_end_is_named() -> None:
    """Nobody can end a thread of the user's: close returns in time, and the log has its stack."""
    inside, release = threading.Event(), threading.Event()

    def stubborn(ctx: Any, meta: Any) -> bool:
        inside.set()
        release.wait(TIMEOUT)
        return False

    with serving(on_receive_message=stubborn) as s:
        peer, _ = s.pair()
        peer.send("x")
        assert inside.wait(TIMEOUT)
        s.hub.close(0.5)
        (record,) = s.logs.warnings()
        assert "still runs" in record
        assert "in stubborn" in record
        release.set()


def test_a_client_that_arrives_during_close_is_never_forgotten() -> None:
    """However connecting and closing meet: a start has its close, and each peer its end."""
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


def test_a_server_that_opens_during_close_is_never_forgotten() -> None:
    """However serving and closing meet: the port is closed in the end."""
    for _ in range(30):
        hub = Hub.started(HubSetting[Any, Any](dict, logger=Logs()))
        going = threading.Barrier(2)
        servers: list[Server] = []

        def serve(going: threading.Barrier, hub: Hub[Any, Any], servers: list[Server]) -> None:
            going.wait(TIMEOUT)
            for _ in range(20):
                try:
                    servers.append(hub.serve())
                except HubClosed:
                    return

        serving_ = in_thread(lambda: serve(going, hub, servers))  # noqa: B023
        going.wait(TIMEOUT)
        hub.close()
        serving_()
        for server in servers:
            with pytest.raises(ConnectionRefusedError):
                connect(server)
        assert hub.statistics().threads == 0


def test_a_handshake_under_way_is_cut() -> None:
    """Whoever has not sent a whole request when the hub closes does not hold it up."""
    with serving() as s:
        sock = connect(s.server)
        sock.sendall(raw_handshake()[:-1])
        other, _ = s.pair()  # the listener has accepted the first by now
        other.close()
        start = monotonic()
        s.hub.close(TIMEOUT)
        assert monotonic() - start < TIMEOUT / 2
        assert sock.recv(100) in (b"", b"HTTP/1.1 400 ")
        sock.close()


def test_the_last_callbacks_still_find_the_hub_and_its_rooms() -> None:
    """A close callback may broadcast, push, and submit a closure that pushes: as ever."""
    pushed: Items[int] = Items()

    def gone(ctx: Any, meta: Any) -> None:
        ctx.hub_broadcast("one is gone")
        room.push("one is gone")
        ctx.hub.exec_async(lambda _: pushed.add(room.push("from the hub thread")))

    with serving(on_connection_close=gone) as s:
        room = s.hub.hotline()
        peers = [peer for peer, _ in s.pairs(5)]
        closing = in_thread(lambda: s.hub.close(TIMEOUT))
        for peer in peers:
            assert peer.rest()[1] == 1001
            peer.send_close(1001)
            assert peer.at_end()
            peer.close()
        closing()
        assert len(pushed.now()) == 5
        assert room.is_closed
        assert s.logs.warnings() == []


def test_whoever_was_answered_101_is_told_1001() -> None:
    """Also between the answer and the first callback: nobody is just cut."""
    answered, go_on = threading.Event(), threading.Event()

    def start(ctx: Any, meta: Any) -> None:
        answered.set()
        assert go_on.wait(TIMEOUT)

    with serving(on_connection_start=start) as s:
        peer = s.peer()
        assert answered.wait(TIMEOUT)
        closing = in_thread(lambda: s.hub.close(TIMEOUT))
        assert peer.closed() == (1001, "the server is going away")
        go_on.set()
        peer.close()
        closing()
