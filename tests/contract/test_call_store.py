"""What every store of calls promises, in SQLite, in Redis, and over both; and what nodes that share calls promise."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from gateway.ports import CallRecord, CallStore, Unavailable
from gateway.stores import call_versions, calls, erasure, outbox
from gateway.stores.call_versions import CallVersions
from gateway.stores.calls import CallRecords
from gateway.stores.redis_calls import RedisCalls
from gateway.stores.redis_connection import RedisConnection
from gateway.stores.shared_calls import SharedCalls
from gateway.stores.sqlite import Database
from tests.redis_server import RedisServer

SCHEMAS = (calls.SCHEMA, outbox.SCHEMA, erasure.SCHEMA, call_versions.SCHEMA)
DAY_MS = 86_400_000


class WallClock:
    def monotonic(self) -> float:
        return 0.0

    def wall(self) -> float:
        return 0.0


def record(call_id: str, app_id: str = "ours", began_at_ms: int = 1000) -> CallRecord:
    return CallRecord(call_id, app_id, "live", began_at_ms, None, {"call_id": call_id, "alerts": []})


def judged(call_id: str, ended_at_ms: int = 2000, **document: object) -> CallRecord:
    return replace(record(call_id), state="judged", ended_at_ms=ended_at_ms, document={"call_id": call_id, **document})


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
async def connection(redis: RedisServer) -> AsyncIterator[RedisConnection]:
    redis.ask("FLUSHALL")
    connection = RedisConnection(redis.url, timeout_s=0.5)
    yield connection
    await connection.close()


@dataclass
class Node:
    """One node's part, without the rest of a server."""

    name: str
    database: Database
    own: CallRecords
    shared: SharedCalls
    versions: CallVersions
    in_memory: set[str]
    """Calls that cannot be erased yet."""

    async def erase(self, app_id: str, call_id: str) -> bool:
        if call_id in self.in_memory:
            return False
        await self.delete(app_id, call_id)
        return True

    async def delete(self, app_id: str, call_id: str) -> None:
        """As the eraser does, as far as records go."""
        await self.shared.forget(app_id, call_id)
        values = (app_id, "call", call_id)
        await self.database.run(
            lambda one: one.execute("INSERT INTO erasures VALUES (1e12, ?, ?, ?, 'request')", values)
        )

    async def step(self) -> None:
        await self.shared.keep_in_step(self.erase)


def node(folder: Path, name: str, connection: RedisConnection) -> Node:
    database = Database(folder / f"{name}.db", SCHEMAS)
    own, versions = CallRecords(database), CallVersions(database)
    shared = SharedCalls(own, versions, RedisCalls(connection, name), name, WallClock())
    return Node(name, database, own, shared, versions, set())


@pytest.fixture
def a(tmp_path: Path, connection: RedisConnection) -> Iterator[Node]:
    one = node(tmp_path, "a", connection)
    yield one
    one.database.close()


@pytest.fixture
def b(tmp_path: Path, connection: RedisConnection) -> Iterator[Node]:
    one = node(tmp_path, "b", connection)
    yield one
    one.database.close()


@pytest.fixture(params=["sqlite", "redis", "shared", "shared and told"])
def store(request: pytest.FixtureRequest, a: Node, connection: RedisConnection) -> Iterator[CallStore]:
    if request.param == "sqlite":
        yield a.own
    elif request.param == "redis":
        yield RedisCalls(connection, "a")
    elif request.param == "shared":
        yield a.shared
    else:
        yield Told(a)


class Told:
    """A node whose every change the others know at once."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def save(self, record: CallRecord) -> None:
        await self._node.shared.save(record)
        await self._node.step()

    async def get(self, app_id: str, call_id: str) -> CallRecord | None:
        return await self._node.shared.get(app_id, call_id)

    async def left_behind(self, call_id: str) -> CallRecord | None:
        return await self._node.shared.left_behind(call_id)

    async def page(self, app_id: str, *, limit: int, before: str | None = None) -> Sequence[CallRecord]:
        return await self._node.shared.page(app_id, limit=limit, before=before)

    async def forget(self, app_id: str, call_id: str) -> bool:
        return await self._node.shared.forget(app_id, call_id)


# --- every store -------------------------------------------------------------------------------------------------


async def test_a_record_comes_back_as_it_was_saved_last(store: CallStore) -> None:
    await store.save(record("c1"))
    saved = judged("c1", metadata={"队列": 3}, gaps=[1])
    await store.save(saved)
    assert await store.get("ours", "c1") == saved
    again = judged("c1", metadata={"队列": 4})
    await store.save(again)
    assert await store.get("ours", "c1") == again


async def test_a_call_of_another_app_is_as_if_absent_on_every_way_in(store: CallStore) -> None:
    await store.save(record("c1", "theirs"))
    assert await store.get("ours", "c1") is None
    assert await store.page("ours", limit=10) == []
    assert await store.page("ours", limit=10, before="c1") == []
    assert not await store.forget("ours", "c1")  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="taken"):
        await store.save(record("c1", "ours"))
    assert await store.get("theirs", "c1") == record("c1", "theirs")


async def test_pages_of_calls_join_without_loss_even_when_calls_began_together(store: CallStore) -> None:
    for number in range(7):
        await store.save(record(f"c{number}", began_at_ms=1000 + number // 3))
    everything = [one.call_id for one in await store.page("ours", limit=100)]
    paged: list[str] = []
    while page := await store.page("ours", limit=2, before=paged[-1] if paged else None):
        paged += [one.call_id for one in page]
    assert paged == everything == ["c6", "c5", "c4", "c3", "c2", "c1", "c0"]


async def test_a_call_that_a_process_left_is_found_whosever_it_is(store: CallStore) -> None:
    await store.save(record("c1", "theirs"))
    assert await store.left_behind("c1") == record("c1", "theirs")
    assert await store.left_behind("c2") is None


async def test_a_deleted_call_is_in_no_answer(store: CallStore) -> None:
    await store.save(record("c1"))
    await store.save(record("c2"))
    assert await store.forget("ours", "c1")  # type: ignore[attr-defined]
    assert await store.get("ours", "c1") is None
    assert [one.call_id for one in await store.page("ours", limit=9)] == ["c2"]
    assert not await store.forget("ours", "c1")  # type: ignore[attr-defined]


# --- nodes -------------------------------------------------------------------------------------------------------


async def test_what_one_node_has_finished_every_node_answers_for(a: Node, b: Node) -> None:
    await a.shared.save(record("c1", began_at_ms=1))
    await b.shared.save(record("c2", began_at_ms=2))
    await a.shared.save(judged("c1", alerts=[1]))
    await a.step()
    await b.step()
    for one in (a, b):
        assert await one.shared.get("ours", "c1") == replace(judged("c1", alerts=[1]), began_at_ms=1)
        assert [found.call_id for found in await one.shared.page("ours", limit=9)] == ["c2", "c1"]
    assert (await a.shared.elsewhere("ours", "c2"), await a.shared.elsewhere("ours", "c1")) == ("b", "")
    assert await b.own.get("ours", "c1") is None


async def test_of_two_nodes_that_knew_a_call_the_one_that_finished_it_is_right(a: Node, b: Node) -> None:
    await a.shared.save(record("c1"))
    await b.shared.save(replace(judged("c1"), state="judging"))
    await b.step()
    await a.step()  # it tells how the call was when it lost it, which is too late
    assert (await a.shared.get("ours", "c1") or record("?")).state == "judging"
    await b.shared.save(judged("c1"))
    await b.step()
    assert await b.shared.give_up("ours", "c1") == "ours", "the truth is not given up"
    assert await b.own.get("ours", "c1") == judged("c1")
    assert await a.shared.give_up("ours", "c1") == "gone"
    assert await a.own.get("ours", "c1") is None, "what it knew is of no use any more"
    assert (await a.shared.get("ours", "c1") or record("?")).state == "judged"


async def test_a_part_is_not_given_up_before_the_other_node_has_told_of_the_call(a: Node, b: Node) -> None:
    await a.shared.save(record("c1"))
    await a.step()
    assert await a.shared.give_up("ours", "c1") == "untold"
    assert await a.own.get("ours", "c1") == record("c1")
    assert await b.shared.get("ours", "c1") == record("c1")


async def test_what_was_finished_while_redis_was_away_is_there_when_it_is_back(
    a: Node, b: Node, redis: RedisServer
) -> None:
    await a.shared.save(judged("c0"))
    await a.step()
    redis.freeze()
    try:
        await a.shared.save(judged("c1"))
        with pytest.raises(Unavailable):
            await a.step()
        assert await a.shared.get("ours", "c1") == judged("c1"), "a node's own calls are found"
        assert [one.call_id for one in await a.shared.page("ours", limit=9)] == ["c1", "c0"]
        assert a.shared.fault
        with pytest.raises(Unavailable):
            await b.shared.get("ours", "c1")
        assert await b.shared.page("ours", limit=9) == []
        with pytest.raises(Unavailable):
            await a.shared.forget("ours", "c1")
        assert await a.own.get("ours", "c1"), "a deletion that cannot reach everybody deletes nothing"
    finally:
        redis.thaw()
    await a.step()
    assert await b.shared.get("ours", "c1") == judged("c1")
    assert [one.call_id for one in await b.shared.page("ours", limit=9)] == ["c1", "c0"]
    assert not b.shared.fault


@pytest.mark.parametrize("flush", ["FLUSHALL", "restart without a file"])
async def test_after_a_flush_every_node_tells_of_its_calls_again_and_nothing_deleted_comes_back(
    a: Node, b: Node, tmp_path: Path, connection: RedisConnection, flush: str
) -> None:
    for number in range(3):
        await a.shared.save(judged(f"a{number}"))
        await b.shared.save(judged(f"b{number}"))
    await a.step()
    await b.step()
    await b.delete("ours", "a1")  # and then node a is away for a while
    await connection.command("FLUSHALL")
    if flush != "FLUSHALL":
        a.shared._memory = "another process: a word"
    await a.step()  # it does not know of the deletion, and tells of its call
    await b.step()
    assert await a.shared.get("ours", "a1") is None
    await a.step()
    assert await a.own.get("ours", "a1") is None
    for one in (a, b):
        assert [found.call_id for found in await one.shared.page("ours", limit=9)] == ["b2", "b1", "b0", "a2", "a0"]


async def test_what_redis_lost_with_its_last_second_is_sent_again(
    a: Node, b: Node, connection: RedisConnection
) -> None:
    await a.shared.save(record("c1"))
    await a.step()
    await a.shared.save(judged("c1"))
    await a.step()
    # As from an append-only file that lacks the last write: an older copy, under another process.
    await RedisCalls(connection, "a").save(record("c1"))
    await connection.command("HSET", "earshot:record:c1", "rank", 0, "stamp", 5)
    a.shared._memory = "the process before: the same word"
    await a.step()
    assert await b.shared.get("ours", "c1") == judged("c1")


async def test_a_call_deleted_at_one_node_is_erased_at_the_node_that_has_it(a: Node, b: Node) -> None:
    await a.shared.save(judged("c1"))
    await a.step()
    await b.delete("ours", "c1")
    assert await a.shared.get("ours", "c1") is None, "at once"
    await a.step()
    assert await a.own.get("ours", "c1") is None
    assert [one.call_id for _, one in await a.versions.deleted(0, 0, 9)] == ["c1"], "every node remembers"


async def test_a_call_that_is_saved_after_it_was_deleted_goes_when_it_is_no_longer_in_memory(a: Node, b: Node) -> None:
    await a.shared.save(record("c1"))
    await a.step()
    a.in_memory.add("c1")
    await b.delete("ours", "c1")
    await a.shared.save(judged("c1"))
    await a.step()
    assert await a.own.get("ours", "c1") is not None
    assert await b.shared.get("ours", "c1") is None
    a.in_memory.clear()
    await a.step()
    assert await a.own.get("ours", "c1") is None
    assert await a.versions.unsent(9) == []


async def test_copies_go_by_age_with_what_nobody_has_told_of_since(a: Node, b: Node) -> None:
    await a.shared.save(judged("old", ended_at_ms=DAY_MS))
    await a.shared.save(judged("new", ended_at_ms=3 * DAY_MS))
    await a.shared.save(record("live", began_at_ms=5))
    await a.step()
    assert sorted(await b.shared.unknown(["old", "new", "live", "nobody's"], 2 * DAY_MS)) == ["nobody's", "old"]
    assert await b.shared.sweep_shared(2 * DAY_MS) == 1
    assert await b.shared.get("ours", "old") is None
    assert [one.call_id for one in await b.shared.page("ours", limit=9)] == ["new", "live"]
    assert await b.shared.sweep_shared(2 * DAY_MS) == 0


async def test_a_node_that_joins_tells_of_the_calls_it_made_alone(
    tmp_path: Path, b: Node, connection: RedisConnection
) -> None:
    alone = Database(tmp_path / "a.db", (calls.SCHEMA, outbox.SCHEMA, erasure.SCHEMA))
    await CallRecords(alone).save(judged("c1"))
    alone.close()
    joined = node(tmp_path, "a", connection)
    await joined.step()
    joined.database.close()
    assert await b.shared.get("ours", "c1") == judged("c1")


async def test_many_calls_are_all_told_of(a: Node, b: Node) -> None:
    await asyncio.gather(*(a.shared.save(judged(f"c{number:03d}", said="x" * 2000)) for number in range(120)))
    await a.step()
    assert len(await b.shared.page("ours", limit=200)) == 120
    assert await a.versions.unsent(9) == []


async def test_a_document_takes_a_fraction_of_its_size(a: Node, connection: RedisConnection) -> None:
    await a.shared.save(judged("c1", segments=[{"text": "How can I help you?", "number": one} for one in range(500)]))
    await a.step()
    assert int(await connection.command("HSTRLEN", "earshot:record:c1", "document")) < 5_000
