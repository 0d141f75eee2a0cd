"""The lease of a room in Redis: the hub that owns the room, its token, and the saved state.

A lease is a hash: ``n`` the hub, ``f`` the token, ``u`` the end in milliseconds of the server's
clock, and ``d`` the saved state.  The hash stays after the lease has ended, so that pushes of an
earlier owner are known by their token.  A token is a time of the server.  So tokens rise even
after a server has lost its data.

Layer: backplane.  Threads: pure functions.
"""

from __future__ import annotations

from hubthread.backplane.interfaces import LeaseAnswer
from hubthread.backplane.redis.scripts import LEASE_MS, Keys
from hubthread.backplane.redis.wire import command

__all__ = ["answer_of", "lease_command"]

_LEASE = b"""
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local had = redis.call('HMGET', KEYS[1], 'n', 'f', 'u', 'd')
local fence, ends, token = tonumber(had[2] or 0), tonumber(had[3] or 0), tonumber(ARGV[2])
local found = ''
if token > 0 then
  if token < fence then return {0, fence, math.max(0, ends - now), ''} end
elseif ends > now and had[1] ~= ARGV[1] then
  return {0, fence, ends - now, ''}
else
  token, found = ends > now and fence or math.max(fence + 1, now), had[4] or ''
end
local last = ARGV[3] == '0' and 0 or now + ARGV[3]
redis.call('HSET', KEYS[1], 'n', ARGV[1], 'f', string.format('%.0f', token),
  'u', string.format('%.0f', last))
if ARGV[5] then redis.call('HSET', KEYS[1], 'd', ARGV[5]) end
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return {1, token, ARGV[3], found}
"""


def lease_command(keys: Keys, node: str, token: int, seconds: float, saved: bytes | None) -> bytes:
    """Return the command that takes, renews or gives up a lease; see ``BackplaneLink.lease``."""
    name = node.encode("utf-8", "surrogatepass")
    data = () if saved is None else (saved,)
    return command(
        *(b"EVAL", _LEASE, 1, keys.lease, name, token, int(seconds * 1000), LEASE_MS, *data)
    )


def answer_of(reply: object) -> LeaseAnswer | None:
    """Return the answer of the server; None if the server answered with an error."""
    if not isinstance(reply, list):
        return None
    held, token, milliseconds, saved = reply
    return LeaseAnswer(held == 1, token, int(milliseconds) / 1000, saved)
