"""Recordings of voice QC: kept in a folder until judged, then taken apart into channels."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soxr
from numpy.typing import NDArray

from gateway.ports import DecodedAudio, Decoder, Rejected
from gateway.quality.sniff import Kind
from gateway.quality.speech import Samples
from gateway.quality.transcribe import Channels

KEPT_RATES_HZ = (8000, 16000)
"""What the voice detection, the confirmer and the recogniser take; other rates are converted to the second."""

_SHELF = ".shelf"
_NAME = re.compile("[0-9a-f]{32}")
SWEPT_AFTER_S = 3600.0
"""A recording is in the folder before its task is on record, here or on another machine: only older ones are swept."""

MIXED_AT_ONCE = 1 << 16


class AudioFolder:
    """Files that only voice QC writes and deletes. A name handed out stands for bytes that survive a power cut."""

    def __init__(self, folder: Path) -> None:
        """Raises OSError for a folder that cannot be made."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    def shelf(self) -> str:
        """A name that whoever reaches this folder finds here, by whatever path: made by the first. Blocking.

        Raises OSError.
        """
        path = self._folder / _SHELF
        if not path.exists():
            written = path.with_name(f"{_SHELF}.{uuid.uuid4().hex}")
            written.write_text(uuid.uuid4().hex)
            with suppress(FileExistsError):  # another process was first
                path.hardlink_to(written)
            written.unlink()
            _sync_folder(self._folder)
        return path.read_text()

    async def keep(self, data: bytes) -> str:
        """Write `data` durably; the name it got. Raises OSError, which leaves nothing behind."""
        return await asyncio.to_thread(self._write, lambda file: file.write(data))

    async def keep_copy(self, source: Path) -> str:
        """As `keep`, of a file that stays its owner's."""

        def copy(file: BinaryIO) -> None:
            with source.open("rb") as original:
                shutil.copyfileobj(original, file, 1 << 20)

        return await asyncio.to_thread(self._write, copy)

    async def read(self, name: str) -> bytes:
        """Raises FileNotFoundError once it is deleted."""
        return await asyncio.to_thread((self._folder / name).read_bytes)

    async def delete(self, name: str) -> None:
        """Delete for good; a file that is gone already is no fault."""
        await asyncio.to_thread((self._folder / name).unlink, missing_ok=True)

    async def sweep(self, in_use: frozenset[str], *, older_than_s: float = SWEPT_AFTER_S) -> int:
        """Delete what stopped processes left behind: older files that no task in hand names. Says how many."""
        return await asyncio.to_thread(self._sweep, in_use, time.time() - older_than_s)

    def _sweep(self, in_use: frozenset[str], before_s: float) -> int:
        swept = 0
        for entry in os.scandir(self._folder):
            with suppress(FileNotFoundError):  # another process sweeps, or has finished the task
                ours = _NAME.fullmatch(entry.name) is not None
                if ours and entry.name not in in_use and entry.stat().st_mtime <= before_s:
                    Path(entry).unlink()
                    swept += 1
        return swept

    def _write(self, fill: Callable[[BinaryIO], object]) -> str:
        name = uuid.uuid4().hex
        path = self._folder / name
        try:
            with path.open("xb") as file:
                fill(file)
                file.flush()
                os.fsync(file.fileno())
            _sync_folder(self._folder)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return name


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class UnusableRecording(Exception):
    """The recording cannot be judged, and never will be; the message says why to whoever sent it."""


class RecordingReader:
    """Takes a recording apart for the recogniser."""

    def __init__(self, decoder: Decoder, *, max_audio_s: float) -> None:
        self._decoder = decoder
        self._max_audio_s = max_audio_s

    async def channels(self, data: bytes, kind: Kind, sample_rate_hz: int, *, split: bool) -> Channels:
        """One array per party: left and right when `split`, else all channels mixed into one.

        `sample_rate_hz` is for headerless PCM, which interleaves two channels when `split`; a file says its own.
        Raises UnusableRecording.
        """
        if kind == "pcm":
            audio = DecodedAudio(
                data[: len(data) // (4 if split else 2) * (4 if split else 2)], sample_rate_hz, 1 + split
            )
        else:
            try:
                # One second more than allowed shows a recording that is too long; it is never judged in part.
                audio = await self._decoder.decode(data, max_s=self._max_audio_s + 1)
            except Rejected as fault:
                raise UnusableRecording(str(fault)) from fault
        del data  # of hours of audio one copy is enough
        if audio.duration_ms == 0:
            raise UnusableRecording("the recording holds no audio")
        if audio.duration_ms > self._max_audio_s * 1000:
            raise UnusableRecording(f"the recording is longer than {self._max_audio_s:.0f} s")
        if split and audio.channels != 2:
            raise UnusableRecording(f"is_split_channel needs two channels, the recording has {audio.channels}")
        return await asyncio.to_thread(_apart, audio, split)


def _apart(audio: DecodedAudio, split: bool) -> Channels:
    interleaved = np.frombuffer(audio.pcm, dtype="<i2").reshape(-1, audio.channels)
    if split:
        parties = [interleaved[:, channel] for channel in range(2)]
    elif audio.channels == 1:
        parties = [interleaved[:, 0]]
    else:
        parties = [_mixed(interleaved)]
    if audio.rate_hz in KEPT_RATES_HZ:
        return Channels(tuple(parties), audio.rate_hz)
    return Channels(tuple(_resampled(one, audio.rate_hz) for one in parties), KEPT_RATES_HZ[-1])


def _mixed(interleaved: NDArray[np.int16]) -> Samples:
    """The mean over the channels, made in stretches: as floats, an hour at once would take several times its size."""
    mixed = np.empty(len(interleaved), np.int16)
    for at in range(0, len(interleaved), MIXED_AT_ONCE):
        stretch = interleaved[at : at + MIXED_AT_ONCE]
        mixed[at : at + MIXED_AT_ONCE] = stretch.mean(axis=1, dtype=np.float32).round()
    return mixed


def _resampled(samples: Samples, rate_hz: int) -> Samples:
    converted: Samples = soxr.resample(np.ascontiguousarray(samples), rate_hz, KEPT_RATES_HZ[-1])
    return converted
