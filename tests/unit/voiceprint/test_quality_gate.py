from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from gateway.voiceprint.quality_gate import Limits, Measurement, Reason, find_flaw, measure
from tests.voices import RATE_HZ, voice

GOOD = Measurement(duration_ms=3000, level_dbfs=-20, peak_dbfs=-6, clipped_share=0.0, speech_ms=2000)


def samples(pcm: bytes, gain: float = 1.0) -> NDArray[np.int16]:
    amplified = np.frombuffer(pcm, dtype="<i2").astype(np.float64) * gain
    return np.clip(amplified, -32768, 32767).astype(np.int16).reshape(-1, 1)


def reason(measured: Measurement) -> Reason | None:
    flaw = find_flaw(measured, Limits())
    return None if flaw is None else flaw.reason


def test_a_clear_voice_passes() -> None:
    assert reason(measure(samples(voice(1)), RATE_HZ)) is None


def test_audio_under_a_fifth_of_a_second_is_too_short() -> None:
    assert reason(measure(samples(voice(1, seconds=0.199)), RATE_HZ)) is Reason.TOO_SHORT
    assert reason(measure(samples(voice(1, seconds=0.2)), RATE_HZ)) is None


def test_no_samples_at_all_are_too_short() -> None:
    assert reason(measure(np.empty((0, 1), dtype=np.int16), RATE_HZ)) is Reason.TOO_SHORT


def test_zeros_are_silence() -> None:
    assert reason(measure(np.zeros((RATE_HZ, 2), dtype=np.int16), RATE_HZ)) is Reason.SILENCE


def test_a_whisper_of_a_level_is_too_quiet_and_the_text_names_level_and_limit() -> None:
    measured = measure(samples(voice(1), gain=0.005), RATE_HZ)
    flaw = find_flaw(measured, Limits())
    assert flaw is not None
    assert flaw.reason is Reason.TOO_QUIET
    assert f"{measured.level_dbfs:.1f} dBFS" in flaw.text
    assert "-50.0 dBFS are needed" in flaw.text


def test_pauses_do_not_make_a_voice_too_quiet() -> None:
    with_pauses = np.concatenate([samples(voice(1)), np.zeros((9 * RATE_HZ, 1), dtype=np.int16)])
    assert reason(measure(with_pauses, RATE_HZ)) is None


def test_overdriven_audio_is_clipped_even_when_turned_down_afterwards() -> None:
    overdriven = samples(voice(1), gain=12)
    assert reason(measure(overdriven, RATE_HZ)) is Reason.CLIPPED
    assert reason(measure((overdriven // 4).astype(np.int16), RATE_HZ)) is Reason.CLIPPED


def test_one_clipped_channel_of_two_is_enough() -> None:
    both = np.hstack([samples(voice(1)), samples(voice(1), gain=12)])
    assert reason(measure(both, RATE_HZ)) is Reason.CLIPPED


@pytest.mark.parametrize(("speech_ms", "expected"), [(0, Reason.NO_SPEECH), (96, None), (None, None)])
def test_speech_counts_only_when_somebody_listened_for_it(speech_ms: int | None, expected: Reason | None) -> None:
    measured = Measurement(GOOD.duration_ms, GOOD.level_dbfs, GOOD.peak_dbfs, GOOD.clipped_share, speech_ms)
    assert reason(measured) is expected


@given(
    arrays.arrays(np.int16, st.tuples(st.integers(0, 400), st.integers(1, 3))),
    st.integers(min_value=1, max_value=48000),
)
def test_any_samples_can_be_measured(noise: NDArray[np.int16], rate_hz: int) -> None:
    measured = measure(noise, rate_hz)
    assert -100 <= measured.level_dbfs <= 0.1
    assert measured.level_dbfs <= measured.peak_dbfs + 0.1
    assert 0 <= measured.clipped_share <= 1
