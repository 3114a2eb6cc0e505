"""Every message of the native socket, as two closed tagged unions: what a client may send, what the server sends.

Text frames hold one JSON object whose `type` names the message. Every server message carries `call_id`, `seq` (per
call, from 1, never reused) and `at_ms` (position on the media clock: samples since the call began). Fields ending in
`_ms` are milliseconds, `_s` seconds, `samples` instants per channel. Binary frames hold audio: see `codec`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from protocol.audio import Encoding

Language = Literal["zh", "en", "auto"]
ShortText = Annotated[str, Meta(max_length=256)]
CallId = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+(?!\n)$")]
RetryAfterMs = Annotated[int, Meta(ge=0)]
Score = Annotated[float, Meta(description="100 x cosine, as the voiceprint API gives it")]


class _Client(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", forbid_unknown_fields=True):
    """Base of what a client sends."""


# --- client to server --------------------------------------------------------------------------------------------


class Start(_Client, frozen=True, kw_only=True, tag="start"):
    """The first message of a call: what the audio is and what to judge."""

    encoding: Encoding = "pcm_s16le"
    rate: Literal[8000, 16000, 48000] = 16000
    channels: Literal[1, 2] = 1
    roles: Annotated[list[ShortText], Meta(max_length=2)] = []
    """One for each channel; default `["agent", "customer"]` for two channels, `["mixed"]` for one."""
    language: Language = "auto"
    framing: Literal["raw", "framed"] = "raw"
    metadata: dict[str, Any] = {}
    """Kept with the call. `agent` (a speaker's name) is compared with who is heard on the agent's channel."""
    categories: Annotated[list[ShortText], Meta(max_length=1000)] = []
    """Rules to judge; default all."""
    org_id: ShortText = ""
    tag_id: ShortText = ""
    """Whose voices to look among; default the app id."""


class Update(_Client, frozen=True, kw_only=True, tag="update"):
    """Merge into the running call; absent fields stay."""

    language: Language | None = None
    roles: Annotated[list[ShortText], Meta(max_length=2)] | None = None
    metadata: dict[str, Any] | None = None
    categories: Annotated[list[ShortText], Meta(max_length=1000)] | None = None


class Pause(_Client, frozen=True, kw_only=True, tag="pause"):
    """From here nothing is heard, recognised or recorded: silence keeps the timeline. Audio may go on or stop."""


class Continue(_Client, frozen=True, kw_only=True, tag="continue"):
    """Ends a pause."""


class ClientTranscript(_Client, frozen=True, kw_only=True, tag="transcript"):
    """A sentence that the softphone recognised itself; it counts as final text."""

    text: Annotated[str, Meta(max_length=4096)]
    begin_ms: Annotated[int, Meta(ge=0)]
    end_ms: Annotated[int, Meta(ge=0)]
    channel: Annotated[int, Meta(ge=0, le=1)] = 0


class Dtmf(_Client, frozen=True, kw_only=True, tag="dtmf"):
    """A key pressed on the phone; stored with its `at_ms`."""

    digit: Annotated[str, Meta(pattern=r"^[0-9A-D*#](?!\n)$")]


class Mark(_Client, frozen=True, kw_only=True, tag="mark"):
    """A named point of the call; stored with its `at_ms`."""

    name: Annotated[str, Meta(min_length=1, max_length=256)]


class Ping(_Client, frozen=True, kw_only=True, tag="ping"):
    """Answered by `pong` with the same `id`."""

    id: ShortText = ""


class Resume(_Client, frozen=True, kw_only=True, tag="resume"):
    """The first message on a new socket for a call that goes on: what was missed is sent again."""

    call_id: CallId
    resume_token: Annotated[str, Meta(max_length=256)]
    last_seq: Annotated[int, Meta(ge=0)]


class Hangup(_Client, frozen=True, kw_only=True, tag="hangup"):
    """The call is over. `ended` follows the verdict, or `wait_qc_ms` after this if that comes first."""

    reason: ShortText = "hangup"
    wait_qc_ms: Annotated[int, Meta(ge=0, le=3_600_000)] = 180_000


ClientMessage = (
    Start | Update | Pause | Continue | ClientTranscript | Dtmf | Mark | Ping | Resume | Hangup
)  # fmt: skip


# --- server to client --------------------------------------------------------------------------------------------


class _Server(Struct, frozen=True, kw_only=True, tag_field="type"):
    """Base of what the server sends."""

    call_id: str = ""
    """Empty only in an `error` that comes before there is a call."""
    seq: int = 0
    """0 in messages outside the call's numbered record: `pong`, `resumed`, and an `error` before the call."""
    at_ms: int = 0


class Started(_Server, frozen=True, kw_only=True, tag="started"):
    """The call exists; audio is welcome. Sent before any slow work."""

    resume_token: str
    resume_window_s: float
    rate: int
    channels: int
    limits: dict[str, int]
    """max_message_bytes, max_call_s, max_unacked_ms: what the server accepts."""


class Resumed(_Server, frozen=True, kw_only=True, tag="resumed"):
    """This socket now carries the call. Send again from `samples`; messages after `last_seq` follow."""

    samples: int
    next_seq: int


class Replaced(_Server, frozen=True, kw_only=True, tag="replaced"):
    """Another socket resumed this call; this one closes."""


class GoingAway(_Server, frozen=True, kw_only=True, tag="going_away"):
    """The server is shutting down: resume elsewhere; this socket closes within `deadline_ms`."""

    deadline_ms: int


class Ack(_Server, frozen=True, kw_only=True, tag="ack"):
    """Audio before `samples` (per channel, contiguous from the call's start) would survive a power cut."""

    samples: int


class Flow(_Server, frozen=True, kw_only=True, tag="flow"):
    """`xoff`: send no more than `window_samples` beyond the last ack; `xon`: carry on."""

    state: Literal["xoff", "xon"]
    window_samples: int


class Segment(_Server, frozen=True, kw_only=True, tag="segment"):
    """An utterance opened, or closed with its final bounds."""

    segment_id: str
    channel: int
    role: str
    state: Literal["opened", "closed"]
    begin_ms: int
    end_ms: int


class Word(Struct, frozen=True, kw_only=True):
    """One word of a transcript; joining the texts gives the sentence."""

    text: str
    begin_ms: int
    end_ms: int


class Transcript(_Server, frozen=True, kw_only=True, tag="transcript"):
    """What was said in a segment; `final` is false while the segment is open or its last decode is under way."""

    segment_id: str
    channel: int
    role: str
    text: str
    final: bool
    begin_ms: int
    end_ms: int
    language: str
    words: list[Word]


class Candidate(Struct, frozen=True, kw_only=True):
    name: str
    score: Score


class Speaker(_Server, frozen=True, kw_only=True, tag="speaker"):
    """The rolling label of a channel, as of a segment."""

    segment_id: str
    channel: int
    role: str
    state: Literal["known", "unknown", "undecided", "conflict"]
    name: str
    """Empty unless `known` or `conflict`."""
    score: Score
    margin: float
    """Score above the second candidate's."""
    net_speech_ms: int
    stable: bool
    candidates: list[Candidate]


class Evidence(Struct, frozen=True, kw_only=True):
    """Where a keyword was heard. `begin` and `end` are the character span in `text`."""

    segment_id: str
    channel: int
    text: str
    begin_ms: int
    end_ms: int
    keyword: str
    match: Literal["exact", "pinyin"]
    begin: int
    end: int


class Alert(_Server, frozen=True, kw_only=True, tag="alert"):
    """A rule came true. `final`: no later words undo it; `provisional`: `pending` says what still could."""

    alert_id: str
    category: str
    rule: str
    rule_version: int
    certainty: Literal["provisional", "final"]
    pending: list[Literal["negation", "partial_text", "pinyin"]]
    keywords: list[str]
    evidence: list[Evidence]


AlertStatus = Literal["provisional", "final", "retracted", "confirmed", "not_confirmed", "indeterminate"]


class AlertUpdate(_Server, frozen=True, kw_only=True, tag="alert_update"):
    """An alert changed its status, or gained evidence (`evidence` holds what was added)."""

    alert_id: str
    status: AlertStatus
    reason: str
    evidence: list[Evidence]


class Gap(_Server, frozen=True, kw_only=True, tag="gap"):
    """Audio that the recording does not hold; silence stands in its place."""

    channel: int
    from_sample: int
    to_sample: int
    cause: Literal["network", "pause", "node"]


class Warning(_Server, frozen=True, kw_only=True, tag="warning"):  # noqa: A001 - the wire's own word
    """Something the client may want to act on; the call goes on."""

    code: str
    message: str
    lag_ms: int = 0


class QcStatus(_Server, frozen=True, kw_only=True, tag="qc_status"):
    """How far voice QC is."""

    session_id: str
    state: int
    state_desc: str


class Missed(Struct, frozen=True, kw_only=True):
    """A rule that voice QC hit and no early alert had named."""

    category: str
    rule: str
    keywords: list[str]


class QcResult(_Server, frozen=True, kw_only=True, tag="qc_result"):
    """The verdict: `result` is the quality API's `result` object."""

    session_id: str
    result: dict[str, Any]
    missed: list[Missed]


class Error(_Server, frozen=True, kw_only=True, tag="error"):
    """What was wrong, whose fault it was (by `code`) and whether the same may work later."""

    code: str
    message: str
    retryable: bool
    retry_after_ms: RetryAfterMs = 0


class Ended(_Server, frozen=True, kw_only=True, tag="ended"):
    """The last message of a call."""

    samples: int
    duration_ms: int
    reason: str


class Pong(_Server, frozen=True, kw_only=True, tag="pong"):
    id: str


ServerMessage = (
    Started | Resumed | Replaced | GoingAway | Ack | Flow | Segment | Transcript | Speaker | Alert | AlertUpdate
    | Gap | Warning | QcStatus | QcResult | Error | Ended | Pong
)  # fmt: skip
