"""Enrolled voices in SQLite: a row for each voice, its audio in a table beside it so that listing stays small."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from gateway.ports import Unavailable, VoiceprintRow
from gateway.stores.sqlite import Database

T = TypeVar("T")

SCHEMA = """
CREATE TABLE IF NOT EXISTS voiceprints (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    print_id TEXT NOT NULL UNIQUE,
    app_id TEXT NOT NULL,
    org_id TEXT NOT NULL,
    tag_id TEXT NOT NULL,
    name TEXT NOT NULL,
    model TEXT NOT NULL,
    embedding BLOB NOT NULL,  -- float32, little-endian
    UNIQUE (app_id, org_id, tag_id, name)
);
CREATE INDEX IF NOT EXISTS voiceprints_by_model ON voiceprints (model);
CREATE TABLE IF NOT EXISTS voiceprint_audio (
    print_id TEXT PRIMARY KEY REFERENCES voiceprints (print_id) ON DELETE CASCADE,
    audio BLOB NOT NULL
);
"""

_COLUMNS = "print_id, app_id, org_id, tag_id, name, model, embedding"
_OF_SCOPE = "app_id = ? AND org_id = ? AND (? IS NULL OR tag_id = ?)"
_OF_TAG = "app_id = ? AND org_id = ? AND tag_id = ?"


class SqliteVoiceprints:
    """Fills the role VoiceprintStore. Writes are durable when they return; `database` must have been given SCHEMA."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, row: VoiceprintRow, audio: bytes) -> bool:
        def work(connection: sqlite3.Connection) -> bool:
            values = (row.print_id, row.app_id, row.org_id, row.tag_id, row.name, row.model, _bytes(row))
            added = connection.execute(
                f"INSERT INTO voiceprints ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?) "  # noqa: S608 - constants
                "ON CONFLICT (app_id, org_id, tag_id, name) DO NOTHING",
                values,
            ).rowcount
            if added:
                connection.execute("INSERT INTO voiceprint_audio VALUES (?, ?)", (row.print_id, audio))
            return bool(added)

        return await self._run(work)

    async def replace(self, row: VoiceprintRow, audio: bytes) -> str | None:
        def work(connection: sqlite3.Connection) -> str | None:
            name = (row.app_id, row.org_id, row.tag_id, row.name)
            found = connection.execute(
                f"SELECT seq, print_id FROM voiceprints WHERE {_OF_TAG} AND name = ?",  # noqa: S608 - constants
                name,
            ).fetchone()
            if found is None:
                return None
            former: str = found["print_id"]
            connection.execute("DELETE FROM voiceprint_audio WHERE print_id = ?", (former,))
            connection.execute(
                "UPDATE voiceprints SET print_id = ?, model = ?, embedding = ? WHERE seq = ?",
                (row.print_id, row.model, _bytes(row), found["seq"]),
            )
            connection.execute("INSERT INTO voiceprint_audio VALUES (?, ?)", (row.print_id, audio))
            return former

        return await self._run(work)

    async def remove(self, app_id: str, org_id: str, tag_id: str, names: Sequence[str] | None) -> Sequence[str]:
        def work(connection: sqlite3.Connection) -> list[str]:
            rows = connection.execute(
                f"SELECT print_id, name FROM voiceprints WHERE {_OF_TAG}",  # noqa: S608 - constants
                (app_id, org_id, tag_id),
            )
            ids = {row["name"]: str(row["print_id"]) for row in rows}
            if names is not None:
                if not set(names) <= ids.keys():
                    return []
                ids = {name: ids[name] for name in names}
            connection.executemany("DELETE FROM voiceprints WHERE print_id = ?", [(one,) for one in ids.values()])
            return list(ids.values())

        return await self._run(work)

    async def find(self, app_id: str, org_id: str, tag_id: str, name: str) -> VoiceprintRow | None:
        rows = await self._select(f"WHERE {_OF_TAG} AND name = ?", (app_id, org_id, tag_id, name))
        return rows[0] if rows else None

    async def count(self, app_id: str, org_id: str, tag_id: str | None) -> int:
        def work(connection: sqlite3.Connection) -> int:
            query = f"SELECT count(*) FROM voiceprints WHERE {_OF_SCOPE}"  # noqa: S608 - constants
            return int(connection.execute(query, (app_id, org_id, tag_id, tag_id)).fetchone()[0])

        return await self._run(work)

    async def page(
        self, app_id: str, org_id: str, tag_id: str | None, *, offset: int, limit: int
    ) -> Sequence[VoiceprintRow]:
        return await self._select(
            f"WHERE {_OF_SCOPE} ORDER BY seq DESC LIMIT ? OFFSET ?", (app_id, org_id, tag_id, tag_id, limit, offset)
        )

    async def audio(self, print_id: str) -> bytes | None:
        def work(connection: sqlite3.Connection) -> bytes | None:
            row = connection.execute("SELECT audio FROM voiceprint_audio WHERE print_id = ?", (print_id,)).fetchone()
            return None if row is None else bytes(row["audio"])

        return await self._run(work)

    async def load(self, model: str) -> Sequence[VoiceprintRow]:
        return await self._select("WHERE model = ? ORDER BY seq", (model,))

    async def models(self) -> dict[str, int]:
        def work(connection: sqlite3.Connection) -> dict[str, int]:
            rows = connection.execute("SELECT model, count(*) AS voices FROM voiceprints GROUP BY model")
            return {row["model"]: row["voices"] for row in rows}

        return await self._run(work)

    async def _select(self, rest: str, values: tuple[object, ...]) -> list[VoiceprintRow]:
        def work(connection: sqlite3.Connection) -> list[VoiceprintRow]:
            query = f"SELECT {_COLUMNS} FROM voiceprints {rest}"  # noqa: S608 - the caller's constants
            return [_row(one) for one in connection.execute(query, values)]

        return await self._run(work)

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return await self._database.run(work)
        except sqlite3.Error as error:
            raise Unavailable(f"the voiceprint database failed: {error}") from error


def _bytes(row: VoiceprintRow) -> bytes:
    return row.embedding.astype("<f4").tobytes()


def _row(one: sqlite3.Row) -> VoiceprintRow:
    return VoiceprintRow(
        print_id=one["print_id"],
        app_id=one["app_id"],
        org_id=one["org_id"],
        tag_id=one["tag_id"],
        name=one["name"],
        model=one["model"],
        embedding=np.frombuffer(one["embedding"], dtype="<f4").astype(np.float32),
    )
