"""A send inside a send to the same peer: messages stay whole, and in the order of the calls."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hubthread.concurrency.threads import Threads
from hubthread.concurrency.timers import Timers
from hubthread.net.outbox import Outbox
from hubthread.net.udp.peer import Address, UdpPeer
from hubthread.protocol.batch import FrameBatch
from hubthread.protocol.frames import Frame, MessageType
from tests.interrupts.interrupting import MOST, at_each
from tests.net.test_outbox_model import Scripted, WouldWait
from tests.support import Logs, incidents_to, outbox_bounds, read_exactly, transport_pair
from tests.support.examples import examples

pytestmark = pytest.mark.interrupts


def fail(trouble: str) -> None:
    raise AssertionError(trouble)


@dataclass
class Sender:
    """A peer's outbox, the messages that were sent, and when each call began and ended."""

    steps: dict[str, Callable[[int], object]] = field(default_factory=dict)
    ticks: itertools.count[int] = field(default_factory=itertools.count)
    numbers: itertools.count[int] = field(default_factory=itertools.count)
    calls: list[tuple[int, int, list[bytes]]] = field(default_factory=list)

    def messages(self, count: int) -> list[bytes]:
        """Return new messages, each of which tells where it ends."""
        return [b"<%d>" % next(self.numbers) for _ in range(count)]

    def sending(self, messages: list[bytes], send: Callable[[], object]) -> None:
        began = next(self.ticks)
        send()
        self.calls.append((began, next(self.ticks), messages))

    def sent(self) -> list[bytes]:
        return [message for _, _, messages in self.calls for message in messages]

    def check(self, got: list[bytes]) -> None:
        """Check that each message came once, and behind those of calls that had returned."""
        assert sorted(got) == sorted(self.sent())
        place = {message: number for number, message in enumerate(got)}
        for _, ended, earlier in self.calls:
            for began, _, later in self.calls:
                if ended < began:
                    assert max(place[one] for one in earlier) < min(place[one] for one in later)
        for _, _, sent in self.calls:
            places = [place[message] for message in sent]
            assert places == list(range(places[0], places[0] + len(places))), "torn"


class ToStream(Sender):
    """An outbox on a scripted socket; its writer runs step by step on this thread."""

    def __init__(self, buffer: int = 0) -> None:
        super().__init__()
        self.transport = Scripted(buffer)
        self.writer: Callable[[], None] | None = None
        bounds = outbox_bounds(linger=0.0)
        self.outbox = Outbox(self.transport, bounds, self.start, fail)
        self.steps = {
            "send": lambda _: self.send(),
            "batch": self.batch,
            "cork": lambda _: self.outbox.cork(),
            "uncork": lambda _: self.outbox.uncork(),
            "cork own": lambda _: self.outbox.cork(own=True),
            "uncork own": lambda _: self.outbox.uncork(own=True),
            "room": self.room,
            "write": lambda _: self.write(),
        }

    def start(self, target: Callable[[], None], name: str) -> None:
        assert self.writer is None, "two writers"
        self.writer = target

    def send(self) -> None:
        (wire,) = messages = self.messages(1)
        self.sending(messages, lambda: self.outbox.send(wire))

    def batch(self, count: int) -> None:
        wires = self.messages(count)
        keys = (None,) * count
        self.sending(wires, lambda: self.outbox.send_batch(b"".join(wires), wires, keys))

    def room(self, size: int) -> None:
        self.transport.room += size

    def write(self) -> None:
        """Run the writer until it would wait for room."""
        writer = self.writer
        if writer is not None:
            with contextlib.suppress(WouldWait):
                writer()
                self.writer = None

    def finish(self) -> list[bytes]:
        self.transport.room = 1_000_000
        self.outbox.uncork()
        self.outbox.uncork(own=True)
        self.write()
        assert self.writer is None
        assert self.outbox.is_consumed(self.outbox.count)
        assert self.outbox.count == len(self.sent())
        return [part + b">" for part in self.transport.out.split(b">")[:-1]]


class ToDatagrams(Sender):
    """A UDP peer on a socket with room for ``free`` datagrams."""

    def __init__(self) -> None:
        super().__init__()
        self.free = 0
        self.left: list[bytes] = []
        self.queued = 0
        incidents = incidents_to(Logs())
        timers = Timers(Threads("test", incidents), incidents)
        self.peer = UdpPeer(("192.0.2.1", 9), 0, _Cable(self), outbox_bounds(), timers)
        self.peer.mark_proven()
        self.steps = {
            "send": lambda _: self.send(),
            "batch": self.batch,
            "room": self.room,
            "write": lambda _: self.write(),
        }

    def send(self) -> None:
        (wire,) = messages = self.messages(1)
        self.sending(messages, lambda: self.peer.send(Frame(wire, MessageType.BINARY)))

    def batch(self, count: int) -> None:
        wires = self.messages(count)
        frames = [Frame(wire, MessageType.BINARY) for wire in wires]
        batch = FrameBatch(frames, [None] * count)
        self.sending(wires, lambda: self.peer.send_batch(batch))

    def room(self, size: int) -> None:
        self.free += size // 4

    def write(self) -> None:
        if self.queued and self.peer.send_waiting():
            self.queued -= 1

    def finish(self) -> list[bytes]:
        self.free = 1_000_000
        while self.queued:
            self.write()
        assert self.peer.is_consumed(self.peer.count)
        return self.left


class _Cable:
    def __init__(self, sender: ToDatagrams) -> None:
        self._sender = sender

    def send(self, wire: bytes, address: Address) -> bool:
        if not self._sender.free:
            return False
        self._sender.free -= 1
        self._sender.left.append(wire)
        return True

    def send_later(self, peer: UdpPeer) -> None:
        self._sender.queued += 1

    def forget(self, peer: UdpPeer) -> None: ...


NAMES = ["send", "batch", "room", "write", "cork", "uncork", "cork own", "uncork own"]
STEP = st.tuples(st.sampled_from(NAMES), st.integers(1, 6))
STEPS = st.lists(STEP, max_size=5)


def to_tls() -> ToStream:
    """Return an outbox whose transport takes bytes that it has not sent."""
    return ToStream(buffer=5)


@pytest.mark.parametrize("kind", [ToStream, to_tls, ToDatagrams])
@settings(max_examples=examples(30))
@given(
    before=STEPS,
    outer=STEP.filter(lambda step: step[0] != "room"),
    inner=st.lists(STEP.filter(lambda step: step[0] != "write"), min_size=1, max_size=4),
    after=STEPS,
)
@example([("room", 1)], ("send", 1), [("send", 1), ("room", 6)], [])
def test_send_inside_a_send_to_the_same_peer_keeps_messages_whole(
    kind: Callable[[], ToStream | ToDatagrams],
    before: list[tuple[str, int]],
    outer: tuple[str, int],
    inner: list[tuple[str, int]],
    after: list[tuple[str, int]],
) -> None:
    """The inner calls are made at each place of the outer one, in turn."""
    for number in range(MOST):
        sender = kind()

        def run(steps: list[tuple[str, int]], sender: Sender = sender) -> None:
            for name, size in steps:
                if name in sender.steps:
                    sender.steps[name](size)

        run(before)
        entered = at_each(lambda: run([outer]), lambda frame: run(inner))(number)
        run(after)
        sender.check(sender.finish())
        if not entered:
            return
    pytest.fail("the outer call has no end")


def test_send_inside_a_read_of_tls_arrives() -> None:
    with transport_pair("tls") as (transport, peer):
        outbox = Outbox(transport, outbox_bounds(), lambda target, name: None, fail)
        sent = b""

        def send(frame: FrameType) -> None:
            outbox.send(sent)

        read = at_each(transport.recv, send)
        for number in range(MOST):
            sent = b"<%d>" % number
            peer.sendall(b"x")
            if not read(number):
                return
            assert read_exactly(peer, len(sent)) == sent
    pytest.fail("the read has no end")
