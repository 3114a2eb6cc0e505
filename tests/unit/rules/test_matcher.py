import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.rules import Rule, RuleSet, RuleSetError, RuleSyntaxError
from protocol.rules.text import fold
from tests.unit.rules.naive import contains, is_chinese, sounds_in
from tests.unit.rules.strategies import KEYWORDS, sentences

ALL = RuleSet.from_categories({"all": KEYWORDS}, 1, pinyin=True)


def found(keyword: str, sentence: str, *, pinyin: bool = False) -> list[tuple[str, str]]:
    """The places where `keyword` is found, as they are written in `sentence`, each with how it matched."""
    ruleset = RuleSet.from_categories({"c": [keyword]}, 1, pinyin=pinyin)
    return [(sentence[hit.begin : hit.end], hit.match) for hit in ruleset.find(sentence, pinyin=pinyin)]


@pytest.mark.parametrize(
    ("keyword", "sentence", "places"),
    [
        ("贷款", "您的貸 款，还有贷款", ["貸 款", "贷款"]),
        ("pay", "Ｐａｙ, payday, repay, PAY!", ["Ｐａｙ", "PAY"]),
        ("pay", "请pay一下", ["pay"]),
        ("don't call", "Don’t   call me", ["Don’t   call"]),
        ("3个月", "13个月，3个月", ["3个月"]),
        ("app贷款", "打开 APP 贷款", ["APP 贷款"]),
        ("AT&T", "at&t", ["at&t"]),
        ("C++", "c++11", ["c++"]),
        ("款款", "款款款", ["款款", "款款"]),
        ("대출", "대출을", ["대출"]),
        ("한", "한", ["한"]),
        ("cafe", "café cafés", []),
        ("贷款", "", []),
    ],
)
def test_a_keyword_is_found_where_the_sentence_says_it(keyword: str, sentence: str, places: list[str]) -> None:
    assert found(keyword, sentence) == [(place, "exact") for place in places]


@pytest.mark.parametrize(
    ("keyword", "sentence", "places"),
    [
        ("时间", "时间和实践", [("时间", "exact"), ("实践", "pinyin")]),
        ("还款", "请换宽", [("换宽", "pinyin")]),
        ("還款", "请 换 宽", [("换 宽", "pinyin")]),
        ("还款", "害款", []),
        ("未还", "为还款", [("为还", "pinyin")]),
        ("西安", "先", []),  # xi an is not xian: whole syllables only
        ("先", "西安", []),
        ("款", "宽", []),  # one character is too little to go by
        ("app贷款", "APP带宽", [("APP带宽", "pinyin")]),
        ("app贷款", "myapp带宽", []),
        ("贷款x", "带宽x", [("带宽x", "pinyin")]),
        ("pay", "派", []),
        ("𠮷贷款", "吉带宽", []),
        ("\U000f0000贷款", "\U000f0001带宽", []),
    ],
)
def test_a_chinese_keyword_is_found_by_its_sound(keyword: str, sentence: str, places: list[tuple[str, str]]) -> None:
    assert found(keyword, sentence, pinyin=True) == places


def test_without_pinyin_nothing_is_found_by_its_sound() -> None:
    assert [hit.keyword for hit in ALL.find("实践")] == ["实践"]
    assert found("时间", "实践") == []


def test_only_rules_that_ask_for_pinyin_are_compiled_for_it_when_the_set_is_exact() -> None:
    rules = [Rule("c", "时间", 1, pinyin=True), Rule("c", "贷款", 1)]
    hits = RuleSet(rules).find("实践带宽", pinyin=True)
    assert [(hit.keyword, hit.match) for hit in hits] == [("时间", "pinyin")]


@given(sentences, st.booleans())
def test_the_automaton_finds_what_plain_search_finds(sentence: str, pinyin: bool) -> None:
    hits = {(hit.keyword_id, hit.match) for hit in ALL.find(sentence, pinyin=pinyin)}
    ids = {keyword: ALL.compiled[index].keyword_ids[0] for index, keyword in enumerate(KEYWORDS)}
    exact = {ids[keyword] for keyword in KEYWORDS if contains(sentence, keyword)}
    assert {keyword_id for keyword_id, match in hits if match == "exact"} == exact
    alike = {ids[keyword] for keyword in KEYWORDS if pinyin and sounds_in(sentence, keyword)}
    pure = {ids[keyword] for keyword in KEYWORDS if all(map(is_chinese, keyword.replace(" ", "")))}
    assert {keyword_id for keyword_id, _ in hits if keyword_id in pure} == (exact & pure) | alike


@given(sentences)
def test_the_span_of_an_exact_hit_holds_the_keyword(sentence: str) -> None:
    for hit in ALL.find(sentence):
        assert fold(sentence[hit.begin : hit.end]).text == fold(hit.keyword).text


@given(sentences)
def test_hits_come_in_order_and_once(sentence: str) -> None:
    hits = ALL.find(sentence, pinyin=True)
    places = [(hit.begin, hit.end, hit.keyword_id) for hit in hits]
    assert places == sorted(set(places))


def test_an_error_names_the_category_and_the_expression_and_shows_the_place() -> None:
    with pytest.raises(RuleSetError, match='category "催收", expression 1: at index 4') as error:
        RuleSet.from_categories({"会议": ["会议"], "催收": ["贷款", "逾期&&"]}, 1)
    assert (error.value.category, error.value.index) == ("催收", 1)
    assert isinstance(error.value.__cause__, RuleSyntaxError)
    assert error.value.fault.caret() == "逾期&&\n" + " " * 6 + "^"


def test_a_repeated_expression_counts_once_in_its_category() -> None:
    ruleset = RuleSet.from_categories({"a": ["贷款", "贷款"], "b": ["贷款"], "c": []}, 7)
    assert ruleset.rules == (Rule("a", "贷款", 7), Rule("b", "贷款", 7))
    assert ruleset.categories == ("a", "b")


def test_a_set_without_rules_finds_nothing() -> None:
    assert RuleSet([]).find("贷款", pinyin=True) == []
