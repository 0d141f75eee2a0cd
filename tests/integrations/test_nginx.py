"""Behind Debian's nginx, with the configuration that the documentation shows."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import websocket

from tests.integrations.running import LATER, Running, free_port, running, until_listening
from tests.pages import code_of
from tests.support import TIMEOUT

GOING_AWAY = (1001).to_bytes(2, "big") + b"the server is going away"

SERVER = """
daemon off;
worker_processes 1;
error_log stderr;
pid {folder}/pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/1;
    proxy_temp_path {folder}/2;
    fastcgi_temp_path {folder}/3;
    uwsgi_temp_path {folder}/4;
    scgi_temp_path {folder}/5;
{shown}
}}
"""


@contextlib.contextmanager
def nginx(folder: Path, behind: Running) -> Iterator[int]:
    """Run nginx in front of a server; yield its port."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        missing = "no nginx on the path (Debian: nginx-light)"
        if os.environ.get("CI"):
            pytest.fail(missing, pytrace=False)
        pytest.skip(missing)
    port = free_port()
    block = code_of("deploy/nginx.rst", "nginx")
    block = block.replace("listen 80;", f"listen {LATER}:{port};")
    block = block.replace("127.0.0.1:8000", f"127.0.0.1:{behind.port}")
    configuration = folder / "nginx.conf"
    configuration.write_text(SERVER.format(folder=folder, shown=block))
    with open(folder / "log", "w+") as log:
        process = subprocess.Popen([program, "-c", configuration], stdout=log, stderr=log)
        try:
            until_listening(port, process)
            yield port
        finally:
            process.terminate()
            process.wait(TIMEOUT)


def test_nginx_client_is_served_and_told_1001(tmp_path: Path) -> None:
    application = "tests.integrations.app:proxied"
    with (
        running("gunicorn-gthread", application=application) as server,
        nginx(tmp_path, server) as port,
    ):
        ada = websocket.create_connection(
            f"ws://{LATER}:{port}/ws?room=1",
            timeout=TIMEOUT,
            origin=f"http://{LATER}:{port}",
            cookie="user=ada",
            header={"X-Forwarded-For": "192.0.2.1"},  # a forged one
        )
        try:
            ada.send("request")
            assert ada.recv() == "/ws 1 ada 127.0.0.1"
            for text in ("a", "b" * 300_000):
                ada.send(text)
                assert ada.recv() == text
            assert server.figures()["moved"] == 1
            server.process.terminate()
            assert ada.recv_data() == (websocket.ABNF.OPCODE_CLOSE, GOING_AWAY)
        finally:
            ada.shutdown()  # type: ignore[no-untyped-call]


def test_nginx_foreign_page_gets_403(tmp_path: Path) -> None:
    with (
        running("gunicorn-gthread") as server,
        nginx(tmp_path, server) as port,
        pytest.raises(websocket.WebSocketBadStatusException) as refused,
    ):
        websocket.create_connection(
            f"ws://{LATER}:{port}/ws", timeout=TIMEOUT, origin="http://evil.example"
        )
    assert refused.value.status_code == 403
