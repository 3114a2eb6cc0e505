"""Keeps the tails of this node's calls in step with its journal, all of them in one round trip a commit."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import structlog

from gateway.ports import CallLeases, CallTail, Lease, TailPart, TailReceipt, Unavailable
from gateway.stores.commit_log import Block
from gateway.stores.journal_records import Kind

log = structlog.get_logger(__name__)

FIRST_RETRY_S, MOST_RETRY_S = 0.1, 5.0
ROUND_TRIP_BYTES = 4 * 1024 * 1024
"""What is sent at most before a reply is awaited."""
_NO_NUMBER = 1 << 53
"""Follows on no tail: a part with it is never kept, and its receipt says how far the tail goes."""

ReadBack = Callable[[str], Awaitable[tuple[int, AsyncIterator[bytes]]]]
"""A call's records as its journal has them: up to which position, and the bytes piece by piece. Raises OSError."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """What one block of the journal held of a call."""

    after: int
    """The journal's position before the block: all of the call up to there lies in earlier pieces."""
    position: int
    records: bytes


@dataclass(slots=True)
class _Followed:
    lease: Lease
    app_id: str
    header: bytes
    pieces: deque[_Piece] = field(default_factory=deque)
    outgoing: _Piece | None = None
    """What was sent and not yet confirmed. Sent again it must be the same, or its number would stand for two things."""
    next_number: int = 1
    replicated: int = 0
    """While `incomplete`: what was confirmed before."""
    incomplete: bool = False
    """The tail lacks records that only our journal still has."""
    dropped_to: int = 0
    """Pieces up to this position were dropped for lack of memory."""


class Replication:
    """Follows calls: what the journal writes of them goes to their tails too, and `synced` says how far that is.

    Belongs to one event loop. While Redis is away, pieces wait in memory up to `max_waiting_bytes`, then they are
    dropped and read back from the journal later. A tail that lost records is made whole from the journal before
    anything new of its call counts as replicated.
    """

    def __init__(
        self,
        tail: CallTail,
        leases: CallLeases,
        *,
        on_fenced: Callable[[str], None],
        on_health: Callable[[str | None], None] = lambda fault: None,
        before_entering: Callable[[str], Awaitable[None]] | None = None,
        max_waiting_bytes: int = 64 * 1024 * 1024,
    ) -> None:
        """`on_fenced` hears of a followed call that another node has taken over: it is followed no more.
        `before_entering` is awaited before a call that was forgotten is entered again."""
        self.degraded: str | None = None
        """Why nothing is replicated at the moment, or None."""
        self._tail = tail
        self._leases = leases
        self._on_fenced = on_fenced
        self._on_health = on_health
        self._before_entering = before_entering
        self._max_waiting_bytes = max_waiting_bytes
        self.waiting_bytes = 0
        """What waits to be sent, or for a reply."""
        self._seen = 0
        self._calls: dict[str, _Followed] = {}
        self._waiters: dict[str, list[tuple[int, asyncio.Future[int]]]] = {}
        self._due = asyncio.Event()
        self._read_back: ReadBack | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self, read_back: ReadBack) -> None:
        """Begin to send. `read_back` is the journal's."""
        self._read_back = read_back
        self._task = asyncio.get_running_loop().create_task(self._run(), name="replication")

    async def stop(self) -> None:
        """Send what waits, once, and stop. What Redis does not take now, this node's journal still has."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        try:
            await self._send_everything()
        except (Unavailable, OSError) as fault:
            log.warning("tails_not_complete", fault=str(fault))
        self._wake(Unavailable("the server is stopping"))

    # --- what to follow ---

    def follow(self, lease: Lease, app_id: str, header: bytes, *, whole: bool = True) -> None:
        """From the journal's next record of the call on. `whole` is False when the journal has earlier records of it
        that the tail has not: they are sent first."""
        self._calls[lease.call_id] = _Followed(lease, app_id, header, incomplete=not whole)
        if not whole:
            self._due.set()

    def send_again(self, call_id: str) -> None:
        """The registry has forgotten the call: enter it again, with all that the journal has of it."""
        call = self._calls.get(call_id)
        if call is not None:
            self.waiting_bytes -= _size_of(call)
            self._mark_incomplete(call)
            self._due.set()

    def forget(self, call_id: str) -> None:
        """Follow the call no more; who waits for it need not wait any longer."""
        call = self._calls.pop(call_id, None)
        if call is not None:
            self.waiting_bytes -= _size_of(call)
        for position, waiter in self._waiters.pop(call_id, []):
            if not waiter.done():
                waiter.set_result(max(position, self._seen))

    # --- the journal's side ---

    def note_block(self, block: Block) -> None:
        """The journal made a block of records; never waits."""
        gathered: dict[str, list[bytes]] = {}
        for entry in block.entries:
            if entry.call_id in self._calls and entry.kind is not Kind.RELEASE and not entry.again:
                records = block.data[entry.begin_bytes : entry.begin_bytes + entry.size_bytes]
                gathered.setdefault(entry.call_id, []).append(records)
        for call_id, parts in gathered.items():
            piece = _Piece(self._seen, block.position, b"".join(parts))
            self._calls[call_id].pieces.append(piece)
            self.waiting_bytes += len(piece.records)
        self._seen = block.position
        if self.waiting_bytes > self._max_waiting_bytes:
            self._drop_everything()

    def note_commit(self) -> None:
        """The journal begins to sync: a good moment to send the same."""
        self._due.set()

    def _drop_everything(self) -> None:
        for call in self._calls.values():
            self.waiting_bytes -= _size_of(call)
            self._mark_incomplete(call)

    def _mark_incomplete(self, call: _Followed) -> None:
        call.replicated = max(call.replicated, self._reached(call))
        call.incomplete = True
        call.dropped_to = self._seen
        call.pieces.clear()
        call.outgoing = None

    # --- who waits ---

    async def synced(self, call_id: str, position: int) -> int:
        """Return once what the journal took of a call up to `position` is in its tail too, and up to which position
        that is true by then. At once for a call that is not followed. Raises Unavailable, at each failed try."""
        call = self._calls.get(call_id)
        if call is None:
            return max(position, self._seen)
        reached = self._reached(call)
        if reached >= position:
            return reached
        if self.degraded is not None:
            raise Unavailable(self.degraded)
        waiter: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(call_id, []).append((position, waiter))
        return await waiter

    def _reached(self, call: _Followed) -> int:
        if call.incomplete:
            return call.replicated
        if call.outgoing is not None:
            return call.outgoing.after
        return call.pieces[0].after if call.pieces else self._seen

    def _wake(self, fault: Unavailable | None = None) -> None:
        """Tell those who wait what has been reached, and the others of the fault, if there is one."""
        for call_id, waiting in list(self._waiters.items()):
            call = self._calls.get(call_id)
            reached = self._reached(call) if call is not None else 0
            left = []
            for position, waiter in waiting:
                if waiter.done():
                    continue
                if position <= reached:
                    waiter.set_result(reached)
                elif fault is not None:
                    waiter.set_exception(Unavailable(str(fault)))
                else:
                    left.append((position, waiter))
            if left:
                self._waiters[call_id] = left
            else:
                del self._waiters[call_id]

    # --- sending ---

    async def _run(self) -> None:
        retry_s = FIRST_RETRY_S
        while True:
            await self._due.wait()
            self._due.clear()
            try:
                await self._send_everything()
            except (Unavailable, OSError) as fault:
                self._note_health(str(fault))
                self._wake(Unavailable(str(fault)))
                self._due.set()
                await asyncio.sleep(random.uniform(retry_s / 2, retry_s))  # noqa: S311 - spreads nodes, hides nothing
                retry_s = min(MOST_RETRY_S, retry_s * 2)
            except Exception:
                log.exception("replication_failed")
                self._note_health("replication failed; see the log")
                self._wake(Unavailable("replication failed"))
                await asyncio.sleep(MOST_RETRY_S)
                self._due.set()
            else:
                self._note_health(None)
                retry_s = FIRST_RETRY_S

    async def _send_everything(self) -> None:
        while batch := self._next_batch():
            receipts = await self._tail.append([part for _, part in batch])
            for (call, part), receipt in zip(batch, receipts, strict=True):
                if self._calls.get(part.lease.call_id) is call:  # not forgotten meanwhile
                    self._settle(call, part, receipt)
            self._wake()
        for call in [one for one in self._calls.values() if one.incomplete]:
            await self._complete(call)
            self._wake()
        if any(call.incomplete or call.pieces for call in self._calls.values()):
            self._due.set()  # what came, or was dropped, meanwhile

    def _next_batch(self) -> list[tuple[_Followed, TailPart]]:
        """One part of each call that has something to send, as far as a round trip may go."""
        batch = []
        size = 0
        for call in self._calls.values():
            if call.incomplete or size >= ROUND_TRIP_BYTES:
                continue
            if call.outgoing is None and call.pieces:
                call.outgoing = _joined(call.pieces)
            if call.outgoing is not None:
                batch.append((call, TailPart(call.lease, call.next_number, call.outgoing.records)))
                size += len(call.outgoing.records)
        return batch

    def _settle(self, call: _Followed, part: TailPart, receipt: TailReceipt) -> None:
        if receipt.outcome == "fenced":
            self._lose(call)
        elif receipt.outcome == "behind":
            log.warning("tail_lost_records", call_id=call.lease.call_id, part=part.number, kept=receipt.last_number)
            self.waiting_bytes -= _size_of(call)
            self._mark_incomplete(call)
        elif call.outgoing is not None:
            self.waiting_bytes -= len(call.outgoing.records)
            call.outgoing = None
            call.next_number = part.number + 1

    def _lose(self, call: _Followed) -> None:
        """Another node has the call: its owner is told first, so that nobody takes the end of the wait for an ack."""
        self._on_fenced(call.lease.call_id)
        for _, waiter in self._waiters.pop(call.lease.call_id, []):
            if not waiter.done():
                waiter.set_exception(Unavailable(f"call {call.lease.call_id} was taken over by another node"))
        self.forget(call.lease.call_id)

    async def _complete(self, call: _Followed) -> None:
        """Send all that the journal has of a call behind whatever its tail still holds, then drop the latter.

        Raises Unavailable and OSError; the call is then still incomplete.
        """
        assert self._read_back is not None
        lease = call.lease
        if self._before_entering is not None:
            await self._before_entering(lease.call_id)
        if not await self._leases.register(lease, call.app_id, call.header):
            self._lose(call)
            return
        receipt = await self._append_one(lease, _NO_NUMBER, b"")
        number = first = receipt.last_number + 1
        position, pieces = await self._read_back(lease.call_id)
        async for records in pieces:
            receipt = await self._append_one(lease, number, records)
            if receipt.outcome == "behind":
                raise Unavailable("Redis lost its memory once more while a tail was being sent again")
            if receipt.outcome == "fenced":
                break
            number += 1
        if receipt.outcome == "fenced":
            self._lose(call)
            return
        if first > 1 or lease.epoch > 1:
            await self._tail.trim(lease, first)
        if self._calls.get(lease.call_id) is not call or call.dropped_to > position:
            return  # forgotten, or more was dropped meanwhile: once again
        while call.pieces and call.pieces[0].position <= position:
            self.waiting_bytes -= len(call.pieces.popleft().records)
        call.next_number, call.incomplete = number, False
        log.info("tail_sent_again", call_id=lease.call_id, parts=number - first)

    async def _append_one(self, lease: Lease, number: int, records: bytes) -> TailReceipt:
        return (await self._tail.append([TailPart(lease, number, records)]))[0]

    def _note_health(self, fault: str | None) -> None:
        changed = (fault is None) != (self.degraded is None)
        self.degraded = fault
        if changed:
            self._on_health(fault)


def _size_of(call: _Followed) -> int:
    outgoing = len(call.outgoing.records) if call.outgoing is not None else 0
    return outgoing + sum(len(piece.records) for piece in call.pieces)


def _joined(pieces: deque[_Piece]) -> _Piece:
    """Take pieces off the front, as many as one part should hold."""
    taken: list[_Piece] = []
    size = 0
    while pieces and (not taken or size + len(pieces[0].records) <= ROUND_TRIP_BYTES // 4):
        taken.append(pieces.popleft())
        size += len(taken[-1].records)
    return _Piece(taken[0].after, taken[-1].position, b"".join(piece.records for piece in taken))
