"""Speaker embedding with GE2E, as Resemblyzer trained it, through ONNX Runtime (runs inside an engine process)."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from gateway.engines.ge2e_graph import MEL_BINS, WINDOW_FRAMES
from gateway.engines.onnx_session import open_session
from gateway.engines.pcm import MODEL_RATE_HZ, Samples, print_samples
from gateway.ports import Embedding

_WINDOW_SAMPLES, _HOP_SAMPLES = 400, 160
_FULL_WINDOW_SAMPLES = WINDOW_FRAMES * _HOP_SAMPLES
_STEP_FRAMES = 77
"""1.3 windows a second."""
_LEAST_COVERED = 0.75
"""A last window less full of sound than this is left out, unless it is the only one."""
_LEVEL = 10 ** (-30 / 20)
"""Quieter audio is raised to -30 dB below full scale (root mean square), as the model was trained."""


class Ge2e:
    """The loaded model. One thread, about 10 ms of CPU per second of audio."""

    def __init__(self, model_path: Path) -> None:
        self._session: onnxruntime.InferenceSession = open_session(model_path)
        self.embed(bytes(2 * MODEL_RATE_HZ), MODEL_RATE_HZ)  # the first run allocates; no call should pay for it

    def embed(self, pcm: bytes, rate_hz: int) -> Embedding:
        """The voice print of mono PCM: float32, shape (256,), unit length; the mean over windows of 1.6 s.

        Raises Rejected (`too_short`) below 0.2 s.
        """
        samples = print_samples(pcm, rate_hz, "a voice print")
        starts = window_starts(len(samples))
        needed = starts[-1] * _HOP_SAMPLES + _FULL_WINDOW_SAMPLES
        mel = spectrum(np.pad(_raised(samples), (0, max(0, needed - len(samples)))))
        windows = np.stack([mel[start : start + WINDOW_FRAMES] for start in starts])
        mean = self._session.run(None, {"mel": windows})[0].mean(axis=0)
        return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-12), np.float32)


def window_starts(samples: int) -> list[int]:
    """Where the windows of so many samples begin, in frames; at least one."""
    frames = -(-(samples + 1) // _HOP_SAMPLES)
    starts = list(range(0, max(1, frames - WINDOW_FRAMES + _STEP_FRAMES + 1), _STEP_FRAMES))
    covered = (samples - starts[-1] * _HOP_SAMPLES) / _FULL_WINDOW_SAMPLES
    return starts[:-1] if covered < _LEAST_COVERED and len(starts) > 1 else starts


def spectrum(samples: Samples) -> NDArray[np.float32]:
    """The mel spectrogram that the model was trained on: power, not its logarithm; (frames, 40), a frame each 10 ms.

    Frames are centred: what lies beyond the ends is silence.
    """
    padded = np.pad(samples, _WINDOW_SAMPLES // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW_SAMPLES)[::_HOP_SAMPLES]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_WINDOW_SAMPLES) / _WINDOW_SAMPLES)
    power = np.square(np.abs(np.fft.rfft(frames * hann.astype(np.float32), axis=1)))
    return np.asarray(power @ _filters().T, np.float32)


@cache
def _filters() -> NDArray[np.float32]:
    """Triangles of equal area, evenly spaced on Slaney's mel scale (linear to 1 kHz, logarithmic above): (40, 201)."""
    edges_hz = _hz_of_mel(np.linspace(0, _mel_of_hz(MODEL_RATE_HZ / 2), MEL_BINS + 2))
    bins_hz = np.linspace(0, MODEL_RATE_HZ / 2, _WINDOW_SAMPLES // 2 + 1)
    below, centre, above = (edges_hz[i : MEL_BINS + i, np.newaxis] for i in range(3))
    rising, falling = (bins_hz - below) / (centre - below), (above - bins_hz) / (above - centre)
    triangles = np.maximum(0, np.minimum(rising, falling)) * (2 / (above - below))
    return np.asarray(triangles, np.float32)


_HZ_PER_MEL, _KNEE_HZ = 200 / 3, 1000.0
_KNEE_MEL, _LOG_STEP = _KNEE_HZ / _HZ_PER_MEL, np.log(6.4) / 27


def _mel_of_hz(hz: float) -> float:
    return float(_KNEE_MEL + np.log(hz / _KNEE_HZ) / _LOG_STEP) if hz > _KNEE_HZ else hz / _HZ_PER_MEL


def _hz_of_mel(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    logarithmic = _KNEE_HZ * np.exp(_LOG_STEP * (mel - _KNEE_MEL))
    return np.where(mel > _KNEE_MEL, logarithmic, mel * _HZ_PER_MEL)


def _raised(samples: Samples) -> Samples:
    level = float(np.sqrt(np.mean(np.square(samples))))
    return np.asarray(samples * max(1.0, _LEVEL / max(level, 1e-9)), np.float32)
