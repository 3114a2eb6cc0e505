"""The tasks that voice QC still owes a verdict on: a table, so that they outlive the process."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from gateway.ports import Clock, QualityAnswer, QualityTask
from gateway.stores.retry_schedule import RetrySchedule
from gateway.stores.sqlite import Database

OutboxState = Literal["pending", "submitted", "done", "dead"]
"""pending: to be handed in; submitted: QC has it; done: QC has answered; dead: given up."""

SCHEMA = """
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
CREATE INDEX IF NOT EXISTS outbox_due ON outbox (next_at) WHERE delivered = 0;
"""


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


class Outbox:
    """The table and its transitions, each one durable transaction.

    An end is delivered at least once: a crash between an answer's arrival and `delivered` delivers it again.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        schedule: RetrySchedule | None = None,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """`database` must have been opened with this module's SCHEMA among its own."""
        self.changed = asyncio.Event()
        """Set whenever a row may have become due sooner than was known."""
        self._database = database
        self._clock = clock
        self._schedule = schedule or RetrySchedule()
        self._uniform = uniform

    async def put(self, task: QualityTask, call_id: str) -> bool:
        """Take a task in for good; False when its session id is in already, which changes nothing."""
        now = self._clock.wall()
        added = await self._execute(
            """INSERT INTO outbox (session_id, app_id, call_id, task, next_at, created_at) VALUES (?, ?, ?, ?, ?, ?)
               ON CONFLICT (session_id) DO NOTHING""",
            (task.session_id, task.app_id, call_id, _encode(task), now, now),
        )
        self.changed.set()
        return added

    async def due(self, *, limit: int, but: Collection[str] = ()) -> Sequence[OutboxRow]:
        """The rows to be worked on now, the longest due first, without the sessions in `but`."""
        slots = ",".join("?" * len(but))
        sql = f"SELECT * FROM outbox WHERE delivered = 0 AND next_at <= ? AND session_id NOT IN ({slots}) ORDER BY next_at LIMIT ?"  # noqa: S608, E501 - question marks only
        return await self._select(sql, (self._clock.wall(), *but, limit))

    async def next_due_at(self, but: Collection[str] = ()) -> float | None:
        """When the next row falls due, in wall-clock seconds; None when none will by itself."""
        slots = ",".join("?" * len(but))
        sql = f"SELECT MIN(next_at) FROM outbox WHERE delivered = 0 AND session_id NOT IN ({slots})"  # noqa: S608 - as above

        def work(connection: sqlite3.Connection) -> float | None:
            earliest: float | None = connection.execute(sql, tuple(but)).fetchone()[0]
            return earliest

        return await self._database.run(work)

    async def submitted(self, session_id: str, *, poll_in_s: float) -> bool:
        """QC has taken the task. False when it is past that already: a callback may overtake the answer to create."""
        now = self._clock.wall()
        return await self._execute(
            """UPDATE outbox SET state = 'submitted', submitted_at = ?, next_at = ?, attempts = attempts + 1,
                   retry_after_s = NULL
               WHERE session_id = ? AND state = 'pending'""",
            (now, now + poll_in_s, session_id),
        )

    async def progressed(self, session_id: str, answer: QualityAnswer, *, poll_in_s: float) -> bool:
        """QC is still at it. False when the task is not with QC any more."""
        return await self._execute(
            """UPDATE outbox SET answer = ?, next_at = ?, attempts = attempts + 1, failures = 0, failing_since = NULL,
                   retry_after_s = NULL, last_error = ''
               WHERE session_id = ? AND state = 'submitted'""",
            (msgspec.json.encode(answer), self._clock.wall() + poll_in_s, session_id),
        )

    async def finished(self, app_id: str, session_id: str, answer: QualityAnswer) -> bool:
        """QC has answered for good. True for the first answer to a session of this app, False for any other.

        It counts whatever state the row was in: a task given up on may still be answered.
        """
        first = await self._execute(
            """UPDATE outbox SET state = 'done', delivered = 0, answer = ?, next_at = ?, failures = 0,
                   failing_since = NULL, retry_after_s = NULL, last_error = ''
               WHERE session_id = ? AND app_id = ? AND state <> 'done'""",
            (msgspec.json.encode(answer), self._clock.wall(), session_id, app_id),
        )
        if first:
            self.changed.set()
        return first

    async def delivered(self, session_id: str, state: OutboxState) -> None:
        """The gateway has taken note of the end `state`; of a later end it still must."""
        await self._execute("UPDATE outbox SET delivered = 1 WHERE session_id = ? AND state = ?", (session_id, state))

    async def failed(
        self, row: OutboxRow, error: str, *, retryable: bool, retry_after_s: float | None = None, resubmit: bool = False
    ) -> OutboxState:
        """An attempt on `row` failed; the state that follows. `resubmit` hands the task in anew next time.

        What cannot succeed is given up at once, what might when the schedule says so. A row that moved on meanwhile
        (a callback came) keeps its state.
        """
        now = self._clock.wall()

        def work(connection: sqlite3.Connection) -> OutboxState:
            found = connection.execute("SELECT * FROM outbox WHERE session_id = ?", (row.session_id,)).fetchone()
            if found["state"] != row.state:
                moved_on: OutboxState = found["state"]
                return moved_on
            failing_since = now if found["failing_since"] is None else found["failing_since"]
            failures = found["failures"] + 1
            next_at = self._schedule.next_at(
                now,
                failing_since=failing_since,
                failures=failures,
                retry_after_s=retry_after_s,
                uniform=self._uniform,
            )
            state: OutboxState = row.state
            if row.state in ("pending", "submitted"):
                if not retryable or next_at is None:
                    state, next_at = "dead", now
                elif resubmit:
                    state = "pending"
            connection.execute(
                """UPDATE outbox SET state = ?, next_at = ?, attempts = attempts + 1, failures = ?, failing_since = ?,
                       retry_after_s = ?, last_error = ? WHERE session_id = ?""",
                (
                    state,
                    # what is over for QC but not yet delivered here is never given up, only tried more rarely
                    now + self._schedule.most_s if next_at is None else next_at,
                    failures,
                    failing_since,
                    retry_after_s,
                    error[:500],
                    row.session_id,
                ),
            )
            return state

        return await self._database.run(work)

    async def get(self, app_id: str, session_id: str) -> OutboxRow | None:
        rows = await self._select("SELECT * FROM outbox WHERE session_id = ? AND app_id = ?", (session_id, app_id))
        return rows[0] if rows else None

    async def list(self, *, state: OutboxState | None = None, limit: int = 100) -> Sequence[OutboxRow]:
        """The newest rows of all apps, for the operator."""
        return await self._select(
            "SELECT * FROM outbox WHERE ?1 IS NULL OR state = ?1 ORDER BY created_at DESC, session_id LIMIT ?2",
            (state, limit),
        )

    async def retry(self, session_id: str) -> bool:
        """Begin anew with a task that was given up; False when it is not dead."""
        revived = await self._execute(
            """UPDATE outbox SET state = 'pending', delivered = 0, next_at = ?, failures = 0, failing_since = NULL,
                   submitted_at = NULL, retry_after_s = NULL
               WHERE session_id = ? AND state = 'dead'""",
            (self._clock.wall(), session_id),
        )
        if revived:
            self.changed.set()
        return revived

    async def forget(self, app_id: str, call_id: str) -> None:
        """Remove a call's rows for good, with the verdicts they hold."""
        await self._execute("DELETE FROM outbox WHERE app_id = ? AND call_id = ?", (app_id, call_id))

    async def _execute(self, sql: str, values: tuple[Any, ...]) -> bool:
        """Run a statement; True when it changed a row."""
        return await self._database.run(lambda connection: connection.execute(sql, values).rowcount > 0)

    async def _select(self, sql: str, values: tuple[Any, ...]) -> Sequence[OutboxRow]:
        return await self._database.run(lambda connection: [_row(row) for row in connection.execute(sql, values)])


def _encode(task: QualityTask) -> bytes:
    return msgspec.json.encode(task, enc_hook=str)


def _row(row: sqlite3.Row) -> OutboxRow:
    fields = dict(row)
    fields["task"] = msgspec.json.decode(row["task"], type=QualityTask, dec_hook=lambda _, text: Path(text))
    fields["delivered"] = bool(row["delivered"])
    if row["answer"] is not None:
        fields["answer"] = msgspec.json.decode(row["answer"], type=QualityAnswer)
    return OutboxRow(**fields)
