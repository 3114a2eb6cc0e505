"""Spent marks in the data folder's database: every process on the folder knows them, and so does the next one."""

from __future__ import annotations

import sqlite3

from gateway.ports import Clock, Unavailable
from gateway.stores.sqlite import Database

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS spent_marks (mark TEXT PRIMARY KEY, until_ms INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE INDEX IF NOT EXISTS spent_marks_until ON spent_marks (until_ms);"
)


class SqliteSpentMarks:
    """SpentMarks in SQLite. `database` must have been opened with this module's SCHEMA among its own.

    A disk that fails and a database that another process holds for too long are both Unavailable.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def spend(self, mark: str, until_ms: int) -> bool:
        now_ms = round(self._clock.wall() * 1000)

        def work(connection: sqlite3.Connection) -> bool:
            connection.execute("DELETE FROM spent_marks WHERE until_ms < ?", (now_ms,))
            added = connection.execute("INSERT OR IGNORE INTO spent_marks VALUES (?, ?)", (mark, until_ms))
            return added.rowcount == 1

        try:
            return await self._database.run(work)
        except sqlite3.OperationalError as fault:
            raise Unavailable(f"what was spent cannot be written down: {fault}") from fault

    async def is_spent(self, mark: str) -> bool:
        def work(connection: sqlite3.Connection) -> bool:
            return connection.execute("SELECT 1 FROM spent_marks WHERE mark = ?", (mark,)).fetchone() is not None

        try:
            return await self._database.run(work)
        except sqlite3.OperationalError as fault:
            raise Unavailable(f"what was spent cannot be read: {fault}") from fault
