"""Bytes told apart, recordings kept, and channels made of them."""

import os
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.quality.audio import SWEPT_AFTER_S, AudioFolder, RecordingReader, UnusableRecording
from gateway.quality.sniff import NotAudio, kind_of
from gateway.quality.transcribe import Transcriber
from tests.quality_world import FixedClock, PitchRecognizer, WavDecoder, hummed, recording, wav

# MPEG 1 layer III, 128 kbit/s, 44.1 kHz: 417 bytes a frame.
_MP3_FRAME = b"\xff\xfb\x90\x64" + bytes(413)
# ADTS, 16 bytes a frame.
_ADTS_FRAME = b"\xff\xf1\x50\x80\x02\x1f\xfc" + bytes(9)


@pytest.mark.parametrize(
    "data",
    [
        wav(hummed(100, 20)),
        b"fLaC\0",
        b"OggS\0",
        b"ID3\x04",
        b"\0\0\0\x20ftypM4A ",
        b"#!AMR\n",
        _MP3_FRAME * 2,
        _ADTS_FRAME * 2,
    ],
)
def test_audio_files_are_told_by_their_signature(data: bytes) -> None:
    assert kind_of(data) == "file"


def test_bytes_without_a_signature_are_headerless_pcm() -> None:
    assert kind_of(hummed(100, 200).tobytes()) == "pcm"
    assert kind_of(bytes(3200)) == "pcm"


def test_a_sample_that_looks_like_an_mp3_sync_does_not_make_pcm_a_file() -> None:
    assert kind_of(_MP3_FRAME[:4] + hummed(100, 200).tobytes()) == "pcm"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "empty"),
        (b"\x89PNG\r\n\x1a\n....", "PNG"),
        (b"%PDF-1.7 ", "PDF"),
        (b"PK\x03\x04....", "ZIP"),
        (b"this is a letter, not a call", "text"),
        (b"\x01\x02\x03", "16-bit"),
    ],
)
def test_what_is_no_audio_is_refused_by_name(data: bytes, said: str) -> None:
    with pytest.raises(NotAudio, match=said):
        kind_of(data)


@given(st.binary(max_size=64))
def test_any_bytes_have_a_kind_or_are_refused(data: bytes) -> None:
    try:
        assert kind_of(data) in ("file", "pcm")
    except NotAudio as fault:
        assert str(fault).startswith("it ")


def _reader(max_audio_s: float = 60) -> RecordingReader:
    return RecordingReader(WavDecoder(), max_audio_s=max_audio_s)


LEFT, RIGHT = hummed(100, 1000), hummed(200, 1000)


async def test_a_split_recording_gives_left_then_right() -> None:
    channels = await _reader().channels(wav(LEFT, RIGHT), "file", 16000, split=True)
    assert channels.rate_hz == 8000
    assert channels.duration_ms == 1000
    assert np.array_equal(channels.samples[0], LEFT)
    assert np.array_equal(channels.samples[1], RIGHT)


async def test_an_unsplit_recording_is_mixed_into_one() -> None:
    channels = await _reader().channels(wav(LEFT, LEFT), "file", 16000, split=False)
    assert len(channels.samples) == 1
    assert np.array_equal(channels.samples[0], LEFT)


async def test_headerless_pcm_has_the_rate_asked_and_interleaves_when_split() -> None:
    mono = await _reader().channels(LEFT.tobytes(), "pcm", 16000, split=False)
    assert (mono.rate_hz, mono.duration_ms) == (16000, 500)
    stereo = await _reader().channels(np.stack([LEFT, RIGHT], axis=1).tobytes() + b"\1\2", "pcm", 8000, split=True)
    assert np.array_equal(stereo.samples[1], RIGHT)


async def test_other_rates_become_16_khz() -> None:
    channels = await _reader().channels(wav(recording([(100, 1000)], 44100), rate_hz=44100), "file", 8000, split=False)
    assert channels.rate_hz == 16000
    assert abs(channels.duration_ms - 1000) <= 1


@pytest.mark.parametrize(
    ("data", "split", "said"),
    [
        (wav(LEFT), True, "is_split_channel needs two channels, the recording has 1"),
        (wav(np.zeros(0, np.int16)), False, "holds no audio"),
        (b"RIFF and nothing", False, "not a WAV"),
        (wav(np.zeros(8000 * 61, np.int16)), False, "longer than 60 s"),
    ],
)
async def test_a_recording_that_cannot_be_judged_says_why(data: bytes, split: bool, said: str) -> None:
    with pytest.raises(UnusableRecording, match=said):
        await _reader().channels(data, "file", 8000, split=split)


async def test_a_kept_recording_is_read_back_and_deleted_for_good(tmp_path: Path) -> None:
    folder = AudioFolder(tmp_path / "quality")
    name = await folder.keep(b"sound")
    assert await folder.read(name) == b"sound"
    await folder.delete(name)
    await folder.delete(name)
    with pytest.raises(FileNotFoundError):
        await folder.read(name)


async def test_a_copy_leaves_the_original_alone(tmp_path: Path) -> None:
    original = tmp_path / "call.wav"
    original.write_bytes(b"sound")
    folder = AudioFolder(tmp_path / "quality")
    await folder.delete(await folder.keep_copy(original))
    assert original.read_bytes() == b"sound"


def made_old(path: Path) -> None:
    long_ago_s = time.time() - 2 * SWEPT_AFTER_S
    os.utime(path, (long_ago_s, long_ago_s))


async def test_a_sweep_deletes_what_a_stopped_process_left_and_nothing_else(tmp_path: Path) -> None:
    before = AudioFolder(tmp_path)
    orphan, needed = await before.keep(b"orphan"), await before.keep(b"needed")
    foreign = tmp_path / "letter.txt"
    foreign.write_text("put here by somebody else")
    for path in (tmp_path / orphan, tmp_path / needed, foreign):
        made_old(path)
    fresh = await before.keep(b"not on record yet, by another process")
    after = AudioFolder(tmp_path)
    assert await after.sweep(frozenset({needed})) == 1
    assert await after.read(needed) == b"needed"
    assert await after.read(fresh)
    assert foreign.exists()
    with pytest.raises(FileNotFoundError):
        await after.read(orphan)


async def test_a_recording_that_cannot_be_written_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    folder = AudioFolder(tmp_path)
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        await folder.keep(b"sound")
    monkeypatch.undo()
    assert os.listdir(tmp_path) == []  # noqa: PTH208


@pytest.mark.parametrize("split", [True, False])
async def test_of_a_long_recording_no_more_than_one_copy_is_made(split: bool) -> None:
    async def progressed(percent: int) -> None:
        """Nobody watches."""

    size_bytes = 2 * 2 * 8000 * 300
    file = wav(*[np.zeros(8000 * 300, np.int16)] * 2)
    tracemalloc.start()
    try:
        channels = await RecordingReader(WavDecoder(), max_audio_s=3600).channels(file, "file", 8000, split=split)
        await Transcriber(PitchRecognizer(), None, FixedClock()).transcribe(channels, "zh", "key", progressed)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Mixing makes a channel of two, beside them.
    assert peak_bytes < size_bytes * (1.2 if split else 1.9)
