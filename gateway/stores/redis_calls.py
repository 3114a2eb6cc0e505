"""The calls of all nodes in Redis, so that each node answers for them.

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
from gateway.stores import redis_call_scripts as scripts
from gateway.stores.call_versions import RANK, DeletedCall, PackedCall, Version
from gateway.stores.redis_connection import RedisConnection
from gateway.stores.redis_leases import fields_of
from gateway.stores.redis_voiceprint_scripts import VOICES

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
        found = await self._redis.run(scripts.PAGE, [app_key(app_id)], [limit, began, call_id])
        # Not on the event loop: a page of long calls is megabytes.
        return await asyncio.to_thread(_records, found)

    async def copy(self, app_id: str, call_id: str) -> SharedCopy | Literal["deleted"] | None:
        """The app's call and whose it is, or that it was deleted by hand."""
        found = await self._redis.run(scripts.GET, [record_key(call_id), DELETED], [app_id, call_id])
        if found is None:
            return None
        return "deleted" if found == b"deleted" else _copy(call_id, fields_of(found))

    async def send(self, call: PackedCall) -> Saved:
        """Have the others know this version, unless they know a newer one. Raises ValueError for another app's id."""
        return await self._save(call, call.version.rank, call.version.saved_at_ms, call.document)

    async def versions(self, call_ids: Sequence[str]) -> Sequence[Version | None]:
        """What Redis has of these calls, in their order."""
        found = await self._redis.run(scripts.VERSIONS, [record_key(one) for one in call_ids], [])
        return [None if rank is None else Version(int(rank), int(stamp)) for rank, stamp in found]

    async def forget(self, app_id: str, call_id: str) -> bool:
        """Delete a call everywhere and for good: every node hears of it. False when Redis had no such call."""
        keys = [record_key(call_id), app_key(app_id), ENDED, DELETED, VOICES]
        return bool(await self._redis.run(scripts.FORGET, keys, [call_id, app_id, DELETIONS_KEPT_MS]))

    async def deletions(self, after_ms: int, limit: int) -> tuple[Sequence[DeletedCall], int]:
        """What was deleted by hand after that point, and the point to go on from."""
        found = await self._redis.run(scripts.DELETIONS, [DELETED], [after_ms, limit])
        calls = [DeletedCall(*member.decode().split(":", 1)) for member in found[0::2]]
        return calls, int(found[-1]) if found else after_ms

    async def sweep_before(self, ended_before_ms: int) -> int:
        """Delete the calls that were over by then, and say how many; nothing is remembered of them."""
        swept = 0
        while count := int(await self._redis.run(scripts.SWEEP, [ENDED, VOICES], [ended_before_ms, SWEPT_TOGETHER])):
            swept += count
        return swept

    async def old_or_unknown(self, call_ids: Sequence[str], ended_before_ms: int) -> Sequence[str]:
        """Those of `call_ids` that Redis knows nothing of, or that were over by then."""
        old: list[str] = []
        for begin in range(0, len(call_ids), SWEPT_TOGETHER):
            ids = call_ids[begin : begin + SWEPT_TOGETHER]
            found = await self._redis.run(scripts.OLD, [record_key(one) for one in ids], [ended_before_ms])
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
        saved = (await self._redis.run(scripts.SAVE, keys, values)).decode()
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
