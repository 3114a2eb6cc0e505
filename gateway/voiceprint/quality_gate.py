"""Is this audio good enough to be somebody's voice print? Pure: samples in, a measurement and a verdict out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from protocol.voiceprint import MIN_AUDIO_MS

FLOOR_DBFS = -100.0
"""What digital silence measures; 16-bit audio cannot hold anything quieter but zero."""
_FULL_SCALE = 32768.0
_BLOCK_MS = 20
_BLOCKS_AT_ONCE = 500
"""Ten seconds: what is worked on stays small however long the recording is."""
_LOUD_PERCENTILE = 95
_LOUD_BLOCKS = 25
_FLAT_TOP_SAMPLES = 3
_NEARLY = 0.999


@dataclass(frozen=True, slots=True)
class Limits:
    """What is refused. Levels are dB below a full-scale square wave.

    The defaults leave room: the quietest of 60 clips of read speech measured -34 dBFS, and none had a clipped share,
    mu-law at 8 kHz included, above 0.03 %. Amplified 2x past full scale their shares were 1 % in the median and 5.6 %
    at most; amplified 4x, 9 % in the median.
    """

    min_duration_ms: int = MIN_AUDIO_MS
    silence_dbfs: float = -70.0
    min_level_dbfs: float = -50.0
    max_clipped_share: float = 0.05
    min_speech_ms: int = 96


@dataclass(frozen=True, slots=True)
class Measurement:
    """`level_dbfs` is that of the loud parts (95th percentile of 20 ms blocks, or the loudest half second if that is
    less), so pauses do not count against it."""

    duration_ms: int
    level_dbfs: float
    peak_dbfs: float
    clipped_share: float
    """0-1: samples at full scale or on flat tops, which are runs of three or more at the recording's extreme value."""
    speech_ms: int | None = None
    """None: nobody listened for speech. Counting stops once there is enough, so this is a least value."""

    def as_data(self) -> dict[str, float | int]:
        """For a refusal's `data`, rounded to what means something."""
        data: dict[str, float | int] = {
            "duration_ms": self.duration_ms,
            "level_dbfs": round(self.level_dbfs, 1),
            "peak_dbfs": round(self.peak_dbfs, 1),
            "clipped_share": round(self.clipped_share, 4),
        }
        return data if self.speech_ms is None else {**data, "speech_ms": self.speech_ms}


class Reason(StrEnum):
    TOO_SHORT = "too_short"
    SILENCE = "silence"
    TOO_QUIET = "too_quiet"
    CLIPPED = "clipped"
    NO_SPEECH = "no_speech"


@dataclass(frozen=True, slots=True)
class Flaw:
    """Why audio is refused, with the measured value and the limit in `text`."""

    reason: Reason
    text: str


def measure(samples: NDArray[np.int16], rate_hz: int) -> Measurement:
    """Measure a recording as it was decoded: shape (n, channels), int16, before any resampling hides clipping.

    The level is that of the mix of the channels, which is what the voice print is made of.
    """
    if not samples.size:
        return Measurement(0, FLOOR_DBFS, FLOOR_DBFS, 0.0)
    block = max(1, min(len(samples), rate_hz * _BLOCK_MS // 1000))
    loudness: list[NDArray[np.float32]] = []
    peak = 0.0
    for begin in range(0, len(samples), stretch := block * _BLOCKS_AT_ONCE):
        part = samples[begin : begin + stretch]
        mix = part[:, 0].astype(np.float32) if part.shape[1] == 1 else part.mean(axis=1, dtype=np.float32)
        mix /= _FULL_SCALE
        peak = max(peak, float(np.abs(mix).max()))
        blocks = mix[: len(mix) // block * block].reshape(-1, block)
        loudness.append(np.sqrt(np.mean(np.square(blocks), axis=1)))
    return Measurement(
        duration_ms=len(samples) * 1000 // rate_hz,
        level_dbfs=_dbfs(_loud(np.concatenate(loudness))),
        peak_dbfs=_dbfs(peak),
        clipped_share=max(_clipped_share(samples[:, channel]) for channel in range(samples.shape[1])),
    )


def find_flaw(measured: Measurement, limits: Limits) -> Flaw | None:
    """The first reason to refuse the recording, None when it will do."""
    if measured.duration_ms < limits.min_duration_ms:
        text = f"the audio lasts {measured.duration_ms} ms, at least {limits.min_duration_ms} ms are needed"
        return Flaw(Reason.TOO_SHORT, text)
    if measured.level_dbfs < limits.silence_dbfs:
        text = f"the audio is silent: its loud parts reach {measured.level_dbfs:.1f} dBFS"
        return Flaw(Reason.SILENCE, text)
    if measured.level_dbfs < limits.min_level_dbfs:
        level = f"its loud parts reach {measured.level_dbfs:.1f} dBFS"
        return Flaw(Reason.TOO_QUIET, f"the audio is too quiet: {level}, {limits.min_level_dbfs:.1f} dBFS are needed")
    if measured.clipped_share > limits.max_clipped_share:
        share = f"{measured.clipped_share:.1%} of its samples are cut off"
        return Flaw(Reason.CLIPPED, f"the audio is clipped: {share}, at most {limits.max_clipped_share:.1%} may be")
    if measured.speech_ms is not None and measured.speech_ms < limits.min_speech_ms:
        text = f"no speech was found: {measured.speech_ms} ms, at least {limits.min_speech_ms} ms are needed"
        return Flaw(Reason.NO_SPEECH, text)
    return None


def _loud(loudness: NDArray[np.float32]) -> float:
    """The loudness that the loudest twentieth passes or, of a long recording with little in it, half a second."""
    return float(np.percentile(loudness, max(_LOUD_PERCENTILE, 100 * (1 - _LOUD_BLOCKS / len(loudness)))))


def _dbfs(amplitude: float) -> float:
    return max(FLOOR_DBFS, 20 * float(np.log10(amplitude))) if amplitude > 0 else FLOOR_DBFS


def _clipped_share(channel: NDArray[np.int16]) -> float:
    """Full scale alone is a sign; flat tops show clipping even where the recording was turned down afterwards."""
    extreme = max(int(channel.max()), -int(channel.min()))
    if extreme == 0:
        return 0.0
    nearly = int(extreme * _NEARLY)
    at_extreme = (channel >= nearly) | (channel <= -nearly)
    if extreme >= _FULL_SCALE * _NEARLY:
        return float(np.mean(at_extreme))
    on_top = np.zeros(len(channel) + 2, dtype=np.int8)
    on_top[1:-1] = at_extreme
    steps = np.diff(on_top)
    lengths = np.flatnonzero(steps == -1) - np.flatnonzero(steps == 1)
    return float(lengths[lengths >= _FLAT_TOP_SAMPLES].sum()) / len(channel)
