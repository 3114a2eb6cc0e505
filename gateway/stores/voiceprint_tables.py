"""The tables of enrolled voices in SQLite, and how those of earlier versions become them."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator, Sequence

import numpy as np

from gateway.ports import Prints, VoiceprintRow
from gateway.stores.voiceprint_bodies import apart, packed

_TABLES = """
CREATE TABLE IF NOT EXISTS voiceprint_salt (id INTEGER PRIMARY KEY, salt BLOB NOT NULL);
INSERT OR IGNORE INTO voiceprint_salt VALUES (1, randomblob(32));
CREATE TABLE IF NOT EXISTS voiceprints (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    print_id TEXT NOT NULL UNIQUE,
    app_id TEXT NOT NULL,
    org_id TEXT NOT NULL,
    tag_id TEXT NOT NULL,
    name_digest BLOB NOT NULL,  -- salted (the name itself is in the body)
    kind TEXT NOT NULL,
    UNIQUE (app_id, org_id, tag_id, name_digest)
);
CREATE TABLE IF NOT EXISTS voiceprint_bodies (
    seq INTEGER PRIMARY KEY REFERENCES voiceprints (seq) ON DELETE CASCADE,
    zeros INTEGER NOT NULL,
    body BLOB NOT NULL          -- zeros, then the name and the prints (voiceprint_bodies)
);
CREATE TABLE IF NOT EXISTS voiceprint_spaces (
    space TEXT NOT NULL,
    seq INTEGER NOT NULL REFERENCES voiceprints (seq) ON DELETE CASCADE,
    PRIMARY KEY (space, seq)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS voiceprint_spaces_of ON voiceprint_spaces (seq);
CREATE TABLE IF NOT EXISTS voiceprint_clips (
    seq INTEGER NOT NULL REFERENCES voiceprints (seq) ON DELETE CASCADE,
    clip INTEGER NOT NULL,
    zeros INTEGER NOT NULL,
    body BLOB NOT NULL,         -- zeros, then the audio
    PRIMARY KEY (seq, clip)
);
CREATE TABLE IF NOT EXISTS voiceprint_audit (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms INTEGER NOT NULL,
    app_id TEXT NOT NULL,
    actor TEXT NOT NULL,
    operation TEXT NOT NULL,
    org_id TEXT NOT NULL,
    tag_id TEXT NOT NULL,
    voices TEXT NOT NULL        -- JSON: [[print_id, name_digest, former_print_id], ...]
);
CREATE INDEX IF NOT EXISTS voiceprint_audit_of ON voiceprint_audit (app_id, at_ms);
"""
_FORMER = ("voiceprints", "voiceprint_vectors", "voiceprint_clips", "voiceprint_audio")


def SCHEMA(connection: sqlite3.Connection) -> None:  # noqa: N802 - stands beside scripts of this name
    """Make the tables, and take over the voices of earlier versions, which kept names and prints among other rows."""
    columns = _columns(connection, "voiceprints")
    former = columns and "name_digest" not in columns
    connection.execute("BEGIN IMMEDIATE")
    try:
        if former:
            for table in _FORMER:
                if _columns(connection, table):
                    connection.execute(f"ALTER TABLE {table} RENAME TO {table}_former")
        for statement in _TABLES.split(";"):
            connection.execute(statement)
        if former:
            _take_over(connection, one_print="embedding" in columns)
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _columns(connection: sqlite3.Connection, table: str) -> set[str]:
    return {row["name"] for row in connection.execute(f"PRAGMA table_info({table})")}


def _take_over(connection: sqlite3.Connection, *, one_print: bool) -> None:
    digests = NameDigests(connection)
    voices = _with_one_print if one_print else _with_vectors
    for row, audio in voices(connection):
        keep(connection, insert(connection, row, digests), row, audio)
    for table in reversed(_FORMER):
        # Its pages are zeroed as they are freed, with whatever else is left in them.
        connection.execute(f"DROP TABLE IF EXISTS {table}_former")


def _with_one_print(connection: sqlite3.Connection) -> Iterator[tuple[VoiceprintRow, list[bytes]]]:
    query = "SELECT * FROM voiceprints_former v JOIN voiceprint_audio_former a ON a.print_id = v.print_id ORDER BY seq"
    for row in connection.execute(query):
        prints = Prints(row["model"], np.frombuffer(row["embedding"], "<f4")[np.newaxis])
        yield _voice(row, "voice", (prints,)), [row["audio"]]


def _with_vectors(connection: sqlite3.Connection) -> Iterator[tuple[VoiceprintRow, list[bytes]]]:
    for row in connection.execute("SELECT * FROM voiceprints_former ORDER BY seq"):
        found = (row["print_id"],)
        vectors = connection.execute("SELECT * FROM voiceprint_vectors_former WHERE print_id = ? ORDER BY space", found)
        prints = [
            Prints(one["space"], np.frombuffer(one["vectors"], "<f4").reshape(one["clips"], -1)) for one in vectors
        ]
        clips = connection.execute("SELECT audio FROM voiceprint_clips_former WHERE print_id = ? ORDER BY clip", found)
        yield _voice(row, row["kind"], tuple(prints)), [one["audio"] for one in clips]


def _voice(row: sqlite3.Row, kind: str, prints: tuple[Prints, ...]) -> VoiceprintRow:
    return VoiceprintRow(
        row["print_id"], row["app_id"], row["org_id"], row["tag_id"], row["name"], prints,
        "sound" if kind == "sound" else "voice",
    )  # fmt: skip


class NameDigests:
    """By what names are looked up: digests with the database's own salt, since names must not lie in an index."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._salt: bytes = connection.execute("SELECT salt FROM voiceprint_salt").fetchone()["salt"]

    def __call__(self, name: str) -> bytes:
        return hashlib.blake2b(name.encode(), key=self._salt, digest_size=16).digest()


def insert(connection: sqlite3.Connection, row: VoiceprintRow, digests: NameDigests) -> int | None:
    """The new voice's `seq`, None when its name is taken. `keep` must follow."""
    added = connection.execute(
        "INSERT INTO voiceprints (print_id, app_id, org_id, tag_id, name_digest, kind) VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (app_id, org_id, tag_id, name_digest) DO NOTHING RETURNING seq",
        (row.print_id, row.app_id, row.org_id, row.tag_id, digests(row.name), row.kind),
    ).fetchone()
    return None if added is None else int(added["seq"])


def keep(connection: sqlite3.Connection, seq: int | None, row: VoiceprintRow, audio: Sequence[bytes]) -> None:
    """What belongs to a voice beside its row."""
    connection.execute("INSERT INTO voiceprint_bodies VALUES (?, ?, ?)", (seq, *apart(connection, packed(row))))
    connection.executemany("INSERT INTO voiceprint_spaces VALUES (?, ?)", [(one.space, seq) for one in row.prints])
    connection.executemany(
        "INSERT INTO voiceprint_clips VALUES (?, ?, ?, ?)",
        ((seq, number, *apart(connection, clip)) for number, clip in enumerate(audio)),
    )
