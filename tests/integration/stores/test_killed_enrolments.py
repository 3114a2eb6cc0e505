"""A process, or a Redis, that is killed while voices are enrolled: those that were acknowledged are there, whole."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gateway.stores.redis_voiceprints import RedisVoiceprints
from gateway.stores.voiceprints import SqliteVoiceprints
from tests.integration.stores.voice_writer import store_at, voice
from tests.redis_server import RedisServer

ACKNOWLEDGED = (1, 9, 25)
"""How many are safe when it strikes."""


def enrol_until(place: str, acknowledged: int, strike: Callable[[subprocess.Popen[str]], None]) -> list[int]:
    """The numbers of the voices that were safe, by the word of a process that is killed."""
    command = [sys.executable, "-m", "tests.integration.stores.voice_writer", place]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        told = [int(writer.stdout.readline()) for _ in range(acknowledged)]
        strike(writer)
        told += [int(line) for line in writer.stdout.read().split()]
        writer.kill()
    return told


async def assert_whole(store: SqliteVoiceprints | RedisVoiceprints, told: list[int]) -> None:
    """Everything that was told is there, and of what was not nothing is there in halves."""
    rows = {row.name: row for row in await store.load(["m"])}
    assert len(told) <= len(rows) <= len(told) + 1
    assert await store.count("acme", "org", "tag") == len(rows)
    assert len(await store.audits("acme", from_ms=0, to_ms=2**48, limit=10_000)) == len(rows)
    for number in range(len(rows)):
        wanted, clips = voice(number)
        found = rows[wanted.name]
        assert np.array_equal(found.prints[0].vectors, wanted.prints[0].vectors)
        assert [await store.audio(found.print_id, clip) for clip in range(3)] == [*clips, None]


@pytest.mark.parametrize("acknowledged", ACKNOWLEDGED)
async def test_sqlite_keeps_what_a_killed_process_was_told_is_safe(tmp_path: Path, acknowledged: int) -> None:
    place = str(tmp_path / "earshot.db")
    told = enrol_until(place, acknowledged, lambda writer: writer.kill())
    store = store_at(place)
    await assert_whole(store, told)
    assert isinstance(store, SqliteVoiceprints)
    store._database.close()


@pytest.mark.parametrize("acknowledged", ACKNOWLEDGED)
async def test_a_killed_redis_keeps_what_it_has_said_is_safe(tmp_path: Path, acknowledged: int) -> None:
    with RedisServer(tmp_path / "redis") as server:
        told = enrol_until(server.url, acknowledged, lambda _: server.kill())
        server.start()
        store = store_at(server.url)
        await assert_whole(store, told)
        assert isinstance(store, RedisVoiceprints)
        await store._redis.close()


async def test_a_node_that_is_killed_leaves_nothing_in_halves_in_redis(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis") as server:
        told = enrol_until(server.url, 9, lambda writer: writer.kill())
        store = store_at(server.url)
        await assert_whole(store, told)
        assert isinstance(store, RedisVoiceprints)
        await store._redis.close()
