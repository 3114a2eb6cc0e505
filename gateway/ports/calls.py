"""Where calls are kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from gateway.call.track_record import RuleOutcome
from gateway.ports.quality import QualityTask


class AudioListener(Protocol):
    """Hears, on the event loop, what becomes of the audio that a journal takes."""

    def note_safe(self, samples: Mapping[str, int], position: int) -> None:
        """Up to so many samples (per channel) the audio of these calls would survive a power cut, since a commit of
        everything up to `position`."""

    def note_fault(self, fault: str) -> None:
        """The disk did not take a commit this time; it is tried again."""


class Journal(Protocol):
    """The append-only log of one ingest process. Appending is synchronous and cheap; being safe is awaited.

    Appending raises OSError when the disk takes nothing and memory for it is used up; nothing is appended then.
    """

    @property
    def degraded(self) -> str | None:
        """What keeps the journal from making anything safe, or None."""

    @property
    def has_room(self) -> bool:
        """Whether memory is left for audio that waits for the disk; appending none while there is not never raises."""

    @property
    def crowded(self) -> bool:
        """Whether so much waits for the disk already that no new call should begin."""

    @property
    def position(self) -> int:
        """That of the latest append: `synced` with it waits for everything so far."""

    @property
    def safe_position(self) -> int:
        """Everything up to here would survive a power cut."""

    def open_call(self, call_id: str, header: bytes, epoch: int = 0) -> int:
        """Begin a call; of what several journals hold of it, that of the highest epoch counts."""

    def begin_epoch(self, call_id: str, epoch: int, header: bytes) -> None:
        """What is appended to a call from here on is of `epoch`; a call that is not in the journal begins."""

    def append_audio(self, call_id: str, first_sample: int, pcm: bytes) -> int:
        """Append interleaved PCM; the position returned is safe once `synced(position)` returns."""

    def tell(self, listener: AudioListener) -> None:
        """Have this one listener hear how far each call's audio is safe."""

    def hand_over(self, call_ids: Iterable[str]) -> None:
        """What was appended of these calls survives a killed process from here on."""

    def append_message(self, call_id: str, seq: int, payload: bytes) -> int:
        """Append a server message; it survives a killed process as soon as this returns."""

    def append_event(self, call_id: str, ordinal: int, payload: bytes, *, at_once: bool) -> int:
        """Append what happened to the call. It survives a killed process as soon as this returns if `at_once`, else
        no later than the next message."""

    def close_call(self, call_id: str) -> int:
        """Note that the call has hung up: no more audio will be appended for it. Again does nothing."""

    async def synced(self, position: int) -> None:
        """Return once everything up to `position` would survive a power cut. Raises OSError if it never will."""

    async def seal(self, call_id: str) -> Path:
        """Copy the call out to its WAV file, durably; doing it again gives the same file."""

    async def publish(self, call_id: str) -> Path:
        """Let the sealed file be found, now that the call is known to be this node's to hand in; again does nothing.
        Raises OSError: then it is to be sealed again."""

    async def release(self, call_id: str) -> None:
        """Audio and messages are safe elsewhere: the call's part of the journal may go."""


class LiveCalls(Protocol):
    """The calls that are in memory, in whichever process. Another app's calls are as if absent.

    Every method may raise Unavailable: a process that may have the call does not answer.
    """

    async def now(self, app_id: str, call_ids: Sequence[str]) -> Mapping[str, dict[str, Any]]:
        """By call id, what there is to tell of those of `call_ids` that are in memory."""

    async def filed(self, call_id: str) -> None:
        """Return once the store has all of a call that has just ended."""

    async def holds(self, app_id: str, call_id: str) -> bool:
        """Whether the call is in memory. One that an earlier process left behind is taken up first, and one that has
        just ended is filed."""


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

    async def left_behind(self, call_id: str) -> CallRecord | None:
        """A call whose app is not known any more, for who takes up what a process has left: never for a request."""

    async def page(self, app_id: str, *, limit: int, before: str | None = None) -> Sequence[CallRecord]:
        """Latest first; `before` (a call id) pages on."""


@dataclass(frozen=True, slots=True)
class RuleTrack:
    """A rule's outcomes over many calls (see `RuleOutcome`); the medians are of confirmed alerts."""

    category: str
    rule: str
    calls: int
    alerts: int
    confirmed: int
    not_confirmed: int
    indeterminate: int
    retracted: int
    missed: int
    shadow: int
    lead_p50_ms: int | None
    hangup_lead_p50_ms: int | None


class RuleOutcomes(Protocol):
    """What became of early alerts, by app: another app's are as if absent."""

    async def keep(self, app_id: str, call_id: str, judged_at_ms: int, outcomes: Sequence[RuleOutcome]) -> None:
        """Keep what a call's verdict says, in the place of what was kept of this call before."""

    async def tracks(self, app_id: str, *, since_ms: int, limit: int) -> Sequence[RuleTrack]:
        """Rules by category and expression, over the calls judged since."""


class TaskQueue(Protocol):
    """The way to voice QC that survives whatever happens here and there."""

    async def put(self, task: QualityTask, call_id: str) -> bool:
        """Remember the task durably; it will be handed in, and its verdict reported, however often that takes to try.

        False when its session id is in already, which changes nothing.
        """
