"""Which of a node's calls the others have not been told of yet: kept beside the calls, in their own transactions."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from gateway.ports import CallState
from gateway.stores.sqlite import Database
from gateway.stores.zeros import without_zeros

RANK: dict[str, int] = {"live": 0, "judging": 1, "failed": 2, "judged": 3}
"""A call goes through its states in this order, on whatever nodes; a verdict may come for one that was given up."""

_NOW_MS = "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"

_TABLES = """
CREATE TABLE IF NOT EXISTS call_versions (
    call_id TEXT PRIMARY KEY,
    saved_at_ms INTEGER NOT NULL,   -- wall clock; of two versions of a call in one state, the later one counts
    unsent INTEGER NOT NULL         -- 1: the other nodes may not have it
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS unsent_calls ON call_versions (call_id) WHERE unsent;
"""

_FOLLOW_CALLS = f"""
CREATE TRIGGER IF NOT EXISTS version_of_new_call AFTER INSERT ON calls
BEGIN
    INSERT INTO call_versions VALUES (new.call_id, {_NOW_MS}, 1);
END;
CREATE TRIGGER IF NOT EXISTS version_of_changed_call AFTER UPDATE ON calls
BEGIN
    UPDATE call_versions SET saved_at_ms = max(saved_at_ms + 1, {_NOW_MS}), unsent = 1 WHERE call_id = new.call_id;
END;
CREATE TRIGGER IF NOT EXISTS version_of_deleted_call AFTER DELETE ON calls
BEGIN
    DELETE FROM call_versions WHERE call_id = old.call_id;
END;
"""  # noqa: S608 - constants

_CALLS_SO_FAR = """
INSERT OR IGNORE INTO call_versions SELECT call_id, COALESCE(ended_at_ms, began_at_ms), 1 FROM calls
"""


def SCHEMA(connection: sqlite3.Connection) -> None:  # noqa: N802 - stands beside scripts of this name
    """Make the table; the first time, enter the calls there are. Comes behind the calls' own schema."""
    tables = {row["name"] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    connection.executescript(_TABLES)
    connection.executescript(_FOLLOW_CALLS)
    if "call_versions" not in tables:
        connection.execute(_CALLS_SO_FAR)


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """Which of several copies of a call is the newer one: the greater."""

    rank: int
    saved_at_ms: int


@dataclass(frozen=True, slots=True)
class PackedCall:
    """A call as it travels between nodes."""

    call_id: str
    app_id: str
    state: CallState
    began_at_ms: int
    ended_at_ms: int | None
    document: bytes
    """JSON, compressed by zlib."""
    version: Version


@dataclass(frozen=True, slots=True)
class DeletedCall:
    app_id: str
    call_id: str


class CallVersions:
    """What a node's database says of its own calls, for who tells the others."""

    def __init__(self, database: Database) -> None:
        """`database` must have been opened with the calls', the erasures' and this module's SCHEMA."""
        self._database = database

    async def unsent(self, limit: int) -> Sequence[PackedCall]:
        """Calls that the other nodes may not have as they are now."""

        def work(connection: sqlite3.Connection) -> list[PackedCall]:
            rows = connection.execute(
                """SELECT calls.*, saved_at_ms FROM call_versions JOIN calls USING (call_id)
                   WHERE unsent ORDER BY call_id LIMIT ?""",
                (limit,),
            )
            return [_packed(row) for row in rows]

        return await self._database.run(work)

    async def unsent_before(self, app_id: str, limit: int, before: tuple[int, str] | None) -> Sequence[str]:
        """Those of an app that come first, latest first, before one that began then (ms) and has this id."""

        def work(connection: sqlite3.Connection) -> list[str]:
            rows = connection.execute(
                """SELECT call_id FROM call_versions JOIN calls USING (call_id)
                   WHERE unsent AND app_id = ? AND (? OR (began_at_ms, call_id) < (?, ?))
                   ORDER BY began_at_ms DESC, call_id DESC LIMIT ?""",
                (app_id, before is None, *(before or (0, "")), limit),
            )
            return [row["call_id"] for row in rows]

        return await self._database.run(work)

    async def note_sent(self, sent: Sequence[PackedCall]) -> None:
        """The others have these; what was saved since is still to be sent."""
        marks = [(one.call_id, one.version.saved_at_ms) for one in sent]
        await self._database.run(
            lambda connection: connection.executemany(
                "UPDATE call_versions SET unsent = 0 WHERE call_id = ? AND saved_at_ms = ?", marks
            )
        )

    async def send_again(self, call_ids: Collection[str]) -> None:
        """The others have lost these."""
        ids = [(one,) for one in call_ids]
        await self._database.run(
            lambda connection: connection.executemany("UPDATE call_versions SET unsent = 1 WHERE call_id = ?", ids)
        )

    async def page(self, after: str, limit: int) -> Sequence[tuple[str, Version]]:
        """Every call of this node and its version, by call id."""

        def work(connection: sqlite3.Connection) -> list[tuple[str, Version]]:
            rows = connection.execute(
                """SELECT call_id, state, saved_at_ms FROM call_versions JOIN calls USING (call_id)
                   WHERE call_id > ? ORDER BY call_id LIMIT ?""",
                (after, limit),
            )
            return [(row["call_id"], Version(RANK[row["state"]], row["saved_at_ms"])) for row in rows]

        return await self._database.run(work)

    async def version(self, app_id: str, call_id: str) -> Version | None:
        """That of this node's copy of a call, None when it has none."""

        def work(connection: sqlite3.Connection) -> Version | None:
            row = connection.execute(
                "SELECT state, saved_at_ms FROM call_versions JOIN calls USING (call_id) "
                "WHERE call_id = ? AND app_id = ?",
                (call_id, app_id),
            ).fetchone()
            return None if row is None else Version(RANK[row["state"]], row["saved_at_ms"])

        return await self._database.run(work)

    async def deleted(self, since_s: float, after: int, limit: int) -> Sequence[tuple[int, DeletedCall]]:
        """Calls that somebody deleted by hand here since then (wall clock, s), with numbers to page on by."""

        def work(connection: sqlite3.Connection) -> list[tuple[int, DeletedCall]]:
            rows = connection.execute(
                """SELECT rowid, app_id, id FROM erasures
                   WHERE what = 'call' AND cause = 'request' AND erased_at > ? AND rowid > ? ORDER BY rowid LIMIT ?""",
                (since_s, after, limit),
            )
            return [(row["rowid"], DeletedCall(row["app_id"], row["id"])) for row in rows]

        return await self._database.run(work)


def _packed(row: sqlite3.Row) -> PackedCall:
    return PackedCall(
        call_id=row["call_id"],
        app_id=row["app_id"],
        state=row["state"],
        began_at_ms=row["began_at_ms"],
        ended_at_ms=row["ended_at_ms"],
        document=zlib.compress(without_zeros(row["document"])),
        version=Version(RANK[row["state"]], row["saved_at_ms"]),
    )
