"""The sockets that systemd passes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from hubthread import systemd_sockets

PROGRAM = """
import os
from hubthread import systemd_sockets
os.environ["LISTEN_PID"] = str(os.getpid())
(one, two) = systemd_sockets()
print(one.getsockname()[1], two.getsockname()[1], one.get_inheritable(), systemd_sockets())
print([name for name in os.environ if name.startswith("LISTEN_")])
"""


def test_systemd_sockets_are_taken_once_in_order() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.socket() as two:
        two.bind(("127.0.0.1", 0))
        ports = [sock.getsockname()[1] for sock in (one, two)]

        def place() -> None:  # as systemd does: from descriptor 3 on
            copies = [os.dup(sock.fileno()) for sock in (one, two)]
            for number, copy in enumerate(copies, 3):
                os.dup2(copy, number)

        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, "LISTEN_FDS": "2", "LISTEN_FDNAMES": "a:b"},
            pass_fds=(3, 4),
            preexec_fn=place,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    assert done.stdout == f"{ports[0]} {ports[1]} False []\n[]\n"


@pytest.mark.parametrize("process", ["1", "", None])
def test_systemd_sockets_of_another_process_are_left_alone(
    monkeypatch: pytest.MonkeyPatch, process: str | None
) -> None:
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setenv("LISTEN_PID", process or "")
    if process is None:
        monkeypatch.delenv("LISTEN_PID")
    assert systemd_sockets() == []
    assert os.environ["LISTEN_FDS"] == "1"
