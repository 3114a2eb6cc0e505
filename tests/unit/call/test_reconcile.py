"""Early alerts held against voice QC's verdict, in its own shape and in the vendor's."""

from typing import Any

from gateway.call.alerts import AlertLedger, LiveAlert, reconcile
from gateway.call.text import Text
from protocol.messages import AlertStatus, AlertUpdate, Missed
from protocol.rules.matcher import RuleSet


def alert(
    rule: str, *keywords: str, status: AlertStatus = "final", category: str = "c", alert_id: str = "a1"
) -> LiveAlert:
    return LiveAlert(alert_id, category, rule, status, list(keywords))


def hit(*keywords: str, category: str = "c", rules: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    entry: dict[str, Any] = {"category": category, "keyword": list(keywords)}
    return entry if rules is None else {**entry, "detail": rules}


def fate(one: LiveAlert, *hits: dict[str, Any]) -> tuple[str, str, list[Missed]]:
    (update,), missed = reconcile([one], {"detection_result": list(hits)})
    assert update == AlertUpdate(alert_id=one.alert_id, status=update.status, reason=update.reason, evidence=[])
    return update.status, update.reason, missed


def test_an_alert_whose_expression_was_hit_is_confirmed() -> None:
    ours = hit("red", rules=[{"content": "red&&!blue", "keyword": ["red"]}])
    assert fate(alert("red&&!blue", "red"), ours) == ("confirmed", "qc_hit", [])


def test_where_expressions_are_named_a_shared_keyword_is_not_enough() -> None:
    ours = hit("red", rules=[{"content": "red||sky", "keyword": ["red"]}])
    status, reason, missed = fate(alert("red", "red"), ours)
    assert (status, reason) == ("not_confirmed", "no_qc_hit")
    assert missed == [Missed(category="c", rule="red||sky", keywords=["red"])]


def test_the_vendors_shape_confirms_by_category_and_a_shared_keyword() -> None:
    assert fate(alert("red||sky", "sky"), hit("red", "sky")) == ("confirmed", "qc_hit", [])


def test_a_hit_on_other_keywords_confirms_nothing_and_was_missed() -> None:
    missed = [Missed(category="c", rule="", keywords=["blue"])]
    assert fate(alert("red", "red"), hit("blue")) == ("not_confirmed", "no_qc_hit", missed)


def test_a_hit_in_another_category_confirms_nothing() -> None:
    missed = [Missed(category="d", rule="", keywords=["red"])]
    assert fate(alert("red", "red"), hit("red", category="d")) == ("not_confirmed", "no_qc_hit", missed)


def test_a_hit_without_keywords_confirms_its_category() -> None:
    assert fate(alert("!red"), hit()) == ("confirmed", "qc_hit", [])
    assert fate(alert("!red"), hit("blue"))[0] == "confirmed"
    assert fate(alert("red", "red"), hit())[0] == "confirmed"


def test_no_hits_confirm_nothing_however_that_is_said() -> None:
    results: list[dict[str, Any]] = [{}, {"detection_result": None}, {"detection_result": []}]
    for result in results:
        (update,), missed = reconcile([alert("red", "red")], result)
        assert (update.status, missed) == ("not_confirmed", [])


def test_a_hit_without_a_keyword_list_is_read_as_naming_none() -> None:
    (update,), _ = reconcile([alert("red", "red")], {"detection_result": [{"category": "c", "keyword": None}]})
    assert update.status == "confirmed"


def test_without_a_verdict_every_standing_alert_is_indeterminate() -> None:
    alerts = [alert("red", "red"), alert("sky", "sky", status="provisional", alert_id="a2")]
    updates, missed = reconcile(alerts, None)
    assert [(one.alert_id, one.status, one.reason) for one in updates] == [
        ("a1", "indeterminate", "no_verdict"),
        ("a2", "indeterminate", "no_verdict"),
    ]
    assert missed == []


def test_a_retracted_alert_is_not_judged_and_does_not_count_as_named() -> None:
    updates, missed = reconcile([alert("red", "red", status="retracted")], {"detection_result": [hit("red")]})
    assert updates == []
    assert missed == [Missed(category="c", rule="", keywords=["red"])]


def test_every_expression_that_no_alert_named_was_missed() -> None:
    rules = [{"content": "red", "keyword": ["red"]}, {"content": "!sky", "keyword": []}]
    _, missed = reconcile([alert("red", "red")], {"detection_result": [hit("red", rules=rules)]})
    assert missed == [Missed(category="c", rule="!sky", keywords=[])]


def test_a_ledger_judges_its_alerts_once() -> None:
    ledger = AlertLedger(RuleSet.from_categories({"c": ["red", "sky"]}, 1), (), "recording", pinyin=False)
    ledger.final("s1", 0, Text("red sky", "en", (), 0, 100))
    result = {"detection_result": [hit("red", rules=[{"content": "red", "keyword": ["red"]}])]}
    updates, missed = ledger.reconcile(result)
    assert [(one.alert_id, one.status) for one in updates] == [("a1", "confirmed"), ("a2", "not_confirmed")]
    assert missed == []
    assert ledger.reconcile(None) == ([], [])
