"""The track record of rules: kept once for each call, summed by rule."""

from pathlib import Path

from gateway.call.track_record import RuleOutcome, outcomes
from gateway.stores.rule_outcomes import SCHEMA, SqliteRuleOutcomes
from gateway.stores.sqlite import Database


def test_outcomes_of_a_call_are_counted_by_category_and_expression() -> None:
    def alert(rule: str, status: str, at_ms: int) -> dict[str, object]:
        return {"category": "c", "rule": rule, "status": status, "at_ms": at_ms}

    document = {
        "duration_ms": 10_000,
        "alerts": [
            alert("a", "retracted", 1000),
            alert("a", "confirmed", 4000),
            alert("b", "not_confirmed", 2000),
            alert("d", "indeterminate", 2000),
        ],
        "shadow_alerts": [alert("s", "final", 1), alert("s", "retracted", 2)],
        "qc": {"missed": [{"category": "c", "rule": "m", "keywords": []}]},
    }
    assert outcomes(document, 15_000) == [
        RuleOutcome("c", "a", alerts=2, retracted=1, confirmed=1, lead_ms=11_000, hangup_lead_ms=6000),
        RuleOutcome("c", "b", alerts=1, not_confirmed=1),
        RuleOutcome("c", "d", alerts=1, indeterminate=1),
        RuleOutcome("c", "s", shadow=1),
        RuleOutcome("c", "m", missed=1),
    ]


async def test_a_verdict_that_comes_again_takes_its_own_place(tmp_path: Path) -> None:
    database = Database(tmp_path / "earshot.db", [SCHEMA])
    store = SqliteRuleOutcomes(database)
    await store.keep("app", "one", 1000, [RuleOutcome("c", "a", alerts=1, indeterminate=1)])
    confirmed = RuleOutcome("c", "a", alerts=1, confirmed=1, lead_ms=500, hangup_lead_ms=50)
    for _ in range(2):
        await store.keep("app", "one", 2000, [confirmed, RuleOutcome("c", "b", missed=1)])
    await store.keep("other", "theirs", 2000, [RuleOutcome("c", "a", alerts=9)])
    for index, lead_ms in enumerate((900, 100)):
        one = RuleOutcome("c", "a", alerts=1, confirmed=1, lead_ms=lead_ms, hangup_lead_ms=0)
        await store.keep("app", f"more {index}", 3000, [one])
    a, b = await store.tracks("app", since_ms=0, limit=10)
    assert (a.calls, a.alerts, a.confirmed, a.indeterminate, a.lead_p50_ms, a.hangup_lead_p50_ms) == (
        3,
        3,
        3,
        0,
        500,
        0,
    )
    assert (b.rule, b.calls, b.missed, b.lead_p50_ms) == ("b", 1, 1, None)
    (late,) = await store.tracks("app", since_ms=2500, limit=10)
    assert (late.calls, late.lead_p50_ms) == (2, 100)
    database.close()
