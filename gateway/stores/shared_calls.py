"""The calls of all nodes: this node's own, and what the others have told of theirs.

The node that finished a call has it in its database, and that is the truth; Redis has copies for the others, and is
sent them again when it has lost some. Of several copies the newest counts (`Version`). What was deleted by hand is
deleted, whoever still has a copy: every node's account of deletions makes Redis's again.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Literal

import structlog

from gateway.ports import CallRecord, Clock, Unavailable
from gateway.stores.call_versions import RANK, CallVersions, PackedCall, Version
from gateway.stores.calls import CallRecords, OldCall
from gateway.stores.redis_calls import DELETIONS_KEPT_MS, RedisCalls, SharedCopy

log = structlog.get_logger(__name__)

EVERY_S = 2.0
"""How often a node looks for what others have deleted, and whether Redis has lost anything."""
SENT_TOGETHER, LOOKED_UP_TOGETHER = 50, 500

Erase = Callable[[str, str], Awaitable[bool]]
"""(app id, call id): deletes what this node has of a call; False while the call is still in memory here."""


class SharedCalls:
    """Fills the role CallStore over all nodes; `run` keeps this node and the others in step.

    While Redis is away this node's own calls are found, and asking for another raises Unavailable.
    """

    def __init__(self, own: CallRecords, versions: CallVersions, shared: RedisCalls, node: str, clock: Clock) -> None:
        self._own = own
        self._versions = versions
        self._shared = shared
        self._node = node
        self._clock = clock
        self._news = asyncio.Event()
        self._memory = ""
        self._deleted_until_ms = 0
        self.fault = ""
        """Why calls of other nodes may be missing from a page, or nothing."""

    def wake(self) -> None:
        """A call was saved here: the others should hear of it."""
        self._news.set()

    # --- asking ---

    async def save(self, record: CallRecord) -> None:
        await self._own.save(record)
        self.wake()

    async def get(self, app_id: str, call_id: str) -> CallRecord | None:
        own = await self._own.get(app_id, call_id)
        try:
            copy = await self._shared.copy(app_id, call_id)
        except Unavailable:
            if own is None:
                raise
            return own
        if copy == "deleted":
            return None
        if not isinstance(copy, SharedCopy):
            return own
        version = await self._versions.version(app_id, call_id)
        return own if own is not None and version is not None and version > copy.version else copy.record

    async def left_behind(self, call_id: str) -> CallRecord | None:
        """Of this node alone, as is what it took up."""
        return await self._own.left_behind(call_id)

    async def page(self, app_id: str, *, limit: int, before: str | None = None) -> Sequence[CallRecord]:
        """As the role says; while Redis is away, this node's own calls, and `fault` says so."""
        try:
            page = await self._page_of_all(app_id, limit, before)
        except Unavailable as fault:
            self.fault = str(fault)
            return await self._own.page(app_id, limit=limit, before=before)
        self.fault = ""
        return page

    async def _page_of_all(self, app_id: str, limit: int, before: str | None) -> Sequence[CallRecord]:
        place: tuple[int, str] | None = None
        if before is not None:
            record = await self.get(app_id, before)
            if record is None:
                return []
            place = record.began_at_ms, before
        found = {one.call_id: one for one in await self._shared.page_before(app_id, limit, place)}
        for call_id in await self._versions.unsent_before(app_id, limit, place):
            record = await self._own.get(app_id, call_id)
            if record is not None:
                found[call_id] = record
        latest_first = sorted(found.values(), key=lambda one: (one.began_at_ms, one.call_id), reverse=True)
        return latest_first[:limit]

    async def elsewhere(self, app_id: str, call_id: str) -> str:
        """Name of the other node that has the app's call, and with it the recording; nothing when that is not known."""
        try:
            copy = await self._shared.copy(app_id, call_id)
        except Unavailable:
            return ""
        return copy.node if isinstance(copy, SharedCopy) and copy.node != self._node else ""

    async def going_on(self, call_ids: Sequence[str]) -> Sequence[str]:
        """Those of `call_ids` that some node has told of and not yet finished. Raises Unavailable."""
        if not call_ids:
            return []
        known = await self._shared.versions(call_ids)
        over = RANK["failed"]
        return [
            call_id for call_id, there in zip(call_ids, known, strict=True) if there is not None and there.rank < over
        ]

    # --- deleting ---

    async def forget(self, app_id: str, call_id: str) -> bool:
        """Delete a call for good, here and, as they hear of it, at every node.

        Raises Unavailable, having done nothing.
        """
        there = await self._shared.forget(app_id, call_id)
        return await self._own.forget(app_id, call_id) or there

    async def expire(self, app_id: str, call_id: str) -> bool:
        """Delete a call of this node that was kept long enough; the copy goes with `sweep_shared`."""
        return await self._own.expire(app_id, call_id)

    async def sweep_shared(self, ended_before_ms: int) -> int:
        """Delete the copies of calls, of whatever node, that were over by then. Raises Unavailable."""
        return await self._shared.sweep_before(ended_before_ms)

    async def judged_before(self, ended_before_ms: int, *, after: str = "", limit: int = 500) -> Sequence[OldCall]:
        """Of this node's own."""
        return await self._own.judged_before(ended_before_ms, after=after, limit=limit)

    async def unknown(self, call_ids: Sequence[str], ended_before_ms: int) -> Sequence[str]:
        """Those that no node tells of, or that were over by then, and are not this node's own. Raises Unavailable."""
        not_ours = await self._own.unknown(call_ids, ended_before_ms)
        return await self._shared.old_or_unknown(not_ours, ended_before_ms)

    async def give_up(self, app_id: str, call_id: str) -> Literal["gone", "ours", "untold"]:
        """Forget how a call was here that another node has finished. Raises Unavailable.

        `gone`: nothing of it is this node's any more; `ours`: it is this very node that finished it; `untold`: nobody
        has told of the call's end yet, and nothing was forgotten.
        """
        copy = await self._shared.copy(app_id, call_id)
        if copy == "deleted":
            return "ours"  # it goes as every deleted call does
        if not isinstance(copy, SharedCopy) or copy.version.rank < RANK["judging"]:
            return "untold"
        if copy.node == self._node:
            return "ours"
        version = await self._versions.version(app_id, call_id)
        if version is not None and version < copy.version:
            await self._own.forget(app_id, call_id)
        return "gone"

    # --- keeping in step ---

    async def run(self, erase: Erase) -> None:
        """Tell the others of this node's calls and hear what they deleted, until cancelled."""
        well = True
        while True:
            self._news.clear()
            try:
                await self.keep_in_step(erase)
                well = True
            except (Unavailable, OSError, sqlite3.Error) as fault:
                if well:
                    log.warning("calls_not_shared", fault=str(fault))
                well = False
            with suppress(TimeoutError):
                async with asyncio.timeout(EVERY_S):
                    await self._news.wait()
            if not well:
                await asyncio.sleep(EVERY_S)  # what is saved meanwhile is no reason to ask sooner

    async def keep_in_step(self, erase: Erase) -> None:
        """One round of it. Raises Unavailable."""
        memory = await self._shared.memory()
        if memory != self._memory:
            await self._tell_of_deletions()
            await self._find_lost()
            self._deleted_until_ms = 0
            self._memory = memory
        await self._follow_deletions(erase)
        await self._send(erase)

    async def _tell_of_deletions(self) -> None:
        """Before anything else: what was deleted must not come back by way of a copy."""
        since_s, after = self._clock.wall() - DELETIONS_KEPT_MS / 1000, 0
        while deleted := await self._versions.deleted(since_s, after, LOOKED_UP_TOGETHER):
            for _, one in deleted:
                await self._shared.forget(one.app_id, one.call_id)
            after = deleted[-1][0]

    async def _find_lost(self) -> None:
        """Redis may have forgotten some of our calls, or all: they are to be sent again."""
        after, lost_in_all = "", 0
        while page := await self._versions.page(after, LOOKED_UP_TOGETHER):
            known = await self._shared.versions([call_id for call_id, _ in page])
            lost = [call_id for (call_id, own), there in zip(page, known, strict=True) if _newer(own, there)]
            await self._versions.send_again(lost)
            after, lost_in_all = page[-1][0], lost_in_all + len(lost)
        if lost_in_all and self._memory:
            log.warning("calls_sent_again", calls=lost_in_all, reason="Redis was restarted or flushed")

    async def _follow_deletions(self, erase: Erase) -> None:
        while True:
            deleted, until_ms = await self._shared.deletions(self._deleted_until_ms, LOOKED_UP_TOGETHER)
            for one in deleted:
                if await self._versions.version(one.app_id, one.call_id) is not None:
                    await erase(one.app_id, one.call_id)
            self._deleted_until_ms = until_ms
            if not deleted:
                return

    async def _send(self, erase: Erase) -> None:
        while calls := await self._versions.unsent(SENT_TOGETHER):
            sent: list[PackedCall] = []
            for call in calls:
                outcome = await self._sent(call)
                if outcome != "deleted":
                    sent.append(call)
                elif await erase(call.app_id, call.call_id):
                    log.info("deleted_call_erased", call_id=call.call_id)
            await self._versions.note_sent(sent)
            if len(sent) < len(calls):
                return  # those that were deleted go once they are no longer in memory

    async def _sent(self, call: PackedCall) -> str:
        try:
            return await self._shared.send(call)
        except ValueError as fault:  # two apps' calls of one id: a data folder of other apps was mixed in
            log.error("call_not_shared", call_id=call.call_id, fault=str(fault))  # noqa: TRY400 - it says it all
            return "taken"


def _newer(own: Version, there: Version | None) -> bool:
    return there is None or own > there
