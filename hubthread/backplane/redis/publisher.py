"""The thread that publishes: it sends scripts, one pipeline at a time, and reads their answers.

A batch is kept until its answer has come.  After a lost connection the same batches are sent
again, before any other; the script knows those that it has taken.  So a batch has its place once.

Layer: backplane.  Threads: ``run`` is the thread ``backplane-publisher``; every other method may
be called on any thread, and returns at once.
"""

from __future__ import annotations

import math
import secrets
from collections import deque
from time import monotonic
from typing import Any

from hubthread.backplane.redis.owner import Owner
from hubthread.backplane.redis.records import DROP, KEEP
from hubthread.backplane.redis.room import Batch, Room
from hubthread.backplane.redis.scripts import PUBLISH, TOP, Keys
from hubthread.backplane.redis.wire import Lost, ReplyError, Wire, command, encode
from hubthread.concurrency.bell import Bell
from hubthread.history import History

__all__ = ["Publisher", "place_command"]

PIPELINE_BYTES = 4 << 20
INLINE_BYTES = 64 << 10
"""Bytes of a batch that is published whole; a larger one is fetched from the stream."""

SCRIPTS = (TOP, PUBLISH, KEEP, DROP)
"""The scripts that the thread calls."""

META_MS = 24 * 3600 * 1000
"""Milliseconds that a room's epoch outlives its last use."""


class Publisher:
    """The publisher thread of one hub, and the rooms with pushes to send.

    :param link: the hub's connection.
    """

    def __init__(self, link: Owner) -> None:
        self._link = link
        self._bell = Bell()
        self._tops: deque[Room] = deque()  # rooms whose position is to be read
        self._dirty: deque[Room] = deque()  # rooms with messages that wait
        self._beat: bytes | None = None  # the command of the latest beat that waits
        self._unanswered: list[Batch] = []
        self._wire: Wire | None = None
        self.run_id = b""
        """The server that the connection is to; empty before the first."""
        self.came_at = -math.inf
        """The time at which the connection came to another server than before."""

    def read_top(self, room: Room) -> None:
        """Read a room's position; begin an epoch if it has none."""
        self._tops.append(room)
        self._bell.ring()

    def send(self, room: Room) -> None:
        """Send what waits in a room."""
        self._dirty.append(room)
        self._bell.ring()

    def send_beat(self, data: bytes) -> None:
        """Send the command of a beat, instead of one that waits."""
        self._beat = data
        self._bell.ring()

    def cut(self) -> None:
        """End the connection; another one takes its place."""
        wire = self._wire
        if wire is not None:
            wire.cut()

    def wake(self) -> None:
        """Let the thread look at once whether the link is closed."""
        self._bell.ring()

    # The thread.

    def run(self) -> None:
        """Publish until the link is closed."""
        link = self._link
        while not link.closed.is_set():
            try:
                if self._wire is None:
                    self._connect()
                if self._round():
                    link.worked("publisher")
                else:
                    self._bell.wait(link.beat)
            except Exception as error:  # noqa: BLE001 - logged
                self._disconnect()
                if not isinstance(error, Lost):
                    self._search()
                link.failed("publisher", error)
        self._disconnect()

    def _connect(self) -> None:
        wire = self._link.connector.connect()
        self._wire = wire
        self._link.refuse_closed()
        run_id = wire.run_id()
        anew = bool(self.run_id) and run_id != self.run_id
        if anew:
            self.came_at = monotonic()
        self.run_id = run_id
        self._load(wire)
        self._beat = self._link.beat_command()
        for room in self._link.all_rooms():
            room.reconnected(anew=anew)
        self._link.connected("publisher")

    def _disconnect(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.close()

    def _search(self) -> None:
        """Search the rooms for all that is to be sent: after a bug it may be in no list."""
        rooms = self._link.all_rooms()
        self._tops.extend(room for room in rooms if not room.epoch)
        if not self._unanswered:
            self._unanswered = [batch for room in rooms for batch in room.unanswered()]
        self._dirty.clear()
        self._dirty.extend(room for room in rooms if room.dirty)
        for room in rooms:
            self._link.subscribe(room)

    def _round(self) -> bool:
        """Send what waits, and read the answers; return False if nothing waits."""
        wire = self._wire
        assert wire is not None
        tops = _all(self._tops)
        beat, self._beat = self._beat, None
        batches = [each for each in self._unanswered or self._collect() if self._may_send(each)]
        self._unanswered = batches
        letters = self._link.take_letters()
        records = self._link.take_records()
        if not (tops or beat or batches or letters or records):
            return bool(self._dirty)  # all batches of this round were refused
        fresh = secrets.token_hex(4).encode()
        commands = [self._top_command(room, fresh) for room in tops]
        commands += [beat] if beat else []
        commands += [letter.data for letter in letters]
        server = encode(self.run_id, fresh)
        commands += [_publish_command(batch, server) for batch in batches]
        commands += records  # a push does not wait for them
        try:
            wire.send(b"".join(commands))
            top_replies = [wire.read() for _ in tops]
            if beat:
                wire.read()
            while letters:
                reply = wire.read()
                letters.pop(0).sent(None if isinstance(reply, ReplyError) else reply)
            replies = [wire.read() for _ in batches]
        except BaseException:
            self._tops.extendleft(reversed(tops))
            for letter in letters:  # not again: it would perhaps arrive twice
                letter.sent(None)
            raise
        refused = self._take_tops(tops, top_replies) or self._take(batches, replies)
        if records:
            missing = self._link.answer_records([wire.read() for _ in records])
            refused = refused or missing
        if refused is not None:
            self._refused(refused)
        return True

    def _may_send(self, batch: Batch) -> bool:
        if batch.token and batch.room.refuse_fenced(batch):
            self._link.answered(batch)
            return False
        return True

    def _collect(self) -> list[Batch]:
        batches = []
        size = 0
        for _ in range(len(self._dirty)):
            room = self._dirty.popleft()
            if not room.epoch:
                continue  # it is told again when its position is known
            batch = room.next_batch()
            if batch is None:
                continue
            self._dirty.append(room)
            batches.append(batch)
            size += len(batch.body)
            if size > PIPELINE_BYTES:
                break
        return batches

    def _top_command(self, room: Room, fresh: bytes) -> bytes:
        keys = room.keys
        names = (TOP.sha, 2, keys.stream, keys.meta)
        return command(b"EVALSHA", *names, self.run_id, fresh, META_MS, *_kept(room.keep))

    def _take_tops(self, rooms: list[Room], replies: list[Any]) -> ReplyError | None:
        refused: ReplyError | None = None
        for room, reply in zip(rooms, replies, strict=True):
            if isinstance(reply, ReplyError):
                self._tops.append(room)
                refused = reply
                continue
            epoch, top = reply
            first = not room.epoch
            room.moved(epoch.decode(), int(top))
            if first:
                self._link.subscribe(room)
                if room.dirty:
                    self._dirty.append(room)
        return refused

    def _take(self, batches: list[Batch], replies: list[Any]) -> ReplyError | None:
        left = []
        refused: ReplyError | None = None
        for batch, reply in zip(batches, replies, strict=True):
            if isinstance(reply, ReplyError):
                refused = refused or reply
                left.append(batch)
                continue
            verdict, epoch, top = reply
            if verdict == b"ok":
                batch.room.placed(batch, epoch.decode(), int(top))
                self._link.answered(batch)
            elif verdict == b"fenced":
                batch.room.refused(batch)
                self._link.answered(batch)
            else:
                left.append(batch)
        self._unanswered = left
        return refused

    def _refused(self, error: ReplyError) -> None:
        """Load the scripts again if they are forgotten; otherwise begin anew after a pause."""
        if not str(error).startswith("NOSCRIPT"):
            raise Lost(f"{error}")
        assert self._wire is not None
        self._load(self._wire)

    def _load(self, wire: Wire) -> None:
        wire.ask(*(command(b"SCRIPT", b"LOAD", each.source) for each in SCRIPTS))


def place_command(
    keys: Keys,
    keep: History | None,
    server: tuple[bytes, bytes],
    origin: str,
    numbers: range,
) -> tuple[bytes | int, ...]:
    """Return the keys and arguments of ``PUBLISH``, all but the body.

    :param keep: what the room keeps; None if the caller does not know.
    :param server: its run_id, and a fresh epoch.
    :param numbers: those of the messages.
    """
    before, after = _of_room(keys, keep, origin)
    return (*before, *server, *after, numbers[0], numbers[-1], INLINE_BYTES)


def _of_room(keys: Keys, keep: History | None, origin: str, *more: bytes) -> Any:
    """Return the keys of a room, and those arguments that each batch of the room has.

    :param more: further keys.
    """
    name = origin.encode()
    own = keys.stream, keys.meta, keys.channel, keys.origin + name, *more
    before = (len(own), *own)
    return before, (META_MS, *_kept(keep), name)


def _kept(keep: History | None) -> tuple[int, int, int]:
    return (0, 0, 0) if keep is None else (keep.size, int(keep.ttl * 1000) or 1, keep.max_bytes)


_PARTS = 18
"""The parts of a command that publishes."""


def _publish_command(batch: Batch, server: bytes) -> bytes:
    """Return the command that publishes a batch.

    :param server: the encoded arguments for the server.
    """
    room = batch.room
    if not room.encoded:
        before, after = _of_room(room.keys, room.keep, room.origin)
        begin = b"*%d\r\n%b" % (_PARTS, encode(b"EVALSHA", PUBLISH.sha, *before))
        room.encoded = begin, encode(*after)
    if batch.token:
        return _fenced_command(batch, server)
    begin, kept = room.encoded
    rest = encode(batch.first, batch.last, INLINE_BYTES, batch.body)
    return b"".join((begin, server, kept, rest))


def _fenced_command(batch: Batch, server: bytes) -> bytes:
    """Return the same for a batch of the hub that owns the room."""
    room = batch.room
    before, after = _of_room(room.keys, room.keep, room.origin, room.keys.lease)
    begin = b"*%d\r\n%b" % (_PARTS + 2, encode(b"EVALSHA", PUBLISH.sha, *before))
    numbers = batch.first, batch.last, INLINE_BYTES
    return b"".join((begin, server, encode(*after, *numbers, batch.body, batch.token)))


def _all(waiting: deque[Any]) -> list[Any]:
    """Empty the queue, and return its entries."""
    return [waiting.popleft() for _ in range(len(waiting))]
