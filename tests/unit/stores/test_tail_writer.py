"""A call's records from another node: taken in as if a process here had left them."""

from __future__ import annotations

import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.ports import Lease
from gateway.stores.journal import FileJournal, JournalLimits
from gateway.stores.journal_records import BadRecord, Kind, Record, encode
from gateway.stores.memory_cluster import MemoryCallLeases, MemoryCallTail, MemoryRegistry
from gateway.stores.recordings import Recordings
from gateway.stores.replication import Replication

HEADER = b'{"rate_hz": 8000, "channels": 1}'
CALL = "call-a"


class StillClock:
    def monotonic(self) -> float:
        return 0.0

    def wall(self) -> float:
        return 0.0


def pcm(begin: int, end: int) -> bytes:
    return b"".join((sample % 60_000 + 1).to_bytes(2, "little") for sample in range(begin, end))


async def pieces(*data: bytes) -> AsyncIterator[bytes]:
    for one in data:
        yield one


def records(*made: Record, marker: bytes = b"elsewhre") -> bytes:
    return b"".join(encode(record, marker) for record in made)


OPEN = Record(Kind.OPEN, CALL, 1, HEADER, 8000, 1)
HEARD = Record(Kind.AUDIO, CALL, 0, pcm(0, 100), 8000, 1)
EVENT = Record(Kind.EVENT, CALL, 1, b"accepted")
SAID = Record(Kind.MESSAGE, CALL, 1, b"started")
TAIL = records(OPEN, EVENT, SAID) + records(HEARD, marker=b"anothers") + records(HEARD)


@asynccontextmanager
async def journal_in(folder: Path, **options: Replication) -> AsyncIterator[FileJournal]:
    limits = JournalLimits(commit_interval_ms=1)
    journal = FileJournal(folder, Recordings(folder), limits=limits, follower=options.get("follower"))
    await journal.start()
    yield journal
    await journal.stop()


def wav(folder: Path) -> bytes:
    with wave.open(str(Recordings(folder).path(CALL)), "rb") as recording:
        return recording.readframes(recording.getnframes())


async def test_a_call_taken_in_is_found_as_its_tail_has_it_and_goes_on(tmp_path: Path) -> None:
    async with journal_in(tmp_path) as journal:
        found = await journal.adopted.take_in(CALL, 2, pieces(TAIL))
        assert (found.header, found.epoch, found.samples) == (HEADER, 1, 100)
        assert (found.events, found.messages) == (((1, b"accepted"),), ((1, b"started"),))
        assert b"".join(found.read_audio()) == pcm(0, 100)
        journal.append_audio(CALL, 100, pcm(100, 150))
        journal.append_event(CALL, 2, b"hung up", at_once=True)
        await journal.seal(CALL)
        assert wav(tmp_path) == pcm(0, 150)
        await journal.release(CALL)
    assert not any((tmp_path / "journal").iterdir()), "nothing is left of it"


async def test_a_call_taken_in_survives_this_process_too(tmp_path: Path) -> None:
    async with journal_in(tmp_path) as journal:
        await journal.adopted.take_in(CALL, 2, pieces(TAIL))
        journal.append_event(CALL, 2, b"hung up", at_once=True)
        await journal.synced(journal.append_audio(CALL, 100, pcm(100, 150)))
    async with journal_in(tmp_path) as journal:
        (found,) = (await journal.adopted.recover()).calls
        assert (found.epoch, found.samples) == (2, 150)
        assert found.events == ((1, b"accepted"), (2, b"hung up"))


async def test_what_this_journal_had_under_an_earlier_epoch_gives_way(tmp_path: Path) -> None:
    async with journal_in(tmp_path) as journal:
        journal.open_call(CALL, HEADER, 1)
        for ordinal, event in enumerate([b"accepted", b"stale"], 1):
            journal.append_event(CALL, ordinal, event, at_once=True)
        journal.append_audio(CALL, 0, pcm(0, 60))
        theirs = records(Record(Kind.OPEN, CALL, 2, HEADER, 8000, 1), Record(Kind.EVENT, CALL, 2, b"theirs"))
        await journal.adopted.take_in(CALL, 3, pieces(TAIL + theirs))
        await journal.synced(journal.append_event(CALL, 3, b"ours again", at_once=True))
    async with journal_in(tmp_path) as journal:
        (found,) = (await journal.adopted.recover()).calls
        assert found.events == ((1, b"accepted"), (2, b"theirs"), (3, b"ours again"))
        assert (found.epoch, found.samples) == (3, 100)


@pytest.mark.parametrize("bad", [TAIL[:-1], TAIL + b"x" * 60, records(Record(Kind.OPEN, "call-b", 1, HEADER, 8000, 1))])
async def test_a_tail_that_is_not_one_leaves_no_trace(tmp_path: Path, bad: bytes) -> None:
    async with journal_in(tmp_path) as journal:
        before = sorted((tmp_path / "journal").iterdir())
        with pytest.raises((BadRecord, ValueError)):
            await journal.adopted.take_in(CALL, 2, pieces(bad))
        assert sorted((tmp_path / "journal").iterdir()) == before
        assert journal.call_ids == frozenset()


async def test_a_late_part_fills_what_is_missing_and_changes_nothing_else(tmp_path: Path) -> None:
    async with journal_in(tmp_path) as journal:
        journal.begin_epoch(CALL, 2, HEADER)
        journal.append_audio(CALL, 60, pcm(1060, 1160))
        part = await journal.adopted.add_late_part(CALL, pieces(TAIL))
        assert part is not None
        await journal.seal(CALL)
        assert wav(tmp_path) == pcm(0, 60) + pcm(1060, 1160)
        assert await journal.adopted.add_late_part(CALL, pieces(TAIL)) is None, "it is sealed"
        assert await journal.adopted.add_late_part("call-b", pieces(TAIL)) is None


async def test_a_late_part_fills_the_hole_of_a_sealed_recording(tmp_path: Path) -> None:
    async with journal_in(tmp_path) as journal:
        journal.begin_epoch(CALL, 2, HEADER)
        journal.append_audio(CALL, 60, pcm(1060, 1160))
        await journal.seal(CALL)
        await journal.release(CALL)
        assert wav(tmp_path) == bytes(120) + pcm(1060, 1160)
        part = await journal.adopted.fill_recording(CALL, 60, pieces(TAIL))
        assert part is not None
        assert part.messages == ((1, b"started"),)
        assert wav(tmp_path) == pcm(0, 60) + pcm(1060, 1160)
        assert await journal.adopted.fill_recording("call-b", 60, pieces(TAIL)) is None
    assert not any((tmp_path / "journal").iterdir())


async def test_a_call_taken_in_can_be_sent_whole_to_the_next_node(tmp_path: Path) -> None:
    registry = MemoryRegistry(StillClock())
    tail, leases = MemoryCallTail(registry), MemoryCallLeases(registry, "b", lease_ms=1000)
    replication = Replication(tail, leases, on_fenced=lambda call_id: None)
    async with journal_in(tmp_path / "b", follower=replication) as journal:
        replication.start(journal.read_back)
        await journal.adopted.take_in(CALL, 2, pieces(TAIL))
        replication.follow(Lease(CALL, 2), "acme", HEADER, whole=False)
        position = journal.append_audio(CALL, 100, pcm(100, 150))
        await journal.synced(position)
        await replication.synced(CALL, position)
        await replication.stop()
    async with journal_in(tmp_path / "c") as journal:
        found = await journal.adopted.take_in(CALL, 3, tail.read(CALL))
        assert (found.samples, found.epoch, found.messages) == (150, 2, ((1, b"started"),))
        assert b"".join(found.read_audio()) == pcm(0, 150)
