"""What earlier processes left behind: their journals' unfinished calls, and the parts that cannot be read."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from gateway.stores.durable_files import Disk, make_directory, write_durably
from gateway.stores.journal_found import FoundCall, RecoveredCall
from gateway.stores.journal_records import (
    MARKER_BYTES,
    BadRecord,
    Damage,
    Kind,
    Record,
    UnknownVersion,
    decode_header,
    encode,
    scan,
)
from gateway.stores.journal_segments import SegmentFile, lock_if_abandoned, remove_directory, segment_paths


@dataclass(frozen=True, slots=True)
class Quarantined:
    """Bytes of a journal that hold no readable record; `kept_at` has them for whoever wants to look."""

    journal: str
    segment: str
    offset_bytes: int
    size_bytes: int
    reason: str
    kept_at: Path


@dataclass(slots=True)
class AdoptedJournal:
    """A dead process's journal, now ours to hold until every call in it is released."""

    directory: Path
    lock: int
    marker: bytes
    unreleased: set[str]
    released: set[str] = field(default_factory=set)
    """Calls that are done with and still have their records here."""
    _notes: SegmentFile | None = None

    def release(self, call_id: str, disk: Disk) -> bool:
        """Note that a call is done with; the directory goes with its last one. True when it is gone. Raises OSError.

        The note is not synced: a lost one means sealing the call again, to the same bytes.
        """
        if call_id not in self.unreleased:
            return False
        if self.unreleased == {call_id}:
            self.close()
            remove_directory(self.directory)
            self.unreleased.clear()
            return True
        if self._notes is None:
            last = max(int(path.stem) for path in segment_paths(self.directory))
            self._notes = SegmentFile.create(self.directory, last + 1, self.marker, disk)
        self._notes.append(encode(Record(Kind.RELEASE, call_id), self.marker))
        self.unreleased.discard(call_id)
        self.released.add(call_id)
        return False

    def close(self) -> None:
        """Let go of the journal; another process may adopt it."""
        if self._notes is not None:
            self._notes.close()
            self._notes = None
        if self.lock >= 0:
            os.close(self.lock)
            self.lock = -1


@dataclass(frozen=True, slots=True)
class Findings:
    calls: tuple[RecoveredCall, ...]
    journals: tuple[AdoptedJournal, ...]
    quarantined: tuple[Quarantined, ...]


def adopt_abandoned(root: Path, quarantine: Path) -> Findings:
    """Lock and read every journal under `root` whose process is gone. Blocking. Raises OSError for a failing disk.

    What is found would survive a power cut.

    Journals without unreleased calls are removed. A journal of an unknown version stays untouched and is reported.
    """
    calls: dict[str, FoundCall] = {}
    adopted: list[AdoptedJournal] = []
    quarantined: list[Quarantined] = []
    try:
        for directory in sorted(root.glob("[!.]*")):
            lock = lock_if_abandoned(directory) if directory.is_dir() else None
            if lock is None:
                continue
            journal = AdoptedJournal(directory, lock, bytes(MARKER_BYTES), set())
            adopted.append(journal)
            read = _read_journal(directory, quarantine, calls)
            quarantined += read.quarantined
            journal.marker, journal.unreleased = read.marker, read.call_ids
            if read.refused:
                adopted.pop().close()
        return _unreleased(calls, adopted, quarantined)
    except BaseException:
        for journal in adopted:  # a later try must find them abandoned again
            journal.close()
        raise


def _unreleased(calls: dict[str, FoundCall], adopted: list[AdoptedJournal], quarantined: list[Quarantined]) -> Findings:
    unreleased = {call_id for call_id, call in calls.items() if not call.released}
    for journal in adopted:
        journal.unreleased &= unreleased
        if not journal.unreleased:
            remove_directory(journal.directory)
            journal.close()
    return Findings(
        calls=tuple(call.recovered() for call_id, call in calls.items() if call_id in unreleased),
        journals=tuple(journal for journal in adopted if journal.unreleased),
        quarantined=tuple(quarantined),
    )


@dataclass(slots=True)
class _Reading:
    marker: bytes = bytes(MARKER_BYTES)
    call_ids: set[str] = field(default_factory=set)
    quarantined: list[Quarantined] = field(default_factory=list)
    refused: bool = False


def _read_journal(directory: Path, quarantine: Path, calls: dict[str, FoundCall]) -> _Reading:
    """Add a journal's records to `calls`, unless any of its segments is of an unknown version."""
    reading = _Reading()
    paths = segment_paths(directory)
    markers: list[bytes] = []
    for path in paths:
        try:
            markers.append(_read_marker(path))
        except BadRecord:
            continue
        except UnknownVersion as fault:
            reading.refused = True
            size = path.stat().st_size
            reading.quarantined.append(Quarantined(directory.name, path.name, 0, size, str(fault), path))
    if reading.refused:
        return reading
    reading.marker = markers[0] if markers else reading.marker
    for path in paths:
        data = _read_safe(path)
        for found in scan(data, markers[0] if markers else None):
            if isinstance(found, Damage):
                reading.quarantined.append(_keep(data, found, path, quarantine))
                continue
            call_id = found.record.call_id
            calls.setdefault(call_id, FoundCall(call_id)).take(directory.name, path, found)
            reading.call_ids.add(call_id)
            if not markers:  # the only headers are unreadable, and the records told the marker
                reading.marker = data[found.offset_bytes : found.offset_bytes + MARKER_BYTES]
    return reading


def _read_marker(path: Path) -> bytes:
    with path.open("rb") as segment:
        return decode_header(segment.read(64))


def _read_safe(path: Path) -> bytes:
    """A segment's bytes, which survive a power cut from here on: a killed process has left them to the system."""
    with path.open("rb") as segment:
        os.fdatasync(segment.fileno())
        return segment.read()


def _keep(data: bytes, damage: Damage, path: Path, quarantine: Path) -> Quarantined:
    """Copy a damaged stretch where it stays for good; again gives the same file."""
    make_directory(quarantine)
    journal = path.parent.name
    kept_at = quarantine / f"{journal}-{path.stem}-{damage.offset_bytes}.bin"
    write_durably(kept_at, data[damage.offset_bytes : damage.offset_bytes + damage.size_bytes])
    return Quarantined(journal, path.name, damage.offset_bytes, damage.size_bytes, damage.reason, kept_at)
