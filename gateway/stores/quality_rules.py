"""The quality rules of each app, in SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence

import msgspec

from gateway.ports import RulesMoved, StoredCategory
from gateway.stores.quality import run
from gateway.stores.sqlite import Database, add_column
from protocol.rules import Content

_TABLES = """
CREATE TABLE IF NOT EXISTS quality_rule_versions (
    app_id TEXT PRIMARY KEY,
    version INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS quality_rules (
    place INTEGER PRIMARY KEY AUTOINCREMENT,
    app_id TEXT NOT NULL,
    category TEXT NOT NULL,
    description TEXT NOT NULL,
    contents BLOB NOT NULL,
    UNIQUE (app_id, category)
);
"""
_INSERT = "INSERT INTO quality_rules (app_id, category, description, contents, at_vendor) VALUES (?, ?, ?, ?, ?)"
_COLUMNS = "category, description, contents, at_vendor"


def SCHEMA(connection: sqlite3.Connection) -> None:  # noqa: N802 - stands beside scripts of this name
    """The tables, also in a database of an earlier version."""
    connection.executescript(_TABLES)
    add_column(connection, "quality_rules", "at_vendor", "INTEGER NOT NULL DEFAULT 0")


class SqliteQualityRules:
    """`QualityRules`, hence also `RuleSource` and `RuleVersions`."""

    def __init__(self, database: Database, *, changed: Callable[[], None] = lambda: None) -> None:
        """`changed` is called after each change that is committed here."""
        self._database = database
        self._changed = changed

    async def versions(self, app_ids: Collection[str]) -> Mapping[str, int]:
        slots = ",".join("?" * len(app_ids))
        sql = f"SELECT app_id, version FROM quality_rule_versions WHERE app_id IN ({slots})"  # noqa: S608 - slots only

        def work(db: sqlite3.Connection) -> dict[str, int]:
            return {row["app_id"]: row["version"] for row in db.execute(sql, tuple(app_ids))}

        return await run(self._database, work)

    async def rules(self, app_id: str) -> tuple[int, Sequence[StoredCategory]]:
        def work(db: sqlite3.Connection) -> tuple[int, Sequence[StoredCategory]]:
            found = db.execute(f"SELECT {_COLUMNS} FROM quality_rules WHERE app_id = ? ORDER BY place", (app_id,))  # noqa: S608
            return _version(db, app_id), [_category(one) for one in found]

        return await run(self._database, work)

    async def add(self, app_id: str, category: StoredCategory) -> bool:
        return await self._change(app_id, f"{_INSERT} ON CONFLICT DO NOTHING", _values(app_id, category))

    async def modify(self, app_id: str, category: StoredCategory) -> bool:
        return await self._change(
            app_id,
            "UPDATE quality_rules SET description = ?, contents = ?, at_vendor = ? WHERE app_id = ? AND category = ?",
            (*_values(app_id, category)[2:], app_id, category.category),
        )

    async def put(self, app_id: str, category: StoredCategory, *, at_version: int | None = None) -> int:
        def work(db: sqlite3.Connection) -> int:
            _must_be(db, app_id, at_version)
            db.execute(
                f"{_INSERT} ON CONFLICT (app_id, category) DO UPDATE SET description = excluded.description,"
                " contents = excluded.contents, at_vendor = excluded.at_vendor",
                _values(app_id, category),
            )
            _raise_version(db, app_id)
            return _version(db, app_id)

        version = await run(self._database, work)
        self._changed()
        return version

    async def remove(self, app_id: str, category: str, *, at_version: int | None = None) -> bool:
        statement = "DELETE FROM quality_rules WHERE app_id = ? AND category = ?"
        return await self._change(app_id, statement, (app_id, category), at_version)

    async def replace_all(self, app_id: str, categories: Sequence[StoredCategory], *, at_version: int) -> None:
        def work(db: sqlite3.Connection) -> None:
            _must_be(db, app_id, at_version)
            db.execute("DELETE FROM quality_rules WHERE app_id = ?", (app_id,))
            db.executemany(_INSERT, [_values(app_id, one) for one in categories])
            _raise_version(db, app_id)

        await run(self._database, work)
        self._changed()

    async def page(self, app_id: str, fragment: str, offset: int, limit: int) -> tuple[int, Sequence[StoredCategory]]:
        escaped = fragment.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
        matching = r"FROM quality_rules WHERE app_id = ? AND category LIKE ? ESCAPE '\'"
        key = (app_id, f"%{escaped}%")

        def work(db: sqlite3.Connection) -> tuple[int, Sequence[StoredCategory]]:
            (total,) = db.execute(f"SELECT count(*) {matching}", key).fetchone()
            rows = db.execute(
                f"SELECT {_COLUMNS} {matching} ORDER BY place LIMIT ? OFFSET ?",
                (*key, limit, offset),
            )
            return total, [_category(row) for row in rows]

        return await run(self._database, work)

    async def mirror(self, app_id: str, version: int, categories: Sequence[StoredCategory]) -> None:
        """Have just these, at that version: what others hold, kept here too. Tells nobody of a change."""

        def work(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM quality_rules WHERE app_id = ?", (app_id,))
            db.executemany(_INSERT, [_values(app_id, one) for one in categories])
            db.execute("INSERT OR REPLACE INTO quality_rule_versions VALUES (?, ?)", (app_id, version))

        await run(self._database, work)

    async def _change(
        self, app_id: str, statement: str, values: tuple[object, ...], at_version: int | None = None
    ) -> bool:
        def work(db: sqlite3.Connection) -> bool:
            _must_be(db, app_id, at_version)
            if db.execute(statement, values).rowcount != 1:
                return False
            _raise_version(db, app_id)
            return True

        done = await run(self._database, work)
        if done:
            self._changed()
        return done


def _version(db: sqlite3.Connection, app_id: str) -> int:
    row = db.execute("SELECT version FROM quality_rule_versions WHERE app_id = ?", (app_id,)).fetchone()
    return row["version"] if row else 0


def _must_be(db: sqlite3.Connection, app_id: str, at_version: int | None) -> None:
    version = _version(db, app_id)
    if at_version not in (None, version):
        raise RulesMoved(version)


def _raise_version(db: sqlite3.Connection, app_id: str) -> None:
    db.execute(
        "INSERT INTO quality_rule_versions VALUES (?, 1) ON CONFLICT DO UPDATE SET version = version + 1", (app_id,)
    )


def _values(app_id: str, one: StoredCategory) -> tuple[object, ...]:
    return app_id, one.category, one.description, msgspec.json.encode(one.contents), int(one.at_vendor)


def _category(row: sqlite3.Row) -> StoredCategory:
    contents = msgspec.json.decode(row["contents"], type=tuple[str | Content, ...])
    return StoredCategory(row["category"], row["description"], contents, bool(row["at_vendor"]))
