"""What every registry of calls and every tail promises, in memory and in a real Redis."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.ports import CallLeases, CallTail, LateParts, Lease, Progress, Rejected, TailPart, TailReceipt, Unavailable
from gateway.stores.memory_cluster import MemoryCallLeases, MemoryCallTail, MemoryLateParts, MemoryRegistry
from gateway.stores.redis_connection import (
    MAX_CONNECTIONS,
    RedisConnection,
    Unsuitable,
    check_suitable,
    without_password,
)
from gateway.stores.redis_leases import RedisCallLeases
from gateway.stores.redis_tail import RedisCallTail, RedisLateParts
from tests.faults.ledger import Ledger
from tests.redis_server import RedisServer

LONG_MS = 3_600_000
HEADER = b'{"rate_hz":8000}'


class ManualClock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s

    def wall(self) -> float:
        return self.now_s


@dataclass
class Cluster:
    """Two nodes' views of one registry; `leases(node, lease_ms)` makes another."""

    leases: Callable[..., CallLeases]
    tail: CallTail
    late: LateParts
    flush: Callable[[], object]

    def __post_init__(self) -> None:
        self.a = self.leases("a", LONG_MS)
        self.b = self.leases("b", LONG_MS)


@pytest.fixture(params=["memory", "redis"])
async def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Cluster]:
    if request.param == "memory":
        registry = MemoryRegistry(ManualClock())
        yield Cluster(
            lambda node, lease_ms, **options: MemoryCallLeases(registry, node, lease_ms=lease_ms, **options),
            MemoryCallTail(registry),
            MemoryLateParts(registry),
            registry.flush,
        )
        return
    with RedisServer(tmp_path / "redis") as server:
        connection = RedisConnection(server.url)
        yield Cluster(
            lambda node, lease_ms, **options: RedisCallLeases(connection, node, lease_ms=lease_ms, **options),
            RedisCallTail(connection),
            RedisLateParts(connection),
            lambda: server.ask("FLUSHALL"),
        )
        await connection.close()


async def append(tail: CallTail, lease: Lease, *numbers: int) -> list[str]:
    parts = (TailPart(lease, number, f"<{lease.epoch}-{number}>".encode()) for number in numbers)
    return [(await tail.append([part]))[0].outcome for part in parts]


async def tail_of(cluster: Cluster, call_id: str = "c") -> bytes:
    return b"".join([records async for records in cluster.tail.read(call_id)])


async def test_a_registered_call_is_found_as_it_was_entered(cluster: Cluster) -> None:
    assert await cluster.a.register(Lease("c", 1), "acme", HEADER)
    assert await cluster.a.register(Lease("c", 1), "acme", HEADER), "entering it again changes nothing"
    found = await cluster.b.find("c")
    assert found is not None
    assert (found.app_id, found.node, found.epoch, found.header, found.done) == ("acme", "a", 1, HEADER, False)
    assert 0 < found.lease_left_ms <= LONG_MS
    assert await cluster.b.find("nobody") is None


async def test_taking_over_raises_the_epoch_and_the_former_holder_has_lost(cluster: Cluster) -> None:
    lease = Lease("c", 1)
    await cluster.a.register(lease, "acme", HEADER)
    await cluster.a.renew([Progress(lease, 41, 16_000)])
    taken = await cluster.b.take_over("acme", "c", even_if_held=True)
    assert taken.outcome == "taken"
    assert taken.call is not None
    assert (taken.call.node, taken.call.epoch, taken.call.header) == ("b", 2, HEADER)
    assert (taken.call.progress_seq, taken.call.progress_samples) == (41, 16_000)
    assert (await cluster.a.renew([Progress(lease, 42, 16_000)])).lost == {"c"}
    assert not await cluster.a.register(lease, "acme", HEADER)
    assert not await cluster.a.finish(lease)
    renewal = await cluster.b.renew([Progress(Lease("c", 2), 50, 16_000), Progress(Lease("other", 1), 1, 0)])
    assert not renewal.lost
    assert renewal.unknown == {"other"}


async def test_another_app_s_call_is_as_if_it_were_not_there(cluster: Cluster) -> None:
    await cluster.a.register(Lease("c", 1), "acme", HEADER)
    assert (await cluster.b.take_over("rival", "c", even_if_held=True)).outcome == "unknown"
    assert (await cluster.b.take_over("acme", "d", even_if_held=True)).outcome == "unknown"
    assert (await cluster.b.renew([Progress(Lease("c", 1), 1, 0)])).lost == frozenset()


async def test_an_app_has_as_many_calls_at_all_nodes_together_as_it_may(cluster: Cluster) -> None:
    assert await cluster.a.register(Lease("c1", 1), "acme", HEADER, most=2)
    assert await cluster.b.register(Lease("c2", 1), "acme", HEADER, most=2)
    assert await cluster.b.register(Lease("c2", 1), "acme", HEADER, most=2), "entered twice it is one"
    with pytest.raises(Rejected, match="2 calls going on") as refused:
        await cluster.a.register(Lease("c3", 1), "acme", HEADER, most=2)
    assert refused.value.code == "too_many_calls"
    assert await cluster.a.find("c3") is None
    assert await cluster.a.register(Lease("c3", 1), "other", HEADER, most=2), "another app has its own"
    assert (await cluster.b.take_over("acme", "c1", even_if_held=True)).outcome == "taken", "a call that goes on may"
    assert await cluster.b.finish(Lease("c1", 2))
    assert await cluster.a.register(Lease("c4", 1), "acme", HEADER, most=2), "its place is free at once"


async def test_calls_of_a_node_that_died_count_no_more_once_their_leases_have_run_out(cluster: Cluster) -> None:
    await cluster.leases("gone", 0).register(Lease("c1", 1), "acme", HEADER, most=1)
    assert await cluster.a.register(Lease("c2", 1), "acme", HEADER, most=1)
    with pytest.raises(Rejected):
        await cluster.b.register(Lease("c3", 1), "acme", HEADER, most=1)


async def test_after_a_flush_calls_count_again_as_they_are_entered_again(cluster: Cluster) -> None:
    await cluster.a.register(Lease("c1", 1), "acme", HEADER)
    cluster.flush()
    assert (await cluster.a.renew([Progress(Lease("c1", 1), 1, 0)])).unknown == {"c1"}
    assert await cluster.a.register(Lease("c1", 1), "acme", HEADER)
    with pytest.raises(Rejected):
        await cluster.b.register(Lease("c2", 1), "acme", HEADER, most=1)


async def test_of_many_calls_that_begin_at_once_only_as_many_get_in_as_may(cluster: Cluster) -> None:
    async def begin(number: int) -> bool:
        node = cluster.a if number % 2 else cluster.b
        try:
            return await node.register(Lease(f"c{number}", 1), "acme", HEADER, most=5)
        except Rejected:
            return False

    assert sum(await asyncio.gather(*(begin(number) for number in range(20)))) == 5


async def test_a_good_lease_is_respected_where_that_is_asked(cluster: Cluster) -> None:
    await cluster.a.register(Lease("c", 1), "acme", HEADER)
    await cluster.leases("gone", 0).register(Lease("d", 1), "acme", HEADER)
    held = await cluster.b.take_over("acme", "c", even_if_held=False)
    assert held.outcome == "held"
    assert held.call is not None
    assert held.call.node == "a"
    assert (await cluster.b.take_over("acme", "d", even_if_held=False)).outcome == "taken"


async def test_only_calls_that_nobody_holds_any_more_are_abandoned(cluster: Cluster) -> None:
    await cluster.a.register(Lease("c", 1), "acme", HEADER)
    await cluster.leases("gone", 0).register(Lease("d", 1), "acme", HEADER)
    assert list(await cluster.b.abandoned(expired_for_ms=0, limit=10)) == ["d"]
    assert list(await cluster.b.abandoned(expired_for_ms=LONG_MS, limit=10)) == []
    assert (await cluster.b.adopt("c", expired_for_ms=0)).outcome == "held"
    assert (await cluster.b.adopt("d", expired_for_ms=LONG_MS)).outcome == "held"
    adopted = await cluster.b.adopt("d", expired_for_ms=0)
    assert adopted.outcome == "taken"
    assert (await cluster.leases("c", 0).adopt("d", expired_for_ms=0)).outcome == "held", "only one gets it"
    assert list(await cluster.b.abandoned(expired_for_ms=0, limit=10)) == []


async def test_of_all_who_adopt_at_once_one_gets_the_call(cluster: Cluster) -> None:
    await cluster.leases("gone", 0).register(Lease("d", 1), "acme", HEADER)
    nodes = [cluster.leases(f"n{number}", LONG_MS) for number in range(8)]
    outcomes = await asyncio.gather(*(node.adopt("d", expired_for_ms=0) for node in nodes))
    assert sorted(one.outcome for one in outcomes) == ["held"] * 7 + ["taken"]


async def test_a_finished_call_is_remembered_as_done_and_its_tail_is_gone(cluster: Cluster) -> None:
    lease = Lease("c", 1)
    await cluster.leases("a", 0).register(lease, "acme", HEADER)
    await append(cluster.tail, lease, 1)
    assert await cluster.a.finish(lease)
    assert await cluster.a.finish(lease), "again changes nothing"
    found = await cluster.b.find("c")
    assert found is not None
    assert (found.done, found.header, found.node) == (True, b"", "a")
    assert await tail_of(cluster) == b""
    assert (await cluster.b.take_over("acme", "c", even_if_held=True)).outcome == "done"
    assert list(await cluster.b.abandoned(expired_for_ms=0, limit=10)) == []
    assert await append(cluster.tail, Lease("c", 0), 1) == ["fenced"]
    assert not await cluster.b.register(Lease("c", 1), "acme", HEADER)
    assert not await cluster.b.register(Lease("c", 2), "acme", HEADER)


async def test_whoever_has_finished_a_call_is_not_told_that_another_has_it(cluster: Cluster) -> None:
    lease = Lease("c", 1)
    await cluster.a.register(lease, "acme", HEADER)
    await append(cluster.tail, lease, 1)
    assert await cluster.a.finish(lease)
    assert await append(cluster.tail, lease, 2, 5) == ["kept", "kept"], "these were under way; the recording has it all"
    assert await cluster.a.register(lease, "acme", HEADER)
    found = await cluster.b.find("c")
    assert found is not None
    assert (found.done, await tail_of(cluster)) == (True, b"")
    assert not (await cluster.a.renew([Progress(lease, 9, 9)])).lost, "it is still the one who finished it"


async def test_a_tail_counts_only_if_the_last_holder_kept_it_or_left_it(cluster: Cluster) -> None:
    keeps, does_not = cluster.leases("keeps", LONG_MS), cluster.leases("does not", LONG_MS, follows=False)

    async def take(node: CallLeases) -> bool:
        taken = await node.take_over("acme", "c", even_if_held=True)
        assert taken.call is not None
        return taken.call.has_tail

    await keeps.register(Lease("c", 1), "acme", HEADER)
    assert await take(keeps)
    assert await take(does_not), "what the one before had kept is whole"
    assert not await take(does_not), "what came since is not in it"
    await append(cluster.tail, Lease("c", 4), 1)
    assert await take(keeps), "it was left by the one who went"


async def test_a_released_lease_can_be_had_at_once(cluster: Cluster) -> None:
    for call_id in ("c", "d", "e"):
        await cluster.a.register(Lease(call_id, 1), "acme", HEADER)
    await cluster.b.take_over("acme", "e", even_if_held=True)
    await cluster.a.release([Lease("c", 1), Lease("e", 1), Lease("never seen", 1)])
    assert (await cluster.b.take_over("acme", "c", even_if_held=False)).outcome == "taken"
    assert (await cluster.b.take_over("acme", "d", even_if_held=False)).outcome == "held"
    assert (await cluster.a.take_over("acme", "e", even_if_held=False)).outcome == "held", "it was not ours to release"


async def test_a_call_that_has_hung_up_makes_room_for_another_of_its_app(cluster: Cluster) -> None:
    assert await cluster.a.register(Lease("c1", 1), "acme", HEADER, most=1)
    await cluster.b.note_over(Lease("c1", 7))
    with pytest.raises(Rejected):
        await cluster.b.register(Lease("c2", 1), "acme", HEADER, most=1)
    await cluster.a.note_over(Lease("c1", 1))
    await cluster.a.renew([Progress(Lease("c1", 1), 5, 800)])
    await cluster.b.take_over("acme", "c1", even_if_held=True)
    assert await cluster.b.register(Lease("c2", 1), "acme", HEADER, most=1), "it is held, but not going on"


async def test_a_hole_is_known_until_it_is_filled_even_after_the_end(cluster: Cluster) -> None:
    await cluster.a.register(Lease("c", 1), "acme", HEADER)
    await cluster.b.take_over("acme", "c", even_if_held=True)
    await cluster.b.note_hole(Lease("c", 2), 16_000)
    await cluster.a.note_hole(Lease("c", 1), 0)
    await cluster.b.finish(Lease("c", 2))
    found = await cluster.a.find("c")
    assert found is not None
    assert found.hole_samples == 16_000
    await cluster.b.note_hole(Lease("c", 2), 0)
    found = await cluster.a.find("c")
    assert found is not None
    assert found.hole_samples == 0


async def pieces(*records: bytes) -> AsyncIterator[bytes]:
    for one in records:
        yield one


async def test_a_late_part_is_offered_read_and_dropped(cluster: Cluster) -> None:
    assert list(await cluster.late.offered()) == []
    await cluster.late.offer("c", pieces(b"old"))
    await cluster.late.offer("c", pieces(*(b"%d," % number for number in range(100))))
    assert list(await cluster.late.offered()) == ["c"]
    assert b"".join([one async for one in cluster.late.read("c")]) == b"".join(b"%d," % n for n in range(100))
    await cluster.late.drop("c")
    assert list(await cluster.late.offered()) == []
    assert [one async for one in cluster.late.read("c")] == []


async def test_a_tail_holds_each_part_once_in_order(cluster: Cluster) -> None:
    lease = Lease("c", 1)
    await cluster.a.register(lease, "acme", HEADER)
    assert await append(cluster.tail, lease, 1, 2, 2, 1, 3) == ["kept"] * 5
    assert await tail_of(cluster) == b"<1-1><1-2><1-3>"
    other = Lease("d", 1)
    await cluster.a.register(other, "acme", HEADER)
    receipts = await cluster.tail.append([TailPart(lease, 4, b"x"), TailPart(other, 1, b"y")])
    assert list(receipts) == [TailReceipt("kept", 4), TailReceipt("kept", 1)]
    assert await tail_of(cluster, "d") == b"y"


async def test_a_long_tail_comes_back_whole(cluster: Cluster) -> None:
    lease = Lease("c", 1)
    await cluster.a.register(lease, "acme", HEADER)
    await append(cluster.tail, lease, *range(1, 200))
    assert await tail_of(cluster) == b"".join(b"<1-%d>" % number for number in range(1, 200))


async def test_a_stale_epoch_is_refused_from_the_take_over_on(cluster: Cluster) -> None:
    await cluster.a.register(Lease("c", 1), "acme", HEADER)
    assert await append(cluster.tail, Lease("c", 1), 1) == ["kept"]
    await cluster.b.take_over("acme", "c", even_if_held=True)
    assert await append(cluster.tail, Lease("c", 1), 2) == ["fenced"], "before the new holder has said a word"
    assert await append(cluster.tail, Lease("c", 2), 1) == ["kept"]
    assert await append(cluster.tail, Lease("c", 1), 2) == ["fenced"]
    assert await tail_of(cluster) == b"<1-1><2-1>"


async def test_a_tail_that_lost_its_memory_says_how_far_it_goes(cluster: Cluster) -> None:
    lease = Lease("c", 2)
    await cluster.a.register(lease, "acme", HEADER)
    assert await cluster.tail.append([TailPart(lease, 3, b"")]) == [TailReceipt("behind", 0)]
    await append(cluster.tail, lease, 1)
    assert await cluster.tail.append([TailPart(lease, 3, b"")]) == [TailReceipt("behind", 1)]
    cluster.flush()
    assert await cluster.tail.append([TailPart(lease, 2, b"")]) == [TailReceipt("behind", 0)]
    assert (await cluster.a.renew([Progress(lease, 1, 0)])).unknown == {"c"}
    assert await cluster.b.find("c") is None


async def test_after_a_flush_the_newest_epoch_that_comes_back_wins(cluster: Cluster) -> None:
    await cluster.a.register(Lease("c", 1), "acme", HEADER)
    await append(cluster.tail, Lease("c", 1), 1)
    cluster.flush()
    assert await cluster.a.register(Lease("c", 1), "acme", HEADER), "it cannot know better"
    await append(cluster.tail, Lease("c", 1), 1)
    assert await cluster.b.register(Lease("c", 2), "acme", HEADER)
    assert await append(cluster.tail, Lease("c", 1), 2) == ["fenced"]
    assert await append(cluster.tail, Lease("c", 2), 1) == ["kept"]
    found = await cluster.a.find("c")
    assert found is not None
    assert (found.node, found.epoch) == ("b", 2)


async def test_of_two_nodes_with_the_same_epoch_the_first_to_enter_has_the_call(cluster: Cluster) -> None:
    assert await cluster.a.register(Lease("c", 2), "acme", HEADER)
    assert not await cluster.b.register(Lease("c", 2), "acme", HEADER)
    assert await cluster.a.register(Lease("c", 2), "acme", HEADER)


async def test_trimming_drops_what_came_before(cluster: Cluster) -> None:
    await cluster.a.register(Lease("c", 1), "acme", HEADER)
    await append(cluster.tail, Lease("c", 1), 1, 2, 3)
    await cluster.tail.trim(Lease("c", 1), 2)
    assert await tail_of(cluster) == b"<1-2><1-3>"
    await cluster.b.take_over("acme", "c", even_if_held=True)
    await append(cluster.tail, Lease("c", 2), 1, 2)
    await cluster.tail.trim(Lease("c", 1), 99)
    assert await tail_of(cluster) == b"<1-2><1-3><2-1><2-2>", "an older epoch may not trim"
    await cluster.tail.trim(Lease("c", 2), 2)
    assert await tail_of(cluster) == b"<2-2>"
    assert await append(cluster.tail, Lease("c", 2), 3) == ["kept"]


# --- Redis at fault ----------------------------------------------------------------------------------------------


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RedisServer]:
    with RedisServer(tmp_path / "redis") as server:
        yield server


@pytest.fixture
async def connection(server: RedisServer) -> AsyncIterator[RedisConnection]:
    connection = RedisConnection(server.url, timeout_s=1.0)
    yield connection
    await connection.close()


async def test_a_redis_that_is_gone_is_unavailable_and_comes_back_with_what_it_had(
    server: RedisServer, connection: RedisConnection
) -> None:
    leases, tail, lease = RedisCallLeases(connection, "a", lease_ms=LONG_MS), RedisCallTail(connection), Lease("c", 1)
    await leases.register(lease, "acme", HEADER)
    await append(tail, lease, 1)
    server.kill()
    with pytest.raises(Unavailable, match=r"Redis at unix:.* cannot be reached"):
        await leases.find("c")
    with pytest.raises(Unavailable, match="cannot be reached"):
        await append(tail, lease, 2)
    server.start()
    assert await append(tail, lease, 2) == ["kept"], "its scripts are gone with a restart, and are sent again"
    assert b"".join([one async for one in tail.read("c")]) == b"<1-1><1-2>"


async def test_a_redis_that_hangs_is_unavailable_in_bounded_time(
    server: RedisServer, connection: RedisConnection
) -> None:
    await connection.command("PING")
    server.freeze()
    began_s = time.monotonic()
    with pytest.raises(Unavailable, match="did not answer within 1 s"):
        await connection.command("PING")
    assert time.monotonic() - began_s < 60, "it would be for ever"
    server.thaw()
    assert await connection.command("ECHO", "here") == b"here"


async def test_a_full_redis_refuses_parts_and_still_lets_calls_go_on_and_end(
    server: RedisServer, connection: RedisConnection
) -> None:
    leases, tail, lease = RedisCallLeases(connection, "a", lease_ms=LONG_MS), RedisCallTail(connection), Lease("c", 1)
    await leases.register(lease, "acme", HEADER)
    await append(tail, lease, 1)
    server.ask("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(Unavailable, match=r"refuses: .*maxmemory"):
        await append(tail, lease, 2)
    assert not (await leases.renew([Progress(lease, 7, 0)])).lost
    other = RedisCallLeases(connection, "b", lease_ms=LONG_MS)
    assert (await other.take_over("acme", "c", even_if_held=True)).outcome == "taken"
    assert await other.finish(Lease("c", 2))
    assert server.ask("EXISTS", "earshot:tail:c") == ":0", "what was full has room again"


async def test_a_wrong_password_is_said_to_be_so_and_is_not_shown(server: RedisServer) -> None:
    connection = RedisConnection(server.url.replace("unix://", "unix://user:hunter2@"))
    with pytest.raises(Unavailable, match="Redis at") as fault:
        await connection.command("PING")
    assert "hunter2" not in str(fault.value)
    assert "WRONGPASS" in str(fault.value) or "password" in str(fault.value)
    await connection.close()


async def test_a_redis_that_would_break_its_promises_is_refused_with_what_to_change(
    server: RedisServer, connection: RedisConnection
) -> None:
    assert await check_suitable(connection, replicated=True) == []
    server.ask("CONFIG", "SET", "appendonly", "no")
    (doubt,) = await check_suitable(connection, replicated=True)
    assert "appendonly yes" in doubt
    (doubt,) = await check_suitable(connection, replicated=False)
    assert "forgets enrolled voices" in doubt
    server.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    with pytest.raises(Unsuitable, match="noeviction"):
        await check_suitable(connection, replicated=False)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("rediss://me:hunter2@host/1", "rediss://me:***@host/1"),
        ("redis://:hunter2@host", "redis://:***@host"),
        ("unix:///run/redis.sock?db=1&password=hunter2", "unix:///run/redis.sock?db=1&password=***"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert without_password(url) == shown


@pytest.mark.row(32)
async def test_a_command_cancelled_half_way_never_gives_its_reply_to_another(
    server: RedisServer, connection: RedisConnection, ledger: Ledger
) -> None:
    async def echo(number: int) -> int:
        return int(await connection.command("ECHO", number))

    cancelled = 0
    for number in range(1000):
        server.freeze()  # the command is sent, and its reply comes when nobody waits for it any more
        tasks = [asyncio.ensure_future(echo(number * 2 + side)) for side in (0, 1)]
        for _ in range(number % 6):
            await asyncio.sleep(0)
        tasks[0].cancel()
        server.thaw()
        first, second = await asyncio.gather(*tasks, return_exceptions=True)
        cancelled += isinstance(first, asyncio.CancelledError)
        assert second == number * 2 + 1
        assert first == number * 2 or isinstance(first, asyncio.CancelledError)
    assert cancelled > 200, "the test would show nothing if the commands were over before"
    everyone = await asyncio.gather(*(echo(number) for number in range(4 * MAX_CONNECTIONS)))
    assert everyone == list(range(4 * MAX_CONNECTIONS)), "no connection was lost from the pool"
    ledger.add(
        row=32, fault="a Redis command cancelled half way", tried=1000, note=f"{cancelled} struck, no crossed reply"
    )


@pytest.mark.row(32)
async def test_whoever_is_cancelled_in_a_command_ends(connection: RedisConnection) -> None:
    async def echo_for_ever() -> None:
        while True:
            await connection.command("ECHO", 1)

    for number in range(200):
        task = asyncio.ensure_future(echo_for_ever())
        for _ in range(number % 20):
            await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=10)
        assert done, f"it goes on, cancelled at step {number % 20}"
        assert task.cancelled()


async def test_a_script_cancelled_half_way_never_gives_its_reply_to_another(
    server: RedisServer, connection: RedisConnection
) -> None:
    leases = RedisCallLeases(connection, "a", lease_ms=LONG_MS)
    for number in range(20):
        await leases.register(Lease(f"c{number}", 1), "acme", b"%d" % number)

    async def header(number: int) -> bytes:
        found = await leases.find(f"c{number}")
        assert found is not None
        return found.header

    for number in range(300):
        server.freeze()
        stopped = asyncio.ensure_future(header(number % 20))
        for _ in range(number % 6):
            await asyncio.sleep(0)
        stopped.cancel()
        server.thaw()
        assert await header((number + 1) % 20) == b"%d" % ((number + 1) % 20)
        await asyncio.gather(stopped, return_exceptions=True)
