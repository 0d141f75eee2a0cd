"""The start of a hub, and its closing, beyond what G7 promises."""

from __future__ import annotations

import signal
import socket
import sys
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from hubthread import (
    ConnectionProtocols,
    ExecTimeout,
    Hub,
    HubClosed,
    HubSetting,
    Request,
    Server,
    SettingError,
    Upgrader,
    UsageError,
)
from hubthread.concurrency import loop
from hubthread.hub import lifecycle
from hubthread.testing import VirtualHub
from tests.support import (
    TIMEOUT,
    AnyHub,
    Items,
    Logs,
    RawPeer,
    connect,
    fence,
    in_thread,
    raw_handshake,
    read_to_end,
    serving,
)


def setting(**fields: Any) -> HubSetting[Any, Any]:
    return HubSetting(meta_gen=dict, **fields)


def test_hub_started_in_each_way_runs_once() -> None:
    """The ways are ``started``, ``start`` and ``run``."""
    for hub in (Hub.started(setting()), Hub(setting())):
        if hub.statistics().state == "new":
            hub.start()
        assert hub.exec_sync(lambda _: 1) == 1
        with pytest.raises(UsageError, match="running"):
            hub.start()
        hub.close()
        with pytest.raises(UsageError, match="closed"):
            hub.run()
    hub = Hub(setting())
    running = in_thread(hub.run)
    ident = hub.exec_sync(lambda _: threading.get_ident(), TIMEOUT)
    assert ident != threading.get_ident()
    hub.close()
    running()


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Let Ctrl-C raise, even if a shell has started this process with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_hub_run_interrupted_in_a_filter_closes_and_raises() -> None:
    """Accepted pushes are still sent."""
    logs, started = Logs(), threading.Event()
    hub = Hub(setting(logger=logs, on_connection_start=lambda ctx, meta: started.set()))

    def predicate(hub: AnyHub, ctx: Any, meta: Any) -> bool:
        raise KeyboardInterrupt  # as the second one does

    def visit() -> list[str | bytes]:
        with hub.serve() as server, RawPeer(connect(server)) as peer:
            assert started.wait(TIMEOUT)
            hub.broadcast_with_filter("nobody's", predicate)
            hub.broadcast("for all")
            return peer.messages(1)

    visiting = in_thread(visit)
    with pytest.raises(KeyboardInterrupt):
        hub.run()
    assert visiting() == ["for all"]
    assert hub.join(TIMEOUT)
    assert logs.warnings() == []


def test_hub_delayed_execution_runs_first_on_the_hub_thread() -> None:
    """It may use the hub as any closure may."""
    seen: list[Any] = []

    def delayed(hub: AnyHub) -> None:
        seen.append(threading.current_thread().name.endswith("-hub"))
        seen.append(hub.exec_sync(lambda dhub: dhub.clients_num()))
        seen.append(hub.hotline().push("x"))

    hub = Hub(setting(delayed_execution=delayed))
    hub.exec_async(lambda _: seen.append("submitted"))
    assert seen == []
    with hub:
        fence(hub)
    assert seen == [True, 0, 1, "submitted"]


def test_hub_delayed_execution_ends_before_any_client_comes() -> None:
    """It may make objects that callbacks use.  ``start_once`` waits for it, too."""
    seen: Items[str] = Items()
    release = threading.Event()

    def delayed(hub: AnyHub) -> None:
        release.wait(TIMEOUT)
        seen.add("open")

    def meta() -> None:
        seen.add("meta")

    def origin(request: Request) -> bool:
        seen.add("origin")
        return True

    def start(ctx: Any, meta: Any) -> None:
        seen.add("client")

    def ask(hub: AnyHub) -> None:
        hub.start_once()
        seen.add("asked")

    fields: dict[str, Any] = {"delayed_execution": delayed, "on_connection_start": start}
    with serving(**fields, meta_gen=meta, upgrader=Upgrader(check_origin=origin)) as s:
        sock = connect(s.server)
        sock.sendall(raw_handshake())
        asked = in_thread(lambda: ask(s.hub))
        udp = s.hub.socket_handles("127.0.0.1", 0, ConnectionProtocols.UDP)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as device:
            device.sendto(b"hello", udp.address)
            release.set()
            told = seen.wait(7)
            assert told[0] == "open"
            assert sorted(told[1:]) == ["asked", "client", "client", "meta", "meta", "origin"]
        asked()
        sock.close()


def test_hub_closed_in_delayed_execution_starts_no_client() -> None:
    release = threading.Event()
    started: list[Any] = []
    delays: list[bool] = []
    hub = Hub(
        setting(
            delayed_execution=lambda hub: delays.append(release.wait(TIMEOUT)),
            on_connection_start=lambda ctx, meta: started.append(ctx),
            logger=(logs := Logs()),
        )
    )
    hub.start()
    sock = connect(hub.serve())
    sock.sendall(raw_handshake())
    hub.close(0.2)
    logs.wait("still runs")
    for thread in threading.enumerate():
        if thread.name == f"hubthread-{hub.name}-reader":
            thread.join(TIMEOUT)
            assert not thread.is_alive()
    assert (started, delays) == ([], [])  # the reader has not waited for delayed_execution
    release.set()
    sock.close()


@pytest.mark.parametrize("error", [LookupError("late"), SystemExit(1)])
def test_hub_delayed_execution_raising_is_logged_and_the_hub_opens(error: BaseException) -> None:
    logs = Logs()

    def delayed(hub: AnyHub) -> None:
        raise error

    with Hub(setting(delayed_execution=delayed, logger=logs)) as hub:
        assert hub.exec_sync(lambda _: 1) == 1
    assert "delayed_execution raised" in logs.warnings()[0]


def test_hub_close_names_missing_calls_of_wait_done() -> None:
    """It does not blame the hub thread, which is idle."""
    with serving() as s:
        ran = threading.Event()
        s.hub.wait_add(3)
        s.hub.wait_done()
        s.hub.exec_async(lambda _: ran.set())
        assert ran.wait(TIMEOUT)
        s.hub.close(0.2)
        s.logs.wait("wait_done are missing")  # a busy machine logs it after close has returned
        told = s.logs.warnings()
        assert any("2 calls of wait_done are missing" in each for each in told)
        # On a busy machine other threads may not have ended in time, too.
        assert not any("its thread is busy" in each for each in told)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), "1", None])
def test_hub_close_with_a_wrong_timeout_is_refused(timeout: Any) -> None:
    with Hub(HubSetting[Any, Any](dict)) as hub:
        with pytest.raises(SettingError, match="timeout"):
            hub.close(timeout)
        assert hub.statistics().state == "running"


def test_hub_close_waits_until_run_has_ended() -> None:
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


def test_hub_close_wakes_a_handler_that_waits_for_its_context() -> None:
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
        assert woken.wait(TIMEOUT)
        assert not s.hub._core.threads.join(TIMEOUT)


OWN_HOST = "127.0.0.17" if sys.platform == "linux" else "127.0.0.1"
"""An address where no other test opens a port that was free again."""


def test_hub_close_forgets_no_server_that_opens_meanwhile() -> None:
    for _ in range(30):
        hub = Hub.started(HubSetting[Any, Any](dict, logger=Logs()))
        going = threading.Barrier(2)
        servers: list[Server] = []

        def serve(going: threading.Barrier, hub: Hub[Any, Any], servers: list[Server]) -> None:
            going.wait(TIMEOUT)
            for _ in range(20):
                try:
                    servers.append(hub.serve(OWN_HOST))
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


def test_hub_close_cuts_a_handshake_under_way() -> None:
    with serving() as s:
        sock = connect(s.server)
        sock.sendall(raw_handshake()[:-1])
        other, _ = s.pair()  # the listener has accepted the first by now
        other.close()
        s.hub.close(TIMEOUT)
        assert b" 408 " not in read_to_end(sock)  # its own timeout was not waited for
        sock.close()


def test_hub_close_lets_close_callbacks_use_hub_and_rooms() -> None:
    """They broadcast, push, and submit closures that push."""
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


def test_hub_close_sends_1001_to_a_client_in_its_start_callback() -> None:
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


def test_hub_start_without_a_thread_may_be_repeated(monkeypatch: pytest.MonkeyPatch) -> None:

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    hub = Hub(HubSetting[Any, Any](dict))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError):
            hub.start()
    assert hub.statistics().state == "new"
    with hub:
        assert hub.exec_sync(lambda _: 1) == 1


def test_hub_that_was_never_started_says_so_once_when_work_waits_long() -> None:
    """As in a task queue, whose process imports the program and has no clients."""
    logs = Logs()
    hub = VirtualHub[Any, Any](HubSetting(dict, logger=logs))
    ran: list[int] = []
    for number, seconds in enumerate([9, 9, 9, 0]):
        hub.exec_async(partial(lambda number, dhub: ran.append(number), number))
        assert len(logs.warnings()) == (number > 1)
        hub.advance(seconds)
    assert "was not started in this process" in logs.warnings()[0]
    with hub:
        hub.settle()
    assert ran == [0, 1, 2, 3]


def test_exec_sync_of_a_hub_that_was_never_started_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loop, "EARLY", 0.01)
    monkeypatch.setattr(lifecycle, "EARLY", 0.01)
    hub = Hub[Any, Any](HubSetting(dict, logger=(logs := Logs())))
    result = in_thread(lambda: hub.exec_sync(lambda dhub: "ran"))
    logs.wait("was not started in this process")
    with pytest.raises(ExecTimeout):
        hub.exec_sync(lambda dhub: None, timeout=0.02)
    with hub:
        assert result() == "ran"
    assert len(logs.warnings()) == 1


def test_hub_close_spreads_many_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "RETURNS_PER_SECOND", 1)
    with VirtualHub[Any, Any](HubSetting(dict)) as hub:
        clients = [hub.connect() for _ in range(3)]
        hub.close()
        reasons = {(client.close_code, client.close_reason) for client in clients}
        assert reasons == {(1001, "the server is going away retry=3")}


def test_close_logs_how_many_connections_are_left() -> None:
    logs = Logs()
    with VirtualHub(HubSetting[Any, Any](dict, logger=logs)) as hub:
        for _ in range(3):
            hub.connect(bytes_per_second=0.01).ctx.write("a message that does not get out")
        hub.close(20)
    lines = [record.getMessage() for record in logs.records.now()]
    assert sum("is closing: 3 connections are left" in line for line in lines) >= 2
