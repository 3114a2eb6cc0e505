"""Voiceprint requests of an app, counted over two nodes in a real Redis, and by each node while it is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import pytest

from gateway.stores.redis_connection import RedisConnection
from gateway.stores.redis_requests import RedisRequests
from gateway.voiceprint.admission import Admission, RequestLimits
from protocol.voiceprint import Code, VoiceprintError
from tests.redis_server import RedisServer


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
async def connection(redis: RedisServer) -> AsyncIterator[RedisConnection]:
    redis.ask("FLUSHALL")
    connection = RedisConnection(redis.url, timeout_s=0.2)
    yield connection
    await connection.close()


def two_nodes(connection: RedisConnection, *, at_once: int = 0, per_s: float = 0) -> tuple[Admission, Admission]:
    shared = RedisRequests(connection, at_once=at_once, per_s=per_s)
    one, two = (Admission(RequestLimits(at_once, per_s), lambda: 100.0, shared=shared) for _ in range(2))
    return one, two


async def admitted(admission: Admission, app_id: str = "acme") -> bool:
    try:
        async with admission.place(app_id):
            return True
    except VoiceprintError as fault:
        assert fault.code == Code.TOO_MANY_CONNECTIONS
        return False


async def test_requests_under_way_count_at_all_nodes_together(connection: RedisConnection) -> None:
    one, two = two_nodes(connection, at_once=2)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(one.place("acme"))
        await stack.enter_async_context(two.place("acme"))
        assert not await admitted(one)
        assert not await admitted(two)
        assert await admitted(two, "other"), "another app has its own"
    await one.close()
    await two.close()
    assert await admitted(one)


async def test_the_rate_of_requests_is_that_at_all_nodes_together(connection: RedisConnection) -> None:
    nodes = two_nodes(connection, per_s=4)
    # Faster than the rate, however slow the machine: at once.
    got_in = await asyncio.gather(*(admitted(nodes[number % 2]) for number in range(8)))
    assert 4 <= sum(got_in) <= 5, "a second's worth, and what came while they were asked"
    assert await admitted(nodes[0], "other")


async def test_a_request_of_a_node_that_died_stops_to_count(connection: RedisConnection) -> None:
    one, two = two_nodes(connection, at_once=1)
    await RedisRequests(connection, at_once=1, per_s=0).enter("acme", "of the dead node")
    assert not await admitted(one)
    await connection.command("ZADD", "earshot:requests:acme", 1, "of the dead node")  # two minutes later
    assert await admitted(two)


async def test_while_redis_is_away_each_node_counts_its_own(connection: RedisConnection, redis: RedisServer) -> None:
    one, two = two_nodes(connection, at_once=1)
    redis.freeze()
    try:
        async with one.place("acme"):
            assert not await admitted(one)
            assert await admitted(two), "it knows nothing of the other node's"
    finally:
        redis.thaw()
    await one.close()
