"""A call's records from another node, written down as the journal of a process that is gone: read and kept like one."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from gateway.stores.durable_files import Disk
from gateway.stores.journal_found import FoundCall, RecoveredCall
from gateway.stores.journal_records import (
    HEADER_BYTES,
    MARKER_BYTES,
    BadRecord,
    Kind,
    Located,
    Record,
    decode,
    encode,
)
from gateway.stores.journal_segments import SegmentFile, create_locked_directory, remove_directory
from gateway.stores.recovery import AdoptedJournal

__all__ = ["TailWriter"]


class TailWriter:
    """Writes one call's records into a locked journal directory of their own. Everything here blocks."""

    def __init__(self, root: Path, call_id: str, disk: Disk) -> None:
        """Raises OSError."""
        self._call_id = call_id
        self._marker = secrets.token_bytes(MARKER_BYTES)
        self._directory, self._lock = create_locked_directory(root, secrets.token_hex(8))
        self._segment = SegmentFile.create(self._directory, 1, self._marker, disk)
        self._found = FoundCall(call_id)

    def write(self, records: bytes) -> None:
        """Add encoded records, of whichever journals. Raises OSError, BadRecord for bytes that are none, ValueError for
        those of another call."""
        for record in records_of(records):
            if record.call_id != self._call_id:
                raise ValueError(f"a record of call {record.call_id} among those of {self._call_id}")
            if record.kind is Kind.RELEASE:
                continue
            data = encode(record, self._marker)
            offset_bytes = self._segment.append(data)
            self._found.take(self._directory.name, self._segment.path, Located(record, offset_bytes, len(data)))

    def finish(self) -> tuple[AdoptedJournal, RecoveredCall]:
        """Make all of it durable. Raises OSError."""
        self._segment.sync()
        self._segment.close()
        return AdoptedJournal(self._directory, self._lock, self._marker, {self._call_id}), self._found.recovered()

    def abandon(self) -> None:
        """Leave no trace."""
        self._segment.close()
        remove_directory(self._directory)
        os.close(self._lock)


def records_of(data: bytes) -> Iterator[Record]:
    """The records in bytes that hold nothing else. Raises BadRecord."""
    at = 0
    while at < len(data):
        if len(data) - at < HEADER_BYTES:
            raise BadRecord("the last record is cut short")
        found = decode(data, at, data[at : at + MARKER_BYTES])
        yield found.record
        at += found.size_bytes
