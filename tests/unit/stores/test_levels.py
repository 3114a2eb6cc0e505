"""Levels: the loudest sample of each step, however the audio lies in files."""

import math
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.ports.levels import LevelsAsked
from gateway.stores import levels
from gateway.stores.journal import JournalLimits
from gateway.stores.journal_reading import JournalReader
from gateway.stores.levels import MOST_STEPS, StoredLevels, levels_of_wav
from gateway.stores.recordings import Recordings
from gateway.stores.sealing import wav_header
from tests.unit.stores.test_journal import HEADER, journal_in, pcm

RATES_HZ = (8000, 16000, 48000)


def recording(folder: Path, samples: "np.ndarray[tuple[int, int], np.dtype[np.int16]]", rate_hz: int) -> Path:
    path = folder / "call.wav"
    data = samples.astype("<i2").tobytes()
    path.write_bytes(wav_header(rate_hz, samples.shape[1], len(data)) + data)
    return path


def db(samples: "np.ndarray[tuple[int], np.dtype[np.int16]]") -> int:
    peak = max((abs(int(sample)) for sample in samples), default=0)
    return max(-90, round(20 * math.log10(peak / 32768))) if peak else -90


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rate_hz=st.sampled_from(RATES_HZ),
    channels=st.sampled_from([1, 2]),
    duration_ms=st.integers(0, 900),
    step_ms=st.integers(10, 250),
    edges=st.tuples(st.integers(0, 1000), st.none() | st.integers(0, 1200)),
    seed=st.integers(0, 1000),
)
def test_each_step_tells_its_loudest_sample(
    tmp_path: Path,
    rate_hz: int,
    channels: int,
    duration_ms: int,
    step_ms: int,
    edges: tuple[int, int | None],
    seed: int,
) -> None:
    from_ms, to_ms = edges
    count = duration_ms * rate_hz // 1000
    samples = np.random.default_rng(seed).integers(-32768, 32768, (count, channels)).astype(np.int16)
    samples[:: 1 + seed] //= 100
    told = levels_of_wav(recording(tmp_path, samples, rate_hz), LevelsAsked(step_ms, from_ms, to_ms))
    assert (told.step_ms, told.duration_ms) == (step_ms, duration_ms)
    assert told.from_ms % step_ms == 0
    assert from_ms - step_ms < told.from_ms <= from_ms
    end_ms = duration_ms if to_ms is None else min(to_ms, duration_ms)
    assert len(told.channels) == channels
    per_ms = rate_hz // 1000
    for channel, found in enumerate(told.channels):
        begins = range(told.from_ms, end_ms, step_ms) if end_ms > from_ms else range(0)
        assert found == [db(samples[at * per_ms : (at + step_ms) * per_ms, channel]) for at in begins]


def test_a_long_recording_is_told_in_coarser_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(levels, "MOST_STEPS", 10)
    samples = np.zeros((8000, 1), np.int16)
    samples[7999] = 32767
    told = levels_of_wav(recording(tmp_path, samples, 8000), LevelsAsked(20))
    assert told.step_ms % 20 == 0
    assert len(told.channels[0]) <= 10
    assert told.channels[0][-1] == 0
    assert set(told.channels[0][:-1]) == {-90}
    assert MOST_STEPS == 36_000


async def test_a_running_call_is_told_from_its_journal_as_its_recording_is_later(tmp_path: Path) -> None:
    small = JournalLimits(commit_interval_ms=1, segment_bytes=3000)
    audio = pcm(5000)
    recordings = Recordings(tmp_path)
    async with journal_in(tmp_path, small) as journal:
        reader = StoredLevels(journal.reader, recordings)
        assert await reader.running("call", LevelsAsked(10)) is None
        journal.open_call("call", HEADER)
        position, at = 0, 0
        cuts = random.Random(1)
        while at < 5000:
            end = min(5000, at + cuts.randrange(1, 400))
            position = journal.append_audio("call", at, audio[2 * at : 2 * end])
            await journal.synced(position)
            at = end
        live = await reader.running("call", LevelsAsked(10))
        late = await reader.running("call", LevelsAsked(10, from_ms=200, to_ms=300))
        assert await reader.recorded("call", LevelsAsked(10)) is None
        await journal.seal("call")
        sealed = await reader.recorded("call", LevelsAsked(10))
        assert live is not None
        assert live == sealed
        assert late is not None
        assert late.channels[0] == live.channels[0][20:30]
        await journal.release("call")
        assert await reader.running("call", LevelsAsked(10)) is None


async def test_a_part_of_the_journal_that_goes_away_while_it_is_read_is_looked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with journal_in(tmp_path, JournalLimits(commit_interval_ms=1)) as journal:
        journal.open_call("call", HEADER)
        await journal.synced(journal.append_audio("call", 0, pcm(800)))
        where = JournalReader.audio_of
        asked = 0

        def stale_at_first(self: JournalReader, call_id: str) -> object:
            nonlocal asked
            asked += 1
            found = where(self, call_id)
            assert found is not None
            return (found[0], {tmp_path / "gone.log": [(0, 100)]}) if asked == 1 else found

        monkeypatch.setattr(JournalReader, "audio_of", stale_at_first)
        told = await StoredLevels(journal.reader, Recordings(tmp_path)).running("call", LevelsAsked(100))
        assert told is not None
        assert told.duration_ms == 100
        assert asked == 2
