"""Tokens to words, and words to times."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.engines.word_times import TokenSpan, group_tokens, place_words, simplified


def decode(tokens: list[int]) -> str:
    """Each token is one byte of UTF-8, as the worst tokens of a byte-level vocabulary are."""
    return bytes(tokens).decode("utf-8", errors="replace")


def words(text: str) -> list[str]:
    return [word.text for word in group_tokens(list(text.encode()), decode)]


def test_words_keep_their_leading_space_and_their_punctuation() -> None:
    assert words(" Well, it's done. Is it?") == [" Well,", " it's", " done.", " Is", " it?"]


def test_each_chinese_character_is_a_word_and_keeps_its_punctuation() -> None:
    assert words("您好,还款。") == ["您", "好,", "还", "款。"]


def test_chinese_and_latin_stand_side_by_side() -> None:
    assert words("因为Java 开源X9吗") == ["因", "为", "Java", " 开", "源", "X9", "吗"]


def test_a_character_cut_off_at_the_end_is_left_out() -> None:
    assert [word.text for word in group_tokens(list("好".encode())[:2], decode)] == []


@given(st.text(st.sampled_from("ab 您好，。,.'9é"), max_size=30))
def test_joined_the_words_are_the_text_and_cover_its_tokens_in_order(text: str) -> None:
    spans = group_tokens(list(text.encode()), decode)
    assert "".join(span.text for span in spans) == text
    assert [span.begin for span in spans[1:]] == [span.end for span in spans[:-1]]


def test_a_word_ends_where_the_next_begins_and_silence_before_the_first_is_not_its() -> None:
    spans = [TokenSpan(" one", 0, 1), TokenSpan(" two", 1, 3), TokenSpan(" three", 3, 4)]
    placed = place_words(spans, [0.0, 2.0, 2.1, 2.4, 2.6])
    assert [(word.text, word.begin_ms, word.end_ms) for word in placed] == [
        (" one", 1400, 2000),
        (" two", 2000, 2400),
        (" three", 2400, 2600),
    ]


def test_no_words_have_no_times() -> None:
    assert place_words([], [0.0]) == ()


def test_chinese_comes_out_simplified_whichever_script_the_model_wrote() -> None:
    spans = simplified([TokenSpan(char, index, index + 1) for index, char in enumerate("歡迎您,我们")])
    assert [span.text for span in spans] == list("欢迎您,我们")
    assert [(span.begin, span.end) for span in spans] == [(index, index + 1) for index in range(6)]


def test_a_character_of_two_readings_is_simplified_by_its_phrase() -> None:
    assert "".join(span.text for span in simplified([TokenSpan(char, 0, 1) for char in "乾隆很乾淨"])) == "乾隆很干净"
