"""Stretches of one channel of a recording on the disk, read without the rest of it."""

from __future__ import annotations

import io
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gateway.voiceprint.clip import Clip


@dataclass(frozen=True, slots=True)
class WavShape:
    rate_hz: int
    channels: int
    duration_ms: int


def shape_of(path: Path) -> WavShape:
    """What kind of WAV this is. Blocks. Raises OSError, and ValueError for what is no WAV of 16-bit PCM."""
    with _opened(path) as file:
        rate_hz = file.getframerate()
        return WavShape(rate_hz, file.getnchannels(), file.getnframes() * 1000 // rate_hz)


def read_stretch(path: Path, channel: int, begin_ms: int, end_ms: int) -> Clip:
    """One channel from `begin_ms` to before `end_ms`, or to the recording's end. Blocks. Raises OSError, ValueError."""
    with _opened(path) as file:
        rate_hz, channels = file.getframerate(), file.getnchannels()
        if not 0 <= channel < channels:
            raise ValueError(f"{path.name} has {channels} channels, there is no channel {channel}")
        first, end = (min(ms * rate_hz // 1000, file.getnframes()) for ms in (begin_ms, end_ms))
        file.setpos(first)
        interleaved: NDArray[np.int16] = np.frombuffer(file.readframes(max(0, end - first)), dtype="<i2")
    return Clip(np.ascontiguousarray(interleaved.reshape(-1, channels)[:, channel]).tobytes(), rate_hz, 1)


def as_wav(clip: Clip) -> bytes:
    """The clip as a WAV file."""
    whole = io.BytesIO()
    with wave.open(whole, "wb") as file:
        file.setnchannels(clip.channels)
        file.setsampwidth(2)
        file.setframerate(clip.rate_hz)
        file.writeframes(clip.pcm)
    return whole.getvalue()


def _opened(path: Path) -> wave.Wave_read:
    try:
        file = wave.open(str(path), "rb")  # noqa: SIM115 - the caller closes it
    except (wave.Error, EOFError) as fault:
        raise ValueError(f"{path.name} is no WAV that can be read: {fault}") from fault
    if file.getsampwidth() != 2:
        file.close()
        raise ValueError(f"{path.name} has {8 * file.getsampwidth()} bits a sample, expected 16")
    return file
