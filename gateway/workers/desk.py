"""What the main process may ask of a worker about the calls that are there."""

from __future__ import annotations

from typing import Protocol

import msgspec

from gateway.ports import LiveCalls
from gateway.ports.levels import LevelReader
from gateway.session.calls import Calls
from gateway.workers.limits import LinkedPlaces
from gateway.workers.link import Link
from gateway.workers.questions import (
    ERASE,
    FILED,
    GOING_ON,
    HAS,
    HOLDS,
    LEVELS,
    NOW,
    VERDICT,
    Documents,
    GoingOn,
    LevelsOf,
    LevelsTold,
    OneCall,
    SomeCalls,
    Verdict,
    Whether,
)
from gateway.workers.wire import Nothing


class Erasable(Protocol):
    async def erase(self, call_id: str) -> bool: ...


class CallDesk:
    """Answers for one worker's calls."""

    def __init__(
        self, calls: Calls, live: LiveCalls, journal: Erasable, levels: LevelReader, places: LinkedPlaces
    ) -> None:
        self._calls = calls
        self._live = live
        self._journal = journal
        self._levels = levels
        self._places = places

    def open(self, link: Link) -> None:
        """Answer from here on."""
        link.answers(HAS, self._has)
        link.answers(NOW, self._now)
        link.answers(FILED, self._filed)
        link.answers(HOLDS, self._holds)
        link.answers(VERDICT, self._verdict)
        link.answers(ERASE, self._erase)
        link.answers(LEVELS, self._running_levels)
        link.answers(GOING_ON, self._going_on)

    async def _has(self, asked: OneCall) -> Whether:
        return Whether(await self._calls.has(asked.call_id))

    async def _now(self, asked: SomeCalls) -> Documents:
        return Documents(msgspec.json.encode(await self._live.now(asked.app_id, asked.call_ids)))

    async def _filed(self, asked: OneCall) -> Nothing:
        await self._live.filed(asked.call_id)
        return Nothing()

    async def _holds(self, asked: OneCall) -> Whether:
        return Whether(await self._live.holds(asked.app_id, asked.call_id))

    async def _verdict(self, asked: Verdict) -> Whether:
        """Whether the call was in memory, and has it now; otherwise the store has all of the call."""
        if not await self._live.holds(asked.app_id, asked.session_id):
            return Whether(so=False)
        if asked.answer is not None:
            await self._calls.note_verdict(asked.app_id, asked.session_id, asked.answer)
        else:
            await self._calls.note_no_verdict(asked.app_id, asked.session_id, asked.error)
        return Whether(so=True)

    async def _erase(self, asked: OneCall) -> Whether:
        return Whether(await self._journal.erase(asked.call_id))

    async def _running_levels(self, asked: LevelsOf) -> LevelsTold:
        return LevelsTold(await self._levels.running(asked.call_id, asked.asked))

    async def _going_on(self, _: Nothing) -> GoingOn:
        return GoingOn(self._places.count(), whole=self._calls.recovery.finished)
