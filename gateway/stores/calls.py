"""The calls an app has made, with all that became of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from gateway.ports import CallRecord
from gateway.stores.sqlite import Database
from gateway.stores.zeros import behind_zeros, without_zeros

SCHEMA = """
CREATE TABLE IF NOT EXISTS calls (
    call_id TEXT PRIMARY KEY,
    app_id TEXT NOT NULL,
    state TEXT NOT NULL,
    began_at_ms INTEGER NOT NULL,
    ended_at_ms INTEGER,
    document BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS calls_of_app ON calls (app_id, began_at_ms DESC, call_id DESC);
"""
"""Columns hold what is searched for; the document is read and written whole, and may grow without a migration."""


class CallRecords:
    """Fills the role CallStore. A call of another app is as if it were not there."""

    def __init__(self, database: Database, saved: Callable[[], None] = lambda: None) -> None:
        """`database` must have been opened with this module's SCHEMA among its own; `saved` hears of each change."""
        self._database = database
        self._saved = saved

    async def save(self, record: CallRecord) -> None:
        """Insert or replace the record. Raises ValueError when the call id belongs to another app."""
        # Encoded here, before anything is awaited: a live call's document goes on growing.
        document = msgspec.json.encode(record.document)
        await self._database.run(lambda connection: _save(connection, record, document))
        self._saved()

    async def get(self, app_id: str, call_id: str) -> CallRecord | None:
        def work(connection: sqlite3.Connection) -> CallRecord | None:
            row = connection.execute(
                "SELECT * FROM calls WHERE call_id = ? AND app_id = ?", (call_id, app_id)
            ).fetchone()
            return None if row is None else _record(row)

        return await self._database.run(work)

    async def left_behind(self, call_id: str) -> CallRecord | None:
        def work(connection: sqlite3.Connection) -> CallRecord | None:
            row = connection.execute("SELECT * FROM calls WHERE call_id = ?", (call_id,)).fetchone()
            return None if row is None else _record(row)

        return await self._database.run(work)

    async def page(self, app_id: str, *, limit: int, before: str | None = None) -> Sequence[CallRecord]:
        """The app's calls, the newest first: the `limit` that began before call `before`, or the newest of all.

        Empty when `before` is no call of the app.
        """
        # Decoded on the database's thread: a page of long calls is megabytes.
        return await self._database.run(lambda one: [_record(row) for row in _page(one, app_id, limit, before)])

    async def forget(self, app_id: str, call_id: str) -> bool:
        """Remove the call's record for good; False when the app has no such call."""
        return await self._database.run(
            lambda one: (
                one.execute("DELETE FROM calls WHERE call_id = ? AND app_id = ?", (call_id, app_id)).rowcount == 1
            )
        )

    async def judged_before(self, ended_before_ms: int, *, after: str = "", limit: int = 500) -> Sequence[OldCall]:
        """Calls of all apps that ended before then and that voice QC owes nothing any more, by call id from `after`.

        Needs the outbox's table beside its own.
        """

        def work(connection: sqlite3.Connection) -> list[OldCall]:
            rows = connection.execute(
                """SELECT app_id, call_id FROM calls
                   WHERE state IN ('judged', 'failed') AND COALESCE(ended_at_ms, began_at_ms) < ? AND call_id > ?
                       AND call_id NOT IN (SELECT call_id FROM outbox WHERE state IN ('pending', 'submitted'))
                   ORDER BY call_id LIMIT ?""",
                (ended_before_ms, after, limit),
            )
            return [OldCall(**row) for row in rows]

        return await self._database.run(work)

    async def expire(self, app_id: str, call_id: str) -> bool:
        """Remove the record of a call that was kept long enough; False when the app has no such call."""
        return await self.forget(app_id, call_id)

    async def sweep_shared(self, ended_before_ms: int) -> int:
        """Nobody else has a copy."""
        return 0

    async def unknown(self, call_ids: Sequence[str], ended_before_ms: int) -> Sequence[str]:
        """Those of `call_ids` that no app has a record of."""

        def work(connection: sqlite3.Connection) -> list[str]:
            known = "SELECT 1 FROM calls WHERE call_id = ?"
            return [one for one in call_ids if connection.execute(known, (one,)).fetchone() is None]

        return await self._database.run(work)


@dataclass(frozen=True, slots=True)
class OldCall:
    """A call, and whose it is."""

    app_id: str
    call_id: str


def _save(connection: sqlite3.Connection, record: CallRecord, document: bytes) -> None:
    saved = connection.execute(
        """INSERT INTO calls (call_id, app_id, state, began_at_ms, ended_at_ms, document) VALUES (?, ?, ?, ?, ?, ?)
           ON CONFLICT (call_id) DO UPDATE
           SET state = excluded.state, ended_at_ms = excluded.ended_at_ms, document = excluded.document
           WHERE app_id = excluded.app_id""",
        (record.call_id, record.app_id, record.state, record.began_at_ms, record.ended_at_ms, behind_zeros(document)),
    )
    if saved.rowcount != 1:
        raise ValueError(f"call id {record.call_id} is taken")


def _page(connection: sqlite3.Connection, app_id: str, limit: int, before: str | None) -> list[sqlite3.Row]:
    if before is None:
        return connection.execute(
            "SELECT * FROM calls WHERE app_id = ? ORDER BY began_at_ms DESC, call_id DESC LIMIT ?", (app_id, limit)
        ).fetchall()
    return connection.execute(
        """SELECT * FROM calls WHERE app_id = :app_id AND (began_at_ms, call_id) <
               (SELECT began_at_ms, call_id FROM calls WHERE app_id = :app_id AND call_id = :before)
           ORDER BY began_at_ms DESC, call_id DESC LIMIT :limit""",
        {"app_id": app_id, "before": before, "limit": limit},
    ).fetchall()


def _record(row: sqlite3.Row) -> CallRecord:
    fields = dict(row)
    fields["document"] = msgspec.json.decode(without_zeros(row["document"]))
    return CallRecord(**fields)
