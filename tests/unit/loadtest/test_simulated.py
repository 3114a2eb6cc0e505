"""The simulated clock: what is asked is answered, and what was made ahead is not made again."""

from gateway.call.settings import CallSettings, CallTerms
from gateway.call.vad import VadSettings
from gateway.ports import Language, SpeechProbabilities, Transcription, Word
from loadtest.bench_capacity import _half_speech
from loadtest.simulated import SimulatedCall, Simulation
from protocol.messages import Ended, Segment, Start, Transcript
from protocol.rules.matcher import RuleSet
from tests.unit.call.sound import LoudnessGate, silence, voice


def nobody(pcm: bytes, rate_hz: int, state: bytes | None) -> SpeechProbabilities:
    raise AssertionError("no model is asked in this mode")


def simulated(pcm: bytes, level: int = 0) -> tuple[Simulation, list[tuple[int, str]]]:
    asked: list[tuple[int, str]] = []

    def transcribe(pcm: bytes, rate_hz: int, language: Language, kind: str) -> Transcription:
        asked.append((len(pcm), kind))
        return Transcription("hello", "en", (Word("hello", 0, 100),))

    settings = CallSettings(gate=LoudnessGate, vad=VadSettings("webrtc"))
    terms = CallTerms.of("c1", Start(rate=8000))
    call = SimulatedCall(terms, settings, RuleSet([], pinyin=True), transcribe, nobody)
    return call.run(pcm, level=level), asked


def test_every_segment_that_closed_gets_its_final_text_and_the_call_comes_to_its_end() -> None:
    made, _ = simulated((silence(500) + voice(1500) + silence(1000)) * 2 + voice(1000))
    closed = [one.message for one in made.arrived if isinstance(one.message, Segment) and one.message.state == "closed"]
    finals = [one.message for one in made.arrived if isinstance(one.message, Transcript) and one.message.final]
    assert [one.segment_id for one in finals] == [one.segment_id for one in closed] == ["s1", "s2", "s3"]
    assert not any(isinstance(one.message, Ended) for one in made.arrived)  # voice QC has not judged it
    assert [one.at_ms for one in made.arrived] == sorted(one.at_ms for one in made.arrived)


def test_a_final_that_was_made_ahead_is_not_made_again() -> None:
    made, asked = simulated(silence(500) + voice(1500) + silence(1500))
    assert made.decodes == {"partial": 2, "foreseen": 1}
    assert [kind for _, kind in asked].count("final") == 1


def test_a_load_level_is_taken_over() -> None:
    made, asked = simulated(silence(500) + voice(1500) + silence(1500), level=6)
    assert made.decodes == {"final": 1}
    assert [kind for _, kind in asked] == ["partial"]  # a hurried one


def test_capacity_is_measured_with_speech_half_the_time() -> None:
    turns = [b"\1\0" * 16000, b"\2\0" * 32000]
    pcm = _half_speech(turns, 1, 6.0)
    assert pcm == turns[1] + bytes(64_000) + turns[0] + bytes(32_000)
