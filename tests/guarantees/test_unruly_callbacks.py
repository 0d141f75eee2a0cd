"""Callbacks that do what no callback should, with own and with shared readers."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from typing import Any
from urllib.parse import urlsplit

import pytest

from hubthread import DeadlockError, Readers
from tests.support import TIMEOUT, Items, RawPeer, serving

pytestmark = pytest.mark.parametrize("readers", Readers)


class Unruly:
    """A handler that does what a message says, and echoes any other message."""

    def __init__(self) -> None:
        self.inside = Items[str]()
        self.release = threading.Event()
        self.said = threading.Event()
        self.other: Any = None

    def __call__(self, ctx: Any, meta: Any) -> bool:
        if hasattr(self, ctx.payload):
            self.inside.add(ctx.payload)
            getattr(self, ctx.payload)(ctx)
        ctx.write(ctx.payload)
        return False

    def never_return(self, ctx: Any) -> None:
        self.release.wait(TIMEOUT)

    def compute(self, ctx: Any) -> None:
        while not self.release.is_set():
            sum(range(100))

    def wait_for_other(self, ctx: Any) -> None:
        """Wait for a message of another client."""
        assert self.said.wait(TIMEOUT)

    def say(self, ctx: Any) -> None:
        self.said.set()

    def ask_other(self, ctx: Any) -> None:
        """Wait for the end of another client's callback."""
        assert self.other.exec_sync(lambda: True)


@pytest.mark.parametrize("way", ["never_return", "compute", "ask_other"])
def test_callback_that_does_not_return_holds_up_its_client_only(
    readers: Readers, way: str
) -> None:
    handler = Unruly()
    with serving(readers=readers, on_receive_message=handler) as s:
        (stuck, _), (other, handler.other), (third, _) = s.pairs(3)
        other.send("never_return" if way == "ask_other" else "x")
        if way == "ask_other":
            handler.inside.wait(1)
        stuck.send(way, "behind")
        handler.inside.wait(1 + (way == "ask_other"))
        for number in range(20):
            third.send(str(number))
            assert third.message() == str(number)
        assert s.hub.exec_sync(lambda dhub: dhub.clients_num(), TIMEOUT) == 3
        handler.release.set()
        assert [stuck.message(), stuck.message()] == [way, "behind"]
        assert other.message() in ("never_return", "x")


def test_callback_waits_for_a_message_of_another_client(readers: Readers) -> None:
    handler = Unruly()
    with serving(readers=readers, on_receive_message=handler) as s:
        (waiting, _), (other, _) = s.pairs(2)
        waiting.send("wait_for_other")
        handler.inside.wait(1)
        other.send("say")
        assert [waiting.message(), other.message()] == ["wait_for_other", "say"]


def test_callbacks_that_wait_for_each_other_are_told(readers: Readers) -> None:
    clients: list[Any] = []
    both, errors = threading.Barrier(2, timeout=TIMEOUT), Items[str]()

    def ask(ctx: Any, meta: Any) -> bool:
        both.wait()
        try:
            clients[ctx is clients[0]].exec_sync(lambda: None)
        except DeadlockError:
            errors.add("deadlock")
        else:
            errors.add("answered")
        return False

    with serving(readers=readers, on_receive_message=ask) as s:
        pairs = s.pairs(2)
        clients += [client for _, client in pairs]
        for peer, _ in pairs:
            peer.send("x")
        assert sorted(errors.wait(2)) == ["answered", "deadlock"]


def test_callback_closes_its_own_hub(readers: Readers) -> None:
    def close(ctx: Any, meta: Any) -> bool:
        ctx.hub.close(0.5)
        return False

    with serving(readers=readers, on_receive_message=close) as s:
        (peer, _), (other, _) = s.pairs(2)
        peer.send("x")
        for each in (peer, other):
            assert each.closed()[0] == 1001
            each.send_close(1001)
        assert s.hub.join(TIMEOUT)


@pytest.mark.parametrize("way", ["never_return", "compute"])
def test_hub_closes_beside_a_callback_that_does_not_return(readers: Readers, way: str) -> None:
    """It names the callback in the log, and the others get the closing handshake."""
    handler = Unruly()
    with serving(readers=readers, on_receive_message=handler) as s:
        (stuck, _), (other, _) = s.pairs(2)
        stuck.send(way)
        handler.inside.wait(1)
        closing = threading.Thread(target=s.hub.close, args=(0.2,))
        closing.start()
        assert other.closed()[0] == 1001
        other.send_close(1001)
        closing.join(TIMEOUT)
        assert not closing.is_alive()
        s.logs.wait("still runs")
        handler.release.set()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_callback_forks(readers: Readers) -> None:
    """The parent serves on.  The child's only thread may be one that leads."""

    def fork(ctx: Any, meta: Any) -> bool:
        if ctx.payload == "fork":
            child = os.fork()
            if child == 0:
                signal.alarm(10)
                os._exit(0)
            ctx.write(str(os.waitpid(child, 0)[1]))
        else:
            ctx.write(ctx.payload)
        return False

    with serving(readers=readers, on_receive_message=fork) as s:
        (peer, _), (other, _) = s.pairs(2)
        peer.send("fork")
        assert peer.message() == "0"
        for each in (peer, other):
            each.send("still here")
            assert each.message() == "still here"


PROGRAM = """
import os, signal, sys, threading
from hubthread import Hub, HubSetting, Readers

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have set it to be ignored
release = threading.Event()

def work(ctx, meta):
    ctx.write("inside")
    if ctx.payload == "block":
        release.wait()
    elif ctx.payload == "compute":
        while not release.is_set():
            sum(range(100))
    elif ctx.payload == "raise":
        os.kill(os.getpid(), signal.SIGINT)
    return False

hub = Hub(HubSetting(dict, on_receive_message=work, readers=Readers(sys.argv[1])))
server = hub.serve()
hub.exec_async(lambda dhub: print(server.url, flush=True))  # once it runs
threading.Thread(target=lambda: sys.stdin.readline() and release.set(), daemon=True).start()
try:
    hub.run()
except KeyboardInterrupt:
    print("interrupted", hub.join(60))
"""


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT to a process")
@pytest.mark.parametrize("way", ["block", "compute", "raise"])
def test_ctrl_c_beside_a_callback_closes_the_hub(readers: Readers, way: str) -> None:
    """Every client is told 1001, and the main thread alone has the exception."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, readers.value],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            address = urlsplit(process.stdout.readline().strip())
            assert address.port is not None
            place = "127.0.0.1", address.port
            busy, other = (RawPeer(socket.create_connection(place, TIMEOUT)) for _ in range(2))
            busy.send(way)
            assert busy.message() == "inside"
            if way != "raise":
                process.send_signal(signal.SIGINT)
            for peer in (busy, other):
                assert peer.closed()[0] == 1001
                peer.close()
            out, err = process.communicate("go on\n", timeout=TIMEOUT)
            assert (out, err, process.returncode) == ("interrupted True\n", "", 0)
        finally:
            process.kill()
