"""What is done for calls beside their course: begun where it falls due, and waited for when the server stops."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

log = structlog.get_logger(__name__)


class Errands:
    """Belongs to one event loop. One that fails is logged: the journal still has what it was about."""

    def __init__(self) -> None:
        self._under_way: set[asyncio.Task[None]] = set()

    def begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._done)
        return task

    async def done(self) -> None:
        """Return once all that are under way now are done."""
        if self._under_way:
            await asyncio.wait(self._under_way)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("call_not_kept", exc_info=task.exception())
