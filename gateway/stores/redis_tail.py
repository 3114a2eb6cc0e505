"""The records of unsealed calls in Redis Streams: one stream for each call, one entry for each part.

An entry's id is `<epoch>-<number of the part>`, so that a stream is in order whoever wrote to it, and a part that is
sent twice finds its place taken. Late parts are streams too, each ended by an empty entry.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from gateway.ports import Lease, TailPart, TailReceipt
from gateway.stores.redis_connection import RedisConnection, RedisScript
from gateway.stores.redis_leases import KEPT_MS, call_key, tail_key

_READ_ENTRIES = 64
"""Entries of one round trip: a part holds at most about a second of audio, but may hold 1 MiB of it after an outage."""

_APPEND = RedisScript(
    """
local call, tail = KEYS[1], KEYS[2]
local epoch, number, records, kept = unpack(ARGV)
local known = redis.call('HMGET', call, 'epoch', 'parts', 'done')
if tonumber(known[1] or 0) > tonumber(epoch) then return {'fenced', 0} end
if known[1] ~= epoch then return {known[3] and 'fenced' or 'behind', 0} end
if known[3] then return {'kept', number} end
local last = tonumber(known[2])
if tonumber(number) <= last then return {'kept', last} end
if tonumber(number) > last + 1 then return {'behind', last} end
-- First what a full memory refuses: then it refuses all of it.
redis.call('XADD', tail, epoch .. '-' .. number, 'records', records)
redis.call('HSET', call, 'parts', number)
if last == 0 then redis.call('PEXPIRE', tail, kept) end
return {'kept', number}
"""
)

_TRIM = RedisScript(
    """#!lua flags=allow-oom
local known = redis.call('HGET', KEYS[1], 'epoch')
if known == ARGV[1] then redis.call('XTRIM', KEYS[2], 'MINID', ARGV[1] .. '-' .. ARGV[2]) end
return 1
"""
)


class RedisCallTail:
    """Fills the role CallTail."""

    def __init__(self, connection: RedisConnection) -> None:
        self._redis = connection

    async def append(self, parts: Sequence[TailPart]) -> Sequence[TailReceipt]:
        calls = [
            (
                (call_key(part.lease.call_id), tail_key(part.lease.call_id)),
                (part.lease.epoch, part.number, part.records, KEPT_MS),
            )
            for part in parts
        ]
        replies = await self._redis.run_all(_APPEND, calls)
        return [TailReceipt(outcome.decode(), int(last)) for outcome, last in replies]

    async def read(self, call_id: str) -> AsyncIterator[bytes]:
        async for records in _entries(self._redis, tail_key(call_id)):
            yield records

    async def trim(self, lease: Lease, before_number: int) -> None:
        keys = (call_key(lease.call_id), tail_key(lease.call_id))
        await self._redis.run(_TRIM, keys, (lease.epoch, before_number))


LATE = "earshot:late"


def _late_key(call_id: str) -> str:
    return f"{LATE}:{call_id}"


class RedisLateParts:
    """Fills the role LateParts."""

    def __init__(self, connection: RedisConnection) -> None:
        self._redis = connection

    async def offer(self, call_id: str, pieces: AsyncIterator[bytes]) -> None:
        key = _late_key(call_id)
        await self._redis.command("DEL", key)
        async for records in pieces:
            await self._redis.command("XADD", key, "*", "records", records)
        await self._redis.command("XADD", key, "*", "records", b"")
        await self._redis.command("PEXPIRE", key, KEPT_MS)
        await self._redis.command("SADD", LATE, call_id)

    async def offered(self) -> Sequence[str]:
        return sorted(one.decode() for one in await self._redis.command("SMEMBERS", LATE))

    async def read(self, call_id: str) -> AsyncIterator[bytes]:
        key = _late_key(call_id)
        newest = await self._redis.command("XREVRANGE", key, "+", "-", "COUNT", 1)
        if not newest or newest[0][1][b"records"]:
            return
        async for records in _entries(self._redis, key):
            if records:
                yield records

    async def drop(self, call_id: str) -> None:
        await self._redis.command("SREM", LATE, call_id)
        await self._redis.command("DEL", _late_key(call_id))


async def _entries(connection: RedisConnection, key: str) -> AsyncIterator[bytes]:
    begin = "-"
    while True:
        entries = await connection.command("XRANGE", key, begin, "+", "COUNT", _READ_ENTRIES)
        for _, fields in entries:
            yield fields[b"records"]
        if len(entries) < _READ_ENTRIES:
            return
        begin = f"({entries[-1][0].decode()}"
