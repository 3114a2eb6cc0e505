"""Speech confirmation: cutting a stream anywhere gives the same answers."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gateway.engines.manifest import SILERO
from gateway.engines.models import model_folder
from gateway.engines.silero import Silero

FRAMES = 24


@cache
def model() -> Silero:
    # Part of an installed package: always there, whatever the models' folder.
    return Silero(model_folder(Path("/nonexistent"), SILERO.name) / SILERO.files[0].name)


@cache
def voice(rate_hz: int) -> bytes:
    """A buzz with formants that comes and goes, whole 32 ms frames: enough like speech to move the model."""
    samples = rate_hz * 32 * FRAMES // 1000
    time_s = np.arange(samples) / rate_hz
    pitch_hz = 120 + 15 * np.sin(2 * np.pi * 3 * time_s)
    phase = 2 * np.pi * np.cumsum(pitch_hz) / rate_hz
    buzz: NDArray[np.float64] = sum(
        (np.exp(-(((120 * k - 600) / 400) ** 2)) * np.sin(k * phase) for k in range(1, 25)), np.zeros(samples)
    )
    noise = np.random.default_rng(7).normal(0, 0.01, samples)
    loud = 6000 * buzz * (np.sin(2 * np.pi * 2 * time_s) > -0.3) + 6000 * noise
    return np.clip(loud, -32768, 32767).astype("<i2").tobytes()


@pytest.mark.parametrize("rate_hz", [8000, 16000, 48000])
@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(1, FRAMES - 1), unique=True, max_size=8))
def test_the_answer_does_not_depend_on_where_the_stream_is_cut(rate_hz: int, cuts: list[int]) -> None:
    pcm = voice(rate_hz)
    whole = model().confirm(pcm, rate_hz, None)
    frame_bytes = 2 * rate_hz * 32 // 1000
    bounds = [0, *sorted(cuts), FRAMES]
    state: bytes | None = None
    probabilities: list[float] = []
    for begin, end in pairwise(bounds):
        answer = model().confirm(pcm[begin * frame_bytes : end * frame_bytes], rate_hz, state)
        state = answer.state
        probabilities += answer.probabilities
    assert probabilities == pytest.approx(whole.probabilities, abs=1e-5)
    assert state is not None
    assert np.frombuffer(state, "<f4") == pytest.approx(np.frombuffer(whole.state, "<f4"), abs=1e-4)


@pytest.mark.parametrize("rate_hz", [8000, 16000, 48000])
def test_each_32_ms_gets_one_probability_and_silence_a_low_one(rate_hz: int) -> None:
    answer = model().confirm(bytes(2 * rate_hz * 32 // 1000 * 5), rate_hz, None)
    assert len(answer.probabilities) == 5
    assert max(answer.probabilities) < 0.1
    assert max(model().confirm(voice(rate_hz), rate_hz, None).probabilities) > 0.3


def test_an_empty_stretch_changes_nothing() -> None:
    answer = model().confirm(b"", 16000, b"state")
    assert (answer.probabilities, answer.state) == ((), b"state")


@pytest.mark.parametrize(
    ("pcm", "rate_hz", "state", "fault"),
    [
        (bytes(1000), 16000, None, "multiple of 32 ms"),
        (bytes(1024), 11025, None, "expected one of"),
        (bytes(1024), 16000, bytes(8), "state of 2 numbers"),
    ],
)
def test_bad_arguments_are_named(pcm: bytes, rate_hz: int, state: bytes | None, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        model().confirm(pcm, rate_hz, state)
