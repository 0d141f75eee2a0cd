"""The core of everything that is sent to many: a log of pushes, joins and leaves.

Layer: hub.  Threads: any writes the log; one thread at a time (the hub's, or that of the
room's driver) flushes it.

A push, a member's coming and its going are entries of one log, in the order in which
they were accepted.  The flush walks the log: what stands between two changes of the
membership goes to the members of that moment, joined into one send each.  So all
members see one order (G4), each gets exactly what was accepted while it was in, and
pushes that pile up cost no more sends than one.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar

from hubthread.concurrency.calls import wait_for
from hubthread.concurrency.deadline import Deadline
from hubthread.concurrency.fairness import fan_outs
from hubthread.core.delivery import Delivery, Member
from hubthread.errors import Closed, HotlineClosed, HubThreadError, QueueFull, UsageError
from hubthread.protocol.batch import FrameBatch
from hubthread.protocol.frames import Frame

__all__ = ["Driver", "Member", "PushLog"]


M = TypeVar("M", bound=Member)
M_contra = TypeVar("M_contra", bound=Member, contravariant=True)


class Driver(Protocol[M_contra]):
    """A room's own thread, where it has one: it flushes, and it ends the room."""

    def schedule(self) -> None:
        """Call ``PushLog.flush(self)`` soon, on the driver's thread; must return at once."""

    def left(self, member: M_contra) -> None:
        """A member has left; must return at once, and must not call the member."""

    def end(self, reason: str) -> None:
        """Nobody new comes in: do what is left to do, then call ``PushLog.shut``."""


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


class PushLog(Generic[M]):
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
        self._lock = threading.RLock()  # guards what follows
        self._log: list[_Push | _Change[M] | _Step[M]] = []
        self._scheduled = False
        self._flushing = False
        self._accepted: dict[M, None] = {}  # who is in, as of the last entry of the log
        self._pushes = 0
        self._flushed = 0
        self._condition: threading.Condition | None = None  # made when somebody waits
        self._delivery: Delivery[M] = Delivery()
        self._driver: Driver[M] | None = None
        self._missed = False  # a flush that found another one at work
        self._sealed = False
        self._closed = False
        # Who is in, as of the entries that were flushed: the flushing thread's while it flushes.
        self._present: dict[M, None] = {}

    # Any thread.

    def join(self, member: M) -> bool:
        """Let ``member`` in: it gets every push from now on.  False if it was in.

        :raises HotlineClosed: after ``close`` or ``seal``.
        """
        change = _Change(member, joins=True)
        try:
            with self._lock:
                if self._closed or self._sealed:
                    raise HotlineClosed(f"{self.name} is closed")
                if member in self._accepted:
                    return False
                self._accepted[member] = None
                if self._at_rest():
                    self._present[member] = None
                    return True
                schedule = self._append(change)
            if schedule:
                try:
                    self._flush_soon()
                except Closed:
                    with self._lock:
                        self._accepted.pop(member, None)
                    raise
        except HubThreadError:
            raise
        except BaseException:  # an interrupt: the member is out again, however far it came
            self._take_out(member)
            raise
        return True

    def leave(self, member: M) -> bool:
        """Let ``member`` out: it still gets what was pushed so far.  False if it was out."""
        change = _Change(member, joins=False)
        try:
            with self._lock:
                if member not in self._accepted:
                    return False
                del self._accepted[member]
                if self._at_rest():
                    del self._present[member]
                    self._delivery.settle()
                    schedule = False
                else:
                    schedule = self._append(change)
                driver = self._driver
            if schedule:
                self._flush_soon()
            if driver is not None:
                driver.left(member)
        except HubThreadError:
            raise
        except BaseException:  # an interrupt
            self._take_out(member)
            raise
        return True

    def _take_out(self, member: M) -> None:
        """End a join or a leave that was interrupted: the member is out."""
        with self._lock:
            self._accepted.pop(member, None)
            self._append(_Change(member, joins=False))
            driver = self._driver
        self._flush_waiting()
        if driver is not None:
            driver.left(member)

    def push(self, frame: Frame, key: Hashable = None) -> int:
        """Send ``frame`` to who is in; its number, at once.

        :raises HotlineClosed: after ``close``.
        :raises QueueFull: when ``bound`` entries wait.
        """
        entry = _Push(frame, key)
        try:
            with self._lock:
                self._admit()
                # A push that interrupts this one here, on this thread, is the later entry,
                # with the lower number; both are flushed together.
                schedule = self._append(entry)
                number = self._pushes = self._pushes + 1
            if schedule:
                self._flush_soon()
        except HubThreadError:
            raise
        except BaseException:  # an interrupt: the entry may be in the log
            self._flush_waiting()
            raise
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
        entry: _Step[M] = _Step(work)
        try:
            with self._lock:
                self._admit()
                schedule = self._append(entry)
            if schedule:
                self._flush_soon()
        except HubThreadError:
            raise
        except BaseException:  # an interrupt: the entry may be in the log
            self._flush_waiting()
            raise

    def refuse_driven(self) -> None:
        """:raises UsageError: when it has a driver.
        :raises HotlineClosed: when it is closed.
        """
        if self.closed:
            raise HotlineClosed(f"{self.name} is closed")
        if self._driver is not None:
            raise UsageError(f"{self.name} has a clock already: a room runs one option, once")

    def attach(self, driver: Driver[M]) -> None:
        """From now on flush on the driver's thread.

        :raises HotlineClosed, UsageError: as ``refuse_driven``.
        """
        with self._lock:
            self.refuse_driven()
            self._driver = driver
            waits = bool(self._log)
        if waits:  # for a thread that may be busy for long
            self._flush_soon()

    def close(self, reason: str, *, only_if_empty: bool = False) -> bool:
        """Refuse joins from now on, and pushes; what was pushed is still sent.

        Where there is a driver, it still pushes, and shuts the room when it has come to
        its end.

        :returns: whether this call has shut it.
        """
        with self._lock:
            if self.closed or (only_if_empty and self._accepted):
                return False
            self._sealed = True
            driver = self._driver
            self._closed = driver is None
        if driver is not None:
            driver.end(reason)
        return driver is None

    def shut(self) -> None:
        """Refuse everything from now on.  The driver's, at its end."""
        with self._lock:
            self._closed = True

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
        """Whether it was closed, and lets nobody in."""
        return self._sealed or self._closed

    def counts(self) -> tuple[int, int, int]:
        """Pushes accepted, log entries that wait for the flush, members with a backlog."""
        with self._lock:
            self._delivery.settle()
            return self._pushes, len(self._log), len(self._delivery)

    def is_consumed(self, push: int) -> bool:
        """Whether ``push`` was handed over to each who was in then, or who is gone."""
        with self._lock:
            return self._delivery.behind(push) is None and push <= self._flushed

    def wait_consumed(self, push: int, timeout: float | None) -> bool:
        """Wait for that, ``timeout`` seconds at most; whether it is so."""
        deadline = Deadline(timeout)
        with self._lock:
            if self._condition is None:
                self._condition = threading.Condition(self._lock)
        if not wait_for(self._condition, lambda: push <= self._flushed, deadline.left()):
            return False
        while True:
            with self._lock:
                laggard = self._delivery.behind(push)
            if laggard is None:
                return True
            member, write = laggard
            if not member.wait_batch_consumed(write, deadline.left()):
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

    def _flush_waiting(self) -> None:
        """Schedule a flush after an interrupt, which may have kept one from being scheduled."""
        if self._log:
            with contextlib.suppress(Closed):
                self._flush_soon()

    def _flush_soon(self) -> None:
        driver = self._driver
        if driver is not None:
            driver.schedule()
            return
        try:
            self._schedule(self.flush)
        except Closed:
            with self._lock:
                if self._driver is not None:  # by now, and it was told of what waits
                    return
                # Nobody flushes any more: nothing waits, and whoever tries next is told too.
                self._scheduled = False
                self._log.clear()
                self._flushed = self._pushes
                if self._condition is not None:
                    self._condition.notify_all()
            raise

    # The flushing thread.

    def flush(self, driver: Driver[M] | None = None) -> None:
        """Send what waits in the log to the members of its moment.

        :param driver: the room's, if it is the driver that calls.
        """
        with self._lock:
            if self._driver is not driver:
                return  # scheduled before there was one: it would tear a tick's pushes apart
            if self._flushing:  # on the thread that it had before: that one goes on
                self._missed = True
                return
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
                self._present.pop(entry.member, None)
                some_left = True
        if frames:
            number = self._send(frames, keys, number)
        with self._lock:
            self._flushing = False
            missed, self._missed = self._missed, False
            if number > self._flushed:  # less where _flush_soon has given up meanwhile
                self._flushed = number
            if number > self._pushes:  # a push was interrupted before it was counted
                self._pushes = number
            if some_left:
                self._delivery.settle()  # or who has gone would be remembered until somebody asks
            if self._condition is not None:
                self._condition.notify_all()
        if missed:  # not left to the driver, which may have come to its end
            self.flush(self._driver)

    def _send(self, frames: list[Frame], keys: list[Hashable], number: int) -> int:
        """Send a run to who is present; the number of its last push."""
        run = FrameBatch(frames, keys)
        last = number + len(frames)
        lagging = []
        with fan_outs.of(len(self._present)):
            for member in self._present:
                write = member.send_batch(run)
                if write:
                    lagging.append((member, write))
        if lagging:
            with self._lock:
                for member, write in lagging:
                    self._delivery.add(member, number + 1, last, write)
        return last
