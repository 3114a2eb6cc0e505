"""What Redis does to enrolled voices, each change as one step.

earshot:voices                        hash: seq, the number of the voice enrolled last; deletions, how many there
                                      have been, and rewritten, up to which of them the file holds nothing any more
earshot:voices:names:[app,org,tag]    hash: name -> print id
earshot:voices:tag:[app,org,tag]      sorted set of print ids by seq, which an update leaves as it is
earshot:voices:org:[app,org]          the same of all tags of an organisation
earshot:voices:all                    the same of everybody
earshot:voices:print:<print id>       hash: app, org, tag, name, kind, seq, spaces, digest (of the name, for the
                                      audit), body (voiceprint_bodies)
earshot:voices:audio:<print id>       hash: number of the clip -> its file
earshot:voices:spaces                 hash: JSON of a voice's embedding spaces -> how many voices have just these
earshot:voices:changes                stream of what became of which print ids, the newest 10,000 or so
earshot:voices:audit:<app>            stream of what the app had done, whole
"""

from __future__ import annotations

from gateway.stores.redis_connection import RedisScript

VOICES = "earshot:voices"
CHANGES = "earshot:voices:changes"
MOST_CHANGES = 10_000
IDS_OF_A_CHANGE = 100
"""Of a larger change the ids are spread over several entries."""

_EVEN_WHEN_FULL = "#!lua flags=allow-oom\n"
_COMMON = (
    f"""
local MOST_CHANGES, IDS_OF_A_CHANGE, TOGETHER = {MOST_CHANGES}, {IDS_OF_A_CHANGE}, 1000
"""
    + """
local function print_key(id) return 'earshot:voices:print:' .. id end
local function audio_key(id) return 'earshot:voices:audio:' .. id end
local function sets(app_org, app_org_tag)
  return {'earshot:voices:all', 'earshot:voices:org:' .. app_org, 'earshot:voices:tag:' .. app_org_tag}
end
local function names_key(app_org_tag) return 'earshot:voices:names:' .. app_org_tag end

local function note_change(scope, gone, come)
  redis.call('XADD', 'earshot:voices:changes', 'MAXLEN', '~', MOST_CHANGES, '*', 'scope', scope, 'gone', gone,
    'come', come)
end

local function audit(app, actor, operation, scope, voices)
  redis.call('XADD', 'earshot:voices:audit:' .. app, '*', 'actor', actor, 'operation', operation, 'scope', scope,
    'voices', cjson.encode(voices))
end

local function count_spaces(spaces, change)
  if redis.call('HINCRBY', 'earshot:voices:spaces', spaces, change) <= 0 then
    redis.call('HDEL', 'earshot:voices:spaces', spaces)
  end
end

-- Keep what ARGV says of a voice, from its print id at [4] on.
local function keep(app, seq, scope)
  local id, name, kind, spaces, digest, body, org, tag = unpack(ARGV, 4, 11)
  redis.call('HSET', print_key(id), 'app', app, 'org', org, 'tag', tag, 'name', name, 'kind', kind, 'seq', seq,
    'spaces', spaces, 'digest', digest, 'body', body)
  for at = 12, #ARGV do redis.call('HSET', audio_key(id), at - 12, ARGV[at]) end
  count_spaces(spaces, 1)
  for _, set in ipairs(sets(KEYS[2], scope)) do redis.call('ZADD', set, seq, id) end
  redis.call('HSET', names_key(scope), name, id)
end

-- Take voices away, but for their names; the digests of those, in the order of the ids.
local function drop(app_org, scope, ids)
  local digests, counts = {}, {}
  for first = 1, #ids, TOGETHER do
    local part, keys = {}, {}
    for at = first, math.min(first + TOGETHER - 1, #ids) do
      local known = redis.call('HMGET', print_key(ids[at]), 'digest', 'spaces')
      digests[at] = known[1] or ''
      if known[2] then counts[known[2]] = (counts[known[2]] or 0) + 1 end
      part[#part + 1] = ids[at]
      keys[#keys + 1], keys[#keys + 2] = print_key(ids[at]), audio_key(ids[at])
    end
    redis.call('UNLINK', unpack(keys))
    for _, set in ipairs(sets(app_org, scope)) do redis.call('ZREM', set, unpack(part)) end
  end
  for spaces, count in pairs(counts) do count_spaces(spaces, -count) end
  return digests
end
"""
)

ADD = RedisScript(
    _COMMON
    + """
local scope, app, actor = KEYS[1], ARGV[1], ARGV[2]
local id, name, digest = ARGV[4], ARGV[5], ARGV[8]
if redis.call('HEXISTS', names_key(scope), name) == 1 then return 0 end
keep(app, redis.call('HINCRBY', 'earshot:voices', 'seq', 1), scope)
note_change(scope, '', id)
audit(app, actor, 'enrol', scope, {{id, digest, ''}})
return 1
"""
)
"""KEYS: JSON of [app, org, tag], of [app, org]. ARGV: app, actor, nothing, print id, name, kind, spaces, digest, body,
org, tag, then the clips. 0: the name is taken."""

REPLACE = RedisScript(
    _COMMON
    + """
local scope, app, actor = KEYS[1], ARGV[1], ARGV[2]
local id, name, digest = ARGV[4], ARGV[5], ARGV[8]
local former = redis.call('HGET', names_key(scope), name)
if not former or ARGV[3] ~= '' and ARGV[3] ~= former then return false end
local seq = redis.call('HGET', print_key(former), 'seq')
drop(KEYS[2], scope, {former})
keep(app, seq, scope)
redis.call('HINCRBY', 'earshot:voices', 'deletions', 1)
note_change(scope, former, id)
audit(app, actor, 'update', scope, {{id, digest, former}})
return former
"""
)
"""As ADD, but ARGV[3] is the print id that is to be replaced, if it must be a certain one. The former, or nothing."""

REMOVE = RedisScript(
    _EVEN_WHEN_FULL
    + _COMMON
    + """
local scope, app, actor, operation = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local names, ids = {}, {}
if operation == 'delete_all' then
  ids = redis.call('HVALS', names_key(scope))
else
  for at = 4, #ARGV do
    local id = redis.call('HGET', names_key(scope), ARGV[at])
    if not id then return {} end
    names[at - 3], ids[at - 3] = ARGV[at], id
  end
end
if #ids == 0 then return {} end
local gone, part = {}, {}
for number, digest in ipairs(drop(KEYS[2], scope, ids)) do
  gone[number] = {ids[number], digest, ''}
  part[#part + 1] = ids[number]
  if #part == IDS_OF_A_CHANGE or number == #ids then
    note_change(scope, table.concat(part, ' '), '')
    part = {}
  end
end
if operation == 'delete_all' then
  redis.call('UNLINK', names_key(scope))
else
  for _, name in ipairs(names) do redis.call('HDEL', names_key(scope), name) end
end
redis.call('HINCRBY', 'earshot:voices', 'deletions', 1)
audit(app, actor, operation, scope, gone)
return ids
"""
)
"""KEYS as ADD's. ARGV: app, actor, `delete` and the names after it, or `delete_all`. The print ids that are gone."""

FIND = RedisScript(
    _COMMON
    + """
local id = redis.call('HGET', names_key(KEYS[1]), ARGV[1])
if not id then return {} end
return {id, redis.call('HGETALL', print_key(id))}
"""
)
"""KEYS: JSON of [app, org, tag]. ARGV: the name. Its print id and the fields of its hash, in turn; or nothing."""

PAGE = RedisScript(
    _COMMON
    + """
local found = {}
for _, id in ipairs(redis.call('ZREVRANGE', KEYS[1], ARGV[1], ARGV[1] + ARGV[2] - 1)) do
  found[#found + 1] = id
  found[#found + 1] = redis.call('HGETALL', print_key(id))
end
return found
"""
)
"""KEYS: a sorted set. ARGV: offset, limit. Print ids and their fields, in turn."""

LOAD = RedisScript(
    _COMMON
    + """
local found = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. ARGV[1], '+inf', 'LIMIT', 0, ARGV[2])) do
  found[#found + 1] = id
  found[#found + 1] = redis.call('HGETALL', print_key(id))
end
return found
"""
)
"""KEYS: a sorted set. ARGV: the seq after which to begin, limit. As PAGE, the oldest first."""

ROWS = RedisScript(
    _COMMON
    + """
local found = {}
for _, id in ipairs(ARGV) do
  found[#found + 1] = id
  found[#found + 1] = redis.call('HGETALL', print_key(id))
end
return found
"""
)
"""ARGV: print ids. As PAGE; of one that is not there, no fields."""

SINCE = RedisScript(
    _EVEN_WHEN_FULL
    + """
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if not last and ARGV[1] == '' or last and last[1] == ARGV[1] then return {} end
if not last or ARGV[1] == '' then return {false} end
return redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', ARGV[2])
"""
)
"""KEYS: the changes. ARGV: the entry seen last, limit. Nothing: there is no other. Else it, if it is still
there, and those after it."""
