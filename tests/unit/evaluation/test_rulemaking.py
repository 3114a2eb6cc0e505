import random

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.evaluation.rulemaking import keywords, rules_for
from protocol.rules import RuleSet, judge

ENGLISH = ["we refund the money today", "please restart your router today", "our engineer visits tomorrow morning"]
OTHER = ["the parcel was damaged", "cancel my subscription now please", "delivery takes three working days"]
CHINESE = ["您好欢迎致电新东方", "理财时间不足三个月", "可以加大投资力度"]


def test_a_keyword_is_said_once_in_the_whole_call() -> None:
    assert "today" not in [word for words in keywords(ENGLISH) for word in words]
    assert "refund" in keywords(ENGLISH)[0]


def test_chinese_keywords_are_words_of_two_to_four_characters() -> None:
    words = [word for words in keywords(CHINESE) for word in words]
    assert words
    assert all(2 <= len(word) <= 4 for word in words)


def test_every_operator_is_drawn_and_absent_words_are_not_due() -> None:
    made = rules_for(ENGLISH, OTHER, random.Random(1))
    assert {rule.kind for rule in made} == {"A", "A||B", "A&&B", "A&&!B", "(A||B)&&C", "!A", "absent"}
    assert all(rule.due for rule in made if rule.kind == "A")
    assert not any(rule.due for rule in made if rule.kind == "absent")


def test_the_same_dice_draw_the_same_rules() -> None:
    assert rules_for(CHINESE, [], random.Random(5)) == rules_for(CHINESE, [], random.Random(5))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000))
def test_a_rule_is_due_exactly_when_the_reference_makes_it_true(seed: int) -> None:
    made = rules_for(ENGLISH, OTHER, random.Random(seed))
    ruleset = RuleSet.from_categories({"all": [rule.expression for rule in made]}, 1)
    true = {hit.rule.expression for category in judge(ruleset, ENGLISH).recording for hit in category.rules}
    assert {rule.expression for rule in made if rule.due} == true
