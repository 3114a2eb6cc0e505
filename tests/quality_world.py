"""A whole voice QC over a temporary folder, and a recogniser that knows lines by the pitch they are hummed at.

The recogniser hears only the PCM it is handed, as the port says: what it answers proves what reached it.
"""

from __future__ import annotations

import asyncio
import base64
import io
import wave
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.credentials import Credentials
from gateway.ports import (
    NO_HEADERS,
    DecodedAudio,
    Decoder,
    Embedding,
    FetchedFile,
    Fetcher,
    Rejected,
    SpeechConfirmer,
    StoredCategory,
    TranscribeRequest,
    Transcription,
    Word,
)
from gateway.quality.api import QualityEndpoints
from gateway.quality.audio import AudioFolder, RecordingReader
from gateway.quality.diarizer import Diarizer
from gateway.quality.push import ResultPusher
from gateway.quality.rulebook import Rulebook
from gateway.quality.service import QualityService
from gateway.quality.speech import Samples
from gateway.quality.tokens import AccessTokens
from gateway.quality.transcribe import Transcriber
from gateway.quality.worker import HEARTBEAT_S, QualityWorker
from gateway.stores.quality import SCHEMA, SqliteQualityTasks
from gateway.stores.quality_pushes import SqliteQualityPushes
from gateway.stores.quality_rules import SCHEMA as RULES_SCHEMA
from gateway.stores.quality_rules import SqliteQualityRules
from gateway.stores.sqlite import Database

APP, SECRET = "app-1", "secret-1"
OTHER_APP, OTHER_SECRET = "app-2", "secret-2"

LINES = {
    100: ("你好，", "这里是", "客服。"),
    130: ("我要", "退款，", "现在", "缺货。"),
    160: (" I", " want", " a", " refund."),
    200: ("会议", "开始。"),
}
"""What is said at each pitch in Hz."""


def hummed(pitch_hz: int, duration_ms: int, rate_hz: int = 8000, level: int = 9000) -> Samples:
    """A voice-like sound that the speech gate takes for speech."""
    seconds = np.arange(duration_ms * rate_hz // 1000) / rate_hz
    tones = sum(np.sin(2 * np.pi * pitch_hz * k * seconds) / k for k in range(1, 3400 // pitch_hz))
    loudness = np.asarray(tones) * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * seconds))
    samples: Samples = (loudness / np.abs(loudness).max() * level).astype(np.int16)
    return samples


def recording(parts: Sequence[tuple[int, int]], rate_hz: int = 8000) -> Samples:
    """One channel: (pitch in Hz or 0 for silence, duration in ms), one after another."""
    return np.concatenate(
        [
            hummed(pitch, duration_ms, rate_hz) if pitch else np.zeros(duration_ms * rate_hz // 1000, np.int16)
            for pitch, duration_ms in parts
        ]
    )


def wav(*channels: Samples, rate_hz: int = 8000) -> bytes:
    """A WAV file; channels are cut to the shortest."""
    length = min(len(channel) for channel in channels)
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setnchannels(len(channels))
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(np.stack([channel[:length] for channel in channels], axis=1).tobytes())
    return data.getvalue()


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


TWO_PARTIES = wav(
    recording([(0, 500), (100, 1500), (0, 4000)]),
    recording([(0, 3000), (130, 2000), (0, 1000)]),
)
"""Six seconds: left says 你好 from 0.5 to 2 s, right wants a refund from 3 to 5 s."""


@dataclass
class PitchRecognizer:
    """Follows the Recognizer port. `failures` are raised first; `gate` keeps it from answering until set."""

    lines: dict[int, tuple[str, ...]] = field(default_factory=lambda: dict(LINES))
    failures: list[Exception] = field(default_factory=list)
    gate: asyncio.Event | None = None
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    requests: list[TranscribeRequest] = field(default_factory=list)

    async def transcribe(self, request: TranscribeRequest) -> Transcription | None:
        self.requests.append(request)
        self.begun.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.failures:
            raise self.failures.pop(0)
        samples = np.frombuffer(request.pcm, dtype="<i2").astype(np.float64)
        texts = self.lines[min(self.lines, key=lambda pitch: abs(pitch - _pitch_hz(samples, request.rate_hz)))]
        loud = np.flatnonzero(np.abs(samples) > 200)
        begin_ms, end_ms = (int(at) * 1000 // request.rate_hz for at in (loud[0], loud[-1]))
        step_ms = (end_ms - begin_ms) / len(texts)
        words = tuple(
            Word(text, round(begin_ms + n * step_ms), round(begin_ms + (n + 1) * step_ms))
            for n, text in enumerate(texts)
        )
        return Transcription("".join(texts).strip(), "zh", words)


class PitchEmbedder:
    """Follows the WindowEmbedder port: every pitch of the lines is a voice of its own."""

    dimensions = 192

    def __init__(self) -> None:
        self.windows = 0

    async def embed_window(self, pcm: bytes, rate_hz: int) -> Embedding:
        self.windows += 1
        pitch_hz = _pitch_hz(np.frombuffer(pcm, dtype="<i2").astype(np.float64), rate_hz)
        voice = min(LINES, key=lambda known: abs(known - pitch_hz))
        print_ = np.random.default_rng(voice).normal(size=self.dimensions)
        print_ += 0.5 * np.random.default_rng(self.windows).normal(size=self.dimensions)
        return np.asarray(print_ / np.linalg.norm(print_), np.float32)


def _pitch_hz(samples: np.ndarray, rate_hz: int) -> float:
    spectrum = np.abs(np.fft.rfft(samples))
    return float(np.fft.rfftfreq(len(samples), 1 / rate_hz)[int(spectrum.argmax())])


class WavDecoder:
    """Follows the Decoder port for WAV files; anything else is undecodable."""

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
        assert rate_hz is None and channels is None, "this decoder does not convert"
        try:
            with wave.open(io.BytesIO(data)) as file:
                frames = min(file.getnframes(), int(max_s * file.getframerate()))
                return DecodedAudio(file.readframes(frames), file.getframerate(), file.getnchannels())
        except (wave.Error, EOFError) as fault:
            raise Rejected(f"not a WAV file: {fault}", code="undecodable") from fault


class FixedApps:
    def __init__(self) -> None:
        self.known: dict[str, tuple[str, ...]] = {APP: (SECRET,), OTHER_APP: (OTHER_SECRET,)}

    def secrets(self, app_id: str) -> tuple[str, ...]:
        return self.known.get(app_id, ())


@dataclass
class FixedClock:
    seconds: float = 1_700_000_000.0

    def monotonic(self) -> float:
        return self.seconds

    def wall(self) -> float:
        return self.seconds


class _NoFetcher:
    """Calls nobody."""

    async def fetch(self, url: str, *, max_bytes: int) -> FetchedFile:
        raise Rejected("nothing is fetched here")

    async def post_json(self, url: str, body: bytes, headers: Mapping[str, str] = NO_HEADERS) -> None:
        raise Rejected("nobody is called from here")


class QualityWorld:
    """One process's worth of voice QC. A second one over the same folder is that process started again."""

    def __init__(
        self,
        folder: Path,
        *,
        recognizer: PitchRecognizer | None = None,
        confirmer: SpeechConfirmer | None = None,
        fetcher: Fetcher | None = None,
        max_audio_bytes: int = 4 * 1024 * 1024,
        max_audio_s: float = 3600,
        heartbeat_s: float = HEARTBEAT_S,
        decoder: Decoder | None = None,
    ) -> None:
        self.clock = FixedClock()
        self.apps = FixedApps()
        self.pauses: list[float] = []
        self.recognizer = recognizer or PitchRecognizer()
        self.database = Database(folder / "earshot.sqlite", [SCHEMA, RULES_SCHEMA])
        self.tasks = SqliteQualityTasks(self.database, self.clock)
        self.rulebook = Rulebook(SqliteQualityRules(self.database))
        self.audio_path = folder / "quality"
        self.folder = AudioFolder(self.audio_path)
        self.pushes = SqliteQualityPushes(self.database, self.clock, uniform=lambda low, high: high)
        self.worker = QualityWorker(
            self.tasks,
            self.rulebook,
            self.folder,
            RecordingReader(decoder or WavDecoder(), max_audio_s=max_audio_s),
            Transcriber(self.recognizer, confirmer, self.clock, diarizer=Diarizer(PitchEmbedder())),
            pause=self._pause,
            finished=lambda: self.pusher.wake(),
            heartbeat_s=heartbeat_s,
        )
        self.service = QualityService(
            self.tasks,
            self.folder,
            submitted=self.worker.wake,
            fetcher=fetcher,
            max_audio_bytes=max_audio_bytes,
        )
        self.pusher = ResultPusher(self.pushes, self.service, fetcher or _NoFetcher(), self.clock, self.apps.secrets)
        self.tokens = AccessTokens(
            b"k" * 32, Credentials(self.apps, skew_s=300, now=self.clock.wall), self.apps, self.clock.wall
        )
        self.endpoints = QualityEndpoints(self.service, self.rulebook, self.tokens, max_audio_bytes=max_audio_bytes)

    async def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)

    async def add_rules(self, *rules: tuple[str, tuple[str, ...]], app_id: str = APP) -> None:
        store = SqliteQualityRules(self.database)
        for category, contents in rules:
            assert await store.add(app_id, StoredCategory(category, f"{category}的描述", contents))

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """The API on a loopback port; its base URL."""
        application = web.Application()
        application.add_routes(self.endpoints.routes())
        async with TestServer(application) as server:
            yield str(server.make_url("")).rstrip("/")

    def close(self) -> None:
        self.database.close()
