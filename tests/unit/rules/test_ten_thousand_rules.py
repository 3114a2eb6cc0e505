"""Ten thousand random rules at once come to what each comes to alone, by brute force."""

import random
from functools import lru_cache

from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.rules import CallEvaluator, RuleSet, judge
from protocol.rules.grammar import And, Expression, Keyword, Not, Or, format_expression
from tests.unit.rules.naive import contains, holds

RULES = 10_000
LETTERS = "贷款还清逾期abc '"
DICE = random.Random(7)


def _word() -> str:
    while True:
        word = "".join(DICE.choices(LETTERS, k=DICE.randint(1, 4))).strip()
        if word.strip("' "):
            return word


WORDS = sorted({_word() for _ in range(300)})


def _tree(depth: int = 3) -> Expression:
    shape = DICE.random()
    if depth == 0 or shape < 0.4:
        return Keyword(DICE.choice(WORDS), 0)
    if shape < 0.55:
        return Not(_tree(depth - 1))
    terms = tuple(_tree(depth - 1) for _ in range(DICE.randint(2, 3)))
    return And(terms) if shape < 0.8 else Or(terms)


TREES: dict[str, Expression] = {}
while len(TREES) < RULES:
    drawn = _tree()
    TREES[format_expression(drawn)] = drawn


@lru_cache(maxsize=1)
def ruleset() -> RuleSet:
    return RuleSet.from_categories({"c": list(TREES)}, 1)


@settings(max_examples=8, deadline=None)
@given(st.lists(st.text(alphabet=LETTERS, max_size=12), max_size=4))
def test_all_of_them_are_judged_as_by_brute_force(said: list[str]) -> None:
    heard = {word: any(contains(text, word) for text in said) for word in WORDS}
    expected = [written for written, tree in TREES.items() if holds(tree, heard.__getitem__)]
    judgement = judge(ruleset(), said)
    assert [hit.rule.expression for category in judgement.recording for hit in category.rules] == expected
    live = CallEvaluator(ruleset())
    for number, text in enumerate(said):
        live.partial(number, text[:-1])
        live.final(number, text)
    live.close()
    assert [verdict.rule.expression for verdict in live.verdicts()] == expected
