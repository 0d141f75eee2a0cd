"""``RedisBackplane``: shared rooms that span processes and machines, by way of a Redis server.

Layer: backplane.  Threads: every method may be called on any thread.  Only ``history`` and
``close`` wait.
"""

from __future__ import annotations

import random
import secrets
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from time import monotonic
from typing import Any, TypeVar

from hubthread.backplane.interfaces import (
    BackplaneHost,
    BackplaneState,
    LeaseAnswer,
    Message,
    Receiver,
)
from hubthread.backplane.redis.beats import Beats
from hubthread.backplane.redis.boxes import Boxes, Letter
from hubthread.backplane.redis.history import read_latest
from hubthread.backplane.redis.keeper import Keeper
from hubthread.backplane.redis.lease import answer_of, lease_command
from hubthread.backplane.redis.presence import COUNT, Presences, RoomPresence
from hubthread.backplane.redis.publisher import Publisher
from hubthread.backplane.redis.records import Records, take_command, taken
from hubthread.backplane.redis.room import Batch, Room
from hubthread.backplane.redis.scripts import everyone, keys_of
from hubthread.backplane.redis.subscriber import Subscriber
from hubthread.backplane.redis.wire import Connector, Lost, ReplyError, Wire, pack
from hubthread.checks import check_kind, check_number
from hubthread.concurrency.calls import wait_for
from hubthread.concurrency.deadline import Deadline
from hubthread.errors import BackplaneDown, QueueFull, SettingError, UsageError, WrongValue
from hubthread.history import History, Position
from hubthread.statistics import BackplaneStatistics

__all__ = ["RedisBackplane", "RedisLink"]

T = TypeVar("T")

BEAT = 2.5
"""Seconds between two beats of a hub."""

MOST_WAITING = 16 << 20
"""The most bytes that may wait for the server."""

OVERHEAD = 512
"""Bytes that a waiting message takes in addition to its payload."""

MOST_MESSAGE = 32 << 20
"""The most bytes of one message.  Redis closes a connection that sends much more."""

READERS = 4
"""The most connections for reading histories and records."""

PARTS = frozenset(("publisher", "subscriber"))
"""The threads whose connections every push needs."""

SHORTEST, LONGEST = 0.05, 2.0
"""Seconds of the first pause between two attempts to connect, and of the longest."""


class RedisBackplane:
    """Shared rooms in all hubs that use the same Redis server and prefix.

    ``HubSetting(backplane=RedisBackplane("redis://localhost", prefix="shop"))``

    The hub also starts while the server is away, and connects as soon as the server is there.  A
    push waits until the server has given it a place.  The backplane needs redis-py
    (``pip install hubthread[redis]``) and Redis 6.2 or later, or Valkey.

    :param url: ``redis://user:password@host:port/0``, ``rediss://…`` for TLS, ``unix:///path`` or
        ``redis+sentinel://:password@host:26379,host:26379/service/0``.  The documentation of
        redis-py lists the options that may follow a ``?``.
    :param prefix: the start of the names of all keys and channels.
    :param hold: the seconds after the loss of the server in which the hub still accepts pushes,
        which wait for the server.  Later pushes raise ``BackplaneDown``.  0 refuses every push
        while the server is known to be away.
    :param local: True shows a push to the members in its own hub while the server is known to be
        away, at once and without a number.  The members in other hubs get the push when the server
        is back, or never if it was made after ``hold`` seconds.  Use it for data that is soon out
        of date, such as cursors.
    :raises SettingError: for a value out of range.
    :raises UsageError: if redis-py is not installed.

    Threads: any thread.
    """

    def __init__(
        self, url: str, *, prefix: str = "hubthread", hold: float = 10.0, local: bool = False
    ) -> None:
        check_kind("prefix", prefix, str, "a string")
        if not prefix or not prefix.isprintable() or set(prefix) & set("{} "):
            wanted = "expected printable characters without spaces and braces"
            raise SettingError("prefix", f"{wanted}, got {prefix!r}")
        if hold != 0 or isinstance(hold, bool):
            check_number("hold", hold, 0)
        check_kind("local", local, bool, "True or False")
        self._connector = Connector(url)
        self._url = url
        self.prefix = prefix
        self.hold = hold
        self.local = local

    def open(self, node: str, now: Callable[[], float] = monotonic) -> RedisLink:
        """Return a connection for one hub; see ``Backplane.open``."""
        return RedisLink(Connector(self._url), self.prefix, self.hold, node, self.local)


class RedisLink:
    """One hub's connection to Redis; see ``BackplaneLink``.

    Lock order: the lock of a room, then the lock of the link.

    Threads: any thread.
    """

    def __init__(
        self,
        connector: Connector,
        prefix: str,
        hold: float,
        node: str = "",
        local: bool = False,
    ) -> None:
        self.node = self._name = node
        self.connector = connector
        self._prefix = prefix
        self._hold = hold
        self._local = local
        self.beat = BEAT
        self.everyone = everyone(prefix)
        self.closed = threading.Event()
        self.publisher = Publisher(self)
        self.subscriber = Subscriber(self)
        self.keeper = Keeper(self, self.publisher, self.subscriber)
        self.presences = Presences(prefix, self.keeper.wake, self._notify_settled)
        self.repaired = 0
        self._host: BackplaneHost | None = None
        self._lock = threading.RLock()  # guards what follows
        self._rooms: dict[str, Room] = {}
        self._by_channel: dict[bytes, tuple[Room, ...]] = {}
        self._presence: dict[Room, RoomPresence] = {}
        self._boxes = Boxes(prefix)
        self._beats = Beats(self.everyone)
        self._records = Records(prefix)
        self._waiting = self._waiting_bytes = 0
        self._shown_only = self._told_only = 0  # pushes shown without a place; reported ones
        self._settled = threading.Condition(self._lock)
        self._state_lock = threading.RLock()  # guards what follows; held while a state is told
        self.state = BackplaneState.RESYNC
        self._state_at = monotonic()
        self._down_at: float | None = None
        self._lost = 0
        self._connected: set[str] = set()
        self._failures: dict[str, int] = {}
        self._unknown = 0
        # For readers of the history.
        self._reading = threading.Semaphore(READERS)
        self._idle: deque[Wire] = deque()

    # The hub.

    def start(self, host: BackplaneHost) -> None:
        """See ``BackplaneLink.start``."""
        self._host = host
        # Not earlier: the process may fork after the hub and its rooms were made.
        for room in self.all_rooms():
            room.name_origin()
        self.presences.name_hub()
        self.node = f"{self._name}-{secrets.token_hex(8)}"
        host.start_thread(self.publisher.run, "backplane-publisher")
        host.start_thread(self.subscriber.run, "backplane-subscriber")
        host.start_thread(self.keeper.run, "backplane-keeper")

    def attach(self, room: str, keep: History | None, receiver: Receiver) -> None:
        """See ``BackplaneLink.attach``."""
        with self._lock:
            if room in self._rooms:
                raise UsageError(f"room {room!r} is attached already")
            keys = keys_of(self._prefix, room)
            made = Room(room, keys, keep, receiver, self.keeper.want, self._ended, self._shows)
            self._rooms[room] = made
            others = self._by_channel.get(keys.channel, ())
            self._by_channel[keys.channel] = (*others, made)
            if receiver.has_presence:
                self._presence[made] = self.presences.add(made)
        self.publisher.read_top(made)

    def detach(self, room: str) -> None:
        """See ``BackplaneLink.detach``."""
        with self._lock:
            found = self._rooms.pop(room, None)
            presence = None if found is None else self._presence.pop(found, None)
        if presence is not None:
            self.presences.end(presence)
        if found is not None:
            found.let_go()

    def _ended(self, room: Room) -> None:
        channel = room.keys.channel
        with self._lock:
            left = tuple(each for each in self._by_channel.get(channel, ()) if each is not room)
            if left:
                self._by_channel[channel] = left
            else:
                self._by_channel.pop(channel, None)
        self.keeper.change(channel)

    def publish(self, room: str, message: Message) -> int:
        """See ``BackplaneLink.publish``."""
        found = self._rooms.get(room)
        if found is None:
            raise UsageError(f"room {room!r} is not attached: call attach first")
        data = pack(message)
        self._admit("room", room, len(data))
        number, tell = found.give(message, data)
        if self._local:
            found.show()
        if tell and found.epoch:
            self.publisher.send(found)
        return number

    def show(self, room: str, message: Message) -> int | None:
        """See ``BackplaneLink.show``."""
        found = self._rooms.get(room)
        number = found.show_only(message) if found is not None and self._shows() else None
        with self._lock:
            self._shown_only += number is not None
        return number

    def _shows(self) -> bool:
        return self._local and self.state is BackplaneState.DOWN

    def _admit(self, what: str, name: str, size: int) -> None:
        """Count a message that is going to wait.

        :raises BackplaneDown, QueueFull, WrongValue: if the message cannot wait.
        """
        down_at = self._down_at
        if down_at is not None and (away := monotonic() - down_at) >= self._hold:
            raise BackplaneDown(
                f"{what} {name!r}: Redis has been away for {away:.1f} s, and messages are "
                f"accepted for the first {self._hold:g} s only; try again later"
            )
        if size > MOST_MESSAGE:
            raise WrongValue(f"expected at most {MOST_MESSAGE} bytes for a message, got {size}")
        with self._lock:
            full = self._waiting_bytes + size + OVERHEAD
            if full > MOST_WAITING and self._waiting:
                text = f"{what} {name!r}: {MOST_WAITING} bytes of messages wait for Redis"
                raise QueueFull(text)
            self._waiting += 1
            self._waiting_bytes = full

    def _release(self, count: int, size: int) -> None:
        with self._lock:
            self._waiting -= count
            self._waiting_bytes -= size + OVERHEAD * count
            if not self._waiting:
                self._settled.notify_all()

    def listen(self, box: str, heard: Callable[[bytes], object]) -> None:
        """See ``BackplaneLink.listen``."""
        self.keeper.change(self._boxes.listen(box, heard))

    def unlisten(self, box: str) -> None:
        """See ``BackplaneLink.unlisten``."""
        self.keeper.change(self._boxes.unlisten(box))

    def tell(
        self,
        box: str,
        letter: bytes,
        sent: Callable[[int | None], object],
        within: float | None = None,
    ) -> None:
        """See ``BackplaneLink.tell``."""
        self._admit("a letter to", box, len(letter))

        def done(reached: int | None) -> None:
            self._release(1, len(letter))
            sent(reached)

        self._boxes.post(box, letter, done, within)
        self.publisher.wake()

    def keep(self, key: str, record: bytes, seconds: float) -> None:
        """See ``BackplaneLink.keep``."""
        self._records.change(key, record, seconds)
        self.publisher.wake()

    def drop(self, key: str, seconds: float) -> None:
        """See ``BackplaneLink.drop``."""
        self._records.change(key, None, seconds)
        self.publisher.wake()

    def take(self, key: str, timeout: float) -> tuple[str, bytes] | None:
        """See ``BackplaneLink.take``."""
        if self.state is BackplaneState.DOWN:  # not in RESYNC, where a try may succeed
            return None
        take = take_command(self._prefix, key, self.node)

        def read(wire: Wire, deadline: Deadline) -> tuple[str, bytes] | None:
            (reply,) = wire.ask(take, timeout=max(deadline.left() or 0, 0.01))
            return taken(reply)

        return self._read(read, timeout)

    def lease(
        self,
        room: str,
        token: int,
        seconds: float,
        told: Callable[[LeaseAnswer | None], object],
        saved: bytes | None = None,
    ) -> None:
        """See ``BackplaneLink.lease``."""
        size = len(saved or b"")
        self._admit("the lease of room", room, size)

        def done(reply: object) -> None:
            self._release(1, size)
            told(answer_of(reply))

        data = lease_command(keys_of(self._prefix, room), self.node, token, seconds, saved)
        until = monotonic() + max(seconds / 3, 1.0)
        self._boxes.send(Letter(data, until, done, self.publisher.run_id))
        self.publisher.wake()

    def server_age(self) -> float:
        """See ``BackplaneLink.server_age``."""
        return monotonic() - self.publisher.came_at

    def nodes(self) -> list[tuple[str, float, dict[str, Any]]]:
        """See ``BackplaneLink.nodes``."""
        own = (self.node, 0.0, self._describe())
        return [own, *(each for each in self._beats.nodes() if each[0] != self.node)]

    def _describe(self) -> dict[str, Any]:
        return {} if self._host is None else self._host.describe()

    def present(self, room: str, came: Mapping[str, str], went: Collection[str]) -> None:
        """See ``BackplaneLink.present``."""
        named = {f"u{key}": text for key, text in came.items()}
        self._state(room, named, [f"u{key}" for key in went])

    def count(self, room: str, count: int) -> None:
        """See ``BackplaneLink.count``."""
        self._state(room, {COUNT: f"{count}"} if count else {}, () if count else (COUNT,))

    def _state(self, room: str, came: Mapping[str, str], went: Collection[str]) -> None:
        presence = self.presence_of(self._rooms.get(room))
        if presence is not None:
            presence.state(came, went)

    def history(
        self, room: str, count: int, timeout: float
    ) -> tuple[Position, list[Message]] | None:
        """See ``BackplaneLink.history``."""
        keys = keys_of(self._prefix, room)
        return self._read(lambda wire, left: read_latest(wire, keys, count, left), timeout)

    def _read(self, read: Callable[[Wire, Deadline], T | None], timeout: float) -> T | None:
        """Call ``read`` with a connection of its own; return None if that fails."""
        deadline = Deadline(timeout)
        if not timeout or not self._reading.acquire(timeout=timeout):
            return None
        try:
            with self._reader() as wire:
                return read(wire, deadline)
        except Lost:
            return None
        finally:
            self._reading.release()

    @contextmanager
    def _reader(self) -> Iterator[Wire]:
        """Lend a connection for reading.  A connection that has failed is not used again."""
        try:
            wire = self._idle.popleft()
        except IndexError:
            wire = self.connector.connect()
        try:
            yield wire
        except BaseException:  # raised again below: answers of the caller may be unread
            wire.close()
            raise
        self._idle.append(wire)
        if self.closed.is_set():
            self._close_idle()

    def statistics(self) -> BackplaneStatistics:
        """See ``BackplaneLink.statistics``."""
        with self._lock:
            waiting, size = self._waiting, self._waiting_bytes - OVERHEAD * self._waiting
        return BackplaneStatistics(
            state=self.state.value,
            seconds=monotonic() - self._state_at,
            waiting=waiting,
            waiting_bytes=size,
            lost_connections=self._lost,
            looks=self.repaired,
            unknown=self._unknown,
            local=self._shown_only,
        )

    def close(self, timeout: float) -> None:
        """See ``BackplaneLink.close``."""
        with self._lock:
            rooms = list(self._rooms)
        for room in rooms:
            self.detach(room)
        if self._host is not None and not self.closed.is_set():
            if self.has("publisher"):
                with self._lock:  # ``close`` waits for the last letter, too
                    self._waiting += 1
                    self._waiting_bytes += OVERHEAD
                bye = self._beats.bye(self.node)
                self._boxes.send(Letter(bye, None, lambda reached: self._release(1, 0)))
                self.publisher.wake()

            def settled() -> bool:
                waits = self._waiting or self.presences.waiting or not self._records.is_settled
                return not waits or self.state is BackplaneState.DOWN

            wait_for(self._settled, settled, timeout * 0.8)
        self.closed.set()
        for part in (self.publisher, self.subscriber, self.keeper):
            part.cut()
        self.connector.cut()
        self.publisher.wake()
        self.keeper.wake()
        self._close_idle()
        missing = self._waiting - self._boxes.waiting() + self._shown_only - self._told_only
        if missing > 0 and self._host is not None:
            text = f"the hub has closed, and {missing} pushes were not placed"
            self._host.tell_state(BackplaneState.DOWN, text)

    def _close_idle(self) -> None:
        while self._idle:
            self._idle.popleft().close()

    # The three threads.

    def answered(self, batch: Batch) -> None:
        """Note that the server has a batch."""
        if batch.waits:  # otherwise it was sent again after a bug
            batch.waits = False
            self._release(len(batch.messages), len(batch.body))

    def hears(self, channel: bytes) -> Callable[[bytes], object] | None:
        """Return the function that hears the letters of a channel, or None."""
        return self._boxes.hears(channel)

    def take_letters(self) -> list[Letter]:
        """Return the letters that are to be sent now."""
        return self._boxes.take(self.publisher.run_id)

    def take_records(self) -> list[bytes]:
        """Return the commands that change records, as many as fit into one pipeline."""
        return [self._records.command(each, self.node) for each in self._records.take()]

    def answer_records(self, replies: list[Any]) -> ReplyError | None:
        """Take the answers to ``take_records``; return the error of a missing script, or None."""
        missing = self._records.answered(replies, self.beat)
        if self._records.is_settled:
            self._notify_settled()
        return missing

    def beat_command(self) -> bytes:
        """Return the command that tells all hubs that this one lives."""
        return self._beats.beat(self.node, self._describe())

    def take_beat(self, data: bytes) -> bool:
        """Take what was published to all hubs; return True for a beat of this hub."""
        try:
            return self._beats.take(data) == self.node
        except ValueError:
            self.unknown()
            return False

    def _notify_settled(self) -> None:
        with self._lock:
            self._settled.notify_all()

    def presence_of(self, room: Room | None) -> RoomPresence | None:
        """Return the presence of a room, or None if it has none."""
        return None if room is None else self._presence.get(room)

    def subscribe(self, room: Room) -> None:
        """Subscribe to a room whose position is known."""
        self.keeper.change(room.keys.channel)

    def rooms_of(self, channel: bytes) -> tuple[Room, ...]:
        """Return the rooms that hear a channel."""
        return self._by_channel.get(channel, ())

    def channels(self) -> list[bytes]:
        """Return the channels of all rooms and boxes."""
        with self._lock:
            return [*self._by_channel, *self._boxes.channels()]

    def is_wanted(self, channel: bytes) -> bool:
        """Return True if the hub is to be subscribed to a channel."""
        return channel in self._by_channel or self._boxes.hears(channel) is not None

    def all_rooms(self) -> list[Room]:
        """Return all rooms."""
        with self._lock:
            return [room for rooms in self._by_channel.values() for room in rooms]

    def wake_keeper(self) -> None:
        """Wake the keeper."""
        self.keeper.wake()

    def unknown(self) -> None:
        """Note a message of another version of the library."""
        self._unknown += 1

    def refuse_closed(self) -> None:
        """Refuse a connection that was made after ``close``, which cannot end it any more.

        :raises Lost: if the link is closed.
        """
        if self.closed.is_set():
            raise Lost("the hub closes")

    def has(self, part: str) -> bool:
        """Return True if a part is connected."""
        return part in self._connected

    def connected(self, part: str) -> None:
        """Note that a part is connected again."""
        with self._state_lock:
            self._connected.add(part)
            if self.state is BackplaneState.DOWN and self._connected >= PARTS:
                self._set_state(BackplaneState.RESYNC, "connected to Redis")
        self.keeper.wake()

    def worked(self, part: str) -> None:
        """Note that a part has done some work on its connection."""
        if self._failures.get(part):
            self._failures[part] = 0
            self.keeper.wake()

    def failed(self, part: str, error: Exception) -> None:
        """Note that a part has lost its connection; see ``Owner.failed``."""
        if not isinstance(error, Lost) and self._host is not None:
            self._host.log_bug(error, part)
        with self._state_lock:
            self._lost += 1
            self._connected.discard(part)
            failures = self._failures[part] = self._failures.get(part, 0) + 1
            if failures > 1 and part != "keeper":
                self._set_state(BackplaneState.DOWN, f"{error}")
        pause = min(LONGEST, SHORTEST * 2 ** min(failures - 1, 10))
        self.closed.wait(pause * random.random())

    def silent(self) -> None:
        """Note that no beat of this hub comes back: the subscriber is going to be cut."""
        with self._state_lock:
            self._connected.discard("subscriber")  # or all would look well until it is
            self._set_state(BackplaneState.DOWN, "the beats of this hub do not come back")

    def report_up(self) -> None:
        """Report that all rooms are up to date, if so.  Called when nothing is to be fetched."""
        if self.state is BackplaneState.UP:
            return
        with self._state_lock:
            works = self._connected >= PARTS and not any(self._failures.values())
            known = all(room.epoch for room in self.all_rooms())
            if works and known and not self.subscriber.unconfirmed:
                self._set_state(BackplaneState.UP, "every shared room is up to date")

    def _set_state(self, state: BackplaneState, reason: str) -> None:
        if state is self.state or self.closed.is_set():
            return
        self.state = state
        self._state_at = monotonic()
        self._down_at = self._state_at if state is BackplaneState.DOWN else None
        with self._lock:
            self._settled.notify_all()
            only = self._shown_only - self._told_only
            if only and self._down_at is None:
                self._told_only += only
                reason = f"{reason}; {only} pushes have reached the members of this hub only"
        if self._host is not None:
            self._host.tell_state(state, reason)
        if self._local:
            for room in self.all_rooms():
                room.look_around()
