"""Faults of processes: ends with clients connected, forks, signals, stops."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import pytest

from tests.support import CLOSE, TIMEOUT, Items, RawPeer, in_thread
from tests.support.programs import Outcome, outcomes
from tests.test_cli import APP, started

Record = Callable[[str, object], None]
ROOT = Path(__file__).parents[2]

IMPORTS = f"""
import sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads
sys.path.insert(0, {str(ROOT)!r})
import tests.support
"""

HUB = """
    import os, subprocess, sys, threading
    from hubthread import Hub, HubSetting
    from tests.support import RawPeer, connect

    def receive(ctx, meta):
        ctx.write(ctx.payload)
        return False

    hub = Hub.started(HubSetting(dict, on_receive_message=receive))
    server = hub.serve()
    peers = [RawPeer(connect(server)) for _ in range(20)]
    for peer in peers:
        peer.send("hello")
        assert peer.message() == "hello"
"""


ENDS = {
    "pass": 0,
    "sys.exit(3)": 3,
    "threading.Thread(target=lambda: [hub.broadcast('x') for _ in range(10000)]).start()": 0,
    "hub.exec_async(lambda _: threading.Event().wait())": 0,
}


@pytest.fixture(scope="module")
def found() -> dict[str, Outcome]:
    """How each program has ended."""
    programs = [*ENDS, FORK, SUBPROCESS]
    hub = textwrap.dedent(HUB)
    ended = outcomes(IMPORTS, [f"{hub}{textwrap.dedent(each)}\n" for each in programs])
    return dict(zip(programs, ended, strict=True))


@pytest.mark.parametrize(("end", "status"), ENDS.items())
def test_interpreter_exits_with_clients_connected(
    found: dict[str, Outcome], end: str, status: int, record_property: Record
) -> None:
    """Without close and join it ends at once, with its own status and no output."""
    assert found[end] == ("", "", status)
    record_property("seen", f"20 clients, status {status}, no traceback")


FORK = """
    def receive_fork(ctx, meta):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(writing)
            os.read(reading, 1)  # it lives until its parent says, with copies of all sockets
            os._exit(0)
        os.close(reading)
        children.append((child, writing))
        ctx.write("forked")
        return False

    children = []
    other = Hub.started(HubSetting(dict, on_receive_message=receive_fork))
    forking = other.serve()
    (first, second) = (RawPeer(connect(forking)) for _ in range(2))
    first.send("fork")
    assert first.message() == "forked"
    for peer in [*peers]:  # the other clients of the process, and the room of the hub
        peer.send("after the fork")
        assert peer.message() == "after the fork"
    hub.broadcast("to all")
    assert {peer.message() for peer in peers} == {"to all"}
    while other.statistics().clients < 2:
        pass  # the 101 comes before a client is in the hub
    for client in other.clients():  # closed here: the child's copies keep nobody waiting
        client.close()
    for peer in (first, second):
        assert peer.closed()[0] == 1000
        peer.send_close()
        assert peer.at_end()
        peer.close()
    (child, writing), = children
    os.close(writing)
    assert os.waitpid(child, 0)[1] == 0
    other.close()
    for peer in peers:
        peer.close()  # so that close waits for nobody
    hub.close()
    assert hub.statistics().threads == 0
    print("done")
"""


def test_handler_forks_clients_stay(found: dict[str, Outcome], record_property: Record) -> None:
    """A child that lives on takes no client, message or end of a stream from its parent."""
    out, errors, status = found[FORK]
    assert (out, status) == ("done\n", 0), errors
    record_property("seen", "22 clients served and closed while the child held their sockets")


SUBPROCESS = """
    def receive_run(ctx, meta):
        code = "import sys; print('runs', flush=True); sys.stdin.read()"
        child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE,
                                 stdout=subprocess.PIPE, close_fds=False)
        # Popen may return before the system has closed the sockets.
        assert child.stdout.readline() == b"runs\\n"
        children.append(child)
        ctx.write("runs")
        return False

    children = []
    other = Hub.started(HubSetting(dict, on_receive_message=receive_run))
    # An address of its own: on 127.0.0.1 a client of another test may get the free port.
    with other.serve("127.0.0.9") as running:
        peer = RawPeer(connect(running))
        peer.send("run")
        assert peer.message() == "runs"
        host, port = running.address
    with other.serve(host, port):  # nobody else holds the port
        pass
    other.clients()[0].ws_conn.cut()
    assert peer.at_end()  # nor the stream
    children[0].communicate()
    other.close()
    print("done")
"""


def test_handler_starts_program_without_sockets(
    found: dict[str, Outcome], record_property: Record
) -> None:
    """It inherits no socket, even with ``close_fds=False``."""
    out, errors, status = found[SUBPROCESS]
    assert (out, status) == ("done\n", 0), errors
    record_property("seen", "port and stream are free although the program runs")


def test_process_sigterm_under_load_tells_clients(tmp_path: Path, record_property: Record) -> None:
    """All clients get 1001 after whole messages; the process ends with 0 and no output."""
    (tmp_path / "app.py").write_text(APP)
    count = 12
    here = threading.Barrier(count)
    codes: Items[int] = Items()
    echoes: Items[int] = Items()
    with started("serve", "app:echo", "--port", "0", cwd=tmp_path) as command:
        port = int(command.url.rstrip("/").rpartition(":")[2])

        def talk() -> None:
            with RawPeer(socket.create_connection(("127.0.0.1", port), TIMEOUT)) as peer:
                here.wait(TIMEOUT)
                while True:
                    with contextlib.suppress(OSError):
                        peer.send(*["x" * 500] * 20)
                    for _ in range(20):
                        opcode, payload = peer.frame()
                        if opcode == CLOSE:
                            codes.add(int.from_bytes(payload[:2], "big"))
                            with contextlib.suppress(OSError):
                                peer.send_close(1001)
                            return
                        assert payload == b"x" * 500
                    echoes.add(20)

        waits = [in_thread(talk) for _ in range(count)]
        echoes.wait(40)
        began = monotonic()
        command.tell(signal.SIGTERM)
        for wait in waits:
            wait()
        assert command.end() == (0, "", "")
        took = monotonic() - began
    assert codes.now() == [1001] * count
    record_property(
        "seen", f"{count} busy clients told 1001, ended after {took:.1f} s, status 0, no line"
    )


SLEEPER = """
from hubthread import Hub, HubSetting, HotlineFrameOption, PingPongPlan, WebsocketPeriod

def receive(ctx, meta):
    if ctx.payload == "ticks":
        told = clock.statistics()
        ctx.write_json([told.ticks, told.skipped])
    else:
        ctx.write(ctx.payload)
    return False

plan = PingPongPlan(ping_period=1.0, ping_timeout=3.0)
hub = Hub(HubSetting(dict, on_receive_message=receive,
                     websocket_period=WebsocketPeriod(ping_pong_plan=plan)))
clock = HotlineFrameOption(dict, lambda frame, obj: None, hz=100).run(hub.hotline())
"""


def test_process_stopped_and_continued_keeps_clients(
    tmp_path: Path, record_property: Record
) -> None:
    """It keeps its clients, serves what they sent meanwhile, and skips missed ticks."""
    (tmp_path / "app.py").write_text(SLEEPER)
    stopped, count, half = 3.5, 20, 10
    with started("serve", "app:hub", "--port", "0", cwd=tmp_path) as command:
        port = int(command.url.rstrip("/").rpartition(":")[2])
        with contextlib.ExitStack() as stack:
            address = ("127.0.0.1", port)
            peers = [
                stack.enter_context(RawPeer(socket.create_connection(address, TIMEOUT)))
                for _ in range(count)
            ]

            def ask(peer: RawPeer, question: str) -> str | bytes:
                peer.send(question)
                return peer.message()

            assert [ask(peer, "here") for peer in peers] == ["here"] * count
            before = json.loads(ask(peers[0], "ticks"))
            command.tell(signal.SIGSTOP)
            assert os.WIFSTOPPED(os.waitpid(command.process.pid, os.WUNTRACED)[1])
            for peer in peers[:half]:
                peer.send("meanwhile")
            # Longer than ping_timeout; the proof is that nothing arrives.
            assert select.select([peers[0].sock], [], [], stopped)[0] == []
            command.tell(signal.SIGCONT)
            assert [peer.message() for peer in peers[:half]] == ["meanwhile"] * half
            assert [ask(peer, "still here") for peer in peers] == ["still here"] * count
            # The ticks that were left out are counted with the first tick after the stop.
            first = after = json.loads(ask(peers[0], "ticks"))
            while after[0] == first[0]:
                after = json.loads(ask(peers[0], "ticks"))
        missed = after[1] - before[1]
        assert missed >= 0.9 * stopped * 100
        command.tell(signal.SIGTERM)
        assert command.end() == (0, "", "")
    record_property("seen", f"{stopped} s: {count} clients kept, {missed} ticks left out")
