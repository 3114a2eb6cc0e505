"""Enrolled voices in SQLite: a row for each voice, its audio in a table beside it so that listing stays small."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from gateway.ports import Prints, Unavailable, VoiceprintRow
from gateway.stores.sqlite import Database

T = TypeVar("T")

_TABLES = """
CREATE TABLE IF NOT EXISTS voiceprints (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    print_id TEXT NOT NULL UNIQUE,
    app_id TEXT NOT NULL,
    org_id TEXT NOT NULL,
    tag_id TEXT NOT NULL,
    name TEXT NOT NULL,
    kind TEXT NOT NULL DEFAULT 'voice',
    UNIQUE (app_id, org_id, tag_id, name)
);
CREATE TABLE IF NOT EXISTS voiceprint_vectors (
    space TEXT NOT NULL,
    print_id TEXT NOT NULL REFERENCES voiceprints (print_id) ON DELETE CASCADE,
    clips INTEGER NOT NULL,
    vectors BLOB NOT NULL,  -- float32, little-endian, one clip after another
    PRIMARY KEY (space, print_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS voiceprint_vectors_of ON voiceprint_vectors (print_id);
CREATE TABLE IF NOT EXISTS voiceprint_clips (
    print_id TEXT NOT NULL REFERENCES voiceprints (print_id) ON DELETE CASCADE,
    clip INTEGER NOT NULL,
    audio BLOB NOT NULL,
    PRIMARY KEY (print_id, clip)
);
"""

_FROM_ONE_PRINT_A_VOICE = """
BEGIN IMMEDIATE;
ALTER TABLE voiceprints ADD COLUMN kind TEXT NOT NULL DEFAULT 'voice';
INSERT INTO voiceprint_vectors SELECT model, print_id, 1, embedding FROM voiceprints;
INSERT INTO voiceprint_clips SELECT print_id, 0, audio FROM voiceprint_audio;
DROP TABLE voiceprint_audio;
DROP INDEX voiceprints_by_model;
ALTER TABLE voiceprints DROP COLUMN model;
ALTER TABLE voiceprints DROP COLUMN embedding;
COMMIT;
"""


def SCHEMA(connection: sqlite3.Connection) -> None:  # noqa: N802 - stands beside scripts of this name
    """Make the tables, and give those of an earlier version, which knew one print a voice, their new shape."""
    connection.executescript(_TABLES)
    if "embedding" in {row["name"] for row in connection.execute("PRAGMA table_info(voiceprints)")}:
        connection.executescript(_FROM_ONE_PRINT_A_VOICE)


_COLUMNS = "print_id, app_id, org_id, tag_id, name, kind"
_OF_SCOPE = "app_id = ? AND org_id = ? AND (? IS NULL OR tag_id = ?)"
_OF_TAG = "app_id = ? AND org_id = ? AND tag_id = ?"


class SqliteVoiceprints:
    """Fills the role VoiceprintStore. Writes are durable when they return; `database` must have been given SCHEMA."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, row: VoiceprintRow, audio: Sequence[bytes]) -> bool:
        def work(connection: sqlite3.Connection) -> bool:
            values = (row.print_id, row.app_id, row.org_id, row.tag_id, row.name, row.kind)
            added = connection.execute(
                f"INSERT INTO voiceprints ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?) "  # noqa: S608 - constants
                "ON CONFLICT (app_id, org_id, tag_id, name) DO NOTHING",
                values,
            ).rowcount
            if added:
                _keep(connection, row, audio)
            return bool(added)

        return await self._run(work)

    async def replace(self, row: VoiceprintRow, audio: Sequence[bytes]) -> str | None:
        def work(connection: sqlite3.Connection) -> str | None:
            name = (row.app_id, row.org_id, row.tag_id, row.name)
            found = connection.execute(
                f"SELECT seq, print_id FROM voiceprints WHERE {_OF_TAG} AND name = ?",  # noqa: S608 - constants
                name,
            ).fetchone()
            if found is None:
                return None
            former: str = found["print_id"]
            connection.execute("DELETE FROM voiceprint_vectors WHERE print_id = ?", (former,))
            connection.execute("DELETE FROM voiceprint_clips WHERE print_id = ?", (former,))
            connection.execute(
                "UPDATE voiceprints SET print_id = ?, kind = ? WHERE seq = ?", (row.print_id, row.kind, found["seq"])
            )
            _keep(connection, row, audio)
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

    async def audio(self, print_id: str, clip: int = 0) -> bytes | None:
        def work(connection: sqlite3.Connection) -> bytes | None:
            row = connection.execute(
                "SELECT audio FROM voiceprint_clips WHERE print_id = ? AND clip = ?", (print_id, clip)
            ).fetchone()
            return None if row is None else bytes(row["audio"])

        return await self._run(work)

    async def load(self, spaces: Collection[str]) -> Sequence[VoiceprintRow]:
        return await self._select(f"WHERE print_id IN ({_in(spaces)}) ORDER BY seq", tuple(spaces))

    async def unsearchable(self, spaces: Collection[str]) -> Mapping[str, int]:
        def work(connection: sqlite3.Connection) -> dict[str, int]:
            others = f"print_id NOT IN ({_in(spaces)})"
            rows = connection.execute(
                f"SELECT space, count(*) AS voices FROM voiceprint_vectors WHERE {others} GROUP BY space",  # noqa: S608
                tuple(spaces),
            )
            return {row["space"]: row["voices"] for row in rows}

        return await self._run(work)

    async def _select(self, rest: str, values: tuple[object, ...]) -> list[VoiceprintRow]:
        def work(connection: sqlite3.Connection) -> list[VoiceprintRow]:
            chosen = f"SELECT {_COLUMNS}, seq FROM voiceprints {rest}"  # noqa: S608 - the caller's constants
            rows = connection.execute(
                f"SELECT c.*, space, clips, vectors FROM ({chosen}) c"  # noqa: S608 - constants
                " LEFT JOIN voiceprint_vectors v ON v.print_id = c.print_id",
                values,
            )
            return _voices(rows)

        return await self._run(work)

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return await self._database.run(work)
        except sqlite3.Error as error:
            raise Unavailable(f"the voiceprint database failed: {error}") from error


def _in(spaces: Collection[str]) -> str:
    """A query for the voices of so many spaces, which are its values."""
    return f"SELECT print_id FROM voiceprint_vectors WHERE space IN ({', '.join('?' * len(spaces))})"  # noqa: S608


def _keep(connection: sqlite3.Connection, row: VoiceprintRow, audio: Sequence[bytes]) -> None:
    connection.executemany(
        "INSERT INTO voiceprint_vectors VALUES (?, ?, ?, ?)",
        [
            (prints.space, row.print_id, len(prints.vectors), prints.vectors.astype("<f4").tobytes())
            for prints in row.prints
        ],
    )
    connection.executemany(
        "INSERT INTO voiceprint_clips VALUES (?, ?, ?)", [(row.print_id, n, clip) for n, clip in enumerate(audio)]
    )


def _voices(rows: Iterable[sqlite3.Row]) -> list[VoiceprintRow]:
    """One row for each voice, from one for each of its spaces; in the order in which the voices come first."""
    heads: dict[str, sqlite3.Row] = {}
    prints: dict[str, list[Prints]] = {}
    for row in rows:
        heads.setdefault(row["print_id"], row)
        of_voice = prints.setdefault(row["print_id"], [])
        if row["space"] is not None:
            vectors = np.frombuffer(row["vectors"], dtype="<f4").astype(np.float32)
            of_voice.append(Prints(row["space"], vectors.reshape(row["clips"], -1)))
    return [
        VoiceprintRow(
            print_id=print_id,
            app_id=head["app_id"],
            org_id=head["org_id"],
            tag_id=head["tag_id"],
            name=head["name"],
            kind=head["kind"],
            prints=tuple(prints[print_id]),
        )
        for print_id, head in heads.items()
    ]
