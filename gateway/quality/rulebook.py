"""The rules of voice QC: listed, added, modified and deleted by an app, well formed or refused."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from gateway.ports import QualityRules, Rejected, RulesMoved, StoredCategory
from gateway.quality.vendor_rules import VendorRulebook, merged
from protocol.quality import ErrorCode, QualityFault, Rule, RuleQuery
from protocol.rules import RuleSet, RuleSetError
from protocol.rules.book import expression_of

MOST_SHOWN_CHARS = 120


class Rulebook:
    """Every change raises the version of the app's rules. Fills the role `RuleSource`.

    With a vendor, a change counts here only once it counts there.
    """

    def __init__(self, rules: QualityRules, vendor: VendorRulebook | None = None) -> None:
        self._rules = rules
        self._vendor = vendor

    async def rules(self, app_id: str) -> tuple[int, Sequence[StoredCategory]]:
        """All rules of the app and their version."""
        return await self._rules.rules(app_id)

    async def put(self, app_id: str, category: StoredCategory, *, at_version: int | None = None) -> int:
        """Add the category, which is well formed, or put it in the place of the one of its name; the new version.

        Raises RulesMoved when the rules are not `at_version`, and what the vendor raises.
        """
        async with self._changing():
            if self._vendor is not None:
                before = await self._expected(app_id, category.category, at_version)
                category = await self._vendor.push(app_id, before, category)
            return await self._rules.put(app_id, category, at_version=at_version)

    async def drop(self, app_id: str, category: str, *, at_version: int | None = None) -> bool:
        """Delete a category; False when there is none such. Raises as `put` does."""
        async with self._changing():
            if self._vendor is not None:
                before = await self._expected(app_id, category, at_version)
                if before is not None:
                    await self._vendor.forget(app_id, before)
            return await self._rules.remove(app_id, category, at_version=at_version)

    async def pull(self, app_id: str) -> list[str]:
        """Take over the vendor's rules; what of them cannot be read. Raises what the vendor does, and Unavailable."""
        assert self._vendor is not None, "there is no vendor"
        async with self._changing():
            theirs, unreadable = await self._vendor.listed(app_id)
            version, own = await self._rules.rules(app_id)
            now = merged(own, theirs)
            if now != list(own):
                await self._rules.replace_all(app_id, now, at_version=version)
        return unreadable

    # --- as the API has it ---

    async def page(self, app_id: str, query: RuleQuery) -> tuple[int, tuple[Rule, ...]]:
        """How many categories hold the text asked for in their name, and those of one page."""
        offset = (query.page_no - 1) * query.page_size
        total, found = await self._rules.page(app_id, query.category, offset, query.page_size)
        return total, tuple(
            # The API knows expressions only: what else a rule asks is to be seen where it was written.
            Rule(category=one.category, description=one.description, contents=tuple(map(expression_of, one.contents)))
            for one in found
        )

    async def add(self, app_id: str, rule: Rule) -> None:
        """Raises QualityFault when the category exists or a rule is not well formed."""
        category = _checked(rule)
        exists = QualityFault(ErrorCode.CATEGORY_EXISTS, f"category {rule.category!r}")
        async with self._changing(), _refusals_told():
            if self._vendor is not None:
                if await self._expected(app_id, rule.category) is not None:
                    raise exists
                category = await self._vendor.push(app_id, None, category)
            if not await self._rules.add(app_id, category):
                raise exists

    async def modify(self, app_id: str, rule: Rule) -> None:
        """Raises QualityFault when there is no such category or a rule is not well formed."""
        category = _checked(rule)
        unknown = QualityFault(ErrorCode.CATEGORY_UNKNOWN, f"category {rule.category!r}")
        async with self._changing(), _refusals_told():
            if self._vendor is not None:
                before = await self._expected(app_id, rule.category)
                if before is None:
                    raise unknown
                category = await self._vendor.push(app_id, before, category)
            if not await self._rules.modify(app_id, category):
                raise unknown

    async def remove(self, app_id: str, category: str) -> None:
        """Raises QualityFault when there is no such category."""
        async with _refusals_told():
            if not await self.drop(app_id, category):
                raise QualityFault(ErrorCode.CATEGORY_UNKNOWN, f"category {category!r}")

    # --- around them ---

    @asynccontextmanager
    async def _changing(self) -> AsyncIterator[None]:
        if self._vendor is None:  # a change is one transaction then
            yield
            return
        async with self._vendor.changing:
            yield

    async def _expected(self, app_id: str, category: str, at_version: int | None = None) -> StoredCategory | None:
        """The category as it is; looked at before the vendor is told of anything."""
        version, categories = await self._rules.rules(app_id)
        if at_version not in (None, version):
            raise RulesMoved(version)
        return next((one for one in categories if one.category == category), None)


@asynccontextmanager
async def _refusals_told() -> AsyncIterator[None]:
    try:
        yield
    except Rejected as fault:
        raise QualityFault(ErrorCode.PARAMETER_INVALID, f"the voice QC vendor refuses the change: {fault}") from fault


def _shown(content: str) -> str:
    """Enough of a rule to know it again: a rule may be a megabyte, and an answer must not be."""
    return content if len(content) <= MOST_SHOWN_CHARS else f"{content[:MOST_SHOWN_CHARS]}…"


def _checked(rule: Rule) -> StoredCategory:
    try:
        RuleSet.from_categories({rule.category: rule.contents}, version=0)
    except RuleSetError as fault:
        wrong = f"contents[{fault.index}] {_shown(rule.contents[fault.index])!r}, {fault.fault}"
        raise QualityFault(ErrorCode.RULE_UNREADABLE, wrong) from fault
    return StoredCategory(rule.category, rule.description, rule.contents)
