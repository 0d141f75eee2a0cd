"""Signals to a real process whose main thread is inside public calls."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from urllib.parse import urlsplit

import pytest

from tests.support import TIMEOUT, RawPeer

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no SIGTERM there")

PROGRAM = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
from hubthread import Hub, HubSetting, Overflow
# It pushes more than a busy machine may read.
with Hub(HubSetting(dict, overflow=Overflow.DROP_NEWEST)) as hub:
    room = hub.hotline()
    print(hub.serve().url, flush=True)
    while True:
        room.push("value")
        hub.broadcast("value")
        hub.exec_sync(lambda dhub: None)
"""


@pytest.mark.parametrize("time", range(3))
def test_sigterm_that_exits_inside_a_call_tells_every_client_1001(time: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            address = urlsplit(process.stdout.readline().strip())
            assert address.port is not None
            sock = socket.create_connection((address.hostname, address.port or 0), TIMEOUT)
            peer = RawPeer(sock)
            peer.messages(100)
            process.send_signal(signal.SIGTERM)
            _, code, _ = peer.rest()
            peer.close()
            assert code == 1001
            assert process.wait(TIMEOUT) == 0
        finally:
            process.kill()
