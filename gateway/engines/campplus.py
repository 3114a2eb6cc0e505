"""Speaker embedding with CAM++ through ONNX Runtime (runs inside an engine process)."""

from __future__ import annotations

from pathlib import Path

import kaldi_native_fbank
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from gateway.engines.campplus_graph import MEL_BINS
from gateway.engines.onnx_session import open_session
from gateway.engines.pcm import FULL_SCALE, MODEL_RATE_HZ, NARROW_RATE_HZ, Samples, print_samples
from gateway.ports import Embedding

_FLOOR = 8 / FULL_SCALE
"""Noise below the finest step of G.711, by its root mean square."""


class Campplus:
    """The loaded model. One thread, about 15 ms of CPU per second of audio."""

    def __init__(self, model_path: Path) -> None:
        self._session: onnxruntime.InferenceSession = open_session(model_path)
        self.embed(bytes(2 * MODEL_RATE_HZ), MODEL_RATE_HZ)  # the first run allocates; no call should pay for it

    def embed(self, pcm: bytes, rate_hz: int) -> Embedding:
        """The voice print of mono PCM: float32, shape (192,), unit length.

        Raises Rejected (`too_short`) below 0.2 s.
        """
        samples = print_samples(pcm, rate_hz, "a voice print")
        if rate_hz <= NARROW_RATE_HZ:
            samples = with_floor(samples)
        features = spectrum(samples)
        features -= features.mean(axis=0)
        vector = self._session.run(None, {"features": features[np.newaxis]})[0][0]
        return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-12), np.float32)


def with_floor(samples: Samples) -> Samples:
    """The samples with a little white noise, always the same.

    A telephone line leaves nothing above 4 kHz, and G.711 digital silence in pauses. The logarithm of nothing is far
    below anything the model was trained on; over this floor a fifth fewer voices are taken for one another
    (BENCHMARKS.md, voice prints).
    """
    noise = np.random.default_rng(0).standard_normal(len(samples), dtype=np.float32)
    return np.asarray(samples + np.float32(_FLOOR) * noise, np.float32)


def spectrum(samples: Samples) -> NDArray[np.float32]:
    """Kaldi's log mel filter bank as the model was trained on: (frames, 80), 25 ms windows every 10 ms, no dither."""
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.samp_freq = MODEL_RATE_HZ
    options.frame_opts.dither = 0.0
    options.frame_opts.snip_edges = True
    options.mel_opts.num_bins = MEL_BINS
    bank = kaldi_native_fbank.OnlineFbank(options)
    bank.accept_waveform(MODEL_RATE_HZ, samples)
    bank.input_finished()
    return np.stack([bank.get_frame(i) for i in range(bank.num_frames_ready)])
