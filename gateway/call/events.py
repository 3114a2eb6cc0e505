"""What can happen to a call, as past participles. The shell makes them; `machine.Call.receive` takes them.

They are tagged structs so that a journal can keep them: a call is a fold over its events.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from protocol.messages import Language

WAIT_QC_MS = 180_000


class Accepted(msgspec.Struct, frozen=True, tag=True):
    """The server takes the call: what the client needs to know to send audio and to come back."""

    resume_token: str
    resume_window_s: float
    limits: dict[str, int]


class AudioArrived(msgspec.Struct, frozen=True, tag=True):
    """The next samples of all channels: s16le, interleaved, whole instants, contiguous with what came before."""

    pcm: bytes


class AudioLost(msgspec.Struct, frozen=True, tag=True):
    """Samples [from, to) of a channel will never come; the next `AudioArrived` holds silence in their place."""

    channel: int
    from_sample: int
    to_sample: int
    cause: Literal["network", "pause", "node"]


class AudioStored(msgspec.Struct, frozen=True, tag=True):
    """Everything before `samples` (per channel) would survive a power cut."""

    samples: int


class SpeechConfirmed(msgspec.Struct, frozen=True, tag=True):
    """The answer to `ConfirmSpeech`: one probability (0-1) for each 32 ms; None when no engine could answer."""

    channel: int
    ordinal: int
    probabilities: tuple[float, ...] | None


@dataclass(frozen=True, slots=True)
class Hit:
    """An enrolled voice and its score, 100 x cosine."""

    name: str
    score: float


class Identified(msgspec.Struct, frozen=True, tag=True):
    """The answer to `Identify`: candidates best first, or why none could be looked for."""

    channel: int
    ordinal: int
    candidates: tuple[Hit, ...]
    refused: str = ""


@dataclass(frozen=True, slots=True)
class HeardWord:
    """A recognised word; times in ms from the start of the PCM that was handed out."""

    text: str
    begin_ms: int
    end_ms: int


class Transcribed(msgspec.Struct, frozen=True, tag=True):
    """The answer to `Transcribe`. `superseded`: a newer partial took its place. `failed`: why there is no text."""

    segment_id: str
    ordinal: int
    text: str = ""
    language: str = ""
    words: tuple[HeardWord, ...] = ()
    superseded: bool = False
    failed: str = ""


class ClientSpoke(msgspec.Struct, frozen=True, tag=True):
    """The softphone's own recogniser heard a sentence; times in ms on the media clock."""

    channel: int
    text: str
    begin_ms: int
    end_ms: int


class LoadChanged(msgspec.Struct, frozen=True, tag=True):
    """How loaded the recogniser is, 0 (not at all) to 6: the call asks for texts accordingly."""

    level: int


class Updated(msgspec.Struct, frozen=True, tag=True):
    """The client changed the call's terms; None leaves a field as it is."""

    language: Language | None = None
    roles: tuple[str, ...] | None = None
    metadata: dict[str, Any] | None = None
    categories: tuple[str, ...] | None = None


class Noted(msgspec.Struct, frozen=True, tag=True):
    """A key was pressed, or the client named a point of the call: kept at its position, and nothing comes of it."""

    kind: Literal["dtmf", "mark"]
    value: str


class Paused(msgspec.Struct, frozen=True, tag=True): ...


class Continued(msgspec.Struct, frozen=True, tag=True): ...


class RulesChanged(msgspec.Struct, frozen=True, tag=True):
    """The app's rules are other ones now: `digest` is that of the RuleSet, which the call looks up by it."""

    version: int
    digest: str


class Warned(msgspec.Struct, frozen=True, tag=True):
    """The shell has something to tell the client that is no fault of the client's."""

    code: str
    message: str
    lag_ms: int = 0


class HungUp(msgspec.Struct, frozen=True, tag=True):
    """The call is over: by `hangup`, or because the client stayed away (`reason` says which)."""

    reason: str
    wait_qc_ms: int = WAIT_QC_MS
    """How long the client waits for the verdict; the shell keeps the time."""


class NumbersSkipped(msgspec.Struct, frozen=True, tag=True):
    """Numbers up to `through` were given to messages of which nothing is left: none of them is used again."""

    through: int


class SettlingExpired(msgspec.Struct, frozen=True, tag=True):
    """The engines took too long over what was said last; go on without it."""


class QcProgressed(msgspec.Struct, frozen=True, tag=True):
    session_id: str
    state: int
    state_desc: str


class QcJudged(msgspec.Struct, frozen=True, tag=True):
    """Voice QC is done: its `result` object, or why there will be none."""

    session_id: str
    result: dict[str, Any]
    failure: str = ""


class QcWaitExpired(msgspec.Struct, frozen=True, tag=True):
    """The client's patience (`wait_qc_ms`) is over, or the server is going away."""


Event = (
    Accepted | AudioArrived | AudioLost | AudioStored | SpeechConfirmed | Identified | Transcribed | ClientSpoke
    | LoadChanged | Updated | RulesChanged | Noted | Paused | Continued | Warned | HungUp | SettlingExpired
    | QcProgressed | QcJudged | QcWaitExpired | NumbersSkipped
)  # fmt: skip
