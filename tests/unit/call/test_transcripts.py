"""Whose answer belongs to which request, in which order finals are said, and what the softphone's own words change."""

import itertools
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.call.channel import TextWanted, Utterance
from gateway.call.events import HeardWord, Transcribed
from gateway.call.text import Text
from gateway.call.transcripts import Said, Transcripts, nothing_heard


def words(*told: tuple[str, int, int]) -> tuple[HeardWord, ...]:
    return tuple(HeardWord(*one) for one in told)


def wanted(
    kind: Literal["partial", "final"], segment_id: str = "s1", *, begin_ms: int = 0, channel: int = 0
) -> TextWanted:
    return TextWanted(Utterance(segment_id, channel, 0, 2000), kind, b"", begin_ms, 1900)


def begun(*segment_ids: str, channel: int = 0) -> Transcripts:
    transcripts = Transcripts()
    for segment_id in segment_ids or ("s1",):
        transcripts.begin(Utterance(segment_id, channel, 0, 2000), "en")
    return transcripts


def asked(transcripts: Transcripts, one: TextWanted) -> int:
    answer = transcripts.ask(one)
    assert answer is not None
    return answer[0]


def texts(answer: tuple[TextWanted | None, list[Said]]) -> list[str]:
    return [said.heard.text for said in answer[1]]


def test_an_answer_finds_its_request_once() -> None:
    transcripts = begun()
    ordinal = asked(transcripts, wanted("final"))
    assert transcripts.finals_pending == 1
    _, [said] = transcripts.answer(Transcribed("s1", ordinal, "hi", "en", words(("hi", 0, 10))))
    assert said.heard == said.shown == Text("hi", "en", words(("hi", 0, 10)), 0, 2000)
    assert said.stable_chars == 2
    assert transcripts.finals_pending == 0
    assert transcripts.answer(Transcribed("s1", ordinal, "hi")) == (None, [])


@pytest.mark.parametrize("how", [{"superseded": True}, {"failed": "broken"}])
def test_a_partial_that_brings_nothing_is_answered_all_the_same(how: dict[str, object]) -> None:
    transcripts = begun()
    one = wanted("partial")
    ordinal = asked(transcripts, one)
    assert transcripts.answer(Transcribed("s1", ordinal, **how)) == (one, [])  # type: ignore[arg-type]


def test_a_later_window_continues_the_partial_before() -> None:
    transcripts = begun()
    first = asked(transcripts, wanted("partial"))
    second = asked(transcripts, wanted("partial", begin_ms=600))
    transcripts.answer(Transcribed("s1", first, "one two", "en", words(("one", 0, 300), (" two", 300, 600))))
    _, [said] = transcripts.answer(Transcribed("s1", second, "three", "en", words(("three", 100, 300))))
    assert said.heard.text == "one two three"
    assert said.heard.words[-1] == HeardWord(" three", 700, 900)


def test_rules_look_at_what_people_read_unless_the_hypothesis_says_something_else() -> None:
    transcripts = begun()

    def partial(*told: str) -> Said:
        ordinal = asked(transcripts, wanted("partial"))
        heard = words(*((word, 300 * nth, 300 * nth + 300) for nth, word in enumerate(told)))
        [said] = transcripts.answer(Transcribed("s1", ordinal, "".join(told).strip(), "en", heard))[1]
        return said

    partial(" Well,", " I")
    partial(" Well,", " I", " want")
    same = partial(" well", " I", " want", " it")
    assert same.heard == same.shown
    assert same.heard.text == "Well, I want it"
    other = partial(" Will", " I", " want", " a", " refund")
    assert (other.heard.text, other.shown.text) == ("Will I want a refund", "Well, I want a refund")


def test_a_segment_keeps_the_language_it_began_with() -> None:
    transcripts = begun()
    transcripts.begin(Utterance("s2", 0, 2000, 2000), "zh")
    assert transcripts.ask(wanted("partial")) == (1, "en")
    assert transcripts.ask(wanted("partial", "s2")) == (2, "zh")
    assert transcripts.ask(wanted("final")) == (3, "en")


def test_finals_of_a_channel_are_said_in_the_order_of_its_segments() -> None:
    transcripts = begun("s1", "s2", "s3")
    ordinals = {name: asked(transcripts, wanted("final", name)) for name in ("s1", "s2", "s3")}
    assert texts(transcripts.answer(Transcribed("s3", ordinals["s3"], "three"))) == []
    assert texts(transcripts.answer(Transcribed("s2", ordinals["s2"], "two"))) == []
    assert transcripts.finals_pending == 3
    assert texts(transcripts.answer(Transcribed("s1", ordinals["s1"], "one"))) == ["one", "two", "three"]
    assert transcripts.finals_pending == 0


def test_the_other_channel_is_not_held_up() -> None:
    transcripts = begun("s1")
    transcripts.begin(Utterance("s2", 1, 0, 2000), "en")
    asked(transcripts, wanted("final"))
    other = asked(transcripts, wanted("final", "s2", channel=1))
    assert texts(transcripts.answer(Transcribed("s2", other, "there"))) == ["there"]


def test_a_partial_does_not_wait_for_the_final_of_an_older_segment() -> None:
    transcripts = begun("s1", "s2")
    asked(transcripts, wanted("final", "s1"))
    partial = asked(transcripts, wanted("partial", "s2"))
    assert texts(transcripts.answer(Transcribed("s2", partial, "so far"))) == ["so far"]


@given(st.permutations(range(6)))
def test_whatever_order_engines_answer_in_no_final_is_lost_and_each_channel_is_in_order(order: list[int]) -> None:
    transcripts = Transcripts()
    ordinals = []
    for nth in range(6):
        utterance = Utterance(f"s{nth}", nth % 2, 0, 2000)
        transcripts.begin(utterance, "en")
        ordinals.append(asked(transcripts, wanted("final", f"s{nth}", channel=nth % 2)))
    said = list(
        itertools.chain.from_iterable(
            texts(transcripts.answer(Transcribed(f"s{nth}", ordinals[nth], str(nth)))) for nth in order
        )
    )
    assert [one for one in said if int(one) % 2 == 0] == ["0", "2", "4"]
    assert [one for one in said if int(one) % 2 == 1] == ["1", "3", "5"]


def test_who_gives_up_says_every_final_that_was_owed() -> None:
    transcripts = begun("s1", "s2", "s3")
    asked(transcripts, wanted("partial", "s3"))
    first, second = asked(transcripts, wanted("final", "s1")), asked(transcripts, wanted("final", "s2"))
    transcripts.answer(Transcribed("s2", second, "came in time"))
    assert [said.heard.text for said in transcripts.give_up()] == ["", "came in time"]
    assert transcripts.finals_pending == 0
    assert transcripts.answer(Transcribed("s1", first, "late")) == (None, [])


def test_nothing_heard_spans_the_utterance() -> None:
    assert nothing_heard(Utterance("s1", 0, 40, 80)) == Text("", "", (), 40, 80)


# --- the softphone's own words ---


def test_a_channel_that_was_ceded_is_not_asked_about_any_more() -> None:
    transcripts = begun("s1")
    transcripts.begin(Utterance("s2", 1, 0, 2000), "en")
    transcripts.cede(0, 0)
    transcripts.begin(Utterance("s3", 0, 3000, 3000), "en")
    assert transcripts.ask(wanted("partial", "s1")) is None
    assert transcripts.ask(wanted("final", "s3")) is None
    assert transcripts.ask(wanted("final", "s2", channel=1)) is not None


def test_what_was_owed_of_the_time_since_is_forgotten_and_what_lies_before_still_comes() -> None:
    transcripts = Transcripts()
    for name, end_ms in (("s1", 2000), ("s2", 5000)):
        utterance = Utterance(name, 0, end_ms - 1500, end_ms)
        transcripts.begin(utterance, "en")
    before = asked(transcripts, wanted("final", "s1"))
    after = asked(transcripts, wanted("final", "s2"))
    assert transcripts.answer(Transcribed("s2", after, "double"))[1] == []
    assert transcripts.cede(0, 3500) == []
    assert transcripts.finals_pending == 1
    assert texts(transcripts.answer(Transcribed("s1", before, "ours"))) == ["ours"]
    assert transcripts.finals_pending == 0


def test_an_open_segment_whose_text_was_shown_is_named_so_that_it_can_be_taken_back() -> None:
    transcripts = begun("s1", "s2")
    partial = asked(transcripts, wanted("partial", "s1"))
    transcripts.answer(Transcribed("s1", partial, "hel", "en"))
    assert [utterance.segment_id for utterance in transcripts.cede(0, 9000)] == ["s1"]
