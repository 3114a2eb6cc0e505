"""What every memory of spent marks promises, in SQLite and in a real Redis."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, closing
from pathlib import Path

import pytest

from gateway.ports import Unavailable
from gateway.ports.spent import SpentMarks
from gateway.stores import sqlite
from gateway.stores.redis_connection import RedisConnection
from gateway.stores.redis_spent import RedisSpentMarks
from gateway.stores.spent import SCHEMA, SqliteSpentMarks
from gateway.stores.sqlite import Database
from tests.redis_server import RedisServer

Joining = Callable[[], SpentMarks]
"""The view of one more process."""


class Clock:
    def __init__(self) -> None:
        self.ahead_s = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead_s

    def wall(self) -> float:
        return time.time() + self.ahead_s


def in_s(seconds: float) -> int:
    return round((time.time() + seconds) * 1000)


@pytest.fixture(params=["sqlite", "redis"])
async def join(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Joining]:
    async with AsyncExitStack() as begun:
        if request.param == "redis":
            server = begun.enter_context(RedisServer(tmp_path))

            def through_redis() -> SpentMarks:
                connection = RedisConnection(server.url)
                begun.push_async_callback(connection.close)
                return RedisSpentMarks(connection, Clock())

            yield through_redis
        else:

            def on_the_folder() -> SpentMarks:
                database = Database(tmp_path / "earshot.db", [SCHEMA])
                begun.callback(database.close)
                return SqliteSpentMarks(database, Clock())

            yield on_the_folder


async def test_a_mark_is_spent_once_whoever_tries(join: Joining) -> None:
    one, other = join(), join()
    assert await one.spend("a", in_s(60))
    assert not await one.spend("a", in_s(60))
    assert not await other.spend("a", in_s(60))
    assert await other.spend("b", in_s(60))


async def test_of_many_who_spend_a_mark_together_one_has_it(join: Joining) -> None:
    processes = [join() for _ in range(4)]
    for round_ in range(10):
        spent = await asyncio.gather(*(one.spend(f"mark{round_}", in_s(60)) for one in processes * 3))
        assert sorted(spent) == [False] * 11 + [True]


async def test_whether_a_mark_was_spent_can_be_asked_without_spending_it(join: Joining) -> None:
    one, other = join(), join()
    assert not await other.is_spent("a")
    assert await one.spend("a", in_s(60))
    assert await other.is_spent("a")
    assert not await other.is_spent("b")


async def test_a_process_that_starts_later_knows_what_was_spent(join: Joining) -> None:
    assert await join().spend("a", in_s(60))
    assert not await join().spend("a", in_s(60))


async def test_sqlite_forgets_what_would_be_worthless_and_nothing_else(tmp_path: Path) -> None:
    database, clock = Database(tmp_path / "earshot.db", [SCHEMA]), Clock()
    marks = SqliteSpentMarks(database, clock)
    await marks.spend("short", in_s(10))
    await marks.spend("long", in_s(1000))
    clock.ahead_s = 100
    await marks.spend("new", in_s(1000))
    kept = await database.run(lambda connection: [row[0] for row in connection.execute("SELECT mark FROM spent_marks")])
    assert sorted(kept) == ["long", "new"]
    database.close()


async def test_while_another_process_holds_the_database_it_is_not_known_what_was_spent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_S", 0.05)
    database = Database(tmp_path / "earshot.db", [SCHEMA])
    marks = SqliteSpentMarks(database, Clock())
    with closing(sqlite3.connect(tmp_path / "earshot.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="locked"):
            await marks.spend("a", in_s(60))
        other.execute("ROLLBACK")
    assert await marks.spend("a", in_s(60))
    database.close()


async def test_redis_forgets_what_would_be_worthless(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server:
        connection = RedisConnection(server.url)
        marks = RedisSpentMarks(connection, Clock())
        await marks.spend("a", in_s(100))
        assert 0 < await connection.command("PTTL", "earshot:spent:a") <= 100_000
        server.kill()
        with pytest.raises(Unavailable):
            await marks.spend("b", in_s(100))
        await connection.close()
