"""What the journal keeps in memory of each call: audio not yet written, and where the written audio lies."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from gateway.stores.call_ids import checked_call_id
from gateway.stores.commit_log import Block, Entry
from gateway.stores.journal_found import AudioPlace
from gateway.stores.journal_records import MAX_PAYLOAD_BYTES, Kind, Record, encode, encode_parts
from gateway.stores.sealing import MAX_WAV_DATA_BYTES


class AudioLayout(msgspec.Struct, frozen=True):
    """How a call's PCM is laid out; read from its header, whose other fields are not the journal's business."""

    rate_hz: int
    channels: int

    @classmethod
    def from_header(cls, header: bytes) -> AudioLayout:
        """Raises ValueError when `header` is no JSON object with a plausible `rate_hz` and `channels`."""
        layout = msgspec.json.decode(header, type=cls)
        if not (0 < layout.rate_hz <= 192_000 and 0 < layout.channels <= 8):
            raise ValueError(f"a call of {layout.rate_hz} Hz and {layout.channels} channels cannot be journalled")
        return layout

    @property
    def block_bytes(self) -> int:
        """One sample of every channel."""
        return 2 * self.channels


@dataclass(slots=True)
class JournalledCall:
    call_id: str
    header: bytes
    layout: AudioLayout
    epoch: int = 0
    closed: bool = False
    released: bool = False
    must_reopen: bool = False
    """A call of an earlier process: its header goes before whatever this journal appends."""
    _pending: bytearray = field(default_factory=bytearray)
    _pending_sample: int = 0
    _extents: dict[Path, array[int]] = field(default_factory=dict)
    """For each segment offset, size, offset, size...: 16 bytes a record, about 600 kB an hour."""
    _adopted: dict[Path, list[tuple[int, int]]] = field(default_factory=dict)
    """The same in journals of earlier processes: what we have stored ourselves counts before it."""
    _others: dict[Path, array[int]] = field(default_factory=dict)
    """As `_extents`, for all other records, where somebody may want to read them."""
    _adopted_others: dict[Path, list[tuple[int, int]]] = field(default_factory=dict)
    name: bytes = field(init=False)
    """The call's id as records carry it."""
    _block_bytes: int = field(init=False)
    _latest_segment: Path | None = None
    _latest_extents: array[int] = field(default_factory=lambda: array("Q"))

    def __post_init__(self) -> None:
        self.name = checked_call_id(self.call_id).encode()
        self._block_bytes = self.layout.block_bytes

    def opening(self) -> Record:
        return Record(Kind.OPEN, self.call_id, self.epoch, self.header, self.layout.rate_hz, self.layout.channels)

    def end_of(self, first_sample: int, pcm: bytes) -> int:
        """One past the last sample of `pcm`. Raises ValueError when it does not hold whole samples."""
        samples, odd_bytes = divmod(len(pcm), self.layout.block_bytes)
        if odd_bytes or first_sample < 0:
            raise ValueError(
                f"call {self.call_id}: {len(pcm)} bytes at sample {first_sample} are not whole samples of "
                f"{self.layout.channels} channels"
            )
        return first_sample + samples

    @property
    def has_pending(self) -> bool:
        return bool(self._pending)

    def add_audio(self, first_sample: int, pcm: bytes) -> list[Record]:
        """Keep audio for the next write, joined to what it continues; records that this completes are returned."""
        complete = []
        most_bytes = MAX_PAYLOAD_BYTES // self.layout.block_bytes * self.layout.block_bytes
        for begin in range(0, len(pcm), most_bytes):
            piece = pcm[begin : begin + most_bytes]
            sample = first_sample + begin // self.layout.block_bytes
            follows = sample == self._pending_sample + len(self._pending) // self.layout.block_bytes
            if self._pending and not (follows and len(self._pending) + len(piece) <= most_bytes):
                complete.append(self.take_pending())
            if not self._pending:
                self._pending_sample = sample
            self._pending += piece
        return complete

    def extend(self, first_sample: int, pcm: bytes) -> bool:
        """Keep audio that just goes on where the last left off; False, and nothing is kept, if there is more to it."""
        pending, block_bytes, pcm_bytes = self._pending, self._block_bytes, len(pcm)
        if (
            self.closed
            or self.released
            or self.must_reopen
            or first_sample != self._pending_sample + len(pending) // block_bytes
            or len(pending) + pcm_bytes > MAX_PAYLOAD_BYTES
            or pcm_bytes % block_bytes
            or first_sample * block_bytes + pcm_bytes > MAX_WAV_DATA_BYTES
        ):
            return False
        pending += pcm
        return True

    def take_pending(self) -> Record:
        first_sample, pcm = self._take_pending()
        return Record(Kind.AUDIO, self.call_id, first_sample, pcm, self.layout.rate_hz, self.layout.channels)

    def move_pending(self, batch: RecordBatch) -> None:
        """As `batch.add(self.take_pending())`."""
        first_sample, pcm = self._take_pending()
        layout, end_sample = self.layout, self._pending_sample
        data = encode_parts(batch.marker, Kind.AUDIO, self.name, first_sample, pcm, layout.rate_hz, layout.channels)
        batch.put(self.call_id, Kind.AUDIO, data, end_sample=end_sample)

    def _take_pending(self) -> tuple[int, bytes]:
        first_sample, pcm = self._pending_sample, bytes(self._pending)
        self._pending.clear()
        self._pending_sample += len(pcm) // self._block_bytes
        return first_sample, pcm

    def drop_pending(self) -> None:
        self._pending.clear()

    def note_extent(self, segment: Path, offset_bytes: int, size_bytes: int) -> None:
        if segment is not self._latest_segment:  # comparing paths would cost more than all else here
            self._latest_segment = segment
            self._latest_extents = self._extents.setdefault(segment, array("Q"))
        self._latest_extents.extend((offset_bytes, size_bytes))

    def forget_extents(self, segment: Path) -> None:
        """The segment goes; what it held of this call stands elsewhere by now."""
        self._extents.pop(segment, None)
        self._latest_segment = None
        self._others.pop(segment, None)

    def note_other(self, segment: Path, offset_bytes: int, size_bytes: int) -> None:
        self._others.setdefault(segment, array("Q")).extend((offset_bytes, size_bytes))

    def adopt(self, audio: Sequence[AudioPlace], others: Sequence[tuple[Path, int, int]]) -> None:
        """Take over records of earlier processes: audio, that which counts first in front, and all others."""
        for place in audio:
            self._adopted.setdefault(place.segment, []).append((place.offset_bytes, place.size_bytes))
        for segment, offset_bytes, size_bytes in others:
            self._adopted_others.setdefault(segment, []).append((offset_bytes, size_bytes))

    def every_record(self) -> list[tuple[Path, int, int]]:
        """Where all records of the call stand, in the order of their writing."""
        adopted = [
            (path, *place)
            for places in (self._adopted, self._adopted_others)
            for path in places
            for place in places[path]
        ]
        own = [
            (path, places[at], places[at + 1])
            for kept in (self._extents, self._others)
            for path, places in kept.items()
            for at in range(0, len(places), 2)
        ]
        return sorted(adopted) + sorted(own)

    def extents(self) -> dict[Path, list[tuple[int, int]]]:
        """A copy, for the thread that reads them; of samples stored twice the first place counts."""
        own = {path: list(zip(places[0::2], places[1::2], strict=True)) for path, places in self._extents.items()}
        return {**own, **{path: [*places] for path, places in self._adopted.items()}}


class JournalledCalls(dict[str, JournalledCall]):
    """The calls of one journal by call id. One that is released stays until its release is safe."""

    def unreleased(self, call_id: str) -> JournalledCall | None:
        """A call that the journal still has to keep, if it is one."""
        call = self.get(call_id)
        return None if call is None or call.released else call


class RecordBatch:
    """Encoded records that wait to become one block, and the calls whose audio waits to join them."""

    def __init__(self, marker: bytes) -> None:
        self.marker = marker
        self.with_audio: dict[str, JournalledCall] = {}
        """Calls that keep audio for the next block."""
        self._parts: list[bytes] = []
        self._entries: list[Entry] = []
        self._size_bytes = 0

    def add(self, record: Record) -> None:
        end_sample = 0
        if record.kind is Kind.AUDIO:
            end_sample = record.number + len(record.payload) // (2 * record.channels)
        self.put(record.call_id, record.kind, encode(record, self.marker), end_sample=end_sample)

    def add_copy(self, call_id: str, kind: Kind, data: bytes) -> None:
        """A record that carries this journal's marker, and that this journal has already."""
        self.put(call_id, kind, data, again=True)

    def put(self, call_id: str, kind: Kind, data: bytes, *, again: bool = False, end_sample: int = 0) -> None:
        """A whole record of that kind and call, with this journal's marker."""
        self._parts.append(data)
        self._entries.append(Entry(call_id, kind, self._size_bytes, len(data), again, end_sample))
        self._size_bytes += len(data)

    def gather_audio_of(self, call_id: str) -> None:
        """Add what audio of a call waits."""
        call = self.with_audio.pop(call_id, None)
        if call is not None and call.has_pending:
            call.move_pending(self)

    def gather_audio(self) -> None:
        """Add what audio waits, of all calls."""
        for call in self.with_audio.values():
            if call.has_pending:
                call.move_pending(self)
        self.with_audio.clear()

    @property
    def empty(self) -> bool:
        """Whether there is no record; audio that waits is none yet."""
        return not self._parts

    def take(self, position: int, reserved_bytes: int) -> Block:
        """Everything so far as one block, which notes `position` and `reserved_bytes`."""
        block = Block(position, b"".join(self._parts), tuple(self._entries), reserved_bytes)
        self._parts, self._entries, self._size_bytes = [], [], 0
        return block
