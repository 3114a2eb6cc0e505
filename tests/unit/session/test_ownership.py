"""Which calls are a node's, through everything that can happen to the registry."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import pytest

from gateway.ports import Lease, Progress, Renewal, TakeOver, Unavailable
from gateway.session.ownership import Ownership, Standing
from gateway.stores.memory_cluster import MemoryCallLeases, MemoryRegistry

LEASE_S = 10.0
HEADER = b"header"


@dataclass
class ManualClock:
    now_s: float = 100.0

    def monotonic(self) -> float:
        return self.now_s

    def wall(self) -> float:
        return self.now_s


class FaultyLeases(MemoryCallLeases):
    """Fails the next `faults` times that something is asked."""

    faults = 0

    def _fail(self) -> None:
        if self.faults:
            self.faults -= 1
            raise Unavailable("Redis is away")

    async def renew(self, calls: Sequence[Progress]) -> Renewal:
        self._fail()
        return await super().renew(calls)

    async def finish(self, lease: Lease) -> bool:
        self._fail()
        return await super().finish(lease)

    async def register(self, lease: Lease, app_id: str, header: bytes, *, most: int = 0) -> bool:
        self._fail()
        return await super().register(lease, app_id, header)

    async def take_over(self, app_id: str, call_id: str, *, even_if_held: bool) -> TakeOver:
        self._fail()
        return await super().take_over(app_id, call_id, even_if_held=even_if_held)


class Books:
    def __init__(self) -> None:
        self.kept: list[str] = []

    async def keep(self, digest: str, book: bytes) -> None:
        self.kept.append(digest)

    async def get(self, digest: str) -> bytes | None:
        return b"book" if digest == "rules" else None

    async def keep_only(self, digests: Collection[str]) -> int:
        return 0


@dataclass
class Node:
    registry: MemoryRegistry
    clock: ManualClock
    replicated: bool = True
    lost: list[str] = field(default_factory=list)
    abandoned: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.leases = FaultyLeases(self.registry, f"node{id(self)}", lease_ms=round(LEASE_S * 1000))
        self.books = Books()
        standing = Standing(LEASE_S, 60.0, self.replicated)
        self.owners = Ownership(self.leases, None, self.books, self.clock, standing)
        self.owners._on_lost = self.lost.append
        self.owners._on_abandoned = self.take_note
        self.owners._look_after = self.nothing

    async def take_note(self, call_id: str) -> None:
        self.abandoned.append(call_id)

    async def nothing(self) -> None: ...

    async def open(self, call_id: str) -> Lease:
        lease = await self.owners.open(call_id, "acme", HEADER)
        self.owners.hold(lease, "acme", HEADER, lambda: ["rules"], lambda: (7, 8000), whole=True)
        return lease


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def registry(clock: ManualClock) -> MemoryRegistry:
    return MemoryRegistry(clock)


async def test_each_look_round_renews_leases_and_keeps_the_rules_for_others(
    registry: MemoryRegistry, clock: ManualClock
) -> None:
    node = Node(registry, clock)
    await node.open("c")
    clock.now_s += 9
    await node.owners.look_round()
    call = registry.calls["c"]
    assert (call.seq, call.samples, call.until_s) == (7, 8000, clock.now_s + LEASE_S)
    assert node.books.kept == ["rules"]


async def test_a_call_that_was_taken_is_lost_once(registry: MemoryRegistry, clock: ManualClock) -> None:
    node, other = Node(registry, clock), Node(registry, clock)
    await node.open("c")
    await other.leases.take_over("acme", "c", even_if_held=True)
    await node.owners.look_round()
    await node.owners.look_round()
    assert node.lost == ["c"]
    assert not node.owners.holds("c")
    assert not await node.owners.finish("c")


@pytest.mark.parametrize("away", [True, False])
async def test_a_call_whose_client_comes_back_is_asked_for(
    registry: MemoryRegistry, clock: ManualClock, away: bool
) -> None:
    node, other = Node(registry, clock), Node(registry, clock)
    await node.open("c")
    await node.owners.confirm("c")
    assert node.owners.holds("c")
    await other.leases.take_over("acme", "c", even_if_held=True)
    node.leases.faults = int(away)
    await node.owners.confirm("c")
    assert node.lost == ([] if away else ["c"])


async def test_what_the_registry_forgot_is_entered_again(registry: MemoryRegistry, clock: ManualClock) -> None:
    node = Node(registry, clock, replicated=False)
    await node.open("c")
    registry.flush()
    await node.owners.look_round()
    assert registry.calls["c"].header == HEADER
    assert node.lost == []


async def test_a_recording_waits_for_the_registry_before_it_is_handed_in(
    registry: MemoryRegistry, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.session.ownership.FIRST_RETRY_S", 0.0)
    monkeypatch.setattr("gateway.session.ownership.MOST_RETRY_S", 0.0)
    node = Node(registry, clock)
    await node.open("c")
    node.leases.faults = 3
    assert await node.owners.finish("c")
    assert registry.calls["c"].done
    assert node.leases.faults == 0


async def test_a_server_that_stops_waits_for_no_registry(registry: MemoryRegistry, clock: ManualClock) -> None:
    node = Node(registry, clock)
    await node.open("c")
    node.leases.faults = 1000
    finishing = asyncio.ensure_future(node.owners.finish("c"))
    await asyncio.sleep(0)
    node.owners.stop_waiting()
    with pytest.raises(Unavailable):
        await finishing
    assert node.owners.holds("c")


async def test_only_one_of_two_that_think_they_have_a_call_may_hand_it_in(
    registry: MemoryRegistry, clock: ManualClock
) -> None:
    node, other = Node(registry, clock), Node(registry, clock)
    await node.open("c")
    taken = await other.leases.take_over("acme", "c", even_if_held=True)
    assert taken.call is not None
    other.owners.hold(Lease("c", taken.call.epoch), "acme", HEADER, lambda: ["rules"], lambda: (7, 8000), whole=True)
    assert [await node.owners.finish("c"), await other.owners.finish("c")] == [False, True]
    assert node.lost == ["c"]


async def test_after_an_outage_every_node_gets_a_lease_s_time_to_come_back(
    registry: MemoryRegistry, clock: ManualClock
) -> None:
    node, dead = Node(registry, clock), Node(registry, clock)
    await dead.open("c")
    clock.now_s += LEASE_S + 61
    await node.owners.look_round()
    assert node.abandoned == [], "it has only just found the registry well"
    clock.now_s += LEASE_S / 2
    await node.owners.look_round()
    assert node.abandoned == []
    clock.now_s += LEASE_S / 2
    await node.owners.look_round()
    assert node.abandoned == ["c"]


async def test_without_tails_nobody_takes_up_what_only_its_own_node_has(
    registry: MemoryRegistry, clock: ManualClock
) -> None:
    node, dead = Node(registry, clock, replicated=False), Node(registry, clock)
    await dead.open("c")
    for _ in range(3):
        clock.now_s += 100
        await node.owners.look_round()
    assert node.abandoned == []


@pytest.mark.parametrize("replicated", [True, False])
async def test_a_new_call_needs_the_registry_only_where_its_acks_do(
    registry: MemoryRegistry, clock: ManualClock, replicated: bool
) -> None:
    node = Node(registry, clock, replicated=replicated)
    node.leases.faults = 1
    if replicated:
        with pytest.raises(Unavailable):
            await node.owners.open("c", "acme", HEADER)
    else:
        await node.open("c")
        await node.owners.look_round()
        assert registry.calls["c"].epoch == 1


async def test_a_call_of_our_own_journal_is_ours_again_unless_somebody_took_it(
    registry: MemoryRegistry, clock: ManualClock
) -> None:
    node, again, other = Node(registry, clock), Node(registry, clock), Node(registry, clock)
    await node.open("c")
    lease, _ = await again.owners.reclaim("c", "acme", 1)
    assert lease == Lease("c", 2)
    await other.leases.take_over("acme", "c", even_if_held=True)
    lease, known = await again.owners.reclaim("c", "acme", 2)
    assert lease is None
    assert known is not None
    assert known.epoch == 3


async def test_a_call_that_we_had_finished_is_still_ours_to_hand_in(
    registry: MemoryRegistry, clock: ManualClock
) -> None:
    node, again = Node(registry, clock), Node(registry, clock)
    await node.open("c")
    await node.owners.finish("c")
    for journal_epoch in (1, 2):  # a second restart, before the verdict came
        lease, known = await again.owners.reclaim("c", "acme", journal_epoch)
        assert lease == Lease("c", 1)
        assert known is not None
        again.owners.hold(lease, "acme", HEADER, lambda: ["rules"], lambda: (7, 8000), whole=False, done=True)
        await again.owners.look_round()
        assert again.lost == []
        assert await again.owners.finish("c")


async def test_a_registry_that_knows_nothing_is_asked_again_after_a_lease_s_time(
    registry: MemoryRegistry, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, holder = Node(registry, clock), Node(registry, clock)
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await holder.leases.register(Lease("c", 2), "acme", HEADER)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    lease, known = await node.owners.reclaim("c", "acme", 1)
    assert lease is None
    assert known is not None
    assert slept == [LEASE_S]
