"""Where in recordings somebody speaks: passages of calls and of files, each with a voice print."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

SourceKind = Literal["call", "file"]
SourceState = Literal["waiting", "indexed", "failed"]

CHANNEL, BEGIN_MS, END_MS = 0, 1, 2
"""The columns of `Passages.spans`."""


@dataclass(frozen=True, slots=True)
class PassageSource:
    """A recording that passages were, or will be, found in."""

    source_id: str
    """The call's id, or the file's."""
    app_id: str
    kind: SourceKind
    name: str
    """What the file was called; empty for calls."""
    recorded_at_ms: int
    """Wall clock, ms since the Unix epoch: when the call began, or the file was handed in."""
    duration_ms: int
    state: SourceState = "waiting"
    passages: int = 0
    reason: str = ""
    """Why it failed."""


@dataclass(frozen=True, slots=True)
class Passages:
    """What was found in one recording, in the order of channel and time."""

    space: str
    """The embedding space: passages of another are never found."""
    spans: NDArray[np.int32]
    """Shape (n, 3): channel, begin and end in ms from the recording's start."""
    vectors: NDArray[np.float16]
    """Shape (n, d), of unit length but for rounding."""


@dataclass(frozen=True, slots=True)
class PassageTask:
    """A recording that nobody has listened to yet."""

    source_id: str
    kind: SourceKind
    attempts: int
    """Failed ones so far."""


class PassageStore(Protocol):
    """Keeps passages, and the list of recordings that wait for being listened to. Every method may raise Unavailable.

    A call gets onto that list by itself when it has ended, and its passages go when its record does.
    """

    async def add_file(self, source: PassageSource) -> None:
        """Keep a file's source, and have it listened to. Durable."""

    async def next_task(self, kinds: Collection[SourceKind]) -> PassageTask | None:
        """Of these kinds the recording that has waited longest, those that failed behind; None when none waits."""

    async def put_off(self, source_id: str) -> None:
        """Note that an attempt failed."""

    async def settle(self, source: PassageSource, passages: Passages | None) -> bool:
        """Keep what a recording is, and what was found in it; it does not wait any more. Durable.

        In the place of what was kept of it before. False, keeping nothing, when it was deleted meanwhile.
        """

    async def forget(self, app_id: str, source_id: str) -> bool:
        """Delete the source with its passages, for good; False when the app has none such."""

    async def sources(self, app_id: str, source_ids: Collection[str]) -> Mapping[str, PassageSource]:
        """Those of these recordings that are there."""

    async def left_behind(self, source_ids: Collection[str]) -> Mapping[str, PassageSource]:
        """As `sources`, of whatever app: for what a process takes up and a signed link names, never for a caller."""

    async def files(self, app_id: str, *, limit: int, before: str | None = None) -> Sequence[PassageSource]:
        """The app's files, newest first; `before` (a file's id) pages on."""

    async def load(self, space: str, *, after: str = "", limit: int = 500) -> Sequence[tuple[PassageSource, Passages]]:
        """Recordings with passages in this space, by id from `after` on."""

    async def other_spaces(self, spaces: Collection[str]) -> int:
        """How many recordings have their passages in other spaces than these."""


class PassageAudio(Protocol):
    """The recordings that passages are cut from, as WAV files of 16-bit PCM."""

    def path(self, kind: SourceKind, source_id: str) -> Path:
        """Where the recording is, if it is there. Raises ValueError for an id that is no safe file name."""

    async def keep(self, file_id: str, pcm: bytes, rate_hz: int, channels: int) -> None:
        """Keep a file's audio, durably. Raises OSError, which leaves nothing behind."""

    async def delete(self, file_id: str) -> None:
        """Delete a file's audio for good; again does nothing. Raises OSError."""

    async def file_ids(self) -> Collection[str]:
        """The files that audio is kept of."""
