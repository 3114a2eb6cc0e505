"""Two services around one store: what one changes, the other's next search knows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.ports import PortError
from gateway.stores import redis_voiceprint_scripts
from gateway.stores.redis_connection import RedisConnection
from gateway.stores.redis_voiceprints import RedisVoiceprints
from gateway.stores.sqlite import Database
from gateway.stores.voiceprints import SCHEMA, SqliteVoiceprints
from gateway.voiceprint import following
from gateway.voiceprint.service import VoiceprintService
from protocol.voiceprint import Code, Deletion, Enrolment, NamedVoice, Recognition, Scope, VoiceprintError
from tests.redis_server import RedisServer
from tests.voices import PitchConfirmer, SpectrumEmbedder, clip, voice

ORG = Scope("acme", "org", None)
Store = SqliteVoiceprints | RedisVoiceprints


@pytest.fixture(autouse=True)
def never_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here is found because a second went by, and nothing is missed because one did."""
    monkeypatch.setattr(following.Following.__init__, "__kwdefaults__", {"poll_s": 3600.0, "patience_s": 30.0})


@pytest.fixture
def redis(tmp_path: Path) -> RedisServer:
    return RedisServer(tmp_path / "redis")


@pytest.fixture
async def node(redis: RedisServer) -> AsyncIterator[Callable[[], VoiceprintService]]:
    """Makes a node's service around one Redis."""
    services: list[tuple[VoiceprintService, RedisConnection]] = []

    def made() -> VoiceprintService:
        connection = RedisConnection(redis.url)
        service = service_of(RedisVoiceprints(connection), shared=True)
        services.append((service, connection))
        return service

    with redis:
        yield made
        for service, connection in services:
            await service.close()
            await connection.close()


def service_of(store: Store, *, shared: bool) -> VoiceprintService:
    return VoiceprintService(
        store=store, changes=store, shared=shared, embedder=SpectrumEmbedder(), speech=PitchConfirmer()
    )


async def enrol(service: VoiceprintService, name: str, speaker: int) -> None:
    await service.register(Enrolment(NamedVoice("acme", "org", "tag", name), denoise=False), [clip(voice(speaker))])


async def delete(service: VoiceprintService, *names: str) -> None:
    await service.delete(Deletion("acme", "org", "tag", names or None))


async def found(service: VoiceprintService) -> list[str]:
    hits = await service.recognize(Recognition(ORG, denoise=False), clip(voice(1, take=9)))
    return sorted(hit.entry.name for hit in hits)


async def test_what_one_node_changes_the_next_search_of_another_knows(node: Callable[[], VoiceprintService]) -> None:
    one, other = node(), node()
    await one.start()
    await other.start()
    await enrol(one, "ann", 1)
    await enrol(other, "bob", 2)
    assert await found(one) == await found(other) == ["ann", "bob"]
    former = await one.find(NamedVoice("acme", "org", "tag", "ann"))
    await one.update(Enrolment(former_name("ann"), denoise=False), [clip(voice(3))])
    hits = await other.recognize(Recognition(ORG, denoise=False), clip(voice(3, take=1)))
    assert (hits[0].entry.name, hits[0].entry.print_id) != ("ann", former.print_id)
    assert len(hits) == 2, "the former print is gone"
    await delete(other, "ann")
    assert await found(one) == ["bob"]
    await delete(one)
    assert await found(other) == []


def former_name(name: str) -> NamedVoice:
    return NamedVoice("acme", "org", "tag", name)


async def test_what_two_nodes_add_to_one_voice_is_all_kept(node: Callable[[], VoiceprintService]) -> None:
    nodes = [node(), node()]
    for one in nodes:
        await one.start()
    await enrol(nodes[0], "ann", 1)
    more = [Enrolment(former_name("ann"), denoise=False, adds=True) for _ in range(4)]
    await asyncio.gather(*(nodes[n % 2].update(one, [clip(voice(1, take=n + 1))]) for n, one in enumerate(more)))
    ann = await nodes[0].find(former_name("ann"))
    assert {len(one.vectors) for one in ann.prints} == {5}
    assert None not in [await nodes[1].audio(ann.print_id, number) for number in range(5)]
    assert await found(nodes[0]) == await found(nodes[1]) == ["ann"]


async def test_a_node_that_missed_too_much_loads_anew(
    node: Callable[[], VoiceprintService], redis: RedisServer
) -> None:
    one, other = node(), node()
    await one.start()
    await other.start()
    await enrol(one, "ann", 1)
    assert await found(other) == ["ann"]
    for number in range(2, 5):
        await enrol(one, f"v{number}", number)
    await delete(one, "ann")
    redis.ask("XTRIM", redis_voiceprint_scripts.CHANGES, "MAXLEN", "1")
    assert await found(other) == ["v2", "v3", "v4"]


async def test_after_a_flush_no_node_brings_voices_back(
    node: Callable[[], VoiceprintService], redis: RedisServer
) -> None:
    one, other = node(), node()
    await one.start()
    await other.start()
    await enrol(one, "ann", 1)
    assert await found(other) == ["ann"]
    redis.ask("FLUSHALL")
    assert await found(other) == []
    await enrol(one, "bob", 2)
    assert await found(one) == await found(other) == ["bob"]


async def test_while_redis_is_away_known_voices_are_found_and_nothing_is_changed(
    node: Callable[[], VoiceprintService], redis: RedisServer
) -> None:
    one, other = node(), node()
    await one.start()
    await other.start()
    await enrol(one, "ann", 1)
    assert await found(other) == ["ann"]
    redis.kill()
    with capture_logs() as logs:
        assert await found(other) == ["ann"]
        assert await found(other) == ["ann"]
        for attempt in (enrol(one, "bob", 2), delete(one, "ann"), one.count(ORG)):
            with pytest.raises(VoiceprintError, match="cannot be reached") as refused:
                await attempt
            assert refused.value.code is Code.COMPONENT_ERROR
    assert [entry["event"] for entry in logs].count("voiceprint.changes_unheard") == 1
    redis.start()
    await enrol(one, "bob", 2)
    await other.catch_up()  # as it does each second
    assert await found(other) == ["ann", "bob"]


async def test_a_node_that_starts_without_redis_does_not_take_everybody_for_a_stranger(
    node: Callable[[], VoiceprintService], redis: RedisServer
) -> None:
    first, late = node(), node()
    await first.start()
    await enrol(first, "ann", 1)
    redis.kill()
    assert await late.start() == {}
    with pytest.raises(VoiceprintError, match=r"could not be read yet.*cannot be reached") as refused:
        await found(late)
    assert refused.value.code is Code.COMPONENT_ERROR
    redis.start()
    await late.catch_up()
    assert await found(late) == ["ann"]


async def test_what_another_process_did_to_the_same_file_is_heard_of(tmp_path: Path) -> None:
    databases = [Database(tmp_path / "v.sqlite", [SCHEMA]) for _ in range(2)]
    one, other = (service_of(SqliteVoiceprints(database), shared=False) for database in databases)
    await one.start()
    await other.start()
    await enrol(one, "ann", 1)
    await enrol(other, "bob", 2)
    for service in (one, other):
        await service.catch_up()
        assert await found(service) == ["ann", "bob"]
    await delete(one, "bob")
    await other.catch_up()
    assert await found(other) == ["ann"]
    for service, database in zip((one, other), databases, strict=True):
        await service.close()
        database.close()


async def test_a_store_of_this_node_alone_that_fails_at_the_start_is_a_failed_start(tmp_path: Path) -> None:
    database = Database(tmp_path / "v.sqlite", [])
    service = service_of(SqliteVoiceprints(database), shared=False)
    with pytest.raises(VoiceprintError, match="database failed"):
        await service.start()
    database.close()


class Counting:
    """Changes of a store that lets its caller wait."""

    def __init__(self) -> None:
        self.asked = 0
        self.begun, self.answer = asyncio.Event(), asyncio.Event()

    async def position(self) -> str:
        return "0"

    async def since(self, position: str) -> object:
        self.asked += 1
        self.begun.set()
        await self.answer.wait()
        raise PortError("away")


async def test_searches_of_the_same_moment_share_one_look_and_none_waits_for_ever() -> None:
    changes = Counting()

    async def loaded() -> None:
        pass

    follows = following.Following(
        changes,  # type: ignore[arg-type]
        asyncio.Lock(),
        load=loaded,
        add=lambda row: None,
        drop=lambda change: None,
        patience_s=0.001,
    )
    await follows.load()
    asked = [follows.ask() for _ in range(9)]
    for one in asked:
        await follows.answered(one)
    assert changes.asked == 1
    assert follows.ask() is not asked[0], "what changed after the look had begun needs another"
    changes.answer.set()
    await follows.look()
    assert follows.fault == "away"
    assert follows.ask() is None
    await follows.close()


async def test_nothing_goes_on_after_the_end_even_if_the_store_hangs() -> None:
    changes = Counting()

    async def loaded() -> None:
        pass

    follows = following.Following(
        changes,  # type: ignore[arg-type]
        asyncio.Lock(),
        load=loaded,
        add=lambda row: None,
        drop=lambda change: None,
    )
    await follows.load()
    follows.start()
    follows.ask()
    await changes.begun.wait()
    follows.ask()  # one more that waits for the first
    await follows.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}
