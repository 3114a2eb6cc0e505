"""What every store of enrolled voices promises, to services, to other nodes and to whoever audits it."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from gateway.ports import Prints, Unavailable, VoiceprintChange, VoiceprintRow
from gateway.stores import redis_voiceprint_scripts, redis_voiceprints, voiceprint_audit
from gateway.stores.redis_connection import RedisConnection
from gateway.stores.redis_voiceprints import RedisVoiceprints
from gateway.stores.sqlite import Database
from gateway.stores.voiceprints import SCHEMA, SqliteVoiceprints
from tests.redis_server import RedisServer

KEY = b"the key of this purpose"


@dataclass
class World:
    """A store, and what a test does to what it stands on. `another` is a store as another process has it."""

    store: SqliteVoiceprints | RedisVoiceprints
    another: Callable[[], SqliteVoiceprints | RedisVoiceprints]
    redis: RedisServer | None = None


@pytest.fixture(params=["sqlite", "redis"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    if request.param == "sqlite":
        databases: list[Database] = []

        def opened() -> SqliteVoiceprints:
            databases.append(Database(tmp_path / "voices.sqlite", [SCHEMA]))
            return SqliteVoiceprints(databases[-1], name_key=KEY)

        yield World(opened(), opened)
        for database in databases:
            database.close()
        return
    with RedisServer(tmp_path / "redis") as server:
        connections: list[RedisConnection] = []

        def connected() -> RedisVoiceprints:
            connections.append(RedisConnection(server.url))
            return RedisVoiceprints(connections[-1], name_key=KEY)

        yield World(connected(), connected, server)
        for connection in connections:
            await connection.close()


@pytest.fixture
def store(world: World) -> SqliteVoiceprints | RedisVoiceprints:
    return world.store


@pytest.fixture
def another(world: World) -> SqliteVoiceprints | RedisVoiceprints:
    return world.another()


Store = SqliteVoiceprints | RedisVoiceprints


def row(number: int, *, name: str = "", tag: str = "tag", app: str = "acme", model: str = "m") -> VoiceprintRow:
    return VoiceprintRow(f"id{number}", app, "org", tag, name or f"name{number}", (prints(number, model),))


def prints(number: int, space: str, clips: int = 1) -> Prints:
    return Prints(space, np.random.default_rng(number).standard_normal((clips, 6)).astype(np.float32))


async def names(store: Store, tag: str | None = "tag", *, offset: int = 0, limit: int = 20) -> list[str]:
    return [one.name for one in await store.page("acme", "org", tag, offset=offset, limit=limit)]


async def test_a_voice_comes_back_as_it_was_kept(store: Store) -> None:
    kept = row(1, name="张明 'quoted' %")
    assert await store.add(kept, [b"audio"])
    found = await store.find("acme", "org", "tag", kept.name)
    assert found is not None
    assert (found.print_id, found.name, found.kind) == (kept.print_id, kept.name, "voice")
    assert same(found.prints, kept.prints)
    assert await store.audio(kept.print_id) == b"audio"


async def test_a_voice_of_several_clips_and_spaces_comes_back_whole(store: Store) -> None:
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


async def test_a_taken_name_is_not_added_and_nothing_changes(store: Store) -> None:
    await store.add(row(1, name="sunny"), [b"first"])
    assert not await store.add(row(2, name="sunny"), [b"second"])
    assert await store.audio("id1") == b"first"
    assert await store.audio("id2") is None
    assert await store.count("acme", "org", None) == 1


async def test_the_same_name_elsewhere_is_another_voice(store: Store) -> None:
    for number, one in enumerate([row(1, name="a"), row(2, name="a", tag="t2"), row(3, name="a", app="rival")]):
        assert await store.add(one, [bytes([number])])
    assert await store.count("acme", "org", None) == 2
    assert await store.count("acme", "org", "t2") == 1
    assert await store.remove("acme", "org", "tag", None) == ["id1"]
    assert await store.find("rival", "org", "tag", "a") is not None


async def test_replacing_takes_the_place_and_drops_the_former_audio(store: Store) -> None:
    await store.add(row(1, name="a"), [b"first"])
    await store.add(row(2, name="b"), [b"second"])
    assert await store.replace(row(3, name="a", model="m2"), [b"third"]) == "id1"
    assert await names(store) == ["b", "a"]
    assert await store.audio("id1") is None
    assert await store.audio("id3") == b"third"
    assert await store.unsearchable(["m"]) == {"m2": 1}
    assert await store.replace(row(4, name="nobody"), [b"x"]) is None
    assert await store.audio("id4") is None


async def test_pages_go_from_the_newest_on(store: Store) -> None:
    for number in range(5):
        await store.add(row(number, tag="a" if number % 2 else "b"), [b""])
    assert await names(store, None) == ["name4", "name3", "name2", "name1", "name0"]
    assert await names(store, None, offset=1, limit=2) == ["name3", "name2"]
    assert await names(store, "a") == ["name3", "name1"]
    assert await names(store, "a", offset=9) == []


async def test_removing_is_all_or_nothing_and_takes_the_audio(store: Store) -> None:
    for number in (1, 2, 3):
        await store.add(row(number), [b"audio"])
    assert list(await store.remove("acme", "org", "tag", ["name1", "stranger"])) == []
    assert await store.count("acme", "org", "tag") == 3
    assert sorted(await store.remove("acme", "org", "tag", ["name1", "name2"])) == ["id1", "id2"]
    assert await names(store) == ["name3"]
    assert [await store.audio(f"id{number}") for number in (1, 2, 3)] == [None, None, b"audio"]
    assert list(await store.remove("acme", "org", "tag", None)) == ["id3"]
    assert list(await store.remove("acme", "org", "tag", None)) == []


async def test_of_twenty_at_once_under_one_name_one_is_kept(store: Store) -> None:
    added = await asyncio.gather(*(store.add(row(number, name="a"), [bytes([number])]) for number in range(20)))
    (winner,) = (number for number, won in enumerate(added) if won)
    assert await store.count("acme", "org", None) == len(await store.load(["m"])) == 1
    assert [await store.audio(f"id{number}") for number in range(20) if number != winner] == [None] * 19
    assert await store.audio(f"id{winner}") == bytes([winner])


async def test_scopes_whose_parts_make_the_same_text_are_not_the_same(store: Store) -> None:
    for number, (org, tag) in enumerate([("a", "b,c"), ("a,b", "c"), ('a","b', "c"), ("a", ""), ("", "a")]):
        assert await store.add(replace(row(number, name="same"), org_id=org, tag_id=tag), [bytes([number])])
        assert await store.count("acme", org, tag) == 1
    assert await store.count("acme", "a", None) == 2


async def test_loading_gives_the_voices_of_some_spaces_from_the_oldest_on(store: Store) -> None:
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


async def test_a_database_that_fails_is_unavailable(tmp_path: Path) -> None:
    def drop(connection: sqlite3.Connection) -> None:
        connection.execute("DROP TABLE voiceprint_clips")

    database = Database(tmp_path / "v.sqlite", [SCHEMA])
    store = SqliteVoiceprints(database)
    await database.run(drop)
    with pytest.raises(Unavailable, match="voiceprint database failed"):
        await store.add(row(1), [b"audio"])
    assert await store.count("acme", "org", "tag") == 0
    database.close()


async def test_a_redis_that_is_away_is_unavailable_and_has_everything_when_it_is_back(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis") as server:
        connection = RedisConnection(server.url)
        store = RedisVoiceprints(connection)
        await store.add(row(1), [b"audio"])
        server.kill()
        for attempt in (
            store.add(row(2), []),
            store.remove("acme", "org", "tag", None),
            store.find("acme", "org", "tag", "a"),
        ):
            with pytest.raises(Unavailable, match="cannot be reached"):
                await attempt
        server.start()
        assert await store.audio("id1") == b"audio"
        assert await names(store) == ["name1"]
        assert await store.add(row(2), [])
        await connection.close()


async def test_a_redis_that_is_full_takes_no_voice_in_halves_and_still_deletes(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis", "--maxmemory", "6mb") as server:
        connection = RedisConnection(server.url)
        store = RedisVoiceprints(connection)
        kept = 0
        with pytest.raises(Unavailable, match="refuses"):
            for number in range(100):
                await store.add(row(number), [bytes(200_000)])
                kept += 1
        assert 0 < kept == await store.count("acme", "org", "tag") == len(await store.load(["m"]))
        assert len(await store.audits("acme", from_ms=0, to_ms=2**50, limit=1000)) == kept
        assert len(await store.remove("acme", "org", "tag", ["name0", "name1"])) == 2
        await connection.close()


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
    for _ in range(2):  # the second start finds the new tables
        database = Database(tmp_path / "v.sqlite", [SCHEMA])
        (ann,) = await SqliteVoiceprints(database).load(["m"])
        assert (ann.name, ann.kind) == ("ann", "voice")
        assert np.array_equal(ann.prints[0].vectors, vector[np.newaxis])
        assert await SqliteVoiceprints(database).audio("id") == b"audio"
        database.close()


async def told(store: Store, position: str) -> list[tuple[list[str], list[str]]]:
    """Who is gone and who has come since, of each change."""
    changes: list[VoiceprintChange] = []
    while True:
        news = await store.since(position)
        assert news is not None
        changes += news.changes
        position = news.position
        if not news.more:
            return [(sorted(one.gone), sorted(one.come)) for one in changes]


async def test_changes_are_told_in_their_order_with_nothing_but_ids(store: Store, another: Store) -> None:
    await store.add(row(0), [b""])
    position = await another.position()
    assert await told(another, position) == []
    await store.add(row(1, name="a"), [b""])
    await store.replace(row(2, name="a"), [b""])
    await store.remove("acme", "org", "tag", None)
    assert await told(another, position) == [([], ["id1"]), (["id1"], ["id2"]), (["id0", "id2"], [])]
    assert await told(another, await store.position()) == []
    news = await another.since(position)
    assert news is not None
    assert {(one.app_id, one.org_id, one.tag_id) for one in news.changes} == {("acme", "org", "tag")}
    assert news.position == await another.position()


async def test_what_changed_nothing_is_neither_told_nor_audited(store: Store) -> None:
    await store.add(row(1, name="a"), [b""])
    position = await store.position()
    await store.add(row(2, name="a"), [b""])
    await store.replace(row(3, name="nobody"), [b""])
    await store.remove("acme", "org", "tag", ["a", "nobody"])
    await store.remove("acme", "org", "elsewhere", None)
    assert await told(store, position) == []
    assert len(await store.audits("acme", from_ms=0, to_ms=2**50, limit=9)) == 1


async def test_more_changes_than_one_answer_holds_are_all_told(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (redis_voiceprints, voiceprint_audit):
        monkeypatch.setattr(module, "MOST_NEWS", 3)
    await store.add(row(0), [b""])
    position = await store.position()
    for number in range(1, 8):
        await store.add(row(number), [b""])
    assert await told(store, position) == [([], [f"id{number}"]) for number in range(1, 8)]


async def test_many_that_go_at_once_are_all_told(store: Store) -> None:
    for number in range(redis_voiceprint_scripts.IDS_OF_A_CHANGE + 1):
        await store.add(row(number), [])
    position = await store.position()
    gone = await store.remove("acme", "org", "tag", None)
    assert len(gone) == redis_voiceprint_scripts.IDS_OF_A_CHANGE + 1
    assert sorted(one for ids, _ in await told(store, position) for one in ids) == sorted(gone)
    (audit, *_) = await store.audits("acme", from_ms=0, to_ms=2**50, limit=1)
    assert len(audit.voices) == len(gone)


async def test_the_rows_of_some_ids_are_those_that_are_there(store: Store) -> None:
    for number in range(3):
        await store.add(row(number), [b""])
    await store.remove("acme", "org", "tag", ["name1"])
    assert [one.name for one in await store.rows(["id0", "id1", "id2", "id9"])] == ["name0", "name2"]
    assert list(await store.rows([])) == []


async def test_whoever_missed_a_flush_is_told_that_all_may_be_different(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis") as server:
        connection = RedisConnection(server.url)
        store = RedisVoiceprints(connection)
        assert await store.position() == ""
        await store.add(row(1), [b""])
        assert await store.since("") is None
        position = await store.position()
        server.ask("FLUSHALL")
        assert await store.since(position) is None
        await store.add(row(2), [b""])
        assert await store.since(position) is None
        position = await store.position()
        for number in range(3, 6):
            await store.add(row(number), [b""])
        server.ask("XTRIM", redis_voiceprint_scripts.CHANGES, "MAXLEN", "2")
        assert await store.since(position) is None, "too much came since"
        await connection.close()


async def test_the_audit_says_who_did_what_to_which_voices_and_when(store: Store) -> None:
    began_ms = round(time.time() * 1000)
    await store.add(row(1, name="张明"), [b""], actor="192.0.2.1")
    await store.replace(row(2, name="张明"), [b""], actor="192.0.2.2")
    await store.add(row(3, name="b"), [b""], actor="x" * 500)
    await store.add(row(4, name="c", app="rival"), [b""])
    await store.remove("acme", "org", "tag", ["b"], actor="192.0.2.3")
    await store.remove("acme", "org", "tag", None, actor="192.0.2.4")
    audits = list(await store.audits("acme", from_ms=began_ms - 1, to_ms=2**50, limit=9))
    assert [(one.operation, one.actor) for one in audits] == [
        ("delete_all", "192.0.2.4"),
        ("delete", "192.0.2.3"),
        ("enrol", "x" * 200),
        ("update", "192.0.2.2"),
        ("enrol", "192.0.2.1"),
    ]
    ids = [[(voice.print_id, voice.former_print_id) for voice in one.voices] for one in audits]
    assert ids == [[("id2", "")], [("id3", "")], [("id3", "")], [("id2", "id1")], [("id1", "")]]
    assert {(one.app_id, one.org_id, one.tag_id) for one in audits} == {("acme", "org", "tag")}
    assert [one.at_ms for one in audits] == sorted((one.at_ms for one in audits), reverse=True)
    assert not any("张明" in str(one) for one in audits)
    assert list(await store.audits("acme", from_ms=0, to_ms=2**50, limit=2)) == audits[:2]
    assert list(await store.audits("acme", from_ms=0, to_ms=began_ms - 2, limit=9)) == []
    of_name = await store.audits("acme", from_ms=0, to_ms=2**50, limit=9, name="张明")
    assert [one.operation for one in of_name] == ["delete_all", "update", "enrol"]
    assert list(await store.audits("acme", from_ms=0, to_ms=2**50, limit=9, name="c")) == [], "that is a rival's"


async def test_without_a_key_the_audit_knows_no_names(tmp_path: Path) -> None:
    database = Database(tmp_path / "v.sqlite", [SCHEMA])
    store = SqliteVoiceprints(database)
    await store.add(row(1, name="a"), [b""])
    (audit,) = await store.audits("acme", from_ms=0, to_ms=2**50, limit=9)
    assert audit.voices[0].name_digest == ""
    assert list(await store.audits("acme", from_ms=0, to_ms=2**50, limit=9, name="a")) == []
    database.close()
