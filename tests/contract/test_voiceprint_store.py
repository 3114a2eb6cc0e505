"""What every VoiceprintStore promises."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gateway.ports import Prints, Unavailable, VoiceprintRow, VoiceprintStore
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
    return VoiceprintRow(f"id{number}", app, "org", tag, name or f"name{number}", (prints(number, model),))


def prints(number: int, space: str, clips: int = 1) -> Prints:
    return Prints(space, np.random.default_rng(number).standard_normal((clips, 6)).astype(np.float32))


async def names(store: VoiceprintStore, tag: str | None = "tag", *, offset: int = 0, limit: int = 20) -> list[str]:
    return [one.name for one in await store.page("acme", "org", tag, offset=offset, limit=limit)]


async def test_a_voice_comes_back_as_it_was_kept(store: VoiceprintStore) -> None:
    kept = row(1, name="张明 'quoted' %")
    assert await store.add(kept, [b"audio"])
    found = await store.find("acme", "org", "tag", kept.name)
    assert found is not None
    assert (found.print_id, found.name, found.kind) == (kept.print_id, kept.name, "voice")
    assert same(found.prints, kept.prints)
    assert await store.audio(kept.print_id) == b"audio"


async def test_a_voice_of_several_clips_and_spaces_comes_back_whole(store: VoiceprintStore) -> None:
    kept = replace(row(1), kind="sound", prints=(prints(1, "wide", 3), prints(2, "narrow", 3)))
    assert await store.add(kept, [b"one", b"two", b"three"])
    found = await store.find("acme", "org", "tag", kept.name)
    assert found is not None
    assert found.kind == "sound"
    assert same(found.prints, kept.prints)
    assert [await store.audio(kept.print_id, clip) for clip in range(4)] == [b"one", b"two", b"three", None]


def same(found: Sequence[Prints], kept: Sequence[Prints]) -> bool:
    of = {one.space: one.vectors for one in found}
    return of.keys() == {one.space for one in kept} and all(np.array_equal(of[one.space], one.vectors) for one in kept)


async def test_a_taken_name_is_not_added_and_nothing_changes(store: VoiceprintStore) -> None:
    await store.add(row(1, name="sunny"), [b"first"])
    assert not await store.add(row(2, name="sunny"), [b"second"])
    assert await store.audio("id1") == b"first"
    assert await store.audio("id2") is None
    assert await store.count("acme", "org", None) == 1


async def test_the_same_name_elsewhere_is_another_voice(store: VoiceprintStore) -> None:
    for number, one in enumerate([row(1, name="a"), row(2, name="a", tag="t2"), row(3, name="a", app="rival")]):
        assert await store.add(one, [bytes([number])])
    assert await store.count("acme", "org", None) == 2
    assert await store.count("acme", "org", "t2") == 1
    assert await store.remove("acme", "org", "tag", None) == ["id1"]
    assert await store.find("rival", "org", "tag", "a") is not None


async def test_replacing_takes_the_place_and_drops_the_former_audio(store: VoiceprintStore) -> None:
    await store.add(row(1, name="a"), [b"first"])
    await store.add(row(2, name="b"), [b"second"])
    assert await store.replace(row(3, name="a", model="m2"), [b"third"]) == "id1"
    assert await names(store) == ["b", "a"]
    assert await store.audio("id1") is None
    assert await store.audio("id3") == b"third"
    assert await store.unsearchable(["m"]) == {"m2": 1}
    assert await store.replace(row(4, name="nobody"), [b"x"]) is None
    assert await store.audio("id4") is None


async def test_pages_go_from_the_newest_on(store: VoiceprintStore) -> None:
    for number in range(5):
        await store.add(row(number, tag="a" if number % 2 else "b"), [b""])
    assert await names(store, None) == ["name4", "name3", "name2", "name1", "name0"]
    assert await names(store, None, offset=1, limit=2) == ["name3", "name2"]
    assert await names(store, "a") == ["name3", "name1"]
    assert await names(store, "a", offset=9) == []


async def test_removing_is_all_or_nothing_and_takes_the_audio(store: VoiceprintStore) -> None:
    for number in (1, 2, 3):
        await store.add(row(number), [b"audio"])
    assert list(await store.remove("acme", "org", "tag", ["name1", "stranger"])) == []
    assert await store.count("acme", "org", "tag") == 3
    assert sorted(await store.remove("acme", "org", "tag", ["name1", "name2"])) == ["id1", "id2"]
    assert await names(store) == ["name3"]
    assert [await store.audio(f"id{number}") for number in (1, 2, 3)] == [None, None, b"audio"]
    assert list(await store.remove("acme", "org", "tag", None)) == ["id3"]
    assert list(await store.remove("acme", "org", "tag", None)) == []


async def test_loading_gives_the_voices_of_some_spaces_from_the_oldest_on(store: VoiceprintStore) -> None:
    for number, space in enumerate(["m", "other", "m"]):
        await store.add(row(number, model=space), [b""])
    await store.add(replace(row(3), prints=(prints(3, "m"), prints(3, "other"))), [b""])
    assert [one.name for one in await store.load(["m"])] == ["name0", "name2", "name3"]
    assert [one.name for one in await store.load(["m", "other"])] == ["name0", "name1", "name2", "name3"]
    assert await store.unsearchable(["m"]) == {"other": 1}
    assert await store.unsearchable([]) == {"m": 3, "other": 2}


async def test_what_was_added_is_there_after_reopening(tmp_path: Path) -> None:
    first = Database(tmp_path / "v.sqlite", [SCHEMA])
    await SqliteVoiceprints(first).add(row(1), [b"audio"])
    first.close()
    second = Database(tmp_path / "v.sqlite", [SCHEMA])
    assert await SqliteVoiceprints(second).audio("id1") == b"audio"
    second.close()


async def test_a_database_that_fails_is_unavailable(store: VoiceprintStore, database: Database) -> None:
    def drop(connection: sqlite3.Connection) -> None:
        connection.execute("DROP TABLE voiceprint_clips")

    await database.run(drop)
    with pytest.raises(Unavailable, match="voiceprint database failed"):
        await store.add(row(1), [b"audio"])
    assert await store.count("acme", "org", "tag") == 0


async def test_voices_of_a_version_that_knew_one_print_each_are_taken_over(tmp_path: Path) -> None:
    vector = np.arange(6, dtype="<f4")
    old = sqlite3.connect(tmp_path / "v.sqlite")
    old.executescript(
        "CREATE TABLE voiceprints (seq INTEGER PRIMARY KEY AUTOINCREMENT, print_id TEXT NOT NULL UNIQUE,"
        " app_id TEXT NOT NULL, org_id TEXT NOT NULL, tag_id TEXT NOT NULL, name TEXT NOT NULL, model TEXT NOT NULL,"
        " embedding BLOB NOT NULL, UNIQUE (app_id, org_id, tag_id, name));"
        "CREATE INDEX voiceprints_by_model ON voiceprints (model);"
        "CREATE TABLE voiceprint_audio (print_id TEXT PRIMARY KEY REFERENCES voiceprints (print_id)"
        " ON DELETE CASCADE, audio BLOB NOT NULL);"
    )
    old.execute("INSERT INTO voiceprints VALUES (7, 'id', 'acme', 'org', 'tag', 'ann', 'm', ?)", (vector.tobytes(),))
    old.execute("INSERT INTO voiceprint_audio VALUES ('id', ?)", (b"audio",))
    old.commit()
    old.close()
    for _ in range(2):  # the second start finds the new shape
        database = Database(tmp_path / "v.sqlite", [SCHEMA])
        (ann,) = await SqliteVoiceprints(database).load(["m"])
        assert (ann.name, ann.kind) == ("ann", "voice")
        assert np.array_equal(ann.prints[0].vectors, vector[np.newaxis])
        assert await SqliteVoiceprints(database).audio("id") == b"audio"
        database.close()
