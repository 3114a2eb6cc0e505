"""What voice QC keeps, in Redis: its queue of recordings with their results, for workers and servers on any machine.

    earshot:qc:queue:<shelf>            stream, consumer group `workers`: an entry {ticket} for each unfinished task
                                        whose recording is in that folder. Delivered entries are the claims, their
                                        idle time is how old a lease is
    earshot:qc:task:<ticket>            hash: app, session, audio, request, queue, entry, state, reason, progress,
                                        attempts, claim, worker, result, finished_at (s, wall clock); of a push
                                        (redis_quality_pushes): url, push, failures, failing_since, push_error
    earshot:qc:session:<app>:<session>  the ticket of the latest submission (an app id holds no colon)
    earshot:qc:audio                    set: the recordings of unfinished tasks
    earshot:qc:pushes                   sorted set: tickets whose results are to be pushed, by when
    earshot:usage:<app>:<day>           hash: product -> amount

Each change is one script, so nobody sees half of it. For one Redis, or one with replicas behind one address.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection

import msgspec

from gateway.ports import Clock, QualityJob, QualityRecord, day_of
from gateway.stores.quality import LEASE_S, PUSH_STATES
from gateway.stores.redis_connection import RedisConnection, RedisScript

AUDIO = "earshot:qc:audio"
PUSHES = "earshot:qc:pushes"


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

_DROP = """
local function drop(ticket, audio, pushes)
  local task = 'earshot:qc:task:' .. ticket
  local known = redis.call('HMGET', task, 'audio', 'entry', 'queue')
  if known[2] then
    redis.call('XACK', known[3], 'workers', known[2])
    redis.call('XDEL', known[3], known[2])
  end
  if known[1] then redis.call('SREM', audio, known[1]) end
  redis.call('ZREM', pushes, ticket)
  redis.call('DEL', task)
  return known[1]
end
"""
"""Removes a task wherever it stands, and answers with the name of its recording."""

_SUBMIT = RedisScript(
    _DROP
    + """
local session, queue, audio, pushes, task = unpack(KEYS)
local ticket, app, session_id, audio_name, request, url = unpack(ARGV)
local earlier = redis.call('GET', session)
local replaced = earlier and drop(earlier, audio, pushes)
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
local task, queue, audio, pushes, usage = unpack(KEYS)
local _, ticket, state, reason, has_result, result, billed, now = unpack(ARGV)
redis.call('HSET', task, 'state', state, 'reason', reason, 'progress', 100, 'finished_at', now)
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

_FORGET = RedisScript(
    _EVEN_WHEN_FULL
    + _DROP
    + """
local session, audio, pushes = unpack(KEYS)
local ticket = redis.call('GET', session)
if not ticket then return false end
redis.call('DEL', session)
return drop(ticket, audio, pushes)
"""
)

_SWEEP = RedisScript(
    _EVEN_WHEN_FULL
    + _DROP
    + """
local task, audio, pushes = unpack(KEYS)
local ticket, before, but = ARGV[1], tonumber(ARGV[2]), cjson.decode(ARGV[3])
local known = redis.call('HMGET', task, 'finished_at', 'push', 'app', 'session')
local finished_at = tonumber(known[1] or '')
if not finished_at or finished_at >= before or known[2] == 'waiting' then return 0 end
for _, session_id in ipairs(but) do
  if session_id == known[4] then return 0 end
end
local session = 'earshot:qc:session:' .. known[3] .. ':' .. known[4]
if redis.call('GET', session) == ticket then redis.call('DEL', session) end
drop(ticket, audio, pushes)
return 1
"""
)
_FORGOTTEN_AFTER_MS = 24 * 3600 * 1000


class RedisQualityTasks:
    """`QualityTasks` for the workers and servers of a cluster. Times are Redis's own; `clock` says which day it is."""

    def __init__(self, connection: RedisConnection, clock: Clock, *, shelf: str = "", lease_s: float = LEASE_S) -> None:
        """`shelf` names the folder in which our recordings lie: those who reach it too claim from the same queue.

        `lease_s` is what we grant others.
        """
        self._redis = connection
        self._queue = queue_key(shelf)
        self._clock = clock
        self._lease_ms = round(lease_s * 1000)

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
        now_s = self._clock.wall()
        keys = (*self._claimed(job), AUDIO, PUSHES, usage_key(job.app_id, day_of(now_s)))
        # The library writes a number of an enumeration out as the name that Python has for it.
        outcome = (int(state), reason, int(result is not None), result or b"", billed_ms, f"{now_s:.3f}")
        return bool(await self._redis.run(_FINISH, keys, (job.claim, job.ticket, *outcome)))

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

    async def forget(self, app_id: str, session_id: str) -> str | None:
        gone: bytes | None = await self._redis.run(_FORGET, [session_key(app_id, session_id), AUDIO, PUSHES], ())
        return None if gone is None else gone.decode()

    async def sweep_before(self, finished_before_s: float, *, but: Collection[str] = ()) -> int:
        asked = (f"{finished_before_s:.3f}", msgspec.json.encode(sorted(but)))
        swept, cursor = 0, 0
        while True:
            found, tasks = await self._redis.command("SCAN", cursor, "MATCH", task_key("*"), "COUNT", 500)
            for task in tasks:
                ticket = task.decode().removeprefix(task_key(""))
                swept += await self._redis.run(_SWEEP, [task, AUDIO, PUSHES], (ticket, *asked))
            if (cursor := int(found)) == 0:
                return swept

    def _claimed(self, job: QualityJob) -> tuple[str, str]:
        return task_key(job.ticket), self._queue
