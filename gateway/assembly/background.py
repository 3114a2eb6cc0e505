"""Work that goes on beside everything else until its process stops."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any

import structlog

log = structlog.get_logger(__name__)


def in_background(name: str, work: Coroutine[Any, Any, None], begun: AsyncExitStack) -> asyncio.Task[None]:
    """Run `work` until `begun` ends. It is not meant to fail: should it, the log says so at once."""
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(_tell_why)
    begun.push_async_callback(_cancelled, task)
    return task


def _tell_why(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.error("background_work_failed", work=task.get_name(), exc_info=task.exception())


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
