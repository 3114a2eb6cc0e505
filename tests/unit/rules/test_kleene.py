import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.rules.grammar import Expression, format_expression, parse
from protocol.rules.kleene import Truth, evaluate, made_true
from tests.unit.rules.naive import holds
from tests.unit.rules.strategies import KEYWORDS, expressions

TRUTHS: tuple[Truth, ...] = (False, None, True)


@pytest.mark.parametrize("a", TRUTHS)
@pytest.mark.parametrize("b", TRUTHS)
def test_and_is_the_least_or_the_greatest_and_not_the_opposite(a: Truth, b: Truth) -> None:
    given_truth = {"a": a, "b": b}

    def value(expression: str) -> int:
        return TRUTHS.index(evaluate(parse(expression), lambda keyword: given_truth[keyword.text]))

    assert value("a&&b") == min(TRUTHS.index(a), TRUTHS.index(b))
    assert value("a||b") == max(TRUTHS.index(a), TRUTHS.index(b))
    assert value("!a") == 2 - TRUTHS.index(a)


@given(expressions(), st.lists(st.sampled_from(TRUTHS), min_size=len(KEYWORDS), max_size=len(KEYWORDS)))
def test_what_is_known_early_holds_whatever_the_unknown_turns_out_to_be(tree: Expression, truths: list[Truth]) -> None:
    early = evaluate(tree, lambda keyword: truths[KEYWORDS.index(keyword.text)])
    unknown = [index for index, truth in enumerate(truths) if truth is None][:4]
    for outcome in itertools.product((False, True), repeat=len(unknown)):
        said = {**dict(enumerate(truths)), **dict(zip(unknown, outcome, strict=True))}
        late = holds(tree, lambda keyword: bool(said[KEYWORDS.index(keyword)]))  # noqa: B023
        assert early is None or early == late


@pytest.mark.parametrize(
    ("expression", "said", "part"),
    [
        ("(a||b)&&(c||d)", "bc", "b&&c"),
        ("(a||b)&&(c||d)", "abc", "(a||b)&&c"),
        ("(a&&b)||c", "ac", "c"),
        ("a&&!(b||c)", "a", "a&&!(b||c)"),
        ("a||!b", "", "!b"),
        ("a&&b", "a", None),
        ("a||b", "", None),
        ("!a", "a", None),
    ],
)
def test_the_part_made_true_leaves_out_branches_that_are_not(expression: str, said: str, part: str | None) -> None:
    tree = made_true(parse(expression), lambda keyword: keyword.text in said)
    assert (format_expression(tree) if tree else None) == part
