"""The results of voice QC that are still to be pushed, in SQLite, beside the tasks they belong to."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Collection, Sequence

from gateway.ports import Clock, QualityPush
from gateway.stores.quality import run
from gateway.stores.retry_schedule import RetrySchedule
from gateway.stores.sqlite import Database


class SqliteQualityPushes:
    """`QualityPushes`. A push is on record from its task's creation, and due once the task is finished."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        schedule: RetrySchedule | None = None,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """`database` must have been opened with the SCHEMA of `gateway.stores.quality` among its own."""
        self._database = database
        self._clock = clock
        self._schedule = schedule or RetrySchedule()
        self._uniform = uniform

    async def due(self, *, limit: int, but: Collection[str] = ()) -> Sequence[QualityPush]:
        slots = ",".join("?" * len(but))
        statement = f"""
            SELECT p.ticket, t.app_id, t.session_id, p.url, p.failures
            FROM quality_pushes p JOIN quality_tasks t ON t.ticket = p.ticket
            WHERE p.state = 'waiting' AND p.next_at <= ? AND p.ticket NOT IN ({slots}) ORDER BY p.next_at LIMIT ?
            """  # noqa: S608 - question marks only
        values = (self._clock.wall(), *but, limit)
        return await run(self._database, lambda db: [QualityPush(**row) for row in db.execute(statement, values)])

    async def next_at(self, but: Collection[str] = ()) -> float | None:
        slots = ",".join("?" * len(but))
        statement = f"SELECT MIN(next_at) FROM quality_pushes WHERE state = 'waiting' AND ticket NOT IN ({slots})"  # noqa: S608 - as above
        values = tuple(but)

        def work(db: sqlite3.Connection) -> float | None:
            earliest: float | None = db.execute(statement, values).fetchone()[0]
            return earliest

        return await run(self._database, work)

    async def delivered(self, ticket: str) -> None:
        await run(
            self._database,
            lambda db: db.execute(
                "UPDATE quality_pushes SET state = 'delivered', failures = 0, last_error = '' WHERE ticket = ?",
                (ticket,),
            ),
        )

    async def failed(self, ticket: str, error: str, *, retryable: bool, retry_after_s: float | None = None) -> bool:
        now = self._clock.wall()

        def work(db: sqlite3.Connection) -> bool:
            row = db.execute(
                "SELECT failures, failing_since FROM quality_pushes WHERE ticket = ?", (ticket,)
            ).fetchone()
            if row is None:  # the session was submitted anew: nobody waits for this result
                return False
            failing_since = now if row["failing_since"] is None else row["failing_since"]
            failures = row["failures"] + 1
            next_at = self._schedule.next_at(
                now, failing_since=failing_since, failures=failures, retry_after_s=retry_after_s, uniform=self._uniform
            )
            again = retryable and next_at is not None
            db.execute(
                "UPDATE quality_pushes SET state = ?, next_at = ?, failures = ?, failing_since = ?, last_error = ?"
                " WHERE ticket = ?",
                ("waiting" if again else "dead", next_at or now, failures, failing_since, error[:500], ticket),
            )
            return again

        return await run(self._database, work)
