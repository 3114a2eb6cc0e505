"""The calls of all nodes in Redis, so that each node answers for them.

    earshot:record:<call id>    hash: app, state, rank, stamp, began, ended, node, document (JSON, compressed)
    earshot:records:<app>       sorted set of the app's calls, by when they began
    earshot:records             sorted set of the calls that nothing more will happen to, by when they ended
    earshot:records-deleted     sorted set of what was deleted by hand: "<app>:<call id>", by when
    earshot:records-memory      a random word: if it has changed, Redis has lost its memory

Each change is one script. A node's own database is the truth for the calls that it finished, and what is here is made
again from it; what was deleted by hand stays deleted, whoever still has a copy.
"""

from __future__ import annotations

import asyncio
import secrets
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import msgspec

from gateway.ports import CallRecord, CallState
from gateway.stores.call_versions import RANK, DeletedCall, PackedCall, Version
from gateway.stores.redis_connection import RedisConnection, RedisScript
from gateway.stores.redis_leases import fields_of

ENDED, DELETED, MEMORY = "earshot:records", "earshot:records-deleted", "earshot:records-memory"
DELETIONS_KEPT_MS = 400 * 86_400_000
"""How long it is known that a call was deleted: a node that is away for longer than this may bring it back."""
SWEPT_TOGETHER = 500

Saved = Literal["kept", "older", "deleted"]
"""What became of a copy: kept, or there is a newer one, or the call was deleted."""


def record_key(call_id: str) -> str:
    return f"earshot:record:{call_id}"


def app_key(app_id: str) -> str:
    return f"earshot:records:{app_id}"


_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""

_SAVE = RedisScript(
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

_GET = RedisScript(
    """#!lua flags=no-writes
if redis.call('ZSCORE', KEYS[2], ARGV[1] .. ':' .. ARGV[2]) then return 'deleted' end
if redis.call('HGET', KEYS[1], 'app') ~= ARGV[1] then return nil end
return redis.call('HGETALL', KEYS[1])
"""
)

_PAGE = RedisScript(
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

_VERSIONS = RedisScript(
    """#!lua flags=no-writes
local found = {}
for at, key in ipairs(KEYS) do found[at] = redis.call('HMGET', key, 'rank', 'stamp') end
return found
"""
)

# What is deleted stays in Redis's own file until that is written anew; the counter has it done (redis_erasure).
_FORGET = RedisScript(
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

_SWEEP = RedisScript(
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

_DELETIONS = RedisScript(
    """#!lua flags=no-writes
return redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. ARGV[1], '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[2])
"""
)

_OLD = RedisScript(
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

_VOICES = "earshot:voices"


@dataclass(frozen=True, slots=True)
class SharedCopy:
    """A call as Redis has it."""

    record: CallRecord
    version: Version
    node: str
    """Name of the node that has finished the call, or has told of it last."""


class RedisCalls:
    """Fills the role CallStore, for the node that `node` names; every method may raise Unavailable."""

    def __init__(self, connection: RedisConnection, node: str) -> None:
        self._redis = connection
        self._node = node

    # --- the role ---

    async def save(self, record: CallRecord) -> None:
        """Insert or replace the record. Raises ValueError when the call id belongs to another app."""
        document = zlib.compress(msgspec.json.encode(record.document))
        await self._save(record, RANK[record.state], "", document)

    async def get(self, app_id: str, call_id: str) -> CallRecord | None:
        copy = await self.copy(app_id, call_id)
        return copy.record if isinstance(copy, SharedCopy) else None

    async def left_behind(self, call_id: str) -> CallRecord | None:
        fields = fields_of(await self._redis.command("HGETALL", record_key(call_id)))
        return _copy(call_id, fields).record if fields else None

    async def page(self, app_id: str, *, limit: int, before: str | None = None) -> Sequence[CallRecord]:
        if before is None:
            return await self.page_before(app_id, limit, None)
        copy = await self.copy(app_id, before)
        if not isinstance(copy, SharedCopy):
            return []
        return await self.page_before(app_id, limit, (copy.record.began_at_ms, before))

    # --- beyond it ---

    async def page_before(self, app_id: str, limit: int, before: tuple[int, str] | None) -> Sequence[CallRecord]:
        """The app's calls, latest first, that are before one that began then (ms) and has this id."""
        began, call_id = before or ("", "")
        found = await self._redis.run(_PAGE, [app_key(app_id)], [limit, began, call_id])
        # Not on the event loop: a page of long calls is megabytes.
        return await asyncio.to_thread(_records, found)

    async def copy(self, app_id: str, call_id: str) -> SharedCopy | Literal["deleted"] | None:
        """The app's call and whose it is, or that it was deleted by hand."""
        found = await self._redis.run(_GET, [record_key(call_id), DELETED], [app_id, call_id])
        if found is None:
            return None
        return "deleted" if found == b"deleted" else _copy(call_id, fields_of(found))

    async def send(self, call: PackedCall) -> Saved:
        """Have the others know this version, unless they know a newer one. Raises ValueError for another app's id."""
        return await self._save(call, call.version.rank, call.version.saved_at_ms, call.document)

    async def versions(self, call_ids: Sequence[str]) -> Sequence[Version | None]:
        """What Redis has of these calls, in their order."""
        found = await self._redis.run(_VERSIONS, [record_key(one) for one in call_ids], [])
        return [None if rank is None else Version(int(rank), int(stamp)) for rank, stamp in found]

    async def forget(self, app_id: str, call_id: str) -> bool:
        """Delete a call everywhere and for good: every node hears of it. False when Redis had no such call."""
        keys = [record_key(call_id), app_key(app_id), ENDED, DELETED, _VOICES]
        return bool(await self._redis.run(_FORGET, keys, [call_id, app_id, DELETIONS_KEPT_MS]))

    async def deletions(self, after_ms: int, limit: int) -> tuple[Sequence[DeletedCall], int]:
        """What was deleted by hand after that point, and the point to go on from."""
        found = await self._redis.run(_DELETIONS, [DELETED], [after_ms, limit])
        calls = [DeletedCall(*member.decode().split(":", 1)) for member in found[0::2]]
        return calls, int(found[-1]) if found else after_ms

    async def sweep_before(self, ended_before_ms: int) -> int:
        """Delete the calls that were over by then, and say how many; nothing is remembered of them."""
        swept = 0
        while count := int(await self._redis.run(_SWEEP, [ENDED, _VOICES], [ended_before_ms, SWEPT_TOGETHER])):
            swept += count
        return swept

    async def old_or_unknown(self, call_ids: Sequence[str], ended_before_ms: int) -> Sequence[str]:
        """Those of `call_ids` that Redis knows nothing of, or that were over by then."""
        old: list[str] = []
        for begin in range(0, len(call_ids), SWEPT_TOGETHER):
            ids = call_ids[begin : begin + SWEPT_TOGETHER]
            found = await self._redis.run(_OLD, [record_key(one) for one in ids], [ended_before_ms])
            old += [one for one, is_old in zip(ids, found, strict=True) if is_old]
        return old

    async def memory(self) -> str:
        """A word that is another one when Redis may have lost something: it was flushed, or restarted."""
        await self._redis.command("SET", MEMORY, secrets.token_hex(8), "NX")
        word = await self._redis.command("GET", MEMORY)
        run_id = (await self._redis.command("INFO", "server"))["run_id"]
        return f"{run_id}:{(word or b'').decode()}"

    async def _save(self, call: CallRecord | PackedCall, rank: int, stamp: int | str, document: bytes) -> Saved:
        keys = [record_key(call.call_id), app_key(call.app_id), ENDED, DELETED]
        over: str | int = "" if call.ended_at_ms is None else call.ended_at_ms
        values: list[str | bytes | int] = [call.call_id, call.app_id, call.state, rank, stamp]
        values += [call.began_at_ms, over, self._node, document]
        saved = (await self._redis.run(_SAVE, keys, values)).decode()
        if saved == "taken":
            raise ValueError(f"call id {call.call_id} is taken")
        return cast(Saved, saved)


def _records(found: Sequence[Any]) -> list[CallRecord]:
    pairs = ((call_id.decode(), fields_of(flat)) for call_id, flat in zip(found[0::2], found[1::2], strict=True))
    return [_copy(call_id, fields).record for call_id, fields in pairs if fields]


def _copy(call_id: str, fields: Mapping[str, bytes]) -> SharedCopy:
    record = CallRecord(
        call_id=call_id,
        app_id=fields["app"].decode(),
        state=cast(CallState, fields["state"].decode()),
        began_at_ms=int(fields["began"]),
        ended_at_ms=int(fields["ended"]) if fields["ended"] else None,
        document=msgspec.json.decode(zlib.decompress(fields["document"])),
    )
    return SharedCopy(record, Version(int(fields["rank"]), int(fields["stamp"])), fields["node"].decode())
