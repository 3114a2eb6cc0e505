"""The rules that calls are judged by: compiled once for each content, and found again by it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from weakref import WeakValueDictionary

import msgspec

from gateway.ports import RuleBooks, RuleSource, StoredCategory
from protocol.rules.book import compiled
from protocol.rules.matcher import RuleSet


class RuleBook(msgspec.Struct, frozen=True):
    """All rules of an app at one version, in their order: what a `RuleSet` is compiled from."""

    version: int
    categories: Sequence[StoredCategory]

    def compiled(self, *, pinyin: bool) -> RuleSet:
        """Blocking: thousands of rules take a good part of a second. Raises RuleSetError."""
        contents = [(category.category, category.contents) for category in self.categories]
        return compiled(contents, self.version, pinyin=pinyin)


@dataclass(frozen=True, slots=True, weakref_slot=True)
class RulesInForce:
    """Compiled rules, and the digest under which their book is kept."""

    digest: str
    version: int
    rules: RuleSet


class RulesOfCall:
    """What one call is judged by; the call looks up in it what its events name by digest."""

    def __init__(self, in_force: RulesInForce, *, pinyin: bool, later: Iterable[RulesInForce] = ()) -> None:
        """`later`: those that came after, of a call that is about to be replayed."""
        self.in_force = in_force
        self.pinyin = pinyin
        self._known = {one.digest: one for one in (in_force, *later)}
        self.digests = list(self._known)
        """All that the call's events name, which whoever replays it needs."""

    def change(self, in_force: RulesInForce) -> None:
        """These come next; earlier ones are not asked for any more."""
        self._known = {in_force.digest: in_force}
        if in_force.digest not in self.digests:
            self.digests.append(in_force.digest)

    def find(self, digest: str) -> RuleSet:
        """The rules of a digest, which are in force from here on. Raises KeyError."""
        self.in_force = self._known[digest]
        return self.in_force.rules


class RuleSets:
    """Compiles and keeps. What `of_app` has answered, `of_digest` finds in every later process."""

    def __init__(self, source: RuleSource, books: RuleBooks) -> None:
        self._source = source
        self._books = books
        self._newest: dict[tuple[str, bool], tuple[int, RulesInForce]] = {}
        self._used: set[str] = set()
        self._compiled: WeakValueDictionary[tuple[str, bool], RulesInForce] = WeakValueDictionary()

    async def of_app(self, app_id: str, *, pinyin: bool) -> RulesInForce:
        """The app's rules as they are now; their book is kept, durably, when this returns."""
        version, categories = await self._source.rules(app_id)
        newest = self._newest.get((app_id, pinyin))
        if newest is None or newest[0] != version:
            book = msgspec.json.encode(RuleBook(version, categories))
            digest = hashlib.sha256(book).hexdigest()
            self._used.add(digest)
            await self._books.keep(digest, book)
            newest = version, await self._compile(digest, book, pinyin=pinyin)
            self._newest[app_id, pinyin] = newest
        return newest[1]

    async def of_digest(self, digest: str, *, pinyin: bool) -> RulesInForce | None:
        """The rules whose book is kept under a digest; None when there is no such book."""
        book = await self._books.get(digest)
        return None if book is None else await self._compile(digest, book, pinyin=pinyin)

    async def keep_only(self, digests: set[str]) -> int:
        """Forget the books that no call needs: all but `digests` and what this process has kept."""
        return await self._books.keep_only(digests | self._used)

    async def _compile(self, digest: str, book: bytes, *, pinyin: bool) -> RulesInForce:
        compiled_once = self._compiled.get((digest, pinyin))
        if compiled_once is None:
            decoded = msgspec.json.decode(book, type=RuleBook)
            ruleset = await asyncio.to_thread(decoded.compiled, pinyin=pinyin)
            compiled_once = RulesInForce(digest, decoded.version, ruleset)
            self._compiled[digest, pinyin] = compiled_once
        return compiled_once
