"""One WebSocket connection: every way in which it ends, told once, leaving nothing."""

from __future__ import annotations

import contextlib
import logging
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from hubthread.concurrency.threads import Threads
from hubthread.net import connection as connection_module
from hubthread.net.connection import Connection
from hubthread.net.options import ConnectionOptions
from hubthread.protocol.frames import Frame, MessageType
from hubthread.protocol.websocket import WebSocketProtocol
from hubthread.types import Overflow
from tests.support import (
    CLOSE,
    PING,
    PONG,
    TEXT,
    TIMEOUT,
    NetServices,
    Notes,
    Task,
    close_frame,
    frame,
    limits,
    read_close,
    read_exactly,
    read_frame,
    read_to_end,
    transport_pair,
)

LOGGER = logging.getLogger("tests.net")


class Sink(Notes):
    """Notes what a connection calls; ``echo`` and ``closing`` make it answer."""

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
    reader: Task[None]
    threads: Threads

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
) -> Iterator[Running]:
    sink = Sink()
    sink.echo, sink.raises = echo, raises
    services = NetServices()
    bounds = limits(overflow, max_bytes=max_bytes, write_wait=write_wait)
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
        yield Running(connection, sink, peer, reader, services.threads)
        connection.cut()
        reader.join()  # what it raised is for whoever expects it
        services.close()
        assert sink.endings() == ["leaving", "closed"]


KINDS = pytest.mark.parametrize("kind", ["tcp", "unix", "tls"])


def text(message: str | bytes) -> Frame:
    return Frame(message, MessageType.TEXT)


@KINDS
def test_messages_go_both_ways(kind: str) -> None:
    """What the peer sends reaches the sink, also what came with the handshake."""
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
def test_the_peer_closes(kind: str, code: int | None, answer: int) -> None:
    """Its code is echoed and reported; one that must not be sent is a violation."""
    with running(kind) as here:
        here.peer.sendall(frame(CLOSE) if code is None else close_frame(code))
        assert read_close(here.peer) == answer
        here.peer.close()
        if code == 1006:
            here.ended("violation", 1002)
        else:
            here.ended("peer", code or 1005, clean=True)


@KINDS
def test_we_close_and_the_peer_answers(kind: str) -> None:
    """What waits goes out first, then the Close; nothing after it."""
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
def test_we_close_and_the_peer_never_answers(kind: str) -> None:
    """After close_timeout it is cut."""
    with running(kind, close_timeout=0.05) as here:
        here.connection.close(1001)
        here.ended("server", 1001)
        assert read_frame(here.peer) == (CLOSE, b"\x03\xe9")


@KINDS
def test_a_peer_that_closes_and_stays_is_cut(kind: str) -> None:
    """The end of the stream is awaited within close_timeout, too."""
    with running(kind, close_timeout=0.05) as here:
        here.peer.sendall(close_frame(1000))
        here.ended("peer", 1000, clean=True)


@KINDS
def test_the_closes_cross(kind: str) -> None:
    """Both sides close at once: each sees the other's, and the first cause is reported."""
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
def test_a_violator_can_read_why_although_it_still_sends(kind: str, bad: bytes, code: int) -> None:
    """The Close is not lost to a reset, however much the peer sends before it reads."""
    with running(kind, buffer=16 * 1024) as here:
        here.peer.sendall(bad + bytes(2**22))
        assert read_close(here.peer) == code
        here.peer.close()
        here.ended("violation", code)


@KINDS
def test_a_violator_that_has_read_nothing_of_megabytes(kind: str) -> None:
    """A backlog is brought out while the peer's stream is still being read."""
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
def test_the_stream_ends_without_a_close(kind: str) -> None:
    """A peer that just goes is lost: 1006."""
    with running(kind) as here:
        here.peer.sendall(frame(TEXT, b"last"))
        here.peer.shutdown(socket.SHUT_WR)
        here.ended("lost", 1006)
        assert here.sink.now() == ["last", "leaving", "closed"]


@pytest.mark.parametrize("kind", ["tcp", "tls"])
def test_the_peer_resets(kind: str) -> None:
    """A reset is an end like another, also under a backlog."""
    with running(kind, buffer=16 * 1024) as here:
        here.connection.send(text(bytes(2**21)))
        read_exactly(here.peer, 100)
        here.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        here.peer.close()
        here.ended("lost", 1006)
        assert here.connection.outbox.is_consumed(1)


def test_a_close_counts_although_our_sending_failed_first() -> None:
    """A peer that says Close and is gone has closed, even if a send finds it out first."""
    entered, go_on = threading.Event(), threading.Event()
    with running() as here:

        def hold(message: str | bytes) -> None:
            entered.set()
            assert go_on.wait(TIMEOUT)

        here.sink.on_message = hold  # type: ignore[method-assign]
        here.peer.sendall(frame(TEXT, b"hold"))
        assert entered.wait(TIMEOUT)
        here.peer.sendall(close_frame(4567))
        here.connection.send(text("never read, so closing resets"))
        read_exactly(here.peer, 1)
        here.peer.close()
        outbox = here.connection.outbox
        while outbox._open:
            here.connection.send(text("noticed?"))
        go_on.set()
        here.ended("peer", 4567, clean=True)


@KINDS
def test_an_outbox_that_overflows_closes_with_try_again(kind: str) -> None:
    """The peer gets whole messages and 1013, and what it did not get is dropped."""
    with running(kind, buffer=16 * 1024, max_bytes=100_000) as here:
        while here.connection.is_open:
            here.connection.send(text(b"m" * 1000))
        outbox = here.connection.outbox
        received = 0
        while (got := read_frame(here.peer))[0] == TEXT:
            assert got[1] == b"m" * 1000
            received += 1
        assert got[1][:2] == struct.pack("!H", 1013)
        assert received + outbox.dropped == outbox.count
        here.peer.sendall(close_frame(1013))
        assert read_to_end(here.peer, may_reset=False) == b""
        here.peer.close()
        here.ended("overflow", 1013, clean=True)


@KINDS
def test_a_peer_that_never_reads_costs_bounded_time(kind: str) -> None:
    """Overflow, then a Close that it does not read either: it is cut."""
    with running(kind, buffer=16 * 1024, max_bytes=100_000, close_timeout=0.05) as here:
        while here.connection.is_open:
            here.connection.send(text(b"m" * 1000))
        here.ended("overflow", 1013)


@KINDS
def test_a_peer_that_takes_nothing_is_stalled(kind: str) -> None:
    """After write_wait without a byte it is cut."""
    with running(kind, buffer=16 * 1024, write_wait=0.05) as here:
        here.connection.send(text(bytes(2**21)))
        here.ended("stalled", 1006)


@KINDS
def test_a_silent_peer_is_pinged_and_then_cut(kind: str) -> None:
    """Pings while it is silent; its end when it stays so."""
    with running(kind, ping_period=0.03, ping_timeout=0.1) as here:
        assert read_frame(here.peer) == (PING, b"")
        assert read_frame(here.peer) == (PING, b"")
        here.ended("silent", 1006)


@KINDS
def test_a_peer_that_answers_pings_stays(kind: str) -> None:
    """Any sign of life begins the count anew."""
    with running(kind, ping_period=0.02, ping_timeout=5.0) as here:
        for _ in range(5):
            assert read_frame(here.peer) == (PING, b"")
            here.peer.sendall(frame(PONG))
        assert here.connection.is_open


def test_a_ping_lets_a_fan_out_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand silent readers may wake at once, and none of them is in a hurry."""
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
        assert len(waited) == 1, "the time of the dead is not stretched by each of their pings"


def test_a_silent_peer_without_pings_is_cut() -> None:
    """ping_timeout alone is a deadline, too."""
    with running(ping_timeout=0.03) as here:
        here.ended("silent", 1006)


@KINDS
def test_a_ping_is_answered_although_much_waits(kind: str) -> None:
    """The answer overtakes the backlog, and few are sent."""
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
        # The socket may have had room for one or another while they came.
        assert pongs[-1] == b"49"
        assert len(pongs) < 25
        assert messages_before < 100


def test_pings_do_not_close_a_peer_that_does_not_read() -> None:
    """A full outbox and a flood of pings: the client stays until a message overflows."""
    with running(buffer=16 * 1024, max_bytes=100_000, ping_period=0.01) as here:
        here.connection.send(text(bytes(2**20)))
        for _ in range(2000):
            here.peer.sendall(frame(PING, b"x" * 125))
        here.peer.sendall(frame(PING, b"last"))
        here.sink.wait(("ping", b"last"))
        assert here.connection.is_open


@KINDS
def test_cut_ends_it_without_a_word(kind: str) -> None:
    """No Close; the reader is woken."""
    with running(kind) as here:
        here.connection.cut()
        here.ended("server", 1006)


def test_no_thread_for_the_writer_costs_this_connection_only() -> None:
    """It is cut, and says why."""
    with running(buffer=16 * 1024) as here:

        def refuse(target: object, what: str) -> None:
            raise RuntimeError("can't start new thread")

        here.connection.outbox._start_thread = refuse
        here.connection.send(text(bytes(2**21)))
        here.ended("no thread", 1006)


def test_a_code_that_must_not_be_sent_is_refused() -> None:
    """close raises, and the connection is as before."""
    with running() as here:
        with pytest.raises(ValueError, match="1006"):
            here.connection.close(1006)
        assert here.connection.is_open


@KINDS
def test_a_bug_ends_the_connection_orderly(kind: str) -> None:
    """What a sink must not raise is told to the peer as 1011, and nothing is left."""
    with running(kind, raises=LookupError("a bug")) as here:
        here.peer.sendall(frame(TEXT, b"boom"))
        assert read_close(here.peer) == 1011
        here.peer.close()
        with pytest.raises(LookupError):
            here.reader.result()
        assert here.sink.endings() == ["leaving", "closed"]


@KINDS
def test_everybody_ends_it_at_once(kind: str) -> None:
    """Closers, cutters, senders and the peer race: one ending, and nothing is left."""
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


@KINDS
def test_our_close_is_there_when_the_peers_meets_it(kind: str) -> None:
    """Whoever decides on ours may be slow to send it: the reader does not end without it."""
    with running(kind) as here:
        outbox = here.connection.outbox
        decided, go_on = threading.Event(), threading.Event()
        finish = outbox.finish

        class Slow:
            """The outbox, where only this test's closer is held up."""

            def finish(self, wire: bytes, *, drop_waiting: bool = False) -> None:
                here.connection.outbox = outbox
                decided.set()
                assert go_on.wait(TIMEOUT)
                finish(wire, drop_waiting=drop_waiting)

        here.connection.outbox = Slow()  # type: ignore[assignment]
        closer = Task(lambda: here.connection.close(4000))
        assert decided.wait(TIMEOUT)
        here.peer.sendall(close_frame(4000))
        assert read_close(here.peer) == 4000
        here.peer.close()
        here.ended("server", 4000, clean=True)
        go_on.set()
        closer.result()
