"""The voice QC API as a role, and what a voice QC service of our own keeps."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, Self

from protocol.messages import Language
from protocol.quality_result import state_from_answer
from protocol.rules import AnyContent


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

    @classmethod
    def of(cls, result: object) -> Self:
        """The answer in a `result` object of the API. A known `state_desc` counts for more than the number beside it.

        Raises ValueError for anything else.
        """
        if not isinstance(result, dict) or type(state := result.get("state")) is not int:
            raise ValueError("there is no result with its state")
        description = str(result.get("state_desc", ""))
        return cls(state_from_answer(state, description), description, result)

    @property
    def done(self) -> bool:
        return self.state not in (0, 1)

    @property
    def succeeded(self) -> bool:
        return self.state == 2


PushState = Literal["none", "waiting", "delivered", "dead"]
"""Of a result: nobody asked for it, it is to be delivered, it was, or it was given up."""


class QualityApi(Protocol):
    async def create(self, task: QualityTask) -> None:
        """Hand a recording in; the same `session_id` again is the same task. Raises Rejected or Unavailable."""

    async def result(self, app_id: str, session_id: str) -> QualityAnswer:
        """Where the task stands. Raises Rejected (no such task) or Unavailable."""


@dataclass(frozen=True, slots=True)
class StoredCategory:
    """A category of quality rules as one app keeps it: plain expressions, or expressions with options."""

    category: str
    description: str
    contents: tuple[AnyContent, ...]
    at_vendor: bool = False
    """A voice QC vendor has its plain strings; the vendor's list is what counts for them."""


class RulesMoved(Exception):
    """The app's rules are at another version than the one that was to be changed; nothing was changed."""

    def __init__(self, version: int) -> None:
        self.version = version
        super().__init__(f"the rules are at version {version}")


class RuleSource(Protocol):
    async def rules(self, app_id: str) -> tuple[int, Sequence[StoredCategory]]:
        """The app's rules and their version."""


class RuleVersions(Protocol):
    async def versions(self, app_ids: Collection[str]) -> Mapping[str, int]:
        """The versions of the rules of apps, cheaply; an app that never had any may be left out. Raises Unavailable."""


class RuleBooks(Protocol):
    """Rules as they once were, by what they say: a call that is rebuilt is judged by the rules it was judged by."""

    async def keep(self, digest: str, book: bytes) -> None:
        """Keep `book`, durably, under the digest of its content; keeping it again changes nothing."""

    async def get(self, digest: str) -> bytes | None: ...

    async def keep_only(self, digests: Collection[str]) -> int:
        """Forget all others; returns how many those were."""


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
    callback_url: str = ""
    """Where the caller wants the result pushed; empty: nowhere. Of a claimed job it is not told."""
    claim: str = ""
    """Of a claimed job: the fencing token of this claim. Whoever claims the job next gets another."""


@dataclass(frozen=True, slots=True)
class QualityRecord:
    """Where a submission stands; `result` is there once `state` is 2."""

    request: bytes
    state: int
    reason: str
    progress_percent: int
    result: bytes | None
    push: PushState = "none"


@dataclass(frozen=True, slots=True)
class QualityPush:
    """A result that its caller wants delivered."""

    ticket: str
    app_id: str
    session_id: str
    url: str
    failures: int


class QualityPushes(Protocol):
    """The results that are still to be pushed, as durable as the tasks they belong to.

    Every method may raise Unavailable.
    """

    async def due(self, *, limit: int, but: Collection[str]) -> Sequence[QualityPush]:
        """What is to be delivered now, the longest due first, without the tickets in `but`."""

    async def next_at(self, but: Collection[str]) -> float | None:
        """When the next falls due, in wall-clock seconds."""

    async def delivered(self, ticket: str) -> None: ...

    async def failed(self, ticket: str, error: str, *, retryable: bool, retry_after_s: float | None = None) -> bool:
        """Note a failed attempt; False when it was the last."""


class QualityTasks(Protocol):
    """The durable queue of voice QC, for any number of workers in any number of processes. What returned has been kept.

    A claim is a lease: it is the claimant's while it is renewed, by `renew` or `advance`. Once it has run out, another
    may claim the job, and whatever comes under the older claim is refused and changes nothing. So a job may be worked
    on twice, and ends once. Every method may raise Unavailable.
    """

    async def submit(self, job: QualityJob) -> str | None:
        """Queue a job in place of any earlier one of its app and session; the `audio_name` of the replaced one.

        With a `callback_url` its end is to be pushed there.
        """

    async def claim(self, worker: str) -> QualityJob | None:
        """The job that has waited longest, now `worker`'s to do and one attempt richer; None when nothing waits.

        A job whose claimant has not been heard of for the length of a lease waits, too.
        """

    async def renew(self, job: QualityJob) -> bool:
        """Say that the claim is still worked on; False when it is no longer the job's (lost, or the job replaced)."""

    async def advance(self, job: QualityJob, progress_percent: int) -> bool:
        """Note progress, which renews the claim; False when it is no longer the job's."""

    async def release(self, job: QualityJob, *, counts: bool) -> None:
        """Put a claimed job back where it was in the queue; the attempt is forgotten unless it `counts`."""

    async def finish(
        self, job: QualityJob, state: int, reason: str, result: bytes | None, *, billed_ms: int = 0
    ) -> bool:
        """End a claimed job and count `billed_ms` of speech for its app, together or not at all.

        False when the claim is no longer the job's; then nothing is kept or counted.
        """

    async def put_back(self, worker: str) -> int:
        """Put back what an earlier process named `worker` left running, and say how many jobs those were.

        Only for a name that no two processes have at a time; others' claims have to run out.
        """

    async def find(self, app_id: str, session_id: str) -> QualityRecord | None:
        """The latest submission under this session of this app."""

    async def audio_in_use(self) -> frozenset[str]:
        """The `audio_name` of every job that is not finished."""

    async def forget(self, app_id: str, session_id: str) -> str | None:
        """Remove the session's submission with its result, whatever its state, for good; its `audio_name`, None when
        there was none. A worker that has it learns so as of one that was replaced."""

    async def sweep_before(self, finished_before_s: float, *, but: Collection[str]) -> int:
        """Remove, for good, submissions finished before then (wall clock); how many. Those of the sessions in `but`,
        and results that are still to be pushed, stay."""


class VendorRules(Protocol):
    """The rule list of a voice QC vendor, which knows plain strings only. Every method may raise a PortError."""

    async def rules(
        self, app_id: str, category: str = "", *, page_no: int = 1, page_size: int = 10
    ) -> tuple[int, Sequence[StoredCategory]]:
        """How many categories hold `category` in their name, and one page of them."""

    async def add_rule(self, app_id: str, rule: StoredCategory) -> None: ...

    async def modify_rule(self, app_id: str, rule: StoredCategory) -> None: ...

    async def delete_rule(self, app_id: str, category: str) -> None: ...


class QualityRules(RuleSource, RuleVersions, Protocol):
    """The rule categories of each app. A change raises the app's version by one; one that fails leaves it.

    Every method may raise Unavailable.
    """

    async def add(self, app_id: str, category: StoredCategory) -> bool:
        """False when the app has this category."""

    async def modify(self, app_id: str, category: StoredCategory) -> bool:
        """False when the app has no such category."""

    async def put(self, app_id: str, category: StoredCategory, *, at_version: int | None = None) -> int:
        """Add the category, or put it in the place of the one of its name; the version that this made.

        Raises RulesMoved when the rules are not `at_version`.
        """

    async def remove(self, app_id: str, category: str, *, at_version: int | None = None) -> bool:
        """False when the app has no such category. Raises RulesMoved when the rules are not `at_version`."""

    async def replace_all(self, app_id: str, categories: Sequence[StoredCategory], *, at_version: int) -> None:
        """Have these and no others, in this order. Raises RulesMoved when the rules are not `at_version`."""

    async def page(self, app_id: str, fragment: str, offset: int, limit: int) -> tuple[int, Sequence[StoredCategory]]:
        """How many categories hold `fragment` in their name, and some of them in the order they were added."""
