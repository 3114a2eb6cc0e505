"""What every VoiceprintStore promises."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from gateway.ports import Unavailable, VoiceprintRow, VoiceprintStore
from gateway.stores.sqlite import Database
from gateway.stores.voiceprints import SCHEMA, SqliteVoiceprints


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "voices.sqlite", [SCHEMA])
    yield database
    database.close()


@pytest.fixture
def store(database: Database) -> VoiceprintStore:
    return SqliteVoiceprints(database)


def row(number: int, *, name: str = "", tag: str = "tag", app: str = "acme", model: str = "m") -> VoiceprintRow:
    embedding = np.random.default_rng(number).standard_normal(6).astype(np.float32)
    return VoiceprintRow(f"id{number}", app, "org", tag, name or f"name{number}", model, embedding)


async def names(store: VoiceprintStore, tag: str | None = "tag", *, offset: int = 0, limit: int = 20) -> list[str]:
    return [one.name for one in await store.page("acme", "org", tag, offset=offset, limit=limit)]


async def test_a_voice_comes_back_as_it_was_kept(store: VoiceprintStore) -> None:
    kept = row(1, name="张明 'quoted' %")
    assert await store.add(kept, b"audio")
    found = await store.find("acme", "org", "tag", kept.name)
    assert found is not None
    assert (found.print_id, found.name, found.model) == (kept.print_id, kept.name, kept.model)
    assert found.embedding.dtype == np.float32
    assert np.array_equal(found.embedding, kept.embedding)
    assert await store.audio(kept.print_id) == b"audio"


async def test_a_taken_name_is_not_added_and_nothing_changes(store: VoiceprintStore) -> None:
    await store.add(row(1, name="sunny"), b"first")
    assert not await store.add(row(2, name="sunny"), b"second")
    assert await store.audio("id1") == b"first"
    assert await store.audio("id2") is None
    assert await store.count("acme", "org", None) == 1


async def test_the_same_name_elsewhere_is_another_voice(store: VoiceprintStore) -> None:
    for number, one in enumerate([row(1, name="a"), row(2, name="a", tag="t2"), row(3, name="a", app="rival")]):
        assert await store.add(one, bytes([number]))
    assert await store.count("acme", "org", None) == 2
    assert await store.count("acme", "org", "t2") == 1
    assert await store.remove("acme", "org", "tag", None) == ["id1"]
    assert await store.find("rival", "org", "tag", "a") is not None


async def test_replacing_takes_the_place_and_drops_the_former_audio(store: VoiceprintStore) -> None:
    await store.add(row(1, name="a"), b"first")
    await store.add(row(2, name="b"), b"second")
    assert await store.replace(row(3, name="a", model="m2"), b"third") == "id1"
    assert await names(store) == ["b", "a"]
    assert await store.audio("id1") is None
    assert await store.audio("id3") == b"third"
    assert await store.models() == {"m": 1, "m2": 1}
    assert await store.replace(row(4, name="nobody"), b"x") is None
    assert await store.audio("id4") is None


async def test_pages_go_from_the_newest_on(store: VoiceprintStore) -> None:
    for number in range(5):
        await store.add(row(number, tag="a" if number % 2 else "b"), b"")
    assert await names(store, None) == ["name4", "name3", "name2", "name1", "name0"]
    assert await names(store, None, offset=1, limit=2) == ["name3", "name2"]
    assert await names(store, "a") == ["name3", "name1"]
    assert await names(store, "a", offset=9) == []


async def test_removing_is_all_or_nothing_and_takes_the_audio(store: VoiceprintStore) -> None:
    for number in (1, 2, 3):
        await store.add(row(number), b"audio")
    assert list(await store.remove("acme", "org", "tag", ["name1", "stranger"])) == []
    assert await store.count("acme", "org", "tag") == 3
    assert sorted(await store.remove("acme", "org", "tag", ["name1", "name2"])) == ["id1", "id2"]
    assert await names(store) == ["name3"]
    assert [await store.audio(f"id{number}") for number in (1, 2, 3)] == [None, None, b"audio"]
    assert list(await store.remove("acme", "org", "tag", None)) == ["id3"]
    assert list(await store.remove("acme", "org", "tag", None)) == []


async def test_loading_gives_one_model_from_the_oldest_on(store: VoiceprintStore) -> None:
    for number, model in enumerate(["m", "other", "m"]):
        await store.add(row(number, model=model), b"")
    assert [one.name for one in await store.load("m")] == ["name0", "name2"]
    assert await store.models() == {"m": 2, "other": 1}


async def test_what_was_added_is_there_after_reopening(tmp_path: Path) -> None:
    first = Database(tmp_path / "v.sqlite", [SCHEMA])
    await SqliteVoiceprints(first).add(row(1), b"audio")
    first.close()
    second = Database(tmp_path / "v.sqlite", [SCHEMA])
    assert await SqliteVoiceprints(second).audio("id1") == b"audio"
    second.close()


async def test_a_database_that_fails_is_unavailable(store: VoiceprintStore, database: Database) -> None:
    def drop(connection: sqlite3.Connection) -> None:
        connection.execute("DROP TABLE voiceprint_audio")

    await database.run(drop)
    with pytest.raises(Unavailable, match="voiceprint database failed"):
        await store.add(row(1), b"audio")
    assert await store.count("acme", "org", "tag") == 0
