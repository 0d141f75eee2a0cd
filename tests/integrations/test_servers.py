"""The WSGI servers that hubthread supports, and the ones that it refuses."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import websocket
from websockets.sync.client import connect

from tests.integrations.running import (
    CERTIFICATE,
    LATER,
    MOVES,
    PARKS,
    Running,
    free_port,
    running,
)
from tests.support import TEXT, TIMEOUT, RawPeer, in_thread, masked_frame

TRACES = ("Traceback", "ERROR", "CRITICAL")


def told(peer: RawPeer) -> None:
    """Wait for the close frame of a server that ends, and answer it."""
    assert peer.closed() == (1001, "the server is going away")
    peer.send_close(1001)
    peer.close()


@pytest.fixture(scope="module", params=[*MOVES, *PARKS])
def shared(request: pytest.FixtureRequest) -> Iterator[Running]:
    """Run a server for all tests that leave it unchanged."""
    with running(request.param) as server:
        yield server


@pytest.fixture
def server(shared: Running) -> Iterator[Running]:
    yield shared
    shared.until_figures(clients=0, moved=0, parked=0)
    # At their end servers leave sockets of their own unclosed.
    assert not [word for word in (*TRACES, "ResourceWarning") if word in shared.log], shared.log


@contextlib.contextmanager
def client(server: Running) -> Iterator[websocket.WebSocket]:
    """Connect a client of websocket-client.

    websockets uses two threads, which with TLS on CPython 3.11 may lose the request.
    """
    options = {"ca_certs": CERTIFICATE, "check_hostname": False} if server.tls else None
    connection = websocket.create_connection(server.url, timeout=TIMEOUT, sslopt=options)
    try:
        yield connection
    finally:
        connection.close(timeout=TIMEOUT)
        connection.shutdown()  # type: ignore[no-untyped-call]


def test_server_client_gets_echo(server: Running) -> None:
    with client(server) as ada:
        for text in ("a", "b" * 70_000, "c" * 300):
            ada.send(text)
            assert ada.recv() == text
        ada.send_binary(b"\x00\xff")
        assert ada.recv() == b"\x00\xff"
    server.until_logged("ended after .* peer 1000")


def test_server_route_pushes_to_all(server: Running) -> None:
    with client(server) as ada, client(server) as bob:
        for each in (ada, bob):  # both have begun, and are in the room
            each.send("here")
            assert each.recv() == "here"
        assert server.ask("/push", "news")[0] == 200
        assert [ada.recv(), bob.recv()] == ["news", "news"]


def test_server_statistics_tell_moved_from_parked(server: Running) -> None:
    with server.peer():
        server.until_figures(clients=1)
        figures = server.figures()
    assert (figures["moved"], figures["parked"]) == ((0, 1) if server.tls else (1, 0))
    assert server.log.count("each client holds a thread") == server.tls  # said once


def test_server_frame_in_segment_of_request_is_not_lost(server: Running) -> None:
    with server.peer(behind=masked_frame("early") + masked_frame("bird")) as ada:
        assert ada.messages(2) == ["early", "bird"]


def test_server_stream_has_frames_only(server: Running) -> None:
    """The decoy gets the server's own response and everything that it sends at its end."""
    with server.peer() as ada:
        ada.send("hello")
        assert ada.frame() == (TEXT, b"hello")
        ada.send_close()
        assert ada.closed() == (1000, "")
        assert ada.at_end()


def test_server_client_resets_is_forgotten(server: Running) -> None:
    ada = server.peer()
    server.until_figures(clients=1)
    ada.reset()
    server.until_figures(clients=0)
    assert server.ask("/")[0] == 200


def test_server_stalled_client_delays_nobody(server: Running) -> None:
    with server.peer(receive_buffer=65536) as stalled, server.peer() as bob:
        for each in (stalled, bob):  # both have begun, and are in the room
            each.send("here")
            assert each.message() == "here"
        for number in range(40):
            assert server.ask("/push", f"{number} " + "x" * 100_000)[0] == 200
        texts = [str(text).split()[0] for text in bob.messages(40)]
    assert texts == [str(number) for number in range(40)]


def test_server_plain_request_gets_426(server: Running) -> None:
    status, text = server.ask("/ws")
    assert status == 426
    assert "ws://" in text


def test_server_foreign_page_gets_403(server: Running) -> None:
    status, text = server.shake("Origin: http://evil.example")
    assert (status, text) == (403, "A page from 'http://evil.example' may not connect here.")


def test_server_request_with_body_gets_413(server: Running) -> None:
    status, text = server.shake("Content-Length: 2", body=b"xx")
    assert (status, text) == (413, "A request to this server cannot have a body.")


def test_server_client_has_request(server: Running) -> None:
    with server.peer("Cookie: user=ada", path="/ws/caf%C3%A9?room=%C3%BC&room=2") as ada:
        ada.send("request")
        assert ada.message() == "/ws/café ü ada 127.0.0.1"


# The first servers of ``shared``, so that pytest runs this test as the last one of each.
@pytest.mark.parametrize("shared", MOVES[:-1], indirect=True)
def test_server_process_reloads_or_ends_clients_get_1001(shared: Running) -> None:
    if shared.kind.startswith("gunicorn"):
        with shared.peer() as ada:
            shared.process.send_signal(signal.SIGHUP)
            told(ada)
    with shared.peer() as bob:
        bob.send("hello")
        assert bob.message() == "hello"
        shared.process.terminate()
        told(bob)
        assert shared.process.wait(TIMEOUT) == 0
        assert not [word for word in TRACES if word in shared.log], shared.log


def test_werkzeug_reloads_clients_get_1001(tmp_path: Path) -> None:
    watched = tmp_path / "watched"
    watched.write_text("before")
    with running("werkzeug-reloader", str(watched)) as server, server.peer() as ada:
        ada.send("hello")
        assert ada.message() == "hello"
        os.utime(watched, (2**32, 2**32))
        told(ada)
        with server.peer() as bob:
            bob.send("hello")
            assert bob.message() == "hello"
        assert not [word for word in TRACES if word in server.log], server.log


@pytest.mark.parametrize("kind", ["gunicorn-sync", "gunicorn-gthread"])
def test_gunicorn_max_requests_clients_get_1001(kind: str) -> None:
    with running(kind, "--max-requests", "3") as server, server.peer() as ada:
        server.ask("/")
        server.ask("/")
        told(ada)
        with server.peer() as bob:
            bob.send("hello")
            assert bob.message() == "hello"


def test_gunicorn_preload_starts_hub_after_fork() -> None:
    with running("gunicorn-preload", "--workers", "2") as server:
        for _ in range(4):
            with server.peer() as ada:
                ada.send("hello")
                assert ada.message() == "hello"
        assert server.stop() == 0
        assert not [word for word in TRACES if word in server.log], server.log


@pytest.mark.parametrize("kind", MOVES)
@pytest.mark.load
def test_server_idle_clients_hold_no_thread(kind: str) -> None:
    with running(kind) as server:
        peers = [server.peer() for _ in range(200)]
        try:
            server.until_figures(clients=200, moved=200)
            together: list[int] = []
            asking = [
                threading.Thread(target=lambda: together.append(server.ask("/")[0]))
                for _ in range(8)
            ]
            for thread in asking:
                thread.start()
            for thread in asking:
                thread.join(TIMEOUT)
            assert together == [200] * 8
            peers[0].send("hello")
            assert peers[0].message() == "hello"
        finally:
            for peer in peers:
                peer.close()
        server.until_figures(clients=0)


def test_server_middleware_that_replaces_the_input_is_told_once() -> None:
    with running("gunicorn-gthread", application="tests.integrations.app:read_first") as server:
        for _ in range(2):
            with server.peer() as ada:
                ada.send("hello")
                assert ada.message() == "hello"
        assert server.log.count("a middleware has replaced wsgi.input") == 1


def test_server_restart_keeps_a_port_of_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next worker listens while the last one still waits for a view."""
    port = free_port()
    monkeypatch.setenv("OWN_HOST", LATER)
    monkeypatch.setenv("OWN_PORT", str(port))
    module = "tests/integrations/own_port.py"
    application = "tests.integrations.own_port:application"
    with running("gunicorn-gthread", "-c", module, application=application) as server:
        server.until_logged("the hub listens")
        slow = in_thread(lambda: server.ask("/"))
        server.process.send_signal(signal.SIGHUP)
        server.until_logged("the hub listens", 2)
        slow()
        server.until_logged("a worker has ended")
        pids = set(re.findall(r"Booting worker with pid: (\d+)", server.log))
        with connect(f"ws://{LATER}:{port}", open_timeout=TIMEOUT) as ada:
            assert ada.recv(TIMEOUT) in pids
        assert server.process.poll() is None
        assert "in use" not in server.log


def test_server_that_forks_for_each_request_gets_501() -> None:
    with running("werkzeug-processes") as server:
        status, text = server.shake()
    assert status == 501
    assert "threaded=True" in text


@pytest.mark.parametrize("kind", ["waitress", "gevent", "eventlet", "gunicorn-gevent"])
def test_server_unsupported_gets_501(kind: str) -> None:
    if importlib.util.find_spec(kind.rpartition("-")[2]) is None:
        pytest.skip(f"{kind} is not installed")
    with running(kind) as server:
        status, text = server.shake()
    assert status == 501
    assert "hub.serve" in text
    assert ("greenlets" in text) == (kind != "waitress")


def test_server_request_used_twice_raises() -> None:
    with running("werkzeug") as server, server.peer(path="/twice") as ada:
        server.until_logged("UsageError: this request is a client already")
        ada.send("hello")
        assert ada.message() == "hello"


def test_server_single_thread_with_tls_gets_501() -> None:
    with running("wsgiref-tls") as server:
        status, text = server.shake()
    assert status == 501
    assert "has only one" in text
