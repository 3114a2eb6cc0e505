"""The offline run must find what the live core does, to the sample."""

from gateway.call.effects import ConfirmSpeech, Identify
from gateway.call.events import Accepted, AudioArrived
from gateway.call.machine import Call
from gateway.call.settings import CallSettings, CallTerms
from gateway.evaluation.trace import Gathered, Trace, trace
from gateway.ports import SpeechProbabilities
from protocol.messages import Segment, Start
from protocol.rules.matcher import RuleSet
from tests.unit.call.sound import LoudnessGate, confirmed, loud, sent, silence, stereo, voice

SETTINGS = CallSettings(gate=LoudnessGate)
TERMS = CallTerms.of("c1", Start(rate=8000, channels=2))


def perfect(pcm: bytes, rate_hz: int, state: bytes | None) -> SpeechProbabilities:
    window = 2 * 32 * rate_hz // 1000
    windows = (pcm[at : at + window] for at in range(0, len(pcm), window))
    return SpeechProbabilities(tuple(0.99 if loud(one) else 0.01 for one in windows), b"")


AUDIO = stereo(
    silence(960) + voice(4000) + silence(1040) + voice(1600, 2) + silence(1400),
    silence(5000) + voice(3200, 3) + silence(800),
)


def traced() -> Trace:
    return trace(AUDIO, TERMS, SETTINGS, perfect)


def test_the_third_second_is_found_to_the_frame_and_known_within_a_block_and_its_delay() -> None:
    gathered = traced().gathered["s1", 3000]
    assert isinstance(gathered, Gathered)
    assert abs(gathered.spoken_ms - 3960) <= 40  # the model's windows of 32 ms straddle frames of 20
    assert 0 <= gathered.asked_ms - gathered.spoken_ms <= 160


def test_segments_are_those_of_the_live_core() -> None:
    call = Call(TERMS, SETTINGS, RuleSet([], pinyin=True))
    call.receive(Accepted("token", 60, {}))
    asked, closed = 0, {}
    for at in range(0, len(AUDIO), 1000):
        todo = call.receive(AudioArrived(AUDIO[at : at + 1000]))
        for effect in todo:
            if isinstance(effect, ConfirmSpeech):
                todo += call.receive(confirmed(effect))
            asked += isinstance(effect, Identify)
        for message in sent(todo):
            if isinstance(message, Segment) and message.state == "closed":
                closed[message.segment_id] = message.begin_ms, message.end_ms
    made = traced()
    assert asked == len(made.gathered) == 3
    assert closed == {name: ends[:2] for name, ends in made.closed.items()}
