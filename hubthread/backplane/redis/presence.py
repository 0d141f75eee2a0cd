"""The users in shared rooms, in all hubs: this hub's statements, and the changes in all hubs.

Layer: backplane.  Threads: the keeper calls ``Presences.round``; every other method may be called
on any thread, and returns at once.

A hub states its own members of a room: first all of them, then each change.  A script notes a
statement in the room's hash, gives it a version, and publishes it.  So every hub, this one too,
learns the same changes in the same order.  A hub that misses a version reads the hash.

Each hub has one lease, for all its rooms.  When a hub dies its lease ends, and the first hub that
notices removes the members of the dead hub.  A hub that was only paused finds that its lease has
ended, and states all its members anew.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping
from time import monotonic
from typing import Any

from hubthread.backplane.interfaces import Receiver
from hubthread.backplane.letters import decode_json
from hubthread.backplane.redis.room import Room
from hubthread.backplane.redis.scripts import LEASE, PRESENT, SWEEP, SWEPT, Script
from hubthread.backplane.redis.wire import Lost, ReplyError, Wire, command

__all__ = ["Presences", "RoomPresence"]

LEASE_SECONDS = 9.0
"""Seconds that a hub counts as alive after it has renewed its lease."""

INLINE = 64 << 10
"""The most characters of a change that is published.  For a larger one the hubs read the hash."""

AT_ONCE = 256
"""The most rooms in one pipeline."""

STATE_ALL = 3600.0
"""Seconds after which a hub states all its members again, so that no key expires."""

KEY_MS = 24 * 3600 * 1000
"""Milliseconds that the keys outlive the last statement."""

COUNT = "c"
"""The key of a hub's count.  The keys of users begin with ``u``."""


class _Statement:
    """A statement of this hub about its own members, kept until the server has answered."""

    __slots__ = ("came", "full", "number", "went")

    def __init__(self, number: int, came: dict[str, str], went: list[str] | None) -> None:
        self.number = number
        self.came = came
        self.went = went or []
        self.full = went is None


class RoomPresence:
    """The members of one room: those that this hub states, and those that all hubs know.

    :param room: the lock of the room guards what follows, and orders the calls of the receiver.
    :param want: called with this object when the keeper has something to do.
    """

    def __init__(self, room: Room, want: Callable[[RoomPresence], None]) -> None:
        self._room = room
        self.keys = room.keys
        self._lock = room.lock
        self._receiver: Receiver = room.receiver
        self._want = want
        self.queued = False
        """True while the keeper is to look at this object."""
        self._started = self._ended = False
        self._read = False  # the hash is to be read
        # The members in this hub.
        self._own: dict[str, str] = {}
        self._changes: dict[str, str | None] = {}  # since the last statement; None: gone
        self._all = False  # the next statement names all members
        self._number = 0
        self._sent: _Statement | None = None
        # The members in all hubs.
        self._epoch = ""
        self._version = 0
        self._hubs: dict[str, dict[str, str]] = {}  # the members of each hub
        self._kept: dict[str, float] = {}  # hubs of the epoch before, and until when they stay
        self._shown: dict[str, str] = {}  # the members that the receiver knows
        self._count = 0

    # Any thread.

    def state(self, came: Mapping[str, str], went: Collection[str]) -> None:
        """Note users that came and went in this hub, to be stated."""
        with self._lock:
            if self._ended:
                return
            for key, text in came.items():
                if key == COUNT or key not in self._own:
                    self._own[key] = self._changes[key] = text
            for key in went:
                if self._own.pop(key, None) is not None:
                    self._changes[key] = None
            self._wake()

    def start(self) -> None:
        """Have the hash read: the room is subscribed to, and earlier changes may be missing."""
        with self._lock:
            # The receiver must know the room's position first.
            self._started = bool(self._room.epoch) and not self._ended
            self.read()

    def end(self) -> None:
        """State that this hub has no members any more, and tell the receiver no more changes."""
        with self._lock:
            self._ended, self._started, self._read = True, False, False
            if self._own or self._number:
                self._own.clear()
                self._all = True
                self._wake()

    def state_all(self) -> None:
        """Have all members stated again, because the server may have forgotten them."""
        with self._lock:
            if self._own or self._number:
                self._all = True
                self._wake()

    def read(self) -> None:
        """Have the keeper read the hash."""
        with self._lock:
            if self._started:
                self._read = True
                self._wake()

    def _wake(self) -> None:
        if not self.queued:
            self.queued = True
            self._want(self)

    # The subscriber.

    def came(self, data: bytes) -> None:
        """Take a change that was published.

        :raises ValueError: if another version of the library has written the change.
        """
        _, epoch, number, hub, body = data.decode("utf-8", "surrogatepass").split(":", 4)
        version, (came, went) = int(number), _change(body)
        with self._lock:
            if not self._started:
                return
            if epoch != self._epoch or version > self._version + 1 or not body:
                if epoch != self._epoch or version > self._version:
                    self.read()
                return
            if version <= self._version:
                return
            self._version += 1
            members = self._hubs.setdefault(hub, {})
            self._kept.pop(hub, None)
            members.update(came)
            for key in went:
                members.pop(key, None)
            self._show(came, went)

    # The keeper.

    def next_statement(self) -> _Statement | None:
        """Return the statement that has no answer yet, or a new one; None if nothing is new."""
        with self._lock:
            if self._sent is None and (self._all or self._changes):
                first = not self._number
                self._number += 1
                changes, self._changes = self._changes, {}
                if self._all or first:
                    self._all = False
                    self._sent = _Statement(self._number, dict(self._own), None)
                else:
                    came = {key: text for key, text in changes.items() if text is not None}
                    went = [key for key, text in changes.items() if text is None]
                    self._sent = _Statement(self._number, came, went)
            return self._sent

    def stated(self, answer: bytes) -> None:
        """Take the server's answer to the statement."""
        with self._lock:
            self._sent = None
            if answer != b"ok":
                self._all = True
            if self._all or self._changes:
                self._wake()

    def take_read(self) -> bool:
        """Return True if the caller is to read the hash now."""
        with self._lock:
            read, self._read = self._read, False
            return read

    @property
    def is_started(self) -> bool:
        """True if the receiver is told changes."""
        return self._started

    def was_read(self, fields: Mapping[str, str], run_id: str, hub: str) -> None:
        """Take the hash.

        :param fields: the fields of the hash; empty if there is no hash.
        :param run_id: the present server.  A hash that another server has begun counts as empty.
        :param hub: the name of this hub.
        """
        with self._lock:
            if not self._started:
                return
            current = fields.get("r") == run_id
            epoch = fields["e"] if current else ""
            if epoch == self._epoch and current and int(fields["v"]) < self._version:
                return  # a later change has come before this answer
            hubs: dict[str, dict[str, tuple[int, str]]] = {}
            for field, value in fields.items() if current else ():
                kind, _, rest = field.partition(":")
                name, _, key = rest.partition(":")
                if kind == "n":
                    hubs.setdefault(name, {})
                elif kind == "m":
                    version, _, text = value.partition(":")
                    hubs.setdefault(name, {})[key] = int(version), text
            if epoch != self._epoch:
                # The other hubs have not stated their members to this server yet.
                until = monotonic() + LEASE_SECONDS
                self._kept = {name: self._kept.get(name, until) for name in self._hubs}
            for name in list(self._kept):
                if name in hubs:
                    del self._kept[name]
            kept = {name: self._hubs[name] for name in self._kept if name in self._hubs}
            self._epoch, self._version = epoch, int(fields["v"]) if current else 0
            before = set(self._shown)
            came: dict[str, tuple[int, str]] = {}
            for members in hubs.values():
                for key, member in members.items():
                    came[key] = min(member, came.get(key, member))
            plain = {
                name: {key: text for key, (_, text) in members.items()}
                for name, members in hubs.items()
            }
            self._hubs = {**kept, **plain}
            self._show({key: text for key, (_, text) in came.items()}, before)
            if (self._own and hub not in hubs) and self._sent is None:
                self.state_all()

    def drop_kept(self, now: float) -> None:
        """Forget hubs of the epoch before that have stated nothing in time."""
        with self._lock:
            for name, until in list(self._kept.items()):
                if until <= now:
                    del self._kept[name]
                    self._show({}, self._hubs.pop(name, {}))

    # Under the lock.

    def _show(self, came: Mapping[str, str], went: Collection[str]) -> None:
        """Tell the receiver the changes that it does not know."""
        new = {key: text for key, text in came.items() if key not in self._shown and key != COUNT}
        gone = [
            key
            for key in went
            if key in self._shown and not any(key in members for members in self._hubs.values())
        ]
        self._shown.update(new)
        for key in gone:
            del self._shown[key]
        if new or gone:
            self._receiver.present(
                {key[1:]: text for key, text in new.items()}, [key[1:] for key in gone]
            )
        count = sum(int(members.get(COUNT, 0)) for members in self._hubs.values())
        if count != self._count:
            self._count = count
            self._receiver.counted(count)


def _change(body: str) -> tuple[dict[str, str], list[str]]:
    """Return the users that came and the keys that went; both are empty for a change too long."""
    if not body:
        return {}, []
    found = decode_json(body)
    came, went = found if isinstance(found, list) and len(found) == 2 else (None, None)
    went = went or []  # for Lua an empty list is an empty object
    if not isinstance(came, dict) or not isinstance(went, list):
        raise ValueError(f"expected a change of presence, got {body:.80}")
    if not all(isinstance(text, str) for text in [*came.values(), *went]):
        raise ValueError("expected texts for the users")
    return came, went


class Presences:
    """The members of all rooms of one hub, and the hub's lease.

    :param want: wakes the keeper.
    :param settled: called when every statement has been answered.
    """

    def __init__(self, prefix: str, want: Callable[[], None], settled: Callable[[], None]) -> None:
        self._prefix = prefix
        self.leases = f"{prefix}:leases".encode()
        self._want = want
        self._settled = settled
        self._lock = threading.RLock()  # guards what follows
        self.hub = ""
        self._all: dict[RoomPresence, None] = {}
        self._queue: deque[RoomPresence] = deque()
        # The keeper's.
        self._lease_at = self._all_at = 0.0
        self._run_id = b""
        self._dead: list[str] = []

    def name_hub(self) -> None:
        """Give the hub a name that no other hub has.  Called before its first statement."""
        self.hub = secrets.token_hex(8)

    def add(self, room: Room) -> RoomPresence:
        """Return the presence of a room that is attached now."""
        made = RoomPresence(room, self._queue_up)
        with self._lock:
            self._all[made] = None
        return made

    def end(self, presence: RoomPresence) -> None:
        """End the presence of a room that is detached."""
        presence.end()
        with self._lock:
            self._all.pop(presence, None)

    def read_all(self) -> None:
        """Have the hash of every room read, in case a change was missed."""
        for presence in self._every():
            presence.read()

    def _every(self) -> list[RoomPresence]:
        with self._lock:
            return list(self._all)

    def _queue_up(self, presence: RoomPresence) -> None:
        self._queue.append(presence)
        self._want()

    @property
    def waiting(self) -> bool:
        """True while statements wait to be sent, or for their answers."""
        return bool(self._queue)

    # The keeper.

    def next_at(self) -> float:
        """Return the time at which ``round`` has something to do."""
        if not self._all and not self._queue:
            return float("inf")
        return 0.0 if self._queue else self._lease_at

    def round(self, wire: Wire, run_id: bytes, beat: float) -> None:
        """Renew the lease, send statements, and read the hashes that are to be read.

        :param run_id: the server of the connection.
        :raises Lost: if the connection is lost, or the server answers with an error.
        """
        now = monotonic()
        if run_id != self._run_id:
            wire.ask(
                *(
                    command(b"SCRIPT", b"LOAD", each.source)
                    for each in (LEASE, PRESENT, SWEEP, SWEPT)
                )
            )
            self._run_id = run_id
            self._lease_at = self._all_at = 0.0
            self.read_all()
        if now >= self._lease_at:
            self._renew(wire)
            self._lease_at = now + beat
            for presence in self._every():
                presence.drop_kept(now)
        if now >= self._all_at:
            self._all_at = now + STATE_ALL
            for presence in self._every():
                presence.state_all()
        while self._queue:
            self._work(wire)
        self._settled()
        if self._dead:
            self._sweep(wire, self._dead.pop())

    def _renew(self, wire: Wire) -> None:
        lease = self._run(LEASE, [self.leases], [self.hub, int(LEASE_SECONDS * 1000)])
        (answer,) = self._ask(wire, [lease])
        begun, dead = answer
        if begun:  # others may have swept the members of this hub
            for presence in self._every():
                presence.state_all()
        self._dead = [name.decode() for name in dead]

    def _work(self, wire: Wire) -> None:
        """Send the statements of queued rooms, and read their hashes, in one pipeline."""
        count = min(AT_ONCE, len(self._queue))
        work = [self._queue[place] for place in range(count)]
        for presence in work:
            presence.queued = False  # from now on a change queues the room again
        states = [(each, found) for each in work if (found := each.next_statement()) is not None]
        reads = [each for each in work if each.take_read()]
        commands = [self._present(presence, statement) for presence, statement in states]
        commands += [command(b"HGETALL", each.keys.presence) for each in reads]
        try:
            replies = self._ask(wire, commands)
        except Lost:
            for presence in work:
                presence.queued = True
            for presence in reads:
                presence.read()
            raise
        for (presence, _), answer in zip(states, replies, strict=False):
            presence.stated(answer)
            if answer == b"lapsed":
                self._renew(wire)
        for presence, fields in zip(reads, replies[len(states) :], strict=True):
            texts = [each.decode("utf-8", "surrogatepass") for each in fields]
            pairs = dict(zip(texts[::2], texts[1::2], strict=True))
            presence.was_read(pairs, self._run_id.decode(), self.hub)
        for _ in work:
            self._queue.popleft()

    def _present(self, presence: RoomPresence, statement: _Statement) -> bytes:
        keys = presence.keys
        body = json.dumps([statement.came, statement.went], separators=(",", ":"))
        if len(body) > INLINE:
            body = ""
        pairs = [part for pair in statement.came.items() for part in pair]
        return self._run(
            PRESENT,
            [self.leases, keys.presence, keys.channel, self._rooms(self.hub)],
            [
                *(self._run_id, secrets.token_hex(4), self.hub, statement.number),
                *(int(statement.full), keys.start, KEY_MS, body, len(statement.came)),
                *(*pairs, *statement.went),
            ],
        )

    def _rooms(self, hub: str) -> bytes:
        return f"{self._prefix}:rooms:{hub}".encode()

    def _sweep(self, wire: Wire, hub: str) -> None:
        (starts,) = self._ask(wire, [command(b"SMEMBERS", self._rooms(hub))])
        for begin in range(0, len(starts), AT_ONCE):
            self._ask(
                wire,
                [
                    self._run(SWEEP, [self.leases, start + b"p", start + b"c"], [hub])
                    for start in starts[begin : begin + AT_ONCE]
                ],
            )
        self._ask(wire, [self._run(SWEPT, [self.leases, self._rooms(hub)], [hub])])

    def _run(self, script: Script, keys: list[bytes], arguments: list[bytes | str | int]) -> bytes:
        parts = [
            each.encode("utf-8", "surrogatepass") if isinstance(each, str) else each
            for each in arguments
        ]
        return command(b"EVALSHA", script.sha, len(keys), *keys, *parts)

    def _ask(self, wire: Wire, commands: list[bytes]) -> list[Any]:
        replies = wire.ask(*commands)
        for reply in replies:
            if isinstance(reply, ReplyError):
                self._run_id = b""  # loads the scripts again
                raise Lost(f"{reply}")
        return replies
