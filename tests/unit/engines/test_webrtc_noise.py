"""Noise suppression: less noise, the same voice, the same length."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gateway.engines.webrtc_noise import WebrtcNoise
from tests.unit.engines.spoken import speech

SENTENCE = "your account is now closed, and the money will be returned on monday"
PAUSE_S = 1.0
Samples = NDArray[np.float64]


def under_noise(clean: Samples, rate_hz: int, snr_db: float) -> tuple[Samples, Samples]:
    """Speech between two pauses, and the same under pink noise."""
    pause = np.zeros(int(PAUSE_S * rate_hz))
    spoken = np.concatenate([pause, clean, pause])
    spectrum = np.fft.rfft(np.random.default_rng(1).standard_normal(len(spoken)))
    noise = np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 1)), len(spoken))
    noise *= np.sqrt(np.mean(np.square(clean)) / np.mean(np.square(noise)) / 10 ** (snr_db / 10))
    mixed = spoken + noise
    scale = min(1.0, 30000 / np.abs(mixed).max())
    return scale * spoken, scale * mixed


def level_db(samples: Samples) -> float:
    return float(10 * np.log10(np.mean(np.square(samples)) + 1e-9))


def cleaned(samples: Samples, rate_hz: int) -> Samples:
    pcm = WebrtcNoise().denoise(np.rint(samples).astype("<i2").tobytes(), rate_hz)
    return np.frombuffer(pcm, "<i2").astype(np.float64)


def check(clean: Samples, rate_hz: int) -> None:
    spoken, noisy = under_noise(clean, rate_hz, snr_db=5)
    heard = cleaned(noisy, rate_hz)
    assert len(heard) == len(noisy)
    pause = slice(0, int(0.9 * PAUSE_S * rate_hz))
    assert level_db(heard[pause]) < level_db(noisy[pause]) - 4
    # What is left beside the speech, over the whole: the voice is where it was, and about as loud.
    assert level_db(heard - spoken) < level_db(noisy - spoken) - 2
    assert np.corrcoef(heard, spoken)[0, 1] > np.corrcoef(noisy, spoken)[0, 1]


@pytest.mark.parametrize("rate_hz", [8000, 16000, 48000])
def test_noise_goes_down_and_the_voice_stays_where_it_is(rate_hz: int) -> None:
    check(np.frombuffer(speech(SENTENCE, rate_hz), "<i2").astype(np.float64), rate_hz)


@pytest.mark.corpus
@pytest.mark.parametrize("rate_hz", [8000, 16000])
def test_noise_goes_down_under_real_voices(corpus: Path, rate_hz: int) -> None:
    for path in sorted((corpus / "en").glob("*-0008.flac")):
        with av.open(path) as container:
            clean = np.concatenate([frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)])
        check(np.asarray(soxr.resample(clean.astype(np.float64), 16000, rate_hz)), rate_hz)


@given(samples=st.integers(0, 3000), rate_hz=st.sampled_from([8000, 16000]))
@settings(deadline=None, max_examples=30)
def test_any_length_comes_back_as_long_as_it_was(samples: int, rate_hz: int) -> None:
    assert len(WebrtcNoise().denoise(bytes(2 * samples), rate_hz)) == 2 * samples


def test_one_job_leaves_nothing_behind_for_the_next() -> None:
    engine, pcm = WebrtcNoise(), speech(SENTENCE)
    first = engine.denoise(pcm, 16000)
    engine.denoise(np.random.default_rng(2).normal(0, 5000, 32000).astype("<i2").tobytes(), 16000)
    assert engine.denoise(pcm, 16000) == first
