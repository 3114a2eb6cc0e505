import pytest
from hypothesis import given
from hypothesis import strategies as st
from pypinyin.constants import PHRASES_DICT

from protocol.rules.pinyin import syllables
from protocol.rules.text import fold
from tests.unit.rules.naive import normalised
from tests.unit.rules.strategies import FRAGMENTS, sentences


@pytest.mark.parametrize(
    ("original", "folded"),
    [
        ("ＰＡＹ　Ｎｏｗ！", "pay now!"),
        ("Straße ﬁx", "strasse fix"),
        ("cafe\u0301 CAFÉ", "café café"),
        ("我們還款，頭髮", "我们还款,头发"),
        ("I’ll don‘t o´clock", "i'll don't o'clock"),
        ("  贷 款 \t\n now   or never ", "贷款now or never"),
        ("打开 APP 登录", "打开app登录"),
        ("pass\u00adword\u200b \ufeffx", "password x"),
        ("ガス ｶﾞｽ カ\u3099ス", "ガス ガス ガス".replace(" ", "")),
        ("한국\u1112\u1161\u11ab", "한국한"),
        ("薴", "苎"),
        ("", ""),
        (" \u200b ", ""),
    ],
)
def test_spellings_of_the_same_text_fold_to_the_same(original: str, folded: str) -> None:
    assert fold(original).text == folded


@pytest.mark.parametrize(
    ("original", "part", "span"),
    [
        ("ok，貸　 款!", "贷款", (3, 7)),
        ("the ﬁnal", "final", (4, 8)),
        ("the ﬁnal", "i", (4, 5)),  # half of a ligature maps to all of it
        ("a  \t b", "a b", (0, 6)),
        ("cafe\u0301s", "café", (0, 5)),
        ("㈱貸", "株", (0, 1)),
    ],
)
def test_a_folded_part_maps_back_to_its_span_in_the_original(original: str, part: str, span: tuple[int, int]) -> None:
    folded = fold(original)
    begin = folded.text.index(part)
    assert folded.span(begin, begin + len(part)) == span


@given(sentences)
def test_folding_is_as_specified(sentence: str) -> None:
    assert fold(sentence).text == normalised(sentence)


@given(
    st.text(max_size=30) | st.text(alphabet="".join(FRAGMENTS) + "\u0301\u200bﬁß가\u11a8ｶﾞ\n\u00b4¨", max_size=20),
    st.data(),
)
def test_any_folded_part_is_in_the_folding_of_the_original_it_maps_to(original: str, data: st.DataObject) -> None:
    folded = fold(original)
    assert len(folded.text) == len(folded.begins) == len(folded.ends)
    if not folded.text:
        return
    begin = data.draw(st.integers(0, len(folded.text) - 1))
    end = data.draw(st.integers(begin + 1, len(folded.text)))
    first, last = folded.span(begin, end)
    assert 0 <= first < last <= len(original)
    # Space at the edge of a part is no longer between two words once the part stands alone.
    assert folded.text[begin:end].strip() in fold(original[first:last]).text


@given(st.text(max_size=30))
def test_spans_advance_through_the_original(original: str) -> None:
    folded = fold(original)
    assert all(first < last for first, last in zip(folded.begins, folded.ends, strict=True))
    assert list(folded.begins) == sorted(folded.begins)
    assert list(folded.ends) == sorted(folded.ends)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("还款", "huan kuan"),
        ("提前还款", "ti qian huan kuan"),
        ("逾期未还", "yu qi wei huan"),
        ("还没还款", "hai mei huan kuan"),
        ("你还有贷款", "ni hai you dai kuan"),
        ("还不还", "hai bu hai"),
        ("还不起", "huan bu qi"),
        ("没还是吧", "mei hai shi ba"),
        ("我行银行卡", "wo hang yin hang ka"),
        ("行不行", "xing bu xing"),
        ("绿", "lv"),
    ],
)
def test_characters_read_as_callers_say_them(text: str, read: str) -> None:
    assert syllables(text) == read.split()


def test_what_is_not_chinese_or_has_no_known_reading_has_no_syllable() -> None:
    assert syllables("a款,𠮷 b") == [None, "kuan", None, None, None, None]


def test_every_phrase_that_the_library_knows_has_one_syllable_a_character() -> None:
    assert [phrase for phrase, read in PHRASES_DICT.items() if len(read) != len(phrase)] == []
    assert [char for char in map(chr, range(0x3400, 0xA000)) if len(syllables(char)) != 1] == []


@given(st.text(alphabet="还没款行卡一是了的a，𠮷", max_size=20))
def test_every_character_has_its_own_place_among_the_syllables(text: str) -> None:
    read = syllables(text)
    assert len(read) == len(text)
    assert all((syllable is None) == (char in "a，𠮷") for char, syllable in zip(text, read, strict=True))
