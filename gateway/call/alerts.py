"""The life of early alerts: from the evaluator's verdicts to messages, and what voice QC makes of them.

provisional -> final | retracted        while the call runs
any but retracted -> confirmed | not_confirmed | indeterminate        after voice QC
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from msgspec.structs import replace

from gateway.call.text import Text
from protocol.messages import Alert, AlertStatus, AlertUpdate, Evidence, Missed
from protocol.rules.evaluator import CallEvaluator, Verdict
from protocol.rules.hearing import Evidence as Heard
from protocol.rules.matcher import RuleSet
from protocol.rules.text import fold

REFRACTORY_MS = 3000
"""The same keyword of the same segment within this time is the same evidence: a later decode moved it."""


@dataclass(slots=True)
class LiveAlert:
    """One alert that was sent, and where it stands."""

    alert_id: str
    category: str
    rule: str
    status: AlertStatus
    keywords: list[str]
    evidence: list[Evidence] = field(default_factory=list)
    partial: bool = False
    """Raised on text that was not final yet."""


class AlertLedger:
    """Every alert of one call. Messages it returns still lack `call_id`, `seq` and `at_ms`."""

    def __init__(
        self,
        rules: RuleSet,
        categories: Sequence[str],
        scope: Literal["recording", "sentence"],
        *,
        pinyin: bool,
        id_prefix: str = "",
    ) -> None:
        self._id_prefix = id_prefix
        self._evaluator_for: Callable[[Sequence[str]], CallEvaluator] = lambda wanted: CallEvaluator(
            rules, wanted, scope, pinyin=pinyin
        )
        self._evaluator = self._evaluator_for(categories)
        by_sound = pinyin or rules.has_pinyin_rules
        self._keywords_in: Callable[[str], set[str]] = lambda text: {
            fold(hit.keyword).text for hit in rules.find(text, pinyin=by_sound)
        }
        self._texts: dict[str, tuple[int, Text]] = {}
        self._settled: dict[str, str] = {}
        self._growing: dict[str, list[str]] = {}
        self._standing: dict[tuple[str, str], LiveAlert] = {}
        self._all: list[LiveAlert] = []

    def partial(self, segment_id: str, channel: int, text: Text, settled: str) -> list[Alert | AlertUpdate]:
        """Take an open segment's text so far, of which `settled` may be matched."""
        self._texts[segment_id] = channel, text
        self._growing.setdefault(segment_id, []).append(settled)
        return self._apply(self._evaluator.partial(segment_id, settled), segment_id)

    def final(self, segment_id: str, channel: int, text: Text) -> list[Alert | AlertUpdate]:
        """Take a segment's final text."""
        self._texts[segment_id] = channel, text
        self._settled[segment_id] = text.text
        self._growing.pop(segment_id, None)
        return self._apply(self._evaluator.final(segment_id, text.text), segment_id)

    def judge_only(self, categories: Sequence[str]) -> list[Alert | AlertUpdate]:
        """Judge these categories from here on, over all that was said; alerts already sent stay."""
        evaluator = self._evaluator = self._evaluator_for(categories)
        # What it would have said on the way was said, or undone by what followed: only where it stands now counts.
        for segment_id, text in self._settled.items():
            evaluator.final(segment_id, text)
        for segment_id, texts in self._growing.items():
            for text in texts:
                evaluator.partial(segment_id, text)
        return self._apply((replace(one, added=one.hits) for one in evaluator.verdicts()), "")

    def close(self) -> list[Alert | AlertUpdate]:
        """The call is over: negations settle."""
        return self._apply(self._evaluator.close(), "")

    def reconcile(self, result: dict[str, Any] | None) -> tuple[list[AlertUpdate], list[Missed]]:
        """Hold every alert against voice QC's `result`; None: there will be none."""
        updates, missed = reconcile(self._all, result)
        statuses = {update.alert_id: update.status for update in updates}
        for alert in self._all:
            alert.status = statuses.get(alert.alert_id, alert.status)
        return updates, missed

    def _apply(self, verdicts: Iterable[Verdict], segment_id: str) -> list[Alert | AlertUpdate]:
        messages: list[Alert | AlertUpdate] = []
        for verdict in verdicts:
            alert = self._standing.get((verdict.rule.category, verdict.rule.expression))
            if verdict.state == "none":
                if alert is not None:
                    messages.append(self._retract(alert, segment_id))
            elif alert is None:
                messages.append(self._raise(verdict))
            else:
                messages += self._add(alert, verdict)
        return messages

    def _raise(self, verdict: Verdict) -> Alert:
        assert verdict.state != "none"
        evidence = [self._located(heard) for heard in verdict.hits]
        alert = LiveAlert(
            f"{self._id_prefix}a{len(self._all) + 1}",
            verdict.rule.category,
            verdict.rule.expression,
            verdict.state,
            list(dict.fromkeys(heard.keyword for heard in verdict.hits)),
            evidence,
            "partial_text" in verdict.pending,
        )
        self._all.append(alert)
        self._standing[alert.category, alert.rule] = alert
        return Alert(
            alert_id=alert.alert_id,
            category=alert.category,
            rule=alert.rule,
            rule_version=verdict.rule.version,
            certainty=verdict.state,
            pending=list(verdict.pending),
            keywords=alert.keywords,
            evidence=[*evidence],  # the alert's own list grows
        )

    def _add(self, alert: LiveAlert, verdict: Verdict) -> list[AlertUpdate]:
        located = (self._located(heard) for heard in verdict.added)
        added = [evidence for evidence in located if not _seen(evidence, alert.evidence)]
        status: AlertStatus = "final" if "final" in (verdict.state, alert.status) else "provisional"
        alert.partial = "partial_text" in verdict.pending
        if not added and status == alert.status:
            return []
        reason = "settled" if status != alert.status else "evidence"
        alert.status = status
        alert.evidence += added
        alert.keywords = list(dict.fromkeys([*alert.keywords, *(evidence.keyword for evidence in added)]))
        return [AlertUpdate(alert_id=alert.alert_id, status=status, reason=reason, evidence=added)]

    def _retract(self, alert: LiveAlert, segment_id: str) -> AlertUpdate:
        kept = self._keywords_in(self._settled.get(segment_id, ""))
        unheard = alert.partial and any(
            evidence.segment_id == segment_id and fold(evidence.keyword).text not in kept for evidence in alert.evidence
        )
        del self._standing[alert.category, alert.rule]
        alert.status = "retracted"
        reason = "not_in_final_text" if unheard else "forbidden_keyword"
        return AlertUpdate(alert_id=alert.alert_id, status="retracted", reason=reason, evidence=[])

    def _located(self, heard: Heard) -> Evidence:
        segment_id = str(heard.sentence_id)
        channel, text = self._texts[segment_id]
        begin_ms, end_ms = text.locate(heard.begin, heard.end)
        return Evidence(
            segment_id=segment_id,
            channel=channel,
            text=heard.text,
            begin_ms=begin_ms,
            end_ms=end_ms,
            keyword=heard.keyword,
            match=heard.match,
            begin=heard.begin,
            end=heard.end,
        )


def _seen(evidence: Evidence, known: Iterable[Evidence]) -> bool:
    return any(
        (one.segment_id, one.keyword) == (evidence.segment_id, evidence.keyword)
        and abs(one.begin_ms - evidence.begin_ms) < REFRACTORY_MS
        for one in known
    )


def reconcile(alerts: Sequence[LiveAlert], result: dict[str, Any] | None) -> tuple[list[AlertUpdate], list[Missed]]:
    """What voice QC's verdict makes of a call's alerts, and the hits that no alert had named.

    An alert matches a hit of its category that names its expression; where a hit names none, a shared keyword (or no
    keyword on either side) will do. `result` None: voice QC gave no verdict, so every alert is `indeterminate`.
    """
    standing = [alert for alert in alerts if alert.status in ("provisional", "final")]
    if result is None:
        return [_update(alert, "indeterminate", "no_verdict") for alert in standing], []
    hits = _hits(result)
    updates = []
    for alert in standing:
        confirmed = any(hit.matches(alert) for hit in hits)
        status: AlertStatus = "confirmed" if confirmed else "not_confirmed"
        updates.append(_update(alert, status, "qc_hit" if confirmed else "no_qc_hit"))
    missed = [
        Missed(category=hit.category, rule=hit.rule, keywords=list(hit.keywords))
        for hit in hits
        if not any(hit.matches(alert) for alert in standing)
    ]
    return updates, missed


def _update(alert: LiveAlert, status: AlertStatus, reason: str) -> AlertUpdate:
    return AlertUpdate(alert_id=alert.alert_id, status=status, reason=reason, evidence=[])


@dataclass(frozen=True, slots=True)
class _Hit:
    category: str
    rule: str
    keywords: tuple[str, ...]

    def matches(self, alert: LiveAlert) -> bool:
        if alert.category != self.category:
            return False
        if self.rule:
            return alert.rule == self.rule
        return not alert.keywords or not self.keywords or bool(set(alert.keywords) & set(self.keywords))


def _hits(result: dict[str, Any]) -> list[_Hit]:
    """The hits of a result: by expression where an entry of `detection_result` names them (ours does, in `detail`)."""
    hits = []
    for entry in result.get("detection_result") or ():
        category = str(entry.get("category", ""))
        contents = entry.get("detail")
        if contents:
            hits += [_Hit(category, str(content["content"]), tuple(content["keyword"])) for content in contents]
        else:
            hits.append(_Hit(category, "", tuple(entry.get("keyword") or ())))
    return hits
