from collections.abc import Container

import pytest

from protocol.rules import CallEvaluator, Rule, RuleSet, Scope, Verdict
from protocol.rules.hearing import Hearing, Identity
from protocol.rules.matcher import CompiledRule
from protocol.rules.standing import Standing, stand
from protocol.rules.view import View


def call(*expressions: str, scope: Scope = "recording", pinyin: bool = False) -> CallEvaluator:
    return CallEvaluator(RuleSet.from_categories({"c": expressions}, 1, pinyin=pinyin), scope=scope, pinyin=pinyin)


def only(verdicts: list[Verdict]) -> Verdict:
    assert len(verdicts) == 1
    return verdicts[0]


def state(verdicts: list[Verdict]) -> tuple[str, tuple[str, ...]]:
    verdict = only(verdicts)
    return verdict.state, verdict.pending


FINAL = ("final", ())
NONE = ("none", ())


def test_a_keyword_in_final_text_is_true_for_good_with_its_evidence() -> None:
    verdict = only(call("贷款").final("s1", "您的貸款"))
    assert (verdict.state, verdict.pending, verdict.made_true) == ("final", (), "贷款")
    evidence = verdict.hits[0]
    assert (evidence.sentence_id, evidence.text, evidence.begin, evidence.end) == ("s1", "您的貸款", 2, 4)
    assert (evidence.keyword, evidence.match) == ("贷款", "exact")
    assert verdict.added == verdict.hits


def test_both_keywords_of_a_conjunction_may_come_in_different_sentences_but_one_never_spans_two() -> None:
    rules = call("缺货&&退款")
    assert rules.final(1, "缺货") == []
    assert rules.final(2, "退") == []
    assert rules.final(3, "款") == []
    verdict = only(rules.final(4, "退款"))
    assert verdict.state == "final"
    assert [hit.keyword for hit in verdict.hits] == ["缺货", "退款"]


def test_a_forbidden_word_retracts_a_provisional_verdict() -> None:
    rules = call("未偿还&&!逾期")
    assert state(rules.final(1, "未偿还")) == ("provisional", ("negation",))
    withdrawn = only(rules.final(2, "逾期"))
    assert (withdrawn.state, withdrawn.hits, withdrawn.made_true) == ("none", (), "")
    assert rules.final(3, "未偿还") == []
    assert rules.close() == []


def test_a_negation_that_held_to_the_end_of_the_call_is_final() -> None:
    rules = call("未偿还&&!逾期")
    rules.final(1, "未偿还")
    verdict = only(rules.close())
    assert (verdict.state, verdict.pending, verdict.added) == ("final", (), ())
    assert [hit.keyword for hit in verdict.hits] == ["未偿还"]


def test_a_rule_of_negatives_alone_says_nothing_before_the_end_and_then_is_final_without_hits() -> None:
    rules = call("!逾期", "!贷款")
    assert rules.partial(1, "贷") == []
    assert rules.final(1, "贷款") == []
    verdict = only(rules.close())
    assert (verdict.rule.expression, verdict.state, verdict.hits) == ("!逾期", "final", ())
    assert verdict.made_true == "!逾期"


def test_a_rule_of_negatives_is_settled_by_a_call_in_which_nothing_was_said() -> None:
    assert state(call("!逾期", "贷款").close()) == FINAL


def test_a_hit_in_partial_text_is_provisional_until_the_final_text_keeps_it() -> None:
    rules = call("贷款")
    assert state(rules.partial(1, "您的贷款")) == ("provisional", ("partial_text",))
    assert rules.partial(1, "您的贷款已经") == []
    kept = only(rules.final(1, "您的贷款已经"))
    assert (kept.state, kept.added) == ("final", ())
    assert kept.hits[0].text == "您的贷款已经"


def test_final_text_that_loses_the_keyword_takes_the_verdict_back_and_it_may_return() -> None:
    rules = call("贷款")
    rules.partial(1, "贷款")
    assert state(rules.final(1, "带宽")) == NONE
    again = only(rules.partial(2, "贷款"))
    assert again.state == "provisional"
    assert [hit.sentence_id for hit in again.added] == [2]


def test_partial_text_takes_nothing_back_even_when_it_loses_the_keyword() -> None:
    rules = call("贷款")
    rules.partial(1, "贷款")
    assert rules.partial(1, "带宽") == []
    assert rules.partial(2, "别的") == []
    assert state(rules.final(1, "带宽")) == NONE


def test_keywords_of_two_different_partial_texts_of_a_sentence_do_not_add_up() -> None:
    rules = call("缺货&&退款")
    assert rules.partial(1, "缺货") == []
    assert rules.partial(1, "退款") == []
    assert state(rules.partial(1, "缺货退款")) == ("provisional", ("partial_text",))


def test_what_older_partial_text_held_is_no_evidence_unless_it_was_told() -> None:
    rules = call("(缺货||退款)&&!逾期")
    assert rules.partial(1, "缺货逾期") == []
    assert rules.partial(1, "缺口") == []
    assert [hit.keyword for hit in only(rules.partial(2, "退款")).hits] == ["退款"]
    again = only(rules.partial(3, "退款"))
    assert [(hit.sentence_id, hit.keyword) for hit in again.hits] == [(2, "退款"), (3, "退款")]


def test_a_forbidden_word_in_partial_text_keeps_a_new_verdict_back_until_the_final_text_drops_it() -> None:
    rules = call("未偿还&&!逾期")
    assert rules.partial(1, "逾期") == []
    assert rules.final(2, "未偿还") == []
    assert state(rules.final(1, "预期")) == ("provisional", ("negation",))


def test_a_forbidden_word_in_partial_text_retracts_nothing_but_its_final_text_does() -> None:
    rules = call("未偿还&&!逾期")
    rules.final(1, "未偿还")
    assert rules.partial(2, "逾期") == []
    assert state(rules.final(2, "逾期")) == NONE


def test_a_newer_partial_without_the_forbidden_word_lets_the_verdict_out() -> None:
    rules = call("未偿还&&!逾期")
    rules.partial(1, "未偿还逾期")
    assert state(rules.partial(1, "未偿还预期")) == ("provisional", ("negation", "partial_text"))


def test_a_pinyin_hit_stays_provisional_after_the_call() -> None:
    rules = call("时间", pinyin=True)
    assert state(rules.partial(1, "实践")) == ("provisional", ("partial_text", "pinyin"))
    assert state(rules.final(1, "实践")) == ("provisional", ("pinyin",))
    assert rules.close() == []
    assert [(verdict.state, verdict.pending) for verdict in rules.verdicts()] == [("provisional", ("pinyin",))]


def test_an_exact_hit_after_a_pinyin_hit_makes_the_verdict_final() -> None:
    rules = call("时间", pinyin=True)
    rules.final(1, "实践")
    verdict = only(rules.final(2, "时间"))
    assert verdict.state == "final"
    assert [hit.match for hit in verdict.hits] == ["pinyin", "exact"]
    assert [hit.match for hit in verdict.added] == ["exact"]


def test_the_fewest_reasons_are_pending() -> None:
    rules = call("时间||贷款&&!逾期", pinyin=True)
    assert state(rules.final(1, "实践")) == ("provisional", ("pinyin",))
    rules = call("时间||贷款&&!逾期", pinyin=True)
    assert state(rules.final(1, "贷款")) == ("provisional", ("negation",))
    assert rules.final(2, "实践")[0].pending == ("negation",)
    assert state(rules.final(3, "时间")) == FINAL


def test_a_forbidden_word_heard_by_its_sound_in_final_text_counts_as_probably_said() -> None:
    rules = call("未偿还&&!逾期", pinyin=True)
    rules.final(1, "未偿还")
    assert state(rules.final(2, "与其")) == NONE
    assert rules.close() == []


def test_the_end_of_the_call_settles_nothing_of_a_sentence_without_final_text() -> None:
    rules = call("贷款", "未偿还&&!逾期", "!实践")
    rules.partial(1, "贷款")
    rules.final(2, "未偿还")
    rules.partial(3, "逾期实践")
    assert rules.close() == []
    pending = {verdict.rule.expression: verdict.pending for verdict in rules.verdicts()}
    assert pending == {"贷款": ("partial_text",), "未偿还&&!逾期": ("negation",)}


def test_later_hits_add_evidence_once_and_only_from_final_text_when_the_verdict_is_final() -> None:
    rules = call("贷款")
    rules.final(1, "贷款")
    assert rules.partial(2, "贷款") == []
    verdict = only(rules.final(2, "贷款，贷款"))
    assert [(hit.sentence_id, hit.begin) for hit in verdict.added] == [(2, 0), (2, 3)]
    assert [(hit.sentence_id, hit.begin) for hit in verdict.hits] == [(1, 0), (2, 0), (2, 3)]
    assert rules.final(3, "别的") == []
    assert rules.close() == []


def test_evidence_names_the_keyword_as_each_rule_spells_it() -> None:
    first, second = call("貸款", "贷款&&!逾期").final(1, "贷款")
    assert (first.hits[0].keyword, second.hits[0].keyword) == ("貸款", "贷款")


def test_a_doubly_negated_keyword_is_positive_and_one_may_be_both() -> None:
    assert state(call("!(!贷款)").final(1, "贷款")) == FINAL
    rules = call("贷款&&!(贷款&&逾期)")
    assert state(rules.final(1, "贷款")) == ("provisional", ("negation",))
    assert state(rules.final(2, "逾期")) == NONE


def test_only_the_rules_of_the_named_categories_are_judged_and_none_named_means_all() -> None:
    ruleset = RuleSet.from_categories({"a": ["贷款", "!逾期"], "b": ["贷款", "!逾期"]}, 1)
    rules = CallEvaluator(ruleset, ["b"])
    assert [verdict.rule.category for verdict in rules.final(1, "贷款") + rules.close()] == ["b", "b"]
    assert len(CallEvaluator(ruleset, []).final(1, "贷款")) == 2


def test_only_rules_that_ask_for_pinyin_use_it_when_the_call_does_not() -> None:
    rules = CallEvaluator(RuleSet([Rule("a", "时间", 1, pinyin=True), Rule("b", "时间", 1)]))
    verdict = only(rules.final(1, "实践"))
    assert (verdict.rule.category, verdict.state) == ("a", "provisional")


def test_pinyin_needs_a_set_compiled_for_it() -> None:
    with pytest.raises(ValueError, match="compiled with pinyin=True"):
        CallEvaluator(RuleSet.from_categories({"c": ["时间"]}, 1), pinyin=True)


def test_a_sentence_has_one_final_text_and_late_partial_text_is_ignored() -> None:
    rules = call("贷款", "逾期")
    rules.final(1, "贷款")
    assert rules.partial(1, "逾期") == []
    with pytest.raises(ValueError, match="sentence 1 already has its final text"):
        rules.final(1, "逾期")
    assert [verdict.rule.expression for verdict in rules.verdicts()] == ["贷款"]


def test_nothing_can_be_said_after_the_end_of_the_call() -> None:
    rules = call("贷款")
    rules.close()
    with pytest.raises(ValueError, match="partial text of sentence 1 came after the call had ended"):
        rules.partial(1, "贷款")
    with pytest.raises(ValueError, match="final text of sentence 1 came after the call had ended"):
        rules.final(1, "贷款")
    with pytest.raises(ValueError, match="the end of the call came after the call had ended"):
        rules.close()


def test_scope_sentence_settles_every_keyword_at_the_sentences_final_text() -> None:
    rules = call("未偿还&&!逾期", "缺货&&退款", scope="sentence")
    assert state(rules.partial(1, "未偿还缺货")) == ("provisional", ("negation", "partial_text"))
    assert state(rules.final(1, "未偿还缺货")) == FINAL
    assert rules.final(2, "退款，逾期") == []
    assert state(rules.final(3, "缺货退款")) == FINAL
    assert rules.close() == []


def test_scope_sentence_takes_back_what_the_final_text_lost_unless_another_sentence_stands_for_it() -> None:
    rules = call("时间&&!逾期", scope="sentence", pinyin=True)
    assert state(rules.final(1, "实践")) == ("provisional", ("pinyin",))
    added = only(rules.partial(2, "时间"))
    assert [hit.sentence_id for hit in added.added] == [2]
    assert rules.final(2, "逾期") == []
    assert state(rules.final(3, "时间")) == FINAL
    rules = call("贷款", scope="sentence")
    rules.partial(1, "贷款")
    assert state(rules.final(1, "带宽")) == NONE


def test_scope_sentence_makes_a_rule_of_negatives_true_at_the_first_sentence_without_its_words() -> None:
    rules = call("!逾期", scope="sentence")
    assert rules.partial(1, "您好") == []
    assert rules.final(1, "逾期") == []
    assert state(rules.final(2, "您好")) == FINAL
    assert rules.final(3, "您好") == []
    assert call("!逾期", scope="sentence").close() == []


def test_a_sentence_costs_work_for_the_rules_it_touches_only(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[str] = []

    def counted(
        rule: CompiledRule, hearing: Hearing, *, told: Container[Identity] | None, by_sound: bool, view: View
    ) -> Standing | None:
        looked_at.append(rule.rule.expression)
        return stand(rule, hearing, told=told, by_sound=by_sound, view=view)

    monkeypatch.setattr("protocol.rules.evaluator.stand", counted)
    rules = call("贷款", "!逾期", *(f"word{number}" for number in range(500)))
    rules.final(1, "您好")
    assert looked_at == []
    rules.final(2, "word7 贷款")
    assert looked_at == ["贷款", "word7"]
    rules.close()
    assert looked_at[2:] == ["!逾期"]  # the others are true for good
