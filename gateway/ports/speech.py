"""The roles that models fill. PCM is s16le mono; the rate stands beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from protocol.messages import Language

Embedding = NDArray[np.float32]
"""A voice print: shape (d,), unit length."""


@dataclass(frozen=True, slots=True)
class Word:
    """One recognised word with its leading space, if any, so that joining the texts gives the sentence."""

    text: str
    begin_ms: int
    end_ms: int
    """Both from the start of the PCM that was handed in."""


@dataclass(frozen=True, slots=True)
class Transcription:
    """What a recogniser heard. `text == "".join(word.text for word in words).strip()`."""

    text: str
    language: str
    words: tuple[Word, ...]
    rejected: str | None = None
    """Why the hypothesis was dropped ("no_speech", "low_confidence", "repetition"); then `text` is empty."""


@dataclass(frozen=True, slots=True)
class TranscribeRequest:
    """One stretch of one channel, at most 30 s."""

    pcm: bytes
    rate_hz: int
    language: Language
    kind: Literal["partial", "final", "recording"]
    """`partial` and `final` are live (unpadded windows); `recording` is the full-quality path of voice QC."""
    deadline_s: float
    """On `Clock.monotonic`: jobs run in the order of their deadlines, finals before partials."""
    key: str
    """Names the segment: a newer request of the same key replaces a partial that has not started."""
    foreseen: bool = False
    """A final over a stretch that may still grow: as long as it has not started, it too may be replaced."""
    hurried: bool = False
    """A final that may be slightly worse, if that makes it faster."""


class Recognizer(Protocol):
    async def transcribe(self, request: TranscribeRequest) -> Transcription | None:
        """The words of `request.pcm`; None for one that may be replaced and was, or that came to its turn too late.

        Raises Rejected (`too_long`) beyond 30 s, Unavailable when the engine is gone and could not be restarted.
        """


class Embedder(Protocol):
    @property
    def model(self) -> str:
        """The embedding space's name; prints of two spaces never meet."""

    @property
    def dimensions(self) -> int: ...

    async def embed(self, pcm: bytes, rate_hz: int) -> Embedding:
        """The voice print of up to 5 minutes of one voice. Raises Rejected (`too_short`) under 0.2 s, Unavailable."""


class WindowEmbedder(Protocol):
    """An embedder for many short windows of a recording, which no live call may wait for."""

    @property
    def dimensions(self) -> int: ...

    async def embed_window(self, pcm: bytes, rate_hz: int) -> Embedding:
        """The print of a second or two, after whatever live calls ask. Raises Rejected (`too_short`), Unavailable."""


@dataclass(frozen=True, slots=True)
class SpeechProbabilities:
    """One probability (0-1) for each 32 ms of the PCM, and the model's state to hand in with the next stretch."""

    probabilities: tuple[float, ...]
    state: bytes


class SpeechConfirmer(Protocol):
    async def confirm(self, pcm: bytes, rate_hz: int, state: bytes | None) -> SpeechProbabilities:
        """How likely each 32 ms of `pcm` is speech. `pcm` lasts a multiple of 32 ms.

        `state` is what the previous stretch of the channel returned, None at a fresh start: the model keeps nothing.
        Raises Unavailable.
        """


@dataclass(frozen=True, slots=True)
class DecodedAudio:
    """Any audio file as PCM: interleaved, `channels` wide."""

    pcm: bytes
    rate_hz: int
    channels: int

    @property
    def duration_ms(self) -> int:
        return len(self.pcm) * 1000 // (2 * self.channels * self.rate_hz)


class Decoder(Protocol):
    async def decode(
        self,
        data: bytes,
        *,
        name: str = "",
        rate_hz: int | None = None,
        channels: int | None = None,
        max_s: float = 3600,
        max_bytes: int | None = None,
    ) -> DecodedAudio:
        """Decode a file's bytes in a child process with limits on memory, time and output.

        `rate_hz` and `channels` convert (None keeps what the file has); `name` is a hint only.
        What lies past `max_s` is cut. More PCM than `max_bytes` (None: 1 GiB) is refused, however small the file.
        Raises Rejected (`undecodable`: no audio that can be read; `too_large`), Unavailable.
        """


class Denoiser(Protocol):
    async def denoise(self, pcm: bytes, rate_hz: int) -> bytes:
        """The same stretch of speech with less noise, as long as before. Raises Unavailable."""
