"""The speech ports over pools of engine processes.

What the engine itself is made of (`whisper`, `campplus`, `ge2e`, `silero`) is imported in those processes only.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np

from gateway.engines.pool import Pool
from gateway.engines.sound_space import SOUND_DIMENSIONS, SOUND_SPACES
from gateway.ports import Embedding, Rejected, SpeechProbabilities, TranscribeRequest, Transcription

WAITED_FOR_RANK = -1
FIRST_RANK = 0
LATER_RANK = 1
BACKGROUND_RANK = 2
"""Of what nobody waits for: recordings that are listened to for passages."""

PARTIAL_PATIENCE_S = 1.5
"""A partial not begun this long after its deadline shows what was said too long ago; the next one is asked for then."""
SOUND_PIECE_S = 10
"""Longer sounds are embedded in equal pieces of at most this, which take a third of a second each."""
PIECE_S = 5
"""Longer audio is embedded in equal pieces of at most this, so that an enrolment never holds up a live call."""


class WhisperRecognizer:
    """Live jobs and recordings go to pools of their own: a 30 s window takes seconds, and live text cannot wait."""

    def __init__(self, live: Pool, recordings: Pool) -> None:
        self._live = live
        self._recordings = recordings

    async def transcribe(self, request: TranscribeRequest) -> Transcription | None:
        """See the port. A full queue drops partials (None).

        Raises Rejected (`too_long`) beyond 30 s.
        """
        pool = self._recordings if request.kind == "recording" else self._live
        partial = request.kind == "partial"
        # A final differs from a partial in the silence that is appended, and a hurried one does not.
        kind = "partial" if request.hurried and request.kind == "final" else request.kind
        answer: Transcription | None = await pool.run(
            "transcribe",
            *(request.pcm, request.rate_hz, request.language, kind),
            rank=LATER_RANK if partial else FIRST_RANK,
            deadline_s=request.deadline_s,
            key=request.key,
            replaceable=partial or request.foreseen,
            patience_s=PARTIAL_PATIENCE_S if partial else inf,
        )
        return answer


@dataclass(frozen=True, slots=True)
class VoiceModel:
    """A speaker embedding: the engine that makes its prints, and the space they lie in."""

    factory: str
    space: str
    dimensions: int


VOICE_MODELS = {
    "campplus": VoiceModel("gateway.engines.campplus:Campplus", "campplus-zh-en-192", 192),
    "ge2e": VoiceModel("gateway.engines.ge2e:Ge2e", "ge2e-256", 256),
}
"""By the name in the models manifest."""


class VoiceEmbedder:
    """Long audio is embedded piece by piece, behind the short pieces of live calls; the prints' mean is the voice's."""

    def __init__(self, pool: Pool, voice_model: VoiceModel, rank: int | None = None) -> None:
        """`rank` is that of every job, whatever its length."""
        self._pool = pool
        self._voice_model = voice_model
        self._rank = rank

    @property
    def model(self) -> str:
        return self._voice_model.space

    @property
    def dimensions(self) -> int:
        return self._voice_model.dimensions

    async def embed(self, pcm: bytes, rate_hz: int) -> Embedding:
        """See the port. Raises Rejected (`too_short`) below 0.2 s."""
        parts = _pieces(pcm, rate_hz)
        rank = self._rank
        if rank is None:
            rank = FIRST_RANK if len(parts) == 1 else LATER_RANK
        prints = await asyncio.gather(*(self._pool.run("embed", part, rate_hz, rank=rank) for part in parts))
        return _mean_print(prints)

    async def embed_window(self, pcm: bytes, rate_hz: int) -> Embedding:
        """See the port WindowEmbedder. Raises Rejected (`too_short`) below 0.2 s."""
        window: Embedding = await self._pool.run("embed", pcm, rate_hz, rank=LATER_RANK)
        return window


class WhisperSounds:
    """Prints of any sounds, by the model that writes down recordings: never by the one that live calls wait for.

    Somebody waits for a print, and nobody for a recording's text: prints go first. `pool` runs `recognizer_model`.
    """

    def __init__(self, pool: Pool, recognizer_model: str) -> None:
        """Raises KeyError for a model that sounds have no prints with: see `SOUND_SPACES`."""
        self._pool = pool
        self._model = SOUND_SPACES[recognizer_model]

    @property
    def model(self) -> str:
        return self._model

    @property
    def dimensions(self) -> int:
        return SOUND_DIMENSIONS

    async def embed(self, pcm: bytes, rate_hz: int) -> Embedding:
        """See the port: of any sound. Raises Rejected (`too_short` below 0.2 s, `silence`)."""
        parts = [part for part in _pieces(pcm, rate_hz, SOUND_PIECE_S) if part.strip(b"\0")]
        if not parts:
            raise Rejected("a sound was expected, this is digital silence", code="silence")
        jobs = (self._pool.run("embed_sound", part, rate_hz, rank=WAITED_FOR_RANK) for part in parts)
        return _mean_print(await asyncio.gather(*jobs))


class SileroConfirmer:
    def __init__(self, pool: Pool, rank: int = FIRST_RANK) -> None:
        self._pool = pool
        self._rank = rank

    async def confirm(self, pcm: bytes, rate_hz: int, state: bytes | None) -> SpeechProbabilities:
        """See the port. Raises ValueError when `pcm` is no multiple of 32 ms or the rate is not 8, 16 or 48 kHz."""
        answer: SpeechProbabilities = await self._pool.run("confirm", pcm, rate_hz, state, rank=self._rank)
        return answer


class WebrtcDenoiser:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def denoise(self, pcm: bytes, rate_hz: int) -> bytes:
        """See the port."""
        cleaned: bytes = await self._pool.run("denoise", pcm, rate_hz)
        return cleaned


def _pieces(pcm: bytes, rate_hz: int, longest_s: int = PIECE_S) -> list[bytes]:
    """`pcm` in equal pieces of at most `longest_s`."""
    samples = len(pcm) // 2
    count = max(1, -(-samples // (longest_s * rate_hz)))
    bounds = [samples * i // count for i in range(count + 1)]
    return [pcm[2 * begin : 2 * end] for begin, end in itertools.pairwise(bounds)]


def _mean_print(prints: Sequence[Embedding]) -> Embedding:
    """One unit-length print for equally long pieces of one voice or sound."""
    mean = np.mean(prints, axis=0, dtype=np.float32)
    return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-12), np.float32)
