"""What one call has left in the journal is taken off the disk at once, and others lose nothing."""

import asyncio
from pathlib import Path

import pytest

from gateway.stores.journal import FileJournal
from tests.unit.stores.test_journal import HEADER, journal_in, pcm, segments, wav_pcm

SECRET = b"what the deleted call said"


def on_disk(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in segments(folder))


async def a_call(journal: FileJournal, call_id: str, words: bytes) -> None:
    journal.open_call(call_id, HEADER)
    journal.append_audio(call_id, 0, pcm(500))
    await journal.synced(journal.append_message(call_id, 1, words))


async def test_a_released_call_is_gone_from_the_segment_that_is_being_written(tmp_path: Path) -> None:
    async with journal_in(tmp_path) as journal:
        await a_call(journal, "gone", SECRET)
        await journal.release("gone")
        await a_call(journal, "stays", b"what another said")
        assert SECRET in on_disk(tmp_path)
        assert await journal.erase("gone")
        assert SECRET not in on_disk(tmp_path)
        journal.append_audio("stays", 500, pcm(100))
        assert len(wav_pcm(await journal.seal("stays"))) == 2 * 600
    async with journal_in(tmp_path) as journal:
        (found,) = (await journal.adopted.recover()).calls
        assert (found.call_id, found.messages) == ("stays", ((1, b"what another said"),))
        assert found.samples == 600


async def test_a_call_that_was_not_released_is_released_by_it(tmp_path: Path) -> None:
    async with journal_in(tmp_path) as journal:
        await a_call(journal, "gone", SECRET)
        assert await journal.erase("gone")
        assert SECRET not in on_disk(tmp_path)
        assert journal.call_ids == frozenset()
    async with journal_in(tmp_path) as journal:
        assert (await journal.adopted.recover()).calls == ()


async def test_a_call_that_the_journal_does_not_know_costs_nothing(tmp_path: Path) -> None:
    async with journal_in(tmp_path) as journal:
        await a_call(journal, "stays", SECRET)
        before = segments(tmp_path)
        assert await journal.erase("never-here")
        assert segments(tmp_path) == before


async def test_many_are_erased_while_others_go_on(tmp_path: Path) -> None:
    async with journal_in(tmp_path) as journal:
        for number in range(5):
            await a_call(journal, f"gone-{number}", SECRET)
        await a_call(journal, "stays", b"what another said")
        erasing = [asyncio.create_task(journal.erase(f"gone-{number}")) for number in range(5)]
        for at in range(500, 1500, 100):
            await journal.synced(journal.append_audio("stays", at, pcm(100)))
        assert all(await asyncio.gather(*erasing))
        assert SECRET not in on_disk(tmp_path)
        assert len(wav_pcm(await journal.seal("stays"))) == 2 * 1500


async def test_what_an_earlier_process_left_of_it_goes_with_that_processes_last_call(tmp_path: Path) -> None:
    async with journal_in(tmp_path) as journal:
        await a_call(journal, "gone", SECRET)
        await a_call(journal, "stays", b"what another said")
    async with journal_in(tmp_path) as journal:
        await journal.adopted.recover()
        assert not await journal.erase("gone")
        await journal.release("stays")
        assert await journal.erase("gone")
        assert SECRET not in on_disk(tmp_path)


async def test_a_segment_that_cannot_be_removed_is_owned_up_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.stores.journal_cleaning._remove_segments", lambda paths: [])
    async with journal_in(tmp_path) as journal:
        await a_call(journal, "gone", SECRET)
        assert not await journal.erase("gone")
