"""Passages in SQLite: a row for each recording with the prints of all its passages, and the list of what waits.

Half precision: it moves a score by less than 0.01 of 100, where eight bits would by 0.3, and takes 384 bytes for 192
dimensions. One row a recording rather than one a passage: a start reads a million passages in seconds, and a recording
is deleted with one row.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
import numpy as np

from gateway.ports import Unavailable
from gateway.ports.passages import Passages, PassageSource, PassageTask, SourceKind
from gateway.stores.sqlite import Database

T = TypeVar("T")

_TABLES = """
CREATE TABLE IF NOT EXISTS passage_sources (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    source_id TEXT NOT NULL UNIQUE,
    app_id TEXT NOT NULL,
    kind TEXT NOT NULL,  -- call | file
    name TEXT NOT NULL,
    recorded_at_ms INTEGER NOT NULL,
    duration_ms INTEGER NOT NULL,
    state TEXT NOT NULL,  -- waiting | indexed | failed
    passages INTEGER NOT NULL,
    reason TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS passage_files ON passage_sources (app_id, seq DESC) WHERE kind = 'file';
CREATE TABLE IF NOT EXISTS passage_prints (
    source_id TEXT PRIMARY KEY REFERENCES passage_sources (source_id) ON DELETE CASCADE,
    space TEXT NOT NULL,
    spans BLOB NOT NULL,   -- int32, little-endian: channel, begin ms, end ms; one passage after another
    vectors BLOB NOT NULL  -- float16, little-endian
);
CREATE TABLE IF NOT EXISTS passage_tasks (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    source_id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS passage_tasks_due ON passage_tasks (attempts, seq);
"""

_FOLLOW_CALLS = """
CREATE TRIGGER IF NOT EXISTS passages_of_new_call AFTER INSERT ON calls WHEN new.state <> 'live'
BEGIN
    INSERT INTO passage_tasks (source_id, kind) SELECT new.call_id, 'call'
        WHERE NOT EXISTS (SELECT 1 FROM passage_tasks WHERE source_id = new.call_id);
END;
CREATE TRIGGER IF NOT EXISTS passages_of_ended_call AFTER UPDATE OF state ON calls
    WHEN new.state <> 'live' AND NOT EXISTS
        (SELECT 1 FROM passage_sources WHERE source_id = new.call_id AND state = 'indexed')
BEGIN
    INSERT INTO passage_tasks (source_id, kind) SELECT new.call_id, 'call'
        WHERE NOT EXISTS (SELECT 1 FROM passage_tasks WHERE source_id = new.call_id);
END;
CREATE TRIGGER IF NOT EXISTS passages_of_deleted_call AFTER DELETE ON calls
BEGIN
    DELETE FROM passage_sources WHERE source_id = old.call_id;
    DELETE FROM passage_tasks WHERE source_id = old.call_id;
END;
"""
"""In the call's own transaction: no call is forgotten by a process that dies, and none is looked for in vain. One whose
recording was not there gets another chance whenever its record is saved again. (`OR IGNORE` would not do in a trigger:
SQLite puts the outer statement's way with conflicts in its place.)"""

_CALLS_SO_FAR = """
INSERT OR IGNORE INTO passage_tasks (source_id, kind)
    SELECT call_id, 'call' FROM calls WHERE state <> 'live' ORDER BY began_at_ms
"""


def SCHEMA(connection: sqlite3.Connection) -> None:  # noqa: N802 - stands beside scripts of this name
    """Make the tables; the first time, have the calls there are listened to. Comes behind the calls' own schema."""
    tables = {row["name"] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    connection.executescript(_TABLES)
    connection.executescript(_FOLLOW_CALLS)
    if "passage_tasks" not in tables:
        connection.execute(_CALLS_SO_FAR)


_COLUMNS = "source_id, app_id, kind, name, recorded_at_ms, duration_ms, state, passages, reason"


class SqlitePassages:
    """Fills the role PassageStore. Writes are durable when they return; `database` must have been given SCHEMA."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add_file(self, source: PassageSource) -> None:
        def work(connection: sqlite3.Connection) -> None:
            _put(connection, source)
            connection.execute("INSERT INTO passage_tasks (source_id, kind) VALUES (?, 'file')", (source.source_id,))

        await self._run(work)

    async def next_task(self, kinds: Collection[SourceKind]) -> PassageTask | None:
        def work(connection: sqlite3.Connection) -> PassageTask | None:
            row = connection.execute(
                """SELECT source_id, kind, attempts FROM passage_tasks WHERE kind IN (?, ?)
                   ORDER BY attempts, seq LIMIT 1""",
                ("file" if "file" in kinds else "", "call" if "call" in kinds else ""),
            ).fetchone()
            return None if row is None else PassageTask(**row)

        return await self._run(work)

    async def put_off(self, source_id: str) -> None:
        await self._run(
            lambda one: one.execute(
                "UPDATE passage_tasks SET attempts = attempts + 1 WHERE source_id = ?", (source_id,)
            )
        )

    async def settle(self, source: PassageSource, passages: Passages | None) -> bool:
        def work(connection: sqlite3.Connection) -> bool:
            # Whatever deletes a recording deletes its task too: what has none is not wanted any more.
            gone = connection.execute("DELETE FROM passage_tasks WHERE source_id = ?", (source.source_id,))
            if not gone.rowcount:
                return False
            _put(connection, source)
            connection.execute("DELETE FROM passage_prints WHERE source_id = ?", (source.source_id,))
            if passages is not None and len(passages.spans):
                spans, vectors = passages.spans.astype("<i4").tobytes(), passages.vectors.astype("<f2").tobytes()
                connection.execute(
                    "INSERT INTO passage_prints VALUES (?, ?, ?, ?)",
                    (source.source_id, passages.space, spans, vectors),
                )
            return True

        return await self._run(work)

    async def forget(self, app_id: str, source_id: str) -> bool:
        def work(connection: sqlite3.Connection) -> bool:
            gone = connection.execute(
                "DELETE FROM passage_sources WHERE source_id = ? AND app_id = ?", (source_id, app_id)
            )
            # A call that nobody has listened to yet has no source that says whose it is: its record does.
            connection.execute(
                """DELETE FROM passage_tasks WHERE source_id = :id AND
                       (:gone OR EXISTS (SELECT 1 FROM calls WHERE call_id = :id AND app_id = :app_id))""",
                {"id": source_id, "app_id": app_id, "gone": gone.rowcount},
            )
            return bool(gone.rowcount)

        gone = await self._run(work)
        if gone:
            await self._database.scrub()
        return gone

    async def sources(self, app_id: str, source_ids: Collection[str]) -> Mapping[str, PassageSource]:
        found = await self.left_behind(source_ids)
        return {source_id: source for source_id, source in found.items() if source.app_id == app_id}

    async def left_behind(self, source_ids: Collection[str]) -> Mapping[str, PassageSource]:
        def work(connection: sqlite3.Connection) -> dict[str, PassageSource]:
            asked = f"SELECT {_COLUMNS} FROM passage_sources WHERE source_id = ?"  # noqa: S608 - constants
            rows = [connection.execute(asked, (source_id,)).fetchone() for source_id in source_ids]
            return {row["source_id"]: PassageSource(**row) for row in rows if row is not None}

        return await self._run(work)

    async def files(self, app_id: str, *, limit: int, before: str | None = None) -> Sequence[PassageSource]:
        def work(connection: sqlite3.Connection) -> list[PassageSource]:
            rows = connection.execute(
                f"""SELECT {_COLUMNS} FROM passage_sources WHERE app_id = :app_id AND kind = 'file'
                        AND (:before IS NULL OR seq < (SELECT seq FROM passage_sources
                                                       WHERE source_id = :before AND app_id = :app_id))
                    ORDER BY seq DESC LIMIT :limit""",  # noqa: S608 - constants
                {"app_id": app_id, "before": before, "limit": limit},
            )
            return [PassageSource(**row) for row in rows]

        return await self._run(work)

    async def load(self, space: str, *, after: str = "", limit: int = 500) -> Sequence[tuple[PassageSource, Passages]]:
        def work(connection: sqlite3.Connection) -> list[tuple[PassageSource, Passages]]:
            rows = connection.execute(
                f"""SELECT {_COLUMNS}, spans, vectors FROM passage_prints JOIN passage_sources USING (source_id)
                    WHERE space = ? AND source_id > ? ORDER BY source_id LIMIT ?""",  # noqa: S608 - constants
                (space, after, limit),
            )
            return [_loaded(dict(row), space) for row in rows]

        return await self._run(work)

    async def other_spaces(self, spaces: Collection[str]) -> int:
        known = msgspec.json.encode(sorted(spaces)).decode()
        others = "SELECT count(*) FROM passage_prints WHERE space NOT IN (SELECT value FROM json_each(?))"
        count: int = await self._run(lambda one: one.execute(others, (known,)).fetchone()[0])
        return count

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return await self._database.run(work)
        except sqlite3.Error as fault:
            raise Unavailable(f"the database cannot be used: {fault}") from fault


def _put(connection: sqlite3.Connection, source: PassageSource) -> None:
    connection.execute(
        f"""INSERT INTO passage_sources ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
            ON CONFLICT (source_id) DO UPDATE SET duration_ms = excluded.duration_ms, state = excluded.state,
                passages = excluded.passages, reason = excluded.reason
            WHERE app_id = excluded.app_id""",  # noqa: S608 - constants
        (
            *(source.source_id, source.app_id, source.kind, source.name, source.recorded_at_ms, source.duration_ms),
            *(source.state, source.passages, source.reason),
        ),
    )


def _loaded(row: dict[str, Any], space: str) -> tuple[PassageSource, Passages]:
    spans = np.frombuffer(row.pop("spans"), "<i4").reshape(-1, 3)
    vectors = np.frombuffer(row.pop("vectors"), "<f2").reshape(len(spans), -1)
    return PassageSource(**row), Passages(space, spans, vectors)
