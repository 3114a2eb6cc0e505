from gateway.evaluation.outcomes import JUDGES, agreement, false_alarms, outcomes, rule_counts
from gateway.evaluation.player import Arrived
from gateway.evaluation.rulemaking import MadeRule
from protocol.messages import Alert, AlertUpdate, QcResult, Transcript

REFUND = MadeRule("refund", "A", due=True, due_by_sound=True)
DECOY = MadeRule("refound", "decoy", due=False)
TIME = MadeRule("时间", "decoy", due=False, due_by_sound=True)


def alert(at_ms: float, alert_id: str, rule: str, certainty: str = "final") -> Arrived:
    message = Alert(
        alert_id=alert_id, category="c", rule=rule, rule_version=1, certainty=certainty, pending=[], keywords=[],  # type: ignore[arg-type]
        evidence=[],
    )  # fmt: skip
    return Arrived(at_ms, message)


def update(at_ms: float, alert_id: str, status: str, reason: str = "") -> Arrived:
    return Arrived(at_ms, AlertUpdate(alert_id=alert_id, status=status, reason=reason, evidence=[]))  # type: ignore[arg-type]


def verdict(at_ms: float, *hits: str) -> Arrived:
    detail = [{"content": hit, "hit": True, "keyword": []} for hit in hits]
    return Arrived(
        at_ms, QcResult(session_id="c1", result={"detection_result": [{"category": "c", "detail": detail}]}, missed=[])
    )


def said(text: str) -> Arrived:
    return Arrived(
        0,
        Transcript(
            segment_id="s1",
            channel=0,
            role="agent",
            text=text,
            final=True,
            begin_ms=0,
            end_ms=1,
            language="zh",
            words=[],
        ),
    )


def test_an_alert_that_stood_and_was_confirmed_leads_the_verdict() -> None:
    arrived = [alert(1000, "a1", "refund"), verdict(9000, "refund"), update(9000, "a1", "confirmed")]
    (one,) = outcomes("call", [REFUND], arrived, hangup_ms=5000)
    assert (one.stood, one.status, one.qc, one.lead_ms, one.before_hangup_ms) == (
        "final",
        "confirmed",
        True,
        8000,
        4000,
    )


def test_a_retracted_alert_stands_for_nothing_but_was_a_false_alarm() -> None:
    arrived = [alert(1000, "a1", "refound", "provisional"), update(2000, "a1", "retracted"), verdict(9000)]
    (one,) = outcomes("call", [DECOY], arrived, hangup_ms=5000)
    assert (one.stood, one.status, one.lead_ms, one.false_alarms) == ("none", "", None, 1)


def test_an_alert_that_a_forbidden_word_undid_was_no_false_alarm() -> None:
    arrived = [alert(1000, "a1", "refound", "provisional"), update(2000, "a1", "retracted", "forbidden_keyword")]
    (one,) = outcomes("call", [DECOY], arrived, hangup_ms=5000)
    assert (one.stood, one.false_alarms) == ("none", 0)


def test_an_alert_that_came_again_is_judged_by_its_last_life() -> None:
    arrived = [
        alert(1000, "a1", "refund", "provisional"), update(2000, "a1", "retracted"),
        alert(3000, "a2", "refund", "provisional"), update(4000, "a2", "final"), update(9000, "a2", "not_confirmed"),
    ]  # fmt: skip
    (one,) = outcomes("call", [REFUND], arrived, hangup_ms=5000)
    assert (one.alerts, one.stood, one.status, one.before_hangup_ms) == (2, "final", "not_confirmed", 2000)


def test_precision_counts_only_alerts_that_voice_qc_judged_and_recall_only_what_it_hit() -> None:
    arrived = [
        alert(1000, "a1", "refund"), alert(1000, "a2", "refound", "provisional"), verdict(9000, "refund", "时间"),
        update(9000, "a1", "confirmed"), update(9000, "a2", "not_confirmed"),
    ]  # fmt: skip
    made = outcomes("call", [REFUND, DECOY, TIME], arrived, hangup_ms=5000)
    assert agreement(made, only_final=True).precision == 1.0
    everything = agreement(made, only_final=False)
    assert (everything.precision, everything.recall, everything.missed) == (0.5, 0.5, 1)


def test_an_alert_that_nobody_judged_is_neither_right_nor_wrong() -> None:
    made = outcomes("call", [REFUND], [alert(1000, "a1", "refund"), update(9000, "a1", "indeterminate")], 5000)
    assert agreement(made, only_final=False).settled == 0


def test_homophones_count_apart_from_false_alarms() -> None:
    arrived = [alert(1000, "a1", "时间", "provisional"), alert(1000, "a2", "refound")]
    alarms = false_alarms(outcomes("call", [REFUND, DECOY, TIME], arrived, 5000), minutes=30)
    assert (alarms.alarms, alarms.homophones, alarms.per_hour) == (2, 1, 2.0)
    assert alarms.per_hour_of(6) == 4.0


def test_live_text_is_judged_as_written_and_by_sound() -> None:
    made = outcomes("call", [TIME], [said("实践出真知")], 5000)
    fired = {judge: rule_counts(made, decide)["all"].false for judge, decide in JUDGES.items()}
    assert (fired["live text, as written"], fired["live text, by sound"]) == (0, 1)
