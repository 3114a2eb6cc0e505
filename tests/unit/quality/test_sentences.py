"""Sentences made of words, and the figures that go with them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ports import Word
from gateway.quality.sentences import Utterance, in_order, utterances
from gateway.quality.speech import Span
from gateway.quality.statistics import described, silence_ms, voice_power, voice_speed, whole_seconds
from tests.quality_world import hummed

PIECE = Span(10_000, 20_000)


def _words(*texts: str, step_ms: int = 200) -> list[Word]:
    return [Word(text, n * step_ms, (n + 1) * step_ms) for n, text in enumerate(texts)]


def _texts(words: list[Word]) -> list[str]:
    return [one.text for one in utterances(words, PIECE, 0)]


def test_a_sentence_ends_at_its_punctuation() -> None:
    assert _texts(_words("你是", "谁？", "我是", "小度。")) == ["你是谁？", "我是小度。"]
    assert _texts(_words(" Who", " is", ' it?"', " Me.")) == ['Who is it?"', "Me."]


def test_a_mark_timed_apart_stays_with_the_words_before_it() -> None:
    assert _texts([Word("你好", 0, 200), Word("。", 1500, 1600), Word("再见", 1600, 1800)]) == ["你好。", "再见"]


def test_commas_numbers_and_abbreviations_end_no_sentence() -> None:
    assert _texts(_words(" Mr.", " Smith", " paid", " 3.5,", " J.", " Doe", " did", " not.")) == [
        "Mr. Smith paid 3.5, J. Doe did not."
    ]


def test_a_sentence_ends_at_a_pause_of_more_than_600_ms() -> None:
    assert _texts([Word("好", 0, 200), Word("的", 800, 900), Word("再见", 1501, 1700)]) == ["好的", "再见"]


def test_times_are_counted_from_the_start_of_the_recording_and_stay_in_the_piece() -> None:
    (one,) = utterances([Word("好", 100, 300), Word("的", 300, 99_000)], PIECE, 1)
    assert one == Utterance("好的", 1, 10_100, 20_000)


def test_a_sentence_of_marks_alone_is_dropped() -> None:
    assert _texts(_words("。", "…")) == []


def test_sentences_of_all_channels_are_ordered_by_time() -> None:
    left, right = Utterance("a", 0, 500, 900), Utterance("b", 1, 100, 2000)
    assert in_order([left, right]) == (right, left)


_WORDS = st.lists(
    st.tuples(st.sampled_from(["好", " ok", "。", "？", " Mr.", ","]), st.integers(0, 900), st.integers(0, 900))
)


@given(_WORDS)
def test_no_word_with_a_letter_is_lost_and_times_never_turn_back(drawn: list[tuple[str, int, int]]) -> None:
    words, at_ms = [], 0
    for text, gap_ms, length_ms in drawn:
        words.append(Word(text, at_ms + gap_ms, at_ms + gap_ms + length_ms))
        at_ms += gap_ms + length_ms
    found = utterances(words, PIECE, 0)
    spoken = "".join(one.text for one in found)
    assert spoken.count("好") == sum(word.text == "好" for word in words)
    assert spoken.count("ok") == sum(word.text == " ok" for word in words)
    for one in found:
        assert PIECE.begin_ms <= one.begin_ms <= one.end_ms <= PIECE.end_ms


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("你好，世界。", 4),
        ("I don't want 3.5 refunds!", 5),
        ("我要 refund 了", 4),
        ("…", 0),
        ("안녕", 2),
        ("well-known", 1),
    ],
)
def test_voice_speed_counts_cjk_characters_and_other_words_a_minute(text: str, units: int) -> None:
    assert voice_speed(text, 30_000) == 2 * units
    assert voice_speed(text, 0) == 0


def test_voice_power_is_dbfs() -> None:
    assert voice_power(np.full(800, -32768, np.int16)) == 0
    assert voice_power(np.full(800, 3277, np.int16)) == -20
    assert voice_power(np.zeros(800, np.int16)) == -96
    assert voice_power(np.zeros(0, np.int16)) == -96


def test_whole_seconds_are_the_nearest() -> None:
    assert [whole_seconds(ms) for ms in (0, 499, 500, 1499, 1500, 10_400)] == [0, 0, 1, 1, 2, 10]


def test_silence_is_when_nobody_speaks_on_any_channel() -> None:
    assert silence_ms(10_000, [[Span(0, 2000), Span(5000, 6000)], [Span(1000, 3000)]]) == 6000


def test_a_sentence_is_described_from_its_own_stretch_of_its_channel() -> None:
    samples = np.concatenate([np.zeros(8000, np.int16), hummed(130, 2000)])
    entry = described(Utterance("我要退款。", 1, 1000, 3000), samples, 8000)
    assert (entry.speaker_id, entry.begin_time, entry.end_time) == (1, 1, 3)
    assert (entry.begin_ms, entry.end_ms) == (1000, 3000)
    assert entry.voice_speed == 120
    assert -30 < entry.voice_power < -10
