"""How the early alerts of one call did against voice QC's verdict, rule by rule."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class RuleOutcome:
    """One rule in one call that is judged. Counts are of alerts; `missed` is of hits that no alert had named."""

    category: str
    rule: str
    """Its expression; empty where the verdict names none."""
    alerts: int = 0
    """Those retracted too."""
    confirmed: int = 0
    not_confirmed: int = 0
    indeterminate: int = 0
    retracted: int = 0
    missed: int = 0
    shadow: int = 0
    """Alerts that it would have raised, had it not been in shadow. Voice QC does not judge those."""
    lead_ms: int | None = None
    """How long before the verdict its first confirmed alert came."""
    hangup_lead_ms: int | None = None
    """... and before the end of the call."""


def outcomes(document: dict[str, Any], verdict_at_ms: int) -> list[RuleOutcome]:
    """The rules that a judged call's document says something about; the verdict came `verdict_at_ms` into the call."""
    counts: dict[tuple[str, str], dict[str, int]] = {}
    first_ms: dict[tuple[str, str], int] = {}
    for alert in document["alerts"]:
        named: tuple[str, str] = alert["category"], alert["rule"]
        status = alert["status"]
        _count(counts, named, "alerts")
        if status in ("confirmed", "not_confirmed", "indeterminate", "retracted"):
            _count(counts, named, status)
        if status == "confirmed":
            first_ms[named] = min(alert["at_ms"], first_ms.get(named, alert["at_ms"]))
    for alert in document.get("shadow_alerts", ()):
        if alert["status"] != "retracted":
            _count(counts, (alert["category"], alert["rule"]), "shadow")
    for missed in (document["qc"] or {}).get("missed", ()):
        _count(counts, (missed["category"], missed["rule"]), "missed")
    found = []
    for (category, rule), counted in counts.items():
        at_ms = first_ms.get((category, rule))
        outcome = RuleOutcome(category, rule, **counted)
        if at_ms is not None:
            leads = {"lead_ms": verdict_at_ms - at_ms, "hangup_lead_ms": document["duration_ms"] - at_ms}
            outcome = replace(outcome, **leads)
        found.append(outcome)
    return found


def _count(counts: dict[tuple[str, str], dict[str, int]], rule: tuple[str, str], what: str) -> None:
    counted = counts.setdefault(rule, {})
    counted[what] = counted.get(what, 0) + 1
