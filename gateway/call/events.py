"""What can happen to a call, as past participles. The shell makes them; `machine.Call.receive` takes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from protocol.messages import Language


@dataclass(frozen=True, slots=True)
class Accepted:
    """The server takes the call: what the client needs to know to send audio and to come back."""

    resume_token: str
    resume_window_s: float
    limits: dict[str, int]


@dataclass(frozen=True, slots=True)
class AudioArrived:
    """The next samples of all channels: s16le, interleaved, whole instants, contiguous with what came before."""

    pcm: bytes


@dataclass(frozen=True, slots=True)
class AudioLost:
    """Samples [from, to) of a channel will never come; the next `AudioArrived` holds silence in their place."""

    channel: int
    from_sample: int
    to_sample: int
    cause: Literal["network", "pause", "node"]


@dataclass(frozen=True, slots=True)
class AudioStored:
    """Everything before `samples` (per channel) would survive a power cut."""

    samples: int


@dataclass(frozen=True, slots=True)
class SpeechConfirmed:
    """The answer to `ConfirmSpeech`: one probability (0-1) for each 32 ms; None when no engine could answer."""

    channel: int
    ordinal: int
    probabilities: tuple[float, ...] | None


@dataclass(frozen=True, slots=True)
class Hit:
    """An enrolled voice and its score, 100 x cosine."""

    name: str
    score: float


@dataclass(frozen=True, slots=True)
class Identified:
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


@dataclass(frozen=True, slots=True)
class Transcribed:
    """The answer to `Transcribe`. `superseded`: a newer partial took its place. `failed`: why there is no text."""

    segment_id: str
    ordinal: int
    text: str = ""
    language: str = ""
    words: tuple[HeardWord, ...] = ()
    superseded: bool = False
    failed: str = ""


@dataclass(frozen=True, slots=True)
class ClientSpoke:
    """The softphone's own recogniser heard a sentence; times in ms on the media clock."""

    channel: int
    text: str
    begin_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class Updated:
    """The client changed the call's terms; None leaves a field as it is."""

    language: Language | None = None
    roles: tuple[str, ...] | None = None
    metadata: dict[str, Any] | None = None
    categories: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Paused: ...


@dataclass(frozen=True, slots=True)
class Continued: ...


@dataclass(frozen=True, slots=True)
class Warned:
    """The shell has something to tell the client that is no fault of the client's."""

    code: str
    message: str
    lag_ms: int = 0


@dataclass(frozen=True, slots=True)
class HungUp:
    """The call is over: by `hangup`, or because the client stayed away (`reason` says which)."""

    reason: str


@dataclass(frozen=True, slots=True)
class SettlingExpired:
    """The engines took too long over what was said last; go on without it."""


@dataclass(frozen=True, slots=True)
class QcProgressed:
    session_id: str
    state: int
    state_desc: str


@dataclass(frozen=True, slots=True)
class QcJudged:
    """Voice QC is done: its `result` object, or why there will be none."""

    session_id: str
    result: dict[str, Any]
    failure: str = ""


@dataclass(frozen=True, slots=True)
class QcWaitExpired:
    """The client's patience (`wait_qc_ms`) is over, or the server is going away."""


Event = (
    Accepted | AudioArrived | AudioLost | AudioStored | SpeechConfirmed | Identified | Transcribed | ClientSpoke
    | Updated | Paused | Continued | Warned | HungUp | SettlingExpired | QcProgressed | QcJudged | QcWaitExpired
)  # fmt: skip
