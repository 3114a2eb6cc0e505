"""API 2, voice QC: paths, requests and error codes, as the vendor's document has them.

Optional request fields of ours: `language`, `speaker_names`, `org_id`, `tag_id`. States and results are in
`quality_result.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any, Literal, TypeVar

import msgspec

TOKEN_PATH = "/oauth/2.0/token"  # noqa: S105  (a path, not a secret)
CREATE_PATH = "/rest/2.0/speech/publiccloudspeech/v1/voice/detection"
RESULT_PATH = f"{CREATE_PATH}/result"
RULE_PATH = f"{CREATE_PATH}/rule"

TOKEN_LIFETIME_S = 2_592_000
MAX_AUDIO_BYTES = 500 * 1024 * 1024
MAX_URL_BYTES = 2048
MAX_SESSION_ID_CHARS = 256
MAX_SCOPE_CHARS = 256
MAX_CATEGORY_CHARS = 256
MAX_CONTENTS = 1000
MAX_PAGE_SIZE = 1000
MAX_PAGE_NO = 1_000_000

PID_PLAIN = 80006
PID_SPEAKERS_IN_MONO = 8953
SAMPLE_RATES_HZ = (8000, 16000)


# --- errors ------------------------------------------------------------------------------------------------------


class ErrorCode(IntEnum):
    """`error_code` of an answer. Below 1000 as Baidu numbers them; the block 3361xx is ours."""

    OK = 0
    INTERNAL = 1
    UNAVAILABLE = 2
    UNSUPPORTED_METHOD = 3
    QUOTA_USED_UP = 17
    TOKEN_INVALID = 110
    TOKEN_EXPIRED = 111
    BODY_UNREADABLE = 336100
    PARAMETER_MISSING = 336101
    PARAMETER_INVALID = 336102
    NOT_OFFERED = 336103
    AUDIO_UNUSABLE = 336110
    AUDIO_TOO_LARGE = 336111
    TASK_UNKNOWN = 336120
    CATEGORY_EXISTS = 336130
    CATEGORY_UNKNOWN = 336131
    RULE_UNREADABLE = 336132


ERROR_MESSAGES: Mapping[ErrorCode, str] = {
    ErrorCode.OK: "请求成功",
    ErrorCode.INTERNAL: "the service failed at this request; ask again, and tell its operator if it fails again",
    ErrorCode.UNAVAILABLE: "the service cannot take this request now; ask again later",
    ErrorCode.UNSUPPORTED_METHOD: "this path has no such method; check both against the API document",
    ErrorCode.QUOTA_USED_UP: "Open api daily request limit reached; wait for the next day or ask for more",
    ErrorCode.TOKEN_INVALID: f"Access token invalid or no longer valid; fetch one at {TOKEN_PATH}",
    ErrorCode.TOKEN_EXPIRED: f"Access token expired; fetch a new one at {TOKEN_PATH}",
    ErrorCode.BODY_UNREADABLE: "the request body cannot be read; send one JSON object in UTF-8",
    ErrorCode.PARAMETER_MISSING: "a required parameter is missing; add it to the JSON body or the query string",
    ErrorCode.PARAMETER_INVALID: "a parameter has a value that is not allowed; change it as told",
    ErrorCode.NOT_OFFERED: "this service does not offer what a parameter asks for; leave it out",
    ErrorCode.AUDIO_UNUSABLE: "the audio cannot be used; send base64 of an audio file or of headerless s16le PCM",
    ErrorCode.AUDIO_TOO_LARGE: "the audio is larger than this service takes; send it in parts",
    ErrorCode.TASK_UNKNOWN: "there is no task with this session_id; create it first",
    ErrorCode.CATEGORY_EXISTS: "a rule with this category exists; modify it with PUT",
    ErrorCode.CATEGORY_UNKNOWN: "there is no rule with this category; add it with POST",
    ErrorCode.RULE_UNREADABLE: "a rule is empty or not well formed; mend it where told",
}


class QualityFault(Exception):
    """A request that is answered with an `error_code`; nothing was changed by it.

    `detail` names the field or thing at fault; it follows the code's own message.
    """

    def __init__(self, code: ErrorCode, detail: str = "", *, retry_after_s: float | None = None) -> None:
        self.code = code
        self.message = f"{ERROR_MESSAGES[code]}: {detail}" if detail else ERROR_MESSAGES[code]
        self.retry_after_s = retry_after_s
        super().__init__(self.message)


# --- requests ----------------------------------------------------------------------------------------------------


class TaskRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Body of a task creation. An empty `speech_url`, `speech_data` or `callback_url` is as good as none."""

    session_id: str
    pid: int
    speech_data: str = ""
    speech_url: str = ""
    sample_rate: int = 8000
    callback_url: str = ""
    role_num: int = 1
    enable_detection: bool = False
    enable_detection_detail: bool = False
    is_split_channel: bool = False
    categories: tuple[str, ...] = ()
    language: Literal["zh", "en", "auto"] = "auto"
    speaker_names: bool = False
    """Ours: tell the names of speakers whose voices are enrolled ..."""
    org_id: str = ""
    """... in this org of the voiceprint service (empty: the app id) ..."""
    tag_id: str = ""
    """... and this tag (empty: any)."""

    @property
    def tells_speakers_apart(self) -> bool:
        """Whether one channel may hold two speakers."""
        return self.pid == PID_SPEAKERS_IN_MONO or (self.role_num == 2 and not self.is_split_channel)


class TaskQuery(msgspec.Struct, frozen=True, kw_only=True):
    session_id: str


class RuleQuery(msgspec.Struct, frozen=True, kw_only=True):
    category: str = ""
    page_no: int = 1
    page_size: int = 10


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """A category of rules, in a request to add or modify it and in the answer that lists it."""

    category: str
    description: str
    contents: tuple[str, ...]


class RuleDeletion(msgspec.Struct, frozen=True, kw_only=True):
    category: str


T = TypeVar("T")


def parse_task(fields: Mapping[str, Any]) -> TaskRequest:
    """The task that a request's fields describe. Raises QualityFault, which names the field at fault."""
    task = _convert(fields, TaskRequest)
    _require_text("session_id", task.session_id, MAX_SESSION_ID_CHARS)
    if task.pid not in (PID_PLAIN, PID_SPEAKERS_IN_MONO):
        raise _invalid("pid", f"{PID_PLAIN} or {PID_SPEAKERS_IN_MONO}", task.pid)
    if task.sample_rate not in SAMPLE_RATES_HZ:
        raise _invalid("sample_rate", "8000 or 16000", task.sample_rate)
    if task.role_num not in (1, 2):
        raise _invalid("role_num", "1 or 2", task.role_num)
    if task.pid == PID_SPEAKERS_IN_MONO and task.role_num != 1:
        raise _invalid("role_num", f"1 with pid {PID_SPEAKERS_IN_MONO}", task.role_num)
    if task.pid == PID_SPEAKERS_IN_MONO and task.is_split_channel:
        raise _invalid("is_split_channel", f"false with pid {PID_SPEAKERS_IN_MONO}", True)
    for name, url in (("speech_url", task.speech_url), ("callback_url", task.callback_url)):
        if len(url.encode()) > MAX_URL_BYTES:
            raise QualityFault(ErrorCode.PARAMETER_INVALID, f"{name} is longer than {MAX_URL_BYTES} bytes")
        if url and not url.lower().startswith(("http://", "https://")):
            raise QualityFault(ErrorCode.PARAMETER_INVALID, f"{name} must begin with http:// or https://")
    for name, scope in (("org_id", task.org_id), ("tag_id", task.tag_id)):
        if len(scope) > MAX_SCOPE_CHARS:
            raise QualityFault(ErrorCode.PARAMETER_INVALID, f"{name} is longer than {MAX_SCOPE_CHARS} characters")
    if not (task.speech_data or task.speech_url):
        raise QualityFault(ErrorCode.PARAMETER_MISSING, "speech_data or speech_url, one of them")
    return task


def parse_task_query(fields: Mapping[str, Any]) -> TaskQuery:
    """Raises QualityFault."""
    query = _convert(fields, TaskQuery)
    _require_text("session_id", query.session_id, MAX_SESSION_ID_CHARS)
    return query


def parse_rule_query(fields: Mapping[str, Any]) -> RuleQuery:
    """Raises QualityFault. An empty category matches all; pages count from 1."""
    query = _convert(fields, RuleQuery)
    if not 1 <= query.page_no <= MAX_PAGE_NO:
        raise _invalid("page_no", f"1 to {MAX_PAGE_NO}", query.page_no)
    if not 1 <= query.page_size <= MAX_PAGE_SIZE:
        raise _invalid("page_size", f"1 to {MAX_PAGE_SIZE}", query.page_size)
    return query


def parse_rule(fields: Mapping[str, Any]) -> Rule:
    """Raises QualityFault. `content` is taken for `contents`; whether each rule is well formed is not looked at."""
    if "contents" not in fields and "content" in fields:
        fields = {**fields, "contents": fields["content"]}
    rule = _convert(fields, Rule)
    _require_text("category", rule.category, MAX_CATEGORY_CHARS)
    if not rule.contents:
        raise QualityFault(ErrorCode.PARAMETER_MISSING, "contents holds no rule")
    if len(rule.contents) > MAX_CONTENTS:
        raise QualityFault(ErrorCode.PARAMETER_INVALID, f"contents holds more than {MAX_CONTENTS} rules")
    return rule


def parse_rule_deletion(fields: Mapping[str, Any]) -> RuleDeletion:
    """Raises QualityFault."""
    deletion = _convert(fields, RuleDeletion)
    _require_text("category", deletion.category, MAX_CATEGORY_CHARS)
    return deletion


def _convert(fields: Mapping[str, Any], kind: type[T]) -> T:
    """Numbers and booleans may come as text, as a query string has them; null is as good as absent."""
    given = {name: value for name, value in fields.items() if value is not None}
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as fault:
        text = str(fault)
        if "missing required field" in text:
            raise QualityFault(ErrorCode.PARAMETER_MISSING, text.split("`")[1]) from None
        expected, _, path = text.partition(" - at `$.")
        raise QualityFault(ErrorCode.PARAMETER_INVALID, f"{path.rstrip('`')}: {expected}") from None


def _require_text(name: str, value: str, max_chars: int) -> None:
    if not value.strip():
        raise QualityFault(ErrorCode.PARAMETER_MISSING, f"{name} is empty")
    if len(value) > max_chars:
        raise QualityFault(ErrorCode.PARAMETER_INVALID, f"{name} is longer than {max_chars} characters")


def _invalid(name: str, allowed: str, given: object) -> QualityFault:
    shown = str(given).lower() if isinstance(given, bool) else given
    return QualityFault(ErrorCode.PARAMETER_INVALID, f"{name} must be {allowed}, not {shown}")
