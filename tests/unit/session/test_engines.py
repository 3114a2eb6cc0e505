"""What a call asks of its engines, and when an answer made ahead serves."""

import asyncio
from collections.abc import Sequence

import pytest

from gateway.call.effects import Transcribe
from gateway.ports import Candidate, SpeechProbabilities, TranscribeRequest, Transcription, Unavailable, Word
from gateway.session.engines import CallEngines, Engines, Voices
from gateway.telemetry import Metrics

PCM = bytes(3200)


class Scripted:
    """A recogniser that answers when it is told to, and a clock that stands still."""

    def __init__(self) -> None:
        self.asked: list[TranscribeRequest] = []
        self.answers: asyncio.Queue[Transcription | Exception | None] = asyncio.Queue()

    async def transcribe(self, request: TranscribeRequest) -> Transcription | None:
        self.asked.append(request)
        answer = await self.answers.get()
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def confirm(self, pcm: bytes, rate_hz: int, state: bytes | None) -> SpeechProbabilities:
        raise AssertionError("not asked here")

    async def recognize(
        self, app_id: str, org_id: str, tag_id: str | None, pcm: bytes, rate_hz: int
    ) -> Sequence[Candidate]:
        raise AssertionError("not asked here")

    def monotonic(self) -> float:
        return 0.0

    def wall(self) -> float:
        return 0.0


@pytest.fixture
def scripted() -> Scripted:
    return Scripted()


@pytest.fixture
def engines(scripted: Scripted) -> CallEngines:
    voices = Voices("app", "app", None)
    return CallEngines(Engines(scripted, scripted, scripted), voices, "c1", 16000, scripted, Metrics())


FORESEEN = Transcribe("s1", 1, PCM, "en", "partial", foreseen=True)
FINAL = Transcribe("s1", 2, PCM, "en", "final")


def heard(text: str) -> Transcription:
    return Transcription(text, "en", (Word(text, 0, 100),))


def no_lag(lag_ms: int) -> None:
    assert lag_ms == 0


async def test_a_foreseen_text_is_made_as_well_as_a_final_one(engines: CallEngines, scripted: Scripted) -> None:
    scripted.answers.put_nowait(heard("refund"))
    await engines.transcribe(FORESEEN, no_lag)
    assert [request.kind for request in scripted.asked] == ["final"]


async def test_the_final_of_what_was_foreseen_is_not_asked_again(engines: CallEngines, scripted: Scripted) -> None:
    scripted.answers.put_nowait(heard("refund"))
    await engines.transcribe(FORESEEN, no_lag)
    final = await engines.transcribe(FINAL, no_lag)
    assert (final.text, final.ordinal, len(scripted.asked)) == ("refund", 2, 1)


async def test_a_final_waits_for_the_foreseen_answer_that_is_under_way(
    engines: CallEngines, scripted: Scripted
) -> None:
    both = asyncio.gather(engines.transcribe(FORESEEN, no_lag), engines.transcribe(FINAL, no_lag))
    scripted.answers.put_nowait(heard("refund"))
    assert [answer.text for answer in await both] == ["refund", "refund"]
    assert len(scripted.asked) == 1


async def test_more_speech_makes_the_foreseen_text_worthless(engines: CallEngines, scripted: Scripted) -> None:
    for text in ("refund", "refund please"):
        scripted.answers.put_nowait(heard(text))
    await engines.transcribe(FORESEEN, no_lag)
    final = await engines.transcribe(Transcribe("s1", 2, PCM + PCM, "en", "final"), no_lag)
    assert (final.text, len(scripted.asked)) == ("refund please", 2)


async def test_another_language_makes_the_foreseen_text_worthless(engines: CallEngines, scripted: Scripted) -> None:
    for text in ("refund", "退款"):
        scripted.answers.put_nowait(heard(text))
    await engines.transcribe(FORESEEN, no_lag)
    assert (await engines.transcribe(Transcribe("s1", 2, PCM, "zh", "final"), no_lag)).text == "退款"


async def test_a_final_is_asked_when_the_foreseen_answer_failed(engines: CallEngines, scripted: Scripted) -> None:
    scripted.answers.put_nowait(Unavailable("gone"))
    scripted.answers.put_nowait(heard("refund"))
    foreseen, final = await asyncio.gather(engines.transcribe(FORESEEN, no_lag), engines.transcribe(FINAL, no_lag))
    assert foreseen.failed
    assert (final.text, final.failed) == ("refund", "")


async def test_a_final_is_asked_when_something_newer_took_the_place_of_the_foreseen_one(
    engines: CallEngines, scripted: Scripted
) -> None:
    scripted.answers.put_nowait(None)
    scripted.answers.put_nowait(heard("refund"))
    foreseen, final = await asyncio.gather(engines.transcribe(FORESEEN, no_lag), engines.transcribe(FINAL, no_lag))
    assert foreseen.superseded
    assert final.text == "refund"


async def test_what_may_be_replaced_and_what_is_in_a_hurry_is_said_to_the_recogniser(
    engines: CallEngines, scripted: Scripted
) -> None:
    for _ in range(2):
        scripted.answers.put_nowait(heard("refund"))
    await engines.transcribe(FORESEEN, no_lag)
    await engines.transcribe(Transcribe("s2", 2, PCM, "en", "final", hurried=True), no_lag)
    assert [(one.foreseen, one.hurried) for one in scripted.asked] == [(True, False), (False, True)]
