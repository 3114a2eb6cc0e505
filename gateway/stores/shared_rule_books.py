"""Rule books that every node of a cluster finds: kept here, and in Redis for the others."""

from __future__ import annotations

from collections.abc import Collection

import structlog

from gateway.ports import RuleBooks, Unavailable
from gateway.stores.redis_connection import RedisConnection
from gateway.stores.redis_leases import KEPT_MS

log = structlog.get_logger(__name__)


def _key(digest: str) -> str:
    return f"earshot:rules:{digest}"


class SharedRuleBooks:
    """Fills the role RuleBooks over another that is this node's own."""

    def __init__(self, own: RuleBooks, connection: RedisConnection) -> None:
        self._own = own
        self._redis = connection

    async def keep(self, digest: str, book: bytes) -> None:
        """Where Redis is away, the others cannot find it until it is kept again: each node does that for the rules of
        its calls with every renewal of their leases."""
        await self._own.keep(digest, book)
        try:
            if not await self._redis.command("PEXPIRE", _key(digest), KEPT_MS):
                await self._redis.command("SET", _key(digest), book, "PX", KEPT_MS)
        except Unavailable as fault:
            log.warning("rules_not_shared", digest=digest, fault=str(fault))

    async def get(self, digest: str) -> bytes | None:
        book = await self._own.get(digest)
        if book is None:
            book = await self._redis.command("GET", _key(digest))
            if book is not None:
                await self._own.keep(digest, book)
        return book

    async def keep_only(self, digests: Collection[str]) -> int:
        """Forgets here alone: others may need them, and Redis forgets by itself what nobody keeps any more."""
        return await self._own.keep_only(digests)
