"""G8 without resources: threads and descriptors are used up, ports are taken."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from hubthread import Readers
from tests.support import TIMEOUT, ask, raw_handshake, serving, status_of

ROOT = Path(__file__).parents[2]


def test_threads_used_up_cost_one_connection_a_503(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The next connection is served, and open ones stay."""
    start = threading.Thread.start
    scarce = [False]

    def refuse(thread: threading.Thread) -> None:
        if scarce[0] and thread.name.endswith("-reader"):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with serving(readers=Readers.OWN) as s:
        peer, _ = s.pair()
        scarce[0] = True
        assert status_of(ask(s.server, raw_handshake())) == 503
        assert status_of(ask(s.server, raw_handshake())) == 503
        scarce[0] = False
        other, _ = s.pair()
        s.hub.broadcast("both are here")
        assert peer.message() == other.message() == "both are here"
        assert s.server.statistics().refused == 2
        (record,) = s.logs.warnings()
        assert "no thread for a connection" in record


DESCRIPTORS = """
    import os, queue, resource, socket, sys
    sys.path.insert(0, sys.argv[1])
    from hubthread import Hub, HubSetting
    from tests.support import RawPeer, Logs, connect, raw_handshake

    logs = Logs()
    came = queue.Queue()
    setting = HubSetting(dict, logger=logs, on_connection_start=lambda ctx, _: came.put(ctx))
    with Hub(setting) as hub, hub.serve() as server:
        first = RawPeer(connect(server))
        came.get(timeout=60)  # the 101 comes before it is in the hub
        extra = [connect(server) for _ in range(5)]  # they need no more here
        waiting = [socket.socket() for _ in range(3)]
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
        taken = []
        try:
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            pass
        for sock in waiting:  # connected by the system; the server has none left for them
            sock.settimeout(60)
            sock.connect(server.address)
            sock.sendall(raw_handshake())
            try:
                assert sock.recv(100) == b""
            except ConnectionResetError:
                pass
        for fd in taken:
            os.close(fd)
        hub.broadcast("still here")
        assert first.message() == "still here"
        for sock in [*waiting, *extra]:
            sock.close()
        first.close()
    warnings = logs.warnings()
    assert len(warnings) == 1 and "no file descriptor" in warnings[0], warnings
    print("done")
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="counts them in /proc")
def test_descriptors_used_up_cost_the_connections_that_find_none() -> None:
    """They are closed, one warning is logged, and the server and its clients go on."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(DESCRIPTORS), str(ROOT)],
        capture_output=True,
        text=True,
        timeout=2 * TIMEOUT,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("done\n", 0), done.stderr
