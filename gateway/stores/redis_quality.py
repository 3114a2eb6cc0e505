"""What voice QC keeps, in Redis: its queue of recordings with their results, for workers and servers on any machine.

    earshot:qc:queue:<shelf>            stream, consumer group `workers`: an entry {ticket} for each unfinished task
                                        whose recording is in that folder. Delivered entries are the claims, their
                                        idle time is how old a lease is
    earshot:qc:task:<ticket>            hash: app, session, audio, request, queue, entry, state, reason, progress,
                                        attempts, claim, worker, result; of a push (redis_quality_pushes): url,
                                        push, failures, failing_since, push_error
    earshot:qc:session:<app>:<session>  the ticket of the latest submission (an app id holds no colon)
    earshot:qc:audio                    set: the recordings of unfinished tasks
    earshot:qc:pushes                   sorted set: tickets whose results are to be pushed, by when
    earshot:usage:<app>:<day>           hash: product -> amount

Each change is one script, so nobody sees half of it. For one Redis, or one with replicas behind one address.
"""

from __future__ import annotations

import uuid

from gateway.ports import Clock, QualityJob, QualityRecord
from gateway.stores.quality import LEASE_S, PUSH_STATES, usage_day
from gateway.stores.redis_connection import RedisConnection, RedisScript

AUDIO = "earshot:qc:audio"
PUSHES = "earshot:qc:pushes"
KEPT_S = 30 * 24 * 3600.0
"""How long a finished task is remembered; asking for it does not lengthen that."""


def queue_key(shelf: str) -> str:
    return f"earshot:qc:queue:{shelf}"


def task_key(ticket: str) -> str:
    return f"earshot:qc:task:{ticket}"


def session_key(app_id: str, session_id: str) -> str:
    return f"earshot:qc:session:{app_id}:{session_id}"


def usage_key(app_id: str, day: str) -> str:
    return f"earshot:usage:{app_id}:{day}"


_EVEN_WHEN_FULL = "#!lua flags=allow-oom\n"
"""For scripts that a Redis out of memory must run too: they take next to nothing, or give memory back."""

_SUBMIT = RedisScript(
    """
local session, queue, audio, pushes, task = unpack(KEYS)
local ticket, app, session_id, audio_name, request, url = unpack(ARGV)
local earlier = redis.call('GET', session)
local replaced = false
if earlier then
  local old = 'earshot:qc:task:' .. earlier
  local known = redis.call('HMGET', old, 'audio', 'entry', 'queue')
  replaced = known[1]
  if known[2] then
    redis.call('XACK', known[3], 'workers', known[2])
    redis.call('XDEL', known[3], known[2])
  end
  if known[1] then redis.call('SREM', audio, known[1]) end
  redis.call('ZREM', pushes, earlier)
  redis.call('DEL', old)
end
if redis.call('EXISTS', queue) == 0 then redis.call('XGROUP', 'CREATE', queue, 'workers', '0', 'MKSTREAM') end
local entry = redis.call('XADD', queue, '*', 'ticket', ticket)
redis.call('HSET', task, 'app', app, 'session', session_id, 'audio', audio_name, 'request', request, 'queue', queue,
  'entry', entry, 'state', 0, 'reason', '', 'progress', 0, 'attempts', 0)
if url ~= '' then redis.call('HSET', task, 'url', url, 'push', 'held') end
redis.call('SADD', audio, audio_name)
redis.call('SET', session, ticket)
return replaced
"""
)

_CLAIM = RedisScript(
    _EVEN_WHEN_FULL
    + """
local queue = KEYS[1]
local worker, claim, lease = unpack(ARGV)
if redis.call('EXISTS', queue) == 0 then return false end

local function begun(entry)
  local ticket = entry[2][2]
  local task = 'earshot:qc:task:' .. ticket
  if redis.call('EXISTS', task) == 0 then
    redis.call('XACK', queue, 'workers', entry[1])
    redis.call('XDEL', queue, entry[1])
    return nil
  end
  redis.call('HINCRBY', task, 'attempts', 1)
  redis.call('HSET', task, 'state', 1, 'claim', claim, 'worker', worker, 'progress', 0)
  local known = redis.call('HMGET', task, 'app', 'session', 'audio', 'request', 'attempts')
  return {ticket, unpack(known)}
end

local cursor = '0-0'
repeat
  local lost = redis.call('XAUTOCLAIM', queue, 'workers', worker, lease, cursor, 'COUNT', 1)
  cursor = lost[1]
  for _, entry in ipairs(lost[2]) do
    local job = begun(entry)
    if job then return job end
  end
until cursor == '0-0'
while true do
  local waiting = redis.call('XREADGROUP', 'GROUP', 'workers', worker, 'COUNT', 1, 'STREAMS', queue, '>')
  if not waiting then return false end
  local job = begun(waiting[1][2][1])
  if job then return job end
end
"""
)

_HELD = """
local known = redis.call('HMGET', KEYS[1], 'state', 'claim', 'entry', 'worker')
if known[1] ~= '1' or known[2] ~= ARGV[1] then return 0 end
"""
"""Ends a script whose caller's claim is no longer the task's."""

_RENEW = RedisScript(
    _EVEN_WHEN_FULL
    + _HELD
    + """
redis.call('XCLAIM', KEYS[2], 'workers', known[4], 0, known[3], 'JUSTID')
if ARGV[2] ~= '' then redis.call('HSET', KEYS[1], 'progress', ARGV[2]) end
return 1
"""
)

_RELEASE = RedisScript(
    _EVEN_WHEN_FULL
    + _HELD
    + """
redis.call('HSET', KEYS[1], 'state', 0)
redis.call('HDEL', KEYS[1], 'claim')
if ARGV[2] == '0' then redis.call('HINCRBY', KEYS[1], 'attempts', -1) end
-- As if it had been delivered an age ago: the next claim takes it, before any that was never delivered.
redis.call('XCLAIM', KEYS[2], 'workers', known[4], 0, known[3], 'TIME', 1, 'JUSTID')
return 1
"""
)

_FINISH = RedisScript(
    _HELD
    + """
local task, queue, audio, pushes, session, usage = unpack(KEYS)
local _, ticket, state, reason, has_result, result, billed, kept = unpack(ARGV)
redis.call('HSET', task, 'state', state, 'reason', reason, 'progress', 100)
if has_result == '1' then redis.call('HSET', task, 'result', result) end
redis.call('XACK', queue, 'workers', known[3])
redis.call('XDEL', queue, known[3])
redis.call('SREM', audio, redis.call('HGET', task, 'audio'))
redis.call('HDEL', task, 'claim', 'worker', 'entry')
if redis.call('HGET', task, 'push') == 'held' then
  redis.call('HSET', task, 'push', 'waiting')
  redis.call('ZADD', pushes, 0, ticket)
end
if billed ~= '0' then redis.call('HINCRBY', usage, 'quality_ms', billed) end
redis.call('PEXPIRE', task, kept)
redis.call('PEXPIRE', session, kept)
return 1
"""
)

_PUT_BACK = RedisScript(
    _EVEN_WHEN_FULL
    + """
local queue, worker, forgotten_after = KEYS[1], ARGV[1], tonumber(ARGV[2])
if redis.call('EXISTS', queue) == 0 then return 0 end
local back = 0
for _, pending in ipairs(redis.call('XPENDING', queue, 'workers', '-', '+', 100000, worker)) do
  local entry = redis.call('XRANGE', queue, pending[1], pending[1])[1]
  local task = entry and 'earshot:qc:task:' .. entry[2][2]
  if task and redis.call('HGET', task, 'state') == '1' then
    redis.call('HSET', task, 'state', 0)
    redis.call('HDEL', task, 'claim')
    redis.call('XCLAIM', queue, 'workers', worker, 0, pending[1], 'TIME', 1, 'JUSTID')
    back = back + 1
  end
end
-- Names of workers that are long gone would pile up in the group.
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', queue, 'workers')) do
  local about = {}
  for at = 1, #consumer, 2 do about[consumer[at]] = consumer[at + 1] end
  if about.pending == 0 and about.idle > forgotten_after then
    redis.call('XGROUP', 'DELCONSUMER', queue, 'workers', about.name)
  end
end
return back
"""
)

_FIND = RedisScript(
    _EVEN_WHEN_FULL
    + """
local ticket = redis.call('GET', KEYS[1])
if not ticket then return false end
return redis.call('HMGET', 'earshot:qc:task:' .. ticket, 'request', 'state', 'reason', 'progress', 'result', 'push')
"""
)
_FORGOTTEN_AFTER_MS = 24 * 3600 * 1000


class RedisQualityTasks:
    """`QualityTasks` for the workers and servers of a cluster. Times are Redis's own; `clock` says which day it is."""

    def __init__(
        self,
        connection: RedisConnection,
        clock: Clock,
        *,
        shelf: str = "",
        lease_s: float = LEASE_S,
        kept_s: float = KEPT_S,
    ) -> None:
        """`shelf` names the folder in which our recordings lie: those who reach it too claim from the same queue.

        `lease_s` is what we grant others; a finished task and its result are forgotten after `kept_s`.
        """
        self._redis = connection
        self._queue = queue_key(shelf)
        self._clock = clock
        self._lease_ms = round(lease_s * 1000)
        self._kept_ms = round(kept_s * 1000)

    async def submit(self, job: QualityJob) -> str | None:
        keys = (session_key(job.app_id, job.session_id), self._queue, AUDIO, PUSHES, task_key(job.ticket))
        values = (job.ticket, job.app_id, job.session_id, job.audio_name, job.request, job.callback_url)
        replaced: bytes | None = await self._redis.run(_SUBMIT, keys, values)
        return None if replaced is None else replaced.decode()

    async def claim(self, worker: str) -> QualityJob | None:
        token = uuid.uuid4().hex
        found = await self._redis.run(_CLAIM, [self._queue], (worker, token, self._lease_ms))
        if found is None:
            return None
        ticket, app_id, session_id, audio_name, request, attempts = found
        return QualityJob(
            ticket.decode(),
            app_id.decode(),
            session_id.decode(),
            audio_name.decode(),
            request,
            int(attempts),
            claim=token,
        )

    async def renew(self, job: QualityJob) -> bool:
        return bool(await self._redis.run(_RENEW, self._claimed(job), (job.claim, "")))

    async def advance(self, job: QualityJob, progress_percent: int) -> bool:
        return bool(await self._redis.run(_RENEW, self._claimed(job), (job.claim, progress_percent)))

    async def release(self, job: QualityJob, *, counts: bool) -> None:
        await self._redis.run(_RELEASE, self._claimed(job), (job.claim, int(counts)))

    async def finish(
        self, job: QualityJob, state: int, reason: str, result: bytes | None, *, billed_ms: int = 0
    ) -> bool:
        session, usage = session_key(job.app_id, job.session_id), usage_key(job.app_id, usage_day(self._clock))
        keys = (*self._claimed(job), AUDIO, PUSHES, session, usage)
        outcome = (int(state), reason, int(result is not None), result or b"", billed_ms)
        return bool(await self._redis.run(_FINISH, keys, (job.claim, job.ticket, *outcome, self._kept_ms)))

    async def put_back(self, worker: str) -> int:
        back: int = await self._redis.run(_PUT_BACK, [self._queue], (worker, _FORGOTTEN_AFTER_MS))
        return back

    async def find(self, app_id: str, session_id: str) -> QualityRecord | None:
        found = await self._redis.run(_FIND, [session_key(app_id, session_id)], ())
        if found is None or found[1] is None:
            return None
        request, state, reason, progress, result, push = found
        return QualityRecord(
            request, int(state), reason.decode(), int(progress), result, PUSH_STATES[push and push.decode()]
        )

    async def audio_in_use(self) -> frozenset[str]:
        return frozenset(name.decode() for name in await self._redis.command("SMEMBERS", AUDIO))

    def _claimed(self, job: QualityJob) -> tuple[str, str]:
        return task_key(job.ticket), self._queue
