from gateway.evaluation.attribution import AttributedEdits, attributed_edits
from gateway.evaluation.material import Turn
from gateway.evaluation.wording import Edits

TURNS = [
    Turn("agent", "Emma", 0.0, 4.0, "one two three four"),
    Turn("customer", "Noah", 3.0, 5.0, "five six"),
]
"""The fourth word of the one and the first of the other are said at once."""


def test_words_by_the_right_speaker_are_no_error_whatever_number_he_has() -> None:
    found = attributed_edits(TURNS, {0: "Five, six.", 1: "One two three four."}, "en")
    assert found == AttributedEdits(Edits(length=4), Edits(length=2))
    assert found.total.rate == 0


def test_words_given_to_the_other_speaker_are_errors_on_both_sides() -> None:
    found = attributed_edits(TURNS, {0: "one two three four five", 1: "six"}, "en").total
    assert (found.deletions, found.insertions, found.substitutions) == (1, 1, 0)


def test_errors_where_both_speak_are_counted_apart() -> None:
    found = attributed_edits(TURNS, {0: "one to three", 1: "five six"}, "en")
    assert (found.alone, found.overlapped) == (Edits(substitutions=1, length=4), Edits(deletions=1, length=2))


def test_a_speaker_that_was_not_found_is_missed_and_one_too_many_inserted() -> None:
    assert attributed_edits(TURNS, {0: "one two three four"}, "en").total.deletions == 2
    assert attributed_edits(TURNS, {}, "en").total == Edits(deletions=6, length=6)
    assert attributed_edits(TURNS[:1], {0: "one two three four", 1: "five"}, "en").total.insertions == 1


def test_mandarin_is_compared_by_characters_folded_to_simplified() -> None:
    turns = [Turn("agent", "Li", 0.0, 2.0, "我要退款"), Turn("customer", "Wu", 2.0, 4.0, "好的")]
    found = attributed_edits(turns, {0: "好的。", 1: "我要退钱。"}, "zh").total
    assert found == Edits(substitutions=1, length=6)
    assert attributed_edits(turns, {0: "我要退款", 1: "好的"}, "zh").total.rate == 0
