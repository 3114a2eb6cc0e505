"""Noise suppression of WebRTC (runs inside an engine process).

The mildest level, 6 dB: it takes steady noise down and keeps voices like themselves. The stronger a denoiser, the worse
a print of what it leaves (BENCHMARKS.md, denoising).
"""

from __future__ import annotations

import numpy as np
import soxr
from numpy.typing import NDArray
from pywebrtc_audio import NoiseSuppressor

LEVEL = 0
_RATE_HZ = 16000
_DELAY_SAMPLES = 96
"""By which what comes out lags behind what went in: the overlap of the suppressor's windows."""

Pcm16 = NDArray[np.int16]


class WebrtcNoise:
    """Keeps nothing between jobs. About 2 ms of CPU per second of audio."""

    def denoise(self, pcm: bytes, rate_hz: int) -> bytes:
        """Mono s16le with less steady noise, as long as before and in step with it."""
        samples = np.frombuffer(pcm, "<i2")
        wide = samples if rate_hz == _RATE_HZ else _resampled(samples, rate_hz, _RATE_HZ)
        if not len(wide):
            return pcm
        suppressor = NoiseSuppressor(sample_rate=_RATE_HZ, level=LEVEL)
        # It takes about a second to learn what is noise: let it hear the stretch once before it works on it.
        suppressor.process(np.ascontiguousarray(wide))
        cleaned = suppressor.process(np.concatenate([wide, np.zeros(_DELAY_SAMPLES, np.int16)]))[_DELAY_SAMPLES:]
        if rate_hz != _RATE_HZ:
            cleaned = _resampled(cleaned, _RATE_HZ, rate_hz)
        kept = np.zeros(len(samples), "<i2")
        kept[: len(cleaned)] = cleaned[: len(samples)]
        return kept.tobytes()


def _resampled(samples: Pcm16, from_hz: int, to_hz: int) -> Pcm16:
    converted = soxr.resample(samples.astype(np.float32), from_hz, to_hz)
    return np.asarray(np.clip(np.rint(converted), -32768, 32767), np.int16)
