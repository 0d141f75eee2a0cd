"""The log of one room, and its fan-out: pushes, joins and leaves, in the order of acceptance.

A push, a join and a leave are entries of one log.  A flush takes the entries that wait and
walks through them.  The pushes between two changes of the membership go to the members of that
moment, joined into one send for each member.  So all members see one order (G4), each member
gets exactly the pushes that were accepted while it was in, and pushes that pile up cost one send.

Layer: core.  Threads: any thread writes the log.  One thread at a time flushes it: the hub thread,
or the thread of the room's driver.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Collection, Hashable, Sequence
from typing import Any, Generic, TypeVar

from hubthread.concurrency.calls import thread_id, wait_for
from hubthread.concurrency.deadline import Deadline
from hubthread.concurrency.essential import is_essential
from hubthread.concurrency.fairness import fan_outs
from hubthread.core.delivery import Delivery, Member
from hubthread.core.entries import Change, Driver, Push, PushExcept, Step, Watcher
from hubthread.errors import (
    Closed,
    HotlineClosed,
    HotlineFull,
    HubThreadError,
    QueueFull,
    UsageError,
)
from hubthread.protocol.batch import FrameBatch
from hubthread.protocol.envelope import Place
from hubthread.protocol.frames import Frame

__all__ = ["Driver", "Member", "PushLog", "Watcher"]


M = TypeVar("M", bound=Member)


class PushLog(Generic[M]):
    """A room's members, and the pushes to them; see the module for how it works.

    Flushing: ``_scheduled`` (a flush will come), then ``_flushing`` (it walks its entries).
    ``_missed``: another flush came meanwhile, so flush once more.
    Ending: open, then ``_sealed`` (no joins), then ``_closed`` (no pushes either).

    Threads: the thread that ``schedule`` brings ``flush`` to calls it, one thread at a time.
    Every other method may be called on any thread.

    :param schedule: called with ``flush`` when entries wait and no flush is scheduled; must
        return at once.
    :param bound: the number of entries that may wait.
    :param name: the room's name, for error messages.
    :param most: the number of members that may be in; ``None`` sets no limit.
    """

    def __init__(
        self,
        schedule: Callable[[Callable[[], None]], None],
        bound: int,
        name: str,
        most: int | None = None,
    ) -> None:
        self._schedule = schedule
        self._bound = bound
        self._most = most
        self.name = name
        self.room: Any = None
        """The room, for its members, until it ends."""
        self.place: Callable[[int, int], Place] | None = None
        """Of a shared room: returns the place of the pushes from one number to another."""
        self.watcher: Watcher[M] | None = None
        self.presence: Watcher[M] | None = None
        """Notes the users of a shared room with presence."""
        self.telling: int | None = None
        """The thread on which the watcher runs hooks now.  The hooks may push after ``close``."""
        self._lock = threading.RLock()  # guards what follows
        self._log: list[Push | Change[M] | Step[M]] = []
        self._scheduled = self._flushing = self._missed = False
        self._accepted: dict[M, None] = {}  # the members as of the last entry of the log
        self._pushes = self._flushed = 0
        self._condition: threading.Condition | None = None  # made by the first wait
        self._delivery: Delivery[M] = Delivery()
        self._driver: Driver[M] | None = None
        self._sealed = self._closed = False
        # The members as of the last flushed entry.  During a flush only its thread touches them.
        self._present: dict[M, None] = {}

    # Any thread.

    def join(self, member: M, first: Sequence[FrameBatch] = (), *, at_once: bool = False) -> bool:
        """Let ``member`` in: it gets every push accepted from now on.

        :param first: the messages that the member gets before these pushes.
        :param at_once: of a shared room: see ``SharedLog``.
        :returns: False if ``member`` is in already.
        :raises HotlineClosed: after ``close`` or ``seal``.
        :raises HotlineFull: when ``most`` members are in.
        """
        change = Change(member, joins=True, first=first)
        try:
            with self._lock:
                if self._closed or self._sealed:
                    raise HotlineClosed(f"{self.name} is closed")
                if member in self._accepted:
                    return False
                if self._most is not None and len(self._accepted) >= self._most:
                    raise HotlineFull(f"{self.name} has {self._most} members, its max_members")
                if self.watcher is not None:
                    self.watcher.joins(member)
                if self.presence is not None:
                    self.presence.joins(member)
                self._accepted[member] = None
                if not first and self._at_rest():
                    self._present[member] = None
                    return True
                schedule = self._change(change, at_once=at_once)
            if schedule:
                try:
                    self._flush_soon()
                except Closed:
                    with self._lock:
                        self._accepted.pop(member, None)
                    raise
        except HubThreadError:
            raise
        except BaseException:  # an interrupt at any point of the join: take the member out again
            self._take_out(member)
            raise
        return True

    def rejoin(self, member: M, first: Sequence[FrameBatch], *, at_once: bool = False) -> bool:
        """Send ``first`` to a member in the log's order, as if the member joined now.

        The member stays in, so the watchers hear nothing.

        :returns: False if ``member`` is out; then nothing happens.
        :raises HotlineClosed: as ``join``.
        """
        change = Change(member, joins=True, first=first)
        try:
            with self._lock:
                if member not in self._accepted:
                    return False
                if self._closed or self._sealed:
                    raise HotlineClosed(f"{self.name} is closed")
                schedule = self._change(change, at_once=at_once)
            if schedule:
                self._flush_soon()
        except HubThreadError:
            raise
        except BaseException:  # an interrupt: the entry may be in the log
            self._flush_waiting()
            raise
        return True

    def leave(self, member: M) -> bool:
        """Let ``member`` out: it still gets the pushes accepted so far.

        :returns: False if ``member`` was out already.
        """
        change = Change(member, joins=False)
        try:
            with self._lock:
                if member not in self._accepted:
                    return False
                self._note_leave(member)
                del self._accepted[member]
                if self._at_rest():
                    del self._present[member]
                    self._delivery.forget_consumed()
                    schedule = False
                else:
                    schedule = self._change(change)
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
            self._note_leave(member)
            self._accepted.pop(member, None)
            self._change(Change(member, joins=False))
            driver = self._driver
        self._flush_waiting()
        if driver is not None:
            driver.left(member)

    def _note_leave(self, member: M) -> None:
        for watcher in (self.watcher, self.presence):
            if watcher is not None:
                watcher.leaves(member)

    def admit(self) -> None:
        """Refuse a push that cannot be accepted.

        :raises HotlineClosed: after ``close``.
        :raises QueueFull: when ``bound`` entries wait.
        """
        with self._lock:
            self._admit()

    def push(
        self,
        frame: Frame,
        key: Hashable = None,
        exclude: Sequence[M] | None = None,
        *,
        reached: dict[Any, Any] | None = None,
    ) -> int:
        """Accept ``frame`` for the members of this moment.

        :param exclude: members that do not get it.
        :param reached: for a push to several rooms: see ``PushExcept``.
        :returns: the push's number, at once.
        :raises HotlineClosed, QueueFull: as ``admit``.
        """
        if exclude is None and reached is None:
            entry = Push(frame, key)
        else:
            entry = PushExcept(frame, key, exclude or (), reached)
        number = 0
        try:
            with self._lock:
                self._admit()
                # A push that interrupts this one here is the later entry, with the lower number.
                schedule = self._append(entry)
                number = self._pushes = self._pushes + 1
            if schedule:
                self._flush_soon()
        except HubThreadError:
            raise
        except BaseException:  # an interrupt: the entry may be in the log
            with self._lock:
                if not number and any(other is entry for other in self._log):
                    self._pushes += 1
            self._flush_waiting()
            raise
        return number

    def seal(self) -> None:
        """Refuse joins from now on; members stay, and are pushed to."""
        with self._lock:
            self._sealed = True

    def run(self, work: Callable[[list[M]], None], *, admitted: bool = False) -> None:
        """Call ``work`` with the members, on the flushing thread, in order with the pushes.

        :param work: must not raise.
        :param admitted: True accepts ``work`` even if too many entries wait; for the library only.
        :raises HotlineClosed, QueueFull: as ``push``.
        """
        entry: Step[M] = Step(work)
        try:
            with self._lock:
                if not admitted:
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
        """Refuse to attach a driver or a watcher to a log that cannot take one.

        :raises UsageError: when the log has a driver, or a watcher.
        :raises HotlineClosed: when it is closed.
        """
        if self.closed:
            raise HotlineClosed(f"{self.name} is closed")
        if self._driver is not None:
            raise UsageError(f"{self.name} has a clock already: a room runs one option, once")
        if self.watcher is not None:
            raise UsageError(
                f"{self.name} was made with on_join, on_leave, on_empty or close_when_empty: for "
                f"a room with a clock give them to HotlineFrameOption"
            )

    def watch(self, watcher: Watcher[M]) -> None:
        """Have a watcher note joins and leaves, and the members that are in.

        :raises HotlineClosed, UsageError: as ``refuse_driven``.
        """
        with self._lock:
            self.refuse_driven()
            for member in list(self._accepted):
                watcher.joins(member)
            self.watcher = watcher

    def attach(self, driver: Driver[M], watcher: Watcher[M] | None = None) -> None:
        """Flush on the driver's thread from now on.

        :param watcher: notes the members that are in, too.
        :raises HotlineClosed, UsageError: as ``refuse_driven``.
        """
        with self._lock:
            self.refuse_driven()
            if watcher is not None:
                for member in list(self._accepted):
                    watcher.joins(member)
                self.watcher = watcher
            self._driver = driver
            waits = self._scheduled or bool(self._log)
        if waits:  # the thread that a flush was scheduled on may be busy for long
            self._flush_soon()

    def detach(self, driver: Driver[M]) -> None:
        """Undo ``attach`` after an interrupt, if the driver was attached and could not start."""
        if self._driver is driver:
            self._driver = self.watcher = None
            self._flush_waiting()

    def close(self, reason: str, *, only_if_empty: bool = False) -> bool:
        """Refuse joins and pushes from now on; accepted pushes are still sent.

        With a driver pushes go on: the driver calls ``shut`` at its end.

        :returns: True if this call has closed the log.
        """
        with self._lock:
            if self.closed or (only_if_empty and self._accepted):
                return False
            driver = self._driver
            self._sealed, self._closed = True, driver is None
        if driver is not None:
            driver.end(reason)
        return driver is None

    def close_again(self, reason: str) -> bool:
        """Go on with a ``close`` that was interrupted, and return its result."""
        if self._driver is not None and self._sealed:
            self._driver.end(reason)
        return self._closed

    def shut(self) -> None:
        """Refuse pushes, too, from now on.  The driver calls this at its end."""
        with self._lock:
            self._closed = True

    def members(self) -> list[M]:
        """Return the members, in the order of their joining."""
        with self._lock:
            return list(self._accepted)

    def members_num(self) -> int:
        """Return the number of members."""
        return len(self._accepted)

    def __contains__(self, member: M) -> bool:
        return member in self._accepted

    @property
    def closed(self) -> bool:
        """True if no member can join any more."""
        return self._sealed or self._closed

    @property
    def pushes(self) -> int:
        """The number of the last push."""
        return self._pushes

    def counts(self) -> tuple[int, int, int]:
        """Return the numbers of pushes, of waiting entries, and of members with a backlog."""
        with self._lock:
            self._delivery.forget_consumed()
            return self._pushes, len(self._log), len(self._delivery)

    def is_consumed(self, push: int) -> bool:
        """Return True if each member of the push's moment has consumed it, or is gone."""
        with self._lock:
            return self._delivery.first_pending(push) is None and push <= self._flushed

    def wait_consumed(self, push: int, timeout: float | None) -> bool:
        """Wait until ``is_consumed(push)``; return False after ``timeout`` seconds."""
        deadline = Deadline(timeout)
        with self._lock:
            if self._condition is None:
                self._condition = threading.Condition(self._lock)
        if not wait_for(self._condition, lambda: push <= self._flushed, deadline.left()):
            return False
        while True:
            with self._lock:
                pending = self._delivery.first_pending(push)
            if pending is None:
                return True
            member, write = pending
            if not member.wait_batch_consumed(write, deadline.left()):
                return False

    def _admit(self) -> None:
        """Refuse a push that cannot be accepted.  Called under the lock."""
        if self._closed and self.telling != thread_id():
            raise HotlineClosed(f"{self.name} is closed")
        if len(self._log) >= self._bound and not is_essential():
            raise QueueFull(
                f"{self.name}: {self._bound} pushes are waiting, the bound of "
                f"chan_queue_size; keep pace with wait_push_consumed"
            )

    def _at_rest(self) -> bool:
        """Return True if no entry waits and no flush runs.  Called under the lock.

        A change of the membership then takes effect at once, and wakes no thread.
        """
        return not self._log and not self._flushing

    def _change(self, change: Change[M], *, at_once: bool = False) -> bool:
        """Add a change of the membership; return True if a flush must be scheduled."""
        return self._append(change)

    def _append(self, entry: Push | Change[M] | Step[M]) -> bool:
        """Add an entry; return True if a flush must be scheduled.  Called under the lock."""
        self._log.append(entry)
        schedule, self._scheduled = not self._scheduled, True
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
                if self._driver is not None:  # attached meanwhile: it flushes what waits
                    return
                # No thread flushes any more: the next push is refused in the same way.
                self._scheduled = False
                self._log.clear()
                self._flushed = self._pushes
                if self._condition is not None:
                    self._condition.notify_all()
            raise

    # The flushing thread.

    def flush(self, driver: Driver[M] | None = None) -> None:
        """Send each waiting push to the members of its moment.

        :param driver: the room's driver, if the driver calls.
        """
        with self._lock:
            if self._driver is not driver:
                # Scheduled before the driver came: a flush now would split a tick's pushes.
                return
            if self._flushing:  # on the hub thread, when the driver has just come
                self._missed = True
                return
            log, self._log = self._log, []
            self._scheduled = False
            self._flushing = True
            number = self._flushed
        frames: list[Frame] = []
        keys: list[Hashable] = []
        excluded: dict[M, set[int]] | None = None  # the places of frames, by member
        some_left = False
        for entry in log:
            if type(entry) is Push:
                frames.append(entry.frame)
                keys.append(entry.key)
                continue
            if isinstance(entry, PushExcept):
                excluded = {} if excluded is None else excluded
                for member in entry.left_out(self._present, self):
                    excluded.setdefault(member, set()).add(len(frames))
                frames.append(entry.frame)
                keys.append(entry.key)
                continue
            if frames:
                number = self._send(frames, keys, number, excluded)
                frames, keys, excluded = [], [], None
            if isinstance(entry, Step):
                entry.work(list(self._present))
            elif isinstance(entry, Change):
                if not entry.joins:
                    self._present.pop(entry.member, None)
                    some_left = True
                    continue
                self._present[entry.member] = None
                for batch in entry.first:
                    entry.member.send_batch(batch)
        if frames:
            number = self._send(frames, keys, number, excluded)
        with self._lock:
            self._flushing = False
            missed, self._missed = self._missed, False
            if number > self._flushed:  # otherwise _flush_soon has given up meanwhile
                self._flushed = number
            if number > self._pushes:  # a push was interrupted before it was counted
                self._pushes = number
            if some_left:
                self._delivery.forget_consumed()  # or a member that has gone would be kept
            if self._condition is not None:
                self._condition.notify_all()
        if missed:  # flushed here: the driver may have ended meanwhile
            self.flush(self._driver)

    def _send(
        self,
        frames: list[Frame],
        keys: list[Hashable],
        number: int,
        excluded: dict[M, set[int]] | None,
    ) -> int:
        """Send frames to the members of this moment; return the number of the last push."""
        last = number + len(frames)
        place = None if self.place is None else self.place(number + 1, last)
        batch = FrameBatch(frames, keys, place)
        pending = []
        members: Collection[M] = self._present
        with fan_outs.of(len(members)):
            if excluded:
                members = self._send_excluded(batch, number, excluded)
            for member in members:
                write = member.send_batch(batch)
                if write:
                    pending.append((member, write))
        if pending:
            with self._lock:
                for member, write in pending:
                    self._delivery.add(member, number + 1, last, write)
        return last

    def _send_excluded(
        self, batch: FrameBatch, number: int, excluded: dict[M, set[int]]
    ) -> list[M]:
        """Send to the members that do not get every frame; return the others."""
        others = []
        for member in self._present:
            without = excluded.get(member)
            if without is None:
                others.append(member)
                continue
            places = [place for place in range(len(batch.frames)) if place not in without]
            write = member.send_batch(batch.some(places)) if places else 0
            if write:
                with self._lock:
                    self._delivery.add_some(member, [number + 1 + each for each in places], write)
        return others
