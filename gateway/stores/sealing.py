"""Copying one call's audio out of journal segments into its WAV file."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from gateway.stores.coverage import Coverage
from gateway.stores.durable_files import PRIVATE_FILE_MODE, make_directory, sync_directory
from gateway.stores.journal_records import MARKER_BYTES, BadRecord, Record, decode

WAV_HEADER_BYTES = 44
MAX_WAV_DATA_BYTES = 2**32 - 1 - WAV_HEADER_BYTES
"""What RIFF's 32-bit sizes can say: 74 h of 8 kHz mono, 6.2 h of 48 kHz stereo. The journal refuses audio past it."""

SYNC_EVERY_BYTES = 8 * 1024 * 1024
"""A file synced in one go at its end would make the journal's own syncs wait for it."""

Extents = Mapping[Path, "list[tuple[int, int]]"]
"""For each segment, the offset and size in bytes of a call's audio records."""


@dataclass(frozen=True, slots=True)
class SealedRecording:
    """A recording that is whole and durable."""

    path: Path
    samples: int
    """Per channel."""
    gaps: tuple[tuple[int, int], ...] = ()
    """Ranges of samples that were never stored; they hold silence."""
    unreadable_records: int = 0
    """Records whose bytes changed on the disk after they had been synced."""


def wav_header(rate_hz: int, channels: int, data_bytes: int) -> bytes:
    """The 44 bytes before s16le PCM in a RIFF file (Microsoft, Multimedia Programming Interface 1.0)."""
    block_bytes = 2 * channels
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        *(b"RIFF", WAV_HEADER_BYTES - 8 + data_bytes, b"WAVE", b"fmt ", 16),
        *(1, channels, rate_hz, rate_hz * block_bytes, block_bytes, 16),
        *(b"data", data_bytes),
    )


def seal_recording(path: Path, rate_hz: int, channels: int, extents: Extents) -> SealedRecording:
    """Write `path` from the records at `extents`, whole or not at all, and make it durable.

    Missing samples are silence; of samples stored twice the first copy counts. Blocking; holds one record at a time.
    Raises OSError, and leaves any earlier `path` as it was.
    """
    make_directory(path.parent)
    part = path.with_name(f".{path.name}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE_FILE_MODE)
    try:
        sealed = _write_wav(descriptor, path, rate_hz, channels, extents)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    part.rename(path)
    sync_directory(path.parent)
    return sealed


def _write_wav(descriptor: int, path: Path, rate_hz: int, channels: int, extents: Extents) -> SealedRecording:
    block_bytes = 2 * channels
    coverage = Coverage()
    unreadable = unsynced_bytes = 0
    for record in _read_records(extents):
        if record is None:
            unreadable += 1
            continue
        first, end = record.number, record.number + len(record.payload) // block_bytes
        for begin_sample, end_sample in coverage.add(first, end):
            pcm = record.payload[(begin_sample - first) * block_bytes : (end_sample - first) * block_bytes]
            _write_at(descriptor, pcm, WAV_HEADER_BYTES + begin_sample * block_bytes)
            unsynced_bytes += len(pcm)
        if unsynced_bytes >= SYNC_EVERY_BYTES:
            os.fdatasync(descriptor)
            unsynced_bytes = 0
    samples = coverage.end_sample
    # Ranges never written read back as zeros, which is silence.
    _write_at(descriptor, wav_header(rate_hz, channels, samples * block_bytes), 0)
    return SealedRecording(path, samples, coverage.gaps(), unreadable)


def _write_at(descriptor: int, data: bytes, offset_bytes: int) -> None:
    written = 0
    while written < len(data):
        written += os.pwrite(descriptor, data[written:], offset_bytes + written)


def _read_records(extents: Extents) -> Iterator[Record | None]:
    """The records in the order in which they were stored; None for one that no longer passes its checksum."""
    with ExitStack() as stack:
        for segment, places in extents.items():
            descriptor = os.open(segment, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            for offset_bytes, size_bytes in places:
                data = os.pread(descriptor, size_bytes, offset_bytes)
                try:
                    yield decode(data, 0, data[:MARKER_BYTES]).record
                except BadRecord:
                    yield None


def sealed_already(path: Path) -> SealedRecording | None:
    """What is known of a recording sealed earlier, None when there is none. Raises OSError."""
    try:
        with path.open("rb") as wav:
            header = wav.read(WAV_HEADER_BYTES)
    except FileNotFoundError:
        return None
    block_bytes, data_bytes = struct.unpack_from("<H", header, 32)[0], struct.unpack_from("<I", header, 40)[0]
    return SealedRecording(path, data_bytes // block_bytes)
