"""An audio file, sent as a softphone would: in packets, in real time or at another pace."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Literal

import av
import numpy as np

from protocol.audio import AudioFormat, compress
from protocol.client import CallClient

PACKET_MS = 20


class NotAudio(Exception):
    """The file cannot be played; the text says why and what was expected."""


def read_audio(path: Path, rate_hz: int, channels: int | None) -> tuple[bytes, int]:
    """The file as interleaved s16le at `rate_hz`, and its channels: as it has, but at most two; or as asked.

    Raises NotAudio.
    """
    if not path.exists():
        raise NotAudio(f"{path}: there is no such file")
    try:
        with av.open(path, metadata_errors="replace") as container:
            if not container.streams.audio:
                raise NotAudio(f"{path} holds no sound; expected an audio file or a video with a sound track")
            stream = container.streams.audio[0]
            wanted = channels or min(2, stream.codec_context.channels)
            layout: Literal["mono", "stereo"] = "mono" if wanted == 1 else "stereo"
            resampler = av.AudioResampler(format="s16", layout=layout, rate=rate_hz)
            blocks = [block.to_ndarray() for frame in container.decode(stream) for block in resampler.resample(frame)]
            blocks += [block.to_ndarray() for block in resampler.resample(None)]
    except av.FFmpegError as fault:
        raise NotAudio(
            f"{path} is no audio that can be read ({fault.strerror}); expected WAV, FLAC, MP3, Ogg or the like"
        ) from fault
    return b"".join(np.ascontiguousarray(block).tobytes() for block in blocks), wanted


class Playback:
    """Sends PCM at `speed` times real time (0: as fast as the server takes it) and knows when each sample left."""

    def __init__(self, pcm: bytes, audio: AudioFormat, speed: float) -> None:
        self.duration_ms = len(pcm) // (2 * audio.channels) * 1000 // audio.rate_hz
        self._pcm = pcm
        self._audio = audio
        self._speed = speed
        self._began_s = 0.0

    async def run(self, call: CallClient) -> None:
        """Send everything, each packet when it is due: a late packet does not make the next one late."""
        clock = asyncio.get_running_loop().time
        self._began_s = clock()
        step = 2 * self._audio.channels * self._audio.ms_to_samples(PACKET_MS)
        for number, at in enumerate(range(0, len(self._pcm), step)):
            if self._speed:
                # A packet is sent when its last sample has been spoken.
                due_s = self._began_s + (number + 1) * PACKET_MS / 1000 / self._speed
                await asyncio.sleep(max(0.0, due_s - clock()))
            await call.send_audio(compress(self._audio.encoding, self._pcm[at : at + step]))

    def since_ms(self, position_ms: int) -> float | None:
        """How long ago the sound at `position_ms` was spoken, in ms; None when nothing is played in time."""
        if not self._speed:
            return None
        return (asyncio.get_running_loop().time() - self._began_s) * 1000 - position_ms / self._speed
