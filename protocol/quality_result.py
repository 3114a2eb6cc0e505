"""API 2, voice QC: the states of a task and its `result` object, as the vendor's document has them.

Where the document's example and its table differ, the table's types win (`hit` is a boolean, `state` 2 is success).
Fields beyond the document are additions that change none of its own: `begin_ms`, `end_ms`, `progress`,
`rules_version`, `unknown_categories`, the `detail` of a `detection_result` entry, and the `options` of a content.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any, Literal

import msgspec

from protocol.rules.options import Options

# --- states ------------------------------------------------------------------------------------------------------


class TaskState(IntEnum):
    """`state` of a task; everything but 0, 1 and 2 is a failure."""

    SUBMITTED = 0
    RUNNING = 1
    SUCCEEDED = 2
    AUDIO_UNUSABLE = 3
    SERVICE_FAILED = 4


STATE_DESCRIPTIONS: Mapping[TaskState, str] = {
    TaskState.SUBMITTED: "任务已提交，排队等待中",
    TaskState.RUNNING: "执行中",
    TaskState.SUCCEEDED: "处理成功",
    TaskState.AUDIO_UNUSABLE: "处理失败，音频无法使用",
    TaskState.SERVICE_FAILED: "处理失败，服务内部错误",
}

PushStatus = Literal["未设置回调", "等待推送", "推送成功", "推送失败"]


def describe(state: TaskState, reason: str = "") -> str:
    """The `state_desc` of `state`; the first three texts are exact, since clients compare them."""
    return f"{STATE_DESCRIPTIONS[state]}：{reason}" if reason else STATE_DESCRIPTIONS[state]


def state_from_answer(state: int, state_desc: str) -> int:
    """The state an answer means: a known text wins over the number.

    The document's example shows 0 beside the text of success, while clients in use compare the text.
    """
    for known in (TaskState.SUBMITTED, TaskState.RUNNING, TaskState.SUCCEEDED):
        if state_desc.replace(",", "，").strip() == STATE_DESCRIPTIONS[known]:
            return known
    return state


# --- the result --------------------------------------------------------------------------------------------------


class Sentence(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of `asr_result`. `begin_time` and `end_time` are whole seconds, as the document's example has them."""

    sentence: str
    speaker_id: int
    begin_time: int
    end_time: int
    voice_speed: int
    """CJK characters plus words of other scripts, a minute."""
    voice_power: int
    """dBFS: 0 is full scale."""
    begin_ms: int
    end_ms: int
    speaker_name: str | msgspec.UnsetType = msgspec.UNSET
    """Ours, if asked for: who it is, where the voice is enrolled and known."""
    speaker_score: float | msgspec.UnsetType = msgspec.UNSET
    """100 x cosine."""


class ContentVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """What one rule expression made of a text. `options` (ours): what the rule asks beyond the vendor's language."""

    content: str
    hit: bool
    keyword: tuple[str, ...]
    options: Options | msgspec.UnsetType = msgspec.UNSET


class CategoryVerdict(msgspec.Struct, frozen=True, kw_only=True):
    category: str
    hit: bool
    keyword: tuple[str, ...]
    detail: tuple[ContentVerdict, ...]


class SentenceVerdict(msgspec.Struct, frozen=True, kw_only=True):
    text: str
    hit: bool
    detail: tuple[CategoryVerdict, ...]
    """The categories that this sentence hit."""


class DetectionDetail(msgspec.Struct, frozen=True, kw_only=True):
    hit: bool
    keyword: tuple[str, ...]
    detail: tuple[SentenceVerdict, ...]


class CategoryHit(msgspec.Struct, frozen=True, kw_only=True):
    """A category that the recording as a whole hit; `detail` (ours) names the expressions, if details were asked."""

    category: str
    keyword: tuple[str, ...]
    detail: tuple[ContentVerdict, ...] | msgspec.UnsetType = msgspec.UNSET


class NoDetail(msgspec.Struct, frozen=True):
    """The empty object: details were not asked for."""


class Detection(msgspec.Struct, frozen=True, kw_only=True):
    """The judgement. Without `enable_detection` it is the default: passed, nothing hit."""

    pass_detection: Literal["success", "failed"] = "success"  # noqa: S105  (a verdict)
    detection_result: tuple[CategoryHit, ...] = ()
    detection_detail: DetectionDetail | NoDetail = NoDetail()
    rules_version: int | msgspec.UnsetType = msgspec.UNSET
    unknown_categories: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET


def status_object(
    session_id: str, state: TaskState, *, reason: str, push: PushStatus, progress_percent: int
) -> dict[str, Any]:
    """`result` of a task that has no transcript: still to do, or failed."""
    return {
        "push_status_desc": push,
        "session_id": session_id,
        "state": int(state),
        "state_desc": describe(state, reason),
        "progress": progress_percent,
    }


def result_object(
    session_id: str,
    *,
    push: PushStatus,
    sentences: tuple[Sentence, ...],
    call_duration_s: int,
    silence_duration_s: int,
    detection: Detection,
) -> dict[str, Any]:
    """`result` of a task that succeeded, with every field of the document, in plain JSON types."""
    judged: dict[str, Any] = msgspec.to_builtins(detection)
    return {
        "push_status_desc": push,
        "session_id": session_id,
        "state": int(TaskState.SUCCEEDED),
        "state_desc": describe(TaskState.SUCCEEDED),
        "asr_text": " ".join(sentence.sentence for sentence in sentences),
        "call_duration": call_duration_s,
        "silence_duration": silence_duration_s,
        "asr_result": [msgspec.to_builtins(sentence) for sentence in sentences],
        **judged,
    }
