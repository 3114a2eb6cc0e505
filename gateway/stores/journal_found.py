"""What the journals of gone processes hold of one call, put together."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from errno import EIO
from pathlib import Path

from gateway.stores.coverage import Coverage
from gateway.stores.journal_records import MARKER_BYTES, BadRecord, Kind, Located, decode


@dataclass(frozen=True, slots=True)
class AudioPlace:
    """Where an audio record stands: samples [first, end) of the call, and bytes of a segment."""

    first_sample: int
    end_sample: int
    segment: Path
    offset_bytes: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class RecoveredCall:
    """A call that nobody has released, as far as the journals know it."""

    call_id: str
    header: bytes
    """What `open_call` was given; empty when that record was lost."""
    rate_hz: int
    """0 when neither the header's record nor any audio survived: then there is nothing to seal."""
    channels: int
    samples: int
    """Per channel, from the call's start to the first hole: resume the call from here."""
    end_sample: int
    """Per channel, one past the last stored sample."""
    gaps: tuple[tuple[int, int], ...]
    messages: tuple[tuple[int, bytes], ...]
    """(seq, payload), by seq, each once."""
    closed: bool
    """True when it had hung up."""
    events: tuple[tuple[int, bytes], ...] = ()
    """(ordinal, payload), by ordinal, each once."""
    epoch: int = 0
    """The highest under which it was written; whoever goes on with it writes under a higher one."""
    audio: tuple[AudioPlace, ...] = field(default=(), repr=False)
    """The audio records, those that count first in front."""
    others: tuple[tuple[Path, int, int], ...] = field(default=(), repr=False)
    """Segment, offset and size in bytes of every other record."""

    def read_audio(self) -> Iterator[bytes]:
        """The first `samples` instants, interleaved s16le, in pieces. Blocking; holds one record at a time.

        Raises OSError, also for a record that has changed on the disk since it was found.
        """
        return read_audio(self.audio, self.channels, self.samples)


@dataclass(slots=True)
class JournalPart:
    """What one journal holds of a call under one epoch."""

    epoch: int = 0
    header: bytes = b""
    rate_hz: int = 0
    channels: int = 0
    events: dict[int, bytes] = field(default_factory=dict)
    messages: dict[int, bytes] = field(default_factory=dict)
    audio: list[AudioPlace] = field(default_factory=list)
    others: list[tuple[Path, int, int]] = field(default_factory=list)
    closed: bool = False
    released: bool = False

    def take(self, segment: Path, found: Located) -> None:
        record = found.record
        if record.kind not in (Kind.AUDIO, Kind.RELEASE):
            self.others.append((segment, found.offset_bytes, found.size_bytes))
        match record.kind:
            case Kind.OPEN:
                self.header, self.rate_hz, self.channels = record.payload, record.rate_hz, record.channels
                self.epoch = max(self.epoch, record.number)
            case Kind.AUDIO if record.channels and record.rate_hz:
                self.rate_hz, self.channels = record.rate_hz, record.channels
                end_sample = record.number + len(record.payload) // (2 * record.channels)
                self.audio.append(AudioPlace(record.number, end_sample, segment, found.offset_bytes, found.size_bytes))
            case Kind.MESSAGE:
                self.messages.setdefault(record.number, record.payload)
            case Kind.EVENT:
                self.events.setdefault(record.number, record.payload)
            case Kind.CLOSE:
                self.closed = True
            case Kind.RELEASE:
                self.released = True


@dataclass(slots=True)
class FoundCall:
    """A call while its journals are being read."""

    call_id: str
    parts: dict[str, JournalPart] = field(default_factory=dict)
    """By journal and epoch."""
    _newest_parts: dict[str, JournalPart] = field(default_factory=dict)
    """By journal: the part that its latest header began."""

    def take(self, journal: str, segment: Path, found: Located) -> None:
        """Add a record of a journal. Each epoch under which the journal had the call is a part of its own: between two
        of them the call was somebody else's."""
        record = found.record
        epoch = record.number if record.kind is Kind.OPEN else record.epoch
        part = self._newest_parts.get(journal)
        if part is None or (epoch and part.epoch != epoch):
            part = self.parts.setdefault(f"{journal} {epoch}", JournalPart(epoch))
            if record.kind is Kind.OPEN or journal not in self._newest_parts:
                self._newest_parts[journal] = part
        part.take(segment, found)

    @property
    def released(self) -> bool:
        return any(part.released for part in self.parts.values())

    def recovered(self) -> RecoveredCall:
        """The union of all parts. Where they disagree, the highest epoch is right: from its first event on, what
        others wrote under a lower one was written by somebody who had lost the call."""
        parts = sorted(self.parts.values(), key=lambda part: part.epoch)
        events: dict[int, bytes] = {}
        messages: dict[int, bytes] = {}
        epoch = 0
        for part in parts:
            if part.epoch > epoch and part.events:
                first = min(part.events)
                events = {ordinal: payload for ordinal, payload in events.items() if ordinal < first}
            epoch = part.epoch
            events |= part.events
            messages |= part.messages
        audio = [place for part in reversed(parts) for place in part.audio]
        coverage = Coverage()
        for place in audio:
            coverage.add(place.first_sample, place.end_sample)
        with_layout = next((part for part in reversed(parts) if part.rate_hz), JournalPart())
        return RecoveredCall(
            call_id=self.call_id,
            header=next((part.header for part in reversed(parts) if part.header), b""),
            rate_hz=with_layout.rate_hz,
            channels=with_layout.channels,
            samples=coverage.contiguous_samples,
            end_sample=coverage.end_sample,
            gaps=coverage.gaps(),
            messages=tuple(sorted(messages.items())),
            closed=any(part.closed for part in parts),
            events=tuple(sorted(events.items())),
            epoch=epoch,
            audio=tuple(audio),
            others=tuple(place for part in parts for place in part.others),
        )


def read_audio(places: Sequence[AudioPlace], channels: int, samples: int) -> Iterator[bytes]:
    """Samples [0, samples) from records that together hold them; of several copies the first in `places` counts.

    Blocking. Raises OSError, also for a record that has changed since it was found.
    """
    coverage = Coverage()
    pieces = [
        (begin, end, place)
        for place in places
        for begin, end in coverage.add(place.first_sample, min(place.end_sample, samples))
    ]
    pieces.sort(key=lambda piece: piece[0])
    width = 2 * channels
    with ExitStack() as stack:
        descriptors: dict[Path, int] = {}
        for begin, end, place in pieces:
            if place.segment not in descriptors:
                descriptors[place.segment] = os.open(place.segment, os.O_RDONLY)
                stack.callback(os.close, descriptors[place.segment])
            data = os.pread(descriptors[place.segment], place.size_bytes, place.offset_bytes)
            try:
                pcm = decode(data, 0, data[:MARKER_BYTES]).record.payload
            except BadRecord as fault:
                raise OSError(EIO, f"{place.segment} changed at byte {place.offset_bytes}: {fault}") from fault
            yield pcm[(begin - place.first_sample) * width : (end - place.first_sample) * width]
