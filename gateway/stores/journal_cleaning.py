"""Which old segments of a journal go, and what of them must stay.

A segment goes once all its calls are released; one long call would so keep hours of everybody's audio. A segment that
holds little of value is therefore emptied: its live records are copied to the end of the journal, then it is dropped.
Emptying only what is live to at most a quarter bounds what this costs: of 4 bytes written, at most 1 is a copy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import structlog

from gateway.stores.commit_log import CommitLog
from gateway.stores.durable_files import remove_durably
from gateway.stores.file_thread import FileThread
from gateway.stores.group_commit import GroupCommit
from gateway.stores.journal_calls import JournalledCalls, RecordBatch
from gateway.stores.journal_records import Damage, Kind, scan

log = structlog.get_logger(__name__)

CLEAN_BELOW_SHARE = 0.25
"""A finished segment of which less is live is emptied."""
MANY_SEGMENTS = 32
"""With more than these (2 GiB by default) the emptiest is emptied even so ..."""
CLEAN_BELOW_SHARE_OF_MANY = 0.5
"""... as long as less than this of it is live: else the calls that go on are simply that big."""
PORTION_BYTES = 1024 * 1024
"""Copied at once, so that live audio does not have to wait behind a copy."""


@dataclass(slots=True)
class _Use:
    """What one segment holds, in bytes by call."""

    size_bytes: int = 0
    bytes_of: dict[str, int] = field(default_factory=dict)

    def live_share(self, live: Collection[str]) -> float:
        """How much of it belongs to calls that are not released, 0 to 1."""
        live_bytes = sum(size for call_id, size in self.bytes_of.items() if call_id in live)
        return live_bytes / self.size_bytes


class SegmentLedger:
    """Whose records each segment of a journal holds, oldest segment first."""

    def __init__(self) -> None:
        self._uses: dict[Path, _Use] = {}
        self._spoilt: set[Path] = set()
        self._latest: Path | None = None
        self._latest_use = _Use()

    def note(self, segment: Path, call_id: str, size_bytes: int) -> None:
        """A record of the call is safe in the segment."""
        if segment is not self._latest:  # looking a path up costs more than all else here
            self._latest, self._latest_use = segment, self._uses.setdefault(segment, _Use())
        use = self._latest_use
        use.size_bytes += size_bytes
        use.bytes_of[call_id] = use.bytes_of.get(call_id, 0) + size_bytes

    def __contains__(self, segment: Path) -> bool:
        return segment in self._uses

    def forget(self, segment: Path) -> None:
        """It is gone from the disk."""
        self._latest = None
        self._uses.pop(segment, None)

    def spare(self, segment: Path) -> None:
        """It cannot be emptied: it goes with its last call."""
        self._spoilt.add(segment)

    def done_with(self, current: Path | None, live: Collection[str]) -> list[Path]:
        """The oldest segments while every call in them is released.

        In order only, and counting a segment until `forget`, so until it is gone from the disk: the note of a release
        must never go before the records it covers, or the next start would find the call unfinished.
        """
        done_with = []
        for path, use in self._uses.items():
            if path == current or any(call_id in live for call_id in use.bytes_of):
                break
            done_with.append(path)
        return done_with

    def worth_emptying(self, current: Path | None, live: Collection[str], few: int) -> Path | None:
        """The finished segment to empty next; None when none is worth it, or there are no more than `few`."""
        finished = {path: use for path, use in self._uses.items() if path != current and path not in self._spoilt}
        if len(finished) <= few:
            return None
        share, path = min((use.live_share(live), path) for path, use in finished.items())
        limit = CLEAN_BELOW_SHARE_OF_MANY if len(finished) > MANY_SEGMENTS else CLEAN_BELOW_SHARE
        return path if share < limit else None

    def holding(self, call_id: str) -> list[Path]:
        """The segments that hold records of a call, oldest first."""
        return [path for path, use in self._uses.items() if call_id in use.bytes_of]

    def calls_elsewhere(self, segment: Path) -> set[str]:
        """The calls that other segments hold something of: a note that one of them is released must not go."""
        return {call_id for other, use in self._uses.items() if other != segment for call_id in use.bytes_of}


@dataclass(frozen=True, slots=True)
class Copied:
    """One record as its bytes, which any segment of the same journal may hold."""

    call_id: str
    kind: Kind
    data: bytes


def records_to_keep(path: Path, live: Collection[str], noted: Collection[str]) -> list[list[Copied]]:
    """The records of the calls in `live`, and the notes that those in `noted` are released, in portions. Blocking.

    Raises OSError, also for a segment that has damage in it: that one stays for recovery to look at.
    """
    data = path.read_bytes()
    portions: list[list[Copied]] = [[]]
    portion_bytes = 0
    for found in scan(data):
        if isinstance(found, Damage):
            raise OSError(f"{path}: {found.reason} at byte {found.offset_bytes}")
        record = found.record
        if record.call_id in live or (record.kind is Kind.RELEASE and record.call_id in noted):
            if portion_bytes >= PORTION_BYTES:
                portions.append([])
                portion_bytes = 0
            copied = data[found.offset_bytes : found.offset_bytes + found.size_bytes]
            portions[-1].append(Copied(record.call_id, record.kind, copied))
            portion_bytes += len(copied)
    return portions


class SegmentCleaning:
    """Removes the segments of a journal that nobody needs, and empties those that hold little of value.

    Belongs to the event loop of the journal. A segment is emptied by appending what is live in it to the journal once
    more; `ledger` and `calls` say where everything stands, and are told what moved.
    """

    def __init__(
        self,
        calls: JournalledCalls,
        ledger: SegmentLedger,
        batch: RecordBatch,
        commit_log: CommitLog,
        commits: GroupCommit,
        files: FileThread,
        few_segments: int,
    ) -> None:
        """With no more than `few_segments` finished ones none is emptied."""
        self.copied_bytes = 0
        """Written only to free old segments."""
        self._calls = calls
        self._ledger = ledger
        self._batch = batch
        self._log = commit_log
        self._commits = commits
        self._files = files
        self._few_segments = few_segments
        self._task: asyncio.Task[None] | None = None

    async def stop(self) -> None:
        """Give up what is under way: the segment stays as it is."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def remove_unneeded(self) -> None:
        """Remove the oldest segments while every call in them is released."""
        done_with = self._ledger.done_with(self._log.current_segment, self._calls)
        for path in await self._commits.in_commit_thread(partial(_remove_segments, done_with)):
            self._ledger.forget(path)

    def begin_next(self) -> None:
        """Empty one more segment in the background, if one is worth it and none is being emptied.

        Only when every block of a finished segment is safe and in the ledger.
        """
        if self._task is None or self._task.done():
            path = self._ledger.worth_emptying(self._log.current_segment, self._calls, self._few_segments)
            if path is not None:
                self._begin(path, "journal-cleaning")

    async def empty(self, paths: Sequence[Path]) -> bool:
        """Empty these finished segments, whatever they hold; False when not all of them are gone."""
        for path in paths:
            while self._task is not None and not self._task.done():
                await asyncio.wait([self._task])
            if path in self._ledger:
                await asyncio.wait([self._begin(path, "journal-erasing")])
        return not any(path in self._ledger for path in paths)

    def _begin(self, path: Path, name: str) -> asyncio.Task[None]:
        self._task = asyncio.get_running_loop().create_task(self._empty(path), name=name)
        return self._task

    async def _empty(self, path: Path) -> None:
        """Copy what is live in a segment to the journal's end, and drop the segment once the copies are safe.

        A crash on the way leaves records twice, which recovery counts once. A fault leaves the segment as it is.
        """
        try:
            noted = self._ledger.calls_elsewhere(path) - self._calls.keys()
            for portion in await self._files.run(partial(records_to_keep, path, frozenset(self._calls), noted)):
                await self._commits.synced(self._append_copies(portion, noted))
        except OSError as fault:
            if path in self._ledger:  # else its last call was released meanwhile, and it is gone
                log.warning("journal_segment_not_cleaned", segment=str(path), fault=str(fault))
                self._ledger.spare(path)
            return
        for call in self._calls.values():
            call.forget_extents(path)
        # Behind every seal that still reads the old place: one thread does both.
        if await self._files.run(partial(_remove_segments, [path])):
            self._ledger.forget(path)
        else:
            self._ledger.spare(path)

    def _append_copies(self, portion: list[Copied], noted: Collection[str]) -> int:
        kept = [
            copied
            for copied in portion
            if copied.call_id in noted or self._calls.unreleased(copied.call_id) is not None
        ]
        if not kept:  # nothing would come of waiting for an append that brought nothing
            return self._commits.position
        size_bytes = sum(len(copied.data) for copied in kept)
        self._commits.reserve(size_bytes)
        for copied in kept:
            self._batch.add_copy(copied.call_id, copied.kind, copied.data)
        self.copied_bytes += size_bytes
        return self._commits.appended()


def _remove_segments(paths: list[Path]) -> list[Path]:
    """Remove segments in their order and return those that are gone: what follows one that stays, stays too.

    A later segment may hold the note that a call of an earlier one is released, and must not go before it.
    """
    gone = []
    for path in paths:
        try:
            remove_durably(path)
        except OSError as fault:  # harmless but for the space it takes: it is tried again at the next release
            log.warning("journal_segment_not_removed", segment=str(path), fault=str(fault))
            break
        gone.append(path)
    return gone
