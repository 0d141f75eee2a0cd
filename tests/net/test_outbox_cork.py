"""A corked outbox against a plain stream: corking changes the calls, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubthread.net.options import OutboxBounds
from hubthread.net.outbox import Outbox
from hubthread.types import Overflow
from tests.net.test_outbox_model import Scripted, WouldWait

SIZES = st.integers(1, 30)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), SIZES),
        st.tuples(st.just("send_batch"), st.lists(SIZES, min_size=1, max_size=5)),
        st.tuples(st.just("control"), SIZES),
        st.tuples(st.sampled_from(["cork", "uncork"]), st.booleans()),
        st.tuples(st.sampled_from(["room", "write"]), st.integers(1, 100)),
    ),
    max_size=60,
)


class Stream:
    """An outbox on a scripted transport, and all the bytes that it was given."""

    def __init__(self, buffer: int) -> None:
        self.transport = Scripted(buffer)
        # Wide enough for all steps together; at most half of it is collected.
        bounds = OutboxBounds(400, 2**20, Overflow.CLOSE, 64, 1.0, 0.0)
        self.writer: Callable[[], None] | None = None
        self.outbox = Outbox(self.transport, bounds, self.start, self.broken)
        self.given = b""
        self.ends: list[int] = []  # where each message ends in the stream

    def start(self, target: Callable[[], None], what: str) -> None:
        assert self.writer is None, "one writer at a time"
        self.writer = target

    def broken(self, trouble: str) -> None:
        raise AssertionError(trouble)

    def wire(self, size: int, *, counts: bool = True) -> bytes:
        start = len(self.given)
        wire = bytes((start + place) % 251 for place in range(size))
        self.given += wire
        if counts:
            self.ends.append(len(self.given))
        return wire

    def send(self, size: int) -> None:
        assert self.outbox.send(self.wire(size)) == len(self.ends)

    def send_batch(self, sizes: list[int]) -> None:
        wires = [self.wire(size) for size in sizes]
        waits = self.outbox.send_batch(b"".join(wires), wires, [None] * len(wires))
        assert waits in (0, len(self.ends))

    def control(self, size: int) -> None:
        self.outbox.send_control(self.wire(size, counts=False))

    def cork(self, own: bool) -> None:
        self.outbox.cork(own=own)

    def uncork(self, own: bool) -> None:
        self.outbox.uncork(own=own)

    def room(self, room: int) -> None:
        self.transport.room += room

    def write(self, room: int) -> None:
        self.transport.room += room
        if self.writer is not None:
            try:
                self.writer()
            except WouldWait:
                return
            self.writer = None

    def check(self) -> None:
        taken = len(self.transport.accepted)
        assert self.transport.accepted == self.given[:taken]
        out = len(self.transport.out)
        consumed = sum(end <= out for end in self.ends)
        assert not self.outbox.is_consumed(consumed + 1)
        if taken == out:  # else the transport still has the end of a message
            assert self.outbox.is_consumed(consumed)
        assert self.outbox.waiting()[0] >= sum(end > taken for end in self.ends)


@pytest.mark.parametrize("buffer", [0, 12], ids=["plain", "buffering"])
@given(steps=STEPS)
def test_outbox_corking_does_not_change_the_stream(
    buffer: int, steps: list[tuple[str, object]]
) -> None:
    """The reader and a tick cork and uncork at any moment; the socket takes any amount."""
    stream = Stream(buffer)
    for name, argument in steps:
        getattr(stream, name)(argument)
        stream.check()
    stream.outbox.finish(b"close")
    stream.outbox.half_close()
    stream.write(10_000)
    assert stream.transport.out == stream.given + b"close"
    assert stream.outbox.waiting() == (0, 0)
    assert stream.transport.finished == 1
