"""When a channel's speech is worth an engine's time: who speaks, and what is said."""

from typing import Any

from gateway.call.channel import (
    AnalysisSettings,
    Asked,
    Began,
    Ceased,
    Channel,
    Happening,
    TextWanted,
    VoiceGathered,
)
from gateway.call.framer import Framer
from gateway.call.segmenter import SegmenterSettings
from gateway.call.vad import VadMode, VadSettings
from tests.unit.call.sound import RATE_HZ, LoudnessGate, quiet, silence, voice


class Line:
    """A channel that is fed whole sounds; `at` holds each happening with the position it came at, in ms."""

    def __init__(self, *, one_party: bool = False, mode: VadMode = "webrtc", **analysis: Any) -> None:
        self.numbers = iter(range(1, 100))
        self.channel = Channel(
            0,
            RATE_HZ,
            LoudnessGate(RATE_HZ),
            VadSettings(mode),
            SegmenterSettings(),
            AnalysisSettings(**analysis),
            lambda: f"s{next(self.numbers)}",
            one_party=one_party,
        )
        self.framer = Framer(RATE_HZ, 1)
        self.now_ms = 0
        self.at: list[tuple[int, Happening]] = []

    def hear(self, *sounds: bytes) -> "Line":
        for (frame,) in self.framer.push(b"".join(sounds)):
            self.now_ms += 20
            self.at += [(self.now_ms, one) for one in self.channel.push(frame)]
        return self

    def end(self) -> "Line":
        self.at += [(self.now_ms, one) for one in self.channel.flush()]
        return self

    def gathered(self) -> list[tuple[int, str, int]]:
        return [
            (at_ms, one.utterance.segment_id, one.net_speech_ms)
            for at_ms, one in self.at
            if isinstance(one, VoiceGathered)
        ]

    def wanted(self, kind: str) -> list[tuple[int, TextWanted]]:
        return [(at_ms, one) for at_ms, one in self.at if isinstance(one, TextWanted) and one.kind == kind]


def test_a_voice_is_asked_about_at_3_s_of_net_speech_then_every_5_s_and_at_the_close() -> None:
    line = Line().hear(voice(15_000), silence(600))
    assert line.gathered() == [
        (3000, "s1", 3000),
        (8000, "s1", 8000),
        (13_000, "s1", 13_000),
        (15_600, "s1", 15_000),
    ]


def test_pauses_do_not_count_as_speech() -> None:
    line = Line().hear(voice(2000), silence(500), voice(980))
    assert line.gathered() == []
    assert line.hear(voice(20)).gathered() == [(3500, "s1", 3000)]


def test_the_close_asks_again_only_when_a_second_was_added() -> None:
    assert len(Line().hear(voice(3980), silence(600)).gathered()) == 1
    assert len(Line().hear(voice(4000), silence(600)).gathered()) == 2


def test_a_short_segment_where_anybody_may_speak_is_asked_about_at_its_close() -> None:
    assert Line().hear(voice(1500), silence(600)).gathered() == [(2100, "s1", 1500)]
    assert Line().hear(voice(2980), silence(600)).gathered() == [(3580, "s1", 2980)]


def test_too_short_a_segment_is_never_asked_about() -> None:
    assert Line().hear(voice(1480), silence(600)).gathered() == []
    assert Line(one_party=True).hear(voice(2980), silence(600)).gathered() == []


def test_the_voice_holds_speech_alone_without_its_pauses() -> None:
    line = Line().hear(voice(2000), quiet(400), voice(1000, seed=2))
    (gathered,) = (one for _, one in line.at if isinstance(one, VoiceGathered))
    assert gathered.pcm == voice(2000) + voice(1000, seed=2)


def test_the_voice_is_the_latest_6_s_at_most() -> None:
    line = Line().hear(voice(8000))
    assert line.gathered()[1][2] == 8000
    latest = [one.pcm for _, one in line.at if isinstance(one, VoiceGathered)][-1]
    assert latest == voice(8000)[-2 * 6 * RATE_HZ :]


def test_short_utterances_of_one_party_pool_until_they_make_3_s() -> None:
    line = Line(one_party=True).hear(*[voice(1000), silence(1000)] * 4)
    assert line.gathered() == [(5000, "s3", 3000)]
    pooled = [one.pcm for _, one in line.at if isinstance(one, VoiceGathered)]
    assert pooled == [voice(1000) * 3]


def test_a_pool_that_was_asked_about_starts_anew() -> None:
    line = Line(one_party=True).hear(*[voice(1500), silence(1000)] * 4)
    assert line.gathered() == [(4000, "s2", 3000), (9000, "s4", 3000)]


def test_where_anybody_may_speak_each_segment_stands_alone() -> None:
    assert Line().hear(*[voice(1000), silence(1000)] * 6).gathered() == []


def test_a_final_text_is_wanted_at_the_close_of_every_segment() -> None:
    line = Line().hear(silence(1000), voice(1000), silence(1000), voice(500)).end()
    finals = [(one.begin_ms, one.utterance.end_ms, one.pcm) for _, one in line.wanted("final")]
    first = silence(300) + voice(1000) + silence(200)
    assert finals == [(700, 2200, first), (2700, 3500, silence(300) + voice(500))]


def test_a_split_segment_loses_no_sample_and_doubles_none() -> None:
    line = Line().hear(voice(45_000)).end()
    assert sum(isinstance(one, Began) for _, one in line.at) == 3
    finals = [one for _, one in line.wanted("final")]
    assert b"".join(one.pcm for one in finals) == voice(45_000)
    assert [one.utterance.begin_ms for one in finals[1:]] == [one.utterance.end_ms for one in finals[:-1]]


def test_a_partial_text_is_wanted_every_hop_once_the_last_is_back() -> None:
    line = Line().hear(voice(3000))
    assert [at_ms for at_ms, _ in line.wanted("partial")] == [700]
    line.channel.partial_answered("s1")
    line.hear(voice(1000))
    assert [at_ms for at_ms, _ in line.wanted("partial")] == [700, 3020]


def test_an_answer_about_another_segment_frees_nothing() -> None:
    line = Line().hear(voice(1000))
    line.channel.partial_answered("s0")
    assert len(line.hear(voice(2000)).wanted("partial")) == 1


def test_a_short_pause_brings_a_partial_at_once() -> None:
    line = Line().hear(voice(800), silence(280))
    line.channel.partial_answered("s1")
    ((_, first),) = line.wanted("partial")
    assert first.settled_ms == 600
    line.hear(silence(20))
    at_ms, second = line.wanted("partial")[-1]
    assert (at_ms, second.settled_ms) == (1100, 1100)
    line.channel.partial_answered("s1")
    assert len(line.hear(silence(280)).wanted("partial")) == 2


def test_a_partial_looks_back_8_s_at_most() -> None:
    line = Line().hear(silence(1000), voice(1000))
    assert line.wanted("partial")[-1][1].begin_ms == 700
    line.hear(voice(8500))
    line.channel.partial_answered("s1")
    line.hear(voice(20))
    at_ms, latest = line.wanted("partial")[-1]
    assert latest.begin_ms == at_ms - 8000
    assert len(latest.pcm) == 2 * 8 * RATE_HZ


def test_a_fresh_question_to_the_model_begins_one_block_early_to_warm_it() -> None:
    line = Line(mode="webrtc+silero").hear(quiet(960), voice(140))
    ((_, asked),) = line.at
    assert isinstance(asked, Asked) and asked.fresh
    assert asked.pcm == (quiet(960) + voice(140))[2 * 8 * 864 : 2 * 8 * 1056]


def test_the_first_block_of_a_call_has_nothing_before_it() -> None:
    line = Line(mode="webrtc+silero").hear(voice(100))
    ((_, asked),) = line.at
    assert isinstance(asked, Asked) and asked.pcm == voice(100)[: 2 * 8 * 96]


def test_an_hour_of_silence_keeps_little() -> None:
    line = Line().hear(*[silence(60_000)] * 10)
    assert len(line.channel._history._pcm) < 200_000
    line.hear(voice(1000), silence(1000))
    assert [type(one) for _, one in line.at][-2:] == [Ceased, TextWanted]
