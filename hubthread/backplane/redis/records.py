"""Records that hubs keep for each other in Redis: a few bytes with an owner and an end.

A record is a string: the name of the hub whose own it is, and the bytes behind it.  A script
decides about each change, so of two hubs that take a record one comes after the other.

Layer: backplane.  Threads: pure functions.
"""

from __future__ import annotations

from hubthread.backplane.redis.wire import command

__all__ = ["drop_command", "keep_command", "record_key", "take_command", "taken"]

END = b"\n"
"""Ends the name of the hub."""

_OWN = b"""
local had = redis.call('GET', KEYS[1])
if had and string.sub(had, 1, #ARGV[1]) ~= ARGV[1] then return 0 end
"""

_KEEP = _OWN + b"return redis.call('SET', KEYS[1], ARGV[1] .. ARGV[2], 'PX', ARGV[3])"

_DROP = _OWN + b"return redis.call('DEL', KEYS[1])"

_TAKE = b"""
local had = redis.call('GET', KEYS[1])
if had then
  local rest = string.sub(had, string.find(had, '\\n', 1, true) + 1)
  redis.call('SET', KEYS[1], ARGV[1] .. rest, 'KEEPTTL')
end
return had
"""


def record_key(prefix: str, key: str) -> bytes:
    """Return the name of a record in Redis."""
    return f"{prefix}:r:{key}".encode("utf-8", "surrogatepass")


def _owner(node: str) -> bytes:
    return node.encode("utf-8", "surrogatepass").replace(END, b" ") + END


def keep_command(name: bytes, node: str, record: bytes, seconds: float) -> bytes:
    """Return the command that keeps a record; see ``BackplaneLink.keep``."""
    life = max(1, int(seconds * 1000))
    return command(b"EVAL", _KEEP, 1, name, _owner(node), record, life)


def drop_command(name: bytes, node: str) -> bytes:
    """Return the command that forgets a record; see ``BackplaneLink.drop``."""
    return command(b"EVAL", _DROP, 1, name, _owner(node))


def take_command(name: bytes, node: str) -> bytes:
    """Return the command that takes a record; see ``BackplaneLink.take``."""
    return command(b"EVAL", _TAKE, 1, name, _owner(node))


def taken(reply: object) -> tuple[str, bytes] | None:
    """Return the answer of the server to a take: the hub before, and the record."""
    if not isinstance(reply, bytes):
        return None
    node, _, record = reply.partition(END)
    return node.decode("utf-8", "surrogatepass"), record
