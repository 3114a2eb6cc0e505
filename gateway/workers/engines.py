"""Engines that are in the main process, as a worker's calls ask them: one set and one queue for the whole machine."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.ports import (
    Candidate,
    Recognizer,
    SpeechConfirmer,
    SpeechProbabilities,
    TranscribeRequest,
    Transcription,
    VoiceprintApi,
)
from gateway.workers.link import Link
from gateway.workers.questions import CONFIRM, RECOGNIZE, TRANSCRIBE, Confirm, Found, Heard, Recognize


class LinkedConfirmer:
    """Fills the role SpeechConfirmer."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def confirm(self, pcm: bytes, rate_hz: int, state: bytes | None) -> SpeechProbabilities:
        return await self._link.ask(CONFIRM, Confirm(pcm, rate_hz, state))


class LinkedRecognizer:
    """Fills the role Recognizer. Deadlines go as they are: all processes of a machine read one monotonic clock."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def transcribe(self, request: TranscribeRequest) -> Transcription | None:
        return (await self._link.ask(TRANSCRIBE, request)).transcription


class LinkedVoiceprint:
    """Fills the role VoiceprintApi."""

    def __init__(self, link: Link) -> None:
        self._link = link

    async def recognize(
        self, app_id: str, org_id: str, tag_id: str | None, pcm: bytes, rate_hz: int
    ) -> Sequence[Candidate]:
        return (await self._link.ask(RECOGNIZE, Recognize(app_id, org_id, tag_id, pcm, rate_hz))).candidates


def answer_for_engines(link: Link, confirmer: SpeechConfirmer, recognizer: Recognizer, voices: VoiceprintApi) -> None:
    """Answer a worker's questions to engines."""

    async def confirm(asked: Confirm) -> SpeechProbabilities:
        return await confirmer.confirm(asked.pcm, asked.rate_hz, asked.state)

    async def transcribe(asked: TranscribeRequest) -> Heard:
        return Heard(await recognizer.transcribe(asked))

    async def recognize(asked: Recognize) -> Found:
        return Found(await voices.recognize(asked.app_id, asked.org_id, asked.tag_id, asked.pcm, asked.rate_hz))

    link.answers(CONFIRM, confirm)
    link.answers(TRANSCRIBE, transcribe)
    link.answers(RECOGNIZE, recognize)
