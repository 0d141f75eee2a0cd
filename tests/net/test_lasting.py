"""Outboxes that pass their messages on; ``guarantees.test_g13_sessions`` has the models."""

from __future__ import annotations

import threading

from hubthread.net.lasting import Greeting, LastingOutbox
from hubthread.net.options import OutboxBounds
from hubthread.protocol.frames import Frame, MessageType
from hubthread.types import Overflow
from tests.net.test_outbox_model import Scripted
from tests.support import TIMEOUT, Notes, Task


class Breaking(Scripted):
    """A transport that breaks when the test says so."""

    broken = False

    def send(self, data: bytes | memoryview) -> int:
        if self.broken:
            raise BrokenPipeError
        return super().send(data)


def wire(text: str) -> bytes:
    return Frame(text, MessageType.TEXT).wire


GREETING = Greeting(lambda lost, number: wire(f"hello {lost} {number}"), None)


def made(transport: Scripted, overflow: Overflow = Overflow.CLOSE) -> tuple[LastingOutbox, Notes]:
    bounds = OutboxBounds(4, 1000, overflow, 4096, 1.0, linger=0.0, sent_bytes=10_000)
    troubles = Notes()
    # The test is the writer: ``write_some``.
    return LastingOutbox(transport, bounds, lambda target, name: None, troubles), troubles


def test_message_that_finds_the_connection_broken_is_kept() -> None:
    transport, new = Breaking(), Scripted()
    transport.room = new.room = 1000
    outbox, troubles = made(transport)
    outbox.open(wire("hello"))
    assert outbox.send(wire("1")) == 1
    transport.broken = True
    assert outbox.send(wire("2")) == 2
    assert outbox.send_batch(wire("3") + wire("4"), [wire("3"), wire("4")], [None, None]) == 4
    assert troubles.now() == ["lost"]
    assert [outbox.is_consumed(number) for number in (1, 2, 4)] == [True, False, False]
    heir, _ = made(new)
    outbox.pass_to(heir, GREETING)
    assert new.out == b"".join(map(wire, ("hello 0 3", "2", "3", "4")))
    assert outbox.is_consumed(4)
    # A thread that has found the old outbox still sends in order.
    assert (outbox.send(wire("5")), heir.count) == (5, 5)
    assert new.out.endswith(wire("5"))


def test_wait_goes_on_in_the_outbox_that_sends_the_message() -> None:
    transport, new = Scripted(), Scripted()
    outbox, _ = made(transport)
    transport.room, new.room = 100, 1000
    outbox.open(wire("hello"))
    outbox.park()
    number = outbox.send(wire("1"))
    waiting = threading.Event()

    def wait() -> bool:
        waiting.set()
        return outbox.wait_consumed(number, TIMEOUT)

    task = Task(wait)
    assert waiting.wait(TIMEOUT)
    heir, _ = made(new)
    outbox.pass_to(heir, GREETING)
    assert task.result()
    assert outbox.waiting() == (0, 0)


def test_overflow_passes_the_messages_on_and_counts_what_does_not_fit() -> None:
    transport, new = Scripted(), Scripted()
    transport.room, new.room = len(wire("hello")), 1000
    outbox, troubles = made(transport)
    outbox.open(wire("hello"))
    for number in range(7):
        outbox.send(wire(str(number)))
    assert troubles.now() == ["overflow"]
    heir, _ = made(new)
    outbox.pass_to(heir, GREETING)
    assert new.out == b"".join(map(wire, ("hello 3 2", "3", "4", "5", "6")))


def test_frame_that_has_begun_is_completed_on_its_connection() -> None:
    """The peer may still read there, and would take the Close for a part of the frame."""
    transport, new = Scripted(), Scripted()
    transport.room, new.room = len(wire("hello")) + 3, 1000
    outbox, _ = made(transport)
    outbox.open(wire("hello"))
    outbox.send(wire("begun"))
    outbox.send(wire("waits"))
    outbox.park()
    outbox.finish(b"\x88\x00")
    transport.room = 1000
    outbox.write_some(writable=True)
    assert transport.out == wire("hello") + wire("begun") + b"\x88\x00"
    heir, _ = made(new)
    outbox.pass_to(heir, GREETING._replace(got=1))
    assert new.out == b"".join(map(wire, ("hello 0 2", "begun", "waits")))


def test_heir_whose_connection_has_ended_passes_on() -> None:
    outbox, _ = made(Scripted())
    outbox.open(wire("hello"))
    outbox.send(wire("1"))
    closing, _ = made(Scripted())
    closing.finish(b"\x88\x00")
    outbox.pass_to(closing, GREETING)
    new = Scripted()
    new.room = 1000
    heir, _ = made(new)
    closing.pass_to(heir, GREETING)
    assert new.out.endswith(wire("1"))
    heir.forget()
    heir.end()
    assert outbox.wait_consumed(None, 0)
