"""The registry of a cluster's calls in Redis.

    earshot:call:<call id>   hash: epoch, node, app, header, seq, samples, until (end of the lease, ms), parts (of the
                             tail, in this epoch), follows (1: the holder keeps the tail), hole, over (1: it has hung
                             up), done
    earshot:tail:<call id>   the call's tail (redis_tail)
    earshot:calls            sorted set of the calls that are not done, by the end of their lease
    earshot:going-on:<app>   of one app, and without those that have hung up: a call whose node dies stops to count
                             when its lease runs out

Each change is one script, so nobody sees half of it. Times are Redis's own. For one Redis, or one with replicas behind
one address; not for Redis Cluster, whose scripts may not reach the keys of several slots.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from gateway.ports import HeldCall, Lease, Progress, Renewal, TakeOver, too_many_calls
from gateway.stores.redis_connection import RedisConnection, RedisScript

CALLS = "earshot:calls"
KEPT_MS = 7 * 24 * 3600 * 1000
"""How long a call is remembered after it was done, or after its node was last heard of."""


def call_key(call_id: str) -> str:
    return f"earshot:call:{call_id}"


def tail_key(call_id: str) -> str:
    return f"earshot:tail:{call_id}"


_EVEN_WHEN_FULL = "#!lua flags=allow-oom\n"
"""For scripts that a Redis out of memory must run too (Redis 7): they take next to nothing, or give memory back."""

_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""

_REGISTER = RedisScript(
    _NOW
    + """
local call, tail, calls = KEYS[1], KEYS[2], KEYS[3]
local id, epoch, node, app, header, ttl, kept, follows, most = unpack(ARGV)
local known = redis.call('HMGET', call, 'epoch', 'done', 'node')
if tonumber(known[1] or 0) > tonumber(epoch) then return 0 end
if known[1] == epoch and known[3] ~= node then return 0 end
if known[2] then return known[1] == epoch and 1 or 0 end
local going_on = 'earshot:going-on:' .. app
redis.call('ZREMRANGEBYSCORE', going_on, '-inf', now)
if tonumber(most) > 0 and not known[1] and redis.call('ZCARD', going_on) >= tonumber(most) then
  return -redis.call('ZCARD', going_on)
end
if not known[1] then redis.call('DEL', tail) end
if known[1] ~= epoch then
  -- Nobody is known, or an older holder entered itself after the memory was lost: what follows is this epoch's.
  redis.call('HSET', call, 'epoch', epoch, 'app', app, 'header', header, 'parts', 0)
end
redis.call('HSET', call, 'node', node, 'until', now + ttl, 'follows', follows)
redis.call('HSETNX', call, 'seq', 0)
redis.call('HSETNX', call, 'samples', 0)
redis.call('ZADD', calls, now + ttl, id)
redis.call('ZADD', going_on, now + ttl, id)
redis.call('PEXPIRE', going_on, kept)
redis.call('PEXPIRE', call, kept)
redis.call('PEXPIRE', tail, kept)
return 1
"""
)

_RENEW = RedisScript(
    _EVEN_WHEN_FULL
    + _NOW
    + """
local calls, ttl, kept = KEYS[1], ARGV[1], ARGV[2]
local answers = {}
for at = 3, #ARGV, 4 do
  local id, epoch, seq, samples = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local call = 'earshot:call:' .. id
  local known = redis.call('HMGET', call, 'epoch', 'done', 'app', 'over')
  if tonumber(known[1] or 0) > tonumber(epoch) then
    answers[#answers + 1] = 'lost'
  elseif known[2] then
    answers[#answers + 1] = 'kept'
  elseif known[1] ~= epoch then
    answers[#answers + 1] = 'unknown'
  else
    redis.call('HSET', call, 'until', now + ttl, 'seq', seq, 'samples', samples)
    redis.call('ZADD', calls, now + ttl, id)
    if not known[4] then redis.call('ZADD', 'earshot:going-on:' .. (known[3] or ''), now + ttl, id) end
    redis.call('PEXPIRE', call, kept)
    redis.call('PEXPIRE', 'earshot:tail:' .. id, kept)
    answers[#answers + 1] = 'kept'
  end
end
return answers
"""
)

_TAKE = RedisScript(
    _EVEN_WHEN_FULL
    + _NOW
    + """
local call, calls = KEYS[1], KEYS[2]
local id, node, app, ttl, expired_for, follows = unpack(ARGV)
local known = redis.call('HMGET', call, 'epoch', 'app', 'until', 'done', 'over')
if not known[1] then
  redis.call('ZREM', calls, id)
  return {'unknown', now}
end
if app ~= '' and known[2] ~= app then return {'unknown', now} end
local before = redis.call('HGETALL', call)
if known[4] then return {'done', now, before} end
if expired_for ~= '' and tonumber(known[3]) + tonumber(expired_for) > now then return {'held', now, before} end
redis.call('HINCRBY', call, 'epoch', 1)
redis.call('HSET', call, 'node', node, 'until', now + ttl, 'parts', 0, 'follows', follows)
redis.call('ZADD', calls, now + ttl, id)
if not known[5] then redis.call('ZADD', 'earshot:going-on:' .. (known[2] or ''), now + ttl, id) end
return {'taken', now, before}
"""
)

_FIND = RedisScript(_EVEN_WHEN_FULL + _NOW + "return {now, redis.call('HGETALL', KEYS[1])}")

_ABANDONED = RedisScript(
    _EVEN_WHEN_FULL + _NOW + "return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[1], 'LIMIT', 0, ARGV[2])"
)

_RELEASE = RedisScript(
    _EVEN_WHEN_FULL
    + _NOW
    + """
for at = 1, #ARGV, 2 do
  local call = 'earshot:call:' .. ARGV[at]
  local known = redis.call('HMGET', call, 'epoch', 'done')
  if known[1] == ARGV[at + 1] and not known[2] then
    redis.call('HSET', call, 'until', now)
    redis.call('ZADD', KEYS[1], now, ARGV[at])
  end
end
return 1
"""
)

_NOTE_HOLE = RedisScript(
    _EVEN_WHEN_FULL
    + """
if redis.call('HGET', KEYS[1], 'epoch') == ARGV[1] then redis.call('HSET', KEYS[1], 'hole', ARGV[2]) end
return 1
"""
)

_NOTE_OVER = RedisScript(
    _EVEN_WHEN_FULL
    + """
local known = redis.call('HMGET', KEYS[1], 'epoch', 'app')
if known[1] == ARGV[2] then
  redis.call('HSET', KEYS[1], 'over', 1)
  redis.call('ZREM', 'earshot:going-on:' .. (known[2] or ''), ARGV[1])
end
return 1
"""
)

_FINISH = RedisScript(
    _EVEN_WHEN_FULL
    + """
local call, tail, calls = KEYS[1], KEYS[2], KEYS[3]
local id, epoch, node, kept = unpack(ARGV)
local known = redis.call('HMGET', call, 'epoch', 'app')
if tonumber(known[1] or 0) > tonumber(epoch) then return 0 end
redis.call('ZREM', 'earshot:going-on:' .. (known[2] or ''), id)
redis.call('HSET', call, 'epoch', epoch, 'node', node, 'done', 1)
redis.call('HDEL', call, 'header')
redis.call('DEL', tail)
redis.call('ZREM', calls, id)
redis.call('PEXPIRE', call, kept)
return 1
"""
)


class RedisCallLeases:
    """Fills the role CallLeases for the node that `node` names."""

    def __init__(self, connection: RedisConnection, node: str, *, lease_ms: int, follows: bool = True) -> None:
        """A lease lasts `lease_ms` from its last renewal. `follows`: this node keeps the tails of its calls."""
        self._follows = int(follows)
        self._redis = connection
        self._node = node
        self._lease_ms = lease_ms

    async def register(self, lease: Lease, app_id: str, header: bytes, *, most: int = 0) -> bool:
        values = (lease.call_id, lease.epoch, self._node, app_id, header, self._lease_ms, KEPT_MS, self._follows, most)
        answer = int(await self._redis.run(_REGISTER, self._keys(lease.call_id), values))
        if answer < 0:
            raise too_many_calls(app_id, -answer)
        return answer == 1

    async def renew(self, calls: Sequence[Progress]) -> Renewal:
        if not calls:
            return Renewal(frozenset(), frozenset())
        values: list[str | int] = [self._lease_ms, KEPT_MS]
        for one in calls:
            values += (one.lease.call_id, one.lease.epoch, one.seq, one.samples)
        answers = await self._redis.run(_RENEW, [CALLS], values)
        became = {one.lease.call_id: answer for one, answer in zip(calls, answers, strict=True)}
        return Renewal(
            lost=frozenset(call_id for call_id, answer in became.items() if answer == b"lost"),
            unknown=frozenset(call_id for call_id, answer in became.items() if answer == b"unknown"),
        )

    async def take_over(self, app_id: str, call_id: str, *, even_if_held: bool) -> TakeOver:
        return await self._take(call_id, app_id, "" if even_if_held else 0)

    async def adopt(self, call_id: str, *, expired_for_ms: int) -> TakeOver:
        return await self._take(call_id, "", expired_for_ms)

    async def _take(self, call_id: str, app_id: str, expired_for_ms: int | str) -> TakeOver:
        values = (call_id, self._node, app_id, self._lease_ms, expired_for_ms, self._follows)
        outcome, now_ms, *found = await self._redis.run(_TAKE, [call_key(call_id), CALLS], values)
        call = _held_call(call_id, fields_of(found[0]), now_ms) if found else None
        if call is not None and outcome == b"taken":
            call = replace(call, node=self._node, epoch=call.epoch + 1, lease_left_ms=self._lease_ms)
        return TakeOver(outcome.decode(), call)

    async def abandoned(self, *, expired_for_ms: int, limit: int) -> Sequence[str]:
        return [one.decode() for one in await self._redis.run(_ABANDONED, [CALLS], (expired_for_ms, limit))]

    async def find(self, call_id: str) -> HeldCall | None:
        now_ms, found = await self._redis.run(_FIND, [call_key(call_id)], ())
        return _held_call(call_id, fields_of(found), now_ms) if found else None

    async def release(self, leases: Sequence[Lease]) -> None:
        values: list[str | int] = []
        for lease in leases:
            values += (lease.call_id, lease.epoch)
        if values:
            await self._redis.run(_RELEASE, [CALLS], values)

    async def note_hole(self, lease: Lease, samples: int) -> None:
        await self._redis.run(_NOTE_HOLE, [call_key(lease.call_id)], (lease.epoch, samples))

    async def note_over(self, lease: Lease) -> None:
        await self._redis.run(_NOTE_OVER, [call_key(lease.call_id)], (lease.call_id, lease.epoch))

    async def finish(self, lease: Lease) -> bool:
        values = (lease.call_id, lease.epoch, self._node, KEPT_MS)
        return bool(await self._redis.run(_FINISH, self._keys(lease.call_id), values))

    def _keys(self, call_id: str) -> tuple[str, str, str]:
        return call_key(call_id), tail_key(call_id), CALLS


def fields_of(flat: Sequence[bytes] | Mapping[bytes, bytes]) -> dict[str, bytes]:
    """A hash as scripts return it: names and values in turn, or a map on newer protocols."""
    pairs: Any = flat.items() if isinstance(flat, Mapping) else zip(flat[0::2], flat[1::2], strict=True)
    return {name.decode(): value for name, value in pairs}


def _held_call(call_id: str, fields: Mapping[str, bytes], now_ms: int) -> HeldCall:
    return HeldCall(
        call_id=call_id,
        app_id=fields.get("app", b"").decode(),
        node=fields["node"].decode(),
        epoch=int(fields["epoch"]),
        header=fields.get("header", b""),
        progress_seq=int(fields.get("seq", 0)),
        progress_samples=int(fields.get("samples", 0)),
        lease_left_ms=int(fields.get("until", 0)) - now_ms,
        done="done" in fields,
        hole_samples=int(fields.get("hole", 0)),
        has_tail=int(fields.get("follows", 0)) > 0 or int(fields.get("parts", 0)) > 0,
    )
