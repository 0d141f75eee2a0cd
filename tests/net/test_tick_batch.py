"""The batch of a tick: what its thread writes leaves at the end, once per client."""

from __future__ import annotations

import pytest

from hubthread.errors import WrongThread
from hubthread.net.outbox import Outbox
from hubthread.net.tick_batch import TickBatch, refuse_in_tick, tick_batches
from hubthread.types import Overflow
from tests.net.test_outbox_model import Scripted
from tests.support import Notes, Starter, Task, outbox_bounds


class Counted(Scripted):
    """A transport that takes everything and notes the size of each send."""

    def __init__(self) -> None:
        super().__init__()
        self.room = 1_000
        self.sends: list[bytes] = []

    def send(self, data: bytes | memoryview) -> int:
        self.sends.append(bytes(data))
        return super().send(data)


def made(overflow: Overflow = Overflow.CLOSE) -> tuple[Outbox, Counted]:
    transport = Counted()
    return Outbox(transport, outbox_bounds(overflow), Starter(), Notes()), transport


def write(batch: TickBatch, outbox: Outbox, wire: bytes) -> None:
    """Write as a connection does."""
    batch.add(outbox)
    outbox.send(wire)


def test_batch_end_sends_once_per_outbox() -> None:
    batch, (one, to_one), (two, to_two) = TickBatch(lambda: None), made(), made()
    batch.begin()
    for wire in (b"a", b"b"):
        write(batch, one, wire)
        write(batch, two, wire)
    assert to_one.sends == to_two.sends == []
    batch.end()
    assert to_one.sends == to_two.sends == [b"ab"]
    one.send(b"c")
    assert to_one.sends == [b"ab", b"c"]


def test_batch_of_one_tick_does_not_reach_into_the_next() -> None:
    batch, (outbox, transport) = TickBatch(lambda: None), made()
    for wire in (b"1", b"2"):
        batch.begin()
        write(batch, outbox, wire)
        batch.end()
    assert transport.sends == [b"1", b"2"]


def test_batch_of_one_thread_does_not_delay_another() -> None:
    batch, (outbox, transport) = TickBatch(lambda: None), made()
    batch.begin()
    write(batch, outbox, b"tick")
    Task(lambda: outbox.send(b"other")).result()
    assert transport.out == b"tickother"
    batch.end()


def test_batch_leaves_an_outbox_of_the_latest_values_uncorked() -> None:
    batch, (outbox, transport) = TickBatch(lambda: None), made(Overflow.LATEST)
    batch.begin()
    write(batch, outbox, b"1")
    write(batch, outbox, b"2")
    assert transport.sends == [b"1", b"2"]
    batch.end()


def test_refuse_in_tick_raises_on_the_thread_of_the_tick_only() -> None:
    batch = TickBatch(lambda: None)
    refuse_in_tick("wait")
    batch.begin()
    with pytest.raises(WrongThread, match="wait waits for messages that leave at the end"):
        refuse_in_tick("wait")
    Task(lambda: refuse_in_tick("wait")).result()
    batch.end()
    refuse_in_tick("wait")
    assert tick_batches == {}
