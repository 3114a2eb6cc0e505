"""Enrolled voices in SQLite: a row for each voice, its audio in a table beside it so that listing stays small."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from typing import TypeVar

import msgspec
import structlog

from gateway.ports import (
    AuditedVoice,
    Unavailable,
    VoiceprintAudit,
    VoiceprintNews,
    VoiceprintRow,
)
from gateway.stores import voiceprint_audit
from gateway.stores.sqlite import Database
from gateway.stores.voiceprint_audit import AuditedNames
from gateway.stores.voiceprint_bodies import secret_of, unpacked
from gateway.stores.voiceprint_tables import SCHEMA, NameDigests, insert, keep

__all__ = ["SCHEMA", "SqliteVoiceprints"]

T = TypeVar("T")
log = structlog.get_logger(__name__)

_OF_SCOPE = "app_id = ? AND org_id = ? AND (? IS NULL OR tag_id = ?)"
_OF_TAG = "app_id = ? AND org_id = ? AND tag_id = ?"
_WHOLE = (
    "SELECT v.print_id, v.app_id, v.org_id, v.tag_id, v.kind, b.zeros, b.body"
    " FROM voiceprints v JOIN voiceprint_bodies b USING (seq)"
)


class SqliteVoiceprints:
    """Fills the roles VoiceprintStore, VoiceprintChanges and VoiceprintAudits.

    Writes are durable when they return, and what they delete is then in no file any more (but see `scrub`);
    `database` must have been given SCHEMA.
    """

    def __init__(self, database: Database, *, name_key: bytes | None = None) -> None:
        """`name_key`: by it the audit can be asked about names; without it names leave no trace there."""
        self._database = database
        self._audited = AuditedNames(name_key)
        self._lingering = True  # an earlier process may have ended between a deletion and its scrub

    async def add(self, row: VoiceprintRow, audio: Sequence[bytes], *, actor: str = "") -> bool:
        def work(connection: sqlite3.Connection) -> bool:
            seq = insert(connection, row, NameDigests(connection))
            if seq is None:
                return False
            keep(connection, seq, row, audio)
            self._note(connection, row, "", actor)
            return True

        return await self._run(work)

    async def replace(
        self, row: VoiceprintRow, audio: Sequence[bytes], *, actor: str = "", former: str | None = None
    ) -> str | None:
        def work(connection: sqlite3.Connection) -> str | None:
            found = connection.execute(
                f"SELECT seq, print_id FROM voiceprints WHERE {_OF_TAG} AND name_digest = ?",  # noqa: S608 - constants
                (row.app_id, row.org_id, row.tag_id, NameDigests(connection)(row.name)),
            ).fetchone()
            if found is None or former not in (None, found["print_id"]):
                return None
            for table in ("voiceprint_bodies", "voiceprint_spaces", "voiceprint_clips"):
                connection.execute(f"DELETE FROM {table} WHERE seq = ?", (found["seq"],))  # noqa: S608 - constants
            connection.execute(
                "UPDATE voiceprints SET print_id = ?, kind = ? WHERE seq = ?", (row.print_id, row.kind, found["seq"])
            )
            keep(connection, found["seq"], row, audio)
            self._note(connection, row, found["print_id"], actor)
            return str(found["print_id"])

        replaced = await self._run(work)
        if replaced is not None:
            await self.scrub()
        return replaced

    def _note(self, connection: sqlite3.Connection, row: VoiceprintRow, former: str, actor: str) -> None:
        voice = AuditedVoice(row.print_id, self._audited(row.app_id, row.name), former)
        scope = (row.app_id, row.org_id, row.tag_id)
        voiceprint_audit.note(connection, "update" if former else "enrol", scope, [voice], actor)

    async def remove(
        self, app_id: str, org_id: str, tag_id: str, names: Sequence[str] | None, *, actor: str = ""
    ) -> Sequence[str]:
        scope = (app_id, org_id, tag_id)

        def work(connection: sqlite3.Connection) -> list[str]:
            digests = NameDigests(connection)
            chosen = None if names is None else sorted({digests(name) for name in names})
            gone = [
                AuditedVoice(row["print_id"], self._audited(app_id, unpacked(secret_of(row))[0]))
                for row in _chosen(connection, scope, chosen)
            ]
            if not gone or (chosen is not None and len(gone) < len(chosen)):
                return []
            connection.executemany("DELETE FROM voiceprints WHERE print_id = ?", [(one.print_id,) for one in gone])
            voiceprint_audit.note(connection, "delete_all" if names is None else "delete", scope, gone, actor)
            return [one.print_id for one in gone]

        gone = await self._run(work)
        if gone:
            await self.scrub()
        return gone

    async def scrub(self) -> None:
        """See that what was deleted is gone from the log ahead of the database's file too.

        Another process that reads at this moment, or a failing disk, can prevent it. That is logged, and tried again
        whenever `since` is asked.
        """
        try:
            done = await self._database.scrub()
            fault = "" if done else "another process is reading the database"
        except sqlite3.Error as error:
            fault = str(error)
        self._lingering = bool(fault)
        if fault:
            log.warning("deleted_voices_linger", fault=fault)

    async def find(self, app_id: str, org_id: str, tag_id: str, name: str) -> VoiceprintRow | None:
        def work(connection: sqlite3.Connection) -> list[VoiceprintRow]:
            return _voices(_chosen(connection, (app_id, org_id, tag_id), [NameDigests(connection)(name)]))

        rows = await self._run(work)
        return rows[0] if rows else None

    async def total(self) -> int:
        """How many voices there are, of everybody."""
        return await self._run(
            lambda connection: int(connection.execute("SELECT count(*) FROM voiceprints").fetchone()[0])
        )

    async def count(self, app_id: str, org_id: str, tag_id: str | None) -> int:
        def work(connection: sqlite3.Connection) -> int:
            query = f"SELECT count(*) FROM voiceprints WHERE {_OF_SCOPE}"  # noqa: S608 - constants
            return int(connection.execute(query, (app_id, org_id, tag_id, tag_id)).fetchone()[0])

        return await self._run(work)

    async def page(
        self, app_id: str, org_id: str, tag_id: str | None, *, offset: int, limit: int
    ) -> Sequence[VoiceprintRow]:
        page = f"SELECT seq FROM voiceprints WHERE {_OF_SCOPE} ORDER BY seq DESC LIMIT ? OFFSET ?"  # noqa: S608
        return await self._select(
            f"WHERE seq IN ({page}) ORDER BY seq DESC", (app_id, org_id, tag_id, tag_id, limit, offset)
        )

    async def audio(self, print_id: str, clip: int = 0) -> bytes | None:
        def work(connection: sqlite3.Connection) -> bytes | None:
            row = connection.execute(
                "SELECT zeros, body FROM voiceprint_clips JOIN voiceprints USING (seq) WHERE print_id = ? AND clip = ?",
                (print_id, clip),
            ).fetchone()
            return None if row is None else bytes(secret_of(row))

        return await self._run(work)

    async def load(self, spaces: Collection[str]) -> Sequence[VoiceprintRow]:
        if self._lingering:
            await self.scrub()
        return await self._select(f"WHERE seq IN ({_in(spaces)}) ORDER BY seq", tuple(spaces))

    async def every(self) -> AsyncIterator[VoiceprintRow]:
        """Every voice, oldest first, one at a time."""
        seq = 0
        while True:

            def work(connection: sqlite3.Connection, after: int = seq) -> sqlite3.Row | None:
                rows = connection.execute("SELECT seq FROM voiceprints WHERE seq > ? ORDER BY seq LIMIT 1", (after,))
                found: sqlite3.Row | None = rows.fetchone()
                return found

            row = await self._run(work)
            if row is None:
                return
            seq = row["seq"]
            for voice in await self._select("WHERE seq = ?", (seq,)):
                yield voice

    async def unsearchable(self, spaces: Collection[str]) -> Mapping[str, int]:
        def work(connection: sqlite3.Connection) -> dict[str, int]:
            others = f"seq NOT IN ({_in(spaces)})"
            rows = connection.execute(
                f"SELECT space, count(*) AS voices FROM voiceprint_spaces WHERE {others} GROUP BY space",  # noqa: S608
                tuple(spaces),
            )
            return {row["space"]: row["voices"] for row in rows}

        return await self._run(work)

    # --- what became of them ---

    async def position(self) -> str:
        return await self._run(voiceprint_audit.position)

    async def since(self, position: str) -> VoiceprintNews | None:
        if self._lingering:
            await self.scrub()
        return await self._run(lambda connection: voiceprint_audit.since(connection, position))

    async def rows(self, print_ids: Collection[str]) -> Sequence[VoiceprintRow]:
        # By the JSON of them: SQLite bounds the number of a query's values.
        ids = msgspec.json.encode(list(print_ids)).decode()
        return await self._select("WHERE print_id IN (SELECT value FROM json_each(?)) ORDER BY seq", (ids,))

    async def audits(
        self, app_id: str, *, from_ms: int, to_ms: int, limit: int, name: str | None = None
    ) -> Sequence[VoiceprintAudit]:
        digest = "" if name is None else self._audited(app_id, name)
        if name is not None and not digest:
            return []
        return await self._run(
            lambda connection: voiceprint_audit.audits(
                connection, app_id, from_ms=from_ms, to_ms=to_ms, limit=limit, name_digest=digest
            )
        )

    async def _select(self, rest: str, values: tuple[object, ...]) -> list[VoiceprintRow]:
        return await self._run(lambda connection: _voices(connection.execute(f"{_WHOLE} {rest}", values)))

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return await self._database.run(work)
        except sqlite3.Error as error:
            raise Unavailable(f"the voiceprint database failed: {error}") from error


def _in(spaces: Collection[str]) -> str:
    """A query for the voices of so many spaces, which are its values."""
    return f"SELECT seq FROM voiceprint_spaces WHERE space IN ({', '.join('?' * len(spaces))})"  # noqa: S608


def _chosen(
    connection: sqlite3.Connection, scope: tuple[str, str, str], digests: Sequence[bytes] | None
) -> Iterable[sqlite3.Row]:
    """Voices of a tag with their bodies: those of some names, or all."""
    if digests is None:
        yield from connection.execute(f"{_WHOLE} WHERE {_OF_TAG} ORDER BY seq", scope)
        return
    for digest in digests:
        yield from connection.execute(f"{_WHOLE} WHERE {_OF_TAG} AND name_digest = ?", (*scope, digest))


def _voices(rows: Iterable[sqlite3.Row]) -> list[VoiceprintRow]:
    voices = []
    for row in rows:
        name, prints = unpacked(secret_of(row))
        voices.append(
            VoiceprintRow(
                print_id=row["print_id"],
                app_id=row["app_id"],
                org_id=row["org_id"],
                tag_id=row["tag_id"],
                name=name,
                kind=row["kind"],
                prints=prints,
            )
        )
    return voices
