"""The thread that fetches missed messages, and checks that the other connections are alive.

A beat of the hub goes through Redis, from the publisher to the subscriber.  Only a beat that comes
back proves that messages arrive: a dead connection and one without messages look the same.

Layer: backplane.  Threads: ``run`` is the thread ``backplane-keeper``; every other method may be
called on any thread, and returns at once.
"""

from __future__ import annotations

from collections import deque
from time import monotonic

from hubthread.backplane.redis.owner import Owner, PublisherView, SubscriberView
from hubthread.backplane.redis.room import Room
from hubthread.backplane.redis.scripts import Keys
from hubthread.backplane.redis.wire import Lost, ReplyError, Wire, command
from hubthread.concurrency.bell import Bell
from hubthread.history import Position

__all__ = ["PAGE", "Keeper", "fetch_commands"]

AT_ONCE = 256
"""The most rooms in one pipeline."""

PAGE = 128
"""Entries of a stream that are fetched at once."""

LATE = 2.5
"""The connection of a subscriber is dropped after so many beats that it did not hear."""

CHECK = 25.0
"""Seconds between two checks of all rooms, in case a message was missed."""


class Keeper:
    """The keeper thread of one hub, and the rooms whose streams it has to read.

    :param link: the hub's connection.
    """

    def __init__(self, link: Owner, publisher: PublisherView, subscriber: SubscriberView) -> None:
        self._link = link
        self._publisher = publisher
        self._subscriber = subscriber
        self._bell = Bell()
        self._wanted: deque[Room] = deque()  # rooms whose streams are to be read
        self._channels: deque[bytes] = deque()  # to be subscribed to, or unsubscribed from
        self._wire: Wire | None = None
        self._run_id = b""
        self._beat_at = self._check_at = 0.0

    def want(self, room: Room) -> None:
        """Have the thread read a room's stream."""
        self._wanted.append(room)
        self._bell.ring()

    def change(self, channel: bytes) -> None:
        """Have the thread subscribe to a channel, or unsubscribe, as ``is_wanted`` says then."""
        self._channels.append(channel)
        self._bell.ring()

    def wake(self) -> None:
        """Wake the thread."""
        self._bell.ring()

    def cut(self) -> None:
        """End the connection; another one takes its place."""
        wire = self._wire
        if wire is not None:
            wire.cut()

    # The thread.

    def run(self) -> None:
        """Fetch and check until the link is closed."""
        link = self._link
        self._beat_at, self._check_at = monotonic(), monotonic() + CHECK
        while not link.closed.is_set():
            try:
                self._round()
            except Exception as error:  # noqa: BLE001 - logged
                self._disconnect()
                link.failed("keeper", error)
        self._disconnect()

    def _round(self) -> None:
        """Do the work that is due, and wait."""
        link = self._link
        now = monotonic()
        if now >= self._beat_at:
            self._beat_at = now + link.beat
            self._publisher.send_beat(link.beat_command())
            self._watch(now)
        if now >= self._check_at:
            self._check_at = now + CHECK
            for room in link.all_rooms():
                room.want()
            link.presences.read_all()
        self._change_channels()
        presence_at = link.presences.next_at()
        if (self._wanted or presence_at <= monotonic()) and not self._fetch():
            return
        if not self._wanted:
            link.worked("keeper")
            link.report_up()
        until = min(self._beat_at, self._check_at)
        if link.has("publisher"):  # otherwise the publisher's next connection wakes it
            until = min(until, link.presences.next_at())
        self._bell.wait(until - monotonic())

    def _watch(self, now: float) -> None:
        link = self._link
        subscriber = self._subscriber
        if link.has("subscriber") and now - subscriber.heard > LATE * link.beat:
            subscriber.heard = now
            link.silent()
            subscriber.cut()

    def _change_channels(self) -> None:
        link = self._link
        channels = {self._channels.popleft() for _ in range(len(self._channels))}
        if channels:
            wanted = [channel for channel in channels if link.is_wanted(channel)]
            self._subscriber.change(wanted, [each for each in channels if each not in wanted])

    def _disconnect(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.close()

    def _fetch(self) -> bool:
        """Read some streams, and work on presence; return False to be called again."""
        link = self._link
        if not link.has("publisher"):
            return True  # the publisher's next connection wakes this thread
        rooms = [self._wanted.popleft() for _ in range(min(AT_ONCE, len(self._wanted)))]
        try:
            if self._wire is None:
                self._wire = link.connector.connect()
                link.refuse_closed()
                self._run_id = self._wire.run_id()
            if self._run_id != self._publisher.run_id:
                raise Lost("another server than the publisher's")
            places = [room.position() for room in rooms]
            commands = [
                each
                for room, place in zip(rooms, places, strict=True)
                for each in fetch_commands(room.keys, place)
            ]
            replies = self._wire.ask(*commands) if commands else []
            for number, (room, place) in enumerate(zip(rooms, places, strict=True)):
                self._take(room, place, replies[2 * number], replies[2 * number + 1])
            if link.presences.next_at() <= monotonic():
                link.presences.round(self._wire, self._run_id, link.beat)
        except BaseException:
            # In the other order: a room that fails again must not keep back the others.
            self._wanted.extend(reversed(rooms))
            raise
        return not self._wanted

    def _take(self, room: Room, place: Position, meta: object, entries: object) -> None:
        link = self._link
        if isinstance(meta, ReplyError) or isinstance(entries, ReplyError):
            raise Lost(f"{meta if isinstance(meta, ReplyError) else entries}")
        assert isinstance(meta, list)
        assert isinstance(entries, list)
        epoch, run_id, top = meta
        if epoch is None or run_id != self._publisher.run_id:
            room.wanted = False
            self._publisher.read_top(room)  # begins another epoch
            return
        link.repaired += 1
        room.fetched(place, epoch.decode(), int(top), entries)


def fetch_commands(keys: Keys, since: Position) -> tuple[bytes, bytes]:
    """Return the commands that read a room's position, and the entries after ``since``."""
    return (
        command(b"HMGET", keys.meta, b"e", b"r", b"s"),
        command(b"XRANGE", keys.stream, b"%d" % (since.offset + 1), b"+", b"COUNT", b"%d" % PAGE),
    )
