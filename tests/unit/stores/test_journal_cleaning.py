"""A long call does not keep everybody's old audio: segments of little value are emptied and dropped."""

import asyncio
import threading
from dataclasses import replace
from errno import EIO
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.stores.durable_files import remove_durably
from gateway.stores.journal import FileJournal, JournalLimits
from tests.unit.stores.test_journal import HEADER, journal_in, pcm, segments, wav_pcm

SMALL = JournalLimits(commit_interval_ms=1, segment_bytes=4000, few_segments=0)
SHARE = 40
"""Samples of the long call beside 1000 of each short one."""


async def until(journal: FileJournal, folder: Path, *, most: int) -> None:
    """Commit until the cleaning has left at most so many segments; only a commit begins another round.

    What stays is live to a quarter at least: 7 KB of the long call in segments of 4 KB.
    """
    async with asyncio.timeout(20):
        number = 0
        while len(segments(folder)) > most:
            number += 1
            await journal.synced(journal.open_call(f"pulse-{number}", HEADER))
            await journal.release(f"pulse-{number}")


async def a_long_call_among_short_ones(journal: FileJournal, rounds: int) -> bytes:
    """Short calls that come and are released, and one that goes on; the long one's audio."""
    audio = pcm(SHARE * rounds)
    journal.open_call("long", HEADER)
    for number in range(rounds):
        short = f"short-{number}"
        journal.open_call(short, HEADER)
        begin = SHARE * number
        journal.append_audio("long", begin, audio[2 * begin : 2 * (begin + SHARE)])
        journal.append_event("long", number + 1, b"event", at_once=False)
        journal.append_message("long", number + 1, b"message")
        for at in range(0, 1000, 250):
            await journal.synced(journal.append_audio(short, at, pcm(250)))
        await journal.release(short)
    return audio


async def test_a_long_call_does_not_pin_the_segments_of_short_ones(tmp_path: Path) -> None:
    async with journal_in(tmp_path, SMALL) as journal:
        audio = await a_long_call_among_short_ones(journal, 30)
        await until(journal, tmp_path, most=10)
        written_bytes = 30 * (2000 + 2 * SHARE)
        assert 0 < journal.cleaning.copied_bytes < written_bytes / 2
        assert wav_pcm(await journal.seal("long")) == audio


async def test_what_was_copied_is_recovered_once_and_what_was_released_stays_so(tmp_path: Path) -> None:
    async with journal_in(tmp_path, SMALL) as journal:
        audio = await a_long_call_among_short_ones(journal, 20)
        await until(journal, tmp_path, most=8)
    async with journal_in(tmp_path) as journal:
        calls = {call.call_id: call for call in (await journal.adopted.recover()).calls}
        assert not any(call_id.startswith("short") for call_id in calls)
        long = calls["long"]
        assert (long.header, long.gaps) == (HEADER, ())
        assert b"".join(long.read_audio()) == audio
        assert long.events == tuple((number + 1, b"event") for number in range(20))
        assert long.messages == tuple((number + 1, b"message") for number in range(20))


@pytest.mark.parametrize("copied", [True, False])
async def test_a_crash_between_the_copy_and_the_removal_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copied: bool
) -> None:
    # The process "dies" before any old segment is removed: every record stands twice, or (not copied) once.
    monkeypatch.setattr("gateway.stores.journal_cleaning._remove_segments", lambda paths: [])
    limits = SMALL if copied else replace(SMALL, few_segments=1000)
    async with journal_in(tmp_path, limits) as journal:
        audio = await a_long_call_among_short_ones(journal, 12)
        assert (journal.cleaning.copied_bytes > 0) == copied
    async with journal_in(tmp_path) as journal:
        (long,) = (await journal.adopted.recover()).calls
        assert b"".join(long.read_audio()) == audio
        assert [ordinal for ordinal, _ in long.events] == list(range(1, 13))
        assert wav_pcm(await journal.seal("long")) == audio


async def test_a_released_call_stays_so_when_the_process_dies_before_an_emptied_segment_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Emptied segments go in the copy thread, those of released calls in the commit thread: only the latter get to.
    def remove(path: Path) -> bool:
        if threading.current_thread().name.startswith("journal-copy"):
            raise OSError(EIO, "the process died first")
        return remove_durably(path)

    monkeypatch.setattr("gateway.stores.journal_cleaning.remove_durably", remove)
    async with journal_in(tmp_path, SMALL) as journal:
        await a_long_call_among_short_ones(journal, 12)
        assert journal.cleaning.copied_bytes > 0
        await journal.release("long")
        for number in range(20):
            await journal.synced(journal.open_call(f"pulse-{number}", HEADER))
            await journal.synced(journal.append_audio(f"pulse-{number}", 0, pcm(1000)))
            await journal.release(f"pulse-{number}")
        journal.open_call("goes-on", HEADER)
    async with journal_in(tmp_path) as journal:
        assert [call.call_id for call in (await journal.adopted.recover()).calls] == ["goes-on"]


async def test_a_damaged_segment_is_left_for_recovery_to_look_at(tmp_path: Path) -> None:
    async with journal_in(tmp_path, SMALL) as journal:
        journal.open_call("long", HEADER)
        journal.append_audio("long", 0, pcm(50))
        journal.open_call("short", HEADER)
        for at in range(0, 4000, 1000):
            await journal.synced(journal.append_audio("short", at, pcm(1000)))
        damaged = segments(tmp_path)[0]
        content = bytearray(damaged.read_bytes())
        content[-10] ^= 1
        damaged.write_bytes(content)
        await journal.release("short")
        for number in range(20):
            await journal.synced(journal.append_message("long", number, b"{}"))
        assert damaged.exists()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=st.lists(st.tuples(st.sampled_from("abcd"), st.integers(10, 400), st.booleans()), min_size=5, max_size=60))
def test_whatever_is_released_when_the_rest_is_whole(
    tmp_path_factory: pytest.TempPathFactory, plan: list[tuple[str, int, bool]]
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    limits = JournalLimits(commit_interval_ms=0, segment_bytes=1500, few_segments=0)

    async def play() -> None:
        whole: dict[str, bytearray] = {}
        begun = 0
        names: dict[str, str] = {}
        async with journal_in(folder, limits) as journal:
            for letter, samples, release in plan:
                if letter not in names:
                    begun += 1
                    names[letter] = f"{letter}{begun}"
                    whole[names[letter]] = bytearray()
                    journal.open_call(names[letter], HEADER)
                call_id = names[letter]
                piece = pcm(samples, seed=len(whole[call_id]))
                position = journal.append_audio(call_id, len(whole[call_id]) // 2, piece)
                whole[call_id] += piece
                await journal.synced(position)
                if release:
                    await journal.release(call_id)
                    del whole[names.pop(letter)]
        async with journal_in(folder) as journal:
            found = {call.call_id: b"".join(call.read_audio()) for call in (await journal.adopted.recover()).calls}
        assert found == {call_id: bytes(content) for call_id, content in whole.items()}

    asyncio.run(play())
