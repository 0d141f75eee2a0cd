"""The keys of a shared room in Redis, and the scripts that change them in one step.

The epoch of a room is bound to the ``run_id`` of the server.  A restart or a failover may have
lost messages that were acknowledged, and Redis cannot say which.  Going on with the offsets of
before would number two messages alike, so a new epoch begins.

Layer: backplane.  Threads: constants and pure functions.
"""

from __future__ import annotations

from hashlib import sha1
from typing import NamedTuple

__all__ = ["PUBLISH", "TOP", "Keys", "Script", "everyone", "keys_of"]

VERSION = 1
"""The first number of each batch, so that a newer hub can say that it speaks otherwise."""


class Script(NamedTuple):
    """A Lua script, and the name by which Redis knows it."""

    source: bytes
    sha: bytes


class Keys(NamedTuple):
    """The names of one room in Redis.  They have the tag that keeps them on one node."""

    stream: bytes
    """The latest batches; the id of an entry is the offset of its last message and its size."""
    meta: bytes
    """``e`` the epoch, ``r`` the run_id of its server, ``s`` the top offset, ``b`` bytes."""
    channel: bytes
    origin: bytes
    """The start of the names of keys that hold the last number taken from each origin."""


def keys_of(prefix: str, room: str) -> Keys:
    """Return the names of ``room``."""
    escaped = room.replace("%", "%25").replace("{", "%7B").replace("}", "%7D")
    start = f"{prefix}:{{{escaped}}}:".encode()
    return Keys(start + b"s", start + b"m", start + b"c", start + b"o:")


def everyone(prefix: str) -> bytes:
    """Return the channel of all hubs."""
    return f"{prefix}:all".encode()


def _script(source: str) -> Script:
    code = source.encode()
    return Script(code, sha1(code, usedforsecurity=False).hexdigest().encode())


# Begins a new epoch if there is none, or if the server has started since.
_EPOCH = """
local meta = redis.call('HMGET', KEYS[2], 'e', 'r', 's')
local epoch, top = meta[1], tonumber(meta[3] or 0)
if not epoch or meta[2] ~= ARGV[1] then
  redis.call('DEL', KEYS[1], KEYS[2])
  epoch, top = ARGV[2], 0
  redis.call('HSET', KEYS[2], 'e', epoch, 'r', ARGV[1], 's', 0, 'b', 0)
end
redis.call('PEXPIRE', KEYS[2], ARGV[3])
"""

TOP = _script(_EPOCH + "return {epoch, top}")
"""KEYS stream, meta; ARGV run_id, a fresh epoch, milliseconds of the meta: epoch and top."""

PUBLISH = _script(
    _EPOCH
    + """
local origin, first, last = ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local keep, most, body = tonumber(ARGV[8]), tonumber(ARGV[9]), ARGV[11]
local known = redis.call('GET', KEYS[4])
if known then
  local colon = string.find(known, ':', 1, true)
  if string.sub(known, 1, colon - 1) == epoch then
    known = tonumber(string.sub(known, colon + 1))
    if known >= last then return {'dup', epoch, top} end
    if known ~= first - 1 then return {'order', epoch, top} end
  end
end
local count = last - first + 1
top = redis.call('HINCRBY', KEYS[2], 's', count)
redis.call('SET', KEYS[4], epoch .. ':' .. ARGV[6], 'EX', 3600)
local id = string.format('%.0f-%.0f', top, count)
redis.call('XADD', KEYS[1], 'MINID', '~', string.format('%.0f', math.max(0, top - keep + 1)),
  id, 'd', body, 'o', origin .. ':' .. ARGV[5])
redis.call('PEXPIRE', KEYS[1], ARGV[7])
if redis.call('HINCRBY', KEYS[2], 'b', #body) > most * 1.25 then
  local bytes, from, kept, full = 0, '+', id, false
  repeat
    local page = redis.call('XREVRANGE', KEYS[1], from, '-', 'COUNT', 64)
    for _, entry in ipairs(page) do
      if bytes + #entry[2][2] > most then full = true break end
      bytes, kept = bytes + #entry[2][2], entry[1]
    end
    from = '(' .. kept
  until full or #page < 64
  if full then redis.call('XTRIM', KEYS[1], 'MINID', kept) end
  redis.call('HSET', KEYS[2], 'b', bytes)
end
local head = string.format('1:%.0f:%.0f:', top, count) .. epoch .. ':' .. origin .. ':'
  .. ARGV[5] .. ':'
if #body > tonumber(ARGV[10]) then body = '' end
redis.call('PUBLISH', KEYS[3], head .. body)
return {'ok', epoch, top}
"""
)
"""Place a batch, keep it, and publish it.

KEYS stream, meta, channel, origin; ARGV run_id, a fresh epoch, milliseconds of the meta, the
origin, its first and last number, milliseconds of the stream, messages and bytes to keep, bytes
that are published at most, the body.  Returns ``ok``, ``dup`` (it was taken, and the answer was
lost) or ``order`` (an earlier batch has failed), the epoch and the top.
"""
