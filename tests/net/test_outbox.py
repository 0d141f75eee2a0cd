"""The outbox and its writer thread: when it is there, and what ends it."""

from __future__ import annotations

import socket
import struct
import threading

import pytest

from hubthread.net.backlog import Backlog
from hubthread.net.options import OutboxBounds
from hubthread.net.outbox import PONG, Outbox
from hubthread.types import Overflow
from tests.net.test_outbox_model import Scripted
from tests.support import (
    TIMEOUT,
    Notes,
    Starter,
    Task,
    limits,
    read_exactly,
    read_to_end,
    transport_pair,
)


class Gated(Scripted):
    """A socket whose room a test gives, and whose wait it sees."""

    def __init__(self, buffer: int = 0, *, writable: bool = True) -> None:
        super().__init__(buffer)
        self.waiting = threading.Semaphore(0)
        self.go_on = threading.Semaphore(0)
        self.writable = writable
        self.broken = False

    def send(self, data: bytes | memoryview) -> int:
        if self.broken:
            raise BrokenPipeError
        return super().send(data)

    def wait_writable(self, timeout: float) -> bool:
        self.waiting.release()
        assert self.go_on.acquire(timeout=TIMEOUT)
        return self.writable

    def wait_for_writer(self) -> None:
        assert self.waiting.acquire(timeout=TIMEOUT)


class Counting(Scripted):
    """A socket that takes everything, and counts the calls."""

    def __init__(self) -> None:
        super().__init__()
        self.room = 1_000_000
        self.calls = 0

    def send(self, data: bytes | memoryview) -> int:
        self.calls += 1
        return super().send(data)


def box(
    transport: Scripted, outbox_limits: OutboxBounds | None = None
) -> tuple[Outbox, Starter, Notes]:
    starter, troubles = Starter(), Notes()
    return Outbox(transport, outbox_limits or limits(), starter, troubles), starter, troubles


def test_no_writer_for_a_peer_that_keeps_up() -> None:
    """Nothing waits, so no thread is started."""
    transport = Scripted()
    transport.room = 1000
    outbox, starter, _ = box(transport)
    for number in range(1, 11):
        assert outbox.send(b"0123456789") == number
        assert outbox.is_consumed(number)
    assert starter.threads == []
    assert outbox.wait_consumed(None, 0)
    assert outbox.wait_consumed(10, 0)


def test_the_writer_comes_with_a_backlog_goes_after_it_and_comes_again() -> None:
    """One writer for each time that something waits, none between."""
    transport = Gated()
    outbox, starter, troubles = box(transport)
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


def test_a_lingering_writer_takes_the_next_backlog() -> None:
    """Between two bursts the same thread stays."""
    transport = Gated()
    outbox, starter, _ = box(transport, limits(linger=TIMEOUT))
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
def test_without_a_thread_for_its_writer_it_is_broken(buffer: int) -> None:
    """RuntimeError from the start is reported once; nothing waits and nothing follows."""
    transport = Scripted(buffer)
    transport.room = 3
    outbox, starter, troubles = box(transport)
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


def test_those_who_wait_are_woken_when_there_is_no_thread() -> None:
    """A message that another thread waits for while the start fails counts as consumed."""
    starting, fail = threading.Event(), threading.Event()

    def start(target: object, what: str) -> None:
        starting.set()
        assert fail.wait(TIMEOUT)
        raise RuntimeError("can't start new thread")

    troubles = Notes()
    outbox = Outbox(Scripted(), limits(), start, troubles)
    sender = Task(lambda: outbox.send(b"first"))
    assert starting.wait(TIMEOUT)
    number = outbox.send(b"second")
    waiter = Task(lambda: outbox.wait_consumed(number, TIMEOUT))
    fail.set()
    assert waiter.result()
    sender.result()
    assert troubles.now() == ["no thread"]


def test_a_start_that_fails_after_the_end_is_no_trouble() -> None:
    """When the connection has ended meanwhile nobody needs a writer."""
    starting, fail = threading.Event(), threading.Event()

    def start(target: object, what: str) -> None:
        starting.set()
        assert fail.wait(TIMEOUT)
        raise RuntimeError("can't start new thread")

    troubles = Notes()
    outbox = Outbox(Scripted(), limits(), start, troubles)
    sender = Task(lambda: outbox.send(b"first"))
    assert starting.wait(TIMEOUT)
    outbox.end()
    fail.set()
    sender.result()
    assert troubles.now() == []


@pytest.mark.parametrize("buffer", [0, 4], ids=["plain", "buffering"])
def test_a_socket_that_takes_nothing_is_stalled(buffer: int) -> None:
    """One vain wait and one vain try; reported once, and nothing waits any more."""
    transport = Gated(buffer, writable=False)
    outbox, starter, troubles = box(transport)
    outbox.send(b"0123456789")
    waiter = Task(lambda: outbox.wait_consumed(1, TIMEOUT))
    transport.go_on.release()
    troubles.wait("stalled")
    assert waiter.result()
    starter.join()
    assert outbox.wait_consumed(None, 0)
    assert troubles.now() == ["stalled"]


@pytest.mark.parametrize("buffer", [0, 10], ids=["plain", "buffering"])
def test_a_socket_that_takes_a_byte_at_a_time_is_not_stalled(buffer: int) -> None:
    """A peer that reads slowly may never make the socket writable, and is alive."""
    transport = Gated(buffer, writable=False)
    outbox, starter, troubles = box(transport)
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
def test_a_peer_that_stops_reading_is_stalled(kind: str) -> None:
    """On a real socket: no byte within write_wait."""
    troubles, starter = Notes(), Starter()
    with transport_pair(kind, 16 * 1024) as (transport, _):
        outbox = Outbox(transport, limits(write_wait=0.05), starter, troubles)
        outbox.send(bytes(2**22))
        troubles.wait("stalled")
        assert outbox.waiting() == (0, 0)
        transport.shutdown()
        outbox.end()
        starter.join()
    assert troubles.now() == ["stalled"]


@pytest.mark.parametrize("kind", ["tcp", "unix", "tls"])
def test_a_reset_is_told_once(kind: str) -> None:
    """Whether a sender or the writer finds it: one report, and everybody is woken."""
    troubles, starter = Notes(), Starter()
    with transport_pair(kind, 16 * 1024) as (transport, peer):
        outbox = Outbox(transport, limits(), starter, troubles)
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


def test_a_broken_socket_is_found_by_the_sender() -> None:
    """Every way of sending reports it, the first one only."""
    for first in ("send", "send_batch", "send_control", "finish"):
        transport = Gated()
        transport.broken = True
        outbox, _, troubles = box(transport)
        if first == "send_batch":
            assert outbox.send_batch(b"ab", [b"a", b"b"], [None, None]) == 0
        else:
            getattr(outbox, first)(b"message")
        outbox.send(b"message")
        outbox.finish(b"message")
        assert troubles.now() == ["lost"]
        assert outbox.is_consumed(outbox.count)


def test_end_waits_for_the_writers_last_call() -> None:
    """A descriptor is not given back while the writer still waits for it."""
    transport = Gated()
    outbox, starter, troubles = box(transport)
    number = outbox.send(b"waits")
    transport.wait_for_writer()
    drain = Task(lambda: outbox.wait_consumed(None, TIMEOUT))
    wait = Task(lambda: outbox.wait_consumed(number, TIMEOUT))
    end = Task(outbox.end)
    assert drain.result()
    assert wait.result()
    end.thread.join(0.02)
    assert end.thread.is_alive()
    transport.room = 100
    transport.go_on.release()
    end.result()
    starter.join()
    assert transport.out == b"", "the socket is not touched after the end"
    assert troubles.now() == []


def test_what_is_sent_after_the_end_has_a_number_and_is_consumed() -> None:
    """Nobody waits for ever on a connection that has ended."""
    transport = Gated()
    outbox, starter, _ = box(transport)
    outbox.send(b"waits")
    transport.wait_for_writer()
    transport.go_on.release()
    outbox.end()
    assert outbox.send(b"late") == 2
    assert outbox.wait_consumed(2, TIMEOUT)
    assert outbox.send_batch(b"ab", [b"a", b"b"], [None, None]) == 0
    assert outbox.count == 4
    assert outbox.is_consumed(4)
    starter.join()


@pytest.mark.parametrize("backlog", [False, True])
def test_half_close_comes_behind_everything(backlog: bool) -> None:
    """The sending side ends when the last byte is out, and only then."""
    transport = Gated()
    outbox, starter, _ = box(transport)
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


def test_a_finish_that_comes_after_the_half_close_is_ignored() -> None:
    """A closing that lost the race against the end of the stream sends nothing."""
    transport = Scripted()
    outbox, starter, troubles = box(transport)
    outbox.half_close()
    outbox.finish(b"close")
    assert (transport.out, starter.threads, troubles.now()) == (b"", [], [])


def test_the_last_frame_instead_of_what_waits() -> None:
    """After an overflow the peer gets the rest of one frame, and the Close."""
    transport = Gated()
    transport.room = 3
    outbox, starter, troubles = box(transport, limits(max_messages=3))
    for wire in (b"first", b"second", b"third", b"fourth", b"fifth"):
        outbox.send(wire)
    assert troubles.now() == ["overflow"]
    outbox.finish(b"close", drop_waiting=True)
    assert outbox.dropped == 3  # second, third and fourth; the fifth came too late to count
    transport.room = 100
    transport.go_on.release()
    starter.join()
    assert transport.out == b"firstclose"
    assert outbox.is_consumed(5)


def test_an_overflow_in_the_first_run_starts_a_writer_too() -> None:
    """What was begun is brought out even if nobody finishes."""
    transport = Gated()
    transport.room = 3
    outbox, starter, troubles = box(transport, limits(max_messages=1))
    outbox.send_batch(b"firstsecond", [b"first", b"second"], [None, None])
    assert troubles.now() == ["overflow"]
    transport.wait_for_writer()
    transport.room = 100
    transport.go_on.release()
    assert outbox.wait_consumed(None, TIMEOUT)
    starter.join()
    assert (transport.out, outbox.dropped) == (b"first", 1)


def test_a_started_message_of_a_key_does_not_hide_the_next() -> None:
    """LATEST: behind a value that is partly out at most one more waits."""
    backlog = Backlog(limits(Overflow.LATEST))
    backlog.admit(1, b"0123456789", "key")
    for sent in (1, 2):
        backlog.taken(sent)
        for number in (2, 3):
            backlog.admit(number, b"%d" % number, "key")
        assert (len(backlog), bytes(backlog.chunk())[-1:]) == (2, b"3")


def test_answers_to_pings_never_fill_it() -> None:
    """Only the last waits, before the messages, and no policy closes or drops it."""
    for policy in Overflow:
        transport = Gated()
        transport.room = 2
        outbox, starter, troubles = box(transport, limits(policy, max_messages=2, max_bytes=9))
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


def test_a_large_message_is_not_copied_for_each_try() -> None:
    """A chunk is never larger than the write buffer."""
    backlog = Backlog(limits(write_buffer=100))
    for number, size in enumerate((10, 1000, 10, 80, 50), 1):
        backlog.admit(number, bytes([number]) * size, None)
    sizes = []
    while backlog:
        sizes.append(len(backlog.chunk()))
        backlog.taken(sizes[-1])
    assert sum(sizes) == 1150
    assert max(sizes) == 100
    assert sizes[0] == 10


@pytest.mark.parametrize("kind", ["tcp", "tls"])
def test_many_threads_write_and_each_stays_in_order(kind: str) -> None:
    """Whole messages, in each sender's order, to a peer that reads in small pieces (G3)."""
    threads, count = 6, 300
    troubles, starter = Notes(), Starter()
    with transport_pair(kind, 16 * 1024) as (transport, peer):
        outbox = Outbox(transport, limits(), starter, troubles)
        gate = threading.Barrier(threads + 1)

        def send(thread: int) -> None:
            gate.wait(TIMEOUT)
            for place in range(count):
                wire = struct.pack("!HHH", thread, place, place % 700) + bytes(place % 700)
                if place % 3:
                    outbox.send(wire)
                else:
                    outbox.send_batch(wire, [wire], [None])

        senders = [Task(lambda thread=thread: send(thread)) for thread in range(threads)]  # type: ignore[misc]
        gate.wait(TIMEOUT)
        nexts = [0] * threads
        for _ in range(threads * count):
            thread, place, size = struct.unpack("!HHH", read_exactly(peer, 6))
            assert read_exactly(peer, size) == bytes(size)
            assert place == nexts[thread]
            nexts[thread] += 1
        for sender in senders:
            sender.result()
        assert outbox.wait_consumed(outbox.count, TIMEOUT)
        assert outbox.count == threads * count
        transport.shutdown()
        outbox.end()
        starter.join()
    assert troubles.now() == []


@pytest.mark.parametrize("kind", ["tcp", "tls"])
def test_nothing_comes_after_the_last_frame(kind: str) -> None:
    """Senders and finishers race; the peer gets whole messages, one Close, and the end."""
    troubles, starter = Notes(), Starter()
    with transport_pair(kind, 16 * 1024) as (transport, peer):
        outbox = Outbox(transport, limits(), starter, troubles)
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


@pytest.mark.parametrize("kind", ["tcp", "tls"])
def test_the_end_at_any_moment_leaves_nothing(kind: str) -> None:
    """Senders, the writer and the end race: all of them come back."""
    for _ in range(5):
        troubles, starter = Notes(), Starter()
        with transport_pair(kind, 16 * 1024) as (transport, peer):
            outbox = Outbox(transport, limits(), starter, troubles)
            gate = threading.Barrier(3)

            def send(outbox: Outbox = outbox, gate: threading.Barrier = gate) -> None:
                gate.wait(TIMEOUT)
                for _ in range(50):
                    assert outbox.wait_consumed(outbox.send(bytes(5000)), TIMEOUT)

            senders = [Task(send), Task(send)]
            gate.wait(TIMEOUT)
            read_exactly(peer, 60_000)
            transport.shutdown()
            outbox.end()
            transport.close()
            for sender in senders:
                sender.result()
            starter.join()
            assert outbox.waiting() == (0, 0)
            assert set(troubles.now()) <= {"lost"}


def test_what_is_held_leaves_together() -> None:
    """Between hold and release nothing goes to the socket; then all of it in one call."""
    transport = Counting()
    outbox, starter, troubles = box(transport)
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


def test_what_is_held_can_be_waited_for() -> None:
    """Whoever waits for a message ends the holding."""
    transport = Counting()
    outbox, starter, _ = box(transport)
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
def test_holding_never_makes_an_outbox_overflow(overflow: Overflow) -> None:
    """A handler may write more than the outbox holds, as long as the socket takes it."""
    transport = Counting()
    outbox, _, troubles = box(transport, limits(overflow, max_messages=4, max_bytes=1000))
    outbox.cork()
    for _ in range(50):
        outbox.send(b"0123456789", "key")
    outbox.send_batch(b"run" * 4, [b"run"] * 4, [None] * 4)  # as many as it holds at the most
    outbox.send(b"one")
    outbox.send_batch(b"run" * 4, [b"run"] * 4, [None] * 4)
    outbox.send(b"x" * 5000)
    outbox.uncork()
    assert transport.out == b"0123456789" * 50 + b"run" * 4 + b"one" + b"run" * 4 + b"x" * 5000
    assert (outbox.dropped, troubles.now()) == (0, [])


def test_what_is_held_goes_to_the_writer_when_the_socket_is_full() -> None:
    """A release that the socket does not take starts the writer; nothing is lost."""
    transport = Gated()
    transport.room = 4
    outbox, starter, _ = box(transport)
    outbox.cork()
    number = outbox.send(b"held")
    number = outbox.send(b"back")
    outbox.uncork()
    transport.wait_for_writer()
    assert transport.out == b"held"
    outbox.cork()
    number = outbox.send(b"more")
    outbox.uncork()
    transport.room = 8
    transport.go_on.release()
    assert outbox.wait_consumed(number, TIMEOUT)
    assert transport.out == b"heldbackmore"
    assert len(starter.threads) == 1
    starter.join()


def test_a_socket_that_breaks_under_what_is_held_is_reported_once() -> None:
    """The release finds it, and nothing waits after it."""
    transport = Gated()
    outbox, _, troubles = box(transport)
    outbox.cork()
    outbox.send(b"held")
    transport.broken = True
    outbox.uncork()
    outbox.uncork()
    assert troubles.now() == ["lost"]
    assert outbox.waiting() == (0, 0)


def test_the_last_frame_goes_behind_what_is_held() -> None:
    """A close in the middle of a batch does not overtake the replies before it."""
    transport = Counting()
    outbox, starter, _ = box(transport)
    outbox.cork()
    outbox.send(b"reply")
    outbox.finish(b"close")
    outbox.send(b"ignored")
    outbox.uncork()
    assert transport.out == b"replyclose"
    assert starter.threads == []


def test_control_frames_are_not_held() -> None:
    """Each ping gets its pong, behind the replies before it, although replies are held."""
    transport = Counting()
    outbox, starter, _ = box(transport)
    outbox.cork()
    for number in (b"1", b"2", b"3"):
        outbox.send(b"reply" + number)
        outbox.send_control(b"pong" + number, PONG)
    assert transport.out == b"reply1pong1reply2pong2reply3pong3"
    outbox.send(b"more")
    outbox.uncork()
    assert transport.out.endswith(b"pong3more")
    assert starter.threads == []


def test_what_one_thread_holds_alone_does_not_hold_up_another() -> None:
    """Another's message goes out at once, behind what is held; what follows is held again."""
    transport = Counting()
    outbox, starter, _ = box(transport)
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


def test_each_ends_its_own_holding() -> None:
    """The reader's release, or a wait, ends no tick's, nor the reverse, nor another tick's."""
    transport = Counting()
    outbox, _, _ = box(transport)
    outbox.cork()
    outbox.cork(own=True)
    outbox.send(b"1")
    outbox.uncork()
    assert transport.out == b"1"  # what waits is sent
    outbox.send(b"2")
    assert outbox.wait_consumed(2, 0)
    assert transport.out == b"12"
    outbox.send(b"3")
    other = threading.Event(), threading.Event()

    def another() -> None:
        outbox.cork(own=True)
        outbox.send(b"x")
        outbox.send(b"y")
        other[0].set()
        assert other[1].wait(TIMEOUT)
        outbox.uncork(own=True)

    task = Task(another)
    assert other[0].wait(TIMEOUT)
    outbox.send(b"4")
    assert transport.out == b"12"
    outbox.cork()
    outbox.uncork(own=True)
    assert transport.out == b"123xy4"
    outbox.send(b"5")  # the reader's
    assert transport.out == b"123xy4"
    outbox.uncork()
    assert transport.out == b"123xy45"
    other[1].set()
    task.result()
    outbox.send(b"6")
    assert transport.out == b"123xy456"


def test_what_the_socket_does_not_take_of_another_is_brought_out_while_one_holds_alone() -> None:
    """By the writer, and what is held in front of it too: nobody waits for a tick's end."""
    transport = Gated()
    outbox, starter, troubles = box(transport)
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
