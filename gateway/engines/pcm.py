"""PCM bytes as samples, at the rate the models want."""

from __future__ import annotations

import numpy as np
import soxr
from numpy.typing import NDArray

from gateway.ports import Rejected

MODEL_RATE_HZ = 16000
NARROW_RATE_HZ = 8000
FULL_SCALE = 32768.0

LEAST_PRINT_S = 0.2
"""Of less audio a print says nothing."""

Samples = NDArray[np.float32]


def model_samples(pcm: bytes, rate_hz: int) -> Samples:
    """Mono 16-bit PCM as float32 in [-1, 1) at 16 kHz, shape (n,). Raises ValueError at an odd number of bytes."""
    samples = np.frombuffer(pcm, "<i2").astype(np.float32) / np.float32(FULL_SCALE)
    if rate_hz != MODEL_RATE_HZ:
        samples = np.asarray(soxr.resample(samples, rate_hz, MODEL_RATE_HZ), np.float32)
    return samples


def print_samples(pcm: bytes, rate_hz: int, what: str) -> Samples:
    """As `model_samples`, for a print of `what`. Raises Rejected (`too_short`) below 0.2 s."""
    samples = model_samples(pcm, rate_hz)
    if len(samples) < LEAST_PRINT_S * MODEL_RATE_HZ:
        message = f"{len(samples) / MODEL_RATE_HZ:.2f} s of audio, {what} needs {LEAST_PRINT_S} s"
        raise Rejected(message, code="too_short")
    return samples
