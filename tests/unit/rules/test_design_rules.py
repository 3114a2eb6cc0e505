"""What the design says of rules and alerts, sentence by sentence; each test is named after its sentence."""

from typing import Any

import pytest

from gateway.call.alerts import AlertLedger
from gateway.call.events import AudioArrived, AudioLost, ClientSpoke, Continued, Paused, RulesChanged
from gateway.call.settings import CallSettings
from protocol.messages import Alert, AlertUpdate, Missed
from protocol.rules import CallEvaluator, Content, RuleSet, RuleSyntaxError, format_expression, judge, parse
from protocol.rules.grammar import And, Keyword, Not, Or
from tests.unit.call.conversation import Conversation, raised, rules_named, spoken, updated, where
from tests.unit.call.shell import Shell
from tests.unit.call.sound import LoudnessGate, make_call, make_call_with_versions, silence


def found(keyword: str, sentence: str) -> list[str]:
    ruleset = RuleSet.from_categories({"c": [keyword]}, 1)
    return [sentence[hit.begin : hit.end] for hit in ruleset.find(sentence)]


def hit_by(*sentences: str, rules: tuple[str, ...]) -> list[str]:
    judgement = judge(RuleSet.from_categories({"c": rules}, 1), sentences)
    return [rule.rule.expression for category in judgement.recording for rule in category.rules]


# --- the language ---


def test_the_vendors_language_is_a_and_or_not_and_parentheses() -> None:
    rules = ("贷款", "会议||例会", "缺货&&退款", "!逾期", "未偿还&&!逾期", "(会议||例会)&&(缺货||退款)")
    assert hit_by("例会上说缺货要退款", "贷款未偿还", rules=rules) == list(rules)
    assert hit_by("逾期", "未偿还", "会议", rules=rules) == ["会议||例会"]


@pytest.mark.parametrize(
    ("keyword", "sentence", "place"),
    [
        ("pay", "Ｐａｙ", "Ｐａｙ"),  # NFKC
        ("Refund", "a REFUND", "REFUND"),  # case
        ("贷款", "貸款", "貸款"),  # traditional to simplified
        ("don't", "I don’t", "don’t"),  # typographic apostrophes
        ("贷款", "贷 款", "贷 款"),  # spaces between CJK characters
        ("refund policy", "refund,  policy", "refund,  policy"),  # punctuation between Latin words
        ("款", "贷款", "款"),  # a substring
    ],
)
def test_a_keyword_is_matched_as_a_substring_after_normalisation_with_spans_into_the_original_text(
    keyword: str, sentence: str, place: str
) -> None:
    assert found(keyword, sentence) == [place]


def test_operators_and_brackets_may_be_full_width() -> None:
    assert parse("（甲｜｜乙）＆＆！丙") == parse("(甲||乙)&&!丙")


def test_latin_keywords_match_on_word_boundaries() -> None:
    assert found("pay", "payday repay pay.") == ["pay"]


def test_an_atom_never_spans_two_sentences() -> None:
    assert hit_by("我要退", "款", rules=("退款",)) == []
    assert found("refund policy", "a refund. Policy is policy") == []


def test_precedence_is_not_and_or() -> None:
    a, b, c = (Keyword(name, 0) for name in "abc")
    assert parse("a||b&&!c") == Or((a, And((b, Not(c)))))


def test_errors_carry_a_position_and_what_was_expected() -> None:
    with pytest.raises(RuleSyntaxError) as fault:
        parse("贷款&&")
    assert (fault.value.position, fault.value.expected) == (4, 'a keyword, "!" or "("')


@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.parametrize(
    "monster", ["(" * 5000 + "a" + ")" * 5000, "!" * 5000 + "a", "||".join("a" * 100_000), "(" * 65, "a||" * 1200]
)
def test_depth_and_size_are_bounded(monster: str, extended: bool) -> None:
    with pytest.raises(RuleSyntaxError, match=r"no more than \d+ (characters|levels of nesting|keywords)"):
        parse(monster, extended=extended)


def test_the_largest_rule_there_may_be_is_judged_in_bounds() -> None:
    deepest = "!" * 64 + "a"
    widest = "||".join(f"w{number}" for number in range(500))
    product = "&&".join(f"(a{number}||b{number}||c{number})" for number in range(100))
    said = " ".join(f"b{number}" for number in range(100))
    assert hit_by(said, "a w499", rules=(deepest, widest, product)) == [deepest, widest, product]
    assert format_expression(parse(deepest)) == deepest


# --- one evaluator, live and final ---


def test_one_evaluator_live_and_final() -> None:
    ruleset = RuleSet.from_categories({"c": ["缺货&&退款", "未偿还&&!逾期", "!您好"]}, 1)
    said = ["现在缺货", "未偿还", "我要退款"]
    live = CallEvaluator(ruleset)
    for number, text in enumerate(said):
        live.final(number, text)
    live.close()
    (category,) = judge(ruleset, said).recording
    assert [(one.rule, one.hits, one.made_true) for one in live.verdicts()] == [
        (one.rule, one.evidence, one.made_true) for one in category.rules
    ]


def test_an_atom_heard_is_true_for_good_and_one_not_yet_heard_is_unknown_until_hangup() -> None:
    call = Conversation("debt", "!greeting")
    assert raised(call.final("your debt", "s1")).certainty == "final"
    assert call.final("something else", "s2") == []
    assert raised(call.ledger.close()).rule == "!greeting"


def test_true_alerts_now_and_no_later_words_undo_it_but_voice_qc_may() -> None:
    call = Conversation("debt||!overdue")
    assert raised(call.final("your debt", "s1")).certainty == "final"
    assert call.final("it is overdue", "s2") == []
    (update,), _ = call.ledger.reconcile({"detection_result": []})
    assert update.status == "not_confirmed"


def test_would_be_true_if_the_call_ended_now_and_a_positive_atom_heard_is_provisional_and_may_be_retracted() -> None:
    call = Conversation("未偿还&&!逾期")
    assert raised(call.final("还未偿还", "s1")).certainty == "provisional"
    assert updated(call.final("逾期了", "s2")).status == "retracted"


def test_a_rule_of_negatives_alone_settles_at_hangup() -> None:
    call = Conversation("!逾期")
    assert call.final("您好", "s1") == []
    assert raised(call.ledger.close()).certainty == "final"


def test_pending_says_why_an_alert_is_provisional() -> None:
    call = Conversation("实践&&!逾期", pinyin=True)
    assert raised(call.partial("没有时间")).pending == ["negation", "partial_text", "pinyin"]


def test_a_hit_on_partial_text_is_provisional_until_the_final_text_keeps_the_keyword() -> None:
    kept, lost = Conversation("refund"), Conversation("refund")
    assert raised(kept.partial("a refund")).pending == raised(lost.partial("a refund")).pending == ["partial_text"]
    assert updated(kept.final("a refund")).status == "final"
    assert updated(lost.final("a reef end")).reason == "not_in_final_text"


def test_a_forbidden_word_in_a_partial_suppresses_a_new_alert_but_retracts_none() -> None:
    call = Conversation("debt&&!overdue")
    assert call.partial("overdue debt", "s1") == []
    assert raised(call.final("over due debt", "s1")).certainty == "provisional"
    assert call.partial("overdue", "s2") == []


def test_a_clients_transcript_counts_as_final_text() -> None:
    shell = Shell(make_call(rules_named({"c": ["refund"]}), CallSettings(gate=LoudnessGate)))
    said = shell.tell(ClientSpoke(0, "a refund", 0, 500))
    (alert,) = [one for one in said if isinstance(one, Alert)]
    assert (alert.certainty, alert.pending) == ("final", [])


def test_one_alert_per_rule_expression_and_call_and_later_hits_add_evidence() -> None:
    call = Conversation("refund||money back")
    assert raised(call.final("a refund", "s1")).alert_id == "a1"
    update = updated(call.final("money back", "s2", begin_ms=5000))
    assert (update.alert_id, update.reason, len(update.evidence)) == ("a1", "evidence", 1)


def test_a_retracted_alert_that_comes_true_returns_under_a_new_id() -> None:
    call = Conversation("refund")
    call.partial("refund", "s1")
    call.final("reef end", "s1")
    assert raised(call.final("refund", "s2")).alert_id == "a2"


# --- scope ---


def test_the_document_judges_the_recording_and_each_sentence_on_its_own_text() -> None:
    judgement = judge(RuleSet.from_categories({"c": ["缺货&&退款"], "d": ["!缺货"]}, 1), ["缺货", "退款"])
    assert [hit.category for hit in judgement.recording] == ["c"]
    assert [[hit.category for hit in one.categories] for one in judgement.sentences] == [[], ["d"]]


def test_live_alerts_judge_the_recording_over_both_channels() -> None:
    call = Conversation("cancel&&contract")
    call.final("cancel", "s1", channel=0)
    assert raised(call.final("contract", "s2", channel=1)).certainty == "final"


def test_a_setting_makes_it_any_sentence_and_then_every_atom_settles_at_its_final_text() -> None:
    call = Conversation("debt&&!overdue", scope="sentence")
    call.final("overdue", "s1")
    assert raised(call.final("debt", "s2")).certainty == "final"
    assert call.final("overdue", "s3") == []


# --- reconcile ---


def test_match_on_category_and_expression_where_the_detail_names_it_else_a_shared_keyword() -> None:
    for detail, status in (([{"content": "red", "keyword": ["red"]}], "confirmed"), (None, "confirmed")):
        call = Conversation("red")
        call.final("red")
        entry = {"category": "c", "keyword": ["red"], "detail": detail}
        assert call.ledger.reconcile({"detection_result": [entry]})[0][0].status == status
    other = Conversation("red")
    other.final("red")
    named = {"category": "c", "keyword": ["red"], "detail": [{"content": "red||sky", "keyword": ["red"]}]}
    assert other.ledger.reconcile({"detection_result": [named]})[0][0].status == "not_confirmed"


def test_qc_failed_or_dead_lettered_is_indeterminate() -> None:
    call = Conversation("red")
    call.final("red")
    (update,), _ = call.ledger.reconcile(None)
    assert (update.status, update.reason) == ("indeterminate", "no_verdict")


def test_evidence_is_sentence_span_times_channel_speaker_keyword_and_the_sub_expression_made_true() -> None:
    call = Conversation("(refund||money)&&!solved")
    call.ledger.labelled("s1", "Ann", stable=True)
    (evidence,) = raised(call.final("a refund please", "s1", channel=1, begin_ms=1000)).evidence
    assert (evidence.segment_id, evidence.text, evidence.channel) == ("s1", "a refund please", 1)
    assert evidence.text[evidence.begin : evidence.end] == evidence.keyword == "refund"
    assert (evidence.begin_ms, evidence.end_ms, evidence.speaker) == (1100, 1200, "Ann")
    assert evidence.sub_expression == "refund&&!solved"


# --- misheard words ---


def test_chinese_keywords_of_two_characters_or_more_also_match_on_toneless_pinyin_in_live_text_by_default() -> None:
    assert CallSettings(gate=LoudnessGate).pinyin
    alert = raised(Conversation("时间", "间", pinyin=True).final("没有实践"))
    assert (alert.rule, alert.evidence[0].match) == ("时间", "pinyin")


def test_a_pinyin_only_hit_is_provisional() -> None:
    assert raised(Conversation("时间", pinyin=True).final("没有实践")).pending == ["pinyin"]


def test_in_qc_exact_is_the_default_and_pinyin_is_per_rule() -> None:
    ruleset = rules_named({"c": ["时间", Content(expression="时间", pinyin=True)]})
    (category,) = judge(ruleset, ["没有实践"]).recording
    assert [hit.rule.pinyin for hit in category.rules] == [True]


# --- beyond the vendor ---


@pytest.mark.parametrize("text", ["silence>10s", "talkover>2s", "rate>300", "agent:refund"])
def test_optional_fields_never_change_the_vendors_behaviour(text: str) -> None:
    assert found(text, f"so {text} it was") == [text]
    assert raised(Conversation(text).final(f"so {text} it was")).keywords == [text]
    assert Conversation(text).final("refund") == []


def test_channel_or_speaker_role() -> None:
    call = Conversation(
        Content(expression="refund", channel=1), Content(expression="refund&&!agent:sorry", role="customer")
    )
    assert call.final("sorry refund", "s1", channel=0) == []
    (alert,) = call.final("refund", "s2", channel=1)
    assert isinstance(alert, Alert)
    assert (alert.options, where(alert.evidence)) == ({"channel": 1}, [("s2", 1, "refund", 0, 100)])
    unsorry = Conversation(Content(expression="customer:refund&&!agent:sorry"))
    assert raised(unsorry.final("sorry refund", "s1", channel=1)).pending == ["negation"]
    assert updated(unsorry.final("sorry", "s2", channel=0)).status == "retracted"


def test_speaker_as_labelled() -> None:
    call = Conversation(Content(expression="refund", speaker="Ann"))
    assert call.final("refund", "s1") == []
    assert call.ledger.labelled("s1", "Ann", stable=False) == []
    assert raised(call.ledger.labelled("s1", "Ann", stable=True)).evidence[0].speaker == "Ann"
    other = Conversation(Content(expression="refund", speaker="Ann"))
    other.ledger.labelled("s1", "Bob", stable=True)
    assert other.final("refund", "s1") == other.ledger.close() == []


def test_time_window_of_the_first_seconds_settles_when_they_are_past() -> None:
    call = Conversation(Content(expression="!recorded", first_s=30), Content(expression="refund", first_s=30))
    assert call.final("recorded refund", "s1", begin_ms=29_900) == []  # its second word is too late, its first is not
    assert call.ledger.settled(31_000) == []
    silent = Conversation(Content(expression="!recorded", first_s=30))
    assert silent.ledger.settled(29_999) == []
    assert raised(silent.ledger.settled(30_000)).certainty == "final"
    assert silent.final("recorded", "s1", begin_ms=31_000) == silent.ledger.close(40_000) == []


def test_time_window_of_the_last_seconds_is_unknown_until_hangup() -> None:
    call = Conversation(Content(expression="refund", last_s=10), Content(expression="!goodbye", last_s=10))
    call.final("refund goodbye", "s1", begin_ms=10_000)
    assert call.final("refund", "s2", begin_ms=55_000) == []
    alerts = call.ledger.close(60_000)
    assert [(one.rule, where(one.evidence)) for one in alerts if isinstance(one, Alert)] == [
        ("refund", [("s2", 0, "refund", 55_000, 55_100)]),
        ("!goodbye", []),
    ]


def test_count_is_of_all_keywords_together() -> None:
    call = Conversation(Content(expression="damn||hell", count=3))
    assert call.final("damn hell", "s1") == []
    alert = raised(call.final("damn", "s2", begin_ms=9000))
    assert (alert.certainty, len(alert.evidence)) == ("final", 3)


def test_order_and_distance_between_keywords() -> None:
    close = Content(expression="cancel&&contract", order=True, within_words=1)
    assert Conversation(close).final("contract cancel") == []
    assert Conversation(close).final("cancel my old contract") == []
    assert raised(Conversation(close).final("cancel my contract")).certainty == "final"
    soon = Conversation(Content(expression="cancel&&contract", within_ms=2000))
    assert soon.final("contract", "s1", begin_ms=0) == soon.final("cancel", "s2", begin_ms=2101) == []
    assert len(raised(soon.final("contract", "s3", begin_ms=4201)).evidence) == 2


def test_silence_is_an_atom() -> None:
    call = Conversation(Content(expression="silence>10s"))
    assert call.ledger.opened(0, 9_999) == call.ledger.spoke("s1", 0, 9_999, 12_000) == []
    assert call.ledger.settled(21_999) == []
    (evidence,) = raised(call.ledger.settled(22_000)).evidence
    assert (evidence.segment_id, evidence.keyword, evidence.begin_ms, evidence.end_ms) == (
        "",
        "silence>10s",
        12_000,
        22_000,
    )
    assert call.ledger.settled(60_000) == [], "one silence alerts once"


def test_a_pause_is_no_silence() -> None:
    call = Conversation(Content(expression="silence>10s"))
    assert call.ledger.lost(0, "agent", 5000, 50_000) == call.ledger.settled(59_999) == []
    assert raised(call.ledger.settled(60_000)).evidence[0].begin_ms == 50_000


def test_talk_over_is_an_atom() -> None:
    call = Conversation(Content(expression="talkover>2s"))
    assert call.ledger.spoke("s1", 0, 1000, 5000) == call.ledger.spoke("s2", 1, 3001, 9000) == []
    (evidence,) = raised(call.ledger.spoke("s3", 0, 6000, 8000)).evidence
    assert (evidence.segment_id, evidence.begin_ms, evidence.end_ms) == ("s3", 6000, 8000)


def test_speed_is_an_atom() -> None:
    fast = Conversation(Content(expression="agent:rate>300"), Content(expression="rate<100"))
    words = " ".join(["word"] * 40)
    assert fast.final(words, "s1", channel=1) == []
    assert raised(fast.final(words, "s2", channel=0)).evidence[0].keyword == "rate>300"


# --- rules change while calls run ---


def test_a_new_version_applies_from_the_next_sentence_and_each_alert_names_the_version() -> None:
    call = Conversation("refund&&policy")
    call.final("refund hidden", "s1")
    assert call.ledger.use(rules_named({"c": ["refund&&policy", "hidden", "cost"]}, 8)) == []
    alerts = call.final("policy cost", "s2")
    assert [(one.rule, one.rule_version) for one in alerts if isinstance(one, Alert)] == [
        ("refund&&policy", 8),  # a rule that stays goes on as if nothing had happened
        ("cost", 8),  # a new one knows nothing of earlier sentences
    ]


def test_a_sentence_that_has_begun_is_no_next_sentence() -> None:
    call = Conversation("x")
    call.partial("my cost", "s1")
    call.ledger.use(rules_named({"c": ["cost"]}, 8))
    assert call.final("my cost", "s1") == []
    assert raised(call.final("cost", "s2")).rule_version == 8


def test_what_was_said_earlier_counts_against_a_new_rule() -> None:
    call = Conversation("x")
    call.final("recorded", "s1")
    call.ledger.use(rules_named({"c": ["!recorded"]}, 8))
    assert call.ledger.close() == []


def test_alerts_of_a_rule_that_is_gone_stay_and_get_their_verdict() -> None:
    call = Conversation("debt&&!overdue", "refund")
    assert len(call.final("debt refund", "s1")) == 2
    assert call.ledger.use(rules_named({"c": ["x"]}, 8)) == []
    assert call.final("overdue", "s2") == call.ledger.close() == []
    updates, _ = call.ledger.reconcile({"detection_result": []})
    assert [one.status for one in updates] == ["not_confirmed", "not_confirmed"]


def test_a_running_call_takes_the_rules_that_the_event_names() -> None:
    old, new = rules_named({"c": ["refund"]}), rules_named({"c": ["cost"]}, 8)
    shell = Shell(make_call_with_versions(old, new))
    shell.tell(RulesChanged(8, new.digest), ClientSpoke(0, "refund cost", 0, 500))
    assert [(one.rule, one.rule_version) for one in shell.sent(Alert)] == [("cost", 8)]
    with pytest.raises(KeyError):
        shell.tell(RulesChanged(9, "unheard of"))
    assert old.digest != new.digest == rules_named({"c": ["cost"]}, 8).digest


def test_shadow_mode_counts_and_does_not_alert() -> None:
    call = Conversation(Content(expression="refund", shadow=True), "refund&&policy")
    assert call.final("refund", "s1") == []
    (kept,) = call.ledger.take_shadowed()
    assert isinstance(kept, Alert)
    assert (kept.alert_id, kept.certainty, call.ledger.take_shadowed()) == ("shadow1", "final", [])
    assert raised(call.final("policy", "s2")).alert_id == "a1"
    call.ledger.close()
    updates, missed = call.ledger.reconcile({"detection_result": []})
    assert ([one.alert_id for one in updates], missed) == (["a1"], [])


# --- the life of an alert ---


def test_provisional_then_final_or_retracted_while_the_call_runs() -> None:
    call = Conversation("debt&&!overdue", "debt&&!paid")
    assert [one.certainty for one in call.final("debt", "s1") if isinstance(one, Alert)] == ["provisional"] * 2
    assert updated(call.final("overdue", "s2")).status == "retracted"
    assert updated(call.ledger.close()).status == "final"


def test_after_qc_confirmed_or_not_and_hits_without_an_early_alert_are_missed() -> None:
    call = Conversation("red", "sky")
    call.final("red sky")
    details = [{"content": "red", "keyword": ["red"]}, {"content": "sea", "keyword": ["sea"]}]
    updates, missed = call.ledger.reconcile({"detection_result": [{"category": "c", "detail": details}]})
    assert [one.status for one in updates] == ["confirmed", "not_confirmed"]
    assert missed == [Missed(category="c", rule="sea", keywords=["sea"])]


def test_alerts_are_never_repeated_for_the_same_evidence() -> None:
    call = Conversation("refund", "!hello")
    raised(call.partial("a refund"))
    assert call.partial("a refund now") == call.partial("so a refund") == []
    assert updated(call.final("a refund now")).evidence == []
    assert call.ledger.use(rules_named({"c": ["refund", "!hello"]}, 8)) == []
    assert call.ledger.judge_only(["c"]) == []
    assert raised(call.ledger.close()).rule == "!hello"


def test_an_alert_tells_when_its_word_ended_and_how_far_the_text_reached() -> None:
    call = Conversation("refund")
    alert = raised(call.ledger.partial("s1", 0, spoken("a refund x"), "a refund", text_ms=350))
    assert (alert.heard_ms, alert.text_ms) == (200, 350)
    silent = raised(Conversation("!hello").ledger.close(9000))
    assert (silent.heard_ms, silent.text_ms) == (9000, 9000)


# --- a verdict that depends on a hole is indeterminate ---


def holed(rule: str | Content, *, begin_ms: int = 2000, end_ms: int = 3000, channel: int = 0) -> Conversation:
    call = Conversation(rule)
    call.final("debt", "s1", begin_ms=1000)
    call.ledger.lost(channel, "agent", begin_ms, end_ms)
    return call


HIT: dict[str, Any] = {"detection_result": [{"category": "c", "keyword": ["debt"]}]}
NO_HIT: dict[str, Any] = {"detection_result": []}


def fate(call: Conversation, result: dict[str, Any]) -> tuple[str, str]:
    call.ledger.close(60_000)
    (update,), _ = call.ledger.reconcile(result)
    return update.status, update.reason


def test_a_negation_that_a_hole_may_hide_the_answer_to_does_not_settle_at_hangup() -> None:
    assert holed("debt&&!overdue").ledger.close(60_000) == []
    assert raised(holed("!overdue").ledger.close(60_000)).pending == ["negation"]
    assert fate(holed("debt&&!overdue"), HIT) == ("indeterminate", "gap")
    assert fate(holed("debt&&!overdue"), NO_HIT) == ("not_confirmed", "no_qc_hit")


def test_a_hole_too_short_for_a_word_hides_none() -> None:
    assert updated(holed("debt&&!overdue", end_ms=2199).ledger.close(60_000)).status == "final"
    touching = holed("debt&&!overdue", end_ms=2199)
    touching.ledger.lost(0, "agent", 2199, 2250)
    assert touching.ledger.close(60_000) == []


def test_a_hole_where_the_word_would_not_have_counted_hides_none() -> None:
    for content in (
        Content(expression="debt&&!overdue", first_s=1.9),
        Content(expression="debt&&!customer:overdue"),
        Content(expression="debt&&!overdue", channel=0),
    ):
        channel = 1 if content.channel == 0 else 0
        call = holed(content, channel=channel)
        assert updated(call.ledger.settled(30_000) or call.ledger.close(60_000)).status == "final"


def test_a_hit_beside_a_hole_that_qc_does_not_confirm_is_indeterminate() -> None:
    assert fate(holed("debt", begin_ms=1500, end_ms=1800), NO_HIT) == ("indeterminate", "gap")
    assert fate(holed("debt", begin_ms=1500, end_ms=1800), HIT) == ("confirmed", "qc_hit")
    assert fate(holed("debt", begin_ms=1500, end_ms=1800, channel=1), NO_HIT) == ("not_confirmed", "no_qc_hit")
    assert fate(holed("debt", begin_ms=9000, end_ms=9900), NO_HIT) == ("not_confirmed", "no_qc_hit")


def test_a_rule_that_qc_could_not_judge_is_indeterminate() -> None:
    asked = Content(expression="debt", role="agent")
    assert fate(holed(asked), HIT) == ("indeterminate", "not_judged")  # the vendor's answer
    ours = {"category": "c", "detail": [{"content": "debt", "keyword": ["debt"], "options": {"role": "agent"}}]}
    assert fate(holed(asked), {"detection_result": [ours], "rules_version": 7}) == ("confirmed", "qc_hit")
    assert fate(holed(asked), {**NO_HIT, "rules_version": 7}) == ("not_confirmed", "no_qc_hit")


def test_a_pause_and_a_lost_stretch_of_a_call_are_holes() -> None:
    shell = Shell(make_call(rules_named({"c": ["!overdue"]}), CallSettings(gate=LoudnessGate)))
    shell.hear(silence(1000))
    shell.tell(Paused(), AudioArrived(silence(1000)), Continued())
    shell.tell(AudioLost(0, 16_000, 24_000, "network"))
    shell.hear(silence(1000))
    shell.hang_up()
    (alert,) = shell.sent(Alert)
    assert (alert.certainty, alert.pending) == ("provisional", ["negation"])
    assert not shell.sent(AlertUpdate)


def test_the_ledger_of_a_call_without_rules_says_nothing() -> None:
    ledger = AlertLedger(RuleSet([]), (), "recording", pinyin=False)
    assert ledger.final("s1", 0, spoken("a")) == ledger.settled(90_000) == ledger.close(90_000) == []
