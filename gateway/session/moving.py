"""Calls that move between nodes: taken over with what their node has left of them, and given up to whoever has them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

import msgspec
import structlog

from gateway.call.document import CallDocument
from gateway.call.settings import CallTerms
from gateway.ports import CallStore, CallTail, HeldCall, LateParts, Lease, Unavailable
from gateway.session.ownership import Ownership
from gateway.session.rebuilding import CallHeader, Recovered
from protocol.codec import decode_server
from protocol.errors import ProtocolError

log = structlog.get_logger(__name__)

SEQ_RESERVE = 1_000_000
"""More numbers than a call uses between two renewals, however long the registry is away: none of them is used twice."""


class TravelJournal(Protocol):
    """What calls that leave ask of a journal, beyond what those ask that stay."""

    async def read_back(self, call_id: str) -> tuple[int, AsyncIterator[bytes]]: ...
    async def release(self, call_id: str) -> None: ...


class Arrivals(Protocol):
    """Where records of calls that come from other nodes go."""

    async def take_in(self, call_id: str, epoch: int, records: AsyncIterator[bytes]) -> Recovered: ...
    async def add_late_part(self, call_id: str, records: AsyncIterator[bytes]) -> Recovered | None: ...
    async def fill_recording(
        self, call_id: str, hole_samples: int, records: AsyncIterator[bytes]
    ) -> Recovered | None: ...


GiveUp = Callable[[str, str], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Taken:
    """A call that is ours from now on."""

    lease: Lease
    header: bytes
    found: Recovered | None
    """All that was acked, and more; None when its node kept it to itself."""
    progress_seq: int
    progress_samples: int


class Moving:
    """Belongs to one event loop."""

    def __init__(
        self,
        owners: Ownership,
        journal: TravelJournal,
        arrivals: Arrivals,
        tail: CallTail,
        late: LateParts,
        calls: CallStore,
        give_up: GiveUp | None = None,
    ) -> None:
        """`give_up` lets go of what this node keeps of a call (app id, call id) outside its journal; False: not yet."""
        self._give_up = give_up
        self._owners = owners
        self._journal = journal
        self._arrivals = arrivals
        self._tail = tail
        self._late = late
        self._calls = calls
        self._left: dict[str, int] = {}
        """Calls whose part in our journal another node has gone on from, and the hole that our part was offered for."""

    # --- taking ---

    async def take_over(self, app_id: str, call_id: str) -> Taken | None:
        """Take a call that its client brings; None when the cluster knows no such call of the app.

        Raises ProtocolError (`held_elsewhere`, `cluster_unavailable`) where the client should try again.
        """
        standing = self._owners.standing
        try:
            # Without a tail a take-over costs audio: then only from a node that is gone.
            answer = await self._owners.leases.take_over(app_id, call_id, even_if_held=standing.replicated)
            call = answer.call
            if answer.outcome == "taken" and call is not None:
                return await self._take_in(call)
        except Unavailable as fault:
            raise ProtocolError("cluster_unavailable", str(fault)) from fault
        if call is None:
            if standing.alone:
                return None
            raise ProtocolError("cluster_unavailable", f"no node has told of call {call_id} lately; try again")
        if call.done and call.lease_left_ms < -standing.resume_window_s * 1000:
            return None
        raise ProtocolError("held_elsewhere", f"call {call_id} is at node {call.node}")

    async def adopt(self, call_id: str) -> Taken | None:
        """Take a call whose node is gone and whose client stayed away. Raises Unavailable."""
        patience_ms = round(self._owners.standing.resume_window_s * 1000)
        known = await self._owners.leases.find(call_id)
        if known is None or not known.has_tail or await _first(self._tail.read(call_id)) is None:
            return None  # only its own node has what it takes
        answer = await self._owners.leases.adopt(call_id, expired_for_ms=patience_ms)
        if answer.outcome != "taken" or answer.call is None:
            return None
        return await self._take_in(answer.call)

    async def _take_in(self, call: HeldCall) -> Taken:
        lease = Lease(call.call_id, call.epoch)
        found: Recovered | None = None
        try:
            if call.has_tail and await _first(self._tail.read(call.call_id)) is not None:
                found = await self._arrivals.take_in(call.call_id, call.epoch, self._tail.read(call.call_id))
        except BaseException:
            await self.give_back(lease)  # what stopped us may not stop another node
            raise
        self._left.pop(call.call_id, None)
        log.info("call_taken_over", call_id=call.call_id, epoch=call.epoch, whole=found is not None)
        return Taken(lease, call.header, found, call.progress_seq, call.progress_samples)

    async def give_back(self, lease: Lease) -> None:
        """We cannot go on with a call that we took: another node may at once, and so may we later."""
        self._owners.forget(lease.call_id)
        self._left[lease.call_id] = 0
        with suppress(Unavailable):  # then the lease runs out by itself
            await self._owners.leases.release([lease])

    # --- leaving ---

    def leave(self, call_id: str) -> None:
        """Another node has the call. Our part of it is kept until it is known to be needed no more."""
        self._left[call_id] = 0

    async def look_after(self) -> None:
        """Give up parts that nobody needs any more, offer those that somebody does, and take those that are for us.

        Raises Unavailable.
        """
        for call_id, offered_for in list(self._left.items()):
            try:
                await self._look_after_part(call_id, offered_for)
            except (OSError, ValueError) as fault:
                log.warning("part_not_given_up", call_id=call_id, fault=str(fault))
        for call_id in await self._late.offered():
            try:
                await self._take_late_part(call_id)
            except (OSError, ValueError, msgspec.DecodeError, ProtocolError) as fault:
                log.warning("late_part_not_taken", call_id=call_id, fault=str(fault))

    async def _look_after_part(self, call_id: str, offered_for: int) -> None:
        known = await self._owners.leases.find(call_id)
        if known is None:
            return
        if known.hole_samples and offered_for != known.hole_samples:
            _, pieces = await self._journal.read_back(call_id)
            await self._late.offer(call_id, pieces)
            self._left[call_id] = known.hole_samples
            log.info("late_part_offered", call_id=call_id, node=known.node)
        elif known.done and not known.hole_samples:
            if self._give_up is not None and not await self._give_up(known.app_id, call_id):
                return
            await self._journal.release(call_id)
            del self._left[call_id]
            log.info("part_given_up", call_id=call_id, node=known.node)

    async def _take_late_part(self, call_id: str) -> None:
        known = await self._owners.leases.find(call_id)
        if known is None or not known.hole_samples:
            await self._late.drop(call_id)
            return
        if call_id in self._left or self._owners.standing.node not in ("", known.node):
            return  # whoever has handed the call in completes its recording, wherever that lies
        part = await self._arrivals.add_late_part(call_id, self._late.read(call_id))
        if part is None:
            part = await self._arrivals.fill_recording(call_id, known.hole_samples, self._late.read(call_id))
        if part is None:
            return  # another node has the recording
        await self._add_to_document(part, known)
        await self._owners.leases.note_hole(Lease(call_id, known.epoch), 0)
        await self._late.drop(call_id)
        log.info("late_part_added", call_id=call_id, samples=part.samples)

    async def _add_to_document(self, part: Recovered, known: HeldCall) -> None:
        """What was heard and said before the hole's end joins the document; no verdict changes."""
        record = await self._calls.get(known.app_id, known.call_id)
        if record is None or not part.header:
            return
        start = msgspec.json.decode(part.header, type=CallHeader).start
        earlier = CallDocument(known.call_id, start, CallTerms.of(known.call_id, start).roles)
        for _, payload in part.messages:
            earlier.apply(decode_server(payload))
        await self._calls.save(replace(record, document=with_earlier(record.document, earlier.content)))


def with_earlier(document: dict[str, object], earlier: dict[str, object]) -> dict[str, object]:
    """A call's document with what a late part tells of its beginning; the document's own word counts."""
    merged = dict(document)
    for key, name in (("segments", "segment_id"), ("alerts", "alert_id")):
        own, others = document[key], earlier[key]
        assert isinstance(own, list)
        assert isinstance(others, list)
        known = {one[name] for one in own}
        merged[key] = [*({**one, "late": True} for one in others if one[name] not in known), *own]
    gaps = document["gaps"]
    assert isinstance(gaps, list)
    merged["gaps"] = [{**gap, "filled": True} if gap["cause"] == "node" else gap for gap in gaps]
    return merged


async def _first(pieces: AsyncIterator[bytes]) -> bytes | None:
    async for piece in pieces:
        return piece
    return None
