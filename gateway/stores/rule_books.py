"""The rules that calls were judged by, kept once for each content."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection

from gateway.stores.sqlite import Database

SCHEMA = """
CREATE TABLE IF NOT EXISTS rule_books (
    digest TEXT PRIMARY KEY,
    book BLOB NOT NULL
);
"""


class SqliteRuleBooks:
    """Fills the role RuleBooks."""

    def __init__(self, database: Database) -> None:
        """`database` must have been opened with this module's SCHEMA among its own."""
        self._database = database

    async def keep(self, digest: str, book: bytes) -> None:
        await self._database.run(
            lambda one: one.execute("INSERT OR IGNORE INTO rule_books (digest, book) VALUES (?, ?)", (digest, book))
        )

    async def get(self, digest: str) -> bytes | None:
        def work(connection: sqlite3.Connection) -> bytes | None:
            row = connection.execute("SELECT book FROM rule_books WHERE digest = ?", (digest,)).fetchone()
            return None if row is None else bytes(row["book"])

        return await self._database.run(work)

    async def keep_only(self, digests: Collection[str]) -> int:
        slots = ",".join("?" * len(digests))
        sql = f"DELETE FROM rule_books WHERE digest NOT IN ({slots})"  # noqa: S608 - question marks only
        return await self._database.run(lambda one: one.execute(sql, tuple(digests)).rowcount)
