"""The way of voices from one node's database into the Redis that nodes share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal

from gateway.ports import VoiceprintRow, VoiceprintStore
from gateway.stores.redis_voiceprints import RedisVoiceprints
from gateway.stores.voiceprints import SqliteVoiceprints

Outcome = Literal["shared", "deleted_before", "name_taken"]
ACTOR = "earshot voiceprint share"
_LATEST_MS = 2**48


async def share_voices(
    own: SqliteVoiceprints, shared: RedisVoiceprints
) -> AsyncIterator[tuple[VoiceprintRow, Outcome]]:
    """Move every voice, one at a time; what has moved is deleted here for good. May be ended and begun again.

    One that Redis has been told to delete since a run that ended halfway is deleted here too, not brought back. One
    whose name stands for another voice there stays here. Raises Unavailable.
    """
    gone: dict[str, frozenset[str]] = {}
    async for row in own.every():
        if row.app_id not in gone:
            gone[row.app_id] = await _deleted(shared, row.app_id)
        outcome: Outcome
        if row.print_id in gone[row.app_id]:
            outcome = "deleted_before"
        elif await shared.add(row, await _audio(own, row), actor=ACTOR):
            outcome = "shared"
        else:
            there = await shared.find(row.app_id, row.org_id, row.tag_id, row.name)
            outcome = "shared" if there is not None and there.print_id == row.print_id else "name_taken"
        if outcome != "name_taken":
            await own.remove(row.app_id, row.org_id, row.tag_id, [row.name], actor=ACTOR)
        yield row, outcome


async def _deleted(store: RedisVoiceprints, app_id: str) -> frozenset[str]:
    """The print ids of which the app's audit says that they are gone."""
    audits = await store.audits(app_id, from_ms=0, to_ms=_LATEST_MS, limit=2**31)
    deleted = {voice.print_id for one in audits if one.operation in ("delete", "delete_all") for voice in one.voices}
    return frozenset(deleted | {voice.former_print_id for one in audits for voice in one.voices} - {""})


async def _audio(store: VoiceprintStore, row: VoiceprintRow) -> list[bytes]:
    clips: list[bytes] = []
    while (clip := await store.audio(row.print_id, len(clips))) is not None:
        clips.append(clip)
    return clips
