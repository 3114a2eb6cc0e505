"""Made-up voices, and stand-ins for the engines that listen to them. All of it is deterministic."""

from __future__ import annotations

import io
import wave
from collections.abc import Mapping
from pathlib import Path

import av
import numpy as np
import soxr
from numpy.typing import NDArray

from gateway.credentials import Credentials
from gateway.ports import (
    NO_HEADERS,
    DecodedAudio,
    Decoder,
    Embedding,
    FetchedFile,
    Fetcher,
    Rejected,
    SpeechProbabilities,
    Unavailable,
)
from gateway.stores.sqlite import Database
from gateway.stores.voiceprints import SCHEMA, SqliteVoiceprints
from gateway.voiceprint.clip import Clip, ClipReader
from gateway.voiceprint.links import SignedLinks
from gateway.voiceprint.service import VoiceprintService

RATE_HZ = 16000
NOW_S = 1_700_000_000.0
SECRETS = {"acme": ("s3cret", "old-s3cret"), "rival": ("other",)}


def voice(speaker: int, *, take: int = 0, seconds: float = 1.0, rate_hz: int = RATE_HZ) -> bytes:
    """Mono s16le: a harmonic tone whose pitch and resonances belong to `speaker`; each `take` has its own noise."""
    traits = np.random.default_rng(speaker)
    pitch_hz, formants_hz = traits.uniform(90, 250), traits.uniform((300, 900, 2200), (900, 2200, 3400))
    t = np.arange(int(seconds * rate_hz)) / rate_hz
    samples = np.zeros_like(t)
    for harmonic_hz in np.arange(pitch_hz, 3700, pitch_hz):
        resonances = np.exp(-(((harmonic_hz - formants_hz) / 200) ** 2)) * (1, 0.4, 0.2)
        gain = float(resonances.sum()) + 0.01
        samples += gain * np.sin(2 * np.pi * harmonic_hz * t)
    samples *= 0.6 + 0.4 * np.sin(2 * np.pi * 4 * t)
    samples += 0.01 * np.random.default_rng(1000 * speaker + take).standard_normal(len(t))
    return bytes((samples / np.abs(samples).max() * 12000).astype("<i2").tobytes())


def hiss(seconds: float = 1.0) -> bytes:
    """Mono s16le noise at 16 kHz: loud enough, but nobody speaks."""
    return (np.random.default_rng(9).standard_normal(int(seconds * RATE_HZ)) * 4000).astype("<i2").tobytes()


def rustle(source: int, *, take: int = 0, seconds: float = 2.0) -> bytes:
    """Mono s16le noise at 16 kHz in a band that belongs to `source` (0-4), too high for anybody to speak there."""
    samples = int(seconds * RATE_HZ)
    hz = np.fft.rfftfreq(samples, 1 / RATE_HZ)
    band = np.exp(-(((hz - 2300 - 250 * source) / 150) ** 2)) + 3 * (hz > 7000)
    made = np.fft.irfft(np.fft.rfft(np.random.default_rng(take).standard_normal(samples)) * band, samples)
    return bytes((made / np.abs(made).max() * 12000).astype("<i2").tobytes())


def clip(pcm: bytes, rate_hz: int = RATE_HZ) -> Clip:
    return Clip(pcm, rate_hz, 1)


def wav(pcm: bytes, rate_hz: int = RATE_HZ, channels: int = 1) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(channels)
        out.setsampwidth(2)
        out.setframerate(rate_hz)
        out.writeframes(pcm)
    return file.getvalue()


def encoded(pcm: bytes, container: str, codec: str, rate_hz: int = RATE_HZ) -> bytes:
    """Mono PCM in another format, by PyAV."""
    file = io.BytesIO()
    frame = av.AudioFrame.from_ndarray(np.frombuffer(pcm, dtype="<i2").reshape(1, -1), format="s16", layout="mono")
    frame.sample_rate = rate_hz
    with av.open(file, "w", format=container) as out:
        stream = out.add_stream(codec, rate=rate_hz, layout="mono")
        resampler = av.AudioResampler(format=stream.format.name, layout="mono", frame_size=stream.frame_size or 1024)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            out.mux(stream.encode(part))
        out.mux(stream.encode(None))
    return file.getvalue()


class SpectrumEmbedder:
    """A voice print of sorts: the average log spectrum up to 3.6 kHz, minus its mean. 8 and 16 kHz agree."""

    model = "spectrum-64"
    dimensions = 64

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.heard_ms: list[int] = []

    async def embed(self, pcm: bytes, rate_hz: int) -> Embedding:
        if self.failure is not None:
            raise self.failure
        samples = np.frombuffer(pcm, dtype="<i2").astype(np.float32) / 32768
        self.heard_ms.append(len(samples) * 1000 // rate_hz)
        if rate_hz != 8000:
            samples = soxr.resample(samples, rate_hz, 8000)
        frames = samples[: len(samples) // 512 * 512].reshape(-1, 512)
        power = np.square(np.abs(np.fft.rfft(frames * np.hanning(512)))).mean(axis=0)
        bands = np.log(power[4:228].reshape(16, 14).sum(axis=1).repeat(4) + 1e-6)
        bands -= bands.mean()
        print_: Embedding = (bands / np.linalg.norm(bands)).astype(np.float32)
        return print_

    async def embed_window(self, pcm: bytes, rate_hz: int) -> Embedding:
        return await self.embed(pcm, rate_hz)


class SoundEmbedder(SpectrumEmbedder):
    """The same for sounds that nobody speaks."""

    model = "sounds-64"


class PitchConfirmer:
    """Calls a window speech when it crosses zero seldom, as voices do and noise does not."""

    async def confirm(self, pcm: bytes, rate_hz: int, state: bytes | None) -> SpeechProbabilities:
        windows = np.frombuffer(pcm, dtype="<i2").reshape(-1, rate_hz * 32 // 1000)
        crossings = np.abs(np.diff(np.signbit(windows), axis=1)).mean(axis=1)
        loud = np.abs(windows.astype(np.int32)).max(axis=1) > 50
        return SpeechProbabilities(tuple(np.where((crossings < 0.4) & loud, 0.9, 0.1).tolist()), b"state")


class PyAvDecoder:
    """Decodes in this process, which is fine for files that the tests made."""

    failure: Exception | None = None

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
        if self.failure is not None:
            raise self.failure
        try:
            with av.open(io.BytesIO(data)) as container:
                stream = container.streams.audio[0]
                layout = "mono" if channels == 1 else stream.codec_context.layout
                resampler = av.AudioResampler(format="s16", layout=layout, rate=rate_hz or stream.rate)
                frames = [part for frame in container.decode(stream) for part in resampler.resample(frame)]
                pcm = b"".join(frame.to_ndarray().tobytes() for frame in frames)
                width = channels or stream.codec_context.channels
                rate = rate_hz or stream.rate
        except (av.FFmpegError, IndexError) as error:
            raise Rejected(f"{name or 'the file'} holds no audio that can be decoded", code="undecodable") from error
        pcm = pcm[: int(max_s * rate) * width * 2]
        if max_bytes is not None and len(pcm) > max_bytes:
            raise Rejected(f"holds more than {max_bytes} bytes of PCM", code="too_large")
        return DecodedAudio(pcm, rate, width)


class ShelfFetcher:
    """Answers links from a dictionary; everything else is not allowed."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files

    async def fetch(self, url: str, *, max_bytes: int) -> FetchedFile:
        if url.endswith("down.wav"):
            raise Unavailable("no route to host")
        if url not in self._files:
            raise Rejected("the host is not on the fetch list")
        return FetchedFile(self._files[url], url.rsplit("/", 1)[-1], "audio/wav")

    async def post_json(self, url: str, body: bytes, headers: Mapping[str, str] = NO_HEADERS) -> None:
        raise Rejected("nobody is called from here")


class Apps:
    def secrets(self, app_id: str) -> tuple[str, ...]:
        return SECRETS.get(app_id, ())


class Desk:
    """One voiceprint service with all its parts, on a database in `folder`."""

    def __init__(
        self,
        folder: Path,
        *,
        fetcher: Fetcher | None = None,
        decoder: Decoder | None = None,
        max_bytes: int = 2**23,
        sounds: SoundEmbedder | None = None,
    ) -> None:
        self.now_s = NOW_S
        self.base_url = "http://voices.example"
        self.database = Database(folder / "voices.sqlite", [SCHEMA])
        self.store = SqliteVoiceprints(self.database)
        self.embedder = SpectrumEmbedder()
        self.decoder = PyAvDecoder()
        self.service = VoiceprintService(
            store=self.store, embedder=self.embedder, speech=PitchConfirmer(), sounds=sounds
        )
        self.reader = ClipReader(decoder or self.decoder, fetcher, max_bytes=max_bytes)
        self.links = SignedLinks(b"key", public_url=lambda: self.base_url, now=lambda: self.now_s, lifetime_s=60)
        self.credentials = Credentials(Apps(), skew_s=300, now=lambda: self.now_s)

    async def close(self) -> None:
        await self.service.close()
        self.database.close()


def samples_of(flac: bytes) -> NDArray[np.int16]:
    """Decode a FLAC file: shape (n, channels)."""
    with av.open(io.BytesIO(flac)) as container:
        stream = container.streams.audio[0]
        parts = [frame.to_ndarray().reshape(-1, stream.codec_context.channels) for frame in container.decode(stream)]
    samples: NDArray[np.int16] = np.concatenate(parts)
    return samples
