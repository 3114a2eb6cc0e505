"""What Redis deleted is in its append-only file until that is written anew: nodes see to it that it is."""

from __future__ import annotations

import asyncio
from typing import Any

import structlog

from gateway.ports import Unavailable
from gateway.stores.redis_connection import RedisConnection
from gateway.stores.redis_voiceprint_scripts import VOICES

log = structlog.get_logger(__name__)

EVERY_S = 60.0
GAP_MS = 600_000
"""Between two times that the file is written anew, however much is deleted: it holds all that Redis has."""
_TURN = "earshot:voices:rewrite"


class RedisErasure:
    """Has the file of a Redis written anew when voices were deleted since it was. Nodes take turns."""

    def __init__(self, connection: RedisConnection, *, gap_ms: int = GAP_MS) -> None:
        self._redis = connection
        self._gap_ms = gap_ms
        self._fault = ""

    async def run(self) -> None:
        """Look each minute, until cancelled. What prevents it is logged once."""
        while True:
            await asyncio.sleep(EVERY_S)
            fault = ""
            try:
                await self.look()
            except Unavailable as error:
                fault = str(error)
            if fault and not self._fault:
                log.warning("deleted_voices_linger", fault=fault, remedy="let Earshot's user run BGREWRITEAOF")
            self._fault = fault

    async def look(self) -> bool:
        """Begin to write the file anew if that is due. True: it holds no deleted voice, or there is no file.

        Raises Unavailable.
        """
        counts = await self._redis.command("HMGET", VOICES, "deletions", "rewriting", "rewritten")
        deletions, asked, done = (int(count or 0) for count in counts)
        if deletions <= done:
            return True
        information: dict[str, Any] = await self._redis.command("INFO", "persistence")
        if not int(information.get("aof_enabled", 0)):
            return True
        if int(information["aof_rewrite_in_progress"]) or int(information["aof_rewrite_scheduled"]):
            return False
        # A Redis that was restarted knows of no rewriting: then it must be asked again.
        succeeded = (
            information["aof_last_bgrewrite_status"] == "ok" and int(information["aof_last_rewrite_time_sec"]) >= 0
        )
        if asked > done and succeeded:
            await self._redis.command("HSET", VOICES, "rewritten", asked)
            if asked == deletions:
                return True
        if await self._redis.command("SET", _TURN, 1, "NX", "PX", self._gap_ms):
            # It copies what there is from now on, which is at least without those that were deleted until now.
            await self._redis.command("BGREWRITEAOF")
            await self._redis.command("HSET", VOICES, "rewriting", deletions)
        return False
