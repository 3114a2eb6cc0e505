"""However a call's text arrives, the verdict at its end is the one that a plain reading of the rules gives."""

from hypothesis import given
from hypothesis import strategies as st

from protocol.rules import CallEvaluator, RuleSet, Scope, Verdict, format_expression, judge, parse
from protocol.rules.grammar import Expression
from tests.unit.rules.naive import contains, is_chinese, positive_keywords, true_for
from tests.unit.rules.strategies import KEYWORDS, expressions, sentences

# The plain yardstick for sounds knows pure Chinese keywords only.
CHINESE = st.sampled_from([word for word in KEYWORDS if all(is_chinese(char) or char == " " for char in word)])

rule_lists = st.lists(expressions(), min_size=1, max_size=5, unique_by=format_expression)
calls = st.lists(sentences, max_size=5)
scopes: st.SearchStrategy[Scope] = st.sampled_from(["recording", "sentence"])


def compiled(trees: list[Expression], *, pinyin: bool = False) -> RuleSet:
    return RuleSet.from_categories({"c": [format_expression(tree) for tree in trees]}, 1, pinyin=pinyin)


def together(hits: tuple[str, ...], trees: list[Expression], said: list[str]) -> None:
    assert list(hits) == [format_expression(tree) for tree in trees if true_for(tree, said)]


@given(rule_lists, calls)
def test_the_judgement_is_that_of_a_plain_evaluation(trees: list[Expression], said: list[str]) -> None:
    judgement = judge(compiled(trees), said)
    together(tuple(r.rule.expression for c in judgement.recording for r in c.rules), trees, said)
    for text, sentence in zip(said, judgement.sentences, strict=True):
        together(tuple(r.rule.expression for c in sentence.categories for r in c.rules), trees, [text])
    for category in judgement.recording:
        for hit in category.rules:
            positive = positive_keywords(parse(hit.rule.expression))
            heard = {word for word in positive if any(contains(text, word) for text in said)}
            assert set(hit.keywords) <= heard
            assert {word.replace(" ", "") for word in hit.keywords} == {word.replace(" ", "") for word in heard}


@given(st.lists(expressions(CHINESE), min_size=1, max_size=5, unique_by=format_expression), calls)
def test_the_judgement_by_sound_is_that_of_a_plain_evaluation(trees: list[Expression], said: list[str]) -> None:
    judgement = judge(compiled(trees, pinyin=True), said, pinyin=True)
    hits = [hit.rule.expression for category in judgement.recording for hit in category.rules]
    assert hits == [format_expression(tree) for tree in trees if true_for(tree, said, pinyin=True)]


@given(rule_lists, calls, scopes, st.booleans(), st.data())
def test_any_partial_texts_on_the_way_give_the_same_verdicts_at_the_end(
    trees: list[Expression], said: list[str], scope: Scope, pinyin: bool, data: st.DataObject
) -> None:
    ruleset = compiled(trees, pinyin=pinyin)
    batch = CallEvaluator(ruleset, scope=scope, pinyin=pinyin)
    live = CallEvaluator(ruleset, scope=scope, pinyin=pinyin)
    for number, text in enumerate(said):
        batch.final(number, text)
        # Partial texts of this sentence and of any other, the next ones and late ones included.
        for other in data.draw(st.lists(st.integers(0, len(said) - 1), max_size=4)):
            live.partial(other, data.draw(sentences))
        live.final(number, text)
    batch.close()
    live.close()
    assert live.verdicts() == batch.verdicts()


@given(rule_lists, scopes, st.booleans(), st.data())
def test_no_verdict_repeats_and_final_verdicts_stay(
    trees: list[Expression], scope: Scope, pinyin: bool, data: st.DataObject
) -> None:
    ruleset = compiled(trees, pinyin=pinyin)
    live = CallEvaluator(ruleset, scope=scope, pinyin=pinyin)
    last: dict[str, Verdict] = {}
    finished: set[int] = set()
    texts: dict[int, str] = {}
    for number, text, partial in data.draw(
        st.lists(st.tuples(st.integers(0, 3), sentences, st.booleans()), max_size=8)
    ):
        if number in finished:
            continue
        if partial:
            changed = live.partial(number, text)
        else:
            changed = live.final(number, text)
            finished.add(number)
        texts[number] = text
        for verdict in changed:
            assert all(hit.text == texts[int(hit.sentence_id)] for hit in verdict.added)
            before = last.get(verdict.rule.expression, Verdict(verdict.rule, "none"))
            assert before.state != "final" or verdict.state == "final"
            assert (verdict.state, verdict.pending) != (before.state, before.pending) or verdict.added
            assert not (partial and verdict.state == "none"), "partial text takes nothing back"
            assert set(verdict.added) <= set(verdict.hits)
            assert (verdict.state == "provisional") == bool(verdict.pending)
            assert verdict.hits or verdict.state != "provisional"
            last[verdict.rule.expression] = verdict
    told = {rule: (verdict.state, verdict.pending) for rule, verdict in last.items() if verdict.state != "none"}
    assert {v.rule.expression: (v.state, v.pending) for v in live.verdicts()} == told


@given(rule_lists, calls, calls)
def test_what_is_final_during_the_call_no_later_words_undo(
    trees: list[Expression], said: list[str], later: list[str]
) -> None:
    live = CallEvaluator(compiled(trees))
    for number, text in enumerate(said):
        live.final(number, text)
    for verdict in live.verdicts():
        tree = parse(verdict.rule.expression)
        if verdict.state == "final":
            assert true_for(tree, [*said, *later])
        else:  # it would be true if the call ended now
            assert true_for(tree, said)


def test_a_rule_of_negatives_hits_without_keywords_at_both_levels() -> None:
    judgement = judge(
        RuleSet.from_categories({"礼貌": ["!您好"], "催收": ["逾期||欠款", "还款"]}, 1), ["还款", "欠款逾期"]
    )
    assert [(hit.category, hit.keywords) for hit in judgement.recording] == [
        ("礼貌", ()),
        ("催收", ("欠款", "逾期", "还款")),
    ]
    assert [[hit.category for hit in sentence.categories] for sentence in judgement.sentences] == [
        ["礼貌", "催收"],
        ["礼貌", "催收"],
    ]
    assert judgement.sentences[0].categories[1].rules[0].made_true == "还款"
    assert judgement.sentences[1].categories[1].rules[0].evidence[0].sentence_id == 1
