"""One process at a time owns a data folder; the next may be ready and waiting."""

from __future__ import annotations

import asyncio
import fcntl
import os
from pathlib import Path

from gateway.stores.durable_files import PRIVATE_FILE_MODE

_NAME = "owner.lock"
_POLL_S = 0.05


class DataFolderLock:
    """Held by the server of a data folder until its process is gone, however it went: the system keeps it.

    It names its holder, for whoever finds it taken.
    """

    def __init__(self, data: Path) -> None:
        self._path = data / _NAME
        self._descriptor: int | None = None

    def take(self) -> bool:
        """Take it if it is free. Raises OSError."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, PRIVATE_FILE_MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        os.ftruncate(descriptor, 0)
        os.write(descriptor, str(os.getpid()).encode())
        self._descriptor = descriptor
        return True

    async def wait(self) -> None:
        """Return once it is ours. Raises OSError."""
        while not self.take():  # noqa: ASYNC110 - nobody announces that a lock was let go
            await asyncio.sleep(_POLL_S)

    def holder(self) -> int | None:
        """The process id of who holds it, as it noted it."""
        try:
            return int(self._path.read_text())
        except (FileNotFoundError, ValueError):
            return None

    def fileno(self) -> int:
        """Its descriptor. A child that inherits it holds the lock too, until it is gone as well."""
        assert self._descriptor is not None, "take it first"
        return self._descriptor

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
