"""What each app has used, in SQLite: one row for each app, day and product."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from gateway.ports import Clock, Product, Quotas, Unavailable, UsageDay, day_of
from gateway.stores.sqlite import Database

SCHEMA = """
CREATE TABLE IF NOT EXISTS usage (
    app_id TEXT NOT NULL,
    day TEXT NOT NULL,      -- UTC, YYYY-MM-DD
    product TEXT NOT NULL,
    amount INTEGER NOT NULL,
    PRIMARY KEY (app_id, day, product)
) WITHOUT ROWID;
"""


def count_usage(connection: sqlite3.Connection, app_id: str, day: str, product: Product, amount: int) -> None:
    """Count `amount` more, inside the caller's transaction: what is counted and what it is for cannot part."""
    connection.execute(
        "INSERT INTO usage VALUES (?, ?, ?, ?)"
        " ON CONFLICT (app_id, day, product) DO UPDATE SET amount = amount + excluded.amount",
        (app_id, day, product, amount),
    )


class SqliteUsage:
    """Fills the role UsageMeter."""

    def __init__(self, database: Database, clock: Clock, quotas: Quotas) -> None:
        """`database` must have been opened with this module's SCHEMA among its own."""
        self._database = database
        self._clock = clock
        self._quotas = quotas

    async def add(self, app_id: str, product: Product, amount: int) -> None:
        day = day_of(self._clock.wall())
        try:
            await self._database.run(lambda db: count_usage(db, app_id, day, product, amount))
        except sqlite3.OperationalError as fault:
            raise _unavailable(fault) from fault

    async def over_quota(self, app_id: str, product: Product) -> str:
        if self._quotas.of(app_id, product) is None:
            return ""
        now_s = self._clock.wall()
        today = day_of(now_s)
        used = sum(one.amount for one in await self.days(app_id, today, today) if one.product == product)
        return self._quotas.refusal(app_id, product, used, now_s)

    async def days(self, app_id: str, first_day: str, last_day: str) -> Sequence[UsageDay]:
        def work(db: sqlite3.Connection) -> list[UsageDay]:
            rows = db.execute(
                "SELECT day, product, amount FROM usage WHERE app_id = ? AND day BETWEEN ? AND ? ORDER BY day, product",
                (app_id, first_day, last_day),
            )
            return [UsageDay(**row) for row in rows]

        try:
            return await self._database.run(work)
        except sqlite3.OperationalError as fault:
            raise _unavailable(fault) from fault


def _unavailable(fault: sqlite3.OperationalError) -> Unavailable:
    return Unavailable(f"the database of usage does not answer: {fault}")
