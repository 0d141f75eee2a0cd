"""Faults of the program itself: callbacks that block or close things, bad log handlers, clocks."""

from __future__ import annotations

import ast
import logging
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hubthread import ConnectionProtocols, HotlineFrameOption
from tests.support import (
    TIMEOUT,
    Items,
    Logs,
    connect,
    masked_frame,
    raw_handshake,
    serving,
)

Record = Callable[[str, object], None]
ROOT = Path(__file__).parents[2]


def echo(ctx: Any, meta: Any) -> bool:
    ctx.write(ctx.payload)
    return False


class Stage:
    """A client, a room, a ticking room, and a callback that ends one of them."""

    def __init__(self, where: str, ends: str) -> None:
        self.where, self.ends = where, ends
        self.ran = threading.Event()
        self.failed: list[BaseException] = []

    def at(self, where: str, ctx: Any) -> None:
        if where != self.where or self.ran.is_set():
            return
        try:
            if self.ends == "client":
                ctx.close(1000, "by itself")
            elif self.ends == "hub":
                self.hub.close(TIMEOUT)
            else:
                (self.room if self.ends == "hotline" else self.game).close()
        except BaseException as error:  # noqa: BLE001 - the test shows it
            self.failed.append(error)
        finally:
            self.ran.set()

    def run(self) -> Logs:
        def tick(frame: Any, obj: Any) -> None:
            for ctx in frame.members:
                self.at("tick", ctx)

        def start(ctx: Any, meta: Any) -> None:
            self.room.answer(ctx)
            self.game.answer(ctx)
            self.at("start", ctx)

        def receive(ctx: Any, meta: Any) -> bool:
            self.at("message", ctx)
            return False

        with serving(
            on_connection_start=start,
            on_receive_message=receive,
            on_connection_close=lambda ctx, meta: self.at("close", ctx),
        ) as s:
            self.hub = s.hub
            self.room = s.hub.hotline()
            self.game = HotlineFrameOption(dict, tick, hz=50).run(s.hub.hotline())
            peer, client = s.pair()
            if self.where == "message":
                peer.send("now")
            elif self.where == "close":
                peer.send_close()
                peer.sock.shutdown(socket.SHUT_WR)
            elif self.where == "hub closure":
                s.hub.exec_async(lambda _: self.at("hub closure", client))
            elif self.where == "client closure":
                client.exec_async(lambda: self.at("client closure", client))
            assert self.ran.wait(TIMEOUT)
            if self.where != "close":
                peer.send_close()  # or the hub would wait for the peer's answer
                peer.sock.shutdown(socket.SHUT_WR)
            if self.ends == "hub":
                assert s.hub.join(TIMEOUT)
            elif self.ends == "client":
                assert client.context.wait(TIMEOUT)
            else:
                s.hub.exec_sync(lambda _: None, TIMEOUT)
                assert (self.room if self.ends == "hotline" else self.game).is_closed
        return s.logs


@pytest.mark.usefixtures("tick_threads")
@pytest.mark.parametrize("ends", ["client", "hotline", "ticking room", "hub"])
@pytest.mark.parametrize(
    "where", ["start", "message", "close", "tick", "hub closure", "client closure"]
)
def test_callback_ends_own_client_room_or_hub(
    where: str, ends: str, record_property: Record
) -> None:
    """The call returns at once, and the end is orderly."""
    stage = Stage(where, ends)
    logs = stage.run()
    assert stage.failed == []
    assert logs.warnings() == []
    record_property("seen", "returns at once, ends in order, no warning")


class Broken(Logs):
    """A logger whose handler raises, as on a full disk."""

    def handle(self, record: logging.LogRecord) -> None:
        super().handle(record)
        raise OSError(28, "No space left on device")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_log_handler_raises_clients_and_hub_go_on(record_property: Record) -> None:
    """Everything goes on; the next client is served, and the hub closes."""
    logs = Broken()

    def receive(ctx: Any, meta: Any) -> bool:
        if ctx.payload == "raise":
            raise LookupError("on purpose")
        return echo(ctx, meta)

    def raising(_: Any) -> None:
        raise LookupError("in a closure")

    with serving(on_receive_message=receive, logger=logs) as s:
        (first, _), (second, _) = s.pairs(2)
        first.send("raise")
        second.sock.sendall(masked_frame("x", 3))
        assert second.rest()[1] == 1002
        s.hub.exec_async(raising)
        third, _ = s.pair()
        third.send("hello")
        assert third.message() == "hello"
        s.hub.exec_sync(lambda _: None, TIMEOUT)
        assert s.hub.statistics().state == "running"
    assert s.hub.statistics().threads == 0
    count = len(logs.records.now())
    assert count >= 3  # the server's, the handler's, the closure's
    record_property("seen", f"{count} records raised, clients and hub went on and closed")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_log_handler_raises_everywhere_hub_closes() -> None:
    """A refusal is sent, a raw peer's end is handled, and a busy hub closes."""
    release, inside, gone = threading.Event(), threading.Event(), Items[Any]()

    def busy(_: Any) -> None:
        inside.set()
        release.wait(TIMEOUT)

    def leave(ctx: Any, meta: Any) -> None:
        gone.add(ctx)

    with serving(on_receive_message=echo, logger=Broken(), on_connection_close=leave) as s:
        with connect(s.server) as refused:
            refused.sendall(raw_handshake("/", "Origin: https://elsewhere.example"))
            assert refused.recv(100).startswith(b"HTTP/1.1 403 ")
        raw = s.hub.socket_handles("127.0.0.1", 0, ConnectionProtocols.TCP)
        connect(raw).close()
        gone.wait(1)
        peer, _ = s.pair()
        s.hub.exec_async(busy)
        assert inside.wait(TIMEOUT)
        s.hub.close(1.0)
        assert peer.rest()[1] == 1001
        release.set()


WALL_CLOCKS = ("time.time", "time.time_ns", "datetime.now", "datetime.utcnow")


def test_wall_clock_is_read_nowhere(record_property: Record) -> None:
    """Every decision uses the monotonic clock, which cannot jump; peers are told ``wall_time``."""
    modules = [
        path
        for path in (ROOT / "hubthread").rglob("*.py")
        if not {"demo", "examples"} & set(path.parts)  # these show the time of day
    ]
    assert len(modules) > 60
    found = []
    for path in modules:
        text = path.read_text(encoding="utf-8")
        if not any(name in text for name in (*WALL_CLOCKS, "from time import")):
            continue  # to parse all takes seconds
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Attribute) and ast.unparse(node).endswith(WALL_CLOCKS):
                found.append(f"{path.name}:{node.lineno}")
            elif isinstance(node, ast.ImportFrom) and node.module == "time":
                found += [
                    f"{path.name}:{node.lineno}" for name in node.names if name.name == "time"
                ]
    assert [each.partition(":")[0] for each in found] == ["deadline.py"]
    record_property("seen", f"{len(modules)} modules; the wall clock is only told to peers")


def test_closure_never_ends_hub_closes_in_time(record_property: Record) -> None:
    """Clients are served, close returns before the closure, and the log has its stack."""
    inside, release, ended = threading.Event(), threading.Event(), threading.Event()

    def never_ends(_: Any) -> None:
        inside.set()
        release.wait()
        ended.set()

    with serving(on_receive_message=echo) as s:
        peer, _ = s.pair()
        s.hub.exec_async(never_ends)
        assert inside.wait(TIMEOUT)
        peer.send("still here")
        assert peer.message() == "still here"
        s.hub.close(1.0)
        assert not ended.is_set()
        s.logs.wait("in never_ends")  # on a busy machine close returns before it is logged
        told = s.logs.warnings()
        assert any("its thread is busy" in each for each in told)
        assert any("still runs" in each and "in never_ends" in each for each in told)
        # On a busy machine other threads may not have ended in the second, too.
        assert all("is closing, but" in each or "still runs" in each for each in told)
        assert peer.closed()[0] == 1001
        release.set()
        assert ended.wait(TIMEOUT)
    record_property("seen", "close(1.0) returned before it, with its stack in the log")
