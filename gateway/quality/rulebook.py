"""The rules of voice QC: listed, added, modified and deleted by an app, well formed or refused."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.ports import QualityRules, StoredCategory
from protocol.quality import ErrorCode, QualityFault, Rule, RuleQuery
from protocol.rules import RuleSet, RuleSetError
from protocol.rules.book import expression_of


class Rulebook:
    """Every change raises the version of the app's rules. Fills the role `RuleSource`."""

    def __init__(self, rules: QualityRules) -> None:
        self._rules = rules

    async def rules(self, app_id: str) -> tuple[int, Sequence[StoredCategory]]:
        """All rules of the app and their version."""
        return await self._rules.rules(app_id)

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
        if not await self._rules.add(app_id, _checked(rule)):
            raise QualityFault(ErrorCode.CATEGORY_EXISTS, f"category {rule.category!r}")

    async def modify(self, app_id: str, rule: Rule) -> None:
        """Raises QualityFault when there is no such category or a rule is not well formed."""
        if not await self._rules.modify(app_id, _checked(rule)):
            raise QualityFault(ErrorCode.CATEGORY_UNKNOWN, f"category {rule.category!r}")

    async def remove(self, app_id: str, category: str) -> None:
        """Raises QualityFault when there is no such category."""
        if not await self._rules.remove(app_id, category):
            raise QualityFault(ErrorCode.CATEGORY_UNKNOWN, f"category {category!r}")


def _checked(rule: Rule) -> StoredCategory:
    try:
        RuleSet.from_categories({rule.category: rule.contents}, version=0)
    except RuleSetError as fault:
        wrong = f"contents[{fault.index}] {rule.contents[fault.index]!r}, {fault.fault}"
        raise QualityFault(ErrorCode.RULE_UNREADABLE, wrong) from fault
    return StoredCategory(rule.category, rule.description, rule.contents)
