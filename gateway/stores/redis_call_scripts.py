"""The steps by which calls are kept in Redis for all nodes.

earshot:record:<call id>    hash: app, state, rank, stamp, began, ended, node, document (JSON, compressed)
earshot:records:<app>       sorted set of the app's calls, by when they began
earshot:records             sorted set of the calls that nothing more will happen to, by when they ended
earshot:records-deleted     sorted set of what was deleted by hand: "<app>:<call id>", by when
earshot:records-memory      a random word: if it has changed, Redis has lost its memory
"""

from __future__ import annotations

from gateway.stores.redis_connection import RedisScript

_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""

SAVE = RedisScript(
    _NOW
    + """
local record, app_calls, ended, deleted = unpack(KEYS)
local id, app, state, rank, stamp, began, over, node, document = unpack(ARGV)
if redis.call('ZSCORE', deleted, app .. ':' .. id) then return 'deleted' end
local known = redis.call('HMGET', record, 'app', 'rank', 'stamp')
if known[1] and known[1] ~= app then return 'taken' end
if stamp == '' then
  stamp = math.max(now, tonumber(known[3] or 0) + 1)
elseif known[1] then
  local older = tonumber(rank) < tonumber(known[2])
  local same_rank = tonumber(rank) == tonumber(known[2])
  if older or (same_rank and tonumber(stamp) < tonumber(known[3])) then return 'older' end
  if same_rank and tonumber(stamp) == tonumber(known[3]) then return 'kept' end
end
redis.call('HSET', record, 'app', app, 'state', state, 'rank', rank, 'stamp', stamp, 'ended', over, 'node', node,
  'document', document)
if redis.call('HSETNX', record, 'began', began) == 1 then redis.call('ZADD', app_calls, began, id) end
if tonumber(rank) >= 2 then redis.call('ZADD', ended, over == '' and began or over, app .. ':' .. id) end
return 'kept'
"""
)

GET = RedisScript(
    """#!lua flags=no-writes
if redis.call('ZSCORE', KEYS[2], ARGV[1] .. ':' .. ARGV[2]) then return 'deleted' end
if redis.call('HGET', KEYS[1], 'app') ~= ARGV[1] then return nil end
return redis.call('HGETALL', KEYS[1])
"""
)

PAGE = RedisScript(
    """#!lua flags=no-writes
local app_calls, limit, began, before = KEYS[1], tonumber(ARGV[1]), ARGV[2], ARGV[3]
local ids = {}
if before ~= '' then
  -- Those that began in the same millisecond are in the order of their ids.
  for _, id in ipairs(redis.call('ZREVRANGEBYSCORE', app_calls, began, began)) do
    if id < before and #ids < limit then ids[#ids + 1] = id end
  end
  began = '(' .. began
else
  began = '+inf'
end
if #ids < limit then
  for _, id in ipairs(redis.call('ZREVRANGEBYSCORE', app_calls, began, '-inf', 'LIMIT', 0, limit - #ids)) do
    ids[#ids + 1] = id
  end
end
local found = {}
for _, id in ipairs(ids) do
  found[#found + 1] = id
  found[#found + 1] = redis.call('HGETALL', 'earshot:record:' .. id)
end
return found
"""
)

VERSIONS = RedisScript(
    """#!lua flags=no-writes
local found = {}
for at, key in ipairs(KEYS) do found[at] = redis.call('HMGET', key, 'rank', 'stamp') end
return found
"""
)

# What is deleted stays in Redis's own file until that is written anew; the counter has it done (redis_erasure).
FORGET = RedisScript(
    "#!lua flags=allow-oom\n"
    + _NOW
    + """
local record, app_calls, ended, deleted, voices = unpack(KEYS)
local id, app, kept = unpack(ARGV)
local owner = redis.call('HGET', record, 'app')
if owner and owner ~= app then return 0 end
local last = redis.call('ZREVRANGE', deleted, 0, 0, 'WITHSCORES')[2]
redis.call('ZREMRANGEBYSCORE', deleted, '-inf', now - kept)
redis.call('ZADD', deleted, 'NX', math.max(now, tonumber(last or 0) + 1), app .. ':' .. id)
redis.call('ZREM', app_calls, id)
redis.call('ZREM', ended, app .. ':' .. id)
if redis.call('DEL', record) == 0 then return 0 end
redis.call('HINCRBY', voices, 'deletions', 1)
return 1
"""
)

SWEEP = RedisScript(
    """#!lua flags=allow-oom
local old = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. ARGV[1], 'LIMIT', 0, ARGV[2])
for _, member in ipairs(old) do
  local app, id = string.match(member, '^([^:]*):(.*)$')
  redis.call('DEL', 'earshot:record:' .. id)
  redis.call('ZREM', 'earshot:records:' .. app, id)
  redis.call('ZREM', KEYS[1], member)
end
if #old > 0 then redis.call('HINCRBY', KEYS[2], 'deletions', #old) end
return #old
"""
)

DELETIONS = RedisScript(
    """#!lua flags=no-writes
return redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. ARGV[1], '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[2])
"""
)

OLD = RedisScript(
    """#!lua flags=no-writes
local found = {}
for at, key in ipairs(KEYS) do
  local known = redis.call('HMGET', key, 'rank', 'ended', 'began')
  local over = tonumber(known[2] ~= '' and known[2] or known[3])
  found[at] = (not known[1] or (tonumber(known[1]) >= 2 and over < tonumber(ARGV[1]))) and 1 or 0
end
return found
"""
)
