"""The outbox against a list: the peer gets the same bytes, whenever the socket takes them.

The transport is scripted and the writer is stepped, so each run is deterministic.  A writer that
would wait for the socket raises an exception instead.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from hubthread.net.options import OutboxBounds
from hubthread.net.outbox import PING, PONG, Outbox
from hubthread.net.steps import Watching
from hubthread.types import Overflow
from tests.support.examples import examples

MAX_MESSAGES = 4
MAX_BYTES = 40
WRITE_BUFFER = 16


class WouldWait(Exception):
    """The error of a writer that would wait for the socket."""


class Scripted:
    """A transport that takes ``room`` bytes and then none.

    :param buffer: bytes that it takes beyond, as TLS does; they are ``unsent``.
    """

    watch: Watching | None = None

    def __init__(self, buffer: int = 0) -> None:
        self.buffer = buffer
        self.room = 0
        self.held = b""
        self.out = b""
        self.finished = 0
        self.unsent = 0

    @property
    def accepted(self) -> bytes:
        return self.out + self.held

    def send(self, data: bytes | memoryview) -> int:
        assert not self.finished
        self._flush()
        if not self.buffer:
            taken = min(self.room, len(data))
            self.out += bytes(data[:taken])
            self.room -= taken
            return taken
        taken = 0
        while taken < len(data) and not self.held:
            self.held = bytes(data[taken : taken + self.buffer])
            taken += len(self.held)
            self._flush()
        return taken

    def _flush(self) -> None:
        taken = self.held[: self.room]
        self.out += taken
        self.held = self.held[len(taken) :]
        self.room -= len(taken)
        self.unsent = len(self.held)

    def wait_writable(self, timeout: float) -> bool:
        if not self.room:
            raise WouldWait
        return True

    def finish(self) -> None:
        self.finished += 1

    def handshake(self, timeout: float) -> None: ...

    def set_deadline(self, seconds: float | None) -> None: ...

    def recv(self) -> bytes:
        raise NotImplementedError

    def shutdown(self) -> None: ...

    def close(self) -> None: ...


@dataclass
class Waiting:
    """A frame that waits in the model."""

    wire: bytes
    number: int | None
    key: Hashable = None
    begun: bool = False

    @property
    def is_message(self) -> bool:
        return self.number is not None


@dataclass
class Model:
    """The outbox as a plain list."""

    policy: Overflow
    queue: list[Waiting] = field(default_factory=list)
    expected: bytes = b""
    count: int = 0
    dropped: int = 0
    open: bool = True
    overflowed: bool = False

    def counted(self) -> list[Waiting]:
        """Return the frames that the bounds hold for.

        Pings and pongs, and a control frame that is partly out, do not count.
        """
        return [
            frame
            for frame in self.queue
            if frame.is_message or not (frame.begun or frame.key in (PING, PONG))
        ]

    def size(self) -> int:
        return sum(len(frame.wire) for frame in self.counted())

    def fits(self, wire: bytes) -> bool:
        counted = self.counted()
        small = len(counted) < MAX_MESSAGES and self.size() + len(wire) <= MAX_BYTES
        return small or not counted

    def offer(self, frame: Waiting) -> None:
        """Add a frame of which the socket has taken nothing."""
        if not self.open:
            return
        ordinary = [f for f in self.queue if not f.begun and f.key not in (PING, PONG)]
        if frame.key is PING or frame.key is PONG:
            for waiting in self.queue:
                if waiting.key is frame.key and not waiting.begun:
                    waiting.wire = frame.wire
                    return
            self.queue.insert(len(self.queue) - len(ordinary), frame)
            return
        if self.policy is Overflow.LATEST and frame.is_message and frame.key is not None:
            for waiting in ordinary:
                if waiting.key == frame.key and waiting.is_message:
                    waiting.wire = frame.wire
                    self.dropped += 1
                    if self.size() > MAX_BYTES and len(self.counted()) > 1:
                        self.overflow()
                    return
        if not self.fits(frame.wire):
            if self.policy is Overflow.DROP_OLDEST:
                while ordinary and not self.fits(frame.wire):
                    oldest = ordinary.pop(0)
                    self.queue.remove(oldest)
                    self.dropped += oldest.is_message
            else:
                self.dropped += frame.is_message
                if self.policy is not Overflow.DROP_NEWEST:
                    self.overflow()
                return
        self.queue.append(frame)

    def overflow(self) -> None:
        self.open = False
        self.overflowed = True

    def advance(self, taken: int) -> None:
        """Remove the first ``taken`` bytes, which the socket has taken."""
        while taken:
            frame = self.queue[0]
            self.expected += frame.wire[:taken]
            if taken < len(frame.wire):
                frame.wire = frame.wire[taken:]
                frame.begun = True
                return
            taken -= len(frame.wire)
            del self.queue[0]


class OutboxAgainstAList(RuleBasedStateMachine):
    """Random messages, and random room for them."""

    def __init__(self, policy: Overflow, buffer: int) -> None:
        super().__init__()
        self.transport = Scripted(buffer)
        self.model = Model(policy)
        self.started: Callable[[], None] | None = None
        self.troubles: list[str] = []
        bounds = OutboxBounds(MAX_MESSAGES, MAX_BYTES, policy, WRITE_BUFFER, 1.0, 0.0)
        self.outbox = Outbox(self.transport, bounds, self.start, self.troubles.append)
        self.was_direct = False
        self.letter = 0
        self.close = b""
        self.consumed = 0

    def start(self, target: Callable[[], None], what: str) -> None:
        assert self.started is None, "one writer at a time"
        self.started = target

    def wire(self, size: int) -> bytes:
        """Return a frame that differs from all others, so that lost bytes are seen."""
        self.letter += 1
        return bytes((self.letter + place * 37) % 256 for place in range(size))

    def note(self, before: int, frames: list[Waiting]) -> None:
        taken = len(self.transport.accepted) - before
        model = self.model
        for frame in frames:
            if taken or self.was_direct:
                part = min(taken, len(frame.wire))
                model.queue.append(frame)
                model.advance(part)
                taken -= part
                self.was_direct = part == len(frame.wire)
                # A frame of which no byte is out is subject to the policy.
                if not part:
                    model.queue.remove(frame)
                    model.offer(frame)
            else:
                model.offer(frame)
            if model.overflowed:
                # The rest of the batch is dropped with it.
                later = frames[frames.index(frame) + 1 :]
                model.dropped += sum(f.is_message for f in later)
                break

    def begin(self) -> int:
        model = self.model
        self.was_direct = model.open and not model.queue and not self.transport.held
        return len(self.transport.accepted)

    @rule(size=st.integers(2, 60), key=st.sampled_from([None, None, "a", "b"]))
    def send(self, size: int, key: str | None) -> None:
        wire, before, was_open = self.wire(size), self.begin(), self.model.open
        self.model.count += 1
        assert self.outbox.send(wire, key) == self.model.count
        if was_open:
            self.note(before, [Waiting(wire, self.model.count, key)])

    @rule(sizes=st.lists(st.integers(2, 30), min_size=1, max_size=5))
    def send_batch(self, sizes: list[int]) -> None:
        wires, before, was_open = [*map(self.wire, sizes)], self.begin(), self.model.open
        keys = [(None, "a", "b")[size % 3] for size in sizes]
        number = self.outbox.send_batch(b"".join(wires), wires, keys)
        first = self.model.count + 1
        self.model.count += len(wires)
        assert number in (0, self.model.count)
        assert bool(number) != self.outbox.is_consumed(self.model.count)
        if was_open:
            frames = [Waiting(w, first + i, keys[i]) for i, w in enumerate(wires)]
            self.note(before, frames)

    @rule(size=st.integers(2, 20), key=st.sampled_from([None, PING, PONG, PONG]))
    def send_control(self, size: int, key: Hashable) -> None:
        wire, before = self.wire(size), self.begin()
        if key is None:
            self.outbox.send_control(wire)
        else:
            self.outbox.send_control(wire, key)
        if self.model.open:
            self.note(before, [Waiting(wire, None, key)])

    @rule(room=st.integers(1, 50))
    def room(self, room: int) -> None:
        self.transport.room += room

    @rule(room=st.integers(0, 50))
    def write(self, room: int) -> None:
        self.transport.room += room
        before = len(self.transport.accepted)
        self.step()
        self.model.advance(len(self.transport.accepted) - before)

    def step(self) -> None:
        target = self.started
        if target is not None:
            try:
                target()
            except WouldWait:
                return
            self.started = None

    @precondition(lambda self: not self.close)
    @rule(drop=st.booleans(), rarely=st.integers(0, 5))
    def finish(self, drop: bool, rarely: int) -> None:
        if rarely and not self.model.overflowed:
            return
        wire, before, model = self.wire(8), self.begin(), self.model
        if drop:
            gone = [frame for frame in model.queue if not frame.begun]
            model.queue = [frame for frame in model.queue if frame.begun]
            model.dropped += sum(frame.is_message for frame in gone)
        self.outbox.finish(wire, drop_waiting=drop)
        model.open = False
        model.queue.append(Waiting(wire, None))
        self.close = wire
        model.advance(len(self.transport.accepted) - before)

    @invariant()
    def whole_frames_in_order(self) -> None:
        assert self.transport.accepted == self.model.expected

    @invariant()
    def bounds_and_numbers(self) -> None:
        model, outbox = self.model, self.outbox
        assert outbox.waiting() == (len(model.counted()), model.size())
        assert outbox.dropped == model.dropped
        assert outbox.count == model.count
        assert self.troubles == ["overflow"] * model.overflowed
        numbers = [frame.number for frame in model.queue if frame.number is not None]
        if not self.transport.held:  # else the transport still has the end of a message
            assert outbox.is_consumed(min(numbers, default=model.count + 1) - 1)
            assert not outbox.is_consumed(min(numbers, default=model.count + 1))
        assert outbox.is_consumed(self.consumed)
        while self.consumed < outbox.count and outbox.is_consumed(self.consumed + 1):
            self.consumed += 1
        finishing = bool(self.close)
        begun = [frame for frame in model.queue if frame.begun]
        newest = model.queue[-1:] if model.policy is Overflow.DROP_OLDEST else []
        if not finishing and len(model.counted()) > 1 and not model.overflowed:
            above = begun and model.counted() == begun + newest
            assert above or (len(model.counted()) <= MAX_MESSAGES and model.size() <= MAX_BYTES)

    @invariant()
    def a_writer_is_there_when_something_waits(self) -> None:
        assert self.started or not (self.model.queue or self.transport.held)

    def teardown(self) -> None:
        if not self.close:
            self.finish(False, 0)
        self.outbox.half_close()
        self.write(10_000)
        assert self.transport.accepted == self.transport.out == self.model.expected
        assert self.transport.out.endswith(self.close)
        assert self.transport.finished == 1
        self.outbox.send(b"too late")
        self.outbox.send_control(b"too late")
        self.outbox.finish(b"too late")
        assert self.transport.out == self.model.expected
        assert self.outbox.is_consumed(self.outbox.count)
        assert self.outbox.wait_consumed(None, 0)


@pytest.mark.parametrize("buffer", [0, 12], ids=["plain", "buffering"])
@pytest.mark.parametrize("policy", Overflow)
def test_outbox_behaves_like_a_list(policy: Overflow, buffer: int) -> None:
    """Bytes, bounds, numbers and dropped messages are the same."""
    run: Callable[..., None] = run_state_machine_as_test
    run(
        lambda: OutboxAgainstAList(policy, buffer),
        settings=settings(max_examples=examples(30), stateful_step_count=40),
    )
