"""The keys of a shared room in Redis, and the scripts that change them in one step.

The epoch of a room is bound to the ``run_id`` of the server.  A restart or a failover may have
lost messages that were acknowledged, and Redis cannot say which.  If the old offsets went on, two
messages could have the same offset.  So a new epoch begins.

Layer: backplane.  Threads: constants and pure functions.
"""

from __future__ import annotations

from hashlib import sha1
from typing import NamedTuple

__all__ = [
    "LEASE",
    "LEASE_MS",
    "PRESENT",
    "PUBLISH",
    "SWEEP",
    "SWEPT",
    "TOP",
    "Keys",
    "Script",
    "everyone",
    "keys_of",
    "script",
]

VERSION = 1
"""The version of the format: the first number of each batch.  Hubs ignore other versions."""


LEASE_MS = 24 * 3600 * 1000
"""Milliseconds that the lease of a room, and its saved state, outlive their last use."""


class Script(NamedTuple):
    """A Lua script, and the name by which Redis knows it."""

    source: bytes
    sha: bytes


class Keys(NamedTuple):
    """The names of one room in Redis.  Their common hash tag keeps them on one Redis node."""

    stream: bytes
    """The latest batches; the id of an entry is the offset of its last message and its size."""
    meta: bytes
    """``e`` the epoch, ``r`` the run_id of its server, ``s`` the top offset, ``b`` bytes."""
    channel: bytes
    origin: bytes
    """The start of the names of keys that hold the last number taken from each origin."""
    start: bytes
    """The start of all these names."""

    @property
    def lease(self) -> bytes:
        """The hash with the room's owner; see ``lease.py``."""
        return self.start + b"l"

    @property
    def presence(self) -> bytes:
        """The hash with the users in the room; see ``presence.py``."""
        return self.start + b"p"


def keys_of(prefix: str, room: str) -> Keys:
    """Return the names of ``room``."""
    escaped = room.replace("%", "%25").replace("{", "%7B").replace("}", "%7D")
    start = f"{prefix}:{{{escaped}}}:".encode()
    return Keys(start + b"s", start + b"m", start + b"c", start + b"o:", start)


def everyone(prefix: str) -> bytes:
    """Return the channel that all hubs hear."""
    return f"{prefix}:all".encode()


def script(source: str) -> Script:
    """Return a script with the name by which Redis knows it."""
    code = source.encode()
    return Script(code, sha1(code, usedforsecurity=False).hexdigest().encode())


# Begins a new epoch if there is none, or if the server is another one.  A program without a hub
# does not know the history that the room keeps, and gives 0 for its bounds.
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

TOP = script(_EPOCH + "return {epoch, top}")
"""Read a room's position.

KEYS stream, meta; ARGV run_id, a fresh epoch, milliseconds of the meta, and what the room keeps:
messages, milliseconds, bytes.  Returns the epoch and the top.
"""

PUBLISH = script(
    _EPOCH
    + """
local origin, first, last, body = ARGV[7], tonumber(ARGV[8]), tonumber(ARGV[9]), ARGV[11]
most = tonumber(most)
local known = redis.call('GET', KEYS[4])
if known then
  local taken_epoch, taken, place = string.match(known, '^(.*):(%d+):(%d+)$')
  if taken_epoch == epoch then
    if tonumber(taken) == last then
      return {place == '0' and 'fenced' or 'ok', epoch, tonumber(place)}
    end
    if tonumber(taken) ~= first - 1 then return {'order', epoch, top} end
  end
end
if KEYS[5] then
  local fence, token = tonumber(redis.call('HGET', KEYS[5], 'f') or 0), tonumber(ARGV[12])
  if token < fence then
    redis.call('SET', KEYS[4], epoch .. ':' .. ARGV[9] .. ':0', 'EX', 3600)
    return {'fenced', epoch, top}
  elseif token > fence then
    redis.call('HSET', KEYS[5], 'f', ARGV[12])
    redis.call('PEXPIRE', KEYS[5], ARGV[3])
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

KEYS stream, meta, channel, origin, and the lease if there is a token; ARGV as ``TOP``, then the
origin, its first and last number, the bytes that are published at most, the body, and the token.
Returns ``ok``, ``fenced`` if another hub has had the lease since, or ``order`` if an earlier batch
has failed; the epoch, and the offset of the last message.
"""


# Presence.  One hash for each room has the fields ``e`` epoch, ``r`` run_id of its server, ``v``
# version, ``n:<hub>`` the number of the hub's last statement, and ``m:<hub>:<key>`` a member: the
# version with which it came, ":", and its text.  Only hubs have leases, in one sorted set.

LEASE = script(
    """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local until_ = redis.call('ZSCORE', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[1], string.format('%.0f', now + ARGV[2]), ARGV[1])
local begun = 0
if not until_ or tonumber(until_) < now then begun = 1 end
return {begun, redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. string.format('%.0f', now),
  'LIMIT', 0, 16)}
"""
)
"""Renew the lease of a hub.

KEYS leases; ARGV the hub, and milliseconds.  Returns 1 if it had none or a lease that had ended,
so that others may have swept it, and hubs whose leases have ended.
"""

_EXPIRED = """
local function expired(hub, missing)
  local time = redis.call('TIME')
  local until_ = redis.call('ZSCORE', KEYS[1], hub)
  if not until_ then return missing end
  return tonumber(until_) < time[1] * 1000 + math.floor(time[2] / 1000)
end
local function members(key, hub)
  local found, start, all = {}, 'm:' .. hub .. ':', redis.call('HGETALL', key)
  for n = 1, #all, 2 do
    if string.sub(all[n], 1, #start) == start then
      found[string.sub(all[n], #start + 1)] = true
    end
  end
  return found
end
"""

PRESENT = script(
    _EXPIRED
    + """
local run_id, fresh, hub, number, full = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5] == '1'
local body, count = ARGV[8], tonumber(ARGV[9])
if expired(hub, true) then return 'lapsed' end
local meta = redis.call('HMGET', KEYS[2], 'e', 'r', 'n:' .. hub)
local epoch, known = meta[1], meta[3]
if not epoch or meta[2] ~= run_id then
  redis.call('DEL', KEYS[2])
  epoch, known = fresh, false
  redis.call('HSET', KEYS[2], 'e', epoch, 'r', run_id, 'v', 0)
end
if not full then
  if known == number then return 'ok' end
  if not known or tonumber(known) ~= number - 1 then return 'again' end
end
local version = redis.call('HGET', KEYS[2], 'v') + 1
local before, start, changed = {}, 'm:' .. hub .. ':', false
if full then before, body = members(KEYS[2], hub), '' end
for n = 10, 9 + 2 * count, 2 do
  local field = start .. ARGV[n]
  before[ARGV[n]] = nil
  if redis.call('HSETNX', KEYS[2], field, version .. ':' .. ARGV[n + 1]) == 1 then
    changed = true
  elseif not full then
    redis.call('HSET', KEYS[2], field, version .. ':' .. ARGV[n + 1])
    changed = true
  end
end
for n = 10 + 2 * count, #ARGV do
  redis.call('HDEL', KEYS[2], start .. ARGV[n])
  changed = true
end
for key in pairs(before) do
  redis.call('HDEL', KEYS[2], start .. key)
  changed = true
end
local ttl = ARGV[7]
if full and count == 0 then
  redis.call('HDEL', KEYS[2], 'n:' .. hub)
  redis.call('SREM', KEYS[4], ARGV[6])
  if redis.call('HLEN', KEYS[2]) == 3 then ttl = 60000 end
else
  redis.call('HSET', KEYS[2], 'n:' .. hub, number)
  redis.call('SADD', KEYS[4], ARGV[6])
  redis.call('PEXPIRE', KEYS[4], ttl)
end
redis.call('PEXPIRE', KEYS[2], ttl)
if changed then
  redis.call('HSET', KEYS[2], 'v', version)
  redis.call('PUBLISH', KEYS[3], table.concat({'1p', epoch, version, hub, body}, ':'))
end
return 'ok'
"""
)
"""Note a statement of a hub about its own members, and tell all hubs.

KEYS leases, hash, channel, the hub's rooms; ARGV run_id, a fresh epoch, the hub, the number of
the statement, 1 if it names all members and 0 if it names changes, the start of the room's keys,
milliseconds, the body that hubs are told, the number of members that come, each of them with its
text, and the members that go.  Returns ``ok``; ``again`` if the hub has to name all its members;
``lapsed`` if it has no lease.
"""

SWEEP = script(
    _EXPIRED
    + """
local hub, gone = ARGV[1], {}
if not expired(hub, true) then return 0 end
for key in pairs(members(KEYS[2], hub)) do
  redis.call('HDEL', KEYS[2], 'm:' .. hub .. ':' .. key)
  gone[#gone + 1] = key
end
redis.call('HDEL', KEYS[2], 'n:' .. hub)
if #gone > 0 then
  local epoch, version = redis.call('HGET', KEYS[2], 'e'), redis.call('HINCRBY', KEYS[2], 'v', 1)
  redis.call('PUBLISH', KEYS[3],
    table.concat({'1p', epoch, version, hub, '[{},' .. cjson.encode(gone) .. ']'}, ':'))
end
return #gone
"""
)
"""Remove the members of a dead hub from one room, and tell all hubs, unless it lives again.

KEYS leases, hash, channel; ARGV the hub.
"""

SWEPT = script(
    _EXPIRED
    + """
if not expired(ARGV[1], false) then return 0 end
redis.call('ZREM', KEYS[1], ARGV[1])
return redis.call('DEL', KEYS[2])
"""
)
"""Forget a dead hub whose rooms are swept.  KEYS leases, its rooms; ARGV the hub."""
