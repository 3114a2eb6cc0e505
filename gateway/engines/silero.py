"""Speech confirmation with Silero VAD v6 through ONNX Runtime (runs inside an engine process)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gateway.engines.onnx_session import open_session
from gateway.engines.pcm import FULL_SCALE, MODEL_RATE_HZ
from gateway.ports import SpeechProbabilities

FRAME_SAMPLES = 512
FRAME_MS = 32
CONTEXT_SAMPLES = 64
CELLS = 128

Samples = NDArray[np.float32]


class Silero:
    """The loaded model. It keeps nothing between calls: what must last is in the state that the caller hands back."""

    def __init__(self, model_path: Path) -> None:
        self._session = open_session(model_path)
        self.confirm(bytes(2 * FRAME_SAMPLES), MODEL_RATE_HZ, None)

    def confirm(self, pcm: bytes, rate_hz: int, state: bytes | None) -> SpeechProbabilities:
        """One probability for each 32 ms of `pcm`, and the state for the next stretch.

        The answers do not depend on where a stream is cut into stretches. Raises ValueError when `pcm` is no multiple
        of 32 ms, the rate is none of 8, 16 and 48 kHz, or `state` is not of this model and rate.
        """
        resampler = _RESAMPLERS.get(rate_hz)
        if resampler is None:
            raise ValueError(f"rate {rate_hz} Hz: expected one of {sorted(_RESAMPLERS)}")
        if len(pcm) % (2 * rate_hz * FRAME_MS // 1000):
            raise ValueError(f"{len(pcm)} bytes at {rate_hz} Hz: expected a multiple of {FRAME_MS} ms")
        if not pcm:
            return SpeechProbabilities((), state or b"")
        hidden, cell, context, history = _unpack(state, resampler.history_samples)
        heard = np.concatenate([history, np.frombuffer(pcm, "<i2").astype(np.float32) / np.float32(FULL_SCALE)])
        samples = np.concatenate([context, resampler.convert(heard)])
        frames = np.lib.stride_tricks.sliding_window_view(samples, FRAME_SAMPLES + CONTEXT_SAMPLES)[::FRAME_SAMPLES]
        inputs = {"input": np.ascontiguousarray(frames), "h": hidden, "c": cell}
        probabilities, hidden, cell = self._session.run(None, inputs)
        kept = (hidden, cell, samples[-CONTEXT_SAMPLES:], heard[len(heard) - resampler.history_samples :])
        return SpeechProbabilities(
            tuple(float(p) for p in np.ravel(probabilities)),
            b"".join(np.ascontiguousarray(part, "<f4").tobytes() for part in kept),
        )


def _unpack(state: bytes | None, history_samples: int) -> tuple[Samples, Samples, Samples, Samples]:
    sizes = (CELLS, CELLS, CONTEXT_SAMPLES, history_samples)
    values = np.frombuffer(state, "<f4") if state else np.zeros(sum(sizes), np.float32)
    if len(values) != sum(sizes):
        raise ValueError(f"state of {len(values)} numbers: expected {sum(sizes)} for this model and rate")
    hidden, cell, context, history = np.split(values, np.cumsum(sizes)[:-1])
    return hidden.reshape(1, 1, CELLS), cell.reshape(1, 1, CELLS), context, history


@dataclass(frozen=True)
class _Resampler:
    """A causal FIR filter between `up` times and one `down`-th of the rate.

    It needs only the last few input samples as history, so a stream may be cut anywhere; a library's block resampler
    would either ring at every edge or keep state that cannot be handed over. Its delay is under 1 ms.
    """

    up: int
    down: int
    taps: Samples

    @property
    def history_samples(self) -> int:
        return (len(self.taps) - 1) // self.up

    def convert(self, heard: Samples) -> Samples:
        """The samples at 16 kHz for what follows the history at the head of `heard`."""
        if self.up == self.down:
            return heard
        stuffed = np.zeros(len(heard) * self.up, np.float32)
        stuffed[:: self.up] = heard * np.float32(self.up)
        filtered = np.convolve(stuffed, self.taps)
        return filtered[self.history_samples * self.up : len(stuffed) : self.down].astype(np.float32)


def _low_pass(taps: int, cutoff: float) -> Samples:
    """A Kaiser-windowed sinc of unit gain; `cutoff` in cycles a sample (about 60 dB down in the stop band)."""
    offsets = np.arange(taps) - (taps - 1) / 2
    kernel = 2 * cutoff * np.sinc(2 * cutoff * offsets) * np.kaiser(taps, 5.65)
    return np.asarray(kernel / kernel.sum(), np.float32)


_RESAMPLERS = {
    8000: _Resampler(up=2, down=1, taps=_low_pass(49, 0.235)),
    16000: _Resampler(up=1, down=1, taps=np.ones(1, np.float32)),
    48000: _Resampler(up=1, down=3, taps=_low_pass(97, 0.152)),
}
