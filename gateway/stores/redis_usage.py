"""What each app has used, in Redis.

    <prefix>usage:<app>:<day>    hash: product -> amount

Days are UTC, `YYYY-MM-DD`. App ids hold no colon, so no two keys meet.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import cast

from gateway.ports import Clock, Product, Quotas, UsageDay, day_of
from gateway.stores.redis_connection import RedisConnection, RedisScript

# One round trip, however many days: a hash that is not there is empty.
_DAYS = RedisScript(
    """
local found = {}
for at, key in ipairs(KEYS) do found[at] = redis.call('HGETALL', key) end
return found
"""
)


class RedisUsage:
    """Fills the role UsageMeter."""

    def __init__(self, connection: RedisConnection, clock: Clock, quotas: Quotas, *, prefix: str = "earshot:") -> None:
        """`prefix` begins the names of all keys."""
        self._connection = connection
        self._clock = clock
        self._quotas = quotas
        self._prefix = prefix

    def key(self, app_id: str, day: str) -> str:
        """The hash of an app and day, for scripts that count in the step that they count for."""
        return f"{self._prefix}usage:{app_id}:{day}"

    async def add(self, app_id: str, product: Product, amount: int) -> None:
        await self._connection.command("HINCRBY", self.key(app_id, day_of(self._clock.wall())), product, amount)

    async def over_quota(self, app_id: str, product: Product) -> str:
        if self._quotas.of(app_id, product) is None:
            return ""
        now_s = self._clock.wall()
        used = await self._connection.command("HGET", self.key(app_id, day_of(now_s)), product)
        return self._quotas.refusal(app_id, product, int(used or 0), now_s)

    async def days(self, app_id: str, first_day: str, last_day: str) -> Sequence[UsageDay]:
        first, last = date.fromisoformat(first_day), date.fromisoformat(last_day)
        days = [(first + timedelta(days=after)).isoformat() for after in range((last - first).days + 1)]
        if not days:
            return []
        found = await self._connection.run(_DAYS, [self.key(app_id, day) for day in days], [])
        return [
            UsageDay(day, cast(Product, product.decode()), int(amount))
            for day, words in zip(days, found, strict=True)
            for product, amount in sorted(zip(words[0::2], words[1::2], strict=True))
        ]
