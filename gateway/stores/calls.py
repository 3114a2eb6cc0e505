"""The calls an app has made, with all that became of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec

from gateway.stores.sqlite import Database

CallState = Literal["live", "sealed", "judging", "judged", "failed"]

SCHEMA = """
CREATE TABLE IF NOT EXISTS calls (
    call_id TEXT PRIMARY KEY,
    app_id TEXT NOT NULL,
    state TEXT NOT NULL,
    began_at_ms INTEGER NOT NULL,
    document BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS calls_of_app ON calls (app_id, began_at_ms DESC, call_id DESC);
CREATE INDEX IF NOT EXISTS calls_unfinished ON calls (began_at_ms, call_id) WHERE state NOT IN ('judged', 'failed');
"""
"""Columns hold what is searched for; the document holds the whole record, because it is always read and written
whole, and its shape may grow without a migration: absent fields take their defaults."""


class CallRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Everything Earshot remembers of one call; times are wall-clock milliseconds, `samples` is per channel."""

    call_id: str
    app_id: str
    state: CallState
    began_at_ms: int
    rate_hz: int
    channels: int
    roles: tuple[str, ...] = ()
    language: str = "auto"
    ended_at_ms: int | None = None
    samples: int = 0
    reason: str = ""
    """Why it ended."""
    metadata: dict[str, Any] = {}
    gaps: tuple[dict[str, Any], ...] = ()
    """As the `gap` messages: channel, from_sample, to_sample, cause."""
    alerts: tuple[dict[str, Any], ...] = ()
    """As the `alert` messages, with the status that QC left them in."""
    transcript: tuple[dict[str, Any], ...] = ()
    """The final `transcript` messages."""
    qc_session_id: str = ""
    qc_state: int | None = None
    qc_result: dict[str, Any] = {}


class Calls:
    """Call records by app. A call of another app is as if it were not there."""

    def __init__(self, database: Database) -> None:
        """`database` must have been opened with this module's SCHEMA among its own."""
        self._database = database

    async def save(self, record: CallRecord) -> None:
        """Insert or replace the record. Raises ValueError when the call id belongs to another app."""
        await self._database.run(lambda connection: _save(connection, record))

    async def update(self, app_id: str, call_id: str, change: Callable[[CallRecord], CallRecord]) -> CallRecord | None:
        """Replace the record by `change(record)` in one transaction and return it; None when the app has no such call.

        `change` must keep both ids (ValueError) and must be quick: it runs on the database's thread.
        """

        def work(connection: sqlite3.Connection) -> CallRecord | None:
            record = _get(connection, app_id, call_id)
            if record is None:
                return None
            changed = change(record)
            if (changed.app_id, changed.call_id) != (app_id, call_id):
                raise ValueError("a call record keeps its app id and call id")
            _save(connection, changed)
            return changed

        return await self._database.run(work)

    async def get(self, app_id: str, call_id: str) -> CallRecord | None:
        return await self._database.run(lambda connection: _get(connection, app_id, call_id))

    async def list(self, app_id: str, *, limit: int = 50, before: str | None = None) -> Sequence[CallRecord]:
        """The app's calls, the newest first: the `limit` that began before call `before`, or the newest of all.

        Empty when `before` is no call of the app.
        """
        return await self._database.run(lambda connection: _list(connection, app_id, limit, before))

    async def unfinished(self) -> Sequence[CallRecord]:
        """The calls of all apps that still wait for something, the oldest first: for a process that starts."""
        return await self._database.run(
            lambda connection: [
                _decode(row)
                for row in connection.execute(
                    "SELECT document FROM calls WHERE state NOT IN ('judged', 'failed') ORDER BY began_at_ms, call_id"
                )
            ]
        )

    async def delete(self, app_id: str, call_id: str) -> bool:
        """Forget the record; False when the app has no such call. The recording is deleted apart from it."""
        return await self._database.run(
            lambda connection: (
                connection.execute("DELETE FROM calls WHERE call_id = ? AND app_id = ?", (call_id, app_id)).rowcount
                == 1
            )
        )


def _save(connection: sqlite3.Connection, record: CallRecord) -> None:
    saved = connection.execute(
        """INSERT INTO calls (call_id, app_id, state, began_at_ms, document) VALUES (?, ?, ?, ?, ?)
           ON CONFLICT (call_id) DO UPDATE
           SET state = excluded.state, began_at_ms = excluded.began_at_ms, document = excluded.document
           WHERE app_id = excluded.app_id""",
        (record.call_id, record.app_id, record.state, record.began_at_ms, msgspec.json.encode(record)),
    )
    if saved.rowcount != 1:
        raise ValueError(f"call id {record.call_id} is taken")


def _get(connection: sqlite3.Connection, app_id: str, call_id: str) -> CallRecord | None:
    row = connection.execute(
        "SELECT document FROM calls WHERE call_id = ? AND app_id = ?", (call_id, app_id)
    ).fetchone()
    return None if row is None else _decode(row)


def _list(connection: sqlite3.Connection, app_id: str, limit: int, before: str | None) -> list[CallRecord]:
    if before is None:
        rows = connection.execute(
            "SELECT document FROM calls WHERE app_id = ? ORDER BY began_at_ms DESC, call_id DESC LIMIT ?",
            (app_id, limit),
        )
    else:
        rows = connection.execute(
            """SELECT document FROM calls
               WHERE app_id = :app_id AND (began_at_ms, call_id) <
                   (SELECT began_at_ms, call_id FROM calls WHERE app_id = :app_id AND call_id = :before)
               ORDER BY began_at_ms DESC, call_id DESC LIMIT :limit""",
            {"app_id": app_id, "before": before, "limit": limit},
        )
    return [_decode(row) for row in rows]


def _decode(row: sqlite3.Row) -> CallRecord:
    return msgspec.json.decode(row["document"], type=CallRecord)
