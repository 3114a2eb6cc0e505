import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.rules.grammar import (
    MAX_DEPTH,
    MAX_KEYWORDS,
    MAX_LENGTH_CHARS,
    And,
    Expression,
    Keyword,
    Not,
    Or,
    RuleSyntaxError,
    format_expression,
    parse,
)
from tests.unit.rules.strategies import expressions


def word(text: str) -> Keyword:
    return Keyword(text, 0)


@pytest.mark.parametrize(
    ("expression", "tree"),
    [
        ("贷款", word("贷款")),
        ("会议||例会", Or((word("会议"), word("例会")))),
        ("缺货&&退款", And((word("缺货"), word("退款")))),
        ("!逾期", Not(word("逾期"))),
        ("未偿还&&!逾期", And((word("未偿还"), Not(word("逾期"))))),
        (
            "(会议||例会) && (缺货||退款)",
            And((Or((word("会议"), word("例会"))), Or((word("缺货"), word("退款"))))),
        ),
    ],
)
def test_the_examples_of_the_api_document_parse(expression: str, tree: Expression) -> None:
    assert parse(expression) == tree


def test_not_binds_tighter_than_and_and_and_tighter_than_or() -> None:
    assert parse("a||!b&&c") == Or((word("a"), And((Not(word("b")), word("c")))))


def test_full_width_operators_and_parentheses_are_accepted_and_mix_with_ascii_ones() -> None:
    assert parse("！（会议｜｜例会）＆＆缺货|｜退款") == parse("!(会议||例会)&&缺货||退款")


def test_a_keyword_is_trimmed_keeps_inner_spaces_and_knows_its_position() -> None:
    tree = parse("  \u3000pay  now \ufeff&& b")
    assert tree == And((word("pay  now"), word("b")))
    assert isinstance(tree, And)
    assert [term.position for term in tree.terms if isinstance(term, Keyword)] == [3, 16]


def test_an_ampersand_between_latin_letters_belongs_to_the_keyword() -> None:
    assert parse("AT&T&&R&D") == And((word("AT&T"), word("R&D")))


@pytest.mark.parametrize(
    ("expression", "position", "expected"),
    [
        ("", 0, "a keyword"),
        ("   ", 3, "a keyword"),
        ("\ufeff", 1, "a keyword"),
        ("a&&", 3, "a keyword"),
        ("a&&  ", 5, "a keyword"),
        ("||a", 0, "a keyword"),
        ("a&&||b", 3, "a keyword"),
        ("()", 1, "a keyword"),
        ("!", 1, "a keyword"),
        ("a)", 1, "the end"),
        ("a!b", 1, '"&&"'),
        ("a (b)", 2, '"&&"'),
        ("(a)b", 3, '"&&"'),
        ("(a", 2, 'the ")" to the "(" at index 0'),
        ("a&&(b||(c)", 10, 'the ")" to the "(" at index 3'),
        ("缺货&退款", 2, '"&&"'),
        ("a|b", 1, '"||"'),
        ("a|||b", 3, '"||"'),
        ("缺货＆退款", 2, '"&&"'),
    ],
)
def test_an_error_says_where_and_what_was_expected(expression: str, position: int, expected: str) -> None:
    with pytest.raises(RuleSyntaxError) as fault:
        parse(expression)
    assert fault.value.position == position
    assert expected in fault.value.expected
    assert f"at index {position}" in str(fault.value)


def test_the_caret_stands_under_the_fault_also_after_double_width_characters() -> None:
    with pytest.raises(RuleSyntaxError) as fault:
        parse("会议&&)x")
    assert fault.value.caret() == "会议&&)x\n" + " " * 6 + "^"


def test_the_caret_allows_for_combining_marks_that_take_no_column() -> None:
    with pytest.raises(RuleSyntaxError) as fault:
        parse("cafe\u0301)")
    assert fault.value.caret() == "cafe\u0301)\n    ^"


def test_the_caret_shows_an_excerpt_of_a_long_expression_on_exactly_two_lines() -> None:
    with pytest.raises(RuleSyntaxError) as fault:
        parse("贷\n款||" * 100 + ")" + "||a" * 100)
    excerpt, caret = fault.value.caret().split("\n")
    columns = sum(2 if char in "贷款" else 1 for char in excerpt[: excerpt.index(")")])
    assert excerpt.startswith("…") and excerpt.endswith("…")
    assert caret == " " * columns + "^"


@pytest.mark.parametrize(
    ("expression", "position"),
    [
        ("(" * 5000 + "a" + ")" * 5000, MAX_LENGTH_CHARS),
        ("||".join("a" * 100_000), MAX_LENGTH_CHARS),
        ("(" * 2000, MAX_DEPTH),
        ("!" * 2000 + "a", MAX_DEPTH),
        ("!(" * 1000, MAX_DEPTH),
        ("||".join("a" * (MAX_KEYWORDS + 1)), 3 * MAX_KEYWORDS),
    ],
)
def test_too_long_too_deep_and_too_many_are_syntax_errors(expression: str, position: int) -> None:
    with pytest.raises(RuleSyntaxError) as fault:
        parse(expression)
    assert fault.value.position == position


def test_the_bounds_themselves_are_allowed() -> None:
    assert parse("(" * MAX_DEPTH + "a" + ")" * MAX_DEPTH) == word("a")
    assert parse("a" * MAX_LENGTH_CHARS) == word("a" * MAX_LENGTH_CHARS)
    assert isinstance(parse("||".join("a" * MAX_KEYWORDS)), Or)


@given(expressions())
def test_formatting_and_parsing_again_gives_the_same_tree(tree: Expression) -> None:
    written = format_expression(tree)
    assert parse(written) == tree
    assert format_expression(parse(written)) == written


@given(st.text(alphabet="ab款 &|!()（＆｜！\ufeff\n", max_size=30))
def test_any_text_parses_or_is_a_syntax_error_within_the_text(expression: str) -> None:
    try:
        tree = parse(expression)
    except RuleSyntaxError as fault:
        assert 0 <= fault.position <= len(expression)
        assert fault.caret().count("\n") == 1
    else:
        assert parse(format_expression(tree)) == tree
