"""With live text off a call finds utterances and speakers, and its rules know words only from the softphone."""

from gateway.call.channel import AnalysisSettings
from gateway.call.effects import Identify, Transcribe
from gateway.call.events import ClientSpoke
from gateway.call.settings import CallSettings
from protocol.messages import Alert, Segment, Transcript
from protocol.rules.matcher import RuleSet
from tests.unit.call.shell import Shell
from tests.unit.call.sound import LoudnessGate, make_call, silence, voice

RULES = RuleSet.from_categories({"c": ["refund", "!goodbye"]}, 1, pinyin=True)


def shell() -> Shell:
    settings = CallSettings(gate=LoudnessGate, analysis=AnalysisSettings(transcribes=False))
    return Shell(make_call(RULES, settings))


def test_utterances_and_speakers_are_found_and_no_text_is_asked_for() -> None:
    one = shell()
    for sound in (voice(3500), silence(1200)) * 2:
        one.hear(sound)
    assert [message.state for message in one.sent(Segment)] == ["opened", "closed"] * 2
    assert one.done(Identify)
    one.hang_up()
    assert one.done(Transcribe) == 0
    assert one.sent(Transcript) == []
    assert one.call.state.value == "judging"


def test_speech_that_nobody_put_into_words_may_hold_what_a_rule_forbids() -> None:
    one = shell()
    for sound in (voice(3500), silence(1200)) * 2:
        one.hear(sound)
    one.hang_up()
    assert one.sent(Alert) == []


def test_silence_holds_no_words() -> None:
    one = shell()
    one.hear(silence(3000))
    one.hang_up()
    assert [alert.rule for alert in one.sent(Alert)] == ["!goodbye"]


def test_the_softphone_s_words_are_judged() -> None:
    one = shell()
    one.tell(ClientSpoke(0, "I want a refund", 0, 100))
    for sound in (voice(1500), silence(1200)):
        one.hear(sound)
    one.hang_up()
    assert [alert.rule for alert in one.sent(Alert)] == ["refund", "!goodbye"]
