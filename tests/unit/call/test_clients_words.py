"""A softphone with a recogniser of its own: from its first words of a channel on, ours is not asked about it."""

from typing import Any

from gateway.call.effects import Transcribe
from gateway.call.events import ClientSpoke, Updated
from protocol.messages import Alert, AlertUpdate, Segment, Speaker, Transcript
from protocol.rules.matcher import RuleSet
from tests.unit.call.shell import Shell
from tests.unit.call.sound import make_call, silence, stereo, voice

RULES = RuleSet.from_categories({"c": ["refund"]}, 1, pinyin=True)
SENTENCE = (silence(500), voice(1500), silence(1200))


def shell(**start: Any) -> Shell:
    return Shell(make_call(RULES, **start))


def finals(one: Shell) -> list[tuple[str, str]]:
    return [(message.segment_id, message.text) for message in one.sent(Transcript) if message.final]


def test_from_the_first_transcript_on_our_recogniser_is_not_asked_about_the_channel() -> None:
    one = shell()
    one.tell(ClientSpoke(0, "hello", 0, 100))
    for sound in SENTENCE * 2:
        one.hear(sound)
    assert one.done(Transcribe) == 0
    assert finals(one) == [("s1", "hello")]


def test_the_segments_of_the_channel_and_their_speakers_go_on() -> None:
    one = shell()
    one.tell(ClientSpoke(0, "hello", 0, 100))
    for sound in (voice(3500), silence(1200)):
        one.hear(sound)
    one.know()
    assert [message.state for message in one.sent(Segment)] == ["opened", "closed"]
    assert one.sent(Speaker)


def test_the_other_channel_is_still_ours() -> None:
    one = shell(channels=2)
    one.tell(ClientSpoke(0, "hello", 0, 100))
    for sound in SENTENCE:
        one.hear(stereo(sound, sound))
    assert {wanted.segment_id for wanted in one.transcribes} == {
        message.segment_id for message in one.sent(Segment) if message.channel == 1
    }


def test_an_empty_transcript_says_where_words_will_come_from_and_is_not_a_sentence() -> None:
    one = shell()
    assert one.tell(ClientSpoke(0, "", 0, 0)) == []
    for sound in SENTENCE:
        one.hear(sound)
    assert (one.done(Transcribe), one.sent(Transcript)) == (0, [])


def test_text_of_ours_that_was_shown_of_the_same_words_is_taken_back() -> None:
    one = shell()
    one.hear(voice(1500))
    one.say("a re fund", kind="partial")
    one.tell(ClientSpoke(0, "a refund", 300, 1400))
    assert finals(one) == [("s2", "a refund"), ("s1", "")]
    asked = one.done(Transcribe)
    one.hear(voice(500))
    one.hear(silence(1200))
    assert (one.done(Transcribe), len(finals(one))) == (asked, 2)


def test_an_alert_on_our_partial_text_that_the_client_s_words_confirm_stands() -> None:
    one = shell()
    one.hear(voice(1500))
    one.say("a refund", kind="partial")
    [alert] = one.sent(Alert)
    one.tell(ClientSpoke(0, "a refund", 300, 1400))
    assert alert.certainty == "provisional"
    assert [update.status for update in one.sent(AlertUpdate)][-1] == "final"
    assert "retracted" not in [update.status for update in one.sent(AlertUpdate)]


def test_the_final_text_of_an_earlier_sentence_still_comes() -> None:
    one = shell()
    for sound in SENTENCE:
        one.hear(sound)
    one.tell(ClientSpoke(0, "the next one", 2700, 3100))
    one.say("the first one")
    assert finals(one) == [("s2", "the next one"), ("s1", "the first one")]


def test_a_call_with_words_of_the_client_s_alone_ends_as_any_other() -> None:
    one = shell()
    one.tell(ClientSpoke(0, "hello", 0, 100))
    one.hear(voice(1500))
    one.hang_up()
    assert one.call.state.value == "judging"


def test_a_change_of_language_counts_from_the_next_utterance_on() -> None:
    one = shell(language="zh")
    one.hear(voice(800))
    one.tell(Updated(language="en"))
    one.say("", kind="partial")
    one.hear(voice(1000))
    one.hear(silence(1200))
    one.hear(voice(800))
    asked = [effect for effect in one.effects if isinstance(effect, Transcribe)]
    assert {effect.language for effect in asked if effect.segment_id == "s1"} == {"zh"}
    assert {effect.language for effect in asked if effect.segment_id == "s2"} == {"en"}
