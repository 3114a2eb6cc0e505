"""Listening to recordings, and what survives of it: with stand-ins for models, and real files and tables."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soxr

from gateway.ports import CallRecord, Embedding, Unavailable
from gateway.stores import calls, passages
from gateway.stores.calls import CallRecords
from gateway.stores.passage_audio import RecordedAudio
from gateway.stores.passages import SqlitePassages
from gateway.stores.recordings import Recordings
from gateway.stores.sqlite import Database
from gateway.voiceprint.bands import NARROW_EXCESS
from gateway.voiceprint.clip import Clip
from gateway.voiceprint.listening import Listener, Stretch, cut
from gateway.voiceprint.passage_index import Wanted
from gateway.voiceprint.passage_service import MAX_ATTEMPTS, PassageService
from tests.voices import RATE_HZ, PitchConfirmer, SpectrumEmbedder, clip, hiss, voice, wav

PAUSE = bytes(2 * RATE_HZ)
TALK = PAUSE + voice(3, seconds=3) + PAUSE + PAUSE + voice(5, seconds=3) + PAUSE


class StillClock:
    def monotonic(self) -> float:
        return 0.0

    def wall(self) -> float:
        return 1_700_000_000.0


@dataclass
class Stage:
    """One service and what it stands on."""

    folder: Path
    database: Database
    embedder: SpectrumEmbedder
    service: PassageService
    records: CallRecords
    audio: RecordedAudio

    async def has_ended(
        self, call_id: str, pcm: bytes, *segments: tuple[int, int], channels: int = 1, rate_hz: int = RATE_HZ
    ) -> None:
        (self.folder / "recordings").mkdir(exist_ok=True)
        (self.folder / "recordings" / f"{call_id}.wav").write_bytes(wav(pcm, rate_hz, channels))
        spoken = [{"channel": 0, "begin_ms": begin, "end_ms": end} for begin, end in segments]
        document = {"segments": spoken, "duration_ms": len(pcm) * 500 // (rate_hz * channels)}
        await self.records.save(CallRecord(call_id, "acme", "judging", 1_000_000, None, document))

    async def found(
        self, speaker: int, app_id: str = "acme", spaces: Sequence[str] = ("spectrum-64", "spectrum-64@8k")
    ) -> list[tuple[str, int, int]]:
        print_ = await SpectrumEmbedder().embed(voice(speaker, take=9, seconds=2), RATE_HZ)
        heard = await self.service.search(app_id, dict.fromkeys(spaces, print_), Wanted(10, least_cosine=0.9))
        return [(one.source.source_id, one.passage.begin_ms, one.passage.end_ms) for one in heard]


def stage_in(folder: Path) -> Stage:
    database = Database(folder / "earshot.db", [calls.SCHEMA, passages.SCHEMA])
    embedder, records = SpectrumEmbedder(), CallRecords(database)
    audio = RecordedAudio(folder, Recordings(folder))
    listener = Listener(embedder, PitchConfirmer())
    service = PassageService(SqlitePassages(database), audio, listener, records.left_behind, StillClock())
    return Stage(folder, database, embedder, service, records, audio)


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    one = stage_in(tmp_path)
    await one.service.start()
    yield one
    await one.service.close()
    one.database.close()


async def test_the_segments_of_a_call_are_indexed_once_and_found_by_their_voice(stage: Stage) -> None:
    await stage.has_ended("c1", TALK, (900, 4100), (5900, 9100))
    assert await stage.service.listen_to_one()
    assert not await stage.service.listen_to_one()
    assert await stage.found(3) == [("c1", 900, 4100)]
    assert await stage.found(5) == [("c1", 5900, 9100)]
    assert await stage.found(3, "rival") == []


async def test_a_process_that_starts_anew_goes_on_where_the_last_one_stopped(tmp_path: Path) -> None:
    first = stage_in(tmp_path)
    await first.has_ended("c1", TALK, (900, 4100))
    await first.has_ended("c2", TALK, (5900, 9100))
    assert await first.service.listen_to_one()
    first.database.close()  # and the process is gone, with a call it had not come to
    second = stage_in(tmp_path)
    await second.service.start()
    assert await second.found(3) == [("c1", 900, 4100)]
    assert await second.service.listen_to_one()
    assert await second.found(5) == [("c2", 5900, 9100)]
    second.database.close()


async def test_short_quiet_clipped_and_speechless_segments_are_left_out(stage: Stage) -> None:
    loud = np.frombuffer(voice(3, seconds=3), "<i2").astype(np.int32) * 8
    clipped = np.clip(loud, -32768, 32767).astype("<i2").tobytes()
    faint = (np.frombuffer(voice(3, seconds=3), "<i2") // 400).astype("<i2").tobytes()
    pcm = voice(3, seconds=3) + hiss(3) + clipped + faint
    await stage.has_ended("c1", pcm, (0, 900), (3000, 6000), (6000, 9000), (9000, 12000), (500, 2800))
    await stage.service.listen_to_one()
    assert await stage.found(3) == [("c1", 500, 2800)]
    assert len(stage.service) == 1


async def test_a_file_is_cut_into_passages_where_it_holds_speech(stage: Stage) -> None:
    source = await stage.service.add_file("acme", "talk.wav", clip(TALK))
    assert stage.service.progress(source) == 0
    await stage.service.listen_to_one()
    ((file_id, begin_ms, end_ms),) = await stage.found(5)
    assert file_id == source.source_id
    assert [begin_ms, end_ms] == pytest.approx([6000, 9000], abs=140)
    indexed = await stage.service.file("acme", file_id)
    assert indexed is not None
    assert (indexed.state, indexed.passages, stage.service.progress(indexed)) == ("indexed", 2, 1.0)
    assert await stage.service.file("rival", file_id) is None


async def test_every_channel_is_heard_at_any_rate(stage: Stage) -> None:
    left, right = (np.frombuffer(voice(n, seconds=3, rate_hz=44100), "<i2") for n in (3, 5))
    quiet = np.zeros_like(left)
    stereo = np.stack([np.concatenate([left, quiet]), np.concatenate([quiet, right])], axis=1)
    await stage.service.add_file("acme", "two.wav", Clip(stereo.astype("<i2").tobytes(), 44100, 2))
    await stage.service.listen_to_one()
    ((_, first, _),) = await stage.found(3)
    ((_, second, _),) = await stage.found(5)
    assert [first, second] == pytest.approx([0, 3000], abs=140)


async def test_a_recording_that_is_not_there_is_given_up_with_its_reason(stage: Stage) -> None:
    await stage.records.save(CallRecord("gone", "acme", "judging", 0, None, {"segments": []}))
    await stage.has_ended("c1", TALK, (900, 4100))
    while await stage.service.listen_to_one():
        pass
    failed = await stage.service.linked("gone")
    assert failed is not None
    assert (failed.state, "gone.wav" in failed.reason) == ("failed", True)
    assert await stage.found(3) == [("c1", 900, 4100)]


async def test_a_file_that_is_no_wav_is_given_up(stage: Stage) -> None:
    await stage.has_ended("c1", TALK, (900, 4100))
    (stage.folder / "recordings" / "c1.wav").write_bytes(b"RIFF of sorts")
    assert await stage.service.listen_to_one()
    failed = await stage.service.linked("c1")
    assert failed is not None
    assert failed.state == "failed"


async def test_an_engine_that_is_away_costs_time_and_nothing_else(stage: Stage) -> None:
    await stage.has_ended("c1", TALK, (900, 4100))
    stage.embedder.failure = Unavailable("engine embedder is being restarted")
    for _ in range(MAX_ATTEMPTS):
        with pytest.raises(Unavailable):
            await stage.service.listen_to_one()
    stage.embedder.failure = None
    assert await stage.service.listen_to_one()
    assert await stage.found(3) == [("c1", 900, 4100)]


async def test_what_fails_too_often_is_given_up(stage: Stage) -> None:
    await stage.has_ended("c1", TALK, (900, 4100))
    stage.embedder.failure = Unavailable("it crashes the engine")
    for _ in range(MAX_ATTEMPTS):
        with pytest.raises(Unavailable):
            await stage.service.listen_to_one()
    assert await stage.service.listen_to_one()
    failed = await stage.service.linked("c1")
    assert failed is not None
    assert (failed.state, failed.reason) == ("failed", "it crashes the engine")
    assert not await stage.service.listen_to_one()


class HeldEmbedder(SpectrumEmbedder):
    """Answers once it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.free = asyncio.Event(), asyncio.Event()

    async def embed(self, pcm: bytes, rate_hz: int) -> Embedding:
        self.asked.set()
        await self.free.wait()
        return await super().embed(pcm, rate_hz)


async def test_a_file_deleted_while_it_is_listened_to_leaves_nothing(stage: Stage) -> None:
    held = HeldEmbedder()
    stage.service._listener._embedder = held
    source = await stage.service.add_file("acme", "talk.wav", clip(PAUSE + voice(3, seconds=3) + PAUSE))
    listening = asyncio.create_task(stage.service.listen_to_one())
    await held.asked.wait()
    assert await stage.service.forget("acme", source.source_id)
    held.free.set()
    await listening
    assert (len(stage.service), await stage.service.linked(source.source_id)) == (0, None)
    assert list(await stage.audio.file_ids()) == []


async def test_a_call_deleted_behind_our_back_is_not_answered_and_then_forgotten(stage: Stage) -> None:
    await stage.has_ended("c1", TALK, (900, 4100))
    await stage.service.listen_to_one()
    await stage.database.run(lambda one: one.execute("DELETE FROM calls"))
    assert await stage.found(3) == []
    assert len(stage.service) == 0


async def test_audio_that_no_record_names_is_deleted_at_the_start(tmp_path: Path) -> None:
    first = stage_in(tmp_path)
    await first.audio.keep("orphan", TALK, RATE_HZ, 1)
    kept = await first.service.add_file("acme", "talk.wav", clip(TALK))
    first.database.close()
    second = stage_in(tmp_path)
    await second.service.start()
    assert list(await second.audio.file_ids()) == [kept.source_id]
    second.database.close()


@pytest.mark.parametrize(("length_ms", "pieces"), [(900, 1), (5000, 1), (5001, 2), (20_000, 4)])
def test_a_segment_is_cut_into_equal_pieces_without_gaps(length_ms: int, pieces: int) -> None:
    parts = list(cut(Stretch(1, 300, 300 + length_ms)))
    assert len(parts) == pieces
    assert (parts[0].begin_ms, parts[-1].end_ms) == (300, 300 + length_ms)
    assert [one.end_ms for one in parts[:-1]] == [one.begin_ms for one in parts[1:]]
    lengths = {one.end_ms - one.begin_ms for one in parts}
    assert max(lengths) - min(lengths) <= 1


async def test_a_recording_is_searched_by_the_print_of_its_own_band(stage: Stage) -> None:
    await stage.has_ended("full", voice(1, seconds=3), (0, 3000))
    await stage.has_ended("line", voice(1, seconds=3, rate_hz=8000), (0, 3000), rate_hz=8000)
    resampled = soxr.resample(np.frombuffer(voice(1, seconds=3, rate_hz=8000), "<i2").astype(np.float32), 8000, RATE_HZ)
    await stage.has_ended("resampled", resampled.astype("<i2").tobytes(), (0, 3000))
    while await stage.service.listen_to_one():
        pass
    assert [one[0] for one in await stage.found(1, spaces=["spectrum-64"])] == ["full"]
    assert sorted(one[0] for one in await stage.found(1, spaces=["spectrum-64@8k"])) == ["line", "resampled"]
    assert len(await stage.found(1)) == 3


async def test_scores_of_lines_are_told_on_the_scale_of_the_wide_band(stage: Stage) -> None:
    await stage.has_ended("line", voice(1, seconds=3, rate_hz=8000), (0, 3000), rate_hz=8000)
    await stage.service.listen_to_one()
    print_ = await SpectrumEmbedder().embed(voice(1, seconds=3, rate_hz=8000), 8000)
    (heard,) = await stage.service.search("acme", {"spectrum-64@8k": print_}, Wanted(1))
    assert heard.passage.cosine == pytest.approx(1 - NARROW_EXCESS, abs=0.01)
    assert not await stage.service.search("acme", {"spectrum-64@8k": print_}, Wanted(1, least_cosine=0.97))
