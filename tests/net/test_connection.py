"""One WebSocket connection: it ends in every way, tells its sink once, and leaves nothing."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from hubthread.concurrency.threads import Threads
from hubthread.concurrency.timers import Timer, Timers
from hubthread.net import connection as connection_module
from hubthread.net.connection import Connection
from hubthread.net.options import ConnectionOptions
from hubthread.net.transport import Transport
from hubthread.protocol.frames import Frame, MessageType
from hubthread.protocol.websocket import WebSocketProtocol
from hubthread.types import Overflow
from tests.support import (
    CLOSE,
    PING,
    PONG,
    TEXT,
    TIMEOUT,
    Gate,
    NetServices,
    Notes,
    Task,
    close_frame,
    frame,
    outbox_bounds,
    read_close,
    read_exactly,
    read_frame,
    read_to_end,
    transport_pair,
)


class Sink(Notes):
    """A sink that records the calls of a connection; ``echo`` makes it answer messages."""

    connection: Connection
    echo = False
    raises: Exception | None = None

    def enter(self) -> None: ...

    def leave(self) -> None: ...

    def on_message(self, message: str | bytes) -> None:
        self(message)
        if self.raises is not None:
            raise self.raises
        if self.echo:
            self.connection.send(Frame(message, MessageType.TEXT))

    def on_ping(self, payload: bytes) -> None:
        self(("ping", payload))

    def on_pong(self, payload: bytes) -> None:
        self(("pong", payload))

    def on_leaving(self) -> None:
        self("leaving")

    def on_closed(self) -> None:
        connection = self.connection
        assert (connection.code is None) == (connection.ended_by is None)
        assert not connection.is_open
        self("closed")

    def endings(self) -> list[str]:
        return [note for note in self.now() if note in ("leaving", "closed")]


@dataclass
class Running:
    """A connection whose reader runs, and its peer."""

    connection: Connection
    sink: Sink
    peer: socket.socket
    transport: Transport
    reader: Task[None]

    def ended(self, by: str, code: int | None, *, clean: bool = False) -> None:
        self.reader.result()
        connection = self.connection
        assert (connection.ended_by, connection.code) == (by, code)
        assert connection.clean is clean
        assert self.sink.endings() == ["leaving", "closed"]


@contextlib.contextmanager
def running(
    kind: str = "tcp",
    *,
    echo: bool = False,
    raises: Exception | None = None,
    first: bytes = b"",
    buffer: int | None = None,
    close_timeout: float = TIMEOUT,
    write_wait: float = TIMEOUT,
    overflow: Overflow = Overflow.CLOSE,
    max_bytes: int = 2**26,
    ping_period: float | None = None,
    ping_timeout: float | None = None,
    services: NetServices | None = None,
) -> Iterator[Running]:
    sink = Sink()
    sink.echo, sink.raises = echo, raises
    services = services or NetServices()
    bounds = outbox_bounds(overflow, max_bytes=max_bytes, write_wait=write_wait)
    options = ConnectionOptions(bounds, ping_period, ping_timeout, close_timeout)
    with transport_pair(kind, buffer) as (transport, peer):
        connection = sink.connection = Connection(
            transport,
            WebSocketProtocol(max_message=2**20),
            sink,
            options,
            services,
        )
        reader = Task(lambda: connection.run(first))
        yield Running(connection, sink, peer, transport, reader)
        connection.cut()
        reader.join()  # the test looks at what it raised
        services.close()
        assert sink.endings() == ["leaving", "closed"]


KINDS = pytest.mark.parametrize("kind", ["tcp", "unix", "tls"])


def text(message: str | bytes) -> Frame:
    return Frame(message, MessageType.TEXT)


@KINDS
def test_connection_delivers_messages_and_sends_replies(kind: str) -> None:
    """The first message comes in the same segment as the handshake."""
    with running(kind, echo=True, first=frame(TEXT, b"zero")) as here:
        assert read_frame(here.peer) == (TEXT, b"zero")
        for message in (b"one", b"2" * 100_000):
            here.peer.sendall(frame(TEXT, message))
            assert read_frame(here.peer) == (TEXT, message)
        here.peer.sendall(frame(PING, b"?") + frame(PONG, b"!"))
        assert read_frame(here.peer) == (PONG, b"?")
        here.sink.wait(("pong", b"!"))
        assert ("ping", b"?") in here.sink.now()
        assert here.connection.is_open


@KINDS
@pytest.mark.parametrize(("code", "answer"), [(1000, 1000), (4321, 4321), (None, 0), (1006, 1002)])
def test_connection_peer_close_is_echoed(kind: str, code: int | None, answer: int) -> None:
    """A code that must not be sent is a violation."""
    with running(kind) as here:
        here.peer.sendall(frame(CLOSE) if code is None else close_frame(code))
        assert read_close(here.peer) == answer
        here.peer.close()
        if code == 1006:
            here.ended("violation", 1002)
        else:
            here.ended("peer", code or 1005, clean=True)


@KINDS
def test_connection_close_goes_behind_messages(kind: str) -> None:
    """Nothing is sent behind the Close, and nothing received is delivered."""
    with running(kind) as here:
        here.connection.send(text("before"))
        here.connection.close(4000, "enough")
        here.connection.send(text("after"))
        here.connection.close(1011, "again")
        assert read_frame(here.peer) == (TEXT, b"before")
        assert read_frame(here.peer) == (CLOSE, struct.pack("!H", 4000) + b"enough")
        assert not here.connection.is_open
        here.peer.sendall(frame(TEXT, b"not delivered") + frame(PING) + close_frame(4000))
        assert read_to_end(here.peer, may_reset=False) == b""
        here.peer.close()
        here.ended("server", 4000, clean=True)
        assert here.sink.now() == ["leaving", "closed"]
        assert here.connection.reason == "enough"


@KINDS
def test_connection_peer_that_closes_and_stays_is_cut(kind: str) -> None:
    """The peer has ``close_timeout`` to end its stream."""
    with running(kind, close_timeout=0.05) as here:
        here.peer.sendall(close_frame(1000))
        here.ended("peer", 1000, clean=True)


@KINDS
def test_connection_crossing_closes_are_clean(kind: str) -> None:
    """Each side sees the other's Close; the first cause is reported."""
    with running(kind) as here:
        here.connection.close(4000)
        here.peer.sendall(close_frame(4001))
        assert read_close(here.peer) == 4000
        here.peer.close()
        here.ended("server", 4000, clean=True)


@KINDS
@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (b"\x81\x01a", 1002),
        (b"\xf1\x80\0\0\0\0", 1002),
        (frame(TEXT, b"\xff"), 1007),
        (frame(TEXT, bytes(2**20 + 1)), 1009),
    ],
    ids=["unmasked", "reserved", "utf-8", "too big"],
)
def test_connection_violator_that_still_sends_can_read_the_close(
    kind: str, bad: bytes, code: int
) -> None:
    """The Close is not lost to a reset, although the peer sends megabytes before it reads."""
    with running(kind, buffer=16 * 1024) as here:
        here.peer.sendall(bad + bytes(2**22))
        assert read_close(here.peer) == code
        here.peer.close()
        here.ended("violation", code)


@KINDS
def test_connection_violator_with_a_backlog_gets_all_of_it(kind: str) -> None:
    """The backlog is sent while the peer's stream is still read."""
    message = bytes(100_000)
    with running(kind, echo=True, buffer=16 * 1024) as here:
        for _ in range(20):
            here.peer.sendall(frame(TEXT, message))
        here.peer.sendall(b"\xf1\x80\0\0\0\0" + bytes(2**22))
        for _ in range(20):
            assert read_frame(here.peer) == (TEXT, message)
        assert read_close(here.peer) == 1002
        here.peer.close()
        here.ended("violation", 1002)


@KINDS
def test_connection_end_of_stream_without_close_is_lost(kind: str) -> None:
    with running(kind) as here:
        here.peer.sendall(frame(TEXT, b"last"))
        here.peer.shutdown(socket.SHUT_WR)
        here.ended("lost", 1006)
        assert here.sink.now() == ["last", "leaving", "closed"]


@pytest.mark.parametrize("kind", ["tcp", "tls"])
def test_connection_reset_is_lost(kind: str) -> None:
    """Messages that wait count as consumed then."""
    with running(kind, buffer=16 * 1024) as here:
        here.connection.send(text(bytes(2**21)))
        read_exactly(here.peer, 100)
        here.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        here.peer.close()
        here.ended("lost", 1006)
        assert here.connection.outbox.is_consumed(1)


def test_connection_peer_close_counts_after_a_failed_send() -> None:
    """A send finds the reset before the reader reads the Close that came before it."""
    gate = Gate()
    with running() as here:
        here.sink.on_message = gate  # type: ignore[method-assign,assignment]
        here.peer.sendall(frame(TEXT, b"wait"))
        gate.reached()
        here.peer.sendall(close_frame(4567))
        here.connection.send(text("never read, so the close resets"))
        read_exactly(here.peer, 1)
        here.peer.close()
        with contextlib.suppress(OSError):
            while True:  # until the reset has arrived
                here.transport.send(b"x")
        here.connection.send(text("lost"))
        gate.open()
        here.ended("peer", 4567, clean=True)


@KINDS
def test_connection_overflow_closes_with_1013(kind: str) -> None:
    """The peer gets whole messages and the Close; all others count as dropped."""
    with running(kind, buffer=16 * 1024, max_bytes=100_000) as here:
        while here.connection.is_open:
            here.connection.send(text(b"m" * 1000))
        outbox = here.connection.outbox
        received = 0
        while (got := read_frame(here.peer))[0] == TEXT:
            assert got[1] == b"m" * 1000
            received += 1
        assert got[1][:2] == struct.pack("!H", 1013)
        assert got[1][2:] == b"The client reads too slowly; reconnect"
        assert received + outbox.dropped == outbox.count
        here.peer.sendall(close_frame(1013))
        assert read_to_end(here.peer, may_reset=False) == b""
        here.peer.close()
        here.ended("overflow", 1013, clean=True)


@KINDS
def test_connection_overflow_without_reading_is_cut(kind: str) -> None:
    """The peer does not read the Close either."""
    with running(kind, buffer=16 * 1024, max_bytes=100_000, close_timeout=0.05) as here:
        while here.connection.is_open:
            here.connection.send(text(b"m" * 1000))
        here.ended("overflow", 1013)


def test_connection_first_ping_waits_for_a_fan_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand silent readers may wake at once.  Later pings of one peer do not wait."""
    waited: list[None] = []

    class Stub:
        def wait_for_one(self) -> bool:
            waited.append(None)
            return True

    monkeypatch.setattr(connection_module, "fan_outs", Stub())
    with running("tcp", ping_period=0.02, ping_timeout=5.0) as here:
        assert read_frame(here.peer) == (PING, b"")
        assert waited
    waited.clear()
    with running("tcp", ping_period=0.02, ping_timeout=0.1) as here:
        here.ended("silent", 1006)
        assert len(waited) == 1, "each further wait would delay the time-out"


@KINDS
def test_connection_pong_overtakes_the_backlog(kind: str) -> None:
    """Only some pongs are sent: a waiting pong is replaced by the next."""
    with running(kind, buffer=16 * 1024) as here:
        for _ in range(200):
            here.connection.send(text(bytes(10_000)))
        for count in range(50):
            here.peer.sendall(frame(PING, b"%d" % count))
        here.sink.wait(("ping", b"49"))
        pongs, messages_before = [], 0
        for number in range(200):
            opcode, payload = read_frame(here.peer)
            while opcode == PONG:
                pongs.append(payload)
                messages_before = number
                opcode, payload = read_frame(here.peer)
            assert (opcode, payload) == (TEXT, bytes(10_000))
        # The socket may have had room for some of them.
        assert pongs[-1] == b"49"
        assert len(pongs) < 25
        assert messages_before < 100


@KINDS
def test_connection_cut_sends_no_close(kind: str) -> None:
    """The reader wakes."""
    with running(kind) as here:
        here.connection.cut()
        here.ended("server", 1006)


def test_connection_without_a_writer_thread_is_cut() -> None:
    class NoWriters(Threads):
        def start(self, target: Callable[[], None], what: str) -> None:
            if what == "writer":
                raise RuntimeError("can't start new thread")
            super().start(target, what)

    with running(buffer=16 * 1024, services=NetServices(NoWriters)) as here:
        here.connection.send(text(bytes(2**21)))
        here.ended("no thread", 1006)


@KINDS
def test_connection_failing_sink_closes_with_1011(kind: str) -> None:
    """Nothing of the connection is left."""
    with running(kind, raises=LookupError("a bug")) as here:
        here.peer.sendall(frame(TEXT, b"boom"))
        assert read_close(here.peer) == 1011
        here.peer.close()
        with pytest.raises(LookupError):
            here.reader.result()
        assert here.sink.endings() == ["leaving", "closed"]


@KINDS
def test_connection_ended_from_all_sides_ends_once(kind: str) -> None:
    """Threads that close, cut and send race with the peer."""
    for turn in range(8):
        with running(kind, echo=True, buffer=16 * 1024, close_timeout=1.0) as here:
            gate = threading.Barrier(5)

            def close(here: Running = here, gate: threading.Barrier = gate) -> None:
                gate.wait(TIMEOUT)
                here.connection.close(4000)

            def send(here: Running = here, gate: threading.Barrier = gate) -> None:
                gate.wait(TIMEOUT)
                for _ in range(100):
                    here.connection.send(text(b"m" * 2000))

            def leave(here: Running = here, gate: threading.Barrier = gate) -> None:
                gate.wait(TIMEOUT)
                with contextlib.suppress(OSError):
                    here.peer.sendall(frame(TEXT, b"x" * 1000) * 20 + close_frame(4001))
                    here.peer.recv(1000)
                    here.peer.close()

            def cut(
                here: Running = here, gate: threading.Barrier = gate, turn: int = turn
            ) -> None:
                gate.wait(TIMEOUT)
                if turn % 2:
                    here.connection.cut("silent")

            tasks = [Task(work) for work in (close, send, leave, cut)]
            gate.wait(TIMEOUT)
            for task in tasks:
                task.result()
            here.reader.result()
            assert here.sink.endings() == ["leaving", "closed"]
            assert here.connection.ended_by in ("server", "peer", "lost", "silent")
            assert here.connection.outbox.wait_consumed(here.connection.outbox.count, 0)


class SlowTimers(Timers):
    """Timers whose ``set``, which precedes the sending of a Close, waits at a gate."""

    gate: Gate

    def set(self, delay: float, action: Callable[[], None]) -> Timer:
        self.gate()
        return super().set(delay, action)


@KINDS
def test_connection_slow_closer_does_not_lose_our_close(kind: str) -> None:
    """The peer's Close meets ours before the closer has sent it; the reader sends it then."""
    services = NetServices()
    services.timers = SlowTimers(services.threads, services.incidents)
    gate = services.timers.gate = Gate()
    with running(kind, services=services) as here:
        closer = Task(lambda: here.connection.close(4000))
        gate.reached()
        here.peer.sendall(close_frame(4000))
        assert read_close(here.peer) == 4000
        here.peer.close()
        here.ended("server", 4000, clean=True)
        gate.open()
        closer.result()
