"""The audio of indexed files, beside the recordings of calls: WAV too, so that a stretch is read without the rest."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from pathlib import Path

from gateway.ports.passages import SourceKind
from gateway.stores.call_ids import checked_call_id
from gateway.stores.durable_files import make_directory, remove_durably, write_durably
from gateway.stores.recordings import Recordings
from gateway.stores.sealing import wav_header


class RecordedAudio:
    """Fills the role PassageAudio: calls' recordings where they are, files in `data_dir/passages`."""

    def __init__(self, data_dir: Path, recordings: Recordings) -> None:
        self._root = data_dir / "passages"
        self._recordings = recordings

    def path(self, kind: SourceKind, source_id: str) -> Path:
        if kind == "call":
            return self._recordings.path(source_id)
        return self._root / f"{checked_call_id(source_id)}.wav"

    async def keep(self, file_id: str, pcm: bytes, rate_hz: int, channels: int) -> None:
        path = self.path("file", file_id)

        def write() -> None:
            make_directory(self._root)
            write_durably(path, wav_header(rate_hz, channels, len(pcm)) + pcm)

        await asyncio.to_thread(write)

    async def delete(self, file_id: str) -> None:
        await asyncio.to_thread(remove_durably, self.path("file", file_id))

    async def file_ids(self) -> Collection[str]:
        def look() -> list[str]:
            if not self._root.is_dir():
                return []
            for left in self._root.glob(".*.part"):  # of a process that died while it wrote
                left.unlink()
            return [path.stem for path in self._root.glob("*.wav")]

        return await asyncio.to_thread(look)
