"""What voice QC's verdict makes of a call's alerts, live or over a stored document."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from protocol.messages import AlertStatus, AlertUpdate, Evidence, Missed
from protocol.rules import RuleSyntaxError, parse
from protocol.rules.circumstances import Hole
from protocol.rules.options import keywords

NEAR_A_HOLE_MS = 500
"""A word this close to a hole may be cut by it: times of words are not exact."""


@dataclass(slots=True)
class LiveAlert:
    """One alert that was sent, and where it stands."""

    alert_id: str
    category: str
    rule: str
    status: AlertStatus
    keywords: list[str]
    evidence: list[Evidence] = field(default_factory=list)
    pending: list[str] = field(default_factory=list)
    options: dict[str, Any] | None = None
    """What the rule asks beyond the vendor's language; None: nothing."""

    @property
    def partial(self) -> bool:
        """Raised on text that was not final yet."""
        return "partial_text" in self.pending


def reconcile(
    alerts: Sequence[LiveAlert],
    result: dict[str, Any] | None,
    *,
    holes: Sequence[Hole] = (),
    roles: Sequence[str] = (),
) -> tuple[list[AlertUpdate], list[Missed]]:
    """What voice QC's verdict makes of a call's alerts, and the hits that no alert had named.

    An alert matches a hit of its category that names its expression and options; where a hit names none, a shared
    keyword (or no keyword on either side) will do. `result` None: voice QC gave no verdict, so every alert is
    `indeterminate`. So is one whose rule voice QC could not judge, and one that depends on a hole: it was not confirmed
    and its words were said beside a hole, or it holds only if a word that forbids it was not said in one.
    """
    # One that is indeterminate still waits for a verdict, should there be one after all.
    standing = [alert for alert in alerts if alert.status in ("provisional", "final", "indeterminate")]
    if result is None:
        return [_update(alert, "indeterminate", "no_verdict") for alert in standing], []
    hits = _hits(result)
    updates = []
    for alert in standing:
        confirmed = any(hit.matches(alert) for hit in hits)
        if not confirmed and not _judged(alert, result, roles):
            updates.append(_update(alert, "indeterminate", "not_judged"))
        elif _in_a_negation(alert, holes) if confirmed else _beside(alert.evidence, holes):
            updates.append(_update(alert, "indeterminate", "gap"))
        elif confirmed:
            updates.append(_update(alert, "confirmed", "qc_hit"))
        else:
            updates.append(_update(alert, "not_confirmed", "no_qc_hit"))
    missed = [
        Missed(category=hit.category, rule=hit.rule, keywords=list(hit.keywords))
        for hit in hits
        if not any(hit.matches(alert) for alert in standing)
    ]
    return updates, missed


def _update(alert: LiveAlert, status: AlertStatus, reason: str) -> AlertUpdate:
    return AlertUpdate(alert_id=alert.alert_id, status=status, reason=reason, evidence=[])


def _in_a_negation(alert: LiveAlert, holes: Sequence[Hole]) -> bool:
    """Whether the call ended with a negation unsettled, which only a hole does."""
    return bool(holes) and alert.status == "provisional" and "negation" in alert.pending


def _beside(evidence: Iterable[Evidence], holes: Sequence[Hole]) -> bool:
    return any(
        hole.channel == one.channel
        and hole.begin_ms - NEAR_A_HOLE_MS < one.end_ms
        and hole.end_ms + NEAR_A_HOLE_MS > one.begin_ms
        for one in evidence
        for hole in holes
    )


def _judged(alert: LiveAlert, result: dict[str, Any], roles: Sequence[str]) -> bool:
    """Whether voice QC could judge the alert's rule: a vendor's knows no options, ours knows roles by channel only."""
    if alert.options is None:
        return True
    if "rules_version" not in result or alert.options.get("speaker"):
        return False
    return tuple(roles) in ((), ("agent", "customer"), ("mixed",)) or not _asks_for_a_role(alert)


def _asks_for_a_role(alert: LiveAlert) -> bool:
    if alert.options and alert.options.get("role"):
        return True
    try:
        return any(keyword.role for keyword in keywords(parse(alert.rule, extended=True)))
    except RuleSyntaxError:
        return False  # kept by a version with other bounds


@dataclass(frozen=True, slots=True)
class _Hit:
    category: str
    rule: str
    keywords: tuple[str, ...]
    options: dict[str, Any] | None = None

    def matches(self, alert: LiveAlert) -> bool:
        if alert.category != self.category:
            return False
        if self.rule:
            return (alert.rule, alert.options) == (self.rule, self.options)
        if alert.options is not None:
            return False  # who names no expressions knows no options
        return not alert.keywords or not self.keywords or bool(set(alert.keywords) & set(self.keywords))


def _hits(result: dict[str, Any]) -> list[_Hit]:
    """The hits of a result: by expression where an entry of `detection_result` names them (ours does, in `detail`)."""
    hits = []
    for entry in result.get("detection_result") or ():
        category = str(entry.get("category", ""))
        contents = entry.get("detail")
        if contents:
            hits += [
                _Hit(category, str(content["content"]), tuple(content["keyword"]), content.get("options"))
                for content in contents
            ]
        else:
            hits.append(_Hit(category, "", tuple(entry.get("keyword") or ())))
    return hits
