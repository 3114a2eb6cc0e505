"""The life of early alerts: from the evaluator's verdicts to messages, and what voice QC makes of them.

provisional -> final | retracted        while the call runs
any but retracted -> confirmed | not_confirmed | indeterminate        after voice QC
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from gateway.call.reconciliation import LiveAlert, reconcile
from gateway.call.text import Text
from protocol.messages import Alert, AlertStatus, AlertUpdate, Evidence, Missed
from protocol.rules.circumstances import Said
from protocol.rules.evaluator import CallEvaluator
from protocol.rules.hearing import Evidence as Heard
from protocol.rules.matcher import Rule, RuleIdentity, RuleSet
from protocol.rules.record import Verdict
from protocol.rules.text import fold_keyword

__all__ = ["AlertLedger", "LiveAlert", "reconcile"]

REFRACTORY_MS = 3000
"""The same keyword of the same segment within this time is the same evidence: a later decode moved it."""
WITHOUT_SEGMENT = ""

Drafts = list[Alert | AlertUpdate]


class AlertLedger:
    """Every alert of one call. Messages it returns still lack `call_id`, `seq` and `at_ms`.

    Those about rules in shadow are not returned: `take_shadowed` has them.
    """

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
        self._rules = rules
        self._pinyin = pinyin
        self._evaluator = CallEvaluator(rules, categories, scope, pinyin=pinyin)
        self._texts: dict[str, tuple[int, Text]] = {}
        self._settled: dict[str, str] = {}
        self._speakers: dict[str, str] = {}
        self._text_ms = 0
        self._closed = False
        self._standing: dict[RuleIdentity, LiveAlert] = {}
        self._all: list[LiveAlert] = []
        self._shadows: list[LiveAlert] = []
        self._shadowed: Drafts = []

    # --- words ---

    def partial(
        self, segment_id: str, channel: int, text: Text, settled: str, *, role: str = "", text_ms: int = 0
    ) -> Drafts:
        """Take an open segment's text so far, of which `settled` may be matched; it is of the audio up to `text_ms`."""
        self._texts[segment_id] = channel, text
        self._text_ms = text_ms
        return self._apply(self._evaluator.partial(segment_id, settled, _said(channel, role, text)), segment_id)

    def final(self, segment_id: str, channel: int, text: Text, *, role: str = "", text_ms: int = 0) -> Drafts:
        """Take a segment's final text."""
        self._texts[segment_id] = channel, text
        self._settled[segment_id] = text.text
        self._text_ms = text_ms
        verdicts = self._evaluator.final(segment_id, text.text, _said(channel, role, text))
        return self._apply(verdicts, segment_id)

    # --- what happens beside ---

    def opened(self, channel: int, begin_ms: int) -> Drafts:
        """A segment opens."""
        return self._apply_at(begin_ms, self._evaluator.opened(channel, begin_ms))

    def spoke(self, segment_id: str, channel: int, begin_ms: int, end_ms: int) -> Drafts:
        """A segment is closed."""
        return self._apply_at(end_ms, self._evaluator.spoke(segment_id, channel, begin_ms, end_ms))

    def labelled(self, segment_id: str, name: str, *, stable: bool, now_ms: int = 0) -> Drafts:
        """Who speaks in a segment, as far as known; evidence found from here on names the speaker."""
        self._speakers[segment_id] = name
        if self._closed:
            return []
        verdicts = self._evaluator.labelled(segment_id, name, stable=stable)
        return self._apply_at(now_ms, verdicts, "speaker_changed")

    def lost(self, channel: int, role: str, begin_ms: int, end_ms: int) -> Drafts:
        """Audio that nobody heard."""
        return self._apply_at(end_ms, self._evaluator.lost(channel, role, begin_ms, end_ms))

    def settled(self, until_ms: int) -> Drafts:
        """All that was said before has its final text, and all that will be said begins later."""
        return self._apply_at(until_ms, self._evaluator.settled(until_ms))

    # --- rules ---

    def judge_only(self, categories: Sequence[str]) -> Drafts:
        """Judge these categories from here on, over all that was said; alerts already sent stay."""
        return self._go_on_with(self._evaluator.rejudged(categories))

    def use(self, rules: RuleSet) -> Drafts:
        """Judge by another version of the rules from the next sentence on.

        Alerts already sent stay, each with the version that raised it; a rule that is still there goes on as it stands.
        """
        if self._closed:
            return []
        self._rules = rules
        return self._go_on_with(self._evaluator.under(rules))

    def _go_on_with(self, evaluator: CallEvaluator) -> Drafts:
        self._evaluator = evaluator
        # What it would have said on the way was said, or undone by what followed: only where it stands now counts.
        return self._apply((replace(one, added=one.hits) for one in evaluator.verdicts()), WITHOUT_SEGMENT)

    # --- the end ---

    def close(self, end_ms: int | None = None) -> Drafts:
        """The call is over: negations settle, but those that a hole may hide the answer to."""
        self._closed = True
        return self._apply_at(end_ms or 0, self._evaluator.close(end_ms))

    def reconcile(
        self, result: dict[str, Any] | None, roles: Sequence[str] = ()
    ) -> tuple[list[AlertUpdate], list[Missed]]:
        """Hold every alert against voice QC's `result`; None: there will be none."""
        updates, missed = reconcile(self._all, result, holes=self._evaluator.holes, roles=roles)
        statuses = {update.alert_id: update.status for update in updates}
        for alert in self._all:
            alert.status = statuses.get(alert.alert_id, alert.status)
        return updates, missed

    def take_shadowed(self) -> Drafts:
        """What rules in shadow would have sent since the last time; their alerts are numbered for themselves."""
        taken, self._shadowed = self._shadowed, []
        return taken

    # --- from verdicts to messages ---

    def _apply_at(self, now_ms: int, verdicts: Iterable[Verdict], why_undone: str = "forbidden_keyword") -> Drafts:
        self._text_ms = now_ms
        return self._apply(verdicts, WITHOUT_SEGMENT, why_undone)

    def _apply(self, verdicts: Iterable[Verdict], segment_id: str, why_undone: str = "forbidden_keyword") -> Drafts:
        drafts: Drafts = []
        for verdict in verdicts:
            about = self._message(verdict, segment_id, why_undone)
            if about is not None:
                (self._shadowed if verdict.rule.shadow else drafts).append(about)
        return drafts

    def _message(self, verdict: Verdict, segment_id: str, why_undone: str) -> Alert | AlertUpdate | None:
        alert = self._standing.get(verdict.rule.identity)
        if verdict.state == "none":
            return None if alert is None else self._retract(verdict.rule, alert, segment_id, why_undone)
        return self._raise(verdict) if alert is None else self._add(alert, verdict)

    def _raise(self, verdict: Verdict) -> Alert:
        assert verdict.state != "none"
        rule, evidence = verdict.rule, [self._located(heard, verdict) for heard in verdict.hits]
        raised = self._shadows if rule.shadow else self._all
        alert = LiveAlert(
            f"{self._id_prefix}{'shadow' if rule.shadow else 'a'}{len(raised) + 1}",
            rule.category,
            rule.expression,
            verdict.state,
            list(dict.fromkeys(heard.keyword for heard in verdict.hits)),
            evidence,
            list(verdict.pending),
            None if rule.options is None else msgspec.to_builtins(rule.options),
        )
        raised.append(alert)
        self._standing[rule.identity] = alert
        return Alert(
            alert_id=alert.alert_id,
            category=alert.category,
            rule=alert.rule,
            options=alert.options,
            rule_version=rule.version,
            certainty=verdict.state,
            pending=list(verdict.pending),
            keywords=alert.keywords,
            evidence=list(evidence),  # the alert's own list grows
            heard_ms=max((one.end_ms for one in evidence), default=self._text_ms),
            text_ms=self._text_ms,
        )

    def _add(self, alert: LiveAlert, verdict: Verdict) -> AlertUpdate | None:
        located = (self._located(heard, verdict) for heard in verdict.added)
        added = [evidence for evidence in located if not _seen(evidence, alert.evidence)]
        status: AlertStatus = "final" if "final" in (verdict.state, alert.status) else "provisional"
        alert.pending = list(verdict.pending)
        if not added and status == alert.status:
            return None
        reason = "settled" if status != alert.status else "evidence"
        alert.status = status
        alert.evidence += added
        alert.keywords = list(dict.fromkeys([*alert.keywords, *(evidence.keyword for evidence in added)]))
        return AlertUpdate(alert_id=alert.alert_id, status=status, reason=reason, evidence=added)

    def _retract(self, rule: Rule, alert: LiveAlert, segment_id: str, why_undone: str) -> AlertUpdate:
        kept = self._keywords_in(self._settled.get(segment_id, ""))
        unheard = alert.partial and any(
            one.segment_id == segment_id and fold_keyword(one.keyword) not in kept for one in alert.evidence
        )
        del self._standing[rule.identity]
        alert.status = "retracted"
        reason = "not_in_final_text" if unheard else why_undone
        return AlertUpdate(alert_id=alert.alert_id, status="retracted", reason=reason, evidence=[])

    def _keywords_in(self, text: str) -> set[str]:
        by_sound = self._pinyin or self._rules.has_pinyin_rules
        return {fold_keyword(hit.keyword) for hit in self._rules.find(text, pinyin=by_sound)}

    def _located(self, heard: Heard, verdict: Verdict) -> Evidence:
        segment_id = str(heard.sentence_id)
        channel, text = self._texts.get(segment_id, (0, None))
        if heard.measured_ms is not None:
            begin_ms, end_ms = heard.measured_ms
        else:
            assert text is not None, "words are heard in a text"
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
            speaker=self._speakers.get(segment_id, ""),
            sub_expression=verdict.made_true,
        )


def _said(channel: int, role: str, text: Text) -> Said:
    return Said(channel, role, text.begin_ms, text.end_ms, text.locate)


def _seen(evidence: Evidence, known: Iterable[Evidence]) -> bool:
    return any(
        (one.segment_id, one.keyword) == (evidence.segment_id, evidence.keyword)
        and abs(one.begin_ms - evidence.begin_ms) < REFRACTORY_MS
        for one in known
    )
