"""The thread in which a journal does file work that no commit waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class FileThread:
    """One thread, and so one thing after the other: no two seals of a call meet, and a segment that was copied is
    removed behind every seal that still reads it."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="journal-copy")

    async def run(self, work: Callable[[], T]) -> T:
        """What `work`, which may block, returns or raises."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    def close(self) -> None:
        """Wait for what runs, and take no more."""
        self._executor.shutdown()
