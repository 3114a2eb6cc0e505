"""Formats, their arithmetic, and G.711 beside an independent decoder."""

from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.audio import BYTES_PER_SAMPLE, RATES_HZ, AudioFormat, compress

ALL_CODES = bytes(range(256))
LAWS = {"pcmu": "pcm_mulaw", "pcma": "pcm_alaw"}


def expand(encoding: Any, payload: bytes) -> np.ndarray[Any, np.dtype[np.int16]]:
    return np.frombuffer(AudioFormat(encoding, 8000, 1).to_pcm(payload), "<i2")


@pytest.mark.parametrize(("encoding", "codec"), LAWS.items())
def test_every_code_of_g711_expands_as_ffmpeg_expands_it(encoding: str, codec: str) -> None:
    decoder = av.CodecContext.create(codec, "r")
    decoder.sample_rate = 8000
    decoder.layout = "mono"
    (frame,) = decoder.decode(av.Packet(ALL_CODES))
    assert frame.format.name == "s16"
    assert expand(encoding, ALL_CODES).tolist() == frame.to_ndarray().ravel().tolist()


@pytest.mark.parametrize("encoding", LAWS)
def test_compressing_what_was_expanded_gives_the_codes_back(encoding: Any) -> None:
    linear = expand(encoding, ALL_CODES)
    again = compress(encoding, linear.tobytes())
    # μ-law writes zero in two ways; either is right.
    differing = [code for code in range(256) if again[code] != code]
    assert all(linear[code] == 0 for code in differing)
    assert len(differing) <= 1
    assert (expand(encoding, again) == linear).all()


@pytest.mark.parametrize("encoding", LAWS)
def test_every_sample_is_compressed_to_the_nearest_level(encoding: Any) -> None:
    samples = np.arange(-32_768, 32_768, dtype=np.int32)
    heard = expand(encoding, compress(encoding, samples.astype("<i2").tobytes())).astype(np.int32)
    levels = np.unique(expand(encoding, ALL_CODES).astype(np.int32))
    nearest = np.abs(samples[:, None] - levels[None, :]).min(axis=1)
    assert (np.abs(heard - samples) == nearest).all()


@given(st.binary(max_size=64).map(lambda payload: payload[: len(payload) // 2 * 2]))
def test_linear_audio_passes_as_it_is(payload: bytes) -> None:
    assert AudioFormat("pcm_s16le", 8000, 1).to_pcm(payload) == payload
    assert AudioFormat("pcm_s16le", 8000, 1).to_pcm(memoryview(payload)) == payload
    assert compress("pcm_s16le", payload) == payload


@pytest.mark.parametrize("encoding", BYTES_PER_SAMPLE)
@pytest.mark.parametrize("channels", [1, 2])
def test_an_instant_holds_one_sample_of_each_channel(encoding: Any, channels: int) -> None:
    audio = AudioFormat(encoding, 8000, channels)
    assert audio.bytes_per_instant == channels * (2 if encoding == "pcm_s16le" else 1)
    assert len(audio.to_pcm(bytes(audio.bytes_per_instant))) == 2 * channels
    assert audio.to_pcm(b"") == b""


@given(st.sampled_from(RATES_HZ), st.integers(0, 10**9))
def test_whole_milliseconds_become_samples_and_back(rate_hz: int, ms: int) -> None:
    audio = AudioFormat("pcm_s16le", rate_hz, 1)
    assert audio.samples_to_ms(audio.ms_to_samples(ms)) == ms
    assert audio.samples_to_ms(audio.ms_to_samples(ms) + rate_hz // 1000 - 1) == ms
