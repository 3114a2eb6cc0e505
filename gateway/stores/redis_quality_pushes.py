"""The results of voice QC that are still to be pushed, in Redis, beside the tasks they belong to (redis_quality)."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence

from gateway.ports import Clock, QualityPush
from gateway.stores.redis_connection import RedisConnection, RedisScript
from gateway.stores.redis_quality import PUSHES, task_key
from gateway.stores.retry_schedule import RetrySchedule

LEASE_S = 60.0
"""A push that a node has begun is not due for others until then; it takes a quarter of it at most."""

_DUE = RedisScript(
    """
local now, until_, limit = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local but = {}
for at = 4, #ARGV do but[ARGV[at]] = true end
local found = {}
for _, ticket in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, limit + #ARGV - 3)) do
  if #found < limit and not but[ticket] then
    local task = 'earshot:qc:task:' .. ticket
    local known = redis.call('HMGET', task, 'app', 'session', 'url', 'failures')
    if known[3] then
      redis.call('ZADD', KEYS[1], until_, ticket)
      found[#found + 1] = {ticket, known[1], known[2], known[3], known[4] or '0'}
    else
      redis.call('ZREM', KEYS[1], ticket)
    end
  end
end
return found
"""
)

_SETTLE = RedisScript(
    "#!lua flags=allow-oom\n"
    + """
local pushes, task = KEYS[1], KEYS[2]
local ticket, push, next_at, failures, failing_since, fault = unpack(ARGV)
if redis.call('EXISTS', task) == 0 then
  redis.call('ZREM', pushes, ticket)
  return 0
end
redis.call('HSET', task, 'push', push, 'failures', failures, 'failing_since', failing_since, 'push_error', fault)
if push == 'waiting' then
  redis.call('ZADD', pushes, next_at, ticket)
else
  redis.call('ZREM', pushes, ticket)
end
return 1
"""
)


class RedisQualityPushes:
    """`QualityPushes` for the servers of a cluster. Which of them delivers is whoever finds a push due first."""

    def __init__(
        self,
        connection: RedisConnection,
        clock: Clock,
        *,
        schedule: RetrySchedule | None = None,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._redis = connection
        self._clock = clock
        self._schedule = schedule or RetrySchedule()
        self._uniform = uniform

    async def due(self, *, limit: int, but: Collection[str] = ()) -> Sequence[QualityPush]:
        now = self._clock.wall()
        found = await self._redis.run(_DUE, [PUSHES], (f"{now:.3f}", f"{now + LEASE_S:.3f}", limit, *but))
        return [
            QualityPush(ticket.decode(), app_id.decode(), session_id.decode(), url.decode(), int(failures))
            for ticket, app_id, session_id, url, failures in found
        ]

    async def next_at(self, but: Collection[str] = ()) -> float | None:
        found = await self._redis.command("ZRANGE", PUSHES, 0, len(but), "WITHSCORES")
        return next((float(score) for ticket, score in found if ticket.decode() not in but), None)

    async def delivered(self, ticket: str) -> None:
        await self._settle(ticket, "delivered", 0.0, 0, "", "")

    async def failed(self, ticket: str, error: str, *, retryable: bool, retry_after_s: float | None = None) -> bool:
        now = self._clock.wall()
        known = await self._redis.command("HMGET", task_key(ticket), "failures", "failing_since")
        failures = int(known[0] or 0) + 1
        failing_since = float(known[1]) if known[1] else now
        next_at = self._schedule.next_at(
            now, failing_since=failing_since, failures=failures, retry_after_s=retry_after_s, uniform=self._uniform
        )
        again = retryable and next_at is not None
        push = "waiting" if again else "dead"
        # A session that was submitted anew has no such task any more: nobody waits for this result.
        return await self._settle(ticket, push, next_at or now, failures, f"{failing_since:.3f}", error[:500]) and again

    async def _settle(
        self, ticket: str, push: str, next_at: float, failures: int, failing_since: str, error: str
    ) -> bool:
        values = (ticket, push, f"{next_at:.3f}", failures, failing_since, error)
        return bool(await self._redis.run(_SETTLE, [PUSHES, task_key(ticket)], values))
