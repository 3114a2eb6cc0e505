"""The queue's work: each task finished once, whatever is killed, replaced or unavailable in between."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from gateway.ports import QualityJob, QualityTask, Rejected, TranscribeRequest, Transcription, Unavailable
from gateway.quality.worker import MAX_ATTEMPTS
from gateway.stores.quality import LEASE_S
from protocol.quality import parse_task
from tests.quality_world import APP, OTHER_APP, TWO_PARTIES, PitchRecognizer, QualityWorld, encoded, recording, wav


async def _submit(world: QualityWorld, session_id: str = "s", data: bytes = TWO_PARTIES, **more: Any) -> None:
    fields = {"session_id": session_id, "pid": 80006, "speech_data": encoded(data), "is_split_channel": True} | more
    await world.service.submit(APP, parse_task(fields))


def _audio_files(world: QualityWorld) -> int:
    return len(list(world.audio_path.iterdir()))


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_task_goes_from_queued_to_success_and_its_audio_is_deleted(world: QualityWorld) -> None:
    await _submit(world)
    assert await world.service.status(APP, "s") == {
        "push_status_desc": "未设置回调",
        "session_id": "s",
        "state": 0,
        "state_desc": "任务已提交，排队等待中",
        "progress": 0,
    }
    assert _audio_files(world) == 1
    assert await world.worker.work_until_idle() == 1
    assert _audio_files(world) == 0
    result = await world.service.status(APP, "s")
    assert (result["state"], result["state_desc"]) == (2, "处理成功")
    assert result["asr_text"] == "你好，这里是客服。 我要退款，现在缺货。"
    assert (result["call_duration"], result["silence_duration"]) == (6, 2)
    left, right = result["asr_result"]
    assert (left["speaker_id"], left["end_time"]) == (0, 2)
    assert (right["speaker_id"], right["begin_time"], right["end_time"]) == (1, 3, 5)
    assert abs(left["begin_ms"] - 500) < 50


async def test_recordings_are_recognised_in_full_quality_and_after_live_calls(world: QualityWorld) -> None:
    await _submit(world, language="zh")
    await world.worker.work_until_idle()
    for request in world.recognizer.requests:
        assert request.kind == "recording"
        assert request.language == "zh"
        assert request.deadline_s >= world.clock.monotonic() + 30
    assert len({request.key for request in world.recognizer.requests}) == 2


async def test_a_running_task_says_so_with_its_progress(tmp_path: Path) -> None:
    class Second(PitchRecognizer):
        async def transcribe(self, request: TranscribeRequest) -> Transcription | None:
            if self.requests:
                seen.append(await world.service.status(APP, "s"))
            return await super().transcribe(request)

    seen: list[dict[str, Any]] = []
    world = QualityWorld(tmp_path, recognizer=Second())
    await _submit(world)
    await world.worker.work_until_idle()
    world.close()
    assert (seen[0]["state"], seen[0]["state_desc"]) == (1, "执行中")
    assert 0 < seen[0]["progress"] < 100


async def test_a_task_killed_midway_is_taken_over_and_finishes_once(tmp_path: Path) -> None:
    """The process dies without a chance to put the task back: its row says running."""
    killed = QualityWorld(tmp_path, recognizer=PitchRecognizer(gate=asyncio.Event()))
    await _submit(killed)
    assert await killed.tasks.claim("another worker") is not None
    killed.close()
    world = QualityWorld(tmp_path)
    assert (await world.service.status(APP, "s"))["state"] == 1
    await world.worker.recover()
    assert await world.worker.work_until_idle() == 0, "it may be alive"
    world.clock.seconds += LEASE_S
    assert await world.worker.work_until_idle() == 1
    assert (await world.service.status(APP, "s"))["state"] == 2
    assert await world.worker.work_until_idle() == 0
    world.close()


async def test_a_stopped_service_puts_its_task_back_and_the_next_one_finishes_it(tmp_path: Path) -> None:
    stopped = QualityWorld(tmp_path, recognizer=PitchRecognizer(gate=asyncio.Event()))
    running = asyncio.create_task(stopped.worker.run())
    await _submit(stopped)
    await stopped.recognizer.begun.wait()
    await _cancelled(running)
    assert (await stopped.service.status(APP, "s"))["state"] == 0
    stopped.close()
    world = QualityWorld(tmp_path)
    await world.worker.recover()
    job = await world.tasks.claim("w")
    assert job is not None
    assert job.attempts == 1
    await world.tasks.release(job, counts=False)
    await world.worker.work_until_idle()
    assert (await world.service.status(APP, "s"))["state"] == 2
    world.close()


async def test_the_running_worker_wakes_for_a_task_that_comes_later(tmp_path: Path) -> None:
    world = QualityWorld(tmp_path)
    running = asyncio.create_task(world.worker.run())
    await _submit(world)
    await world.recognizer.begun.wait()
    await _cancelled(running)
    world.close()


async def test_a_repeated_session_overwrites_the_task_that_waits(world: QualityWorld) -> None:
    await _submit(world)
    await _submit(world, data=wav(recording([(200, 2000)])), is_split_channel=False)
    assert _audio_files(world) == 1
    assert await world.worker.work_until_idle() == 1
    assert (await world.service.status(APP, "s"))["asr_text"] == "会议开始。"


async def test_a_repeated_session_overwrites_the_task_that_runs(tmp_path: Path) -> None:
    answer = asyncio.Event()
    world = QualityWorld(tmp_path, recognizer=PitchRecognizer(gate=answer))
    await _submit(world)
    working = asyncio.create_task(world.worker.work_until_idle())
    await world.recognizer.begun.wait()
    await _submit(world, data=wav(recording([(200, 2000)])), is_split_channel=False)
    assert (await world.service.status(APP, "s"))["state"] == 0
    answer.set()
    assert await working == 2
    assert (await world.service.status(APP, "s"))["asr_text"] == "会议开始。"
    # The replaced task had a second piece; nobody waited for it any more.
    assert len(world.recognizer.requests) == 2
    assert _audio_files(world) == 0
    world.close()


async def test_a_repeated_session_overwrites_the_task_that_is_done(world: QualityWorld) -> None:
    await _submit(world)
    await world.worker.work_until_idle()
    await _submit(world, data=wav(recording([(200, 2000)])), is_split_channel=False)
    assert (await world.service.status(APP, "s"))["state"] == 0
    await world.worker.work_until_idle()
    assert (await world.service.status(APP, "s"))["asr_text"] == "会议开始。"


async def test_an_unavailable_engine_delays_the_task_and_loses_nothing(world: QualityWorld) -> None:
    world.recognizer.failures = [Unavailable("restarting", retry_after_s=7.0), Unavailable("restarting")]
    await _submit(world)
    assert await world.worker.work_until_idle() == 3
    assert world.pauses == [7.0, 2.0]
    assert (await world.service.status(APP, "s"))["state"] == 2


async def _billed_ms(world: QualityWorld) -> int:
    def work(db: sqlite3.Connection) -> int:
        return int(db.execute("SELECT COALESCE(SUM(amount), 0) FROM usage WHERE product = 'quality_ms'").fetchone()[0])

    return await world.database.run(work)


async def test_what_is_billed_is_the_speech_of_both_channels_and_only_of_success(world: QualityWorld) -> None:
    await _submit(world)
    await world.worker.work_until_idle()
    speech_ms = await _billed_ms(world)
    assert abs(speech_ms - (1500 + 2000)) < 400, "left plus right, without the silence"
    await _submit(world, "mono", is_split_channel=False)
    await world.worker.work_until_idle()
    assert abs(await _billed_ms(world) - speech_ms - 3500) < 400
    before = await _billed_ms(world)
    await _submit(world, "broken", b"RIFF" + bytes(99))
    await _submit(world, "silent", wav(recording([(0, 3000)])), is_split_channel=False)
    await world.worker.work_until_idle()
    assert await _billed_ms(world) == before


async def test_a_task_replaced_while_it_runs_is_billed_for_its_latest_submission_only(tmp_path: Path) -> None:
    answer = asyncio.Event()
    world = QualityWorld(tmp_path, recognizer=PitchRecognizer(gate=answer))
    await _submit(world, is_split_channel=False)
    working = asyncio.create_task(world.worker.work_until_idle())
    await world.recognizer.begun.wait()
    await _submit(world, data=wav(recording([(200, 2000)])), is_split_channel=False)
    answer.set()
    assert await working == 2
    assert abs(await _billed_ms(world) - 2000) < 400
    world.close()


async def test_a_worker_that_was_taken_over_neither_finishes_nor_deletes_what_the_other_needs(tmp_path: Path) -> None:
    answer = asyncio.Event()
    slow, quick = QualityWorld(tmp_path, recognizer=PitchRecognizer(gate=answer)), QualityWorld(tmp_path)
    await _submit(slow, is_split_channel=False)
    sleeping = asyncio.create_task(slow.worker.work_until_idle())
    await slow.recognizer.begun.wait()
    for world in (slow, quick):
        world.clock.seconds += LEASE_S
    taken = await quick.tasks.claim("quick")
    assert taken is not None
    assert taken.attempts == 2
    answer.set()
    await sleeping
    assert (await quick.service.status(APP, "s"))["state"] == 1
    assert _audio_files(quick) == 1
    await quick.tasks.release(taken, counts=True)
    assert await quick.worker.work_until_idle() == 1
    assert (await slow.service.status(APP, "s"))["state"] == 2
    slow.close()
    quick.close()


async def test_a_worker_whose_job_is_gone_stops_in_the_middle_of_a_recording(tmp_path: Path) -> None:
    """It hears of that by its heartbeat: the engine never answers."""
    world = QualityWorld(tmp_path, recognizer=PitchRecognizer(gate=asyncio.Event()), heartbeat_s=0)
    await _submit(world)
    working = asyncio.create_task(world.worker.work_until_idle())
    await world.recognizer.begun.wait()
    await world.database.run(lambda db: db.execute("DELETE FROM quality_tasks"))
    assert await working == 1
    world.close()


async def test_a_job_that_takes_longer_than_a_lease_stays_with_its_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, renewed = asyncio.Event(), asyncio.Event()
    world = QualityWorld(tmp_path, recognizer=PitchRecognizer(gate=answer), heartbeat_s=0)
    renew = world.tasks.renew

    async def watched(job: QualityJob) -> bool:
        kept = await renew(job)
        renewed.set()
        return kept

    monkeypatch.setattr(world.tasks, "renew", watched)
    await _submit(world, is_split_channel=False)
    working = asyncio.create_task(world.worker.work_until_idle())
    await world.recognizer.begun.wait()
    for _ in range(5):
        world.clock.seconds += 0.9 * LEASE_S
        for _ in range(2):  # the first may have been under way already
            renewed.clear()
            await renewed.wait()
        assert await world.tasks.claim("another") is None
    answer.set()
    assert await working == 1
    assert (await world.service.status(APP, "s"))["state"] == 2
    world.close()


async def test_a_task_is_given_up_after_ten_attempts(world: QualityWorld) -> None:
    world.recognizer.failures = [Unavailable("gone") for _ in range(MAX_ATTEMPTS)]
    await _submit(world)
    await world.worker.work_until_idle()
    result = await world.service.status(APP, "s")
    assert (result["state"], result["state_desc"]) == (4, "处理失败，服务内部错误：given up after 10 attempts")
    assert _audio_files(world) == 0


async def test_audio_that_cannot_be_used_fails_with_the_reason(world: QualityWorld) -> None:
    await _submit(world, data=wav(recording([(100, 1000)])))
    await world.worker.work_until_idle()
    result = await world.service.status(APP, "s")
    assert result["state"] == 3
    assert result["state_desc"].startswith("处理失败，音频无法使用：is_split_channel needs two channels")


async def test_a_fault_of_ours_fails_the_task_and_the_queue_goes_on(world: QualityWorld) -> None:
    world.recognizer.failures = [ZeroDivisionError("ours")]
    await _submit(world, "first")
    await _submit(world, "second")
    await world.worker.work_until_idle()
    assert (await world.service.status(APP, "first"))["state"] == 4
    assert (await world.service.status(APP, "second"))["state"] == 2


async def test_a_failing_store_strands_no_task(world: QualityWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    await _submit(world)

    async def full(*_: object, **__: object) -> bool:
        raise Unavailable("database or disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(world.tasks, "finish", full)
        with pytest.raises(Unavailable):
            await world.worker.work_until_idle()
    assert await world.worker.work_until_idle() == 1
    assert (await world.service.status(APP, "s"))["state"] == 2


async def test_the_running_worker_outlives_a_failing_store(
    world: QualityWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim, failures = world.tasks.claim, [Unavailable("locked"), Unavailable("locked")]

    async def locked_at_first(worker: str) -> QualityJob | None:
        if failures:
            raise failures.pop()
        return await claim(worker)

    monkeypatch.setattr(world.tasks, "claim", locked_at_first)
    running = asyncio.create_task(world.worker.run())
    await _submit(world)
    await world.recognizer.begun.wait()
    await _cancelled(running)
    assert world.pauses == [1.0, 2.0]


async def test_a_task_is_judged_by_the_rules_of_its_app(world: QualityWorld) -> None:
    await world.add_rules(("退款", ("退款&&你好",)))
    await world.add_rules(("问候", ("你好",)), app_id=OTHER_APP)
    await _submit(world, enable_detection=True)
    await world.worker.work_until_idle()
    result = await world.service.status(APP, "s")
    assert result["pass_detection"] == "failed"
    assert [one["category"] for one in result["detection_result"]] == ["退款"]


async def test_silence_gives_an_empty_transcript(world: QualityWorld) -> None:
    await _submit(world, data=wav(recording([(0, 3000)])), is_split_channel=False)
    await world.worker.work_until_idle()
    result = await world.service.status(APP, "s")
    assert (result["asr_text"], result["asr_result"], result["silence_duration"]) == ("", [], 3)
    assert world.recognizer.requests == []


async def test_the_gateways_own_call_keeps_its_recording(world: QualityWorld, tmp_path: Path) -> None:
    path = tmp_path / "call.wav"
    path.write_bytes(TWO_PARTIES)
    await world.service.create(QualityTask("s", APP, path, 8000, 2, "auto", ()))
    await world.worker.work_until_idle()
    answer = await world.service.result(APP, "s")
    assert answer.done
    assert answer.succeeded
    assert path.read_bytes() == TWO_PARTIES


async def test_a_missing_recording_is_rejected(world: QualityWorld, tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="no recording"):
        await world.service.create(QualityTask("s", APP, tmp_path / "none.wav", 8000, 2, "auto", ()))
