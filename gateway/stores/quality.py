"""What voice QC keeps, in SQLite: its queue of recordings with their results."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection
from typing import TypeVar

import msgspec

from gateway.ports import PushState, QualityJob, QualityRecord, Unavailable
from gateway.stores.sqlite import Database, add_column

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
    finished_at REAL,
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
"""


def note_when_finished(connection: sqlite3.Connection) -> None:
    """Bring a table of an earlier version up to date: what was finished then counts as finished now."""
    add_column(connection, "quality_tasks", "finished_at", "REAL")
    connection.execute(
        "UPDATE quality_tasks SET finished_at = unixepoch() WHERE finished_at IS NULL AND state NOT IN (0, 1)"
    )


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
                "UPDATE quality_tasks SET state = ?, reason = ?, result = ?, progress_percent = 100,"
                " finished_at = unixepoch()"
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

    async def forget(self, app_id: str, session_id: str) -> str | None:
        def work(db: sqlite3.Connection) -> str | None:
            row = db.execute(
                "DELETE FROM quality_tasks WHERE app_id = ? AND session_id = ? RETURNING audio_name",
                (app_id, session_id),
            ).fetchall()
            return row[0]["audio_name"] if row else None

        return await run(self._database, work)

    async def sweep_before(self, finished_before_s: float, *, but: Collection[str] = ()) -> int:
        # As JSON: there may be more sessions than a statement may have parameters.
        statement = """
            DELETE FROM quality_tasks WHERE state NOT IN (?, ?) AND finished_at < ?
            AND session_id NOT IN (SELECT value FROM json_each(?))
            AND ticket NOT IN (SELECT ticket FROM quality_pushes WHERE state = 'waiting')
            """
        values = (_WAITING, _RUNNING, finished_before_s, msgspec.json.encode(sorted(but)).decode())
        return await run(self._database, lambda db: db.execute(statement, values).rowcount)

    async def _update(self, assignments: str, values: tuple[object, ...], ticket: str) -> bool:
        """Change a running job; False when `ticket` names none. `assignments` is a constant of this file."""
        statement = f"UPDATE quality_tasks SET {assignments} WHERE ticket = ? AND state = ?"  # noqa: S608
        return await run(self._database, lambda db: db.execute(statement, (*values, ticket, _RUNNING)).rowcount == 1)


async def run(database: Database, work: Callable[[sqlite3.Connection], T]) -> T:
    """One transaction. A database that is locked, full or broken is Unavailable, not the caller's fault."""
    try:
        return await database.run(work)
    except sqlite3.OperationalError as fault:
        raise Unavailable(f"the database of voice QC does not answer: {fault}") from fault
