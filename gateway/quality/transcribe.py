"""The transcript of a recording: speech found, cut into pieces, recognised, made into sentences."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from gateway.ports import (
    Clock,
    Language,
    Recognizer,
    SpeechConfirmer,
    TranscribeRequest,
    Transcription,
    Unavailable,
    Word,
)
from gateway.quality.diarization import Turn, changes_in_silence_ms
from gateway.quality.diarizer import Diarizer
from gateway.quality.sentences import Utterance, in_order, in_simplified, utterances
from gateway.quality.speech import Samples, Span, confirmed, gate, halves, part, pieces
from gateway.quality.together import all_of

PATIENCE_S = 60.0
"""Recordings are due this long after they are handed to the engine, so that live calls go first."""
PIECE_TIMEOUT_S = 600.0
SHORTEST_RETRIED_MS = 3000
"""A half that is tried again is at least about this long."""


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
    turns: tuple[Turn, ...] = ()
    """Who speaks when, where the speakers of one channel were told apart."""


@dataclass(frozen=True, slots=True)
class _Heard:
    piece: Span
    words: tuple[Word, ...]
    """Their times are from the beginning of the piece."""


Progressed = Callable[[int], Awaitable[None]]
"""Takes percent done; what it raises ends the transcription."""


class Transcriber:
    """Makes transcripts from recordings, never from text that was there before."""

    def __init__(
        self,
        recognizer: Recognizer,
        confirmer: SpeechConfirmer | None,
        clock: Clock,
        *,
        pieces_at_once: int = 1,
        diarizer: Diarizer | None = None,
        simplified: bool = False,
    ) -> None:
        """`pieces_at_once` bounds what one recording holds in the engine; 1 leaves the most room to live calls.

        Without `diarizer` nobody is told apart: a channel is a speaker. Chinese text is as the recogniser wrote it, or
        `simplified`.
        """
        self._recognizer = recognizer
        self._confirmer = confirmer
        self._clock = clock
        self._pieces_at_once = pieces_at_once
        self._diarizer = diarizer
        self._simplified = simplified

    async def transcribe(
        self, channels: Channels, language: Language, key: str, progressed: Progressed, *, tell_apart: bool = False
    ) -> Transcript:
        """The transcript of all channels; `key` names the recording to the engine. Raises Unavailable.

        `tell_apart`: a recording of one channel may hold two speakers.
        """
        rate_hz = channels.rate_hz
        speech = [await self._speech(samples, rate_hz) for samples in channels.samples]
        turns: tuple[Turn, ...] | None = None
        if tell_apart and self._diarizer is not None and len(channels.samples) == 1:
            turns = await self._diarizer.turns(channels.samples[0], rate_hz, speech[0])
        jobs = [
            (channel, piece)
            for channel, samples in enumerate(channels.samples)
            for piece in pieces(samples, rate_hz, speech[channel], changes_in_silence_ms(turns or ()))
        ]
        total_ms = sum(piece.duration_ms for _, piece in jobs)
        waiting = iter(jobs)
        found: list[Utterance] = []
        done_ms = 0

        async def recognise() -> None:
            nonlocal done_ms
            for channel, piece in waiting:
                async for heard in self._heard(channels, channel, piece, language, key):
                    found.extend(utterances(heard.words, heard.piece, channel, turns))
                done_ms += piece.duration_ms
                await progressed(99 * done_ms // total_ms)

        await all_of(recognise() for _ in range(self._pieces_at_once))
        said = map(in_simplified, found) if self._simplified else found
        return Transcript(in_order(said), tuple(speech), turns or ())

    async def _speech(self, samples: Samples, rate_hz: int) -> tuple[Span, ...]:
        gated = await asyncio.to_thread(gate, samples, rate_hz)
        return gated if self._confirmer is None else await confirmed(self._confirmer, samples, rate_hz, gated)

    async def _heard(
        self, channels: Channels, channel: int, piece: Span, language: Language, key: str
    ) -> AsyncIterator[_Heard]:
        """What is said in a piece. One whose text is no text (a loop, mostly) is tried again in halves: noise or a
        second voice in one of them must not cost the other its words."""
        samples, rate_hz = channels.samples[channel], channels.rate_hz
        pcm = part(samples, rate_hz, piece).tobytes()
        answer = await self._answer(pcm, rate_hz, language, f"{key}/{channel}/{piece.begin_ms}")
        if answer.rejected is None or piece.duration_ms < 2 * SHORTEST_RETRIED_MS:
            yield _Heard(piece, answer.words)
            return
        for half in halves(samples, rate_hz, piece):
            async for heard in self._heard(channels, channel, half, language, key):
                yield heard

    async def _answer(self, pcm: bytes, rate_hz: int, language: Language, key: str) -> Transcription:
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
        return answer
