"""The work of voice QC: jobs claimed from the durable queue, each finished once whatever is killed in between."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import msgspec
import structlog

from gateway.ports import QualityJob, QualityTasks, RuleSource, Unavailable
from gateway.quality.audio import AudioFolder, RecordingReader, UnusableRecording
from gateway.quality.judgement import detection
from gateway.quality.order import decoded
from gateway.quality.speaker_names import SpeakerNames, Whose
from gateway.quality.statistics import described, silence_ms, spoken_ms, whole_seconds
from gateway.quality.transcribe import Transcriber
from protocol.quality_result import TaskState, result_object
from protocol.rules import RuleSetError

MAX_ATTEMPTS = 10
"""A job that kills its process or finds no engine this often is given up."""
LONGEST_PAUSE_S = 60.0
HEARTBEAT_S = 10.0
"""How often a job's claim is renewed while the job runs: three times in a lease."""
POLL_S = 1.0
"""How often the queue is looked at for jobs that another process has put there, or has lost."""
SWEEP_EVERY_S = 3600.0

_log = structlog.get_logger(__name__)


class _LostError(Exception):
    """The claim is no longer this job's: the session was submitted anew, or another worker has taken over."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    state: TaskState
    reason: str = ""
    result: bytes | None = None
    billed_ms: int = 0


class Watcher(Protocol):
    """Whoever wants to see the work go on. Nothing it does may wait or raise."""

    def begun(self, job: QualityJob) -> None: ...

    def advanced(self, job: QualityJob, progress_percent: int) -> None: ...

    def ended(self, job: QualityJob, state: TaskState | None) -> None:
        """`state` is None for a job that was put back or lost."""


class _Nobody:
    def begun(self, job: QualityJob) -> None: ...

    def advanced(self, job: QualityJob, progress_percent: int) -> None: ...

    def ended(self, job: QualityJob, state: TaskState | None) -> None: ...


class QualityWorker:
    """Does jobs of a queue, `tasks_at_once` at a time. Owned by whoever awaits `run`; others may work beside it."""

    def __init__(
        self,
        tasks: QualityTasks,
        rules: RuleSource,
        folder: AudioFolder,
        reader: RecordingReader,
        transcriber: Transcriber,
        *,
        name: str = "worker",
        tasks_at_once: int = 1,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        finished: Callable[[], None] = lambda: None,
        watcher: Watcher | None = None,
        heartbeat_s: float = HEARTBEAT_S,
        names: SpeakerNames | None = None,
    ) -> None:
        """`name`: no other process that works on the queue has it. `finished` is called when a job ended for good.

        Without `names` no speaker is named.
        """
        self._tasks = tasks
        self._rules = rules
        self._folder = folder
        self._reader = reader
        self._transcriber = transcriber
        self._name = name
        self._tasks_at_once = tasks_at_once
        self._pause = pause
        self._finished = finished
        self._watcher = watcher or _Nobody()
        self._heartbeat_s = heartbeat_s
        self._names = names
        self._woken = asyncio.Event()
        self._stranded: list[QualityJob] = []

    def wake(self) -> None:
        """Say that a job may be waiting."""
        self._woken.set()

    async def run(self) -> None:
        """Take up what an earlier process of this name left, then work until cancelled; a job in hand goes back.

        A failing store is logged and tried again.
        """
        await self._begin()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._keep_tidy())
                for _ in range(self._tasks_at_once):
                    group.create_task(self._work())
        finally:
            # A claim that was cut short may have been made all the same.
            with suppress(Unavailable):
                await self._tasks.put_back(self._name)

    async def recover(self) -> None:
        """Put back what an earlier process of this name left, and delete old audio that no job needs."""
        put_back = await self._tasks.put_back(self._name)
        swept = await self._folder.sweep(await self._tasks.audio_in_use())
        if put_back or swept:
            _log.info("quality_recovered", worker=self._name, put_back=put_back, audio_deleted=swept)

    async def work_until_idle(self) -> int:
        """Do every waiting job, one after another; how many were begun."""
        begun = 0
        while self._stranded:
            await self._tasks.release(self._stranded[0], counts=True)
            del self._stranded[0]
        while await self._work_one():
            begun += 1
        return begun

    async def _begin(self) -> None:
        failures = 0
        while True:
            try:
                await self.recover()
            except (Unavailable, OSError):
                failures += 1
                _log.exception("quality_store_failed", failures=failures)
                await self._pause(_backoff_s(failures))
            else:
                return

    async def _keep_tidy(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_EVERY_S)
            try:
                await self._folder.sweep(await self._tasks.audio_in_use())
            except (Unavailable, OSError) as fault:
                _log.warning("quality_audio_not_swept", reason=str(fault))

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
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL_S):
                        await self._woken.wait()

    async def _work_one(self) -> bool:
        job = await self._tasks.claim(self._name)
        if job is None:
            return False
        self._watcher.begun(job)
        try:
            await self._settle(job)
        except Exception:
            # The store failed, so the job still counts as running there: it goes back once the store works again.
            self._stranded.append(job)
            self._watcher.ended(job, None)
            raise
        return True

    async def _settle(self, job: QualityJob) -> None:
        """Do the job and note how it ended, or put it back."""
        log = _log.bind(app_id=job.app_id, session_id=job.session_id, attempt=job.attempts)
        try:
            outcome = await self._while_held(job)
        except Unavailable as fault:
            log.warning("quality_engine_unavailable", reason=str(fault))
            await self._tasks.release(job, counts=True)
            self._watcher.ended(job, None)
            await self._pause(fault.retry_after_s or _backoff_s(job.attempts))
        except _LostError:
            log.info("quality_task_lost")
            self._watcher.ended(job, None)
        except asyncio.CancelledError:
            await self._put_back(job)
            raise
        else:
            state = outcome.state
            kept = await self._tasks.finish(job, state, outcome.reason, outcome.result, billed_ms=outcome.billed_ms)
            log.info(
                "quality_task_finished",
                state=int(state),
                reason=outcome.reason,
                kept=kept,
                billed_ms=outcome.billed_ms,
            )
            self._watcher.ended(job, state if kept else None)
            if kept:  # else the recording is another worker's, or gone with what the session was before
                self._finished()
                await self._folder.delete(job.audio_name)

    async def _put_back(self, job: QualityJob) -> None:
        """On the way out; a store that does not take it now learns of it when the lease runs out."""
        try:
            await self._tasks.release(job, counts=False)
        except Unavailable as fault:
            _log.warning("quality_task_not_put_back", session_id=job.session_id, reason=str(fault))
        self._watcher.ended(job, None)

    async def _while_held(self, job: QualityJob) -> _Outcome:
        """How the job ends; its claim is renewed meanwhile. Raises _LostError as soon as it cannot be."""
        work = asyncio.create_task(self._outcome(job))
        heartbeat = asyncio.create_task(self._heartbeat(job))
        try:
            await asyncio.wait((work, heartbeat), return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
            heartbeat.result()
            raise _LostError
        finally:
            for task in (work, heartbeat):
                task.cancel()
            await asyncio.gather(work, heartbeat, return_exceptions=True)

    async def _heartbeat(self, job: QualityJob) -> None:
        """Renew the claim until it is lost."""
        while True:
            await asyncio.sleep(self._heartbeat_s)
            try:
                if not await self._tasks.renew(job):
                    return
            except Unavailable as fault:
                _log.warning("quality_claim_not_renewed", session_id=job.session_id, reason=str(fault))

    async def _outcome(self, job: QualityJob) -> _Outcome:
        """How the job ends; everything that is the recording's or the code's fault ends it."""
        if job.attempts > MAX_ATTEMPTS:
            return _Outcome(TaskState.SERVICE_FAILED, f"given up after {MAX_ATTEMPTS} attempts")
        try:
            return await self._judged(job)
        except (Unavailable, _LostError):
            raise
        except UnusableRecording as fault:
            return _Outcome(TaskState.AUDIO_UNUSABLE, str(fault))
        except RuleSetError as fault:
            return _Outcome(TaskState.SERVICE_FAILED, f"a rule cannot be read: {fault}")
        except Exception:
            # A fault in our own code must not stop the queue: the trace is in the log, the caller learns of it.
            _log.exception("quality_task_failed", app_id=job.app_id, session_id=job.session_id)
            return _Outcome(TaskState.SERVICE_FAILED, "the service's log says why; submit the recording again")

    async def _judged(self, job: QualityJob) -> _Outcome:
        async def progressed(percent: int) -> None:
            if not await self._tasks.advance(job, percent):
                raise _LostError
            self._watcher.advanced(job, percent)

        order = decoded(job.request)
        try:
            channels = await self._reader.channels(
                # Without a name of its own here, the file's content is gone once it is decoded.
                await self._folder.read(job.audio_name),
                order.kind,
                order.sample_rate_hz,
                split=order.split,
            )
        except FileNotFoundError:
            await progressed(0)
            raise
        transcript = await self._transcriber.transcribe(
            channels, order.language, job.ticket, progressed, tell_apart=order.tell_apart
        )
        sentences = tuple(
            described(one, channels.samples[one.channel], channels.rate_hz) for one in transcript.utterances
        )
        if order.speaker_names and self._names is not None:
            whose = Whose(job.app_id, order.org_id or job.app_id, order.tag_id or None)
            sentences = await self._names.named(sentences, channels, whose)
        version, categories = await self._rules.rules(job.app_id)
        answer = result_object(
            job.session_id,
            push=order.push_status,
            sentences=sentences,
            call_duration_s=whole_seconds(channels.duration_ms),
            silence_duration_s=whole_seconds(silence_ms(channels.duration_ms, transcript.speech)),
            detection=await asyncio.to_thread(detection, order, sentences, channels.duration_ms, version, categories),
        )
        billed_ms = sum(map(spoken_ms, transcript.speech))
        return _Outcome(TaskState.SUCCEEDED, result=msgspec.json.encode(answer), billed_ms=billed_ms)


def _backoff_s(failures: int) -> float:
    return min(LONGEST_PAUSE_S, 2.0 ** min(failures, 10) / 2)
