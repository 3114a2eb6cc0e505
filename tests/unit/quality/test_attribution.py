"""Words given to speakers: by their times, but at joints of the text where one is near."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from gateway.ports import Word
from gateway.quality.attribution import said_by
from gateway.quality.diarization import Turn
from gateway.quality.sentences import utterances
from gateway.quality.speech import Span

PIECE = Span(10_000, 20_000)


def _words(*texts: str, step_ms: int = 200) -> list[Word]:
    return [Word(text, n * step_ms, (n + 1) * step_ms) for n, text in enumerate(texts)]


def _said(words: list[Word], *turns: Turn) -> list[tuple[int, str]]:
    return [(speaker, "".join(word.text for word in said).strip()) for speaker, said in said_by(words, PIECE, turns)]


def test_a_word_belongs_to_whose_turn_it_is_in_or_near() -> None:
    turns = Turn(10_000, 10_400, 0), Turn(11_000, 11_600, 1)
    words = [Word(" a", 0, 400), Word(" b", 450, 650), Word(" c", 750, 950), Word(" d", 1000, 1700)]
    assert _said(words, *turns) == [(0, "a b"), (1, "c d")]


def test_a_change_is_put_at_the_end_of_a_sentence_near_it() -> None:
    words = _words(" Is", " it", " you?", " Yes,", " it", " is.", " Good.")
    assert _said(words, Turn(10_000, 10_850, 0), Turn(10_850, 11_400, 1)) == [
        (0, "Is it you?"),
        (1, "Yes, it is. Good."),
    ]
    assert _said(words, Turn(10_000, 10_300, 0), Turn(10_300, 11_400, 1)) == [
        (0, "Is it you?"),
        (1, "Yes, it is. Good."),
    ]


def test_a_change_is_put_at_a_pause_near_it_where_no_sentence_ends() -> None:
    words = [Word("好", 0, 200), Word("的", 200, 400), Word("我", 600, 800), Word("是", 800, 1000)]
    assert _said(words, Turn(10_000, 10_200, 0), Turn(10_200, 11_000, 1)) == [(0, "好的"), (1, "我是")]


def test_a_change_far_from_any_joint_stays_where_it_was_heard() -> None:
    words = _words(*"一二三四五六七八九十")
    assert _said(words, Turn(10_000, 11_000, 0), Turn(11_000, 12_000, 1)) == [(0, "一二三四五"), (1, "六七八九十")]


def test_a_sentence_is_cut_where_another_speaker_begins() -> None:
    found = utterances(_words("你好", "吗", "很好"), PIECE, 0, (Turn(10_000, 10_400, 1), Turn(10_400, 10_600, 0)))
    assert [(one.text, one.speaker_id) for one in found] == [("你好吗", 1), ("很好", 0)]


TURNS = st.lists(st.tuples(st.integers(1, 2000), st.integers(0, 800), st.integers(0, 1)), min_size=1, max_size=8)


@given(TURNS, st.lists(st.sampled_from([" a", " b.", "好", "。"]), max_size=20), st.integers(20, 700))
def test_every_word_is_said_once_and_in_order(
    parts: list[tuple[int, int, int]], texts: list[str], step_ms: int
) -> None:
    turns, at_ms = [], 10_000
    for duration_ms, gap_ms, speaker in parts:
        turns.append(Turn(at_ms + gap_ms, at_ms + gap_ms + duration_ms, speaker))
        at_ms += gap_ms + duration_ms
    words = _words(*texts, step_ms=step_ms)
    runs = list(said_by(words, PIECE, turns))
    assert [word for _, said in runs for word in said] == words
    assert all(said for _, said in runs)
    assert all(before != after for (before, _), (after, _) in itertools.pairwise(runs))
