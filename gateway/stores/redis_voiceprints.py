"""Enrolled voices in Redis, where every node of a cluster finds them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from gateway.ports import VoiceprintAudit, VoiceprintChange, VoiceprintNews, VoiceprintRow
from gateway.stores import redis_voiceprint_scripts as scripts
from gateway.stores.redis_connection import Argument, RedisConnection
from gateway.stores.voiceprint_audit import MOST_ACTOR_CHARACTERS, AuditedNames, operation_of, voices_of
from gateway.stores.voiceprint_bodies import packed, unpacked

LOADED_TOGETHER = 500
MOST_NEWS = 500
_ALL = "earshot:voices:all"
_AUDITS_TOGETHER = 1000


class RedisVoiceprints:
    """Fills the roles VoiceprintStore, VoiceprintChanges and VoiceprintAudits.

    Writes are as durable as the Redis is. Each is one script, so nobody sees half of it, and none happens in halves.
    """

    def __init__(self, connection: RedisConnection, *, name_key: bytes | None = None) -> None:
        """`name_key`: by it the audit can be asked about names; without it names leave no trace there."""
        self._redis = connection
        self._audited = AuditedNames(name_key)

    async def add(self, row: VoiceprintRow, audio: Sequence[bytes], *, actor: str = "") -> bool:
        return bool(await self._redis.run(scripts.ADD, _keys_of(row), self._kept(row, audio, actor)))

    async def replace(
        self, row: VoiceprintRow, audio: Sequence[bytes], *, actor: str = "", former: str | None = None
    ) -> str | None:
        replaced = await self._redis.run(scripts.REPLACE, _keys_of(row), self._kept(row, audio, actor, former or ""))
        return None if replaced is None else str(replaced, "utf-8")

    def _kept(self, row: VoiceprintRow, audio: Sequence[bytes], actor: str, former: str = "") -> list[Argument]:
        spaces = msgspec.json.encode(sorted(one.space for one in row.prints))
        digest = self._audited(row.app_id, row.name)
        head: list[Argument] = [row.app_id, actor[:MOST_ACTOR_CHARACTERS], former, row.print_id, row.name, row.kind]
        return [*head, spaces, digest, packed(row), row.org_id, row.tag_id, *audio]

    async def remove(
        self, app_id: str, org_id: str, tag_id: str, names: Sequence[str] | None, *, actor: str = ""
    ) -> Sequence[str]:
        what = ["delete_all"] if names is None else ["delete", *dict.fromkeys(names)]
        arguments = [app_id, actor[:MOST_ACTOR_CHARACTERS], *what]
        gone = await self._redis.run(scripts.REMOVE, _keys(app_id, org_id, tag_id), arguments)
        return [print_id.decode() for print_id in gone]

    async def find(self, app_id: str, org_id: str, tag_id: str, name: str) -> VoiceprintRow | None:
        found = await self._redis.run(scripts.FIND, _keys(app_id, org_id, tag_id)[:1], [name])
        rows = _voices(found)
        return rows[0] if rows else None

    async def count(self, app_id: str, org_id: str, tag_id: str | None) -> int:
        return int(await self._redis.command("ZCARD", _set(app_id, org_id, tag_id)))

    async def page(
        self, app_id: str, org_id: str, tag_id: str | None, *, offset: int, limit: int
    ) -> Sequence[VoiceprintRow]:
        if limit <= 0:
            return []
        return _voices(await self._redis.run(scripts.PAGE, [_set(app_id, org_id, tag_id)], [offset, limit]))

    async def audio(self, print_id: str, clip: int = 0) -> bytes | None:
        found: bytes | None = await self._redis.command("HGET", f"earshot:voices:audio:{print_id}", clip)
        return found

    async def load(self, spaces: Collection[str]) -> Sequence[VoiceprintRow]:
        """See the role. Those that come while it loads may be among them."""
        wanted = set(spaces)
        rows: list[VoiceprintRow] = []
        seq = 0
        while True:
            found = await self._redis.run(scripts.LOAD, [_ALL], [seq, LOADED_TOGETHER])
            if not found:
                return rows
            for fields in found[1::2]:
                seq = max(seq, int(_fields(fields)[b"seq"]))
            rows += [row for row in _voices(found) if wanted & {one.space for one in row.prints}]

    async def unsearchable(self, spaces: Collection[str]) -> Mapping[str, int]:
        known = set(spaces)
        voices: dict[str, int] = {}
        for combination, count in _fields(await self._redis.command("HGETALL", "earshot:voices:spaces")).items():
            of_these = msgspec.json.decode(combination, type=set[str])
            for space in of_these if known.isdisjoint(of_these) else ():
                voices[space] = voices.get(space, 0) + int(count)
        return voices

    # --- what became of them ---

    async def position(self) -> str:
        last = await self._redis.command("XREVRANGE", scripts.CHANGES, "+", "-", "COUNT", 1)
        return str(last[0][0], "utf-8") if last else ""

    async def since(self, position: str) -> VoiceprintNews | None:
        found = await self._redis.run(scripts.SINCE, [scripts.CHANGES], [position, MOST_NEWS])
        if not found:
            return VoiceprintNews((), position, more=False)
        if found[0] is None or found[0][0].decode() != position:
            return None
        changes = [_change(_fields(fields)) for _, fields in found[1:]]
        return VoiceprintNews(changes, str(found[-1][0], "utf-8"), more=len(found) == MOST_NEWS)

    async def rows(self, print_ids: Collection[str]) -> Sequence[VoiceprintRow]:
        rows: list[VoiceprintRow] = []
        ids = list(print_ids)
        for begin in range(0, len(ids), LOADED_TOGETHER):
            rows += _voices(await self._redis.run(scripts.ROWS, (), ids[begin : begin + LOADED_TOGETHER]))
        return rows

    async def audits(
        self, app_id: str, *, from_ms: int, to_ms: int, limit: int, name: str | None = None
    ) -> Sequence[VoiceprintAudit]:
        digest = self._audited(app_id, name) if name is not None else ""
        if name is not None and not digest:
            return []
        audits: list[VoiceprintAudit] = []
        latest = str(to_ms)
        while len(audits) < limit:
            key = f"earshot:voices:audit:{app_id}"
            found = await self._redis.command("XREVRANGE", key, latest, from_ms, "COUNT", _AUDITS_TOGETHER)
            if not found:
                break
            latest = "(" + found[-1][0].decode()
            every = (_audit(app_id, audit_id.decode(), _fields(fields)) for audit_id, fields in found)
            audits += [one for one in every if not digest or any(voice.name_digest == digest for voice in one.voices)]
        return audits[:limit]


def _json(*words: str) -> str:
    """Words as one part of a key, so that no two lists of them make the same."""
    return msgspec.json.encode(words).decode()


def _keys(app_id: str, org_id: str, tag_id: str) -> tuple[str, str]:
    return _json(app_id, org_id, tag_id), _json(app_id, org_id)


def _keys_of(row: VoiceprintRow) -> tuple[str, str]:
    return _keys(row.app_id, row.org_id, row.tag_id)


def _set(app_id: str, org_id: str, tag_id: str | None) -> str:
    if tag_id is None:
        return f"earshot:voices:org:{_json(app_id, org_id)}"
    return f"earshot:voices:tag:{_json(app_id, org_id, tag_id)}"


def _fields(flat: Sequence[bytes] | Mapping[bytes, bytes]) -> Mapping[bytes, bytes]:
    """A hash or a stream's entry: names and values in turn, or a map where the client makes one."""
    return flat if isinstance(flat, Mapping) else dict(zip(flat[0::2], flat[1::2], strict=True))


def _voices(found: Sequence[Any]) -> list[VoiceprintRow]:
    """Of print ids and the fields of each, in turn, those that have fields."""
    pairs = zip(found[0::2], found[1::2], strict=True)
    return [_voice(print_id.decode(), _fields(fields)) for print_id, fields in pairs if fields]


def _voice(print_id: str, fields: Mapping[bytes, bytes]) -> VoiceprintRow:
    name, prints = unpacked(fields[b"body"])
    return VoiceprintRow(
        print_id=print_id,
        app_id=fields[b"app"].decode(),
        org_id=fields[b"org"].decode(),
        tag_id=fields[b"tag"].decode(),
        name=name,
        kind="sound" if fields[b"kind"] == b"sound" else "voice",
        prints=prints,
    )


def _change(fields: Mapping[bytes, bytes]) -> VoiceprintChange:
    scope = msgspec.json.decode(fields[b"scope"], type=tuple[str, str, str])
    return VoiceprintChange(*scope, fields[b"gone"].decode().split(), fields[b"come"].decode().split())


def _audit(app_id: str, audit_id: str, fields: Mapping[bytes, bytes]) -> VoiceprintAudit:
    _, org_id, tag_id = msgspec.json.decode(fields[b"scope"], type=tuple[str, str, str])
    return VoiceprintAudit(
        audit_id=audit_id,
        at_ms=int(audit_id.partition("-")[0]),
        app_id=app_id,
        actor=fields[b"actor"].decode(),
        operation=operation_of(fields[b"operation"].decode()),
        org_id=org_id,
        tag_id=tag_id,
        voices=voices_of(fields[b"voices"]),
    )
