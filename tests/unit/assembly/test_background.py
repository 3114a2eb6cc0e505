"""Work in the background ends with its process, and does not end unheard before."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from structlog.testing import capture_logs

from gateway.assembly.background import in_background


async def test_work_that_fails_is_told_when_it_does() -> None:
    async def fail() -> None:
        raise KeyError("surprise")

    with capture_logs() as told:
        async with AsyncExitStack() as begun:
            task = in_background("calls-sharing", fail(), begun)
            await asyncio.wait([task])
            await asyncio.sleep(0)
            assert [(one["event"], one["work"]) for one in told] == [("background_work_failed", "calls-sharing")]


async def test_work_goes_on_until_its_process_stops() -> None:
    with capture_logs() as told:
        async with AsyncExitStack() as begun:
            task = in_background("levels", asyncio.sleep(3600), begun)
            await asyncio.sleep(0)
            assert not task.done()
    assert task.cancelled()
    assert told == []
