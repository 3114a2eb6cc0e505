"""Voice QC as a service: recordings in, verdicts out. Callers over HTTP and in this process meet the same one."""

from __future__ import annotations

import asyncio
import base64
import binascii
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from gateway.ports import (
    Fetcher,
    PushState,
    QualityAnswer,
    QualityJob,
    QualityTask,
    QualityTasks,
    Rejected,
    Unavailable,
    UsageMeter,
)
from gateway.quality.audio import AudioFolder
from gateway.quality.order import Order, of_request, of_task
from gateway.quality.sniff import NotAudio, kind_of
from protocol.quality import (
    MAX_AUDIO_BYTES,
    ErrorCode,
    QualityFault,
    TaskRequest,
)
from protocol.quality_result import PushStatus, TaskState, status_object

PUSH_STATUSES: dict[PushState, PushStatus] = {
    "none": "未设置回调",
    "waiting": "等待推送",
    "delivered": "推送成功",
    "dead": "推送失败",
}

NO_SPACE_RETRY_S = 60.0


class QualityService:
    """Takes tasks and tells where they stand; fills the role `QualityApi`. The work is `QualityWorker`'s.

    A repeated `session_id` overwrites the earlier task of its app, also one that runs: that one's answer is lost.
    """

    def __init__(
        self,
        tasks: QualityTasks,
        folder: AudioFolder,
        *,
        submitted: Callable[[], None],
        fetcher: Fetcher | None = None,
        max_audio_bytes: int = MAX_AUDIO_BYTES,
        no_space: Callable[[], str] = lambda: "",
        before_queueing: Callable[[str], Awaitable[None]] | None = None,
        usage: UsageMeter | None = None,
    ) -> None:
        """`submitted` is called after a task is queued (the worker's `wake`); without `fetcher`, no `speech_url`.

        `no_space` says why no recording should be stored now, or nothing. `before_queueing` is awaited with the app of
        each task, and may raise Unavailable. Without `usage` nobody has a quota.
        """
        self._usage = usage
        self._no_space = no_space
        self._before_queueing = before_queueing
        self._tasks = tasks
        self._folder = folder
        self._submitted = submitted
        self._fetcher = fetcher
        self._max_audio_bytes = max_audio_bytes

    async def submit(self, app_id: str, request: TaskRequest) -> None:
        """Queue what an API caller sent. It is kept for good once this returns. Raises QualityFault, Unavailable."""
        self._refuse_unoffered(request)
        # Calls of our own (`create`) are counted too, and judged whatever their app has used.
        if self._usage is not None and (over := await self._usage.over_quota(app_id, "quality_ms")):
            raise QualityFault(ErrorCode.QUOTA_USED_UP, over)
        if full := self._no_space():
            raise QualityFault(ErrorCode.UNAVAILABLE, full, retry_after_s=NO_SPACE_RETRY_S)
        data = await self._audio(request)
        if len(data) > self._max_audio_bytes:
            raise QualityFault(ErrorCode.AUDIO_TOO_LARGE, f"{len(data)} bytes, at most {self._max_audio_bytes}")
        try:
            order = of_request(request, kind_of(data))
        except NotAudio as fault:
            raise QualityFault(ErrorCode.AUDIO_UNUSABLE, str(fault)) from fault
        try:
            name = await self._folder.keep(data)
        except OSError as fault:
            raise QualityFault(ErrorCode.UNAVAILABLE, "the recording cannot be stored") from fault
        await self._queue(app_id, request.session_id, name, order)

    async def create(self, task: QualityTask) -> None:
        """Queue a call's recording, which stays where it is. Raises Rejected or Unavailable."""
        if not await asyncio.to_thread(task.recording.is_file):
            raise Rejected(f"there is no recording at {task.recording}", code=str(int(ErrorCode.AUDIO_UNUSABLE)))
        if full := self._no_space():
            raise Unavailable(full, retry_after_s=NO_SPACE_RETRY_S)
        try:
            name = await self._folder.keep_copy(task.recording)
        except OSError as fault:
            raise Unavailable(f"the recording {task.recording} cannot be stored: {fault}") from fault
        await self._queue(task.app_id, task.session_id, name, of_task(task))

    async def result(self, app_id: str, session_id: str) -> QualityAnswer:
        """Where a task stands. Raises Rejected when this app has none such."""
        try:
            answer = await self.status(app_id, session_id)
        except QualityFault as fault:
            raise Rejected(fault.message, code=str(int(fault.code))) from fault
        return QualityAnswer(answer["state"], answer["state_desc"], answer)

    async def status(self, app_id: str, session_id: str) -> dict[str, Any]:
        """The `result` object of a task. Raises QualityFault when this app has none such."""
        record = await self._tasks.find(app_id, session_id)
        if record is None:
            raise QualityFault(ErrorCode.TASK_UNKNOWN, f"session_id {session_id!r}")
        push = PUSH_STATUSES[record.push]
        if record.result is not None:
            whole: dict[str, Any] = msgspec.json.decode(record.result)
            return {**whole, "push_status_desc": push}
        return status_object(
            session_id,
            TaskState(record.state),
            reason=record.reason,
            push=push,
            progress_percent=record.progress_percent,
        )

    async def forget(self, app_id: str, session_id: str) -> bool:
        """Remove a task with its result and recording for good, whatever its state; False when there is none such.

        A worker that has it drops what it found. Raises Unavailable.
        """
        audio_name = await self._tasks.forget(app_id, session_id)
        if audio_name is None:
            return False
        await self._folder.delete(audio_name)
        return True

    def _refuse_unoffered(self, request: TaskRequest) -> None:
        if not request.speech_data and self._fetcher is None:
            raise QualityFault(ErrorCode.NOT_OFFERED, "speech_url; send speech_data")

    async def _audio(self, request: TaskRequest) -> bytes:
        if request.speech_data:
            try:
                return await asyncio.to_thread(_from_base64, request.speech_data)
            except (binascii.Error, ValueError) as fault:
                raise QualityFault(ErrorCode.PARAMETER_INVALID, f"speech_data is not base64: {fault}") from fault
        assert self._fetcher is not None
        try:
            return (await self._fetcher.fetch(request.speech_url, max_bytes=self._max_audio_bytes)).data
        except Rejected as fault:
            raise QualityFault(ErrorCode.AUDIO_UNUSABLE, f"speech_url: {fault}") from fault
        except Unavailable as fault:
            raise QualityFault(
                ErrorCode.UNAVAILABLE, f"speech_url: {fault}", retry_after_s=fault.retry_after_s
            ) from fault

    async def _queue(self, app_id: str, session_id: str, audio_name: str, order: Order) -> None:
        job = QualityJob(uuid.uuid4().hex, app_id, session_id, audio_name, order.encoded(), 0, order.callback_url)
        try:
            if self._before_queueing is not None:
                await self._before_queueing(app_id)
            replaced = await self._tasks.submit(job)
        except BaseException:
            await self._folder.delete(audio_name)
            raise
        if replaced is not None:
            await self._folder.delete(replaced)
        self._submitted()


def _from_base64(text: str) -> bytes:
    """Line breaks, as MIME encoders put them, are no fault; any other foreign character is."""
    return base64.b64decode("".join(text.split()), validate=True)
