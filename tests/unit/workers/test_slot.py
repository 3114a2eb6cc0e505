"""A worker's place is looked after whatever keeps a worker from starting."""

from __future__ import annotations

import asyncio
import errno
from typing import cast

import pytest

from gateway.assembly.clock import SystemClock
from gateway.workers import slot as slots
from gateway.workers.link import Link
from gateway.workers.questions import Setup
from gateway.workers.slot import WorkerSlot


def no_setup(number: int) -> Setup:
    return cast(Setup, None)


def unheard(slot: WorkerSlot, link: Link) -> None: ...


async def test_a_worker_that_finds_no_free_descriptor_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = 0
    enough = asyncio.Event()

    def none_left() -> None:
        nonlocal tries
        tries += 1
        if tries == 3:
            enough.set()
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(slots, "socketpair", none_left)
    monkeypatch.setattr(slots, "FIRST_PAUSE_S", 0.001)
    slot = WorkerSlot(1, no_setup, unheard, unheard, (), SystemClock())
    running = asyncio.create_task(slot.run())
    async with asyncio.timeout(30):
        await asyncio.wait((running, asyncio.ensure_future(enough.wait())), return_when=asyncio.FIRST_COMPLETED)
        assert not running.done()
        await slot.tried.wait()
    assert slot.amiss.endswith("no process could be started: [Errno 24] Too many open files")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
