"""The log of a shared room: its pushes go to the backplane first, and come back in its order.

Layer: core.  Threads: as ``push_log``.

The log knows which pushes of this hub the backplane was *given*, and which have *arrived*.  A join
or a leave takes its place after the pushes that were given before it, and before later pushes.  So
``push``, ``answer``, ``push`` on one thread mean what they do in any room.

A backplane in memory hands pushes over when ``settle`` is called.  Each flush begins with
``settle``, so all waiting pushes arrive together, and threads that push do not wait for the room.
A join and a leave call ``settle``, too, and so keep their place among the pushes of all hubs.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeVar

from hubthread.backplane.interfaces import Message
from hubthread.core.delivery import Member
from hubthread.core.entries import Change, Driver, Push, PushExcept, Step
from hubthread.core.push_log import PushLog
from hubthread.errors import Closed, HubThreadError
from hubthread.protocol.batch import FrameBatch

__all__ = ["SharedLog"]

M = TypeVar("M", bound=Member)


class SharedLog(PushLog[M]):
    """The members of a shared room, and the pushes to them.

    ``join`` with ``at_once`` lets a member in at the end of the log: its position is known, and
    each push that arrives later follows it.
    """

    def __init__(
        self,
        schedule: Callable[[Callable[[], None]], None],
        bound: int,
        name: str,
        most: int | None = None,
    ) -> None:
        super().__init__(schedule, bound, name, most)
        self.settles: Callable[[], None] | None = None
        """Makes the backplane hand over its pushes; None if it hands them over by itself."""
        # Under the lock of the log:
        self._settling = False  # a flush runs ``settle``, and then takes all that is in the log
        self._given = self._arrived = 0
        # Joins and leaves that wait until the own push with the number before them has arrived.
        self._behind: deque[tuple[int, Change[M]]] = deque()

    def settle(self) -> None:
        """Have all pushes that were given before the call arrive, if the backplane can do that.

        Any thread, but not under the lock of the log or of the sequencer.
        """
        if self.settles is not None:
            self.settles()

    def join(self, member: M, first: Sequence[FrameBatch] = (), *, at_once: bool = False) -> bool:
        """See ``PushLog.join``."""
        if not at_once:  # else the sequencer calls, under its lock
            self.settle()
        return super().join(member, first, at_once=at_once)

    def leave(self, member: M) -> bool:
        """See ``PushLog.leave``."""
        try:
            self.settle()
        finally:
            left = super().leave(member)
        return left

    @property
    def given(self) -> int:
        """The number of the last push that this hub has given to the backplane."""
        return self._given

    @property
    def arrived(self) -> int:
        """The number of the last push of this hub that the log has taken."""
        return self._arrived

    @property
    def placed(self) -> int:
        """The number of the last push in the log."""
        return self._pushes

    @property
    def pushes(self) -> int:
        """The number of the last push, also of one that has not arrived."""
        with self._lock:
            return self._pushes + self._waiting()

    def counts(self) -> tuple[int, int, int]:
        """See ``PushLog.counts``; the pushes that have not arrived count as waiting."""
        with self._lock:
            waiting = self._waiting()
            pushes, entries, lagging = super().counts()
            return pushes + waiting, entries + waiting, lagging

    def _waiting(self) -> int:
        """Return the number of pushes that wait to be settled.  Called under the lock."""
        return 0 if self.settles is None else max(0, self._given - self._arrived)

    def admit(self) -> None:
        """Refuse a push that cannot be accepted; see ``PushLog.admit``."""
        # Without the lock: many threads push, and the bound may be passed by one push of each.
        if self._closed or len(self._log) + self._given - self._arrived >= self._bound:
            self.settle()
            super().admit()

    def gave(self, number: int) -> None:
        """Note that the backplane has push ``number`` of this hub.

        :raises Closed: if no thread will flush it.
        """
        try:
            with self._lock:
                self._given = max(self._given, number)
                due = self.settles is not None and self._given > self._arrived
                schedule = due and not self._scheduled
                self._scheduled |= schedule
            if schedule:
                self._flush_soon()
        except HubThreadError:
            raise
        except BaseException:  # an interrupt: a flush may be due that is not scheduled
            with contextlib.suppress(Closed):
                self._flush_soon()
            raise

    def take(self, messages: Sequence[Message], number: int | None) -> None:
        """Accept pushes that have their place in the room's order.

        :param number: the number of the first push, for pushes of this hub; None for pushes of
            another hub.  Without ``messages``: all pushes of this hub before ``number`` count as
            arrived.
        :raises Closed: if no thread flushes any more.
        """
        entries: list[Push | Change[M] | Step[M]] = [_entry(each) for each in messages]
        try:
            with self._lock:
                arrived, behind = self._arrived, self._behind
                if number is not None:
                    arrived = max(arrived, number + len(messages) - 1)
                    behind = deque(behind)
                    due = []
                    while behind and behind[0][0] <= arrived:
                        due.append(behind.popleft())
                    for given, change in reversed(due):  # the places before stay as they are
                        entries.insert(max(0, given - number + 1), change)
                end, count = len(self._log), len(messages)
                # One statement without a call: an interrupt finds all of it done, or nothing.
                self._log[end:end], self._pushes, self._arrived, self._behind = (
                    entries, self._pushes + count, arrived, behind,
                )  # fmt: skip
                schedule = bool(entries) and not (self._scheduled or self._settling)
                self._scheduled |= schedule
            if schedule:
                self._flush_soon()
        except HubThreadError:
            raise
        except BaseException:
            self._flush_waiting()
            raise

    def flush(self, driver: Driver[M] | None = None) -> None:
        """See ``PushLog.flush``."""
        if self.settles is not None and self._driver is driver:
            with self._lock:
                # A push that is given from here on may miss this flush, so it schedules another.
                self._scheduled, self._settling = False, True
            try:
                self.settles()
            finally:
                with self._lock:
                    self._settling = False
            if self._driver is not driver:  # attached meanwhile: it flushes what was added
                self._flush_waiting()
        super().flush(driver)

    def _at_rest(self) -> bool:
        return self._given <= self._arrived and super()._at_rest()

    def _change(self, change: Change[M], *, at_once: bool = False) -> bool:
        if at_once:
            kept = [each for each in self._behind if each[1].member is not change.member]
            self._behind = deque(kept)
        elif self._given > self._arrived:
            self._behind.append((self._given, change))
            return False
        return self._append(change)

    def _append(self, entry: Push | Change[M] | Step[M]) -> bool:
        if self._settling:
            self._log.append(entry)
            return False
        return super()._append(entry)


def _entry(message: Message) -> Push:
    if message.exclude is None and message.reached is None:
        return Push(message.frame, message.key)
    return PushExcept(message.frame, message.key, message.exclude or (), message.reached)
