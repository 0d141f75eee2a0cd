"""Records that hubs keep for each other in Redis: a few bytes with an owner and an end.

A record is a string: the name of the hub that owns it, a line end, and the bytes.  A script makes
each change in one step.  So two hubs that take a record get it one after the other.

The changes of a hub wait here until the server has answered.  Only the latest change of each
record waits, so there are never more changes than records, however long the server is away.  The
publisher sends a few of them at a time, behind the pushes.

Layer: backplane.  Threads: every method may be called on any thread, and returns at once.
"""

from __future__ import annotations

import threading
from time import monotonic
from typing import Any, NamedTuple

from hubthread.backplane.redis.scripts import script
from hubthread.backplane.redis.wire import ReplyError, command

__all__ = ["DROP", "KEEP", "Change", "Records", "take_command", "taken"]

END = b"\n"
"""The end of the hub's name in a record."""

AT_ONCE = 64
"""The most changes in one pipeline: a push waits for no more than these."""

PIPELINE_BYTES = 64 << 10
"""Bytes of records in one pipeline, above which no further record is added."""

_OWN = """
local had = redis.call('GET', KEYS[1])
if had and string.sub(had, 1, #ARGV[1]) ~= ARGV[1] then return 0 end
"""

KEEP = script(_OWN + "return redis.call('SET', KEYS[1], ARGV[1] .. ARGV[2], 'PX', ARGV[3])")
"""Keep a record, if it is new or belongs to the hub.

KEYS record; ARGV the hub, the bytes, and milliseconds.
"""

DROP = script(_OWN + "return redis.call('DEL', KEYS[1])")
"""Forget a record, if it belongs to the hub.  KEYS record; ARGV the hub."""

_TAKE = b"""
local had = redis.call('GET', KEYS[1])
if had then
  local rest = string.sub(had, string.find(had, '\\n', 1, true) + 1)
  redis.call('SET', KEYS[1], ARGV[1] .. rest, 'KEEPTTL')
end
return had
"""


class Change(NamedTuple):
    """The latest change of one record."""

    key: str
    record: bytes | None
    """The bytes to keep; None to forget the record."""
    until: float
    """The time at which the server forgets the record by itself."""


class Records:
    """The changes that wait for the server; see the module.

    :param prefix: the start of the names of all keys.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._lock = threading.RLock()  # guards what follows
        # The oldest entry of each of these is the first.
        self._waiting: dict[str, Change] = {}
        self._sent: dict[str, Change] = {}  # sent, and not answered yet
        self._kept: dict[str, float] = {}  # records that the server may have, and until when
        self._paused_until = 0.0

    def change(self, key: str, record: bytes | None, seconds: float) -> None:
        """Keep or drop a record; see ``BackplaneLink.keep`` and ``drop``."""
        now = monotonic()
        with self._lock:
            before = self._waiting.pop(key, None)
            is_new = before is not None and before.record is not None and key not in self._kept
            if record is None and is_new:
                return  # the server never got the record
            self._waiting[key] = Change(key, record, now + seconds)
            self._forget_expired(now)

    @property
    def is_settled(self) -> bool:
        """True if no change waits, except changes that the server refuses."""
        with self._lock:
            return not (self._waiting or self._sent) or monotonic() < self._paused_until

    def take(self) -> list[Change]:
        """Return the changes to send now: first those whose answers were lost."""
        if not (self._waiting or self._sent):  # nearly always, and needs no lock
            return []
        now = monotonic()
        with self._lock:
            if now < self._paused_until:
                return []
            self._forget_expired(now)
            size = 0
            while self._waiting and len(self._sent) < AT_ONCE and size < PIPELINE_BYTES:
                key, change = next(iter(self._waiting.items()))
                self._kept.pop(key, None)
                self._kept[key] = change.until
                self._sent[key] = change
                del self._waiting[key]
                size += len(change.record or b"")
            return list(self._sent.values())

    def command(self, change: Change, node: str) -> bytes:
        """Return the command that makes a change for a hub."""
        name = _name(self._prefix, change.key)
        if change.record is None:
            return command(b"EVALSHA", DROP.sha, 1, name, _owner(node))
        life = max(1, int((change.until - monotonic()) * 1000))
        return command(b"EVALSHA", KEEP.sha, 1, name, _owner(node), change.record, life)

    def answered(self, replies: list[Any], pause: float) -> ReplyError | None:
        """Take the answers to the changes that ``take`` has returned.

        A change that the server refuses is sent again, unless a later change of the record waits.

        :param pause: the seconds without changes after the server has refused one.
        :returns: the error of a script that is not loaded, if there is one.
        """
        missing: ReplyError | None = None
        with self._lock:
            sent, self._sent = self._sent, {}
            again = {}
            for change, reply in zip(sent.values(), replies, strict=True):
                if not isinstance(reply, ReplyError):
                    if change.record is None:
                        self._kept.pop(change.key, None)
                    continue
                if str(reply).startswith("NOSCRIPT"):
                    missing = reply
                else:
                    self._paused_until = monotonic() + pause
                if change.key not in self._waiting:
                    again[change.key] = change
            self._waiting = {**again, **self._waiting}
        return missing

    def _forget_expired(self, now: float) -> None:
        # Stops at the first young entry: most entries behind it are younger.
        while self._waiting and next(iter(self._waiting.values())).until <= now:
            del self._waiting[next(iter(self._waiting))]
        while self._kept and next(iter(self._kept.values())) <= now:
            del self._kept[next(iter(self._kept))]


def _name(prefix: str, key: str) -> bytes:
    return f"{prefix}:r:{key}".encode("utf-8", "surrogatepass")


def _owner(node: str) -> bytes:
    return node.encode("utf-8", "surrogatepass").replace(END, b" ") + END


def take_command(prefix: str, key: str, node: str) -> bytes:
    """Return the command that takes a record; see ``BackplaneLink.take``."""
    # EVAL brings the text of the script: the connections for reading load no scripts.
    return command(b"EVAL", _TAKE, 1, _name(prefix, key), _owner(node))


def taken(reply: object) -> tuple[str, bytes] | None:
    """Return the server's answer to ``take_command``: the owner before, and the record."""
    if not isinstance(reply, bytes):
        return None
    node, _, record = reply.partition(END)
    return node.decode("utf-8", "surrogatepass"), record
