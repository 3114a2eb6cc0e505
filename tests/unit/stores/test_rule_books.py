"""Rules are kept once for each content, and found by it in a later process."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.ports import StoredCategory
from gateway.session.rulesets import RuleSets
from gateway.stores import rule_books
from gateway.stores.rule_books import SqliteRuleBooks
from gateway.stores.sqlite import Database


@dataclass
class ChangingRules:
    version: int = 1
    contents: tuple[str, ...] = ("refund", "manager||boss")

    async def rules(self, app_id: str) -> tuple[int, Sequence[StoredCategory]]:
        return self.version, [StoredCategory("Money", "", self.contents)]


async def test_the_rules_of_a_digest_are_found_after_they_have_changed(tmp_path: Path) -> None:
    source = ChangingRules()
    database = Database(tmp_path / "earshot.db", [rule_books.SCHEMA])
    sets = RuleSets(source, SqliteRuleBooks(database))
    first = await sets.of_app("demo", pinyin=True)
    assert await sets.of_app("demo", pinyin=True) is first
    source.version, source.contents = 2, ("sorry",)
    second = await sets.of_app("demo", pinyin=True)
    assert second.digest != first.digest
    assert (await RuleSets(source, SqliteRuleBooks(database)).of_digest("none", pinyin=True)) is None
    database.close()

    database = Database(tmp_path / "earshot.db", [rule_books.SCHEMA])
    later = RuleSets(source, SqliteRuleBooks(database))
    found = await later.of_digest(first.digest, pinyin=True)
    assert found is not None
    assert found.rules.rules == first.rules.rules
    assert await later.keep_only({first.digest}) == 1
    assert await later.of_digest(second.digest, pinyin=True) is None
    again = await later.of_app("demo", pinyin=True)
    assert await later.keep_only(set()) == 1
    assert again.digest == second.digest
    assert await later.of_digest(second.digest, pinyin=True) is not None
    database.close()
