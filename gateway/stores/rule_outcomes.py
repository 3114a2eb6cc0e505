"""How each rule did in each judged call, in SQLite: the track record is a sum over these."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from gateway.call.track_record import RuleOutcome
from gateway.ports import RuleTrack
from gateway.stores.sqlite import Database

SCHEMA = """
CREATE TABLE IF NOT EXISTS rule_outcomes (
    app_id TEXT NOT NULL,
    call_id TEXT NOT NULL,
    category TEXT NOT NULL,
    rule TEXT NOT NULL,
    judged_at_ms INTEGER NOT NULL,
    alerts INTEGER NOT NULL,
    confirmed INTEGER NOT NULL,
    not_confirmed INTEGER NOT NULL,
    indeterminate INTEGER NOT NULL,
    retracted INTEGER NOT NULL,
    missed INTEGER NOT NULL,
    shadow INTEGER NOT NULL,
    lead_ms INTEGER,
    hangup_lead_ms INTEGER,
    PRIMARY KEY (app_id, call_id, category, rule)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS rule_outcomes_by_time ON rule_outcomes (app_id, judged_at_ms);
"""
_COUNTS = ("alerts", "confirmed", "not_confirmed", "indeterminate", "retracted", "missed", "shadow")
_NUMBERS = (*_COUNTS, "lead_ms", "hangup_lead_ms")
_SUMS = ", ".join(f"sum({name}) AS {name}" for name in _COUNTS)
# Counts are of few rows, constants of this file; the medians are the lower ones.
_TRACKS = f"""
    WITH chosen AS (SELECT * FROM rule_outcomes WHERE app_id = :app_id AND judged_at_ms >= :since_ms),
    leads AS (
        SELECT category, rule, lead_ms, hangup_lead_ms,
            row_number() OVER (PARTITION BY category, rule ORDER BY lead_ms) AS place,
            row_number() OVER (PARTITION BY category, rule ORDER BY hangup_lead_ms) AS hangup_place,
            count(*) OVER (PARTITION BY category, rule) AS known
        FROM chosen WHERE lead_ms IS NOT NULL
    ),
    medians AS (
        SELECT category, rule,
            max(CASE WHEN place = (known + 1) / 2 THEN lead_ms END) AS lead_p50_ms,
            max(CASE WHEN hangup_place = (known + 1) / 2 THEN hangup_lead_ms END) AS hangup_lead_p50_ms
        FROM leads GROUP BY category, rule
    )
    SELECT category, rule, count(*) AS calls, {_SUMS},
        max(lead_p50_ms) AS lead_p50_ms, max(hangup_lead_p50_ms) AS hangup_lead_p50_ms
    FROM chosen LEFT JOIN medians USING (category, rule)
    GROUP BY category, rule ORDER BY category, rule LIMIT :limit
"""  # noqa: S608 - constants only


class SqliteRuleOutcomes:
    """Fills the role RuleOutcomes."""

    def __init__(self, database: Database) -> None:
        """`database` must have been opened with this module's SCHEMA among its own."""
        self._database = database

    async def keep(self, app_id: str, call_id: str, judged_at_ms: int, outcomes: Sequence[RuleOutcome]) -> None:
        rows = [
            (app_id, call_id, one.category, one.rule, judged_at_ms, *(getattr(one, name) for name in _NUMBERS))
            for one in outcomes
        ]

        def work(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM rule_outcomes WHERE app_id = ? AND call_id = ?", (app_id, call_id))
            db.executemany(f"INSERT INTO rule_outcomes VALUES ({','.join('?' * 14)})", rows)  # noqa: S608 - slots only

        await self._database.run(work)

    async def tracks(self, app_id: str, *, since_ms: int, limit: int) -> Sequence[RuleTrack]:
        def work(db: sqlite3.Connection) -> list[RuleTrack]:
            found = db.execute(_TRACKS, {"app_id": app_id, "since_ms": since_ms, "limit": limit})
            return [RuleTrack(**row) for row in found]

        return await self._database.run(work)
