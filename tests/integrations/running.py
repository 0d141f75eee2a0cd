"""A WSGI server in a process of its own, and its clients."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import werkzeug.serving

from tests.support import TIMEOUT, RawPeer, raw_handshake

ROOT = Path(__file__).parents[2]
CERTIFICATE = "tests/data/localhost.pem"
KEY = "tests/data/localhost.key"

GUNICORN = {
    "gunicorn-sync": ("-k", "sync"),
    "gunicorn-gthread": ("-k", "gthread", "--threads", "4"),
    "gunicorn-preload": ("-k", "gthread", "--threads", "4", "--preload"),
    "gunicorn-tls": (
        "-k", "gthread", "--threads", "4", "--certfile", CERTIFICATE, "--keyfile", KEY,
        "--graceful-timeout", "3",
    ),
    "gunicorn-gevent": ("-k", "gevent"),
}  # fmt: skip

MOVES = (
    "werkzeug",
    "wsgiref",
    "runserver",
    "cheroot",
    "gunicorn-sync",
    "gunicorn-gthread",
    "werkzeug-debug",
)
"""The servers whose connections are moved to threads of the hub."""

PARKS = ("werkzeug-tls", "cheroot-tls", "gunicorn-tls")
"""The servers whose threads serve the connections (parked)."""

_LISTENS = r"(?:Listening at:|Running on) https?://[0-9.]+:([0-9]+)"


class Running:
    """One server; ``log`` is the output of the server and of the application."""

    def __init__(self, kind: str, process: subprocess.Popen[str], log: Path) -> None:
        self.kind = kind
        self.process = process
        self._log = log
        self.tls = kind.endswith("-tls")
        self.port = 0

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def url(self) -> str:
        return f"{'wss' if self.tls else 'ws'}://127.0.0.1:{self.port}/ws"

    def until_logged(self, pattern: str, count: int = 1) -> re.Match[str]:
        """Wait until the log has ``count`` matches; return the last."""
        found: list[re.Match[str]] = []

        def logged() -> bool:
            found[:] = re.finditer(pattern, self.log)
            return len(found) >= count

        self.until(logged)
        return found[-1]

    def until(self, condition: Callable[[], bool]) -> None:
        """Poll until the condition is true: another process has no event to wait for."""
        pause = threading.Event()
        for _ in range(int(TIMEOUT / 0.02)):
            if condition():
                return
            assert self.process.poll() is None or condition(), self.log
            pause.wait(0.02)
        raise AssertionError(self.log)

    def context(self) -> ssl.SSLContext | None:
        """Return the TLS context of a client, or None without TLS."""
        if not self.tls:
            return None
        context = ssl.create_default_context(cafile=CERTIFICATE)
        context.check_hostname = False
        return context

    def socket(self, receive_buffer: int | None = None) -> socket.socket:
        """Return a connected socket."""
        sock = socket.socket()
        try:
            sock.settimeout(TIMEOUT)
            if receive_buffer is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            sock.connect(("127.0.0.1", self.port))
            context = self.context()
            return sock if context is None else context.wrap_socket(sock)
        except BaseException:
            sock.close()
            raise

    def peer(self, *fields: str, path: str = "/ws", **kwargs: Any) -> RawPeer:
        """Return a connected bare peer."""
        return RawPeer(self.socket(kwargs.pop("receive_buffer", None)), path, *fields, **kwargs)

    def ask(self, path: str, body: str | None = None, **headers: str) -> tuple[int, str]:
        """Send a plain request; return status and body of the answer."""
        method = "GET" if body is None else "POST"
        with contextlib.closing(
            http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)
            if not self.tls
            else http.client.HTTPSConnection(
                "127.0.0.1", self.port, timeout=TIMEOUT, context=self.context()
            )
        ) as connection:
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body=body, headers={"Connection": "close", **sent})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    def shake(self, *fields: str, path: str = "/ws", body: bytes = b"") -> tuple[int, str]:
        """Send a handshake with these fields; return status and body of the answer."""
        with self.socket() as sock:
            sock.sendall(raw_handshake(path, *fields) + body)
            with http.client.HTTPResponse(sock) as answer:
                answer.begin()
                return answer.status, answer.read().decode()

    def figures(self) -> dict[str, int]:
        """Return the figures of the hub."""
        status, text = self.ask("/figures")
        assert status == 200, text
        figures: dict[str, int] = json.loads(text)
        return figures

    def until_figures(self, **wanted: int) -> None:
        """Wait until the hub has these figures."""
        self.until(lambda: wanted.items() <= self.figures().items())

    def stop(self) -> int:
        """Send SIGTERM, wait for the end and return the exit status."""
        self.process.terminate()
        return self.process.wait(60)


LATER = "127.0.0.15"
"""The address of ports that are chosen now and opened later: on 127.0.0.1 another test may get
the port meanwhile."""


def free_port() -> int:
    """Return a port of the address ``LATER`` that is free now."""
    with socket.create_server((LATER, 0)) as sock:
        return int(sock.getsockname()[1])


def until_listening(port: int, process: subprocess.Popen[Any]) -> None:
    """Wait until the process accepts connections on the port of ``LATER``."""
    pause = threading.Event()
    for _ in range(int(TIMEOUT / 0.02)):
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection((LATER, port), TIMEOUT).close()
            return
        assert process.poll() is None, "the process has ended"
        pause.wait(0.02)
    raise AssertionError("the process does not listen")


@contextlib.contextmanager
def serving(app: Any) -> Iterator[int]:
    """Serve a WSGI application on werkzeug's server in this process; yield its port."""
    server = werkzeug.serving.make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.port
    finally:
        server.shutdown()
        thread.join(TIMEOUT)
        server.server_close()


@contextlib.contextmanager
def running(
    kind: str, *arguments: str, application: str = "tests.integrations.app:application"
) -> Iterator[Running]:
    """Run a server of this kind with the application during the block."""
    if kind in GUNICORN:
        command = [
            "-m", "gunicorn", "-b", "127.0.0.1:0", "-w", "1", "--access-logfile", "-",
            *GUNICORN[kind], *arguments, application,
        ]  # fmt: skip
    elif kind == "flask":
        command = [
            "-m", "flask", "--app", f"hubthread.examples.{arguments[0]}", "run", "--port", "0",
        ]  # fmt: skip
    else:
        command = ["-m", "tests.integrations.launch", kind, *arguments]
    with tempfile.TemporaryDirectory() as folder, open(f"{folder}/log", "w+") as log:
        process = subprocess.Popen(
            [sys.executable, *command],
            stdout=log,
            stderr=log,
            text=True,
            cwd=ROOT,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "PYTHONUNBUFFERED": "1",
                "PYTHONWARNINGS": "default",  # warns of unclosed resources
                "HOME": folder,  # gunicorn keeps a control socket there
            },
        )
        server = Running(kind, process, Path(log.name))
        try:
            server.port = int(server.until_logged(_LISTENS)[1])
            yield server
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
