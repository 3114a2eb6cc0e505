"""What every store of rules promises, in SQLite and in a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.ports import QualityRules, RulesMoved, StoredCategory, Unavailable
from gateway.stores.quality_rules import SCHEMA, SqliteQualityRules
from gateway.stores.redis_connection import RedisConnection
from gateway.stores.redis_quality_rules import RedisQualityRules
from gateway.stores.sqlite import Database
from protocol.rules import Content
from tests.redis_server import RedisServer

APP = "shop"
REFUND = StoredCategory("退款", "asks for money", ("退款&&!缺货", Content(expression="customer:lawyer")))
MEETING = StoredCategory("会议", "", ("会议||例会",), at_vendor=True)


@dataclass
class Stores:
    here: QualityRules
    there: QualityRules
    changes: list[str]
    redis: RedisServer | None = None
    node: Callable[[str], RedisQualityRules] | None = None
    """Another node of that name, with a copy of its own."""
    worker: RedisQualityRules | None = None


@pytest.fixture(params=["sqlite", "redis"])
async def stores(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stores]:
    changes: list[str] = []
    databases: list[Database] = []

    def sqlite(name: str) -> SqliteQualityRules:
        databases.append(Database(tmp_path / f"{name}.db", [SCHEMA]))
        return SqliteQualityRules(databases[-1], changed=lambda: changes.append(name))

    if request.param == "sqlite":
        yield Stores(sqlite("one"), sqlite("one"), changes)
    else:
        with RedisServer(tmp_path / "redis") as server:
            connection = RedisConnection(server.url)

            def node(name: str) -> RedisQualityRules:
                return RedisQualityRules(connection, own=sqlite(name), changed=lambda: changes.append(name))

            yield Stores(node("here"), node("there"), changes, server, node, RedisQualityRules(connection))
            await connection.close()
    for database in databases:
        database.close()


async def test_rules_keep_their_order_and_what_they_say(stores: Stores) -> None:
    assert await stores.here.rules(APP) == (0, []) or await stores.here.rules(APP) == (0, ())
    assert await stores.here.add(APP, REFUND)
    assert await stores.there.add(APP, MEETING)
    assert not await stores.here.add(APP, MEETING), "the app has it"
    version, found = await stores.here.rules(APP)
    assert (version, list(found)) == (2, [REFUND, MEETING])
    assert dict(await stores.there.versions([APP, "nobody"])) == {APP: 2}
    assert len(stores.changes) == 2
    changed = StoredCategory("退款", "another", ("退货",))
    assert await stores.there.modify(APP, changed)
    assert not await stores.there.modify(APP, StoredCategory("none", "", ("a",)))
    assert list((await stores.here.rules(APP))[1]) == [changed, MEETING]
    assert await stores.here.remove(APP, "退款")
    assert not await stores.here.remove(APP, "退款")
    version, found = await stores.there.rules(APP)
    assert (version, list(found)) == (4, [MEETING])
    assert (await stores.there.rules("another"))[0] == 0


async def test_a_change_at_a_version_that_has_passed_is_refused(stores: Stores) -> None:
    assert await stores.here.put(APP, REFUND, at_version=0) == 1
    for change in (
        stores.there.put(APP, MEETING, at_version=0),
        stores.there.remove(APP, "退款", at_version=0),
        stores.there.replace_all(APP, [], at_version=0),
    ):
        with pytest.raises(RulesMoved) as moved:
            await change
        assert moved.value.version == 1
    await stores.there.replace_all(APP, [MEETING, REFUND], at_version=1)
    version, found = await stores.here.rules(APP)
    assert (version, list(found)) == (2, [MEETING, REFUND])


async def test_a_page_is_searched_by_part_of_the_name(stores: Stores) -> None:
    for name in ("类别1", "类别2", "50%_off", "类别10", "Offer"):
        await stores.here.add(APP, StoredCategory(name, "", ("a",)))
    assert (await stores.there.page(APP, "", 0, 10))[0] == 5
    total, found = await stores.there.page(APP, "别1", 1, 5)
    assert (total, [one.category for one in found]) == (2, ["类别10"])
    assert (await stores.there.page(APP, "%_", 0, 5))[0] == 1
    assert (await stores.there.page(APP, "off", 0, 5))[0] == 2, "whatever the case"


async def test_changes_made_at_once_all_count(stores: Stores) -> None:
    both = (stores.here, stores.there)
    await asyncio.gather(*(both[n % 2].add(APP, StoredCategory(str(n), "", ("a",))) for n in range(8)))
    version, found = await stores.here.rules(APP)
    assert (version, {one.category for one in found}) == (8, set("01234567"))


async def test_rules_outlive_a_flush_and_a_redis_that_is_away(stores: Stores) -> None:
    if stores.redis is None or stores.worker is None or stores.node is None:
        pytest.skip("SQLite is no server")
    await stores.here.add(APP, REFUND)
    assert list((await stores.there.rules(APP))[1]) == [REFUND], "and now it has a copy"
    assert list((await stores.worker.rules(APP))[1]) == [REFUND]
    stores.redis.ask("FLUSHALL")
    with pytest.raises(Unavailable, match="no server has entered"):
        await stores.worker.rules(APP)  # no rules and unknown rules are not the same
    assert await stores.there.rules(APP) == (1, (REFUND,))
    assert list((await stores.worker.rules(APP))[1]) == [REFUND]
    await stores.there.add(APP, MEETING)
    await stores.here.rules(APP)
    stores.redis.kill()
    assert list((await stores.here.rules(APP))[1]) == [REFUND, MEETING]
    with pytest.raises(Unavailable):
        await stores.here.remove(APP, "退款")
    stores.redis.start()
    assert list((await stores.node("new").rules(APP))[1]) == [REFUND, MEETING]


async def test_a_flush_does_not_bring_back_rules_that_a_node_has_not_heard_were_changed(stores: Stores) -> None:
    if stores.redis is None:
        pytest.skip("SQLite is no server")
    await stores.here.add(APP, REFUND)
    await stores.there.rules(APP)
    await stores.here.add(APP, MEETING)
    stores.redis.ask("FLUSHALL")
    assert (await stores.there.rules(APP))[0] == 1, "it knows no better"
    assert (await stores.here.rules(APP))[0] == 2
    assert list((await stores.there.rules(APP))[1]) == [REFUND, MEETING]


async def test_an_app_without_rules_is_known_to_have_none(stores: Stores) -> None:
    if stores.node is None or stores.worker is None:
        pytest.skip("SQLite is no server")
    await stores.node("here").enter("bare")
    assert await stores.worker.rules("bare") == (0, ())
