"""The transcript of a recording: speech found, cut into pieces, recognised, made into sentences."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.ports import Clock, Language, Recognizer, SpeechConfirmer, TranscribeRequest, Unavailable, Word
from gateway.quality.sentences import Utterance, in_order, utterances
from gateway.quality.speech import Samples, Span, confirmed, gate, part, pieces

PATIENCE_S = 60.0
"""Recordings are due this long after they are handed to the engine, so that live calls go first."""
PIECE_TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True)
class Channels:
    """A recording taken apart: one array per party, all of one length, at 8 or 16 kHz."""

    samples: tuple[Samples, ...]
    rate_hz: int

    @property
    def duration_ms(self) -> int:
        return len(self.samples[0]) * 1000 // self.rate_hz


@dataclass(frozen=True, slots=True)
class Transcript:
    """Sentences of all channels in order of time, and where each channel holds speech."""

    utterances: tuple[Utterance, ...]
    speech: tuple[tuple[Span, ...], ...]


Progressed = Callable[[int], Awaitable[None]]
"""Takes percent done; what it raises ends the transcription."""


class Transcriber:
    """Makes transcripts from recordings, never from text that was there before."""

    def __init__(
        self, recognizer: Recognizer, confirmer: SpeechConfirmer | None, clock: Clock, *, pieces_at_once: int = 1
    ) -> None:
        """`pieces_at_once` bounds what one recording holds in the engine; 1 leaves the most room to live calls."""
        self._recognizer = recognizer
        self._confirmer = confirmer
        self._clock = clock
        self._pieces_at_once = pieces_at_once

    async def transcribe(self, channels: Channels, language: Language, key: str, progressed: Progressed) -> Transcript:
        """The transcript of all channels; `key` names the recording to the engine. Raises Unavailable."""
        speech = [await self._speech(samples, channels.rate_hz) for samples in channels.samples]
        jobs = [
            (channel, piece)
            for channel, samples in enumerate(channels.samples)
            for piece in pieces(samples, channels.rate_hz, speech[channel])
        ]
        total_ms = sum(piece.duration_ms for _, piece in jobs)
        waiting = iter(jobs)
        found: list[Utterance] = []
        done_ms = 0

        async def recognise() -> None:
            nonlocal done_ms
            for channel, piece in waiting:
                pcm = part(channels.samples[channel], channels.rate_hz, piece).tobytes()
                words = await self._words(pcm, channels.rate_hz, language, f"{key}/{channel}/{piece.begin_ms}")
                found.extend(utterances(words, piece, channel))
                done_ms += piece.duration_ms
                await progressed(99 * done_ms // total_ms)

        await _all_of([recognise() for _ in range(self._pieces_at_once)])
        return Transcript(in_order(found), tuple(speech))

    async def _speech(self, samples: Samples, rate_hz: int) -> tuple[Span, ...]:
        gated = await asyncio.to_thread(gate, samples, rate_hz)
        return gated if self._confirmer is None else await confirmed(self._confirmer, samples, rate_hz, gated)

    async def _words(self, pcm: bytes, rate_hz: int, language: Language, key: str) -> tuple[Word, ...]:
        request = TranscribeRequest(
            pcm=pcm,
            rate_hz=rate_hz,
            language=language,
            kind="recording",
            deadline_s=self._clock.monotonic() + PATIENCE_S,
            key=key,
        )
        try:
            async with asyncio.timeout(PIECE_TIMEOUT_S):
                answer = await self._recognizer.transcribe(request)
        except TimeoutError as fault:
            raise Unavailable(f"the recogniser gave no answer in {PIECE_TIMEOUT_S:.0f} s") from fault
        if answer is None:
            raise Unavailable("the recogniser dropped a piece of a recording")
        return answer.words


async def _all_of(work: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Await all; the first failure cancels the rest and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            for one in work:
                group.create_task(one)
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from failures
