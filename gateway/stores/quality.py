"""What voice QC keeps, in SQLite: its queue of recordings with their results, and the rules of each app."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from gateway.ports import PushState, QualityJob, QualityRecord, StoredCategory, Unavailable
from gateway.stores.sqlite import Database
from protocol.rules import Content

SCHEMA = """
CREATE TABLE IF NOT EXISTS quality_tasks (
    place INTEGER PRIMARY KEY AUTOINCREMENT,
    ticket TEXT NOT NULL UNIQUE,
    app_id TEXT NOT NULL,
    session_id TEXT NOT NULL,
    audio_name TEXT NOT NULL,
    request BLOB NOT NULL,
    state INTEGER NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT '',
    progress_percent INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    result BLOB,
    UNIQUE (app_id, session_id)
);
CREATE INDEX IF NOT EXISTS quality_tasks_waiting ON quality_tasks (state, place);
CREATE TABLE IF NOT EXISTS quality_pushes (
    ticket TEXT PRIMARY KEY REFERENCES quality_tasks (ticket) ON DELETE CASCADE,
    url TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'held',
    next_at REAL NOT NULL DEFAULT 0,
    failures INTEGER NOT NULL DEFAULT 0,
    failing_since REAL,
    last_error TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS quality_pushes_due ON quality_pushes (next_at) WHERE state = 'waiting';
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

T = TypeVar("T")

_WAITING, _RUNNING = 0, 1
_PUSH_STATES: dict[str | None, PushState] = {
    None: "none",
    "held": "waiting",
    "waiting": "waiting",
    "delivered": "delivered",
    "dead": "dead",
}


class SqliteQualityTasks:
    """`QualityTasks` for one working process: `requeue_running` takes every running job for an orphan."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def submit(self, job: QualityJob) -> str | None:
        def work(db: sqlite3.Connection) -> str | None:
            earlier = db.execute(
                "DELETE FROM quality_tasks WHERE app_id = ? AND session_id = ? RETURNING audio_name",
                (job.app_id, job.session_id),
            ).fetchall()
            db.execute(
                "INSERT INTO quality_tasks (ticket, app_id, session_id, audio_name, request) VALUES (?, ?, ?, ?, ?)",
                (job.ticket, job.app_id, job.session_id, job.audio_name, job.request),
            )
            if job.callback_url:
                db.execute("INSERT INTO quality_pushes (ticket, url) VALUES (?, ?)", (job.ticket, job.callback_url))
            return earlier[0]["audio_name"] if earlier else None

        return await run(self._database, work)

    async def claim(self) -> QualityJob | None:
        def work(db: sqlite3.Connection) -> QualityJob | None:
            rows = db.execute(
                "UPDATE quality_tasks SET state = ?, attempts = attempts + 1, progress_percent = 0 WHERE place ="
                " (SELECT place FROM quality_tasks WHERE state = ? ORDER BY place LIMIT 1)"
                " RETURNING ticket, app_id, session_id, audio_name, request, attempts",
                (_RUNNING, _WAITING),
            ).fetchall()
            return QualityJob(**rows[0]) if rows else None

        return await run(self._database, work)

    async def advance(self, ticket: str, progress_percent: int) -> bool:
        return await self._update("progress_percent = ?", (progress_percent,), ticket)

    async def release(self, ticket: str, *, counts: bool) -> None:
        await self._update("state = ?, attempts = attempts - ?", (_WAITING, 0 if counts else 1), ticket)

    async def finish(self, ticket: str, state: int, reason: str, result: bytes | None) -> bool:
        def work(db: sqlite3.Connection) -> bool:
            finished = db.execute(
                "UPDATE quality_tasks SET state = ?, reason = ?, result = ?, progress_percent = 100"
                " WHERE ticket = ? AND state = ?",
                (state, reason, result, ticket, _RUNNING),
            )
            # With the result, in one transaction: no crash can come between them.
            db.execute("UPDATE quality_pushes SET state = 'waiting' WHERE ticket = ? AND state = 'held'", (ticket,))
            return finished.rowcount == 1

        return await run(self._database, work)

    async def requeue_running(self) -> int:
        return await run(
            self._database,
            lambda db: db.execute("UPDATE quality_tasks SET state = ? WHERE state = ?", (_WAITING, _RUNNING)).rowcount,
        )

    async def find(self, app_id: str, session_id: str) -> QualityRecord | None:
        def work(db: sqlite3.Connection) -> QualityRecord | None:
            row = db.execute(
                "SELECT t.request, t.state, t.reason, t.progress_percent, t.result, p.state AS push"
                " FROM quality_tasks t LEFT JOIN quality_pushes p ON p.ticket = t.ticket"
                " WHERE t.app_id = ? AND t.session_id = ?",
                (app_id, session_id),
            ).fetchone()
            return QualityRecord(**{**row, "push": _PUSH_STATES[row["push"]]}) if row else None

        return await run(self._database, work)

    async def audio_in_use(self) -> frozenset[str]:
        return await run(
            self._database,
            lambda db: frozenset(
                row["audio_name"]
                for row in db.execute(
                    "SELECT audio_name FROM quality_tasks WHERE state IN (?, ?)", (_WAITING, _RUNNING)
                )
            ),
        )

    async def _update(self, assignments: str, values: tuple[object, ...], ticket: str) -> bool:
        """Change a running job; False when `ticket` names none. `assignments` is a constant of this file."""
        statement = f"UPDATE quality_tasks SET {assignments} WHERE ticket = ? AND state = ?"  # noqa: S608
        return await run(self._database, lambda db: db.execute(statement, (*values, ticket, _RUNNING)).rowcount == 1)


class SqliteQualityRules:
    """`QualityRules`, hence also `RuleSource`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def rules(self, app_id: str) -> tuple[int, Sequence[StoredCategory]]:
        def work(db: sqlite3.Connection) -> tuple[int, Sequence[StoredCategory]]:
            row = db.execute("SELECT version FROM quality_rule_versions WHERE app_id = ?", (app_id,)).fetchone()
            found = db.execute(
                "SELECT category, description, contents FROM quality_rules WHERE app_id = ? ORDER BY place", (app_id,)
            )
            return (row["version"] if row else 0), [_category(one) for one in found]

        return await run(self._database, work)

    async def add(self, app_id: str, category: StoredCategory) -> bool:
        return await self._change(
            app_id,
            "INSERT INTO quality_rules (app_id, category, description, contents) VALUES (?, ?, ?, ?)"
            " ON CONFLICT DO NOTHING",
            (app_id, category.category, category.description, msgspec.json.encode(category.contents)),
        )

    async def modify(self, app_id: str, category: StoredCategory) -> bool:
        return await self._change(
            app_id,
            "UPDATE quality_rules SET description = ?, contents = ? WHERE app_id = ? AND category = ?",
            (category.description, msgspec.json.encode(category.contents), app_id, category.category),
        )

    async def remove(self, app_id: str, category: str) -> bool:
        return await self._change(
            app_id, "DELETE FROM quality_rules WHERE app_id = ? AND category = ?", (app_id, category)
        )

    async def page(self, app_id: str, fragment: str, offset: int, limit: int) -> tuple[int, Sequence[StoredCategory]]:
        escaped = fragment.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
        matching = r"FROM quality_rules WHERE app_id = ? AND category LIKE ? ESCAPE '\'"
        key = (app_id, f"%{escaped}%")

        def work(db: sqlite3.Connection) -> tuple[int, Sequence[StoredCategory]]:
            (total,) = db.execute(f"SELECT count(*) {matching}", key).fetchone()
            rows = db.execute(
                f"SELECT category, description, contents {matching} ORDER BY place LIMIT ? OFFSET ?",
                (*key, limit, offset),
            )
            return total, [_category(row) for row in rows]

        return await run(self._database, work)

    async def _change(self, app_id: str, statement: str, values: tuple[object, ...]) -> bool:
        def work(db: sqlite3.Connection) -> bool:
            if db.execute(statement, values).rowcount != 1:
                return False
            db.execute(
                "INSERT INTO quality_rule_versions VALUES (?, 1) ON CONFLICT DO UPDATE SET version = version + 1",
                (app_id,),
            )
            return True

        return await run(self._database, work)


async def run(database: Database, work: Callable[[sqlite3.Connection], T]) -> T:
    """One transaction. A database that is locked, full or broken is Unavailable, not the caller's fault."""
    try:
        return await database.run(work)
    except sqlite3.OperationalError as fault:
        raise Unavailable(f"the database of voice QC does not answer: {fault}") from fault


def _category(row: sqlite3.Row) -> StoredCategory:
    contents = msgspec.json.decode(row["contents"], type=tuple[str | Content, ...])
    return StoredCategory(row["category"], row["description"], contents)
