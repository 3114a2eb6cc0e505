"""What a recording holds of voices: cut into passages, each with a print if there is enough good speech in it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np

from gateway.ports import Embedder, Embedding, Rejected, SpeechConfirmer
from gateway.ports.passages import Passages
from gateway.voiceprint.bands import in_its_band, narrow_space, narrowed
from gateway.voiceprint.clip import NARROW_HZ, speech_pcm
from gateway.voiceprint.quality_gate import Limits, find_flaw, measure
from gateway.voiceprint.wav_reading import WavShape, read_stretch, shape_of

WINDOW_MS = 32
"""What a SpeechConfirmer judges at a time."""
STRETCH_WINDOWS = 32
"""A second for each question: live calls ask the same engine, and must not wait behind longer ones."""
SPEECH_PROBABILITY = 0.5
SEGMENT_GAP_MS = 600
"""Silence that ends a segment, as in calls."""
MARGIN_MS = 100
LONGEST_PIECE_MS = 5_000
"""A longer segment is indexed in pieces: more than one may speak in it, and a link should play what was meant."""
PIECES_LOOKED_AT = 3
LEAST_SPEECH_MS = 1_000
"""Of less, a print says little about the voice."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of one channel, in ms from the recording's start; `end_ms` is not part of it."""

    channel: int
    begin_ms: int
    end_ms: int


async def _go_on(took_s: float) -> None:
    """Nobody else needs the processors."""


class Listener:
    """Makes passages of recordings. One question at a time to each engine, which are those behind live calls'."""

    def __init__(
        self,
        embedder: Embedder,
        speech: SpeechConfirmer,
        limits: Limits | None = None,
        give_way: Callable[[float], Awaitable[None]] = _go_on,
    ) -> None:
        """`give_way` is awaited after each piece of work, with the seconds it took."""
        self._give_way = give_way
        self._embedder = embedder
        self._speech = speech
        self._limits = limits or Limits()

    @property
    def spaces(self) -> tuple[str, str]:
        """Of wide-band recordings and of those that came over telephone lines."""
        return self._embedder.model, narrow_space(self._embedder.model)

    @property
    def dimensions(self) -> int:
        return self._embedder.dimensions

    async def passages(
        self, wav: Path, segments: Sequence[Stretch] | None, progressed: Callable[[float], None] = lambda _: None
    ) -> tuple[WavShape, Passages]:
        """The passages of `segments`, or (None) of wherever the recording holds speech; `progressed` hears the share.

        Left out is what is too short, holds too little speech, or is too quiet or clipped. Raises OSError, ValueError
        (no WAV), Unavailable.
        """
        shape = await asyncio.to_thread(shape_of, wav)
        if segments is None:
            segments = [one for channel in range(shape.channels) async for one in self._segments(wav, shape, channel)]
        spans: list[tuple[int, int, int]] = []
        prints: list[Embedding] = []
        pieces = [piece for segment in segments for piece in cut(segment)]
        narrow = await self._is_narrow(wav, shape, pieces)
        for number, piece in enumerate(pieces):
            progressed((number + 1) / len(pieces))
            begun_s = perf_counter()
            if piece.channel < shape.channels and (vector := await self._print(wav, piece, narrow=narrow)) is not None:
                spans.append((piece.channel, piece.begin_ms, min(piece.end_ms, shape.duration_ms)))
                prints.append(vector)
            await self._give_way(perf_counter() - begun_s)
        return shape, Passages(
            self.spaces[narrow],
            np.asarray(spans, np.int32).reshape(-1, 3),
            np.asarray(prints, np.float16).reshape(-1, self.dimensions),
        )

    async def _is_narrow(self, wav: Path, shape: WavShape, pieces: Sequence[Stretch]) -> bool:
        """Whether the recording came over a telephone line, as its first passages tell if its rate does not."""
        if shape.rate_hz <= NARROW_HZ:
            return True
        looked_at = [one for one in pieces if one.end_ms - one.begin_ms >= LEAST_SPEECH_MS][:PIECES_LOOKED_AT]
        for piece in looked_at:
            clip = await asyncio.to_thread(read_stretch, wav, piece.channel, piece.begin_ms, piece.end_ms)
            pcm, rate_hz = await asyncio.to_thread(speech_pcm, clip)
            if (await asyncio.to_thread(in_its_band, pcm, rate_hz))[1] > NARROW_HZ:
                return False
        return bool(looked_at)

    async def _print(self, wav: Path, piece: Stretch, *, narrow: bool) -> Embedding | None:
        if piece.end_ms - piece.begin_ms < LEAST_SPEECH_MS:
            return None
        clip = await asyncio.to_thread(read_stretch, wav, piece.channel, piece.begin_ms, piece.end_ms)
        if find_flaw(await asyncio.to_thread(measure, clip.samples, clip.rate_hz), self._limits):
            return None
        pcm, rate_hz = await asyncio.to_thread(speech_pcm, clip)
        speech = await self._heard_speech(pcm, rate_hz, None)
        if WINDOW_MS * sum(speech[0]) < LEAST_SPEECH_MS:
            return None
        if narrow and rate_hz > NARROW_HZ:
            pcm, rate_hz = await asyncio.to_thread(narrowed, pcm), NARROW_HZ
        try:
            return await self._embedder.embed(pcm, rate_hz)
        except Rejected:
            return None  # too short after all

    async def _segments(self, wav: Path, shape: WavShape, channel: int) -> AsyncIterator[Stretch]:
        """Where a channel holds speech."""
        begin_ms = end_ms = -1
        state: bytes | None = None
        step_ms = STRETCH_WINDOWS * WINDOW_MS
        for at_ms in range(0, shape.duration_ms, step_ms):
            begun_s = perf_counter()
            clip = await asyncio.to_thread(read_stretch, wav, channel, at_ms, at_ms + step_ms)
            pcm, rate_hz = await asyncio.to_thread(speech_pcm, clip)
            speech, state = await self._heard_speech(pcm, rate_hz, state)
            await self._give_way(perf_counter() - begun_s)
            for number, is_speech in enumerate(speech):
                window_ms = at_ms + number * WINDOW_MS
                if is_speech and begin_ms >= 0 and window_ms - end_ms > SEGMENT_GAP_MS:
                    yield _with_margin(channel, begin_ms, end_ms)
                    begin_ms = -1
                if is_speech:
                    begin_ms = window_ms if begin_ms < 0 else begin_ms
                    end_ms = window_ms + WINDOW_MS
        if begin_ms >= 0:
            yield _with_margin(channel, begin_ms, end_ms)

    async def _heard_speech(self, pcm: bytes, rate_hz: int, state: bytes | None) -> tuple[list[bool], bytes | None]:
        """For each 32 ms whether it is speech; the last are filled up with silence."""
        window_bytes = 2 * rate_hz * WINDOW_MS // 1000
        speech: list[bool] = []
        for begin in range(0, len(pcm), STRETCH_WINDOWS * window_bytes):
            stretch = pcm[begin : begin + STRETCH_WINDOWS * window_bytes]
            answer = await self._speech.confirm(stretch + bytes(-len(stretch) % window_bytes), rate_hz, state)
            speech += [probability >= SPEECH_PROBABILITY for probability in answer.probabilities]
            state = answer.state
        return speech, state


def cut(segment: Stretch) -> Iterator[Stretch]:
    """The segment in equal pieces of at most LONGEST_PIECE_MS."""
    length_ms = segment.end_ms - segment.begin_ms
    count = max(1, -(-length_ms // LONGEST_PIECE_MS))
    for number in range(count):
        begin_ms, end_ms = (segment.begin_ms + length_ms * edge // count for edge in (number, number + 1))
        yield Stretch(segment.channel, begin_ms, end_ms)


def _with_margin(channel: int, begin_ms: int, end_ms: int) -> Stretch:
    return Stretch(channel, max(0, begin_ms - MARGIN_MS), end_ms + MARGIN_MS)
