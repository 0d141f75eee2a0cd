"""The transport: it blocks for bytes, never for room, and any thread can end it."""

from __future__ import annotations

import contextlib
import itertools
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from time import monotonic
from types import SimpleNamespace
from typing import Any

import pytest

from hubthread.concurrency import fairness
from hubthread.net import transport as transport_module
from hubthread.net.steps import run_steps
from hubthread.net.tls import open_transport
from hubthread.net.transport import PlainTransport, Transport, send_steps
from tests.support import (
    TIMEOUT,
    Gate,
    Task,
    fill,
    read_exactly,
    server_context,
    tcp_pair,
    transport_pair,
    unix_pair,
    work,
)

Pair = tuple[Transport, socket.socket]


@pytest.fixture(
    params=["tcp", "unix", "tls", "tcp without kernel deadlines", "tls without kernel deadlines"]
)
def pair(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    kind, *without = request.param.split()
    if without:
        monkeypatch.setattr(transport_module, "KERNEL_DEADLINE", False)
    with transport_pair(kind, 16 * 1024) as pair:
        yield pair


def test_transport_carries_bytes_both_ways_to_the_end(pair: Pair) -> None:
    """The end of the stream is empty bytes."""
    transport, peer = pair
    peer.sendall(b"question")
    assert transport.recv() == b"question"
    assert transport.send(b"answer") == 6
    assert read_exactly(peer, 6) == b"answer"
    transport.finish()
    assert peer.recv(1) == b""
    peer.shutdown(socket.SHUT_RDWR)
    transport.set_deadline(TIMEOUT)
    while transport.recv():  # over TLS the peer's close_notify may come first
        pass


def test_transport_deadline_passes_only_in_silence(pair: Pair) -> None:
    """``recv`` raises TimeoutError and can be called again."""
    transport, peer = pair
    transport.set_deadline(0.01)
    for _ in range(2):
        with pytest.raises(TimeoutError):
            transport.recv()
    transport.set_deadline(TIMEOUT)
    peer.sendall(b"late")
    assert transport.recv() == b"late"
    for never in (None, 1e300):
        transport.set_deadline(never)
        peer.sendall(b"later")
        assert transport.recv() == b"later"


def test_transport_shutdown_wakes_the_reader(pair: Pair) -> None:
    """It finds the end of the stream."""
    transport, _ = pair
    transport.set_deadline(None)
    reading = threading.Event()

    def read() -> bytes:
        reading.set()
        return transport.recv()

    reader = Task(read)
    assert reading.wait(TIMEOUT)
    transport.shutdown()
    assert reader.result() == b""


def test_transport_shutdown_wakes_the_writer(pair: Pair) -> None:
    transport, _ = pair
    fill(transport)
    waiting = threading.Event()

    def wait() -> bool:
        waiting.set()
        return transport.wait_writable(TIMEOUT)

    writer = Task(wait)
    assert waiting.wait(TIMEOUT)
    transport.shutdown()
    assert writer.result()


def test_transport_send_takes_what_fits(pair: Pair) -> None:
    """A full socket takes nothing and does not block; there is room when the peer reads."""
    transport, peer = pair
    sent = fill(transport)
    got = bytearray()
    while transport.unsent or len(got) < len(sent):
        got += peer.recv(4096)
        transport.send(b"")
    assert got == sent
    assert transport.wait_writable(TIMEOUT)
    assert transport.send(b"more") == 4
    assert read_exactly(peer, 4) == b"more"


def test_transport_after_finish_still_receives(pair: Pair) -> None:
    """The peer may send megabytes before it ends its side too."""
    transport, peer = pair
    transport.finish()
    transport.set_deadline(TIMEOUT)

    def send() -> None:
        peer.sendall(bytes(2**21))
        assert peer.recv(1) == b""
        peer.shutdown(socket.SHUT_WR)

    sender = Task(send)
    taken = 0
    while data := transport.recv():
        taken += len(data)
    assert taken >= 2**21
    sender.result()


def test_transport_reset_ends_both_directions(pair: Pair) -> None:
    """``recv`` ends or raises, and ``send`` raises."""
    transport, peer = pair
    if peer.family == socket.AF_INET:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    transport.set_deadline(TIMEOUT)
    try:
        while transport.recv():
            pass
    except TimeoutError:
        pytest.fail("the reset was not noticed")
    except OSError:
        pass

    def send() -> None:
        while transport.wait_writable(TIMEOUT):
            transport.send(bytes(1000))

    with pytest.raises((ConnectionError, ssl.SSLError)):
        send()


def test_transport_calls_after_close_do_nothing(pair: Pair) -> None:
    """Late calls of other threads find a closed socket."""
    transport, _ = pair
    transport.close()
    transport.close()
    transport.shutdown()
    transport.finish()
    transport.set_deadline(1.0)
    assert transport.wait_writable(1.0)


def test_transport_late_shutdown_spares_the_next_owner_of_the_descriptor() -> None:
    server, peer = socket.socketpair()
    with peer:
        number = server.fileno()
        transport = PlainTransport(server)
        transport.close()
        with contextlib.ExitStack() as stack:
            taken: set[int] = set()
            while number not in taken:  # another thread may have freed lower ones
                one, other = stack.enter_context(unix_pair())
                taken |= {one.fileno(), other.fileno()}
            transport.shutdown()
            one.sendall(b"unharmed")
            assert other.recv(100) == b"unharmed"


def test_transport_close_waits_for_a_running_shutdown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise another connection could get the number of the descriptor in between."""
    gate, blocked = Gate(), threading.Event()

    class WatchedLock:
        """A lock that tells when a thread has to wait for it."""

        def __init__(self) -> None:
            self._lock = threading.Lock()

        def __enter__(self) -> None:
            if not self._lock.acquire(blocking=False):
                blocked.set()
                self._lock.acquire()

        def __exit__(self, *error: object) -> None:
            self._lock.release()

    class SlowSocket(socket.socket):
        def shutdown(self, how: int) -> None:
            gate()
            super().shutdown(how)

    monkeypatch.setattr(transport_module, "threading", SimpleNamespace(RLock=WatchedLock))
    server, peer = socket.socketpair()
    with peer, SlowSocket(fileno=server.detach()) as sock:
        transport = PlainTransport(sock)
        cutter = Task(transport.shutdown)
        gate.reached()
        closer = Task(transport.close)
        assert blocked.wait(TIMEOUT)
        assert sock.fileno() != -1
        gate.open()
        cutter.result()
        closer.result()
        assert sock.fileno() == -1


def test_transport_accepts_any_number_of_seconds(pair: Pair) -> None:
    """A deadline beyond the range of the system is a long one, not an error."""
    transport, _ = pair
    assert transport.wait_writable(1e15)
    transport.set_deadline(1e-9)
    with pytest.raises(TimeoutError):
        transport.recv()


def test_transport_large_stream_arrives_whole(pair: Pair) -> None:
    """The read size grows and shrinks meanwhile."""
    transport, peer = pair
    data = bytes(range(256)) * 8192
    sender = Task(lambda: peer.sendall(data + b"small"))
    transport.set_deadline(TIMEOUT)
    got = bytearray()
    while len(got) < len(data) + 5:
        got += transport.recv()
    sender.result()
    assert got == data + b"small"


def test_transport_of_a_broken_socket_reports_it_in_recv() -> None:
    """The failure to set an option of a broken socket is ignored."""

    class Dead(socket.socket):
        def setsockopt(self, *args: object) -> None:
            raise OSError(22, "Invalid argument")  # as macOS does after a reset

    with tcp_pair() as (server, peer), Dead(fileno=server.detach()) as dead:
        transport = open_transport(dead, None)
        peer.close()
        assert transport.recv() == b""


def test_open_transport_with_context_is_tls() -> None:
    with tcp_pair() as (server, _):
        assert type(open_transport(server, None)).__name__ == "PlainTransport"
        assert type(open_transport(server, server_context())).__name__ == "TLSTransport"


def test_send_steps_delivers_everything(pair: Pair) -> None:
    """The socket does not take so much at once."""
    transport, peer = pair
    data = bytes(range(256)) * 4096
    sender = Task(lambda: run_steps(send_steps(transport, data, monotonic() + TIMEOUT)))
    assert read_exactly(peer, len(data)) == data
    assert sender.result() is True


def test_send_steps_after_the_deadline_fails(pair: Pair) -> None:
    """The peer reads nothing."""
    transport, _ = pair
    assert not run_steps(send_steps(transport, bytes(2**22), monotonic() + 0.02))


def test_send_steps_on_a_broken_connection_fails(pair: Pair) -> None:
    """It raises nothing when the peer leaves in the middle."""
    transport, peer = pair
    sender = Task(lambda: run_steps(send_steps(transport, bytes(2**24), monotonic() + TIMEOUT)))
    read_exactly(peer, 1000)
    peer.close()
    assert sender.result() is False


# The size of reads.


def fill_up(peer: socket.socket) -> None:
    peer.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            peer.send(bytes(65536))


def test_transport_reads_large_messages_in_large_pieces(
    pauses: list[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large messages cost little CPU time, so there is no pause between reads."""
    for module in (transport_module, fairness):
        monkeypatch.setattr(module, "SLICE", 10.0)
    # Over TCP a busy kernel may still have some of the bytes on their way.
    with transport_pair("unix") as (transport, peer):
        fill_up(peer)
        sizes = [len(transport.recv()) for _ in range(4)]
    assert sizes == [512, 2048, 8192, 32768]
    assert pauses == []


def test_transport_reads_many_small_messages_in_small_pieces(pauses: list[None]) -> None:
    """The reader yields between reads."""
    sizes = []
    with transport_pair("tcp", 1024 * 1024) as (transport, peer):
        fill_up(peer)
        for _ in range(4):
            sizes.append(len(transport.recv()))
            work(0.002)
    assert sizes == [512, 256, 256, 256]
    assert len(pauses) == 3


def test_transport_reads_expensive_messages_in_small_pieces(
    pauses: list[None],
) -> None:
    """The peer has sent something large before, and no read is full."""
    with transport_pair("tcp", 1024 * 1024) as (transport, peer):
        peer.sendall(bytes(513))
        assert len(transport.recv()) + len(transport.recv()) == 513
        for _ in range(4):
            peer.sendall(bytes(1100))
            left = 1100
            sizes = []
            while left:
                sizes.append(len(transport.recv()))
                left -= sizes[-1]
                work(0.002)
    assert max(sizes) <= 512


def test_transport_reads_messages_of_one_size_whole(
    pauses: list[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frame that is cut in two takes more than twice the time."""
    for module in (transport_module, fairness):
        monkeypatch.setattr(module, "SLICE", 10.0)
    for size in (520, 600, 1016, 1500, 2048):
        with transport_pair("tcp", 1024 * 1024) as (transport, peer):
            peer.sendall(bytes(size))
            left = size
            while left:
                left -= len(transport.recv())
            for _ in range(3):
                peer.sendall(bytes(size))
                assert len(transport.recv()) == size
                peer.sendall(b"few")
                assert transport.recv() == b"few"


def test_transport_busy_reader_yields(pauses: list[None]) -> None:
    """Each read takes all that has come, but the work on it leaves no pause."""
    with transport_pair("tcp", 1024 * 1024) as (transport, peer):
        for _ in range(9):
            peer.sendall(b"few")
            assert transport.recv() == b"few"
            work(0.002)
        assert pauses == [None]
        peer.sendall(bytes(400))
        assert len(transport.recv()) == 400
    assert pauses == [None]


def test_transport_reader_with_pauses_never_yields(
    pauses: list[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The share of the time counts, not the time of one message."""
    passed = itertools.count(0.0, 1.0)
    monkeypatch.setattr(fairness, "monotonic", lambda: next(passed))
    with transport_pair("tcp", 1024 * 1024) as (transport, peer):
        for _ in range(20):
            peer.sendall(bytes(511))
            assert len(transport.recv()) == 511
            work(0.002)
    assert pauses == []


class _Slow:
    """A transport whose peer takes a byte a second."""

    unsent = 0
    watch = None

    def __init__(self) -> None:
        self.now = 0.0
        self.taken = b""

    def send(self, data: memoryview) -> int:
        self.taken += bytes(data[:1])
        return 1

    def wait_writable(self, timeout: float) -> bool:
        self.now += 1.0
        return True


@pytest.mark.parametrize(("patience", "whole"), [(0.0, False), (2.0, True)])
def test_send_steps_with_patience_waits_while_the_peer_takes_something(
    patience: float, whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow: Any = _Slow()
    monkeypatch.setattr(transport_module, "monotonic", lambda: slow.now)
    assert run_steps(send_steps(slow, b"0123456789", 5.0, patience=patience)) is whole
    assert (slow.taken == b"0123456789") is whole
