"""How a recording becomes text: pieces that are no text the first time, and speakers of one channel."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from gateway.ports import Candidate, PortError, Rejected, TranscribeRequest, Transcription, Unavailable
from gateway.quality.diarizer import Diarizer
from gateway.quality.speaker_names import KnownVoice, SpeakerNames, Whose
from gateway.quality.statistics import described
from gateway.quality.transcribe import Channels, Transcriber, Transcript
from protocol.quality_result import Sentence
from tests.quality_world import FixedClock, PitchEmbedder, PitchRecognizer, recording

RATE_HZ = 8000


@dataclass
class RejectingRecognizer(PitchRecognizer):
    """Takes whatever is longer than `longest_ms` for a loop."""

    longest_ms: int = 5000
    lengths_ms: list[int] = field(default_factory=list)

    async def transcribe(self, request: TranscribeRequest) -> Transcription | None:
        self.lengths_ms.append(len(request.pcm) // 2 * 1000 // request.rate_hz)
        if self.lengths_ms[-1] > self.longest_ms:
            return Transcription("", "zh", (), "repetition")
        return await super().transcribe(request)


async def _transcribed(
    recognizer: PitchRecognizer, *parts: tuple[int, int], tell_apart: bool = False, simplified: bool = False
) -> Transcript:
    async def progressed(percent: int) -> None:
        """Nobody watches."""

    transcriber = Transcriber(recognizer, None, FixedClock(), diarizer=Diarizer(PitchEmbedder()), simplified=simplified)
    channels = Channels((recording(parts, RATE_HZ),), RATE_HZ)
    return await transcriber.transcribe(channels, "zh", "key", progressed, tell_apart=tell_apart)


async def test_a_piece_that_is_taken_for_a_loop_is_tried_again_in_halves_cut_where_it_is_quietest() -> None:
    recognizer = RejectingRecognizer()
    transcript = await _transcribed(recognizer, (0, 400), (100, 3600), (0, 260), (130, 3600), (0, 400))
    whole, *halves = recognizer.lengths_ms
    assert whole > 7000
    assert len(halves) == 2
    assert sum(halves) == pytest.approx(whole, abs=2)
    assert [one.text for one in transcript.utterances] == ["你好，这里是客服。", "我要退款，现在缺货。"]
    first, second = transcript.utterances
    assert first.end_ms < 4200 < 4300 < second.begin_ms + 200


async def test_a_piece_that_never_becomes_text_is_given_up_before_it_is_crumbs() -> None:
    recognizer = RejectingRecognizer(longest_ms=0)
    transcript = await _transcribed(recognizer, (0, 400), (100, 20_000), (0, 400))
    assert transcript.utterances == ()
    assert len(recognizer.lengths_ms) <= 15
    assert min(recognizer.lengths_ms) >= 1500


TALK = [(100, 3000), (0, 700), (130, 3000), (0, 700), (100, 2500), (0, 700), (130, 2500), (0, 700)]


async def test_two_voices_in_one_channel_are_two_speakers() -> None:
    transcript = await _transcribed(PitchRecognizer(), *TALK, tell_apart=True)
    said = [(one.speaker_id, one.channel, one.text) for one in transcript.utterances]
    agent, customer = (0, 0, "你好，这里是客服。"), (1, 0, "我要退款，现在缺货。")
    assert said == [agent, customer, agent, customer]
    assert {turn.speaker for turn in transcript.turns} == {0, 1}


async def test_nobody_is_told_apart_unless_that_is_asked_for() -> None:
    transcript = await _transcribed(PitchRecognizer(), *TALK)
    assert {one.speaker_id for one in transcript.utterances} == {0}
    assert transcript.turns == ()


@pytest.mark.parametrize(("simplified", "shown"), [(False, "我們要退貨。 OK!"), (True, "我们要退货。 OK!")])
async def test_chinese_text_is_shown_as_it_was_recognised_unless_simplified_is_asked_for(
    simplified: bool, shown: str
) -> None:
    recognizer = PitchRecognizer({100: ("我們要", "退貨。", " OK!")})
    transcript = await _transcribed(recognizer, (0, 400), (100, 2000), (0, 400), simplified=simplified)
    assert " ".join(one.text for one in transcript.utterances) == shown


async def test_silence_has_neither_turns_nor_sentences() -> None:
    transcript = await _transcribed(PitchRecognizer(), (0, 5000), tell_apart=True)
    assert (transcript.utterances, transcript.turns) == ((), ())


@dataclass
class Voices:
    """Follows VoiceprintApi: answers by the level of what it hears."""

    answers: dict[int, list[Candidate] | PortError]
    asked: list[tuple[str, str, str | None, int]] = field(default_factory=list)

    async def recognize(
        self, app_id: str, org_id: str, tag_id: str | None, pcm: bytes, rate_hz: int
    ) -> list[Candidate]:
        level = int(np.abs(np.frombuffer(pcm, "<i2")).max())
        self.asked.append((app_id, org_id, tag_id, len(pcm) // 2 * 1000 // rate_hz))
        answer = self.answers[level]
        if isinstance(answer, PortError):
            raise answer
        return answer


WHOSE = Whose("app", "org", "tag")


async def _named(voices: Voices, *, told_apart: bool = True) -> list[tuple[str | None, float | None]]:
    """Speaker 0 speaks at level 1000 from 0 to 2 s and 4 to 5 s, speaker 1 at 2000 from 2 to 4 s."""
    left = np.repeat(np.array([1000, 2000, 1000], np.int16), np.array([2, 2, 1]) * RATE_HZ)
    both = (left, np.full(len(left), 2000, np.int16))
    channels = Channels((left,) if told_apart else both, RATE_HZ)
    spoken = [(0, 0, 2000), (1, 2000, 4000), (0, 4000, 5000)]
    sentences = [
        Sentence(
            sentence="a", speaker_id=speaker, begin_time=0, end_time=0, voice_speed=0, voice_power=0,
            begin_ms=begin_ms, end_ms=end_ms,
        )
        for speaker, begin_ms, end_ms in spoken
    ]  # fmt: skip
    named = await SpeakerNames(voices, KnownVoice(50, 58, 5)).named(sentences, channels, WHOSE)
    return [(one.speaker_name or None, one.speaker_score or None) for one in named]


async def test_a_known_voice_gives_its_speakers_sentences_a_name() -> None:
    voices = Voices({1000: [Candidate("张明", 81.26), Candidate("Li", 30)], 2000: []})
    assert await _named(voices) == [("张明", 81.3), (None, None), ("张明", 81.3)]
    assert voices.asked == [("app", "org", "tag", 3000), ("app", "org", "tag", 2000)]
    assert await _named(voices, told_apart=False) == [("张明", 81.3), (None, None), ("张明", 81.3)]


@pytest.mark.parametrize(
    "hits",
    [
        [Candidate("Ann", 57.9)],
        [Candidate("Ann", 70), Candidate("Bea", 65.1)],
        Rejected("too little speech", code="10107"),
        Unavailable("the voiceprint service is down"),
    ],
)
async def test_a_voice_that_is_not_surely_known_has_no_name(hits: list[Candidate] | PortError) -> None:
    assert await _named(Voices({1000: hits, 2000: []})) == [(None, None)] * 3


async def test_a_name_goes_to_the_one_speaker_it_fits_best() -> None:
    voices = Voices({1000: [Candidate("Ann", 70)], 2000: [Candidate("Ann", 75)]})
    assert await _named(voices) == [(None, None), ("Ann", 75), (None, None)]


async def test_a_speaker_told_apart_is_described_by_its_number() -> None:
    transcript = await _transcribed(PitchRecognizer(), *TALK, tell_apart=True)
    entries = [described(one, recording(TALK), RATE_HZ) for one in transcript.utterances]
    assert [one.speaker_id for one in entries] == [0, 1, 0, 1]
