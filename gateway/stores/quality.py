"""What voice QC keeps, in SQLite: its queue of recordings with their results."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Callable, Collection
from typing import TypeVar

import msgspec

from gateway.ports import Clock, PushState, QualityJob, QualityRecord, Unavailable, day_of
from gateway.stores import usage
from gateway.stores.sqlite import Database, add_column
from gateway.stores.usage import count_usage
from gateway.stores.zeros import behind_zeros, without_zeros

LEASE_S = 30.0
"""A worker that has not been heard of for this long has lost its job. Heartbeats come three times as often."""

_TABLES = """
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
    claim TEXT NOT NULL DEFAULT '',
    worker TEXT NOT NULL DEFAULT '',
    renewed_at REAL NOT NULL DEFAULT 0,
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


T = TypeVar("T")

WAITING, RUNNING = 0, 1
PUSH_STATES: dict[str | None, PushState] = {
    None: "none",
    "held": "waiting",
    "waiting": "waiting",
    "delivered": "delivered",
    "dead": "dead",
}
_CLAIM = """
UPDATE quality_tasks SET state = :running, attempts = attempts + 1, progress_percent = 0, claim = :claim,
    worker = :worker, renewed_at = :now
WHERE place = (SELECT place FROM quality_tasks WHERE state = {state} ORDER BY place LIMIT 1)
RETURNING ticket, app_id, session_id, audio_name, request, attempts, claim
"""
_CLAIM_LOST = _CLAIM.format(state=":running AND (renewed_at <= :now - :lease_s OR renewed_at > :now + 1)")
"""A claim renewed in the future is one of before the clock was set back: waiting for it could take for ever."""
_CLAIM_WAITING = _CLAIM.format(state=":waiting")


def SCHEMA(connection: sqlite3.Connection) -> None:  # noqa: N802 - stands beside scripts of this name
    """The tables, also in a database of an earlier version; those of usage, which grow with the results, too."""
    connection.executescript(_TABLES)
    add_column(connection, "quality_tasks", "claim", "TEXT NOT NULL DEFAULT ''")
    add_column(connection, "quality_tasks", "worker", "TEXT NOT NULL DEFAULT ''")
    add_column(connection, "quality_tasks", "renewed_at", "REAL NOT NULL DEFAULT 0")
    add_column(connection, "quality_tasks", "finished_at", "REAL")
    # What an earlier version finished counts as finished now.
    connection.execute(
        "UPDATE quality_tasks SET finished_at = unixepoch() WHERE finished_at IS NULL AND state NOT IN (0, 1)"
    )
    connection.executescript(usage.SCHEMA)


class SqliteQualityTasks:
    """`QualityTasks` for the processes of one machine: any of them may open the database file."""

    def __init__(self, database: Database, clock: Clock, *, lease_s: float = LEASE_S) -> None:
        """`database` must have been opened with this module's SCHEMA. `lease_s` is what we grant others."""
        self._database = database
        self._clock = clock
        self._lease_s = lease_s

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

    async def claim(self, worker: str) -> QualityJob | None:
        values = {
            "running": RUNNING,
            "waiting": WAITING,
            "claim": uuid.uuid4().hex,
            "worker": worker,
            "now": self._clock.wall(),
            "lease_s": self._lease_s,
        }

        def work(db: sqlite3.Connection) -> QualityJob | None:
            # Those that somebody lost were begun before any that waits.
            rows = db.execute(_CLAIM_LOST, values).fetchall() or db.execute(_CLAIM_WAITING, values).fetchall()
            return QualityJob(**rows[0]) if rows else None

        return await run(self._database, work)

    async def renew(self, job: QualityJob) -> bool:
        return await self._update("renewed_at = ?", (self._clock.wall(),), job)

    async def advance(self, job: QualityJob, progress_percent: int) -> bool:
        values = (progress_percent, self._clock.wall())
        return await self._update("progress_percent = ?, renewed_at = ?", values, job)

    async def release(self, job: QualityJob, *, counts: bool) -> None:
        await self._update("state = ?, claim = '', attempts = attempts - ?", (WAITING, 0 if counts else 1), job)

    async def finish(
        self, job: QualityJob, state: int, reason: str, result: bytes | None, *, billed_ms: int = 0
    ) -> bool:
        day = day_of(self._clock.wall())
        kept = None if result is None else behind_zeros(result)

        def work(db: sqlite3.Connection) -> bool:
            finished = db.execute(
                "UPDATE quality_tasks SET state = ?, reason = ?, result = ?, progress_percent = 100, claim = '',"
                " finished_at = ? WHERE ticket = ? AND claim = ? AND state = ?",
                (state, reason, kept, self._clock.wall(), job.ticket, job.claim, RUNNING),
            )
            if finished.rowcount != 1:
                return False
            # With the result, in one transaction: no crash can come between them.
            db.execute("UPDATE quality_pushes SET state = 'waiting' WHERE ticket = ? AND state = 'held'", (job.ticket,))
            if billed_ms:
                count_usage(db, job.app_id, day, "quality_ms", billed_ms)
            return True

        return await run(self._database, work)

    async def put_back(self, worker: str) -> int:
        statement = "UPDATE quality_tasks SET state = ?, claim = '' WHERE state = ? AND worker = ?"
        values = (WAITING, RUNNING, worker)
        return await run(self._database, lambda db: db.execute(statement, values).rowcount)

    async def find(self, app_id: str, session_id: str) -> QualityRecord | None:
        def work(db: sqlite3.Connection) -> QualityRecord | None:
            row = db.execute(
                "SELECT t.request, t.state, t.reason, t.progress_percent, t.result, p.state AS push"
                " FROM quality_tasks t LEFT JOIN quality_pushes p ON p.ticket = t.ticket"
                " WHERE t.app_id = ? AND t.session_id = ?",
                (app_id, session_id),
            ).fetchone()
            if row is None:
                return None
            result = None if row["result"] is None else without_zeros(row["result"])
            return QualityRecord(**{**row, "push": PUSH_STATES[row["push"]], "result": result})

        return await run(self._database, work)

    async def audio_in_use(self) -> frozenset[str]:
        return await run(
            self._database,
            lambda db: frozenset(
                row["audio_name"]
                for row in db.execute("SELECT audio_name FROM quality_tasks WHERE state IN (?, ?)", (WAITING, RUNNING))
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
        values = (WAITING, RUNNING, finished_before_s, msgspec.json.encode(sorted(but)).decode())
        return await run(self._database, lambda db: db.execute(statement, values).rowcount)

    async def _update(self, assignments: str, values: tuple[object, ...], job: QualityJob) -> bool:
        """Change a job under its claim; False when that is no longer good. `assignments` is a constant of this file."""
        statement = f"UPDATE quality_tasks SET {assignments} WHERE ticket = ? AND claim = ? AND state = ?"  # noqa: S608
        key = (job.ticket, job.claim, RUNNING)
        return await run(self._database, lambda db: db.execute(statement, (*values, *key)).rowcount == 1)


async def run(database: Database, work: Callable[[sqlite3.Connection], T]) -> T:
    """One transaction. A database that is locked, full or broken is Unavailable, not the caller's fault."""
    try:
        return await database.run(work)
    except sqlite3.OperationalError as fault:
        raise Unavailable(f"the database of voice QC does not answer: {fault}") from fault
