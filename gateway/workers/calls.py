"""The calls of all workers, as the main process finds them: it keeps no list, it asks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from gateway.ports import QualityAnswer, Unavailable
from gateway.ports.levels import CallLevels, LevelsAsked
from gateway.session.calls import RECOVERY_WAIT_S
from gateway.session.verdicts import StoredVerdicts
from gateway.workers.link import LinkFault
from gateway.workers.questions import (
    ERASE,
    FILED,
    HAS,
    HOLDS,
    LEVELS,
    NOW,
    VERDICT,
    LevelsOf,
    OneCall,
    SomeCalls,
    Verdict,
    Whether,
)
from gateway.workers.slot import WorkerSlot
from gateway.workers.wire import Question
from protocol.errors import ProtocolError

Q = TypeVar("Q")
A = TypeVar("A")
ANSWER_TIMEOUT_S = 10.0
"""A worker that takes longer to say what it has in memory is not well."""
LOOK_EVERY_S = 0.1
"""How often a worker that is being restarted is looked for, by whoever waits for it."""


class WorkersCalls:
    """Fills the roles LiveCalls, LevelReader and Erasable, and brings verdicts home."""

    def __init__(
        self,
        slots: Sequence[WorkerSlot],
        verdicts: StoredVerdicts,
        relay_name: Callable[[int], str],
        recorded: Callable[[str, LevelsAsked], Awaitable[CallLevels | None]],
    ) -> None:
        """`slots` may grow later; `relay_name` names where a worker takes connections that others pass on; `recorded`
        reads the levels of a sealed recording."""
        self._recorded = recorded
        self._slots = slots
        self._verdicts = verdicts
        self._relay_name = relay_name

    # --- LiveCalls ---

    async def now(self, app_id: str, call_ids: Sequence[str]) -> Mapping[str, dict[str, Any]]:
        """See the port. What a worker has that is being restarted is told as it was stored."""
        asked = SomeCalls(app_id, call_ids)
        told: dict[str, dict[str, Any]] = {}
        for answer in await self._everybody(NOW, asked):
            told |= msgspec.json.decode(answer.by_call_json, type=dict[str, dict[str, Any]])
        return told

    async def filed(self, call_id: str) -> None:
        asked = OneCall("", call_id)
        await self._everybody(FILED, asked, timeout_s=None)

    async def holds(self, app_id: str, call_id: str) -> bool:
        return await self._any(HOLDS, OneCall(app_id, call_id)) is not None

    # --- Erasable ---

    async def erase(self, call_id: str) -> bool:
        """Take what a call has left off every worker's journal. Raises OSError, Unavailable."""
        asked = OneCall("", call_id)
        gone = True
        for slot in self._slots:
            answer = await self._ask(slot, ERASE, asked, timeout_s=None)
            if answer is None:
                raise Unavailable(f"ingest worker {slot.number} {slot.amiss or 'does not answer'}")
            gone = gone and answer.so
        return gone

    # --- LevelReader ---

    async def recorded(self, call_id: str, asked: LevelsAsked) -> CallLevels | None:
        """Of the recordings, which all processes share."""
        return await self._recorded(call_id, asked)

    async def running(self, call_id: str, asked: LevelsAsked) -> CallLevels | None:
        told = await self._everybody(LEVELS, LevelsOf(call_id, asked))
        return next((one.levels for one in told if one.levels is not None), None)

    # --- whose a call is ---

    async def locate(self, call_id: str, *, but: WorkerSlot) -> str:
        """Where the worker that has the call takes connections; nothing when no other than `but` has it.

        Raises ProtocolError (`recovering`) when that cannot be told yet.
        """
        try:
            found = await self._any(HAS, OneCall("", call_id), but=but)
        except Unavailable as fault:
            raise ProtocolError("recovering", f"the call may be at a process that comes back: {fault}") from fault
        return "" if found is None else self._relay_name(found.number)

    # --- verdicts ---

    async def note_verdict(self, app_id: str, session_id: str, answer: QualityAnswer) -> None:
        """As `Calls.note_verdict`. Raises Unavailable, to be asked again, while a worker may have the call."""
        if await self._any(VERDICT, Verdict(app_id, session_id, answer)) is None and answer.done:
            failure = "" if answer.succeeded else answer.state_desc
            await self._verdicts.judge(app_id, session_id, answer.result, failure)

    async def note_no_verdict(self, app_id: str, session_id: str, error: str) -> None:
        """As `Calls.note_no_verdict`. Raises Unavailable likewise."""
        if await self._any(VERDICT, Verdict(app_id, session_id, None, error)) is None:
            await self._verdicts.judge(app_id, session_id, {}, error)

    # --- asking ---

    async def _any(self, question: Question[Q, Whether], asked: Q, but: WorkerSlot | None = None) -> WorkerSlot | None:
        """The worker that says yes. Those that do not answer are waited for a little, when no other does.

        Raises Unavailable when one that might say yes cannot be asked.
        """

        async def says(slot: WorkerSlot) -> bool:
            while True:
                answer = await self._ask(slot, question, asked)
                if answer is not None:
                    return answer.so
                await asyncio.sleep(LOOK_EVERY_S)

        # All at once: one that hangs must not keep us from hearing the one that has it.
        asking = {asyncio.ensure_future(says(slot)): slot for slot in self._slots if slot is not but}
        left = dict(asking)
        try:
            async with asyncio.timeout(RECOVERY_WAIT_S):
                while left:
                    done, _ = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        slot = left.pop(task)
                        if task.result():
                            return slot
                return None
        except TimeoutError:
            slot = next(iter(left.values()))
            raise Unavailable(f"ingest worker {slot.number} {slot.amiss or 'does not answer'}") from None
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)

    async def _everybody(
        self, question: Question[Q, A], asked: Q, *, timeout_s: float | None = ANSWER_TIMEOUT_S
    ) -> list[A]:
        """The answers of the workers that are there."""

        async def one(slot: WorkerSlot) -> A | None:
            return await self._ask(slot, question, asked, timeout_s=timeout_s)

        answers = await asyncio.gather(*map(one, self._slots))
        return [answer for answer in answers if answer is not None]

    async def _ask(
        self, slot: WorkerSlot, question: Question[Q, A], asked: Q, *, timeout_s: float | None = ANSWER_TIMEOUT_S
    ) -> A | None:
        """The worker's answer, None when there is none. Raises OSError as the worker does."""
        link = slot.link
        if link is None or not slot.up.is_set() or slot.silent:
            return None
        try:
            async with asyncio.timeout(timeout_s):
                return await link.ask(question, asked)
        except (Unavailable, LinkFault, TimeoutError):
            return None
