"""A call's tail against its journal: the same records, in the same order, whatever the registry goes through."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway.ports import Lease, TailPart, TailReceipt, Unavailable
from gateway.stores.journal import FileJournal, JournalLimits
from gateway.stores.journal_records import MARKER_BYTES, Kind, Record, decode
from gateway.stores.memory_cluster import MemoryCallLeases, MemoryCallTail, MemoryRegistry
from gateway.stores.recordings import Recordings
from gateway.stores.replication import Replication

HEADER = b'{"rate_hz": 8000, "channels": 1}'
A, B = Lease("call-a", 1), Lease("call-b", 1)


class StillClock:
    def monotonic(self) -> float:
        return 0.0

    def wall(self) -> float:
        return 0.0


class FaultyTail(MemoryCallTail):
    """Fails while `fault` is set; with `forgetful` it keeps the parts, and the reply is what gets lost."""

    def __init__(self, registry: MemoryRegistry) -> None:
        super().__init__(registry)
        self.fault: str | None = None
        self.forgetful = False
        self.round_trips: list[int] = []

    async def append(self, parts: Sequence[TailPart]) -> Sequence[TailReceipt]:
        await asyncio.sleep(0)  # others run, as on a network
        self.round_trips.append(len(parts))
        if self.forgetful:
            await super().append(parts)
            self.forgetful = False
            raise Unavailable("the reply was lost")
        if self.fault:
            raise Unavailable(self.fault)
        return await super().append(parts)


@dataclass
class Node:
    journal: FileJournal
    replication: Replication
    registry: MemoryRegistry
    tail: FaultyTail
    leases: MemoryCallLeases
    fenced: list[str] = field(default_factory=list)
    samples: dict[str, int] = field(default_factory=dict)

    async def open(self, lease: Lease) -> None:
        await self.leases.register(lease, "acme", HEADER)
        self.replication.follow(lease, "acme", HEADER)
        self.journal.open_call(lease.call_id, HEADER)
        self.samples[lease.call_id] = 0

    def speak(self, lease: Lease, times: int = 1) -> int:
        """So many pieces of 10 samples that tell where they belong, and a message each; the last one's position."""
        position = 0
        for _ in range(times):
            at = self.samples[lease.call_id]
            pcm = b"".join(sample.to_bytes(2, "little") for sample in range(at, at + 10))
            self.journal.append_audio(lease.call_id, at, pcm)
            self.samples[lease.call_id] = at + 10
            position = self.journal.append_message(lease.call_id, at // 10 + 1, b"message %d" % at)
        return position

    async def safe(self, lease: Lease, position: int) -> int:
        await self.journal.synced(position)
        return await self.replication.synced(lease.call_id, position)

    async def records(self, lease: Lease) -> list[Record]:
        """The tail's, in order, each once."""
        found: dict[tuple[Kind, int], Record] = {}
        async for data in self.tail.read(lease.call_id):
            at = 0
            while at < len(data):
                located = decode(data, at, data[at : at + MARKER_BYTES])
                found.setdefault((located.record.kind, located.record.number), located.record)
                at += located.size_bytes
        return list(found.values())

    async def holds_everything(self, lease: Lease) -> bool:
        records = await self.records(lease)
        pcm = b"".join(record.payload for record in records if record.kind is Kind.AUDIO)
        seqs = [record.number for record in records if record.kind is Kind.MESSAGE]
        samples = self.samples[lease.call_id]
        return (
            records[0] == Record(Kind.OPEN, lease.call_id, 0, HEADER, 8000, 1)
            and pcm == b"".join(sample.to_bytes(2, "little") for sample in range(samples))
            and seqs == list(range(1, samples // 10 + 1))
        )


@asynccontextmanager
async def running(tmp_path: Path, *, max_waiting_bytes: int = 1 << 20) -> AsyncIterator[Node]:
    registry = MemoryRegistry(StillClock())
    tail, leases = FaultyTail(registry), MemoryCallLeases(registry, "a", lease_ms=1000)
    fenced: list[str] = []
    replication = Replication(tail, leases, on_fenced=fenced.append, max_waiting_bytes=max_waiting_bytes)
    limits = JournalLimits(commit_interval_ms=1, segment_bytes=2000)
    journal = FileJournal(tmp_path, Recordings(tmp_path), limits=limits, follower=replication)
    await journal.start()
    replication.start(journal.read_back)
    yield Node(journal, replication, registry, tail, leases, fenced)
    await journal.stop()
    await replication.stop()


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with running(tmp_path) as node:
        yield node


async def refused(node: Node, lease: Lease, position: int) -> str:
    with pytest.raises(Unavailable) as fault:
        await node.safe(lease, position)
    return str(fault.value)


async def refused_by_the_tail(node: Node, lease: Lease, position: int) -> str:
    with pytest.raises(Unavailable) as fault:
        await node.replication.synced(lease.call_id, position)
    return str(fault.value)


async def patiently_safe(node: Node, lease: Lease, position: int) -> None:
    """As those do who wait for an ack: ask again after a fault."""
    while True:
        try:
            await node.safe(lease, position)
        except Unavailable:
            await asyncio.sleep(0)
        else:
            return


def assert_degraded(node: Node, fault: str | None) -> None:
    assert node.replication.degraded == fault


async def test_the_tail_holds_the_records_of_the_journal(node: Node) -> None:
    await node.open(A)
    await node.open(B)
    for _ in range(20):
        node.speak(A, 2)
        await node.safe(B, node.speak(B, 3))
    position = node.speak(A)
    assert await node.safe(A, position) >= position
    assert await node.holds_everything(A)
    assert await node.holds_everything(B)


async def test_all_calls_of_a_commit_go_in_one_round_trip(node: Node) -> None:
    leases = [Lease(f"call-{number}", 1) for number in range(50)]
    for lease in leases:
        await node.open(lease)
    await asyncio.gather(*(node.safe(lease, node.speak(lease)) for lease in leases))
    node.tail.round_trips.clear()
    await asyncio.gather(*(node.safe(lease, node.speak(lease)) for lease in leases))
    assert sum(node.tail.round_trips) == 50
    assert len(node.tail.round_trips) <= 2


async def test_nothing_counts_as_replicated_before_the_tail_has_it(node: Node) -> None:
    await node.open(A)
    await node.safe(A, node.speak(A))
    node.tail.fault = "Redis is away"
    position = node.speak(A)
    assert await refused(node, A, position) == "Redis is away"
    assert_degraded(node, "Redis is away")
    await node.journal.synced(position)
    assert await refused(node, A, position) == "Redis is away", "the disk alone is not enough"
    node.tail.fault = None
    await patiently_safe(node, A, position)
    assert_degraded(node, None)
    assert await node.holds_everything(A)


async def test_a_lost_reply_costs_nothing_and_doubles_nothing(node: Node) -> None:
    await node.open(A)
    node.tail.forgetful = True
    await patiently_safe(node, A, node.speak(A))
    await node.safe(A, node.speak(A))
    parts = [data async for data in node.tail.read("call-a")]
    assert b"".join(parts).count(b"message 0") == 1
    assert await node.holds_everything(A)


async def test_after_a_flush_the_tail_is_made_whole_from_the_journal_before_anything_counts(node: Node) -> None:
    for lease in (A, B):
        await node.open(lease)
        await node.safe(lease, node.speak(lease, 40))
    node.registry.flush()
    await patiently_safe(node, A, node.speak(A))
    assert await node.holds_everything(A)
    await patiently_safe(node, B, node.speak(B))
    assert await node.holds_everything(B)
    found = await node.leases.find("call-a")
    assert found is not None
    assert (found.app_id, found.header) == ("acme", HEADER)


async def test_a_tail_whose_end_was_lost_is_sent_again_and_holds_nothing_twice(node: Node) -> None:
    await node.open(A)
    for _ in range(5):
        await node.safe(A, node.speak(A))
    call = node.registry.calls["call-a"]
    lost = max(call.tail)
    del call.tail[lost]
    call.parts -= 1
    await patiently_safe(node, A, node.speak(A))
    assert await node.holds_everything(A)
    assert b"".join([data async for data in node.tail.read("call-a")]).count(b"message 0") == 1


async def test_memory_is_bounded_while_redis_is_away_and_nothing_is_missing_afterwards(tmp_path: Path) -> None:
    async with running(tmp_path, max_waiting_bytes=3000) as node:
        await node.open(A)
        await node.open(B)
        node.tail.fault = "Redis is away"
        for _ in range(100):
            node.speak(A)
            node.speak(B)
            assert node.replication.waiting_bytes <= 3000
            await asyncio.sleep(0)
        node.tail.fault = None
        for lease in (A, B):
            await patiently_safe(node, lease, node.speak(lease))
            assert await node.holds_everything(lease)
        assert node.replication.waiting_bytes == 0


async def test_a_call_that_was_taken_over_is_followed_no_more_and_its_waiters_hear_of_it(node: Node) -> None:
    await node.open(A)
    await node.open(B)
    await node.safe(A, node.speak(A))
    other = MemoryCallLeases(node.registry, "b", lease_ms=1000)
    assert (await other.take_over("acme", "call-a", even_if_held=True)).outcome == "taken"
    held = len(await node.records(A))
    position = node.speak(A)
    assert "taken over by another node" in await refused_by_the_tail(node, A, position)
    assert node.fenced == ["call-a"]
    assert await node.safe(A, position) >= position, "what its owner does with it is not the tail's business"
    assert len(await node.records(A)) == held
    await node.safe(B, node.speak(B))


async def test_a_take_over_during_an_outage_is_noticed_when_the_tail_is_to_be_made_whole(tmp_path: Path) -> None:
    async with running(tmp_path, max_waiting_bytes=500) as node:
        await node.open(A)
        node.tail.fault = "Redis is away"
        node.speak(A, 50)
        await MemoryCallLeases(node.registry, "b", lease_ms=1).take_over("acme", "call-a", even_if_held=True)
        node.tail.fault = None
        position = node.speak(A)
        while not node.fenced:
            with suppress(Unavailable):
                await node.safe(A, position)
        assert node.fenced == ["call-a"]


async def test_a_call_with_an_earlier_part_in_the_journal_is_sent_whole(node: Node) -> None:
    node.journal.open_call("call-a", HEADER)
    node.samples["call-a"] = 0
    node.speak(A, 30)
    await node.leases.register(Lease("call-a", 3), "acme", HEADER)
    node.replication.follow(Lease("call-a", 3), "acme", HEADER, whole=False)
    await node.safe(A, node.speak(A))
    assert await node.holds_everything(A)


async def test_stopping_sends_what_is_left(tmp_path: Path) -> None:
    async with running(tmp_path) as node:
        await node.open(A)
        node.speak(A, 7)
    assert await node.holds_everything(A)
