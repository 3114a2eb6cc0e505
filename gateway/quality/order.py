"""What the queue keeps of a request: everything the work needs but the audio."""

from __future__ import annotations

import msgspec

from gateway.ports import Language, QualityTask
from gateway.quality.sniff import Kind
from protocol.quality import TaskRequest
from protocol.quality_result import PushStatus


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """How to transcribe and judge one recording."""

    kind: Kind
    sample_rate_hz: int
    """Of headerless PCM; a file says its own."""
    split: bool
    language: Language
    detect: bool
    explain: bool
    """Whether the answer tells what each sentence hit."""
    categories: tuple[str, ...]
    """Empty: all."""
    callback_url: str = ""
    tell_apart: bool = False
    """Whether one channel may hold two speakers."""
    speaker_names: bool = False
    org_id: str = ""
    tag_id: str = ""

    @property
    def push_status(self) -> PushStatus:
        return "等待推送" if self.callback_url else "未设置回调"

    def encoded(self) -> bytes:
        return msgspec.json.encode(self)


def decoded(data: bytes) -> Order:
    return msgspec.json.decode(data, type=Order)


def of_request(request: TaskRequest, kind: Kind) -> Order:
    return Order(
        kind=kind,
        sample_rate_hz=request.sample_rate,
        split=request.is_split_channel,
        language=request.language,
        detect=request.enable_detection,
        explain=request.enable_detection_detail,
        categories=request.categories,
        callback_url=request.callback_url,
        tell_apart=request.tells_speakers_apart,
        speaker_names=request.speaker_names,
        org_id=request.org_id,
        tag_id=request.tag_id,
    )


def of_task(task: QualityTask) -> Order:
    """A call of the gateway's own: judged in full, each party by its channel, or told apart in the one there is."""
    return Order(
        kind="file",
        sample_rate_hz=task.rate_hz,
        split=task.channels == 2,
        language=task.language,
        detect=True,
        explain=True,
        categories=task.categories,
        tell_apart=task.channels == 1,
    )
