"""The quality rules of each app in Redis: the same on every node, and for workers anywhere.

    earshot:qc:rules:<app>    hash: version, book (JSON: the categories in their order)

A node keeps a copy of its own. It answers with that while Redis is away, and enters it where Redis knows no rules of
the app: at the first start of a cluster, and after a flush.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence

import msgspec
import structlog

from gateway.ports import RulesMoved, StoredCategory, Unavailable
from gateway.stores.quality_rules import SqliteQualityRules
from gateway.stores.redis_connection import RedisConnection, RedisScript

AWAY_S = 5.0
"""For so long after Redis did not answer, calls that begin do not wait for it again."""
_ATTEMPTS = 20
_BOOK = msgspec.json.Decoder(tuple[StoredCategory, ...])

Book = tuple[StoredCategory, ...]
Edit = Callable[[Book], Book | None]
"""What a book becomes; None when there is nothing to change."""

_log = structlog.get_logger(__name__)

_PUT = RedisScript(
    """
if (redis.call('HGET', KEYS[1], 'version') or '') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'version', ARGV[2], 'book', ARGV[3])
return 1
"""
)
_VERSIONS = RedisScript(
    """
local found = {}
for at, key in ipairs(KEYS) do found[at] = redis.call('HGET', key, 'version') end
return found
"""
)


def rules_key(app_id: str) -> str:
    return f"earshot:qc:rules:{app_id}"


class RedisQualityRules:
    """`QualityRules`, hence also `RuleSource` and `RuleVersions`."""

    def __init__(
        self,
        connection: RedisConnection,
        *,
        own: SqliteQualityRules | None = None,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        """`own` is this node's copy; without one, rules that no node has entered yet are Unavailable.

        `changed` is called after each change that is made here.
        """
        self._redis = connection
        self._own = own
        self._changed = changed
        self._away_until_s = 0.0
        self._copied: dict[str, tuple[int, bytes]] = {}

    async def enter(self, app_id: str) -> None:
        """See that Redis has the app's rules, so that workers find them."""
        await self._book(app_id)

    async def versions(self, app_ids: Collection[str]) -> Mapping[str, int]:
        ordered = tuple(app_ids)
        if not ordered:
            return {}
        found = await self._redis.run(_VERSIONS, [rules_key(app_id) for app_id in ordered], ())
        return {app_id: int(version) for app_id, version in zip(ordered, found, strict=True) if version is not None}

    async def rules(self, app_id: str) -> tuple[int, Sequence[StoredCategory]]:
        now_s = asyncio.get_running_loop().time()
        if self._own is not None and now_s < self._away_until_s:
            return await self._own.rules(app_id)
        try:
            return await self._book(app_id)
        except Unavailable as fault:
            if self._own is None:
                raise
            _log.warning("rules_of_this_node_used", app_id=app_id, reason=str(fault))
            self._away_until_s = now_s + AWAY_S
            return await self._own.rules(app_id)

    async def add(self, app_id: str, category: StoredCategory) -> bool:
        def edit(book: Book) -> Book | None:
            return None if _place(book, category.category) is not None else (*book, category)

        return await self._change(app_id, edit) is not None

    async def modify(self, app_id: str, category: StoredCategory) -> bool:
        def edit(book: Book) -> Book | None:
            return None if _place(book, category.category) is None else _with(book, category)

        return await self._change(app_id, edit) is not None

    async def put(self, app_id: str, category: StoredCategory, *, at_version: int | None = None) -> int:
        version = await self._change(app_id, lambda book: _with(book, category), at_version)
        assert version is not None
        return version

    async def remove(self, app_id: str, category: str, *, at_version: int | None = None) -> bool:
        def edit(book: Book) -> Book | None:
            rest = tuple(one for one in book if one.category != category)
            return None if len(rest) == len(book) else rest

        return await self._change(app_id, edit, at_version) is not None

    async def replace_all(self, app_id: str, categories: Sequence[StoredCategory], *, at_version: int) -> None:
        await self._change(app_id, lambda _: tuple(categories), at_version)

    async def page(self, app_id: str, fragment: str, offset: int, limit: int) -> tuple[int, Sequence[StoredCategory]]:
        _, book = await self._book(app_id)
        found = [one for one in book if fragment.lower() in one.category.lower()]
        return len(found), found[offset : offset + limit]

    async def _change(self, app_id: str, edit: Edit, at_version: int | None = None) -> int | None:
        """The version that the edit made; None when it found nothing to change."""
        for _ in range(_ATTEMPTS):
            version, book = await self._book(app_id)
            if at_version not in (None, version):
                raise RulesMoved(version)
            edited = edit(book)
            if edited is None:
                return None
            if await self._redis.run(_PUT, [rules_key(app_id)], (version, version + 1, msgspec.json.encode(edited))):
                await self._book(app_id)  # and with it the copy of this node
                self._changed()
                return version + 1
        raise Unavailable(f"others keep changing the rules of {app_id}", retry_after_s=1)

    async def _book(self, app_id: str) -> tuple[int, Book]:
        """What Redis holds, with our copy brought in line, or entered there where it is what counts."""
        key = rules_key(app_id)
        for _ in range(_ATTEMPTS):
            version, encoded = await self._redis.command("HMGET", key, "version", "book")
            if version is not None and self._copied.get(app_id) == (int(version), encoded):
                return int(version), _BOOK.decode(encoded)
            if self._own is None:
                if version is None:
                    raise Unavailable(f"no server has entered the rules of {app_id} in Redis yet", retry_after_s=5)
                return int(version), _BOOK.decode(encoded)
            own_version, own_book = await self._own.rules(app_id)
            if version is None or own_version > int(version):  # Redis lost its memory, all of it or its end
                await self._redis.run(_PUT, [key], (version or "", own_version, msgspec.json.encode(own_book)))
                continue
            book = _BOOK.decode(encoded)
            if (own_version, tuple(own_book)) != (int(version), book):
                await self._own.mirror(app_id, int(version), book)
            self._copied[app_id] = (int(version), encoded)
            return int(version), book
        raise Unavailable(f"others keep changing the rules of {app_id}", retry_after_s=1)


def _place(book: Book, category: str) -> int | None:
    return next((place for place, one in enumerate(book) if one.category == category), None)


def _with(book: Book, category: StoredCategory) -> Book:
    """With the category in the place of the one of its name, or at the end."""
    place = _place(book, category.category)
    return (*book, category) if place is None else (*book[:place], category, *book[place + 1 :])
