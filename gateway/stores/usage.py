"""What each app has used, in SQLite: one row for each app, day and product."""

from __future__ import annotations

import sqlite3

from gateway.ports import Product

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
