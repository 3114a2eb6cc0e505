"""Files that survive a power cut: what must be synced when one is created, renamed or removed."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

PRIVATE_FILE_MODE = 0o600
PRIVATE_DIRECTORY_MODE = 0o700


@dataclass(frozen=True, slots=True)
class Disk:
    """The system calls by which bytes reach the disk, as fields so that a test can make the real ones fail."""

    write: Callable[[int, bytes], int] = os.write
    fdatasync: Callable[[int], None] = os.fdatasync


def sync_directory(directory: Path) -> None:
    """Make the names in `directory` durable: a file's own sync does not cover its entry. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(directory: Path) -> None:
    """Create `directory` and its missing parents, readable by us alone and durable. Raises OSError."""
    if directory.is_dir():
        return
    make_directory(directory.parent)
    directory.mkdir(mode=PRIVATE_DIRECTORY_MODE, exist_ok=True)
    sync_directory(directory.parent)


def remove_durably(path: Path) -> bool:
    """Remove a file for good; False when there was none. Raises OSError."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    sync_directory(path.parent)
    return True


def write_durably(path: Path, data: bytes, disk: Disk | None = None) -> None:
    """Create or replace a small file so that either the old or the whole new one is there. Raises OSError."""
    disk = disk or Disk()
    part = path.with_name(f".{path.name}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE_FILE_MODE)
    try:
        write_all(descriptor, data, disk)
        disk.fdatasync(descriptor)
    finally:
        os.close(descriptor)
    part.rename(path)
    sync_directory(path.parent)


def write_all(descriptor: int, data: bytes, disk: Disk) -> None:
    """Write every byte, however many calls it takes. Raises OSError; then any part of it may have been written."""
    written = disk.write(descriptor, data)
    rest = memoryview(data)[written:]
    while rest:
        rest = rest[disk.write(descriptor, bytes(rest)) :]
