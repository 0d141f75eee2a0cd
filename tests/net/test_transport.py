"""The transport: blocks for bytes, never for room, and ends from any thread."""

from __future__ import annotations

import contextlib
import itertools
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from time import monotonic

import pytest

from hubthread.concurrency import fairness
from hubthread.net import transport as transport_module
from hubthread.net.tls import open_transport
from hubthread.net.transport import PlainTransport, Transport, send_all
from tests.support import (
    TIMEOUT,
    Task,
    fill,
    read_exactly,
    read_to_end,
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
    """What is sent arrives on either side; the end of the stream is empty bytes."""
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
    """recv raises TimeoutError after the deadline, and goes on afterwards."""
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
    """A blocked recv returns the end of the stream when another thread shuts down."""
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
    """wait_writable returns when the connection is cut."""
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
    """A full socket takes nothing, at once; when the peer reads there is room again."""
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
    """The sending side ends alone: what the peer sends is taken until it ends, too."""
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
    """After the peer's reset recv ends and send raises OSError."""
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
    """Late calls from other threads find a closed socket and say nothing."""
    transport, _ = pair
    transport.close()
    transport.close()
    transport.shutdown()
    transport.finish()
    transport.set_deadline(1.0)
    assert transport.wait_writable(1.0)


def test_transport_late_shutdown_spares_the_next_owner_of_the_descriptor() -> None:
    """shutdown after close leaves a socket alone that got the same number."""
    server, peer = socket.socketpair()
    with peer:
        number = server.fileno()
        transport = PlainTransport(server)
        transport.close()
        with unix_pair() as (one, other):
            assert number in (one.fileno(), other.fileno())
            transport.shutdown()
            one.sendall(b"unharmed")
            assert other.recv(100) == b"unharmed"


def test_transport_close_waits_for_a_running_shutdown() -> None:
    """Between the look at a descriptor's number and its use it cannot change hands."""
    inside, go_on = threading.Event(), threading.Event()

    class Slow(socket.socket):
        def shutdown(self, how: int) -> None:
            inside.set()
            assert go_on.wait(TIMEOUT)
            super().shutdown(how)

    server, peer = socket.socketpair()
    with peer, Slow(fileno=server.detach()) as slow:
        transport = PlainTransport(slow)
        cutter = Task(transport.shutdown)
        assert inside.wait(TIMEOUT)
        closer = Task(transport.close)
        closer.thread.join(0.02)
        assert slow.fileno() != -1
        go_on.set()
        cutter.result()
        closer.result()
        assert slow.fileno() == -1


def test_transport_accepts_any_number_of_seconds(pair: Pair) -> None:
    """A deadline beyond what the system counts in is a long one, not an error."""
    transport, _ = pair
    assert transport.wait_writable(1e15)
    transport.set_deadline(1e-9)
    with pytest.raises(TimeoutError):
        transport.recv()


def test_transport_large_stream_arrives_whole(pair: Pair) -> None:
    """Growing and shrinking reads lose nothing."""
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
    """An option that cannot be set on a dead socket does not fail the transport."""

    class Dead(socket.socket):
        def setsockopt(self, *args: object) -> None:
            raise OSError(22, "Invalid argument")  # what macOS says after a reset

    with tcp_pair() as (server, peer), Dead(fileno=server.detach()) as dead:
        transport = open_transport(dead, None)
        peer.close()
        assert transport.recv() == b""


def test_open_transport_with_context_is_tls() -> None:
    """open_transport gives TLS where there is a context."""
    with tcp_pair() as (server, _):
        assert type(open_transport(server, None)).__name__ == "PlainTransport"
        assert type(open_transport(server, server_context())).__name__ == "TLSTransport"


def test_send_all_delivers_everything(pair: Pair) -> None:
    """Much more than the socket takes at once arrives whole."""
    transport, peer = pair
    data = bytes(range(256)) * 4096
    sender = Task(lambda: send_all(transport, data, monotonic() + TIMEOUT))
    assert read_exactly(peer, len(data)) == data
    assert sender.result() is True


def test_send_all_after_the_deadline_fails(pair: Pair) -> None:
    """A peer that reads nothing costs the time allowed."""
    transport, _ = pair
    assert not send_all(transport, bytes(2**22), monotonic() + 0.02)


def test_send_all_on_a_broken_connection_fails(pair: Pair) -> None:
    """A peer that goes in the middle is no exception."""
    transport, peer = pair
    sender = Task(lambda: send_all(transport, bytes(2**24), monotonic() + TIMEOUT))
    read_exactly(peer, 1000)
    peer.close()
    assert sender.result() is False


def test_transport_finish_ends_the_stream_behind_the_data(pair: Pair) -> None:
    """Everything sent before it arrives, then the end of the stream."""
    transport, peer = pair
    transport.send(b"last words")
    transport.finish()
    assert read_to_end(peer, may_reset=False) == b"last words"


# How much is read at once.


def fill_up(peer: socket.socket) -> None:
    peer.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            peer.send(bytes(65536))


def test_transport_reads_large_messages_in_large_pieces(
    pauses: list[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What costs little to deal with: fewer calls, and no pause between them."""
    for module in (transport_module, fairness):
        monkeypatch.setattr(module, "SLICE", 10.0)
    with transport_pair("tcp", 1024 * 1024) as (transport, peer):
        fill_up(peer)
        sizes = [len(transport.recv()) for _ in range(4)]
    assert sizes == [512, 2048, 8192, 32768]
    assert pauses == []


def test_transport_reads_many_small_messages_in_small_pieces(pauses: list[None]) -> None:
    """What takes long is done in slices, and others go first between them."""
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
    """As a peer that has sent something large, and then bursts of what takes long."""
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
    """A frame in two reads takes more than twice the time of one that is whole."""
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
    """As a peer that sends no faster than it is served."""
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
    """However long each message takes: what counts is the share of the time."""
    passed = itertools.count(0.0, 1.0)
    monkeypatch.setattr(fairness, "monotonic", lambda: next(passed))
    with transport_pair("tcp", 1024 * 1024) as (transport, peer):
        for _ in range(20):
            peer.sendall(bytes(511))
            assert len(transport.recv()) == 511
            work(0.002)
    assert pauses == []
