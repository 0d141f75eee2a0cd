"""The core of everything that is sent to many: a log of pushes, joins and leaves.

Layer: hub.  Threads: any writes the log; one thread at a time (the hub's, or a room's
own) flushes it.

A push, a member's coming and its going are entries of one log, in the order in which
they were accepted.  The flush walks the log: what stands between two changes of the
membership goes to the members of that moment, joined into one send each.  So all
members see one order (G4), each gets exactly what was accepted while it was in, and
pushes that pile up cost no more sends than one.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable
from time import monotonic
from typing import Generic, Protocol, TypeVar

from hubthread.errors import Closed, HotlineClosed, QueueFull
from hubthread.protocol.frames import Frame
from hubthread.protocol.run import Run

__all__ = ["Member", "Room"]


class Member(Protocol):
    """What a room needs of who is in it; all that any kind of client has in common."""

    def send_run(self, run: Run) -> int:
        """Send; the number of the last message if that waits, else zero."""

    def is_run_consumed(self, number: int) -> bool:
        """Whether that message, and all before it, wait no more, or the member is gone."""

    def wait_run_consumed(self, number: int, timeout: float | None) -> bool:
        """Wait for that; whether it is so."""


M = TypeVar("M", bound=Member)

MOST_LAGS = 256
"""Runs of one member that are remembered apart.  A member whose outbox drops what does not
fit can lag for ever; further runs are then remembered with the last one."""


class _Push:
    __slots__ = ("frame", "key")

    def __init__(self, frame: Frame, key: Hashable) -> None:
        self.frame = frame
        self.key = key


class _Change(Generic[M]):
    __slots__ = ("joins", "member")

    def __init__(self, member: M, joins: bool) -> None:
        self.member = member
        self.joins = joins


class _Step(Generic[M]):
    __slots__ = ("work",)

    def __init__(self, work: Callable[[list[M]], None]) -> None:
        self.work = work


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


class Room(Generic[M]):
    """Pushes to whoever is in.

    Threads: ``flush`` on one thread at a time, the one that ``schedule`` brings it to;
    everything else from any.

    :param schedule: called with ``flush`` when there is something to flush and no flush
        is scheduled; must return at once.
    :param bound: how many entries may wait.
    :param name: for error messages.
    """

    def __init__(
        self, schedule: Callable[[Callable[[], None]], None], bound: int, name: str
    ) -> None:
        self._schedule = schedule
        self._bound = bound
        self.name = name
        self._lock = threading.Lock()  # guards what follows
        self._log: list[_Push | _Change[M] | _Step[M]] = []
        self._scheduled = False
        self._flushing = False
        self._accepted: dict[M, None] = {}  # who is in, as of the last entry of the log
        self._pushes = 0
        self._flushed = 0
        self._condition: threading.Condition | None = None  # made when somebody waits
        self._lagging: dict[M, deque[_Lag]] = {}
        self._sealed = False
        self._closed = False
        # Who is in, as of the entries that were flushed: the flushing thread's while it flushes.
        self._present: dict[M, None] = {}

    # Any thread.

    def join(self, member: M) -> bool:
        """Let ``member`` in: it gets every push from now on.  False if it was in.

        :raises HotlineClosed: after ``close`` or ``seal``.
        """
        with self._lock:
            if self._closed or self._sealed:
                raise HotlineClosed(f"{self.name} is closed")
            if member in self._accepted:
                return False
            self._accepted[member] = None
            if self._at_rest():
                self._present[member] = None
                return True
            schedule = self._append(_Change(member, joins=True))
        if schedule:
            try:
                self._flush_soon()
            except Closed:
                with self._lock:
                    self._accepted.pop(member, None)
                raise
        return True

    def leave(self, member: M) -> bool:
        """Let ``member`` out: it still gets what was pushed so far.  False if it was out."""
        with self._lock:
            if member not in self._accepted:
                return False
            del self._accepted[member]
            if self._at_rest():
                del self._present[member]
                self._settle()
                return True
            schedule = self._append(_Change(member, joins=False))
        if schedule:
            self._flush_soon()
        return True

    def push(self, frame: Frame, key: Hashable = None) -> int:
        """Send ``frame`` to who is in; its number, at once.

        :raises HotlineClosed: after ``close``.
        :raises QueueFull: when ``bound`` entries wait.
        """
        with self._lock:
            self._admit()
            number = self._pushes = self._pushes + 1
            schedule = self._append(_Push(frame, key))
        if schedule:
            self._flush_soon()
        return number

    def seal(self) -> None:
        """Refuse joins from now on; who is in stays, and is pushed to."""
        with self._lock:
            self._sealed = True

    def run(self, work: Callable[[list[M]], None]) -> None:
        """Call ``work`` with who is in, on the flushing thread, in order with the pushes.

        It must not raise.

        :raises HotlineClosed, QueueFull: as ``push``.
        """
        with self._lock:
            self._admit()
            schedule = self._append(_Step(work))
        if schedule:
            self._flush_soon()

    def close(self, *, only_if_empty: bool = False) -> bool:
        """Refuse joins and pushes from now on; what was pushed is still sent.

        :returns: whether this call closed it.
        """
        with self._lock:
            if self._closed or (only_if_empty and self._accepted):
                return False
            self._closed = True
            return True

    def members(self) -> list[M]:
        """Who is in, in the order of coming."""
        with self._lock:
            return list(self._accepted)

    def members_num(self) -> int:
        """How many are in."""
        with self._lock:
            return len(self._accepted)

    def __contains__(self, member: M) -> bool:
        with self._lock:
            return member in self._accepted

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    def counts(self) -> tuple[int, int, int]:
        """Pushes accepted, log entries that wait for the flush, members with a backlog."""
        with self._lock:
            self._settle()
            return self._pushes, len(self._log), len(self._lagging)

    def is_consumed(self, push: int) -> bool:
        """Whether ``push`` was handed over to each who was in then, or who is gone."""
        with self._lock:
            return self._laggard(push) is None and push <= self._flushed

    def wait_consumed(self, push: int, timeout: float | None) -> bool:
        """Wait for that, ``timeout`` seconds at most; whether it is so."""
        until = None if timeout is None else monotonic() + timeout

        def left() -> float | None:
            return None if until is None else max(0.0, until - monotonic())

        with self._lock:
            if self._condition is None:
                self._condition = threading.Condition(self._lock)
            if not self._condition.wait_for(lambda: push <= self._flushed, left()):
                return False
        while True:
            with self._lock:
                laggard = self._laggard(push)
            if laggard is None:
                return True
            member, write = laggard
            if not member.wait_run_consumed(write, left()):
                return False

    def _admit(self) -> None:
        """Refuse a push where it cannot be taken.  Under the lock."""
        if self._closed:
            raise HotlineClosed(f"{self.name} is closed")
        if len(self._log) >= self._bound:
            raise QueueFull(
                f"{self.name}: {self._bound} pushes are waiting, the bound of "
                f"chan_queue_size; keep pace with wait_push_consumed"
            )

    def _at_rest(self) -> bool:
        """Whether nothing waits and nobody flushes: then a change takes its effect at once.

        No thread is woken for it: clients that only come and go cost the hub thread nothing
        (470 instead of 516 µs of CPU to open a connection on CPython 3.11).  Under the lock.
        """
        return not self._log and not self._flushing

    def _append(self, entry: _Push | _Change[M] | _Step[M]) -> bool:
        """Add to the log; whether a flush has to be scheduled.  Under the lock."""
        self._log.append(entry)
        schedule = not self._scheduled
        self._scheduled = True
        return schedule

    def _flush_soon(self) -> None:
        try:
            self._schedule(self.flush)
        except Closed:
            # Nobody flushes any more: nothing waits, and whoever tries next is told too.
            with self._lock:
                self._scheduled = False
                self._log.clear()
                self._flushed = self._pushes
                if self._condition is not None:
                    self._condition.notify_all()
            raise

    def _settle(self) -> None:
        """Forget what members who lagged behind have caught up with.  Under the lock."""
        for member in list(self._lagging):
            lags = self._lagging[member]
            while lags and member.is_run_consumed(lags[0].write):
                lags.popleft()
            if not lags:
                del self._lagging[member]

    def _laggard(self, push: int) -> tuple[M, int] | None:
        """A member that has not got ``push`` yet, and its number for it.  Under the lock."""
        self._settle()
        for member, lags in self._lagging.items():
            # Mostly it is asked for the last push.  A member whose lags do not hold this
            # one was not in then, or has taken it at once, with all before it.
            lag = next((lag for lag in reversed(lags) if lag.first <= push), None)
            if lag is not None and push <= lag.last:
                write = lag.write_of(push)
                if not member.is_run_consumed(write):
                    return member, write
        return None

    # The flushing thread.

    def flush(self) -> None:
        """Send what waits in the log to the members of its moment."""
        with self._lock:
            log, self._log = self._log, []
            self._scheduled = False
            self._flushing = True
            number = self._flushed
        frames: list[Frame] = []
        keys: list[Hashable] = []
        some_left = False
        for entry in log:
            if isinstance(entry, _Push):
                frames.append(entry.frame)
                keys.append(entry.key)
                continue
            if frames:
                number = self._send(frames, keys, number)
                frames, keys = [], []
            if isinstance(entry, _Step):
                entry.work(list(self._present))
            elif entry.joins:
                self._present[entry.member] = None
            else:
                del self._present[entry.member]
                some_left = True
        if frames:
            number = self._send(frames, keys, number)
        with self._lock:
            self._flushing = False
            if number > self._flushed:  # less where _flush_soon has given up meanwhile
                self._flushed = number
            if some_left:
                self._settle()  # or who has gone would be remembered until somebody asks
            if self._condition is not None:
                self._condition.notify_all()

    def _send(self, frames: list[Frame], keys: list[Hashable], number: int) -> int:
        """Send a run to who is present; the number of its last push."""
        run = Run(frames, keys)
        last = number + len(frames)
        lagging = []
        for member in self._present:
            write = member.send_run(run)
            if write:
                lagging.append((member, write))
        if lagging:
            with self._lock:
                for member, write in lagging:
                    lags = self._lagging.setdefault(member, deque())
                    # Bounded by the member's own outbox: what it has got is forgotten here.
                    while lags and member.is_run_consumed(lags[0].write):
                        lags.popleft()
                    if len(lags) < MOST_LAGS:
                        lags.append(_Lag(number + 1, last, write))
                    else:
                        # Of what comes now each push counts as consumed with the last.
                        lags[-1].last, lags[-1].write = last, write
        return last
