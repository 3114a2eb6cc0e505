"""The roles that the rest of Earshot needs filled, as Protocols, and the values that cross them.

Only `gateway/app.py` names who fills a role. Every PCM argument is signed 16-bit little-endian, mono unless its
docstring says otherwise; the rate stands beside it. Every method that can wait is `async` and may raise one of the
errors at the top of this file, which say whose fault it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Embedding = NDArray[np.float32]
"""A voice print: shape (d,), unit length."""

Language = Literal["zh", "en", "auto"]


class PortError(Exception):
    """Base of everything a port may raise; `retryable` says whether the same call may succeed later."""

    retryable = False


class Unavailable(PortError):
    """The other side cannot answer now: down, overloaded, timed out. The caller is not at fault."""

    retryable = True

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Rejected(PortError):
    """The other side refuses this request and will refuse it again. `code` is the other side's own code."""

    def __init__(self, message: str, *, code: str = "") -> None:
        super().__init__(message)
        self.code = code


# --- speech ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Word:
    """One recognised word with its leading space, if any, so that joining the texts gives the sentence."""

    text: str
    begin_ms: int
    end_ms: int
    """Both from the start of the PCM that was handed in."""


@dataclass(frozen=True, slots=True)
class Transcription:
    """What a recogniser heard. `text == "".join(word.text for word in words).strip()`."""

    text: str
    language: str
    words: tuple[Word, ...]
    rejected: str | None = None
    """Why the hypothesis was dropped ("no_speech", "low_confidence", "repetition"); then `text` is empty."""


@dataclass(frozen=True, slots=True)
class TranscribeRequest:
    """One stretch of one channel, at most 30 s."""

    pcm: bytes
    rate_hz: int
    language: Language
    kind: Literal["partial", "final", "recording"]
    """`partial` and `final` are live (unpadded windows); `recording` is the full-quality path of voice QC."""
    deadline_s: float
    """On `Clock.monotonic`: jobs run in the order of their deadlines, finals before partials."""
    key: str
    """Names the segment: a newer partial of the same key replaces an older one that has not started."""


class Recognizer(Protocol):
    async def transcribe(self, request: TranscribeRequest) -> Transcription | None:
        """The words of `request.pcm`; None when a newer partial of the same key took its place.

        Raises Unavailable when the engine is gone and could not be restarted.
        """


class Embedder(Protocol):
    @property
    def model(self) -> str:
        """The embedding space's name; prints of two spaces never meet."""

    @property
    def dimensions(self) -> int: ...

    async def embed(self, pcm: bytes, rate_hz: int) -> Embedding:
        """The voice print of up to 5 minutes of one voice; needs at least 0.2 s. Raises Unavailable."""


@dataclass(frozen=True, slots=True)
class SpeechProbabilities:
    """One probability (0-1) for each 32 ms of the PCM, and the model's state to hand in with the next stretch."""

    probabilities: tuple[float, ...]
    state: bytes


class SpeechConfirmer(Protocol):
    async def confirm(self, pcm: bytes, rate_hz: int, state: bytes | None) -> SpeechProbabilities:
        """How likely each 32 ms of `pcm` is speech. `pcm` lasts a multiple of 32 ms.

        `state` is what the previous stretch of the channel returned, None at a fresh start: the model keeps nothing.
        Raises Unavailable.
        """


@dataclass(frozen=True, slots=True)
class DecodedAudio:
    """Any audio file as PCM: interleaved, `channels` wide."""

    pcm: bytes
    rate_hz: int
    channels: int

    @property
    def duration_ms(self) -> int:
        return len(self.pcm) * 1000 // (2 * self.channels * self.rate_hz)


class Decoder(Protocol):
    async def decode(
        self,
        data: bytes,
        *,
        name: str = "",
        rate_hz: int | None = None,
        channels: int | None = None,
        max_s: float = 3600,
    ) -> DecodedAudio:
        """Decode a file's bytes in a child process with limits on memory, time and output.

        `rate_hz` and `channels` convert (None keeps what the file has); `name` is a hint only.
        What lies past `max_s` is cut.
        Raises Rejected (code `undecodable`) when it is no audio that can be read.
        """


@dataclass(frozen=True, slots=True)
class FetchedFile:
    data: bytes
    name: str
    """The last part of the address's path: a hint at the format."""
    content_type: str


class Fetcher(Protocol):
    async def fetch(self, url: str, *, max_bytes: int) -> FetchedFile:
        """What an http(s) address holds, if it is one that this server may call.

        Raises Rejected (the address is not allowed, answers an error, or holds too much) or Unavailable.
        """


class Denoiser(Protocol):
    async def denoise(self, pcm: bytes, rate_hz: int) -> bytes:
        """The same stretch of speech with less noise, as long as before. Raises Unavailable."""


# --- the two APIs ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Candidate:
    name: str
    score: float
    """100 x cosine, as the voiceprint API's."""


class VoiceprintApi(Protocol):
    async def recognize(
        self, app_id: str, org_id: str, tag_id: str | None, pcm: bytes, rate_hz: int
    ) -> Sequence[Candidate]:
        """The ten closest enrolled voices, best first; empty when nobody is enrolled.

        Raises Rejected (with the API's code, such as 10107 for audio too poor) or Unavailable.
        """


@dataclass(frozen=True, slots=True)
class QualityTask:
    """What voice QC is asked to judge; `session_id` is the idempotency key."""

    session_id: str
    app_id: str
    recording: Path
    """A WAV file."""
    rate_hz: int
    channels: int
    language: Language
    categories: tuple[str, ...]
    """Empty: all."""


@dataclass(frozen=True, slots=True)
class QualityAnswer:
    """Where a task stands. `result` is the API's `result` object, whole, once `state` is 2."""

    state: int
    state_desc: str
    result: dict[str, Any]

    @property
    def done(self) -> bool:
        return self.state not in (0, 1)

    @property
    def succeeded(self) -> bool:
        return self.state == 2


class QualityApi(Protocol):
    async def create(self, task: QualityTask) -> None:
        """Hand a recording in; the same `session_id` again is the same task. Raises Rejected or Unavailable."""

    async def result(self, app_id: str, session_id: str) -> QualityAnswer:
        """Where the task stands. Raises Rejected (no such task) or Unavailable."""


@dataclass(frozen=True, slots=True)
class StoredCategory:
    """A category of quality rules as one app keeps it; `version` grows with each change of the app's rules."""

    category: str
    description: str
    contents: tuple[str, ...]


class RuleSource(Protocol):
    async def rules(self, app_id: str) -> tuple[int, Sequence[StoredCategory]]:
        """The app's rules and their version."""


# --- voice QC's own keeping --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class QualityJob:
    """A submitted recording in the queue of voice QC."""

    ticket: str
    """Names this submission; another one under the same `session_id` has another ticket and takes its place."""
    app_id: str
    session_id: str
    audio_name: str
    """A file in the audio folder of voice QC, which alone writes and deletes there."""
    request: bytes
    """What was asked, as voice QC encodes it."""
    attempts: int
    """How often the work was begun, this time included."""


@dataclass(frozen=True, slots=True)
class QualityRecord:
    """Where a submission stands; `result` is there once `state` is 2."""

    request: bytes
    state: int
    reason: str
    progress_percent: int
    result: bytes | None


class QualityTasks(Protocol):
    """The durable queue of voice QC. What returned has been kept; a stale ticket changes nothing.

    Every method may raise Unavailable.
    """

    async def submit(self, job: QualityJob) -> str | None:
        """Queue a job in place of any earlier one of its app and session; the `audio_name` of the replaced one."""

    async def claim(self) -> QualityJob | None:
        """The job that has waited longest, now running and one attempt richer; None when nothing waits."""

    async def advance(self, ticket: str, progress_percent: int) -> bool:
        """Note progress; False when the job was replaced meanwhile."""

    async def release(self, ticket: str, *, counts: bool) -> None:
        """Put a running job back where it was in the queue; the attempt is forgotten unless it `counts`."""

    async def finish(self, ticket: str, state: int, reason: str, result: bytes | None) -> bool:
        """End a running job; False when it was replaced meanwhile (then nothing is kept)."""

    async def requeue_running(self) -> int:
        """Put back every job that a stopped process left running, and say how many there were."""

    async def find(self, app_id: str, session_id: str) -> QualityRecord | None:
        """The latest submission under this session of this app."""

    async def audio_in_use(self) -> frozenset[str]:
        """The `audio_name` of every job that is not finished."""


class QualityRules(RuleSource, Protocol):
    """The rule categories of each app. A change raises the app's version by one; one that fails leaves it.

    Every method may raise Unavailable.
    """

    async def add(self, app_id: str, category: StoredCategory) -> bool:
        """False when the app has this category."""

    async def modify(self, app_id: str, category: StoredCategory) -> bool:
        """False when the app has no such category."""

    async def remove(self, app_id: str, category: str) -> bool:
        """False when the app has no such category."""

    async def page(self, app_id: str, fragment: str, offset: int, limit: int) -> tuple[int, Sequence[StoredCategory]]:
        """How many categories hold `fragment` in their name, and some of them in the order they were added."""


# --- keeping voices ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class VoiceprintRow:
    """An enrolled voice as it is kept, without its audio. `print_id` changes when the audio does."""

    print_id: str
    app_id: str
    org_id: str
    tag_id: str
    name: str
    model: str
    """The embedding space of `embedding`."""
    embedding: Embedding


class VoiceprintStore(Protocol):
    """Keeps enrolled voices. A name is unique within (app, org, tag). Every method may raise Unavailable."""

    async def add(self, row: VoiceprintRow, audio: bytes) -> bool:
        """Keep a new voice, durably; False, changing nothing, when its name is taken."""

    async def replace(self, row: VoiceprintRow, audio: bytes) -> str | None:
        """Put `row` in the place of the voice of its name; the former `print_id`, None when there is no such voice."""

    async def remove(self, app_id: str, org_id: str, tag_id: str, names: Sequence[str] | None) -> Sequence[str]:
        """Delete these voices and their audio, or (None) all of the tag; the `print_id`s that are gone.

        All or nothing: when one of `names` is unknown, nothing is deleted and the answer is empty.
        """

    async def find(self, app_id: str, org_id: str, tag_id: str, name: str) -> VoiceprintRow | None: ...

    async def count(self, app_id: str, org_id: str, tag_id: str | None) -> int: ...

    async def page(
        self, app_id: str, org_id: str, tag_id: str | None, *, offset: int, limit: int
    ) -> Sequence[VoiceprintRow]:
        """The voices of a scope, newest first."""

    async def audio(self, print_id: str) -> bytes | None:
        """The audio kept with a voice, None when there is no such voice."""

    async def load(self, model: str) -> Sequence[VoiceprintRow]:
        """Every voice of one embedding space, oldest first."""

    async def models(self) -> dict[str, int]:
        """How many voices there are of each embedding space."""


# --- keeping calls -----------------------------------------------------------------------------------------------


class Journal(Protocol):
    """The append-only log of one ingest process. Appending is synchronous and cheap; being safe is awaited.

    Appending raises OSError when the disk takes nothing and memory for it is used up; nothing is appended then.
    """

    @property
    def degraded(self) -> str | None:
        """What keeps the journal from making anything safe, or None."""

    def open_call(self, call_id: str, header: bytes) -> int: ...

    def append_audio(self, call_id: str, first_sample: int, pcm: bytes) -> int:
        """Append interleaved PCM; the position returned is safe once `synced(position)` returns."""

    def append_message(self, call_id: str, seq: int, payload: bytes) -> int:
        """Append a server message; it survives a killed process as soon as this returns."""

    def close_call(self, call_id: str) -> int:
        """Note that the call has hung up: nothing more will be appended for it."""

    async def synced(self, position: int) -> None:
        """Return once everything up to `position` would survive a power cut. Raises OSError if it never will."""

    async def seal(self, call_id: str) -> Path:
        """Copy the call out to its WAV file, durably; doing it again gives the same file."""

    async def release(self, call_id: str) -> None:
        """Audio and messages are safe elsewhere: the call's part of the journal may go."""


CallState = Literal["live", "judging", "judged", "failed"]
"""`failed`: voice QC gave no verdict and will give none."""


@dataclass(frozen=True, slots=True)
class CallRecord:
    """One call as it is kept: a few columns to find it by, and the document that `GET /v1/calls/{id}` answers."""

    call_id: str
    app_id: str
    state: CallState
    began_at_ms: int
    """Wall clock, ms since the Unix epoch."""
    ended_at_ms: int | None
    document: dict[str, Any]


class CallStore(Protocol):
    """Calls by app; another app's calls are as if absent."""

    async def save(self, record: CallRecord) -> None:
        """Insert or replace, durably."""

    async def get(self, app_id: str, call_id: str) -> CallRecord | None: ...

    async def page(self, app_id: str, *, limit: int, before: str | None = None) -> Sequence[CallRecord]:
        """Latest first; `before` (a call id) pages on."""


class TaskQueue(Protocol):
    """The way to voice QC that survives whatever happens here and there."""

    async def put(self, task: QualityTask, call_id: str) -> bool:
        """Remember the task durably; it will be handed in, and its verdict reported, however often that takes to try.

        False when its session id is in already, which changes nothing.
        """


class Clock(Protocol):
    """Time as the shell sees it; the core of a call sees samples only."""

    def monotonic(self) -> float: ...

    def wall(self) -> float: ...
