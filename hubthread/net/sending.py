"""The messages for one peer, and changes of them that never run inside one another.

A finaliser or a signal handler may send on a thread that is inside a change of the same outbox.
The lock is re-entrant, so that the thread does not wait for itself.  The message must not get
between the bytes of another message, so the inner change is put aside.  The outer change makes the
inner one before it leaves the lock.

Layer: net.  Threads: any thread makes changes; a change does not block.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeAlias

from hubthread.concurrency.calls import wait_for
from hubthread.net.backlog import Backlog
from hubthread.net.options import OutboxBounds

__all__ = ["FollowUp", "Sending", "is_broken"]

FollowUp: TypeAlias = "tuple[bool, str | None] | None"
"""The work that a change leaves for after the release of the lock: True if a thread must be told
that something waits, and the trouble to report, if any."""


class Sending:
    """The messages for one peer: their numbers, their backlog, and the lock of both.

    A change begins with ``direct, self._direct = self._direct, None``.  Nothing can interrupt this
    statement, because it makes no call.

    Threads: any thread may call every method.
    """

    __slots__ = ("_backlog", "_condition", "_consumed", "_direct", "_lock", "_postponed", "count")

    count: int
    """The number of the last message."""

    def __init__(self, bounds: OutboxBounds) -> None:
        self.count = 0
        self._lock = threading.RLock()  # guards what follows
        self._consumed = 0
        self._backlog = Backlog(bounds)
        self._condition: threading.Condition | None = None  # made with the first backlog
        # True if a sender may try the socket itself; False if it may not; None during a change.
        self._direct: bool | None = True
        # The changes that came inside another change, each with the number of its messages.
        self._postponed: list[tuple[int, Callable[[], FollowUp]]] = []

    def is_consumed(self, number: int) -> bool:
        """Return True if message ``number``, and so each earlier one, is consumed."""
        return number <= self._consumed

    def wait_consumed(self, number: int | None, timeout: float | None) -> bool:
        """Wait until message ``number`` is consumed; return False on time-out.

        :param number: ``None`` waits for all messages.
        :param timeout: in seconds; ``None`` waits without a limit.
        """

        def consumed() -> bool:
            return not self._pending() if number is None else number <= self._consumed

        with self._lock:
            if self._condition is None and consumed():
                return True  # there never was a backlog
            condition = self._get_condition()
        return wait_for(condition, consumed, timeout)

    def _get_condition(self) -> threading.Condition:
        """Return the condition that is notified when messages are consumed.  Under the lock."""
        if self._condition is None:
            self._condition = threading.Condition(self._lock)
        return self._condition

    # Changes.

    def _change(self, change: Callable[[], FollowUp], messages: int = 0) -> int:
        """Make a change; return the number of its last message.

        :param messages: the number of messages that the change sends.
        """
        try:
            with self._lock:
                direct, self._direct = self._direct, None
                if direct is None:
                    return self._postpone(change, messages)
                follow_up = change()
                number = self.count
                follow_up = self._leave(follow_up)
            if follow_up is not None:
                self._follow_up(*follow_up)
        except BaseException:
            self._rescue()
            raise
        return number

    def _postpone(self, change: Callable[[], FollowUp], messages: int) -> int:
        """Put aside a change inside another change; return the number of its last message."""
        self._postponed.append((messages, change))
        return self.count + sum(count for count, _ in self._postponed)

    def _leave(self, follow_up: FollowUp) -> FollowUp:
        """Make the changes that were put aside, and end the change.  The caller holds the lock."""
        while True:
            while self._postponed:
                start, trouble = follow_up or (False, None)
                more, worse = self._postponed.pop(0)[1]() or (False, None)
                follow_up = start or more, trouble or worse
            direct = None, self._update()
            # No call and no branch, so that no change is put aside meanwhile.
            self._direct = direct[not self._postponed]
            if self._direct is not None:
                return follow_up

    def _rescue(self) -> None:
        """Go on after an exception has struck a change, unless it was between two changes."""
        with self._lock:
            if self._direct:
                return
            self._direct = None
            follow_up = self._leave(self._recover())
        if follow_up is not None:
            self._follow_up(*follow_up)

    # For the class that has the socket.

    def _pending(self) -> bool:
        """Return True if something waits for the socket."""
        raise NotImplementedError

    def _update(self) -> bool:
        """Update the state after a change; return True if a sender may try the socket itself."""
        raise NotImplementedError

    def _recover(self) -> FollowUp:
        """Make the state valid after an exception in a change.  The caller holds the lock."""
        raise NotImplementedError

    def _follow_up(self, start: bool, trouble: str | None) -> None:
        """Do the work that a change has left.  The caller does not hold the lock."""
        raise NotImplementedError


def is_broken(error: BaseException) -> bool:
    """Return True if the socket has raised ``error``, and not a signal handler.

    A handler that ends a call after some time often raises ``TimeoutError``, an ``OSError``.  A
    time-out of the system has a number.
    """
    if isinstance(error, TimeoutError):
        return error.errno is not None
    return isinstance(error, OSError)
