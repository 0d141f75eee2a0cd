"""The hub's queue of work: a ``queue.Queue`` that closes, is bounded, and is taken whole.

Layer: concurrency.  Threads: anybody posts, exactly one thread takes.
"""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Generic, TypeVar

from hubthread.errors import HubClosed, QueueFull

__all__ = ["Mailbox"]

T = TypeVar("T")


class Mailbox(queue.Queue[T], Generic[T]):
    """Work for one thread, in the order of acceptance.

    ``post`` either accepts, and then ``take`` will hand the entry out exactly once, or
    raises and has done nothing.  Whether the mailbox is closed is looked up, and the
    entry appended, under one lock: nothing can slip in behind ``close``.

    Threads: ``post``, ``close``, ``depth`` from any; ``take`` from the one owner.

    :param bound: how many entries may wait; essential entries are not counted against it.
    :param name: who owns it, for error messages.
    :param now: the clock, in seconds.
    """

    def __init__(self, bound: int, name: str, now: Callable[[], float] = monotonic) -> None:
        super().__init__()
        self._now = now
        # The oldest entry was posted at this time, or later: when the mailbox was last taken,
        # or when the first one woke the owner.  Not read for each entry.
        self.filling_since = self.taken_since = now()  # the same for what was taken last
        self.bound = bound
        self.name = name
        self.closed = False
        self._owner_waits = False

    def post(self, entry: T, *, essential: bool = False) -> None:
        """Append ``entry`` and wake the owner.

        :param essential: accept it even when the bound is reached (the hub's own work,
            of which there is a fixed amount for each client and hotline).
        :raises HubClosed: after ``close``.
        :raises QueueFull: when ``bound`` entries are waiting.
        """
        # Queue.put would take the same lock, and then look at a maximum that knows no
        # closing and no essential entries.  The lock itself, not the condition that
        # shares it: quicker, and a KeyboardInterrupt cannot strike between it and "with".
        with self.mutex:
            if self.closed:
                raise HubClosed(f"{self.name} is closed and accepts nothing more")
            if not essential and len(self.queue) >= self.bound:
                raise QueueFull(
                    f"{self.name}: {self.bound} entries are waiting, the bound of "
                    f"chan_queue_size; submit less, or wait for results with exec_sync"
                )
            self.queue.append(entry)
            # An owner that is at work looks by itself, and notify is a third of what a post costs.
            if self._owner_waits:
                self._owner_waits = False
                self.filling_since = self._now()
                self.not_empty.notify()

    def take(self, timeout: float | None = None) -> deque[T]:
        """Everything that waits, oldest first; blocks until there is something.

        Empty only when the mailbox is closed and drained, or ``timeout`` seconds have
        passed.  One lock for all that piled up, instead of one for each entry.
        """
        with self.mutex:
            if not self.queue and not self.closed:
                self._owner_waits = True
                self.not_empty.wait_for(lambda: self.queue or self.closed, timeout)
            taken: deque[T] = self.queue
            self.queue = deque()
            self.taken_since, self.filling_since = self.filling_since, self._now()
            return taken

    def close(self) -> None:
        """Refuse everything from now on; what was accepted can still be taken."""
        with self.mutex:
            self.closed = True
            self.not_empty.notify_all()

    def depth(self) -> int:
        """How many entries wait."""
        with self.mutex:
            return len(self.queue)
