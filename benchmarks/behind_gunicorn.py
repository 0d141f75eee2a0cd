"""The cost of WebSocket clients for pages: ``python -m benchmarks.behind_gunicorn [CLIENTS]``.

It measures the latency of a plain page, with and without 2,000 connected clients.  The server
is one gunicorn worker with four threads, started anew for each row.  Pages are fetched one at a
time, each on a new connection.  Rounds alternate.  The last line has the ratio of the medians;
the aim is at most 1.5.

Caveats: the clients send nothing.  Requests, server and clients share one machine.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.machine import describe
from hubthread import Hub, HubSetting

ROUNDS = 5
REQUESTS = 400
PATIENCE_S = 20.0

HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)

hub: Hub[Any, Any] = Hub(HubSetting(dict))


def application(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Serve clients at ``/ws``, and elsewhere a page with their number."""
    if environ["PATH_INFO"] == "/ws":
        return hub.websocket_handler(environ, start_response)
    body = str(hub.clients_num()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


@contextlib.contextmanager
def gunicorn() -> Iterator[int]:
    """Run one worker with four threads; yield its port."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log")
        with log.open("w") as output:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "gunicorn", "--bind", "127.0.0.1:0"),
                    *("--workers", "1", "--threads", "4", "benchmarks.behind_gunicorn"),
                ],
                env={**os.environ, "HOME": folder},  # gunicorn keeps a control socket there
                stderr=output,
            )
        try:
            while not (found := re.search(r"Listening at: http://[0-9.]+:([0-9]+)", _text(log))):
                if process.poll() is not None:
                    raise SystemExit(f"gunicorn has ended:\n{_text(log)}")
            yield int(found[1])
        finally:
            process.terminate()
            process.wait(PATIENCE_S)


def _text(log: Path) -> str:
    return log.read_text(errors="replace")


def client(port: int) -> socket.socket:
    """Return a connected client."""
    sock = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
    sock.sendall(HANDSHAKE)
    answer = sock.recv(1024)
    if not answer.startswith(b"HTTP/1.1 101 "):
        raise SystemExit(f"refused: {answer.decode(errors='replace')}")
    return sock


def page(port: int) -> tuple[float, int]:
    """Fetch the page; return the milliseconds and the number of clients."""
    began = time.perf_counter()
    with contextlib.closing(
        http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    ) as connection:
        connection.request("GET", "/", headers={"Connection": "close"})
        count = int(connection.getresponse().read())
    return (time.perf_counter() - began) * 1000, count


def latency(clients: int) -> tuple[float, float]:
    """Return the median and the 99th percentile of a page, in milliseconds."""
    with gunicorn() as port, contextlib.ExitStack() as stack:
        for _ in range(clients):
            stack.enter_context(client(port))
        while page(port)[1] < clients:
            pass
        for _ in range(REQUESTS // 4):
            page(port)
        times = sorted(page(port)[0] for _ in range(REQUESTS))
    return median(times), times[REQUESTS * 99 // 100]


def main() -> None:
    """Measure and print the table."""
    clients = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for name, value in describe(()).items():
        print(f"{name}: {value}")
    medians: dict[int, list[float]] = {0: [], clients: []}
    for number in range(ROUNDS):
        for count, found in medians.items():
            middle, late = latency(count)
            found.append(middle)
            print(f"round {number + 1}, {count:5,} clients: {middle:.2f} ms, p99 {late:.2f} ms")
    idle, held = (median(found) for found in medians.values())
    print(f"{held:.2f} ms with {clients:,} clients, {idle:.2f} without: {held / idle:.2f} times")


if __name__ == "__main__":
    main()
