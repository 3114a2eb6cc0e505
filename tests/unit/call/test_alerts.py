"""The life of an alert: raised on partial text or final, withdrawn, settled at hangup."""

from gateway.call.alerts import AlertLedger
from gateway.call.events import HeardWord
from gateway.call.text import Text
from protocol.messages import Alert
from protocol.rules.matcher import RuleSet
from tests.unit.call.conversation import Conversation, raised, spoken, updated, where

# --- raised and settled ---


def test_a_hit_in_final_text_is_final_at_once() -> None:
    alert = raised(Conversation("refund").final("no refund today"))
    assert (alert.alert_id, alert.category, alert.rule, alert.rule_version) == ("a1", "c", "refund", 7)
    assert (alert.certainty, alert.pending, alert.keywords) == ("final", [], ["refund"])
    assert where(alert.evidence) == [("s1", 0, "refund", 100, 200)]
    assert alert.evidence[0].match == "exact"


def test_a_hit_in_partial_text_is_provisional_and_final_once_the_final_text_keeps_it() -> None:
    call = Conversation("refund")
    alert = raised(call.partial("a refund"))
    assert (alert.certainty, alert.pending) == ("provisional", ["partial_text"])
    update = updated(call.final("a refund please"))
    assert (update.alert_id, update.status, update.reason, update.evidence) == ("a1", "final", "settled", [])


def test_a_hit_that_the_final_text_loses_is_retracted() -> None:
    call = Conversation("refund")
    call.partial("a refund")
    update = updated(call.final("a refined taste"))
    assert (update.alert_id, update.status, update.reason) == ("a1", "retracted", "not_in_final_text")


def test_later_partial_text_takes_nothing_back() -> None:
    call = Conversation("refund")
    call.partial("a refund")
    assert call.partial("a refined") == []
    assert updated(call.final("a refund")).status == "final"


def test_a_rule_with_a_negation_is_provisional_until_the_forbidden_word_retracts_it() -> None:
    call = Conversation("debt&&!overdue")
    alert = raised(call.final("your debt", "s1"))
    assert (alert.certainty, alert.pending) == ("provisional", ["negation"])
    assert call.final("nothing new", "s2") == []
    update = updated(call.final("it is overdue", "s3", channel=1))
    assert (update.status, update.reason) == ("retracted", "forbidden_keyword")


def test_a_forbidden_word_beside_the_kept_keyword_is_the_reason_to_retract() -> None:
    call = Conversation("debt&&!overdue")
    assert raised(call.partial("your debt")).pending == ["negation", "partial_text"]
    assert updated(call.final("your debt is overdue")).reason == "forbidden_keyword"


def test_a_lost_keyword_is_the_reason_to_retract_a_rule_with_a_negation() -> None:
    call = Conversation("debt&&!overdue")
    call.partial("your debt")
    assert updated(call.final("your depth")).reason == "not_in_final_text"


def test_a_forbidden_word_in_partial_text_takes_no_alert_back() -> None:
    call = Conversation("debt&&!overdue")
    call.final("your debt", "s1")
    assert call.partial("is overdue", "s2") == []
    assert call.final("is over you", "s2") == []


def test_a_forbidden_word_in_partial_text_keeps_a_new_alert_back() -> None:
    call = Conversation("debt&&!overdue")
    assert call.partial("overdue debt") == []
    assert raised(call.final("over you debt")).certainty == "provisional"


def test_a_negation_settles_at_hangup() -> None:
    call = Conversation("debt&&!overdue")
    call.final("your debt")
    update = updated(call.ledger.close())
    assert (update.status, update.reason, update.evidence) == ("final", "settled", [])


def test_a_word_that_had_to_be_said_alerts_at_hangup_without_evidence() -> None:
    call = Conversation("!recorded line")
    assert call.final("hello") == []
    alert = raised(call.ledger.close())
    assert (alert.certainty, alert.pending, alert.keywords, alert.evidence) == ("final", [], [], [])


def test_a_word_that_had_to_be_said_and_was_does_not() -> None:
    call = Conversation("!recorded line")
    call.final("this is a recorded line")
    assert call.ledger.close() == []


def test_a_conjunction_holds_over_segments_and_channels() -> None:
    call = Conversation("cancel&&contract")
    assert call.final("please cancel", "s1", channel=1) == []
    alert = raised(call.final("your contract", "s2", channel=0, begin_ms=5000))
    assert alert.certainty == "final"
    assert alert.keywords == ["cancel", "contract"]
    assert where(alert.evidence) == [("s1", 1, "cancel", 100, 200), ("s2", 0, "contract", 5100, 5200)]


def test_judged_by_the_sentence_a_conjunction_must_hold_within_one() -> None:
    call = Conversation("cancel&&contract", scope="sentence")
    call.final("please cancel", "s1")
    assert call.final("your contract", "s2") == []
    assert raised(call.final("cancel my contract", "s3")).certainty == "final"
    assert call.ledger.close() == []


def test_words_that_only_sound_like_a_keyword_are_provisional() -> None:
    alert = raised(Conversation("实践", pinyin=True).final("没有时间了"))
    assert (alert.certainty, alert.pending, alert.evidence[0].match) == ("provisional", ["pinyin"], "pinyin")


# --- evidence ---


def test_one_alert_stands_for_a_rule_and_later_hits_add_evidence() -> None:
    call = Conversation("refund||money back")
    raised(call.final("a refund", "s1"))
    update = updated(call.final("my money back", "s2", begin_ms=9000))
    assert (update.alert_id, update.status, update.reason) == ("a1", "final", "evidence")
    assert where(update.evidence) == [("s2", 0, "money back", 9100, 9300)]


def test_the_same_words_heard_again_are_no_new_evidence() -> None:
    call = Conversation("refund")
    raised(call.partial("a refund"))
    assert call.partial("a refund and") == []
    assert call.partial("so a refund and") == []
    assert updated(call.final("a refund and more")).evidence == []


def test_a_keyword_seen_again_in_its_segment_within_3_s_is_the_same_evidence() -> None:
    call = Conversation("refund")
    words = "refund " + "x " * 28 + "refund"
    assert where(raised(call.final(words)).evidence)[0][3:] == (0, 100)
    again = Conversation("refund")
    again.partial("refund")
    assert again.partial(words) == []
    late = Conversation("refund")
    late.partial("refund")
    update = updated(late.partial("refund " + "x " * 29 + "refund"))
    assert where(update.evidence) == [("s1", 0, "refund", 3000, 3100)]


def test_a_retracted_alert_that_comes_true_returns_under_a_new_id() -> None:
    call = Conversation("refund")
    raised(call.partial("refund", "s1"))
    updated(call.final("re-fund", "s1"))
    assert raised(call.final("refund", "s2")).alert_id == "a2"


def test_each_rule_has_its_own_alert() -> None:
    call = Conversation("refund", "refund||money", d=["refund"])
    alerts = call.final("refund")
    assert [(one.alert_id, one.category, one.rule) for one in alerts if isinstance(one, Alert)] == [
        ("a1", "c", "refund"),
        ("a2", "c", "refund||money"),
        ("a3", "d", "refund"),
    ]


def test_evidence_points_at_a_word_with_a_leading_space() -> None:
    call = Conversation("refund")
    words = (HeardWord(" A", 1000, 1100), HeardWord(" refund", 1100, 1500), HeardWord(" now", 1500, 1800))
    alert = raised(call.ledger.final("s1", 0, Text("A refund now", "en", words, 900, 2000)))
    assert where(alert.evidence) == [("s1", 0, "refund", 1100, 1500)]


def test_evidence_points_at_chinese_tokens() -> None:
    call = Conversation("还款日期")
    tokens = (
        HeardWord("您的", 0, 300),
        HeardWord("还", 300, 400),
        HeardWord("款日", 400, 700),
        HeardWord("期是", 700, 900),
    )
    alert = raised(call.ledger.final("s1", 0, Text("您的还款日期是", "zh", tokens, 0, 900)))
    assert where(alert.evidence) == [("s1", 0, "还款日期", 300, 900)]


def test_evidence_in_text_without_words_is_placed_by_proportion() -> None:
    alert = raised(Conversation("cd").ledger.final("s1", 0, Text("ab cd e", "en", (), 1000, 1700)))
    assert where(alert.evidence) == [("s1", 0, "cd", 1300, 1500)]


# --- categories ---


def test_only_the_wanted_categories_are_judged() -> None:
    rules = RuleSet.from_categories({"c": ["refund"], "d": ["refund"]}, 1, pinyin=True)
    ledger = AlertLedger(rules, ("d",), "recording", pinyin=True)
    assert raised(ledger.final("s1", 0, spoken("refund"))).category == "d"


def test_categories_wanted_later_are_judged_over_all_that_was_said() -> None:
    call = Conversation("refund", d=["money&&back"])
    call.ledger.judge_only(["c"])
    call.final("money", "s1")
    assert call.partial("back", "s2") == []
    alert = raised(call.ledger.judge_only(["c", "d"]))
    assert (alert.category, alert.certainty, alert.pending) == ("d", "provisional", ["partial_text"])


def test_a_change_of_categories_repeats_nothing_that_stands() -> None:
    call = Conversation("refund", "debt&&!overdue")
    call.final("a refund for debt", "s1")
    assert call.ledger.judge_only(["c"]) == []
    assert call.ledger.judge_only([]) == []


def test_a_change_of_categories_raises_nothing_that_was_long_withdrawn() -> None:
    call = Conversation("debt&&!overdue")
    call.final("debt", "s1")
    call.final("overdue", "s2")
    assert call.ledger.judge_only(["c"]) == []
    assert call.ledger.judge_only([]) == []


def test_an_alert_on_partial_text_can_still_be_retracted_after_a_change_of_categories() -> None:
    call = Conversation("refund", d=["x"])
    call.partial("a refund")
    call.partial("a refund or")
    assert call.ledger.judge_only(["c"]) == []
    assert updated(call.final("a refined taste")).reason == "not_in_final_text"


def test_an_alert_of_a_category_no_longer_wanted_stays() -> None:
    call = Conversation("debt&&!overdue", d=["x"])
    call.final("debt", "s1")
    assert call.ledger.judge_only(["d"]) == []
    assert call.final("overdue", "s2") == []


def test_a_category_that_comes_back_adds_what_it_missed() -> None:
    call = Conversation("refund", d=["x"])
    raised(call.final("refund", "s1"))
    call.ledger.judge_only(["d"])
    call.final("refund again", "s2", begin_ms=9000)
    update = updated(call.ledger.judge_only(["c"]))
    assert (update.alert_id, update.reason, where(update.evidence)) == (
        "a1",
        "evidence",
        [("s2", 0, "refund", 9000, 9100)],
    )
