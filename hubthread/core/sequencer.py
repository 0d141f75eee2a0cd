"""A hub's side of one shared room: the pushes in the backplane's order, and their replay.

Layer: core.  Threads: any thread.  The methods of ``Receiver`` are for the backplane.

A push of a shared room goes to the backplane, which gives it a place.  The placed push arrives
here, and the room's push log accepts it.  So the log holds the pushes in the order that all hubs
see, and joins and leaves stand between them as in any room.

The sequencer also keeps the latest pushes.  A client that comes back gets the pushes after its
position and joins in one step, so it misses none and gets none twice (G11).  The pushes from
before this hub had the room are fetched once, for the first client that needs them.

While the backplane is away, pushes of this hub may be *shown* ahead of their places.  The log
takes a shown push at once, without an offset.  When the push arrives, only the history takes it.

With a backplane in memory a push waits until the hub flushes the room, or until something else
needs the room's position.  So threads that push do not wait for each other, and the pushes of many
threads are placed together.
"""

from __future__ import annotations

import contextlib
import threading
from bisect import bisect_right
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from hubthread.backplane.interfaces import BackplaneLink, Message
from hubthread.backplane.stream import Stream
from hubthread.concurrency.calls import wait_for
from hubthread.concurrency.deadline import Deadline
from hubthread.core.delivery import Member
from hubthread.core.roster import Roster
from hubthread.core.shared_log import SharedLog
from hubthread.errors import BackplaneDown, Closed, QueueFull, UsageError
from hubthread.history import History, Position, Recovery
from hubthread.presence import PresenceChange, PresenceState
from hubthread.protocol.batch import FrameBatch
from hubthread.protocol.envelope import SUBPROTOCOL, Place, Placed, Versioned, gap_message
from hubthread.protocol.frames import Frame, MessageType

__all__ = ["Sequencer"]

M = TypeVar("M", bound=Member)

MOST_SPANS = 256
"""The most spans of own numbers that are kept.  Pushes of a forgotten span count as consumed too
late."""

PATIENCE = 2.0
"""Seconds that a join waits for the backplane."""

LAG = 0.5
"""Seconds that a join waits for pushes that the client has got in another hub."""


class Sequencer(Generic[M]):
    """One shared room, as one hub sees it.

    Lock order: the lock of the backplane's room, the lock of the sequencer, the lock of the push
    log.  So no method calls the backplane under the lock.

    :param name: the room's name, by which all hubs know it.
    :param keep: the history that the room offers; None if it offers none.
    :param now: returns the hub's time in seconds.
    :param roster: the picture of the users in the room; None for a room without presence.
    """

    def __init__(
        self,
        link: BackplaneLink,
        log: SharedLog[M],
        name: str,
        keep: History | None,
        now: Callable[[], float],
        roster: Roster | None = None,
    ) -> None:
        self._link = link
        self._log = log
        self.name = name
        self._keep = keep
        self._now = now
        self.roster = roster
        self.on_change: Callable[[PresenceChange], object] | None = None
        """Called under the lock with each change of the users; must return at once."""
        self.on_gap: Callable[[Position], object] | None = None
        """Called under the lock after pushes were lost; must return at once."""
        self.on_refused: Callable[[], object] = lambda: None
        """Called after pushes were refused because another hub owns the room; returns at once."""
        self._lock = threading.RLock()  # guards what follows
        self._changed: threading.Condition | None = None  # made by the first wait
        self._ring = Stream(Position("", 0), keep, now)
        self._complete: Stream | None = None  # the ring, once it has the pushes fetched for it
        self._fetching: Deadline | None = None  # the deadline of the thread that fetches them
        # For the pushes that the log flushes: the epoch (None without a history), and the offset
        # minus the log's number (None for pushes that are shown ahead of their places).
        self._base: tuple[str | None, int | None] = (None, 0)
        self._shift: int | None = 0  # the same difference for the pushes that the log takes next
        # The log's number minus the own number, from each own number on.  Other hubs push, too.
        self._spans: list[tuple[int, int]] = [(0, 0)]
        self._arrived = 0  # the last own number that has arrived, or was shown
        self._unsure = False  # pushes were shown, and the members are still to be told so
        # The offset of the messages that the log took last, and the log's number before them.
        self._taken: tuple[int, int] | None = None
        self._closed: Closed | None = None
        log.place = self._place
        link.attach(name, keep, self)

    # Any thread.

    def push(
        self,
        frame: Frame,
        key: Hashable = None,
        exclude: Sequence[M] | None = None,
        *,
        reached: dict[Any, Any] | None = None,
        token: int = 0,
    ) -> int:
        """Give a push to the backplane; return its number among the pushes of this hub.

        :param token: the token of the hub's lease, for a push of a room that it owns; else 0.
        :raises Closed, QueueFull: as ``PushLog.push``.
        """
        log = self._log
        log.admit()
        message = Message(frame, key, exclude, reached, token)
        try:
            number = self._link.publish(self.name, message)
            log.gave(number)
        except (BackplaneDown, QueueFull):
            shown = self._link.show(self.name, message)
            if shown is None:
                log.settle()
                raise
            number = shown
        except UsageError:
            log.admit()  # the room was closed meanwhile, and detached
            raise
        except BaseException:  # the hub ends, or an interrupt: the backplane may have the push
            log.settle()
            raise
        if self._closed is not None:
            raise self._closed
        return number

    def prepare(self, since: Position | None, replay: int, *, may_wait: bool) -> None:
        """Fetch the pushes that ``join`` with the same arguments needs, if they are not here.

        :param may_wait: True to wait for ``PATIENCE`` seconds in all: until the room's position is
            known, earlier pushes of this hub have arrived, and the backplane has answered.
        """
        deadline = Deadline(PATIENCE if may_wait else 0)
        self._log.settle()
        given = self._log.given
        if may_wait and (not self._ring.epoch or self._arrived < given):
            self._wait(lambda: bool(self._ring.epoch) and self._arrived >= given, deadline.left())
        if may_wait and since is not None and self._is_behind(since):
            self._wait(lambda: not self._is_behind(since), min(deadline.left() or 0.0, LAG))
        while self._lacks(since, replay) and not self._fetch(deadline):
            if not self._wait(lambda: self._fetching is None, deadline.left()):
                return

    def _is_behind(self, since: Position) -> bool:
        """Return True if the client has got pushes in another hub that this hub has not yet."""
        ring = self._ring
        return since.epoch == ring.epoch and since.offset > ring.top

    def _lacks(self, since: Position | None, replay: int) -> bool:
        """Return True if the pushes from before this hub had the room are needed."""
        keep = self._keep
        with self._lock:
            ring = self._ring
            if keep is None or self._complete is ring:
                return False
            if since is None:
                return len(ring) < min(replay, keep.recovery, keep.size, ring.top)
            near = since.epoch == ring.epoch and ring.top - since.offset <= keep.recovery
            return near and since.offset <= ring.top and not ring.reaches(since)

    def _fetch(self, deadline: Deadline) -> bool:
        """Fetch the pushes that clients may need; return False if another thread fetches them."""
        assert self._keep is not None
        try:
            with self._lock:
                other = self._fetching
                # A thread that was interrupted may have left its deadline.
                if other is not None and other.left():
                    return False
                self._fetching = deadline
                ring = self._ring
            most = min(self._keep.recovery, self._keep.size)
            found = self._link.history(self.name, most, deadline.left() or 0.0)
            with self._lock:
                if found is not None:
                    ring.extend_back(*found)
                    self._complete = ring
            return True
        finally:
            with self._lock:
                if self._fetching is deadline:
                    self._fetching = None
                    self._notify()

    def wait_arrived(self, number: int, timeout: float | None) -> bool:
        """Wait until this hub's push ``number`` has its place; return False after ``timeout``."""
        self._log.settle()
        return self._wait(lambda: self._arrived >= number, timeout)

    def _wait(self, arrived: Callable[[], bool], timeout: float | None) -> bool:
        with self._lock:
            if self._changed is None:
                self._changed = threading.Condition(self._lock)
        return wait_for(self._changed, arrived, timeout)

    def join(
        self,
        join: Callable[[Sequence[FrameBatch]], bool],
        member: M,
        first: Callable[[Recovery], Frame | None],
        since: Position | None,
        replay: int,
    ) -> Recovery:
        """Let a member in, after the pushes that it has missed.

        :param join: called with the batches that the member gets first.  It joins the log with
            ``at_once``.  If it returns False the member gets nothing.
        :param first: called with the result; returns the frame that the member gets before all
            pushes, or None.
        :param since: the position of the member; None for a newcomer.
        :param replay: the number of latest pushes that a newcomer gets.
        :raises HotlineClosed, HotlineFull: as ``PushLog.join``.
        """
        with self._lock:
            top = self._ring.top
            missed: list[Message] | None
            if since is None:
                missed = self._bounded(self._ring.last(replay))
            else:
                missed = self._missed(since)
            found = missed or []
            # A push that excludes the member does not count as missed.
            kept = [
                (offset, message)
                for offset, message in enumerate(found, top - len(found) + 1)
                if not message.exclude or member not in message.exclude
            ]
            recovered = since is not None and missed is not None
            recovery = Recovery(recovered, len(kept), Position(self._ring.epoch, top))
            opening = first(recovery)
            batches = [] if opening is None else [FrameBatch([opening], [None])]
            if kept:
                frames = [message.frame for _, message in kept]
                place = Place(self.name, [offset for offset, _ in kept], self._ring.epoch)
                batches.append(FrameBatch(frames, [None] * len(frames), place))
            if not join(batches):
                return Recovery(False, 0, recovery.position)
            return recovery

    def _missed(self, since: Position) -> list[Message] | None:
        """Return the pushes after ``since``; None if one of them is lost, or they are too many."""
        missed = None if self._unsure else self._ring.after(since)
        if missed is None or len(self._bounded(missed)) < len(missed):
            return None
        return missed

    def _bounded(self, messages: list[Message]) -> list[Message]:
        """Return the newest of ``messages`` within the bounds of a recovery."""
        keep = self._keep
        if keep is None:
            return []
        kept = 0
        left = keep.recovery_bytes
        for message in reversed(messages[-keep.recovery :]):
            left -= len(message.frame.wire)
            if left < 0:
                break
            kept += 1
        return messages[len(messages) - kept :]

    @property
    def position(self) -> Position:
        """The position of the last push that has arrived."""
        self._log.settle()
        with self._lock:
            return Position(self._ring.epoch, self._ring.top)

    def presence(self) -> PresenceState | None:
        """Return the picture of the users in the room; None for a room without presence."""
        with self._lock:
            return None if self.roster is None else self.roster.state()

    def presence_fields(self) -> str | None:
        """Return the picture of the users as fields of a JSON object, for a client that joins."""
        with self._lock:
            return None if self.roster is None else self.roster.fields()

    @property
    def given(self) -> int:
        """The number of the last push that this hub has given to the backplane."""
        return self._log.given

    def log_number(self, number: int) -> int | None:
        """Return the log's number of this hub's push ``number``; None if it has not arrived."""
        self._log.settle()
        with self._lock:
            if number > self._arrived:
                return None
            place = bisect_right(self._spans, number, key=lambda span: span[0]) - 1
            return number + self._spans[max(place, 0)][1]

    def close(self) -> None:
        """Take no more pushes of the room."""
        self._link.detach(self.name)

    # The backplane.

    def attached(self, position: Position, settle: Callable[[], None] | None = None) -> None:
        """See ``Receiver.attached``."""
        with self._lock:
            self._log.settles = settle
            self._ring = Stream(position, self._keep, self._now)
            base = self._base_of(position)
            if self._shift is None:
                self._rebase(base)
            else:
                self._base, self._shift = base, base[1]
            self._notify()

    def _rebase(self, base: tuple[str | None, int | None]) -> None:
        """Use ``base`` for the pushes that the log takes from now on."""

        def work(members: list[M]) -> None:
            self._base = base

        with contextlib.suppress(Closed):  # the room ends
            self._log.run(work, admitted=True)
        self._shift = base[1]

    def _base_of(self, position: Position) -> tuple[str | None, int]:
        """Return the base for the next pushes of the log, if they follow ``position``."""
        shift = position.offset - self._log.placed
        return None if self._keep is None else position.epoch, shift

    def _notify(self) -> None:
        if self._changed is not None:
            self._changed.notify_all()

    def arrived(self, first: Position, messages: Sequence[Message], number: int | None) -> None:
        """See ``Receiver.arrived``."""
        with self._lock:
            if self._unsure:  # an interrupt may have struck after the log took shown pushes
                self._arrived = max(self._arrived, self._log.arrived)
            known = max(0, self._ring.top + 1 - first.offset)
            new = messages[known:]
            if new:
                own = None if number is None else number + known
                if own is not None and own <= self._arrived:
                    accepted = self._accept_rest(first.offset + known, new, own)
                else:
                    accepted = self._accept(first.offset + known, new, own)
                if not accepted:
                    return
                self._ring.extend(new)
            if number is not None:
                self._count_arrived(number + len(messages) - 1)

    def shown(self, messages: Sequence[Message], number: int | None) -> None:
        """See ``Receiver.shown``."""
        with self._lock:
            self._unsure = True
            if self._shift is not None:
                self._rebase((None, None))
            self._count(self._arrived if number is None else number, self._log.placed + 1)
            try:
                self._log.take(messages, number)
            except Closed as closed:
                self._closed = closed
            if number is not None:
                self._count_arrived(number + len(messages) - 1)

    def lost(self, position: Position, why: str, number: int | None = None) -> None:
        """See ``Receiver.lost``."""
        with self._lock:
            if why == "local":
                self._unsure = False
            else:
                self._ring = Stream(position, self._keep, self._now)
                self._taken = None
            gap = gap_message(self.name, position.epoch, position.offset, why)
            key = Placed(self.name, position.epoch, position.offset)
            base = self._base_of(position)
            self._tell(gap, key, base)
            self._shift = base[1]
            if number is not None:
                self._give_up(number)
            if self.on_gap is not None:
                self.on_gap(position)

    def refused(self, number: int) -> None:
        """See ``Receiver.refused``."""
        with self._lock:
            self._give_up(number)
        self.on_refused()

    def _give_up(self, number: int) -> None:
        """Count own pushes up to ``number`` as consumed with the last push that has arrived."""
        if number > self._arrived:
            self._spans.append((self._arrived + 1, self._log.placed - number))
            self._log.take((), number + 1)
            self._count_arrived(number)

    @property
    def has_presence(self) -> bool:
        """See ``Receiver.has_presence``."""
        return self.roster is not None

    def present(self, came: Mapping[str, str], went: Collection[str]) -> None:
        """See ``Receiver.present``."""
        with self._lock:
            if self.roster is not None:
                self._tell_change(self.roster.change(came, went))

    def counted(self, count: int) -> None:
        """See ``Receiver.counted``."""
        with self._lock:
            if self.roster is not None:
                self._tell_change(self.roster.counted(count))

    def _tell_change(self, found: tuple[str, PresenceChange] | None) -> None:
        if found is not None:
            text, change = found
            self._tell(text, Versioned(self.name, change.version))
            if self.on_change is not None:
                self.on_change(change)

    def _tell(
        self,
        text: str,
        key: Placed | Versioned,
        base: tuple[str | None, int | None] | None = None,
    ) -> None:
        """Send a message of the hub to the members that know such messages.

        :param key: tells a client that the message was dropped, if it was.
        :param base: the base of the pushes that the log takes from now on; None for no change.
        """
        batch = FrameBatch([Frame(text, MessageType.TEXT)], [key])

        def work(members: list[M]) -> None:
            if base is not None:
                self._base = base
            for member in members:
                if member.subprotocol == SUBPROTOCOL:
                    member.send_batch(batch)

        with contextlib.suppress(Closed):  # the room ends
            self._log.run(work, admitted=True)

    def _accept_rest(self, offset: int, messages: Sequence[Message], number: int) -> bool:
        """Have the log take the own messages that were not shown before; see ``_accept``."""
        shown = self._arrived + 1 - number
        rest = messages[shown:]
        return not rest or self._accept(offset + shown, rest, number + shown)

    def _accept(self, offset: int, messages: Sequence[Message], number: int | None) -> bool:
        """Have the log take messages; return False if the hub ends and sends no more messages.

        :param offset: the offset of the first message.
        :param number: the number of the first message, for pushes of this hub; else None.
        """
        placed = self._log.placed
        taken = self._taken
        if taken is not None and taken[0] == offset:
            # An interrupt struck after the log took messages, and before the ring did.
            before, skipped = taken[1], placed - taken[1]
        else:
            before, skipped = placed, 0
            self._taken = (offset, placed)
        if offset - 1 - before != self._shift:  # pushes were shown, or shown pushes have arrived
            epoch = None if self._keep is None else self._ring.epoch
            self._rebase((epoch, offset - 1 - before))
        try:
            given = None if number is None else number + skipped
            self._log.take(messages[skipped:], given)
        except Closed as closed:
            self._closed = closed
            return False
        if number is not None:
            self._count(number, before + 1)
        return True

    def _count(self, number: int, log_number: int) -> None:
        """Note that the log has this hub's pushes from ``number`` on."""
        shift = log_number - number
        if shift != self._spans[-1][1]:
            self._spans.append((number, shift))
            del self._spans[:-MOST_SPANS]

    def _count_arrived(self, number: int) -> None:
        self._arrived = max(self._arrived, number)
        self._notify()

    # The thread that flushes the log.

    def _place(self, first: int, last: int) -> Place:
        epoch, shift = self._base
        if shift is None:
            return Place(self.name, [None] * (last + 1 - first))
        return Place(self.name, range(first + shift, last + shift + 1), epoch)
