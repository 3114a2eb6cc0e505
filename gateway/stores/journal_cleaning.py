"""Which old segments of a journal are worth cleaning, and what of them must stay.

A segment goes once all its calls are released; one long call would so keep hours of everybody's audio. A segment that
holds little of value is therefore emptied: its live records are copied to the end of the journal, then it is dropped.
Emptying only what is live to at most a quarter bounds what this costs: of 4 bytes written, at most 1 is a copy.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from gateway.stores.journal_records import Damage, Kind, scan

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
