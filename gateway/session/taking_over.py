"""Calls that other nodes had and that go on here: their clients bring them, or their nodes are gone."""

from __future__ import annotations

import asyncio

import msgspec
import structlog

from gateway.call.events import HungUp
from gateway.ports import Unavailable
from gateway.session.errands import Errands
from gateway.session.going_on import GoingOn
from gateway.session.in_memory import CallsInMemory
from gateway.session.keeping import Keeping
from gateway.session.making import CallMaker
from gateway.session.moving import SEQ_RESERVE, Moving, Taken
from gateway.session.rebuilding import CallHeader
from gateway.session.rulesets import RuleSets
from gateway.session.welcome import Welcome
from protocol.errors import ProtocolError
from protocol.messages import Resume

log = structlog.get_logger(__name__)


class TakingOver:
    """Belongs to one event loop."""

    def __init__(
        self,
        moving: Moving,
        going_on: GoingOn,
        memory: CallsInMemory,
        maker: CallMaker,
        welcome: Welcome,
        keeping: Keeping,
        rules: RuleSets,
        errands: Errands,
    ) -> None:
        self._moving = moving
        self._going_on = going_on
        self._memory = memory
        self._maker = maker
        self._welcome = welcome
        self._keeping = keeping
        self._rules = rules
        self._errands = errands
        self._on_their_way: dict[str, asyncio.Task[None]] = {}
        """Calls that clients have brought."""

    async def fetch(self, app_id: str, message: Resume) -> None:
        """Take the call over that a client brings, once, however many ask for it; do nothing when there is none.

        Raises ProtocolError (`held_elsewhere`, `cluster_unavailable`, `overloaded`).
        """
        fetching = self._on_their_way.get(message.call_id)
        if fetching is None:
            fetching = asyncio.get_running_loop().create_task(self._take_over(app_id, message))
            self._on_their_way[message.call_id] = fetching
            fetching.add_done_callback(lambda task: self._fetched(message.call_id, task))
        await asyncio.shield(fetching)

    def _fetched(self, call_id: str, task: asyncio.Task[None]) -> None:
        del self._on_their_way[call_id]
        if not task.cancelled() and task.exception() is not None:
            log.warning("call_not_taken_over", call_id=call_id, reason=str(task.exception()))

    async def adopt(self, call_id: str) -> None:
        """Take up a call whose node is gone and whose client has stayed away for its window: it is hung up."""
        taken = await self._moving.adopt(call_id)
        if taken is not None and taken.found is not None:
            session = await self._going_on.go_on(taken.found, taken.lease)
            if session is not None and session.live:
                session.receive(HungUp("lost"))

    async def stop(self) -> None:
        """Take over nothing more; what is not here yet stays where it is."""
        for fetching in list(self._on_their_way.values()):
            fetching.cancel()
        await asyncio.gather(*self._on_their_way.values(), return_exceptions=True)

    async def _take_over(self, app_id: str, message: Resume) -> None:
        taken = await self._moving.take_over(app_id, message.call_id)
        if taken is None:
            return
        try:
            if taken.found is not None and (message.from_sample or 0) <= taken.found.samples:
                await self._going_on.go_on(taken.found, taken.lease)
            else:
                await self._go_on_without_audio(taken, message)
        except Unavailable as fault:
            await self._moving.give_back(taken.lease)
            raise ProtocolError("cluster_unavailable", str(fault)) from fault
        except OSError as fault:
            await self._moving.give_back(taken.lease)
            raise ProtocolError("overloaded", f"the call cannot be stored here right now: {fault}") from fault

    async def _go_on_without_audio(self, taken: Taken, message: Resume) -> None:
        """What the lost node acked is missing here: the call goes on from what its client still has."""
        lease, header = taken.lease, msgspec.json.decode(taken.header, type=CallHeader)
        in_force = await self._rules.of_digest(header.rules, pinyin=header.pinyin)
        if in_force is None:
            in_force = await self._rules.of_app(header.app_id, pinyin=header.pinyin)
        samples = taken.progress_samples if message.from_sample is None else message.from_sample
        through_seq = max(message.last_seq, taken.progress_seq) + SEQ_RESERVE
        self._keeping.journal.begin_epoch(lease.call_id, lease.epoch, taken.header)
        session = self._maker.anew(lease, header, in_force, whole=False, id_prefix=f"n{lease.epoch}")
        self._memory.begin(session, self._welcome.of_call(lease.call_id))
        session.go_on_without_audio(samples, through_seq)
        await self._keeping.owners.leases.note_hole(lease, samples)
        self._errands.begin(session.save("live"))
