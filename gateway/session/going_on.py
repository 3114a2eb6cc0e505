"""Calls that go on from a journal: after a crash from one's own, after a take-over from a copy of another node's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
import structlog

from gateway.call.replay import Diverged
from gateway.call.settings import CallSettings
from gateway.call.states import State
from gateway.ports import Lease
from gateway.session.handing_in import hand_in_what_is_left
from gateway.session.in_memory import CallsInMemory
from gateway.session.keeping import Keeping
from gateway.session.making import CallMaker
from gateway.session.moving import Moving
from gateway.session.rebuilding import (
    CallHeader,
    Interrupted,
    Rebuilt,
    Recovered,
    header_of,
    rebuild,
    rule_digests,
)
from gateway.session.rulesets import RuleSets, RulesOfCall
from gateway.session.session import CallSession

log = structlog.get_logger(__name__)


class GoingOn:
    """Each call waits for its client from the moment it goes on, as if the socket had just broken.

    One that cannot be rebuilt as it was is hung up: its recording is judged. One that cannot be read is left in the
    journal.
    """

    def __init__(
        self,
        memory: CallsInMemory,
        maker: CallMaker,
        keeping: Keeping,
        rules: RuleSets,
        settings: CallSettings,
        moving: Moving,
        breathe: Callable[[], None],
    ) -> None:
        """`breathe` as in `rebuild`."""
        self._memory = memory
        self._maker = maker
        self._keeping = keeping
        self._rules = rules
        self._settings = settings
        self._moving = moving
        self._breathe = breathe

    async def take_up(self, found: Recovered) -> None:
        """Go on with a call that an earlier process left in our journal, unless another node has it by now."""
        header = await header_of(found, self._keeping.calls)
        if header is None:
            await self._keep_ownerless(found)
            return
        lease, known = await self._keeping.owners.reclaim(found.call_id, header.app_id, found.epoch)
        if lease is None:
            log.info("call_is_elsewhere", call_id=found.call_id, node=known.node if known is not None else "")
            self._moving.leave(found.call_id)
            return
        await self._go_on(found, header, lease, whole=False, done=known is not None and known.done)

    async def go_on(self, found: Recovered, lease: Lease) -> CallSession | None:
        """Go on with a call that was taken from another node, and is in our journal now as it is in its tail.

        None when it cannot, or not before the next start.
        """
        return await self._go_on(found, msgspec.json.decode(found.header, type=CallHeader), lease, whole=True)

    async def _go_on(
        self, found: Recovered, header: CallHeader, lease: Lease, *, whole: bool, done: bool = False
    ) -> CallSession | None:
        """`whole`: its tail has all of it; `done`: it was sealed already."""
        head = found.header or msgspec.json.encode(header)
        self._keeping.journal.begin_epoch(found.call_id, lease.epoch, head)
        try:
            rebuilt = await self._rebuilt(found, header)
        except Interrupted:
            log.info("call_left_for_the_next_start", call_id=found.call_id)
            return None
        except Diverged as why:
            log.error("call_not_resumable", call_id=found.call_id, reason=str(why))  # noqa: TRY400 - it says it all
            self._memory.cut_off(header.app_id, found.call_id)
            self._keeping.owners.hold(
                lease, header.app_id, head, lambda: (header.rules,), lambda: (0, 0), whole=whole, done=done
            )
            await hand_in_what_is_left(found, header, self._keeping)
            return None
        call = rebuilt.past.call
        judged = call.state is State.ENDED and await self._is_judged(header.app_id, found.call_id)
        session = self._maker.again(lease, rebuilt, whole=whole, done=done)
        session.judged_elsewhere = judged
        self._memory.take_up(session, rebuilt)
        log.info("call_taken_up", call_id=found.call_id, state=call.state.value, samples=call.samples)
        return session

    async def _is_judged(self, app_id: str, call_id: str) -> bool:
        known = await self._keeping.calls.get(app_id, call_id)
        return known is not None and known.state in ("judged", "failed")

    async def _keep_ownerless(self, found: Recovered) -> None:
        """Nobody knows whose it is, so nobody may have it: make its audio a file, and leave its records as they are."""
        recording = ""
        if found.rate_hz:
            await self._keeping.journal.seal(found.call_id)
            recording = str(await self._keeping.journal.publish(found.call_id))
        log.error("call_without_owner", call_id=found.call_id, samples=found.end_sample, recording=recording)

    async def _rebuilt(self, found: Recovered, header: CallHeader) -> Rebuilt:
        kept = []
        for digest in rule_digests(found) or [""]:
            in_force = await self._rules.of_digest(digest, pinyin=header.pinyin)
            if in_force is None:
                raise Diverged("the rules that it was judged by are not kept")
            kept.append(in_force)
        rules = RulesOfCall(kept[0], pinyin=header.pinyin, later=kept[1:])
        return await asyncio.to_thread(rebuild, found, header, self._settings, rules, self._breathe)
