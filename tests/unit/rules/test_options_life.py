"""Corners of rules with options, and of calls that say the same word again and again."""

from typing import Any

import pytest

from gateway.call.reconciliation import LiveAlert, reconcile
from protocol.messages import Alert
from protocol.rules import CallEvaluator, Content, RuleSet, Said, judge
from protocol.rules.hearing import MAX_EVIDENCE
from tests.unit.call.conversation import Conversation, raised, rules_named


@pytest.mark.parametrize("scope", ["recording", "sentence"])
def test_evidence_of_one_keyword_stops_at_a_bound_and_that_of_others_does_not(scope: Any) -> None:
    call = CallEvaluator(RuleSet.from_categories({"c": ["refund||money"]}, 1), scope=scope)
    added = 0
    for number in range(MAX_EVIDENCE + 20):
        added += sum(len(verdict.added) for verdict in call.final(number, "refund"))
    (verdict,) = call.verdicts()
    assert len(verdict.hits) == MAX_EVIDENCE
    assert added == MAX_EVIDENCE
    call.final("late", "money")
    assert [hit.keyword for hit in call.verdicts()[0].hits][-1] == "money"


def test_qc_judges_by_names_where_it_is_told_them() -> None:
    ruleset = rules_named({"c": [Content(expression="refund", speaker="Ann")]})
    said = [Said(0, "agent", 0, 1000), Said(1, "customer", 1000, 2000)]
    assert judge(ruleset, ["hello", "refund"], said=said, speakers={1: "Ann"}).recording
    assert not judge(ruleset, ["hello", "refund"], said=said, speakers={0: "Ann", 1: "Bob"}).recording


@pytest.mark.parametrize(
    ("rule", "options", "roles", "reason"),
    [
        ("refund", {"role": "agent"}, ("customer", "agent"), "not_judged"),
        ("agent:refund", {}, ("agent",), "not_judged"),
        ("refund", {"count": 2}, ("agent",), "no_qc_hit"),
        ("refund", {"speaker": "Ann"}, ("agent", "customer"), "not_judged"),
        ("agent:refund", {}, ("agent", "customer"), "no_qc_hit"),
        ("agent:", {}, ("agent",), "no_qc_hit"),  # kept from a time with other rules for rules
    ],
)
def test_our_own_qc_takes_the_channels_for_agent_and_customer(
    rule: str, options: dict[str, Any], roles: tuple[str, ...], reason: str
) -> None:
    alert = LiveAlert("a1", "c", rule, "final", ["refund"], options=options)
    (update,), _ = reconcile([alert], {"rules_version": 1, "detection_result": []}, roles=roles)
    assert update.reason == reason


def test_a_vendors_hit_without_expressions_confirms_no_rule_with_options() -> None:
    alert = LiveAlert("a1", "c", "refund", "final", ["refund"], options={})
    (update,), missed = reconcile([alert], {"detection_result": [{"category": "c", "keyword": ["refund"]}]})
    assert (update.status, len(missed)) == ("indeterminate", 1)


def test_a_provisional_alert_about_a_speaker_is_withdrawn_when_the_label_changes() -> None:
    call = Conversation(Content(expression="debt&&!overdue", speaker="Ann"))
    call.ledger.labelled("s1", "Ann", stable=True)
    assert raised(call.final("debt", "s1")).certainty == "provisional"
    (update,) = call.ledger.labelled("s1", "Bob", stable=True)
    assert (update.status, update.reason) == ("retracted", "speaker_changed")  # type: ignore[union-attr]


def test_a_final_alert_about_a_speaker_stays_when_the_label_changes() -> None:
    call = Conversation(Content(expression="debt", speaker="Ann"))
    call.ledger.labelled("s1", "Ann", stable=True)
    assert raised(call.final("debt", "s1")).certainty == "final"
    assert call.ledger.labelled("s1", "Bob", stable=True) == call.ledger.close() == []


def test_judged_by_the_sentence_the_last_seconds_and_silence_are_judged_too() -> None:
    late, quiet = Content(expression="debt&&!paid", last_s=10), Content(expression="silence>5s")
    call = Conversation(late, quiet, scope="sentence")
    call.final("debt", "s1", begin_ms=55_000)
    call.final("debt", "s2", begin_ms=1000)
    call.ledger.spoke("s1", 0, 1000, 55_000)
    alerts = [one for one in call.ledger.close(60_000) if isinstance(one, Alert)]
    assert [(one.rule, len(one.evidence)) for one in alerts] == [("silence>5s", 1), ("debt&&!paid", 1)]


def test_after_two_changes_of_the_rules_each_keeps_its_beginning() -> None:
    call = Conversation("x")
    call.final("cost", "s1")
    call.ledger.use(rules_named({"c": ["cost&&price"]}, 8))
    call.final("cost", "s2")
    call.ledger.use(rules_named({"c": ["cost&&price", "cost"]}, 9))
    alert = raised(call.final("price", "s3"))
    assert (alert.rule, [one.segment_id for one in alert.evidence]) == ("cost&&price", ["s2", "s3"])
