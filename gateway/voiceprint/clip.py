"""From what a client sent to audio that a model can hear and an archive can keep."""

from __future__ import annotations

import asyncio
import io
import wave
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import av
import numpy as np
import soxr
from numpy.typing import NDArray

from gateway.ports import DecodedAudio, Decoder, FetchedFile, Fetcher, Rejected, Unavailable
from protocol.voiceprint import MAX_AUDIO_S, RAW_PCM_RATE_HZ, AudioFile, AudioUrl, Code, VoiceprintError

NARROW_HZ, WIDE_HZ = 8000, 16000
_KEPT_RATES_HZ = range(4000, 192_001)
"""What is kept as it came; stranger rates, and more channels than FLAC holds, are converted."""
MAX_KEPT_BYTES = 64 * 2**20
"""More PCM than this is converted too, for small files unpack to much; five minutes of 48 kHz stereo make 58 MB."""
MAX_REQUEST_BYTES = 192 * 2**20
"""What all recordings of one request may hold as PCM: twenty times five minutes at 16 kHz."""
_FLAC_LAYOUTS = ("mono", "stereo", "3.0", "quad", "5.0", "5.1", "6.1", "7.1")


@dataclass(frozen=True, slots=True)
class Clip:
    """A recording as it was decoded, at its own rate, cut to five minutes: s16le, interleaved."""

    pcm: bytes
    rate_hz: int
    channels: int

    @property
    def samples(self) -> NDArray[np.int16]:
        """Shape (n, channels), int16, a view."""
        return np.frombuffer(self.pcm, dtype="<i2").reshape(-1, self.channels)


def clip_of_pcm(pcm: bytes, rate_hz: int) -> Clip:
    """Mono s16le as a clip. Raises VoiceprintError (10701) when bytes are missing."""
    if len(pcm) % 2:
        raise VoiceprintError(Code.UNDECODABLE_AUDIO, f"16-bit PCM cannot have {len(pcm)} bytes, an odd number")
    return Clip(pcm[: 2 * rate_hz * MAX_AUDIO_S], rate_hz, 1)


def speech_pcm(clip: Clip) -> tuple[bytes, int]:
    """The clip as models take it: mono s16le and its rate, 8 kHz if it came so, else 16 kHz. Blocks: not for a loop."""
    samples = clip.samples
    mono = samples[:, 0] if clip.channels == 1 else samples.mean(axis=1, dtype=np.float32)
    if clip.rate_hz in (NARROW_HZ, WIDE_HZ):
        return _s16le(mono), clip.rate_hz
    return _s16le(soxr.resample(mono.astype(np.float32), clip.rate_hz, WIDE_HZ)), WIDE_HZ


def flac(clip: Clip) -> bytes:
    """The clip as a FLAC file, which decodes to the same samples. Blocks: not for a loop."""
    file = io.BytesIO()
    layout = _FLAC_LAYOUTS[clip.channels - 1]
    with av.open(file, "w", format="flac") as container:
        stream = container.add_stream("flac", rate=clip.rate_hz, layout=layout)
        stream.format = "s16"
        frame = av.AudioFrame.from_ndarray(
            np.frombuffer(clip.pcm, dtype=np.int16).reshape(1, -1), format="s16", layout=layout
        )
        frame.sample_rate = clip.rate_hz
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return file.getvalue()


class ClipReader:
    """Reads uploads and links. Without a `fetcher` every link is refused."""

    def __init__(self, decoder: Decoder, fetcher: Fetcher | None = None, *, max_bytes: int = 100 * 2**20) -> None:
        self._decoder = decoder
        self._fetcher = fetcher
        self.max_bytes = max_bytes
        """What an upload or a fetched file may have: five minutes of 48 kHz stereo WAV make 58 MB."""

    async def read_all(self, audios: Sequence[AudioFile | AudioUrl]) -> list[Clip]:
        """The recordings of a request, in their order; of several, a refusal says which one is at fault."""
        clips: list[Clip] = []
        for number, audio in enumerate(audios):
            with of_several(number, len(audios)):
                clips.append(await self.read(audio))
            if sum(len(clip.pcm) for clip in clips) > MAX_REQUEST_BYTES:
                cause = (
                    f"the recordings of the request make more than {MAX_REQUEST_BYTES} bytes of PCM: send them apart"
                )
                raise VoiceprintError(Code.ILLEGAL_PARAMETER, cause)
        return clips

    async def read(self, audio: AudioFile | AudioUrl) -> Clip:
        """One recording. Raises VoiceprintError (10107 link refused, 10701 not audio, 16003 decoder gone)."""
        if isinstance(audio, AudioUrl):
            fetched = await self._fetch(audio)
            audio = AudioFile(fetched.data, fetched.name, fetched.content_type)
        if not audio.data:
            raise VoiceprintError(Code.MISSING_PARAMETER, "audio is an empty file")
        if audio.is_raw_pcm:
            return clip_of_pcm(audio.data, RAW_PCM_RATE_HZ)
        # What most clients send needs no decoder, and no process of its own to run it in.
        if plain := await asyncio.to_thread(_plain_wav, audio.data):
            return plain
        return await self._decode(audio)

    async def _fetch(self, audio: AudioUrl) -> FetchedFile:
        if self._fetcher is None:
            cause = f"this server's fetch list does not allow the host {audio.host}"
            raise VoiceprintError(Code.ILLEGAL_PARAMETER, cause)
        try:
            return await self._fetcher.fetch(audio.url, max_bytes=self.max_bytes)
        except Rejected as error:
            raise VoiceprintError(Code.ILLEGAL_PARAMETER, f"the audio link was refused: {error}") from error
        except Unavailable as error:
            raise VoiceprintError(Code.COMPONENT_ERROR, f"the audio link could not be fetched: {error}") from error

    async def _decode(self, audio: AudioFile) -> Clip:
        try:
            decoded = await self._decode_as_it_is(audio)
            if decoded is None or decoded.channels > len(_FLAC_LAYOUTS) or decoded.rate_hz not in _KEPT_RATES_HZ:
                decoded = await self._decoder.decode(
                    audio.data, name=audio.filename, max_s=MAX_AUDIO_S, rate_hz=WIDE_HZ, channels=1
                )
        except Rejected as error:
            raise VoiceprintError(Code.UNDECODABLE_AUDIO, str(error)) from error
        except Unavailable as error:
            raise VoiceprintError(Code.COMPONENT_ERROR, f"the audio decoder cannot answer: {error}") from error
        return Clip(decoded.pcm, decoded.rate_hz, decoded.channels)

    async def _decode_as_it_is(self, audio: AudioFile) -> DecodedAudio | None:
        """At the file's own rate and channels; None when that would be too much to keep."""
        try:
            return await self._decoder.decode(
                audio.data, name=audio.filename, max_s=MAX_AUDIO_S, max_bytes=MAX_KEPT_BYTES
            )
        except Rejected as error:
            if error.code == "too_large":
                return None
            raise


@contextmanager
def of_several(number: int, count: int) -> Iterator[None]:
    """A refusal of recording `number` (from 0) names it, from 1, where there are several."""
    try:
        yield
    except VoiceprintError as error:
        if count == 1:
            raise
        data = {**(error.data or {}), "audio": number + 1}
        raise VoiceprintError(error.code, f"audio {number + 1} of {count}: {error}", data) from error


def _plain_wav(data: bytes) -> Clip | None:
    """A WAV of 16-bit PCM as a clip; None for whatever else it may be: that is for the decoder to say."""
    if data[:4] != b"RIFF":
        return None
    try:
        with wave.open(io.BytesIO(data)) as file:
            rate_hz, channels = file.getframerate(), file.getnchannels()
            if file.getsampwidth() != 2 or rate_hz not in _KEPT_RATES_HZ or channels > len(_FLAC_LAYOUTS):
                return None
            if min(len(data), 2 * channels * rate_hz * MAX_AUDIO_S) > MAX_KEPT_BYTES:
                return None
            pcm = file.readframes(rate_hz * MAX_AUDIO_S)
    except (wave.Error, EOFError):
        return None
    return Clip(pcm[: len(pcm) // (2 * channels) * 2 * channels], rate_hz, channels)


def _s16le(samples: NDArray[np.int16] | NDArray[np.float32]) -> bytes:
    if samples.dtype != np.int16:
        samples = np.clip(np.rint(samples), -32768, 32767)
    return samples.astype("<i2").tobytes()
