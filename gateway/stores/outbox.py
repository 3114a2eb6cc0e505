"""The tasks that voice QC still owes a verdict on: a table, so that they outlive the process."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from gateway.ports import Clock, QualityAnswer, QualityTask
from gateway.stores.outbox_rows import AtFault, OutboxRow, OutboxState, create, decode_row, encode_task
from gateway.stores.retry_schedule import RetrySchedule
from gateway.stores.sqlite import Database
from gateway.stores.zeros import behind_zeros

__all__ = ["SCHEMA", "AtFault", "Outbox", "OutboxDepth", "OutboxRow", "OutboxState"]

SCHEMA = create

_AT_QC: tuple[OutboxState, ...] = ("pending", "submitted")
_AT_HOME: tuple[OutboxState, ...] = ("done", "dead")


@dataclass(frozen=True, slots=True)
class OutboxDepth:
    """How many tasks stand in one state."""

    state: OutboxState
    tasks: int
    oldest_at: float
    """When the oldest was put in, in wall-clock seconds."""


class Outbox:
    """The table and its transitions, each one durable transaction.

    An end is delivered at least once: a crash between an answer's arrival and `delivered` delivers it again.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        data_dir: Path,
        recordings_dir: Path | None = None,
        schedule: RetrySchedule | None = None,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """`database` must have been opened with this module's SCHEMA among its own.

        `recordings_dir`, by default in `data_dir`, holds the recordings; rows name them relative to it.
        """
        self.changed = asyncio.Event()
        """Set whenever a row may have become due sooner than was known."""
        self._database = database
        self._clock = clock
        self._schedule = schedule or RetrySchedule()
        self._uniform = uniform
        self._data_dir = data_dir
        self._recordings_dir = recordings_dir or data_dir / "recordings"
        self._data_version: int | None = None

    async def put(self, task: QualityTask, call_id: str) -> bool:
        """Take a task in for good; False when its session id is in already, which changes nothing.

        Raises ValueError for a recording outside the data folder.
        """
        now = self._clock.wall()
        added = await self._execute(
            """INSERT INTO outbox (session_id, app_id, call_id, task, next_at, created_at) VALUES (?, ?, ?, ?, ?, ?)
               ON CONFLICT (session_id) DO NOTHING""",
            (task.session_id, task.app_id, call_id, encode_task(task, self._data_dir, self._recordings_dir), now, now),
        )
        self.changed.set()
        return added

    async def ended(self, *, limit: int, but: Collection[str] = ()) -> Sequence[OutboxRow]:
        """The rows whose end is to be brought home now, the longest due first, without the sessions in `but`."""
        return await self._select(
            f"SELECT * FROM outbox WHERE {_due(_AT_HOME, but)} AND next_at <= ? ORDER BY next_at LIMIT ?",  # noqa: S608 - question marks only
            (*_AT_HOME, *but, self._clock.wall(), limit),
        )

    async def due(self, *, each: int, but: Collection[str] = ()) -> Mapping[str, Sequence[OutboxRow]]:
        """By app, up to `each` rows that QC is to be asked about now, the longest due first."""
        values = (*_AT_QC, *but, self._clock.wall())
        of_one = (
            f"SELECT * FROM outbox WHERE {_due(_AT_QC, but)} AND next_at <= ? AND app_id = ? ORDER BY next_at LIMIT ?"  # noqa: S608 - as above
        )

        def work(connection: sqlite3.Connection) -> Mapping[str, Sequence[OutboxRow]]:
            apps = [
                row["app_id"] for row in connection.execute("SELECT DISTINCT app_id FROM outbox WHERE delivered = 0")
            ]
            found = {app_id: connection.execute(of_one, (*values, app_id, each)).fetchall() for app_id in apps}
            return {app_id: [self._row(row) for row in rows] for app_id, rows in found.items() if rows}

        return await self._database.run(work)

    async def next_ended_at(self, but: Collection[str] = ()) -> float | None:
        """When the next end is to be brought home, in wall-clock seconds; None when none will by itself."""
        return await self._next_at(_AT_HOME, but)

    async def next_due_at(self, but: Collection[str] = ()) -> float | None:
        """When QC is next to be asked, in wall-clock seconds; None when it will not be by itself."""
        return await self._next_at(_AT_QC, but)

    async def _next_at(self, states: Collection[OutboxState], but: Collection[str]) -> float | None:
        # Both are made here: what is in `but` may change before the database's thread gets to it.
        sql, values = f"SELECT MIN(next_at) FROM outbox WHERE {_due(states, but)}", (*states, *but)  # noqa: S608

        def work(connection: sqlite3.Connection) -> float | None:
            earliest: float | None = connection.execute(sql, values).fetchone()[0]
            return earliest

        return await self._database.run(work)

    async def changed_elsewhere(self) -> bool:
        """Whether another process (a command, say) has changed the database since this was last asked."""
        before, self._data_version = self._data_version, await self._database.data_version()
        return before is not None and before != self._data_version

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
                   retry_after_s = NULL, last_error = '', at_fault = ''
               WHERE session_id = ? AND state = 'submitted'""",
            (behind_zeros(msgspec.json.encode(answer)), self._clock.wall() + poll_in_s, session_id),
        )

    async def finished(self, app_id: str, session_id: str, answer: QualityAnswer) -> bool:
        """QC has answered for good. True for the first answer to a session of this app, False for any other.

        It counts whatever state the row was in: a task given up on may still be answered.
        """
        first = await self._execute(
            """UPDATE outbox SET state = 'done', delivered = 0, answer = ?, next_at = ?, failures = 0,
                   failing_since = NULL, retry_after_s = NULL, last_error = '', at_fault = ''
               WHERE session_id = ? AND app_id = ? AND state <> 'done'""",
            (behind_zeros(msgspec.json.encode(answer)), self._clock.wall(), session_id, app_id),
        )
        if first:
            self.changed.set()
        return first

    async def delivered(self, session_id: str, state: OutboxState) -> None:
        """The gateway has taken note of the end `state`; of a later end it still must."""
        await self._execute("UPDATE outbox SET delivered = 1 WHERE session_id = ? AND state = ?", (session_id, state))

    async def failed(
        self,
        row: OutboxRow,
        error: str,
        at_fault: AtFault,
        *,
        retryable: bool,
        retry_after_s: float | None = None,
        resubmit: bool = False,
    ) -> OutboxState:
        """An attempt on `row` failed; the state that follows. `resubmit` hands the task in anew next time.

        What cannot succeed is given up at once, what might when the schedule says so. A row that moved on meanwhile
        (a callback came) keeps its state.
        """
        now = self._clock.wall()

        def work(connection: sqlite3.Connection) -> OutboxState:
            found = connection.execute("SELECT * FROM outbox WHERE session_id = ?", (row.session_id,)).fetchone()
            if found is None:  # the call was deleted: nobody waits for its verdict
                return row.state
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
                       retry_after_s = ?, last_error = ?, at_fault = ? WHERE session_id = ?""",
                (
                    state,
                    # what is over for QC but not yet delivered here is never given up, only tried more rarely
                    now + self._schedule.most_s if next_at is None else next_at,
                    failures,
                    failing_since,
                    retry_after_s,
                    error[:500],
                    at_fault,
                    row.session_id,
                ),
            )
            return state

        return await self._database.run(work)

    async def get(self, app_id: str, session_id: str) -> OutboxRow | None:
        rows = await self._select("SELECT * FROM outbox WHERE session_id = ? AND app_id = ?", (session_id, app_id))
        return rows[0] if rows else None

    async def list(self, states: Collection[OutboxState] = (), *, limit: int = 100) -> Sequence[OutboxRow]:
        """The newest rows of all apps, for the operator; without `states` in any."""
        slots = ",".join("?" * len(states))
        chosen = f"WHERE state IN ({slots})" if states else ""
        return await self._select(
            f"SELECT * FROM outbox {chosen} ORDER BY created_at DESC, session_id LIMIT ?",  # noqa: S608 - as above
            (*states, limit),
        )

    async def depths(self) -> Sequence[OutboxDepth]:
        """What is not done, by state; a state that nothing is in is left out."""

        def work(connection: sqlite3.Connection) -> Sequence[OutboxDepth]:
            rows = connection.execute(
                "SELECT state, COUNT(*), MIN(created_at) FROM outbox WHERE state <> 'done' GROUP BY state"
            )
            return [OutboxDepth(*row) for row in rows]

        return await self._database.run(work)

    async def retry(self, session_id: str) -> OutboxState | None:
        """Begin anew with a task that was given up, or try one now that waits; the state it was in.

        None when there is none such. One that is done stays as it is.
        """

        def work(connection: sqlite3.Connection) -> OutboxState | None:
            row = connection.execute("SELECT state FROM outbox WHERE session_id = ?", (session_id,)).fetchone()
            if row is None:
                return None
            self._revive(connection, "session_id = ? AND state = 'dead'", (session_id,))
            connection.execute(
                "UPDATE outbox SET next_at = ? WHERE session_id = ? AND state IN ('pending', 'submitted')",
                (self._clock.wall(), session_id),
            )
            before: OutboxState = row["state"]
            return before

        before = await self._database.run(work)
        self.changed.set()
        return before

    async def retry_dead(self) -> int:
        """Begin anew with every task that was given up; how many there were."""
        revived = await self._database.run(lambda connection: self._revive(connection, "state = 'dead'", ()))
        self.changed.set()
        return revived

    def _revive(self, connection: sqlite3.Connection, which: str, values: tuple[str, ...]) -> int:
        return connection.execute(
            f"""UPDATE outbox SET state = 'pending', delivered = 0, next_at = ?, failures = 0, failing_since = NULL,
                   submitted_at = NULL, retry_after_s = NULL
               WHERE {which}""",  # noqa: S608 - a constant of this class
            (self._clock.wall(), *values),
        ).rowcount

    async def forget(self, app_id: str, call_id: str) -> None:
        """Remove a call's rows for good, with the verdicts they hold."""
        await self._execute("DELETE FROM outbox WHERE app_id = ? AND call_id = ?", (app_id, call_id))

    async def prune(self, put_in_before_s: float) -> int:
        """Remove rows that QC has answered and whose answers have come home, put in before then; how many."""
        return await self._database.run(
            lambda connection: (
                connection.execute(
                    "DELETE FROM outbox WHERE state = 'done' AND delivered = 1 AND created_at < ?", (put_in_before_s,)
                ).rowcount
            )
        )

    async def owed(self) -> frozenset[str]:
        """The sessions whose verdict has not come home yet."""

        def work(connection: sqlite3.Connection) -> frozenset[str]:
            rows = connection.execute("SELECT session_id FROM outbox WHERE delivered = 0")
            return frozenset(row["session_id"] for row in rows)

        return await self._database.run(work)

    async def _execute(self, sql: str, values: tuple[Any, ...]) -> bool:
        """Run a statement; True when it changed a row."""
        return await self._database.run(lambda connection: connection.execute(sql, values).rowcount > 0)

    async def _select(self, sql: str, values: tuple[Any, ...]) -> Sequence[OutboxRow]:
        return await self._database.run(lambda connection: [self._row(row) for row in connection.execute(sql, values)])

    def _row(self, row: sqlite3.Row) -> OutboxRow:
        return decode_row(row, self._data_dir, self._recordings_dir)


def _due(states: Collection[str], but: Collection[str]) -> str:
    """The condition for rows with work left; its values are the states, then the sessions."""
    marks = ",".join("?" * len(states)), ",".join("?" * len(but))
    return f"delivered = 0 AND state IN ({marks[0]}) AND session_id NOT IN ({marks[1]})"
