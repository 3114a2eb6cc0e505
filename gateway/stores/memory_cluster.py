"""A cluster of one process: the roles CallLeases and CallTail for a server without Redis, and for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace

from gateway.ports import Clock, HeldCall, Lease, Progress, Renewal, TailPart, TailReceipt, TakeOver, too_many_calls

REMEMBERED = 10_000
"""Calls that are done and not forgotten yet."""


@dataclass(slots=True)
class _Call:
    app_id: str
    node: str
    epoch: int
    header: bytes
    until_s: float
    seq: int = 0
    samples: int = 0
    parts: int = 0
    follows: bool = True
    over: bool = False
    done: bool = False
    hole: int = 0
    tail: dict[tuple[int, int], bytes] = field(default_factory=dict)


class MemoryRegistry:
    """What nodes share when all are in one process; it is gone when the process is."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.calls: dict[str, _Call] = {}
        self.late: dict[str, list[bytes]] = {}

    def flush(self) -> None:
        """Forget everything, as a Redis does that is restarted without a file."""
        self.calls.clear()
        self.late.clear()

    def finished(self, lease: Lease) -> bool:
        """Whether the holder of this very lease has finished the call."""
        call = self.calls.get(lease.call_id)
        return call is not None and call.done and call.epoch == lease.epoch

    def holder(self, lease: Lease) -> tuple[_Call | None, bool]:
        """The call if the lease's epoch is the current one, and whether a newer one has taken its place."""
        call = self.calls.get(lease.call_id)
        if call is None or call.epoch < lease.epoch:
            return None, False
        fenced = call.done or call.epoch > lease.epoch
        return (None if fenced else call), fenced

    def going_on(self, app_id: str) -> int:
        """How many calls of an app have not hung up, and a lease that has not run out."""
        now_s = self.clock.monotonic()
        going_on = [call for call in self.calls.values() if call.app_id == app_id and not (call.over or call.done)]
        return sum(call.until_s > now_s for call in going_on)

    def forget_oldest(self) -> None:
        done = [call_id for call_id, call in self.calls.items() if call.done]
        for call_id in done[:-REMEMBERED]:
            del self.calls[call_id]


class MemoryCallLeases:
    """Fills the role CallLeases for the node that `node` names."""

    def __init__(self, registry: MemoryRegistry, node: str, *, lease_ms: int, follows: bool = True) -> None:
        """A lease lasts `lease_ms` from its last renewal. `follows`: this node keeps the tails of its calls."""
        self._follows = follows
        self._registry = registry
        self._node = node
        self._lease_s = lease_ms / 1000

    async def register(self, lease: Lease, app_id: str, header: bytes, *, most: int = 0) -> bool:
        known = self._registry.calls.get(lease.call_id)
        if known is not None and known.done:
            return self._registry.finished(lease) and known.node == self._node
        call, fenced = self._registry.holder(lease)
        if fenced or (call is not None and call.node != self._node):
            return False
        going_on = self._registry.going_on(app_id) if most and call is None else 0
        if most and going_on >= most:
            raise too_many_calls(app_id, going_on)
        if call is None:
            earlier = self._registry.calls.get(lease.call_id)
            call = _Call(app_id, self._node, lease.epoch, header, 0.0)
            if earlier is not None:
                call.tail, call.seq, call.samples = earlier.tail, earlier.seq, earlier.samples
            self._registry.calls[lease.call_id] = call
        call.node, call.until_s, call.follows = self._node, self._until_s(), self._follows
        return True

    async def renew(self, calls: Sequence[Progress]) -> Renewal:
        lost, unknown = set(), set()
        for one in calls:
            if self._registry.finished(one.lease):
                continue
            call, fenced = self._registry.holder(one.lease)
            if fenced:
                lost.add(one.lease.call_id)
            elif call is None:
                unknown.add(one.lease.call_id)
            else:
                call.until_s, call.seq, call.samples = self._until_s(), one.seq, one.samples
        return Renewal(frozenset(lost), frozenset(unknown))

    async def take_over(self, app_id: str, call_id: str, *, even_if_held: bool) -> TakeOver:
        return self._take(call_id, app_id, None if even_if_held else 0)

    async def adopt(self, call_id: str, *, expired_for_ms: int) -> TakeOver:
        return self._take(call_id, None, expired_for_ms)

    def _take(self, call_id: str, app_id: str | None, expired_for_ms: int | None) -> TakeOver:
        call = self._registry.calls.get(call_id)
        if call is None or app_id not in (None, call.app_id):
            return TakeOver("unknown", None)
        if call.done:
            return TakeOver("done", self._held(call_id, call))
        if expired_for_ms is not None and call.until_s + expired_for_ms / 1000 > self._registry.clock.monotonic():
            return TakeOver("held", self._held(call_id, call))
        has_tail = self._held(call_id, call).has_tail
        call.epoch += 1
        call.node, call.until_s, call.parts, call.follows = self._node, self._until_s(), 0, self._follows
        return TakeOver("taken", replace(self._held(call_id, call), has_tail=has_tail))

    async def abandoned(self, *, expired_for_ms: int, limit: int) -> Sequence[str]:
        before_s = self._registry.clock.monotonic() - expired_for_ms / 1000
        waiting = sorted((call.until_s, call_id) for call_id, call in self._registry.calls.items() if not call.done)
        return [call_id for until_s, call_id in waiting if until_s <= before_s][:limit]

    async def find(self, call_id: str) -> HeldCall | None:
        call = self._registry.calls.get(call_id)
        return None if call is None else self._held(call_id, call)

    async def release(self, leases: Sequence[Lease]) -> None:
        for lease in leases:
            call, _ = self._registry.holder(lease)
            if call is not None:
                call.until_s = self._registry.clock.monotonic()

    async def note_hole(self, lease: Lease, samples: int) -> None:
        call = self._registry.calls.get(lease.call_id)
        if call is not None and call.epoch == lease.epoch:
            call.hole = samples

    async def note_over(self, lease: Lease) -> None:
        call = self._registry.calls.get(lease.call_id)
        if call is not None and call.epoch == lease.epoch:
            call.over = True

    async def finish(self, lease: Lease) -> bool:
        known = self._registry.calls.get(lease.call_id)
        if known is not None and known.epoch > lease.epoch:
            return False
        call = known or _Call("", self._node, lease.epoch, b"", 0.0)
        call.epoch, call.node, call.done = lease.epoch, self._node, True
        call.header = b""
        call.tail.clear()
        self._registry.calls[lease.call_id] = call
        self._registry.forget_oldest()
        return True

    def _until_s(self) -> float:
        return self._registry.clock.monotonic() + self._lease_s

    def _held(self, call_id: str, call: _Call) -> HeldCall:
        left_ms = round((call.until_s - self._registry.clock.monotonic()) * 1000)
        return HeldCall(
            *(call_id, call.app_id, call.node, call.epoch, call.header, call.seq, call.samples, left_ms),
            *(call.done, call.hole, call.follows or call.parts > 0),
        )


class MemoryCallTail:
    """Fills the role CallTail."""

    def __init__(self, registry: MemoryRegistry) -> None:
        self._registry = registry

    async def append(self, parts: Sequence[TailPart]) -> Sequence[TailReceipt]:
        return [self._append(part) for part in parts]

    def _append(self, part: TailPart) -> TailReceipt:
        if self._registry.finished(part.lease):
            return TailReceipt("kept", part.number)
        call, fenced = self._registry.holder(part.lease)
        if call is None:
            return TailReceipt("fenced" if fenced else "behind", 0)
        if part.number > call.parts + 1:
            return TailReceipt("behind", call.parts)
        if part.number > call.parts:
            call.tail[part.lease.epoch, part.number] = part.records
            call.parts = part.number
        return TailReceipt("kept", call.parts)

    async def read(self, call_id: str) -> AsyncIterator[bytes]:
        call = self._registry.calls.get(call_id)
        for _, records in sorted(call.tail.items()) if call is not None else ():
            yield records

    async def trim(self, lease: Lease, before_number: int) -> None:
        call, _ = self._registry.holder(lease)
        if call is not None:
            call.tail = {key: records for key, records in call.tail.items() if key >= (lease.epoch, before_number)}


class MemoryLateParts:
    """Fills the role LateParts."""

    def __init__(self, registry: MemoryRegistry) -> None:
        self._registry = registry

    async def offer(self, call_id: str, pieces: AsyncIterator[bytes]) -> None:
        self._registry.late[call_id] = [records async for records in pieces]

    async def offered(self) -> Sequence[str]:
        return sorted(self._registry.late)

    async def read(self, call_id: str) -> AsyncIterator[bytes]:
        for records in self._registry.late.get(call_id, []):
            yield records

    async def drop(self, call_id: str) -> None:
        self._registry.late.pop(call_id, None)
