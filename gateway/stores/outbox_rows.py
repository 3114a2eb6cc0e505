"""The outbox's table, and one row of it as a value."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from gateway.ports import QualityAnswer, QualityTask
from gateway.stores.sqlite import add_column
from gateway.stores.zeros import without_zeros

OutboxState = Literal["pending", "submitted", "done", "dead"]
"""pending: to be handed in; submitted: QC has it; done: QC has answered; dead: given up."""

AtFault = Literal["", "voice_qc", "task", "earshot"]
"""Whose fault the latest failure was: QC could not answer, it refuses this task, or we failed."""

_TABLE = """
CREATE TABLE IF NOT EXISTS outbox (
    session_id TEXT PRIMARY KEY,
    app_id TEXT NOT NULL,
    call_id TEXT NOT NULL,
    task BLOB NOT NULL,
    state TEXT NOT NULL DEFAULT 'pending',
    delivered INTEGER NOT NULL DEFAULT 0,
    next_at REAL NOT NULL,
    created_at REAL NOT NULL,
    submitted_at REAL,
    attempts INTEGER NOT NULL DEFAULT 0,
    failures INTEGER NOT NULL DEFAULT 0,
    failing_since REAL,
    retry_after_s REAL,
    last_error TEXT NOT NULL DEFAULT '',
    answer BLOB
) WITHOUT ROWID;
DROP INDEX IF EXISTS outbox_due;
CREATE INDEX IF NOT EXISTS outbox_next ON outbox (state, next_at) WHERE delivered = 0;
CREATE INDEX IF NOT EXISTS outbox_turns ON outbox (app_id, state, next_at) WHERE delivered = 0;
CREATE INDEX IF NOT EXISTS outbox_depth ON outbox (state, created_at) WHERE state <> 'done';
"""


def create(connection: sqlite3.Connection) -> None:
    """Create the table, or bring one of an earlier version up to date."""
    connection.executescript(_TABLE)
    add_column(connection, "outbox", "at_fault", "TEXT NOT NULL DEFAULT ''")


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """One task and where it stands; times are wall-clock seconds."""

    session_id: str
    app_id: str
    call_id: str
    task: QualityTask
    state: OutboxState
    delivered: bool
    """True once the gateway has taken note of the end, done or dead: nothing is left to do."""
    next_at: float
    created_at: float
    submitted_at: float | None
    attempts: int
    """How often QC was asked, to create or for the result."""
    failures: int
    """How many of the latest attempts failed in a row."""
    failing_since: float | None
    retry_after_s: float | None
    last_error: str
    answer: QualityAnswer | None
    """The latest that QC said."""
    at_fault: AtFault


def encode_task(task: QualityTask, data_dir: Path, recordings: Path) -> bytes:
    """A task as the table keeps it: its recording relative to the data folder, which may be moved, as may the folder
    of `recordings`.

    Raises ValueError for a recording in neither.
    """

    def relative(path: Path) -> str:
        return f"recordings/{path.name}" if path.parent == recordings else path.relative_to(data_dir).as_posix()

    return msgspec.json.encode(task, enc_hook=relative)


def decode_row(row: sqlite3.Row, data_dir: Path, recordings: Path) -> OutboxRow:
    def recording(_: type, text: str) -> Path:
        path = Path(text)
        # Earlier versions kept the whole path, whose last two parts are `recordings` and the file.
        path = Path(*path.parts[-2:]) if path.is_absolute() else path
        shared = recordings / path.name
        return shared if path.parent.name == "recordings" and shared.exists() else data_dir / path

    fields: dict[str, Any] = dict(row)
    fields["task"] = msgspec.json.decode(row["task"], type=QualityTask, dec_hook=recording)
    fields["delivered"] = bool(row["delivered"])
    if row["answer"] is not None:
        fields["answer"] = msgspec.json.decode(without_zeros(row["answer"]), type=QualityAnswer)
    return OutboxRow(**fields)
