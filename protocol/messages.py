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
    """`pcm_s16le`: 16-bit little-endian; `pcmu`, `pcma`: G.711, one byte a sample."""
    rate: Literal[8000, 16000, 48000] = 16000
    """Samples per second of each channel."""
    channels: Literal[1, 2] = 1
    """Two channels come interleaved."""
    roles: Annotated[list[ShortText], Meta(max_length=2)] = []
    """One for each channel; default `["agent", "customer"]` for two channels, `["mixed"]` for one."""
    language: Language = "auto"
    """What is spoken; `auto` lets the recogniser decide for each utterance."""
    framing: Literal["raw", "framed"] = "raw"
    """Whether binary frames are bare samples or carry a header: see the binary frames."""
    metadata: dict[str, Any] = {}
    """Kept with the call. `agent` (a speaker's name) is compared with who is heard on the agent's channel."""
    categories: Annotated[list[ShortText], Meta(max_length=1000)] = []
    """Rules to judge; default all."""
    org_id: ShortText = ""
    """Whose voices to look among; default the app id."""
    tag_id: ShortText = ""
    """Looks among one tag of the organisation only; default all of them."""


class Update(_Client, frozen=True, kw_only=True, tag="update"):
    """Merge into the running call; absent fields stay."""

    language: Language | None = None
    """From the next utterance on."""
    roles: Annotated[list[ShortText], Meta(max_length=2)] | None = None
    """One for each channel; another number of roles changes nothing."""
    metadata: dict[str, Any] | None = None
    """Merged key by key into what `start` gave."""
    categories: Annotated[list[ShortText], Meta(max_length=1000)] | None = None
    """Judge these from here on, over all that was said; alerts already sent stay. Empty: all."""


class Pause(_Client, frozen=True, kw_only=True, tag="pause"):
    """From here nothing is heard, recognised or recorded: silence keeps the timeline. Audio may go on or stop."""


class Continue(_Client, frozen=True, kw_only=True, tag="continue"):
    """Ends a pause."""


class ClientTranscript(_Client, frozen=True, kw_only=True, tag="transcript"):
    """A sentence that the softphone recognised itself; it counts as final text.

    From the first one of a channel on, the server's own recogniser is not asked about that channel any more.
    """

    text: Annotated[str, Meta(max_length=4096)]
    """The sentence as it was said; an empty one only says that the channel's words will come from the softphone."""
    begin_ms: Annotated[int, Meta(ge=0)]
    """On the media clock."""
    end_ms: Annotated[int, Meta(ge=0)]
    """On the media clock; not before `begin_ms`."""
    channel: Annotated[int, Meta(ge=0, le=1)] = 0
    """Whose sentence it is, from 0."""


class Dtmf(_Client, frozen=True, kw_only=True, tag="dtmf"):
    """A key pressed on the phone; stored with its `at_ms`."""

    digit: Annotated[str, Meta(pattern=r"^[0-9A-D*#](?!\n)$")]
    """One key: a digit, `A` to `D`, `*` or `#`."""


class Mark(_Client, frozen=True, kw_only=True, tag="mark"):
    """A named point of the call; stored with its `at_ms`."""

    name: Annotated[str, Meta(min_length=1, max_length=256)]
    """Any text."""


class Ping(_Client, frozen=True, kw_only=True, tag="ping"):
    """Answered by `pong` with the same `id`."""

    id: ShortText = ""
    """Comes back in the `pong`."""


class Resume(_Client, frozen=True, kw_only=True, tag="resume"):
    """The first message on a new socket for a call that goes on: what was missed is sent again."""

    call_id: CallId
    """Of `started`."""
    resume_token: Annotated[str, Meta(max_length=256)]
    """Of `started`."""
    last_seq: Annotated[int, Meta(ge=0)]
    """The highest `seq` received; later messages are sent again."""
    from_sample: Annotated[int, Meta(ge=0)] | None = None
    """The first instant that you can still send. A node that takes the call from a lost one, and does not have its
    audio, goes on from there; left out, it goes on from the last `ack` that it knows of."""


class Hangup(_Client, frozen=True, kw_only=True, tag="hangup"):
    """The call is over. `ended` follows the verdict, or `wait_qc_ms` after this if that comes first."""

    reason: ShortText = "hangup"
    """Why, in the client's words; comes back in `ended`."""
    wait_qc_ms: Annotated[int, Meta(ge=0, le=3_600_000)] = 180_000
    """How long to wait for the verdict of voice QC; the call is judged all the same."""


ClientMessage = (
    Start | Update | Pause | Continue | ClientTranscript | Dtmf | Mark | Ping | Resume | Hangup
)  # fmt: skip


# --- server to client --------------------------------------------------------------------------------------------


class _Server(Struct, frozen=True, kw_only=True, tag_field="type"):
    """Base of what the server sends."""

    call_id: str = ""
    """The call; empty only in an `error` that comes before there is one."""
    seq: int = 0
    """Counts the call's messages from 1; 0 in `pong`, `resumed`, `replaced`, `going_away`, `flow` and `error`."""
    at_ms: int = 0
    """Position on the media clock: how much audio had come, or been looked at, when this happened."""


class Started(_Server, frozen=True, kw_only=True, tag="started"):
    """The call exists; audio is welcome. Sent before any slow work."""

    resume_token: str
    """Proves that a `resume` comes from this client; keep it secret."""
    resume_window_s: float
    """How long the call waits for a lost client before it is hung up."""
    rate: int
    """As in `start`."""
    channels: int
    """As in `start`."""
    limits: dict[str, int]
    """max_message_bytes, max_call_s, max_unacked_ms: what the server accepts."""


class Resumed(_Server, frozen=True, kw_only=True, tag="resumed"):
    """This socket now carries the call. Send again from `samples`; messages after `last_seq` follow."""

    samples: int
    """Instants received so far: the index of the next one to send."""
    next_seq: int
    """The `seq` of the next new message; those from `last_seq` on up to it are sent again first."""
    controls: int = 0
    """How many of the client's messages, `start`, `resume` and `ping` not counted, the call has taken: send again those
    that came after them."""


class Replaced(_Server, frozen=True, kw_only=True, tag="replaced"):
    """Another socket resumed this call; this one closes."""


class GoingAway(_Server, frozen=True, kw_only=True, tag="going_away"):
    """The server is shutting down: resume elsewhere; this socket closes within `deadline_ms`."""

    deadline_ms: int
    """How long this server will still be there."""


class Ack(_Server, frozen=True, kw_only=True, tag="ack"):
    """Audio before `samples` (per channel, contiguous from the call's start) would survive a power cut."""

    samples: int
    """Instants that are safely stored; the client may forget them."""


class Flow(_Server, frozen=True, kw_only=True, tag="flow"):
    """`xoff`: audio cannot be taken for now: keep it, and send no more until `xon`. It is about this socket alone."""

    state: Literal["xoff", "xon"]
    """`xoff` holds the client back, `xon` lets it go; a new socket begins with `xon`."""
    window_samples: int
    """How far beyond the last ack the client may send all the same: in `xoff`, no further than the server has taken."""


class Segment(_Server, frozen=True, kw_only=True, tag="segment"):
    """An utterance opened, or closed with its final bounds."""

    segment_id: str
    """Names the utterance in every message about it."""
    channel: int
    """From 0."""
    role: str
    """The channel's role, as `start` or `update` gave it."""
    state: Literal["opened", "closed"]
    """`closed` comes once, with the final bounds."""
    begin_ms: int
    """Begin of the utterance on the media clock, a short lead-in included."""
    end_ms: int
    """Its end so far; final when `closed`."""


class Word(Struct, frozen=True, kw_only=True):
    """One word of a transcript; joining the texts gives the sentence."""

    text: str
    """With its leading space, if the language has any."""
    begin_ms: int
    """On the media clock."""
    end_ms: int
    """On the media clock."""


class Transcript(_Server, frozen=True, kw_only=True, tag="transcript"):
    """What was said in a segment; `final` is false while the segment is open or its last decode is under way."""

    segment_id: str
    """The utterance."""
    channel: int
    """From 0."""
    role: str
    """The channel's role, as `start` or `update` gave it."""
    text: str
    """All that was said in the segment so far; it replaces any earlier text. Empty when there were no words."""
    final: bool
    """No later text of this segment will come."""
    begin_ms: int
    """On the media clock."""
    end_ms: int
    """On the media clock."""
    language: str
    """What the recogniser heard, such as `en` or `zh`; empty when it heard nothing."""
    words: list[Word]
    """With their times; empty when the recogniser gave none."""
    stable_chars: int = 0
    """So many characters at the beginning of `text` stay as they are until the final text; the rest may still change.
    In a final text, all of them."""


class Candidate(Struct, frozen=True, kw_only=True):
    """A voice that was compared."""

    name: str
    """As enrolled."""
    score: Score
    """Pooled over the channel's recent segments where it carries one party."""


class Speaker(_Server, frozen=True, kw_only=True, tag="speaker"):
    """The rolling label of a channel, as of a segment."""

    segment_id: str
    """The utterance."""
    channel: int
    """From 0."""
    role: str
    """The channel's role, as `start` or `update` gave it."""
    state: Literal["known", "unknown", "undecided", "conflict"]
    """`known`: one voice, clearly; `unknown`: nobody enrolled; `undecided`: too little speech, or two voices too close;
    `conflict`: a known voice where it cannot be (on both channels, or the agent's on the customer's)."""
    name: str
    """Empty unless `known` or `conflict`."""
    score: Score
    """The best candidate's."""
    margin: float
    """Score above the second candidate's."""
    net_speech_ms: int
    """Speech that this label rests on, pauses taken out."""
    stable: bool
    """Enough speech was heard that the label should not change by chance."""
    candidates: list[Candidate]
    """At most ten, best first; empty when nobody was compared."""
    heard_ms: int = 0
    """When the last of that speech ended, on the media clock; of a label that only the close brought: the utterance."""


class Evidence(Struct, frozen=True, kw_only=True):
    """Where a keyword was heard. `begin` and `end` are the character span in `text`."""

    segment_id: str
    """The utterance it was heard in; empty for silence."""
    channel: int
    """From 0."""
    text: str
    """The sentence."""
    begin_ms: int
    """When the keyword began, on the media clock."""
    end_ms: int
    """When the keyword ended."""
    keyword: str
    """As the rule spells it."""
    match: Literal["exact", "pinyin"]
    """`pinyin`: it only sounds like the keyword."""
    begin: int
    """First character of the keyword in `text`, from 0."""
    end: int
    """One past its last character."""
    speaker: str = ""
    """Who said it, as labelled by then; empty when nobody was known."""
    sub_expression: str = ""
    """The part of the rule that was true with it."""


class Alert(_Server, frozen=True, kw_only=True, tag="alert"):
    """A rule came true. `final`: no later words undo it; `provisional`: `pending` says what still could."""

    alert_id: str
    """Names the alert in every later message about it."""
    category: str
    """The rule's category."""
    rule: str
    """The rule's expression."""
    rule_version: int
    """Version of the app's rules that this one came from."""
    certainty: Literal["provisional", "final"]
    """Its first status."""
    pending: list[Literal["negation", "partial_text", "pinyin"]]
    """Why it is provisional; empty when final."""
    keywords: list[str]
    """The keywords heard, each once."""
    evidence: list[Evidence]
    """Where each was heard; empty for a rule of negatives alone."""
    options: dict[str, Any] | None = None
    """What the rule asks beyond its expression; null for a rule that is an expression and nothing else."""
    heard_ms: int = 0
    """When the last of its keywords ended, or what decided it, on the media clock; `at_ms` less this is the delay."""
    text_ms: int = 0
    """How far the audio reached whose text decided: from here to `at_ms` it was recognised."""


AlertStatus = Literal["provisional", "final", "retracted", "confirmed", "not_confirmed", "indeterminate"]


class AlertUpdate(_Server, frozen=True, kw_only=True, tag="alert_update"):
    """An alert changed its status, or gained evidence (`evidence` holds what was added)."""

    alert_id: str
    """The alert."""
    status: AlertStatus
    """Where it stands now."""
    reason: str
    """`settled`, `evidence`, `forbidden_keyword`, `not_in_final_text`, `speaker_changed`, `qc_hit`, `no_qc_hit`,
    `no_verdict`, `not_judged` or `gap`."""
    evidence: list[Evidence]
    """What was added; often empty."""


class Gap(_Server, frozen=True, kw_only=True, tag="gap"):
    """Audio that the recording does not hold; silence stands in its place."""

    channel: int
    """From 0."""
    from_sample: int
    """First instant that is missing."""
    to_sample: int
    """First instant that is there again."""
    cause: Literal["network", "pause", "node"]
    """`network`: it never came; `pause`: the client asked for it; `node`: a server lost it."""


class Warning(_Server, frozen=True, kw_only=True, tag="warning"):  # noqa: A001 - the wire's own word
    """Something the client may want to act on; the call goes on."""

    code: str
    """`analysis_lagging`, `analysis_incomplete` or `degraded`."""
    message: str
    """For people."""
    lag_ms: int = 0
    """How late final texts come, where that is the matter."""


class QcStatus(_Server, frozen=True, kw_only=True, tag="qc_status"):
    """How far voice QC is."""

    session_id: str
    """The task of voice QC: the call id."""
    state: int
    """The quality API's `state`."""
    state_desc: str
    """The quality API's words for it."""


class Missed(Struct, frozen=True, kw_only=True):
    """A rule that voice QC hit and no early alert had named."""

    category: str
    """As the quality API names it."""
    rule: str
    """The rule's expression; empty where the verdict names none."""
    keywords: list[str]
    """What voice QC heard."""


class QcResult(_Server, frozen=True, kw_only=True, tag="qc_result"):
    """The verdict: `result` is the quality API's `result` object."""

    session_id: str
    """The task of voice QC: the call id."""
    result: dict[str, Any]
    """As the quality API's document describes it; empty when there is no verdict."""
    missed: list[Missed]
    """Hits that no early alert had named."""


class Error(_Server, frozen=True, kw_only=True, tag="error"):
    """What was wrong, whose fault it was (by `code`) and whether the same may work later."""

    code: str
    """One of the error codes."""
    message: str
    """Names the fault and what was expected, for people."""
    retryable: bool
    """Whether the same may work later."""
    retry_after_ms: RetryAfterMs = 0
    """When to try again; 0: no advice."""


class Ended(_Server, frozen=True, kw_only=True, tag="ended"):
    """The last message of a call."""

    samples: int
    """Instants recorded."""
    duration_ms: int
    """The recording's length."""
    reason: str
    """The hangup's, or `lost`, `max_duration`, `internal`, `qc_pending` (no verdict yet) or `qc_failed`."""


class Pong(_Server, frozen=True, kw_only=True, tag="pong"):
    """The answer to a `ping`."""

    id: str
    """The ping's."""


ServerMessage = (
    Started | Resumed | Replaced | GoingAway | Ack | Flow | Segment | Transcript | Speaker | Alert | AlertUpdate
    | Gap | Warning | QcStatus | QcResult | Error | Ended | Pong
)  # fmt: skip
