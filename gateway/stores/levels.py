"""Peaks of calls' audio, from the sealed recording or, while there is none, from the journal."""

from __future__ import annotations

import asyncio
import os
import wave
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gateway.ports.levels import CallLevels, LevelsAsked
from gateway.stores.journal_calls import AudioLayout
from gateway.stores.journal_reading import JournalReader
from gateway.stores.journal_records import MARKER_BYTES, RECORD_HEAD_BYTES, BadRecord, decode, peek
from gateway.stores.recordings import Recordings
from gateway.stores.sealing import Extents

MOST_STEPS: Final = 36_000
"""Of one answer, a channel: an hour in steps of 100 ms."""
QUIETEST_DB: Final = -90
FULL_SCALE: Final = 32768
PIECE_SAMPLES: Final = 1 << 17
"""What is read of a recording at once, per channel."""
TRIES: Final = 3
"""A part of the journal may move while it is read."""
AT_ONCE: Final = 2
"""Threads that measure; further questions wait for them."""

Samples = NDArray[np.int16]


class StoredLevels:
    """Fills the role LevelReader from this process's journal and the data folder's recordings."""

    def __init__(self, journal: JournalReader | None, recordings: Recordings) -> None:
        """Without `journal`, calls that are not sealed yet are kept elsewhere."""
        self._journal = journal
        self._recordings = recordings
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def recorded(self, call_id: str, asked: LevelsAsked) -> CallLevels | None:
        async with self._turns:
            try:
                return await asyncio.to_thread(levels_of_wav, self._recordings.path(call_id), asked)
            except FileNotFoundError:
                return None

    async def running(self, call_id: str, asked: LevelsAsked) -> CallLevels | None:
        if self._journal is None:
            return None
        async with self._turns:
            for tries_left in range(TRIES, 0, -1):
                found = self._journal.audio_of(call_id)
                if found is None:
                    return None
                try:
                    return await asyncio.to_thread(levels_of_records, *found, asked)
                except FileNotFoundError:  # cleaned away since: what it held stands elsewhere now
                    if tries_left == 1:
                        raise
        raise AssertionError("the last try returns or raises")


def levels_of_wav(path: Path, asked: LevelsAsked) -> CallLevels:
    """Peaks of a recording of ours. Blocking; holds about a second of audio. Raises OSError."""
    with path.open("rb") as file, wave.open(file) as wav:
        peaks = _Peaks(wav.getframerate(), wav.getnchannels(), wav.getnframes(), asked)
        at_sample = peaks.first_sample
        wav.setpos(min(at_sample, wav.getnframes()))
        while at_sample < peaks.end_sample:
            pcm = wav.readframes(min(PIECE_SAMPLES, peaks.end_sample - at_sample))
            if not pcm:
                break
            at_sample += peaks.add(at_sample, pcm)
    return peaks.told()


def levels_of_records(layout: AudioLayout, extents: Extents, asked: LevelsAsked) -> CallLevels:
    """Peaks of the audio records at `extents`. Blocking; holds one record at a time. Raises OSError."""
    with ExitStack() as stack:
        places = list(_places(layout, extents, stack))
        end_sample = max((place.end_sample for place in places), default=0)
        peaks = _Peaks(layout.rate_hz, layout.channels, end_sample, asked)
        for place in places:
            if place.end_sample > peaks.first_sample and place.first_sample < peaks.end_sample:
                data = os.pread(place.descriptor, place.size_bytes, place.offset_bytes)
                try:
                    record = decode(data, 0, data[:MARKER_BYTES]).record
                except BadRecord:  # as in the recording, which will hold silence there
                    continue
                peaks.add(record.number, record.payload)
    return peaks.told()


@dataclass(frozen=True, slots=True)
class _Place:
    first_sample: int
    end_sample: int
    descriptor: int
    offset_bytes: int
    size_bytes: int


def _places(layout: AudioLayout, extents: Extents, stack: ExitStack) -> Iterator[_Place]:
    for segment, places in extents.items():
        descriptor = os.open(segment, os.O_RDONLY)
        stack.callback(os.close, descriptor)
        for offset_bytes, size_bytes in places:
            head = os.pread(descriptor, RECORD_HEAD_BYTES, offset_bytes)
            if len(head) == RECORD_HEAD_BYTES:
                first_sample, payload_bytes = peek(head)
                end_sample = first_sample + min(payload_bytes, size_bytes) // layout.block_bytes
                yield _Place(first_sample, end_sample, descriptor, offset_bytes, size_bytes)


class _Peaks:
    """Takes pieces of audio in any order, and remembers the loudest sample of each step."""

    def __init__(self, rate_hz: int, channels: int, samples: int, asked: LevelsAsked) -> None:
        """`samples` is how long the call is, per channel."""
        self._rate_hz = rate_hz
        self.duration_ms = -(-samples * 1000 // rate_hz)
        to_ms = self.duration_ms if asked.to_ms is None else min(asked.to_ms, self.duration_ms)
        steps_asked = -(-max(0, to_ms - asked.from_ms) // asked.step_ms)
        # One step more than asked for may be needed to begin at a whole one.
        self.step_ms = asked.step_ms * max(1, -(-(steps_asked + 1) // MOST_STEPS))
        self.from_ms = asked.from_ms // self.step_ms * self.step_ms
        self._steps = -(-max(0, to_ms - self.from_ms) // self.step_ms) if to_ms > asked.from_ms else 0
        self.first_sample = self._sample_at(0)
        self.end_sample = min(samples, self._sample_at(self._steps))
        self._peaks = np.zeros((self._steps, channels), np.int32)

    def _sample_at(self, step: int) -> int:
        """The first sample of a step."""
        return -(-(self.from_ms + step * self.step_ms) * self._rate_hz // 1000)

    def add(self, first_sample: int, pcm: bytes) -> int:
        """Take in interleaved s16le PCM; what lies outside counts for nothing. Returns its samples per channel."""
        samples = np.frombuffer(pcm, "<i2").reshape(-1, self._peaks.shape[1])
        begin = max(first_sample, self.first_sample)
        end = min(first_sample + len(samples), self.end_sample)
        if begin < end:
            loud = np.abs(samples[begin - first_sample : end - first_sample].astype(np.int32))
            first_step, last_step = self._step_of(begin), self._step_of(end - 1)
            inner = [self._sample_at(step) - begin for step in range(first_step + 1, last_step + 1)]
            peaks = np.maximum.reduceat(loud, [0, *inner], axis=0)
            steps = slice(first_step, last_step + 1)
            self._peaks[steps] = np.maximum(self._peaks[steps], peaks)
        return len(samples)

    def _step_of(self, sample: int) -> int:
        return (sample * 1000 // self._rate_hz - self.from_ms) // self.step_ms

    def told(self) -> CallLevels:
        floor = FULL_SCALE * 10 ** (QUIETEST_DB / 20)
        db = np.rint(20 * np.log10(np.maximum(self._peaks, floor) / FULL_SCALE)).astype(np.int32)
        return CallLevels(self.step_ms, self.from_ms, self.duration_ms, tuple(column.tolist() for column in db.T))
