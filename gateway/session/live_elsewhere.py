"""Live calls that other processes hold, asked for over the bus."""

from __future__ import annotations

import zlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec
import structlog

from gateway.ports import LiveCalls, Unavailable
from gateway.ports.bus import Bus

log = structlog.get_logger(__name__)

QUESTION = "call.snapshot"
ANSWER_TIMEOUT_S = 0.5
"""A node that takes longer is as one that does not know: then the stored call is told."""
BULKY = ("segments", "gaps", "notes", "warnings", "qc")
"""What nobody needs who asks for several calls."""


class Wanted(msgspec.Struct, frozen=True):
    """A question: which calls of which app."""

    app_id: str
    call_ids: list[str]


class LiveEverywhere:
    """Fills the role LiveCalls over all processes that share a bus. Of several calls of others it tells in brief.

    What another process has in memory may go unanswered: then the calls are as if they were in no memory.
    """

    def __init__(
        self, here: LiveCalls, bus: Bus, going_on: Callable[[Sequence[str]], Awaitable[Sequence[str]]]
    ) -> None:
        """`going_on` says which of some calls may be in a memory elsewhere; nobody is asked about others."""
        self._here = here
        self._bus = bus
        self._going_on = going_on
        bus.answers(QUESTION, self._answer)

    async def now(self, app_id: str, call_ids: Sequence[str]) -> Mapping[str, dict[str, Any]]:
        found = dict(await self._here.now(app_id, call_ids))
        others = [call_id for call_id in call_ids if call_id not in found]
        return {**await self._asked(app_id, others), **found} if others else found

    async def filed(self, call_id: str) -> None:
        """Of this process alone: the others tell of what they have filed by themselves."""
        await self._here.filed(call_id)

    async def holds(self, app_id: str, call_id: str) -> bool:
        return await self._here.holds(app_id, call_id) or bool(await self._asked(app_id, [call_id]))

    async def _asked(self, app_id: str, call_ids: Sequence[str]) -> Mapping[str, dict[str, Any]]:
        if self._bus.alone:
            return {}
        try:
            wanted = await self._going_on(call_ids)
            if not wanted:
                return {}
            question = msgspec.json.encode(Wanted(app_id, list(wanted)))
            if len(wanted) > 1:
                answers = await self._bus.ask_all(QUESTION, question, timeout_s=ANSWER_TIMEOUT_S)
            else:
                answer = await self._bus.ask(QUESTION, question, timeout_s=ANSWER_TIMEOUT_S)
                answers = [] if answer is None else [answer]
        except Unavailable as fault:
            log.info("live_calls_elsewhere_unknown", fault=str(fault))
            return {}
        told: dict[str, dict[str, Any]] = {}
        for answer in answers:
            told |= msgspec.json.decode(zlib.decompress(answer), type=dict[str, dict[str, Any]])
        return {call_id: told[call_id] for call_id in wanted if call_id in told}

    async def _answer(self, question: bytes) -> bytes | None:
        wanted = msgspec.json.decode(question, type=Wanted)
        found = await self._here.now(wanted.app_id, wanted.call_ids)
        if not found:
            return None
        if len(wanted.call_ids) > 1:
            found = {
                call_id: {key: value for key, value in told.items() if key not in BULKY}
                for call_id, told in found.items()
            }
        # At once, before anything is awaited: the lists go on growing.
        return zlib.compress(msgspec.json.encode(found), 1)
