"""The listener: accepts, turns away so that it can be read, and stops at a word."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import selectors
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic

import pytest

from hubthread.concurrency import fairness as courtesy
from hubthread.concurrency.fairness import fan_outs
from hubthread.concurrency.incidents import Incidents
from hubthread.concurrency.threads import Threads
from hubthread.net import listener as listener_module
from hubthread.net.address_limit import AddressLimit
from hubthread.net.bind import open_tcp, open_unix
from hubthread.net.listener import Listener
from tests.support import TIMEOUT, Items, NetServices, Task, read_to_end

Serve = Callable[[socket.socket, object], None]


def echo(sock: socket.socket, peer: object) -> None:
    """Serve one connection: what comes goes back."""
    with contextlib.suppress(OSError):
        while data := sock.recv(1000):
            sock.sendall(data)


class Refusing(Threads):
    """Threads of which there are no more, once the test says so."""

    refuse = False

    def start(self, target: Callable[[], None], what: str) -> None:
        if self.refuse:
            raise RuntimeError("can't start new thread")
        super().start(target, what)


@contextlib.contextmanager
def listening(
    sock: socket.socket | None = None,
    *,
    serve: Serve = echo,
    max_connections: int = 100,
    start: bool = True,
) -> Iterator[tuple[Listener, Refusing]]:
    threads = Refusing("test", Incidents(logging.getLogger("tests.net"), monotonic))
    services = NetServices(threads)
    sock = sock or open_tcp("127.0.0.1", 0, 100)
    addresses = AddressLimit(None, (), services.incidents)
    listener = Listener(sock, serve, services, max_connections, addresses)
    if start:
        listener.start()
    try:
        yield listener, threads
    finally:
        listener.close()
        assert threads.join(TIMEOUT) == []


def connect(listener: Listener) -> socket.socket:
    address = listener.address
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    sock = socket.socket(family)
    sock.settimeout(TIMEOUT)
    try:
        sock.connect(address)
    except OSError:
        sock.close()
        raise
    return sock


def assert_echoes(sock: socket.socket) -> None:
    sock.sendall(b"hello")
    assert sock.recv(100) == b"hello"


def assert_refused(sock: socket.socket) -> None:
    """What an HTTP client does: ask, and read the answer to its end."""
    with sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        head, _, body = read_to_end(sock, may_reset=False).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"Content-Length: %d" % len(body) in head


def test_a_free_port_is_taken_and_told() -> None:
    """Port 0 becomes a real one; connections are counted."""
    with listening() as (listener, _):
        assert not isinstance(listener.address, str)
        host, port = listener.address
        assert host == "127.0.0.1"
        assert port > 0
        with connect(listener) as one, connect(listener) as two:
            assert_echoes(one)
            assert_echoes(two)
            assert (listener.connections, listener.accepted, listener.refused) == (2, 2, 0)


def test_a_unix_socket(tmp_path: Path) -> None:
    """Its path is the address; the file goes with the listener."""
    path = str(tmp_path / "hub.sock")
    peers: list[object] = []

    def serve(sock: socket.socket, peer: object) -> None:
        peers.append(peer)
        echo(sock, peer)

    with listening(open_unix(path, 10), serve=serve) as (listener, _):
        assert listener.address == path
        with connect(listener) as sock:
            assert_echoes(sock)
    assert peers == [path]
    assert not os.path.exists(path)


def test_what_a_dead_server_left_is_replaced(tmp_path: Path) -> None:
    """A socket file that nobody listens on is no obstacle."""
    path = str(tmp_path / "hub.sock")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    with listening(open_unix(path, 10)) as (listener, _), connect(listener) as sock:
        assert_echoes(sock)


@pytest.mark.parametrize("backlog", [10, 0], ids=["accepting", "full"])
def test_a_living_servers_path_is_refused(tmp_path: Path, backlog: int) -> None:
    """Its file stays, even when it is too busy to accept; the error names the path."""
    path = str(tmp_path / "hub.sock")
    with socket.socket(socket.AF_UNIX) as living, socket.socket(socket.AF_UNIX) as waiting:
        living.bind(path)
        living.listen(backlog)
        waiting.connect(path)
        task = Task(lambda: open_unix(path, 10))
        with pytest.raises(OSError, match=r"hub\.sock") as caught:
            task.result()
        assert caught.value.errno == errno.EADDRINUSE
        assert os.path.exists(path)


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    """It is somebody's data."""
    path = tmp_path / "data"
    path.write_text("precious")
    with pytest.raises(OSError, match="data"):
        open_unix(str(path), 10)
    assert path.read_text() == "precious"


def test_errors_name_the_address(tmp_path: Path) -> None:
    """A port in use, a host that is not there or not ours, a path that is too long."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}: .+") as caught:
            open_tcp("127.0.0.1", port, 10)
    assert caught.value.errno == errno.EADDRINUSE
    with pytest.raises(OSError, match=r"cannot listen on no such host:1: .+"):
        open_tcp("no such host", 1, 10)
    with pytest.raises(OSError, match=r"cannot listen on 192\.0\.2\.1:0: .+"):
        open_tcp("192.0.2.1", 0, 10)
    with pytest.raises(OSError, match=r"cannot listen on /x+: (?!None)"):
        open_unix("/" + "x" * 200, 10)


def test_the_last_servers_file_goes_before_its_socket(tmp_path: Path) -> None:
    """A successor that takes the path at once keeps its file."""
    path = str(tmp_path / "hub.sock")
    existed = []

    class Watched(socket.socket):
        def close(self) -> None:
            existed.append(os.path.exists(path))
            super().close()

    with Watched(fileno=open_unix(path, 10).detach()) as sock, listening(sock):
        pass
    assert existed[0] is False


def test_more_than_the_limit_get_503(caplog: pytest.LogCaptureFixture) -> None:
    """Readable, logged once, and over as soon as one leaves."""
    with listening(max_connections=2) as (listener, _):
        with connect(listener) as one, connect(listener) as two:
            assert_echoes(one)
            assert_echoes(two)
            for _ in range(20):
                assert_refused(connect(listener))
            assert (listener.connections, listener.accepted, listener.refused) == (2, 2, 20)
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        with contextlib.ExitStack() as stack:
            # The two may take a moment to be gone.
            while True:
                sock = stack.enter_context(connect(listener))
                sock.sendall(b"hello")
                if sock.recv(5) == b"hello":
                    break


def test_without_threads_clients_get_503_and_the_listener_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Each costs an answer; when there are threads again it serves again."""
    with listening() as (listener, threads):
        threads.refuse = True
        for _ in range(5):
            assert_refused(connect(listener))
        assert (listener.connections, listener.accepted, listener.refused) == (0, 0, 5)
        assert len(caplog.records) == 1
        for _ in range(3):  # one that comes through between does not make it another trouble
            threads.refuse = False
            with connect(listener) as sock:
                assert_echoes(sock)
            threads.refuse = True
            assert_refused(connect(listener))
        assert len(caplog.records) == 1


def test_a_listener_without_a_thread_lets_go(tmp_path: Path) -> None:
    """start raises, nothing is left, and close does not wait for a thread that never was."""
    path = str(tmp_path / "hub.sock")
    with listening(open_unix(path, 10), start=False) as (listener, threads):
        threads.refuse = True
        with pytest.raises(RuntimeError):
            listener.start()
        assert not os.path.exists(path)
        Task(listener.close).result()


def test_a_listener_that_never_started_can_be_closed() -> None:
    """close lets go of everything; a start after it does nothing."""
    with listening(start=False) as (listener, threads):
        Task(listener.close).result()
        listener.start()
        assert threads.count() == 0


def test_close_twice_and_from_everywhere() -> None:
    """Every caller returns when nothing is accepted any more."""
    with listening() as (listener, _):
        gate = threading.Barrier(4)

        def close() -> None:
            gate.wait(TIMEOUT)
            listener.close()
            with pytest.raises(ConnectionRefusedError):
                connect(listener)

        tasks = [Task(close) for _ in range(4)]
        for task in tasks:
            task.result()
        listener.close()


def test_close_wakes_without_polling(monkeypatch: pytest.MonkeyPatch) -> None:
    """The listener waits without a timeout, and close ends the wait."""
    timeouts: list[float | None] = []
    waiting = threading.Event()

    class Watched(selectors.DefaultSelector):
        def select(self, timeout: float | None = None) -> list[object]:  # type: ignore[override]
            timeouts.append(timeout)
            waiting.set()
            return super().select(timeout)  # type: ignore[return-value]

    monkeypatch.setattr(selectors, "DefaultSelector", Watched)
    with listening() as (listener, _):
        assert waiting.wait(TIMEOUT)
        Task(listener.close).result()
    assert timeouts == [None]


def test_close_while_connections_come() -> None:
    """Each is served or refused, none is forgotten, and the served ones live on."""
    with listening() as (listener, _):
        first = connect(listener)
        assert_echoes(first)
        coming = threading.Event()

        def come() -> int:
            served = 0
            while True:
                try:
                    with connect(listener) as sock:
                        sock.sendall(b"x")
                        if not sock.recv(1):
                            return served
                        served += 1
                        coming.set()
                except OSError:
                    return served

        tasks = [Task(come) for _ in range(4)]
        assert coming.wait(TIMEOUT)
        listener.close()
        assert sum(task.result() for task in tasks) + 1 <= listener.accepted
        with first:
            assert_echoes(first)


class Scripted:
    """A listening socket whose accept fails as the test says, then works."""

    def __init__(self, sock: socket.socket, *errors: int) -> None:
        self._sock = sock
        self.errors = [*errors]
        self.calls = 0

    def accept(self) -> tuple[socket.socket, object]:
        self.calls += 1
        if self.errors:
            number = self.errors.pop(0)
            raise OSError(number, os.strerror(number))
        return self._sock.accept()

    def __getattr__(self, name: str) -> object:
        return getattr(self._sock, name)


@pytest.mark.parametrize(
    ("number", "logged"),
    [(errno.ECONNABORTED, 0), (errno.EPERM, 0), (errno.EMFILE, 1), (errno.EINVAL, 1)],
)
def test_accept_errors_do_not_end_it(
    number: int, logged: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What concerns one connection is passed over, what lasts is logged once and waited out."""
    monkeypatch.setattr(listener_module, "PAUSE", 0.001)
    sock = Scripted(open_tcp("127.0.0.1", 0, 10), *[number] * 6)
    with listening(sock) as (listener, _):  # type: ignore[arg-type]
        with connect(listener) as client:
            assert_echoes(client)
        assert sock.errors == []
        assert len(caplog.records) == logged


def test_without_descriptors_it_neither_spins_nor_ends() -> None:
    """A real process at its limit: clients are turned away, an idle listener sleeps."""
    script = """
        import errno, logging, os, resource, socket, sys, threading
        from time import monotonic
        from hubthread.concurrency.incidents import Incidents
        from hubthread.concurrency.threads import Threads
        from hubthread.net.address_limit import AddressLimit
        from hubthread.net.bind import open_tcp
        from hubthread.net.listener import Listener

        def serve(sock, peer):
            while data := sock.recv(100):
                sock.sendall(data)

        logs = []
        class Logs(logging.Handler):
            def emit(self, record): logs.append(record.getMessage())
        logger = logging.getLogger("x"); logger.addHandler(Logs()); logger.propagate = False

        calls = 0
        class Counted(socket.socket):
            def accept(self):
                global calls
                calls += 1
                return super().accept()

        # Made beforehand: what connects needs a descriptor, too.
        clients = [socket.socket() for _ in range(12)]
        for client in clients:
            client.settimeout(20)
        sock = Counted(fileno=open_tcp("127.0.0.1", 0, 100).detach())
        class Services:
            incidents = Incidents(logger, monotonic)
            threads = Threads("x", incidents)
        addresses = AddressLimit(None, (), Services.incidents)
        listener = Listener(sock, serve, Services, 100, addresses)
        listener.start()
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        hoard = []
        try:
            while True:
                hoard.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            pass
        for client in clients[:10]:
            client.connect(listener.address)
            assert client.recv(1) == b"", "closed at once"
        before = calls
        threading.Event().wait(0.2)  # idle: nobody comes
        # It may have been on its way back to select.
        assert calls - before <= 4, f"it spins: {calls - before} calls"
        assert listener.refused == 10, listener.refused
        for descriptor in hoard:
            os.close(descriptor)
        clients[10].connect(listener.address)
        clients[10].sendall(b"hello")
        assert clients[10].recv(10) == b"hello"
        assert len(logs) == 1, logs
        clients[10].close()
        listener.close()
        assert Services.threads.join(20) == []
        print("fine")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "fine\n", done.stderr


def test_without_even_the_spare_descriptor_it_pauses(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody else took it: no spinning, and close ends the pause."""
    monkeypatch.setattr(listener_module, "PAUSE", TIMEOUT * 3)
    sock = Scripted(open_tcp("127.0.0.1", 0, 10), *[errno.EMFILE] * 100)
    with listening(sock) as (listener, _), connect(listener):  # type: ignore[arg-type]
        logged = threading.Event()
        while not caplog.records and not logged.wait(0.001):
            pass
        Task(listener.close).result()
        assert sock.calls == 2


def test_a_connection_that_fails_is_given_back(caplog: pytest.LogCaptureFixture) -> None:
    """What serve raises is logged by its thread, and the place is free again."""

    def fail(sock: socket.socket, peer: object) -> None:
        raise LookupError("a bug")

    with listening(serve=fail, max_connections=1) as (listener, threads):
        with connect(listener) as sock:
            assert read_to_end(sock, may_reset=False) == b""
        listener.close()
        assert threads.join(TIMEOUT) == []
        assert listener.connections == 0
        assert "a bug" in str(caplog.records[0].exc_info)


def test_newcomers_let_a_fan_out_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """They wait for its end in the listen queue, and nothing is done for them."""
    monkeypatch.setattr(courtesy, "_HAS_GIL", True)
    monkeypatch.setattr(courtesy, "PATIENCE", 10 * TIMEOUT)
    seen: Items[int] = Items()

    def serve(sock: socket.socket, peer: object) -> None:
        seen.add(fan_outs.running)

    with listening(serve=serve) as (listener, _), contextlib.ExitStack() as stack:
        with fan_outs.of(courtesy.CROWD):
            for _ in range(20):
                stack.enter_context(connect(listener))
        assert seen.wait(20) == [0] * 20


def test_a_room_that_fans_out_without_cease_lets_newcomers_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All who wait between two fan-outs; and each lets one through before it is served."""
    waits: Items[tuple[int, int]] = Items()
    served: Items[int] = Items()

    class Stub:
        def wait_for_one(self) -> bool:
            waits.add((threading.get_ident(), listener.accepted))
            return True

    def serve(sock: socket.socket, peer: object) -> None:
        served.add(threading.get_ident())
        read_to_end(sock, may_reset=False)  # so that no thread has the number of another

    monkeypatch.setattr(listener_module, "fan_outs", Stub())
    crowd = 40
    with (
        listening(serve=serve, start=False) as (listener, _),
        contextlib.ExitStack() as stack,
    ):
        for _ in range(crowd):
            stack.enter_context(connect(listener))
        listener.start()
        readers = served.wait(crowd)
        assert set(readers) <= {who for who, _ in waits.now()}
        accepted = [count for who, count in waits.now() if who not in readers]
        assert accepted[0] == 0
        assert len(accepted) <= 2  # the other is that it was woken once more
