"""From a call's last word to the store: what it was, and what voice QC says of it, whenever that comes."""

from __future__ import annotations

import asyncio
from typing import Any

from gateway.call.events import QcJudged, QcProgressed
from gateway.ports import QualityAnswer
from gateway.session.errands import Errands
from gateway.session.in_memory import CallsInMemory
from gateway.session.keeping import Keeping
from gateway.session.session import CallSession
from gateway.session.verdicts import StoredVerdicts


class Filing:
    """A verdict goes to the call while it is in memory, and to its stored document from then on, never to neither."""

    def __init__(self, memory: CallsInMemory, keeping: Keeping, errands: Errands) -> None:
        self._memory = memory
        self._journal = keeping.journal
        self._errands = errands
        self._verdicts = StoredVerdicts(keeping.calls, keeping.outcomes, keeping.clock)
        self._under_way: dict[str, asyncio.Task[None]] = {}

    def end(self, session: CallSession) -> None:
        """File a call that has said its last, in the background."""
        self._memory.end(session)
        filing = self._under_way[session.call_id] = self._errands.begin(self._file(session))
        filing.add_done_callback(lambda _: self._under_way.pop(session.call_id, None))

    async def filed(self, call_id: str) -> None:
        """Return once the store has all of a call that has just ended."""
        if call_id in self._under_way:
            await asyncio.wait([self._under_way[call_id]])

    async def note_verdict(self, app_id: str, call_id: str, answer: QualityAnswer) -> None:
        """Take what voice QC says of a call; a repeated verdict changes nothing."""
        failure = "" if answer.succeeded else answer.state_desc
        session = self._memory.find(app_id, call_id)
        if session is None:
            if answer.done:
                await self._judge_stored(app_id, call_id, answer.result, failure)
        elif answer.done:
            session.receive(QcProgressed(call_id, answer.state, answer.state_desc))
            session.receive(QcJudged(call_id, answer.result, failure))
            await session.safe()  # before the outbox forgets it
        else:
            session.receive(QcProgressed(call_id, answer.state, answer.state_desc))

    async def note_no_verdict(self, app_id: str, call_id: str, error: str) -> None:
        """Voice QC will never judge this call."""
        session = self._memory.find(app_id, call_id)
        if session is None:
            await self._judge_stored(app_id, call_id, {}, error)
        else:
            session.receive(QcJudged(call_id, {}, error or "no verdict"))
            await session.safe()

    async def _judge_stored(self, app_id: str, call_id: str, result: dict[str, Any], failure: str) -> None:
        await self.filed(call_id)
        await self._verdicts.judge(app_id, call_id, result, failure)

    async def _file(self, session: CallSession) -> None:
        handed_in = await session.uploaded()
        qc = session.document.content["qc"] or {}
        if "missed" not in qc:
            await session.save("judging")
        else:
            if not session.judged_elsewhere:
                content = session.document.content
                await self._verdicts.track(session.app_id, session.call_id, content, session.began_at_ms)
            await session.save("failed" if session.document.content["reason"] == "qc_failed" else "judged")
        if handed_in:  # else the journal has the only copy, and the next start hands it in
            await self._journal.release(session.call_id)
