"""Engines that another process has answer, refuse and are cancelled as if they were here."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from gateway.ports import (
    Candidate,
    Rejected,
    SpeechProbabilities,
    TranscribeRequest,
    Transcription,
    Unavailable,
    Word,
)
from gateway.workers.engines import LinkedConfirmer, LinkedRecognizer, LinkedVoiceprint, answer_for_engines
from tests.unit.workers.links import linked

PCM = bytes(range(256)) * 40


class Scripted:
    """Every engine: remembers what it was asked, and answers or raises what it was told to."""

    def __init__(self, answer: object) -> None:
        self.asked: list[object] = []
        self._answer = answer

    async def _say(self, *asked: object) -> object:
        self.asked.append(asked)
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer

    async def confirm(self, pcm: bytes, rate_hz: int, state: bytes | None) -> SpeechProbabilities:
        return await self._say(pcm, rate_hz, state)  # type: ignore[return-value]

    async def transcribe(self, request: TranscribeRequest) -> Transcription | None:
        return await self._say(request)  # type: ignore[return-value]

    async def recognize(
        self, app_id: str, org_id: str, tag_id: str | None, pcm: bytes, rate_hz: int
    ) -> Sequence[Candidate]:
        return await self._say(app_id, org_id, tag_id, pcm, rate_hz)  # type: ignore[return-value]


REQUEST = TranscribeRequest(PCM, 8000, "zh", "final", 12345.625, "call/s1", foreseen=True, hurried=True)


async def test_questions_and_answers_arrive_as_they_were() -> None:
    probabilities = SpeechProbabilities((0.25, 0.75), b"\x00state\xff")
    heard = Transcription("你好", "zh", (Word("你", 0, 100), Word("好", 100, 250)))
    candidates = [Candidate("张三", 81.5), Candidate("Ben", 40.0)]
    confirmer, recognizer, voices = Scripted(probabilities), Scripted(heard), Scripted(candidates)
    async with linked() as (main, worker):
        answer_for_engines(main, confirmer, recognizer, voices)
        main.listen()
        worker.listen()
        assert await LinkedConfirmer(worker).confirm(PCM, 8000, None) == probabilities
        assert await LinkedConfirmer(worker).confirm(PCM, 8000, b"\x01") == probabilities
        assert await LinkedRecognizer(worker).transcribe(REQUEST) == heard
        assert list(await LinkedVoiceprint(worker).recognize("shop", "org", None, PCM, 16000)) == candidates
    assert confirmer.asked == [(PCM, 8000, None), (PCM, 8000, b"\x01")]
    assert recognizer.asked == [(REQUEST,)]
    assert voices.asked == [("shop", "org", None, PCM, 16000)]


async def test_a_text_that_gave_way_to_a_newer_one_is_none() -> None:
    async with linked() as (main, worker):
        answer_for_engines(main, Scripted(None), Scripted(None), Scripted([]))
        main.listen()
        worker.listen()
        assert await LinkedRecognizer(worker).transcribe(REQUEST) is None


@pytest.mark.parametrize("fault", [Unavailable("engine gone"), Rejected("too poor", code="10107")])
async def test_a_refusal_is_a_refusal(fault: Exception) -> None:
    async with linked() as (main, worker):
        answer_for_engines(main, Scripted(fault), Scripted(fault), Scripted(fault))
        main.listen()
        worker.listen()
        for question in (
            LinkedConfirmer(worker).confirm(PCM, 8000, None),
            LinkedRecognizer(worker).transcribe(REQUEST),
            LinkedVoiceprint(worker).recognize("shop", "org", None, PCM, 16000),
        ):
            with pytest.raises(type(fault), match=str(fault)):
                await question


async def test_a_time_out_here_ends_the_work_there() -> None:
    ended = asyncio.Event()

    class Slow(Scripted):
        async def transcribe(self, request: TranscribeRequest) -> Transcription | None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()
            return None

    async with linked() as (main, worker):
        answer_for_engines(main, Scripted(None), Slow(None), Scripted([]))
        main.listen()
        worker.listen()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await LinkedRecognizer(worker).transcribe(REQUEST)
        async with asyncio.timeout(10):
            await ended.wait()
