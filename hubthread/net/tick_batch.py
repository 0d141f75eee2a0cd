"""What one thread writes to many, kept back until it is through: one send for each client.

Layer: net.  Threads: a ``TickBatch`` belongs to one thread at a time; anybody may look it up.

A room with a clock writes and pushes during a tick, and all of it leaves at the tick's end
(G6).  The writes are held in the clients' outboxes, in their order; whatever another thread
sends to such a client meanwhile is not held up: it goes out at once, behind what is held.
Where outboxes replace what waits (``Overflow.LATEST``) each write goes out by itself.
"""

from __future__ import annotations

from hubthread.concurrency.calls import thread_id
from hubthread.concurrency.fairness import fan_outs
from hubthread.errors import WrongThread
from hubthread.net.outbox import Outbox

__all__ = ["TickBatch", "refuse_in_tick", "tick_batches"]

tick_batches: dict[int, TickBatch] = {}
"""By thread.  Empty while no room ticks, so that a write elsewhere costs one look."""


def refuse_in_tick(what: str) -> None:
    """:raises WrongThread: where what would be waited for is kept back by the waiting thread."""
    if thread_id() in tick_batches:
        raise WrongThread(
            f"{what} waits for what leaves at the end of this tick: call it from a handler, or "
            f"from your own thread"
        )


class TickBatch:
    """The outboxes that one thread has written to."""

    __slots__ = ("_held", "_thread")

    def __init__(self) -> None:
        self._thread = 0
        self._held: dict[Outbox, None] = {}

    def begin(self) -> None:
        """Keep back what the calling thread writes from now on."""
        self._thread = thread_id()
        tick_batches[self._thread] = self

    def add(self, outbox: Outbox) -> None:
        """The thread is about to write to ``outbox``."""
        if outbox not in self._held and outbox.hold(alone=True):
            self._held[outbox] = None

    def end(self) -> None:
        """Send it."""
        del tick_batches[self._thread]
        if self._held:
            held, self._held = self._held, {}
            with fan_outs.of(len(held)):
                for outbox in held:
                    outbox.release(alone=True)
