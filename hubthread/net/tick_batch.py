"""Collect the messages that one thread writes during a tick, for one send per client at its end.

A ticking room writes and pushes during a tick, and all of it leaves at the tick's end (G6).
The room's thread corks the outboxes that it writes to, so the messages keep their order.  What
another thread sends to such a client meanwhile is not delayed: it goes out at once, behind the
collected messages.  An outbox with ``Overflow.LATEST`` replaces what waits and cannot be corked,
so each write to it goes out by itself.

Layer: net.  Threads: a ``TickBatch`` belongs to the thread that has begun it; any thread may
look it up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from hubthread.concurrency.calls import thread_id
from hubthread.concurrency.fairness import fan_outs
from hubthread.errors import WrongThread
from hubthread.net.outbox import Outbox

__all__ = ["TickBatch", "catch_up", "refuse_in_tick", "tick_batches"]

tick_batches: dict[int, TickBatch] = {}
"""The running batches, by thread id; for the whole process, because a tick may write to the
clients of another hub too.  It is empty while no room ticks, so a write elsewhere costs only a
test for emptiness."""


def refuse_in_tick(what: str) -> None:
    """Refuse to wait for messages that the calling thread itself sends only later.

    :param what: the call that waits.
    :raises WrongThread: if the calling thread is in a tick.
    """
    if thread_id() in tick_batches:
        raise WrongThread(
            f"{what} waits for messages that leave at the end of this tick: call it from a "
            f"handler, or from your own thread"
        )


def catch_up() -> None:
    """Send the pushes of the calling thread in this tick before its next message."""
    if tick_batches and (batch := tick_batches.get(thread_id())) is not None:
        batch.catch_up()


class TickBatch:
    """The outboxes that one thread has corked during a tick.

    :param catch_up: sends the pushes that wait in the room, before a message to one client goes
        out: a member sees pushes and writes in the order of the calls.
    """

    __slots__ = ("_corked", "_thread", "catch_up")

    def __init__(self, catch_up: Callable[[], None]) -> None:
        self.catch_up = catch_up
        self._thread = 0
        self._corked: dict[Outbox, None] = {}

    def begin(self) -> None:
        """Collect what the calling thread writes from now on."""
        self._thread = thread_id()
        tick_batches[self._thread] = self

    def add(self, outbox: Outbox) -> None:
        """Cork ``outbox``, to which the thread is about to write."""
        self.catch_up()
        if outbox not in self._corked and outbox.cork(own=True):
            self._corked[outbox] = None

    def cork(self, outboxes: Iterable[object]) -> None:
        """Cork the outboxes that the thread is about to push to, where they can be corked."""
        for outbox in outboxes:
            if isinstance(outbox, Outbox) and outbox not in self._corked and outbox.cork(own=True):
                self._corked[outbox] = None

    def end(self) -> None:
        """Send the collected messages."""
        del tick_batches[self._thread]
        if self._corked:
            corked, self._corked = self._corked, {}
            with fan_outs.of(len(corked)):
                for outbox in corked:
                    outbox.uncork(own=True)
