"""The journal's disk side: blocks of records go to the current segment, and a commit makes them safe."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from gateway.stores.durable_files import Disk
from gateway.stores.journal_records import Kind
from gateway.stores.journal_segments import SegmentFile


class Entry(NamedTuple):
    """Where a record stands inside its block."""

    call_id: str
    kind: Kind
    begin_bytes: int
    size_bytes: int
    again: bool = False
    """A copy of what the journal has already, made to free its old place."""
    end_sample: int = 0
    """Of audio: one past its last instant."""


@dataclass(slots=True)
class Block:
    """Records that go to the disk in one write. Kept in memory until they are known safe."""

    position: int
    data: bytes
    entries: tuple[Entry, ...]
    reserved_bytes: int
    """What its appends have reserved of the journal's memory, free again once the block is safe."""
    segment: Path = field(default_factory=Path)
    offset_bytes: int = 0


class CommitLog:
    """Writes blocks in their order. `enqueue` and `write_through` are for the event loop, `commit` for one worker.

    A failed write or sync is never repeated on the same file, whose pages may be gone although a second sync would
    succeed: every block that is not known safe is written again, to a fresh segment.
    """

    def __init__(self, directory: Path, marker: bytes, *, segment_bytes: int, disk: Disk) -> None:
        self._directory = directory
        self._marker = marker
        self._segment_bytes = segment_bytes
        self._disk = disk
        self._lock = Lock()  # held for writes to the page cache only, never for a sync: the event loop takes it too
        self._unwritten: deque[Block] = deque()
        self._unsynced: list[Block] = []
        self._segment: SegmentFile | None = None
        self._next_number = 1
        self._retiring = False

    @property
    def current_segment(self) -> Path | None:
        """The segment being written, None after a fault until the next commit."""
        return self._segment.path if self._segment else None

    def open(self) -> None:
        """Create the first segment, so that `write_through` has one from the start on. Blocks. Raises OSError."""
        self._segment = self._segment_to_move_to()

    def retire_segment(self) -> None:
        """Go on in a fresh segment from the next commit of anything on, however small the current one is."""
        self._retiring = True

    def enqueue(self, block: Block) -> None:
        self._unwritten.append(block)

    def write_through(self) -> None:
        """Hand every enqueued block to the operating system, so that it survives a killed process. Raises OSError.

        After a fault, until a commit has found a fresh segment, the blocks wait in memory instead.
        """
        with self._lock:
            if self._segment is None:
                return
            try:
                self._write_enqueued(self._segment)
            except OSError:
                self._abandon_segment()
                raise

    def commit(self) -> Sequence[Block]:
        """Make every enqueued block survive a power cut and return those that now do.

        Raises OSError when neither the current nor a fresh segment takes them; they are kept for the next try.
        """
        try:
            return self._commit_once()
        except OSError:
            with self._lock:
                self._abandon_segment()
        try:
            return self._commit_once()
        except OSError:
            with self._lock:
                self._abandon_segment()
            raise

    def close(self) -> None:
        with self._lock:
            if self._segment is not None:
                self._segment.close()
                self._segment = None

    def _commit_once(self) -> Sequence[Block]:
        if not (self._unwritten or self._unsynced):
            return ()
        fresh = self._segment_to_move_to()
        retiring = None
        with self._lock:
            # write_through may have met a fault since: then what comes next is a fresh segment all the same
            target = self._segment or fresh
            if target is None:
                raise OSError("the segment was lost to a fault while it was being committed")
            self._segment = target
            self._write_enqueued(target)
            blocks = tuple(self._unsynced)
            if fresh is not None and fresh is not target:
                retiring, self._segment = target, fresh
        try:
            target.sync()
        finally:
            if retiring is not None:
                retiring.close()
        with self._lock:
            # whoever abandoned the segment meanwhile has put its blocks back in the queue: they are written twice then
            if self._unsynced[: len(blocks)] == list(blocks):
                del self._unsynced[: len(blocks)]
            else:
                blocks = ()
        return blocks

    def _segment_to_move_to(self) -> SegmentFile | None:
        """A fresh segment, created without holding the lock, when there is none or the current one is full."""
        current = self._segment
        if current is not None and current.size_bytes < self._segment_bytes and not self._retiring:
            return None
        self._retiring = False
        number = self._next_number
        self._next_number += 1
        return SegmentFile.create(self._directory, number, self._marker, self._disk)

    def _write_enqueued(self, segment: SegmentFile) -> None:
        while self._unwritten:
            block = self._unwritten[0]
            block.offset_bytes = segment.append(block.data)
            block.segment = segment.path
            self._unsynced.append(self._unwritten.popleft())

    def _abandon_segment(self) -> None:
        self._unwritten.extendleft(reversed(self._unsynced))
        self._unsynced.clear()
        if self._segment is not None:
            self._segment.close()
            if not self._segment.holds_synced_records:
                self._segment.path.unlink(missing_ok=True)
            self._segment = None
