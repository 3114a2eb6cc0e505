"""What became of each rule in one call: by the reference, live, and by voice QC. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from gateway.evaluation.figures import qc_rules, verdict_of
from gateway.evaluation.player import Arrived
from gateway.evaluation.rulemaking import MadeRule
from protocol.messages import Alert, AlertStatus, AlertUpdate, QcResult, Transcript
from protocol.rules import RuleSet, judge

Stood = Literal["none", "provisional", "final"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One rule in one call.

    `due` (in the rule): true by the reference text. `heard`, `heard_by_sound`: true by the live final texts as they
    are written, and by toneless pinyin. `lead_ms`: how long before voice QC's verdict the first alert came, for an
    alert that stood; None without one. `latency_ms` is in `figures.AlertTime`.
    """

    call: str
    rule: MadeRule
    alerts: int
    """Sent, those that were retracted later included."""
    undone: int
    """Of them, retracted because a forbidden word came."""
    stood: Stood
    """When voice QC took over."""
    status: AlertStatus | Literal[""]
    """What voice QC made of the alert that stood."""
    qc: bool
    heard: bool
    heard_by_sound: bool
    lead_ms: float | None
    before_hangup_ms: float | None

    @property
    def false_alarms(self) -> int:
        """Alerts for a rule that was not due.

        One that a forbidden word undid later was right when it came (`certainty: provisional` says so) and is none.
        """
        return 0 if self.rule.due else self.alerts - self.undone

    @property
    def homophone(self) -> bool:
        """Whether the reference makes the rule true by sound alone: no ear could tell the difference."""
        return self.rule.due_by_sound and not self.rule.due


@dataclass(slots=True)
class _Told:
    at_ms: float
    status: AlertStatus
    undone: bool = False


def outcomes(call: str, rules: Iterable[MadeRule], arrived: Sequence[Arrived], hangup_ms: float) -> list[Outcome]:
    """What became of each of `rules`. Rules that the server judged beyond these are not looked at."""
    told: dict[str, dict[str, _Told]] = {}
    by_id: dict[str, _Told] = {}
    before_qc: dict[str, AlertStatus] = {}
    verdict_at_ms: float | None = None
    for one in arrived:
        match one.message:
            case Alert(alert_id=alert_id, rule=expression, certainty=certainty):
                by_id[alert_id] = told.setdefault(expression, {})[alert_id] = _Told(one.at_ms, certainty)
                before_qc[alert_id] = certainty
            case AlertUpdate(alert_id=alert_id, status=status, reason=reason) if alert_id in by_id:
                by_id[alert_id].status = status
                by_id[alert_id].undone = status == "retracted" and reason == "forbidden_keyword"
                if status in ("provisional", "final", "retracted"):
                    before_qc[alert_id] = status
            case QcResult():
                verdict_at_ms = one.at_ms
    expressions = list(rules)
    found = qc_rules(verdict_of(arrived))
    heard, by_sound = (_true_of(expressions, arrived, pinyin=pinyin) for pinyin in (False, True))
    made = []
    for rule in expressions:
        alerts = told.get(rule.expression, {})
        standing = [alert_id for alert_id in alerts if before_qc[alert_id] != "retracted"]
        last = standing[-1] if standing else None
        first_ms = min((alerts[alert_id].at_ms for alert_id in standing), default=None)
        stood: Stood = "none"
        if last is not None:
            stood = "final" if before_qc[last] == "final" else "provisional"
        made.append(
            Outcome(
                call=call,
                rule=rule,
                alerts=len(alerts),
                undone=sum(alert.undone for alert in alerts.values()),
                stood=stood,
                status="" if last is None else alerts[last].status,
                qc=rule.expression in found,
                heard=rule.expression in heard,
                heard_by_sound=rule.expression in by_sound,
                lead_ms=None if first_ms is None or verdict_at_ms is None else verdict_at_ms - first_ms,
                before_hangup_ms=None if first_ms is None else hangup_ms - first_ms,
            )
        )
    return made


def _true_of(rules: Sequence[MadeRule], arrived: Sequence[Arrived], *, pinyin: bool) -> set[str]:
    """The rules that the live final texts make true, judged as a whole recording."""
    finals = [one.message for one in arrived if isinstance(one.message, Transcript) and one.message.final]
    texts = [message.text for message in sorted(finals, key=lambda message: message.begin_ms)]
    ruleset = RuleSet.from_categories({"all": [rule.expression for rule in rules]}, 1, pinyin=pinyin)
    return {
        hit.rule.expression for category in judge(ruleset, texts, pinyin=pinyin).recording for hit in category.rules
    }


@dataclass(frozen=True, slots=True)
class RuleCounts:
    """`due`: true by the reference. `fired` of them; `false`: fired without being due, of `silent` that must not."""

    due: int = 0
    fired: int = 0
    silent: int = 0
    false: int = 0

    def __add__(self, other: RuleCounts) -> RuleCounts:
        return RuleCounts(
            *(self.due + other.due, self.fired + other.fired), *(self.silent + other.silent, self.false + other.false)
        )

    @property
    def recall(self) -> float:
        return self.fired / max(1, self.due)


JUDGES: Mapping[str, Callable[[Outcome], bool]] = {
    "live": lambda one: one.stood != "none",
    "voice QC": lambda one: one.qc,
    "live text, as written": lambda one: one.heard,
    "live text, by sound": lambda one: one.heard_by_sound,
}
"""Who says that a rule is true: the alerts that stood, voice QC, and the live final texts judged as a whole."""


def rule_counts(outcomes: Iterable[Outcome], fired: Callable[[Outcome], bool]) -> dict[str, RuleCounts]:
    """By kind of rule, and of `all`."""
    counts: dict[str, RuleCounts] = {}
    for outcome in outcomes:
        hit = fired(outcome)
        one = RuleCounts(1, int(hit), 0, 0) if outcome.rule.due else RuleCounts(0, 0, 1, int(hit))
        for kind in (outcome.rule.kind, "all"):
            counts[kind] = counts.get(kind, RuleCounts()) + one
    return counts


@dataclass(frozen=True, slots=True)
class Agreement:
    """Early alerts against voice QC, over many outcomes.

    `confirmed` of `settled`: those that voice QC confirmed, of those it confirmed or did not. `missed`: rules that QC
    hit and no alert had named, of `qc_hits`.
    """

    settled: int
    confirmed: int
    qc_hits: int
    missed: int

    @property
    def precision(self) -> float:
        return self.confirmed / max(1, self.settled)

    @property
    def recall(self) -> float:
        return (self.qc_hits - self.missed) / max(1, self.qc_hits)


def agreement(outcomes: Iterable[Outcome], *, only_final: bool) -> Agreement:
    """How early alerts agree with the verdict; `only_final` leaves out those that were provisional at the hangup."""
    counted = list(outcomes)
    settled = [
        one
        for one in counted
        if one.status in ("confirmed", "not_confirmed") and (one.stood == "final" or not only_final)
    ]
    return Agreement(
        settled=len(settled),
        confirmed=sum(one.status == "confirmed" for one in settled),
        qc_hits=sum(one.qc for one in counted),
        missed=sum(one.qc and one.stood == "none" for one in counted),
    )


@dataclass(frozen=True, slots=True)
class FalseAlarms:
    """Alerts for rules that were not due; `homophones` of them were due by sound. Rates an hour of call."""

    alarms: int
    homophones: int
    hours: float
    rules: float
    """Judged at a time, on average over the calls."""

    @property
    def per_hour(self) -> float:
        """Without the homophones."""
        return (self.alarms - self.homophones) / max(self.hours, 1e-9)

    def per_hour_of(self, rules: int) -> float:
        """What so many rules would bring, if the others were like these."""
        return self.per_hour * rules / max(self.rules, 1e-9)


def false_alarms(outcomes: Iterable[Outcome], minutes: float) -> FalseAlarms:
    counted = list(outcomes)
    calls = {one.call for one in counted}
    return FalseAlarms(
        alarms=sum(one.false_alarms for one in counted),
        homophones=sum(one.false_alarms for one in counted if one.homophone),
        hours=minutes / 60,
        rules=len(counted) / max(1, len(calls)),
    )
