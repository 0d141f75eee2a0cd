"""Members of a room who have not got all that was sent to them, and how far they are.

Layer: hub.  Threads: whoever holds the room's lock.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, Protocol, TypeVar

from hubthread.protocol.batch import FrameBatch

__all__ = ["Delivery", "Member"]


class Member(Protocol):
    """What a room needs of who is in it; all that any kind of client has in common."""

    def send_batch(self, run: FrameBatch) -> int:
        """Send; the number of the last message if that waits, else zero."""

    def is_batch_consumed(self, number: int) -> bool:
        """Whether that message, and all before it, wait no more, or the member is gone."""

    def wait_batch_consumed(self, number: int, timeout: float | None) -> bool:
        """Wait for that; whether it is so."""


M = TypeVar("M", bound=Member)

MOST_LAGS = 256
"""Runs of one member that are remembered apart.  A member whose outbox drops what does not
fit can lag for ever; further runs are then remembered with the last one."""


class _Lag:
    """Pushes ``first`` to ``last`` were writes up to number ``write`` of one member."""

    __slots__ = ("first", "last", "write")

    def __init__(self, first: int, last: int, write: int) -> None:
        self.first = first
        self.last = last
        self.write = write

    def write_of(self, push: int) -> int:
        """The member's number for ``push``, one of these, or a later one."""
        return self.write - (self.last - push)


class Delivery(Generic[M]):
    """The pushes that members have not got yet.

    A finaliser on the caller's thread may ask while one of these methods runs.  It then gets
    an answer from what is known, and changes nothing.
    """

    __slots__ = ("_busy", "_lags")

    def __init__(self) -> None:
        self._lags: dict[M, deque[_Lag]] = {}
        self._busy = False

    def __len__(self) -> int:
        return len(self._lags)

    def add(self, member: M, first: int, last: int, write: int) -> None:
        """Note that pushes ``first`` to ``last`` wait at ``member``, as writes up to ``write``."""
        before, self._busy = self._busy, True
        try:
            lags = self._lags.setdefault(member, deque())
            # The member's own outbox bounds this: what it has got is forgotten here.
            while lags and member.is_batch_consumed(lags[0].write):
                lags.popleft()
            if len(lags) < MOST_LAGS:
                lags.append(_Lag(first, last, write))
            else:
                # From now on each push counts as consumed together with the last one.
                lags[-1].last, lags[-1].write = last, write
        finally:
            self._busy = before

    def settle(self) -> None:
        """Forget what members have caught up with."""
        if self._busy:
            return
        self._busy = True
        try:
            for member in list(self._lags):
                lags = self._lags[member]
                while lags and member.is_batch_consumed(lags[0].write):
                    lags.popleft()
                if not lags:
                    del self._lags[member]
        finally:
            self._busy = False

    def behind(self, push: int) -> tuple[M, int] | None:
        """Return a member that has not got ``push`` yet, and its number for the push."""
        self.settle()
        before, self._busy = self._busy, True
        try:
            for member, lags in self._lags.items():
                # Mostly this is asked for the last push.  A member without a lag that holds
                # this push was not in then, or has taken it at once, with all before it.
                lag = next((lag for lag in reversed(lags) if lag.first <= push), None)
                if lag is not None and push <= lag.last:
                    write = lag.write_of(push)
                    if not member.is_batch_consumed(write):
                        return member, write
            return None
        finally:
            self._busy = before
