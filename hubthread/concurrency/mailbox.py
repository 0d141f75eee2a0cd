"""The queue of work for one thread: it can be closed, has a bound, and is taken as a whole.

Layer: concurrency.  Threads: any thread posts; exactly one thread, the owner, takes.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Generic, TypeVar

from hubthread.concurrency.bell import Bell
from hubthread.concurrency.deadline import Deadline
from hubthread.concurrency.essential import is_essential
from hubthread.errors import HubClosed, HubThreadError, QueueFull

__all__ = ["Mailbox"]

T = TypeVar("T")


class Mailbox(queue.Queue[T], Generic[T]):
    """Work for one thread, in the order of acceptance.

    ``post`` either accepts an entry, and then ``take`` hands it out exactly once, or raises
    and has done nothing.  It checks for ``close`` and appends under one lock, so no entry is
    accepted after ``close``.

    A post may interrupt another post, or ``take``, on the same thread: a finaliser or a signal
    handler posts, too.  Therefore the lock is re-entrant, and the owner waits for a ``Bell``.

    Threads: ``post``, ``close`` and ``depth`` may be called on any thread; ``take`` only on
    the owner's.

    :param bound: the number of entries that may wait; essential entries ignore it.
    :param name: the name of the owner, for error messages.
    :param now: the clock, in seconds.
    """

    def __init__(self, bound: int, name: str, now: Callable[[], float] = monotonic) -> None:
        super().__init__()
        self.mutex = threading.RLock()  # type: ignore[assignment]  # guards what follows
        self._now = now
        # No waiting entry was posted before ``filling_since``, and no entry of the last take
        # before ``taken_since``.  These are bounds: the clock is not read for each entry.
        self.filling_since = self.taken_since = now()
        self.bound = bound
        self.name = name
        self.closed = False
        self._owner_waits = False  # written by the owner only
        self._bell = Bell()

    def post(self, entry: T, *, essential: bool = False) -> None:
        """Append ``entry`` and wake the owner.

        :param essential: accept it even if the bound is reached.  For jobs of the library, of
            which there is a fixed number for each client and hotline.
        :raises HubClosed: after ``close``.
        :raises QueueFull: if ``bound`` entries wait, except inside ``run_essential``.
        """
        # Queue.put knows neither ``closed`` nor ``essential``.
        try:
            with self.mutex:
                if self.closed:
                    raise HubClosed(f"{self.name} is closed and accepts nothing more")
                full = len(self.queue) >= self.bound
                if full and not essential and not is_essential():
                    raise QueueFull(
                        f"{self.name}: {self.bound} entries are waiting, the bound of "
                        f"chan_queue_size; submit less, or wait for results with exec_sync"
                    )
                self.queue.append(entry)
                # An owner that is at work takes the entry by itself.
                if self._owner_waits and not self._bell.rung:
                    self.filling_since = self._now()
                    self._bell.ring()
        except HubThreadError:
            raise
        except BaseException:  # an interrupt: the entry may be in, so the owner must see it
            self._bell.ring()
            raise

    def take(self, timeout: float | None = None) -> deque[T]:
        """Wait for entries, and return all of them, the oldest first.

        :param timeout: seconds; ``None`` waits without a limit.
        :returns: empty only after ``close`` or ``timeout``.
        """
        deadline = None if timeout is None else Deadline(timeout)
        while True:
            with self.mutex:
                if self.queue or self.closed or (deadline is not None and deadline.passed):
                    taken: deque[T] = self.queue
                    self.queue = deque()
                    self.taken_since, self.filling_since = self.filling_since, self._now()
                    return taken
                self._owner_waits = True
            try:
                self._bell.wait(None if deadline is None else deadline.left())
            finally:
                self._owner_waits = False

    def close(self) -> None:
        """Refuse further entries; those that were accepted can still be taken."""
        with self.mutex:
            self.closed = True
        self._bell.ring()

    def depth(self) -> int:
        """Return the number of entries that wait."""
        return len(self.queue)
