"""Words on the media clock, and partial texts that grow."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.call.events import HeardWord
from gateway.call.history import History
from gateway.call.text import Text, continued, on_media_clock


def words(*told: tuple[str, int, int]) -> tuple[HeardWord, ...]:
    return tuple(HeardWord(*one) for one in told)


HELLO = words((" Hello", 0, 400), (" there", 400, 700), (",", 700, 700), (" you", 800, 1000))


def test_a_keyword_is_where_its_words_are() -> None:
    text = Text("Hello there, you", "en", HELLO, 0, 1000)
    assert text.locate(0, 5) == (0, 400)
    assert text.locate(6, 11) == (400, 700)
    assert text.locate(3, 16) == (0, 1000)
    assert text.locate(7, 8) == (400, 700)


def test_a_place_outside_all_words_is_at_the_last() -> None:
    assert Text("Hello there, you", "en", HELLO, 0, 1000).locate(16, 16) == (800, 1000)


def test_without_words_time_goes_by_characters() -> None:
    assert Text("abcd", "en", (), 1000, 1400).locate(1, 3) == (1100, 1300)
    assert Text("", "en", (), 1000, 1400).locate(0, 0) == (1000, 1000)


@given(st.lists(st.tuples(st.sampled_from([" a", "b", " cde", "还", "款日"]), st.integers(1, 500)), min_size=1))
def test_every_span_lies_within_the_words_it_touches(parts: list[tuple[str, int]]) -> None:
    told, at_ms = [], 0
    for part, length_ms in parts:
        told.append(HeardWord(part, at_ms, at_ms + length_ms))
        at_ms += length_ms
    joined = "".join(part for part, _ in parts)
    text = Text(joined.strip(), "en", tuple(told), 0, at_ms)
    lead = len(joined) - len(joined.lstrip())
    at = -lead
    for word in told:
        begin, end = max(0, at), at + len(word.text)
        assert text.locate(begin, end) == (word.begin_ms, word.end_ms)
        at = end


def test_settled_is_the_text_before_the_first_word_that_had_not_ended() -> None:
    text = Text("Hello there, you", "en", HELLO, 0, 1000)
    assert text.settled(1000) == "Hello there, you"
    assert text.settled(999) == "Hello there,"
    assert text.settled(699) == "Hello"
    assert text.settled(0) == ""
    muddled = Text("a b c", "en", words(("a", 0, 100), (" b", 100, 900), (" c", 200, 300)), 0, 900)
    assert muddled.settled(500) == "a"


def test_words_move_by_the_offset_of_their_audio() -> None:
    assert on_media_clock(words(("a", 0, 10)), 500) == words(("a", 500, 510))


def test_a_windowed_partial_keeps_what_was_heard_before_its_window() -> None:
    before = Text("one two three", "en", words(("one", 0, 300), (" two", 300, 600), (" three", 600, 1000)), 0, 1000)
    after = continued(before, "en", words(("three", 650, 1000), (" four", 1000, 1300)), 600)
    assert after.text == "one two three four"
    assert (after.begin_ms, after.end_ms) == (0, 1300)


def test_chinese_words_are_joined_without_a_space() -> None:
    before = Text("您的", "zh", words(("您的", 0, 300)), 0, 300)
    assert continued(before, "zh", words(("还款", 400, 700)), 350).text == "您的还款"


def test_a_window_without_words_keeps_what_was_there() -> None:
    before = Text("one two", "en", words(("one", 0, 300), (" two", 300, 600)), 0, 600)
    assert continued(before, "en", (), 300).text == "one"
    nothing = continued(Text(), "en", (), 300)
    assert (nothing.text, nothing.begin_ms, nothing.end_ms) == ("", 300, 300)


def test_a_window_after_nothing_is_the_text() -> None:
    assert continued(Text(), "en", words((" hi", 300, 400)), 300).text == "hi"


# --- the recent past ---


def test_history_gives_back_what_it_holds_by_position() -> None:
    history = History()
    history.append(bytes(range(8)))
    history.append(bytes(range(8, 16)))
    assert history.end_sample == 8
    assert history.between(3, 6) == bytes(range(6, 12))


@pytest.mark.parametrize(("begin", "end"), [(0, 9), (5, 4), (-1, 2)])
def test_history_refuses_what_it_does_not_hold(begin: int, end: int) -> None:
    history = History()
    history.append(bytes(16))
    with pytest.raises(IndexError, match=f"samples {begin} to {end} of 0 to 8"):
        history.between(begin, end)


def test_history_forgets_in_steps_and_keeps_positions() -> None:
    history = History()
    history.append(bytes(100_000) + b"\1\2")
    history.forget(30_000)
    assert history.between(0, 1) == b"\0\0"
    history.forget(40_000)
    assert history.between(50_000, 50_001) == b"\1\2"
    with pytest.raises(IndexError):
        history.between(39_999, 40_001)
