"""Decoding files in single-use processes: what they give, and what they refuse."""

from __future__ import annotations

import asyncio
import io
import os
import resource
import wave
from collections.abc import AsyncIterator
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from gateway.engines.av_decoding import AvDecoding
from gateway.engines.decode import AvDecoder, decoder_pool
from gateway.engines.pool import Pool
from gateway.engines.worker import EngineSpec
from gateway.ports import Rejected


@pytest.fixture
async def decoder(tmp_path: Path) -> AsyncIterator[AvDecoder]:
    pool = decoder_pool()
    await pool.start()
    decoder = AvDecoder(pool, tmp_path / "spool")
    decoder.prepare()
    yield decoder
    await pool.stop()
    assert not list((tmp_path / "spool").iterdir()), "a decoded file was left behind"


def tones(rate_hz: int, seconds: float, *frequencies_hz: float) -> NDArray[np.int16]:
    """One tone a channel: (samples, channels)."""
    time_s = np.arange(int(rate_hz * seconds)) / rate_hz
    return np.stack([8000 * np.sin(2 * np.pi * f * time_s) for f in frequencies_hz], axis=1).astype(np.int16)


def wav(samples: NDArray[np.int16], rate_hz: int) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(samples.shape[1])
        writer.setsampwidth(2)
        writer.setframerate(rate_hz)
        writer.writeframes(samples.astype("<i2").tobytes())
    return file.getvalue()


def encoded(container: str, codec: str, samples: NDArray[np.int16], rate_hz: int, *, video: bool = False) -> bytes:
    file = io.BytesIO()
    layout = {1: "mono", 2: "stereo"}[samples.shape[1]]
    with av.open(file, "w", format=container) as output:
        if video:
            pictures = output.add_stream("mpeg4", rate=10)
            pictures.width = pictures.height = 32
            pictures.pix_fmt = "yuv420p"
        stream = output.add_stream(codec, rate=rate_hz, layout=layout)
        if video:
            for _ in range(10):
                picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
                output.mux(pictures.encode(picture))
            output.mux(pictures.encode())
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout=layout)
        frame.sample_rate = rate_hz
        output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return file.getvalue()


def loudest_hz(samples: NDArray[np.int16], rate_hz: int) -> float:
    return float(np.argmax(np.abs(np.fft.rfft(samples)))) * rate_hz / len(samples)


async def test_a_wav_file_comes_back_sample_for_sample(decoder: AvDecoder) -> None:
    samples = tones(8000, 0.5, 300, 700)
    decoded = await decoder.decode(wav(samples, 8000), name="call.wav")
    assert (decoded.rate_hz, decoded.channels, decoded.duration_ms) == (8000, 2, 500)
    assert decoded.pcm == samples.astype("<i2").tobytes()


async def test_rate_and_channels_are_converted(decoder: AvDecoder) -> None:
    samples = tones(48000, 1, 440, 440)
    decoded = await decoder.decode(wav(samples, 48000), rate_hz=16000, channels=1)
    assert (decoded.rate_hz, decoded.channels) == (16000, 1)
    assert decoded.duration_ms == pytest.approx(1000, abs=2)
    assert loudest_hz(np.frombuffer(decoded.pcm, "<i2"), 16000) == pytest.approx(440, abs=2)


async def test_mono_is_the_mean_of_both_sides_and_stereo_repeats_mono(decoder: AvDecoder) -> None:
    sides = np.array([[1000, 3000]] * 800, np.int16)
    mono = await decoder.decode(wav(sides, 8000), channels=1)
    assert set(np.frombuffer(mono.pcm, "<i2")) == {2000}
    stereo = await decoder.decode(wav(sides[:, :1], 8000), channels=2)
    assert set(np.frombuffer(stereo.pcm, "<i2")) == {1000}


@pytest.mark.parametrize(
    ("container", "codec", "video"),
    [
        ("mp3", "libmp3lame", False),
        ("ogg", "libopus", False),
        ("flac", "flac", False),
        ("ipod", "aac", False),
        ("mp4", "aac", True),
        ("webm", "libopus", False),
    ],
)
def test_common_containers_and_a_video_s_sound(tmp_path: Path, container: str, codec: str, video: bool) -> None:
    (tmp_path / "input").write_bytes(encoded(container, codec, tones(48000, 1, 440), 48000, video=video))
    assert AvDecoding().decode(str(tmp_path), 16000, 1, 60) == (16000, 1)
    pcm = np.frombuffer((tmp_path / "output").read_bytes(), "<i2")
    assert len(pcm) == pytest.approx(16000, abs=2000)
    assert loudest_hz(pcm, 16000) == pytest.approx(440, abs=3)


async def test_what_lies_past_the_limit_is_cut(decoder: AvDecoder) -> None:
    decoded = await decoder.decode(wav(tones(8000, 2, 300), 8000), max_s=0.5)
    assert decoded.duration_ms == 500


async def test_a_truncated_file_gives_what_is_whole(tmp_path: Path) -> None:
    whole = encoded("mp3", "libmp3lame", tones(48000, 2, 440), 48000)
    (tmp_path / "input").write_bytes(whole[: len(whole) // 2])
    AvDecoding().decode(str(tmp_path), None, None, 60)
    seconds = (tmp_path / "output").stat().st_size / 2 / 48000
    assert 0.7 < seconds < 1.2


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello, this is a letter and no sound\n" * 50,
        bytes(range(256)) * 40,
        b"RIFF\x24\x00\x00\x00WAVEfmt ",
        b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n/etc/passwd\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
    ],
    ids=["empty", "text", "bytes", "header only", "playlist", "concat"],
)
async def test_what_is_no_audio_is_refused_with_what_was_expected(decoder: AvDecoder, data: bytes) -> None:
    with pytest.raises(Rejected, match="expected an audio file") as refusal:
        await decoder.decode(data, name="letter.txt")
    assert refusal.value.code == "undecodable"
    assert "letter.txt" in str(refusal.value)


async def test_a_film_without_sound_is_refused(tmp_path: Path) -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        pictures = output.add_stream("mpeg4", rate=10)
        pictures.width = pictures.height = 32
        pictures.pix_fmt = "yuv420p"
        output.mux(pictures.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
        output.mux(pictures.encode())
    (tmp_path / "input").write_bytes(file.getvalue())
    with pytest.raises(Rejected, match="holds no sound"):
        AvDecoding().decode(str(tmp_path), None, None, 60)


async def test_headerless_pcm_needs_a_rate_and_whole_samples(decoder: AvDecoder) -> None:
    decoded = await decoder.decode(b"\1\2\3\4", name="call.PCM", rate_hz=8000)
    assert (decoded.pcm, decoded.rate_hz, decoded.channels) == (b"\1\2\3\4", 8000, 1)
    with pytest.raises(Rejected, match="rate must be given"):
        await decoder.decode(b"\1\2", name="call.raw")
    with pytest.raises(Rejected, match="no whole number"):
        await decoder.decode(b"\1\2\3", name="call.raw", rate_hz=8000)


async def test_a_file_that_kills_its_decoder_is_the_file_s_fault_and_the_next_decodes(tmp_path: Path) -> None:
    pool = Pool("decode", EngineSpec("tests.unit.engines.toys:DeadlyDecoding"), jobs_per_process=1, retries=0)
    await pool.start()
    decoder = AvDecoder(pool, tmp_path / "spool")
    decoder.prepare()
    try:
        for _ in range(2):
            with pytest.raises(Rejected, match="more memory or time"):
                await decoder.decode(b"bomb")
    finally:
        await pool.stop()


async def test_too_much_output_is_refused(tmp_path: Path) -> None:
    spec = EngineSpec("gateway.engines.av_decoding:AvDecoding", limits={"RLIMIT_FSIZE": 10_000})
    pool = Pool("decode", spec, jobs_per_process=1, retries=0)
    await pool.start()
    decoder = AvDecoder(pool, tmp_path / "spool")
    decoder.prepare()
    try:
        with pytest.raises(Rejected) as refusal:
            await decoder.decode(wav(tones(8000, 2, 300), 8000))
        assert refusal.value.code == "too_large"
    finally:
        await pool.stop()


async def test_the_child_is_limited_and_the_parent_is_not(decoder: AvDecoder) -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    await asyncio.gather(*(decoder.decode(wav(tones(8000, 0.1, 300), 8000)) for _ in range(2)))
    assert resource.getrlimit(resource.RLIMIT_AS) == before
    assert os.getpriority(os.PRIO_PROCESS, 0) == 0


async def test_what_a_crash_left_in_the_spool_is_removed_at_start(tmp_path: Path) -> None:
    (tmp_path / "spool" / "old").mkdir(parents=True)
    (tmp_path / "spool" / "old" / "input").write_bytes(b"a voice")
    AvDecoder(decoder_pool(), tmp_path / "spool").prepare()
    assert not list((tmp_path / "spool").iterdir())
    assert (tmp_path / "spool").stat().st_mode & 0o077 == 0
