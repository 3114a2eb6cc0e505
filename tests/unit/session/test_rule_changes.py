"""Who is told of changed rules, and that one app's broken rules are nobody else's trouble."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from gateway.ports import StoredCategory, Unavailable
from gateway.session.rule_changes import RuleChanges
from gateway.session.rulesets import RuleSets, RulesInForce, RulesOfCall
from protocol.rules import RuleSet
from tests.integration.world import BooksInMemory


@dataclass
class Store:
    """Rules of each app; what it was asked is counted."""

    version: dict[str, int] = field(default_factory=dict)
    broken: frozenset[str] = frozenset()
    asked: list[str] = field(default_factory=list)

    async def versions(self, app_ids: Collection[str]) -> Mapping[str, int]:
        return {app_id: self.version[app_id] for app_id in app_ids if app_id in self.version}

    async def rules(self, app_id: str) -> tuple[int, Sequence[StoredCategory]]:
        self.asked.append(app_id)
        if app_id in self.broken:
            raise Unavailable("the database is locked")
        return self.version[app_id], [StoredCategory("c", "", ("refund",))]


@dataclass
class Session:
    app_id: str
    live: bool = True
    rules: RulesOfCall = field(
        default_factory=lambda: RulesOfCall(RulesInForce("old", 0, RuleSet([], pinyin=True)), pinyin=True)
    )
    told: list[int] = field(default_factory=list)

    def use_rules(self, in_force: RulesInForce) -> None:
        self.told.append(in_force.version)
        self.rules.change(in_force)
        self.rules.find(in_force.digest)


def watching(store: Store, *sessions: Session) -> RuleChanges:
    there: Any = sessions
    return RuleChanges(lambda: there, RuleSets(store, BooksInMemory()), store)


async def test_live_calls_that_are_behind_are_told_once_and_rules_are_read_only_for_them() -> None:
    store = Store({"a": 3})
    first, second, over, without = Session("a"), Session("a"), Session("a", live=False), Session("b")
    changes = watching(store, first, second, over, without)
    for _ in range(2):
        await changes.look()
    assert (first.told, second.told, over.told, without.told) == ([3], [3], [], [])
    assert store.asked == ["a"]
    store.version["a"] = 4
    await changes.look()
    assert (first.told, second.told) == ([3, 4], [3, 4])


async def test_the_broken_rules_of_one_app_keep_no_other_from_its_own() -> None:
    store = Store({"a": 1, "b": 1}, broken=frozenset({"a"}))
    unlucky, lucky = Session("a"), Session("b")
    changes = watching(store, unlucky, lucky)
    await changes.look()
    assert (unlucky.told, lucky.told) == ([], [1])
    store.broken = frozenset()
    await changes.look()
    assert unlucky.told == [1]


@pytest.mark.parametrize("steps", range(5))
async def test_a_stop_that_comes_together_with_a_change_is_a_stop(steps: int) -> None:
    changes = watching(Store())
    task = asyncio.create_task(changes.run())
    await asyncio.sleep(0)
    changes.changed()
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task], timeout=10)
    assert task.cancelled()
