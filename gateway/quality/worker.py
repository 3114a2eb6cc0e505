"""The work of voice QC: jobs claimed from the durable queue, each finished once whatever is killed in between."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec
import structlog

from gateway.ports import QualityJob, QualityTasks, RuleSource, Unavailable
from gateway.quality.audio import AudioFolder, RecordingReader, UnusableRecording
from gateway.quality.judgement import detection
from gateway.quality.order import decoded
from gateway.quality.statistics import described, silence_ms, whole_seconds
from gateway.quality.transcribe import Transcriber
from protocol.quality_result import TaskState, result_object
from protocol.rules import RuleSetError

MAX_ATTEMPTS = 10
"""A job that kills its process or finds no engine this often is given up."""
LONGEST_PAUSE_S = 60.0

_log = structlog.get_logger(__name__)


class _ReplacedError(Exception):
    """The session was submitted anew while this job ran; nobody waits for its answer."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    state: TaskState
    reason: str = ""
    result: bytes | None = None


class QualityWorker:
    """Does the jobs of one queue, `tasks_at_once` at a time. Owned by whoever awaits `run`."""

    def __init__(
        self,
        tasks: QualityTasks,
        rules: RuleSource,
        folder: AudioFolder,
        reader: RecordingReader,
        transcriber: Transcriber,
        *,
        tasks_at_once: int = 1,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        finished: Callable[[], None] = lambda: None,
    ) -> None:
        """`finished` is called whenever a job has ended for good."""
        self._tasks = tasks
        self._rules = rules
        self._folder = folder
        self._reader = reader
        self._transcriber = transcriber
        self._tasks_at_once = tasks_at_once
        self._pause = pause
        self._finished = finished
        self._woken = asyncio.Event()
        self._stranded: set[str] = set()

    def wake(self) -> None:
        """Say that a job may be waiting."""
        self._woken.set()

    async def run(self) -> None:
        """Take up what a stopped process left, then work until cancelled; a job in hand goes back to the queue.

        At most one worker may run over a queue. A failing store is logged and tried again.
        """
        await self.recover()
        async with asyncio.TaskGroup() as group:
            for _ in range(self._tasks_at_once):
                group.create_task(self._work())

    async def recover(self) -> None:
        """Put unfinished jobs back and delete audio that no job needs."""
        requeued = await self._tasks.requeue_running()
        swept = await self._folder.sweep(await self._tasks.audio_in_use())
        if requeued or swept:
            _log.info("quality_recovered", requeued=requeued, audio_deleted=swept)

    async def work_until_idle(self) -> int:
        """Do every waiting job, one after another; how many were begun."""
        begun = 0
        for ticket in tuple(self._stranded):
            await self._tasks.release(ticket, counts=True)
            self._stranded.discard(ticket)
        while await self._work_one():
            begun += 1
        return begun

    async def _work(self) -> None:
        failures = 0
        while True:
            self._woken.clear()
            try:
                await self.work_until_idle()
            except Exception:
                failures += 1
                _log.exception("quality_store_failed", failures=failures)
                await self._pause(_backoff_s(failures))
            else:
                failures = 0
                await self._woken.wait()

    async def _work_one(self) -> bool:
        job = await self._tasks.claim()
        if job is None:
            return False
        try:
            await self._settle(job)
        except Exception:
            # The store failed, so the job still counts as running there: it goes back once the store works again.
            self._stranded.add(job.ticket)
            raise
        return True

    async def _settle(self, job: QualityJob) -> None:
        """Do the job and note how it ended, or put it back."""
        log = _log.bind(app_id=job.app_id, session_id=job.session_id, attempt=job.attempts)
        try:
            outcome = await self._outcome(job)
        except Unavailable as fault:
            log.warning("quality_engine_unavailable", reason=str(fault))
            await self._tasks.release(job.ticket, counts=True)
            await self._pause(fault.retry_after_s or _backoff_s(job.attempts))
        except _ReplacedError:
            log.info("quality_task_replaced")
        except asyncio.CancelledError:
            await self._tasks.release(job.ticket, counts=False)
            raise
        else:
            kept = await self._tasks.finish(job.ticket, outcome.state, outcome.reason, outcome.result)
            self._finished()
            await self._folder.delete(job.audio_name)
            log.info("quality_task_finished", state=int(outcome.state), reason=outcome.reason, kept=kept)

    async def _outcome(self, job: QualityJob) -> _Outcome:
        """How the job ends; everything that is the recording's or the code's fault ends it."""
        if job.attempts > MAX_ATTEMPTS:
            return _Outcome(TaskState.SERVICE_FAILED, f"given up after {MAX_ATTEMPTS} attempts")
        try:
            return _Outcome(TaskState.SUCCEEDED, result=await self._result(job))
        except (Unavailable, _ReplacedError):
            raise
        except UnusableRecording as fault:
            return _Outcome(TaskState.AUDIO_UNUSABLE, str(fault))
        except RuleSetError as fault:
            return _Outcome(TaskState.SERVICE_FAILED, f"a rule cannot be read: {fault}")
        except Exception:
            # A fault in our own code must not stop the queue: the trace is in the log, the caller learns of it.
            _log.exception("quality_task_failed", app_id=job.app_id, session_id=job.session_id)
            return _Outcome(TaskState.SERVICE_FAILED, "the service's log says why; submit the recording again")

    async def _result(self, job: QualityJob) -> bytes:
        async def progressed(percent: int) -> None:
            if not await self._tasks.advance(job.ticket, percent):
                raise _ReplacedError

        order = decoded(job.request)
        try:
            data = await self._folder.read(job.audio_name)
        except FileNotFoundError:
            await progressed(0)
            raise
        channels = await self._reader.channels(data, order.kind, order.sample_rate_hz, split=order.split)
        del data
        transcript = await self._transcriber.transcribe(channels, order.language, job.ticket, progressed)
        sentences = tuple(
            described(one, channels.samples[one.channel], channels.rate_hz) for one in transcript.utterances
        )
        version, categories = await self._rules.rules(job.app_id)
        answer = result_object(
            job.session_id,
            push=order.push_status,
            sentences=sentences,
            call_duration_s=whole_seconds(channels.duration_ms),
            silence_duration_s=whole_seconds(silence_ms(channels.duration_ms, transcript.speech)),
            detection=await asyncio.to_thread(detection, order, sentences, channels.duration_ms, version, categories),
        )
        return msgspec.json.encode(answer)


def _backoff_s(failures: int) -> float:
    return min(LONGEST_PAUSE_S, 2.0 ** min(failures, 10) / 2)
