"""The parts by which a node shares its calls, put together: alone, or through a Redis."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gateway.ports import CallLeases, CallTail, Clock, LateParts, RuleBooks
from gateway.session.ownership import Ownership, Standing
from gateway.stores.memory_cluster import MemoryCallLeases, MemoryCallTail, MemoryLateParts, MemoryRegistry
from gateway.stores.redis_connection import RedisConnection
from gateway.stores.redis_leases import RedisCallLeases
from gateway.stores.redis_tail import RedisCallTail, RedisLateParts
from gateway.stores.replication import Replication
from gateway.stores.shared_rule_books import SharedRuleBooks

ALONE_LEASE_S = 60.0


@dataclass(frozen=True, slots=True)
class Cluster:
    """One node's parts. `replication` follows calls only where acks rest on it, or where they are handed over."""

    owners: Ownership
    replication: Replication
    tail: CallTail
    late: LateParts
    books: RuleBooks


def solitary(clock: Clock, books: RuleBooks, *, resume_window_s: float) -> Cluster:
    """A cluster of this one process."""
    registry = MemoryRegistry(clock)
    standing = Standing(ALONE_LEASE_S, resume_window_s, replicated=False, alone=True)
    leases = MemoryCallLeases(registry, "alone", lease_ms=round(ALONE_LEASE_S * 1000))
    tail = MemoryCallTail(registry)
    return _joined(leases, tail, MemoryLateParts(registry), books, clock, standing)


def in_memory(registry: MemoryRegistry, node: str, clock: Clock, books: RuleBooks, standing: Standing) -> Cluster:
    """A node of a cluster whose nodes are all in one process."""
    leases = MemoryCallLeases(registry, node, lease_ms=round(standing.lease_s * 1000), follows=standing.replicated)
    return _joined(leases, MemoryCallTail(registry), MemoryLateParts(registry), books, clock, standing)


def through_redis(
    connection: RedisConnection,
    node: str,
    clock: Clock,
    books: RuleBooks,
    standing: Standing,
    on_health: Callable[[str | None], None],
) -> Cluster:
    """A node of a cluster around one Redis. `on_health` hears why replication pauses, and None when it goes on."""
    leases = RedisCallLeases(connection, node, lease_ms=round(standing.lease_s * 1000), follows=standing.replicated)
    shared = SharedRuleBooks(books, connection)
    return _joined(leases, RedisCallTail(connection), RedisLateParts(connection), shared, clock, standing, on_health)


def _joined(
    leases: CallLeases,
    tail: CallTail,
    late: LateParts,
    books: RuleBooks,
    clock: Clock,
    standing: Standing,
    on_health: Callable[[str | None], None] = lambda fault: None,
) -> Cluster:
    owners: Ownership

    def on_fenced(call_id: str) -> None:
        owners.lose(call_id)

    async def before_entering(call_id: str) -> None:
        await owners.share_rules(call_id)

    replication = Replication(tail, leases, on_fenced=on_fenced, on_health=on_health, before_entering=before_entering)
    owners = Ownership(leases, replication, books, clock, standing)
    return Cluster(owners, replication, tail, late, books)
