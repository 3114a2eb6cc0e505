"""Watching calls that another process holds: over a real Redis, with what it loses and what moves meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.session.feed_wire import CallHeard, app_topic, call_topic, packed
from gateway.stores.memory_cluster import MemoryRegistry
from gateway.stores.redis_bus import RedisBus
from gateway.stores.redis_connection import RedisConnection
from protocol.messages import Ack, Alert, Ended, Hangup, Resumed, Segment, Started, Transcript
from protocol.watching import CallGone, CallInBrief, CaughtUp, Levels, WatchError, Watching
from tests.integration.test_native_socket import CONVERSATION, pieces
from tests.integration.test_nodes import SharedBooks, resume_of
from tests.integration.test_watching import RULES, TEXTS, eventually, looking_at
from tests.integration.world import CallsInMemory, Options, WallClock, Wire, World, running
from tests.redis_server import RedisServer
from tests.unit.call.sound import silence, voice
from tests.watching import Onlooker


@dataclass
class Pair:
    """Two nodes of a cluster, and the Redis by which they hear of each other."""

    a: World
    b: World
    redis: RedisServer
    bus: RedisBus
    """Somebody else's part in the same bus."""


@asynccontextmanager
async def two_nodes(folder: Path) -> AsyncIterator[Pair]:
    async with AsyncExitStack() as begun:
        redis = begun.enter_context(RedisServer(folder / "redis"))

        def bus() -> RedisBus:
            connection = RedisConnection(redis.url)
            begun.push_async_callback(connection.close)
            one = RedisBus(connection)
            one.start()
            begun.push_async_callback(one.stop)
            return one

        shared, books, records = MemoryRegistry(WallClock()), SharedBooks(), CallsInMemory()
        worlds = []
        for name in ("a", "b"):
            options = Options(rules=RULES, replicated=True, bus=bus(), records=records)
            world = await begun.enter_async_context(running(folder / name, options, shared=shared, books=books))
            world.recognizer.partials, world.recognizer.finals = {"s1": "i want a"}, TEXTS
            worlds.append(world)
        yield Pair(worlds[0], worlds[1], redis, bus())


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    async with two_nodes(tmp_path) as made:
        yield made


async def say(wire: Wire) -> None:
    for piece in pieces(CONVERSATION):
        await wire.send(piece)
    await wire.until(Alert, lambda alert: alert.category == "talk")


def numbered(page: Onlooker) -> list[int]:
    return [one.seq for one in page.told if isinstance(one, Started | Segment | Alert | Transcript | Ended)]


async def found_elsewhere(page: Onlooker, call_id: str, **options: object) -> CaughtUp:
    """Watch until the other node has been heard: it may not listen yet."""
    while True:
        await page.client.watch(call_id=call_id, **options)  # type: ignore[arg-type]
        told = await page.until(CaughtUp | WatchError)  # type: ignore[arg-type]
        if isinstance(told, CaughtUp):
            return told


async def test_a_call_at_another_node_is_watched_from_its_start_to_its_end(pair: Pair) -> None:
    async with pair.a.call() as wire, looking_at(pair.b) as page:
        await say(wire)
        caught_up = await found_elsewhere(page, wire.started.call_id)
        assert caught_up.live
        assert page.of(Started)[0].resume_token == ""
        await wire.send(Hangup())
        await wire.until(Ended)
        await page.until(Ended)
        await eventually(lambda: not pair.b.elsewhere._calls)  # nobody need go on telling
        seqs = numbered(page)
        assert seqs == sorted(set(seqs))
        kept = [one.seq for one in wire.log if isinstance(one, Segment | Alert) or getattr(one, "final", False)]
        assert set(kept) <= set(seqs)


async def test_a_board_sees_the_calls_of_every_node_and_their_levels(pair: Pair) -> None:
    async with pair.a.call(metadata={"agent": "Anna"}) as there, pair.b.call() as here, looking_at(pair.b) as board:
        await board.client.watch(levels=True)
        calls = {there.started.call_id, here.started.call_id}
        seen: set[str] = set()
        while seen != calls:
            seen.add((await board.until(CallInBrief)).call_id)
        await board.until(Levels, lambda levels: there.started.call_id in levels.calls)
        await say(there)
        brief = await board.until(CallInBrief, lambda one: len(one.alerts) == 2)
        assert brief.agent == "Anna"
        await there.send(Hangup())
        await there.until(Ended)
        assert (await board.until(CallGone)).call_id == there.started.call_id
        assert board.of(CallInBrief)[-1].call_id in calls


async def test_another_app_at_another_node_sees_nothing(pair: Pair) -> None:
    async with pair.a.call() as wire, looking_at(pair.b, "other") as stranger, looking_at(pair.b) as page:
        await found_elsewhere(page, wire.started.call_id)
        await stranger.client.watch(levels=True)
        await stranger.until(Watching)
        await stranger.client.watch(watch_id="c", call_id=wire.started.call_id)
        assert (await stranger.until(WatchError)).code == "unknown_call"
        await say(wire)
        await page.until(Alert)
        async with pair.b.call(app_id="other") as own:
            await stranger.until(CallInBrief)
    assert {one.call_id for one in stranger.of(CallInBrief)} == {own.started.call_id}
    assert not stranger.of(Segment)


async def test_what_was_lost_on_the_way_is_asked_for_again(pair: Pair) -> None:
    async with pair.a.call() as wire, looking_at(pair.b) as page:
        call_id = wire.started.call_id
        await found_elsewhere(page, call_id)
        [outside] = pair.a.feed._watchers[call_id]
        real, lost = outside._publish, 0  # type: ignore[attr-defined]

        def lose(heard: CallHeard) -> None:
            nonlocal lost
            lost += 1
            if lost % 3 == 0:
                real(heard)

        outside._publish = lose  # type: ignore[attr-defined]
        await say(wire)
        pair.b.elsewhere.renew()  # what was lost last is found out by the next look at where the call stands
        outside._publish = real  # type: ignore[attr-defined]
        pair.b.elsewhere.renew()
        await page.until(Alert, lambda alert: alert.category == "talk")
        assert lost > 3
        seqs = numbered(page)
        assert seqs == sorted(set(seqs))
        kept = [one.seq for one in wire.log if isinstance(one, Segment | Alert)]
        assert [seq for seq in seqs if seq in kept] == [seq for seq in kept if seq <= seqs[-1]]


async def test_a_watcher_follows_a_call_that_moves_to_and_fro(pair: Pair) -> None:
    speech = silence(300) + voice(2000) + silence(1000)
    async with pair.a.call() as first, looking_at(pair.a) as at_a, looking_at(pair.b) as at_b:
        call_id = first.started.call_id
        await at_a.client.watch(call_id=call_id)
        await at_a.until(CaughtUp)
        await found_elsewhere(at_b, call_id)
        await first.send(speech)
        await first.until(Segment, lambda segment: segment.state == "closed")
        if not any(ack.samples == len(speech) // 2 for ack in first.logged(Ack)):  # else it would come again
            await first.until(Ack, lambda ack: ack.samples == len(speech) // 2)
        async with pair.b.wire() as second:
            await second.send(resume_of(first))
            await second.until(Resumed)
            await second.send(speech)
            await second.until(Segment, lambda segment: segment.segment_id == "s2" and segment.state == "closed")
            for page in (at_a, at_b):
                await page.until(Segment, lambda segment: segment.segment_id == "s2" and segment.state == "closed")
            await second.send(Hangup())
            await second.until(Ended)
            for page in (at_a, at_b):
                await page.until(Ended)
                seqs = numbered(page)
                assert seqs == sorted(set(seqs)), "nothing twice"
                assert [one.state for one in page.of(Segment)] == ["opened", "closed"] * 2


async def test_without_redis_what_is_here_is_told_all_the_same(pair: Pair) -> None:
    async with pair.b.call() as wire, looking_at(pair.b) as board:
        pair.redis.kill()
        await board.client.watch()
        assert (await board.until(CallInBrief)).call_id == wire.started.call_id
        assert (await board.until(WatchError)).code == "cluster_unavailable"
        await board.client.watch(watch_id="c", call_id=wire.started.call_id)
        await board.until(CaughtUp)
        pair.redis.start()
        async with pair.a.call() as there:

            def asked_again() -> bool:
                pair.b.elsewhere.renew()
                return bool(pair.a.feed._apps)

            await eventually(asked_again)
            assert (await board.until(CallInBrief, lambda one: one.call_id == there.started.call_id)).connected


async def test_a_node_that_nobody_watches_from_elsewhere_tells_nothing(pair: Pair) -> None:
    heard: list[bytes] = []
    async with pair.a.call() as wire, looking_at(pair.a) as own:
        await pair.bus.subscribe(app_topic("demo"), heard.append)
        await pair.bus.subscribe(call_topic(wire.started.call_id), heard.append)
        await own.client.watch(levels=True)
        await own.client.watch(watch_id="c", call_id=wire.started.call_id)
        await own.until(CaughtUp)
        await say(wire)
        await own.until(Alert, lambda alert: alert.category == "talk")
    assert heard == []


def test_what_processes_tell_each_other_is_small() -> None:
    assert len(packed(CallHeard(1, 2, b"x" * 100))) < 120
