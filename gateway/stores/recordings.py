"""Where sealed recordings live, and how they are read and deleted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from gateway.stores.call_ids import checked_call_id
from gateway.stores.durable_files import remove_durably, sync_directory

CHUNK_BYTES = 64 * 1024


class Recordings:
    """The WAV files of calls in one folder, named only by checked call ids. Every method may block.

    Who may hear a recording is not known here: ask `Calls` for the app's call first.

    In a folder that nodes share, a recording gets its name once its node knows that the call is its own to hand in: a
    node that was away must not put its part in the place of the whole. Until then the file has a name of its node's.
    """

    def __init__(self, data_dir: Path, shared: Path | None = None, *, node_mark: str = "") -> None:
        """In `data_dir/recordings`, or in the folder `shared`, where other nodes have other marks. What was recorded
        before the folder was shared stays where it is."""
        self._own = data_dir / "recordings"
        self.root = shared or self._own
        self._mark = node_mark

    def path(self, call_id: str) -> Path:
        """Where the call's recording is or will be. Raises ValueError for an id that is no safe file name."""
        path = self.root / f"{checked_call_id(call_id)}.wav"
        if self.root != self._own and not path.exists() and self._own_path(call_id).exists():
            return self._own_path(call_id)
        return path

    def sealing_path(self, call_id: str) -> Path:
        """Where to write the recording. Raises ValueError."""
        if self.root == self._own:
            return self.path(call_id)
        return self.root / f".{checked_call_id(call_id)}.{self._mark}.sealed"

    def publish(self, call_id: str) -> Path:
        """Give a sealed recording its name; again does nothing. Raises OSError, and ValueError."""
        path = self.path(call_id)
        try:
            if self.root != self._own:
                self.sealing_path(call_id).rename(path)
                sync_directory(path.parent)
        except FileNotFoundError:
            if not path.exists():
                raise
        return path

    def give_up(self, call_id: str) -> bool:
        """Remove what this node sealed of a call that another one has handed in. Raises ValueError, OSError."""
        had_part = self.root != self._own and remove_durably(self.sealing_path(call_id))
        return remove_durably(self._own_path(call_id)) or had_part

    def tidy(self) -> None:
        """Remove what an earlier process of this node began to write and gave no name: its journal has the calls."""
        if self.root != self._own and self.root.is_dir():
            for left in self.root.glob(f".*.{self._mark}.sealed*"):
                left.unlink(missing_ok=True)

    def _own_path(self, call_id: str) -> Path:
        return self._own / f"{checked_call_id(call_id)}.wav"

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
        deleted = remove_durably(self.root / f"{checked_call_id(call_id)}.wav")
        return self.give_up(call_id) or deleted

    def last_written(self) -> dict[str, float]:
        """When each call's recording was last written, in wall-clock seconds."""
        roots = [root for root in {self._own, self.root} if root.is_dir()]
        return {path.stem: path.lstat().st_mtime for root in roots for path in root.glob("[!.]*.wav")}


def _chunks(descriptor: int, begin_byte: int, end_byte: int | None) -> Iterator[bytes]:
    with os.fdopen(descriptor, "rb") as wav:
        wav.seek(begin_byte)
        left = os.fstat(descriptor).st_size - begin_byte if end_byte is None else end_byte - begin_byte
        while left > 0 and (chunk := wav.read(min(CHUNK_BYTES, left))):
            left -= len(chunk)
            yield chunk
