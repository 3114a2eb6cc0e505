"""What two hypotheses agree on stays; what comes after it may change."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.call.agreement import Agreement
from gateway.call.events import HeardWord
from gateway.call.text import Text


def text(sentence: str, word_ms: int = 300) -> Text:
    words = tuple(
        HeardWord((" " if nth else "") + word, nth * word_ms, (nth + 1) * word_ms)
        for nth, word in enumerate(sentence.split())
    )
    return Text(sentence, "en", words, 0, len(words) * word_ms)


def stable(agreement: Agreement, sentence: str) -> tuple[str, str]:
    shown = agreement.take(text(sentence))
    return shown.text.text[: shown.stable_chars], shown.text.text[shown.stable_chars :]


def test_the_first_hypothesis_is_all_tentative() -> None:
    assert stable(Agreement(), "I want a") == ("", "I want a")


def test_what_two_hypotheses_in_a_row_begin_with_is_stable() -> None:
    agreement = Agreement()
    stable(agreement, "I want a")
    assert stable(agreement, "I want our refund") == ("I want", " our refund")
    assert stable(agreement, "I want our refund now") == ("I want our refund", " now")


def test_punctuation_and_case_are_no_disagreement_and_stay_as_they_were_first_agreed_on() -> None:
    agreement = Agreement()
    stable(agreement, "Well I")
    assert stable(agreement, "well, I want") == ("well, I", " want")
    assert stable(agreement, "Well. I want a") == ("well, I want", " a")


def test_a_hypothesis_that_takes_back_what_is_stable_changes_only_what_lies_after_it() -> None:
    agreement = Agreement()
    stable(agreement, "I want a")
    stable(agreement, "I want a")
    assert stable(agreement, "He wants a refund now") == ("I want a", " refund now")
    assert agreement.ends_ms == (300, 600, 900)


def test_a_hypothesis_without_words_keeps_what_is_stable() -> None:
    agreement = Agreement()
    stable(agreement, "I want")
    stable(agreement, "I want")
    assert stable(agreement, "") == ("I want", "")
    assert stable(Agreement(), "") == ("", "")


def test_a_text_that_came_without_words_is_shown_and_all_tentative() -> None:
    shown = Agreement().take(Text("hello", "en", (), 0, 100))
    assert (shown.text.text, shown.stable_chars) == ("hello", 0)


@given(
    st.lists(
        st.lists(st.sampled_from([" a", " b", "a.", " ", "还", " A"]), max_size=6).map(
            lambda told: tuple(HeardWord(word, 100 * nth, 100 * nth + 100) for nth, word in enumerate(told))
        ),
        max_size=8,
    )
)
def test_stable_text_only_grows_and_never_changes(hypotheses: list[tuple[HeardWord, ...]]) -> None:
    agreement, kept = Agreement(), ""
    for words in hypotheses:
        joined = "".join(word.text for word in words).strip()
        shown = agreement.take(Text(joined, "en", words, 0, 1000))
        assert shown.text.text.startswith(kept)
        assert shown.stable_chars >= len(kept)
        kept = shown.text.text[: shown.stable_chars]
