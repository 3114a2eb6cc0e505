"""Passages in SQLite, and which calls are to be listened to."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.ports import CallRecord, Unavailable
from gateway.ports.passages import Passages, PassageSource, SourceKind
from gateway.stores import calls, passages
from gateway.stores.calls import CallRecords
from gateway.stores.passages import SqlitePassages
from gateway.stores.sqlite import Database

BOTH: tuple[SourceKind, ...] = ("call", "file")


def call(call_id: str, state: Any = "judging", app_id: str = "acme") -> CallRecord:
    return CallRecord(call_id, app_id, state, 1_000, 2_000, {"segments": []})


def source(source_id: str, kind: Any = "call", app_id: str = "acme") -> PassageSource:
    return PassageSource(source_id, app_id, kind, "", 1_000, 9_000, "indexed", 2)


def found(count: int = 2, space: str = "toy", seed: int = 0) -> Passages:
    vectors = np.random.default_rng(seed).standard_normal((count, 16))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    spans = np.asarray([(n % 2, 5000 * n, 5000 * n + 4000) for n in range(count)], np.int32)
    return Passages(space, spans.reshape(-1, 3), vectors.astype(np.float16))


def files_with(folder: Path, needle: bytes) -> list[Path]:
    return [path for path in folder.iterdir() if needle in path.read_bytes()]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    one = Database(tmp_path / "earshot.db", [calls.SCHEMA, passages.SCHEMA])
    yield one
    one.close()


@pytest.fixture
def store(database: Database) -> SqlitePassages:
    return SqlitePassages(database)


@pytest.fixture
def records(database: Database) -> CallRecords:
    return CallRecords(database)


async def waiting(store: SqlitePassages) -> list[str]:
    """What is to be listened to, in its order."""
    ids: list[str] = []
    while (task := await store.next_task(BOTH)) is not None:
        ids.append(task.source_id)
        await store.settle(source(task.source_id, task.kind), None)
    return ids


async def test_a_call_waits_from_its_end_on_and_once(store: SqlitePassages, records: CallRecords) -> None:
    await records.save(call("a", "live"))
    assert await store.next_task(BOTH) is None
    await records.save(call("a", "judging"))
    await records.save(call("a", "judged"))
    await records.save(call("b", "judging"))
    assert await waiting(store) == ["a", "b"]
    await records.save(call("b", "judged"))
    assert await store.next_task(BOTH) is None


async def test_a_call_that_could_not_be_read_waits_again_when_it_is_saved_again(
    store: SqlitePassages, records: CallRecords
) -> None:
    await records.save(call("a"))
    await store.settle(replace(source("a"), state="failed", reason="no recording yet"), None)
    assert await store.next_task(BOTH) is None
    await records.save(call("a", "judged"))
    task = await store.next_task(BOTH)
    assert task is not None
    assert task.source_id == "a"


async def test_calls_that_were_there_before_are_listened_to_the_first_time_only(tmp_path: Path) -> None:
    before = Database(tmp_path / "earshot.db", [calls.SCHEMA])
    await CallRecords(before).save(call("old"))
    before.close()
    for wanted in (["old"], []):
        database = Database(tmp_path / "earshot.db", [calls.SCHEMA, passages.SCHEMA])
        assert await waiting(SqlitePassages(database)) == wanted
        database.close()


async def test_what_failed_is_tried_behind_the_others_and_a_kind_can_be_left_out(
    store: SqlitePassages, records: CallRecords
) -> None:
    await records.save(call("a"))
    await store.add_file(source("f", "file"))
    await store.put_off("a")
    first, file_only = await store.next_task(BOTH), await store.next_task(["call"])
    assert first is not None and file_only is not None
    assert (first.source_id, file_only.source_id, file_only.attempts) == ("f", "a", 1)


async def test_prints_come_back_as_they_were_kept(store: SqlitePassages, records: CallRecords) -> None:
    for number in range(5):
        await records.save(call(f"c{number}"))
        assert await store.settle(source(f"c{number}"), found(2, "toy" if number < 4 else "other", number))
    first = await store.load("toy", limit=3)
    rest = await store.load("toy", after=first[-1][0].source_id, limit=3)
    loaded = [*first, *rest]
    assert [one.source_id for one, _ in loaded] == ["c0", "c1", "c2", "c3"]
    for number, (_, kept) in enumerate(loaded):
        assert np.array_equal(kept.vectors, found(2, "toy", number).vectors)
        assert np.array_equal(kept.spans, found().spans)
    assert await store.other_spaces(["toy"]) == 1


def test_half_precision_moves_a_score_by_less_than_a_hundredth() -> None:
    vectors = np.random.default_rng(0).standard_normal((2000, 192)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    voice = vectors[:1] + 0.05 * vectors[1:2]
    exact, kept = vectors @ voice[0], vectors.astype(np.float16).astype(np.float32) @ voice[0]
    assert 100 * np.abs(exact - kept).max() < 0.01


async def test_a_call_deleted_while_it_is_listened_to_keeps_nothing(
    store: SqlitePassages, records: CallRecords, database: Database
) -> None:
    await records.save(call("a"))
    assert await store.next_task(BOTH) is not None
    await database.run(lambda one: one.execute("DELETE FROM calls WHERE call_id = 'a'"))
    assert not await store.settle(source("a"), found())
    assert await store.load("toy") == []
    assert await store.sources("acme", ["a"]) == {}


async def test_passages_go_with_their_calls_record(
    store: SqlitePassages, records: CallRecords, database: Database
) -> None:
    await records.save(call("a"))
    await store.settle(source("a"), found())
    await database.run(lambda one: one.execute("DELETE FROM calls WHERE call_id = 'a'"))
    assert await store.load("toy") == []


async def test_deleted_prints_are_in_no_file(tmp_path: Path, store: SqlitePassages, records: CallRecords) -> None:
    await records.save(call("secret-call"))
    await store.settle(source("secret-call"), found(40, seed=7))
    needle = found(40, seed=7).vectors[17].tobytes()
    assert files_with(tmp_path, needle), "the test would not see them"
    assert not await store.forget("rival", "secret-call")
    assert len(await store.load("toy")) == 1
    assert await store.forget("acme", "secret-call")
    assert files_with(tmp_path, needle) == []


async def test_another_app_has_no_such_source_and_cannot_stop_its_call_from_being_heard(
    store: SqlitePassages, records: CallRecords
) -> None:
    await records.save(call("a"))
    assert not await store.forget("rival", "a")
    assert await store.next_task(BOTH) is not None
    await store.settle(source("a"), found())
    assert await store.sources("rival", ["a"]) == {}
    assert await store.files("rival", limit=5) == []
    assert not await store.forget("acme", "nobody")


async def test_files_page_back_from_the_newest(store: SqlitePassages) -> None:
    for number in range(5):
        await store.add_file(source(f"f{number}", "file"))
    await store.add_file(source("foreign", "file", "rival"))
    page = await store.files("acme", limit=2)
    older = await store.files("acme", limit=9, before=page[-1].source_id)
    assert [one.source_id for one in [*page, *older]] == ["f4", "f3", "f2", "f1", "f0"]
    assert await store.files("acme", limit=9, before="foreign") == []


async def test_a_broken_database_is_unavailable(store: SqlitePassages, database: Database) -> None:
    await database.run(lambda one: one.execute("DROP TABLE passage_tasks"))
    with pytest.raises(Unavailable, match="no such table") as raised:
        await store.next_task(BOTH)
    assert isinstance(raised.value.__cause__, sqlite3.Error)
