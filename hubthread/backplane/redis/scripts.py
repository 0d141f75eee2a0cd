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


# Begins a new epoch if there is none, or if the server has started since.  A program without a
# hub does not know what the room keeps, and says 0.
_EPOCH = """
local meta = redis.call('HMGET', KEYS[2], 'e', 'r', 's', 'k', 't', 'x')
local epoch, top = meta[1], tonumber(meta[3] or 0)
local keep, ttl, most = ARGV[4], ARGV[5], ARGV[6]
if keep == '0' then
  keep, ttl, most = meta[4] or '256', meta[5] or '30000', meta[6] or '1048576'
end
if not epoch or meta[2] ~= ARGV[1] then
  redis.call('DEL', KEYS[1], KEYS[2])
  epoch, top = ARGV[2], 0
  redis.call('HSET', KEYS[2], 'e', epoch, 'r', ARGV[1], 's', 0, 'b', 0,
    'k', keep, 't', ttl, 'x', most)
elseif meta[4] ~= keep or meta[5] ~= ttl or meta[6] ~= most then
  redis.call('HSET', KEYS[2], 'k', keep, 't', ttl, 'x', most)
end
redis.call('PEXPIRE', KEYS[2], ARGV[3])
"""

TOP = _script(_EPOCH + "return {epoch, top}")
"""Read a room's position.

KEYS stream, meta; ARGV run_id, a fresh epoch, milliseconds of the meta, and what the room keeps:
messages, milliseconds, bytes.  Returns the epoch and the top.
"""

PUBLISH = _script(
    _EPOCH
    + """
local origin, first, last, body = ARGV[7], tonumber(ARGV[8]), tonumber(ARGV[9]), ARGV[11]
most = tonumber(most)
local known = redis.call('GET', KEYS[4])
if known then
  local taken_epoch, taken, place = string.match(known, '^(.*):(%d+):(%d+)$')
  if taken_epoch == epoch then
    if tonumber(taken) == last then return {'ok', epoch, tonumber(place)} end
    if tonumber(taken) ~= first - 1 then return {'order', epoch, top} end
  end
end
local count = last - first + 1
top = redis.call('HINCRBY', KEYS[2], 's', count)
local place = string.format('%.0f', top)
redis.call('SET', KEYS[4], epoch .. ':' .. ARGV[9] .. ':' .. place, 'EX', 3600)
local id = place .. '-' .. count
redis.call('XADD', KEYS[1], 'MINID', '~',
  string.format('%.0f', math.max(0, top - tonumber(keep) + 1)),
  id, 'd', body, 'o', origin .. ':' .. ARGV[8])
redis.call('PEXPIRE', KEYS[1], ttl)
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
if #body > tonumber(ARGV[10]) then body = '' end
redis.call('PUBLISH', KEYS[3],
  table.concat({'1', place, count, epoch, origin, ARGV[8], body}, ':'))
return {'ok', epoch, top}
"""
)
"""Place a batch, keep it, and publish it; a batch that was taken before keeps its place.

KEYS stream, meta, channel, origin; ARGV as ``TOP``, then the origin, its first and last number,
the bytes that are published at most, and the body.  Returns ``ok``, or ``order`` if an earlier
batch has failed; the epoch, and the offset of the last message.
"""
