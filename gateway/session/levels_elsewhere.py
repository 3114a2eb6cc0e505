"""How loud calls are that other processes hold, asked for over the bus."""

from __future__ import annotations

import zlib

import msgspec
import structlog

from gateway.ports import Unavailable
from gateway.ports.bus import Bus
from gateway.ports.levels import CallLevels, LevelReader, LevelsAsked

log = structlog.get_logger(__name__)

QUESTION = "call.levels"
ANSWER_TIMEOUT_S = 5.0
"""A long call's journal is read for the answer; a node that takes longer is as one that does not have the call."""


class Wanted(msgspec.Struct, frozen=True):
    """A question: which stretch of which call. Whose it is was looked at by the node that asks."""

    call_id: str
    asked: LevelsAsked


class LevelsEverywhere:
    """Fills the role LevelReader over all nodes that share a bus: `running` finds a call at any of them."""

    def __init__(self, here: LevelReader, bus: Bus) -> None:
        self._here = here
        self._bus = bus
        bus.answers(QUESTION, self._answer)

    async def recorded(self, call_id: str, asked: LevelsAsked) -> CallLevels | None:
        """Of the recordings that this node reaches."""
        return await self._here.recorded(call_id, asked)

    async def running(self, call_id: str, asked: LevelsAsked) -> CallLevels | None:
        found = await self._here.running(call_id, asked)
        if found is not None or self._bus.alone:
            return found
        try:
            question = msgspec.json.encode(Wanted(call_id, asked))
            answer = await self._bus.ask(QUESTION, question, timeout_s=ANSWER_TIMEOUT_S)
        except Unavailable as fault:
            log.info("levels_elsewhere_unknown", call_id=call_id, fault=str(fault))
            return None
        return None if answer is None else msgspec.json.decode(zlib.decompress(answer), type=CallLevels)

    async def _answer(self, question: bytes) -> bytes | None:
        wanted = msgspec.json.decode(question, type=Wanted)
        found = await self._here.running(wanted.call_id, wanted.asked)
        # Sealed a moment ago, and judged nowhere yet: the one who asks still takes it for running.
        found = found or await self._here.recorded(wanted.call_id, wanted.asked)
        return None if found is None else zlib.compress(msgspec.json.encode(found), 1)
