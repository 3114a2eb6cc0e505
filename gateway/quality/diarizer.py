"""Tells the speakers of one channel apart: prints asked of the engine, turns made of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np

from gateway.ports import WindowEmbedder
from gateway.quality import diarization
from gateway.quality.diarization import Prints, Turn
from gateway.quality.speech import Samples, Span, part
from gateway.quality.together import all_of

PRINTS_AT_ONCE = 4
"""Windows of one recording that wait for the engine: live calls go first whatever waits, others' recordings in turn."""


class Diarizer:
    """Finds one speaker or two. Keeps nothing between recordings."""

    def __init__(self, embedder: WindowEmbedder) -> None:
        self._embedder = embedder

    async def turns(self, samples: Samples, rate_hz: int, speech: Sequence[Span]) -> tuple[Turn, ...]:
        """Who speaks in `speech`, the stretches of a channel that hold some. Raises Unavailable."""
        duration_ms = len(samples) * 1000 // rate_hz
        if duration_ms < diarization.SHORTEST_WINDOW_MS:
            return diarization.one_voice(speech)
        seen = diarization.windows(speech, duration_ms)
        prints = await self._prints(samples, rate_hz, seen)
        voices = await asyncio.to_thread(diarization.two_voices, seen, prints)
        if voices is None:
            return diarization.one_voice(speech)
        leaning = diarization.leanings(voices, prints)
        closer, kept = diarization.second_look(seen, leaning)
        if closer:
            closely = diarization.leanings(voices, await self._prints(samples, rate_hz, closer))
            seen = (*(window for window, stays in zip(seen, kept, strict=True) if stays), *closer)
            leaning = np.concatenate([leaning[kept], closely])
        return await asyncio.to_thread(diarization.turns, speech, seen, leaning)

    async def _prints(self, samples: Samples, rate_hz: int, seen: Sequence[Span]) -> Prints:
        prints = np.empty((len(seen), self._embedder.dimensions), np.float32)
        waiting = iter(enumerate(seen))

        async def work() -> None:
            for at, window in waiting:
                pcm = part(samples, rate_hz, window).tobytes()
                prints[at] = await self._embedder.embed_window(pcm, rate_hz)

        await all_of(work() for _ in range(PRINTS_AT_ONCE))
        return prints
