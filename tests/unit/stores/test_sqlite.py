"""The database on a disk that is full."""

import errno
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.stores.sqlite import Database, DiskFailed

SCHEMA = "CREATE TABLE IF NOT EXISTS kept (value BLOB NOT NULL)"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    one = Database(tmp_path / "d.db", [SCHEMA])
    yield one
    one.close()


def keep(connection: sqlite3.Connection) -> None:
    connection.execute("INSERT INTO kept VALUES (zeroblob(200000))")


def rows(connection: sqlite3.Connection) -> int:
    count: int = connection.execute("SELECT count(*) FROM kept").fetchone()[0]
    return count


async def test_a_full_disk_is_an_error_of_the_system_and_of_sqlite_and_passes(database: Database) -> None:
    await database.run(keep)
    await database.run(lambda one: one.execute("PRAGMA max_page_count = 1").fetchone())
    with pytest.raises(DiskFailed) as full:
        await database.run(keep)
    assert full.value.errno == errno.ENOSPC
    assert isinstance(full.value, OSError)
    assert isinstance(full.value, sqlite3.OperationalError)
    await database.run(lambda one: one.execute("PRAGMA max_page_count = 1000000").fetchone())
    await database.run(keep)
    assert await database.run(rows) == 2


async def test_what_work_raises_is_raised_and_nothing_of_it_kept(database: Database) -> None:
    def half(connection: sqlite3.Connection) -> None:
        keep(connection)
        raise KeyError("changed my mind")

    with pytest.raises(KeyError):
        await database.run(half)
    assert await database.run(rows) == 0
