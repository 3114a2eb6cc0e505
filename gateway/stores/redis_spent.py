"""Spent marks in Redis: every node of the cluster knows them."""

from __future__ import annotations

from gateway.ports import Clock
from gateway.stores.redis_connection import RedisConnection


class RedisSpentMarks:
    """SpentMarks as keys that expire by themselves."""

    def __init__(self, connection: RedisConnection, clock: Clock) -> None:
        self._connection = connection
        self._clock = clock

    async def spend(self, mark: str, until_ms: int) -> bool:
        # By our own clock: it is the one that says when what bears the mark has expired.
        left_ms = max(1, until_ms - round(self._clock.wall() * 1000))
        return await self._connection.command("SET", _key(mark), "1", "NX", "PX", left_ms) is not None

    async def is_spent(self, mark: str) -> bool:
        return bool(await self._connection.command("EXISTS", _key(mark)))


def _key(mark: str) -> str:
    return f"earshot:spent:{mark}"
