"""Copying one call's audio out of journal segments into its WAV file."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from gateway.stores.coverage import Coverage
from gateway.stores.durable_files import PRIVATE_FILE_MODE, make_directory, sync_directory
from gateway.stores.journal_found import AudioPlace
from gateway.stores.journal_records import MARKER_BYTES, BadRecord, Record, decode

WAV_HEADER_BYTES = 44
MAX_WAV_DATA_BYTES = 2**32 - 1 - WAV_HEADER_BYTES
"""What RIFF's 32-bit sizes can say: 74 h of 8 kHz mono, 6.2 h of 48 kHz stereo. The journal refuses audio past it."""

SYNC_EVERY_BYTES = 8 * 1024 * 1024
"""A file synced in one go at its end would make the journal's own syncs wait for it."""

Extents = Mapping[Path, "list[tuple[int, int]]"]
"""For each segment, the offset and size in bytes of a call's audio records."""

Place = tuple[Path, int, int]
"""Segment, offset and size in bytes of any record."""

PIECE_BYTES = 1024 * 1024
"""What `read_piece` stops at."""


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


def fill_recording(path: Path, hole_samples: int, places: Sequence[AudioPlace]) -> None:
    """Write audio records into the first `hole_samples` of a sealed recording, whole or not at all, durably.

    The rest stays as it is. Blocking. Raises OSError, and leaves `path` as it was.
    """
    part = path.with_name(f".{path.name}.part")
    shutil.copyfile(path, part)
    part.chmod(PRIVATE_FILE_MODE)
    with part.open("r+b") as wav:
        block_bytes = struct.unpack_from("<H", wav.read(WAV_HEADER_BYTES), 32)[0]
        for place in places:
            with place.segment.open("rb") as segment:
                data = os.pread(segment.fileno(), place.size_bytes, place.offset_bytes)
            end_sample = min(place.end_sample, hole_samples)
            if place.first_sample < end_sample:
                pcm = decode(data, 0, data[:MARKER_BYTES]).record.payload
                pcm = pcm[: (end_sample - place.first_sample) * block_bytes]
                _write_at(wav.fileno(), pcm, WAV_HEADER_BYTES + place.first_sample * block_bytes)
        os.fsync(wav.fileno())
    part.rename(path)
    sync_directory(path.parent)


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


def read_piece(places: list[Place]) -> tuple[bytes, list[Place]]:
    """The bytes of the first records at `places` (segment, offset, size), about 1 MiB of them, and the places left.

    A record that no longer passes its checksum is left out. Blocking. Raises OSError.
    """
    parts: list[bytes] = []
    size = taken = 0
    with ExitStack() as stack:
        opened: dict[Path, int] = {}
        for segment, offset_bytes, size_bytes in places:
            if size >= PIECE_BYTES:
                break
            taken += 1
            if segment not in opened:
                opened[segment] = os.open(segment, os.O_RDONLY)
                stack.callback(os.close, opened[segment])
            data = os.pread(opened[segment], size_bytes, offset_bytes)
            try:
                decode(data, 0, data[:MARKER_BYTES])
            except BadRecord:
                continue
            parts.append(data)
            size += len(data)
    return b"".join(parts), places[taken:]


def sealed_already(path: Path) -> SealedRecording | None:
    """What is known of a recording sealed earlier, None when there is none. Raises OSError."""
    try:
        with path.open("rb") as wav:
            header = wav.read(WAV_HEADER_BYTES)
    except FileNotFoundError:
        return None
    block_bytes, data_bytes = struct.unpack_from("<H", header, 32)[0], struct.unpack_from("<I", header, 40)[0]
    return SealedRecording(path, data_bytes // block_bytes)
