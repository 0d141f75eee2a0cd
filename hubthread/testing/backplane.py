"""A backplane in virtual time: a server in memory, which fails when a test says so.

A link uses the server as a ``RedisLink`` uses Redis: it sends waiting batches, hears published
batches, and fetches missed batches.  Each link is a job of the clock.  ``backplane.redis.room``
orders the arriving batches and finds the holes, as with Redis.

Layer: testing.  Threads: only the thread that made the clock.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Mapping
from typing import Any

from hubthread.backplane.interfaces import (
    BackplaneHost,
    BackplaneState,
    LeaseAnswer,
    Message,
    Receiver,
)
from hubthread.backplane.memory import MemoryBackplane, MemoryLink
from hubthread.backplane.redis.keeper import CHECK
from hubthread.backplane.redis.room import Arrival, Batch, Room, entry_arrival
from hubthread.backplane.redis.scripts import keys_of
from hubthread.backplane.redis.wire import REPLY, pack, unpack
from hubthread.errors import BackplaneDown, UsageError
from hubthread.history import History, Position
from hubthread.statistics import BackplaneStatistics
from hubthread.testing.clock import FakeClock, Job

__all__ = ["VirtualBackplane", "VirtualLink"]

LEASE = 10.0
"""Seconds without a sign of life after which a hub counts as dead."""

HOLD = 10.0
"""Seconds after the loss of the server in which pushes are accepted: ``RedisBackplane.hold``."""


class _Stored:
    """One room on the server."""

    def __init__(self, epoch: str, keep: History, now: Callable[[], float]) -> None:
        self.epoch = epoch
        self.top = 0
        self._keep = keep
        self._now = now
        # Each batch as an arrival, and as an entry of a stream in Redis.
        self._entries: deque[tuple[Arrival, Any]] = deque()
        self._used = now()
        self._taken: dict[str, tuple[int, int]] = {}  # the last number and offset, by origin

    def place(self, batch: Batch, *, fenced: bool) -> tuple[Arrival | None, int]:
        """Place a batch, once.

        :param fenced: True to refuse the batch, so that it gets no place.
        :returns: the arrival to publish, or None for a batch that was placed before or is refused;
            and the offset of the last message, 0 if the batch is refused.
        """
        origin = batch.room.origin
        number, offset = self._taken.get(origin, (0, 0))
        if number == batch.last:
            return None, offset
        if fenced:
            self._taken[origin] = batch.last, 0
            return None, 0
        self.top += len(batch.messages)
        self._taken[origin] = batch.last, self.top
        name = b"%d-%d" % (self.top, len(batch.messages))
        entry = [name, [b"d", batch.body, b"o", f"{origin}:{batch.first}".encode()]]
        arrival = entry_arrival(self.epoch, entry)
        self.after(0)
        self._used = self._now()
        self._entries.append((arrival, entry))
        return arrival, self.top

    def after(self, offset: int) -> list[Any]:
        """Return the kept entries after an offset."""
        entries, keep = self._entries, self._keep
        if self._now() - self._used > keep.ttl:
            entries.clear()
        size = sum(len(arrival.body or b"") for arrival, _ in entries)
        while entries and (entries[0][0].last <= self.top - keep.size or size > keep.max_bytes):
            size -= len(entries.popleft()[0].body or b"")
        return [entry for arrival, entry in entries if arrival.last > offset]


class VirtualBackplane(MemoryBackplane):
    """The server.

    :param clock: the clock of all hubs.
    :param local: see ``RedisBackplane``.
    """

    def __init__(self, clock: FakeClock, local: bool = False) -> None:
        super().__init__()
        self.clock = clock
        self.local = local
        self.links: list[VirtualLink] = []
        self.run = 1
        """The number of the server.  Each failover makes a new server."""
        self._stored: dict[str, _Stored] = {}
        self._present: dict[str, dict[str, dict[VirtualLink, str]]] = {}  # by room, by key
        self._counts: dict[str, dict[VirtualLink, int]] = {}

    def open(self, node: str, now: Callable[[], float] | None = None) -> VirtualLink:
        """Return a connection for one hub; see ``Backplane.open``."""
        self.links.append(VirtualLink(self, node))
        return self.links[-1]

    def _tell(self, box: str, letter: bytes) -> int:
        with self._lock:
            listeners = self._boxes.get(box, {})
            cut = [link for link in self.links if link._cut_at is not None]
            hearing = [heard for link, heard in listeners.items() if link not in cut]
        for heard in hearing:
            heard(letter)
        return len(hearing)

    def stored(self, room: Room) -> _Stored:
        """Return a room, and begin an epoch if the room has none."""
        if room.name not in self._stored:
            epoch = f"{self.run}-{len(self._stored) + 1}"
            made = _Stored(epoch, room.keep, self.clock.now)
            self._stored[room.name] = made
        return self._stored[room.name]

    def find(self, name: str) -> _Stored | None:
        """Return a room, or None if it has no epoch yet."""
        return self._stored.get(name)

    def place(self, batch: Batch) -> tuple[str, int]:
        """Place a batch, and publish it.

        :returns: the epoch, and the offset of the last message; 0 if the batch is refused.
        """
        stored = self.stored(batch.room)
        arrival, top = stored.place(batch, fenced=self._fences(batch.room.name, batch.token))
        if arrival is not None:
            for link in self.links:
                link.hear(batch.room.name, arrival)
        return stored.epoch, top

    def fail_over(self) -> None:
        """Lose all rooms and leases, as a new server does; every link has to connect again."""
        self.run += 1
        self._stored.clear()
        self._leases.clear()
        for link in self.links:
            link.came_at = self.clock.now()
            link.lose_connection()

    def state(self, link: VirtualLink, room: str, members: Mapping[str, str], count: int) -> None:
        """Note the members that a room has in one hub, and tell all hubs."""
        present = self._present.setdefault(room, {})
        for key in [key for key, texts in present.items() if link in texts and key not in members]:
            del present[key][link]
            if not present[key]:
                del present[key]
        for key, text in members.items():
            present.setdefault(key, {}).setdefault(link, text)
        self._counts.setdefault(room, {})[link] = count
        for other in self.links:
            other.look(room)

    def leave(self, link: VirtualLink, staying: Collection[str] = ()) -> None:
        """Remove the members of a hub from all rooms, except the rooms ``staying``."""
        for room in [room for room in self._counts if room not in staying]:
            self.state(link, room, {}, 0)

    def picture(self, room: str) -> tuple[dict[str, str], int]:
        """Return the users in a room, with the text of the first hub, and the total count."""
        present = self._present.get(room, {})
        members = {key: next(iter(texts.values())) for key, texts in present.items()}
        return members, sum(self._counts.get(room, {}).values())


class _Side:
    """One room of one hub: the members in this hub, and the members in all hubs."""

    def __init__(self, room: Room) -> None:
        self.room = room
        # In this hub.
        self.members: dict[str, str] = {}
        self.count = 0
        self.changed = False  # the server is to be told
        # In all hubs, as the receiver was told.
        self.told: dict[str, str] = {}
        self.told_count = 0


class VirtualLink(MemoryLink):
    """One hub's connection to the server; see ``BackplaneLink``."""

    def __init__(self, server: VirtualBackplane, node: str) -> None:
        super().__init__(server, node, server.clock.now)
        self._server = server
        self._host: BackplaneHost | None = None
        self._job: Job | None = None
        self._sides: dict[str, _Side] = {}
        self._live: list[Room] = []  # all rooms, also detached rooms whose pushes have not arrived
        self._wanted: deque[Room] = deque()
        self._incoming: deque[tuple[str, Arrival]] = deque()
        self._unanswered: list[Batch] = []
        self._check_at = self._answer_at = 0.0
        self._told = BackplaneState.RESYNC
        self._lost_connection = False
        self._run = server.run
        self._cut_at: float | None = None
        # The changes of records that wait while the link is cut, by key.
        self._late_records: dict[str, Callable[[], object]] = {}
        self._looks = self._shown_only = 0
        self.came_at = -math.inf
        """The time at which the link came to another server than before."""
        self.dropping = 0
        """The number of next messages of the server that are lost on their way."""

    # The hub.

    def start(self, host: BackplaneHost) -> None:
        """See ``BackplaneLink.start``."""
        super().start(host)
        self._host = host
        self._check_at = self.now() + CHECK
        self._job = self._server.clock.drive(self._step, "backplane")

    def attach(self, room: str, keep: History | None, receiver: Receiver) -> None:
        """See ``BackplaneLink.attach``."""
        if room in self._sides:
            raise UsageError(f"room {room!r} is attached already")
        keys = keys_of("virtual", room)
        made = Room(room, keys, keep, receiver, self._want, self._ended, self._shows)
        self._sides[room] = _Side(made)
        self._live.append(made)
        self._wake()

    def detach(self, room: str) -> None:
        """See ``BackplaneLink.detach``."""
        side = self._sides.pop(room, None)
        if side is not None:
            side.room.let_go()
            if self._cut_at is None:
                self._server.state(self, room, {}, 0)

    def _ended(self, room: Room) -> None:
        if room in self._live:
            self._live.remove(room)

    def publish(self, room: str, message: Message) -> int:
        """See ``BackplaneLink.publish``."""
        side = self._sides.get(room)
        if side is None:
            raise UsageError(f"room {room!r} is not attached: call attach first")
        if self._cut_at is not None and (away := self.now() - self._cut_at) >= HOLD:
            raise BackplaneDown(
                f"room {room!r}: the server has been away for {away:.1f} s, and pushes are "
                f"accepted for the first {HOLD:g} s only; try again later"
            )
        number, _ = side.room.give(message, pack(message))
        side.room.show()
        self._wake()
        return number

    def show(self, room: str, message: Message) -> int | None:
        """See ``BackplaneLink.show``."""
        if not self._shows():
            return None
        number = self._sides[room].room.show_only(message)
        self._shown_only += number is not None
        return number

    def _shows(self) -> bool:
        return self._server.local and self._told is BackplaneState.DOWN

    def present(self, room: str, came: Mapping[str, str], went: Collection[str]) -> None:
        """See ``BackplaneLink.present``."""
        side = self._sides.get(room)
        if side is not None:
            side.members |= came
            for key in went:
                side.members.pop(key, None)
            self._note(side)

    def count(self, room: str, count: int) -> None:
        """See ``BackplaneLink.count``."""
        side = self._sides.get(room)
        if side is not None:
            side.count = count
            self._note(side)

    def _note(self, side: _Side) -> None:
        side.changed = True
        self._wake()

    def history(
        self, room: str, count: int, timeout: float
    ) -> tuple[Position, list[Message]] | None:
        """See ``BackplaneLink.history``."""
        stored = self._server.find(room)
        if stored is None or self._cut_at is not None or not timeout:
            return None
        found: list[Message] = []
        for entry in stored.after(max(0, stored.top - count)):
            found += unpack(entry[1][1])
        found = found[-count:]
        return Position(stored.epoch, stored.top - len(found)), found

    def tell(
        self,
        box: str,
        letter: bytes,
        sent: Callable[[int | None], object],
        within: float | None = None,
    ) -> None:
        """See ``BackplaneLink.tell``."""
        if self._cut_at is None:
            super().tell(box, letter, sent, within)
        else:
            sent(None)

    def keep(self, key: str, record: bytes, seconds: float) -> None:
        """See ``BackplaneLink.keep``."""
        self._change_record(key, lambda: super(VirtualLink, self).keep(key, record, seconds))

    def drop(self, key: str, seconds: float) -> None:
        """See ``BackplaneLink.drop``."""
        self._change_record(key, lambda: super(VirtualLink, self).drop(key, seconds))

    def _change_record(self, key: str, change: Callable[[], object]) -> None:
        if self._cut_at is None:
            change()
        else:
            self._late_records[key] = change

    def take(self, key: str, timeout: float) -> tuple[str, bytes] | None:
        """See ``BackplaneLink.take``."""
        return super().take(key, timeout) if self._cut_at is None else None

    def lease(
        self,
        room: str,
        token: int,
        seconds: float,
        told: Callable[[LeaseAnswer | None], object],
        saved: bytes | None = None,
    ) -> None:
        """See ``BackplaneLink.lease``."""
        if self._cut_at is None:
            super().lease(room, token, seconds, told, saved)
        else:
            told(None)

    def server_age(self) -> float:
        """See ``BackplaneLink.server_age``."""
        return self.now() - self.came_at

    def nodes(self) -> list[tuple[str, float, dict[str, Any]]]:
        """See ``BackplaneLink.nodes``."""
        found = []
        for link in self._server.links:
            cuts = [] if link is self else [self._cut_at, link._cut_at]
            age = self.now() - min((at for at in cuts if at is not None), default=self.now())
            if link._host is not None and age < LEASE:
                found.append((link.node, age, link._host.describe()))
        return found

    def statistics(self) -> BackplaneStatistics:
        """See ``BackplaneLink.statistics``."""
        state, only = self._told.value, self._shown_only
        return BackplaneStatistics(state, looks=self._looks, local=only)

    def close(self, timeout: float) -> None:
        """See ``BackplaneLink.close``."""
        for room in list(self._sides):
            self.detach(room)
        if self._job is not None and not self._job.running:
            self._server.clock.run(self._job)  # waiting pushes get their places before the end
            self._job.over = True
        self._server.links.remove(self)
        super().close(timeout)

    # Faults.

    def cut(self) -> None:
        """Lose the server until ``heal``."""
        if self._cut_at is not None:
            return
        began = self._cut_at = self.now()
        self.lose_connection()
        self._tell(BackplaneState.DOWN, "the test has cut the connection")

        def expire() -> None:
            if self._cut_at == began:
                self._server.leave(self)

        self._server.clock.after(LEASE, expire)

    def heal(self) -> None:
        """Reach the server again."""
        if self._cut_at is not None:
            self._cut_at = None
            late, self._late_records = self._late_records, {}
            for change in late.values():
                change()
            self._tell(BackplaneState.RESYNC, "connected")
            self.lose_connection()

    def lose_connection(self) -> None:
        """Lose all messages on their way, and connect again at once, unless the link is cut."""
        self._lost_connection = True
        self._incoming.clear()
        for side in self._sides.values():
            side.changed = True
        self._wake()

    def _drops(self) -> bool:
        dropped = self.dropping > 0
        self.dropping -= dropped
        return dropped

    # The server.

    def hear(self, room: str, arrival: Arrival) -> None:
        """Take a published batch, unless it is lost on its way."""
        attached = any(each.name == room for each in self._live)
        if attached and self._cut_at is None and not self._drops():
            self._incoming.append((room, arrival))
            self._wake()

    def look(self, room: str) -> None:
        """Tell the hub which users have come to a room, and which have left."""
        side = self._sides.get(room)
        if side is None or self._cut_at is not None or not side.room.epoch:
            return
        receiver = side.room.receiver
        if not receiver.has_presence:
            return
        members, count = self._server.picture(room)
        came = {key: text for key, text in members.items() if key not in side.told}
        went = [key for key in side.told if key not in members]
        side.told = members
        if came or went:
            receiver.present(came, went)
        if count != side.told_count:
            side.told_count = count
            receiver.counted(count)

    # The job.

    def _wake(self) -> None:
        if self._job is not None:
            self._job.wake()

    def _want(self, room: Room) -> None:
        self._wanted.append(room)
        self._wake()

    def _step(self) -> float:
        if self._cut_at is not None:
            return math.inf
        if self._lost_connection:
            self._lost_connection = False
            self._answer_at = 0.0
            self._server.leave(self, self._sides)
            anew, self._run = self._run != self._server.run, self._server.run
            for room in list(self._live):
                room.reconnected(anew=anew)
        if self.now() >= self._check_at:
            self._check_at = self.now() + CHECK
            for room in list(self._live):
                room.want()
        while self._incoming:
            name, arrival = self._incoming.popleft()
            for room in [each for each in self._live if each.name == name]:
                room.came(arrival)
        if self._answer_at and self.now() >= self._answer_at:
            self.lose_connection()
        elif not self._answer_at:
            self._send()
        self._fetch()
        if not self._wanted:
            self._tell(BackplaneState.UP, "connected, and nothing is missing")
        return min(self._check_at, self._answer_at or math.inf)

    def _send(self) -> None:
        for room in list(self._live):
            if not room.epoch:
                stored = self._server.stored(room)
                room.moved(stored.epoch, stored.top)
                self.look(room.name)
            while (batch := room.next_batch()) is not None:
                self._unanswered.append(batch)
        while self._unanswered:
            batch = self._unanswered[0]
            if batch.room.refuse_fenced(batch):
                self._unanswered.pop(0)
                continue
            epoch, last = self._server.place(batch)
            if self._drops():
                self._answer_at = self.now() + REPLY
                return
            self._unanswered.pop(0)
            if last:
                batch.room.placed(batch, epoch, last)
            else:
                batch.room.refused(batch)
        for name, side in list(self._sides.items()):
            if side.changed:
                side.changed = False
                self._server.state(self, name, side.members, side.count)

    def _fetch(self) -> None:
        for _ in range(len(self._wanted)):
            room = self._wanted.popleft()
            since, stored = room.position(), self._server.stored(room)
            self._looks += 1
            room.fetched(since, stored.epoch, stored.top, stored.after(since.offset))

    def _tell(self, state: BackplaneState, reason: str) -> None:
        if state is not self._told and self._host is not None:
            self._told = state
            self._host.tell_state(state, reason)
            for room in list(self._live):
                room.look_around()
