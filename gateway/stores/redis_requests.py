"""Requests of apps, counted over all nodes in Redis.

    earshot:requests:<app>        sorted set of the requests that are under way, by when they stop to count
    earshot:request-rate:<app>    hash: level, at: a token bucket, full when it is not there

Times are Redis's own. What a node that died was doing stops to count by itself: no counter is left too high.
"""

from __future__ import annotations

from typing import cast

from gateway.ports.requests import RequestRefusal
from gateway.stores.redis_connection import RedisConnection, RedisScript

LASTS_MS = 120_000
"""A request that takes longer counts no more; usual ones take less than a second."""

_ENTER = RedisScript(
    """#!lua flags=allow-oom
local time = redis.call('TIME')
local now = time[1] * 1000 + time[2] / 1000
local under_way, bucket = KEYS[1], KEYS[2]
local id, at_once, per_s, lasts = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
if at_once > 0 then
  redis.call('ZREMRANGEBYSCORE', under_way, '-inf', now)
  if redis.call('ZCARD', under_way) >= at_once then return 'at_once' end
end
if per_s > 0 then
  local burst = math.max(1, per_s)
  local known = redis.call('HMGET', bucket, 'level', 'at')
  local level = burst
  if known[1] then level = math.min(burst, known[1] + math.max(0, now - known[2]) * per_s / 1000) end
  local enough = level >= 1
  if enough then level = level - 1 end
  redis.call('HSET', bucket, 'level', string.format('%.9f', level), 'at', string.format('%.3f', now))
  redis.call('PEXPIRE', bucket, math.ceil(burst / per_s * 1000) + 1000)
  if not enough then return 'per_s' end
end
if at_once > 0 then
  redis.call('ZADD', under_way, now + lasts, id)
  redis.call('PEXPIRE', under_way, lasts)
end
return ''
"""
)


class RedisRequests:
    """Fills the role SharedRequests."""

    def __init__(self, connection: RedisConnection, *, at_once: int, per_s: float) -> None:
        """What one app may have under way, and send a second, over all nodes; 0: any number."""
        self._redis = connection
        self._at_once = at_once
        self._per_s = per_s

    async def enter(self, app_id: str, request_id: str) -> RequestRefusal:
        values: list[str | bytes | int] = [request_id, self._at_once, repr(self._per_s), LASTS_MS]
        refusal = await self._redis.run(_ENTER, [_under_way(app_id), f"earshot:request-rate:{app_id}"], values)
        return cast(RequestRefusal, refusal.decode())

    async def leave(self, app_id: str, request_id: str) -> None:
        if self._at_once:
            await self._redis.command("ZREM", _under_way(app_id), request_id)


def _under_way(app_id: str) -> str:
    return f"earshot:requests:{app_id}"
