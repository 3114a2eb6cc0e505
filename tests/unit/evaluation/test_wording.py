from hypothesis import given
from hypothesis import strategies as st

from gateway.evaluation.wording import Edits, chinese_number, edits, english_number, normalised


def test_case_punctuation_and_typography_do_not_count_as_errors() -> None:
    assert edits("don't cry he whispered", "“Don’t cry,” he whispered.", "en").rate == 0


def test_numbers_and_abbreviations_count_as_they_are_spoken() -> None:
    assert normalised("Mr. Smith paid 1,205 dollars", "en") == "mister smith paid one thousand two hundred five dollars"
    assert normalised("世纪公园(3号门)", "zh") == "世纪公园三号门"


def test_traditional_characters_count_as_simplified_ones() -> None:
    assert edits("欢迎致电", "歡迎致電。", "zh").rate == 0


def test_english_is_compared_by_word_and_chinese_by_character() -> None:
    assert edits("the house broke", "the mouse broke", "en") == Edits(substitutions=1, length=3)
    assert edits("房地产调控", "房地产条控了", "zh") == Edits(substitutions=1, insertions=1, length=5)


def test_nothing_heard_is_all_deletions_and_nothing_said_all_insertions() -> None:
    assert edits("one two", "", "en") == Edits(deletions=2, length=2)
    assert edits("", "thank you", "en") == Edits(insertions=2)


def test_a_sum_weighs_each_text_by_its_length() -> None:
    assert (Edits(1, 0, 0, 10) + Edits(0, 0, 0, 30)).rate == 1 / 40


def test_numbers_are_read_as_people_read_them() -> None:
    assert [english_number(str(n)) for n in (0, 13, 40, 99, 305, 7000)] == [
        "zero", "thirteen", "forty", "ninety nine", "three hundred five", "seven thousand",
    ]  # fmt: skip
    assert english_number("1234567") == "one two three four five six seven"
    assert (english_number("007"), chinese_number("10086")) == ("zero zero seven", "一零零八六")
    assert [chinese_number(str(n)) for n in (0, 10, 12, 20, 305, 310, 1001, 2024)] == [
        "零", "十", "十二", "二十", "三百零五", "三百一十", "一千零一", "二千零二十四",
    ]  # fmt: skip


@given(st.text("aDon't 0159.,!Mr’é", max_size=60), st.text("aB 0159会三欢歡，。3", max_size=60))
def test_normalising_twice_changes_nothing_more(english: str, chinese: str) -> None:
    once, simplified = normalised(english, "en"), normalised(chinese, "zh")
    assert (normalised(once, "en"), normalised(simplified, "zh")) == (once, simplified)
