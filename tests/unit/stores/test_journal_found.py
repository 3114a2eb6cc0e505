"""Several journals of one call become one: their union, and of contradictions what the highest epoch says."""

from pathlib import Path

import pytest

from gateway.stores.journal_found import AudioPlace, FoundCall, JournalPart
from tests.unit.stores.test_journal import HEADER, journal_in, pcm, segments


def events(*ordinals: int, by: str) -> dict[int, bytes]:
    return {ordinal: f"{by} {ordinal}".encode() for ordinal in ordinals}


def test_journals_of_one_epoch_are_joined() -> None:
    call = FoundCall(
        "c", {"one": JournalPart(events=events(1, 2, by="x")), "two": JournalPart(events=events(2, 3, by="x"))}
    )
    assert call.recovered().events == ((1, b"x 1"), (2, b"x 2"), (3, b"x 3"))


def test_from_the_first_event_of_a_higher_epoch_on_lower_ones_are_void() -> None:
    lost = JournalPart(epoch=1, header=b"old", events=events(1, 2, 3, 4, by="loser"), messages={7: b"loser"})
    holds = JournalPart(epoch=2, header=b"new", events=events(3, by="holder"), messages={7: b"holder"})
    for parts in ({"a": lost, "b": holds}, {"b": lost, "a": holds}):
        found = FoundCall("c", parts).recovered()
        assert found.events == ((1, b"loser 1"), (2, b"loser 2"), (3, b"holder 3"))
        assert (found.epoch, found.header, found.messages) == (2, b"new", ((7, b"holder"),))


def test_an_epoch_that_was_only_opened_voids_nothing() -> None:
    parts = {"a": JournalPart(epoch=1, events=events(1, 2, by="x")), "b": JournalPart(epoch=5)}
    found = FoundCall("c", parts).recovered()
    assert (len(found.events), found.epoch) == (2, 5)


def test_audio_of_a_higher_epoch_counts_first(tmp_path: Path) -> None:
    old = [AudioPlace(0, 100, tmp_path / "a", 0, 1)]
    new = [AudioPlace(50, 150, tmp_path / "b", 0, 1)]
    found = FoundCall("c", {"a": JournalPart(audio=old), "b": JournalPart(epoch=1, audio=new)}).recovered()
    assert found.audio == (*new, *old)
    assert (found.samples, found.gaps) == (150, ())


async def test_each_process_that_goes_on_with_a_call_writes_under_a_higher_epoch(tmp_path: Path) -> None:
    for number in range(3):
        async with journal_in(tmp_path) as journal:
            calls = (await journal.adopted.recover()).calls
            assert [call.epoch for call in calls] == ([] if number == 0 else [number - 1])
            if number == 0:
                journal.open_call("c", HEADER)
            # Each says something else of event 2, as a process may that did not see the one before.
            journal.append_event("c", 1 if number == 0 else 2, f"by {number}".encode(), at_once=True)
    async with journal_in(tmp_path) as journal:
        (call,) = (await journal.adopted.recover()).calls
    assert call.events == ((1, b"by 0"), (2, b"by 2"))


async def test_an_epoch_that_begins_is_the_calls_unless_it_has_a_higher_one(tmp_path: Path) -> None:
    async with journal_in(tmp_path) as journal:
        journal.open_call("c", HEADER, epoch=3)
        journal.begin_epoch("c", 9, HEADER)
        journal.begin_epoch("c", 4, HEADER)
        journal.append_event("c", 1, b"event", at_once=True)
    async with journal_in(tmp_path) as journal:
        (call,) = (await journal.adopted.recover()).calls
    assert (call.epoch, call.events) == (9, ((1, b"event"),))


async def test_an_event_that_waits_goes_with_the_next_message(tmp_path: Path) -> None:
    async with journal_in(tmp_path) as journal:
        journal.open_call("c", HEADER)
        (segment,) = segments(tmp_path)
        journal.append_event("c", 1, b"waits a little", at_once=False)
        journal.append_message("c", 1, b"message")
        content = segment.read_bytes()
        assert content.index(b"waits a little") < content.index(b"message")
        journal.append_event("c", 2, b"goes at once", at_once=True)
        assert b"goes at once" in segment.read_bytes()


async def test_audio_is_read_in_order_and_once_whatever_was_stored_twice(tmp_path: Path) -> None:
    audio = pcm(400)
    async with journal_in(tmp_path) as journal:
        journal.open_call("c", HEADER)
        for begin, end in ((0, 100), (250, 400), (50, 300)):
            journal.append_audio("c", begin, audio[2 * begin : 2 * end])
    async with journal_in(tmp_path) as journal:
        (call,) = (await journal.adopted.recover()).calls
        assert b"".join(call.read_audio()) == audio
        (segment,) = {place.segment for place in call.audio}
        content = bytearray(segment.read_bytes())
        content[call.audio[0].offset_bytes + 50] ^= 1
        segment.write_bytes(content)
        with pytest.raises(OSError, match="changed"):
            list(call.read_audio())
