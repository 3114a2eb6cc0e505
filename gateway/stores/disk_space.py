"""Free space where the data folder lies, watched: a warning first, then no new work, while running calls go on."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import structlog

log = structlog.get_logger(__name__)

CHECK_EVERY_S = 1.0
RECOVERED = 1.05
"""A mark is left behind only with this much more than it, so that nothing flaps around it."""
Level = Literal["ample", "warned", "low"]
MIB = 1024 * 1024


class DiskSpace:
    """Keeps an eye on the free bytes of one file system. Until the first look, space is taken for ample."""

    def __init__(
        self,
        folder: Path,
        *,
        low_bytes: int,
        warn_bytes: int,
        on_free: Callable[[int], None] = lambda _: None,
        free: Callable[[Path], int] | None = None,
    ) -> None:
        """Marks of 0 are never reached. `on_free` hears of each look; `free` tells a folder's free bytes."""
        self._folder = folder
        self._low_bytes = low_bytes
        self._warn_bytes = max(low_bytes, warn_bytes)
        self._on_free = on_free
        self._free = free or free_bytes
        self.level: Level = "ample"
        self._free_bytes = 0

    @property
    def refusal(self) -> str:
        """Why nothing new should be taken on that needs space; nothing while there is enough."""
        if self.level != "low":
            return ""
        return f"{self._free_bytes // MIB} MiB of disk are free, under the low-water mark of {self._low_bytes // MIB}"

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(CHECK_EVERY_S)

    async def look(self) -> None:
        """Measure once. A file system that does not answer the question leaves the level as it was."""
        try:
            # In a thread: a file system over a network may hang.
            self._free_bytes = await asyncio.to_thread(self._free, self._folder)
        except OSError as fault:
            log.warning("disk_space_unknown", folder=str(self._folder), fault=str(fault))
            return
        self._on_free(self._free_bytes)
        level = self._level_of(self._free_bytes)
        if level != self.level:
            self._tell(level)
        self.level = level

    def _level_of(self, free: int) -> Level:
        left_low = self._low_bytes * (RECOVERED if self.level == "low" else 1)
        if free < left_low:
            return "low"
        left_warned = self._warn_bytes * (1 if self.level == "ample" else RECOVERED)
        return "warned" if free < left_warned else "ample"

    def _tell(self, level: Level) -> None:
        report = log.info if level == "ample" else log.warning if level == "warned" else log.error
        free_mib, low_mib = self._free_bytes // MIB, self._low_bytes // MIB
        report("disk_space", level=level, free_mib=free_mib, low_mib=low_mib, folder=str(self._folder))


def free_bytes(folder: Path) -> int:
    """What the file system of `folder` still takes from us. Raises OSError."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize
