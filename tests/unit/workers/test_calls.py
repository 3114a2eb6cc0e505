"""The calls of all workers, as the main process finds them, also while one of the workers does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

import pytest

from gateway.ports import Unavailable
from gateway.ports.levels import CallLevels, LevelsAsked
from gateway.session.verdicts import StoredVerdicts
from gateway.workers import calls
from gateway.workers.calls import WorkersCalls
from gateway.workers.link import Link
from gateway.workers.questions import FILED, HAS, HOLDS, NOW, Documents, OneCall, SomeCalls, Whether
from gateway.workers.slot import WorkerSlot
from gateway.workers.wire import Nothing
from protocol.errors import ProtocolError
from tests.unit.workers.links import linked


@dataclass(eq=False)
class Slot:
    """One worker, without its process."""

    number: int
    link: Link
    up: asyncio.Event = field(default_factory=asyncio.Event)
    silent: bool = False
    amiss: str = ""

    def __post_init__(self) -> None:
        self.up.set()


async def none_recorded(call_id: str, asked: LevelsAsked) -> CallLevels | None:
    return None


@asynccontextmanager
async def one_hangs() -> AsyncIterator[tuple[WorkersCalls, Slot, Slot]]:
    """Worker 1 answers nothing; worker 2 has the call `there`."""
    async with linked() as (to_first, first), linked() as (to_second, second):

        async def has(asked: OneCall) -> Whether:
            return Whether(asked.call_id == "there")

        async def now(asked: SomeCalls) -> Documents:
            return Documents(b'{"there":{"state":"live"}}')

        second.answers(HAS, has)
        second.answers(HOLDS, has)

        async def filed(_: OneCall) -> Nothing:
            return Nothing()

        second.answers(NOW, now)
        second.answers(FILED, filed)
        for end in (to_first, to_second, second):
            end.listen()
        slots = [Slot(1, to_first), Slot(2, to_second)]
        found = WorkersCalls(
            cast(list[WorkerSlot], slots), cast(StoredVerdicts, None), lambda number: f"relay-{number}", none_recorded
        )
        yield found, slots[0], slots[1]
        first.listen()


async def test_a_worker_that_hangs_does_not_hide_the_calls_of_others() -> None:
    async with one_hangs() as (found, _, second):
        # Who asks is a third one.
        asker = cast(WorkerSlot, Slot(3, second.link))
        assert await found.locate("there", but=asker) == "relay-2"
        assert await found.holds("demo", "there")


async def test_what_a_worker_that_hangs_may_have_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "RECOVERY_WAIT_S", 0.05)
    async with one_hangs() as (found, first, second):
        with pytest.raises(ProtocolError, match="ingest worker 1 does not answer"):
            await found.locate("elsewhere", but=cast(WorkerSlot, second))
        first.silent, first.amiss = True, "has not been heard of for 11 s"
        with pytest.raises(Unavailable, match="has not been heard of for 11 s"):
            await found.holds("demo", "elsewhere")


async def test_nobody_waits_for_a_worker_that_has_been_silent_for_long() -> None:
    async with one_hangs() as (found, first, _):
        first.silent = True
        async with asyncio.timeout(10):
            await found.filed("there")  # which waits for as long as it takes
            assert await found.now("demo", ["there"]) == {"there": {"state": "live"}}
