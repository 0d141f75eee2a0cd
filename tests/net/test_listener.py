"""The listener: it accepts, refuses so that the client can read why, and stops when told."""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hubthread.concurrency import fairness
from hubthread.concurrency.fairness import fan_outs
from hubthread.concurrency.threads import Threads
from hubthread.net import listener as listener_module
from hubthread.net.address_limit import AddressLimit
from hubthread.net.bind import Bound, open_tcp, open_unix
from hubthread.net.listener import Incoming, Listener
from hubthread.net.steps import Steps
from tests.support import TIMEOUT, Items, Logs, NetServices, Task, read_to_end, together

Serve = Callable[[socket.socket, object], None]


def echo(sock: socket.socket, peer: object) -> None:
    with contextlib.suppress(OSError):
        while data := sock.recv(1000):
            sock.sendall(data)


class RefusingThreads(Threads):
    """Threads that do not start while ``refuse`` is set."""

    refuse = False

    def start(self, target: Callable[[], None], what: str) -> None:
        if self.refuse:
            raise RuntimeError("can't start new thread")
        super().start(target, what)


class Listening:
    """A listener on loopback, its threads and its log."""

    def __init__(self, bound: Bound, serve: Serve, max_connections: int) -> None:
        services = NetServices(RefusingThreads)
        self.threads = services.threads
        self.logs: Logs = services.logs
        limit = AddressLimit(None, (), services.incidents)

        def steps(incoming: Incoming) -> Steps[None]:
            serve(incoming.sock, incoming.peer)
            yield from ()

        self.listener = Listener(bound, steps, services, max_connections, limit)

    def refuse_threads(self, refuse: bool) -> None:
        assert isinstance(self.threads, RefusingThreads)
        self.threads.refuse = refuse

    def connect(self) -> socket.socket:
        address = self.listener.addresses[0]
        sock = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        sock.settimeout(TIMEOUT)
        try:
            sock.connect(address)
        except OSError:
            sock.close()
            raise
        return sock

    def counters(self) -> tuple[int, int, int]:
        listener = self.listener
        return listener.connections, listener.accepted, listener.refused


@contextlib.contextmanager
def listening(
    bound: Bound | None = None,
    *,
    serve: Serve = echo,
    max_connections: int = 100,
    start: bool = True,
) -> Iterator[Listening]:
    here = Listening(bound or open_tcp("127.0.0.1", 0, 100), serve, max_connections)
    if start:
        here.listener.start()
    try:
        yield here
    finally:
        here.listener.close()
        assert here.threads.join(TIMEOUT) == []


def assert_echoes(sock: socket.socket) -> None:
    sock.sendall(b"hello")
    assert sock.recv(100) == b"hello"


def test_listener_on_port_zero_tells_the_port_and_counts_connections() -> None:
    with listening() as here:
        (address,) = here.listener.addresses
        assert isinstance(address, tuple)
        host, port = address
        assert host == "127.0.0.1"
        assert port > 0
        with here.connect() as one, here.connect() as two:
            assert_echoes(one)
            assert_echoes(two)
            assert here.counters() == (2, 2, 0)


def test_listener_close_removes_the_file_before_it_closes_the_socket(tmp_path: Path) -> None:
    """A successor that takes the path at once keeps its own file."""
    path = str(tmp_path / "hub.sock")
    existed = []

    class Watched(socket.socket):
        def close(self) -> None:
            existed.append(os.path.exists(path))
            super().close()

    (sock,) = open_unix(path, 10).socks
    with listening(Bound((Watched(fileno=sock.detach()),), path)):
        pass
    assert existed[0] is False


def test_listener_start_without_a_thread_releases_the_socket(tmp_path: Path) -> None:
    """``close`` does not wait for a thread that has never run."""
    path = str(tmp_path / "hub.sock")
    with listening(open_unix(path, 10), start=False) as here:
        here.refuse_threads(True)
        with pytest.raises(RuntimeError):
            here.listener.start()
        assert not os.path.exists(path)
        Task(here.listener.close).result()


def test_listener_close_before_start_releases_the_socket() -> None:
    """A later ``start`` does nothing."""
    with listening(start=False) as here:
        Task(here.listener.close).result()
        here.listener.start()
        assert here.threads.count() == 0


def test_listener_close_on_many_threads_returns_when_none_is_accepted() -> None:
    with listening() as here:

        def close(_: int) -> None:
            here.listener.close()
            with pytest.raises(ConnectionRefusedError):
                here.connect()

        together(4, close)


def test_listener_waits_without_a_timeout_until_close(monkeypatch: pytest.MonkeyPatch) -> None:
    timeouts: list[float | None] = []
    waiting = threading.Event()

    class Watched(selectors.DefaultSelector):
        def select(self, timeout: float | None = None) -> list[object]:  # type: ignore[override]
            timeouts.append(timeout)
            waiting.set()
            return super().select(timeout)  # type: ignore[return-value]

    monkeypatch.setattr(selectors, "DefaultSelector", Watched)
    with listening() as here:
        assert waiting.wait(TIMEOUT)
        Task(here.listener.close).result()
    assert timeouts == [None]


class ScriptedSocket:
    """A listening socket whose ``accept`` fails with the given errors, and then works."""

    def __init__(self, *errors: int) -> None:
        (self._sock,) = open_tcp("127.0.0.1", 0, 10).socks
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


def scripted(*errors: int) -> tuple[ScriptedSocket, Bound]:
    sock: Any = ScriptedSocket(*errors)
    return sock, Bound((sock,))


@pytest.mark.parametrize(
    ("number", "logged"),
    [(errno.ECONNABORTED, 0), (errno.EPERM, 0), (errno.EMFILE, 1), (errno.EINVAL, 1)],
)
def test_listener_accept_error_does_not_end_the_loop(
    number: int, logged: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of one connection is ignored; a lasting one is logged once, with a pause."""
    monkeypatch.setattr(listener_module, "PAUSE", 0.001)
    sock, bound = scripted(*[number] * 6)
    with listening(bound) as here:
        with here.connect() as client:
            assert_echoes(client)
        assert sock.errors == []
        assert len(here.logs.warnings()) == logged


def test_listener_without_the_spare_descriptor_pauses_until_close(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another thread took the spare descriptor.  The listener must not spin."""
    monkeypatch.setattr(listener_module, "PAUSE", TIMEOUT * 3)
    sock, bound = scripted(*[errno.EMFILE] * 100)
    with listening(bound) as here, here.connect():
        here.logs.wait("no file descriptor for a connection: it must wait")
        Task(here.listener.close).result()
        assert sock.calls == 2


def test_listener_failing_serve_frees_its_place() -> None:
    """The error is logged."""

    def fail(sock: socket.socket, peer: object) -> None:
        raise LookupError("a bug")

    with listening(serve=fail, max_connections=1) as here:
        with here.connect() as sock:
            assert read_to_end(sock, may_reset=False) == b""
        here.listener.close()
        assert here.threads.join(TIMEOUT) == []
        assert here.listener.connections == 0
        assert "LookupError: a bug" in here.logs.warnings()[0]


def test_listener_lets_newcomers_wait_for_a_fan_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """They wait in the backlog of the kernel, where they cost nothing."""
    monkeypatch.setattr(fairness, "HAS_GIL", True)
    monkeypatch.setattr(fairness, "PATIENCE", 10 * TIMEOUT)
    seen: Items[int] = Items()

    def serve(sock: socket.socket, peer: object) -> None:
        seen.add(fan_outs.running)

    with listening(serve=serve) as here, contextlib.ExitStack() as stack:
        with fan_outs.of(fairness.CROWD):
            for _ in range(20):
                stack.enter_context(here.connect())
        assert seen.wait(20) == [0] * 20


def test_listener_between_two_fan_outs_accepts_all_newcomers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A room that never pauses keeps nobody out.  Each reader waits for one fan-out itself."""
    waits: Items[tuple[int, int]] = Items()
    served: Items[int] = Items()

    class Stub:
        def wait_for_one(self) -> bool:
            waits.add((threading.get_ident(), here.listener.accepted))
            return True

    def serve(sock: socket.socket, peer: object) -> None:
        served.add(threading.get_ident())
        read_to_end(sock, may_reset=False)  # until then no other thread has this identifier

    monkeypatch.setattr(listener_module, "fan_outs", Stub())
    crowd = 40
    with listening(serve=serve, start=False) as here, contextlib.ExitStack() as stack:
        for _ in range(crowd):
            stack.enter_context(here.connect())
        here.listener.start()
        readers = served.wait(crowd)
        assert set(readers) <= {thread for thread, _ in waits.now()}
        accepted = [count for thread, count in waits.now() if thread not in readers]
        assert accepted[0] == 0
        assert len(accepted) <= 2  # the selector may have returned once more
