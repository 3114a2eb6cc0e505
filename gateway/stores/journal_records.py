"""The journal's byte format, pure: a segment is a header and then records, each found and checked by itself.

    segment header (28 bytes)  magic 8s | version u16 | 0 u16 | number u32 | marker 8s | crc32 u32
    record                     marker 8s | payload bytes u32 | kind u8 | id bytes u8 | channels u8 | 0 u8 |
                               rate_hz or epoch u32 | number u64 | call id | payload | crc32 u32

All little-endian; each CRC covers every byte before it. The marker is random for each journal, so that a reader finds
the next record after damage, and so that nobody can smuggle a record into another call by sending its bytes as audio.
Audio records carry their rate and channels: any one of them is enough to write a playable file. Events and messages
carry the epoch they were written under: one journal may have had a call, lost it to another node and got it back.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from gateway.stores.call_ids import checked_call_id

MAGIC = b"EARSHOTJ"
VERSION = 2
READABLE_VERSIONS = (1, 2)
"""Version 1 has no events and no epochs, and is otherwise the same."""
MARKER_BYTES = 8
MAX_PAYLOAD_BYTES = 4 * 1024 * 1024

_SEGMENT = struct.Struct("<8sHHI8sI")
_RECORD = struct.Struct("<8sIBBBxIQ")
_CRC = struct.Struct("<I")
HEADER_BYTES = _SEGMENT.size
RECORD_HEAD_BYTES = _RECORD.size
RECORD_OVERHEAD_BYTES = _RECORD.size + _CRC.size


class Kind(IntEnum):
    OPEN = 1
    """A call began, or goes on in this journal; the payload is its header, `number` the epoch of what is written."""
    AUDIO = 2
    """Interleaved PCM; `number` is the first sample's index per channel."""
    MESSAGE = 3
    """A server message; `number` is its seq."""
    CLOSE = 4
    """The call hung up."""
    RELEASE = 5
    """All that the call needs is safe elsewhere: its records may be dropped."""
    EVENT = 6
    """What happened to the call, as its owner encodes it; `number` is its ordinal, from 1."""


@dataclass(frozen=True, slots=True)
class Record:
    kind: Kind
    call_id: str
    number: int = 0
    payload: bytes = b""
    rate_hz: int = 0
    channels: int = 0
    epoch: int = 0
    """Of events, messages and the end of a call; 0: that of their journal."""


_WITH_RATE = (Kind.OPEN, Kind.AUDIO)


@dataclass(frozen=True, slots=True)
class Located:
    """A good record and where it stands in its segment."""

    record: Record
    offset_bytes: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Damage:
    """A stretch of a segment that holds no readable record."""

    offset_bytes: int
    size_bytes: int
    reason: str


class BadRecord(ValueError):
    """These bytes are not a whole, intact record. The disk or a crash is at fault."""


class UnknownVersion(ValueError):
    """An intact segment of a version that this program does not read: it must be left alone."""


def encode_header(number: int, marker: bytes) -> bytes:
    """The 28 bytes that begin segment `number` of the journal whose records carry `marker` (8 bytes)."""
    head = _SEGMENT.pack(MAGIC, VERSION, 0, number, marker, 0)[: -_CRC.size]
    return head + _CRC.pack(zlib.crc32(head))


def decode_header(data: bytes) -> bytes:
    """The marker of the segment that begins with `data`. Raises BadRecord or UnknownVersion."""
    if len(data) < HEADER_BYTES:
        raise BadRecord("the segment header is cut short")
    magic, version, _, _, marker, crc = _SEGMENT.unpack_from(data)
    if crc != zlib.crc32(data[: HEADER_BYTES - _CRC.size]):
        raise BadRecord("the segment header is damaged")
    if magic != MAGIC:
        raise BadRecord("not a journal segment")
    if version not in READABLE_VERSIONS:
        raise UnknownVersion(f"journal version {version}, this program reads {READABLE_VERSIONS}")
    return bytes(marker)


def encode(record: Record, marker: bytes) -> bytes:
    """One record's bytes. Raises ValueError for an unsafe call id or a payload beyond MAX_PAYLOAD_BYTES."""
    if len(record.payload) > MAX_PAYLOAD_BYTES:
        raise ValueError(f"a journal record holds at most {MAX_PAYLOAD_BYTES} bytes, not {len(record.payload)}")
    name = checked_call_id(record.call_id).encode()
    rate_or_epoch = record.rate_hz if record.kind in _WITH_RATE else record.epoch
    return encode_parts(marker, record.kind, name, record.number, record.payload, rate_or_epoch, record.channels)


def encode_parts(
    marker: bytes, kind: Kind, name: bytes, number: int, payload: bytes, rate_or_epoch: int, channels: int = 0
) -> bytes:
    """As `encode`, for a caller who knows that `name` is a safe call id and `payload` not too long."""
    head = _RECORD.pack(marker, len(payload), kind, len(name), channels, rate_or_epoch, number) + name
    return b"".join((head, payload, _CRC.pack(zlib.crc32(payload, zlib.crc32(head)))))


def decode(data: bytes, offset_bytes: int, marker: bytes) -> Located:
    """The record at `offset_bytes`. Raises BadRecord, saying what is wrong with it."""
    if not data.startswith(marker, offset_bytes):
        raise BadRecord("no record begins here")
    if len(data) - offset_bytes < _RECORD.size:
        raise BadRecord("the record is cut short")
    _, payload_bytes, kind, id_bytes, channels, rate_or_epoch, number = _RECORD.unpack_from(data, offset_bytes)
    begin = offset_bytes + _RECORD.size
    end = begin + id_bytes + payload_bytes
    if payload_bytes > MAX_PAYLOAD_BYTES:
        raise BadRecord(f"the record claims {payload_bytes} bytes, at most {MAX_PAYLOAD_BYTES} are written")
    if end + _CRC.size > len(data):
        raise BadRecord("the record is cut short")
    if _CRC.unpack_from(data, end)[0] != zlib.crc32(memoryview(data)[offset_bytes:end]):
        raise BadRecord("the record's checksum does not match")
    try:
        call_id = checked_call_id(data[begin : begin + id_bytes].decode())
        known = Kind(kind)
    except ValueError as fault:
        raise BadRecord(f"an intact record of no known meaning: {fault}") from fault
    rate_hz, epoch = (rate_or_epoch, 0) if known in _WITH_RATE else (0, rate_or_epoch)
    record = Record(known, call_id, number, data[begin + id_bytes : end], rate_hz, channels, epoch)
    return Located(record, offset_bytes, end + _CRC.size - offset_bytes)


def peek(head: bytes) -> tuple[int, int]:
    """Number and payload size in bytes that the first RECORD_HEAD_BYTES of a record tell, unchecked."""
    _, payload_bytes, _, _, _, _, number = _RECORD.unpack_from(head)
    return number, payload_bytes


def scan(data: bytes, sibling_marker: bytes | None = None) -> Iterator[Located | Damage]:
    """Everything in a segment, in order; the stretches found cover it without overlap. Raises only UnknownVersion.

    `sibling_marker` is the marker of another segment of the same journal, for a header that cannot be read.
    """
    if not data:
        return
    marker: bytes | None
    offset = min(HEADER_BYTES, len(data))
    try:
        marker = decode_header(data)
    except BadRecord as fault:
        marker = _marker_without_header(data, sibling_marker)
        if marker is None:
            yield Damage(0, len(data), str(fault))
            return
        yield Damage(0, offset, str(fault))
    while offset < len(data):
        try:
            found = decode(data, offset, marker)
        except BadRecord as fault:
            following = data.find(marker, offset + 1)
            end = len(data) if following < 0 else following
            yield Damage(offset, end - offset, str(fault))
            offset = end
        else:
            yield found
            offset += found.size_bytes


def _marker_without_header(data: bytes, sibling_marker: bytes | None) -> bytes | None:
    """The marker under a damaged header: a sibling's, else what the first record shows if its checksum holds."""
    if sibling_marker is not None:
        return sibling_marker
    shown = data[HEADER_BYTES : HEADER_BYTES + MARKER_BYTES]
    try:
        decode(data, HEADER_BYTES, shown)
    except BadRecord:
        return None
    return shown
