"""Where sealed recordings live, and how they are read and deleted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from gateway.stores.call_ids import checked_call_id
from gateway.stores.durable_files import remove_durably

CHUNK_BYTES = 64 * 1024


class Recordings:
    """The WAV files of calls in `data_dir/recordings`, named only by checked call ids. Every method may block.

    Who may hear a recording is not known here: ask `Calls` for the app's call first.
    """

    def __init__(self, data_dir: Path) -> None:
        self._root = data_dir / "recordings"

    def path(self, call_id: str) -> Path:
        """Where the call's recording is or will be. Raises ValueError for an id that is no safe file name."""
        return self._root / f"{checked_call_id(call_id)}.wav"

    def size_bytes(self, call_id: str) -> int | None:
        """The file's size, header included; None when there is no recording. Raises ValueError."""
        try:
            return self.path(call_id).lstat().st_size
        except FileNotFoundError:
            return None

    def read(self, call_id: str, begin_byte: int = 0, end_byte: int | None = None) -> Iterator[bytes]:
        """The file's bytes [begin, end) in chunks of at most 64 KiB; the file is opened before this returns.

        Deleting the recording does not disturb who is reading it. Raises FileNotFoundError and ValueError.
        """
        # O_NOFOLLOW: somebody who can write to the folder must not make us serve another file.
        descriptor = os.open(self.path(call_id), os.O_RDONLY | os.O_NOFOLLOW)
        return _chunks(descriptor, begin_byte, end_byte)

    def delete(self, call_id: str) -> bool:
        """Remove the recording for good; False when there was none. Raises ValueError, OSError."""
        return remove_durably(self.path(call_id))

    def last_written(self) -> dict[str, float]:
        """When each call's recording was last written, in wall-clock seconds."""
        files = self._root.glob("*.wav") if self._root.is_dir() else ()
        return {path.stem: path.lstat().st_mtime for path in files}


def _chunks(descriptor: int, begin_byte: int, end_byte: int | None) -> Iterator[bytes]:
    with os.fdopen(descriptor, "rb") as wav:
        wav.seek(begin_byte)
        left = os.fstat(descriptor).st_size - begin_byte if end_byte is None else end_byte - begin_byte
        while left > 0 and (chunk := wav.read(min(CHUNK_BYTES, left))):
            left -= len(chunk)
            yield chunk
