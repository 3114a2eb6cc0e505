"""The journal's files: one directory for each process, numbered segments in it, and a lock that says who lives."""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass, field
from pathlib import Path

from gateway.stores.durable_files import PRIVATE_FILE_MODE, Disk, make_directory, sync_directory, write_all
from gateway.stores.journal_records import encode_header

LOCK_NAME = "lock"


@dataclass(slots=True)
class SegmentFile:
    """One segment open for appending. After any OSError it must be abandoned: its tail is unknown."""

    path: Path
    number: int
    size_bytes: int
    disk: Disk
    holds_synced_records: bool = False
    _descriptor: int = field(default=-1, repr=False)

    @classmethod
    def create(cls, directory: Path, number: int, marker: bytes, disk: Disk) -> SegmentFile:
        """A new segment whose name and header are durable. Raises OSError, and leaves no file then."""
        path = directory / f"{number:06d}.log"
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, PRIVATE_FILE_MODE)
        try:
            header = encode_header(number, marker)
            write_all(descriptor, header, disk)
            disk.fdatasync(descriptor)
            sync_directory(directory)
        except OSError:
            os.close(descriptor)
            path.unlink()
            raise
        return cls(path, number, len(header), disk, _descriptor=descriptor)

    def append(self, data: bytes) -> int:
        """Hand `data` to the operating system and return the offset at which it begins. Raises OSError."""
        offset = self.size_bytes
        write_all(self._descriptor, data, self.disk)
        self.size_bytes += len(data)
        return offset

    def sync(self) -> None:
        """Make everything appended so far survive a power cut. Raises OSError: then nothing new is known safe."""
        self.disk.fdatasync(self._descriptor)
        self.holds_synced_records = True

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def segment_paths(directory: Path) -> list[Path]:
    """The segments of one journal, oldest first."""
    return sorted((path for path in directory.glob("*.log") if path.stem.isdigit()), key=lambda path: int(path.stem))


def create_locked_directory(root: Path, name: str) -> tuple[Path, int]:
    """A journal directory `root/name` and the descriptor of its lock, which lives as long as this process.

    It gets its name only once it is locked, so that nobody takes it for a dead process's. Raises OSError.
    """
    make_directory(root)
    unborn = root / f".new-{name}"
    make_directory(unborn)
    lock = _lock(unborn)
    if lock is None:
        raise FileExistsError(f"another process is creating the journal {name}")
    directory = unborn.rename(root / name)
    sync_directory(root)
    return directory, lock


def lock_if_abandoned(directory: Path) -> int | None:
    """The lock of a journal whose process is gone, now ours; None while its owner lives, or when it has gone too."""
    try:
        lock = _lock(directory)
    except FileNotFoundError:
        return None
    if lock is not None and os.fstat(lock).st_nlink == 0:
        os.close(lock)
        return None
    return lock


def _lock(directory: Path) -> int | None:
    descriptor = os.open(directory / LOCK_NAME, os.O_RDWR | os.O_CREAT, PRIVATE_FILE_MODE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def remove_directory(directory: Path) -> None:
    """Remove a journal that nobody needs any more; its lock goes last. Raises OSError."""
    for path in segment_paths(directory):
        path.unlink()
    (directory / LOCK_NAME).unlink(missing_ok=True)
    directory.rmdir()
    sync_directory(directory.parent)
