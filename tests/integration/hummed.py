"""A server around engines that need no models: voices hum, and each pitch says its line."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeVar
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from gateway.app import EarshotServer
from gateway.ports import SpeechProbabilities, TranscribeRequest, Transcription, Word
from gateway.settings import Settings
from tests.client import Account, account
from tests.quality_world import hummed
from tests.voices import PyAvDecoder, SpectrumEmbedder

T = TypeVar("T")
RATE_HZ: Final = 8000
LINES = {100: "How can I help you?", 130: "I want a refund.", 160: "Give me your manager.", 200: "Goodbye."}
"""What is said at each pitch in Hz."""


class HummingRecognizer:
    """Hears the PCM it is handed and nothing else, live and in recordings alike."""

    async def transcribe(self, request: TranscribeRequest) -> Transcription | None:
        samples = np.frombuffer(request.pcm, dtype="<i2").astype(np.float64)
        if not np.any(np.abs(samples) > 200):
            return Transcription("", "en", (), "no_speech")
        strongest = np.fft.rfftfreq(len(samples), 1 / request.rate_hz)[int(np.abs(np.fft.rfft(samples)).argmax())]
        text = LINES[min(LINES, key=lambda pitch_hz: abs(pitch_hz - strongest))]
        parts = [part if at == 0 else f" {part}" for at, part in enumerate(text.split())]
        each_ms = len(samples) * 1000 // request.rate_hz // len(parts)
        words = tuple(Word(part, at * each_ms, (at + 1) * each_ms) for at, part in enumerate(parts))
        return Transcription(text, "en", words)


class LoudnessConfirmer:
    """Loud is speech."""

    async def confirm(self, pcm: bytes, rate_hz: int, state: bytes | None) -> SpeechProbabilities:
        windows = np.frombuffer(pcm, dtype="<i2").reshape(-1, rate_hz * 32 // 1000)
        loud = np.abs(windows.astype(np.int32)).mean(axis=1) > 500
        return SpeechProbabilities(tuple(np.where(loud, 0.99, 0.01).tolist()), b"")


class HummingEngines:
    """Stands where `gateway.engines.engines.Engines` would."""

    def __init__(self, models_dir: Path, spool_dir: Path, **_: Any) -> None:
        self.recognizer = HummingRecognizer()
        self.embedder = self.windows = SpectrumEmbedder()
        self.confirmer = LoudnessConfirmer()
        self.background_embedder, self.background_confirmer = self.embedder, self.confirmer
        self.denoiser = self.sounds = None
        self.decoder = PyAvDecoder()
        self.pools: dict[str, Any] = {}
        self.ready = True
        self.overload = ""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


def humming(*parts: tuple[int, int], rate_hz: int = RATE_HZ) -> bytes:
    """One channel of (pitch in Hz or 0 for silence, duration in ms), s16le."""
    clips: list[NDArray[np.int16]] = [
        hummed(pitch, ms, rate_hz) if pitch else np.zeros(ms * rate_hz // 1000, np.int16) for pitch, ms in parts
    ]
    return np.concatenate(clips).tobytes()


DIALOGUE = humming((0, 400), (100, 3500), (0, 2500), (130, 1500), (0, 1000))
"""Eight kHz, one channel: an offer of help, and a demand for money back."""


async def eventually(holds: Callable[[], Awaitable[T]], patience_s: float = 60) -> T:
    """What `holds` answers, as soon as that is true: for what nobody announces."""
    deadline_s = time.monotonic() + patience_s
    while not (answer := await holds()):
        assert time.monotonic() < deadline_s, "it never came to hold"
        await asyncio.sleep(0.02)
    return answer


@asynccontextmanager
async def serving(data: Path, **settings: Any) -> AsyncIterator[EarshotServer]:
    """A whole server in this process, on free loopback ports; other work of its loop is no reason to refuse calls."""
    ours: dict[str, Any] = {"http": "127.0.0.1:0", "ws": "127.0.0.1:0", "data": str(data), "max_loop_lag_ms": 0}
    with patch("gateway.app.Engines", HummingEngines):
        server = EarshotServer(Settings(**{**ours, **settings}))
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def client_of(server: EarshotServer, app_id: str = "demo", secret: str = "secret") -> AsyncIterator[Account]:
    async with account(server.addresses.http, server.addresses.ws, app_id, secret) as one:
        yield one
