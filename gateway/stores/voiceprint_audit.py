"""The audit of enrolled voices in SQLite. It is also what another process on the same file follows."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Sequence
from time import time
from typing import get_args

import msgspec

from gateway.ports import AuditedVoice, VoiceprintAudit, VoiceprintChange, VoiceprintNews, VoiceprintOperation

MOST_ACTOR_CHARACTERS = 200
MOST_NEWS = 500
_OPERATIONS: dict[str, VoiceprintOperation] = {one: one for one in get_args(VoiceprintOperation)}


class AuditedNames:
    """Names as an audit holds them: keyed digests, empty without a key."""

    def __init__(self, key: bytes | None) -> None:
        """`key` is the server's or the cluster's for this purpose, 64 bytes at most."""
        self._key = key

    def __call__(self, app_id: str, name: str) -> str:
        if self._key is None:
            return ""
        whole = msgspec.json.encode([app_id, name])
        return hashlib.blake2b(whole, key=self._key, digest_size=16).hexdigest()


def voices_text(voices: Sequence[AuditedVoice]) -> bytes:
    """Voices as both stores keep them: JSON."""
    return msgspec.json.encode([[one.print_id, one.name_digest, one.former_print_id] for one in voices])


def voices_of(text: str | bytes) -> tuple[AuditedVoice, ...]:
    """What `voices_text` was given."""
    return tuple(AuditedVoice(*one) for one in msgspec.json.decode(text, type=list[tuple[str, str, str]]))


def operation_of(text: str) -> VoiceprintOperation:
    return _OPERATIONS[text]


def note(
    connection: sqlite3.Connection,
    operation: VoiceprintOperation,
    scope: tuple[str, str, str],
    voices: Sequence[AuditedVoice],
    actor: str,
) -> None:
    """Write down a change in (app, org, tag), inside the transaction that makes it."""
    app_id, org_id, tag_id = scope
    connection.execute(
        "INSERT INTO voiceprint_audit (at_ms, app_id, actor, operation, org_id, tag_id, voices)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            *(round(time() * 1000), app_id, actor[:MOST_ACTOR_CHARACTERS], operation, org_id, tag_id),
            voices_text(voices).decode(),
        ),
    )


def audits(
    connection: sqlite3.Connection, app_id: str, *, from_ms: int, to_ms: int, limit: int, name_digest: str
) -> list[VoiceprintAudit]:
    """See the role; `name_digest` is empty for any name."""
    rows = connection.execute(
        "SELECT * FROM voiceprint_audit WHERE app_id = ? AND at_ms BETWEEN ? AND ? AND instr(voices, ?)"
        " ORDER BY at_ms DESC, seq DESC LIMIT ?",
        (app_id, from_ms, to_ms, name_digest, limit),
    )
    return [
        VoiceprintAudit(
            audit_id=str(row["seq"]),
            at_ms=row["at_ms"],
            app_id=row["app_id"],
            actor=row["actor"],
            operation=operation_of(row["operation"]),
            org_id=row["org_id"],
            tag_id=row["tag_id"],
            voices=voices_of(row["voices"]),
        )
        for row in rows
    ]


def position(connection: sqlite3.Connection) -> str:
    """See the role."""
    row = connection.execute("SELECT seq, at_ms FROM voiceprint_audit ORDER BY seq DESC LIMIT 1").fetchone()
    return "" if row is None else _position(row)


def _position(row: sqlite3.Row) -> str:
    return f"{row['seq']}-{row['at_ms']}"


def since(connection: sqlite3.Connection, position: str) -> VoiceprintNews | None:
    """See the role. What was the last change must still be there as it was, or this is another file."""
    last = int(position.partition("-")[0] or 0)
    rows = connection.execute(
        "SELECT * FROM voiceprint_audit WHERE seq >= ? ORDER BY seq LIMIT ?", (last, MOST_NEWS)
    ).fetchall()
    if position:
        if not rows or _position(rows[0]) != position:
            return None
        del rows[0]
    changes = [change_of(row["app_id"], row["org_id"], row["tag_id"], row["operation"], row["voices"]) for row in rows]
    return VoiceprintNews(changes, _position(rows[-1]) if rows else position, more=len(rows) >= MOST_NEWS - 1)


def change_of(app_id: str, org_id: str, tag_id: str, operation: str, voices: str | bytes) -> VoiceprintChange:
    """What an audited operation means for an index."""
    touched = voices_of(voices)
    if operation in ("delete", "delete_all"):
        return VoiceprintChange(app_id, org_id, tag_id, tuple(one.print_id for one in touched), ())
    former = tuple(one.former_print_id for one in touched if one.former_print_id)
    return VoiceprintChange(app_id, org_id, tag_id, former, tuple(one.print_id for one in touched))
