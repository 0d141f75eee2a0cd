"""The outbox: its writer thread, its end, and corking.  ``test_outbox_model`` has the rest."""

from __future__ import annotations

import socket
import struct
import threading

import pytest

from hubthread.net.options import OutboxBounds
from hubthread.net.outbox import PONG, Outbox
from hubthread.types import Overflow
from tests.net.test_outbox_model import Scripted
from tests.support import (
    TIMEOUT,
    Notes,
    Starter,
    Task,
    outbox_bounds,
    read_to_end,
    transport_pair,
)


class Gated(Scripted):
    """A transport whose writer waits until the test says ``go_on``."""

    def __init__(self, buffer: int = 0, *, writable: bool = True) -> None:
        super().__init__(buffer)
        self.waiting = threading.Semaphore(0)
        self.go_on = threading.Semaphore(0)
        self.writable = writable
        self.broken = False
        self.waited = Notes()

    def send(self, data: bytes | memoryview) -> int:
        if self.broken:
            raise BrokenPipeError
        return super().send(data)

    def wait_writable(self, timeout: float) -> bool:
        self.waiting.release()
        assert self.go_on.acquire(timeout=TIMEOUT)
        self.waited("the writer returns")
        return self.writable

    def wait_for_writer(self) -> None:
        assert self.waiting.acquire(timeout=TIMEOUT)


class Counting(Scripted):
    """A transport that takes everything, and counts the calls."""

    def __init__(self) -> None:
        super().__init__()
        self.room = 1_000_000
        self.calls = 0

    def send(self, data: bytes | memoryview) -> int:
        self.calls += 1
        return super().send(data)


def made(transport: Scripted, bounds: OutboxBounds | None = None) -> tuple[Outbox, Starter, Notes]:
    """Return an outbox, the starter of its writers, and its troubles."""
    starter, troubles = Starter(), Notes()
    return Outbox(transport, bounds or outbox_bounds(), starter, troubles), starter, troubles


class SlowStart:
    """A starter that fails when the test says so."""

    def __init__(self) -> None:
        self._called, self._fail = threading.Event(), threading.Event()

    def __call__(self, target: object, what: str) -> None:
        self._called.set()
        assert self._fail.wait(TIMEOUT)
        raise RuntimeError("can't start new thread")

    def called(self) -> None:
        """Wait until an outbox starts its writer."""
        assert self._called.wait(TIMEOUT)

    def fail(self) -> None:
        self._fail.set()


def test_outbox_of_a_peer_that_keeps_up_has_no_writer() -> None:
    transport = Scripted()
    transport.room = 1000
    outbox, starter, _ = made(transport)
    for number in range(1, 11):
        assert outbox.send(b"0123456789") == number
        assert outbox.is_consumed(number)
    assert starter.threads == []
    assert outbox.wait_consumed(None, 0)
    assert outbox.wait_consumed(10, 0)


def test_outbox_has_one_writer_for_each_backlog() -> None:
    """The writer ends with its backlog."""
    transport = Gated()
    outbox, starter, troubles = made(transport)
    for time in (1, 2):
        number = outbox.send(b"waits")
        outbox.send(b"too")
        transport.wait_for_writer()
        assert len(starter.threads) == time
        transport.room = 8
        transport.go_on.release()
        assert outbox.wait_consumed(number + 1, TIMEOUT)
        starter.join()
    assert transport.out == b"waitstoo" * 2
    assert troubles.now() == []


def test_outbox_lingering_writer_sends_the_next_backlog() -> None:
    transport = Gated()
    outbox, starter, _ = made(transport, outbox_bounds(linger=TIMEOUT))
    for _ in range(5):
        outbox.send(b"burst")
        transport.wait_for_writer()
        transport.room = 5
        transport.go_on.release()
        assert outbox.wait_consumed(None, TIMEOUT)
    assert len(starter.threads) == 1
    outbox.end()
    starter.join()


@pytest.mark.parametrize("buffer", [0, 4], ids=["plain", "buffering"])
def test_outbox_without_a_thread_for_its_writer_is_broken(buffer: int) -> None:
    """It is reported once; nothing waits, and nothing is sent."""
    transport = Scripted(buffer)
    transport.room = 3
    outbox, starter, troubles = made(transport)
    starter.refuse = True
    number = outbox.send(b"0123456789")
    assert troubles.now() == ["no thread"]
    assert outbox.waiting() == (0, 0)
    assert outbox.is_consumed(number)
    assert outbox.wait_consumed(outbox.send(b"ignored"), TIMEOUT)
    outbox.finish(b"ignored")
    assert outbox.wait_consumed(None, TIMEOUT)
    assert transport.out == b"012"
    assert troubles.now() == ["no thread"]


def test_outbox_without_a_thread_wakes_waiting_threads() -> None:
    """A message that another thread waits for then counts as consumed."""
    start, troubles = SlowStart(), Notes()
    outbox = Outbox(Scripted(), outbox_bounds(), start, troubles)
    sender = Task(lambda: outbox.send(b"first"))
    start.called()
    number = outbox.send(b"second")
    waiter = Task(lambda: outbox.wait_consumed(number, TIMEOUT))
    start.fail()
    assert waiter.result()
    sender.result()
    assert troubles.now() == ["no thread"]


def test_outbox_failed_start_after_the_end_is_not_reported() -> None:
    """A connection that has ended needs no writer."""
    start, troubles = SlowStart(), Notes()
    outbox = Outbox(Scripted(), outbox_bounds(), start, troubles)
    sender = Task(lambda: outbox.send(b"first"))
    start.called()
    outbox.end()
    start.fail()
    sender.result()
    assert troubles.now() == []


@pytest.mark.parametrize("buffer", [0, 4], ids=["plain", "buffering"])
def test_outbox_socket_that_takes_nothing_is_stalled(buffer: int) -> None:
    """A wait and a call to the socket both fail; the stall is reported once."""
    transport = Gated(buffer, writable=False)
    outbox, starter, troubles = made(transport)
    outbox.send(b"0123456789")
    waiter = Task(lambda: outbox.wait_consumed(1, TIMEOUT))
    transport.go_on.release()
    troubles.wait("stalled")
    assert waiter.result()
    starter.join()
    assert outbox.wait_consumed(None, 0)
    assert troubles.now() == ["stalled"]


@pytest.mark.parametrize("buffer", [0, 10], ids=["plain", "buffering"])
def test_outbox_socket_that_takes_single_bytes_is_not_stalled(buffer: int) -> None:
    """The socket of a peer that reads slowly may never become writable."""
    transport = Gated(buffer, writable=False)
    outbox, starter, troubles = made(transport)
    outbox.send(b"0123456789")
    for _ in range(10):
        transport.wait_for_writer()
        transport.room = 1
        transport.go_on.release()
    assert outbox.wait_consumed(None, TIMEOUT)
    starter.join()
    assert transport.out == b"0123456789"
    assert troubles.now() == []


@pytest.mark.parametrize("kind", ["tcp", "unix", "tls"])
def test_outbox_reset_is_reported_once(kind: str) -> None:
    """Either a sender or the writer reports it, and all waiting threads are woken."""
    troubles, starter = Notes(), Starter()
    with transport_pair(kind, 16 * 1024) as (transport, peer):
        outbox = Outbox(transport, outbox_bounds(), starter, troubles)
        numbers = [outbox.send(bytes(100_000)) for _ in range(3)]
        if kind != "unix":
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        assert outbox.wait_consumed(numbers[-1], TIMEOUT)
        troubles.wait("lost")
        outbox.send(b"ignored")
        outbox.end()
        starter.join()
    assert troubles.now() == ["lost"]


@pytest.mark.parametrize("first", ["send", "send_batch", "send_control", "finish"])
def test_outbox_broken_socket_is_reported_by_the_sender(first: str) -> None:
    """Only the first sender reports it."""
    transport = Gated()
    transport.broken = True
    outbox, _, troubles = made(transport)
    if first == "send_batch":
        assert outbox.send_batch(b"ab", [b"a", b"b"], [None, None]) == 0
    else:
        getattr(outbox, first)(b"message")
    outbox.send(b"message")
    outbox.finish(b"message")
    assert troubles.now() == ["lost"]
    assert outbox.is_consumed(outbox.count)


def test_outbox_end_waits_for_the_last_call_of_the_writer() -> None:
    """A descriptor must not be closed while the writer waits for it."""
    transport = Gated()
    outbox, starter, troubles = made(transport)
    number = outbox.send(b"waits")
    transport.wait_for_writer()
    drain = Task(lambda: outbox.wait_consumed(None, TIMEOUT))
    wait = Task(lambda: outbox.wait_consumed(number, TIMEOUT))

    def finish() -> None:
        outbox.end()
        transport.waited("end returns")

    end = Task(finish)
    assert drain.result()  # once ``end`` has forgotten what waits
    assert wait.result()
    transport.room = 100
    transport.go_on.release()
    end.result()
    assert transport.waited.now() == ["the writer returns", "end returns"]
    starter.join()
    assert transport.out == b"", "the socket is not touched after the end"
    assert troubles.now() == []


def test_outbox_send_after_the_end_is_consumed() -> None:
    """It has a number all the same."""
    transport = Gated()
    outbox, starter, _ = made(transport)
    outbox.send(b"waits")
    transport.wait_for_writer()
    drain, end = Task(lambda: outbox.wait_consumed(None, TIMEOUT)), Task(outbox.end)
    assert drain.result()  # once ``end`` has forgotten what waits, the writer waits no more
    transport.go_on.release()
    end.result()
    assert outbox.send(b"late") == 2
    assert outbox.wait_consumed(2, TIMEOUT)
    assert outbox.send_batch(b"ab", [b"a", b"b"], [None, None]) == 0
    assert outbox.count == 4
    assert outbox.is_consumed(4)
    starter.join()


@pytest.mark.parametrize("backlog", [False, True])
def test_outbox_half_close_follows_the_last_byte(backlog: bool) -> None:
    transport = Gated()
    outbox, starter, _ = made(transport)
    transport.room = 5 if backlog else 100
    outbox.send(b"message")
    outbox.finish(b"close")
    outbox.half_close()
    assert transport.finished == (not backlog)
    if backlog:
        transport.wait_for_writer()
        transport.room = 7
        transport.go_on.release()
        starter.join()
        assert transport.finished == 1
    assert transport.out == b"messageclose"


def test_outbox_finish_after_half_close_sends_nothing() -> None:
    """A close can come too late, after the end of the stream."""
    transport = Scripted()
    outbox, starter, troubles = made(transport)
    outbox.half_close()
    outbox.finish(b"close")
    assert (transport.out, starter.threads, troubles.now()) == (b"", [], [])


def test_outbox_finish_after_overflow_drops_waiting_messages() -> None:
    """The peer gets the rest of the begun frame, and the Close."""
    transport = Gated()
    transport.room = 3
    outbox, starter, troubles = made(transport, outbox_bounds(max_messages=3))
    for wire in (b"first", b"second", b"third", b"fourth", b"fifth"):
        outbox.send(wire)
    assert troubles.now() == ["overflow"]
    outbox.finish(b"close", drop_waiting=True)
    assert outbox.dropped == 3  # second to fourth; the fifth came after the overflow
    transport.room = 100
    transport.go_on.release()
    starter.join()
    assert transport.out == b"firstclose"
    assert outbox.is_consumed(5)


def test_outbox_overflow_in_the_first_batch_starts_a_writer() -> None:
    """The rest of the begun message is sent, even without ``finish``."""
    transport = Gated()
    transport.room = 3
    outbox, starter, troubles = made(transport, outbox_bounds(max_messages=1))
    outbox.send_batch(b"firstsecond", [b"first", b"second"], [None, None])
    assert troubles.now() == ["overflow"]
    transport.wait_for_writer()
    transport.room = 100
    transport.go_on.release()
    assert outbox.wait_consumed(None, TIMEOUT)
    starter.join()
    assert (transport.out, outbox.dropped) == (b"first", 1)


@pytest.mark.parametrize("policy", Overflow)
def test_outbox_is_never_filled_by_pongs(policy: Overflow) -> None:
    """Only the last pong waits, before the messages; no policy drops it or closes for it."""
    transport = Gated()
    transport.room = 2
    outbox, starter, troubles = made(transport, outbox_bounds(policy, max_messages=2, max_bytes=9))
    outbox.send(b"message")
    outbox.send(b"next")
    for size in range(100):
        outbox.send_control(b"p" * size, PONG)
    outbox.send_control(b"pong", PONG)
    assert outbox.waiting() == (2, 9)
    transport.room = 1000
    transport.go_on.release()
    assert outbox.wait_consumed(None, TIMEOUT)
    starter.join()
    assert transport.out == b"messagepongnext"
    assert (troubles.now(), outbox.dropped) == ([], 0)


@pytest.mark.parametrize("kind", ["tcp", "tls"])
def test_outbox_sends_nothing_after_the_last_frame(kind: str) -> None:
    """Senders race with two threads that finish.  The peer gets one Close, at the end."""
    troubles, starter = Notes(), Starter()
    with transport_pair(kind, 16 * 1024) as (transport, peer):
        outbox = Outbox(transport, outbox_bounds(), starter, troubles)
        gate = threading.Barrier(5)

        def send() -> None:
            gate.wait(TIMEOUT)
            for _ in range(200):
                outbox.send(b"m" * 99 + b".")
                outbox.send_control(b"p.", PONG)

        def finish() -> None:
            gate.wait(TIMEOUT)
            outbox.finish(b"close")

        tasks = [Task(send), Task(send), Task(finish), Task(finish)]
        gate.wait(TIMEOUT)
        for task in tasks:
            task.result()
        outbox.half_close()
        *frames, last = read_to_end(peer, may_reset=False).split(b".")
        assert last == b"close"
        assert set(frames) <= {b"m" * 99, b"p"}
        assert outbox.wait_consumed(400, TIMEOUT)
        transport.shutdown()
        outbox.end()
        starter.join()
    assert troubles.now() == []


def test_outbox_uncork_sends_all_in_one_call() -> None:
    """Nothing goes to the socket before."""
    transport = Counting()
    outbox, starter, troubles = made(transport)
    outbox.cork()
    numbers = [outbox.send(wire) for wire in (b"one", b"two", b"three")]
    assert outbox.send_batch(b"fourfive", (b"four", b"five"), (None, None)) == 5
    assert (numbers, transport.out) == ([1, 2, 3], b"")
    assert not outbox.is_consumed(1)
    outbox.uncork()
    assert transport.out == b"onetwothreefourfive"
    assert transport.calls == 1
    assert outbox.is_consumed(5)
    assert outbox.send(b"six") == 6
    assert (transport.calls, starter.threads, troubles.now()) == (2, [], [])


def test_outbox_wait_consumed_uncorks() -> None:
    transport = Counting()
    outbox, starter, _ = made(transport)
    outbox.cork()
    assert outbox.corked
    number = outbox.send(b"one")
    assert outbox.wait_consumed(number, 0)
    assert (outbox.corked, transport.out) == (False, b"one")
    outbox.send(b"two")
    assert transport.out == b"onetwo"
    outbox.uncork()
    assert starter.threads == []


@pytest.mark.parametrize("overflow", list(Overflow))
def test_outbox_cork_never_overflows(overflow: Overflow) -> None:
    """A handler may write more than the bounds allow, as long as the socket takes it."""
    transport = Counting()
    outbox, _, troubles = made(transport, outbox_bounds(overflow, max_messages=4, max_bytes=1000))
    outbox.cork()
    for _ in range(50):
        outbox.send(b"0123456789", "key")
    outbox.send_batch(b"run" * 4, [b"run"] * 4, [None] * 4)  # as many as it may collect
    outbox.send(b"one")
    outbox.send_batch(b"run" * 4, [b"run"] * 4, [None] * 4)
    outbox.send(b"x" * 5000)
    outbox.uncork()
    assert transport.out == b"0123456789" * 50 + b"run" * 4 + b"one" + b"run" * 4 + b"x" * 5000
    assert (outbox.dropped, troubles.now()) == (0, [])


def test_outbox_uncork_on_a_broken_socket_reports_once() -> None:
    transport = Gated()
    outbox, _, troubles = made(transport)
    outbox.cork()
    outbox.send(b"held")
    transport.broken = True
    outbox.uncork()
    outbox.uncork()
    assert troubles.now() == ["lost"]
    assert outbox.waiting() == (0, 0)


def test_outbox_finish_while_corked_goes_behind_messages() -> None:
    transport = Counting()
    outbox, starter, _ = made(transport)
    outbox.cork()
    outbox.send(b"reply")
    outbox.finish(b"close")
    outbox.send(b"ignored")
    outbox.uncork()
    assert transport.out == b"replyclose"
    assert starter.threads == []


def test_outbox_control_frame_while_corked_goes_out_at_once() -> None:
    """Each ping gets its pong, behind the replies to earlier messages."""
    transport = Counting()
    outbox, starter, _ = made(transport)
    outbox.cork()
    for number in (b"1", b"2", b"3"):
        outbox.send(b"reply" + number)
        outbox.send_control(b"pong" + number, PONG)
    assert transport.out == b"reply1pong1reply2pong2reply3pong3"
    outbox.send(b"more")
    outbox.uncork()
    assert transport.out.endswith(b"pong3more")
    assert starter.threads == []


def test_outbox_corked_for_one_thread_sends_for_another() -> None:
    """The other thread's message goes behind the collected ones; later ones are collected."""
    transport = Counting()
    outbox, starter, _ = made(transport)
    outbox.cork(own=True)
    outbox.send(b"a")
    outbox.send(b"b")
    assert Task(lambda: outbox.send(b"|other|")).result() == 3
    assert transport.out == b"ab|other|"
    outbox.send(b"c")
    outbox.send_batch(b"de", (b"d", b"e"), (None, None))
    assert (transport.out, outbox.is_consumed(4)) == (b"ab|other|", False)
    calls = transport.calls
    outbox.uncork(own=True)
    assert (transport.out, transport.calls) == (b"ab|other|cde", calls + 1)
    outbox.send(b"direct")
    assert transport.out.endswith(b"direct")
    assert starter.threads == []


def test_outbox_uncork_ends_only_its_own_cork() -> None:
    """There are corks of the reader and of the threads of two rooms."""
    transport = Counting()
    outbox, _, _ = made(transport)
    outbox.cork()
    outbox.cork(own=True)
    outbox.send(b"1")
    outbox.uncork()
    assert transport.out == b"1"
    outbox.send(b"2")
    assert outbox.wait_consumed(2, 0)
    assert transport.out == b"12"
    outbox.send(b"3")
    collected, go_on = threading.Event(), threading.Event()

    def another() -> None:
        outbox.cork(own=True)
        outbox.send(b"x")
        outbox.send(b"y")
        collected.set()
        assert go_on.wait(TIMEOUT)
        outbox.uncork(own=True)

    task = Task(another)
    assert collected.wait(TIMEOUT)
    outbox.send(b"4")
    assert transport.out == b"12"
    outbox.cork()
    outbox.uncork(own=True)
    assert transport.out == b"123xy4"
    outbox.send(b"5")  # the reader's
    assert transport.out == b"123xy4"
    outbox.uncork()
    assert transport.out == b"123xy45"
    go_on.set()
    task.result()
    outbox.send(b"6")
    assert transport.out == b"123xy456"


def test_outbox_corked_for_one_thread_has_a_writer_for_another() -> None:
    """The writer also sends the collected messages before it, and does not wait for uncork."""
    transport = Gated()
    outbox, starter, troubles = made(transport)
    outbox.cork(own=True)
    outbox.send(b"held")
    transport.room = 6
    number = Task(lambda: outbox.send(b"other")).result()
    transport.wait_for_writer()
    assert transport.out == b"heldot"
    outbox.send(b"more")
    transport.room = 7
    transport.go_on.release()
    assert outbox.wait_consumed(number + 1, TIMEOUT)
    outbox.uncork(own=True)
    assert transport.out == b"heldothermore"
    starter.join()
    assert troubles.now() == []
